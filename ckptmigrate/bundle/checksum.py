"""CRC32C as the format stores it: masked, over blocks of an index and over tensors' bytes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import google_crc32c

if TYPE_CHECKING:
    import numpy.typing as npt
    from _typeshed import ReadableBuffer

_MASK_DELTA = 0xA282EAD8
_ALL_BITS = 0xFFFFFFFF

# google_crc32c takes bytes and arrays, but not a view of any other buffer: of those a piece is copied first.
# A piece of this size stays in the processor's cache, and no tensor is ever copied whole.
_PIECE_BYTES = 1 << 18


def mask_crc(crc: int) -> int:
    """The stored form of a CRC32C: rotated right by 15 bits, plus a constant.

    Source: ``Mask`` in tensorflow/core/lib/hash/crc32c.h (a CRC of data that contains CRCs is weak).
    """
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _ALL_BITS


def unmask_crc(masked: int) -> int:
    """The inverse of `mask_crc`."""
    rotated = (masked - _MASK_DELTA) & _ALL_BITS
    return ((rotated >> 17) | (rotated << 15)) & _ALL_BITS


def extend_crc(crc: int, data: ReadableBuffer | npt.NDArray[Any]) -> int:
    """The CRC32C (not masked) of what ``crc`` stands for with ``data`` after it; 0 stands for nothing.

    Args:
        crc: The CRC32C of what comes before.
        data: Bytes, or any buffer of contiguous bytes or array, of any size.
    """
    if type(data) is not memoryview:
        with contextlib.suppress(TypeError):
            return int(google_crc32c.extend(crc, data))
    with memoryview(data) as given:  # type: ignore[arg-type]  # an array is a buffer
        if not given.nbytes:
            return crc
        with given.cast("B") as view:
            for start in range(0, len(view), _PIECE_BYTES):
                crc = google_crc32c.extend(crc, view[start : start + _PIECE_BYTES].tobytes())
    return crc
