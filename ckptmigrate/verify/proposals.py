"""What of a plan only a run of both models can tell: variables of one shape that a wrong answer would have swapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ckptmigrate.fold import fold
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.matching import Step
from ckptmigrate.plan import Plan
from ckptmigrate.spec import Key
from ckptmigrate.verify.report import Check

_TAKEN = "taken by --yes-proposed"
"""The evidence of a step that was proposed until somebody took all that was."""


def swappable(plan: Plan, graph: ObjectGraph) -> dict[str, tuple[Key, ...]]:
    """The variables whose steps rest on proposals, by shape: within a group values may have changed places.

    Args:
        plan: The plan.
        graph: The target's graph. Slots go where their variables do and are not named.

    Returns:
        The targets' keys by their spec, in words.
    """
    groups: dict[str, list[Key]] = {}
    for step in plan.steps:
        # A plan may be that of another model: what the target does not have is a problem of the structure.
        is_there = step.target in graph.specs
        others = graph.slot_nodes | graph.scalars
        if rests_on_proposal(step) and is_there and graph.node_of.get(step.target) not in others:
            groups.setdefault(str(graph.specs[step.target]), []).append(step.target)
    return {spec: tuple(keys) for spec, keys in sorted(groups.items())}


def rests_on_proposal(step: Step) -> bool:
    """Whether nothing but a proposal speaks for a step."""
    return step.status == "proposed" or _TAKEN in step.evidence


def with_proposals(
    check: Check, groups: Mapping[str, tuple[Key, ...]], graph: ObjectGraph, others: Iterable[Check]
) -> Check:
    """A check with what it does not prove: which variables rest on proposals, and whether another level told.

    Args:
        check: The check of the structure.
        groups: As `swappable` gives them.
        graph: The target's graph.
        others: The other levels that ran.
    """
    if not groups:
        return check
    shown = "; ".join(f"{_folded(keys, graph)} {spec}" for spec, keys in groups.items())
    count = sum(map(len, groups.values()))
    telling = [other for other in others if other.level in ("outputs", "training-step") and other.outcome != "not run"]
    levels = " and ".join(other.level for other in telling)
    if not telling:
        verdict = (
            "What is wrong among them has the right shape: only outputs and training-step can tell (--source-model)"
        )
    elif all(other.outcome == "passed" for other in telling):
        verdict = f"What is wrong among them has the right shape: {levels} told that nothing is"
    else:
        verdict = f"What is wrong among them has the right shape: {levels} told that something is"
    told = f"{'1 variable rests' if count == 1 else f'{count} variables rest'} on proposals: {shown}. {verdict}"
    return replace(
        check,
        hint=f"{check.hint}. {told}" if check.hint else told,
        evidence={
            **check.evidence,
            "proposals": {spec: list(keys) for spec, keys in groups.items()},
            "proposals_told_by": [other.level for other in telling],
        },
    )


def _folded(keys: Iterable[Key], graph: ObjectGraph) -> str:
    rows = fold([(graph.say_key(key),) for key in keys], numbered=1)
    return ", ".join(f"`{row.columns[0]}`" for row in rows)
