"""Structure: whether each tensor of a checkpoint has its place in the target, and the other way round.

No value is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ckptmigrate.graph import ROOT, Node, ObjectGraph
from ckptmigrate.plan import Plan
from ckptmigrate.spec import Key, TensorSpec, fits
from ckptmigrate.verify.report import Check
from ckptmigrate.verify.restoration import Restoration


def check_restoration(restoration: Restoration, *, expect_partial: bool = False) -> Check:
    """Whether a restore of any checkpoint would use all of it and leave nothing of the target out.

    Args:
        restoration: What it would put where.
        expect_partial: What the target does not ask for is no problem.
    """
    source, target = restoration.source, restoration.target
    problems = [
        f"`{target.say_key(key)}` {target.specs[key]}: nothing in the checkpoint leads to it"
        for key in restoration.missing
    ]
    problems += [
        f"`{target.say_key(into)}`: expected {target.specs[into]} (target), "
        f"got {source.specs[key]} (checkpoint, `{source.say_key(key)}`)"
        for into, key in restoration.misfits.items()
    ]
    problems += [
        f"`{source.say_key(key)}`: goes to `{target.say_key(into)}`, as `{source.say_key(other)}` does"
        for key, other, into in restoration.doubled
    ]
    problems += [
        f"`{target.say_key(into)}`, {_say_slot(target, into)}: gets {_say_slot(source, key)}"
        for into, key in restoration.crossed.items()
    ]
    problems += [
        f"`{target.say_key(into)}`: gets the value of `{source.say_key(key)}`, by a place in a list"
        for into, key in restoration.astray.items()
    ]
    if restoration.is_unbuilt:
        problems.append("the model has no variables yet: build it before the restore")
    if not expect_partial:
        problems += [
            f"`{source.say_key(key)}` {source.specs[key]}: leads to nothing in the target" for key in restoration.unused
        ]
    used = len(source.specs) - len(restoration.unused)
    return Check.of(
        "structure",
        f"{len(restoration.restored)} of {len(target.specs)} tensors of the target have one origin of their dtype and "
        f"shape; {used} of {len(source.specs)} of the checkpoint are used",
        problems,
        "Checkpoint and model do not fit: `ckptmigrate doctor` says why, `ckptmigrate plan` makes one that does",
        {
            "restored": len(restoration.restored),
            "missing": restoration.missing,
            "unused": restoration.unused,
            "misfits": tuple(restoration.misfits),
            "crossed": tuple(restoration.crossed),
            "astray": tuple(restoration.astray),
        },
    )


def _say_slot(graph: ObjectGraph, key: Key) -> str:
    variable, kind = graph.slot_owner[key]
    return f"the {kind} of `{graph.say_key(variable)}`"


def check_planned(made: ObjectGraph, wanted: ObjectGraph, plan: Plan) -> Check:
    """Whether a checkpoint is what a plan was to make: the target's graph and tensors, each accounted for.

    Args:
        made: The checkpoint's graph.
        wanted: The target's graph.
        plan: The plan.
    """
    tensors = list(_tensor_differences(made.specs, wanted.specs))
    edges = list(_graph_differences(made, wanted))
    problems = [*tensors, *edges]
    planned = {step.target for step in plan.steps}
    problems += [f"`{key}` is in no step of the plan" for key in made.specs if key not in planned]
    problems += [
        f"`{step.target}` of the plan is not in the target: the plan is another model's"
        for step in plan.steps
        if step.target not in wanted.specs
    ]
    if not plan.is_complete:
        problems.append("the plan has open ends")
    used = {key for step in plan.steps for key in step.sources}
    same = sum(fits(key, made.specs[key], spec) for key, spec in wanted.specs.items() if key in made.specs)
    graph = f"the graph is {'not ' if edges else ''}the target's"
    if wanted.kind == "name" == made.kind:
        graph = "neither has an object graph"
    return Check.of(
        "structure",
        f"{same}{f' of {len(wanted.specs)}' if tensors else ''} tensors as the target has them; {graph}; "
        f"{len(used)} source tensors used, {len(plan.dropped)} dropped by name",
        problems,
        "The checkpoint was made for another model, or changed since: plan and apply again",
        {"tensors": len(wanted.specs), "used": len(used), "dropped": len(plan.dropped)},
    )


def _tensor_differences(made: Mapping[Key, TensorSpec], wanted: Mapping[Key, TensorSpec]) -> Iterator[str]:
    for key, spec in wanted.items():
        found = made.get(key)
        if found is None:
            yield f"`{key}` is missing: expected {spec} (target)"
        elif not fits(key, found, spec):
            yield f"`{key}`: expected {spec} (target), got {found} (checkpoint)"
    for key, spec in made.items():
        if key not in wanted:
            yield f"`{key}` {spec} is not in the target"


def _graph_differences(ours: ObjectGraph, theirs: ObjectGraph) -> Iterator[str]:
    if ours.nodes == theirs.nodes:
        return
    # A model that is built again may number its objects in another order; what matters is who holds what.
    seen = {ROOT: ROOT}
    stack = [ROOT]
    while stack:
        number = stack.pop()
        node, other = ours.nodes[number], theirs.nodes[seen[number]]
        yield from _node_differences(node, other, theirs.say(seen[number]))
        for label in sorted(node.children.keys() & other.children.keys()):
            child, twin = node.children[label], other.children[label]
            if child not in seen:
                seen[child] = twin
                stack.append(child)
            elif seen[child] != twin:
                yield f"`{theirs.say(seen[number])}`: edge `{label}` leads to another object than in the target"
    differing = _slots(ours, seen) ^ _slots(theirs, {number: number for number in range(len(theirs.nodes))})
    if differing:
        yield f"{len({slot[:3] for slot in differing})} slot variables of the optimizer differ from the target's"


def _slots(graph: ObjectGraph, numbers: Mapping[int, int]) -> set[tuple[int | None, int | None, str, tuple[Key, ...]]]:
    """Each slot record as optimizer, variable, name, and keys of its values; nodes as the other graph numbers them."""
    return {
        (
            numbers.get(number),
            numbers.get(slot.variable),
            slot.name,
            tuple(sorted(graph.nodes[slot.slot].tensors.values())),
        )
        for number, node in enumerate(graph.nodes)
        for slot in node.slot_records
    }


def _node_differences(node: Node, other: Node, where: str) -> Iterator[str]:
    for label in sorted(node.children.keys() ^ other.children.keys()):
        side = "target" if label in node.children else "checkpoint"
        yield f"`{where}`: edge `{label}` is not in the {side}"
    if dict(node.tensors) != dict(other.tensors):
        yield f"`{where}`: holds {sorted(node.tensors.values())}, in the target {sorted(other.tensors.values())}"
