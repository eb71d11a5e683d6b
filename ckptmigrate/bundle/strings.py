"""Tensors of strings and of variants: their bytes, and the checksums over them.

A string tensor is a varint for each string's length, the masked CRC32C of the lengths, and the strings.
A variant tensor is, for each element, a varint for its length, its bytes, and a masked CRC32C of all that
came before. In both the checksums take a length as a fixed number of bytes and not as the varint.

Source: ``WriteStringTensor``, ``ReadStringTensor``, ``WriteVariantTensor`` and ``ReadVariantTensor`` in
tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from ckptmigrate.bundle.checksum import extend_crc, mask_crc
from ckptmigrate.bundle.varint import decode_varint, encode_varint
from ckptmigrate.errors import CorruptBundleError

CRC_BYTES = 4
_UINT32_MAX = 0xFFFFFFFF


class StringLayout:
    """Where the strings of a tensor are in its bytes.

    Attributes:
        starts: The offset of each string, and after the last its end: one number more than there are strings.
        crc: The CRC32C (not masked) of the lengths and of the checksum behind them.
    """

    __slots__ = ("crc", "starts")

    def __init__(self, data: memoryview, num_elements: int, where: str) -> None:
        """Read the lengths.

        Raises:
            CorruptBundleError: The lengths do not fit the bytes or their checksum.
        """
        lengths: list[int] = []
        position = 0
        try:
            for _ in range(num_elements):
                length, position = decode_varint(data, position)
                lengths.append(length)
        except ValueError as error:
            raise CorruptBundleError(f"unreadable string length: {error}", where) from None
        self.crc = 0
        if not num_elements and not len(data):
            self.starts = [0]
            return
        start = position + CRC_BYTES
        if start + sum(lengths) != len(data):
            raise CorruptBundleError(
                "strings do not fill their tensor",
                where,
                expected=f"{start + sum(lengths)} bytes (the strings' lengths)",
                got=f"{len(data)} bytes (the entry)",
            )
        checksum = bytes(data[position:start])
        self.crc = extend_crc(0, _fixed_lengths(lengths))
        if int.from_bytes(checksum, "little") != mask_crc(self.crc):
            raise CorruptBundleError(
                "checksum mismatch in the strings' lengths",
                where,
                expected=f"{int.from_bytes(checksum, 'little'):#010x} (stored)",
                got=f"{mask_crc(self.crc):#010x} (computed)",
            )
        self.crc = extend_crc(self.crc, checksum)
        self.starts = list(accumulate(lengths, initial=start))


def _fixed_lengths(lengths: Sequence[int]) -> bytes:
    """Lengths as checksums take them: uint32, or uint64 for one that does not fit.

    Files from before lengths had 64 bits read the same: theirs were uint32 throughout, and checksummed so.
    (Every tensor of TensorFlow's own test data for them, testdata/old_string_tensors beside tensor_bundle.cc, has
    the checksum that this gives.)
    """
    if max(lengths, default=0) <= _UINT32_MAX:
        return struct.pack(f"<{len(lengths)}I", *lengths)
    return b"".join(struct.pack("<I" if length <= _UINT32_MAX else "<Q", length) for length in lengths)


def decode_strings(data: memoryview, num_elements: int, where: str) -> list[bytes]:
    """The strings of a tensor, in row-major order. Their own bytes' checksum is not verified.

    Args:
        data: The entry's bytes.
        num_elements: How many strings the tensor's shape asks for.
        where: What to call the tensor in an error.

    Raises:
        CorruptBundleError: The lengths do not fit the bytes or their checksum.
    """
    starts = StringLayout(data, num_elements, where).starts
    return [bytes(data[start:stop]) for start, stop in pairwise(starts)]


def encode_strings(values: Sequence[bytes]) -> tuple[bytes, int]:
    """The bytes of a string tensor, and their CRC32C (not masked) as an entry has it."""
    lengths = list(map(len, values))
    crc = extend_crc(0, _fixed_lengths(lengths))
    checksum = struct.pack("<I", mask_crc(crc))
    body = b"".join(values)
    crc = extend_crc(extend_crc(crc, checksum), body)
    return b"".join([*map(encode_varint, lengths), checksum, body]), crc


def string_crc(data: memoryview, num_elements: int, where: str) -> int:
    """The CRC32C (not masked) of a string tensor's bytes as an entry has it.

    Raises:
        CorruptBundleError: The lengths do not fit the bytes or their checksum.
    """
    layout = StringLayout(data, num_elements, where)
    return extend_crc(layout.crc, data[layout.starts[0] :])


def encode_variants(values: Iterable[bytes]) -> tuple[bytes, int]:
    """The bytes of a variant tensor, and their CRC32C (not masked) as an entry has it.

    Args:
        values: Each element's serialized ``VariantTensorDataProto``.
    """
    crc = 0
    pieces: list[bytes] = []
    for value in values:
        crc = extend_crc(extend_crc(crc, struct.pack("<Q", len(value))), value)
        checksum = struct.pack("<I", mask_crc(crc))
        crc = extend_crc(crc, checksum)
        pieces += (encode_varint(len(value)), value, checksum)
    return b"".join(pieces), crc


def variant_crc(data: memoryview, num_elements: int, where: str) -> int:
    """The CRC32C (not masked) of a variant tensor's bytes as an entry has it.

    Raises:
        CorruptBundleError: The elements do not fit the bytes or their checksums.
    """
    crc = 0
    position = 0
    for number in range(num_elements):
        element = f"{where}, element {number}"
        try:
            length, position = decode_varint(data, position)
        except ValueError as error:
            raise CorruptBundleError(f"unreadable variant length: {error}", element) from None
        end = position + length
        if end + CRC_BYTES > len(data):
            raise CorruptBundleError(
                "variant out of range",
                element,
                expected=f"an end at {len(data) - CRC_BYTES} or before (the entry)",
                got=f"{end} (its length)",
            )
        crc = extend_crc(extend_crc(crc, struct.pack("<Q", length)), data[position:end])
        checksum = bytes(data[end : end + CRC_BYTES])
        if int.from_bytes(checksum, "little") != mask_crc(crc):
            raise CorruptBundleError("checksum mismatch after a variant", element)
        crc = extend_crc(crc, checksum)
        position = end + CRC_BYTES
    if position != len(data):
        raise CorruptBundleError(
            "variants do not fill their tensor",
            where,
            expected=f"{position} bytes (the variants' lengths)",
            got=f"{len(data)} bytes (the entry)",
        )
    return crc
