"""Small projects with labelled sites: what a rename has to edit, has to report, and has to leave alone.

A file of `traps/` begins with the rename; then come its files, each after ``=== NAME``. What stands behind ``#>`` at
the end of a line is a label, and not part of the file: ``edit``, ``report: KIND``, ``keep``; ``edit x2`` for two of
them. A line without a label has no site.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ckptmigrate.codemod.code_rules import CodeRename

FOLDER = Path(__file__).parent / "traps"
_LABELS = re.compile(r"\s*#> (.*)$")


@dataclass(frozen=True)
class Trap:
    """A project: its rename, its files, and how many edits and which reports each line has."""

    name: str
    rename: CodeRename
    files: dict
    edits: Counter
    reports: Counter
    kept: set

    def write(self, folder):
        for name, text in self.files.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
        return folder


def read_trap(path):
    head, *parts = re.split(r"^=== (.*)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    files, edits, reports, kept = {}, Counter(), Counter(), set()
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        lines = []
        for number, line in enumerate(text.split("\n"), 1):
            label = _LABELS.search(line)
            for said in label[1].split(", ") if label else ():
                what, times = re.fullmatch(r"(.*?)(?: x(\d+))?", said).groups()
                if what == "edit":
                    edits[name, number] += int(times or 1)
                elif what == "keep":
                    kept.add((name, number))
                else:
                    # One report a line and kind says enough.
                    reports[name, number, what.removeprefix("report: ")] = 1
            lines.append(_LABELS.sub("", line))
        files[name] = "\n".join(lines)
    return Trap(path.stem, read_rename(head), files, edits, reports, kept)


def read_rename(head):
    what, *words = head.split()
    kind = {"rename": "attribute"}.get(what, what.removeprefix("rename-"))
    if kind == "class":
        return CodeRename("class", words[0], words[0].rpartition(".")[2], words[1])
    scope, _, old = words[0].rpartition(".")
    return CodeRename(kind, scope, old, words[1])


TRAPS = [read_trap(path) for path in sorted(FOLDER.glob("*.txt"))]
