"""The levels of proof, run one after the other."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from ckptmigrate.bundle import Bundle
from ckptmigrate.graph import ROOT, ObjectGraph
from ckptmigrate.graph.template import Factory, is_factory, say_factory, write_template
from ckptmigrate.plan import Plan
from ckptmigrate.spec import OBJECT_GRAPH_KEY
from ckptmigrate.verify.checksums import check_checksums
from ckptmigrate.verify.report import Check, Report
from ckptmigrate.verify.restored import compared_keys, not_restored
from ckptmigrate.verify.structure import check_structure


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
            checks = [check_structure(bundle, wanted, plan), check_checksums(bundle, plan)]
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
    opaque = sum(key != OBJECT_GRAPH_KEY for key in bundle.entries) - compared
    return Check.of(
        "restore",
        f"TensorFlow {tf.__version__}: {how}, {', '.join(ladder)}; {compared} restored values equal the checkpoint's"
        + (f", {opaque} restored that have no values to compare" if opaque else ""),
        problems,
        "The model and the checkpoint do not fit; see the names above",
    )


def _first_lines(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]
