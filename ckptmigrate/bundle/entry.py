"""The records of an index: the header, and for each tensor what it is and where its bytes are.

Source: tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any

import msgspec

from ckptmigrate.bundle.protos import BundleEntryProto, BundleHeaderProto
from ckptmigrate.bundle.slices import WHOLE_AXIS, SliceSpec, format_slice, slice_box
from ckptmigrate.bundle.strings import CRC_BYTES
from ckptmigrate.bundle.varint import encode_varint
from ckptmigrate.errors import CorruptBundleError
from ckptmigrate.spec import DType, Key, TensorSpec

HEADER_KEY = b""
"""The key of the header, first of all keys."""

FORMAT_VERSION = 1
"""The version that we write, and that a file must be open to.

Source: ``kTensorBundleVersion`` in tensorflow/core/util/tensor_bundle/tensor_bundle.cc.
"""

MAX_SHARDS = 99999
"""Names of data files have five digits for the shard."""

_MAX_ELEMENTS = 1 << 62
_MAX_RANK = 254
_BIG_ENDIAN = 1


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A tensor's place in a bundle.

    Attributes:
        key: The tensor's name. An entry for a slice has the name of the tensor that it is a slice of.
        spec: Its dtype and shape; for a slice, the slice's own shape.
        shard: Which data file has its bytes, from 0.
        offset: Where in that file they start.
        size_bytes: How many they are.
        crc32c: Their CRC32C as stored, which is masked. For strings and variants it is not simply that of the
            bytes: see `ckptmigrate.bundle.strings`.
        slices: The slices of a partitioned tensor, whose own entry has no bytes; empty for a tensor stored whole.
    """

    key: Key
    spec: TensorSpec
    shard: int
    offset: int
    size_bytes: int
    crc32c: int
    slices: tuple[SliceSpec, ...] = ()


def same_slices(left: Entry, right: Entry) -> bool:
    """Whether two tensors of one shape are stored in the same slices, in whatever order; or both whole."""
    if not left.slices and not right.slices:
        return True
    boxes = [sorted(slice_box(piece, entry.spec.shape) for piece in entry.slices) for entry in (left, right)]
    return boxes[0] == boxes[1]


class Header(msgspec.Struct, frozen=True):
    """What an index says of the whole bundle.

    Attributes:
        num_shards: How many data files there are.
        producer_version: The format's version that its writer had.
    """

    num_shards: int
    producer_version: int


def decode_key(key: bytes) -> Key:
    """A key as text, whatever its bytes are."""
    return Key(key.decode("utf-8", "surrogateescape"))


def encode_key(key: Key) -> bytes:
    """The inverse of `decode_key`."""
    return key.encode("utf-8", "surrogateescape")


def decode_header(value: bytes, where: str) -> Header:
    """Read a header.

    Raises:
        CorruptBundleError: It is not readable, or of a kind that we cannot read.
    """
    proto = _parse(BundleHeaderProto, value, where)
    if proto.endianness == _BIG_ENDIAN:
        raise CorruptBundleError(
            "big-endian checkpoint",
            where,
            expected="little-endian (the only order read here)",
            got="big-endian (header)",
            hint="Load it and save it again with TensorFlow on a little-endian machine, which swaps the bytes",
        )
    if proto.endianness:
        raise CorruptBundleError("unknown byte order", where, expected="0 or 1", got=f"{proto.endianness} (header)")
    if not 0 < proto.num_shards <= MAX_SHARDS:
        raise CorruptBundleError(
            "impossible number of shards",
            where,
            expected=f"1 to {MAX_SHARDS} (file names have five digits)",
            got=f"{proto.num_shards} (header)",
        )
    version = proto.version
    # Source: CheckVersions in tensorflow/core/framework/versions.cc.
    if version.producer < 0 or version.min_consumer > FORMAT_VERSION or FORMAT_VERSION in version.bad_consumers:
        raise CorruptBundleError(
            "checkpoint of another version of the format",
            where,
            expected=f"one that readers of version {FORMAT_VERSION} may read",
            got=f"producer {version.producer}, readers from {version.min_consumer} (header)",
            hint="Use a newer ckptmigrate",
        )
    return Header(proto.num_shards, version.producer)


def encode_header(num_shards: int) -> bytes:
    """The header that we write."""
    header = BundleHeaderProto(num_shards=num_shards)
    header.version.producer = FORMAT_VERSION
    return bytes(header.SerializeToString())


# How an entry of a whole tensor goes on after dtype and shape, in the order and the shortest form that every writer
# gives the fields: shard_id, offset, size (varints) and crc32c (four bytes), each left out when it is zero.
_TAIL = re.compile(
    rb"(?:\x18([\x80-\xff]?[\x01-\x7f]))?"
    rb"(?:\x20([\x80-\xff]{0,8}[\x01-\x7f]))?"
    rb"(?:\x28([\x80-\xff]{0,8}[\x01-\x7f]))?"
    rb"(?:\x35([\x00-\xff]{4}))?"
)


class EntryDecoder:
    """Reads entries, each distinct dtype and shape once.

    The general way is by protobuf. Nearly every entry has the form of `_TAIL`, though, and a bundle has few
    distinct shapes; for these the bytes are taken apart here, which is several times faster and gives the same.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[TensorSpec, int, int]] = {}

    def decode(self, key: Key, value: bytes, path: str, piece: SliceSpec | None = None) -> Entry:
        """Read one entry, and verify all of it that can be without other entries.

        Args:
            key: The tensor's name.
            value: The entry's record.
            path: The index file, for messages.
            piece: Which slice of the tensor the entry is of, for messages; None if of all of it.

        Raises:
            CorruptBundleError: It is not readable, or contradicts itself.
        """
        try:
            if value[0] == 0x08 and value[1] < 0x80 and value[2] == 0x12 and value[3] < 0x80:
                split = 4 + value[3]
                tail = _TAIL.fullmatch(value, split)
                if tail is not None:
                    known = self._known.get(value[:split])
                    if known is None:
                        where = _where(path, key, piece)
                        known = self._known[value[:split]] = _read_spec(
                            _parse(BundleEntryProto, value[:split], where), where
                        )
                    shard, offset, size, crc = tail.groups(b"")
                    size_bytes = _number(size)
                    if size_bytes != known[1]:
                        _check_size(known, size_bytes, _where(path, key, piece))
                    shard_number = _number(shard) if shard else 0
                    return Entry(
                        key, known[0], shard_number, _number(offset), size_bytes, int.from_bytes(crc, "little")
                    )
        except IndexError:
            pass  # too short for that form
        where = _where(path, key, piece)
        return _from_proto(key, _parse(BundleEntryProto, value, where), where)


def _where(path: str, key: Key, piece: SliceSpec | None) -> str:
    return f"{path}, key {key!r}" + (f", slice {format_slice(piece)}" if piece is not None else "")


def _number(varint: bytes) -> int:
    value = 0
    shift = 0
    for byte in varint:
        value |= (byte & 0x7F) << shift
        shift += 7
    return value


def _parse(message: Any, value: bytes, where: str) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return message.FromString(value)
    except DecodeError as error:
        raise CorruptBundleError("unreadable record", where, got=f"bytes that protobuf refuses: {error}") from None


def _read_spec(proto: Any, where: str) -> tuple[TensorSpec, int, int]:
    """A spec, its exact size in bytes (or -1 if there is none), and the least size that it can have."""
    try:
        dtype = DType(proto.dtype)
    except ValueError:
        raise CorruptBundleError(
            "unknown dtype",
            where,
            expected=f"1 to {max(DType)} (tensorflow/core/framework/types.proto)",
            got=f"{proto.dtype} (entry)",
            hint="If a newer TensorFlow wrote it, use a newer ckptmigrate",
        ) from None
    shape = tuple(dim.size for dim in proto.shape.dim)
    if proto.shape.unknown_rank or min(shape, default=0) < 0 or len(shape) > _MAX_RANK:
        raise CorruptBundleError(
            "impossible shape", where, got="an unknown rank" if proto.shape.unknown_rank else f"{_brief(shape)} (entry)"
        )
    # TensorFlow multiplies sizes one by one and refuses what passes 2^63 on the way, even if a zero follows.
    product = math.prod(size for size in shape if size)
    if product > _MAX_ELEMENTS:
        raise CorruptBundleError(
            "impossible shape", where, expected="at most 2^62 elements", got=f"{_brief(shape)} (entry)"
        )
    spec = TensorSpec(dtype, shape)
    count = spec.num_elements
    exact = spec.size_bytes
    if exact is not None:
        return spec, exact, exact
    # A string takes at least its length's byte, a variant that and a checksum; strings have one checksum in all, which
    # is there for no strings as well, though a reader does without.
    if dtype is DType.STRING:
        return spec, -1, count + CRC_BYTES if count else 0
    if dtype is DType.VARIANT:
        return spec, -1, count * (1 + CRC_BYTES)
    return spec, -1, 0


def _brief(shape: tuple[int, ...]) -> str:
    return str(list(shape)) if len(shape) <= 16 else f"{len(shape)} dimensions"


def _check_size(known: tuple[TensorSpec, int, int], size_bytes: int, where: str) -> None:
    spec, exact, least = known
    if exact >= 0 and size_bytes != exact:
        raise CorruptBundleError(
            "size does not fit the shape",
            where,
            expected=f"{exact} bytes ({spec})",
            got=f"{size_bytes} bytes (entry)",
        )
    if size_bytes < least:
        raise CorruptBundleError(
            "size too small for the shape",
            where,
            expected=f"at least {least} bytes ({spec})",
            got=f"{size_bytes} bytes (entry)",
        )


def _from_proto(key: Key, proto: Any, where: str) -> Entry:
    known = _read_spec(proto, where)
    for name in ("shard_id", "offset", "size"):
        if getattr(proto, name) < 0:
            raise CorruptBundleError(f"negative {name}", where, got=f"{getattr(proto, name)} (entry)")
    slices = tuple(_read_slice(piece) for piece in proto.slices)
    if not slices:
        _check_size(known, proto.size, where)
    elif proto.size:
        raise CorruptBundleError("partitioned tensor with bytes of its own", where, got=f"{proto.size} bytes (entry)")
    return Entry(key, known[0], proto.shard_id, proto.offset, proto.size, proto.crc32c, slices)


def _read_slice(proto: Any) -> SliceSpec:
    return tuple(
        (extent.start, extent.length) if extent.HasField("length") else (0, WHOLE_AXIS) for extent in proto.extent
    )


class EntryEncoder:
    """Writes entries, each distinct dtype and shape once, in the very bytes that TensorFlow writes."""

    def __init__(self) -> None:
        self._known: dict[TensorSpec, bytes] = {}

    def encode(self, entry: Entry) -> bytes:
        """An entry's record."""
        spec = entry.spec
        head = self._known.get(spec)
        if head is None:
            dims = b"".join(_submessage(0x12, b"\x08" + encode_varint(size) if size else b"") for size in spec.shape)
            head = self._known[spec] = b"\x08" + encode_varint(spec.dtype) + _submessage(0x12, dims)
        if entry.shard:
            head += b"\x18" + encode_varint(entry.shard)
        if entry.offset:
            head += b"\x20" + encode_varint(entry.offset)
        if entry.size_bytes:
            head += b"\x28" + encode_varint(entry.size_bytes)
        if entry.crc32c:
            head += b"\x35" + struct.pack("<I", entry.crc32c)
        for piece in entry.slices:
            extents = b"".join(_submessage(0x0A, _extent(*extent)) for extent in piece)
            head += _submessage(0x3A, extents)
        return head


def _submessage(tag: int, body: bytes) -> bytes:
    return bytes((tag,)) + encode_varint(len(body)) + body


def _extent(start: int, length: int) -> bytes:
    if length == WHOLE_AXIS:
        return b""
    # The length is written even if it is zero: that it is there tells a slice from a whole axis.
    return (b"\x08" + encode_varint(start) if start else b"") + b"\x10" + encode_varint(length)
