"""Outputs: whether the new model computes from the new checkpoint what the old one computes from the old."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckptmigrate.matching import Step
from ckptmigrate.plan import Plan
from ckptmigrate.spec import DType, Key
from ckptmigrate.verify.inputs import Arguments, Batch, bind
from ckptmigrate.verify.layers import Trace, first_divergence, traced
from ckptmigrate.verify.report import Check
from ckptmigrate.verify.rounding import Difference, Operations, Tolerance, difference_of, eps_of, tolerance_of, watched
from ckptmigrate.verify.running import Side, is_keras, repeatable
from ckptmigrate.verify.telling import silent_values, unproven

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


def check_outputs(source: Side, target: Side, batch: Batch, *, plan: Plan | None = None, seed: int = 0) -> Check:
    """Run both models in inference on the same inputs, and compare what they give.

    Args:
        source: The old model, restored from the old checkpoint.
        target: The new model, restored from the new one.
        batch: The inputs.
        plan: What leads from one checkpoint to the other: from it follow the tolerance and which layers are compared.
        seed: For operations that draw numbers.

    Raises:
        RunError: A model cannot be run, or raised.
        InputsError: A model does not take the inputs.
    """
    given = {side.role: bind(batch, side) for side in (source, target)}
    steps = None if plan is None else {step.target: step for step in plan.steps}
    with repeatable(seed, (source, target)) as set_seeds:
        ours, theirs = (_run(side, given[side.role], set_seeds) for side in (source, target))
        specs = {key: entry.spec for key, entry in source.bundle.entries.items()}
        tolerance = tolerance_of(ours.operations, theirs.operations, model_steps(target, steps), specs)
        problems, differences = _compared(ours.outputs, theirs.outputs, tolerance)
        is_blind = not problems and not any(_depends_on_inputs(each, tolerance) for each in ours.outputs.values())
        divergence, layers = None, 0
        if problems or is_blind:
            traces = [_trace(side, given[side.role], set_seeds) for side in (source, target)]
            divergence, layers = first_divergence((source, traces[0]), (target, traces[1]), steps, tolerance)
        if divergence is not None:
            problems += [*([f"the outputs agree, but {_BLIND}"] if is_blind else []), *divergence.lines()]
        elif problems:
            problems.append("no layer diverges by itself: the difference arises outside of those that hold variables")
    largest = max((each.absolute for each in differences.values()), default=0)
    random = sorted(ours.operations.random | theirs.operations.random)
    check = Check.of(
        "outputs",
        f"{_counted(len(theirs.outputs), 'output')} of both models compared; largest difference {largest:.3g}, "
        f"tolerance {tolerance}; {batch}"
        + (f"; in inference these drew numbers, with equal seeds: {', '.join(random)}" if random else "")
        + (f"; {_BLIND}, so {_counted(layers, 'layer')} on the way were compared as well" if is_blind else ""),
        problems,
        _hint(target, steps, tolerance, differences),
        {
            "tolerance": tolerance.relative,
            "inputs": str(batch),
            "outputs": {name: each.to_data() for name, each in differences.items()},
            "depends_on_inputs": not is_blind,
            "diverges": divergence.to_data() if divergence else None,
            "operations": [sum(each.counts.values()) for each in (ours.operations, theirs.operations)],
        },
    )
    if is_blind and not layers:
        # Equal outputs that are equal whatever comes in prove nothing.
        check = unproven(check, "outputs that are equal whatever comes in prove nothing")
    return unproven(check, silent_values(theirs.outputs, batch, "output"))


_BLIND = "they hardly depend on these inputs"


def _depends_on_inputs(output: Array, tolerance: Tolerance) -> bool:
    """Whether other inputs give other outputs, as far as the rows of a batch show it.

    A value in a wrong place changes an output by about as much as other inputs do. If that is no more than rounding,
    as with a fresh deep model whose softmax is flat, equal outputs say nothing.
    """
    import numpy as np

    if output.dtype.kind not in "fV" or not output.size or output.shape[:1] in ((), (1,)):
        return True
    rows = np.nan_to_num(output.astype(np.float64), posinf=0, neginf=0)
    spread = (rows.max(0) - rows.min(0)).max(initial=0)
    return bool(spread > 10 * max(tolerance.relative, eps_of(DType.FLOAT32)) * np.abs(rows).max())


@dataclass(frozen=True)
class _Ran:
    outputs: Mapping[str, Array]
    operations: Operations


def _run(side: Side, given: Arguments, set_seeds: Callable[[], None]) -> _Ran:
    set_seeds()
    with watched() as operations:
        result = side.infer(*given)
    return _Ran(named_outputs(side, result), operations)


def _trace(side: Side, given: Arguments, set_seeds: Callable[[], None]) -> Trace:
    set_seeds()
    return traced(side, *given)


def model_steps(target: Side, steps: Mapping[Key, Step] | None) -> list[Step]:
    """The steps that make what a forward pass reads: neither an optimizer's slots nor its counters."""
    if steps is None:
        return []
    others = target.slots | target.scalars
    return [step for key, step in steps.items() if key in target.node_at and key not in others]


def named_outputs(side: Side, result: Any) -> dict[str, Array]:
    """The tensors of what a model gives, by name: a dict's keys, a Keras model's own names, or their order."""
    import numpy as np
    from tensorflow.python.util import nest

    flat = nest.flatten_with_joined_string_paths(result, expand_composites=True)
    names = [path for path, _ in flat]
    if is_keras(side.forward) and not isinstance(result, dict):
        own = getattr(side.forward, "output_names", None) or ()
        names = list(own) if len(own) == len(flat) == len(set(own)) else names
    return {
        name or "output": np.asarray(value.numpy() if hasattr(value, "numpy") else value)
        for name, (_, value) in zip(names, flat, strict=True)
        if value is not None
    }


def _compared(
    ours: Mapping[str, Array], theirs: Mapping[str, Array], tolerance: Tolerance
) -> tuple[list[str], dict[str, Difference]]:
    """What contradicts the outputs' being equal, and the largest difference of each."""
    if len(ours) != len(theirs):
        return [f"the source model gives {_counted(len(ours), 'output')}, the target model {len(theirs)}"], {}
    by_name = ours.keys() == theirs.keys()
    problems, differences = [], {}
    for position, (name, got) in enumerate(theirs.items()):
        expected = ours[name] if by_name else list(ours.values())[position]
        if expected.shape != got.shape:
            problems.append(
                f"output `{name}`: expected {list(expected.shape)} (source), got {list(got.shape)} (target)"
            )
            continue
        differences[name] = found = difference_of(expected, got, tolerance)
        if found.beyond:
            problems.append(f"output `{name}` differs by up to {found}")
    return problems, differences


def _hint(
    target: Side, steps: Mapping[Key, Step] | None, tolerance: Tolerance, differences: Mapping[str, Difference]
) -> str:
    initial = [step for step in model_steps(target, steps) if not step.sources]
    if initial:
        return (
            f"{_counted(len(initial), 'variable')} of the model start with initial values (first "
            f"`{target.say(initial[0].target)}`): outputs that depend on them cannot be the source's"
        )
    if not tolerance.relative and differences and max(each.relative for each in differences.values()) < 1e-5:
        return "This is what rounding makes: the models add up in another order, though with the same operations"
    return (
        "Do not use this checkpoint: look at the steps of the layers that are named, decide them with rules, plan again"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
