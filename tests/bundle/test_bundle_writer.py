import os
from pathlib import Path

import numpy as np
import pytest
from builders import ShardWriter

from ckptmigrate.bundle import (
    Bundle,
    Entry,
    ShardFile,
    create_shard,
    data_path,
    index_path,
    sync,
    write_file,
    write_index,
)
from ckptmigrate.errors import OutputError
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
    missing = str(tmp_path / "no" / "x")
    for write in (
        lambda: write_index(missing, [], 1),
        lambda: write_file(missing, [b"x"]),
        lambda: create_shard(missing, 1),
        lambda: ShardFile(missing),
        lambda: sync(missing),
    ):
        with pytest.raises(OutputError, match="No such file or directory") as caught:
            write()
        assert caught.value.where == missing


def test_entries_may_come_in_any_order(tmp_path):
    entries = [entry(f"w{number}", 8 * number) for number in range(40)]
    write_index(tmp_path / "a", entries, 1)
    write_index(tmp_path / "b", reversed(entries), 1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_data_file_is_written_at_any_place_in_any_order(tmp_path):
    path = str(tmp_path / "x")
    create_shard(path, 10)
    with ShardFile(path) as one, ShardFile(path) as other:
        one.write_at(6, b"6789")
        other.write_at(0, memoryview(b"012"))
        one.write_at(3, b"")
    assert Path(path).read_bytes() == b"012\0\0\0" + b"6789"
    create_shard(path, 10)
    with ShardFile(path) as again:
        again.write_at(3, b"345")
    sync(path)
    assert Path(path).read_bytes() == b"0123456789"


def test_what_the_system_takes_in_small_parts_is_written_whole(tmp_path, monkeypatch):
    path = str(tmp_path / "x")
    create_shard(path, 0)
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:3], offset))
    with ShardFile(path) as file:
        for offset, data in ((1, b"abcdefgh"), (9, memoryview(b"ijkl"))):
            file.write_at(offset, data)
    assert Path(path).read_bytes() == b"\0abcdefghijkl"


def test_a_written_index_opens_with_its_shards(tmp_path):
    prefix = str(tmp_path / "two")
    entries = []
    for number in range(2):
        with ShardWriter(data_path(prefix, number, 2)) as shard:
            extent = shard.append(np.full(2, number, np.float32).tobytes())
        entries.append(Entry(Key(f"w{number}"), FLOAT2, number, *extent))
    write_index(index_path(prefix), entries, 2)
    with Bundle.open(prefix) as bundle:
        assert [bundle.read(f"w{number}").tolist() for number in range(2)] == [[0, 0], [1, 1]]
