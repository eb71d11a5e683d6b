"""Real models that changed as people change them: what is decided is right, and what could be shifted is asked."""

import os
import subprocess
import sys
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from bench import Pair, has_pair

from ckptmigrate import Bundle, ObjectGraph, plan_bundles

DECIDED = ("exact", "certain")


@pytest.fixture(autouse=True)
def _no_names_from_before():
    keras.backend.clear_session()
    tf_keras.backend.clear_session()


def planned(old, new, folder):
    """The plan between two objects that TensorFlow saves."""
    with Bundle.open(old.write(str(folder / "old"))) as source, Bundle.open(new.write(str(folder / "new"))) as target:
        return plan_bundles(source, target)


# With a decoy: every number in an automatic name is another.


@pytest.mark.parametrize(("include_top", "count"), [(False, 376), (True, 378)])
def test_inception_of_keras_2_with_a_layer_built_before_is_found_in_keras_3(tmp_path, include_top, count):
    tf_keras.layers.BatchNormalization()(tf_keras.Input((3,)))
    size = {} if include_top else {"input_shape": (75, 75, 3)}
    old = tf_keras.applications.InceptionV3(weights=None, include_top=include_top, **size)
    new = keras.applications.InceptionV3(weights=None, include_top=include_top, **size)
    # Each variable holds a number of its own, which the models' own order of weights takes to the other side.
    old.set_weights([np.full(variable.shape, n, np.float32) for n, variable in enumerate(old.weights, 1)])
    plan = planned(tf.train.Checkpoint(model=old), tf.train.Checkpoint(model=new), tmp_path)
    new.set_weights(old.get_weights())
    truth = tf.train.Checkpoint(model=new).write(str(tmp_path / "truth"))
    found = Counter()
    with Bundle.open(tmp_path / "old") as source, Bundle.open(truth) as target:
        for step in plan.steps:
            right = np.array_equal(source.read(step.sources[0]), target.read(step.target))
            found[step.status, right] += 1
    assert found == {("certain", True): count}
    assert plan.is_complete


# One more Dense at index 5 of 12.


def functional(count):
    return row([None] * count)


def row(names):
    values = inputs = keras.Input((4,))
    for name in names:
        values = keras.layers.Dense(4, name=name)(values)
    return keras.Model(inputs, values)


def sequential(count):
    return keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(4) for _ in range(count))])


class Numbered(keras.Model):
    def __init__(self, count):
        super().__init__()
        for n in range(count):
            setattr(self, f"dense{n}", keras.layers.Dense(4))

    def build(self, _):
        for layer in self.layers:
            layer.build((None, 4))


class Listed(keras.Model):
    """Keras 3 leaves the layers of a list out of TensorFlow's checkpoints; only the optimizer leads to them."""

    def __init__(self, count):
        super().__init__()
        self.blocks = [keras.layers.Dense(4) for _ in range(count)]

    def build(self, _):
        for layer in self.blocks:
            layer.build((None, 4))


def built(kind):
    def build(count):
        model = kind(count)
        model.build((None, 4))
        return model

    return build


class Linear(tf.Module):
    def __init__(self, name=None):
        super().__init__(name)
        self.w = tf.Variable(tf.random.normal((4, 4)))
        self.b = tf.Variable(tf.zeros(4))


def module(count):
    model = tf.Module()
    model.layers = [Linear() for _ in range(count)]
    return model


def saved(build, count, *, optimized):
    keras.backend.clear_session()
    model = build(count)
    if not optimized:
        return tf.train.Checkpoint(model=model)
    optimizer = keras.optimizers.Adam()
    optimizer.build(list(model.trainable_variables))
    return tf.train.Checkpoint(model=model, optimizer=optimizer)


FORMS = {
    "functional": functional,
    "sequential": sequential,
    "numbered": built(Numbered),
    "listed": built(Listed),
    "module": module,
}


@pytest.mark.parametrize("optimized", [False, True], ids=["bare", "optimized"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", [(12, 13), (13, 12)], ids=["one more", "one less"])
@pytest.mark.parametrize("seed", [None, 3], ids=["", "equal seeds"])
def test_no_equal_layer_in_a_row_that_changed_length_is_decided(tmp_path, form, sizes, optimized, seed):
    if form == "listed" and not optimized:
        pytest.skip("nothing leads to the layers")
    ends = []
    for count in sizes:
        if seed is not None:
            keras.utils.set_random_seed(seed)
        ends.append(saved(FORMS[form], count, optimized=optimized))
    plan = planned(*ends, tmp_path)
    with Bundle.open(tmp_path / "new") as target:
        shifted = {key for key, entry in target.entries.items() if entry.spec.shape[:1] == (4,)}
    assert len(shifted) == sizes[1] * (6 if optimized else 2)
    decided = {step.target for step in plan.steps if step.status in (*DECIDED, "initial")}
    assert not decided & shifted
    asked = {key for question in plan.ambiguous for key in question.targets}
    proposed = {step.target for step in plan.steps if step.status == "proposed"}
    assert shifted <= asked | proposed


NAMES = "stem query key value out gate up down norm pool head logits".split()  # noqa: SIM905  # a list is no clearer


@pytest.mark.parametrize("optimized", [False, True], ids=["bare", "optimized"])
def test_layers_that_people_named_are_told_by_their_names(tmp_path, optimized):
    rows = NAMES, [*NAMES[:5], "adapter", *NAMES[5:]]
    plan = planned(*(saved(row, names, optimized=optimized) for names in rows), tmp_path)
    old, new = (names_in(tmp_path / end) for end in ("old", "new"))
    moves = {new[step.target]: old[step.sources[0]] for step in plan.steps if step.target in new and step.sources}
    assert moves == {name: name for name in new.values() if "adapter" not in name}
    assert not plan.ambiguous
    assert {new.get(item.key, "adapter") for item in plan.unmatched_target} >= {"adapter/kernel", "adapter/bias"}
    assert plan.counts()["proposed"] == 0


def names_in(prefix):
    """The full name of each layer's variable, by its key."""
    with Bundle.open(prefix) as bundle:
        graph = ObjectGraph.from_bundle(bundle)
    return {
        key: graph.nodes[number].full_name
        for key, number in graph.node_of.items()
        if number not in graph.slot_nodes and graph.specs[key].shape[:1] == (4,)
    }


@pytest.mark.parametrize("form", ["functional", "sequential", "numbered", "module"])
def test_between_trained_twins_the_layer_that_came_is_found(tmp_path, form):
    rng = np.random.default_rng(0)
    old, new = (FORMS[form](count) for count in (12, 13))
    olds, news = list(of(old)), list(of(new))
    del news[5]
    for pair in zip(olds, news, strict=True):
        for one, other in zip(*pair, strict=True):
            one.assign(rng.standard_normal(one.shape, np.float32))
            other.assign(one)
    plan = planned(tf.train.Checkpoint(model=old), tf.train.Checkpoint(model=new), tmp_path)
    assert plan.counts()["certain"] == 24
    assert len(plan.unmatched_target) == 2
    assert not plan.ambiguous
    with Bundle.open(tmp_path / "old") as source, Bundle.open(tmp_path / "new") as target:
        for step in plan.steps:
            assert np.array_equal(source.read(step.sources[0]), target.read(step.target))


def of(model):
    """The variables of each layer."""
    for layer in model.layers:
        own = list(layer.variables)
        if own:
            yield own


# The same input gives the same plan.


@pytest.mark.parametrize("name", ["enc_v1v2", "tf1_encoder", "app_MobileNetV2"])
def test_a_plan_is_the_same_byte_for_byte_in_every_process(tmp_path, name):
    if not has_pair(name):
        pytest.skip("the graph pairs are not there")
    pair = Pair.load(name)
    ends = [pair.write(tmp_path / side, side) for side in ("old", "new")]
    plans = set()
    for seed in ("0", "1", "4294967295"):
        out = tmp_path / f"plan{seed}.json"
        command = [sys.executable, "-m", "ckptmigrate", "plan", ends[0], "--target", ends[1], "--out", str(out)]
        ran = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=False)
        assert ran.returncode in (0, 1), ran.stderr
        plans.add(out.read_bytes())
    assert len(plans) == 1
