"""Operations on real models: what they compute afterwards is what they computed before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

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

KERAS3 = pytest.param(keras, id="keras-3")
KERAS2 = pytest.param(tf_keras, id="tf_keras")
EVERY_KERAS = pytest.mark.parametrize("framework", [KERAS3, KERAS2])


def migrate(tmp_path: Path, old: Any, new: Any, rules: str) -> Plan:
    """From one model to another with rules: plan, apply, verify, and restore in TensorFlow."""
    source = tf.train.Checkpoint(model=old, optimizer=old.optimizer).write(str(tmp_path / "old"))
    checkpoint = tf.train.Checkpoint(model=new, optimizer=new.optimizer)
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
