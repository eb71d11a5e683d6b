"""The source of a project as two revisions in git have it; the work tree is not touched."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ckptmigrate.codemod.source.project import Project
from ckptmigrate.errors import SourceError

_SUFFIXES = {".py"}


def split_range(text: str) -> tuple[str, str]:
    """The two revisions of ``REV..REV``; the second is ``HEAD`` if it is left out.

    Raises:
        SourceError: The text is no such range.
    """
    old, dots, new = text.partition("..")
    if not old or not dots or new.startswith("."):
        raise SourceError("not two revisions", text, expected="REV..REV, e.g. v1.0..v2.0 or HEAD~1..", hint="Name both")
    return old, new or "HEAD"


@contextmanager
def checked_out(revision: str, paths: Sequence[str]) -> Iterator[tuple[Path, list[Path]]]:
    """The Python files of a revision at some paths, in a directory of their own.

    Args:
        revision: What git knows the commit by.
        paths: Files or directories in a repository's work tree. They may be gone there by now.

    Yields:
        The directory, and the paths in it.

    Raises:
        SourceError: git is not there, a path is in no repository, or the revision is not one or has none of the paths.
    """
    import tempfile

    start = _directory_of(Path(paths[0]))
    top = Path(_git(start, "rev-parse", "--show-toplevel").decode().strip())
    commit = _commit(top, revision)
    inside = [_inside(Path(path), top) for path in paths]
    there = [path for path in inside if path == PurePosixPath() or _git(top, "ls-tree", commit, str(path))]
    if not there:
        raise SourceError(
            "not in this revision",
            ", ".join(map(str, paths)),
            expected=f"a file or directory of {revision}",
            hint=f"`git ls-tree -r --name-only {revision}` lists what there is",
        )
    archive = _git(top, "archive", "--format=tar", commit, "--", *map(str, there))
    with tempfile.TemporaryDirectory(prefix="ckptmigrate-") as scratch:
        folder = Path(scratch)
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            for member in files:
                if member.isfile() and PurePosixPath(member.name).suffix in _SUFFIXES:
                    files.extract(member, folder, filter="data")
        found = [folder / path for path in there]
        yield folder, [path for path in found if path.exists()] or [folder]


def project_of(folder: Path, paths: Sequence[Path]) -> Project:
    """The project at some paths in a directory, whose files are called as in the repository."""
    project = Project.read(paths)
    for problem in project.problems:
        problem.where = problem.where.removeprefix(f"{folder}/")
    modules = tuple(replace(module, path=module.path.relative_to(folder)) for module in project.modules)
    return replace(project, modules=modules)


def _commit(top: Path, revision: str) -> str:
    try:
        # A revision that begins with a dash would be an option.
        return (
            _git(top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}").decode().strip()
        )
    except SourceError as error:
        raise SourceError(
            "no such revision",
            revision,
            expected=f"a commit, branch or tag of {top}",
            hint="`git log --oneline` lists the commits",
        ) from error


def _directory_of(path: Path) -> Path:
    """The nearest directory at or above a path that exists."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.is_dir())


def _inside(path: Path, top: Path) -> PurePosixPath:
    whole = path.absolute().resolve()
    if not whole.is_relative_to(top.resolve()):
        raise SourceError("outside the repository", str(path), expected=f"a path below {top}")
    return PurePosixPath(whole.relative_to(top.resolve()).as_posix())


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        run = subprocess.run(  # noqa: S603  # no shell, and arguments that are no options
            ["git", "-C", str(folder), *arguments],  # noqa: S607  # the git that the person uses
            capture_output=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise SourceError("git is not installed", str(folder), hint="Install it, or give OLD and NEW") from error
    if run.returncode:
        said = run.stderr.decode(errors="replace").strip().splitlines()
        raise SourceError(
            "git cannot read it", str(folder), expected="a repository", got=said[-1] if said else "no answer",
            hint="Name a path inside a git work tree",
        )  # fmt: skip
    return run.stdout
