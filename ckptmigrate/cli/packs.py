"""The commands on rule packs."""

from __future__ import annotations

import click

from ckptmigrate.cli.inputs import read_packs
from ckptmigrate.cli.options import JSON, examples
from ckptmigrate.cli.outputs import print_json, print_lines


@click.group(
    epilog=examples(
        "ckptmigrate rules list",
        "ckptmigrate rules show reroot",
        "ckptmigrate rules test",
        "ckptmigrate rules test our/pack.yaml",
    )
)
def rules() -> None:
    """Show and test rule packs: rules for moves that many people make (`plan --pack NAME`)."""


@rules.command("list", epilog=examples("ckptmigrate rules list"))
@JSON
def rules_list(*, as_json: bool) -> None:
    """List the packs that are shipped."""
    from ckptmigrate.packs import pack_names
    from ckptmigrate.report.text import pack_lines

    packs = read_packs(pack_names())
    if as_json:
        print_json([{"name": pack.name, "for": pack.purpose, "facts": pack.facts} for pack in packs])
    else:
        print_lines(pack_lines(packs))


@rules.command("show", epilog=examples("ckptmigrate rules show reroot", "ckptmigrate rules show reroot > our.yaml"))
@click.argument("name")
def rules_show(name: str) -> None:
    """Print a pack: what it is for, where its facts come from, its rules and examples."""
    (pack,) = read_packs([name])
    click.echo(pack.text, nl=False)


@rules.command("test", epilog=examples("ckptmigrate rules test", "ckptmigrate rules test reroot our/pack.yaml"))
@click.argument("names", nargs=-1)
@JSON
def rules_test(names: tuple[str, ...], *, as_json: bool) -> None:
    """Run the examples of packs, all that are shipped if none is named. Exit status 1 if one does not come out."""
    from ckptmigrate.packs import pack_names, run_examples
    from ckptmigrate.report.text import outcome_lines

    outcomes = [outcome for pack in read_packs(names or pack_names()) for outcome in run_examples(pack)]
    if as_json:
        print_json(outcomes)
    else:
        print_lines(outcome_lines(outcomes))
    raise click.exceptions.Exit(1 if any(outcome.problems for outcome in outcomes) else 0)
