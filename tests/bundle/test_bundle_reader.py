import contextlib
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from builders import ShardWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ckptmigrate.bundle import (
    Bundle,
    BundleEntryProto,
    BundleHeaderProto,
    Entry,
    TrackableObjectGraph,
    data_path,
    encode_slice_key,
    encode_strings,
    index_path,
    write_index,
)
from ckptmigrate.bundle.entry import EntryDecoder, EntryEncoder, _from_proto
from ckptmigrate.bundle.strings import encode_variants
from ckptmigrate.bundle.table import write_table
from ckptmigrate.errors import CkptMigrateError, CorruptBundleError, NotACheckpointError, OperationError, Problems
from ckptmigrate.spec import OBJECT_GRAPH_KEY, DType, Key, TensorSpec

on_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

ARRAYS = {
    "a/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/name": np.array([b"x", b"", b"yz" * 100], object),
    "b/step": np.int64(7),
    "b/empty": np.zeros((0, 3), np.float32),
}


def value(**fields):
    return BundleEntryProto(**fields).SerializeToString()


def shape(*sizes):
    return {"dim": [{"size": size} for size in sizes]}


def test_importing_the_package_imports_nothing_slow():
    slow = "{'tensorflow', 'numpy', 'networkx', 'ml_dtypes', 'cramjam'}"
    code = (
        f"import sys, ckptmigrate.bundle; sys.exit(str({slow} & set(sys.modules)) if {slow} & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_bundle_reads_back_what_was_written(make_bundle):
    with Bundle.open(make_bundle(ARRAYS)) as bundle:
        assert list(bundle.entries) == sorted(ARRAYS)
        assert (bundle.num_shards, bundle.producer_version, bundle.slice_entries) == (1, 1, {})
        assert bundle.shard_sizes == (Path(bundle.shard_paths[0]).stat().st_size,)
        for key, array in ARRAYS.items():
            found = bundle.read(key)
            assert found.dtype == array.dtype
            assert found.shape == array.shape
            assert found.tolist() == array.tolist()


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
NUMPY_NAMES = (
    "float16 float32 float64 int8 uint8 int16 int64 uint32 uint64 bool complex64 complex128 "
    "bfloat16 float8_e5m2 float8_e4m3fn int4 uint4"
)
arrays = hnp.arrays(
    st.sampled_from([np.dtype(getattr(ml_dtypes, name, name)) for name in NUMPY_NAMES.split()]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    elements=st.integers(0, 1),
)


@given(st.dictionaries(names, arrays, max_size=8))
@on_tmp_path
def test_any_arrays_under_any_names_read_back(tmp_path, values):
    from conftest import append_array

    prefix = str(tmp_path / "any")
    Path(data_path(prefix, 0, 1)).unlink(missing_ok=True)
    with ShardWriter(data_path(prefix, 0, 1)) as shard:
        entries = [append_array(shard, key, array) for key, array in values.items()]
    write_index(index_path(prefix), entries, 1)
    with Bundle.open(prefix) as bundle:
        assert bundle.entries == {entry.key: entry for entry in entries}
        for key, array in values.items():
            found = bundle.read(key)
            assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_keys_that_are_not_text_read_back(make_raw):
    bundle = Bundle.open(make_raw({b"\xff\xfe/w": value(dtype=1, shape=shape())[:] + b"\x28\x04"}))
    (entry,) = bundle.entries.values()
    assert entry.key.encode("utf-8", "surrogateescape") == b"\xff\xfe/w"


@given(st.data())
@on_tmp_path
def test_a_box_is_what_numpy_slices(make_bundle, tmp_path, data):
    array = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    strings = np.array([str(number).encode() for number in range(120)], object).reshape(4, 5, 6)
    seen = data.draw(st.sampled_from([(4, 5, 6), (120,), (20, 6), (2, 2, 5, 6), (4, 5, 6, 1)]))
    box = tuple(tuple(sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size))))) for size in seen)
    index = tuple(slice(start, stop) for start, stop in box)
    Path(data_path(prefix := str(tmp_path / "ckpt"), 0, 1)).unlink(missing_ok=True)
    with Bundle.open(make_bundle({"w": array, "s": strings})) as bundle:
        assert bundle.prefix == prefix
        for key, whole in (("w", array), ("s", strings)):
            found = bundle.read_box(key, box, seen)
            assert np.array_equal(found, whole.reshape(seen)[index])
            assert found.flags.writeable
            assert found.flags.c_contiguous


def test_a_box_that_is_not_in_the_tensor_is_refused(make_bundle):
    bundle = Bundle.open(make_bundle(ARRAYS))
    for box, seen in (
        (((0, 3), (0, 3)), None),
        (((0, 2),), None),
        (((1, 0), (0, 3)), None),
        (((-1, 0), (0, 3)), None),
        (((0, 7),), (7,)),
        (((0, 2), (0, 3)), (-2, -3)),
    ):
        with pytest.raises(OperationError):
            bundle.read_box("a/kernel", box, seen)


def test_reading_one_row_of_a_table_larger_than_memory_takes_only_that_row(make_raw):
    rows = 1 << 24
    prefix = make_raw({b"table": value(dtype=1, shape=shape(rows, 1024), size=rows * 4096)})
    with Path(data_path(prefix, 0, 1)).open("r+b") as file:  # 64 GiB, of which the disk holds one page
        file.truncate(rows * 4096)
        file.seek((rows - 2) * 4096)
        file.write(np.full(1024, 3, np.float32).tobytes())
    bundle = Bundle.open(prefix)
    assert bundle.read_box("table", ((rows - 2, rows - 1), (1, 3))).tolist() == [[3, 3]]


def test_verifying_and_reading_by_boxes_stays_within_a_few_megabytes(make_raw):
    rows = 1 << 16
    prefix = make_raw({b"w": value(dtype=1, shape=shape(rows, 1024), size=rows * 4096, crc32c=0)})
    with Path(data_path(prefix, 0, 1)).open("r+b") as file:
        file.truncate(rows * 4096)  # 256 MiB of zeros
    code = """
import resource, sys
from ckptmigrate.bundle import Bundle
from ckptmigrate.errors import CorruptBundleError
import numpy
bundle = Bundle.open(sys.argv[1])
bundle.read_box("w", ((0, 1), (0, 1)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    bundle.verify_crc("w")
except CorruptBundleError:
    pass
for start in range(0, 65536, 256):
    bundle.read_box("w", ((start, start + 256), (0, 1024)))
bundle.read_box("w", ((0, 65536), (3, 5)))
sys.exit(int((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 > 48 << 20))
"""
    subprocess.run([sys.executable, "-c", code, prefix], check=True)


def test_views_outlive_the_bundle_and_closing_twice_is_harmless(make_bundle):
    bundle = Bundle.open(make_bundle(ARRAYS))
    view = bundle.raw("a/kernel")
    bundle.close()
    bundle.close()
    assert bytes(view) == ARRAYS["a/kernel"].tobytes()
    assert bundle.read("b/step") == 7
    assert view.readonly


def test_a_data_file_that_is_cut_after_opening_is_noticed(make_bundle):
    bundle = Bundle.open(make_bundle(ARRAYS))
    Path(bundle.shard_paths[0]).write_bytes(b"x")
    with pytest.raises(CorruptBundleError, match="has become shorter"):
        bundle.read("a/kernel")


def test_threads_may_read_one_bundle(make_bundle):
    big = np.arange(1 << 20, dtype=np.int64)
    bundle = Bundle.open(make_bundle({"w": big}))
    found = []
    threads = [threading.Thread(target=lambda: found.append(bundle.read("w").sum())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [big.sum()] * 4


def test_the_object_graph_is_given_as_bytes_or_none(make_bundle):
    graph = TrackableObjectGraph()
    graph.nodes.add().attributes.add(
        name="VARIABLE_VALUE", full_name="w", checkpoint_key="w/.ATTRIBUTES/VARIABLE_VALUE"
    )
    stored = graph.SerializeToString()
    assert Bundle.open(make_bundle({OBJECT_GRAPH_KEY: np.array(stored, object)})).object_graph_bytes() == stored
    assert Bundle.open(make_bundle(ARRAYS, "none")).object_graph_bytes() is None
    with pytest.raises(CorruptBundleError, match="object graph is not one string"):
        Bundle.open(make_bundle({OBJECT_GRAPH_KEY: np.float32(1)}, "float")).object_graph_bytes()


def test_the_fingerprint_changes_with_a_value_a_key_or_the_graph(make_bundle):
    variants = [
        ARRAYS,
        ARRAYS | {"b/step": np.int64(8)},
        {("c/step" if key == "b/step" else key): array for key, array in ARRAYS.items()},
        ARRAYS | {OBJECT_GRAPH_KEY: np.array(b"", object)},
    ]
    prints = [Bundle.open(make_bundle(arrays, f"n{n}")).fingerprint for n, arrays in enumerate(variants)]
    assert len(set(prints)) == len(variants)
    assert prints[0] == Bundle.open(make_bundle(ARRAYS, "again")).fingerprint
    assert prints[0].startswith("sha256:")


def test_variants_move_as_bytes_and_have_no_values(make_raw):
    data, crc = encode_variants([b"one", b"two"])
    from ckptmigrate.bundle import mask_crc

    prefix = make_raw({b"v": value(dtype=21, shape=shape(2), size=len(data), crc32c=mask_crc(crc))}, data)
    bundle = Bundle.open(prefix)
    assert bytes(bundle.read_raw("v")) == data
    for read in (bundle.read, lambda key: bundle.read_box(key, ((0, 1),))):
        with pytest.raises(OperationError, match="variant has no values"):
            read("v")


@pytest.mark.parametrize("key", ["a/kernel", "a/name", "b/step"])
def test_one_flipped_bit_in_a_tensor_is_found_when_it_is_read(make_bundle, key):
    prefix = make_bundle(ARRAYS)
    path = Path(data_path(prefix, 0, 1))
    data = path.read_bytes()
    entry = Bundle.open(prefix).entries[key]
    for bit in range(0, 8 * entry.size_bytes, 7):
        damaged = bytearray(data)
        damaged[entry.offset + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        bundle = Bundle.open(prefix)
        for read in (bundle.read, bundle.read_raw, bundle.verify_crc):
            with pytest.raises(CorruptBundleError) as caught:
                read(key)
            assert key in caught.value.where


def test_a_truncated_index_is_refused_at_every_length(make_bundle):
    prefix = make_bundle(ARRAYS)
    path = Path(index_path(prefix))
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(CorruptBundleError):
            Bundle.open(prefix)


def test_one_flipped_bit_anywhere_in_the_index_is_found(make_bundle):
    prefix = make_bundle(ARRAYS)
    path = Path(index_path(prefix))
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(CorruptBundleError):
            Bundle.open(prefix)


FLOAT = {"dtype": 1, "shape": shape(2)}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ({b"w": b"\xff"}, "unreadable record"),
        ({b"w": value(dtype=99, shape=shape())}, "unknown dtype"),
        ({b"w": value(dtype=0, shape=shape())}, "unknown dtype"),
        ({b"w": value(dtype=101, shape=shape(), size=4)}, "unknown dtype"),
        ({b"w": value(dtype=1, shape=shape(-1), size=4)}, "impossible shape"),
        ({b"w": value(dtype=1, shape={"unknown_rank": True}, size=4)}, "impossible shape"),
        ({b"w": value(dtype=1, shape=shape(2**31, 2**31, 2), size=4)}, "impossible shape"),
        ({b"w": value(dtype=1, shape=shape(2**40, 0, 2**40))}, "impossible shape"),
        ({b"w": value(dtype=1, shape=shape(*[1] * 255), size=4)}, "impossible shape"),
        ({b"w": value(dtype=1, shape=shape(2**62), size=8)}, "size does not fit the shape"),
        ({b"w": value(**FLOAT, size=7)}, "size does not fit the shape"),
        ({b"w": value(**FLOAT)}, "size does not fit the shape"),
        ({b"w": value(dtype=7, shape=shape(3), size=6)}, "size too small for the shape"),
        ({b"w": value(dtype=7, shape=shape(2**62), size=6)}, "size too small for the shape"),
        ({b"w": value(dtype=21, shape=shape(2), size=9)}, "size too small for the shape"),
        ({b"w": value(**FLOAT, size=-8)}, "negative size"),
        ({b"w": value(**FLOAT, size=8, offset=-1)}, "negative offset"),
        ({b"w": value(**FLOAT, size=8, shard_id=-1)}, "negative shard_id"),
        ({b"w": value(**FLOAT, size=8, shard_id=1)}, "shard out of range"),
        ({b"w": value(**FLOAT, size=8, shard_id=2**31 - 1)}, "shard out of range"),
        ({b"w": value(**FLOAT, size=8, offset=57)}, "past the end of the data file"),
        ({b"w": value(**FLOAT, size=8, offset=2**63 - 1)}, "past the end of the data file"),
        ({b"w": value(**FLOAT, size=8), b"x": value(**FLOAT, size=8, offset=7)}, "tensors overlap"),
        ({b"w": value(**FLOAT, size=8), b"x": value(dtype=2, shape=shape(1), size=8)}, "tensors overlap"),
        ({b"w": value(**FLOAT, slices=[{"extent": [{"start": 0, "length": 1}]}])}, "slice listed but not stored"),
        ({b"w": value(**FLOAT, slices=[{"extent": [{"start": 1, "length": 2}]}])}, "slice out of its tensor"),
        ({b"w": value(**FLOAT, size=8, slices=[{"extent": [{}]}])}, "bytes of its own"),
        ({encode_slice_key(b"w", ((0, 1),)): value(dtype=1, shape=shape(1), size=4)}, "slice stored but not listed"),
        ({b"\0w": value(**FLOAT, size=8)}, "unreadable slice key"),
        (
            {
                b"w": value(**FLOAT, slices=[{"extent": [{"length": 1}]}]),
                encode_slice_key(b"w", ((0, 1),)): value(**FLOAT, size=8),
            },
            "slice does not fit its tensor",
        ),
    ],
)
def test_an_entry_that_contradicts_its_files_is_refused_by_name(make_raw, records, message):
    with pytest.raises(CorruptBundleError, match=message) as caught:
        Bundle.open(make_raw(records))
    assert ".index" in caught.value.where


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"\xff", "unreadable record"),
        (b"", "impossible number of shards"),
        (BundleHeaderProto(num_shards=-1).SerializeToString(), "impossible number of shards"),
        (BundleHeaderProto(num_shards=2**31 - 1).SerializeToString(), "impossible number of shards"),
        (BundleHeaderProto(num_shards=1, endianness=1).SerializeToString(), "big-endian checkpoint"),
        (BundleHeaderProto(num_shards=1, endianness=2).SerializeToString(), "unknown byte order"),
        (BundleHeaderProto(num_shards=1, version={"min_consumer": 2}).SerializeToString(), "another version"),
        (BundleHeaderProto(num_shards=1, version={"bad_consumers": [1]}).SerializeToString(), "another version"),
    ],
)
def test_a_header_that_we_cannot_go_by_is_refused(make_raw, header, message):
    with pytest.raises(CorruptBundleError, match=message):
        Bundle.open(make_raw({}, header=header))


def test_an_index_without_a_header_is_refused(tmp_path):
    for items in ([], [(b"w", value(**FLOAT, size=8))]):
        Path(tmp_path / "x.index").write_bytes(b"".join(write_table(items)))
        with pytest.raises(CorruptBundleError, match="no header"):
            Bundle.open(tmp_path / "x")


def test_two_keys_may_share_one_range(make_raw):
    shared = value(**FLOAT, size=8, offset=8)
    assert len(Bundle.open(make_raw({b"w": shared, b"x": shared})).entries) == 2


def test_an_empty_tensor_may_be_anywhere(make_raw):
    empty = value(dtype=1, shape=shape(0), offset=3)
    assert len(Bundle.open(make_raw({b"w": value(**FLOAT, size=8), b"x": empty})).entries) == 2


def test_problems_are_reported_together_and_the_list_is_capped(make_raw):
    wrong = {f"w{number:03d}".encode(): value(**FLOAT, size=7) for number in range(100)}
    with pytest.raises(Problems) as caught:
        Bundle.open(make_raw(wrong))
    assert len(caught.value.problems) == 21
    assert "80 more" in str(caught.value)


def test_a_missing_shard_is_named(make_raw):
    prefix = make_raw({}, num_shards=3)
    Path(data_path(prefix, 1, 3)).unlink()
    with pytest.raises(NotACheckpointError, match="data file missing") as caught:
        Bundle.open(prefix)
    assert "data-00001-of-00003" in caught.value.got
    assert caught.value.expected.startswith("3")


@given(st.dictionaries(st.binary(min_size=1, max_size=6), st.binary(max_size=40), max_size=4))
@on_tmp_path
def test_random_records_raise_only_our_errors(make_raw, records):
    with contextlib.suppress(CkptMigrateError, Problems):
        Bundle.open(make_raw(records))


counts = st.integers(0, 2**63 - 1) | st.integers(0, 300)


@given(
    st.builds(TensorSpec, st.sampled_from(DType), st.lists(st.integers(0, 9) | st.just(2**20), max_size=3).map(tuple)),
    st.integers(0, 99998),
    st.tuples(counts, counts, st.integers(0, 2**32 - 1)),
)
def test_an_entry_has_the_bytes_that_protobuf_gives_it(spec, shard, extent):
    offset, size, crc = extent
    proto = BundleEntryProto(
        dtype=spec.dtype, shape=shape(*spec.shape), shard_id=shard, offset=offset, size=size, crc32c=crc
    )
    assert EntryEncoder().encode(Entry(Key("w"), spec, shard, *extent)) == proto.SerializeToString()


@given(st.binary(max_size=24), st.binary(max_size=24), st.integers(0, 8), st.booleans())
def test_the_fast_way_to_read_an_entry_gives_what_protobuf_gives(head, tail, rank, is_plain):
    encoded = value(dtype=1, shape=shape(*[1] * rank), size=4, offset=700, crc32c=9, shard_id=3) if is_plain else head
    encoded += tail

    def outcome(read):
        try:
            return read()
        except CorruptBundleError as error:
            return type(error), error.what

    def slowly():
        from ckptmigrate.bundle.entry import _parse

        return _from_proto(Key("w"), _parse(BundleEntryProto, encoded, "t"), "t")

    assert outcome(lambda: EntryDecoder().decode(Key("w"), encoded, "t")) == outcome(slowly)


def partitioned(tmp_path, pieces, spec):
    """A bundle of one partitioned tensor, of slices and their arrays."""
    prefix = str(tmp_path / "parts")
    stored = {}
    with ShardWriter(data_path(prefix, 0, 1)) as shard:
        for piece, array in pieces.items():
            extent = (
                shard.append(*encode_strings(array.ravel().tolist()))
                if spec.dtype is DType.STRING
                else shard.append(array)
            )
            stored[Key("w"), piece] = Entry(Key("w"), TensorSpec(spec.dtype, array.shape), 0, *extent)
    write_index(index_path(prefix), [Entry(Key("w"), spec, 0, 0, 0, 0, tuple(pieces))], 1, stored)
    return prefix, stored


@pytest.mark.parametrize("is_string", [False, True])
def test_a_partitioned_tensor_is_put_together(tmp_path, is_string):
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    array = np.array([str(number).encode() for number in range(24)], object).reshape(4, 6) if is_string else array
    parts = {
        ((0, 3), (0, -1)): array[:3].copy(),
        ((3, 1), (0, 2)): array[3:, :2].copy(),
        ((3, 1), (2, 4)): array[3:, 2:].copy(),
    }
    prefix, stored = partitioned(tmp_path, parts, TensorSpec(DType.STRING if is_string else DType.FLOAT32, (4, 6)))
    bundle = Bundle.open(prefix)
    assert bundle.slice_entries == stored
    assert np.array_equal(bundle.read("w"), array)
    assert np.array_equal(bundle.read_box("w", ((2, 4), (1, 5))), array[2:4, 1:5])
    assert np.array_equal(bundle.read_box("w", ((3, 9),), (24,)), array.reshape(24)[3:9])
    for (_, piece), entry in bundle.slice_entries.items():
        assert np.array_equal(bundle.read(entry), parts[piece])
    with pytest.raises(OperationError, match="no bytes of its own"):
        bundle.raw("w")


@given(st.data())
@on_tmp_path
def test_a_box_of_a_partitioned_tensor_in_any_shape_is_what_numpy_slices(tmp_path, data):
    array = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    row, column = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 5))
    whole = (0, -1)
    parts = {
        ((0, row), whole, (0, column)): array[:row, :, :column].copy(),
        ((0, row), whole, (column, 6 - column)): array[:row, :, column:].copy(),
        ((row, 4 - row), whole, whole): array[row:].copy(),
    }
    Path(data_path(str(tmp_path / "parts"), 0, 1)).unlink(missing_ok=True)
    seen = data.draw(st.sampled_from([(4, 5, 6), (120,), (20, 6), (2, 2, 5, 6), (6, 20), (3, 40), (4, 5, 6, 1)]))
    box = tuple(tuple(sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size))))) for size in seen)
    prefix, _ = partitioned(tmp_path, parts, TensorSpec(DType.INT16, (4, 5, 6)))
    # Whether a region is read at once or in halves must not be seen.
    few = data.draw(st.sampled_from([1, 7, 1 << 18]))
    with mock.patch("ckptmigrate.bundle.assemble._FEW_ELEMENTS", few), Bundle.open(prefix) as bundle:
        found = bundle.read_box("w", box, seen)
    assert np.array_equal(found, array.reshape(seen)[tuple(slice(start, stop) for start, stop in box)])
    assert found.flags.writeable


def test_a_partitioned_table_larger_than_memory_passes_through_in_any_shape(tmp_path):
    rows = 1 << 17
    spec, half = TensorSpec(DType.FLOAT32, (rows, 1024)), rows // 2
    with Path(data_path(str(tmp_path / "w"), 0, 1)).open("wb") as file:
        file.truncate(rows * 4096)  # 512 MiB of zeros
    pieces = [((0, half), (0, -1)), ((half, half), (0, -1))]
    stored = {
        (Key("w"), piece): Entry(
            Key("w"), TensorSpec(spec.dtype, (half, 1024)), 0, number * half * 4096, half * 4096, 0
        )
        for number, piece in enumerate(pieces)
    }
    write_index(index_path(tmp_path / "w"), [Entry(Key("w"), spec, 0, 0, 0, 0, tuple(pieces))], 1, stored)
    code = """
import resource, sys
from ckptmigrate.bundle import Bundle
import numpy
bundle = Bundle.open(sys.argv[1])
bundle.read_box("w", ((0, 1), (0, 1)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for start in range(0, 131072 * 1024, 1 << 22):
    bundle.read_box("w", ((start, start + (1 << 22)),), (131072 * 1024,))
bundle.read_box("w", ((0, 131072), (3, 4), (0, 8)), (131072, 16, 64))
sys.exit(int((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 > 96 << 20))
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "w")], check=True)


def test_slices_that_do_not_cover_or_that_overlap_are_refused_when_they_are_read(tmp_path):
    array = np.arange(4, dtype=np.float32)
    for parts, message in (
        ({((0, 2),): array[:2]}, "do not cover"),
        ({((0, 3),): array[:3], ((2, 2),): array[2:]}, "slices overlap"),
    ):
        prefix, _ = partitioned(tmp_path, parts, TensorSpec(DType.FLOAT32, (4,)))
        bundle = Bundle.open(prefix)
        assert bundle.read_box("w", ((0, 2),)).tolist() == [0, 1]
        with pytest.raises(CorruptBundleError, match=message):
            bundle.read("w")
        bundle.close()
        Path(data_path(prefix, 0, 1)).unlink()
