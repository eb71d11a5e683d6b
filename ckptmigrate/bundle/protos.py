"""The format's protobuf messages, without TensorFlow.

Importing any of TensorFlow's generated modules runs ``import tensorflow`` (seconds, hundreds of MB).
So the few messages that a checkpoint needs are described here, under our own package name and in a
pool of our own: they have the same bytes, and a process that also imports TensorFlow keeps its own.

Source: field names and numbers are those of tensor_bundle.proto, trackable_object_graph.proto,
saved_model.proto and meta_graph.proto in tensorflow/core/protobuf/, and of tensor_shape.proto,
tensor_slice.proto and versions.proto in tensorflow/core/framework/.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_PACKAGE = "ckptmigrate.format"
_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "bool": _FIELD.TYPE_BOOL,
    "string": _FIELD.TYPE_STRING,
    "fixed32": _FIELD.TYPE_FIXED32,
}

# Message: its fields as (name, number, type). A type with `*` before it is repeated, one with `?` can be told
# from its default, and one that is no scalar is a message: of this file, or of another if it starts with `.`.
# Enums are int32 here (equal bytes), so that a number which is new to us is seen and refused by name.
_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "VersionDef": (("producer", 1, "int32"), ("min_consumer", 2, "int32"), ("bad_consumers", 3, "*int32")),
    "BundleHeaderProto": (("num_shards", 1, "int32"), ("endianness", 2, "int32"), ("version", 3, "VersionDef")),
    "TensorShapeProto": (("dim", 2, "*TensorShapeProto.Dim"), ("unknown_rank", 3, "bool")),
    "TensorShapeProto.Dim": (("size", 1, "int64"), ("name", 2, "string")),
    "TensorSliceProto": (("extent", 1, "*TensorSliceProto.Extent"),),
    "TensorSliceProto.Extent": (("start", 1, "int64"), ("length", 2, "?int64")),
    "BundleEntryProto": (
        ("dtype", 1, "int32"),
        ("shape", 2, "TensorShapeProto"),
        ("shard_id", 3, "int32"),
        ("offset", 4, "int64"),
        ("size", 5, "int64"),
        ("crc32c", 6, "fixed32"),
        ("slices", 7, "*TensorSliceProto"),
    ),
    "RegisteredSaver": (("name", 1, "string"), ("object_name", 2, "string")),
    "TrackableObjectGraph": (("nodes", 1, "*TrackableObjectGraph.TrackableObject"),),
    "TrackableObjectGraph.TrackableObject": (
        ("children", 1, "*TrackableObjectGraph.TrackableObject.ObjectReference"),
        ("attributes", 2, "*TrackableObjectGraph.TrackableObject.SerializedTensor"),
        ("slot_variables", 3, "*TrackableObjectGraph.TrackableObject.SlotVariableReference"),
        ("registered_saver", 4, "RegisteredSaver"),
        ("has_checkpoint_values", 5, ".google.protobuf.BoolValue"),
    ),
    "TrackableObjectGraph.TrackableObject.ObjectReference": (("node_id", 1, "int32"), ("local_name", 2, "string")),
    "TrackableObjectGraph.TrackableObject.SerializedTensor": (
        ("name", 1, "string"),
        ("full_name", 2, "string"),
        ("checkpoint_key", 3, "string"),
    ),
    "TrackableObjectGraph.TrackableObject.SlotVariableReference": (
        ("original_variable_node_id", 1, "int32"),
        ("slot_name", 2, "string"),
        ("slot_variable_node_id", 3, "int32"),
    ),
    "SavedModel": (("meta_graphs", 2, "*MetaGraphDef"),),
    "MetaGraphDef": (("meta_info_def", 1, "MetaInfoDef"),),
    "MetaInfoDef": (("tensorflow_version", 5, "string"),),
}


def _describe() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="ckptmigrate/format.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    made: dict[str, Any] = {}
    for full_name, fields in _MESSAGES.items():
        outer, _, name = full_name.rpartition(".")
        message = made[outer].nested_type.add(name=name) if outer else file.message_type.add(name=name)
        made[full_name] = message
        for field_name, number, marked in fields:
            kind = marked.lstrip("*?")
            field = message.field.add(name=field_name, number=number)
            field.label = _FIELD.LABEL_REPEATED if marked.startswith("*") else _FIELD.LABEL_OPTIONAL
            if marked.startswith("?"):
                # proto3's form of "optional": a oneof of its own.
                field.proto3_optional = True
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field_name}")
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                field.type = _FIELD.TYPE_MESSAGE
                field.type_name = kind if kind.startswith(".") else f".{_PACKAGE}.{kind}"
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
_POOL.AddSerializedFile(_describe().SerializeToString())


def _message_class(name: str) -> Any:
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


VersionDef: Any = _message_class("VersionDef")
BundleHeaderProto: Any = _message_class("BundleHeaderProto")
BundleEntryProto: Any = _message_class("BundleEntryProto")
TensorShapeProto: Any = _message_class("TensorShapeProto")
TensorSliceProto: Any = _message_class("TensorSliceProto")
RegisteredSaver: Any = _message_class("RegisteredSaver")
TrackableObjectGraph: Any = _message_class("TrackableObjectGraph")
SavedModel: Any = _message_class("SavedModel")
MetaGraphDef: Any = _message_class("MetaGraphDef")
