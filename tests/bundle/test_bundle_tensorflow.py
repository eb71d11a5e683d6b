"""What TensorFlow writes we read, and what we write TensorFlow reads: byte for byte."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from builders import ShardWriter
from corpus import corpus_prefixes, corpus_rows

from ckptmigrate.bundle import (
    Bundle,
    Entry,
    TrackableObjectGraph,
    data_path,
    encode_strings,
    index_path,
    write_index,
)
from ckptmigrate.errors import OperationError
from ckptmigrate.spec import DType, TensorSpec

tf = pytest.importorskip("tensorflow")


def rewrite(bundle, prefix):
    """Write a bundle's values again by our own means, in one data file."""

    def put(shard, entry):
        if entry.spec.dtype is DType.STRING:
            data, crc = encode_strings(bundle.read(entry).reshape(-1).tolist())
            extent = shard.append(data, crc)
        elif entry.spec.dtype is DType.VARIANT:
            extent = (*shard.append(bundle.read_raw(entry))[:2], entry.crc32c)
        else:
            extent = shard.append(bundle.read(entry).tobytes())
        return Entry(entry.key, entry.spec, 0, *extent)

    stored = [*bundle.entries.items(), *bundle.slice_entries.items()]
    stored.sort(key=lambda item: item[1].offset)  # as they are laid out, so that offsets come out equal
    with ShardWriter(data_path(prefix, 0, 1)) as shard:
        written = {where: entry if entry.slices else put(shard, entry) for where, entry in stored}
    slices = {where: entry for where, entry in written.items() if where in bundle.slice_entries}
    write_index(index_path(prefix), [written[key] for key in bundle.entries], 1, slices)


def save(prefix, tensors, shapes_and_slices=None):
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(tensors),
        shape_and_slices=shapes_and_slices or [""] * len(tensors),
        tensors=list(tensors.values()),
    )


def as_array(value):
    """A value as TensorFlow gives it; numpy's own type for bytes would cut zeros off their end."""
    return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)


def index_bytes(prefix):
    return Path(index_path(str(prefix))).read_bytes()


@pytest.mark.parametrize("name", corpus_prefixes())
def test_a_real_checkpoint_reads_as_tensorflow_reads_it(name):
    prefix = corpus_prefixes()[name]
    reader = tf.train.load_checkpoint(prefix)
    dtypes, shapes = reader.get_variable_to_dtype_map(), reader.get_variable_to_shape_map()
    with Bundle.open(prefix) as bundle:
        assert {key: entry.spec.shape for key, entry in bundle.entries.items()} == {
            key: tuple(sizes) for key, sizes in shapes.items()
        }
        assert {key: entry.spec.dtype for key, entry in bundle.entries.items()} == {
            key: dtype.as_datatype_enum for key, dtype in dtypes.items()
        }
        for key in sorted(bundle.entries):
            ours, theirs = bundle.read(key), as_array(reader.get_tensor(key))
            assert ours.shape == theirs.shape
            if dtypes[key] == tf.string:
                assert ours.reshape(-1).tolist() == theirs.reshape(-1).tolist()
            else:
                assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("row", corpus_rows(), ids=lambda row: row["name"])
def test_a_real_checkpoint_written_again_has_the_same_index_and_data(row, tmp_path):
    prefix = corpus_prefixes()[row["name"]]
    with Bundle.open(prefix) as bundle:
        again = tmp_path / "again.index"
        write_index(again, bundle.entries.values(), bundle.num_shards, bundle.slice_entries)
        if row["index_compression"] == "none":
            assert again.read_bytes() == index_bytes(prefix)
        rewrite(bundle, str(tmp_path / "x"))
        with Bundle.open(tmp_path / "x") as rewritten:
            for key in bundle.entries:
                assert rewritten.raw(key) == bundle.raw(key)
                assert rewritten.entries[key].crc32c == bundle.entries[key].crc32c


@pytest.mark.parametrize("row", [row for row in corpus_rows() if "object" in row["kind"]], ids=lambda row: row["name"])
def test_a_real_object_graph_parses_and_serializes_to_the_same_bytes(row):
    with Bundle.open(corpus_prefixes()[row["name"]]) as bundle:
        stored = bundle.object_graph_bytes()
        graph = TrackableObjectGraph.FromString(stored)
        assert len(graph.nodes) > 0
        assert TrackableObjectGraph.FromString(graph.SerializeToString()) == graph
        keys = {attribute.checkpoint_key for node in graph.nodes for attribute in node.attributes}
        assert keys & set(bundle.entries) or len(bundle.entries) == 1
        # A field that we did not know would be kept apart, and be missing when the graph is copied field by field.
        # Only one ever was: number 4 of an attribute (`optional_restore`), which later versions reserve and ignore.
        graph.DiscardUnknownFields()
        assert len(stored) - graph.ByteSize() == (10 if row["name"] == "rstudio-object-config-json" else 0)


def one_of_each_dtype():
    numbers = np.array([[1, 0, 3], [2, 5, 7]])
    tensors = {}
    for dtype in DType:
        name = dtype.label
        if dtype in (DType.RESOURCE, DType.VARIANT, DType.STRING):
            continue
        try:
            tf_dtype = tf.as_dtype(int(dtype))
        except (TypeError, KeyError):
            continue  # newer than this TensorFlow
        numpy_name = dtype.numpy_name
        array = numbers.astype(getattr(ml_dtypes, numpy_name, numpy_name))
        try:
            tensor = tf.constant(array)
            tensors[name] = tensor if tensor.dtype == tf_dtype else tf.bitcast(tensor, tf_dtype)
        except (TypeError, ValueError, tf.errors.OpError):
            continue
    tensors["string"] = tf.constant([[b"a", b""], [b"b" * 300, b"\xff\0"]])
    tensors["empty_string"] = tf.constant([], tf.string)
    tensors["scalar"] = tf.constant(2.5)
    tensors["empty"] = tf.zeros((0, 4))
    tensors["variant"] = tf.raw_ops.TensorListFromTensor(tensor=tf.ones((2, 3)), element_shape=[3])
    return tensors


def values_of(tensor):
    if tensor.dtype == tf.variant:
        tensor = tf.raw_ops.TensorListStack(input_handle=tensor, element_shape=[3], element_dtype=tf.float32)
    return tensor.numpy().tolist()


def test_every_dtype_goes_from_tensorflow_to_us_and_back(tmp_path):
    tensors = one_of_each_dtype()
    assert {"bfloat16", "float16", "int4", "float8_e5m2", "float8_e4m3fn", "complex128", "qint8", "bool"} <= set(
        tensors
    )
    save(tmp_path / "theirs", tensors)
    with Bundle.open(tmp_path / "theirs") as bundle:
        assert set(bundle.entries) == set(tensors)
        for name, tensor in tensors.items():
            spec = bundle.entries[name].spec
            assert spec == TensorSpec(DType(tensor.dtype.as_datatype_enum), tuple(tensor.shape))
            if name == "variant":
                bundle.verify_crc(name)
                with pytest.raises(OperationError):
                    bundle.read(name)
                continue
            ours, theirs = bundle.read(name), tensor.numpy()
            assert ours.shape == theirs.shape
            if spec.dtype is DType.STRING:
                assert ours.tolist() == theirs.tolist()
            else:
                assert ours.tobytes() == theirs.tobytes()
        rewrite(bundle, str(tmp_path / "ours"))
    restored = tf.raw_ops.RestoreV2(
        prefix=str(tmp_path / "ours"),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        dtypes=[tensor.dtype for tensor in tensors.values()],
    )
    for tensor, back in zip(tensors.values(), restored, strict=True):
        assert back.dtype == tensor.dtype
        assert values_of(back) == values_of(tensor)
    assert index_bytes(tmp_path / "ours") == index_bytes(tmp_path / "theirs")
    assert Path(data_path(str(tmp_path / "ours"), 0, 1)).read_bytes() == (
        Path(data_path(str(tmp_path / "theirs"), 0, 1)).read_bytes()
    )


def test_an_index_of_many_blocks_is_what_tensorflow_writes(tmp_path):
    tensors = {
        f"model/layers/{number}/\xff\u4e2d/{'x' * (number % 200)}/.ATTRIBUTES/VARIABLE_VALUE": tf.constant(number)
        for number in range(8000)
    }
    save(tmp_path / "theirs", tensors)
    with Bundle.open(tmp_path / "theirs") as bundle:
        assert set(bundle.entries) == set(tensors)
        write_index(tmp_path / "ours.index", bundle.entries.values(), 1)
    assert len(index_bytes(tmp_path / "theirs")) > 2 * 262144
    assert (tmp_path / "ours.index").read_bytes() == index_bytes(tmp_path / "theirs")


def test_partitioned_tensors_go_from_tensorflow_to_us_and_back(tmp_path):
    array = np.arange(40, dtype=np.float32).reshape(10, 4)
    pieces = {"10 4 0,3:-": array[:3], "10 4 3,7:0,2": array[3:, :2], "10 4 3,7:2,2": array[3:, 2:]}
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "theirs"),
        tensor_names=["w"] * 3 + ["whole"],
        shape_and_slices=[*pieces, ""],
        tensors=[*map(tf.constant, pieces.values()), tf.constant(1.0)],
    )
    with Bundle.open(tmp_path / "theirs") as bundle:
        assert list(bundle.entries) == ["w", "whole"]
        assert {spec for _, spec in bundle.slice_entries} == set(bundle.entries["w"].slices)
        assert np.array_equal(bundle.read("w"), array)
        bundle.verify_crc("w")
        rewrite(bundle, str(tmp_path / "ours"))
    assert index_bytes(tmp_path / "ours") == index_bytes(tmp_path / "theirs")
    restored = tf.train.load_checkpoint(str(tmp_path / "ours")).get_tensor("w")
    assert np.array_equal(restored, array)


def test_merged_bundles_of_several_shards_read_as_one(tmp_path):
    for number in range(3):
        save(tmp_path / f"part{number}", {f"w{number}": tf.fill([5], number)})
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(tmp_path / f"part{number}") for number in range(3)],
        destination_prefix=str(tmp_path / "merged"),
    )
    with Bundle.open(tmp_path / "merged") as bundle:
        assert bundle.num_shards == 3
        assert [bundle.read(f"w{number}").tolist() for number in range(3)] == [[number] * 5 for number in range(3)]


def test_our_messages_and_tensorflows_live_in_one_process():
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    theirs = trackable_object_graph_pb2.TrackableObjectGraph()
    node = theirs.nodes.add()
    node.children.add(node_id=1, local_name="w")
    node.slot_variables.add(original_variable_node_id=1, slot_name="m", slot_variable_node_id=2)
    node.registered_saver.name = "saver"
    node.registered_saver.object_name = "object"
    node.has_checkpoint_values.value = True
    ours = TrackableObjectGraph.FromString(theirs.SerializeToString())
    assert ours.nodes[0].registered_saver.object_name == "object"
    assert ours.nodes[0].has_checkpoint_values.value
    assert str(ours) == str(theirs)
