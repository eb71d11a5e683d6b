"""`restore` and `check`: what TensorFlow's own assertions let pass, and what they do not."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import sonnet as snt
import tensorflow as tf
import tf_keras
from models import Weights, functional, keras3_adam, legacy_adam, module, new_adam, sequential, subclassed, weight

import ckptmigrate
from ckptmigrate import RestoreError, verify_checkpoint
from ckptmigrate.errors import CkptMigrateError

LADDER = ("assert_nontrivial_match", "assert_existing_objects_matched", "assert_consumed")


def plain(attribute):
    """A module with one kernel and no optimizer, whose lists would lead to the kernel by its position."""
    return tf.train.Checkpoint(model=Weights({attribute: weight()}))


class Listed(keras.Model):
    """Three of its four layers are in a plain list, which Keras 3 does not track."""

    def __init__(self):
        super().__init__()
        self.stem = keras.layers.Dense(3, bias_initializer="random_normal")
        self.blocks = [keras.layers.Dense(3, bias_initializer="random_normal") for _ in range(3)]

    def call(self, inputs):
        outputs = self.stem(inputs)
        for block in self.blocks:
            outputs = block(outputs)
        return outputs


class Mended(Listed):
    """What the finding suggests: each layer has an attribute of its own."""

    def __init__(self):
        super().__init__()
        for number, block in enumerate(self.blocks):
            setattr(self, f"block_{number}", block)


def built(model):
    model(np.ones((1, 3), np.float32))
    return tf.train.Checkpoint(model=model)


def levels(report):
    return {check.level: check.outcome for check in report.checks}


def problems(report, level):
    (found,) = (check for check in report.checks if check.level == level)
    return found.problems


def climb(checkpoint, path):
    """What TensorFlow's own assertions say of a restore."""
    status = checkpoint.restore(path)
    for rung in LADDER:
        getattr(status, rung)()


def test_layers_in_a_plain_list_pass_every_assertion_of_tensorflow_and_fail_coverage(tmp_path):
    path = built(Listed()).save(str(tmp_path / "ckpt"))
    climb(built(Listed()), path)
    with pytest.raises(RestoreError) as raised:
        ckptmigrate.restore(built(Listed()), path)
    report = raised.value.report
    assert levels(report) == {"structure": "passed", "restore": "passed", "coverage": "failed"}
    (coverage,) = (check for check in report.checks if check.level == "coverage")
    assert len(coverage.evidence["untracked"]) == 6
    said = str(raised.value)
    assert (
        "`listed/dense_1/kernel` float32[3, 3]" in said.replace("listed_1", "listed") or "kernel` float32[3, 3]" in said
    )


def test_the_same_model_passes_once_its_layers_have_attributes(tmp_path):
    model = Mended()
    path = built(model).save(str(tmp_path / "ckpt"))
    other = Mended()
    report = ckptmigrate.restore(built(other), path)
    assert levels(report) == {"structure": "passed", "restore": "passed", "coverage": "passed"}
    for left, right in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(left.numpy(), right.numpy())


@pytest.mark.parametrize(
    "make",
    [
        lambda: module({"w": "a", "v": "b"}, keras3_adam),
        lambda: module({"w": "a", "v": "b"}, new_adam),
        lambda: module({"w": "a", "v": "b"}, legacy_adam),
        lambda: sequential(keras, keras3_adam),
        lambda: sequential(tf_keras, legacy_adam),
        lambda: sequential(tf_keras, new_adam),
        lambda: functional(keras, keras3_adam),
        lambda: subclassed(keras, {"w": "a", "v": "b"}, keras3_adam),
        lambda: subclassed(tf_keras, {"w": "a", "v": "b"}, new_adam),
        lambda: sequential(keras, checkpoint=""),
    ],
)
def test_what_was_trained_is_restored_and_proven(tmp_path, make):
    old = make()
    if old.optimizer is not None:
        old.train(2)
    path = old.checkpoint.save(str(tmp_path / "ckpt"))
    new = make()
    report = ckptmigrate.restore(new.checkpoint, path)
    assert set(levels(report).values()) == {"passed"}
    for name, value in old.values().items():
        np.testing.assert_array_equal(new.values()[name], value)
    assert report.passed


def test_what_write_wrote_is_read(tmp_path):
    path = module({"w": "a"}, keras3_adam).checkpoint.write(str(tmp_path / "ckpt"))
    report = ckptmigrate.restore(module({"w": "a"}, keras3_adam).checkpoint, path)
    assert report.checks[1].evidence["called"] == "read"


def test_a_variable_that_the_checkpoint_has_not_is_named_with_both_levels(tmp_path):
    path = module({"w": "a"}, keras3_adam).checkpoint.save(str(tmp_path / "ckpt"))
    report = ckptmigrate.check(module({"w": "a", "v": "b"}, keras3_adam).checkpoint, path)
    assert not report.passed
    assert any("`model/b`" in problem for problem in problems(report, "structure"))
    assert any("`model/b`" in problem and "initial value" in problem for problem in problems(report, "coverage"))
    assert any(problem.startswith("assert_existing_objects_matched: ") for problem in problems(report, "restore"))


def test_another_shape_is_told_before_and_after(tmp_path):
    path = module({"w": "a"}, keras3_adam).checkpoint.save(str(tmp_path / "ckpt"))
    report = ckptmigrate.check(module({"w": "a"}, keras3_adam, shapes={"w": (3, 5)}).checkpoint, path)
    assert any("expected float32[3, 5] (target), got float32[3, 3]" in each for each in problems(report, "structure"))
    assert any("raised" in problem for problem in problems(report, "restore"))


def test_slots_that_change_their_variable_are_told_though_tensorflow_is_content(tmp_path):
    """An optimizer's lists are by position: with another order each slot is restored into its neighbour's."""

    def make(order):
        model = tf.Module()
        model.a, model.b = tf.Variable(tf.ones((3,))), tf.Variable(tf.ones((3,)))
        optimizer = keras.optimizers.Adam()
        optimizer.build([getattr(model, name) for name in order])
        return tf.train.Checkpoint(model=model, optimizer=optimizer)

    path = make("ab").save(str(tmp_path / "ckpt"))
    climb(make("ba"), path)
    report = ckptmigrate.check(make("ba"), path)
    assert levels(report)["restore"] == "passed"
    assert any(
        "the momentum of `model/b`: gets the momentum of `model/a`" in each.replace("_momentums/0", "")
        for each in problems(report, "structure")
    )


def test_more_than_the_model_asks_for_is_a_problem_unless_it_is_expected(tmp_path):
    live = sequential(keras, keras3_adam)
    path = live.checkpoint.save(str(tmp_path / "ckpt"))
    weights_only = sequential(keras).checkpoint
    assert not ckptmigrate.check(weights_only, path).passed
    report = ckptmigrate.restore(weights_only, path, expect_partial=True)
    assert report.passed
    assert "assert_consumed" not in report.checks[1].proof


def test_what_is_expected_to_be_partial_still_has_to_cover_the_model(tmp_path):
    path = plain("a").save(str(tmp_path / "ckpt"))
    wanted = plain("b")
    wanted.restore(path).expect_partial()  # TensorFlow says nothing
    report = ckptmigrate.check(wanted, path, expect_partial=True)
    assert levels(report)["coverage"] == "failed"


def test_tables_are_compared_by_their_content(tmp_path):
    def make():
        table = tf.lookup.experimental.DenseHashTable(tf.string, tf.int64, -1, "", "#")
        return tf.train.Checkpoint(table=table, v=tf.Variable(0.0)), table

    checkpoint, table = make()
    table.insert(tf.constant(["a", "b", "c"]), tf.constant([1, 2, 3], tf.int64))
    path = checkpoint.save(str(tmp_path / "ckpt"))
    report = ckptmigrate.restore(make()[0], path)
    assert report.checks[-1].evidence["compared"] == 3


def test_strings_are_compared(tmp_path):
    path = tf.train.Checkpoint(v=tf.Variable(["a", "b"])).save(str(tmp_path / "ckpt"))
    assert ckptmigrate.restore(tf.train.Checkpoint(v=tf.Variable(["", ""])), path).passed


@pytest.mark.parametrize("inside", [True, False])
def test_it_works_with_a_distribution_strategy(tmp_path, inside):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])

    def make():
        with strategy.scope():
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
            optimizer = keras.optimizers.Adam()
            optimizer.build(model.trainable_variables)
            return tf.train.Checkpoint(model=model, optimizer=optimizer)

    path = make().save(str(tmp_path / "ckpt"))
    checkpoint = make()
    if inside:
        with strategy.scope():
            report = ckptmigrate.restore(checkpoint, path)
    else:
        report = ckptmigrate.restore(checkpoint, path)
    assert set(levels(report).values()) == {"passed"}


THREE_REPLICAS = """
import sys
import numpy as np
import tensorflow as tf
import ckptmigrate

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1", "CPU:2"])

def make():
    with strategy.scope():
        read = tf.VariableSynchronization.ON_READ
        mean = tf.Variable(tf.zeros((64,)), synchronization=read, aggregation=tf.VariableAggregation.MEAN)
        total = tf.Variable(1.0, synchronization=read, aggregation=tf.VariableAggregation.SUM)
        return tf.train.Checkpoint(mean=mean, total=total, w=tf.Variable(tf.zeros((4,))))

checkpoint = make()
checkpoint.mean.assign(np.random.default_rng(7).normal(size=64).astype("float32"))
path = checkpoint.save(sys.argv[1])
print(ckptmigrate.restore(make(), path))
"""


def test_copies_of_a_value_are_compared_and_not_their_mean(tmp_path):
    """The mean of three equal floats may be another float."""
    ran = subprocess.run(
        [sys.executable, "-c", THREE_REPLICAS, str(tmp_path / "ckpt")], capture_output=True, text=True, check=False
    )
    assert "passed  coverage: 3 variables" in ran.stdout, ran.stderr


def test_it_works_in_a_training_loop(tmp_path):
    live = sequential(tf_keras, legacy_adam)
    manager = tf.train.CheckpointManager(live.checkpoint, str(tmp_path), max_to_keep=2)
    for _ in range(3):
        if manager.latest_checkpoint:
            assert ckptmigrate.restore(live.checkpoint, manager.latest_checkpoint).passed
        live.train(1)
        manager.save()
    assert int(live.optimizer.iterations) == 3


@pytest.mark.parametrize(
    ("path", "said"), [(None, "restores nothing and says nothing"), ("nowhere/ckpt", "nowhere/ckpt")]
)
def test_a_path_without_a_checkpoint_is_an_error_and_changes_nothing(path, said):
    live = module({"w": "a"}, keras3_adam)
    before = live.values()
    with pytest.raises(CkptMigrateError) as raised:
        ckptmigrate.restore(live.checkpoint, path)
    assert said in str(raised.value)
    report = ckptmigrate.check(live.checkpoint, path)
    assert said in report.checks[0].problems[0]
    for name, value in before.items():
        np.testing.assert_array_equal(live.values()[name], value)


def test_a_model_is_no_checkpoint(tmp_path):
    with pytest.raises(CkptMigrateError, match=r"expected a tf\.train\.Checkpoint, got Sequential"):
        ckptmigrate.restore(keras.Sequential(), plain("a").save(str(tmp_path / "ckpt")))


def test_a_graph_has_no_values_to_compare(tmp_path):
    path = plain("a").save(str(tmp_path / "ckpt"))
    with tf.Graph().as_default():
        report = ckptmigrate.check(tf.train.Checkpoint(), path)
    assert "expected eager execution" in report.checks[0].problems[0]


@pytest.mark.parametrize("path", [7, ["ckpt"], tf.constant("ckpt")])
def test_what_is_no_path_is_told(path):
    with pytest.raises(CkptMigrateError, match="not a path"):
        ckptmigrate.restore(plain("a"), path)
    assert not ckptmigrate.check(plain("a"), path).passed


def test_a_path_may_be_bytes_or_a_path(tmp_path):
    path = plain("a").save(str(tmp_path / "ckpt"))
    assert ckptmigrate.restore(plain("a"), path.encode()).passed
    assert ckptmigrate.restore(plain("a"), tmp_path / "ckpt-1").passed


@pytest.mark.parametrize("level", ["outputs", "everything", ""])
def test_a_level_that_it_does_not_run_is_refused(level):
    for call in (ckptmigrate.restore, ckptmigrate.check):
        with pytest.raises(ValueError, match="expected one of structure, restore, coverage"):
            call(plain("a"), "ckpt", level=level)


def test_a_cheaper_level_restores_all_the_same(tmp_path):
    old, new = module({"w": "a"}, keras3_adam), module({"w": "a"}, keras3_adam)
    path = old.checkpoint.save(str(tmp_path / "ckpt"))
    report = ckptmigrate.restore(new.checkpoint, path, level="structure")
    assert [check.level for check in report.checks] == ["structure"]
    np.testing.assert_array_equal(new.values()["w"], old.values()["w"])


def test_the_report_is_text_and_html(tmp_path):
    path = plain("<b>").save(str(tmp_path / "ckpt"))
    report = ckptmigrate.check(plain("a"), path)
    assert "failed  structure:" in str(report)
    assert "<b>failed</b>" in report._repr_html_()
    assert "model/&lt;b&gt;" in report._repr_html_()


def test_sonnet_is_covered_too(tmp_path):
    def make():
        model = snt.Linear(3)
        model(tf.ones((1, 3)))
        return tf.train.Checkpoint(model=model)

    path = make().save(str(tmp_path / "ckpt"))
    assert ckptmigrate.restore(make(), path).passed


def test_verify_names_what_a_model_would_never_save(tmp_path):
    path = built(Listed()).save(str(tmp_path / "ckpt"))
    report = verify_checkpoint(path, lambda: built(Listed()))
    assert levels(report) == {
        "structure": "passed",
        "checksums": "passed",
        "restore": "passed",
        "coverage": "failed",
    }


def test_values_that_were_given_back_keep_their_shape_and_those_without_bytes_their_value():
    from ckptmigrate.graph.live import LiveGraph, release_values

    checkpoint = tf.train.Checkpoint(a=tf.Variable(tf.ones((4, 3))), b=tf.Variable(tf.ones((6,))), c=tf.Variable(["s"]))
    release_values(LiveGraph.read(checkpoint).objects)
    assert (checkpoint.a.numpy().shape, checkpoint.b.numpy().shape) == ((4, 3), (6,))
    checkpoint.a.assign(tf.fill((4, 3), 2.0))  # in memory of its own again
    checkpoint.b.assign(tf.fill((6,), 3.0))
    assert checkpoint.a.numpy().sum() == 24.0
    assert checkpoint.c.numpy() == [b"s"]


def test_what_verify_does_not_restore_is_told_to_keep_its_initial_value(tmp_path):
    path = plain("a").save(str(tmp_path / "ckpt"))

    def build():
        return tf.train.Checkpoint(model=Weights({"a": weight(), "new": weight()}))

    report = verify_checkpoint(path, build)
    assert any("`model/new`" in problem for problem in problems(report, "coverage"))
    assert len(problems(report, "coverage")) == 1
