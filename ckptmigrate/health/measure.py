"""What the values of tensors are like, in one pass over a checkpoint: a block of one is in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from ckptmigrate.bundle import Bundle, Entry, extend_crc, mask_crc, numpy_dtype
from ckptmigrate.dtypes import FLOATS, PARTS
from ckptmigrate.errors import CkptMigrateError
from ckptmigrate.spec import OBJECT_GRAPH_KEY, DType, Key, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]

BLOCK_ELEMENTS = 1 << 16
"""So many elements are looked at together: few enough for the processor's cache, with all that is made of them."""

_EXTREME = 500
"""Squares of numbers beyond two to the power of this, or below its inverse, may leave float64."""

_MOST_SHIFT = 1000
"""Two to the power of this and its inverse are ordinary numbers of float64."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a tensor's values are like. NaN and infinity are counted, and left out of the rest.

    Of a complex tensor an element counts if either part does; it has no least and most.

    Attributes:
        elements: How many elements it has.
        nan: How many are NaN.
        inf: How many are infinite.
        subnormals: How many are so small that their type holds them with fewer digits, but are not zero.
        norm: The Euclidean norm, added up in float64; None if elements are no numbers, or could not be read.
        minimum: The least value; None without a finite one.
        maximum: The greatest value; None without a finite one.
        is_constant: There are several elements, and all are equal.
        problem: Why it could not be read, or that its checksum does not match; empty if nothing is wrong.
    """

    elements: int
    nan: int = 0
    inf: int = 0
    subnormals: int = 0
    norm: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    is_constant: bool = False
    problem: str = ""

    @property
    def is_zero(self) -> bool:
        """Whether there are elements, and all of them are zero."""
        return self.elements > 0 and self.norm == 0 and self.is_finite

    @property
    def is_finite(self) -> bool:
        """Whether there is neither NaN nor infinity."""
        return not (self.nan or self.inf)

    @property
    def subnormal_share(self) -> float:
        """How much of it is subnormal, from 0 to 1."""
        return self.subnormals / self.elements if self.elements else 0.0


def read_health(
    bundle: Bundle, keys: Iterable[Key] | None = None, on_progress: Callable[[int, int], None] | None = None
) -> dict[Key, Health]:
    """Read tensors, verify their checksums, and tell what their values are like.

    Each is read once, in the order of the data files, in a few MB of memory whatever its size; one that is
    partitioned is read slice by slice. What is wrong with one tensor is in its `Health`, and the others are read.

    Args:
        bundle: An open checkpoint.
        keys: Which tensors; all but the object graph, if not given.
        on_progress: Called with how many bytes were read, and how many there are.

    Returns:
        What each tensor's values are like, in the order of `keys`.
    """
    import numpy as np

    chosen = list(bundle.entries if keys is None else keys)
    if keys is None:
        chosen = [key for key in chosen if key != OBJECT_GRAPH_KEY]
    reader = _Reader(bundle, np.empty((2, 2 * BLOCK_ELEMENTS)), sum(map(bundle.stored_bytes, chosen)), on_progress)
    pieces = {key: _pieces(bundle, key) for key in chosen}
    found = {
        key: reader.read(bundle.entries[key], pieces[key])
        for key in sorted(chosen, key=lambda key: [(piece.shard, piece.offset) for piece in pieces[key][:1]])
    }
    return {key: found[key] for key in chosen}


def count_not_finite(values: Array) -> tuple[int, int]:
    """How many of some floats, or complex numbers, are NaN, and how many are infinite."""
    import numpy as np

    return int(np.isnan(values).sum()), int(np.isinf(values).sum())


def _pieces(bundle: Bundle, key: Key) -> list[Entry]:
    """What a tensor is stored in, in the order of the data files."""
    entry = bundle.entries[key]
    if not entry.slices:
        return [entry]
    return sorted(
        (bundle.slice_entries[key, piece] for piece in entry.slices), key=lambda piece: (piece.shard, piece.offset)
    )


class _Reader:
    """The state of one pass: two buffers that are used again and again, and how far it is."""

    __slots__ = ("bundle", "done_bytes", "scratch", "tell", "total_bytes")

    def __init__(
        self, bundle: Bundle, scratch: Array, total_bytes: int, tell: Callable[[int, int], None] | None
    ) -> None:
        self.bundle, self.scratch, self.total_bytes, self.tell = bundle, scratch, total_bytes, tell
        self.done_bytes = 0

    def read(self, entry: Entry, pieces: list[Entry]) -> Health:
        before = self.done_bytes
        try:
            if entry.spec.dtype.numpy_name is None:
                self.bundle.verify_crc(entry)
                return Health(entry.spec.num_elements)
            tally = _Tally(entry.spec, self.scratch)
            for piece in pieces:
                for data in self.verified(piece, BLOCK_ELEMENTS * (entry.spec.dtype.itemsize_bytes or 1)):
                    tally.add(data)
            return tally.health()
        except CkptMigrateError as error:
            return Health(entry.spec.num_elements, problem=str(error))
        finally:
            self.progress(before + self.bundle.stored_bytes(entry) - self.done_bytes)

    def verified(self, piece: Entry, block_bytes: int) -> Iterator[bytes]:
        """The bytes of a tensor or slice, block by block, while their checksum is computed.

        Raises:
            CorruptBundleError: After the last block, if it does not match.
        """
        crc = 0
        for data in self.bundle.pieces(piece, block_bytes):
            crc = extend_crc(crc, data)
            yield data
            self.progress(len(data))
        if mask_crc(crc) != piece.crc32c:
            self.bundle.verify_crc(piece)  # which says what is wrong

    def progress(self, size_bytes: int) -> None:
        self.done_bytes += size_bytes
        if self.tell is not None:
            self.tell(self.done_bytes, self.total_bytes)


class _Tally:
    """What was found of a tensor so far."""

    def __init__(self, spec: TensorSpec, scratch: Array) -> None:
        self.spec, self.scratch = spec, scratch
        part = PARTS.get(spec.dtype, spec.dtype)
        self.parts = 2 if spec.dtype in PARTS else 1
        self.numpy_dtype, self.part = numpy_dtype(spec.dtype), numpy_dtype(part)
        bits, _, exponent = FLOATS.get(part, (0, 0, 0))
        # The least number with all its digits; without bits it is no float.
        self.normal = math.ldexp(1, exponent + bits - 1) if bits else 0.0
        self.nan = self.inf = self.subnormals = 0
        self.norm = 0.0
        self.least: Any = None
        self.most: Any = None
        self.first: Any = None
        self.is_constant = True

    def health(self) -> Health:
        kind = float if self.normal else int
        ordered = self.parts == 1 and self.least is not None
        return Health(
            self.spec.num_elements,
            self.nan,
            self.inf,
            self.subnormals,
            self.norm,
            kind(self.least) if ordered else None,
            kind(self.most) if ordered else None,
            self.is_constant and self.spec.num_elements > 1,
        )

    def add(self, data: bytes) -> None:
        """Take a block into account: whole elements, at most `BLOCK_ELEMENTS`, at least one."""
        import numpy as np

        values = np.frombuffer(data, self.numpy_dtype)
        with np.errstate(all="ignore"):
            flat = self.widened(values)
            self.look_for_others(flat.reshape(-1, self.parts))
            ends = flat.min(), flat.max()
            if self.normal and not np.isfinite(ends).all():
                flat = self.without_not_finite(values, flat)
                if not flat.size:
                    return
                ends = flat.min(), flat.max()
            if self.normal:
                self.count_subnormals(flat)
            self.add_finite(flat, *(end.item() for end in ends))

    def widened(self, values: Array) -> Array:
        """The parts of some values, in a type that numpy is fast with and that holds all of them."""
        import numpy as np

        flat = values.view(self.part)
        if self.part.itemsize > 2 or self.part.kind in "iub":
            return flat
        wide: Array = self.scratch[1].view(np.float32)[: flat.size]
        if self.part.itemsize == 1:
            _all_values(self.spec.dtype).take(flat.view(np.uint8), out=wide, mode="clip")
        else:
            np.copyto(wide, flat)
        return wide

    def look_for_others(self, rows: Array) -> None:
        """Look whether each element, a row of its parts, is the first one."""
        if self.first is None:
            self.first = rows[0].copy()
        self.is_constant = self.is_constant and bool((rows == self.first).all())

    def without_not_finite(self, values: Array, flat: Array) -> Array:
        import numpy as np

        nan, inf = count_not_finite(values)
        self.nan, self.inf = self.nan + nan, self.inf + inf
        rows = flat.reshape(-1, self.parts)
        finite: Array = rows[np.isfinite(rows).all(1)].reshape(-1)
        return finite

    def count_subnormals(self, flat: Array) -> None:
        import numpy as np

        size = np.abs(flat, out=self.scratch[0].view(flat.dtype)[: flat.size])
        small = size < self.normal
        if small.any():
            small &= size != 0
            elements = small if self.parts == 1 else small.reshape(-1, self.parts).any(1)
            self.subnormals += int(np.count_nonzero(elements))

    def add_finite(self, flat: Array, least: float, most: float) -> None:
        import numpy as np

        self.least = least if self.least is None else min(self.least, least)
        self.most = most if self.most is None else max(self.most, most)
        _, exponent = math.frexp(max(abs(least), abs(most)))
        shift = 0
        if abs(exponent) > _EXTREME:
            shift = max(-_MOST_SHIFT, min(exponent, _MOST_SHIFT))
            flat = flat * 2.0**-shift
        # Not by `dot`: its threads wait for each other where a processor has other things to do.
        squares = np.square(flat, out=self.scratch[0, : flat.size], dtype=np.float64, casting="unsafe")
        self.norm = math.hypot(self.norm, math.sqrt(squares.sum()) * 2.0**shift)


@lru_cache(maxsize=32)
def _all_values(dtype: DType) -> Array:
    """The values of a type of one byte, by that byte: looked up ten times faster than its type converts them."""
    import numpy as np

    with np.errstate(all="ignore"):
        values: Array = np.arange(256, dtype=np.uint8).view(numpy_dtype(dtype)).astype(np.float32)
    return values
