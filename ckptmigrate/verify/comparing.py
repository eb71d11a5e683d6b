"""Both models side by side: the old one is built and restored, then the levels outputs and training-step are run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckptmigrate.bundle import Bundle
from ckptmigrate.errors import PlanError, RunError
from ckptmigrate.graph.live import LiveGraph
from ckptmigrate.graph.template import Factory, build_checkpoint, load_factory, say_factory
from ckptmigrate.plan import Plan
from ckptmigrate.verify.inputs import random_batch, read_batch
from ckptmigrate.verify.outputs import check_outputs
from ckptmigrate.verify.report import Check, Level
from ckptmigrate.verify.restoring import restore_live
from ckptmigrate.verify.running import Side
from ckptmigrate.verify.telling import silence_of, unproven
from ckptmigrate.verify.training import check_training_step

_SHOWN = 5


@dataclass(frozen=True)
class Comparison:
    """What a checkpoint's model is compared with, and on what.

    Attributes:
        model: The factory of the old model.
        prefix: The old checkpoint; if empty, the plan's source.
        inputs: An ``.npz`` file with inputs; if empty, they are random.
        seed: The seed of random inputs and of operations that draw numbers.
    """

    model: Factory
    prefix: str = ""
    inputs: str = ""
    seed: int = 0


def compare_models(
    target: Side, comparison: Comparison, plan: Plan | None, levels: tuple[Level, ...]
) -> Iterator[Check]:
    """The levels that run both models.

    Args:
        target: The new model, restored.
        comparison: The old one.
        plan: What leads from one checkpoint to the other.
        levels: Which of the two.

    Raises:
        RunError: A model cannot be run.
        InputsError: The inputs cannot be read, or a model does not take them.
        CkptMigrateError: The old model cannot be built, or its checkpoint not be read.
    """
    with Bundle.open(_source_prefix(comparison, plan)) as bundle:
        source = _restored(comparison.model, bundle)
        sides = (source, target)
        batch = read_batch(comparison.inputs, sides) if comparison.inputs else random_batch(sides, comparison.seed)
        # A step changes the models: what their outputs depend on is asked before.
        silence = silence_of(batch, target, comparison.seed) if comparison.inputs else ""
        if "outputs" in levels:
            yield unproven(check_outputs(source, target, batch, plan=plan, seed=comparison.seed), silence)
        if "training-step" in levels:
            yield unproven(check_training_step(source, target, batch, plan=plan, seed=comparison.seed), silence)


def _source_prefix(comparison: Comparison, plan: Plan | None) -> str:
    if not comparison.prefix:
        if plan is None:
            raise RunError(
                "the old checkpoint is not known",
                say_factory(comparison.model),
                expected="a plan, which names it, or --source PREFIX",
                hint="Give one of them",
            )
        return plan.source.prefix
    if plan is not None:
        with Bundle.open(comparison.prefix) as bundle:
            if bundle.fingerprint != plan.source.fingerprint:
                raise PlanError(
                    "the source is not the plan's",
                    comparison.prefix,
                    expected=f"{plan.source.fingerprint} (plan, {plan.source.prefix})",
                    got=bundle.fingerprint,
                    hint="Leave out --source, or --plan",
                )
    return comparison.prefix


def _restored(factory: Factory, bundle: Bundle) -> Side:
    """The old model with its checkpoint. Its optimizer may be left out; none of its own variables may.

    Raises:
        RunError: The checkpoint is not that of the model.
    """
    said = say_factory(factory)
    make, checkpoint = _built_apart(factory, said)
    live = LiveGraph.read(checkpoint)
    live.refuse_empty(said)
    (restored,) = restore_live(bundle, live, "restore", expect_partial=True, is_fresh=True)
    side = Side("source", said, checkpoint, bundle, make)
    missing = [side.graph.say(number) for number in side.model_variables if number not in side.key_at]
    missing += map(str, side.live.untracked)
    # What TensorFlow asserts of an optimizer that is left out is no matter; that it could not read is.
    if missing or any(problem.startswith(("restore raised", "read raised")) for problem in restored.problems):
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise RunError(
            "the source model does not hold its checkpoint",
            said,
            expected=f"a value for each of its variables in {bundle.prefix}",
            got="; ".join(
                [
                    *([f"none for {', '.join(f'`{each}`' for each in missing[:_SHOWN])}{more}"] if missing else []),
                    *(f"TensorFlow: {problem}" for problem in restored.problems[:1]),
                ]
            ),
            hint="Let the factory return what the old checkpoint was saved from, under the same names; "
            "`ckptmigrate doctor` tells more",
        )
    return side


def _built_apart(factory: Factory, said: str) -> tuple[Callable[[], object], Any]:
    """A factory and what it makes. What its file imported from beside it is forgotten again.

    The new model's file may import modules of the same names from beside itself.
    """
    known = set(sys.modules)
    make = load_factory(factory)
    checkpoint = build_checkpoint(make, said=said)
    if isinstance(factory, str) and factory.rpartition(":")[0].endswith(".py"):
        folder = Path(factory.rpartition(":")[0]).resolve().parent
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and folder in Path(file).resolve().parents and "site-packages" not in file:
                del sys.modules[name]
    return make, checkpoint
