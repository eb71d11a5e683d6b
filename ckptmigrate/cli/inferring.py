"""What commands find out from two versions of a project's source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ckptmigrate.cli.options import JSON, examples
from ckptmigrate.cli.outputs import patience, print_json, print_lines, write_file
from ckptmigrate.errors import CkptMigrateError, OutputError

if TYPE_CHECKING:
    from ckptmigrate.codemod.inference.infer import Inferred
    from ckptmigrate.codemod.source.project import Project

_TITLE = "Inferred from source"


@click.command(
    epilog=examples(
        "ckptmigrate codemod infer old/nets.py new/nets.py",
        "ckptmigrate codemod infer ../release-1/src src --out rules.yaml",
        "ckptmigrate codemod infer --git v1.0..HEAD src --out rules.yaml",
    )
)
@click.argument("paths", nargs=-1, required=True, metavar="OLD NEW | --git REV..REV PATH...")
@click.option(
    "--git", "revisions", metavar="REV..REV", help="Compare two revisions of PATH; the work tree is not touched."
)
@click.option("--out", metavar="RULES", help="Where the rule file is written, for `plan --rules` and `codemod apply`.")
@JSON
def infer(paths: tuple[str, ...], *, revisions: str | None, out: str | None, as_json: bool) -> None:
    """Find out from two versions of a project's source what became of its models' attributes.

    OLD and NEW are files or directories. Nothing is imported or run. What could be several things is left
    open and said. Exit status 1 if a file cannot be parsed; the others are read all the same.
    """
    from ckptmigrate.codemod.inference.inferred_rules import code_renames, format_inferred, statements
    from ckptmigrate.report.source import inferred_data, inferred_lines, inferred_summary

    if revisions is None and len(paths) != 2:
        raise click.UsageError("OLD and NEW are needed, or --git REV..REV and a PATH")
    if out is not None:
        _refuse_to_replace(out)
    with patience("reading the source"):
        if revisions is None:
            inferred, problems = infer_paths([paths[0]], [paths[1]])
            title = f"{_TITLE}: {paths[0]} -> {paths[1]}"
        else:
            inferred, problems = infer_revisions(revisions, paths)
            title = f"{_TITLE}: {revisions} of {', '.join(paths)}"
    for problem in problems:
        click.echo(f"ckptmigrate: {problem}", err=True)
    if out is not None:
        write_file(out, format_inferred(inferred, title).encode())
    if as_json:
        print_json(inferred_data(inferred, statements(inferred), code_renames(inferred)))
    else:
        print_lines([*inferred_lines(inferred), inferred_summary(inferred)])
        if out is not None:
            click.echo(f"written to {out}")
    raise click.exceptions.Exit(1 if problems else 0)


def infer_paths(old: Sequence[str], new: Sequence[str]) -> tuple[Inferred, list[CkptMigrateError]]:
    """What two versions of source say, and the files of either that cannot be parsed."""
    from ckptmigrate.codemod.source.project import Project

    return _inferred(Project.read(old), Project.read(new))


def infer_revisions(revisions: str, paths: Sequence[str]) -> tuple[Inferred, list[CkptMigrateError]]:
    """The same of two revisions in git."""
    from ckptmigrate.codemod.inference.revisions import split_range

    old, new = split_range(revisions)
    with ExitStack() as stack:
        before, after = (stack.enter_context(_project_at(revision, paths)) for revision in (old, new))
        return _inferred(before, after)


def _inferred(old: Project, new: Project) -> tuple[Inferred, list[CkptMigrateError]]:
    from ckptmigrate.codemod.inference.facts import Source
    from ckptmigrate.codemod.inference.infer import infer as infer_changes

    return infer_changes(Source.read(old), Source.read(new)), [*old.problems, *new.problems]


@contextmanager
def _project_at(revision: str, paths: Sequence[str]) -> Iterator[Project]:
    from ckptmigrate.codemod.inference.revisions import checked_out, project_of

    with checked_out(revision, paths) as (folder, found):
        yield project_of(folder, found)


def _refuse_to_replace(out: str) -> None:
    """A rule file that a person wrote is not replaced."""
    place = Path(out)
    if place.is_dir():
        raise OutputError("a directory, not a file", out, hint=f"Write for example `{place / 'rules.yaml'}`")
    if place.exists() and not place.read_bytes().startswith(f"# {_TITLE}".encode()):
        raise OutputError("the file exists and was not inferred", out, hint="Name another place for the rules")
