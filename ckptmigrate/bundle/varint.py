"""Unsigned LEB128 integers, as protobuf and LevelDB write them.

Source: tensorflow/core/lib/core/coding.cc.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_VARINT_BYTES = 10
"""A uint64 takes at most ten bytes of seven bits each."""


def encode_varint(value: int) -> bytes:
    """A number below 2^64 as one to ten bytes."""
    if value < 0x80:
        return _ONE_BYTE[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: Sequence[int], position: int) -> tuple[int, int]:
    """The number at a position, and the position after it.

    Raises:
        ValueError: The bytes end inside the number, or it is not the shortest form of a 64-bit number.
    """
    value = 0
    for shift in range(0, 7 * MAX_VARINT_BYTES, 7):
        if position >= len(data):
            raise ValueError("the bytes end inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            if not byte and shift:
                # Every writer gives the shortest form; in a footer, which has no checksum, this finds damage.
                raise ValueError("a number that is not in its shortest form")
            return value, position
    raise ValueError("a number of more than 64 bits")


_ONE_BYTE = tuple(bytes((value,)) for value in range(0x80))
