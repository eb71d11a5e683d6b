"""A bundle that is written: data files at known offsets, the index in one go.

Both are written under the name that is given; giving them their final names, the index last, is for the caller.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from ckptmigrate.bundle.entry import HEADER_KEY, MAX_SHARDS, Entry, EntryEncoder, encode_header, encode_key
from ckptmigrate.bundle.slices import SLICE_KEY_PREFIX, SliceSpec, encode_slice_key
from ckptmigrate.bundle.table import write_table
from ckptmigrate.errors import OutputError
from ckptmigrate.spec import Key

# A prefix is text and not a path: pathlib would take a slash off its end and the dot off `./`.
# Files are written by the system's own calls, one for each step that can fail.

_MODE = 0o666
"""The rights of a new file, of which the user's mask takes some away."""


def write_index(
    path: str | os.PathLike[str],
    entries: Iterable[Entry],
    num_shards: int,
    slice_entries: Mapping[tuple[Key, SliceSpec], Entry] | None = None,
) -> None:
    """Write an index file: the bytes that TensorFlow writes for the same entries.

    Args:
        path: The file; one that is there already is overwritten.
        entries: An entry for each tensor, in any order.
        num_shards: How many data files there are.
        slice_entries: An entry for each stored slice of a partitioned tensor, by tensor and slice.

    Raises:
        OutputError: Two entries have one key, a key cannot be one, or the file cannot be written.
    """
    path = os.fspath(path)
    if not 0 < num_shards <= MAX_SHARDS:
        raise OutputError(
            "impossible number of shards", path, expected=f"1 to {MAX_SHARDS}", got=f"{num_shards} (asked for)"
        )
    encode = EntryEncoder().encode
    records: dict[bytes, bytes] = {HEADER_KEY: encode_header(num_shards)}
    for entry in entries:
        key = encode_key(entry.key)
        # A key is added only once: that two are equal (the header's among them) shows in how many there are.
        before = len(records)
        records[key] = encode(entry)
        if len(records) == before or key.startswith(SLICE_KEY_PREFIX):
            raise OutputError("key that is taken or cannot be one", f"{path}, key {entry.key!r}")
    for (name, piece), entry in (slice_entries or {}).items():
        records[encode_slice_key(encode_key(name), piece)] = encode(entry)
    write_file(path, write_table(sorted(records.items())))


def write_file(path: str, pieces: Iterable[bytes]) -> None:
    """Write a file, or overwrite one, and wait until it is on the disk.

    Raises:
        OutputError: It cannot be written.
    """
    with _as_output_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
        try:
            _write_all(descriptor, b"".join(pieces))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def append_file(path: str, offset: int, data: bytes, *, sync: bool) -> None:
    """Write what comes behind the first bytes of a file that is there.

    Args:
        path: The file.
        offset: How many bytes of it stay.
        data: What comes behind.
        sync: Wait until it is on the disk.

    Raises:
        OutputError: It cannot be written.
    """
    with ShardFile(path) as file:
        file.write_at(offset, data)
        if sync:
            file.sync()


_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}
"""The errors with which a file system says that it knows of no such thing, as some do for directories."""


def sync(path: str) -> None:
    """Wait until a file, or the names in a directory, are on the disk.

    Raises:
        OutputError: They cannot be written.
    """
    with _as_output_errors(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:
                raise
        finally:
            os.close(descriptor)


def create_shard(path: str, size_bytes: int) -> None:
    """Create a data file of a size, if it is not there, for `ShardFile` to write to.

    Raises:
        OutputError: It cannot be created.
    """
    with _as_output_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, _MODE)
        try:
            os.ftruncate(descriptor, size_bytes)
        finally:
            os.close(descriptor)


_AHEAD_BYTES = 1 << 23
"""So much that was written in a row is sent on its way to the disk, while more is written."""


class ShardFile:
    """A data file that is there and is written at known offsets, by any number of writers in any order.

    Used in a ``with`` statement. That its bytes reach the disk is for the caller to see to (`sync`); what is written
    in a row is on its way there long before.
    """

    __slots__ = ("_descriptor", "_end", "_start", "path")

    def __init__(self, path: str) -> None:
        """Open the file.

        Raises:
            OutputError: It is not there, or cannot be written.
        """
        self.path = path
        self._start = self._end = 0
        with _as_output_errors(path):
            self._descriptor = os.open(path, os.O_WRONLY)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _as_output_errors(self.path):
            os.close(self._descriptor)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write bytes. A buffer of them may be reused afterwards.

        Raises:
            OutputError: The file cannot be written, for want of space for example.
        """
        try:
            count = os.pwrite(self._descriptor, data, offset)
            while count < len(data):
                count += os.pwrite(self._descriptor, data[count:], offset + count)
        except OSError as error:
            raise _output_error(error, self.path) from error
        if offset != self._end:
            self._start = offset
        self._end = offset + len(data)
        if self._end - self._start >= _AHEAD_BYTES:
            self._send_ahead()

    def _send_ahead(self) -> None:
        # Without it, nothing is written before much has been gathered; the disk waits, and at the end we do.
        self.forget(self._start, self._end - self._start)
        self._start = self._end

    def forget(self, offset: int, size_bytes: int) -> None:
        """Tell the system that a range is not needed in its cache.

        What of it is not on the disk is on its way there then; what is there makes room. Memory that is used again
        and again is faster than new memory, and what else is in the cache stays there.

        Source: ``generic_fadvise`` in mm/fadvise.c of Linux, which starts writing before it drops what is clean.
        """
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, offset, size_bytes, os.POSIX_FADV_DONTNEED)

    def sync(self) -> None:
        """Wait until what was written is on the disk.

        Raises:
            OutputError: It cannot be written.
        """
        with _as_output_errors(self.path):
            os.fsync(self._descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextmanager
def _as_output_errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _output_error(error, path) from error


def _output_error(error: OSError, path: str) -> OutputError:
    return OutputError(f"cannot be written ({error.strerror})", path)
