"""The levels of proof: structure, checksums, restore."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ckptmigrate.bundle import Bundle, Entry, SliceSpec, same_slices, slice_box
from ckptmigrate.errors import CkptMigrateError, Problems
from ckptmigrate.graph import ROOT, Node, ObjectGraph
from ckptmigrate.graph.template import Factory, is_factory, say_factory, write_template
from ckptmigrate.matching import Step
from ckptmigrate.ops import Fill, Vocab, needs_template
from ckptmigrate.plan import Plan, check_plan
from ckptmigrate.spec import OBJECT_GRAPH_KEY, Key, fits
from ckptmigrate.verify.report import Check, Outcome, Report
from ckptmigrate.verify.restored import compared_keys, have_equal_values, not_restored
from ckptmigrate.vocabulary import check_unchanged

_SHOWN = 10
"""So many problems are told one by one; the rest are counted."""

_FilesOf = Mapping[Bundle, tuple[tuple[int, int], ...]]


def verify_checkpoint(prefix: str, target: Factory, *, plan: Plan | None = None) -> Report:
    """Prove that a checkpoint is what its target asks for.

    Args:
        prefix: The checkpoint to prove.
        target: A bundle's prefix, or the factory of a live model (a function, or ``module:factory``).
            Only the latter runs TensorFlow.
        plan: The plan it was made by. With it, every tensor is compared with what the plan says.

    Returns:
        A report with a check for each level. Failures are in it, not raised.

    Raises:
        CkptMigrateError: A bundle cannot be read, or the model cannot be built.
    """
    with Bundle.open(prefix) as bundle, tempfile.TemporaryDirectory(prefix="ckptmigrate-") as scratch:
        checkpoint = None
        said = say_factory(target)
        if isinstance(target, str) and not is_factory(target):
            target_prefix = target
        else:
            template = write_template(target, os.path.join(scratch, "template"))  # noqa: PTH118
            checkpoint, target_prefix = template.checkpoint, template.prefix
        with Bundle.open(target_prefix) as wanted:
            checks = [_structure(bundle, wanted, plan), _checksums(bundle, plan)]
        if checkpoint is None:
            checks.append(
                Check(
                    "restore",
                    "not run",
                    f"{said} is a checkpoint, not a model",
                    hint="To restore it in TensorFlow, give the model: `--target package.module:factory`",
                )
            )
        else:
            checks.append(_restore(bundle, checkpoint, os.path.join(scratch, "restored")))  # noqa: PTH118
        return Report(prefix, said, tuple(checks))


def _check(level: str, proof: str, problems: Iterable[str], hint: str = "") -> Check:
    found = list(problems)
    shown = found[:_SHOWN]
    if len(found) > _SHOWN:
        shown.append(f"and {len(found) - _SHOWN} more")
    outcome: Outcome = "failed" if found else "passed"
    return Check(level, outcome, proof, tuple(shown), hint if found else "")


# Structure.


def _structure(bundle: Bundle, wanted: Bundle, plan: Plan | None) -> Check:
    problems = [*_tensor_differences(bundle, wanted), *_graph_differences(bundle, wanted)]
    accounted = ""
    if plan is not None:
        made = {step.target for step in plan.steps}
        problems += [f"`{key}` is in no step of the plan" for key in _tensors(bundle) if key not in made]
        used = {key for step in plan.steps for key in step.sources}
        accounted = f"; {len(used)} source tensors used, {len(plan.dropped)} dropped by name"
        if not plan.is_complete:
            problems.append("the plan has open ends")
    graph = "the graph is the target's" if OBJECT_GRAPH_KEY in wanted.entries else "neither has an object graph"
    return _check(
        "structure",
        f"{len(_tensors(wanted))} tensors as the target has them; {graph}{accounted}",
        problems,
        "The checkpoint was made for another model, or changed since: plan and apply again",
    )


def _tensors(bundle: Bundle) -> list[Key]:
    return [key for key in bundle.entries if key != OBJECT_GRAPH_KEY]


def _tensor_differences(bundle: Bundle, wanted: Bundle) -> Iterator[str]:
    for key, entry in wanted.entries.items():
        found = bundle.entries.get(key)
        if found is None:
            yield f"`{key}` is missing: expected {entry.spec} (target)"
        elif not fits(key, found.spec, entry.spec):
            yield f"`{key}`: expected {entry.spec} (target), got {found.spec} (checkpoint)"
    for key, entry in bundle.entries.items():
        if key not in wanted.entries:
            yield f"`{key}` {entry.spec} is not in the target"


def _graph_differences(bundle: Bundle, wanted: Bundle) -> Iterator[str]:
    if bundle.object_graph_bytes() == wanted.object_graph_bytes():
        return
    # A model that is built again may number its objects in another order; what matters is who holds what.
    ours, theirs = ObjectGraph.from_bundle(bundle), ObjectGraph.from_bundle(wanted)
    seen = {ROOT: ROOT}
    stack = [ROOT]
    while stack:
        number = stack.pop()
        node, other = ours.nodes[number], theirs.nodes[seen[number]]
        yield from _node_differences(node, other, theirs.say(seen[number]))
        for label in sorted(node.children.keys() & other.children.keys()):
            child, twin = node.children[label], other.children[label]
            if child not in seen:
                seen[child] = twin
                stack.append(child)
            elif seen[child] != twin:
                yield f"`{theirs.say(seen[number])}`: edge `{label}` leads to another object than in the target"
    differing = _slots(ours, seen) ^ _slots(theirs, {number: number for number in range(len(theirs.nodes))})
    if differing:
        yield f"{len({slot[:3] for slot in differing})} slot variables of the optimizer differ from the target's"


def _slots(graph: ObjectGraph, numbers: Mapping[int, int]) -> set[tuple[int | None, int | None, str, tuple[Key, ...]]]:
    """Each slot record as optimizer, variable, name, and keys of its values; nodes as the other graph numbers them."""
    return {
        (
            numbers.get(number),
            numbers.get(slot.variable),
            slot.name,
            tuple(sorted(graph.nodes[slot.slot].tensors.values())),
        )
        for number, node in enumerate(graph.nodes)
        for slot in node.slot_records
    }


def _node_differences(node: Node, other: Node, where: str) -> Iterator[str]:
    for label in sorted(node.children.keys() ^ other.children.keys()):
        side = "target" if label in node.children else "checkpoint"
        yield f"`{where}`: edge `{label}` is not in the {side}"
    if dict(node.tensors) != dict(other.tensors):
        yield f"`{where}`: holds {sorted(node.tensors.values())}, in the target {sorted(other.tensors.values())}"


# Checksums.


def _checksums(bundle: Bundle, plan: Plan | None) -> Check:
    if plan is None:
        problems = [problem for key in bundle.entries for problem in _stored_wrongly(bundle, key)]
        return _check(
            "checksums",
            f"{len(bundle.entries)} tensors read, each equal to its CRC32C",
            problems,
            "The data files are damaged; take another copy",
        )
    unchanged = recut = recomputed = constant = 0
    problems = []
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
            if entry is None:
                problems.append(f"`{step.target}` is missing")
            elif (not step.ops or step.ops == (Fill("template"),)) and same_slices(entry, origin[1]):
                unchanged += 1
                problems.extend(_moved_wrongly((bundle, entry), origin, files))
            elif not step.ops:
                recut += 1
                problems.extend(_recut_wrongly((bundle, step.target), (source, step.sources[0])))
            else:
                recomputed += bool(step.sources)
                constant += not step.sources
                problems.extend(_computed_wrongly(bundle, step, source, target))
    proof = f"{unchanged} tensors have the CRC32C of their origin, {recomputed} equal their operations run again"
    return _check(
        "checksums",
        proof
        + (f", {recut} have its values in other slices" if recut else "")
        + (f", {constant} hold their constant" if constant else ""),
        problems,
        "Do not use this checkpoint; apply the plan again",
    )


def _plan_problems(plan: Plan, source: Bundle, target: Bundle) -> list[str]:
    """What a plan that was edited since it was applied says that cannot be."""
    specs = [{key: each.entries[key].spec for key in _tensors(each)} for each in (source, target)]
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


# Restore.


def _restore(bundle: Bundle, checkpoint: Any, scratch: str) -> Check:
    """Restore in TensorFlow, then let TensorFlow write what it has now, and compare that with the bundle."""
    import tensorflow as tf

    graph = ObjectGraph.from_bundle(bundle)
    # `restore` asks for the counter that `save` makes; what was written without one is read.
    how = "restore" if graph.kind == "name" or graph.child(ROOT, "save_counter") is not None else "read"
    problems: list[str] = []
    ladder = ("assert_nontrivial_match", "assert_existing_objects_matched", "assert_consumed")
    try:
        status = getattr(checkpoint, how)(bundle.prefix)
        for rung in ladder:
            try:
                getattr(status, rung)()
            except AssertionError as error:
                problems.append(f"{rung}: {_first_lines(error)}")
    except (tf.errors.OpError, ValueError, TypeError) as error:
        problems.append(f"{how} raised {type(error).__name__}: {_first_lines(error)}")
    if not problems:
        with Bundle.open(str(checkpoint.write(scratch))) as written:
            problems.extend(not_restored(bundle, written))
    compared = len(compared_keys(bundle))
    opaque = len(_tensors(bundle)) - compared
    return _check(
        "restore",
        f"TensorFlow {tf.__version__}: {how}, {', '.join(ladder)}; {compared} restored values equal the checkpoint's"
        + (f", {opaque} restored that have no values to compare" if opaque else ""),
        problems,
        "The model and the checkpoint do not fit; see the names above",
    )


def _first_lines(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]
