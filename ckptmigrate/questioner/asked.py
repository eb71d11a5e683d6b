"""What is asked: the questions of a matching, its proposals, and what is left over, what decides most first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ckptmigrate.fold import split_numbers
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.matching import Answers, Hypothesis, Lead, Matching, Question, Step, Unmatched
from ckptmigrate.matching.hypotheses import AGAIN, PARTS, said
from ckptmigrate.matching.propose import reshapes
from ckptmigrate.ops import Op, Reshape, Transpose
from ckptmigrate.spec import Key, TensorSpec, fits

Kind = Literal["question", "proposal", "new", "unused"]

ALL_NEW = "all of these keep the values of the new model's template"

_OPERATIONS = 3
"""So many different operations of one proposal are told in full."""

_EVIDENCE = 6
"""So many different reasons of one proposal are told."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One thing to ask a person.

    Attributes:
        kind: A question; a proposal, which has one answer to take or not; ``new`` and ``unused``: what is left over
            in the target and in the source, to keep the template's values or be dropped. Where what is left over on
            both sides would fit, there are other answers for it.
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
    return [*open_ends, *_left_over(matching, source, target)]


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
        reason = f"{_said_operations(group)}proposed, with a confidence of {confidence:.2f}: is it right?"
        sources = tuple(dict.fromkeys(key for lead in leads for key in lead.sources))
        yield Asked("proposal", Question(tuple(keys), sources, reason, Answers((hypothesis,), 1)))


def _said_operations(group: Iterable[Step]) -> str:
    """What would happen to the values, before all else that is said; nothing where they only move."""
    operations = [operation for step in group if step.sources for operation in step.ops]
    said = list(dict.fromkeys(operation.describe() for operation in operations))
    if len(said) > _OPERATIONS:  # each layer has sizes of its own: the words that rules have for them
        said = list(dict.fromkeys(operation.name for operation in operations))
    return "".join(f"{each}, " for each in said)


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


def _left_over(matching: Matching, source: ObjectGraph, target: ObjectGraph) -> Iterator[Asked]:
    targets = tuple(item.key for item in matching.unmatched_target)
    sources = tuple(item.key for item in matching.unmatched_source)
    if targets:
        reason = "nothing leads to these: do they start with the new model's own values?"
        answers: tuple[Hypothesis, ...] = ()
        if sources:
            answers = tuple(_could_be(targets, sources, source, target))
        if answers:
            reason = "nothing leads to these, but what is left over of the source would fit: is it one of them?"
        keep = Hypothesis(ALL_NEW, (), new=targets)
        used = sources if answers else ()
        yield Asked("new", Question(targets, used, reason, Answers((*answers, keep))), matching.unmatched_target)
    if sources:
        drop = Hypothesis("they are dropped: the new model has no place for them", (), gone=sources)
        reason = "these lead nowhere: are they dropped?"
        yield Asked("unused", Question((), sources, reason, Answers((drop,))), matching.unmatched_source)


def otherwise(asked: Asked, matching: Matching, source: ObjectGraph, target: ObjectGraph) -> Asked:
    """What to ask when none of the answers is right: what else there is that the first of the targets could be.

    Args:
        asked: What was asked; its answers are wrong, and not among those that are listed now.
        matching: The matching that it is of.
        source: The graph of the source.
        target: The graph of the target.
    """
    question = asked.question
    refused = [frozenset(hypothesis.leads) for hypothesis in question.hypotheses]
    found = [
        answer
        for answer in _could_be(question.targets, _free(matching, question), source, target)
        if answer.new or not any(wrong.issuperset(answer.leads) for wrong in refused)
    ]
    found.append(Hypothesis(ALL_NEW, (), new=question.targets))
    reason = "none of these answers: what is it made of instead?"
    used = (key for each in found for lead in each.leads for key in lead.sources)
    sources = tuple(dict.fromkeys((*question.sources, *used)))
    return Asked(asked.kind, Question(question.targets, sources, reason, Answers(tuple(found))), asked.notes)


def _free(matching: Matching, question: Question) -> Sequence[Key]:
    """The sources that nothing certain is made of: those that were asked about first."""
    proposed = (key for step in matching.steps if step.status == "proposed" for key in step.sources)
    asked = (key for each in matching.questions for key in each.sources)
    left = (item.key for item in matching.unmatched_source)
    return tuple(dict.fromkeys((*question.sources, *asked, *left, *proposed)))


_Layer = dict[tuple[str, ...], list[Key]]
"""A layer of each of several blocks: its variables by their labels, in the order of the blocks."""


def _could_be(
    targets: Sequence[Key], sources: Sequence[Key], source: ObjectGraph, target: ObjectGraph
) -> Iterator[Hypothesis]:
    """What the first layer could be that anything fits, or the first variable, in all blocks; or that it is new.

    Nothing speaks for any of it but that it fits.
    """
    variables = [key for key in targets if key not in target.slot_owner] or list(targets)
    is_slot = variables[0] in target.slot_owner
    candidates = [key for key in sources if (key in source.slot_owner) == is_slot]
    for whole in (True, False):
        olds = _layers(candidates, source, whole=whole)
        for goals in _layers(variables, target, whole=whole):
            found = [answer for olds_of in olds for answer in _possible(olds_of, source, goals, target)]
            if not found:
                continue
            news = tuple(key for keys in goals.values() for key in keys)
            if len(news) == len(variables):
                yield from found[:PARTS]
                return
            yield from (replace(answer, text=f"{answer.text}, {AGAIN}") for answer in found[:PARTS])
            yield Hypothesis(f"{_said_new(news, target)}, {AGAIN}", (), new=news)
            return


def _layers(keys: Iterable[Key], graph: ObjectGraph, *, whole: bool) -> list[_Layer]:
    """Tensors by the object that holds them, or each for itself; those of all blocks together."""
    layers: dict[object, dict[tuple[str, ...], list[tuple[list[int], Key]]]] = {}
    # In the order of the objects, which is that of the code more often than that of the keys.
    for key in sorted(keys, key=lambda key: graph.node_of.get(key, -1)):
        holder, _, label = graph.say_key(key).rpartition("/")
        pieces, numbers = split_numbers(holder)
        more, own = split_numbers(label)
        layer = layers.setdefault(pieces if whole else (pieces, more), {})
        layer.setdefault(more, []).append((list(map(int, (*numbers, *own))), key))
    return [{label: [key for _, key in sorted(found)] for label, found in layer.items()} for layer in layers.values()]


def _possible(olds: _Layer, source: ObjectGraph, goals: _Layer, target: ObjectGraph) -> Iterator[Hypothesis]:
    """How one layer may become another without a loss: as it is, reshaped, or with its matrices transposed."""
    # Variables that are alone need no label in common.
    labels = zip(olds, goals, strict=False) if len(olds) == len(goals) == 1 else ((label, label) for label in goals)
    both = [(olds.get(old, []), goals[new]) for old, new in labels]
    if len(olds) != len(goals) or any(len(keys) != len(wanted) for keys, wanted in both):
        return
    pairs = [pair for keys, wanted in both for pair in zip(keys, wanted, strict=True)]
    paths = [(source.say_key(key), target.say_key(goal)) for key, goal in pairs]
    if len(goals) > 1:  # a layer
        paths = list(
            dict.fromkeys((old.rpartition("/")[0] or ".", new.rpartition("/")[0] or ".") for old, new in paths)
        )
    rows = said(paths)
    for how, fitting in (("", _straight), (", transposed", _transposed)):
        found = [fitting(source.specs[key], goal, target.specs[goal]) for key, goal in pairs]
        operations = [each for each in found if each is not None]
        is_turned = any(isinstance(op, Transpose) for each in operations for op in each)
        if len(operations) == len(pairs) and is_turned == bool(how):
            leads = (Lead(goal, (key,), ops) for (key, goal), ops in zip(pairs, operations, strict=True))
            reshaped = ", reshaped" if any(isinstance(op, Reshape) for each in operations for op in each) else ""
            yield Hypothesis(rows + how + reshaped, tuple(leads), evidence=("nothing speaks for it but that it fits",))


def _straight(spec: TensorSpec, goal: Key, wanted: TensorSpec) -> tuple[Op, ...] | None:
    """The operations from one tensor to another that keep the order of values; None if none do."""
    if fits(goal, spec, wanted):
        return ()
    return (Reshape(wanted.shape),) if spec.dtype == wanted.dtype and reshapes(spec.shape, wanted.shape) else None


def _transposed(spec: TensorSpec, goal: Key, wanted: TensorSpec) -> tuple[Op, ...] | None:
    """The same for a layer whose matrices are transposed: of these, their transposition."""
    if len(spec.shape) != 2:
        return _straight(spec, goal, wanted)
    return (Transpose((1, 0)),) if (spec.dtype, spec.shape[::-1]) == (wanted.dtype, wanted.shape) else None
