"""Square matrices where others were transposed: their shapes do not show whether they were."""

from __future__ import annotations

from collections.abc import Sequence

from ckptmigrate.graph import ObjectGraph
from ckptmigrate.matching.confidence import weakest
from ckptmigrate.matching.converted import is_table
from ckptmigrate.matching.draft import Draft
from ckptmigrate.matching.hypotheses import said
from ckptmigrate.matching.result import Answers, Hypothesis, Lead, Step
from ckptmigrate.ops import Transpose
from ckptmigrate.spec import Key

_DOUBT = "other matrices were transposed; whether this one was, a square does not show"

_TURN = (Transpose((1, 0)),)


def doubt_squares(draft: Draft, *, are_turned: bool) -> None:
    """Ask about square matrices where all others were transposed; where only some were, they are but proposed.

    Args:
        draft: What is known, transposed matrices included; steps of square ones are taken back.
        are_turned: Whether names show that some matrix was transposed of which no step says it.
    """
    matrices = [key for key in draft.steps if _is_matrix(draft, key) and not _is_table(draft.target, key)]
    oblong = [key for key in matrices if len({*draft.target.specs[key].shape}) > 1]
    turned = [key for key in oblong if _is_turned(draft.steps[key])]
    kept = {_leaf(draft.target, key) for key in oblong if not _is_turned(draft.steps[key])}
    by_rules = {_leaf(draft.target, key) for key in turned if draft.steps[key].status == "rule"} - kept
    are_turned = (
        are_turned or any(draft.steps[key].status != "rule" for key in turned) or _is_a_transposed_one_open(draft)
    )
    asked: list[Step] = []
    for key in matrices:
        step, leaf = draft.steps[key], _leaf(draft.target, key)
        is_square = draft.target.specs[key].shape[0] == draft.target.specs[key].shape[1] > 1
        if not is_square or step.ops or key in draft.proven or step.status not in ("exact", "certain", "proposed"):
            continue
        if leaf in by_rules or (are_turned and not kept):
            if step.status == "proposed":
                evidence = (*step.evidence, f"{_DOUBT}, and all others were")
                caveat = weakest(step.caveat, "square-turned")
                draft.steps[key] = Step.proposed(key, step.sources, _TURN, caveat, evidence)
            else:
                asked.append(step)
        elif are_turned:
            caveat = weakest(step.caveat, "square")
            draft.steps[key] = Step.proposed(key, step.sources, (), caveat, (*step.evidence, _DOUBT))
    _ask(draft, asked, len(turned))


def _ask(draft: Draft, steps: Sequence[Step], turned: int) -> None:
    """One question for all of them: who stores one kernel the other way round stores all of them so."""
    rows = [(draft.source.say_key(step.sources[0]), draft.target.say_key(step.target)) for step in steps]
    for step in steps:
        draft.release(step.target)
    many = f"{turned or 'some'} other matrices were transposed, as their shapes show, and none is as it was"
    transposed = tuple(Lead(step.target, step.sources, _TURN) for step in steps)
    kept = tuple(Lead(step.target, step.sources) for step in steps)
    answers = (
        Hypothesis(f"all transposed: {said(rows)}", transposed, evidence=(many,)),
        Hypothesis(f"all as they are: {said(rows)}", kept, evidence=("no shape speaks against it",)),
    )
    draft.ask(
        [step.sources[0] for step in steps],
        [step.target for step in steps],
        "other matrices were transposed; whether these were, a square does not show",
        Answers(answers, 2, "how the target's layers multiply: no checkpoint says it"),
    )


def _is_a_transposed_one_open(draft: Draft) -> bool:
    """Whether something that is open on one side has the shape of something open on the other, transposed."""
    free = {
        spec.shape
        for key, spec in draft.source.specs.items()
        if key not in draft.used and key not in draft.dropped and key not in draft.source.slot_owner
    }
    return any(
        spec.shape[::-1] in free and len({*spec.shape}) == len(spec.shape) == 2  # axes
        for key, spec in draft.target.specs.items()
        if key not in draft.steps and key not in draft.target.slot_owner
    )


def _is_matrix(draft: Draft, key: Key) -> bool:
    """Whether a target is a variable with two axes that is made of one; slots follow their variables."""
    step = draft.steps[key]
    return (
        len(draft.target.specs[key].shape) == 2 and key not in draft.target.slot_owner and len(step.sources) == 1
    )  # of a matrix


def _is_turned(step: Step) -> bool:
    return any(isinstance(op, Transpose) for op in step.ops)


def _is_table(graph: ObjectGraph, key: Key) -> bool:
    number = graph.node_of.get(key)
    return number is not None and is_table(graph, number)


def _leaf(graph: ObjectGraph, key: Key) -> str:
    return graph.say_key(key).rpartition("/")[2].strip("_")
