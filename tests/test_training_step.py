"""A training step: training goes on from the new checkpoint as it does from the old one, or what differs is named."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from models import attention, keras3_adam, legacy_adam, module, sonnet_adam, subclassed
from twins import ADAMS, FRAMEWORKS, Twins, outcomes, problems, renamed, trained, with_step

from ckptmigrate import apply_plan
from ckptmigrate.errors import RunError

OLD, NEW = {"first": "a", "second": "b"}, {"first": "c", "second": "d"}


def layers(framework, attributes):
    return with_step(lambda: subclassed(FRAMEWORKS[framework], attributes, ADAMS[framework]))


def step(twins, **comparison):
    return twins.verify("training-step", **comparison).checks[-1]


@pytest.fixture(params=["keras3", "keras2"])
def framework(request):
    return request.param


@pytest.fixture
def batch(tmp_path):
    path = tmp_path / "batch.npz"
    np.savez(path, x=np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3))
    return str(path)


# A train step of one's own.


def test_what_only_moved_trains_on_with_equal_bits(framework, tmp_path):
    rules = renamed(framework, "ab")
    twins = Twins.make(tmp_path, layers(framework, OLD), layers(framework, NEW), rules, prepare=trained())
    check = step(twins)
    assert (check.outcome, check.evidence["tolerance"]) == ("passed", 0), check.problems
    assert [check.evidence[what] for what in ("variables", "slots", "counters")] == [4, 8, 3]
    assert check.evidence["losses"]["source"] == check.evidence["losses"]["target"]
    # Four variables, their slots, and the count of steps; neither the rate nor the count of saves.
    assert check.evidence["changed"] == 4 + 8 + 1


def test_swapped_kernels_of_one_shape_train_to_other_values(framework, tmp_path):
    rules = renamed(framework, "ba")
    twins = Twins.make(tmp_path, layers(framework, OLD), layers(framework, NEW), rules, prepare=trained())
    report = twins.verify("training-step")
    passed = dict.fromkeys(("structure", "checksums", "restore", "coverage"), "passed")
    assert outcomes(report) == {**passed, "outputs": "failed", "training-step": "failed"}
    told = problems(report, "training-step")
    assert told[0].startswith("the loss differs by ")
    assert any(problem.startswith("`model/c/") and "/<momentum>` differs after the step" in problem for problem in told)


@pytest.mark.parametrize("adam", [legacy_adam, sonnet_adam, keras3_adam])
def test_every_optimizer_is_stepped(adam, tmp_path, batch):
    old, new = (
        with_step(lambda names=names: module(names, adam)) for names in ({"u": "a", "v": "b"}, {"u": "c", "v": "d"})
    )
    rules = "  - rename: {from: model/a, to: model/c}\n  - rename: {from: model/b, to: model/d}\n"
    check = step(Twins.make(tmp_path, old, new, rules, prepare=trained()), inputs=batch)
    assert (check.outcome, check.evidence["slots"]) == ("passed", 4), check.problems


def test_another_optimizer_of_the_same_algorithm_goes_on_alike(tmp_path, batch):
    old, new = (with_step(lambda adam=adam: module({"u": "u", "v": "v"}, adam)) for adam in (legacy_adam, keras3_adam))
    check = step(Twins.make(tmp_path, old, new, "", prepare=trained()), inputs=batch)
    assert check.outcome == "passed", check.problems
    assert 0 < check.evidence["tolerance"] < 1e-4


def test_slots_are_compared_through_the_operations_of_their_variables(tmp_path, batch):
    old, new = (with_step(lambda fused=fused: attention(keras3_adam, fused=fused)) for fused in (True, False))
    rules = "  - split: {from: model/qkv, to: [model/query, model/key, model/value], axis: -1}\n"
    check = step(Twins.make(tmp_path, old, new, rules, prepare=trained()), inputs=batch)
    assert (check.outcome, check.evidence["slots"]) == ("passed", 6), check.problems


def test_slots_of_another_variable_are_seen_by_the_step_alone(tmp_path):
    twins = Twins.make(tmp_path, layers("keras3", OLD), layers("keras3", OLD), "", prepare=trained())
    keys = [f"optimizer/_variables/{number}/.ATTRIBUTES/VARIABLE_VALUE" for number in (2, 6)]
    sources = dict(zip(keys, [(key,) for key in reversed(keys)], strict=True))
    steps = tuple(
        dataclasses.replace(each, sources=sources.get(each.target, each.sources)) for each in twins.plan.steps
    )
    twins.plan = dataclasses.replace(twins.plan, steps=steps)
    twins.out = str(tmp_path / "crossed")
    apply_plan(twins.plan, twins.out)
    report = twins.verify("training-step")
    assert [level for level, outcome in outcomes(report).items() if outcome == "failed"] == ["training-step"]
    told = problems(report, "training-step")
    assert not told[0].startswith("the loss")
    assert any(problem.startswith("`model/a/_kernel/<momentum>` differs") for problem in told)


def test_a_step_that_trains_nothing_proves_nothing(tmp_path, batch):
    def build():
        checkpoint = with_step(lambda: module({"u": "u"}, keras3_adam))()
        checkpoint.train_step = lambda _: tf.constant(1.0)
        return checkpoint

    told = step(Twins.make(tmp_path, build, build), inputs=batch).problems
    assert "no variable of the target that is trained changed in the step" in told
    assert "`optimizer/_iterations` of the target: expected 1 after the step, got 0" in told


def test_trained_variables_that_did_not_move_are_named_and_frozen_ones_are_not(tmp_path, batch):
    def build():
        live = module({"u": "u", "v": "v"}, keras3_adam, frozen=("v",))
        live.checkpoint.model.unused = tf.Variable([1.0])
        return with_step(lambda: live)()

    check = step(Twins.make(tmp_path, build, build), inputs=batch)
    assert check.outcome == "passed", check.problems
    assert "1 of the target that are trained did not move: `model/unused`" in check.proof
    assert "`model/v`" not in check.proof


def test_weights_change_in_a_model_that_restored_nothing_too(tmp_path):
    """What is often taken for a proof: it passes without any restore. Equality with the uninterrupted run does not."""
    build = layers("keras3", OLD)
    twins = Twins.make(tmp_path, build, build, "", prepare=trained())
    fresh = build()
    before = [variable.numpy() for variable in fresh.model.weights]
    fresh.train_step(tf.ones((4, 3)))
    assert all((variable.numpy() != value).any() for variable, value in zip(fresh.model.weights, before, strict=True))
    twins.out = build().save(str(tmp_path / "fresh"))
    assert step(twins).outcome == "failed"


# A compiled Keras model.


def compiled(framework, names, *, loss="sparse_categorical_crossentropy", dropout=0.0, optimizer=None):
    k = FRAMEWORKS[framework]

    class Net(k.Model):
        def __init__(self):
            super().__init__()
            setattr(self, names[0], k.layers.Embedding(20, 6))
            self.norm, self.drop = k.layers.BatchNormalization(), k.layers.Dropout(dropout)
            setattr(self, names[1], k.layers.Dense(5, activation="softmax"))

        def call(self, ids, training=None):
            rows = self.drop(self.norm(getattr(self, names[0])(ids), training=training), training=training)
            return getattr(self, names[1])(rows)

    def build():
        model = Net()
        model(np.zeros((2, 7), np.int32))
        model.compile(optimizer() if optimizer else k.optimizers.Adam(0.01), loss)
        model.optimizer.build(model.trainable_variables)
        return tf.train.Checkpoint(model=model, optimizer=model.optimizer)

    return build


def fitted(checkpoint):
    checkpoint.model.train_on_batch(np.arange(14).reshape(2, 7), np.arange(14).reshape(2, 7) % 5)


MOVED = "  - rename: {from: model/rows/**, to: model/table/**}\n  - rename: {from: model/out/**, to: model/last/**}\n"


def test_a_compiled_model_takes_one_batch_with_targets_that_its_loss_can_take(framework, tmp_path):
    old, new = (compiled(framework, names, dropout=0.5) for names in (("rows", "out"), ("table", "last")))
    check = step(Twins.make(tmp_path, old, new, MOVED, prepare=fitted))
    assert (check.outcome, check.evidence["tolerance"]) == ("passed", 0), check.problems
    assert "numbers were drawn, with equal seeds (" in check.proof
    assert check.evidence["losses"]["source"]["loss"] > 0


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "mse"])
def test_targets_are_of_the_losss_kind(loss, tmp_path):
    build = compiled("keras3", ("rows", "out"), loss=loss)
    assert step(Twins.make(tmp_path, build, build)).outcome == "passed"


def test_targets_of_a_file_are_taken(tmp_path):
    build = compiled("keras3", ("rows", "out"))
    twins = Twins.make(tmp_path, build, build)
    ids = np.arange(14).reshape(2, 7)
    losses = []
    for targets in (ids % 5, ids % 3):
        np.savez(tmp_path / "b.npz", ids=ids, y=targets)
        losses.append(step(twins, inputs=str(tmp_path / "b.npz")).evidence["losses"]["source"]["loss"])
    assert losses[0] != losses[1]


def test_training_goes_on_in_keras_3_as_in_keras_2_but_for_ids_that_repeat(tmp_path):
    """Keras 2 adds up the gradients of a row before it squares them, Keras 3 squares each: a step tells."""
    rules = "  - rename: {from: model/rows/embeddings, to: model/rows/_embeddings}\n"
    rules += "  - rename: {from: model/out/kernel, to: model/out/_kernel}\n"
    old, new = compiled("keras2", ("rows", "out")), compiled("keras3", ("rows", "out"))
    twins = Twins.make(tmp_path, old, new, rules, prepare=fitted)
    for repeats in (False, True):
        ids = np.arange(14).reshape(2, 7) // (1 + repeats)
        np.savez(tmp_path / "b.npz", ids=ids, y=ids % 5)
        check = step(twins, inputs=str(tmp_path / "b.npz"))
        told = [problem.split("`")[1] for problem in check.problems]
        assert told == (["model/rows/_embeddings", "model/rows/_embeddings/<velocity>"] if repeats else [])
        assert check.hint.startswith("Only tables differ, and their slots: ") is repeats
        assert ("give ids that do not repeat in the batch" in check.hint) is repeats


def convolved(framework, *, momentum=0.9):
    k = FRAMEWORKS[framework]

    def build():
        layers = [k.layers.Conv2D(2, 3, use_bias=False), k.layers.BatchNormalization(momentum=momentum)]
        model = k.Sequential([k.Input((5, 5, 1)), *layers, k.layers.Flatten(), k.layers.Dense(2)])
        model.compile(k.optimizers.SGD(0.1, momentum=0.9), "mse")
        model.optimizer.build(model.trainable_variables)
        return {"model": model}

    return build


CONVOLVED = """
  - rename: {from: model/layer-0/kernel, to: model/_functional/_operations/1/_kernel}
  - rename: {from: model/layer-1/**, to: model/_functional/_operations/2/**}
  - rename: {from: model/layer-3/kernel, to: model/_functional/_operations/4/_kernel}
  - rename: {from: model/layer-3/bias, to: model/_functional/_operations/4/bias}
"""


def test_a_variance_that_keras_2_corrects_is_told_and_no_failure(tmp_path):
    def prepare(checkpoint):
        checkpoint.model.train_on_batch(np.linspace(-1, 1, 50).reshape(2, 5, 5, 1), np.ones((2, 2)))

    twins = Twins.make(tmp_path, convolved("keras2"), convolved("keras3"), CONVOLVED, prepare=prepare)
    check = step(twins)
    assert check.outcome == "passed", check.problems
    assert list(check.evidence["trained_otherwise"]) == ["model/_functional/_operations/2/moving_variance"]
    assert "multiplies the variance of a batch of n by n / (n - 1)" in check.proof
    # Only a difference of that size: another momentum is another one.
    twins.new = convolved("keras3", momentum=0.8)
    assert "`model/_functional/_operations/2/moving_variance` differs after the step" in str(step(twins).problems)


def test_a_model_without_a_training_step_is_bad_input(tmp_path):
    def build():
        return {"model": keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])}

    twins = Twins.make(tmp_path, build, build)
    with pytest.raises(RunError, match=r"the source model has no training step .*Compile the model in the factory"):
        twins.verify("training-step")


def test_a_folded_batch_normalization_trains_in_another_way(tmp_path):
    def build(*, folded):
        parts = [keras.layers.Dense(4)] if folded else [keras.layers.Dense(4), keras.layers.BatchNormalization()]
        model = keras.Sequential([keras.Input((3,)), *parts])
        model.compile("sgd", "mse")
        return {"model": model}

    at = "model/_functional/_operations"
    rules = f"""
  - fold_batch_norm:
      from: {{kernel: {at}/1/_kernel, bias: {at}/1/bias, gamma: {at}/2/gamma, beta: {at}/2/beta,
             mean: {at}/2/moving_mean, variance: {at}/2/moving_variance}}
      to: {{kernel: {at}/1/_kernel, bias: {at}/1/bias}}
      epsilon: 0.001
"""
    twins = Twins.make(tmp_path, lambda: build(folded=False), lambda: build(folded=True), rules)
    report = twins.verify("training-step")
    assert outcomes(report)["outputs"] == "passed"
    assert outcomes(report)["training-step"] == "failed"
    assert "the new model trains in another way" in report.checks[-1].hint
