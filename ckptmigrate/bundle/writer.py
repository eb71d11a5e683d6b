"""A bundle that is written: data files by appending, the index in one go.

Both are written under the name that is given and reach the disk before they are closed; giving them their
final names, the index last, is for the caller.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

from ckptmigrate.bundle.checksum import extend_crc, mask_crc
from ckptmigrate.bundle.entry import HEADER_KEY, MAX_SHARDS, Entry, EntryEncoder, encode_header, encode_key
from ckptmigrate.bundle.slices import SLICE_KEY_PREFIX, SliceSpec, encode_slice_key
from ckptmigrate.bundle.table import write_table
from ckptmigrate.errors import CorruptBundleError, OutputError
from ckptmigrate.spec import Key

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_BUFFER_BYTES = 1 << 20
_COPY_BYTES = 1 << 30
_READ_BYTES = 1 << 20


class Extent(NamedTuple):
    """Where a tensor went in a data file.

    Attributes:
        offset: Where its bytes start.
        size_bytes: How many they are.
        crc32c: Their CRC32C as an entry has it, masked.
    """

    offset: int
    size_bytes: int
    crc32c: int


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
    with _as_output_errors(path), Path(path).open("wb") as file:
        file.writelines(write_table(sorted(records.items())))
        _reach_disk(file)


class ShardWriter:
    """A new data file that tensors are appended to.

    Used in a ``with`` statement, which sees that the bytes reach the disk. If its body raises, the file is left as
    it is, for the caller to remove. A tensor's bytes come at once (`append`), by pieces (`begin`, `write`, `end`), or
    out of another file without passing through the process (`copy_range`)::

        with ShardWriter(path) as shard:
            extent = shard.append(array.data)
            shard.begin()
            for piece in pieces:
                shard.write(piece)
            extent = shard.end()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Create the file.

        Raises:
            OutputError: It is there already, or cannot be created.
        """
        self.path = os.fspath(path)
        self.size_bytes = 0
        self._begin: int | None = None
        self._crc = 0
        with _as_output_errors(self.path):
            # Closed by __exit__.
            self._file: BinaryIO = Path(self.path).open("xb", buffering=_BUFFER_BYTES)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with _as_output_errors(self.path):
                    _reach_disk(self._file)
        finally:
            self._file.close()

    def begin(self) -> None:
        """Start a tensor that comes by pieces.

        Raises:
            RuntimeError: The tensor before it has not ended.
        """
        if self._begin is not None:
            raise RuntimeError("begin() before the end() of the tensor before")
        self._begin = self.size_bytes
        self._crc = 0

    def write(self, data: ReadableBuffer) -> None:
        """Add the next piece of a tensor: any contiguous buffer, which may be reused afterwards.

        Raises:
            OutputError: The file cannot be written, for want of space for example.
            RuntimeError: No tensor was begun.
        """
        if self._begin is None:
            raise RuntimeError("write() without begin()")
        self._crc = extend_crc(self._crc, data)
        self._put(data)

    def end(self) -> Extent:
        """Finish a tensor.

        Raises:
            RuntimeError: No tensor was begun.
        """
        if self._begin is None:
            raise RuntimeError("end() without begin()")
        extent = Extent(self._begin, self.size_bytes - self._begin, mask_crc(self._crc))
        self._begin = None
        return extent

    def append(self, data: ReadableBuffer, crc: int | None = None) -> Extent:
        """Add a tensor whose bytes are at hand.

        Args:
            data: Any contiguous buffer.
            crc: The CRC32C (not masked) that its entry has, where that is not simply the one of the bytes:
                `ckptmigrate.bundle.encode_strings` gives both.

        Raises:
            OutputError: The file cannot be written.
        """
        self.begin()
        if crc is None:
            self.write(data)
        else:
            self._crc = crc
            self._put(data)
        return self.end()

    def copy_range(self, source: str | os.PathLike[str] | int, offset: int, size_bytes: int, crc32c: int) -> Extent:
        """Add a tensor that another file has, without its bytes passing through the process where the system can.

        Args:
            source: The other file's path, or a descriptor of it.
            offset: Where the tensor starts in it.
            size_bytes: How many bytes it has.
            crc32c: Its masked CRC32C as its entry has it, which is handed on and not verified.

        Raises:
            CorruptBundleError: The other file ends before the tensor does.
            OutputError: A file cannot be read or written.
        """
        if not isinstance(source, int):
            with _as_output_errors(self.path):
                descriptor = os.open(source, os.O_RDONLY)
            try:
                return self.copy_range(descriptor, offset, size_bytes, crc32c)
            finally:
                os.close(descriptor)
        self.begin()
        with _as_output_errors(self.path):
            self._file.flush()
            out = self._file.fileno()
            done = 0
            for copy in (_copy_file_range, _sendfile, _read_and_write):
                done = copy(source, out, offset, size_bytes, done)
                if done == size_bytes:
                    break
        if done != size_bytes:
            raise CorruptBundleError(
                "data file ends before a tensor does",
                str(source),
                expected=f"{size_bytes} bytes from {offset} (entry)",
                got=f"{done} bytes",
            )
        self.size_bytes += size_bytes
        return self.end()._replace(crc32c=crc32c)

    def _put(self, data: ReadableBuffer) -> None:
        with _as_output_errors(self.path):
            self._file.write(data)
        self.size_bytes += len(data) if isinstance(data, bytes) else memoryview(data).nbytes


# The errors with which a system says that it, or this pair of file systems, cannot copy that way.
_CANNOT = {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY}


def _copy_file_range(source: int, out: int, offset: int, size_bytes: int, done: int) -> int:
    """Copy on from ``done``; how far it got, which is less than all where the file ends or the system cannot."""
    if not hasattr(os, "copy_file_range"):
        return done
    return _in_kernel(lambda count, start: os.copy_file_range(source, out, count, start), offset, size_bytes, done)


def _sendfile(source: int, out: int, offset: int, size_bytes: int, done: int) -> int:
    if not hasattr(os, "sendfile"):
        return done
    return _in_kernel(lambda count, start: os.sendfile(out, source, start, count), offset, size_bytes, done)


def _in_kernel(copy: Callable[[int, int], int], offset: int, size_bytes: int, done: int) -> int:
    try:
        while done < size_bytes:
            copied = copy(min(_COPY_BYTES, size_bytes - done), offset + done)
            if not copied:
                break
            done += copied
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    return done


def _read_and_write(source: int, out: int, offset: int, size_bytes: int, done: int) -> int:
    while done < size_bytes:
        piece = os.pread(source, min(_READ_BYTES, size_bytes - done), offset + done)
        if not piece:
            break
        view = memoryview(piece)
        while view:
            view = view[os.write(out, view) :]
        done += len(piece)
    return done


def _reach_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _as_output_errors(path: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise OutputError("file exists already", path) from error
    except OSError as error:
        raise OutputError(f"cannot be written ({error.strerror})", path) from error
