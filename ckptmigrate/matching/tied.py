"""Variables that more objects hold than before: which of several gave its values, no checkpoint says."""

from __future__ import annotations

from collections.abc import Sequence

from ckptmigrate.graph import ROOT, VARIABLE_ROLE, ObjectGraph
from ckptmigrate.matching.draft import Draft
from ckptmigrate.matching.hypotheses import of_tied
from ckptmigrate.spec import TensorSpec


def doubt_tied(draft: Draft) -> None:
    """Ask about a target variable that more objects hold than what it would be made of, if something is left over.

    Two tables that became one are one step and one table that leads nowhere; the one step may be either.
    """
    left = _left_over(draft)
    if not left or draft.source.kind == "name":  # in which each variable has one name, tied or not
        return
    old, new = _holders(draft.source), _holders(draft.target)
    for key, step in list(draft.steps.items()):
        others = left.get(draft.target.specs[key])
        if key in draft.proven:
            continue
        if not others or step.status not in ("exact", "certain") or step.ops or len(step.sources) != 1:
            continue
        s, t = draft.source.node_of.get(step.sources[0]), draft.target.node_of.get(key)
        if s is None or t is None or s in draft.source.scalars or new[t] <= old[s]:
            continue
        draft.release(key)
        draft.ask(
            [key for number in (s, *others) for key in draft.source.nodes[number].tensors.values()],
            [key],
            f"`{draft.target.say(t)}` is held by more objects than `{draft.source.say(s)}` was, and others like that "
            "lead nowhere: they may have been tied",
            of_tied(draft.source, draft.target, [s, *others], [t]),
        )


def _left_over(draft: Draft) -> dict[TensorSpec, list[int]]:
    """The source's variables that lead nowhere for certain, by their specs."""
    found: dict[TensorSpec, list[int]] = {}
    apart = draft.source.slot_nodes | draft.source.scalars
    used = {key for step in draft.steps.values() if step.status != "proposed" for key in step.sources}
    for number, node in enumerate(draft.source.nodes):
        key = node.tensors.get(VARIABLE_ROLE)
        is_gone = key is None or key in used or key in draft.dropped
        if key is not None and not is_gone and number not in apart:
            found.setdefault(draft.source.specs[key], []).append(number)
    return found


def _holders(graph: ObjectGraph) -> Sequence[int]:
    """For each node, how many objects hold it, or what holds it, more than the one that each has.

    Lists do not count: frameworks list what has an attribute as well.
    """
    parents: list[set[int]] = [set() for _ in graph.nodes]
    for number, node in enumerate(graph.nodes):
        if graph.has_named_path(number) and not node.is_list:
            for child in graph.named_children(number).values():
                if not graph.climbs(number, child):
                    parents[child].add(number)
    more = [0] * len(graph.nodes)
    order = [ROOT]
    for number in order:
        for child in graph.tree_children(number).values():
            more[child] = more[number] + max(0, len(parents[child]) - 1)
            order.append(child)
    return more
