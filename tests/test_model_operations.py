"""Operations on real models: what they compute afterwards is what they computed before."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras.api._v1.keras.__internal__.legacy import rnn_cell

from ckptmigrate import (
    Bundle,
    Endpoint,
    ObjectGraph,
    Plan,
    apply_plan,
    make_plan,
    match_graphs,
    read_rulebook,
    verify_checkpoint,
)
from ckptmigrate.graph.template import write_checkpoint
from ckptmigrate.reverse import reverse_plan

KERAS3 = pytest.param(keras, id="keras-3")
KERAS2 = pytest.param(tf_keras, id="tf_keras")
EVERY_KERAS = pytest.mark.parametrize("framework", [KERAS3, KERAS2])


def checkpoint_of(model: Any) -> tf.train.Checkpoint:
    optimizer = {"optimizer": model.optimizer} if hasattr(model, "optimizer") else {}
    return tf.train.Checkpoint(model=model, **optimizer)


def migrate(tmp_path: Path, old: Any, new: Any, rules: str) -> Plan:
    """From one model to another with rules: plan, apply, verify, and restore in TensorFlow."""
    source = checkpoint_of(old).write(str(tmp_path / "old"))
    checkpoint = checkpoint_of(new)
    template = write_checkpoint(checkpoint, str(tmp_path / "template"), where="the new model").prefix
    (tmp_path / "rules.yaml").write_text(rules)
    with Bundle.open(source) as theirs, Bundle.open(template) as ours:
        graphs = ObjectGraph.from_bundle(theirs), ObjectGraph.from_bundle(ours)
        matching = match_graphs(*graphs, read_rulebook(tmp_path / "rules.yaml"))
        plan = make_plan(Endpoint.of(theirs), Endpoint.of(ours), matching)
    assert plan.is_complete, plan.to_json().decode()
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    report = verify_checkpoint(out, template, plan=plan)
    assert report.passed, report
    checkpoint.read(out).assert_nontrivial_match().assert_existing_objects_matched().assert_consumed()
    return plan


def moments(model: Any, variable: Any) -> list[np.ndarray]:
    """Adam's two moments of a variable."""
    optimizer = model.optimizer
    key = optimizer._get_variable_index if hasattr(optimizer, "_get_variable_index") else None
    index = key(variable) if key else optimizer._index_dict[optimizer._var_key(variable)]
    return [slots[index].numpy() for slots in (optimizer._momentums, optimizer._velocities)]


# A vocabulary.


class Words(keras.Model):
    """Guesses a word from others: an embedding on the way in, logits on the way out."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.embedding = keras.layers.Embedding(count, 8)
        self.out = keras.layers.Dense(count, bias_initializer="normal")

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        return self.out(tf.reduce_mean(self.embedding(tokens), axis=1))


class OldWords(tf_keras.Model):
    """The same in Keras 2."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.embedding = tf_keras.layers.Embedding(count, 8)
        self.out = tf_keras.layers.Dense(count, bias_initializer="normal")

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        return self.out(tf.reduce_mean(self.embedding(tokens), axis=1))


def words(framework: Any, count: int, steps: int) -> Any:
    model = (Words if framework is keras else OldWords)(count)
    loss = framework.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(framework.optimizers.Adam(0.01), loss)
    rng = np.random.default_rng(0)
    tokens, labels = rng.integers(0, count, (64, 5)), rng.integers(0, count, 64)
    model(tokens[:1])
    model.optimizer.build(model.trainable_variables)
    if steps:
        model.fit(tokens, labels, batch_size=16, epochs=steps, verbose=0)
    return model


@EVERY_KERAS
@pytest.mark.parametrize("fill", ["template", "mean"])
def test_a_vocabulary_that_grew_and_was_shuffled_keeps_every_row_of_every_old_token(tmp_path, framework, fill):
    rng = np.random.default_rng(1)
    before = [f"w{number}" for number in range(1000)]
    after = [f"w{number}" for number in rng.permutation(1200)]
    (tmp_path / "before.txt").write_text("\n".join(before))
    (tmp_path / "after.txt").write_text("\n".join(after))
    old, new = words(framework, 1000, 3), words(framework, 1200, 0)
    mark = "_" if framework is keras else ""  # Keras 3 holds some variables under such attributes
    fresh = new.embedding.embeddings.numpy()
    migrate(
        tmp_path,
        old,
        new,
        f"""
        rules:
          - vocab:
              source: before.txt
              target: after.txt
              fill: {fill}
              at:
                - {{from: model/embedding/{mark}embeddings, axis: 0}}
                - {{from: model/out/{mark}kernel, axis: -1}}
                - {{from: model/out/bias, axis: 0}}
        """,
    )
    places = np.array([after.index(token) for token in before])
    others = np.setdiff1d(np.arange(1200), places)
    for ours, theirs in (
        (new.embedding.embeddings, old.embedding.embeddings),
        (new.out.kernel, old.out.kernel),
        (new.out.bias, old.out.bias),
    ):
        turn = (lambda array: array.T) if theirs is old.out.kernel else (lambda array: array)
        assert np.array_equal(turn(ours.numpy())[places], turn(theirs.numpy()))
        for moved, was in zip(moments(new, ours), moments(old, theirs), strict=True):
            assert np.any(was)
            assert np.array_equal(turn(moved)[places], turn(was))
            assert not np.any(turn(moved)[others])
    filled = fresh[others] if fill == "template" else old.embedding.embeddings.numpy().mean(0, np.float64)
    np.testing.assert_allclose(new.embedding.embeddings.numpy()[others], np.broadcast_to(filled, (200, 8)), rtol=1e-6)
    sentences = rng.integers(0, 1000, (20, 5))
    logits = new(places[sentences]).numpy()[:, places]
    np.testing.assert_allclose(logits, old(sentences).numpy(), rtol=1e-5, atol=1e-6)
    new.fit(places[sentences], places[sentences[:, 0]], verbose=0)


# Gates.

INPUTS, UNITS, STEPS = 3, 4, 6


def sequences() -> tf.Tensor:
    return tf.constant(np.random.default_rng(3).normal(size=(5, STEPS, INPUTS)), tf.float32)


def unrolled(cell: Any, state: Any, inputs: tf.Tensor) -> np.ndarray:
    """The outputs of a cell of TensorFlow 1, step by step."""
    outputs = []
    for step in tf.unstack(inputs, axis=1):
        output, state = cell(step, state)
        outputs.append(output)
    return tf.stack(outputs, axis=1).numpy()


def trained(module: tf.Module, optimizer: Any, variables: Any) -> tf.Module:
    """A module whose variables have values and moments, after steps that the gradients are made up for."""
    module.optimizer = optimizer
    optimizer.build(variables)
    for step in range(3):
        gradients = [
            tf.random.stateless_normal(variable.shape, (step, number)) for number, variable in enumerate(variables)
        ]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return module


def holding(**parts: Any) -> tf.Module:
    module = tf.Module()
    for name, part in parts.items():
        setattr(module, name, part)
    return module


def keras_rnn(layer: Any) -> tf.Module:
    """A layer that has run, with an optimizer that knows its variables."""
    layer(sequences())
    module = holding(layer=layer)
    module.optimizer = keras.optimizers.Adam(0.01)
    module.optimizer.build(layer.trainable_variables)
    return module


def lstm_rules(old: str, new: str, forget_bias: float = 1) -> str:
    gates = "axis: -1, source: tf1_lstm, target: keras_lstm"
    return f"""
          - map:
              from: {old}/kernel
              to: [{new}/kernel, {new}/recurrent_kernel]
              ops: [{{gates: {{{gates}}}}}, {{split: {{axis: 0, sizes: target}}}}]
          - gates: {{from: {old}/bias, to: {new}/bias, {gates}, forget_bias: {forget_bias}}}
    """


def assert_same_outputs(new: Any, old: np.ndarray) -> None:
    assert np.abs(old).max() > 0.1, "the outputs say nothing"
    np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", [rnn_cell.BasicLSTMCell, rnn_cell.LSTMCell])
def test_an_lstm_of_tensorflow_1_computes_the_same_in_keras(tmp_path, cell):
    old = holding(cell=cell(UNITS))
    state = old.cell.zero_state(5, tf.float32)
    unrolled(old.cell, state, sequences())
    trained(old, tf_keras.optimizers.Adam(0.01), old.cell.trainable_variables)
    new = keras_rnn(keras.layers.LSTM(UNITS, return_sequences=True))
    migrate(tmp_path, old, new, "rules:" + lstm_rules("model/cell", "model/layer/cell"))
    assert_same_outputs(new.layer(sequences()), unrolled(old.cell, state, sequences()))
    bias = old.cell.trainable_variables[1]
    for ours, theirs in zip(moments(new, new.layer.cell.bias), moments(old, bias), strict=True):
        assert np.array_equal(ours, np.concatenate([np.split(theirs, 4)[block] for block in (0, 2, 1, 3)]))


class BlockCell(tf.Module):
    """``LSTMBlockCell`` of tf.contrib: the kernel of that name, which is still there, and its variables."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.random.stateless_normal((INPUTS + UNITS, 4 * UNITS), (1, 2)))
        self.bias = tf.Variable(tf.random.stateless_normal((4 * UNITS,), (3, 4)))

    def __call__(self, step: tf.Tensor, state: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, Any]:
        none = tf.zeros(UNITS)
        made = tf.raw_ops.LSTMBlockCell(
            x=step, cs_prev=state[0], h_prev=state[1], w=self.kernel, wci=none, wcf=none, wco=none, b=self.bias
        )
        return made.h, (made.cs, made.h)


def test_both_directions_of_block_cells_compute_the_same_in_keras(tmp_path):
    """Their cell state is clipped at 3, and Keras does not clip: the inputs are small enough to stay below."""
    old = holding(forwards=BlockCell(), backwards=BlockCell())
    old.backwards.kernel.assign(old.backwards.kernel[::-1])
    layer = keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=True))
    layer(sequences())
    new = holding(layer=layer)
    rules = lstm_rules("model/forwards", "model/layer/forward_layer/cell")
    rules += lstm_rules("model/backwards", "model/layer/backward_layer/cell")
    migrate(tmp_path, old, new, "rules:" + rules)
    state = (tf.zeros((5, UNITS)), tf.zeros((5, UNITS)))
    forwards = unrolled(old.forwards, state, sequences())
    backwards = unrolled(old.backwards, state, sequences()[:, ::-1])[:, ::-1]
    assert_same_outputs(new.layer(sequences()), np.concatenate([forwards, backwards], -1))


def test_a_gru_of_tensorflow_1_computes_the_same_in_keras(tmp_path):
    old = holding(cell=rnn_cell.GRUCell(UNITS))
    state = old.cell.zero_state(5, tf.float32)
    unrolled(old.cell, state, sequences())
    trained(old, tf_keras.optimizers.Adam(0.01), old.cell.trainable_variables)
    new = keras_rnn(keras.layers.GRU(UNITS, return_sequences=True, reset_after=False))
    migrate(
        tmp_path,
        old,
        new,
        """
        rules:
          - map:
              from: [model/cell/gates.Skernel, model/cell/candidate.Skernel]
              to: [model/layer/cell/kernel, model/layer/cell/recurrent_kernel]
              ops:
                - concat: {axis: -1}
                - gates: {axis: -1, source: rzh, target: keras_gru}
                - split: {axis: 0, sizes: target}
          - map:
              from: [model/cell/gates.Sbias, model/cell/candidate.Sbias]
              to: model/layer/cell/bias
              ops: [{concat: {axis: 0}}, {gates: {axis: 0, source: rzh, target: keras_gru}}]
        """,
    )
    assert_same_outputs(new.layer(sequences()), unrolled(old.cell, state, sequences()))


class CudnnGru(tf.Module):
    """A GRU as cuDNN computes it: gates r, z, h, and all biases in one vector, those of the inputs first."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.random.stateless_normal((INPUTS, 3 * UNITS), (1, 2)))
        self.recurrent = tf.Variable(tf.random.stateless_normal((UNITS, 3 * UNITS), (3, 4)))
        self.bias = tf.Variable(tf.random.stateless_normal((6 * UNITS,), (5, 6)))

    def __call__(self, step: tf.Tensor, state: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        of_input, of_state = tf.split(self.bias, 2)
        x_r, x_z, x_h = tf.split(step @ self.kernel + of_input, 3, axis=-1)
        h_r, h_z, h_h = tf.split(state @ self.recurrent + of_state, 3, axis=-1)
        z = tf.sigmoid(x_z + h_z)
        candidate = tf.tanh(x_h + tf.sigmoid(x_r + h_r) * h_h)
        state = (1 - z) * candidate + z * state
        return state, state


def test_a_gru_of_cudnn_computes_the_same_in_keras_and_the_way_back_is_known(tmp_path):
    old = holding(cell=CudnnGru())
    layer = keras.layers.GRU(UNITS, return_sequences=True)
    layer(sequences())
    new = holding(layer=layer)
    gates = "axis: -1, source: cudnn_gru, target: keras_gru"
    plan = migrate(
        tmp_path,
        old,
        new,
        f"""
        rules:
          - gates: {{from: model/cell/kernel, to: model/layer/cell/kernel, {gates}}}
          - gates: {{from: model/cell/recurrent, to: model/layer/cell/recurrent_kernel, {gates}}}
          - map:
              from: model/cell/bias
              to: model/layer/cell/bias
              ops: [{{reshape: {{shape: [2, -1]}}}}, {{gates: {{{gates}}}}}]
        """,
    )
    assert_same_outputs(new.layer(sequences()), unrolled(old.cell, tf.zeros((5, UNITS)), sequences()))
    with Bundle.open(str(tmp_path / "out")) as out, Bundle.open(plan.source.prefix) as source:
        back = reverse_plan(plan, out, source, where="plan")
    apply_plan(back, str(tmp_path / "back"))
    before = old.cell.bias.numpy()
    old.cell.bias.assign(0 * before)
    tf.train.Checkpoint(model=old).read(str(tmp_path / "back")).assert_consumed()
    assert np.array_equal(old.cell.bias, before)


# Batch normalization.

CHANNELS = 4


def normalized(layer: Any, *, scale: bool, center: bool, inputs: np.ndarray) -> Any:
    """A layer and its batch normalization, with moments and statistics that say something."""
    model = keras.Sequential([layer, keras.layers.BatchNormalization(scale=scale, center=center, epsilon=1e-2)])
    model.compile(keras.optimizers.Adam(0.3), "mse", run_eagerly=True)
    model.build(inputs.shape)
    rng = np.random.default_rng(5)
    for _ in range(3):
        model.train_on_batch(inputs, rng.normal(size=model(inputs).shape))
    norm = model.layers[1]
    norm.moving_mean.assign(rng.normal(size=norm.moving_mean.shape))
    norm.moving_variance.assign(rng.uniform(0.3, 9, norm.moving_variance.shape))
    return model


LAYERS = {
    "dense": (lambda **how: keras.layers.Dense(CHANNELS, **how), (64, 5), "_kernel", "-1"),
    "conv": (lambda **how: keras.layers.Conv2D(CHANNELS, 3, **how), (16, 6, 6, 3), "_kernel", "-1"),
    "transposed": (lambda **how: keras.layers.Conv2DTranspose(CHANNELS, 3, **how), (16, 6, 6, 3), "kernel", "-2"),
    "depthwise": (
        lambda **how: keras.layers.DepthwiseConv2D(3, depth_multiplier=2, **how),
        (16, 6, 6, 2),
        "kernel",
        "[-2, -1]",
    ),
}


@pytest.mark.parametrize(
    ("kind", "scale", "center", "bias"),
    [
        *itertools.product(["dense", "conv"], *[[True, False]] * 3),
        *itertools.product(["transposed", "depthwise"], [True], [True], [True, False]),
    ],
)
def test_a_batch_normalization_folded_into_its_layer_leaves_the_outputs_as_they_were(
    tmp_path, kind, scale, center, bias
):
    make, shape, kernel, axis = LAYERS[kind]
    keras.utils.set_random_seed(6)
    inputs = np.random.default_rng(4).normal(1, 2, size=shape).astype(np.float32)
    old = normalized(make(use_bias=bias), scale=scale, center=center, inputs=inputs)
    new = keras.Sequential([make()])
    new.compile(keras.optimizers.Adam(0.05), "mse")
    new.build(shape)
    new.optimizer.build(new.trainable_variables)
    layer, norm = "model/_functional/_operations/1", "model/_functional/_operations/2"
    given = {"kernel": f"{layer}/{kernel}", "mean": f"{norm}/moving_mean", "variance": f"{norm}/moving_variance"}
    given |= {"bias": f"{layer}/bias"} if bias else {}
    given |= {"gamma": f"{norm}/gamma"} if scale else {}
    given |= {"beta": f"{norm}/beta"} if center else {}
    plan = migrate(
        tmp_path,
        old,
        new,
        f"""
        rules:
          - fold_batch_norm:
              from: {{{", ".join(f"{role}: {path}" for role, path in given.items())}}}
              to: {{kernel: {layer}/{kernel}, bias: {layer}/bias}}
              epsilon: 0.01
              axis: {axis}
        """,
    )
    expected = old(inputs).numpy()
    assert np.abs(expected).max() > 0.3
    np.testing.assert_allclose(new(inputs).numpy(), expected, atol=1e-5)
    anew = [step for step in plan.steps if "starts anew" in step.evidence[0]]
    assert len(anew) == 4
    assert sum("batch normalization" in drop.rule for drop in plan.dropped) == 2 * (1 + bias + scale + center)
