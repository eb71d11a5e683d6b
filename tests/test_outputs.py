"""Outputs: both models compute the same, or the first layer that does not is named."""

import json
import random
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from builders import ckptmigrate, files_in, floats, plan_between, write_tensors
from models import attention, keras3_adam, module, sonnet, subclassed
from tensorflow.python.framework import config
from twins import ADAMS, FRAMEWORKS, Twins, outcomes, problems, renamed, with_step

from ckptmigrate import apply_plan, write_template
from ckptmigrate.errors import CkptMigrateError, InputsError, RunError
from ckptmigrate.verify.rounding import Tolerance, difference_of
from ckptmigrate.verify.running import repeatable

OLD, NEW = {"first": "a", "second": "b"}, {"first": "c", "second": "d"}


def layers(framework, attributes):
    return with_step(lambda: subclassed(FRAMEWORKS[framework], attributes, ADAMS[framework]))


@pytest.fixture(scope="module", params=["keras3", "keras2"])
def framework(request):
    return request.param


@pytest.fixture(scope="module")
def moved(framework, tmp_path_factory):
    directory = tmp_path_factory.mktemp("moved")
    return Twins.make(directory, layers(framework, OLD), layers(framework, NEW), renamed(framework, "ab"))


@pytest.fixture(scope="module")
def swapped(framework, tmp_path_factory):
    directory = tmp_path_factory.mktemp("swapped")
    return Twins.make(directory, layers(framework, OLD), layers(framework, NEW), renamed(framework, "ba"))


def array_file(directory, **arrays):
    path = directory / "inputs.npz"
    np.savez(path, **arrays)
    return str(path)


# What passes, and with which tolerance.


def test_variables_that_only_moved_give_equal_bits(moved):
    check = moved.outputs
    assert (check.outcome, check.evidence["tolerance"]) == ("passed", 0)
    assert "largest difference 0, tolerance 0, equal bits (variables only moved; both ran the same" in check.proof
    assert "random inputs of seed 0" in check.proof


def test_the_same_without_a_plan(moved):
    # A checkpoint of the new model tells nothing of the old one's: the old checkpoint has to be named.
    report = moved.verify(with_plan=False)
    assert outcomes(report)["outputs"] == "passed"
    assert report.checks[-1].evidence["tolerance"] == 0


def test_keras_2_and_keras_3_give_the_same(tmp_path):
    rules = "".join(f"  - rename: {{from: model/{a}/kernel, to: model/{a}/_kernel}}\n" for a in ("a", "b"))
    twins = Twins.make(tmp_path, layers("keras2", OLD), layers("keras3", OLD), rules)
    assert twins.outputs.outcome == "passed"


def test_an_old_model_is_restored_from_a_checkpoint_of_names(tmp_path):
    def build(attribute):
        net = tf.Module()
        setattr(net, attribute, tf.Variable(tf.zeros((3, 2)), name="encoder/kernel"))
        checkpoint = tf.train.Checkpoint(model=net)
        checkpoint.forward = lambda x: x @ getattr(net, attribute)
        return checkpoint

    source = write_tensors(tmp_path / "source", {"encoder/kernel": floats(3, 2)})
    template = write_template(lambda: build("w"), str(tmp_path / "template")).prefix
    plan = plan_between(source, template, "  - rename: {from: encoder/kernel, to: model/w}\n", init_new=True)
    apply_plan(plan, str(tmp_path / "out"))
    twins = Twins(lambda: build("kernel"), lambda: build("w"), source, plan, str(tmp_path / "out"))
    check = twins.verify(inputs=array_file(tmp_path, x=floats(2, 3))).checks[-1]
    assert (check.outcome, check.evidence["tolerance"]) == ("passed", 0)


class Scores(tf.Module):
    """A module that says what it takes; its two matrices may lie the other way round, and in another dtype."""

    def __init__(self, *, transposed=False, dtype=tf.float32):
        super().__init__()
        shape = (40, 30) if transposed else (30, 40)
        self.w = tf.Variable(tf.cast(tf.random.normal(shape), dtype))
        self.v = tf.Variable(tf.cast(tf.random.normal((40, 2)), dtype))
        self.transposed = transposed

    @tf.function(input_signature=[tf.TensorSpec((None, 30), tf.float32, name="features")])
    def __call__(self, features):
        hidden = tf.matmul(features, tf.cast(self.w, tf.float32), transpose_b=self.transposed)
        return {"scores": tf.tanh(hidden) @ tf.cast(self.v, tf.float32)}


def test_a_transposed_kernel_adds_up_in_another_order(tmp_path):
    rules = "  - transpose: {from: model/w, perm: [1, 0]}\n"
    twins = Twins.make(tmp_path, lambda: {"model": Scores()}, lambda: {"model": Scores(transposed=True)}, rules)
    check = twins.outputs
    assert check.outcome == "passed", check.problems
    assert 1e-7 < check.evidence["tolerance"] < 1e-5
    assert "`features` float32[4, 30]" in check.proof
    assert check.evidence["outputs"].keys() == {"scores"}


def test_a_narrower_dtype_has_a_tolerance_of_its_own(tmp_path):
    rules = "  - cast: {from: 'model/{name}', to: 'model/{name}', dtype: bfloat16}\n"
    old, new = (lambda: {"model": Scores()}), (lambda: {"model": Scores(dtype=tf.bfloat16)})
    check = Twins.make(tmp_path, old, new, rules).outputs
    assert check.outcome == "passed", check.problems
    assert 2**-8 < check.evidence["tolerance"] < 0.1
    assert check.evidence["outputs"]["scores"]["largest_absolute"] > 0


def test_parts_of_a_fused_kernel_have_to_be_the_right_ones(tmp_path):
    inputs = array_file(tmp_path, x=floats(5, 3) / 9 - 1)
    for number, order in enumerate(("query, model/key", "key, model/query")):
        rules = f"  - split: {{from: model/qkv, to: [model/{order}, model/value], axis: -1}}\n"
        (tmp_path / str(number)).mkdir()
        twins = Twins.make(
            tmp_path / str(number),
            with_step(lambda: attention(keras3_adam, fused=True)),
            with_step(lambda: attention(keras3_adam, fused=False)),
            rules,
        )
        assert outcomes(twins.verify(inputs=inputs))["outputs"] == ("failed" if number else "passed")


def test_a_folded_batch_normalization_computes_the_same(tmp_path):
    def build(*, folded):
        norm = keras.layers.BatchNormalization(
            moving_mean_initializer="random_normal", beta_initializer="random_normal"
        )
        model = keras.Sequential(
            [keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3), *([] if folded else [norm]), keras.layers.Flatten()]
        )
        return {"model": model}

    at = "model/_functional/_operations"
    rules = f"""
  - fold_batch_norm:
      from: {{kernel: {at}/1/_kernel, bias: {at}/1/bias, gamma: {at}/2/gamma, beta: {at}/2/beta,
             mean: {at}/2/moving_mean, variance: {at}/2/moving_variance}}
      to: {{kernel: {at}/1/_kernel, bias: {at}/1/bias}}
      epsilon: 0.001
"""
    check = Twins.make(tmp_path, lambda: build(folded=False), lambda: build(folded=True), rules).outputs
    assert check.outcome == "passed", check.problems
    assert "and 2 computed variables" in check.proof


def test_nan_is_equal_to_nan():
    array = np.array([np.nan, np.inf, 1], np.float32)
    assert difference_of(array, array.copy(), Tolerance(0, "")).beyond == 0
    found = difference_of(array, np.array([np.nan, np.nan, 1], np.float32), Tolerance(1, ""))
    assert (found.beyond, found.index, found.absolute) == (1, (1,), np.inf)


def test_integers_and_text_have_to_be_equal():
    tolerance = Tolerance(1, "")
    large = np.array([2**60], np.int64)
    assert difference_of(large, large + 1, tolerance).beyond == 1
    assert difference_of(large, large.copy(), tolerance).beyond == 0
    assert difference_of(np.array([b"a"], object), np.array([b"b"], object), tolerance).beyond == 1


# What fails, and what is named.


def test_swapped_kernels_of_one_shape_are_seen_by_the_outputs_alone(swapped):
    report = swapped.verify()
    assert outcomes(report) == dict.fromkeys(("structure", "checksums", "restore", "coverage"), "passed") | {
        "outputs": "failed"
    }
    output, first, kernel = problems(report, "outputs")
    assert output.startswith("output `output` differs by up to ")
    assert first.startswith("the first layer that diverges is `model/c` (`model/a` in the source): its inputs agree")
    assert kernel.endswith(", which is another layer's")
    assert "/b/" in kernel
    diverges = report.to_data()["checks"][-1]["evidence"]["diverges"]
    assert (diverges["layer"], diverges["source"], diverges["inputs"]) == ("model/c", "model/a", None)


def test_whole_layers_that_changed_places_are_told_as_such(framework, tmp_path):
    rules = "  - rename: {from: model/a/**, to: model/d/**}\n  - rename: {from: model/b/**, to: model/c/**}\n"
    twins = Twins.make(tmp_path, layers(framework, OLD), layers(framework, NEW), rules)
    assert "`model/c` gets what `model/a` gets in the source: it stands at another place" in twins.outputs.problems


def flat(framework, names):
    """A model whose outputs are all alike: what comes before the last layer hardly shows in them."""
    k = FRAMEWORKS[framework]

    def build():
        parts = [k.Input((3,)), *(k.layers.Dense(3, activation="tanh", name=name) for name in names)]
        last = k.layers.Dense(2, activation="softmax", kernel_initializer=k.initializers.Constant(1e-12), name="last")
        return {"model": k.Model(parts[0], last(parts[2](parts[1](parts[0]))))}

    return build


def test_outputs_that_do_not_depend_on_inputs_prove_nothing_and_layers_are_compared(framework, tmp_path):
    build = flat(framework, ("one", "two"))
    twins = Twins.make(tmp_path, build, build)
    assert twins.outputs.outcome == "passed"
    assert "they hardly depend on these inputs, so 3 layers on the way were compared as well" in twins.outputs.proof
    other = build()["model"]
    checkpoint = tf.train.Checkpoint(model=other)
    checkpoint.restore(twins.source)
    kernels = [other.get_layer(name).kernel for name in ("one", "two")]
    values = [kernel.numpy() for kernel in kernels]
    for kernel, value in zip(kernels, reversed(values), strict=True):
        kernel.assign(value)
    twins.out = checkpoint.save(str(tmp_path / "swapped"))
    first, second, *_ = problems(twins.verify(with_plan=False), "outputs")
    assert first == "the outputs agree, but they hardly depend on these inputs"
    assert second.startswith("the first layer that diverges is `model/")


def test_outputs_that_do_not_depend_on_inputs_are_no_proof_where_there_are_no_layers(tmp_path):
    def build():
        live = module({"w": "w"}, keras3_adam)
        live.checkpoint.forward = lambda x: 1 + 0 * live.call(x)
        return live.checkpoint

    check = Twins.make(tmp_path, build, build).verify(inputs=array_file(tmp_path, x=floats(4, 3))).checks[-1]
    assert check.outcome == "not run"
    assert check.hint.startswith(
        "No proof, and no failure: outputs that are equal whatever comes in prove nothing. Give "
    )


class Scored(keras.layers.Layer):
    """Attention whose query and key can be told apart by what it gives alone."""

    def __init__(self, query, key, **options):
        super().__init__(**options)
        self.names = (query, key)
        for name in self.names:
            setattr(self, name, keras.layers.Dense(3))
        self.out = keras.layers.Dense(2)

    def call(self, x):
        query, key = (getattr(self, name)(x) for name in self.names)
        return self.out(keras.ops.softmax(query @ keras.ops.transpose(key, (0, 2, 1))) @ x)


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """Twins whose query and key changed places, so that nothing may pass."""

    def build(*names):
        inputs = keras.Input((4, 3), name="x")
        model = keras.Model(inputs, Scored(*names, name="attention")(inputs))
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)
        return {"model": model}

    def prepare(checkpoint):
        checkpoint.model.train_on_batch(floats(2, 4, 3), floats(2, 4, 2))

    at = "model/_operations/1"
    return Twins.make(
        tmp_path_factory.mktemp("crossed"),
        lambda: build("b", "a"),
        lambda: build("query", "key"),
        f"  - rename: {{from: {at}/a/**, to: {at}/query/**}}\n  - rename: {{from: {at}/b/**, to: {at}/key/**}}\n",
        prepare=prepare,
    )


NOTHING = {
    "zeros": (np.zeros((2, 4, 3), np.float32), "the outputs do not depend on `model/_operations/1/key/_kernel`, "),
    "one row of zeros": (np.zeros((1, 4, 3), np.float32), "the outputs do not depend on "),
    "equal rows of integers": (np.ones((2, 4, 3), int), "the outputs do not depend on "),
    "nan": (np.full((2, 4, 3), np.nan, np.float32), "has no finite number in either model"),
    "infinity": (np.full((2, 4, 3), np.inf, np.float32), "has no finite number in either model"),
    "nothing": (np.zeros((0, 4, 3), np.float32), "has no elements"),
}


@pytest.mark.parametrize("given", NOTHING)
def test_inputs_that_tell_nothing_prove_nothing(crossed, given, tmp_path):
    array, told = NOTHING[given]
    path = array_file(tmp_path, x=array)
    for check in crossed.verify("training-step", inputs=path).checks[-2:]:
        assert check.outcome == "not run", check
        assert check.hint.startswith("No proof, and no failure: ")
        assert told in check.hint
        assert path in check.hint


def test_inputs_that_tell_something_of_all_variables_are_taken(crossed, tmp_path):
    checks = crossed.verify("training-step", inputs=array_file(tmp_path, x=floats(2, 4, 3))).checks
    assert [check.outcome for check in checks[-2:]] == ["failed", "failed"]


def test_what_feeds_a_layer_without_variables_is_named_where_it_may_have_changed_places(crossed, tmp_path):
    told = problems(crossed.verify(inputs=array_file(tmp_path, x=floats(2, 4, 3))), "outputs")
    at = "model/_operations/1"
    (line,) = [each for each in told if each.startswith(f"what lies before `{at}/out` and has no variables ")]
    assert f"with what other layers of `{at}` give, or variables of one shape changed places there: " in line
    kernels = [f"`{at}/query/_kernel` from `{at}/a/_kernel`", f"`{at}/key/_kernel` from `{at}/b/_kernel`"]
    assert f"float32[3, 3]: {', '.join(kernels)}" in line


def test_targets_that_are_no_numbers_prove_nothing_of_a_step(crossed, tmp_path):
    path = array_file(tmp_path, x=np.zeros((2, 4, 3)) + floats(1, 4, 3), y=np.full((2, 4, 2), np.nan))
    twins = Twins(crossed.old, crossed.old, crossed.source, None, crossed.source)
    checks = twins.verify("training-step", with_plan=False, inputs=path).checks
    assert checks[-1].outcome == "not run"
    assert "loss `loss` has no finite number in either model" in checks[-1].hint


def test_variables_that_changed_places_within_a_layer_are_named(tmp_path):
    """Query and key get the same inputs, so each does what its old twin did; only their layer tells."""

    class Attention(keras.layers.Layer):
        def __init__(self, query, key):
            super().__init__()
            self.names = (query, key)
            for name in self.names:
                setattr(self, name, keras.layers.Dense(3, use_bias=False))

        def call(self, x):
            query, key = (getattr(self, name)(x) for name in self.names)
            return keras.ops.softmax(query @ keras.ops.transpose(key)) @ x

    def build(*names):
        inputs = keras.Input((3,))
        return {"model": keras.Model(inputs, Attention(*names)(inputs))}

    at = "model/_operations/1"
    rules = f"  - rename: {{from: {at}/a/*, to: {at}/key/*}}\n  - rename: {{from: {at}/b/*, to: {at}/query/*}}\n"
    twins = Twins.make(tmp_path, lambda: build("a", "b"), lambda: build("query", "key"), rules)
    assert f"the first layer that diverges is `{at}`: its inputs agree" in twins.outputs.problems[1]
    assert twins.outputs.problems[2].endswith(
        f"or some of one shape changed places: float32[3, 3]: `{at}/key/_kernel` from `{at}/a/_kernel`, "
        f"`{at}/query/_kernel` from `{at}/b/_kernel`"
    )


def test_without_a_plan_layers_are_compared_by_path(framework, tmp_path):
    """What was trained on from, or written by hand: only values differ."""
    twins = Twins.make(tmp_path, layers(framework, OLD), layers(framework, OLD), "")
    other = layers(framework, OLD)()
    other.restore(twins.source)
    other.model.b.bias.assign_add([1.0, 0, 0])
    twins.out = other.save(str(tmp_path / "other"))
    found = problems(twins.verify(with_plan=False), "outputs")
    assert found[1].startswith("the first layer that diverges is `model/b`: its inputs agree")
    assert found[2] == "`model/b/bias` does not hold the source's values"


def test_code_that_changed_is_told_apart_from_variables(framework, tmp_path):
    k = FRAMEWORKS[framework]

    def build(activation):
        inputs = k.Input((3,), name="x")
        hidden = k.layers.Dense(3, activation=activation, name="hidden")(inputs)
        return {"model": k.Model(inputs, k.layers.Dense(3, name="last")(hidden))}

    twins = Twins.make(tmp_path, lambda: build("tanh"), lambda: build("sigmoid"), "")
    check = twins.outputs
    assert "it computes something else with them" in check.problems[2]
    assert "only in the source Tanh; only in the target Sigmoid" in check.proof


def test_layers_without_variables_are_told_by_what_comes_after_them(framework, tmp_path):
    k = FRAMEWORKS[framework]

    def build(activation):
        parts = [k.Input((3,)), k.layers.Dense(3, name="one"), k.layers.Activation(activation), k.layers.Dense(3)]
        return {"model": k.Sequential(parts)}

    problem = Twins.make(tmp_path, lambda: build("relu"), lambda: build("tanh"), "").outputs.problems
    assert problem[-1].startswith("what lies before `model/")
    assert problem[-1].endswith("` and has no variables computes something else")


def test_outputs_of_another_shape_or_number_are_told(tmp_path):
    def build(units, count):
        inputs = keras.Input((3,))
        hidden = keras.layers.Dense(4, name="hidden")(inputs)
        return {"model": keras.Model(inputs, [hidden[:, :units]] * count)}

    twins = Twins.make(tmp_path, lambda: build(4, 1), lambda: build(2, 1), "")
    assert "expected [4, 4] (source), got [4, 2] (target)" in twins.outputs.problems[0]
    twins.new = lambda: build(4, 2)
    assert twins.verify().checks[-1].problems[0] == "the source model gives 1 output, the target model 2"


def test_new_variables_are_told_where_outputs_differ(tmp_path):
    def build(*, new):
        dense = [keras.layers.Dense(3, name="extra")] if new else []
        return {"model": keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="one"), *dense])}

    rules = "  - init: {to: 'model/_functional/_operations/2/**', with: template}\n"
    check = Twins.make(tmp_path, lambda: build(new=False), lambda: build(new=True), rules).outputs
    assert check.outcome == "failed"
    assert "2 variables of the model start with initial values" in check.hint


def test_a_run_leaves_classes_and_seeds_as_they_were(swapped):
    calls = keras.layers.Layer.__call__, tf_keras.layers.Layer.__call__
    swapped.verify()
    assert (keras.layers.Layer.__call__, tf_keras.layers.Layer.__call__) == calls
    before = settings()
    with repeatable(7, ()) as set_seeds:
        drawn = []
        for _ in range(2):
            set_seeds()
            drawn.append((random.getrandbits(32), float(tf.random.normal(()))))
        assert drawn[0] == drawn[1]
    assert settings() == before


def settings():
    drawn = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002  # what models draw from
    return drawn, tf.config.functions_run_eagerly(), config.is_op_determinism_enabled()


# Inputs.


def embedded(k, *, declared="int32"):
    def build():
        ids, kinds = k.Input((None,), dtype=declared, name="ids"), k.Input((None,), dtype="int32", name="kinds")
        weights = k.Input((None, 1), name="weights")
        rows = k.layers.Add()([k.layers.Embedding(50, 4)(ids), k.layers.Embedding(2, 4)(kinds)])
        return {"model": k.Model([ids, kinds, weights], k.layers.Multiply()([rows, weights]))}

    return build


@pytest.mark.parametrize("declared", ["int32", "float32"])
def test_random_ids_stay_in_the_tables_that_they_come_to(framework, declared, tmp_path):
    build = embedded(FRAMEWORKS[framework], declared=declared)
    check = Twins.make(tmp_path, build, build).outputs
    assert check.outcome == "passed"
    assert "`ids` ids from 0 to 49, `kinds` ids from 0 to 1: " in check.proof
    assert "`weights` float32[4, 8, 1]" in check.proof


def test_a_subclassed_model_takes_ids_where_it_has_a_table(framework, tmp_path):
    k = FRAMEWORKS[framework]

    class Net(k.Model):
        def __init__(self):
            super().__init__()
            self.rows = k.layers.Embedding(9, 3)

        def call(self, ids, training=None):
            assert training is False or training is None
            return self.rows(ids)

    def build():
        model = Net()
        model(np.zeros((2, 5), np.int32))
        return {"model": model}

    check = Twins.make(tmp_path, build, build).outputs
    assert check.outcome == "passed"
    assert "ids from 0 to 8: " in check.proof
    assert "int32[4, 5]" in check.proof


def test_inputs_of_a_file_go_by_name_or_in_their_order(tmp_path):
    build = embedded(keras)
    twins = Twins.make(tmp_path, build, build)
    ids, kinds, weights = np.full((2, 7), 41), np.ones((2, 7), int), np.ones((2, 7, 1))
    for arrays in ({"weights": weights, "kinds": kinds, "ids": ids}, {"arr_0": ids, "arr_1": kinds, "arr_2": weights}):
        report = twins.verify(inputs=array_file(tmp_path, **arrays))
        assert outcomes(report)["outputs"] == "passed"
        assert "inputs.npz: " in report.checks[-1].proof


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": np.ones((4, 2), np.float32)}, r"expected float32\[\?, 3\].*got float32\[4, 2\]"),
        ({"x": np.ones((4, 3), complex)}, r"expected float32\[\?, 3\].*got complex128\[4, 3\]"),
        ({"x": np.array([["a"] * 3])}, r"expected float32\[\?, 3\].*got <U1\[1, 3\]"),
        ({"x": np.ones((4, 3)), "z": np.ones(4)}, r"not the inputs of the .* model @ .*expected `.*got `x`, `z`"),
        ({"y": np.ones(4)}, "no inputs"),
        ({"x": np.array([{}])}, "not an npz file"),
    ],
)
def test_inputs_that_a_model_does_not_take_are_told(arrays, told, tmp_path, shared_functional):
    with pytest.raises(InputsError, match=told):
        shared_functional.verify(inputs=array_file(tmp_path, **arrays))


@pytest.fixture(scope="module")
def shared_functional(tmp_path_factory):
    def build():
        inputs = keras.Input((3,), name="x")
        return {"model": keras.Model(inputs, keras.layers.Dense(2)(inputs))}

    return Twins.make(tmp_path_factory.mktemp("functional"), build, build)


def test_files_that_hold_no_inputs_are_told(shared_functional, tmp_path):
    with pytest.raises(InputsError, match=r"the inputs cannot be read @ .*none.npz: got No such file"):
        shared_functional.verify(inputs=str(tmp_path / "none.npz"))
    text = tmp_path / "text.npz"
    text.write_text("no arrays")
    with pytest.raises(InputsError, match=r"not an npz file @ .*numpy\.savez"):
        shared_functional.verify(inputs=str(text))
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(InputsError, match=r"not an npz file @ .*one\.npy: expected arrays by name, got one array"):
        shared_functional.verify(inputs=str(tmp_path / "one.npy"))


def test_a_model_that_does_not_say_what_it_takes_asks_for_inputs(tmp_path):
    build = with_step(lambda: sonnet(OLD))
    twins = Twins.make(tmp_path, build, build)
    with pytest.raises(InputsError, match=r"what the model takes is not known .*Give inputs with --inputs"):
        twins.verify()
    assert outcomes(twins.verify(inputs=array_file(tmp_path, x=floats(2, 3))))["outputs"] == "passed"
    with pytest.raises(RunError, match=r"the source model raised with these inputs @ .*InvalidArgumentError"):
        twins.verify(inputs=array_file(tmp_path, x=np.ones((2, 3))))  # float64


# Which thing is the model.


def test_of_several_models_none_is_guessed(tmp_path):
    def build(forward=None):
        dense = {name: keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)]) for name in ("encoder", "decoder")}
        checkpoint = tf.train.Checkpoint(**dense)
        if forward:
            checkpoint.forward = lambda x: dense["decoder"](dense["encoder"](x))
        return checkpoint

    twins = Twins.make(tmp_path, build, build)
    with pytest.raises(RunError, match=r"got `decoder`, `encoder`. .*`forward`"):
        twins.verify()
    twins.old = twins.new = lambda: build(forward=True)
    assert outcomes(twins.verify(inputs=array_file(tmp_path, x=floats(2, 3))))["outputs"] == "passed"


def test_a_module_that_cannot_be_called_is_told(tmp_path):
    def build():
        return module({"w": "w"}, keras3_adam).checkpoint

    twins = Twins.make(tmp_path, build, build)
    with pytest.raises(RunError, match=r"the source has no model to call .*got `model`, `optimizer`"):
        twins.verify()


def test_an_old_model_that_does_not_hold_its_checkpoint_is_told(tmp_path):
    twins = Twins.make(tmp_path, layers("keras2", OLD), layers("keras2", NEW), renamed("keras2", "ab"))
    twins.old = twins.new
    with pytest.raises(RunError, match=r"the source model does not hold its checkpoint .*none for `model/c/kernel`"):
        twins.verify()


def test_a_source_that_is_not_the_plans_is_told(moved):
    from ckptmigrate import Comparison, verify_checkpoint

    with pytest.raises(CkptMigrateError, match=r"the source is not the plan's"):
        verify_checkpoint(
            moved.out, moved.new, plan=moved.plan, level="outputs", source=Comparison(moved.old, moved.out)
        )


# Proposals.


def test_variables_that_rest_on_proposals_are_named_until_a_run_told(tmp_path):
    k = keras

    def build(first, second):
        def make():
            net = subclassed(k, {"first": first, "second": second})
            return net.checkpoint

        return make

    twins = Twins.make(tmp_path, build("a", "b"), build("a", "zzz"))
    assert any("taken by --yes-proposed" in step.evidence for step in twins.plan.steps)
    structure, *_ = twins.verify("structure").checks
    assert structure.outcome == "passed"
    assert "`model/zzz/_kernel` float32[3, 3]" in structure.hint
    assert "only outputs and training-step can tell (--source-model)" in structure.hint
    assert set(structure.evidence["proposals"]) == {"float32[3, 3]", "float32[3]"}
    structure, *_ = twins.verify("outputs").checks
    assert structure.hint.endswith("outputs told that nothing is")
    assert structure.evidence["proposals_told_by"] == ["outputs"]


def test_a_plan_of_another_model_is_a_problem_of_the_structure(tmp_path):
    def build(*names):
        return lambda: subclassed(keras, {"first": names[0], "second": names[1]}).checkpoint

    (tmp_path / "other").mkdir()
    other = Twins.make(tmp_path / "other", build("a", "b"), build("a", "zzz"))
    twins = Twins.make(tmp_path, build("e", "f"), build("e", "f"))
    twins.plan = other.plan
    report = twins.verify("training-step")
    assert (
        "`model/zzz/_kernel/.ATTRIBUTES/VARIABLE_VALUE` of the plan is not in the target: the plan is another "
        in str(report.checks[0].problems)
    )
    assert [check.outcome for check in report.checks[-2:]] == ["not run", "not run"]


# The command.

MODEL = """
import numpy as np, tensorflow as tf

class Net(tf.Module):
    def __init__(self):
        super().__init__()
        self.{first} = tf.Variable(np.arange(9, dtype=np.float32).reshape(3, 3) / 9)
        self.{second} = tf.Variable(np.arange(9, dtype=np.float32)[::-1].reshape(3, 3) / 9)

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="x")])
    def __call__(self, x):
        return tf.tanh(x @ self.{first}) @ self.{second}

def build():
    return tf.train.Checkpoint(model=Net())

def raises():
    raise ValueError("no data here")

def nothing():
    return 5
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("files")
    (directory / "old.py").write_text(MODEL.format(first="a", second="b"))
    (directory / "new.py").write_text(MODEL.format(first="c", second="d"))
    (directory / "missing.py").write_text("import not_installed_anywhere\n")
    rules = "  - rename: {from: model/a, to: model/d}\n  - rename: {from: model/b, to: model/c}\n"
    Twins.make(directory, f"{directory}/old.py:build", f"{directory}/new.py:build", rules)
    return directory


def verify(files, *options):
    return ckptmigrate("verify", files / "out", "--target", f"{files}/new.py:build", *options)


def test_the_command_tells_what_only_outputs_can(files):
    plan = ("--plan", files / "plan.json")
    assert verify(files, *plan).status == 0
    before = files_in(files)
    ran = verify(files, *plan, "--source-model", f"{files}/old.py:build", "--json")
    assert ran.status == 1
    data = json.loads(ran.out)
    assert {check["level"]: check["outcome"] for check in data["checks"]}["outputs"] == "failed"
    evidence = data["checks"][-1]["evidence"]
    assert evidence["tolerance"] == 0
    assert evidence["outputs"]["output"]["largest_absolute"] > 0.01
    assert files_in(files) == before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--source-model", "old.py:raises"), r"the factory raised @ .*no data here \(.*old\.py:\d+\)"),
        (("--source-model", "old.py:nothing"), "the factory returned no trackable @ .*got int '5'"),
        (("--source-model", "missing.py:build"), "Install what provides `not_installed_anywhere`"),
        (("--source-model", "old.py:absent"), "no such factory @ "),
        (("--source-model", "gone.py:build"), "no such file @ "),
        (("--source-model", "new.py:build"), "the source model does not hold its checkpoint"),
        (("--source-model", "old"), "not MODULE:FACTORY"),
        (("--level", "outputs"), "--source-model MODULE:FACTORY"),
        (("--source-model", "old.py:build", "--seed", "-1"), "-1 is not in the range 0<=x<=4294967295"),
        (("--inputs", "x.npz"), "--source-model MODULE:FACTORY"),
        (
            ("--source-model", "old.py:build", "--inputs", "wide.npz"),
            r"expected float32\[\?, 3\] .*got float64\[2, 5\]",
        ),
    ],
)
def test_what_cannot_be_compared_is_bad_input(files, options, told, monkeypatch):
    monkeypatch.chdir(files)
    np.savez("wide.npz", x=np.ones((2, 5)))
    ran = ckptmigrate("verify", "out", "--target", "new.py:build", "--plan", "plan.json", *options)
    assert ran.status == 2
    assert "Traceback" not in ran.err
    assert re.search(told, ran.err), ran.err


def test_without_a_plan_the_command_asks_for_the_old_checkpoint(files):
    options = ("--source-model", f"{files}/old.py:build")
    ran = verify(files, *options)
    assert ran.status == 2
    assert "the old checkpoint is not known" in ran.err
    assert verify(files, *options, "--source", Path(files) / "source-1").status == 1
