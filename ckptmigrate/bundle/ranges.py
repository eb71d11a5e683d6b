"""Data files read by ranges, and boxes of a tensor as the ranges that they are.

Files are read and not mapped: of a mapped file that is cut short, or on a disk that fails, the system ends the
process. What is read is in the process's own memory, and no more of it than was asked for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from ckptmigrate.bundle.algebra import shift_crc, shift_crcs
from ckptmigrate.bundle.checksum import extend_crc
from ckptmigrate.bundle.slices import Box
from ckptmigrate.errors import CorruptBundleError, NotACheckpointError

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

PIECE_BYTES = 1 << 18
"""So much is read at a time where bytes pass through: it stays in the processor's cache."""

_FAR_BYTES = 1 << 15
"""Runs that are so far apart are read one by one; of others, what lies between is read too."""

_SPAN_BYTES = 1 << 20
"""At most so much is read at once to pick short runs from."""

_LEAST_RUN_BYTES = 512
"""Of shorter runs no checksums are computed."""


class DataFile:
    """A data file that is read by ranges, by any number of threads at the same time."""

    __slots__ = ("_descriptor", "path", "size_bytes")

    def __init__(self, path: str, size_bytes: int) -> None:
        """Open a file.

        Args:
            path: The file.
            size_bytes: The size that it had when its checkpoint was opened.

        Raises:
            NotACheckpointError: It cannot be read.
            CorruptBundleError: It is shorter now.
        """
        self.path, self.size_bytes = path, size_bytes
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            found = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise self._unreadable(error) from error
        if found < size_bytes:
            raise self._shorter(found)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def pieces(self, offset: int, size_bytes: int, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
        """The bytes of a range, in pieces of one size but for the last.

        Raises:
            NotACheckpointError: The file cannot be read.
            CorruptBundleError: It ends before the range does.
        """
        end = offset + size_bytes
        while offset < end:
            piece = self._read(min(piece_bytes, end - offset), offset)
            offset += len(piece)
            yield piece

    def read_into(self, offset: int, out: memoryview) -> None:
        """Fill a buffer of bytes from a place on.

        Raises:
            NotACheckpointError: The file cannot be read.
            CorruptBundleError: It ends before the buffer is full.
        """
        while out:
            try:
                count = os.preadv(self._descriptor, [out], offset)
            except OSError as error:
                raise self._unreadable(error) from error
            if not count:
                raise self._shorter(offset)
            offset += count
            out = out[count:]

    def _read(self, size_bytes: int, offset: int) -> bytes:
        """All of a short range. The system may give less at a time, though it hardly ever does."""
        try:
            piece = os.pread(self._descriptor, size_bytes, offset)
        except OSError as error:
            raise self._unreadable(error) from error
        if not piece:
            raise self._shorter(offset)
        missing = size_bytes - len(piece)
        return piece + self._read(missing, offset + len(piece)) if missing else piece

    def _unreadable(self, error: OSError) -> NotACheckpointError:
        return NotACheckpointError(f"unreadable data file ({error.strerror})", self.path)

    def _shorter(self, size_bytes: int) -> CorruptBundleError:
        return CorruptBundleError(
            "data file has become shorter",
            self.path,
            expected=f"{self.size_bytes} bytes (when the checkpoint was opened)",
            got=f"{size_bytes} bytes",
        )


class Reads:
    """What was read of tensors, by their checksums: enough to tell whether all of each was read, once, and sound.

    Attributes:
        crcs: By data file and offset of a tensor, what all that was read of it adds to its CRC32C, not masked; None
            if that is not known. Bytes that are read twice take themselves away again, so it is the tensor's
            checksum if each was read once.
        size_bytes: How much was read, of all tensors.
    """

    __slots__ = ("crcs", "size_bytes")

    def __init__(self) -> None:
        self.crcs: dict[tuple[int, int], int | None] = {}
        self.size_bytes = 0

    def note(self, tensor: tuple[int, int], values: Array, runs: Runs) -> None:
        """Take note of runs of a tensor, whose values stand one behind the other."""
        import numpy as np

        self.size_bytes += values.nbytes
        known = self.crcs.get(tensor, 0)
        if known is None:
            return
        data = values.reshape(-1).view("u1")
        run_bytes = runs.length * values.itemsize
        behind_bytes = (runs.total - runs.length - runs.starts) * values.itemsize
        if len(runs.starts) == 1:
            crc = shift_crc(extend_crc(0, data), int(behind_bytes[0]))
        elif run_bytes < _LEAST_RUN_BYTES:
            self.crcs[tensor] = None
            return
        else:
            parts = [extend_crc(0, data[start : start + run_bytes]) for start in range(0, len(data), run_bytes)]
            crc = shift_crcs(np.array(parts, np.uint32), behind_bytes)
        self.crcs[tensor] = known ^ crc


class Runs:
    """The runs that a box is in row-major order: elements that follow each other.

    Attributes:
        starts: The flat position at which each starts, ascending.
        length: How many elements each has.
        total: How many the tensor has.
    """

    __slots__ = ("length", "starts", "total")

    def __init__(self, box: Box, shape: tuple[int, ...]) -> None:
        import numpy as np

        self.total = math.prod(shape)
        # The axes behind this one are whole.
        cut = len(shape) - 1
        while cut > 0 and box[cut] == (0, shape[cut]):
            cut -= 1
        starts = np.zeros((), np.int64)
        for (start, stop), size in zip(box[:cut], shape[:cut], strict=True):
            starts = np.add.outer(starts * size, np.arange(start, stop))
        inner = math.prod(shape[cut + 1 :])
        first, last = box[cut] if box else (0, 1)
        self.starts = (starts.reshape(-1) * (shape[cut] if box else 1) + first) * inner
        self.length = (last - first) * inner


def read_box(file: DataFile, offset: int, box: Box, shape: tuple[int, ...], out: Array) -> Runs:
    """Read a box of a tensor that is stored in row-major order.

    Args:
        file: The data file.
        offset: Where in it the tensor starts.
        box: Per axis the first index, and the index after the last; not empty.
        shape: What the tensor is seen in.
        out: Where the values go: contiguous, of the box's shape and the tensor's dtype.

    Returns:
        The runs that it is.
    """
    itemsize = out.itemsize
    runs = Runs(box, shape)
    flat = out.reshape(-1).view("u1")
    run_bytes = runs.length * itemsize
    gap_bytes = (int(runs.starts[1] - runs.starts[0]) if len(runs.starts) > 1 else 0) * itemsize - run_bytes
    if len(runs.starts) == 1 or gap_bytes > _FAR_BYTES or run_bytes > _FAR_BYTES:
        view = flat.data
        for number, start in enumerate(runs.starts.tolist()):
            file.read_into(offset + start * itemsize, view[number * run_bytes : (number + 1) * run_bytes])
    else:
        _read_spans(file, offset, box, shape, out)
    return runs


def _read_spans(file: DataFile, offset: int, box: Box, shape: tuple[int, ...], out: Array) -> None:
    """Read a box with what lies between its runs, along the innermost axis that has several."""
    import numpy as np

    if out.itemsize <= 8:
        out = out.view(f"u{out.itemsize}")  # numpy copies its own types faster; same bytes
    cut = max(axis for axis in range(len(shape)) if box[axis] != (0, shape[axis]))
    along = max(axis for axis in range(cut) if box[axis][1] - box[axis][0] > 1)
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    run = math.prod(stop - start for start, stop in box[cut:])
    step = max(1, _SPAN_BYTES // (strides[along] * out.itemsize))
    first, last = box[along]
    rows = out.reshape(-1, last - first, run)
    # The axes between have one index each.
    inner = sum(start * stride for (start, _), stride in zip(box[along + 1 :], strides[along + 1 :], strict=True))
    for number, place in enumerate(product(*(range(start, stop) for start, stop in box[:along]))):
        base = sum(index * stride for index, stride in zip(place, strides[:along], strict=True)) + inner
        for start in range(first, last, step):
            count = min(step, last - start)
            span = np.empty((count, strides[along]), out.dtype)
            # The last run is not followed by another, nor perhaps by anything.
            needed = ((count - 1) * strides[along] + run) * out.itemsize
            view = span.reshape(-1).view("u1").data[:needed]
            file.read_into(offset + (base + start * strides[along]) * out.itemsize, view)
            rows[number, start - first : start - first + count] = span[:, :run]
