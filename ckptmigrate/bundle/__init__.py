"""Checkpoints on disk: the only code that knows their bytes. It needs no TensorFlow.

A bundle is ``PREFIX.index``, a sorted table of what each tensor is and where its bytes are, and one or more
``PREFIX.data-?????-of-?????`` with the bytes. `find_prefix` finds one, `Bundle` reads it, `ShardFile` and
`write_index` write one. What is read is verified before it is used, and errors name the file and the key.
"""

from ckptmigrate.bundle.checksum import extend_crc, mask_crc, unmask_crc
from ckptmigrate.bundle.entry import Entry, same_slices
from ckptmigrate.bundle.locate import (
    Meant,
    data_path,
    find_meant,
    find_prefix,
    find_prefixes,
    index_path,
    kind_of_keras_file,
)
from ckptmigrate.bundle.origin import writer_version
from ckptmigrate.bundle.protos import (
    BundleEntryProto,
    BundleHeaderProto,
    RegisteredSaver,
    TensorShapeProto,
    TensorSliceProto,
    TrackableObjectGraph,
    VersionDef,
)
from ckptmigrate.bundle.ranges import DataFile, Reads, Runs
from ckptmigrate.bundle.reader import Bundle, numpy_dtype
from ckptmigrate.bundle.slices import WHOLE_AXIS, Box, SliceSpec, decode_slice_key, encode_slice_key, slice_box
from ckptmigrate.bundle.strings import decode_strings, encode_strings
from ckptmigrate.bundle.writer import ShardFile, create_shard, sync, write_file, write_index

__all__ = [
    "WHOLE_AXIS",
    "Box",
    "Bundle",
    "BundleEntryProto",
    "BundleHeaderProto",
    "DataFile",
    "Entry",
    "Meant",
    "Reads",
    "RegisteredSaver",
    "Runs",
    "ShardFile",
    "SliceSpec",
    "TensorShapeProto",
    "TensorSliceProto",
    "TrackableObjectGraph",
    "VersionDef",
    "create_shard",
    "data_path",
    "decode_slice_key",
    "decode_strings",
    "encode_slice_key",
    "encode_strings",
    "extend_crc",
    "find_meant",
    "find_prefix",
    "find_prefixes",
    "index_path",
    "kind_of_keras_file",
    "mask_crc",
    "numpy_dtype",
    "same_slices",
    "slice_box",
    "sync",
    "unmask_crc",
    "write_file",
    "write_index",
    "writer_version",
]
