"""The command that plans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ckptmigrate.cli.dialogue import Terminal, default_answers, hold_dialogue, is_same_file, read_answers
from ckptmigrate.cli.inputs import open_bundle, open_target, pack_rules, read_graph, read_packs, read_plan
from ckptmigrate.cli.options import JSON, examples
from ckptmigrate.cli.outputs import (
    patience,
    print_lines,
    refuse_to_replace_bundle,
    refuse_to_replace_file,
    tell,
    write_file,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckptmigrate.codemod.inference.infer import Inferred
    from ckptmigrate.graph import ObjectGraph
    from ckptmigrate.matching import Anchor
    from ckptmigrate.plan import Plan


@click.command(
    epilog=examples(
        "ckptmigrate plan ckpts/run-12 --target my.models:build --out plan.json",
        "ckptmigrate plan ckpts/run-12 --target my.models:build --interactive --out plan.json",
        "ckptmigrate plan ckpts/run-12 --target templates/v2 --rules rules.yaml --init-new --out plan.json",
        "ckptmigrate plan bert_model.ckpt --target my.models:encoder --pack tf1-bert-to-model-garden --drop-unused",
        "ckptmigrate plan ckpts/run-12 --target my.models:build --old-source ../release-1/src --new-source src",
        "ckptmigrate plan migrated/ckpt --reverse plan.json --out back.json",
    )
)
@click.argument("source", required=False)
@click.option("--target", help="The new model, or a checkpoint of it.")
@click.option(
    "--reverse",
    "reversed_file",
    metavar="PLAN",
    help="The way back of a plan, from SOURCE: what `apply` wrote, or what was trained on from it. Left out, SOURCE "
    "is the plan's own target.",
)
@click.option("--rules", "rule_files", multiple=True, metavar="FILE", help="A rule file; may be given several times.")
@click.option("--pack", "pack_names", multiple=True, metavar="NAME", help="A rule pack (`rules list`), or its file.")
@click.option(
    "--old-source",
    multiple=True,
    metavar="PATH",
    help="The source that the checkpoint was made with: files or directories. What changed since then is evidence.",
)
@click.option("--new-source", multiple=True, metavar="PATH", help="The source of the new model, beside --old-source.")
@click.option("--out", metavar="PLAN", help="Where the plan is written, e.g. plan.json.")
@click.option("--init-new", is_flag=True, help="Targets that nothing leads to keep the template's values.")
@click.option("--drop-unused", is_flag=True, help="Sources that lead nowhere are dropped, each listed.")
@click.option(
    "--yes-proposed",
    is_flag=True,
    help="Take what is proposed: steps that something speaks for but that are not certain, e.g. those of an "
    "optimizer's slots whose variable only the usual order of variables tells.",
)
@click.option(
    "--interactive",
    is_flag=True,
    help="Ask what is open, what decides most first. Each answer is written as rules to the file of answers, which "
    "is read first if it exists. Without a terminal nothing is asked.",
)
@click.option(
    "--answers",
    "answer_file",
    metavar="FILE",
    help="Where --interactive writes answers: beside the plan, as PLAN without its ending plus `.answers.yaml`, if "
    "nothing else is said. Read it again with --rules.",
)
@JSON
def plan(
    source: str | None,
    target: str | None,
    *,
    reversed_file: str | None,
    rule_files: tuple[str, ...],
    pack_names: tuple[str, ...],
    old_source: tuple[str, ...],
    new_source: tuple[str, ...],
    out: str | None,
    init_new: bool,
    drop_unused: bool,
    yes_proposed: bool,
    interactive: bool,
    answer_file: str | None,
    as_json: bool,
) -> None:
    """Find what leads from a checkpoint to a new model, and write it down.

    What is conclusive is decided without rules. Exit status 1 if anything is left open. The template
    of a model given as a factory is kept beside the plan, as PLAN without its ending plus `.template`;
    so --json needs --out for such a target.

    With --interactive, Ctrl-D or `quit` ends the questions, and the plan is written with what is open;
    Ctrl-C ends without a plan. Either way what was answered is kept.
    """
    from ckptmigrate.graph.template import is_factory
    from ckptmigrate.matching import Contents, Matching, match_graphs
    from ckptmigrate.plan import Endpoint, make_plan
    from ckptmigrate.rules import Rulebook, read_rulebooks

    if out is not None:
        refuse_to_replace_file(out)
    if answer_file is not None and not interactive:
        raise click.UsageError("--answers is where --interactive writes; what is answered is read with --rules")
    if reversed_file is not None:
        beside = (target, rule_files, pack_names, old_source, new_source)
        if any(beside) or init_new or drop_unused or yes_proposed or interactive:
            raise click.UsageError("--reverse says it all: give SOURCE, --out and --json with it, and nothing else")
        _plan_back(source, reversed_file, out, as_json=as_json)
        return
    if source is None or target is None:
        raise click.UsageError("SOURCE and --target are needed (or --reverse PLAN)")
    if as_json and out is None and is_factory(target):
        raise click.UsageError(
            "a plan for a model names its template, which is kept beside --out: give --out PLAN with --json"
        )
    inferred = _read_sources(old_source, new_source)
    answers = read_answers(answer_file or default_answers(out)) if interactive else None
    # Answers come after all other rules, on every run, and are not read twice.
    rulebook = read_rulebooks(name for name in rule_files if answers is None or not is_same_file(name, answers.name))
    packs = read_packs(pack_names)
    with open_bundle(source) as theirs, open_target(target, out, with_classes=inferred is not None) as opened:
        ours, end = opened.bundle, opened.end
        if out is not None and end.factory:
            refuse_to_replace_bundle(end.prefix, theirs)
        source_graph, target_graph = read_graph(theirs), read_graph(ours)
        contents = Contents.of(theirs, ours)
        told: set[str] = set()
        anchors, notes = _anchors(inferred, source_graph, target_graph, opened.classes)

        def match(answered: Rulebook) -> Matching:
            stated = (*rulebook, *answered)
            fitted = pack_rules(packs, source_graph, target_graph, stated, told)
            matching = match_graphs(source_graph, target_graph, (*stated, *fitted), contents, anchors)
            tell((*notes, *matching.notes), told)
            return matching

        if answers is None:
            matching = match(())
        else:
            person = Terminal(theirs, ours, source_graph, target_graph, is_template=bool(end.factory))
            taken = {"proposal": yes_proposed, "new": init_new, "unused": drop_unused}
            matching = hold_dialogue(person, match, answers, taken={kind for kind in taken if taken[kind]})
        made = make_plan(
            Endpoint.of(theirs), end, matching, init_new=init_new, drop_unused=drop_unused, yes_proposed=yes_proposed
        )
        _put_out(made, source_graph, target_graph, out, as_json=as_json)
    raise click.exceptions.Exit(0 if made.is_complete else 1)


def _read_sources(old: tuple[str, ...], new: tuple[str, ...]) -> Inferred | None:
    """What two versions of the source say, if they are given. What cannot be parsed is told, and says nothing."""
    if bool(old) != bool(new):
        raise click.UsageError("--old-source and --new-source are read together: one says nothing without the other")
    if not old:
        return None
    from ckptmigrate.cli.inferring import infer_paths

    with patience("reading the source"):
        inferred, problems = infer_paths(old, new)
    for problem in problems:
        click.echo(f"ckptmigrate: {problem}", err=True)
    return inferred


def _anchors(
    inferred: Inferred | None, source: ObjectGraph, target: ObjectGraph, classes: Mapping[int, str]
) -> tuple[tuple[Anchor, ...], tuple[str, ...]]:
    """What the source says of the two graphs, and what of it could not be followed."""
    if inferred is None:
        return (), ()
    from ckptmigrate.codemod.inference.bind import bind

    bound = bind(inferred, source, target, classes)
    return bound.anchors, bound.notes


def _plan_back(source: str | None, plan_file: str, out: str | None, *, as_json: bool) -> None:
    """Make the plan that undoes another."""
    from ckptmigrate.reverse import reverse_plan

    there = read_plan(plan_file)
    with (
        open_bundle(there.target.prefix if source is None else source) as theirs,
        open_bundle(there.source.prefix) as ours,
    ):
        back = reverse_plan(there, theirs, ours, where=plan_file)
        _put_out(back, read_graph(theirs), read_graph(ours), out, as_json=as_json)


def _put_out(made: Plan, source: ObjectGraph, target: ObjectGraph, out: str | None, *, as_json: bool) -> None:
    """Write a plan where it shall be, and show it."""
    from ckptmigrate.report.text import plan_summary, plan_tree

    text = made.to_json()
    if out is not None:
        write_file(out, text)
    if as_json:
        click.echo(text.decode())
        return
    print_lines([plan_tree(made, source, target), *plan_summary(made, source, target)])
    if out is not None:
        click.echo(f"written to {out}")
