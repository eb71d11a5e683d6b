import os

import numpy as np
import pytest

from ckptmigrate.bundle import Bundle, Entry, ShardWriter, data_path, extend_crc, index_path, mask_crc, write_index
from ckptmigrate.bundle import writer as writer_module
from ckptmigrate.errors import CorruptBundleError, OutputError
from ckptmigrate.spec import DType, Key, TensorSpec

FLOAT2 = TensorSpec(DType.FLOAT32, (2,))


def entry(key, offset=0):
    return Entry(Key(key), FLOAT2, 0, offset, 8, 0)


@pytest.mark.parametrize("key", ["", "\0w"])
def test_a_key_that_cannot_be_one_is_not_written(tmp_path, key):
    with pytest.raises(OutputError):
        write_index(tmp_path / "x.index", [entry(key)], 1)
    assert not list(tmp_path.iterdir())


def test_two_entries_with_one_key_are_not_written(tmp_path):
    with pytest.raises(OutputError, match="key that is taken"):
        write_index(tmp_path / "x.index", [entry("w"), entry("w", 8)], 1)


@pytest.mark.parametrize("count", [0, -1, 100_000])
def test_an_impossible_number_of_shards_is_not_written(tmp_path, count):
    with pytest.raises(OutputError, match="number of shards"):
        write_index(tmp_path / "x.index", [], count)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    missing = tmp_path / "no" / "x"
    with pytest.raises(OutputError) as caught:
        write_index(missing, [], 1)
    assert caught.value.where == str(missing)
    with pytest.raises(OutputError):
        ShardWriter(missing)
    (tmp_path / "there").touch()
    with pytest.raises(OutputError, match="exists already"):
        ShardWriter(tmp_path / "there")


def test_entries_may_come_in_any_order(tmp_path):
    entries = [entry(f"w{number}", 8 * number) for number in range(40)]
    write_index(tmp_path / "a", entries, 1)
    write_index(tmp_path / "b", reversed(entries), 1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_pieces_make_the_extent_of_the_whole(tmp_path, piece):
    data = np.random.default_rng(0).bytes(5000)
    with ShardWriter(tmp_path / "x") as shard:
        whole = shard.append(data)
        shard.begin()
        for start in range(0, len(data), piece):
            shard.write(memoryview(data)[start : start + piece])
        pieces = shard.end()
    assert whole == (0, 5000, mask_crc(extend_crc(0, data)))
    assert pieces == (5000, 5000, whole.crc32c)
    assert (tmp_path / "x").read_bytes() == data * 2


def test_arrays_of_any_dtype_and_rank_are_buffers(tmp_path):
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    with ShardWriter(tmp_path / "x") as shard:
        assert shard.append(array) == (0, 48, mask_crc(extend_crc(0, array.tobytes())))
        assert shard.append(b"").size_bytes == 0
    assert (tmp_path / "x").read_bytes() == array.tobytes()


def test_a_tensor_is_begun_and_ended_once(tmp_path):
    with ShardWriter(tmp_path / "x") as shard:
        for wrong in (lambda: shard.write(b"x"), shard.end):
            with pytest.raises(RuntimeError):
                wrong()
        shard.begin()
        with pytest.raises(RuntimeError):
            shard.begin()


def _cannot(_source, _out, _offset, _size_bytes, done):
    return done


@pytest.mark.parametrize("left_out", [[], ["_copy_file_range"], ["_copy_file_range", "_sendfile"]])
@pytest.mark.parametrize("by_descriptor", [False, True])
def test_a_range_is_copied_whatever_the_system_can(tmp_path, monkeypatch, left_out, by_descriptor):
    for name in left_out:
        monkeypatch.setattr(writer_module, name, _cannot)
    source = np.random.default_rng(0).bytes(3 << 20)
    (tmp_path / "source").write_bytes(source)
    given = os.open(tmp_path / "source", os.O_RDONLY) if by_descriptor else tmp_path / "source"
    with ShardWriter(tmp_path / "x") as shard:
        shard.append(b"before")
        assert shard.copy_range(given, 100, 2 << 20, 5) == (6, 2 << 20, 5)
        assert shard.append(b"after").offset == 6 + (2 << 20)
        with pytest.raises(CorruptBundleError, match="ends before"):
            shard.copy_range(given, len(source) - 4, 5, 0)
    if by_descriptor:
        os.close(given)
    written = (tmp_path / "x").read_bytes()
    assert written.startswith(b"before" + source[100 : 100 + (2 << 20)] + b"after")


def test_a_written_index_opens_with_its_shards(tmp_path):
    prefix = str(tmp_path / "two")
    entries = []
    for number in range(2):
        with ShardWriter(data_path(prefix, number, 2)) as shard:
            extent = shard.append(np.full(2, number, np.float32))
        entries.append(Entry(Key(f"w{number}"), FLOAT2, number, *extent))
    write_index(index_path(prefix), entries, 2)
    with Bundle.open(prefix) as bundle:
        assert [bundle.read(f"w{number}").tolist() for number in range(2)] == [[0, 0], [1, 1]]
