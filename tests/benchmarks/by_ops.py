"""The leanest TensorFlow there is: one RestoreV2, one SaveV2 under new names, the graph rewritten: SOURCE OUT."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
RENAMED = {"blocks": "layers", "w": "kernel", "b": "bias"}

source, out = sys.argv[1:3]
reader = tf.train.load_checkpoint(source)
dtypes = reader.get_variable_to_dtype_map()
graph = TrackableObjectGraph.FromString(dtypes.pop(GRAPH) and reader.get_tensor(GRAPH))
keys = sorted(dtypes)
renamed = {key: "/".join(RENAMED.get(part, part) for part in key.split("/")) for key in keys}
for node in graph.nodes:
    for child in node.children:
        child.local_name = RENAMED.get(child.local_name, child.local_name)
    for attribute in node.attributes:
        attribute.checkpoint_key = renamed[attribute.checkpoint_key]
tensors = tf.raw_ops.RestoreV2(
    prefix=source, tensor_names=keys, shape_and_slices=[""] * len(keys), dtypes=[dtypes[key] for key in keys]
)
tf.raw_ops.SaveV2(
    prefix=out,
    tensor_names=[*(renamed[key] for key in keys), GRAPH],
    shape_and_slices=[""] * (len(keys) + 1),
    tensors=[*tensors, tf.constant(graph.SerializeToString())],
)
