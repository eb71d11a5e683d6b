"""Structure: whether a checkpoint has the tensors and the graph of its target. No value is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ckptmigrate.bundle import Bundle
from ckptmigrate.graph import ROOT, Node, ObjectGraph
from ckptmigrate.plan import Plan
from ckptmigrate.spec import OBJECT_GRAPH_KEY, Key, fits
from ckptmigrate.verify.report import Check


def check_structure(bundle: Bundle, wanted: Bundle, plan: Plan | None) -> Check:
    problems = [*_tensor_differences(bundle, wanted), *_graph_differences(bundle, wanted)]
    accounted = ""
    if plan is not None:
        made = {step.target for step in plan.steps}
        problems += [f"`{key}` is in no step of the plan" for key in _tensors(bundle) if key not in made]
        used = {key for step in plan.steps for key in step.sources}
        accounted = f"; {len(used)} source tensors used, {len(plan.dropped)} dropped by name"
        if not plan.is_complete:
            problems.append("the plan has open ends")
    graph = "the graph is the target's" if OBJECT_GRAPH_KEY in wanted.entries else "neither has an object graph"
    return Check.of(
        "structure",
        f"{len(_tensors(wanted))} tensors as the target has them; {graph}{accounted}",
        problems,
        "The checkpoint was made for another model, or changed since: plan and apply again",
    )


def _tensors(bundle: Bundle) -> list[Key]:
    return [key for key in bundle.entries if key != OBJECT_GRAPH_KEY]


def _tensor_differences(bundle: Bundle, wanted: Bundle) -> Iterator[str]:
    for key, entry in wanted.entries.items():
        found = bundle.entries.get(key)
        if found is None:
            yield f"`{key}` is missing: expected {entry.spec} (target)"
        elif not fits(key, found.spec, entry.spec):
            yield f"`{key}`: expected {entry.spec} (target), got {found.spec} (checkpoint)"
    for key, entry in bundle.entries.items():
        if key not in wanted.entries:
            yield f"`{key}` {entry.spec} is not in the target"


def _graph_differences(bundle: Bundle, wanted: Bundle) -> Iterator[str]:
    if bundle.object_graph_bytes() == wanted.object_graph_bytes():
        return
    # A model that is built again may number its objects in another order; what matters is who holds what.
    ours, theirs = ObjectGraph.from_bundle(bundle), ObjectGraph.from_bundle(wanted)
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
