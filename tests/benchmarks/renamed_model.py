"""A model before and after every attribute was renamed, with an optimizer that keeps two slots a variable."""

from __future__ import annotations

import os
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import tensorflow as tf
from tf_keras.optimizers.legacy import Adam


class Names(NamedTuple):
    """What a version of the model calls its parts."""

    blocks: str
    weight: str
    bias: str


SOURCE = Names("blocks", "w", "b")
TARGET = Names("layers", "kernel", "bias")


class Model(tf.Module):
    def __init__(self, names: Names, count: int, width: int, value: float) -> None:
        super().__init__()
        blocks = []
        for _ in range(count):
            block = tf.Module()
            setattr(block, names.weight, tf.Variable(tf.fill((width, width), value)))
            setattr(block, names.bias, tf.Variable(tf.fill((width,), value)))
            blocks.append(block)
        setattr(self, names.blocks, blocks)


def build(names: Names, count: int, width: int, slots: int, value: float = 0.0) -> tf.train.Checkpoint:
    """The model of so many blocks; with Adam, built for all of its variables, if `slots` is not 0."""
    model = Model(names, count, width, value)
    if not slots:
        return tf.train.Checkpoint(model=model)
    optimizer = Adam()
    variables = [getattr(block, name) for block in getattr(model, names.blocks) for name in (names.weight, names.bias)]
    optimizer._create_all_weights(variables)
    return tf.train.Checkpoint(model=model, optimizer=optimizer)
