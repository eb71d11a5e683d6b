"""The doctor: restores a checkpoint, or follows what a restore would do, and says what is wrong with it."""

from __future__ import annotations

import os
from typing import Any

from ckptmigrate.bundle import Bundle, find_meant, find_prefix
from ckptmigrate.errors import CkptMigrateError, Problems
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.graph.live import LiveGraph
from ckptmigrate.graph.template import Factory, build_checkpoint, is_factory, say_factory
from ckptmigrate.verify.doctor.attempt import Attempt
from ckptmigrate.verify.doctor.causes import find_causes
from ckptmigrate.verify.doctor.paths import damaged_values, no_checkpoint, unreadable, wrong_path
from ckptmigrate.verify.report import Check, Finding, Report
from ckptmigrate.verify.restoration import Call, find_restored
from ckptmigrate.verify.restoring import climb, restore_live
from ckptmigrate.verify.structure import check_restoration


def diagnose(path: str | os.PathLike[str], target: Factory, *, call: Call = "restore") -> Report:
    """Why a restore fails, or only seems to succeed, and what mends it.

    Args:
        path: What the person restores: a prefix, or whatever they took for one.
        target: What it is restored into: a function that makes the model (or ``module:factory``), or the prefix of
            one of its checkpoints. Only with the former TensorFlow runs: it restores, once.
        call: The method that the person calls.

    Returns:
        A report with the levels that were run, and a finding for each cause; none if the restore does all that it
        should.

    Raises:
        NotACheckpointError: There is nothing near the path that could be meant.
        TemplateError: The model cannot be built.
    """
    path = os.fspath(path)
    said_target = say_factory(target)
    is_model = not isinstance(target, str) or is_factory(target)
    checkpoint = build_checkpoint(target) if is_model else None

    def ask(path: str) -> str | None:
        return None if checkpoint is None else _said_of(path, call)

    of_keras = no_checkpoint(path, ask)
    if of_keras is not None:
        return _unopened(path, said_target, of_keras)
    meant = find_meant(path)
    found = [each for each in (wrong_path(path, meant, call, ask),) if each is not None]
    try:
        bundle = Bundle.open(meant.prefix)
        source = ObjectGraph.from_bundle(bundle)
    except (CkptMigrateError, Problems) as error:
        said = None if checkpoint is None else _words(climb(checkpoint, path, call), call)
        return _unopened(path, said_target, *found, unreadable(meant.prefix, error, said))
    with bundle:
        if checkpoint is None:
            with Bundle.open(find_prefix(str(target))) as wanted:
                restoration = find_restored(source, ObjectGraph.from_bundle(wanted))
            checks = [check_restoration(restoration)]
            attempt = Attempt(meant.prefix, said_target, call, restoration)
        else:
            live = LiveGraph.read(checkpoint)
            restoration = find_restored(source, live.graph)
            checks = [check_restoration(restoration), *restore_live(bundle, live, "coverage", call=call, is_fresh=True)]
            said = checks[1].evidence["said"]
            attempt = Attempt(meant.prefix, said_target, call, restoration, live, said)
            if said.get(call, "").startswith("DataLossError"):
                found += _damaged(bundle, f"`{call}` raises {said[call]}")
        return Report(path, said_target, tuple(checks), (*found, *find_causes(attempt)))


def _unopened(path: str, target: str, *findings: Finding) -> Report:
    failed = Check("structure", "failed", "the checkpoint cannot be read", tuple(each.what for each in findings))
    return Report(path, target, (failed,), findings)


def _said_of(path: str, call: Call) -> str:
    """What TensorFlow says of a path, whatever is restored: a checkpoint of one variable asks, not the person's."""
    import tensorflow as tf

    return _words(climb(tf.train.Checkpoint(variable=tf.Variable(0.0)), path, call), call)


def _words(said: Any, call: Call) -> str:
    if call in said:
        return f"`{call}` raises {said[call]}"
    heard = {text: [rung for rung in said if said[rung] == text] for text in said.values() if text}
    parts = [f"{', '.join(f'`{rung}`' for rung in rungs)}: {text}" for text, rungs in heard.items()]
    return "; ".join([*parts, "without an assertion it says nothing"])


def _damaged(bundle: Bundle, said: str) -> list[Finding]:
    problems = []
    for key in bundle.entries:
        try:
            bundle.verify_crc(key)
        except CkptMigrateError as error:
            problems.append(str(error))
    return [damaged_values(bundle.prefix, problems, said)] if problems else []
