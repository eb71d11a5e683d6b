"""Questions as a person is asked them: with the slots, with answers that lead somewhere, in groups of one nod each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ckptmigrate.graph import ObjectGraph
from ckptmigrate.matching.draft import Draft
from ckptmigrate.matching.hypotheses import of_keys
from ckptmigrate.matching.result import Answers, Hypothesis, Lead, Question, Step
from ckptmigrate.matching.slots import moved_slot
from ckptmigrate.spec import Key

_COUNTED = 10**100
"""Ways beyond this are not counted: nobody reads a number with thousands of digits."""

_Slots = Mapping[Key, Mapping[str, Key]]
"""The slots of each variable, by what they hold of it."""


def finished_questions(draft: Draft) -> tuple[Question, ...]:
    """The questions of a draft, when all else is decided: what is said of a variable holds for its slots."""
    if not draft.questions:
        return ()
    ours = _slots(draft.target, lambda key: key not in draft.steps)
    theirs = _slots(draft.source, lambda key: key not in draft.used and key not in draft.dropped)
    still_open = filter(None, (_still_open(draft, question) for question in draft.questions))
    return tuple(_Asked(draft, question, theirs, ours).finished() for question in still_open)


def _still_open(draft: Draft, question: Question) -> Question | None:
    """What of a question is not decided by now: slots in the names of TF1 are asked about, and then follow."""
    targets = tuple(key for key in question.targets if key not in draft.steps)
    sources = tuple(key for key in question.sources if key not in draft.used and key not in draft.dropped)
    return replace(question, targets=targets, sources=sources) if targets and sources else None


@dataclass(frozen=True, slots=True)
class _Asked:
    draft: Draft
    question: Question
    theirs: _Slots
    ours: _Slots

    def finished(self) -> Question:
        question, answers = self.question, self.question.answers
        targets, sources = _with_slots(question.targets, self.ours), _with_slots(question.sources, self.theirs)
        found = self.narrowed(answers.hypotheses, frozenset(targets), frozenset(sources))
        # Where all ways are listed, those that say nothing are none.
        ways = len(found) if 0 < answers.ways <= len(answers.hypotheses) else answers.ways
        if not found:
            some = of_keys(self.draft.source, self.draft.target, question.sources, question.targets)
            found, ways = self.narrowed(some.hypotheses, frozenset(targets), frozenset(sources)), 0
        ways = ways if ways < _COUNTED else 0
        return Question(targets, sources, question.reason, Answers(found, ways, answers.missing))

    def narrowed(
        self, hypotheses: Iterable[Hypothesis], targets: frozenset[Key], sources: frozenset[Key]
    ) -> tuple[Hypothesis, ...]:
        """What answers say of what is asked, and of the slots of that; those that say something, each once."""
        found: dict[object, Hypothesis] = {}
        for each in hypotheses:
            leads = [lead for lead in each.leads if lead.target in targets and sources.issuperset(lead.sources)]
            made = {lead.target: lead for lead in (*leads, *(slot for lead in leads for slot in self.slots_of(lead)))}
            used = {key for lead in made.values() for key in lead.sources}
            new = [key for key in _with_slots(each.new, self.ours) if key in targets and key not in made]
            gone = [key for key in _with_slots(each.gone, self.theirs) if key in sources and key not in used]
            if made or new or gone:
                said = frozenset(made.values()), frozenset(new), frozenset(gone)
                found.setdefault(said, replace(each, leads=tuple(made.values()), new=tuple(new), gone=tuple(gone)))
        return tuple(found.values())

    def slots_of(self, lead: Lead) -> Iterator[Lead]:
        """What the slots of a variable would be made of."""
        theirs = [self.theirs.get(key, {}) for key in lead.sources]
        for kind, target in self.ours.get(lead.target, {}).items():
            if all(kind in slots for slots in theirs):
                slot = moved_slot(self.draft, lead, kind, Lead(target, tuple(slots[kind] for slots in theirs)))
                if slot is not None:
                    yield slot


def _slots(graph: ObjectGraph, is_open: Callable[[Key], bool]) -> _Slots:
    slots: dict[Key, dict[str, Key]] = {}
    for key, (owner, kind) in graph.slot_owner.items():
        if is_open(key):
            slots.setdefault(owner, {})[kind] = key
    return slots


def _with_slots(keys: Iterable[Key], slots: _Slots) -> tuple[Key, ...]:
    given = tuple(keys)
    return tuple(dict.fromkeys((*given, *(slot for key in given for slot in slots.get(key, {}).values()))))


def proposals(draft: Draft) -> tuple[tuple[Key, ...], ...]:
    """The targets that are proposed, in groups that were found together: one nod is for all of a group."""
    proposed = {key: draft.steps[key] for key in draft.target.specs if _is_proposed(draft.steps.get(key))}
    group_of: dict[Key, object] = {key: number for number, keys in enumerate(draft.proposed) for key in keys}
    groups: dict[object, list[Key]] = {}
    for key, step in proposed.items():
        owner, _ = draft.target.slot_owner.get(key, (None, ""))
        if owner in proposed:
            continue
        # What slots follow is said in the first line of their evidence; what makes it doubtful behind it.
        apart = ("", step.evidence[1:]) if owner is not None else (_place(draft, step), step.evidence)
        groups.setdefault(group_of.get(key, apart), []).append(key)
    slots = _slots(draft.target, proposed.__contains__)
    return tuple(_with_slots(keys, slots) for keys in groups.values())


def _is_proposed(step: Step | None) -> bool:
    return step is not None and step.status == "proposed"


def _place(draft: Draft, step: Step) -> tuple[str, ...]:
    """Where a step's ends are, but for the numbers of blocks."""
    ends = (draft.target.say_key(step.target), *map(draft.source.say_key, step.sources))
    return tuple(re.sub(r"\d+", "#", end.rpartition("/")[0]) for end in ends)
