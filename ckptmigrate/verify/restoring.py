"""Restore in TensorFlow, with proof: TensorFlow's own assertions, and what they cannot see.

``tf.train.Checkpoint.restore`` returns before anyone knows whether it did anything, and its strongest assertion
compares objects and not values. So what the model holds afterwards is compared with the checkpoint here, variable by
variable, by checksum: no value is read a second time.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ckptmigrate.bundle import Bundle, find_prefix
from ckptmigrate.bundle.content import content_crcs
from ckptmigrate.errors import CkptMigrateError, NotACheckpointError, Problems, TemplateError
from ckptmigrate.graph import CONFIG_ROLE, ROOT, VARIABLE_ROLE, ObjectGraph
from ckptmigrate.graph.live import (
    LiveGraph,
    is_variable,
    live_array,
    live_crcs,
    model_variables,
    release_values,
    say_checkpoint,
)
from ckptmigrate.spec import DType, Key
from ckptmigrate.verify.equality import holds_equal
from ckptmigrate.verify.report import LEVELS, Check, Finding, Level, Report, RestoreError
from ckptmigrate.verify.restoration import LADDER, Call, Restoration, find_restored
from ckptmigrate.verify.structure import check_restoration

_LEVELS = ("structure", "restore", "coverage")
"""What can be proven of a checkpoint and a live model by themselves."""

_SAID_LENGTH = 400
"""So much of TensorFlow's message is told."""

_LISTS = (" Showing ", ": attributes {", ": defaultdict(", ": \n", " [Op:", " The following objects", "\nPlease ")
"""What follows in TensorFlow's messages is a list of objects, or advice that is not ours."""


def restore(
    checkpoint: Any, path: str | os.PathLike[str], *, level: Level = "coverage", expect_partial: bool = False
) -> Report:
    """``checkpoint.restore(path)``, with proof.

    It calls ``read`` for what ``write`` wrote. It may be called in a training loop and in the scope of a
    ``tf.distribute`` strategy.

    Args:
        checkpoint: A ``tf.train.Checkpoint``. Its objects should be built, its optimizers too.
        path: The checkpoint's prefix, or a directory: its latest checkpoint.
        level: How far the proof goes: ``structure``, ``restore`` or ``coverage``. Values are restored at each. What
            lies beyond needs a plan or another model: `verify_checkpoint`.
        expect_partial: The checkpoint may hold more than the model asks for (an optimizer, another head). What the
            model has is proven all the same.

    Returns:
        What was proven.

    Raises:
        RestoreError: A level failed. Its report says what, why, and what to do. The model may hold a part of the
            checkpoint.
        NotACheckpointError: There is no checkpoint at the path; nothing was restored.
        CorruptBundleError: The checkpoint is damaged; nothing was restored.
        TemplateError: It is no ``tf.train.Checkpoint``, or execution is not eager; nothing was restored.
        ValueError: There is no such level, or it is none of these.
    """
    _refuse_level(level)
    report = _restored(checkpoint, _prefix(path), level, expect_partial=expect_partial)
    if not report.passed:
        raise RestoreError(report)
    return report


def check(
    checkpoint: Any, path: str | os.PathLike[str], *, level: Level = "coverage", expect_partial: bool = False
) -> Report:
    """Restore as `restore` does, and report instead of raising, whatever is wrong with the checkpoint.

    Args:
        checkpoint: As for `restore`.
        path: As for `restore`.
        level: As for `restore`.
        expect_partial: As for `restore`.
    """
    _refuse_level(level)
    try:
        return _restored(checkpoint, _prefix(path), level, expect_partial=expect_partial)
    except (CkptMigrateError, Problems) as error:
        problems = error.problems if isinstance(error, Problems) else (error,)
        failed = Check.of("structure", "nothing was restored", map(str, problems))
        return Report(str(path), type(checkpoint).__name__, (failed,))


def _refuse_level(level: str) -> None:
    if level not in _LEVELS:
        raise ValueError(f"level {level!r}: expected one of {', '.join(_LEVELS)}")


def _prefix(path: str | os.PathLike[str]) -> str:
    if path is None:
        raise NotACheckpointError(
            "no checkpoint",
            "None",
            expected="a prefix",
            got="None, for which TensorFlow restores nothing and says nothing",
            hint="`tf.train.latest_checkpoint` found none: check the directory that it was given",
        )
    if not isinstance(path, str | bytes | os.PathLike):
        raise NotACheckpointError(
            "not a path",
            "path",
            expected="a checkpoint's prefix as text, or a pathlib.Path",
            got=type(path).__name__,
            hint="The checkpoint comes first, then the path: restore(checkpoint, path)",
        )
    return find_prefix(os.fsdecode(path))


def _restored(checkpoint: Any, prefix: str, level: Level, *, expect_partial: bool) -> Report:
    import tensorflow as tf

    if not isinstance(checkpoint, tf.train.Checkpoint):
        raise TemplateError(
            "not a checkpoint",
            "checkpoint",
            expected="a tf.train.Checkpoint",
            got=type(checkpoint).__name__,
            hint="Make one as the code that saved it did, e.g. tf.train.Checkpoint(model=model)",
        )
    if not tf.executing_eagerly():
        raise TemplateError(
            "values cannot be compared in a graph",
            prefix,
            expected="eager execution",
            got="a tf.Graph, or a tf.function that is being traced",
            hint="Restore outside of it",
        )
    with Bundle.open(prefix) as bundle:
        live = LiveGraph.read(checkpoint)
        restoration = find_restored(ObjectGraph.from_bundle(bundle), live.graph)
        structure = check_restoration(restoration, expect_partial=expect_partial)
        checks = [structure, *restore_live(bundle, live, level, expect_partial=expect_partial)]
    report = Report(prefix, say_checkpoint(checkpoint), tuple(checks))
    return replace(report, findings=explain(report, restoration, live, expect_partial=expect_partial))


def explain(
    report: Report, restoration: Restoration, live: LiveGraph | None, *, expect_partial: bool = False
) -> tuple[Finding, ...]:
    """What the doctor says of a restore, if every level passed too: it alone doubts an index of a list that changed."""
    from ckptmigrate.verify.doctor.attempt import Attempt
    from ckptmigrate.verify.doctor.causes import find_causes

    said = next((check.evidence.get("said") for check in report.checks if check.level == "restore"), None)
    seen = replace(restoration, unused=()) if expect_partial else restoration
    call = fitting_call(restoration.source)
    into = "MODULE:FACTORY" if report.target.startswith("Checkpoint(") else report.target
    causes = find_causes(Attempt(report.prefix, into, call, seen, live, said))
    # What is in no checkpoint of the model is the level coverage's to say.
    return tuple(cause for cause in causes if not report.passed or cause.kind != "untracked")


def restore_live(
    bundle: Bundle,
    live: LiveGraph,
    level: Level,
    *,
    expect_partial: bool = False,
    is_fresh: bool = False,
    call: Call | None = None,
) -> tuple[Check, ...]:
    """Restore a bundle, and prove it as far as a level asks: the levels restore and coverage.

    Args:
        bundle: The checkpoint.
        live: The graph of the checkpoint that it is restored into.
        level: The last level that is proven.
        expect_partial: What the model does not ask for is no problem.
        is_fresh: The model was built for this and its initial values are nobody's. What is about to be restored gives
            its memory back first, because TensorFlow reads all values before it assigns one.
        call: The method that restores; the one that the checkpoint was written for, if not given.
    """
    if is_fresh:
        restored = find_restored(ObjectGraph.from_bundle(bundle), live.graph).restored
        release_values(live.objects[live.graph.node_of[key]] for key in restored)
    proves_coverage = LEVELS.index(level) >= LEVELS.index("coverage")
    before = live_crcs(filter(is_variable, _variables(live))) if proves_coverage else {}
    call = call or fitting_call(ObjectGraph.from_bundle(bundle))
    checked = _restore(bundle, live.checkpoint, call, expect_partial=expect_partial)
    if LEVELS.index(level) < LEVELS.index("restore"):
        return ()
    return (checked, _coverage(bundle, live, before)) if proves_coverage else (checked,)


# Restore.


def fitting_call(graph: ObjectGraph) -> Call:
    """The method for a checkpoint: `restore` asks for the counter that `save` makes, `read` for what it has."""
    return "restore" if graph.kind == "name" or graph.child(ROOT, "save_counter") is not None else "read"


def _restore(bundle: Bundle, checkpoint: Any, call: Call, *, expect_partial: bool) -> Check:
    import tensorflow as tf

    ladder = LADDER[:-1] if expect_partial else LADDER
    said = climb(checkpoint, bundle.prefix, call, ladder)
    problems = [f"{call} raised {text}" if who == call else f"{who}: {text}" for who, text in said.items() if text]
    hint = "The model and the checkpoint do not fit; the model may hold a part of the checkpoint now"
    if said.get(call, "").startswith("DataLossError"):
        hint = "The data files are damaged: `ckptmigrate verify --deep` names the tensors; take another copy"
    return Check.of(
        "restore",
        f"TensorFlow {tf.__version__}: {', '.join((call, *ladder))}",
        problems,
        hint,
        {"tensorflow": tf.__version__, "called": call, "assertions": ladder, "said": said},
    )


def climb(checkpoint: Any, path: str, call: Call, ladder: Sequence[str] = LADDER) -> Mapping[str, str]:
    """Restore, and make TensorFlow's assertions.

    Returns:
        What each of them said, empty where it passed; or what the call itself raised, under its name.
    """
    import tensorflow as tf

    said: dict[str, str] = {}
    try:
        status = getattr(checkpoint, call)(path)
        for rung in ladder:
            try:
                getattr(status, rung)()
                said[rung] = ""
            except AssertionError as error:
                said[rung] = _shortened(str(error))
        # What was not used is told by us, so that TensorFlow need not log it when the checkpoint is gone.
        status.expect_partial()
    except (tf.errors.OpError, ValueError, TypeError, IndexError) as error:
        return {call: _shortened(f"{type(error).__name__}: {error}")}
    return said


def _shortened(message: str) -> str:
    """What TensorFlow says before it prints objects with their values, and without what its executor adds."""
    text = re.sub(r"\{\{.*?\}\} ", "", message)
    for end in _LISTS:
        text = text.partition(end)[0]
    return " ".join(text.split())[:_SAID_LENGTH].removesuffix(".")


# Coverage.


def _variables(live: LiveGraph) -> Iterator[Any]:
    yield from live.objects
    yield from (found.variable for found in live.untracked)


def _coverage(bundle: Bundle, live: LiveGraph, before: Mapping[int, int | None]) -> Check:
    # A legacy optimizer makes its slots, and a layer that waits for its values its variables, as they are restored.
    live = LiveGraph.read(live.checkpoint) if _has_grown(live) else live
    restoration = find_restored(ObjectGraph.from_bundle(bundle), live.graph)
    problems = [f"{found}: in no checkpoint of this model, it keeps its initial value" for found in live.untracked]
    problems += [
        f"`{live.graph.say_key(key)}` {live.graph.specs[key]}: not in the checkpoint, it keeps its initial value"
        for key in restoration.missing
    ]
    wrong, compared, opaque = _wrong_values(bundle, live, restoration, before)
    problems += wrong
    initial = len(live.untracked) + len(restoration.missing)
    return Check.of(
        "coverage",
        f"{compared - len(wrong)}{f' of {compared}' if wrong else ''} variables and tables hold the checkpoint's values"
        + (f", {opaque} restored that have no values to compare" if opaque else "")
        + (f"; {live.unsaved_state} seeds and metrics are in no checkpoint" if live.unsaved_state else ""),
        problems,
        "The values named keep what the model started with; `ckptmigrate doctor` says why and what mends it",
        {
            "compared": compared,
            "not_comparable": opaque,
            "wrong": len(wrong),
            "initial": initial,
            "unsaved_state": live.unsaved_state,
            "untracked": [str(found) for found in live.untracked],
            "missing": restoration.missing,
        },
    )


def _has_grown(live: LiveGraph) -> bool:
    """Whether variables were made since the graph was read."""
    known = {id(each) for each in _variables(live)}
    return any(id(found.variable) not in known for found in model_variables(live.objects))


def _wrong_values(
    bundle: Bundle, live: LiveGraph, restoration: Restoration, before: Mapping[int, int | None]
) -> tuple[list[str], int, int]:
    """What does not hold the checkpoint's value though it should; how much was compared, and how much cannot be."""
    crcs = content_crcs(bundle)
    pairs = {**restoration.restored, **restoration.misfits}
    node_of = live.graph.node_of
    problems: list[str] = []
    compared = opaque = 0
    others: dict[int, list[tuple[Key, Key]]] = {}
    for into, key in pairs.items():
        number = node_of[into]
        thing = live.objects[number]
        role = next(role for role, held in live.graph.nodes[number].tensors.items() if held == into)
        if role == CONFIG_ROLE:
            continue
        if role != VARIABLE_ROLE or not is_variable(thing):
            if bundle.entries[key].spec.dtype is DType.VARIANT:
                opaque += 1
            else:
                others.setdefault(number, []).append((into, key))
            continue
        compared += 1
        if into in restoration.misfits:
            problems.append(_say_wrong(live.graph, into, "the checkpoint's value has another shape or dtype"))
            continue
        now = live_crcs([thing])[id(thing)]
        known = now is not None and key in crcs
        if not (now == crcs[key] if known else _are_equal(live_array(thing), bundle.read(key))):
            kept = now is not None and now == before.get(id(thing))
            problems.append(_say_wrong(live.graph, into, "keeps its initial value" if kept else "holds another value"))
    wrong = list(_wrong_tables(bundle, live, others))
    compared += sum(map(len, others.values()))
    return problems + wrong, compared, opaque


def _are_equal(now: Any, stored: Any) -> bool:
    """Whether two arrays are equal, strings by value and all else by bits."""
    if now is None or now.shape != stored.shape:
        return False
    return bool((now == stored).all()) if now.dtype.hasobject else now.tobytes() == stored.tobytes()


def _say_wrong(graph: ObjectGraph, key: Key, what: str) -> str:
    return f"`{graph.say_key(key)}` {graph.specs[key]}: {what}, not the checkpoint's"


def _wrong_tables(bundle: Bundle, live: LiveGraph, others: Mapping[int, list[tuple[Key, Key]]]) -> Iterator[str]:
    """Of what is no variable (tables, Python state), what does not hold its value: TensorFlow writes it, to compare."""
    if not others:
        return
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="ckptmigrate-") as scratch:
        written = tf.train.Checkpoint(**{f"object_{number}": live.objects[number] for number in others})
        with Bundle.open(str(written.write(os.path.join(scratch, "now")))) as now:  # noqa: PTH118
            graph = ObjectGraph.from_bundle(now)
            for number, pairs in others.items():
                roles = {key: role for role, key in live.graph.nodes[number].tensors.items()}
                twin = graph.find((f"object_{number}",))
                held = graph.nodes[twin].tensors if twin is not None else {}
                for into, key in pairs:
                    found = held.get(roles[into])
                    if found is None or not holds_equal((bundle, key), (now, found)):
                        yield _say_wrong(live.graph, into, "holds another value")
