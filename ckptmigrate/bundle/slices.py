"""Partitioned tensors: which box of a tensor a slice is, and the key that it is stored under.

A tensor that was saved in pieces has one entry without bytes, which lists its slices, and an entry for
each slice under a key that encodes the tensor's name and the slice in an order-preserving code.

Source: ``EncodeTensorNameSlice`` in tensorflow/core/util/saved_tensor_slice_util.cc, the code itself in
tensorflow/core/lib/strings/ordered_code.cc.
"""

from __future__ import annotations

WHOLE_AXIS = -1
"""The length that stands for a whole axis, in a `SliceSpec` and on disk."""

SliceSpec = tuple[tuple[int, int], ...]
"""A slice: per axis where it starts and how long it is; ``(0, -1)`` is the whole axis."""

Box = tuple[tuple[int, int], ...]
"""An axis-aligned box: per axis the first index, and the index after the last."""

SLICE_KEY_PREFIX = b"\0"
"""How the key of a slice starts, and no tensor's name does."""

_MAX_RANK = 254
"""Source: ``TensorShapeRep::MaxDimensions`` in tensorflow/core/framework/tensor_shape.h."""


def slice_box(spec: SliceSpec, shape: tuple[int, ...]) -> Box:
    """The box of a slice in a tensor.

    Raises:
        ValueError: The slice has another rank than the tensor, or reaches out of it.
    """
    if len(spec) != len(shape):
        raise ValueError(f"a slice of rank {len(spec)} in a tensor of rank {len(shape)}")
    box = tuple(
        (start, size if length == WHOLE_AXIS else start + length)
        for (start, length), size in zip(spec, shape, strict=True)
    )
    for axis, ((start, stop), size) in enumerate(zip(box, shape, strict=True)):
        if not 0 <= start <= stop <= size:
            raise ValueError(f"a slice from {start} to {stop} of axis {axis}, which has {size} elements")
    return box


def format_slice(spec: SliceSpec) -> str:
    """A slice as TensorFlow writes it in text, ``0,4:-`` for rows 0 to 3 and every column.

    Source: tensorflow/core/framework/tensor_slice.h.
    """
    return ":".join("-" if length == WHOLE_AXIS else f"{start},{length}" for start, length in spec)


def encode_slice_key(name: bytes, spec: SliceSpec) -> bytes:
    """The key that a slice of a partitioned tensor is stored under."""
    escaped = name.replace(b"\xff", b"\xff\0") if b"\0" not in name else _escape(name)
    numbers = b"".join(_encode_signed(number) for extent in spec for number in extent)
    return SLICE_KEY_PREFIX + escaped + b"\0\1" + _encode_unsigned(len(spec)) + numbers


def decode_slice_key(key: bytes) -> tuple[bytes, SliceSpec]:
    """The name and the slice that a key encodes; the inverse of `encode_slice_key`.

    Raises:
        ValueError: The key is not the encoding of a slice.
    """
    if not key.startswith(SLICE_KEY_PREFIX):
        raise ValueError("no leading zero byte")
    name, position = _decode_string(key, 1)
    rank, position = _decode_unsigned(key, position)
    if not 0 < rank <= _MAX_RANK:
        raise ValueError(f"a rank of {rank}")
    extents: list[tuple[int, int]] = []
    for _ in range(rank):
        start, position = _decode_signed(key, position)
        length, position = _decode_signed(key, position)
        extents.append((start, length))
    if position != len(key):
        raise ValueError("bytes after the last extent")
    spec = tuple(extents)
    if encode_slice_key(name, spec) != key:
        raise ValueError("a number is not in its shortest form")
    return name, spec


def _escape(name: bytes) -> bytes:
    special = {0x00: b"\0\xff", 0xFF: b"\xff\0"}
    return b"".join(special.get(byte, bytes((byte,))) for byte in name)


def _decode_string(data: bytes, position: int) -> tuple[bytes, int]:
    out = bytearray()
    while position + 1 < len(data):
        byte, following = data[position], data[position + 1]
        if byte not in (0x00, 0xFF):
            out.append(byte)
            position += 1
        elif (byte, following) == (0x00, 0x01):
            return bytes(out), position + 2
        elif (byte, following) in ((0x00, 0xFF), (0xFF, 0x00)):
            out.append(byte)
            position += 2
        else:
            raise ValueError("an escape that means nothing in the name")
    raise ValueError("the key ends inside the name")


def _encode_unsigned(value: int) -> bytes:
    """One byte for the number of bytes, then those, most significant first."""
    size = (value.bit_length() + 7) // 8
    return bytes((size,)) + value.to_bytes(size, "big")


def _decode_unsigned(data: bytes, position: int) -> tuple[int, int]:
    if position >= len(data) or data[position] > 8 or position + 1 + data[position] > len(data):
        raise ValueError("the key ends inside a number")
    end = position + 1 + data[position]
    return int.from_bytes(data[position + 1 : end], "big"), end


# A signed number of n bytes has a sign bit (1 for numbers from zero up), n - 1 bits equal to it, a bit unlike it, and
# 7n - 1 bits of value in two's complement. So the number plus its header is one big-endian integer of 8n bits.
_MAX_SIGNED_BYTES = 10


def _encode_signed(value: int) -> bytes:
    magnitude_bits = (~value if value < 0 else value).bit_length()
    size = magnitude_bits // 7 + 1
    bits = 8 * size
    header = ((1 << size) - 1) << (bits - size)
    return ((value % (1 << bits)) ^ header).to_bytes(size, "big")


def _decode_signed(data: bytes, position: int) -> tuple[int, int]:
    lead = int.from_bytes(data[position : position + 2].ljust(2, b"\0"), "big")
    if lead & 0x8000 == 0:
        lead ^= 0xFFFF
    size = 16 - (lead ^ 0xFFFF).bit_length()
    end = position + size
    if size > _MAX_SIGNED_BYTES or end > len(data):
        raise ValueError("the key ends inside a number")
    bits = 8 * size
    header = ((1 << size) - 1) << (bits - size)
    value = int.from_bytes(data[position:end], "big") ^ header
    if value >> (bits - 1):
        value -= 1 << bits
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("a number of more than 64 bits")
    return value, end
