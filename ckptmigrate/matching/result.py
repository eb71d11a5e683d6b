"""What matching says: how each target tensor is made, what is open, and what leads nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    """

    target: Key
    sources: tuple[Key, ...]
    ops: tuple[Op, ...]
    status: Status
    confidence: float
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """Tensors that could be paired in several ways, or by nothing better than their position.

    Attributes:
        targets: Keys that wait for the answer.
        sources: Keys that one of them may be made of.
        reason: Why it is not decided, and what would decide it.
        hypotheses: The answers there are to choose from, in words; empty where they are not listed.
    """

    targets: tuple[Key, ...]
    sources: tuple[Key, ...]
    reason: str
    hypotheses: tuple[str, ...] = ()


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
    """All of it: each target tensor is in a step, a question or unmatched; each source tensor too, or dropped."""

    steps: tuple[Step, ...]
    questions: tuple[Question, ...]
    unmatched_source: tuple[Unmatched, ...]
    unmatched_target: tuple[Unmatched, ...]
    dropped: tuple[Drop, ...]
