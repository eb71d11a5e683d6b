"""Several renames of a project's source, one after the other, as one change that is written or not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckptmigrate.codemod.code_rules import CodeRename
from ckptmigrate.codemod.renaming.rename import Progress, Renamed, find_rename, silent
from ckptmigrate.codemod.renaming.sites import REASONS, Site
from ckptmigrate.codemod.source.project import Place, Project
from ckptmigrate.codemod.source.rewrite import Rewritten
from ckptmigrate.errors import CkptMigrateError


@dataclass(frozen=True)
class Changed:
    """What renames make of a project's source.

    Attributes:
        steps: What each rename changes.
        files: Each file that changes, as it is and as it will be.
        sites: What is not edited, by file and line.
        problems: Files that could not be read.
    """

    steps: tuple[Renamed, ...]
    files: tuple[Rewritten, ...]
    sites: tuple[Site, ...]
    problems: tuple[CkptMigrateError, ...]

    @property
    def unsafe(self) -> tuple[Site, ...]:
        """The sites that a program may break at."""
        return tuple(each for each in self.sites if each.is_unsafe)

    @property
    def edits(self) -> int:
        """How many places are edited."""
        return sum(len(step.edits) for step in self.steps)

    def diff(self) -> Iterator[str]:
        """The lines of a unified diff."""
        for file in self.files:
            yield from file.diff()

    def to_data(self, *, is_written: bool) -> dict[str, Any]:
        """The change for a program to read."""
        return {
            "schema": "ckptmigrate.codemod/1",
            "renames": [step.rename.to_data() for step in self.steps],
            "written": is_written,
            "files": [str(file.path) for file in self.files],
            "edits": [
                {
                    "file": str(change.path),
                    "line": change.edit.line,
                    "column": change.edit.column,
                    "old": change.edit.old,
                    "new": change.edit.new,
                }
                for step in self.steps
                for change in step.edits
            ],
            "sites": [site_data(each) for each in self.sites],
            "problems": [str(problem) for problem in self.problems],
        }


def site_data(each: Site) -> dict[str, Any]:
    """A site for a program to read."""
    return {
        "file": each.place.file,
        "line": each.place.line,
        "column": each.place.column,
        "kind": each.kind,
        "unsafe": each.is_unsafe,
        "why": each.why,
        "what_to_do": each.what_to_do,
        "text": each.text,
    }


def change_source(project: Project, renames: Iterable[CodeRename], on_progress: Progress = silent) -> Changed:
    """What renames change in a project, each in what those before it left; nothing is written.

    Raises:
        SourceError: A rename cannot be done; `Problems` for several reasons.
    """
    steps: list[Renamed] = []
    files: dict[Path, Rewritten] = {}
    sites: list[Site] = []
    for rename in renames:
        step = find_rename(project, rename, on_progress)
        steps.append(step)
        for file in step.files:
            before = files[file.path].before if file.path in files else file.before
            files[file.path] = Rewritten(file.path, before, file.after)
        sites.extend(step.sites)
        sites.extend(_in_unread(project, rename))
        project = project.replaced({file.path: file.after for file in step.files})
    ordered = sorted(sites, key=lambda each: (each.place.file, each.place.line, each.place.column, each.kind))
    # A rename that undoes another leaves a file as it was.
    changed = tuple(file for file in files.values() if file.before != file.after)
    return Changed(tuple(steps), changed, tuple(ordered), project.problems)


def _in_unread(project: Project, rename: CodeRename) -> Iterator[Site]:
    """Where the old name stands in files that cannot be parsed."""
    word = re.compile(rf"(?<![A-Za-z0-9_]){re.escape(rename.old)}(?![A-Za-z0-9_])")
    for path in project.unread:
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        for number, line in enumerate(text.split("\n"), 1):
            found = word.search(line)
            if found:
                why, what_to_do = REASONS["unread"]
                yield Site(Place(str(path), number, found.start() + 1), "unread", why, what_to_do, line.strip()[:200])
