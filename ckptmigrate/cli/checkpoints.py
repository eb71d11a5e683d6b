"""The commands on checkpoints: look at them, write a template, prove what came out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ckptmigrate.cli.inputs import open_bundle, read_graph, read_plan
from ckptmigrate.cli.options import JSON, OVERWRITE, examples
from ckptmigrate.cli.outputs import patience, print_json, print_lines, progress, stdout_to_stderr, warn

if TYPE_CHECKING:
    from ckptmigrate.bundle import Bundle
    from ckptmigrate.graph import ObjectGraph
    from ckptmigrate.verify import Comparison


@click.command(
    epilog=examples(
        "ckptmigrate inspect ckpts/run-12",
        "ckptmigrate inspect saved_model/ --json",
        "ckptmigrate inspect ckpts/run-12 --health",
    )
)
@click.argument("prefix")
@click.option(
    "--health",
    "with_health",
    is_flag=True,
    help="Read all values: NaN, infinity, damage, what is constant or subnormal, norms. Exit status 1 if anything is "
    "NaN, infinite or damaged.",
)
@JSON
def inspect(prefix: str, *, with_health: bool, as_json: bool) -> None:
    """Show what a checkpoint holds: variables, shapes, optimizer state, data files."""
    from ckptmigrate.report.text import bundle_lines, inspect_tree

    with open_bundle(prefix) as bundle:
        graph = read_graph(bundle)
        if with_health:
            passed = _show_health(bundle, graph, as_json=as_json)
            raise click.exceptions.Exit(0 if passed else 1)
        if as_json:
            from ckptmigrate.report.data import inspect_data

            print_json(inspect_data(bundle, graph))
            return
        print_lines([inspect_tree(bundle, graph)])
        print_lines(bundle_lines(bundle, graph))


def _show_health(bundle: Bundle, graph: ObjectGraph, *, as_json: bool) -> bool:
    """Read all values, and show what they are like; whether there is nothing that is never right."""
    from ckptmigrate.health import FAILING, find_suspicions, read_health

    with progress("reading") as on_progress:
        found = read_health(bundle, graph.specs, on_progress)
    suspicions = find_suspicions(graph, found)
    if as_json:
        from ckptmigrate.report.data import health_data, inspect_data

        print_json(health_data(inspect_data(bundle, graph), found, suspicions))
    else:
        from ckptmigrate.report.health import health_summary, health_table

        print_lines([health_table(graph, found, suspicions), *health_summary(bundle, graph, found, suspicions)])
    return not any(suspicion.kind in FAILING for suspicion in suspicions)


@click.command(epilog=examples("ckptmigrate diff ckpts/run-12 migrated/ckpt"))
@click.argument("source")
@click.argument("target")
@JSON
def diff(source: str, target: str, *, as_json: bool) -> None:
    """Show what two checkpoints do not share: only here, only there, moved, reshaped."""
    from ckptmigrate.matching import find_difference
    from ckptmigrate.report.text import difference_lines

    with open_bundle(source) as theirs, open_bundle(target) as ours:
        source_graph, target_graph = read_graph(theirs), read_graph(ours)
        found = find_difference(
            source_graph,
            target_graph,
            {key: entry.crc32c for key, entry in theirs.entries.items()},
            {key: entry.crc32c for key, entry in ours.entries.items()},
        )
        if as_json:
            print_json(found)
        else:
            print_lines(difference_lines(found, source_graph, target_graph))


@click.command(
    epilog=examples(
        "ckptmigrate template my.models:build --out templates/v2",
        "ckptmigrate template src/model.py:make --out templates/v2",
    )
)
@click.argument("factory", metavar="MODULE:FACTORY")
@click.option("--out", required=True, metavar="PREFIX", help="Where the template is written.")
@OVERWRITE
@JSON
def template(factory: str, out: str, *, overwrite: bool, as_json: bool) -> None:
    """Build a model and write its fresh checkpoint: the layout that a plan leads to."""
    from ckptmigrate.graph.template import is_factory, write_template

    if not is_factory(factory):
        raise click.UsageError(f"{factory}: not MODULE:FACTORY, e.g. my.models:build or src/model.py:build")
    with patience("building the model"), stdout_to_stderr():
        written = write_template(factory, out, overwrite=overwrite)
    warn(written.warnings)
    with open_bundle(out) as bundle:
        count = len(read_graph(bundle).specs)
    if as_json:
        print_json({"prefix": out, "tensors": count, "warnings": written.warnings})
    else:
        print_lines([f"{out}: {count} tensors"])


@click.command(
    epilog=examples(
        "ckptmigrate verify migrated/ckpt --target my.models:build --plan plan.json",
        "ckptmigrate verify migrated/ckpt --plan plan.json --level checksums",
        "ckptmigrate verify migrated/ckpt --target templates/v2 --deep",
        "ckptmigrate verify migrated/ckpt --plan plan.json --source-model old_model.py:build",
        "ckptmigrate verify migrated/ckpt --plan plan.json --source-model old_model.py:build --inputs batch.npz "
        "--level training-step",
    )
)
@click.argument("prefix")
@click.option("--target", help="The new model, or a checkpoint of it; the plan's if not given.")
@click.option("--plan", "plan_file", metavar="PLAN", help="The plan that it was made by: checks every tensor's origin.")
@click.option(
    "--level",
    type=click.Choice(["structure", "checksums", "restore", "coverage", "outputs", "training-step"]),
    help="How far to go, from cheap to dear: structure (names and shapes), checksums (values), restore (TensorFlow's "
    "assertions), coverage (every variable of the model holds its value), outputs (both models give the same), "
    "training-step (both train on alike). If not given: coverage, with --source-model outputs.",
)
@click.option("--deep", is_flag=True, help="Read every tensor, those too that the plan left where they were.")
@click.option(
    "--source-model",
    metavar="MODULE:FACTORY",
    help="The old model, for outputs and training-step. Of what a factory returns, what runs is what is called "
    "`model`, or the only thing with variables that can be called, or a function `forward(inputs)` that it carries.",
)
@click.option("--source", metavar="PREFIX", help="The old checkpoint; the plan's if not given.")
@click.option(
    "--inputs",
    metavar="FILE.npz",
    help="What both models are given: arrays under the names of the inputs, or in their order (numpy.savez); targets "
    "of a training step as `y`. If not given: random, as the model's input signature says.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of random inputs, and of what models draw.",
)
@JSON
def verify(
    prefix: str,
    target: str | None,
    *,
    plan_file: str | None,
    level: Any,
    deep: bool,
    source_model: str | None,
    source: str | None,
    inputs: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Prove that a checkpoint is what a model asks for.

    A training step is the function `train_step(batch)` that the factory or what it returns carries, and that gives
    the loss; or one batch of a compiled Keras model.
    """
    from ckptmigrate.bundle import find_prefix
    from ckptmigrate.graph.template import is_factory
    from ckptmigrate.report.text import report_lines
    from ckptmigrate.verify import verify_checkpoint

    made = None if plan_file is None else read_plan(plan_file)
    if target is None and made is not None:
        target = made.target.factory or made.target.prefix
    if target is None:
        raise click.UsageError("say what the checkpoint is for: --target TARGET, or --plan PLAN, which names it")
    comparison = _comparison(source_model, source, inputs, seed, level)
    with patience("verifying"), stdout_to_stderr():
        report = verify_checkpoint(
            find_prefix(prefix),
            target if is_factory(target) else find_prefix(target),
            plan=made,
            level=level or ("coverage" if comparison is None else "outputs"),
            deep=deep,
            source=comparison,
        )
    if as_json:
        print_json(report.to_data())
    else:
        print_lines(report_lines(report))
    raise click.exceptions.Exit(0 if report.passed else 1)


def _comparison(
    model: str | None, source: str | None, inputs: str | None, seed: int, level: str | None
) -> Comparison | None:
    """The old model and what both are given, if they are asked for."""
    from ckptmigrate.bundle import find_prefix
    from ckptmigrate.graph.template import is_factory
    from ckptmigrate.verify import Comparison

    if model is None:
        if level in ("outputs", "training-step") or source is not None or inputs is not None:
            raise click.UsageError("outputs and training-step compare two models: --source-model MODULE:FACTORY")
        return None
    if not is_factory(model):
        raise click.UsageError(f"{model}: not MODULE:FACTORY, e.g. my.models:build or src/model.py:build")
    return Comparison(model, "" if source is None else find_prefix(source), inputs or "", seed)


@click.command(epilog=examples("ckptmigrate schema rules > rules.schema.json"))
@click.argument("name", type=click.Choice(["packs", "plan", "rules"]))
def schema(name: str) -> None:
    """Print the JSON Schema of rule files, packs or plans, for editors and programs."""
    from ckptmigrate.schemas import read_schema

    click.echo(read_schema(name), nl=False)


@click.command(epilog=examples("ckptmigrate demo", "ckptmigrate demo --folder /tmp/demo"))
@click.option("--folder", metavar="DIR", help="Where the files are left; a new temporary folder if not given.")
def demo(folder: str | None) -> None:
    """Migrate a real checkpoint, step by step: save, plan, apply, verify."""
    from ckptmigrate.demo import run_demo

    raise click.exceptions.Exit(run_demo(folder, click.echo))
