"""`restore`, `check`, `verify` and the doctor are of one mind: on what is wrong, and on what only looks so."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import ckptmigrate
from ckptmigrate import RestoreError, verify_checkpoint
from ckptmigrate.testing import assert_restores
from ckptmigrate.verify import diagnose


def of(*layers, framework=keras, train=None, size=4):
    """A checkpoint of a Sequential, compiled and built; `train` says in which order the optimizer has the layers."""
    keras.utils.clear_session()
    tf_keras.backend.clear_session()
    model = framework.Sequential([framework.Input((size,)), *layers])
    optimizer = framework.optimizers.Adam()
    order = [model.get_layer(name) for name in train] if train else model.layers
    optimizer.build([variable for layer in order for variable in layer.trainable_variables])
    return tf.train.Checkpoint(model=model, optimizer=optimizer)


def dense(name=None, framework=keras, **options):
    return framework.layers.Dense(4, name=name, bias_initializer="random_normal", **options)


def verdicts(path, build):
    """Whether each way to ask says that all is well."""
    found = {
        "check": ckptmigrate.check(build(), path).passed,
        "verify": verify_checkpoint(path, build, level="coverage").passed,
        "structure": verify_checkpoint(path, build, level="structure").passed,
        "doctor": diagnose(path, build).passed,
    }
    for name, ask in (
        ("restore", lambda: ckptmigrate.restore(build(), path)),
        ("assert_restores", lambda: assert_restores(build, path)),
    ):
        try:
            found[name] = ask().passed
        except (RestoreError, AssertionError):
            found[name] = False
    return found


def assert_all(path, build, *, passed):
    found = verdicts(path, build)
    assert set(found.values()) == {passed}, found


@pytest.mark.parametrize("framework", [keras, tf_keras], ids=["keras 3", "keras 2"])
def test_layers_that_an_optimizers_list_leads_astray_fail_wherever_one_asks(tmp_path, framework):
    def build(order):
        return of(*(dense(name, framework) for name in "ab"), framework=framework, train=order)

    saved = build("ab")
    path = saved.save(str(tmp_path / "ckpt"))
    new = build("ba")
    new.restore(path).assert_consumed()  # TensorFlow is content
    is_astray = np.array_equal(new.model.get_layer("a").kernel, saved.model.get_layer("b").kernel)
    assert is_astray == (framework is keras)  # in Keras 2 only the slots are another variable's
    assert_all(path, lambda: build("ba"), passed=False)
    assert ckptmigrate.check(build("ab"), path).passed
    report = ckptmigrate.check(build("ba"), path)
    assert [finding.kind for finding in report.findings] == ["trained-weights-changed"]
    assert report.checks[0].outcome == "failed"


def variables_in(order):
    """A list of variables that a person named."""
    made = {name: tf.Variable(tf.random.normal((3,)), name=name) for name in order}
    return tf.train.Checkpoint(layers=list(made.values()))


@pytest.mark.parametrize(
    "build",
    [variables_in, lambda order: of(*map(dense, order))],
    ids=["list", "Sequential"],
)
def test_named_items_of_a_list_that_changed_places_fail_wherever_one_asks(tmp_path, build):
    path = build("abc").save(str(tmp_path / "ckpt"))
    assert_all(path, lambda: build("bac"), passed=False)
    assert ckptmigrate.check(build("abc"), path).passed
    with pytest.raises(RestoreError, match="list-changed"):
        ckptmigrate.restore(build("bac"), path)
    assert ckptmigrate.check(build("bac"), path, level="structure").findings


def dropped_in(framework, *, names, at):
    layers = [dense(name, framework) for name in names]
    for place in at:
        layers.insert(place, framework.layers.Dropout(0.1))
    return of(*layers, framework=framework)


@pytest.mark.parametrize("framework", [keras, tf_keras], ids=["keras 3", "keras 2"])
@pytest.mark.parametrize(
    ("names", "before", "after"), [("ab", (1,), (2, 1)), ("abc", (), (1,)), ([None] * 3, (1,), ())]
)
def test_a_layer_without_variables_comes_and_goes_without_an_alarm(tmp_path, framework, names, before, after):
    saved = dropped_in(framework, names=names, at=before)
    path = saved.save(str(tmp_path / "ckpt"))
    new = dropped_in(framework, names=names, at=after)
    new.restore(path)
    assert all(np.array_equal(*pair) for pair in zip(saved.model.weights, new.model.weights, strict=True))
    assert ckptmigrate.check(dropped_in(framework, names=names, at=after), path).passed
    assert diagnose(path, lambda: dropped_in(framework, names=names, at=after)).passed


def unbuilt():
    model = keras.Sequential([dense(), dense()])
    model.compile("adam", "mse")
    return tf.train.Checkpoint(model=model)


def test_a_sequential_that_is_not_built_is_told_as_that_and_nothing_is_dropped(tmp_path):
    saved = unbuilt()
    saved.model.build((None, 4))
    saved.model.optimizer.build(saved.model.trainable_variables)
    path = saved.save(str(tmp_path / "ckpt"))
    findings = diagnose(path, unbuilt).findings
    assert findings[0].kind == "model-not-built"
    assert not any("--drop-unused" in line for finding in findings for line in finding.mend)


@pytest.mark.parametrize("build", [unbuilt, tf.train.Checkpoint], ids=["unbuilt", "nothing"])
def test_to_restore_no_variable_proves_nothing(tmp_path, build):
    path = of(dense("a")).save(str(tmp_path / "ckpt"))
    with pytest.raises(RestoreError, match="the model has no variables yet: build it before"):
        ckptmigrate.restore(build(), path, expect_partial=True)
