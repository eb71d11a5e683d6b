"""What is known while two graphs are matched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ckptmigrate.dtypes import is_number
from ckptmigrate.graph import VARIABLE_ROLE, ObjectGraph
from ckptmigrate.matching.confidence import Caveat, confidence_of
from ckptmigrate.matching.contents import Contents
from ckptmigrate.matching.result import Answers, Drop, Question, Status, Step
from ckptmigrate.ops import Op
from ckptmigrate.spec import Key, fits


@dataclass(frozen=True, slots=True)
class Grounds:
    """Why something leads somewhere: the status of its steps, the evidence, and what keeps it from being certain."""

    status: Status
    evidence: str
    caveat: Caveat | None = None

    def step(self, target: Key, sources: tuple[Key, ...], ops: tuple[Op, ...] = (), *more: str) -> Step:
        """A step that is made on these grounds; `more` is evidence of its own."""
        evidence = (self.evidence, *more)
        return Step(target, sources, ops, self.status, confidence_of(self.caveat), evidence, self.caveat)


@dataclass(slots=True)
class Draft:
    """A matching on its way. It lives for one call of `match_graphs`.

    Attributes:
        source: The graph of the source.
        target: The graph of the target.
        steps: What is decided, by the target's key.
        dropped: What is dropped, by the source's key.
        used: The source's keys that a step uses.
        copied: Those of them that a rule leads to several targets: their slots go with them to each.
        objects: Source node by target node, objects as well as variables.
        source_reasons: Why a tensor of the source leads nowhere, where it is known.
        target_reasons: Why nothing leads to a tensor of the target, where it is known.
        questions: What a person has to answer.
        asked: The target's keys that wait for an answer.
        proposed: The target's keys that were proposed together, one group after the other.
        source_apart: The source's keys of what is known to be something and does not fit: for rules to lead.
        target_apart: The same of the target.
        contents: The checksums of both sides' values, if they are known, and trained ones.
        proven: The target's keys that equal bytes decided.
    """

    source: ObjectGraph
    target: ObjectGraph
    steps: dict[Key, Step] = field(default_factory=dict)
    dropped: dict[Key, Drop] = field(default_factory=dict)
    used: set[Key] = field(default_factory=set)
    copied: set[Key] = field(default_factory=set)
    objects: dict[int, int] = field(default_factory=dict)
    source_reasons: dict[Key, str] = field(default_factory=dict)
    target_reasons: dict[Key, str] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    asked: set[Key] = field(default_factory=set)
    proposed: list[tuple[Key, ...]] = field(default_factory=list)
    source_apart: set[Key] = field(default_factory=set)
    target_apart: set[Key] = field(default_factory=set)
    contents: Contents | None = None
    proven: set[Key] = field(default_factory=set)

    def step_of(self, number: int | None) -> Step | None:
        """The step that makes a target variable, by its node, if there is one."""
        key = None if number is None else self.target.nodes[number].tensors.get(VARIABLE_ROLE)
        return None if key is None else self.steps.get(key)

    def differ(self, source_key: Key, target_key: Key) -> bool:
        """Whether both sides hold the same trained values elsewhere, and not here."""
        return self.contents is not None and self.contents.differ(source_key, target_key)

    def equal(self, source_key: Key, target_key: Key, evidence: str) -> None:
        """Take a pair as exact if both are free and their specs are equal."""
        if target_key in self.steps or source_key in self.used or source_key in self.dropped:
            return
        spec, wanted = self.source.specs[source_key], self.target.specs[target_key]
        if not fits(target_key, spec, wanted):
            word = "shape" if spec.shape != wanted.shape else "dtype"
            reason = f"same path, other {word}: {spec} (source), {wanted} (target)"
            if spec.shape == wanted.shape:
                reason += self.cast_hint(source_key, target_key)
            self.target_reasons[target_key] = self.source_reasons[source_key] = reason
            return
        self.take(source_key, target_key, Grounds("exact", evidence))

    def cast_hint(self, source_key: Key, target_key: Key) -> str:
        """The rule that leads one variable to the other, where only their dtypes differ and a cast can."""
        dtypes = self.source.specs[source_key].dtype, self.target.specs[target_key].dtype
        old, new = self.source.say_key(source_key), self.target.say_key(target_key)
        if not all(map(is_number, dtypes)) or self.source.node_of.get(source_key) is None:
            return ""
        moved = "" if old == new else f'to: "{new}", '
        return f'; if it is the same, a rule says so: cast: {{from: "{old}", {moved}dtype: {dtypes[1].label}}}'

    def take(self, source_key: Key, target_key: Key, grounds: Grounds) -> None:
        """Make a target of a source as it is."""
        self.used.add(source_key)
        self.steps[target_key] = grounds.step(target_key, (source_key,))

    def release(self, target_key: Key) -> None:
        """Take a step back: its target and its sources are free again."""
        self.used.difference_update(self.steps.pop(target_key).sources)

    def ask(self, sources: Iterable[Key], targets: Iterable[Key], reason: str, answers: Answers = Answers()) -> None:  # noqa: B008  # frozen
        """Open a question, if both sides have tensors that wait for its answer."""
        waiting_targets = tuple(
            key for key in dict.fromkeys(targets) if key not in self.steps and key not in self.asked
        )
        waiting_sources = tuple(
            key for key in dict.fromkeys(sources) if key not in self.used and key not in self.dropped
        )
        if waiting_sources and waiting_targets:
            self.questions.append(Question(waiting_targets, waiting_sources, reason, answers))
            self.asked.update(waiting_targets)
