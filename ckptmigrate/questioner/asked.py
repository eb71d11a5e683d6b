"""What is asked: the questions of a matching, its proposals, and what is left over, what decides most first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ckptmigrate.fold import split_numbers
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.matching import Answers, Hypothesis, Lead, Matching, Question, Unmatched
from ckptmigrate.matching.hypotheses import AGAIN, PARTS, said
from ckptmigrate.matching.propose import reshapes
from ckptmigrate.ops import Reshape, Transpose
from ckptmigrate.spec import Key, fits

Kind = Literal["question", "proposal", "new", "unused"]

_EVIDENCE = 6
"""So many different reasons of one proposal are told."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing to ask a person.

    Attributes:
        kind: A question; a proposal, which has one answer to take or not; ``new`` and ``unused``: what is left over
            in the target and in the source, with the one answer that it keeps the template's values or is dropped.
        question: What is asked, and the answers there are to choose from.
        notes: What is known of tensors that are left over.
    """

    kind: Kind
    question: Question
    notes: tuple[Unmatched, ...] = ()

    @property
    def waiting(self) -> frozenset[tuple[Kind, Key]]:
        """What waits for the answer. Something that is asked of these and no others has been asked already."""
        return frozenset((self.kind, key) for key in self.question.targets or self.question.sources)


def asked_of(matching: Matching, source: ObjectGraph, target: ObjectGraph) -> list[Asked]:
    """All that a matching leaves open, in the order in which to ask it.

    What decides most comes first, for its answer may decide what comes after it; what is left over comes last.
    """
    open_ends = [
        *(Asked("question", question) for question in matching.questions),
        *_proposals(matching, source, target),
    ]
    open_ends.sort(key=lambda asked: -len(asked.question.decides))
    return [*open_ends, *_left_over(matching)]


def _proposals(matching: Matching, source: ObjectGraph, target: ObjectGraph) -> Iterator[Asked]:
    steps = {step.target: step for step in matching.steps if step.status == "proposed"}
    for keys in matching.proposals:
        group = [steps[key] for key in keys]
        leads = tuple(Lead(step.target, step.sources, step.ops) for step in group if step.sources)
        new = tuple(step.target for step in group if not step.sources)
        evidence = list(dict.fromkeys(each for step in group for each in step.evidence))
        more = [f"and {len(evidence) - _EVIDENCE} more like these"] if len(evidence) > _EVIDENCE else []
        text = ", ".join(filter(None, (_said_leads(leads, source, target), _said_new(new, target))))
        hypothesis = Hypothesis(text, leads, new, evidence=(*evidence[:_EVIDENCE], *more))
        confidence = min(step.confidence for step in group)
        reason = f"proposed, with a confidence of {confidence:.2f}: is it right?"
        sources = tuple(dict.fromkeys(key for lead in leads for key in lead.sources))
        yield Asked("proposal", Question(tuple(keys), sources, reason, Answers((hypothesis,), 1)))


def _said_leads(leads: Sequence[Lead], source: ObjectGraph, target: ObjectGraph) -> str:
    """What leads where; a slot goes without saying where its variable is among them."""
    goals = {lead.target for lead in leads}
    rows = [
        (", ".join(map(source.say_key, lead.sources)), target.say_key(lead.target))
        for lead in leads
        if target.slot_owner.get(lead.target, ("", ""))[0] not in goals
    ]
    return said(rows) if rows else ""


def _said_new(keys: Sequence[Key], target: ObjectGraph) -> str:
    if not keys:
        return ""
    names = {key: target.say_key(key) for key in keys if target.slot_owner.get(key, ("", ""))[0] not in keys}
    first, *rest = names.values()
    return f"`{first}`{f' and {len(rest)} more' if rest else ''} start with the template's values"


def _left_over(matching: Matching) -> Iterator[Asked]:
    targets = tuple(item.key for item in matching.unmatched_target)
    if targets:
        keep = Hypothesis("they keep the values of the new model's template", (), new=targets)
        reason = "nothing leads to these: do they start with the new model's own values?"
        yield Asked("new", Question(targets, (), reason, Answers((keep,), 1)), matching.unmatched_target)
    sources = tuple(item.key for item in matching.unmatched_source)
    if sources:
        drop = Hypothesis("they are dropped: the new model has no place for them", (), gone=sources)
        reason = "these lead nowhere: are they dropped?"
        yield Asked("unused", Question((), sources, reason, Answers((drop,), 1)), matching.unmatched_source)


def otherwise(asked: Asked, matching: Matching, source: ObjectGraph, target: ObjectGraph) -> Asked:
    """What to ask when none of the answers is right: what else there is that the first of the targets could be.

    Args:
        asked: What was asked; its answers are wrong, and not among those that are listed now.
        matching: The matching that it is of.
        source: The graph of the source.
        target: The graph of the target.
    """
    question = asked.question
    variables = [key for key in question.targets if key not in target.slot_owner] or list(question.targets)
    is_slot = variables[0] in target.slot_owner
    candidates = [key for key in _free(matching, question) if (key in source.slot_owner) == is_slot]
    (goals, *others), olds = _families(variables, target), _families(candidates, source)
    rest = f", {AGAIN}" if others else ""
    refused = [frozenset(hypothesis.leads) for hypothesis in question.hypotheses]
    found = []
    for keys in olds:
        rows = [(source.say_key(key), target.say_key(goal)) for key, goal in zip(keys, goals, strict=False)]
        for how, leads in _possible(keys, source, goals, target):
            if not any(wrong.issuperset(leads) for wrong in refused):
                found.append(Hypothesis(said(rows) + how + rest, leads))
    found = found[:PARTS]
    if others:
        first, *more = map(target.say_key, goals)
        text = f"`{first}`{f' and {len(more)} more' if more else ''} start with the template's values{rest}"
        found.append(Hypothesis(text, (), new=tuple(goals)))
    found.append(Hypothesis("all of these start with the template's values", (), new=question.targets))
    reason = "none of these answers: what is it made of instead?"
    sources = tuple(dict.fromkeys((*question.sources, *(key for each in found for key in _sources(each)))))
    return Asked(asked.kind, Question(question.targets, sources, reason, Answers(tuple(found))), asked.notes)


def _sources(hypothesis: Hypothesis) -> Iterator[Key]:
    return (key for lead in hypothesis.leads for key in lead.sources)


def _free(matching: Matching, question: Question) -> Sequence[Key]:
    """The sources that nothing certain is made of: those that were asked about first."""
    proposed = (key for step in matching.steps if step.status == "proposed" for key in step.sources)
    asked = (key for each in matching.questions for key in each.sources)
    left = (item.key for item in matching.unmatched_source)
    return tuple(dict.fromkeys((*question.sources, *asked, *left, *proposed)))


def _families(keys: Iterable[Key], graph: ObjectGraph) -> list[list[Key]]:
    """Tensors whose paths differ in numbers only are one family, in the order of the numbers."""
    families: dict[tuple[str, ...], list[tuple[list[int], Key]]] = {}
    for key in keys:
        pieces, numbers = split_numbers(graph.say_key(key))
        families.setdefault(pieces, []).append((list(map(int, numbers)), key))
    return [[key for _, key in sorted(family)] for family in families.values()]


def _possible(
    keys: Sequence[Key], source: ObjectGraph, goals: Sequence[Key], target: ObjectGraph
) -> Iterator[tuple[str, tuple[Lead, ...]]]:
    """How one family may become another without a loss: as it is, reshaped, or transposed."""
    if len(keys) != len(goals):
        return
    pairs = [(key, source.specs[key], goal, target.specs[goal]) for key, goal in zip(keys, goals, strict=True)]
    if all(fits(goal, spec, wanted) for _, spec, goal, wanted in pairs):
        yield "", tuple(Lead(goal, (key,)) for key, _, goal, _ in pairs)
    elif all(spec.dtype == wanted.dtype and reshapes(spec.shape, wanted.shape) for _, spec, _, wanted in pairs):
        leads = (Lead(goal, (key,), (Reshape(wanted.shape),) * (spec != wanted)) for key, spec, goal, wanted in pairs)
        yield ", reshaped", tuple(leads)
    if all(
        len(spec.shape) == 2 and (spec.dtype, spec.shape[::-1]) == (wanted.dtype, wanted.shape)
        for _, spec, _, wanted in pairs
    ):
        yield ", transposed", tuple(Lead(goal, (key,), (Transpose((1, 0)),)) for key, _, goal, _ in pairs)
