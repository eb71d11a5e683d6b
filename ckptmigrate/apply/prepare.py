"""What is looked at before anything is written: that a plan fits its two ends, and that the output may be there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from ckptmigrate.apply.layout import Layout, Side
from ckptmigrate.apply.stream import compute
from ckptmigrate.apply.tasks import specs_of
from ckptmigrate.apply.worker import Stored
from ckptmigrate.bundle import Bundle, SliceSpec, encode_strings, index_path, slice_box
from ckptmigrate.errors import CkptMigrateError, OutputError, PlanError, VocabularyError, raise_all
from ckptmigrate.ops import Vocab, infer_chain, needs_template
from ckptmigrate.plan import Endpoint, Plan, check_plan
from ckptmigrate.spec import OBJECT_GRAPH_KEY, Key, TensorSpec
from ckptmigrate.vocabulary import check_unchanged

# A prefix is text and not a path: pathlib would take a slash off its end and the dot off `./`.
# ruff: noqa: PTH112, PTH118, PTH119

_BLOCK_BYTES = 1 << 20

Strings = Mapping[tuple[int, SliceSpec | None], tuple[bytes, int]]
"""Of string tensors that are made, by step and slice: their bytes, and their CRC32C, not masked."""


@contextmanager
def open_ends(plan: Plan, where: str) -> Iterator[dict[Side, Bundle]]:
    """Open the source and the target of a plan, and check the plan against them.

    Args:
        plan: The plan.
        where: Its name, for messages.

    Raises:
        PlanError: It is not complete, or does not fit its source or target any more.
    """
    with Bundle.open(plan.source.prefix) as source, Bundle.open(plan.target.prefix) as target:
        message = f"{where}: the plan cannot be applied"
        hint = "Make the plan again"
        raise_all(
            message,
            [
                *_changed(plan.source, source.fingerprint, "source", "has changed since the plan was made", hint),
                *_changed(plan.target, target.fingerprint, "target", "has changed since the plan was made", hint),
            ],
        )
        check_plan(plan, _specs(source), _specs(target), where=where)
        raise_all(message, _changed_vocabularies(plan))
        yield {"source": source, "target": target}


def check_still_there(plan: Plan, bundles: Mapping[Side, Bundle]) -> None:
    """Check that the source and the target are what they were when they were opened.

    Raises:
        PlanError: They are not.
    """
    problems: list[CkptMigrateError] = []
    for (side, bundle), end in zip(bundles.items(), (plan.source, plan.target), strict=True):
        try:
            found = bundle.fingerprint_now()
        except (CkptMigrateError, OSError):
            found = "something else"
        hint = "Apply the plan again when nothing writes there"
        problems += _changed(end, found, side, "changed while it was read", hint)
    raise_all("what was read changed", problems)


def _specs(bundle: Bundle) -> dict[Key, TensorSpec]:
    return {key: entry.spec for key, entry in bundle.entries.items() if key != OBJECT_GRAPH_KEY}


def _changed(end: Endpoint, found: str, side: str, what: str, hint: str) -> Iterator[CkptMigrateError]:
    if found != end.fingerprint:
        yield PlanError(
            f"the {side} {what}",
            end.prefix,
            expected=f"{_short(end.fingerprint)} (plan)",
            got=f"{_short(found)} (the files)",
            hint=hint,
        )


def _changed_vocabularies(plan: Plan) -> Iterator[CkptMigrateError]:
    vocabularies = (
        vocabulary
        for step in plan.steps
        for op in step.ops
        if isinstance(op, Vocab)
        for vocabulary in (op.source, op.target)
    )
    for vocabulary in dict.fromkeys(vocabularies):
        try:
            check_unchanged(vocabulary)
        except VocabularyError as error:
            yield error


def _short(fingerprint: str) -> str:
    return fingerprint[:19] + "..." if fingerprint.startswith("sha256:") else fingerprint


def check_output(out: str, bundles: Mapping[Side, Bundle]) -> None:
    """Check that a prefix is one, and that it is neither the source nor the target.

    Raises:
        OutputError: It is not.
    """
    if not os.path.basename(out) or os.path.isdir(out):
        raise OutputError(
            "a directory, not a prefix",
            out,
            expected="a prefix: the output's files will be PREFIX.index, PREFIX.data-...",
            hint=f"Write for example `{os.path.join(out, 'ckpt')}`",
        )
    place = os.path.realpath(index_path(out))
    for side, bundle in bundles.items():
        if place == os.path.realpath(index_path(bundle.prefix)):
            raise OutputError(f"the output is the {side}", out, hint="The source is never changed; name another prefix")


def string_slices(plan: Plan, layout: Layout, bundles: Mapping[Side, Bundle]) -> Iterator[tuple[int, SliceSpec | None]]:
    """The string tensors that are made, and slices of such, by step."""
    number_of = {step.target: number for number, step in enumerate(plan.steps)} if layout.made else {}
    for step in layout.made:
        (spec,) = infer_chain(step.ops, specs_of(step, bundles))
        if spec.size_bytes is None:
            for piece in bundles["target"].entries[step.target].slices or (None,):
                yield number_of[step.target], piece


def make_strings(plan: Plan, layout: Layout, bundles: Mapping[Side, Bundle]) -> Strings:
    """Compute the string tensors of a plan: how long they are is not known before they are."""
    made: dict[tuple[int, SliceSpec | None], tuple[bytes, int]] = {}
    for number, piece in string_slices(plan, layout, bundles):
        step = plan.steps[number]
        target = bundles["target"].entries[step.target]
        specs = specs_of(step, bundles)
        for key in step.sources:
            bundles["source"].verify_crc(key)
        template = None
        if needs_template(step.ops, specs):
            bundles["target"].verify_crc(target)
            template = Stored(bundles["target"], target)
        stored = [Stored(bundles["source"], bundles["source"].entries[key]) for key in step.sources]
        box = None if piece is None else slice_box(piece, target.spec.shape)
        blocks = compute(step.ops, stored, specs, block_bytes=_BLOCK_BYTES, template=template, box=box)
        made[number, piece] = encode_strings([value for block in blocks for value in block])
    return made
