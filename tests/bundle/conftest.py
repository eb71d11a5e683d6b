import sys
from pathlib import Path

import numpy as np
import pytest

from ckptmigrate.bundle import Entry, data_path, encode_strings, index_path, write_index
from ckptmigrate.bundle.entry import encode_header
from ckptmigrate.bundle.table import write_table
from ckptmigrate.spec import DType, Key, TensorSpec

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the modules that all tests share

from builders import ShardWriter


def append_array(shard, key, array, number=0):
    """Write an array to a data file; its entry."""
    if array.dtype == object:
        extent = shard.append(*encode_strings(array.reshape(-1).tolist()))
        dtype = DType.STRING
    else:
        extent = shard.append(array.tobytes())
        dtype = DType.from_label(array.dtype.name)
    return Entry(Key(key), TensorSpec(dtype, array.shape), number, *extent)


@pytest.fixture
def make_bundle(tmp_path):
    """Write arrays as a bundle of one data file; its prefix."""

    def make(arrays, name="ckpt"):
        prefix = str(tmp_path / name)
        with ShardWriter(data_path(prefix, 0, 1)) as shard:
            entries = [append_array(shard, key, np.asarray(array)) for key, array in arrays.items()]
        write_index(index_path(prefix), entries, 1)
        return prefix

    return make


@pytest.fixture
def make_raw(tmp_path):
    """Write a bundle of the records and the data that are given, sound or not; its prefix."""

    def make(records, data=bytes(64), num_shards=1, header=None):
        prefix = str(tmp_path / "raw")
        items = {b"": encode_header(num_shards) if header is None else header, **records}
        Path(index_path(prefix)).write_bytes(b"".join(write_table(sorted(items.items()))))
        for shard in range(min(num_shards, 10)):
            Path(data_path(prefix, shard, num_shards)).write_bytes(data)
        return prefix

    return make
