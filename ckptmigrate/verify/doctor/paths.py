"""A path that TensorFlow does not take, or takes for something else; and the checkpoint that was meant."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ckptmigrate.bundle import Meant, kind_of_keras_file
from ckptmigrate.errors import CkptMigrateError, Problems
from ckptmigrate.verify.doctor.attempt import count, quoted, shell
from ckptmigrate.verify.report import Finding
from ckptmigrate.verify.restoration import Call

Ask = Callable[[str], str | None]
"""Asks TensorFlow for its words on a path; None where it is not run."""


def wrong_path(path: str, meant: Meant, call: Call, ask: Ask) -> Finding | None:
    """What to say of a path that is no prefix.

    Args:
        path: What the person restores.
        meant: The checkpoint that was meant.
        call: How it is restored.
        ask: TensorFlow's words.
    """
    if meant.kind == "prefix" or (meant.kind == "saved-model" and call == "restore"):
        return None
    name = os.path.basename(meant.prefix)  # noqa: PTH119
    kinds = {
        "without-number": (
            "path-without-number",
            f"there is no checkpoint `{path}`; there is `{name}`"
            + (f" and {len(meant.others)} more" if meant.others else ""),
            "`save` adds a number to the name that it is given, and returns the whole path",
            "raises NotFoundError",
        ),
        "directory": (
            "path-is-directory",
            f"`{path}` is a directory; its latest checkpoint is `{name}`",
            "`restore` takes the prefix of a checkpoint, which `tf.train.latest_checkpoint` gives for a directory",
            "raises DataLossError",
        ),
        "saved-model": (
            "path-is-directory",
            f"`{path}` is a SavedModel, which `restore` takes and `read` does not",
            "`read` takes the prefix of the variables in it",
            "raises DataLossError",
        ),
        "index-file": (
            "path-is-index-file",
            f"`{path}` is a file of the checkpoint `{name}`, not its prefix",
            "TensorFlow takes the index for a checkpoint of TensorFlow 1 that has other names, and restores nothing",
            "raises nothing and restores nothing; `assert_consumed` fails",
        ),
        "data-file": (
            "path-is-data-file",
            f"`{path}` is a file of the checkpoint `{name}`, not its prefix",
            "a prefix is what the names of all files of a checkpoint begin with",
            "raises DataLossError",
        ),
        "meta-file": (
            "path-is-meta-file",
            f"`{path}` is a file of the checkpoint `{name}`, not its prefix",
            "a prefix is what the names of all files of a checkpoint begin with",
            "raises DataLossError",
        ),
    }
    kind, what, cause, expected = kinds[meant.kind]
    has_state = meant.kind == "directory" and os.path.isfile(os.path.join(path, "checkpoint"))  # noqa: PTH113, PTH118
    latest = (f"checkpoint.{call}(tf.train.latest_checkpoint({quoted(path)}))",) if has_state else ()
    return Finding(
        kind,
        what,
        tuple(f"`{each}`" for each in (meant.prefix, *meant.others)),
        ask(path) or f"was not run; it {expected}",
        cause,
        (f"checkpoint.{call}({quoted(meant.prefix)})", *latest),
    )


def no_checkpoint(path: str, ask: Ask) -> Finding | None:
    """What to say of a file of Keras that is no checkpoint."""
    found = kind_of_keras_file(path)
    if found is None:
        return None
    is_archive = found == "Keras archive"
    return Finding(
        "keras-archive" if is_archive else "weights-file",
        f"`{path}` is {'a Keras archive' if is_archive else 'an HDF5 file of Keras'}, not a checkpoint",
        (),
        ask(path) or "was not run; it raises DataLossError",
        "Keras wrote it, by `save` or `save_weights`; it holds weights by layers, and no object graph",
        (
            f"model = keras.models.load_model({quoted(path)})" if is_archive else f"model.load_weights({quoted(path)})",
            'tf.train.Checkpoint(model=model).save("ckpts/ckpt")  # if a checkpoint is wanted',
        ),
    )


def unreadable(prefix: str, error: CkptMigrateError | Problems, said: str | None) -> Finding:
    """What to say of a checkpoint that is there and cannot be read: of which files are missing, or damaged."""
    problems = error.problems if isinstance(error, Problems) else (error,)
    missing = all("missing" in problem.what or "without their index" in problem.what for problem in problems)
    others = _beside(prefix)
    return Finding(
        "incomplete" if missing else "damaged",
        f"the checkpoint `{prefix}` is {'not complete' if missing else 'damaged'}",
        tuple(map(str, problems)),
        said or "was not run",
        "it was likely copied or written only in part: a checkpoint is all of its files, and the index comes last",
        (
            "copy all files of the checkpoint again, from where it was written",
            *(f"checkpoint.restore({quoted(other)})  # another one in the directory" for other in others[:1]),
        ),
    )


def _beside(prefix: str) -> list[str]:
    """The other checkpoints in a directory, the last written first."""
    place = Path(prefix)
    found = [file for file in place.parent.glob("*.index") if file.name != f"{place.name}.index"]
    return [str(file.with_suffix("")) for file in sorted(found, key=lambda file: file.stat().st_mtime, reverse=True)]


def damaged_values(prefix: str, problems: list[str], said: str) -> Finding:
    """What to say of tensors whose bytes are not what the index says."""
    return Finding(
        "damaged",
        f"the checkpoint has {count(len(problems), 'tensor')} with another checksum than its index says",
        tuple(problems),
        said,
        "the data files were damaged since they were written: on a disk, or in a copy",
        (
            f"{shell('ckptmigrate', 'verify', prefix, '--target', prefix, '--deep')}  # reads everything",
            "copy all files of the checkpoint again, from where it was written",
            *(f"checkpoint.restore({quoted(other)})  # another one in the directory" for other in _beside(prefix)[:1]),
        ),
    )
