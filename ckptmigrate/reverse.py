"""The way back: from a plan, the plan that undoes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ckptmigrate.bundle import Bundle
from ckptmigrate.errors import CkptMigrateError, IrreversibleError, PlanError, raise_all
from ckptmigrate.matching import Drop, Step
from ckptmigrate.ops import Concat, Fill, Op, Part, Specs, Squeeze, Stack, infer_chain, inverse_chain
from ckptmigrate.plan import Endpoint, Plan, check_plan, open_ends
from ckptmigrate.spec import OBJECT_GRAPH_KEY, Key, TensorSpec

_SHOWN = 20
"""So many problems are told one by one; the rest are counted."""


def reverse_plan(plan: Plan, migrated: Bundle, original: Bundle, *, where: str) -> Plan:
    """The plan that leads back.

    What the plan dropped keeps the value that it has in the original; what it started anew is dropped.

    Args:
        plan: A plan without open ends.
        migrated: Where values come from: what the plan made, or what was trained on from it. It has the layout of
            the plan's target.
        original: The plan's source, whose layout the way back leads to.
        where: The plan's name, for messages.

    Returns:
        A plan from `migrated` to `original`, without open ends.

    Raises:
        PlanError: The plan has open ends, or does not fit its source any more, or `migrated` has another layout.
        IrreversibleError: An operation loses what its inverse would need; `Problems` if several things are wrong.
    """
    raise_all(f"{where}: a plan with open ends has no way back", tuple(open_ends(plan, where)))
    specs = _specs(original)
    end = Endpoint.of(original, plan.source.factory)
    if end.fingerprint != plan.source.fingerprint:
        raise PlanError(
            "the source has changed since the plan was made",
            plan.source.prefix,
            expected=f"{plan.source.fingerprint[:19]}... ({where})",
            got=f"{end.fingerprint[:19]}... (the files)",
            hint="Without the source as it was, nothing says how it was laid out",
        )
    check_plan(plan, specs, _target_specs(plan, migrated, where), where=where)
    problems: list[CkptMigrateError] = []
    steps = {step.target: step for step in _steps_back(plan, specs, where, problems)}
    if len(problems) > _SHOWN:
        problems = [*problems[:_SHOWN], IrreversibleError(f"{len(problems) - _SHOWN} more cannot be undone", where)]
    raise_all(f"{where}: there is no way back", problems)
    for drop in plan.dropped:
        evidence = f"dropped on the way ({drop.rule}): keeps the value it had"
        steps[drop.source] = Step(drop.source, (), (Fill("template"),), "initial", 1.0, (evidence,))
    dropped = tuple(Drop(step.target, "started anew on the way") for step in plan.steps if not step.sources)
    in_order = tuple(steps[key] for key in specs if key in steps)
    return Plan(Endpoint.of(migrated), end, in_order, dropped=dropped)


def _specs(bundle: Bundle) -> dict[Key, TensorSpec]:
    return {key: entry.spec for key, entry in bundle.entries.items() if key != OBJECT_GRAPH_KEY}


def _target_specs(plan: Plan, migrated: Bundle, where: str) -> Mapping[Key, TensorSpec]:
    """The specs of the migrated checkpoint, which has to hold what the plan made and nothing else."""
    specs = _specs(migrated)
    made = {step.target for step in plan.steps}
    missing, strange = sorted(made - specs.keys()), sorted(specs.keys() - made)
    if missing or strange:
        example = (
            f"no `{missing[0]}` ({len(missing)} are missing)"
            if missing
            else f"`{strange[0]}` too ({len(strange)} that the plan does not make)"
        )
        raise PlanError(
            "the checkpoint is not laid out as the plan's target",
            migrated.prefix,
            expected=f"the {len(made)} tensors that {where} makes",
            got=example,
            hint="Name the checkpoint that `apply` wrote, or one that was saved after training on from it",
        )
    return specs


def _steps_back(
    plan: Plan, specs: Mapping[Key, TensorSpec], where: str, problems: list[CkptMigrateError]
) -> Iterator[Step]:
    uses: dict[Key, list[Step]] = {}
    for step in plan.steps:
        for key in step.sources:
            uses.setdefault(key, []).append(step)
    for key, steps in uses.items():
        try:
            sources, operations = _origin(key, steps, specs)
        except CkptMigrateError as error:
            what = f"cannot be undone: {error.what}"
            place = f"{where} `{key}`"
            problems.append(IrreversibleError(what, place, expected=error.expected, got=error.got, hint=error.hint))
            continue
        first = steps[0]
        evidence = f"the way back from `{', '.join(sources)}`"
        yield Step(key, sources, operations, first.status, first.confidence, (evidence,), first.caveat)


def _origin(key: Key, steps: Sequence[Step], specs: Mapping[Key, TensorSpec]) -> tuple[tuple[Key, ...], tuple[Op, ...]]:
    """Of which targets a source is made again, and how."""
    if len(steps) > 1:
        return _rejoined(steps)
    (step,) = steps
    given = tuple(specs[source] for source in step.sources)
    if len(given) > 1:
        return (step.target,), _part_of(key, step, given)
    return (step.target,), inverse_chain(step.ops, given)


def _part_of(key: Key, step: Step, given: Specs) -> tuple[Op, ...]:
    """How one of several sources is had back from what joined them."""
    join, *others = step.ops
    back = inverse_chain(others, infer_chain((join,), given))
    index = step.sources.index(key)
    match join:
        case Concat(axis):
            return (*back, Part(axis, index, tuple(spec.shape[axis] for spec in given)))
        case Stack(axis):
            return (*back, Part(axis, index, len(given)), Squeeze((axis,)))
        case _:
            return inverse_chain((join,), given)


def _rejoined(steps: Sequence[Step]) -> tuple[tuple[Key, ...], tuple[Op, ...]]:
    """How the parts of a split become one again; a source that was copied has no one way back."""
    parts = {step.ops[0].index: step for step in steps if step.ops and isinstance(step.ops[0], Part)}
    first = steps[0].ops[0] if steps[0].ops else None
    if not isinstance(first, Part) or len(parts) < len(steps):
        targets = ", ".join(f"`{step.target}`" for step in steps)
        raise IrreversibleError("it was copied, and which copy leads back is open", "", got=targets)
    count = first.sizes if isinstance(first.sizes, int) else len(first.sizes or ())
    in_order = [parts[index] for index in sorted(parts)]
    missing = sorted(set(range(count)) - parts.keys())
    if missing:
        raise IrreversibleError(
            "a part of the split leads nowhere", "", expected=f"all of {count} parts", got=f"none for part {missing[0]}"
        )
    rest = first.axis, first.sizes
    if any((part.axis, part.sizes) != rest for step in in_order if isinstance(part := step.ops[0], Part)):
        raise IrreversibleError("it was split in several ways", "", got=first.describe())
    made = tuple(step.target for step in in_order)
    afterwards = {step.ops[1:] for step in in_order}
    if afterwards == {()}:
        return made, (Concat(first.axis),)
    if afterwards == {(Squeeze((first.axis,)),)}:
        return made, (Stack(first.axis),)
    raise IrreversibleError(
        "its parts were changed after the split, and parts are joined as they are",
        "",
        got=", ".join(operation.describe() for operation in in_order[0].ops[1:]),
    )
