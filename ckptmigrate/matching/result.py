"""What matching says: how each target tensor is made, what is open, and what leads nowhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Self

from ckptmigrate.matching.confidence import Caveat, confidence_of
from ckptmigrate.ops import Op
from ckptmigrate.spec import Key

Status = Literal["exact", "rule", "certain", "proposed", "initial"]
"""Why a step is in the plan. All but ``proposed`` apply without anyone's word."""


@dataclass(frozen=True, slots=True)
class Step:
    """One target tensor and how it is made.

    Attributes:
        target: Its key.
        sources: The keys its values come from; none where they come from nowhere.
        ops: What happens to the values on the way, in order.
        status: Why the step is there.
        confidence: From 0 to 1; 1 for what is not a matter of evidence.
        evidence: The reasons, in words.
        caveat: What keeps it from being certain, where that is known: a plan that was read says it in words only.
    """

    target: Key
    sources: tuple[Key, ...]
    ops: tuple[Op, ...]
    status: Status
    confidence: float
    evidence: tuple[str, ...]
    caveat: Caveat | None = field(default=None, compare=False)

    @classmethod
    def proposed(
        cls, target: Key, sources: tuple[Key, ...], ops: tuple[Op, ...], caveat: Caveat, evidence: tuple[str, ...]
    ) -> Self:
        """A step that waits for a yes."""
        return cls(target, sources, ops, "proposed", confidence_of(caveat), evidence, caveat)


@dataclass(frozen=True, slots=True)
class Lead:
    """What one target tensor would be made of.

    Attributes:
        target: Its key.
        sources: The keys its values would come from, in the order that `ops` take them.
        ops: What would happen to the values on the way.
    """

    target: Key
    sources: tuple[Key, ...]
    ops: tuple[Op, ...] = ()


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One answer that a question may have. It may leave part of the question open.

    Attributes:
        text: The answer, in words.
        leads: What would be made of what.
        new: Targets that nothing would lead to: they start with the template's values.
        gone: Sources that would lead nowhere: they are dropped.
        evidence: What speaks for it, and against it.
    """

    text: str
    leads: tuple[Lead, ...]
    new: tuple[Key, ...] = ()
    gone: tuple[Key, ...] = ()
    evidence: tuple[str, ...] = ()

    @property
    def decides(self) -> tuple[Key, ...]:
        """The targets that it decides on."""
        return (*(lead.target for lead in self.leads), *self.new)


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known of the answers that a question may have.

    Attributes:
        hypotheses: Those that are listed, the likeliest first. Where there are too many ways, some decide a part.
        ways: How many ways there are to answer all of it; 0 where they are not counted.
        missing: The evidence that would decide, in words.
    """

    hypotheses: tuple[Hypothesis, ...] = ()
    ways: int = 0
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """Tensors that could be paired in several ways, or by nothing better than their position.

    Attributes:
        targets: Keys that wait for the answer.
        sources: Keys that one of them may be made of.
        reason: Why it is not decided.
        answers: The answers there are to choose from, and what would decide.
    """

    targets: tuple[Key, ...]
    sources: tuple[Key, ...]
    reason: str
    answers: Answers = Answers()

    @property
    def hypotheses(self) -> tuple[Hypothesis, ...]:
        """The answers that are listed, the likeliest first."""
        return self.answers.hypotheses

    @property
    def decides(self) -> tuple[Key, ...]:
        """The targets that one answer decides on, if it is the one that decides most."""
        return max((hypothesis.decides for hypothesis in self.hypotheses), key=len, default=self.targets)


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A tensor of one side that nothing leads to or from, with what is known of the reason."""

    key: Key
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Drop:
    """A source tensor whose values go nowhere, and who says so."""

    source: Key
    rule: str


@dataclass(frozen=True, slots=True)
class Matching:
    """All of it: each target tensor is in a step, a question or unmatched; each source tensor too, or dropped.

    Attributes:
        steps: How target tensors are made, in the order of the target's keys.
        questions: What a person has to answer.
        unmatched_source: What leads nowhere.
        unmatched_target: What nothing leads to.
        dropped: Whose values go nowhere, because somebody or something says so.
        proposals: The targets of steps that are proposed, in groups that were found together.
        notes: What was inferred and does not hold, in words.
    """

    steps: tuple[Step, ...]
    questions: tuple[Question, ...]
    unmatched_source: tuple[Unmatched, ...]
    unmatched_target: tuple[Unmatched, ...]
    dropped: tuple[Drop, ...]
    proposals: tuple[tuple[Key, ...], ...] = ()
    notes: tuple[str, ...] = ()
