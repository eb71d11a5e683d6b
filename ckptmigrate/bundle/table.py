"""The index file's container: a LevelDB-style table of sorted keys and their values.

A file is data blocks, a meta-index block (empty), an index block, and a footer of 48 bytes. A block is
entries (key minus the prefix that it shares with the key before it, and value), then the offsets of the
restart points (entries that share nothing), then how many of these there are. Behind each block stand
one byte for its compression and the masked CRC32C of block and byte. The footer is where the meta-index
and the index are (two varints each, padded with zeros to 40 bytes) and eight bytes of magic.

Source: tensorflow/core/lib/io/{format,block,block_builder,table,table_builder}.cc.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import pairwise

from ckptmigrate.bundle.checksum import extend_crc, mask_crc
from ckptmigrate.bundle.varint import decode_varint, encode_varint
from ckptmigrate.errors import CorruptBundleError

MAGIC = bytes.fromhex("57fb808b247547db")
"""The last eight bytes of every table: 0xdb4775248b80fb57 in little-endian order."""

FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_UNCOMPRESSED, _SNAPPY = 0, 1

# A snappy copy element makes at most 64 bytes out of 3 (a literal never makes more than it takes), so no honest
# block grows more than 64/3 times. What claims to is refused before a byte of it is allocated.
_SNAPPY_MAX_GROWTH = 22

# Source: the defaults of table::Options in tensorflow/core/lib/io/table_options.h.
_BLOCK_BYTES = 262144
_RESTART_INTERVAL = 16


def is_table(data: bytes) -> bool:
    """Whether bytes end as a table does."""
    return len(data) >= FOOTER_BYTES and data.endswith(MAGIC)


def read_table(data: bytes, where: str) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table, in order.

    Every block's checksum, handle, restart points and order of keys is verified before anything of the block is
    given out.

    Args:
        data: The whole file.
        where: What to call the file in an error.

    Raises:
        CorruptBundleError: The bytes are not a table, or contradict themselves.
    """
    if len(data) < FOOTER_BYTES:
        raise CorruptBundleError(
            "truncated index",
            where,
            expected=f"at least {FOOTER_BYTES} bytes (a table's footer)",
            got=f"{len(data)} bytes (the file)",
            hint="Copy the file again from where it was written",
        )
    if not data.endswith(MAGIC):
        raise CorruptBundleError(
            "not an index, or a truncated one",
            where,
            expected=f"{MAGIC.hex()} (a table's last 8 bytes)",
            got=f"{data[-8:].hex()} (the file's)",
            hint="Copy the file again from where it was written",
        )
    footer_at = len(data) - FOOTER_BYTES
    footer = data[footer_at : -len(MAGIC)]
    meta_handle, position = _read_handle(footer, 0, f"{where}, footer")
    index_handle, position = _read_handle(footer, position, f"{where}, footer")
    if footer[position:].strip(b"\0"):
        raise CorruptBundleError("footer padding is not zero", f"{where}, footer")
    for _ in _read_entries(_read_block(data, meta_handle, footer_at, where), f"{where}, meta-index block"):
        pass  # TensorFlow writes none; walking it verifies it
    previous = b""
    index = _read_entries(_read_block(data, index_handle, footer_at, where), f"{where}, index block")
    for count, (separator, value) in enumerate(index):
        block_where = f"{where}, block {count}"
        handle, end = _read_handle(value, 0, block_where)
        if end != len(value):
            raise CorruptBundleError("bytes after a block handle", block_where)
        block = _read_block(data, handle, footer_at, where)
        entries = list(_read_entries(block, block_where, previous if count else None))
        if not entries:
            raise CorruptBundleError("empty block", block_where)
        previous = entries[-1][0]
        if previous > separator:
            raise CorruptBundleError(
                "block ends after its index key",
                block_where,
                expected=f"at most {separator!r} (the index block)",
                got=f"{previous!r} (the block's last key)",
            )
        # The next block's keys have to be above the separator too, or a lookup by key would miss them.
        previous = max(previous, separator)
        yield from entries


def _read_handle(data: bytes, position: int, where: str) -> tuple[tuple[int, int], int]:
    try:
        offset, position = decode_varint(data, position)
        size, position = decode_varint(data, position)
    except ValueError as error:
        raise CorruptBundleError(f"unreadable block handle: {error}", where) from None
    return (offset, size), position


def _read_block(data: bytes, handle: tuple[int, int], limit: int, where: str) -> bytes:
    offset, size = handle
    where = f"{where}, block at offset {offset}"
    end = offset + size
    if end + _TRAILER_BYTES > limit:
        raise CorruptBundleError(
            "block out of range",
            where,
            expected=f"an end at {limit - _TRAILER_BYTES} or before (file size)",
            got=f"{end} (block handle)",
        )
    stored = int.from_bytes(data[end + 1 : end + _TRAILER_BYTES], "little")
    actual = mask_crc(extend_crc(0, data[offset : end + 1]))
    if stored != actual:
        raise CorruptBundleError(
            "block checksum mismatch",
            where,
            expected=f"{stored:#010x} (stored)",
            got=f"{actual:#010x} (computed)",
            hint="Copy the file again from where it was written",
        )
    block = data[offset:end]
    compression = data[end]
    if compression == _UNCOMPRESSED:
        return block
    if compression == _SNAPPY:
        return _decompress(block, where)
    raise CorruptBundleError("unknown compression", where, expected="0 or 1 (none, snappy)", got=str(compression))


def _decompress(block: bytes, where: str) -> bytes:
    import cramjam

    try:
        size, _ = decode_varint(block, 0)
    except ValueError as error:
        raise CorruptBundleError(f"unreadable snappy block: {error}", where) from None
    if size > _SNAPPY_MAX_GROWTH * len(block):
        raise CorruptBundleError(
            "impossible snappy block",
            where,
            expected=f"at most {_SNAPPY_MAX_GROWTH * len(block)} bytes (from {len(block)} compressed)",
            got=f"{size} bytes (the block's own count)",
        )
    try:
        return bytes(cramjam.snappy.decompress_raw(block))
    except cramjam.DecompressionError as error:
        raise CorruptBundleError(f"unreadable snappy block: {error}", where) from None


def _read_entries(block: bytes, where: str, previous: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a block, whose keys have to be above ``previous`` if there is a block before."""
    size = len(block)
    num_restarts = int.from_bytes(block[-4:], "little") if size >= 4 else 0
    end = size - 4 - 4 * num_restarts
    if not num_restarts or end < 0:
        raise CorruptBundleError("unreadable restart points", where, got=f"{num_restarts} in a block of {size} bytes")
    restarts = struct.unpack_from(f"<{num_restarts}I", block, end)
    unshared: set[int] = set()
    key = b""
    position = 0
    try:
        while position < end:
            start = position
            # Lengths below 128 are the rule, and one byte each.
            shared, added, length = block[position], block[position + 1], block[position + 2]
            if shared < 0x80 and added < 0x80 and length < 0x80:
                position += 3
            else:
                shared, position = decode_varint(block, position)
                added, position = decode_varint(block, position)
                length, position = decode_varint(block, position)
            value_at = position + added
            position = value_at + length
            if shared > len(key) or position > end:
                _refuse_entry(shared, len(key), position, end, f"{where}, offset {start}")
            if not shared:
                unshared.add(start)
            key = key[:shared] + block[value_at - added : value_at]
            if previous is not None and key <= previous:
                raise CorruptBundleError(
                    "keys out of order", where, expected=f"a key above {previous!r} (the key before)", got=repr(key)
                )
            previous = key
            yield key, block[value_at:position]
    except (ValueError, IndexError) as error:
        raise CorruptBundleError(f"unreadable entry: {error}", f"{where}, offset {position}") from None
    # Lookups by key start at restart points, so one that is wrong hides keys from TensorFlow.
    are_ascending = restarts[0] == 0 and all(low < high for low, high in pairwise(restarts))
    if not are_ascending or not (unshared or {0}).issuperset(restarts):
        raise CorruptBundleError("restart points do not lead to whole keys", where)


def _refuse_entry(shared: int, available: int, entry_end: int, end: int, where: str) -> None:
    if shared > available:
        raise CorruptBundleError(
            "key shares more than there is",
            where,
            expected=f"at most {available} bytes (the key before)",
            got=f"{shared} bytes (the entry)",
        )
    raise CorruptBundleError(
        "entry out of range", where, expected=f"an end at {end} or before (the block)", got=f"{entry_end} (the entry)"
    )


def write_table(items: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    """The bytes of a table, piece by piece: what TensorFlow itself writes for the same keys and values.

    Args:
        items: Keys in ascending order of their bytes, each once, with their values.
    """
    offset = 0
    index = _BlockBuilder(restart_interval=1)
    block = _BlockBuilder(_RESTART_INTERVAL)
    pending: tuple[bytes, bytes] | None = None
    for key, value in items:
        if pending is not None:
            last_key, handle = pending
            index.add(_shortest_separator(last_key, key), handle)
            pending = None
        block.add(key, value)
        if block.size_bytes >= _BLOCK_BYTES:
            piece = block.finish()
            pending = (key, _handle(offset, piece))
            offset += len(piece)
            yield piece
    if block.last_key is not None:
        last_key = block.last_key
        piece = block.finish()
        pending = (last_key, _handle(offset, piece))
        offset += len(piece)
        yield piece
    meta = _BlockBuilder(_RESTART_INTERVAL).finish()
    yield meta
    if pending is not None:
        last_key, handle = pending
        index.add(_short_successor(last_key), handle)
    piece = index.finish()
    yield piece
    handles = _handle(offset, meta) + _handle(offset + len(meta), piece)
    yield handles.ljust(FOOTER_BYTES - len(MAGIC), b"\0") + MAGIC


def _handle(offset: int, piece: bytes) -> bytes:
    return encode_varint(offset) + encode_varint(len(piece) - _TRAILER_BYTES)


class _BlockBuilder:
    """One block as it grows."""

    def __init__(self, restart_interval: int) -> None:
        self._restart_interval = restart_interval
        self._reset()

    def _reset(self) -> None:
        self._pieces: list[bytes] = []
        self._restarts = [0]
        self._since_restart = 0
        self._entries_bytes = 0
        self.last_key: bytes | None = None

    @property
    def size_bytes(self) -> int:
        return self._entries_bytes + 4 * len(self._restarts) + 4

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self._since_restart == self._restart_interval:
            self._restarts.append(self._entries_bytes)
            self._since_restart = 0
        elif self.last_key is not None:
            shared = _shared_bytes(self.last_key, key)
        head = encode_varint(shared) + encode_varint(len(key) - shared) + encode_varint(len(value))
        self._pieces += (head, key[shared:], value)
        self._entries_bytes += len(head) + len(key) - shared + len(value)
        self._since_restart += 1
        self.last_key = key

    def finish(self) -> bytes:
        """The block with its trailer; the builder is then empty."""
        count = len(self._restarts)
        tail = struct.pack(f"<{count + 1}IB", *self._restarts, count, _UNCOMPRESSED)
        block = b"".join([*self._pieces, tail])
        self._reset()
        return block + struct.pack("<I", mask_crc(extend_crc(0, block)))


def _shared_bytes(left: bytes, right: bytes) -> int:
    size = min(len(left), len(right))
    # The highest bit that differs, taken as big-endian numbers, lies in the first byte that differs.
    difference = int.from_bytes(left[:size], "big") ^ int.from_bytes(right[:size], "big")
    return size - (difference.bit_length() + 7) // 8


def _shortest_separator(start: bytes, limit: bytes) -> bytes:
    """A short key that is at least ``start`` and below ``limit``.

    Source: ``FindShortestSeparator`` in tensorflow/core/lib/io/table_builder.cc.
    """
    shared = _shared_bytes(start, limit)
    if shared < min(len(start), len(limit)):
        byte = start[shared]
        if byte < 0xFF and byte + 1 < limit[shared]:
            return start[:shared] + bytes((byte + 1,))
    return start


def _short_successor(key: bytes) -> bytes:
    """A short key that is at least ``key``.

    Source: ``FindShortSuccessor`` in tensorflow/core/lib/io/table_builder.cc.
    """
    for position, byte in enumerate(key):
        if byte != 0xFF:
            return key[:position] + bytes((byte + 1,))
    return key
