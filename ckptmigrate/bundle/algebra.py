"""How the CRC32C of a whole follows from those of its parts.

The CRC32C of bytes is a linear function of their bits, but for a constant. So what a part adds to the checksum of the
whole depends on nothing but the part's own checksum and how many bytes come behind it: parts may be read or written
in any order and anywhere, and what each adds is put together with an exclusive or.

Source: Sarwate, "Computation of cyclic redundancy checks via table look-up", CACM 31 (1988); ``crc32_combine`` of
zlib computes the same for another polynomial.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78
"""Castagnoli's, its bits reversed. Source: RFC 3720, appendix B.4."""

Matrix = tuple[int, ...]
"""A linear map of bits to 32 bits: the image of each bit. A number stands for a vector of bits, the lowest first."""


def shift_crc(crc: int, size_bytes: int) -> int:
    """What a part adds to the checksum of the whole.

    Args:
        crc: The CRC32C of the part, not masked.
        size_bytes: How many bytes of the whole come behind it.
    """
    for power in range(size_bytes.bit_length()):
        if size_bytes >> power & 1:
            crc = image(_behind_power(power), crc)
    return crc


def shift_crcs(crcs: npt.NDArray[Any], sizes_bytes: npt.NDArray[Any]) -> int:
    """What several parts together add to the checksum of the whole.

    Args:
        crcs: The CRC32C of each part, not masked; uint32. It is overwritten.
        sizes_bytes: How many bytes of the whole come behind each; int64.
    """
    import numpy as np

    for power in range(int(sizes_bytes.max(initial=0)).bit_length()):
        chosen = np.flatnonzero(sizes_bytes >> power & 1)
        if len(chosen):
            one, two, three, four = np.array(_tables(power), np.uint32)
            bits = crcs[chosen]
            crcs[chosen] = one[bits & 255] ^ two[bits >> 8 & 255] ^ three[bits >> 16 & 255] ^ four[bits >> 24]
    return int(np.bitwise_xor.reduce(crcs, initial=np.uint32(0)))


def join_crcs(left: int, right: int, right_bytes: int) -> int:
    """The CRC32C of two pieces, one behind the other.

    Args:
        left: That of the first, not masked.
        right: That of the second.
        right_bytes: The size of the second.
    """
    return shift_crc(left, right_bytes) ^ right


def image(matrix: Sequence[int], bits: int) -> int:
    """What a linear map makes of bits."""
    found = 0
    while bits:
        low = bits & -bits
        found ^= matrix[low.bit_length() - 1]
        bits ^= low
    return found


def _after(later: Sequence[int], earlier: Sequence[int]) -> Matrix:
    return tuple(image(later, bits) for bits in earlier)


_ONE_BIT: Matrix = (_POLYNOMIAL, *(1 << bit for bit in range(31)))
"""What one zero bit behind does to a checksum."""

_IDENTITY: Matrix = tuple(1 << bit for bit in range(32))


@lru_cache(maxsize=256)
def _behind_power(power: int) -> Matrix:
    """What so many zero bytes behind do to a checksum: two to the power of a number."""
    if power:
        half = _behind_power(power - 1)
        return _after(half, half)
    matrix = _ONE_BIT
    for _ in range(3):
        matrix = _after(matrix, matrix)
    return matrix


@lru_cache(maxsize=4096)
def behind(size_bytes: int) -> Matrix:
    """What so many zero bytes behind do to a checksum."""
    matrix = _IDENTITY
    for power in range(size_bytes.bit_length()):
        if size_bytes >> power & 1:
            matrix = _after(_behind_power(power), matrix)
    return matrix


@lru_cache(maxsize=64)
def _tables(power: int) -> tuple[list[int], ...]:
    """The images of each byte of a checksum, from the lowest up."""
    matrix = _behind_power(power)
    return tuple([image(matrix[start : start + 8], byte) for byte in range(256)] for start in range(0, 32, 8))
