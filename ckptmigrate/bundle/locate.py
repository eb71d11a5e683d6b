"""From what a person names to a checkpoint's prefix, and what to say when there is none."""

# A prefix is text and not a path: pathlib would take the slash off the prefix `dir/` and the dot off `./`.
# ruff: noqa: PTH112, PTH113, PTH118, PTH119, PTH120, PTH123, PTH208

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ckptmigrate.bundle.state import STATE_FILE, read_state
from ckptmigrate.bundle.table import FOOTER_BYTES, is_table
from ckptmigrate.errors import CkptMigrateError, NotACheckpointError, raise_all

_MAX_LISTED = 10
_DATA_NAME = re.compile(r"(?P<prefix>.*)\.data-(?P<shard>\d{5})-of-(?P<count>\d{5})", re.DOTALL)
_V1_NAME = re.compile(r"(?P<prefix>.*)-\d{5}-of-\d{5}", re.DOTALL)
_V1_WILDCARD = re.compile(r"(?P<prefix>.*)-\?{5}-of-\d{5}", re.DOTALL)
_LFS_START = b"version https://git-lfs.github.com/spec/"
_HDF5_START = b"\x89HDF\r\n\x1a\n"
_ZIP_START = b"PK\x03\x04"

_SAVE_AGAIN = "Load the model in Python, then write a checkpoint with `tf.train.Checkpoint(model=model).save(PREFIX)`"
_CONVERT_V1 = (
    "Convert it in TensorFlow: restore it with `tf.compat.v1.train.Saver().restore(session, PREFIX)` and save it again "
    "with `tf.compat.v1.train.Saver(write_version=tf.compat.v1.train.SaverDef.V2)`"
)


def index_path(prefix: str) -> str:
    """The index file of a checkpoint. Source: ``MetaFilename`` in tensorflow/core/util/tensor_bundle/naming.cc."""
    return f"{prefix}.index"


def data_path(prefix: str, shard: int, num_shards: int) -> str:
    """A data file of a checkpoint. Source: ``DataFilename`` in tensorflow/core/util/tensor_bundle/naming.cc."""
    return f"{prefix}.data-{shard:05d}-of-{num_shards:05d}"


def find_prefix(path: str | os.PathLike[str]) -> str:
    """The prefix of the checkpoint that a person names.

    Args:
        path: A prefix, or a directory: the latest checkpoint that its state file names, a SavedModel's variables, or
            its only checkpoint. Characters that a shell would expand are taken as they are.

    Raises:
        NotACheckpointError: There is no checkpoint there, or several; says what is there instead.
    """
    path = os.fspath(path)
    if not path:
        raise NotACheckpointError("an empty prefix", path, hint="Name a checkpoint; `.` is the latest one here")
    if "://" in path:
        raise NotACheckpointError("not a local path", path, hint="Copy the checkpoint to a local directory first")
    if os.path.isfile(index_path(path)):
        return path
    if os.path.isdir(path):
        return _find_in_directory(path)
    if os.path.isfile(path):
        raise _explain_file(path)
    raise explain_missing_index(path)


def find_prefixes(directory: str) -> list[str]:
    """The prefixes of all checkpoints in a directory, by their numbers.

    Raises:
        NotACheckpointError: There is none.
    """
    names = _list_names(directory)
    found = [name.removesuffix(".index") for name in names or () if name.endswith(".index")]
    if not found:
        raise NotACheckpointError(
            "no checkpoint in the directory",
            directory,
            expected="files that end in .index",
            got="no such directory" if names is None else f"{len(names)} other files and directories",
        )
    return [os.path.join(directory, name) for name in reversed(_by_number(found))]


PathKind = Literal["prefix", "directory", "saved-model", "index-file", "data-file", "meta-file", "without-number"]
"""What a person named in place of a prefix."""


@dataclass(frozen=True, slots=True)
class Meant:
    """What a person named, and the checkpoint that was meant.

    Attributes:
        kind: What was named.
        prefix: The prefix of the checkpoint.
        others: The prefixes that could have been meant as well, the newest first.
    """

    kind: PathKind
    prefix: str
    others: tuple[str, ...] = ()


def find_meant(path: str | os.PathLike[str]) -> Meant:
    """The checkpoint that a person meant by a path, of which TensorFlow may know nothing.

    Besides what `find_prefix` finds it takes a file of a checkpoint for its prefix, and a name to which `save` has
    added a number for the latest checkpoint with one.

    Raises:
        NotACheckpointError: There is no checkpoint there or near it, or several that could be meant.
    """
    path = os.fspath(path)
    if path and "://" not in path:
        if os.path.isfile(index_path(path)):
            return Meant("prefix", path)
        if os.path.isdir(path):
            found = _find_in_directory(path)
            is_model = found == _saved_variables(path)
            return Meant("saved-model" if is_model else "directory", found)
        kind, prefix = _prefix_of_file(path)
        if os.path.isfile(path) and prefix is not None and os.path.isfile(index_path(prefix)):
            return Meant(kind, prefix)
        directory, name = os.path.split(path)
        near = [
            other for other in _numbered_near(name, _list_names(directory) or []) if other[len(name) + 1 :].isdigit()
        ]
        if near and not os.path.isfile(path):
            first, *others = (os.path.join(directory, other) for other in near)
            return Meant("without-number", first, tuple(others))
    return Meant("prefix", find_prefix(path))


def kind_of_keras_file(path: str) -> Literal["HDF5 file", "Keras archive"] | None:
    """Which of the formats that are no checkpoint Keras has written to a file; None if it is none of them."""
    if not os.path.isfile(path):
        return None
    head = _read_head(path)
    if head.startswith(_HDF5_START) or path.endswith((".h5", ".hdf5")):
        return "HDF5 file"
    return "Keras archive" if path.endswith(".keras") or _is_keras_zip(path, head) else None


def explain_missing_index(prefix: str) -> NotACheckpointError:
    """What to say of a prefix that has no index: what is there instead, or near it."""
    directory, name = os.path.split(prefix)
    if os.path.isdir(prefix):
        return NotACheckpointError(
            "a directory, not a prefix", prefix, expected=f"{index_path(prefix)}", hint="Name a checkpoint in it"
        )
    if os.path.isfile(prefix):
        return _explain_file(prefix)
    names = _list_names(directory)
    if names is None:
        return NotACheckpointError(
            "no checkpoint", prefix, expected=f"{index_path(prefix)}", got=f"no directory {directory or '.'}"
        )
    wildcard = _V1_WILDCARD.fullmatch(name)
    v1_prefix = wildcard["prefix"] if wildcard else name
    for other in names:
        v1 = _V1_NAME.fullmatch(other)
        if v1 and v1["prefix"] == v1_prefix and _is_table_file(os.path.join(directory, other)):
            return _explain_v1(os.path.join(directory, other))
    if any((match := _DATA_NAME.fullmatch(other)) and match["prefix"] == name for other in names):
        return NotACheckpointError(
            "data files without their index",
            prefix,
            expected=index_path(prefix),
            got="only data files",
            hint="Copy the .index file too: it says what the data files hold",
        )
    near = _numbered_near(name, names)
    hint = f"Did you mean {_join(directory, near)}" if near else ""
    return NotACheckpointError("no checkpoint", prefix, expected=index_path(prefix), got="no such file", hint=hint)


def _numbered_near(name: str, names: Iterable[str]) -> list[str]:
    """The checkpoints whose name is this one and `-` and more, the highest numbers first."""
    return _by_number(
        other[: -len(".index")] for other in names if re.fullmatch(re.escape(name) + r"-.*\.index", other, re.DOTALL)
    )


def _prefix_of_file(path: str) -> tuple[PathKind, str | None]:
    """The prefix of the checkpoint that a file is one of, by its name."""
    data_name = _DATA_NAME.fullmatch(path)
    if data_name:
        return "data-file", data_name["prefix"]
    if path.endswith(".index"):
        return "index-file", path.removesuffix(".index")
    if path.endswith(".meta") and os.path.isfile(index_path(path.removesuffix(".meta"))):
        return "meta-file", path.removesuffix(".meta")
    return "prefix", None


def refuse_pointer(path: str, head: bytes) -> None:
    """Refuse a file that only stands for the real one.

    Args:
        path: The file.
        head: Its first bytes.

    Raises:
        NotACheckpointError: It is a git-LFS pointer.
    """
    if head.startswith(_LFS_START):
        raise NotACheckpointError(
            "git-LFS pointer, not the file itself",
            path,
            hint="Run `git lfs pull` in the repository that it is from",
        )


def refuse_missing_shards(prefix: str, paths: Iterable[str]) -> tuple[int, ...]:
    """The sizes in bytes of a bundle's data files.

    Raises:
        NotACheckpointError: One is missing, or only stands for the real one.
        Problems: Several are git-LFS pointers.
    """
    paths = tuple(paths)
    missing: list[str] = []
    sizes: list[int] = []
    problems: list[CkptMigrateError] = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                refuse_pointer(path, file.read(len(_LFS_START)))
            sizes.append(size)
        except FileNotFoundError:
            missing.append(path)
        except OSError as error:
            problems.append(NotACheckpointError(f"unreadable data file ({error.strerror})", path))
        except NotACheckpointError as problem:
            problems.append(problem)
    if missing:
        names = ", ".join(missing[:_MAX_LISTED])
        more = f" and {len(missing) - _MAX_LISTED} more" if len(missing) > _MAX_LISTED else ""
        problems.append(
            NotACheckpointError(
                "data file missing" if len(missing) == 1 else "data files missing",
                index_path(prefix),
                expected=f"{len(paths)} data file{'s' if len(paths) > 1 else ''} (header)",
                got=f"{len(paths) - len(missing)}, without {names}{more}",
                hint="Copy every file of the checkpoint: the index only says where the values are",
            )
        )
    raise_all(f"{prefix} is not complete", problems)
    return tuple(sizes)


def _explain_file(path: str) -> NotACheckpointError:
    """What to say of a file that a person named in place of a prefix."""
    head = _read_head(path)
    refuse_pointer(path, head)
    _, prefix = _prefix_of_file(path)
    if prefix is not None:
        return NotACheckpointError(
            "a file of a checkpoint, not its prefix", path, expected="a prefix", hint=f"Use {prefix}"
        )
    if os.path.basename(path) == STATE_FILE and read_state(os.path.dirname(path)) is not None:
        return NotACheckpointError(
            "a directory's state file, not a prefix", path, hint=f"Use {os.path.dirname(path) or '.'}"
        )
    of_keras = kind_of_keras_file(path)
    if of_keras is not None:
        return NotACheckpointError(f"{of_keras}, not a checkpoint", path, hint=_SAVE_AGAIN)
    if _is_table_file(path):
        return _explain_v1(path)
    return NotACheckpointError(
        "not a checkpoint", path, expected=f"a prefix, with a file {index_path(path)}", got="a file of another kind"
    )


def _explain_v1(path: str) -> NotACheckpointError:
    return NotACheckpointError(
        "TensorFlow V1 checkpoint, which has no .index file",
        path,
        expected="the V2 format (.index and .data files)",
        hint=_CONVERT_V1,
    )


def _find_in_directory(directory: str) -> str:
    names = _list_names(directory) or []
    if STATE_FILE in names:
        state = read_state(directory)
        if state is not None:
            return _resolve_latest(directory, state.latest, names)
    variables = _saved_variables(directory)
    if os.path.isfile(index_path(variables)):
        return variables
    found = [name[: -len(".index")] for name in names if name.endswith(".index")]
    if len(found) == 1:
        return os.path.join(directory, found[0])
    if found:
        raise NotACheckpointError(
            "several checkpoints, and no state file that names the latest",
            directory,
            got=_join(directory, _by_number(found)),
            hint="Name one of them",
        )
    if "saved_model.pb" in names:
        raise NotACheckpointError(
            "SavedModel without variables", directory, expected=index_path(variables), got="no such file"
        )
    for name in names:
        file = os.path.join(directory, name)
        if _V1_NAME.fullmatch(name) and not _DATA_NAME.fullmatch(name) and _is_table_file(file):
            raise _explain_v1(file)
        if name.endswith((".h5", ".hdf5", ".keras")):
            raise _explain_file(file)
    raise NotACheckpointError(
        "no checkpoint in the directory",
        directory,
        expected="a file that ends in .index",
        got=f"{len(names)} other files and directories" if names else "an empty directory",
    )


def _saved_variables(directory: str) -> str:
    """The prefix of a SavedModel's variables. Source: ``get_variables_path`` in tensorflow/python/saved_model."""
    return os.path.join(directory, "variables", "variables")


def _resolve_latest(directory: str, latest: str, names: list[str]) -> str:
    # An absolute path is where the directory was when it was written. If the checkpoint moved, it moved with its state
    # file, and its name in this directory still says which one it is.
    candidates = (os.path.join(directory, latest), os.path.join(directory, os.path.basename(latest)))
    for candidate in candidates:
        if os.path.isfile(index_path(candidate)):
            return candidate
    found = _by_number(name[: -len(".index")] for name in names if name.endswith(".index"))
    raise NotACheckpointError(
        "the latest checkpoint is missing",
        os.path.join(directory, STATE_FILE),
        expected=f"{index_path(candidates[0])} (state file)",
        got=_join(directory, found) if found else "no checkpoint in the directory",
        hint="Name the checkpoint that you want" if found else "",
    )


def _list_names(directory: str) -> list[str] | None:
    try:
        return sorted(os.listdir(directory or "."))
    except OSError:
        return None


def _by_number(names: Iterable[str]) -> list[str]:
    """Names with the highest numbers first, numbers compared as numbers."""

    def parts(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]

    return sorted(names, key=parts, reverse=True)


def _join(directory: str, names: list[str]) -> str:
    listed = ", ".join(os.path.join(directory or ".", name) for name in names[:_MAX_LISTED])
    return listed if len(names) <= _MAX_LISTED else f"{listed} and {len(names) - _MAX_LISTED} more"


def _read_head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(max(len(_LFS_START), 64))
    except OSError as error:
        raise NotACheckpointError(f"unreadable file ({error.strerror})", path) from error


def _is_table_file(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - FOOTER_BYTES))
            return is_table(file.read(FOOTER_BYTES))
    except OSError:
        return False


def _is_keras_zip(path: str, head: bytes) -> bool:
    if not head.startswith(_ZIP_START):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return "model.weights.h5" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
