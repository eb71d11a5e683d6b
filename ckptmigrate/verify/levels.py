"""The levels of proof, run one after the other, from cheap to dear."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ckptmigrate.bundle import Bundle
from ckptmigrate.errors import RunError
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.graph.live import LiveGraph
from ckptmigrate.graph.template import Factory, build_checkpoint, is_factory, load_factory, say_factory
from ckptmigrate.plan import Plan
from ckptmigrate.verify.checksums import check_checksums
from ckptmigrate.verify.comparing import Comparison, compare_models
from ckptmigrate.verify.proposals import swappable, with_proposals
from ckptmigrate.verify.report import LEVELS, Check, Level, Report
from ckptmigrate.verify.restoration import find_restored
from ckptmigrate.verify.restoring import explain, restore_live
from ckptmigrate.verify.running import Side
from ckptmigrate.verify.structure import check_planned, check_restoration

_BOTH: frozenset[Level] = frozenset({"outputs", "training-step"})
"""The levels that run both models."""


def verify_checkpoint(
    prefix: str,
    target: Factory,
    *,
    plan: Plan | None = None,
    level: Level = "coverage",
    deep: bool = False,
    source: Comparison | None = None,
) -> Report:
    """Prove that a checkpoint is what its target asks for.

    Args:
        prefix: The checkpoint to prove.
        target: A bundle's prefix, or the factory of a live model (a function, or ``module:factory``).
            Only the latter runs TensorFlow, and only if the level needs it or nothing else tells the model's graph.
        plan: The plan it was made by. With it, every tensor is compared with what the plan says.
        level: The last level of proof.
        deep: Read every tensor and compare it with its checksum, those too that a plan leaves where they are.
        source: The old model and its checkpoint, for the levels that run both models: outputs and training-step.

    Returns:
        A report with a check for each level. Failures are in it, not raised.

    Raises:
        CkptMigrateError: A bundle cannot be read, or the model cannot be built.
    """
    said = say_factory(target)
    wanted = LEVELS[: LEVELS.index(level) + 1]
    if source is None and not _BOTH.isdisjoint(wanted):
        raise RunError(
            "the old model is not known",
            prefix,
            expected=f"its factory, for the level {level}",
            hint="Name it with --source-model MODULE:FACTORY",
        )
    needs_model = "restore" in wanted
    with Bundle.open(prefix) as bundle:
        made = ObjectGraph.from_bundle(bundle)
        live = make = None
        if isinstance(target, str) and not is_factory(target):
            graph = _stored_graph(target)
        elif not needs_model and plan is not None and plan.target.factory == said:
            graph = _stored_graph(plan.target.prefix)
        else:
            make = load_factory(target)
            live = _read_live(make, said, with_counter=plan is not None)
            graph = live.graph
        restoration = find_restored(made, graph)
        checks = [check_restoration(restoration) if plan is None else check_planned(made, graph, plan)]
        if "checksums" in wanted:
            checks.append(check_checksums(bundle, plan, deep=deep))
        if needs_model:
            checks += _not_run(said, wanted[2:]) if live is None else restore_live(bundle, live, level, is_fresh=True)
        if source is not None and live is not None and not _BOTH.isdisjoint(wanted):
            side = Side("target", said, live.checkpoint, bundle, make)
            if plan is not None and checks[0].outcome == "failed":
                checks += _not_the_plans(wanted[4:])
            elif all(check.outcome == "passed" for check in checks if check.level in ("restore", "coverage")):
                checks += compare_models(side, source, plan, wanted)
            else:
                checks += _not_restored(wanted[4:])
        if plan is not None:
            checks[0] = with_proposals(checks[0], swappable(plan, graph), graph, checks[1:])
        report = Report(prefix, said, tuple(checks))
        # Where a level failed, what to do is with it; where none did, there may be values that no level can doubt.
        return (
            replace(report, findings=explain(report, restoration, live)) if plan is None and report.passed else report
        )


def _read_live(factory: Factory, said: str, *, with_counter: bool) -> LiveGraph:
    """The graph of a fresh model; with the counter of saves, as the template of a plan has it."""
    live = LiveGraph.read(build_checkpoint(factory, said=said))
    live.refuse_empty(said)
    if with_counter:
        _ = live.checkpoint.save_counter
        live = LiveGraph.read(live.checkpoint)
    return live


def _stored_graph(prefix: str) -> ObjectGraph:
    with Bundle.open(prefix) as bundle:
        return ObjectGraph.from_bundle(bundle)


def _not_run(said: str, levels: tuple[Level, ...]) -> Iterator[Check]:
    for level in levels:
        yield Check(
            level,
            "not run",
            f"{said} is a checkpoint, not a model",
            hint="To restore it in TensorFlow, give the model: `--target package.module:factory`",
        )


def _not_the_plans(levels: tuple[Level, ...]) -> Iterator[Check]:
    for level in levels:
        yield Check(
            level,
            "not run",
            "the checkpoint is not what the plan makes, so what leads from the old model to it is not known",
            hint="Give the plan that it was made by, or leave out --plan and name --source",
        )


def _not_restored(levels: tuple[Level, ...]) -> Iterator[Check]:
    for level in levels:
        yield Check(
            level,
            "not run",
            "the model does not hold the checkpoint, so what it computes says nothing",
            hint="Mend the restore first",
        )
