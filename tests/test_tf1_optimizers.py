"""Optimizer state of TensorFlow 1: trained in a session, gone on with in Keras, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_optimizers import BATCHES, KERAS3, LEGACY, NEW, RATE, WIDTH, Model, new_form, plan_between

from ckptmigrate import Bundle, ObjectGraph, apply_plan
from ckptmigrate.graph.template import write_checkpoint

v1 = tf.compat.v1


class Session:
    """The same three layers in a graph, as scripts wrote them for TensorFlow 1."""

    def __init__(self, optimizer: Any, *, average: bool = False) -> None:
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.batch = v1.placeholder(tf.float32, (None, WIDTH))
            found = self.batch
            rng = np.random.default_rng(4)
            for name in ("a", "b", "c"):
                with v1.variable_scope(name):
                    kernel = v1.get_variable("kernel", initializer=rng.normal(size=(WIDTH, WIDTH)).astype("f4"))
                    bias = v1.get_variable("bias", initializer=rng.normal(size=WIDTH).astype("f4"))
                found = tf.tanh(found @ kernel + bias)
            self.loss = tf.reduce_mean((found - 0.3) ** 2)
            steps = v1.train.get_or_create_global_step()
            self.step = optimizer().minimize(self.loss, global_step=steps)
            if average:
                with tf.control_dependencies([self.step]):
                    self.step = tf.train.ExponentialMovingAverage(0.9).apply(v1.trainable_variables())
            self.saver = v1.train.Saver()
            self.session = v1.Session()
            self.session.run(v1.global_variables_initializer())

    def train(self, first: int = 0) -> list[float]:
        return [self.session.run([self.loss, self.step], {self.batch: batch(step)})[0] for step in steps(first)]

    def save(self, prefix: Path) -> str:
        with self.graph.as_default():
            return str(self.saver.save(self.session, str(prefix), write_meta_graph=False))

    def values(self) -> dict[str, np.ndarray[Any, Any]]:
        with self.graph.as_default():
            variables = {v.op.name: v for v in v1.global_variables()}
        return dict(zip(variables, self.session.run(list(variables.values())), strict=True))


def steps(first: int) -> range:
    return range(first, first + BATCHES)


def batch(step: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(step).normal(size=(4, WIDTH)).astype("f4")


RULES = """
rules:
  - rename: {from: a/kernel, to: model/renamed/KERNEL}
  - rename: {from: a/bias, to: model/renamed/bias}
  - rename: {from: b/kernel, to: model/second/KERNEL}
  - rename: {from: b/bias, to: model/second/bias}
  - rename: {from: c/kernel, to: model/third/KERNEL}
  - rename: {from: c/bias, to: model/third/bias}
  - init: {to: model/before/**, with: template}
"""


def to_keras(folder: Path, old: Session, new: Model, **allowed: bool) -> Any:
    new.build()
    template = write_checkpoint(new.checkpoint, str(folder / "template"), where="new").prefix
    kernel = "_kernel" if isinstance(new.net, keras.Model) else "kernel"
    made = plan_between(old.save(folder / "old"), template, RULES.replace("KERNEL", kernel), **allowed)
    assert made.is_complete, [*made.unmatched_source, *made.unmatched_target, *made.ambiguous]
    apply_plan(made, str(folder / "migrated"))
    new.checkpoint.restore(str(folder / "migrated")).assert_existing_objects_matched().assert_consumed()
    return made


@pytest.mark.parametrize("module", [NEW, KERAS3], ids=["2.11", "3"])
@pytest.mark.parametrize(
    ("old", "name", "arguments"),
    [
        (lambda: v1.train.AdamOptimizer(RATE, epsilon=1e-7), "Adam", {}),
        (lambda: v1.train.AdagradOptimizer(RATE), "Adagrad", {"epsilon": 0.0}),
        (lambda: v1.train.FtrlOptimizer(RATE), "Ftrl", {}),
        (lambda: v1.train.AdadeltaOptimizer(RATE, rho=0.95, epsilon=1e-7), "Adadelta", {}),
        (
            lambda: v1.train.RMSPropOptimizer(RATE, decay=0.9, momentum=0.9, epsilon=1e-7),
            "RMSprop",
            {"momentum": 0.9},
        ),
        (
            lambda: v1.train.RMSPropOptimizer(RATE, decay=0.9, momentum=0.9, epsilon=1e-7, centered=True),
            "RMSprop",
            {"momentum": 0.9, "centered": True},
        ),
    ],
    ids=["Adam", "Adagrad", "Ftrl", "Adadelta", "RMSprop", "RMSprop-centered"],
)
def test_training_goes_on_where_a_session_left_it(module, old, name, arguments, tmp_path):
    before, after = Session(old), new_form(getattr(module, name)(RATE, **arguments))
    before.train()
    to_keras(tmp_path, before, after)
    np.testing.assert_allclose(after.train(BATCHES), before.train(BATCHES), rtol=0, atol=1e-6)
    assert int(after.optimizer.iterations) == before.values()["global_step"] == 2 * BATCHES
    for variable, value in after.values().items():
        np.testing.assert_allclose(value, before.values()[variable.replace(" ", "/")], rtol=0, atol=1e-6)


def test_the_averages_of_a_session_go_along(tmp_path):
    before = Session(lambda: v1.train.AdamOptimizer(RATE, epsilon=1e-7), average=True)
    after = new_form(KERAS3.Adam(RATE, use_ema=True, ema_momentum=0.9))
    before.train()
    to_keras(tmp_path, before, after)
    after.train(BATCHES)
    before.train(BATCHES)
    after.optimizer.finalize_variable_values(after.net.trainable_variables)
    for variable, value in after.values().items():
        averaged = before.values()[f"{variable.replace(' ', '/')}/ExponentialMovingAverage"]
        np.testing.assert_allclose(value, averaged, rtol=0, atol=1e-6)


def test_a_sum_of_gradients_is_no_momentum_of_keras(tmp_path):
    """TensorFlow 1 multiplies the sum by the learning rate in each step; Keras sums what it has multiplied."""
    before = Session(lambda: v1.train.MomentumOptimizer(RATE, 0.9))
    before.train()
    made = to_keras(tmp_path, before, new_form(NEW.SGD(RATE, momentum=0.9)), init_new=True, drop_unused=True)
    assert not any("Momentum" in source for step in made.steps for source in step.sources)
    assert sum("Momentum" in drop.source for drop in made.dropped) == 6


@pytest.mark.parametrize("module", [LEGACY, NEW, KERAS3], ids=["legacy", "2.11", "3"])
def test_a_session_goes_on_where_keras_left_off(module, tmp_path):
    old = Model(module.Adam(RATE), {"a": "first", "b": "second", "c": "third"})
    new = Session(lambda: v1.train.AdamOptimizer(RATE, epsilon=1e-7))
    old.train()
    kernel = "_kernel" if module is KERAS3 else "kernel"
    moved = "".join(
        f"  - rename: {{from: model/{layer}/{source}, to: {name}/{target}}}\n"
        for layer, name in (("first", "a"), ("second", "b"), ("third", "c"))
        for source, target in ((kernel, "kernel"), ("bias", "bias"))
    )
    powers = "".join(
        f"  - init: {{to: {name}, with: {beta ** (BATCHES + 1)}}}\n"
        for name, beta in (("beta1_power", 0.9), ("beta2_power", 0.999))
    )
    source, target = old.checkpoint.write(str(tmp_path / "old")), new.save(tmp_path / "template")
    without = plan_between(source, target, f"rules:\n{moved}")
    assert {item.key for item in without.unmatched_target} == {"beta1_power", "beta2_power"}
    assert all("TensorFlow 1 keeps" in item.reason for item in without.unmatched_target)
    made = plan_between(source, target, f"rules:\n{moved}{powers}")
    assert made.is_complete, made.unmatched_source
    apply_plan(made, str(tmp_path / "migrated"))
    with new.graph.as_default():
        new.saver.restore(new.session, str(tmp_path / "migrated"))
    np.testing.assert_allclose(new.train(BATCHES), old.train(BATCHES), rtol=0, atol=1e-6)
    for variable, value in old.values().items():
        np.testing.assert_allclose(new.values()[variable.replace(" ", "/")], value, rtol=0, atol=1e-6)


def test_the_slots_of_a_session_are_read_as_those_of_their_variables(tmp_path):
    prefix = Session(lambda: v1.train.AdamOptimizer(RATE), average=True).save(tmp_path / "old")
    with Bundle.open(prefix) as bundle:
        graph = ObjectGraph.from_bundle(bundle)
    (optimizer,) = graph.optimizers
    assert (optimizer.generation, optimizer.algorithm) == ("tf1", "adam")
    assert {(slot.kind, graph.say(slot.variable)) for slot in optimizer.slots} == {
        (kind, f"{layer}/{part}")
        for kind in ("momentum", "velocity", "average")
        for layer in "abc"
        for part in ("kernel", "bias")
    }
