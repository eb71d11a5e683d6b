"""The command that looks for code which restores a checkpoint without proof."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ckptmigrate.cli.options import JSON, examples
from ckptmigrate.cli.outputs import check_output, count_progress, patience, print_json, print_lines, write_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckptmigrate.codemod.linting.lint import Linted
    from ckptmigrate.codemod.source.project import Project
    from ckptmigrate.codemod.source.rewrite import Rewritten


def _explain(context: click.Context, _option: click.Parameter, rule: str | None) -> None:
    """Say what a rule is about, instead of what the command does."""
    if rule is None:
        return
    from ckptmigrate.codemod.linting.lint_rules import LINT_RULES
    from ckptmigrate.report.lint import explanation_lines

    found = LINT_RULES.get(rule.upper())
    if found is None:
        raise click.UsageError(f"no such rule: {rule}. There are {', '.join(LINT_RULES)}")
    print_lines(explanation_lines(found))
    context.exit()


@click.command(
    epilog=examples(
        "ckptmigrate codemod lint src/",
        "ckptmigrate codemod lint src/ --diff",
        "ckptmigrate codemod lint src/ --fix --fix-with assert",
        "ckptmigrate codemod lint src/ --rules rules.yaml --sarif lint.sarif",
        "ckptmigrate codemod lint --explain CM001",
    )
)
@click.argument("paths", metavar="PATH...", nargs=-1)
@click.option("--fix", is_flag=True, help="Mend what can be mended safely: all files are written, or none.")
@click.option(
    "--fix-with",
    "way",
    type=click.Choice(["restore", "assert"]),
    default="restore",
    show_default=True,
    help="Mend a restore by `ckptmigrate.restore(checkpoint, path)`, or by an assertion on its status.",
)
@click.option("--diff", is_flag=True, help="Show what --fix changes.")
@click.option("--select", multiple=True, metavar="IDS", help="Only these rules, e.g. CM001,CM002.")
@click.option("--ignore", multiple=True, metavar="IDS", help="Not these rules.")
@click.option(
    "--rules",
    "rule_files",
    multiple=True,
    metavar="FILE",
    help="The rules of a migration: of the names of a checkpoint that stand in the source, tell those that it changes.",
)
@click.option(
    "--explain",
    metavar="ID",
    help="Say what a rule is about, with examples.",
    is_eager=True,
    expose_value=False,
    callback=_explain,
)
@JSON
@click.option("--sarif", metavar="FILE", help="Write SARIF 2.1.0, for code-review tools; `-` prints it.")
def lint(
    paths: tuple[str, ...],
    *,
    fix: bool,
    way: Any,
    diff: bool,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    rule_files: tuple[str, ...],
    as_json: bool,
    sarif: str | None,
) -> None:
    """Find code that restores a checkpoint without proof, or that a migration makes stale.

    Exit status 1 if there is an error or a warning, or a file that cannot be parsed. A comment
    `# ckptmigrate: ignore[CM001]` on the line keeps a rule silent there. Nothing is imported or run.
    """
    from ckptmigrate.codemod.source.rewrite import write_all
    from ckptmigrate.report.lint import finding_lines, lint_data

    if not paths:
        raise click.UsageError("Missing argument 'PATH...'.")
    if as_json and sarif == "-":
        raise click.UsageError("--json and --sarif - both print: write one of them to a file")
    ids = _ids(select, ignore, has_rules=bool(rule_files))
    project, linted = _lint(paths, ids, rule_files, way)
    if sarif is not None and sarif != "-":
        check_output(sarif, _is_sarif, "the logs in SARIF", project.sources_read)
    files = linted.edited() if fix or diff else ()
    is_for_people = not as_json and sarif != "-"
    if diff and is_for_people:
        _show_diff(files)
    if fix and files:
        write_all(files)
        count = sum(bool(each.fix.edits) for each in linted.findings)
        click.echo(f"mended {count} in {len(files)} file{'s' * (len(files) != 1)}", err=not is_for_people)
        # What is left, where it is now.
        project, linted = _lint(paths, ids, rule_files, way)
    if sarif is not None:
        _write_sarif(linted, project, sarif)
    if as_json:
        print_json(lint_data(linted, project))
    if is_for_people:
        print_lines(finding_lines(linted, project))
    for problem in project.problems:
        click.echo(f"ckptmigrate: {problem}", err=True)
    raise click.exceptions.Exit(1 if project.problems or any(each.fails for each in linted.findings) else 0)


def _lint(paths: tuple[str, ...], ids: frozenset[str], rule_files: tuple[str, ...], way: Any) -> tuple[Project, Linted]:
    from ckptmigrate.codemod.linting.lint import lint as look
    from ckptmigrate.codemod.source.project import Project
    from ckptmigrate.rules import read_rulebooks

    rules = read_rulebooks(rule_files) if rule_files else ()
    with patience("reading source"):
        project = Project.read(paths)
    with count_progress("looking", "lines") as on_progress:
        return project, look(project, ids=ids, rules=rules, way=way, on_progress=on_progress)


def _ids(select: tuple[str, ...], ignore: tuple[str, ...], *, has_rules: bool) -> frozenset[str]:
    from ckptmigrate.codemod.linting.lint_rules import LINT_RULES

    def read(given: tuple[str, ...]) -> set[str]:
        found = {each.strip().upper() for text in given for each in text.split(",") if each.strip()}
        unknown = found - LINT_RULES.keys()
        if unknown:
            raise click.UsageError(f"no such rule: {', '.join(sorted(unknown))}. There are {', '.join(LINT_RULES)}")
        return found

    usual = {each.id for each in LINT_RULES.values() if has_rules or not each.is_asked_for}
    return frozenset((read(select) or usual) - read(ignore))


def _show_diff(files: Iterable[Rewritten]) -> None:
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for file in files:
        for line in file.diff():
            click.secho(line, fg=colours.get(line[:1]))


def _is_sarif(data: bytes) -> bool:
    import msgspec

    try:
        log = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(log, dict) and "runs" in log


def _write_sarif(linted: Linted, project: Project, place: str) -> None:
    import msgspec

    from ckptmigrate.report.sarif import sarif_data

    data = sarif_data(linted, project)
    if place == "-":
        print_json(data)
    else:
        write_file(place, msgspec.json.format(msgspec.json.encode(data), indent=1) + b"\n")
