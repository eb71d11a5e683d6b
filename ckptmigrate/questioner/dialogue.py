"""The loop: ask what decides most, write the answer down as rules, match again, until nothing is open."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal, Protocol

from ckptmigrate.errors import CkptMigrateError, Problems
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.matching import Hypothesis, Matching
from ckptmigrate.questioner.asked import Asked, Kind, asked_of, otherwise
from ckptmigrate.questioner.file import AnswerFile
from ckptmigrate.questioner.statements import Claimed, claims_of, say
from ckptmigrate.rules import Rulebook
from ckptmigrate.spec import Key

Reply = Hypothesis | Literal["no", "skip", "stop"]
"""An answer; or that none of them is right; or that it stays open; or that all of the rest does."""

Match = Callable[[Rulebook], Matching]
"""Matches two graphs with what else is known and with answers."""


class Asker(Protocol):
    """Who answers."""

    def ask(self, asked: Asked, *, left: int) -> Reply:
        """Answer one thing; `left` more are open."""

    def tell(self, text: str) -> None:
        """Take note of what became of an answer."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a dialogue led to.

    Attributes:
        matching: The matching with all answers.
        file: The file with all answers.
        answered: How many there were.
    """

    matching: Matching
    file: AnswerFile
    answered: int


def ask_all(
    source: ObjectGraph,
    target: ObjectGraph,
    match: Match,
    asker: Asker,
    file: AnswerFile,
    *,
    keep: Callable[[AnswerFile], None] = lambda _: None,
    taken: AbstractSet[str] = frozenset(),
) -> Outcome:
    """Ask until nothing is open but what stays so.

    Args:
        source: The graph of the source.
        target: The graph of the target.
        match: How the two are matched with the answers so far.
        asker: Who answers.
        file: The answers there are already, which nothing is asked of again.
        keep: Called with the file after each answer, before anything else is asked.
        taken: The kinds of what is not asked, because all of it is taken without a word.

    Raises:
        RuleError: The answers that there are do not fit the two graphs; `Problems` if in several ways.
    """
    matching, answered = match(file.rules), 0
    writer = _Writer(source, target, match)
    passed: set[tuple[Kind, Key]] = set()
    while True:
        waiting = [
            each for each in asked_of(matching, source, target) if each.kind not in taken and not each.waiting <= passed
        ]
        if not waiting:
            break
        asked = waiting[0]
        reply = asker.ask(asked, left=len(waiting) - 1)
        if reply == "no" and asked.kind in ("question", "proposal"):
            reply = asker.ask(otherwise(asked, matching, source, target), left=len(waiting) - 1)
        if reply == "stop":
            break
        if isinstance(reply, str):
            passed |= asked.waiting
            continue
        try:
            noted = writer.note(reply, asked, file)
        except (CkptMigrateError, Problems) as error:
            asker.tell(f"This cannot be said with rules, and stays open: {error}")
            passed |= asked.waiting
            continue
        if noted.unsaid:
            names = ", ".join(sorted(noted.unsaid)[:_NAMED])
            asker.tell(f"No rule can say it of {len(noted.unsaid)} of these, which no path leads to: {names}")
            passed |= {(asked.kind, key) for key in noted.unsaid}
        if noted.rules:
            file, matching = noted.file, noted.matching
            answered += 1
            keep(file)
            asker.tell(f"{len(noted.rules)} {'rule' if len(noted.rules) == 1 else 'rules'} added to {file.name}")
    return Outcome(matching, file, answered)


_NAMED = 3
"""So many tensors are named where several are told."""


@dataclass(frozen=True, slots=True)
class _Noted:
    """An answer as rules in the file, what they lead to, and what of the answer they could not say."""

    file: AnswerFile
    matching: Matching
    rules: Rulebook
    unsaid: frozenset[Key]


@dataclass(frozen=True, slots=True)
class _Writer:
    source: ObjectGraph
    target: ObjectGraph
    match: Match

    def note(self, answer: Hypothesis, asked: Asked, file: AnswerFile) -> _Noted:
        """Write an answer as rules: what it says of variables, then of slots that do not follow by themselves."""
        slots = self.source.slot_owner.keys() | self.target.slot_owner.keys()
        comments = f"{asked.kind}: {asked.question.reason}", f"answer: {answer.text}"
        rules: Rulebook = ()
        waiting = frozenset(key for claimed in claims_of(answer) if (key := _subject(claimed)) not in slots)
        for _ in range(2):
            # The function is called before the set changes again.
            more = say(answer, self.source, self.target, only=lambda each: _subject(each) in waiting, beside=rules)  # noqa: B023
            rules = (*rules, *more)
            added = file.added(rules, comments) if rules else file
            matching = self.match(added.rules)
            waiting = _open(answer, matching, slots)
            if not waiting:
                break
        return _Noted(added, matching, rules, waiting)


def _subject(claimed: Claimed) -> Key:
    """The target of a claim; of what is gone, the source."""
    sources, target, _ = claimed
    return sources[0] if target is None else target


def _open(answer: Hypothesis, matching: Matching, slots: AbstractSet[Key]) -> frozenset[Key]:
    """What of an answer a matching does not follow yet. Of slots it need not be the letter: they follow variables."""
    steps = {step.target: step for step in matching.steps if step.status != "proposed"}
    dropped = {drop.source for drop in matching.dropped}
    found: set[Key] = set()
    for sources, target, operations in claims_of(answer):
        if target is None:
            found.update(key for key in sources if key not in dropped)
            continue
        step = steps.get(target)
        if step is None or (target not in slots and (step.sources, step.ops) != (sources, operations)):
            found.add(target)
    return frozenset(found)
