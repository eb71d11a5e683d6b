"""State that is no plain variable is carried as it is when its object maps, and dropped by name when it does not."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from builders import ckptmigrate, plan_between
from tensorflow.python.saved_model import registration
from tensorflow.python.trackable import base

from ckptmigrate import apply_plan, verify_checkpoint, write_template
from ckptmigrate.bundle import Bundle
from ckptmigrate.spec import OBJECT_GRAPH_KEY


class Notes(tf.train.experimental.PythonState):
    """Python state: any bytes."""

    def __init__(self, text="none yet"):
        self.text = text

    def serialize(self):
        return self.text

    def deserialize(self, string_value):
        self.text = string_value.decode()


@registration.register_serializable(name="Pair")
class Pair(tf.__internal__.tracking.AutoTrackable):
    """Two vectors that a saver of their own writes."""

    def __init__(self, values):
        self._values = [np.float32(value) for value in values]

    def tensors(self, name):
        return {f"{name}-half-{number}": tf.constant(value) for number, value in enumerate(self._values)}


def save_pairs(trackables, file_prefix):
    tensors = {key: value for name, pair in trackables.items() for key, value in pair.tensors(name).items()}
    tf.raw_ops.SaveV2(
        prefix=file_prefix,
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    return file_prefix


def restore_pairs(trackables, merged_prefix):
    for name, pair in trackables.items():
        names = list(pair.tensors(name))
        found = tf.raw_ops.RestoreV2(
            prefix=merged_prefix, tensor_names=names, shape_and_slices=["", ""], dtypes=[tf.float32] * 2
        )
        pair._values = [value.numpy() for value in found]


registration.register_tf_checkpoint_saver(
    name="pairs",
    predicate=lambda trackable: isinstance(trackable, Pair),
    save_fn=save_pairs,
    restore_fn=restore_pairs,
)


def iterator():
    return iter(tf.data.Dataset.range(100).shuffle(10, seed=3).map(lambda number: number * 2).batch(3))


def mutable_table():
    return tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)


def dense_table():
    return tf.lookup.experimental.DenseHashTable(tf.int64, tf.float32, [0.0, 0.0], 0, -2, initial_num_buckets=8)


def advanced(dataset_iterator, steps):
    for _ in range(steps):
        next(dataset_iterator)
    return dataset_iterator


def filled(table, keys, values):
    table.insert(tf.constant(keys), tf.constant(values))
    return table


def drawn(generator, count):
    generator.normal([count])
    return generator


def counted(layer, tokens):
    """A lookup layer in the middle of `adapt`: it counts tokens in a table, which it empties in the end."""
    layer.update_state(tf.constant(tokens))
    return layer


@dataclass(frozen=True)
class Kind:
    """An object with state of its own kind.

    Attributes:
        used: Makes one with something in it.
        fresh: Makes one as the new model does.
        observe: What can be seen of its state.
        tensors: How many it saves.
    """

    used: Any
    fresh: Any
    observe: Any
    tensors: int = 1


KINDS = {
    "string variable": Kind(
        lambda: tf.Variable(["héllo", "", "x" * 300]),
        lambda: tf.Variable(["a", "b", "c"]),
        lambda variable: variable.numpy().tolist(),
    ),
    "iterator": Kind(lambda: advanced(iterator(), 4), iterator, lambda each: next(each).numpy().tolist()),
    "generator": Kind(
        lambda: drawn(tf.random.Generator.from_seed(5), 7),
        lambda: tf.random.Generator.from_seed(1),
        lambda generator: generator.normal([3]).numpy().tolist(),
    ),
    "mutable table": Kind(
        lambda: filled(mutable_table(), [str(number) for number in range(50)], np.arange(50)),
        mutable_table,
        lambda table: table.lookup(tf.constant(["7", "49", "none"])).numpy().tolist(),
        tensors=2,
    ),
    "dense table": Kind(
        lambda: filled(dense_table(), np.arange(1, 40), np.float32([[n, n / 2] for n in range(1, 40)])),
        dense_table,
        lambda table: table.lookup(tf.constant([3, 39, 77], tf.int64)).numpy().tolist(),
        tensors=2,
    ),
    "keras 3 StringLookup": Kind(
        lambda: counted(keras.layers.StringLookup(), ["a", "b", "c"]),
        keras.layers.StringLookup,
        lambda layer: sorted(layer.token_counts.export()[0].numpy().tolist()),
        tensors=2,
    ),
    "tf_keras IntegerLookup": Kind(
        lambda: counted(tf_keras.layers.IntegerLookup(), [3, 1, 4]),
        tf_keras.layers.IntegerLookup,
        lambda layer: sorted(layer.token_counts.export()[0].numpy().tolist()),
        tensors=2,
    ),
    "python state": Kind(lambda: Notes("epoch 3"), Notes, lambda notes: notes.text),
    "registered saver": Kind(
        lambda: Pair([[1, 2], [3, 4]]),
        lambda: Pair([[0, 0], [0, 0]]),
        lambda pair: [value.tolist() for value in pair._values],
        tensors=2,
    ),
}


def kernel():
    return tf.Variable([1.0, 2.0], name="w")


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def save(tmp_path, **objects):
    return tf.train.Checkpoint(w=kernel(), **objects).write(str(tmp_path / "source"))


@pytest.mark.parametrize(
    ("path", "rules"), [("state", ""), ("moved", "  - rename: {from: 'state/**', to: 'moved/**'}\n")]
)
def test_state_goes_where_its_object_goes(tmp_path, kind, path, rules):
    used = kind.used()
    source = save(tmp_path, state=used)
    expected = kind.observe(used)
    built = []

    def build():
        built.append(kind.fresh())
        return tf.train.Checkpoint(w=kernel(), **{path: built[-1]})

    target = write_template(build, str(tmp_path / "target")).prefix
    plan = plan_between(source, target, rules)
    assert plan.is_complete
    assert sum(bool(step.sources) for step in plan.steps) == 1 + kind.tensors
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    report = verify_checkpoint(out, build, plan=plan)
    assert report.passed, report
    assert kind.observe(built[-1]) == expected
    assert ckptmigrate("inspect", out).status == 0


def test_state_whose_object_is_gone_is_dropped_by_name(tmp_path, kind):
    source = save(tmp_path, state=kind.used())
    target = write_template(lambda: tf.train.Checkpoint(w=kernel()), str(tmp_path / "target")).prefix
    assert not plan_between(source, target).is_complete
    by_rule = plan_between(source, target, "  - drop: {from: 'state/**'}\n")
    by_option = plan_between(source, target, drop_unused=True)
    for plan in (by_rule, by_option):
        assert plan.is_complete
        assert len(plan.dropped) == kind.tensors
        out = str(tmp_path / f"out-{plan is by_rule}")
        apply_plan(plan, out)
        assert verify_checkpoint(out, lambda: tf.train.Checkpoint(w=kernel()), plan=plan).passed


def test_the_state_of_another_kind_of_object_is_not_taken(tmp_path):
    source = save(tmp_path, state=KINDS["mutable table"].used())
    target = tf.train.Checkpoint(w=kernel(), state=Pair([[0], [0]])).write(str(tmp_path / "target"))
    plan = plan_between(source, target)
    assert (len(plan.unmatched_source), len(plan.unmatched_target)) == (2, 2)


def test_a_registered_savers_tensors_go_with_the_object_they_are_called_after(tmp_path):
    source = save(tmp_path, m=Pair([[1], [2]]), m2=Pair([[3], [4]]))
    first, second = Pair([[0], [0]]), Pair([[0], [0]])

    def build():
        return tf.train.Checkpoint(w=kernel(), m=first, m2=second)

    plan = plan_between(
        source,
        write_template(build, str(tmp_path / "target")).prefix,
        "  - rename: {from: m, to: m2}\n  - rename: {from: m2, to: m}\n",
    )
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    assert verify_checkpoint(out, build, plan=plan).passed
    assert [pair._values[0].tolist() for pair in (first, second)] == [[3], [1]]


# What an object was configured with.


class Configured(tf.Module):
    """A layer that writes its configuration as Keras did from TensorFlow 1.13 to 2.1."""

    def __init__(self, units):
        super().__init__()
        self.units = units
        self.kernel = tf.Variable(tf.ones([2, 3]))

    def _gather_saveables_for_checkpoint(self):
        config = f'{{"units": {self.units}}}'
        return {"OBJECT_CONFIG_JSON": lambda name: base.NoRestoreSaveable(tf.constant(config), name)}


@pytest.mark.parametrize("rules", ["", "  - rename: {from: 'old/**', to: 'new/**'}\n"])
def test_a_configuration_is_the_targets_own(tmp_path, rules):
    source = tf.train.Checkpoint(old=Configured(3)).write(str(tmp_path / "source"))
    name = "new" if rules else "old"

    def build():
        return tf.train.Checkpoint(**{name: Configured(4)})

    plan = plan_between(source, write_template(build, str(tmp_path / "target")).prefix, rules)
    assert plan.is_complete
    (step,) = (step for step in plan.steps if step.target.endswith("OBJECT_CONFIG_JSON"))
    assert step.status == "initial"
    assert [drop.source for drop in plan.dropped] == ["old/.ATTRIBUTES/OBJECT_CONFIG_JSON"]
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    assert verify_checkpoint(out, build, plan=plan).passed
    assert tf.train.load_checkpoint(out).get_tensor(step.target) == b'{"units": 4}'


def test_a_configuration_that_nothing_asks_for_is_dropped_by_itself(tmp_path):
    source = tf.train.Checkpoint(old=Configured(3)).write(str(tmp_path / "source"))
    module = tf.Module()
    module.kernel = tf.Variable(tf.ones([2, 3]))
    plan = plan_between(source, tf.train.Checkpoint(old=module).write(str(tmp_path / "target")))
    assert plan.is_complete
    assert len(plan.dropped) == 1


# What no checkpoint holds, and so cannot be carried.


def test_some_state_is_in_no_checkpoint(tmp_path):
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a"], tf.constant([1])), 0)
    lookup = keras.layers.StringLookup()
    lookup.adapt(["a", "b"])
    dropout = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5, seed=1)])
    prefix = save(tmp_path, table=table, lookup=lookup, dropout=dropout)
    with Bundle.open(prefix) as bundle:
        held = {key: bundle.entries[key].spec.shape for key in bundle.entries if key != OBJECT_GRAPH_KEY}
    assert held == {
        "w/.ATTRIBUTES/VARIABLE_VALUE": (2,),
        "lookup/token_counts/.ATTRIBUTES/table-keys": (0,),
        "lookup/token_counts/.ATTRIBUTES/table-values": (0,),
    }
