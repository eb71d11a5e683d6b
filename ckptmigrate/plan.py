"""The plan: every step from a source to a target, as a value that a person reads and a program applies.

A plan is made once, read, kept, and applied as it is; `apply` finds nothing out by itself. It is bound
to its source and target by fingerprints, and it is checked against them again before a byte is written,
so a plan that was edited by hand cannot do harm.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ckptmigrate import notation, ops
from ckptmigrate.bundle import Bundle
from ckptmigrate.errors import CkptMigrateError, OperationError, PlanError, raise_all
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.matching import (
    Answers,
    Contents,
    Drop,
    Hypothesis,
    Lead,
    Matching,
    Question,
    Status,
    Step,
    Unmatched,
    match_graphs,
)
from ckptmigrate.ops import Fill, Part, Slice
from ckptmigrate.rules import Rulebook
from ckptmigrate.spec import Key, TensorSpec, fits

SCHEMA = "ckptmigrate.plan/1"

_SHOWN = 20
"""So many problems are told one by one; the rest are counted."""


class OpenPlanError(PlanError):
    """A plan that a person has not finished: questions are open, or tensors lead nowhere."""

    exit_status = 1


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a plan.

    Attributes:
        prefix: The bundle's prefix.
        fingerprint: ``sha256:...`` over its index, the sizes of its data files, and its graph.
        factory: Where the bundle is the template of a live model: ``module:factory``; else empty.
    """

    prefix: str
    fingerprint: str
    factory: str = ""

    @classmethod
    def of(cls, bundle: Bundle, factory: str = "") -> Endpoint:
        """The end that a bundle is, at its absolute place: a plan is applied from anywhere."""
        return cls(os.path.abspath(bundle.prefix), bundle.fingerprint, factory)  # noqa: PTH100  # a prefix is no path


@dataclass(frozen=True, slots=True)
class Plan:
    """All that leads from a source to a target.

    Attributes:
        source: Where values come from.
        target: The layout of the new model's checkpoint, with its fresh initial values.
        steps: How each target tensor is made, in the order of the target's keys.
        ambiguous: What a person has to answer before the plan can be applied.
        unmatched_source: Source tensors that nothing uses and nobody dropped.
        unmatched_target: Target tensors that nothing makes.
        dropped: Source tensors whose values go nowhere, each with who says so.
    """

    source: Endpoint
    target: Endpoint
    steps: tuple[Step, ...]
    ambiguous: tuple[Question, ...] = ()
    unmatched_source: tuple[Unmatched, ...] = ()
    unmatched_target: tuple[Unmatched, ...] = ()
    dropped: tuple[Drop, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether it can be applied: nothing is asked, proposed, or left over."""
        return not (
            self.ambiguous
            or self.unmatched_source
            or self.unmatched_target
            or any(step.status == "proposed" for step in self.steps)
        )

    @property
    def digest(self) -> str:
        """``sha256:...`` of the plan's JSON: two plans with one digest do the same."""
        return f"sha256:{hashlib.sha256(self.to_json()).hexdigest()}"

    def counts(self) -> dict[str, int]:
        """How many steps there are of each status, in the order exact, rule, certain, proposed, initial."""
        found = Counter(step.status for step in self.steps)
        return {status: found[status] for status in ("exact", "rule", "certain", "proposed", "initial")}

    def to_json(self) -> bytes:
        """The plan as ``ckptmigrate.plan/1``, indented, the same bytes for the same plan."""
        # Drops have the fields of the schema, in its order; operations, and what made a step, do not.
        data = {
            "schema": SCHEMA,
            "source": _endpoint_data(self.source),
            "target": _endpoint_data(self.target),
            "steps": list(map(_step_data, self.steps)),
            "ambiguous": [_question_data(question) for question in self.ambiguous],
            "unmatched_source": [unmatched.key for unmatched in self.unmatched_source],
            "unmatched_target": [unmatched.key for unmatched in self.unmatched_target],
            "dropped": self.dropped,
            "reasons": {
                "source": {unmatched.key: unmatched.reason for unmatched in self.unmatched_source if unmatched.reason},
                "target": {unmatched.key: unmatched.reason for unmatched in self.unmatched_target if unmatched.reason},
            },
        }
        try:
            text = msgspec.json.encode(data)
        except UnicodeEncodeError as error:
            raise PlanError(
                "a key is not UTF-8 text, and a plan holds no other",
                f"{self.source.prefix}, {self.target.prefix}",
                got=repr(error.object),
                hint="Save the checkpoint with names that are text",
            ) from error
        return msgspec.json.format(text, indent=1) + b"\n"

    @classmethod
    def from_json(cls, text: bytes, *, where: str) -> Plan:
        """Read a plan.

        Args:
            text: The file's bytes.
            where: The file's name, for messages.

        Raises:
            PlanError: It is no plan of this schema; `Problems` if several operations cannot be read.
        """
        wire = _decode(text, where)
        problems: list[CkptMigrateError] = []
        steps = tuple(
            Step(
                step.target,
                step.sources,
                _operations(step.ops, f"{where} steps[{number}].ops", problems) if step.ops else (),
                step.status,
                step.confidence,
                step.evidence,
            )
            for number, step in enumerate(wire.steps)
        )
        questions = tuple(
            _question(item, f"{where} ambiguous[{number}]", problems) for number, item in enumerate(wire.ambiguous)
        )
        raise_all(f"{where}: not a plan", problems[:_SHOWN])
        reasons = wire.reasons
        return cls(
            Endpoint(wire.source.prefix, wire.source.fingerprint, wire.source.factory),
            Endpoint(wire.target.prefix, wire.target.fingerprint, wire.target.factory),
            steps,
            questions,
            tuple(Unmatched(key, reasons.get("source", {}).get(key, "")) for key in wire.unmatched_source),
            tuple(Unmatched(key, reasons.get("target", {}).get(key, "")) for key in wire.unmatched_target),
            tuple(Drop(item.source, item.rule) for item in wire.dropped),
        )


def make_plan(
    source: Endpoint,
    target: Endpoint,
    matching: Matching,
    *,
    init_new: bool = False,
    drop_unused: bool = False,
    yes_proposed: bool = False,
) -> Plan:
    """A plan from what matching says and what a person allows for all of the rest at once.

    Args:
        source: Where values come from.
        target: The new model's layout.
        matching: The pairs, questions and leftovers of the two graphs.
        init_new: Targets that nothing leads to keep the template's values.
        drop_unused: Sources that lead nowhere are dropped, each listed.
        yes_proposed: What is proposed is taken.

    Returns:
        The plan. Questions stay open whatever is allowed: neither option answers them.
    """
    steps = list(matching.steps)
    unmatched_source, unmatched_target, dropped = matching.unmatched_source, matching.unmatched_target, matching.dropped
    if yes_proposed:
        steps = [
            replace(step, status="certain", evidence=(*step.evidence, "taken by --yes-proposed"))
            if step.status == "proposed"
            else step
            for step in steps
        ]
    if init_new:
        steps += [
            Step(item.key, (), (Fill("template"),), "initial", 1.0, ("nothing leads to it; taken by --init-new",))
            for item in unmatched_target
        ]
        unmatched_target = ()
    if drop_unused:
        dropped = (*dropped, *(Drop(item.key, "--drop-unused") for item in unmatched_source))
        unmatched_source = ()
    steps.sort(key=lambda step: _byte_order(step.target))
    return Plan(source, target, tuple(steps), matching.questions, unmatched_source, unmatched_target, dropped)


def plan_bundles(
    source: Bundle,
    target: Bundle,
    rulebook: Rulebook = (),
    *,
    factory: str = "",
    init_new: bool = False,
    drop_unused: bool = False,
    yes_proposed: bool = False,
) -> Plan:
    """Find what leads from one bundle to another.

    Args:
        source: Where values come from.
        target: A checkpoint of the new model; for a live model its template.
        rulebook: What a person states.
        factory: Where the target is a template: the factory of its model.
        init_new: As in `make_plan`.
        drop_unused: As in `make_plan`.
        yes_proposed: As in `make_plan`.

    Raises:
        RuleError: A rule does not fit; `Problems` if several do not.
        GraphError: A bundle's object graph is damaged.
    """
    graphs = ObjectGraph.from_bundle(source), ObjectGraph.from_bundle(target)
    matching = match_graphs(*graphs, rulebook, Contents.of(source, target))
    return make_plan(
        Endpoint.of(source),
        Endpoint.of(target, factory),
        matching,
        init_new=init_new,
        drop_unused=drop_unused,
        yes_proposed=yes_proposed,
    )


def check_plan(
    plan: Plan, source_specs: Mapping[Key, TensorSpec], target_specs: Mapping[Key, TensorSpec], *, where: str
) -> None:
    """Check a plan against the specs of its two ends; shapes are proven, no value is read.

    Args:
        plan: The plan, as read from a file that anyone may have edited.
        source_specs: The source's tensors but its graph.
        target_specs: The target's tensors but its graph.
        where: The plan's name, for messages.

    Raises:
        OpenPlanError: Questions are open, or tensors lead nowhere.
        PlanError: The plan does not fit; `Problems` if in several ways.
    """
    problems = [*_misfits(plan, source_specs, target_specs, where)]
    if len(problems) > _SHOWN:
        rest = len(problems) - _SHOWN
        problems = [*problems[:_SHOWN], PlanError(f"{rest} more steps do not fit", where)]
    if not problems:
        problems.extend(open_ends(plan, where))
    raise_all(f"{where}: the plan cannot be applied", problems)


def open_ends(plan: Plan, where: str) -> Iterator[OpenPlanError]:
    """What of a plan a person has not finished yet, as errors."""
    proposed = sum(step.status == "proposed" for step in plan.steps)
    for count, what, hint in (
        (len(plan.ambiguous), "questions are open", "Answer them with rules (`plan --rules`)"),
        (proposed, "proposed steps wait for a yes", "Look at them, then plan again with --yes-proposed, or with rules"),
        (
            len(plan.unmatched_target),
            "targets have no origin",
            "Write rules for them, or plan with --init-new to keep the template's values",
        ),
        (
            len(plan.unmatched_source),
            "sources lead nowhere",
            "Write rules for them, or plan with --drop-unused to leave them behind",
        ),
    ):
        if count:
            yield OpenPlanError(what, where, expected="none (a plan to apply)", got=str(count), hint=hint)


def _misfits(
    plan: Plan, source_specs: Mapping[Key, TensorSpec], target_specs: Mapping[Key, TensorSpec], where: str
) -> Iterator[CkptMigrateError]:
    for number, step in enumerate(plan.steps):
        if not _is_plain(step, source_specs, target_specs):
            yield from _step_misfits(step, f"{where} steps[{number}]", source_specs, target_specs)
    yield from _target_misfits(plan, target_specs, where)
    yield from _source_misfits(plan, source_specs, where)


def _is_plain(step: Step, source_specs: Mapping[Key, TensorSpec], target_specs: Mapping[Key, TensorSpec]) -> bool:
    """Whether it fits because nothing happens on the way: most steps of most plans, and there can be many."""
    if step.ops or len(step.sources) != 1:
        return False
    spec = source_specs.get(step.sources[0])
    wanted = target_specs.get(step.target)
    return spec is not None and wanted is not None and fits(step.target, spec, wanted)


def _target_misfits(plan: Plan, target_specs: Mapping[Key, TensorSpec], where: str) -> Iterator[CkptMigrateError]:
    made = Counter(step.target for step in plan.steps)
    for key, count in made.items():
        if count > 1:
            yield PlanError("target made twice", f"{where} `{key}`", expected="one step", got=f"{count} steps")
    open_targets = {item.key for item in plan.unmatched_target}
    open_targets.update(key for question in plan.ambiguous for key in question.targets)
    for key in target_specs:
        if key not in made and key not in open_targets:
            yield PlanError("target without a step", f"{where} `{key}`", expected="one step", got="none")


def _source_misfits(plan: Plan, source_specs: Mapping[Key, TensorSpec], where: str) -> Iterator[CkptMigrateError]:
    used = Counter(key for step in plan.steps for key in step.sources)
    # Only a rule can say that a copy is meant. What takes a part is no copy.
    meant = Counter(key for step in plan.steps if step.status == "rule" or _takes_part(step) for key in step.sources)
    dropped = {drop.source for drop in plan.dropped}
    open_sources = {item.key for item in plan.unmatched_source}
    open_sources.update(key for question in plan.ambiguous for key in question.sources)
    for key, count in used.items():
        if count > 1 and meant[key] < count:
            yield PlanError("source used twice", f"{where} `{key}`", expected="one step", got=f"{count} steps")
        if key in dropped:
            yield PlanError("source used and dropped", f"{where} `{key}`", expected="one of the two")
    for key in sorted(dropped - source_specs.keys()):
        yield PlanError("dropped source is not there", f"{where} `{key}`", expected="a key of the source")
    for key in source_specs:
        if key not in used and key not in dropped and key not in open_sources:
            yield PlanError(
                "source neither used nor dropped", f"{where} `{key}`", expected="a step, or an entry in `dropped`"
            )


def _takes_part(step: Step) -> bool:
    return any(isinstance(operation, Part | Slice) for operation in step.ops)


def _step_misfits(
    step: Step, place: str, source_specs: Mapping[Key, TensorSpec], target_specs: Mapping[Key, TensorSpec]
) -> Iterator[CkptMigrateError]:
    wanted = target_specs.get(step.target)
    if wanted is None:
        yield PlanError("no such target", place, expected="a key of the target", got=f"`{step.target}`")
    missing = [key for key in step.sources if key not in source_specs]
    for key in missing:
        yield PlanError("no such source", place, expected="a key of the source", got=f"`{key}`")
    if wanted is None or missing:
        return
    fills = any(isinstance(operation, Fill) for operation in step.ops)
    if fills != (not step.sources) or (fills and len(step.ops) != 1):
        yield PlanError(
            "step without an origin" if not step.sources else "step with two origins",
            place,
            expected="one source, or none and `init` as the only operation",
            got=f"{len(step.sources)} sources and {len(step.ops)} operations",
        )
        return
    specs = (wanted,) if fills else tuple(source_specs[key] for key in step.sources)
    try:
        for operation in step.ops:
            specs = operation.infer(specs)
    except OperationError as error:
        yield PlanError(error.what, place, expected=error.expected, got=error.got, hint=error.hint)
        return
    if len(specs) != 1 or not fits(step.target, specs[0], wanted):
        yield PlanError(
            "the step does not come out",
            place,
            expected=f"{wanted} (target `{step.target}`)",
            got=f"{', '.join(map(str, specs))} (sources after the operations)",
            hint="Make the plan again",
        )


def _byte_order(key: Key) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _endpoint_data(end: Endpoint) -> dict[str, str]:
    factory = {"factory": end.factory} if end.factory else {}
    return {"prefix": end.prefix, "fingerprint": end.fingerprint, **factory}


def _step_data(step: Step) -> dict[str, Any]:
    return {
        "target": step.target,
        "sources": step.sources,
        "ops": [notation.to_data(operation) for operation in step.ops],
        "status": step.status,
        "confidence": step.confidence,
        "evidence": step.evidence,
    }


def _question_data(question: Question) -> dict[str, Any]:
    return {
        "targets": question.targets,
        "sources": question.sources,
        "reason": question.reason,
        "hypotheses": [
            {
                "text": hypothesis.text,
                "leads": [
                    {
                        "target": lead.target,
                        "sources": lead.sources,
                        "ops": [notation.to_data(operation) for operation in lead.ops],
                    }
                    for lead in hypothesis.leads
                ],
                "new": hypothesis.new,
                "gone": hypothesis.gone,
                "evidence": hypothesis.evidence,
            }
            for hypothesis in question.hypotheses
        ],
        "ways": question.answers.ways,
        "missing": question.answers.missing,
    }


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""How msgspec says that bytes are not JSON, no UTF-8, or nested without end."""


def _decode(text: bytes, where: str) -> _Wire:
    try:
        wire = msgspec.json.decode(text, type=_Wire)
    except _UNREADABLE as error:
        # A plan of another version may well have other fields: its version is what to tell of it.
        with contextlib.suppress(*_UNREADABLE):
            _check_schema(msgspec.json.decode(text, type=_Head).schema, where)
        reason, _, place = str(error).partition(" - at `$")
        raise PlanError(
            "not a plan",
            f"{where}{' ' + place.rstrip('`') if place else ''}",
            expected=f"JSON as `{SCHEMA}` defines it",
            got=reason,
            hint="Make the plan again with `ckptmigrate plan`",
        ) from error
    _check_schema(wire.schema, where)
    return wire


def _check_schema(schema: str, where: str) -> None:
    if schema != SCHEMA:
        raise PlanError(
            "unknown schema",
            where,
            expected=f"`{SCHEMA}` (this version)",
            got=f"`{schema}` (the file)",
            hint="Make the plan again with this version",
        )


def _operations(data: list[Any], where: str, problems: list[CkptMigrateError]) -> tuple[ops.Op, ...]:
    read: list[ops.Op] = []
    for item in data:
        try:
            read.append(notation.from_data(item, where))
        except CkptMigrateError as error:
            problems.append(error)
        except ExceptionGroup as group:
            problems.extend(error for error in group.exceptions if isinstance(error, CkptMigrateError))
    return tuple(read)


def _question(wire: _QuestionWire, where: str, problems: list[CkptMigrateError]) -> Question:
    hypotheses = tuple(
        Hypothesis(
            item.text,
            tuple(
                Lead(lead.target, lead.sources, _operations(lead.ops, f"{where}.hypotheses", problems))
                for lead in item.leads
            ),
            item.new,
            item.gone,
            item.evidence,
        )
        for item in wire.hypotheses
    )
    return Question(wire.targets, wire.sources, wire.reason, Answers(hypotheses, wire.ways, wire.missing))


# The file as msgspec validates it. Unknown words are refused: in a file edited by hand they are typing errors.


class _Head(msgspec.Struct):
    schema: str


class _EndpointWire(msgspec.Struct, forbid_unknown_fields=True):
    prefix: str
    fingerprint: str
    factory: str = ""


class _StepWire(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    target: Key
    sources: tuple[Key, ...]
    ops: list[Any]
    status: Status
    confidence: float
    evidence: tuple[str, ...]


class _LeadWire(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    target: Key
    sources: tuple[Key, ...]
    ops: list[Any] = []


class _HypothesisWire(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    leads: list[_LeadWire]
    new: tuple[Key, ...] = ()
    gone: tuple[Key, ...] = ()
    evidence: tuple[str, ...] = ()


class _QuestionWire(msgspec.Struct, forbid_unknown_fields=True):
    targets: tuple[Key, ...]
    sources: tuple[Key, ...]
    reason: str
    hypotheses: list[_HypothesisWire]
    ways: int = 0
    missing: str = ""


class _DropWire(msgspec.Struct, forbid_unknown_fields=True):
    source: Key
    rule: str


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    schema: str
    source: _EndpointWire
    target: _EndpointWire
    steps: list[_StepWire]
    ambiguous: list[_QuestionWire]
    unmatched_source: list[Key]
    unmatched_target: list[Key]
    dropped: list[_DropWire]
    reasons: dict[str, dict[str, str]] = {}
