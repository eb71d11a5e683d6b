"""How good matching is on models that people wrote: image models of Keras 2 as Keras 3 has them.

    python tests/benchmarks/real_pairs.py                         # every model below, in three ways
    python tests/benchmarks/real_pairs.py MobileNetV3Small        # one of them

Each model is built by tf_keras and by Keras 3, with random weights, and their checkpoints are matched without rules.
The truth is read off by value tagging: every variable of the old model, and every slot, holds a number of its own,
the weights are moved in the order of the layers, and the number is read back from the new checkpoint. Three ways:

    plain    both models as they are
    decoy    other layers were built before the old model, so that its automatic names begin at other numbers
    adam     so, and with Adam on both sides, in the checkpoint beside the model

A row says how many variables there are, how many of them are decided rightly and wrongly, how many are proposed
rightly and wrongly, and how many questions are asked. The exit status is 1 if anything is decided wrongly.
"""

from __future__ import annotations

# ruff: noqa: T201  # it is a program
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

WAYS = ("plain", "decoy", "adam")

SIDES = {
    **dict.fromkeys(("ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "MobileNet"), 32),
    **dict.fromkeys(("MobileNetV2", "MobileNetV3Small", "ResNet50", "ResNet50V2"), 32),
    **dict.fromkeys(("InceptionResNetV2", "InceptionV3", "Xception"), 96),
    "NASNetMobile": 224,
}
"""The models, and how many pixels an image has on a side: as few as the model takes."""


class Row(NamedTuple):
    """What matching says of one pair of models."""

    name: str
    way: str
    variables: int
    right: int
    wrong: int
    proposed_right: int
    proposed_wrong: int
    questions: int


def main() -> None:
    rows = []
    print("| model | | variables | right | wrong | proposed: right | wrong | questions |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for name in sys.argv[1:] or SIDES:
        for way in WAYS:
            rows.append(measured(name, way))
            print("|", " | ".join(map(str, rows[-1])), "|", flush=True)
    total = [sum(column) for column in list(zip(*rows, strict=True))[2:]]
    print("| all |  |", " | ".join(map(str, total)), "|")
    sys.exit(1 if total[2] else 0)


def measured(name: str, way: str) -> Row:
    """Build, write, match, count."""
    import tensorflow as tf

    from ckptmigrate import Bundle, ObjectGraph, match_graphs

    with tempfile.TemporaryDirectory() as folder:
        prefixes = [str(Path(folder) / side) for side in ("old", "new")]
        for trackables, prefix in zip(tagged(name, way), prefixes, strict=True):
            tf.train.Checkpoint(**trackables).write(prefix)
        with Bundle.open(prefixes[0]) as old, Bundle.open(prefixes[1]) as new:
            matching = match_graphs(ObjectGraph.from_bundle(old), ObjectGraph.from_bundle(new))
        told = [
            {tag_of(reader.get_tensor(key)): key for key in reader.get_variable_to_shape_map() if "/" in key}
            for reader in map(tf.train.load_checkpoint, prefixes)
        ]
    assert told[0].keys() == told[1].keys(), "each number stands for one variable of either side"
    truth = {told[1][tag]: (told[0][tag],) for tag in told[0]}
    counts = {(proposed, good): 0 for proposed in (False, True) for good in (False, True)}
    for step in matching.steps:
        if step.sources:
            counts[step.status == "proposed", step.sources == truth[step.target]] += 1
    decided, proposed = ((counts[kind, True], counts[kind, False]) for kind in (False, True))
    return Row(name, way, len(truth), *decided, *proposed, len(matching.questions))


def tag_of(value: Any) -> float:
    return float(np.asarray(value).reshape(-1)[0])


def tagged(name: str, way: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The old model and the new one, every variable of the old one and what it becomes filled with one number."""
    import keras
    import tf_keras

    for framework in (keras, tf_keras):
        framework.backend.clear_session()
    if way != "plain":
        layers = tf_keras.layers
        for decoy in (layers.BatchNormalization(), layers.Conv2D(3, 3), layers.DepthwiseConv2D(3)):
            decoy.build((None, 4, 4, 3))
    models = [
        getattr(framework.applications, name)(weights=None, classes=10, input_shape=(SIDES[name], SIDES[name], 3))
        for framework in (tf_keras, keras)
    ]
    pairs = list(twins(*models))
    if way == "adam":
        for framework, model in zip((tf_keras, keras), models, strict=True):
            model.compile(framework.optimizers.Adam(), "mse")
            model.optimizer.build(model.trainable_variables)
        pairs += slots(*models, pairs)
    for tag, pair in enumerate(pairs, 2):
        for variable in pair:
            variable.assign(np.full(variable.shape, tag))
    held = [{"model": model} | ({"optimizer": model.optimizer} if way == "adam" else {}) for model in models]
    return held[0], held[1]


def twins(old: Any, new: Any) -> Iterator[tuple[Any, Any]]:
    """The variables of two models of one architecture, layer by layer."""
    layers = [[layer for layer in model.layers if layer.weights] for model in (old, new)]
    for left, right in zip(*layers, strict=True):
        for one, other in zip(left.weights, right.weights, strict=True):
            assert tuple(one.shape) == tuple(other.shape), (left.name, right.name)
            yield one, other


def slots(old: Any, new: Any, pairs: list[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """What the two optimizers hold: their scalars, and the slots of variables that are each other."""
    left, right = old.optimizer, new.optimizer
    yield left.iterations, right.iterations
    yield left._learning_rate, right._learning_rate
    at = {id(variable): number for number, variable in enumerate(new.trainable_variables)}
    becomes = {id(one): at[id(other)] for one, other in pairs if id(other) in at}
    for number, variable in enumerate(old.trainable_variables):
        for kind in ("_momentums", "_velocities"):
            yield getattr(left, kind)[number], getattr(right, kind)[becomes[id(variable)]]


if __name__ == "__main__":
    main()
