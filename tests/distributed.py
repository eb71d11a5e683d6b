"""Models under distribution strategies, each in a process of its own: a strategy configures all of TensorFlow.

Run as a program: `distributed.py STRATEGY save|template|restore PREFIX OPTIMIZER [SOURCE]`, where the strategy is
`servers-N` (a cluster of one worker and two parameter servers, which cuts each variable into N shards) or `mirrored`
(two devices, each with a copy).
"""

import os
import socket
import sys

import numpy as np
import tensorflow as tf
import tf_keras

SERVERS = ("worker", "ps", "ps")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def mirrored():
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def parameter_servers(shards):
    jobs = {}
    for job, port in zip(SERVERS, free_ports(len(SERVERS)), strict=True):
        jobs.setdefault(job, []).append(f"localhost:{port}")
    cluster = tf.train.ClusterSpec(jobs)
    for job, addresses in jobs.items():
        for index in range(len(addresses)):
            tf.distribute.Server(cluster, job_name=job, task_index=index, protocol="grpc")
    return tf.distribute.ParameterServerStrategy(
        tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, rpc_layer="grpc"),
        variable_partitioner=tf.distribute.experimental.partitioners.FixedShardsPartitioner(shards),
    )


def build(optimizer_kind):
    model = tf_keras.Sequential([tf_keras.Input((5,)), tf_keras.layers.Dense(4, name="hidden")])
    if optimizer_kind == "legacy":
        optimizer = tf_keras.optimizers.legacy.Adam()
        optimizer._create_all_weights(model.trainable_variables)
    else:
        optimizer = tf_keras.optimizers.Adam()
        optimizer.build(model.trainable_variables)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    assert checkpoint.save_counter is not None  # made when it is looked at
    return checkpoint


def variables_of(optimizer):
    return optimizer.variables() if callable(optimizer.variables) else optimizer.variables


def assert_restored(checkpoint, source):
    """What was restored is written once more, and compared with where it came from."""
    written = tf.train.load_checkpoint(checkpoint.write(f"{source}-again"))
    reader = tf.train.load_checkpoint(source)
    for key in reader.get_variable_to_shape_map():
        if key != "_CHECKPOINTABLE_OBJECT_GRAPH":
            assert np.array_equal(written.get_tensor(key), reader.get_tensor(key)), key


def main(strategy, what, prefix, optimizer_kind, source=""):
    distributed = mirrored() if strategy == "mirrored" else parameter_servers(int(strategy.removeprefix("servers-")))
    with distributed.scope():
        checkpoint = build(optimizer_kind)
        if what == "save":
            for variable in (*checkpoint.model.variables, *variables_of(checkpoint.optimizer)):
                variable.assign(tf.cast(tf.random.stateless_uniform(variable.shape, (3, 4)) * 9, variable.dtype))
            checkpoint.write(prefix)
        elif what == "template":
            checkpoint.write(prefix)
        else:
            status = checkpoint.read(prefix)
            # Of a legacy optimizer's sharded slots TensorFlow misses a shard in its own checkpoints, too.
            if optimizer_kind != "legacy" or strategy == "mirrored":
                status.assert_existing_objects_matched()
                status.assert_consumed()
            assert_restored(checkpoint, source)


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # servers have no end
