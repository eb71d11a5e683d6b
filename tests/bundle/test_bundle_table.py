import cramjam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptmigrate.bundle.checksum import extend_crc, mask_crc, unmask_crc
from ckptmigrate.bundle.table import MAGIC, read_table, write_table
from ckptmigrate.bundle.varint import decode_varint, encode_varint
from ckptmigrate.errors import CkptMigrateError, CorruptBundleError

tables = st.dictionaries(st.binary(max_size=40), st.binary(max_size=200), max_size=60)


def table(items):
    return b"".join(write_table(sorted(items.items())))


def block(body, restarts=(0,), compression=0):
    body += b"".join(at.to_bytes(4, "little") for at in restarts) + len(restarts).to_bytes(4, "little")
    return stored(body, compression)


def stored(body, compression):
    body += bytes((compression,))
    return body + mask_crc(extend_crc(0, body)).to_bytes(4, "little")


def table_of(*data_blocks, separators=None, meta=None):
    """A table of blocks that are given, sound or not."""
    out = b""
    index = b""
    restarts = []
    for number, piece in enumerate(data_blocks):
        handle = encode_varint(len(out)) + encode_varint(len(piece) - 5)
        separator = separators[number] if separators else b"\xff" * (number + 1)
        restarts.append(len(index))
        index += bytes((0, len(separator), len(handle))) + separator + handle
        out += piece
    meta = block(b"") if meta is None else meta
    meta_handle = encode_varint(len(out)) + encode_varint(len(meta) - 5)
    out += meta
    index = block(index, restarts or (0,))
    handles = meta_handle + encode_varint(len(out)) + encode_varint(len(index) - 5)
    return out + index + handles.ljust(40, b"\0") + MAGIC


def entry(key, value=b"v", shared=0):
    return bytes((shared, len(key), len(value))) + key + value


@given(st.integers(0, 2**64 - 1))
def test_a_varint_reads_back(value):
    data = encode_varint(value)
    assert decode_varint(data, 0) == (value, len(data))
    assert len(data) == max(1, -(-value.bit_length() // 7))


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\xff" * 9, b"\xff" * 9 + b"\x02", b"\x80" * 10, b"\x80" * 10 + b"\x01", b"\x8e\0"]
)
def test_a_varint_that_ends_early_or_is_too_long_is_refused(data):
    with pytest.raises(ValueError, match="number"):
        decode_varint(data, 0)


@given(st.integers(0, 2**32 - 1))
def test_masking_a_crc_can_be_undone(crc):
    assert unmask_crc(mask_crc(crc)) == crc


def test_crc_is_castagnoli_masked_as_tensorflow_does():
    assert extend_crc(0, b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert mask_crc(extend_crc(0, b"foo")) != extend_crc(0, b"foo")


@given(st.binary(max_size=100), st.integers(0, 100))
def test_crc_of_pieces_is_that_of_the_whole_for_any_buffer(data, cut):
    whole = extend_crc(0, data)
    assert extend_crc(extend_crc(0, memoryview(data)[:cut]), bytearray(data[cut:])) == whole


@given(tables)
def test_a_table_reads_back_in_order(items):
    assert list(read_table(table(items), "t")) == sorted(items.items())


def test_a_table_of_many_blocks_reads_back():
    items = {f"layer/{number:06d}/kernel".encode() + b"\xff" * (number % 3): bytes(100) for number in range(9000)}
    data = table(items)
    assert len(data) > 3 * 262144
    assert list(read_table(data, "t")) == sorted(items.items())


@given(st.binary(max_size=300), st.binary(max_size=100))
@settings(max_examples=300)
def test_random_bytes_are_refused_with_our_error(body, footer):
    for data in (body, body + footer.ljust(40, b"\0")[:40] + MAGIC):
        with pytest.raises(CorruptBundleError):
            list(read_table(data, "t"))


@given(st.binary(max_size=200), st.lists(st.integers(0, 2**32 - 1), max_size=4), st.integers(0, 3))
@settings(max_examples=500)
def test_random_blocks_with_sound_checksums_raise_only_our_errors(body, restarts, compression):
    for data in (
        table_of(block(body, restarts, compression)),
        table_of(stored(body, compression)),
        table_of(block(entry(b"a")), meta=block(body, restarts)),
    ):
        try:
            keys = [key for key, _ in read_table(data, "t")]
        except CkptMigrateError:
            continue
        assert keys == sorted(set(keys))


def test_snappy_blocks_read_as_plain_ones():
    body = b"".join(entry(f"key{number}".encode(), bytes(100)) for number in range(10, 40))
    restart = (0).to_bytes(4, "little") + (1).to_bytes(4, "little")
    compressed = bytes(cramjam.snappy.compress_raw(body + restart))
    assert list(read_table(table_of(stored(compressed, 1)), "t")) == list(read_table(table_of(block(body)), "t"))


def test_a_snappy_block_that_claims_to_be_huge_is_refused_before_it_is_unpacked():
    bomb = encode_varint(1 << 40) + b"\0\0\0"
    with pytest.raises(CorruptBundleError, match="impossible snappy block"):
        list(read_table(table_of(stored(bomb, 1)), "t"))


def test_snappy_never_grows_data_more_than_the_bound():
    compressed = bytes(cramjam.snappy.compress_raw(bytes(1 << 20)))
    assert 22 * len(compressed) >= 1 << 20


two = entry(b"a") + entry(b"b")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated index"),
        (bytes(47), "truncated index"),
        (bytes(48), "not an index"),
        (bytes(40) + MAGIC, "block out of range"),
        (b"\xff" * 40 + MAGIC, "unreadable block handle"),
        (table_of(block(entry(b"b") + entry(b"a"))), "keys out of order"),
        (table_of(block(entry(b"a") + entry(b"a"))), "keys out of order"),
        (table_of(block(entry(b"b")), block(entry(b"a"))), "keys out of order"),
        (table_of(block(entry(b"a")), block(entry(b"b")), separators=(b"b", b"c")), "keys out of order"),
        (table_of(block(entry(b"b")), separators=(b"a",)), "block ends after its index key"),
        (table_of(block(entry(b"a") + entry(b"b", shared=2))), "key shares more than there is"),
        (table_of(block(entry(b"a")[:-1])), "entry out of range"),
        (table_of(block(b"\0\x05")), "entry out of range"),
        (table_of(block(b"\xff" * 11)), "unreadable entry"),
        (table_of(block(two, restarts=())), "unreadable restart points"),
        (table_of(stored(b"\xff\xff\xff\xff", 0)), "unreadable restart points"),
        (table_of(block(two, restarts=(0, 1))), "restart points do not lead"),
        (table_of(block(two, restarts=(0, 4, 0))), "restart points do not lead"),
        (table_of(block(b"", restarts=(0, 4)), separators=(b"a",)), "restart points do not lead"),
        (table_of(block(two, restarts=(5,))), "restart points do not lead"),
        (table_of(block(entry(b"aa") + entry(b"b", shared=1), restarts=(0, 6))), "restart points do not lead"),
        (table_of(block(b"")), "empty block"),
        (table_of(block(two, compression=2)), "unknown compression"),
        (table_of(stored(b"\x05abc", 1)), "unreadable snappy block"),
        (table_of(block(two), meta=block(b"\x09")), "key shares more than there is"),
    ],
)
def test_what_contradicts_the_format_is_refused_by_name(data, message):
    with pytest.raises(CorruptBundleError, match=message):
        list(read_table(data, "t"))


def test_a_wrong_checksum_says_what_to_do():
    data = bytearray(table({b"a": b"1"}))
    data[4] ^= 1
    with pytest.raises(CorruptBundleError, match="block checksum mismatch") as caught:
        list(read_table(bytes(data), "ckpt.index"))
    assert caught.value.where.startswith("ckpt.index")
    assert "Copy the file again" in caught.value.hint
