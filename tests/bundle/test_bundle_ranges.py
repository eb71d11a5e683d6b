"""Data files by ranges: boxes in any way of reading them, and what their checksums tell of the whole."""

import errno
import os
from itertools import product

import numpy as np
import pytest
from builders import ShardWriter
from conftest import append_array
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptmigrate.bundle import Bundle, data_path, extend_crc, index_path, unmask_crc, write_index
from ckptmigrate.bundle import ranges as ranges_module
from ckptmigrate.bundle.algebra import shift_crc, shift_crcs
from ckptmigrate.bundle.ranges import DataFile, Reads
from ckptmigrate.errors import CorruptBundleError, NotACheckpointError

SHAPE = (7, 5, 6, 4)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    prefix = str(tmp_path_factory.mktemp("table") / "ckpt")
    array = np.random.default_rng(0).integers(0, 1 << 15, SHAPE, np.int16)
    with ShardWriter(data_path(prefix, 0, 1)) as shard:
        shard.append(b"something before")
        entry = append_array(shard, "w", array)
    write_index(index_path(prefix), [entry], 1)
    with Bundle.open(prefix) as bundle:
        yield bundle, array


def crc_of(data):
    return extend_crc(0, data)


@given(st.lists(st.binary(max_size=9), max_size=8), st.randoms())
def test_what_parts_add_to_a_checksum_is_added_up_in_any_order(parts, random):
    behind = [sum(map(len, parts[number + 1 :])) for number in range(len(parts))]
    shares = [shift_crc(crc_of(part), size) for part, size in zip(parts, behind, strict=True)]
    random.shuffle(shares)
    total = 0
    for share in shares:
        total ^= share
    assert total == crc_of(b"".join(parts))
    together = shift_crcs(np.array([crc_of(part) for part in parts], np.uint32), np.array(behind, np.int64))
    assert together == total


@pytest.mark.parametrize("size", [0, 1, 4096, 3 << 30, (1 << 45) + 12345])
def test_a_part_far_in_front_adds_what_zeros_behind_make_of_it(size):
    one, other = crc_of(b"one"), crc_of(b"other")
    half = size // 2
    for crc in (one, other):
        assert shift_crc(shift_crc(crc, half), size - half) == shift_crc(crc, size)
    assert shift_crc(one, size) ^ shift_crc(other, size) == shift_crc(one ^ other, size)
    assert shift_crcs(np.array([one, other], np.uint32), np.array([size, half])) == (
        shift_crc(one, size) ^ shift_crc(other, half)
    )


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_box_is_the_same_however_it_is_read(table, data):
    bundle, array = table
    seen = data.draw(st.sampled_from([SHAPE, (840,), (35, 24), (7, 5, 3, 2, 4), (7, 1, 5, 24), (210, 4, 1)]))
    box = tuple(tuple(sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size))))) for size in seen)
    far, span = data.draw(st.sampled_from([0, 4, 32, 1 << 15])), data.draw(st.sampled_from([1, 30, 200, 1 << 20]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges_module, "_FAR_BYTES", far)
        patch.setattr(ranges_module, "_SPAN_BYTES", span)
        found = bundle.read_box("w", box, seen)
    assert np.array_equal(found, array.reshape(seen)[tuple(slice(*ends) for ends in box)])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_boxes_that_make_a_tensor_add_up_to_its_checksum_in_any_order(table, data):
    bundle, array = table
    seen = data.draw(st.sampled_from([SHAPE, (35, 24), (840,)]))
    steps = [data.draw(st.integers(1, size)) for size in seen]
    boxes = list(
        product(
            *(
                [(start, min(start + step, size)) for start in range(0, size, step)]
                for size, step in zip(seen, steps, strict=True)
            )
        )
    )
    reads = Reads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges_module, "_LEAST_RUN_BYTES", 1)
        for box in data.draw(st.permutations(boxes)):
            bundle.read_box("w", box, seen, reads)
    entry = bundle.entries["w"]
    place = (entry.shard, entry.offset)
    assert reads.crcs == {place: unmask_crc(entry.crc32c)}
    assert reads.size_bytes == array.nbytes
    bundle.read_box("w", boxes[0], seen, reads)
    assert reads.crcs[place] != unmask_crc(entry.crc32c)


def test_of_short_runs_no_checksum_is_known(table):
    bundle, _ = table
    reads = Reads()
    for half in ((0, 2), (2, 4)):
        bundle.read_box("w", ((0, 7), (0, 5), (0, 6), half), reads=reads)
    assert list(reads.crcs.values()) == [None]


def test_a_file_that_is_cut_while_it_is_read_is_told(tmp_path):
    (tmp_path / "data").write_bytes(bytes(1000))
    data = DataFile(str(tmp_path / "data"), 1000)
    os.truncate(tmp_path / "data", 500)
    out = memoryview(bytearray(600))
    for read in (lambda: list(data.pieces(0, 1000, 300)), lambda: data.read_into(0, out)):
        with pytest.raises(CorruptBundleError, match="has become shorter"):
            read()
    assert b"".join(data.pieces(0, 500, 300)) == bytes(500)


def test_a_disk_that_fails_is_told(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "data").write_bytes(bytes(10))
    data = DataFile(str(tmp_path / "data"), 10)
    monkeypatch.setattr(os, "pread", fail)
    monkeypatch.setattr(os, "preadv", fail)
    for read in (lambda: list(data.pieces(0, 10)), lambda: data.read_into(0, memoryview(bytearray(10)))):
        with pytest.raises(NotACheckpointError, match="Input/output error"):
            read()


def test_what_the_system_gives_in_small_parts_comes_in_whole_pieces(tmp_path, monkeypatch):
    (tmp_path / "data").write_bytes(bytes(range(100)))
    data = DataFile(str(tmp_path / "data"), 100)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, size, offset: pread(file, min(size, 3), offset))
    assert [len(piece) for piece in data.pieces(1, 90, 40)] == [40, 40, 10]
    assert b"".join(data.pieces(1, 90, 40)) == bytes(range(1, 91))
