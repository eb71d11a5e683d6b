"""Checksums: whether a checkpoint holds the values that a plan, or its own index, says it holds."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping

from ckptmigrate.bundle import Bundle, Entry, SliceSpec, same_slices, slice_box
from ckptmigrate.errors import CkptMigrateError, Problems
from ckptmigrate.matching import Step
from ckptmigrate.ops import Fill, Vocab, needs_template
from ckptmigrate.plan import Plan, check_plan
from ckptmigrate.spec import OBJECT_GRAPH_KEY, Key
from ckptmigrate.verify.equality import have_equal_values
from ckptmigrate.verify.report import Check
from ckptmigrate.vocabulary import check_unchanged

_FilesOf = Mapping[Bundle, tuple[tuple[int, int], ...]]


def check_checksums(bundle: Bundle, plan: Plan | None, *, deep: bool = False) -> Check:
    """Whether values are what they should be.

    Args:
        bundle: The checkpoint.
        plan: The plan it was made by. What it leaves as it is is compared by checksum and only read where it is in
            another place than its origin; what it computes is computed again. Without a plan every tensor is read.
        deep: Every tensor is read all the same.
    """
    if plan is None:
        problems = [problem for key in bundle.entries for problem in _stored_wrongly(bundle, key)]
        return Check.of(
            "checksums",
            f"{len(bundle.entries)} tensors read, {_all_but(len(bundle.entries), len(problems))} equal to its CRC32C",
            problems,
            "The data files are damaged; take another copy",
            {"read": len(bundle.entries)},
        )
    problems = []
    sound: Counter[str] = Counter()
    with Bundle.open(plan.source.prefix) as source, Bundle.open(plan.target.prefix) as target:
        for end, opened in ((plan.source, source), (plan.target, target)):
            if end.fingerprint != opened.fingerprint:
                problems.append(f"{end.prefix} has changed since the plan was made: nothing can be compared with it")
        problems += [] if problems else _plan_problems(plan, source, target)
        files = {each: _files(each) for each in (bundle, source, target)}
        for step in () if problems else plan.steps:
            entry = bundle.entries.get(step.target)
            origin = (
                (source, source.entries[step.sources[0]]) if step.sources else (target, target.entries[step.target])
            )
            found: list[str]
            if entry is None:
                how, found = "missing", [f"`{step.target}` is missing"]
            elif (not step.ops or step.ops == (Fill("template"),)) and same_slices(entry, origin[1]):
                how, found = "unchanged", list(_moved_wrongly((bundle, entry), origin, files))
            elif not step.ops:
                how, found = "recut", list(_recut_wrongly((bundle, step.target), (source, step.sources[0])))
            else:
                how = "recomputed" if step.sources else "constant"
                found = list(_computed_wrongly(bundle, step, source, target))
            sound[how] += not found
            problems += found
    if deep:
        problems += [problem for key in bundle.entries for problem in _stored_wrongly(bundle, key)]
    return Check.of(
        "checksums",
        f"{sound['unchanged']} tensors have the CRC32C of their origin, "
        f"{sound['recomputed']} equal their operations run again"
        + (f", {sound['recut']} have its values in other slices" if sound["recut"] else "")
        + (f", {sound['constant']} hold their constant" if sound["constant"] else "")
        + (f"; all {len(bundle.entries)} were read" if deep else ""),
        dict.fromkeys(problems),
        "Do not use this checkpoint; apply the plan again",
        {**{how: sound[how] for how in ("unchanged", "recomputed", "recut", "constant")}, "deep": deep},
    )


def _all_but(count: int, failed: int) -> str:
    return f"{count - failed} of them" if failed else "each"


def _plan_problems(plan: Plan, source: Bundle, target: Bundle) -> list[str]:
    """What a plan that was edited since it was applied says that cannot be."""
    specs = [
        {key: each.entries[key].spec for key in each.entries if key != OBJECT_GRAPH_KEY} for each in (source, target)
    ]
    try:
        check_plan(plan, *specs, where="the plan")
    except Problems as group:
        return list(map(str, group.problems))
    except CkptMigrateError as error:
        return [str(error)]
    return []


def _files(bundle: Bundle) -> tuple[tuple[int, int], ...]:
    """Which file each shard is, whatever its name."""
    return tuple((found.st_dev, found.st_ino) for found in map(os.stat, bundle.shard_paths))


def _stored_wrongly(bundle: Bundle, key: Key | Entry) -> Iterator[str]:
    try:
        bundle.verify_crc(key)
    except CkptMigrateError as error:
        yield str(error)


def _moved_wrongly(moved: tuple[Bundle, Entry], origin: tuple[Bundle, Entry], files: _FilesOf) -> Iterator[str]:
    (bundle, entry), (origin_bundle, origin_entry) = moved, origin
    pieces = [
        (bundle.slice_entries[entry.key, ours], origin_bundle.slice_entries[origin_entry.key, theirs])
        for ours, theirs in zip(*map(_slices_in_order, (entry, origin_entry)), strict=True)
    ]
    for ours, theirs in [(entry, origin_entry), *pieces]:
        if (ours.spec, ours.size_bytes, ours.crc32c) != (theirs.spec, theirs.size_bytes, theirs.crc32c):
            yield (
                f"`{ours.key}`: expected {theirs.spec} with CRC32C {theirs.crc32c:#010x} (`{theirs.key}`), "
                f"got {ours.spec} with {ours.crc32c:#010x}"
            )
            continue
        # Bytes that are the origin's own, in the same file at the same place, need no reading.
        same_file = files[bundle][ours.shard] == files[origin_bundle][theirs.shard]
        if ours.size_bytes and not (same_file and ours.offset == theirs.offset):
            yield from _stored_wrongly(bundle, ours)


def _slices_in_order(entry: Entry) -> list[SliceSpec]:
    return sorted(entry.slices, key=lambda piece: slice_box(piece, entry.spec.shape))


def _recut_wrongly(made: tuple[Bundle, Key], origin: tuple[Bundle, Key]) -> Iterator[str]:
    """What is cut into other slices has other checksums, and still its values."""
    try:
        for each, key in (made, origin):
            each.verify_crc(key)
        if not have_equal_values(made, origin):
            yield f"`{made[1]}` is not `{origin[1]}`"
    except CkptMigrateError as error:
        yield str(error)


def _computed_wrongly(bundle: Bundle, step: Step, source: Bundle, target: Bundle) -> Iterator[str]:
    import numpy as np

    from ckptmigrate.verify.reference import apply_reference

    try:
        arrays = [source.read(key) for key in step.sources] or [target.read(step.target)]
        specs = tuple(source.entries[key].spec for key in step.sources) or (target.entries[step.target].spec,)
        template = target.read(step.target) if needs_template(step.ops, specs) else None
        for op in step.ops:
            for vocabulary in (op.source, op.target) if isinstance(op, Vocab) else ():
                check_unchanged(vocabulary)
        expected, got = apply_reference(step.ops, arrays, template), bundle.read(step.target)
    except CkptMigrateError as error:
        yield str(error)
        return
    same = expected.dtype == got.dtype and expected.shape == got.shape
    if same and got.dtype.hasobject:
        same = bool(np.array_equal(expected, got))
    elif same:
        # Bytes and not values: NaN equals NaN, and -0.0 is not 0.0.
        same = expected.tobytes() == got.tobytes()
    if not same:
        how = ", ".join(operation.describe() for operation in step.ops)
        yield f"`{step.target}` is not `{', '.join(step.sources)}` after {how}"
