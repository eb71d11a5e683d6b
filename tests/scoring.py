"""What a matching says of a case, held against the truth."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from refactorings import Case, Origin

from ckptmigrate import Matching, ObjectGraph
from ckptmigrate.matching import Step
from ckptmigrate.matching.confidence import Caveat
from ckptmigrate.ops import Cast, Fill, Resize
from ckptmigrate.spec import Key
from ckptmigrate.verify.reference import apply_reference

DECIDED = ("exact", "certain", "initial")
"""The statuses that apply without anyone's word, where there are no rules."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a matching says of one target.

    Attributes:
        target: Its key.
        template: Its path without the numbers of blocks, and a slot's as its variable's: these are decided together.
        status: The step's, or ``question``, or ``unmatched``.
        confidence: The step's; 0 without one.
        is_right: Whether the step's values come from where they have to; None without a step.
        undecidable: Why nobody can know; empty if one can.
        is_new: Whether it truly has no source.
        problem: What is wrong, in words; empty if nothing is.
        caveat: What keeps the step from being certain, if anything does.
    """

    target: Key
    template: str
    status: str
    confidence: float
    is_right: bool | None
    undecidable: str
    is_new: bool
    problem: str = ""
    caveat: Caveat | None = None

    @property
    def is_decided(self) -> bool:
        return self.status in DECIDED

    @property
    def is_failure(self) -> bool:
        """Whether it was decided, and wrongly, or where it cannot be."""
        return self.is_decided and bool(self.problem)


def judge(case: Case, matching: Matching) -> list[Finding]:
    """A finding for every target that has a right answer."""
    steps = {step.target: step for step in matching.steps}
    asked = {key: question for question in matching.questions for key in question.targets}
    found = []
    for key, truth in case.truth.items():
        template = _template(case.target, key)
        why, is_new = case.undecidable.get(key, ""), not truth.sources
        step = steps.get(key)
        if step is None:
            status = "question" if key in asked else "unmatched"
            problem = ""
            if key in asked and truth.sources and not set(truth.sources) & {*asked[key].sources}:
                problem = f"the right answer is not among those asked about: {', '.join(truth.sources)}"
            found.append(Finding(key, template, status, 0.0, None, why, is_new, problem))
            continue
        problem = _problem(case, step, truth)
        is_right = not problem
        if why and step.status in DECIDED:
            problem = f"decided, though nobody can know ({why}); {problem or 'right by luck'}"
        found.append(Finding(key, template, step.status, step.confidence, is_right, why, is_new, problem, step.caveat))
    return found


def _template(graph: ObjectGraph, key: Key) -> str:
    """Layers of a functional model are one by one what they are, though they are only numbered."""
    owner = graph.slot_owner.get(key, (key, ""))[0]
    path = graph.paths[graph.node_of[owner]]
    flow = re.compile(r"layer(_with_weights)?-\d+")
    return "/".join(
        label if flow.fullmatch(label) or before == "_operations" else re.sub(r"\d+", "#", label)
        for before, label in zip(("", *path), path, strict=False)
    )


def wrong_drops(case: Case, matching: Matching) -> Iterator[Key]:
    """Sources that nobody needs any more, says the matching, and the truth uses."""
    used = {source for key, truth in case.truth.items() if key not in case.undecidable for source in truth.sources}
    made = {source for step in matching.steps for source in step.sources}
    yield from (drop.source for drop in matching.dropped if drop.source in used and drop.source not in made)


def _problem(case: Case, step: Step, truth: Origin) -> str:
    def said(sources):
        return " + ".join(sources) or "nothing"

    if {*step.sources} != {*truth.sources}:
        return f"made of {said(step.sources)}, truly of {said(truth.sources)}"
    if step.ops == truth.ops or not step.sources:
        return ""
    got, right = (_effect(case, some.sources, some.ops) for some in (step, truth))
    if got.shape == right.shape and np.array_equal(got, right):
        return ""
    did, should = (", ".join(op.describe() for op in some.ops) or "as it is" for some in (step, truth))
    return f"of {said(truth.sources)}: {did}, truly {should}"


def _effect(case: Case, sources, ops):
    """Where each element goes: what is filled in or cast is no matter."""
    arrays = []
    for source in sources:
        shape = case.source.specs[source].shape
        start = sorted(sources).index(source) * 10.0**6
        arrays.append(start + 1 + np.arange(np.prod(shape), dtype=np.float64).reshape(shape))
    plain = [replace(op, fill=0) if isinstance(op, Resize) else op for op in ops if not isinstance(op, Cast | Fill)]
    return apply_reference(plain, arrays)
