"""The doctor: every failed restore of `examples/failed_restores.py` is found, and what it says to do mends it."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import failed_restores
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from builders import write_tree
from corpus import corpus_prefixes
from failed_restores import SCENARIOS, dense, of, sequential, subclassed, tensorflow_says, train
from models import (
    attention,
    functional,
    keras3_adam,
    legacy_adam,
    module,
    module_list,
    new_adam,
    sonnet,
    wrapped,
)
from models import sequential as sequential_of
from models import subclassed as subclassed_of
from terminals import at_terminal

import ckptmigrate
from ckptmigrate import Bundle, ObjectGraph, RestoreError
from ckptmigrate.cli import cli
from ckptmigrate.verify import diagnose

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}

ABOUT = {
    "without-number": "my_checkpoint-1",
    "directory": "ckpt-1",
    "index-file": "ckpt-1",
    "data-file": "ckpt-1",
    "saved-model": "`w` is `model/w`",
    "weights-file": "",
    "keras-archive": "",
    "missing-shard": "ckpt-1.data-00001-of-00003",
    "truncated-index": "ckpt-1.index",
    "restore-of-write": "`save_counter` is not in the checkpoint",
    "read-of-save": "`save_counter` is in the checkpoint",
    "root-to-attribute": "`b` is `model/b`",
    "attribute-to-root": "`model/b` is `b`",
    "optimizer-left-out": "`optimizer/_iterations` int64[]",
    "optimizer-not-built": "`model/_functional/_operations/{1,2}/_kernel/<momentum>`",
    "legacy-optimizer": "`optimizer/iter` is likely `optimizer/_iterations`",
    "mixed-precision": "`optimizer/_iterations` is likely `optimizer/inner_optimizer/_iterations`",
    "model-not-built": "`model/hidden/_kernel` float32[4, 4]",
    "renamed-attribute": "`model/w` is likely `model/kernel`",
    "item-inserted": "`model/layers/{0..2}/w` gets the value at the same index",
    "item-removed": "`model/_functional/_operations/{1,2}/_kernel` gets the value at the same index",
    "subclassed-to-functional": "`model/hidden` is likely `model/_operations/1`",
    "keras-2-to-3": "`model/layer_with_weights-{0,1}/kernel` is likely `model/_operations/{1,2}/_kernel`",
    "layers-in-a-list": "kernel` float32[4, 4] of ",
    "frozen-weights": "`model/_functional/_operations/2/_kernel` gets the value of "
    "`model/_functional/_operations/1/_kernel`",
    "tf1-names": "`net/hidden/kernel` is likely `model/_operations/1/_kernel`",
    "expect-partial": "`model/head` float32[4, 2]",
    "another-model": "`model/stages/{0..2}` float32[3, 3, 8, 8]",
}
"""What a finding names."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Each scenario's path and what the doctor says of it, made once."""
    folder = tmp_path_factory.mktemp("scenarios")

    @cache
    def make(name):
        place = folder / name
        place.mkdir()
        path = BY_NAME[name].save(str(place))
        (place / "target.py").write_text(
            f"import sys\n\nsys.path.insert(0, {str(Path(failed_restores.__file__).parent)!r})\n\n"
            "from failed_restores import SCENARIOS\n\n"
            f"build = next(each.build for each in SCENARIOS if each.name == {name!r})\n"
        )
        return path, diagnose(path, f"{place}/target.py:build", call=BY_NAME[name].call)

    return make


def only(report):
    (finding,) = report.findings
    return finding


def run(*arguments):
    """The exit status of a command."""
    return cli.main(list(arguments), standalone_mode=False)


@pytest.mark.parametrize("name", BY_NAME)
def test_each_is_found_as_one_cause_that_names_its_tensors(made, name):
    _, report = made(name)
    assert only(report).kind == BY_NAME[name].kind
    assert ABOUT[name] in "\n".join(only(report).rows)
    assert only(report).mend
    assert not report.passed


@pytest.mark.parametrize("name", BY_NAME)
def test_tensorflow_is_quoted(made, name):
    """What `failed_restores.tensorflow_says`, which shares nothing with the doctor, hears of it."""
    path, report = made(name)
    heard = tensorflow_says(path, BY_NAME[name].build, BY_NAME[name].call)
    told = re.sub(r"(adam|dense)_\d+", r"\1", only(report).tensorflow.replace(f"{Path(path).parent}/", ""))
    for words in (heard.raised, *heard.rungs.values()):
        assert re.sub(r"(adam|dense)_\d+", r"\1", words) in told
    assert ("raises" in told) == bool(heard.raised)
    assert ("logs a warning" in told) == bool(heard.logged)
    assert ("every assertion passes" in told) == (not heard.raised and not any(heard.rungs.values()))


def mend_by_code(name, made):
    """Run the first line that the doctor says, in the program that failed; what it restored into."""
    path, report = made(name)
    names = {
        "checkpoint": BY_NAME[name].build(),
        "tf": tf,
        "keras": keras,
        "path": path,
        "ckptmigrate": ckptmigrate,
    }
    root = names["checkpoint"]
    names["model"] = getattr(root, "model", None) or root.root
    names["optimizer"] = getattr(root, "optimizer", None)
    exec(only(report).mend[0], names)  # noqa: S102
    return names


@pytest.mark.parametrize(
    "name", ["without-number", "directory", "index-file", "data-file", "restore-of-write", "read-of-save"]
)
def test_the_path_and_the_call_that_were_meant_restore_everything(made, name):
    _, report = made(name)
    checkpoint = mend_by_code(name, made)["checkpoint"]
    prefix = ckptmigrate.find_prefix(re.search(r'"(.*)"', only(report).mend[0])[1])
    with Bundle.open(prefix) as bundle:
        np.testing.assert_array_equal(checkpoint.model.w, bundle.read("model/w/.ATTRIBUTES/VARIABLE_VALUE"))


@pytest.mark.parametrize("name", ["saved-model", "root-to-attribute", "attribute-to-root"])
def test_the_root_that_was_meant_restores_everything(made, name):
    path, _ = made(name)
    model = mend_by_code(name, made)["model"]
    with Bundle.open(ckptmigrate.find_prefix(path)) as bundle:
        (key,) = (key for key in bundle.entries if "w/.ATTRIBUTES" in key)
        np.testing.assert_array_equal(model.w, bundle.read(key))


def test_a_file_of_keras_is_loaded_by_keras(made):
    assert len(mend_by_code("keras-archive", made)["model"].weights) == 4
    assert len(mend_by_code("weights-file", made)["model"].weights) == 4


@pytest.mark.parametrize("name", ["optimizer-not-built", "model-not-built"])
def test_what_is_built_before_the_restore_is_restored(made, name):
    path, report = made(name)
    code = only(report).mend[0].replace("inputs", "tf.zeros([1, 4])")
    checkpoint = BY_NAME[name].build()
    exec(code, {"model": checkpoint.model, "optimizer": getattr(checkpoint, "optimizer", None), "tf": tf})  # noqa: S102
    assert ckptmigrate.restore(checkpoint, path).passed


@pytest.mark.parametrize(
    "name",
    [
        "saved-model",
        "root-to-attribute",
        "attribute-to-root",
        "optimizer-left-out",
        "legacy-optimizer",
        "mixed-precision",
        "renamed-attribute",
        "subclassed-to-functional",
        "keras-2-to-3",
        "frozen-weights",
        "tf1-names",
        "expect-partial",
    ],
)
def test_the_commands_make_a_checkpoint_that_is_restored(made, monkeypatch, name):
    path, report = made(name)
    monkeypatch.chdir(Path(path) if Path(path).is_dir() else Path(path).parent)
    for line in only(report).mend:
        if line.startswith("printf"):
            subprocess.run(line, shell=True, check=True)  # noqa: S602  # as a person does
        if line.startswith("ckptmigrate plan"):
            plan, apply = line.split(" && ")
            # A person is asked about what is proposed, and says yes.
            assert run(*shlex.split(plan.replace("--interactive", "--yes-proposed"))[1:]) == 0
            assert run(*shlex.split(apply)[1:]) is None
            prefix = shlex.split(apply)[-1]
    assert ckptmigrate.restore(BY_NAME[name].build(), prefix).passed
    assert diagnose(prefix, BY_NAME[name].build).passed


def test_what_layers_in_a_list_lost_is_kept_once_they_are_attributes(tmp_path):
    def build():
        return of(sequential(keras, failed_restores.AttributesOfLayers(), dense(keras)))

    path = build().save(str(tmp_path / "ckpt"))
    assert diagnose(path, build).passed


def test_a_list_that_changed_is_asked_about_and_then_restored(made):
    path, report = made("item-inserted")
    plan, apply = only(report).mend[0].split(" && ")
    place = Path(path).parent
    session = at_terminal(shlex.split(plan)[1:], lambda seen: "y" if "[y/" in seen else "1", cwd=place)
    assert session.status == 0, session.seen
    subprocess.run([sys.executable, "-m", *shlex.split(apply)], cwd=place, check=True)
    assert ckptmigrate.restore(BY_NAME["item-inserted"].build(), shlex.split(apply)[-1]).passed


def test_a_frozen_layer_is_mended_without_a_value_in_another_layer(made, tmp_path):
    """TensorFlow puts the first layer's kernel into the second; the checkpoint that is migrated does not."""
    path, report = made("frozen-weights")
    plan, _ = only(report).mend[0].split(" && ")
    assert run(*shlex.split(plan)[1:-1], str(tmp_path / "plan.json")) == 0
    run("apply", str(tmp_path / "plan.json"), "--out", str(tmp_path / "ckpt"))
    restored = [BY_NAME["frozen-weights"].build() for _ in range(2)]
    restored[0].restore(path).expect_partial()
    restored[1].restore(str(tmp_path / "ckpt")).assert_consumed()
    with Bundle.open(path) as bundle:
        graph = ObjectGraph.from_bundle(bundle)
        kernels = [
            bundle.read(
                graph.nodes[graph.find(("model", "_functional", "_operations", str(i), "_kernel"))].tensors[
                    "VARIABLE_VALUE"
                ]
            )
            for i in (1, 2)
        ]
    second = [checkpoint.model.layers[1].kernel.numpy() for checkpoint in restored]
    np.testing.assert_array_equal(second[0], kernels[0])
    np.testing.assert_array_equal(second[1], kernels[1])


# What TensorFlow does not see at all


class Swapped(tf.Module):
    """Two kernels of one shape."""

    def __init__(self, first, second):
        super().__init__()
        for name in (first, second):
            setattr(self, name, tf.Variable(tf.random.normal([4, 4])))


def test_values_that_an_optimizer_list_led_astray_are_told_though_every_assertion_passes(tmp_path):
    """`w1` and `w2` became `kernel` and `head`: in the alphabet, and so in the optimizer, they change places."""
    path = of(Swapped("w1", "w2"), keras.optimizers.Adam()).save(str(tmp_path / "ckpt"))

    def build():
        return of(Swapped("kernel", "head"), keras.optimizers.Adam())

    build().restore(path).assert_consumed()
    (finding,) = diagnose(path, build).findings
    assert finding.kind == "renamed-attribute"
    assert "`model/head` gets the value of `model/w1`" in finding.rows
    assert "says nothing of values that went by a position" in finding.tensorflow
    assert "--interactive" in finding.mend[-1]


def test_slots_of_another_variable_are_told(tmp_path):
    model = [Swapped("a", "b") for _ in range(2)]
    optimizers = [keras.optimizers.Adam(), keras.optimizers.Adam()]
    optimizers[0].build([model[0].a, model[0].b])
    optimizers[1].build([model[1].b, model[1].a])
    saved, new = (tf.train.Checkpoint(model=m, optimizer=o) for m, o in zip(model, optimizers, strict=True))
    path = saved.save(str(tmp_path / "ckpt"))
    new.restore(path).assert_consumed()
    kinds = {finding.kind for finding in diagnose(path, lambda: new).findings}
    assert "trained-weights-changed" in kinds


@pytest.mark.parametrize(("framework", "comes"), [(tf_keras, True), (keras, False)])
def test_what_is_built_after_the_restore_gets_its_values_in_keras_2_only(tmp_path, framework, comes):
    """What the finding says of a deferred restore."""
    old = subclassed(framework)
    path = of(old).save(str(tmp_path / "ckpt"))
    new = of(subclassed(framework, built=False))
    new.restore(path)
    new.model(tf.zeros([1, 4]))
    assert np.array_equal(new.model.weights[0], old.weights[0]) == comes
    (finding,) = diagnose(path, lambda: of(subclassed(framework, built=False))).findings
    assert finding.kind == "model-not-built"


@pytest.mark.parametrize("framework", [tf_keras, keras])
def test_the_slots_of_an_optimizer_that_is_built_after_the_restore_are_filled(tmp_path, framework):
    old = train(of(sequential(framework, 2), framework.optimizers.Adam()))
    path = old.save(str(tmp_path / "ckpt"))
    new = of(sequential(framework, 2), framework.optimizers.Adam(), built=False)
    new.restore(path)
    new.optimizer.build(new.model.trainable_variables)
    for left, right in zip(old.optimizer.variables, new.optimizer.variables, strict=True):
        np.testing.assert_array_equal(left, right)


def test_weights_that_change_after_a_step_prove_nothing():
    assert failed_restores.one_more_step() == {"without a restore": (True, False), "restored": (True, True)}


# Several causes


def test_each_cause_is_told_once_and_one_command_mends_all(tmp_path):
    path = train(of(subclassed(keras), keras.optimizers.Adam())).save(str(tmp_path / "ckpt"))

    class Renamed(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = dense(keras, "hidden")
            self.out = dense(keras, "out")
            self.head = keras.layers.Dense(9)

        def call(self, inputs):
            return self.head(self.out(self.first(inputs)))

    def build():
        model = Renamed()
        model(tf.zeros([1, 4]))
        return of(model)

    report = diagnose(path, build)
    assert [finding.kind for finding in report.findings] == [
        "renamed-attribute",
        "not-in-checkpoint",
        "optimizer-left-out",
    ]
    assert len({finding.mend[-1] for finding in report.findings}) == 1


def test_a_wrong_path_is_told_and_what_is_wrong_behind_it_too(tmp_path):
    of(failed_restores.Pair()).save(str(tmp_path / "ckpt"))
    report = diagnose(tmp_path / "ckpt", lambda: of(failed_restores.Pair(kernel="kernel")))
    assert [finding.kind for finding in report.findings] == ["path-without-number", "renamed-attribute"]


def test_another_shape_and_another_precision_are_told_apart(tmp_path):
    def build(width, dtype):
        return tf.train.Checkpoint(a=tf.Variable(tf.zeros([width])), b=tf.Variable(tf.zeros([3], dtype)))

    path = build(4, tf.float32).save(str(tmp_path / "ckpt"))
    report = diagnose(path, lambda: build(5, tf.bfloat16))
    assert [finding.kind for finding in report.findings] == ["other-shape", "other-precision"]
    assert only_row(report, "other-shape") == "`a` is float32[5], the checkpoint's float32[4]"
    assert all("raises" in finding.tensorflow for finding in report.findings)


def only_row(report, kind):
    (finding,) = (each for each in report.findings if each.kind == kind)
    (row,) = finding.rows
    return row


def test_weights_that_are_shared_now_are_told(tmp_path):
    path = tf.train.Checkpoint(a=tf.Variable([1.0, 2.0]), b=tf.Variable([3.0, 4.0])).save(str(tmp_path / "ckpt"))

    def build():
        shared = tf.Variable([0.0, 0.0])
        return tf.train.Checkpoint(a=shared, b=shared)

    build().restore(path).assert_consumed()
    assert only(diagnose(path, build)).kind == "tied-weights"


@pytest.mark.parametrize(("at", "names"), [(20, "key 'model/"), (-1, "key '_CHECKPOINTABLE_OBJECT_GRAPH'")])
def test_damaged_values_are_named(tmp_path, at, names):
    path = of(failed_restores.Pair()).save(str(tmp_path / "ckpt"))
    data = Path(f"{path}.data-00000-of-00001")
    damaged = bytearray(data.read_bytes())
    damaged[at] ^= 1
    data.write_bytes(damaged)
    report = diagnose(path, lambda: of(failed_restores.Pair()))
    assert only(report).kind == "damaged"
    assert "raises" in only(report).tensorflow
    assert names in only(report).rows[0]


@pytest.mark.parametrize("framework", [keras, tf_keras])
def test_layers_that_changed_places_are_told_by_their_names_though_every_assertion_passes(tmp_path, framework):
    def build(*names):
        return of(sequential(framework, *(dense(framework, name) for name in names)))

    path = build("a", "b", "c").save(str(tmp_path / "ckpt"))
    build("a", "c", "b").restore(path).assert_consumed()
    finding = only(diagnose(path, lambda: build("a", "c", "b")))
    assert finding.kind == "list-changed"
    assert re.match(r"says nothing of the \d values", finding.tensorflow)
    assert diagnose(path, lambda: build("a", "b", "c")).passed


def test_a_layer_that_was_inserted_is_one_cause_with_its_slots(tmp_path):
    def build(length):
        return of(sequential(keras, length), keras.optimizers.Adam())

    path = build(3).save(str(tmp_path / "ckpt"))
    assert only(diagnose(path, lambda: build(4))).kind == "list-changed"


def test_weights_that_keras_2_saved_are_read_for_the_root(tmp_path):
    old = sequential(tf_keras, 2)
    old.save_weights(str(tmp_path / "weights"), save_format="tf")
    report = diagnose(tmp_path / "weights", lambda: of(sequential(tf_keras, 2)))
    assert [finding.kind for finding in report.findings] == ["other-root", "written-not-saved"]
    new = sequential(tf_keras, 2)
    exec(report.findings[0].mend[0], {"tf": tf, "model": new})  # noqa: S102
    np.testing.assert_array_equal(new.weights[2], old.weights[2])


# Nothing wrong

HEALTHY = {
    "tf.Module, Keras 3's Adam": lambda: module({"w": "a", "v": "b"}, keras3_adam),
    "tf.Module, Keras 2.11's Adam": lambda: module({"w": "a", "v": "b"}, new_adam),
    "tf.Module, legacy Adam": lambda: module({"w": "a", "v": "b"}, legacy_adam),
    "list": lambda: module_list(4),
    "attention": lambda: attention(keras3_adam, fused=False),
    "Keras 3, Sequential": lambda: sequential_of(keras, keras3_adam),
    "Keras 2, Sequential": lambda: sequential_of(tf_keras, new_adam),
    "Keras 2, legacy": lambda: sequential_of(tf_keras, legacy_adam),
    "Keras 3, functional": lambda: functional(keras, keras3_adam),
    "Keras 2, functional": lambda: functional(tf_keras, new_adam),
    "Keras 3, subclassed": lambda: subclassed_of(keras, {"w": "a", "v": "b"}, keras3_adam),
    "Keras 2, subclassed": lambda: subclassed_of(tf_keras, {"w": "a", "v": "b"}, new_adam),
    "Keras 3, nested": lambda: wrapped(keras, {"w": "a", "v": "b"}, keras3_adam),
    "Keras 3, root": lambda: sequential_of(keras, checkpoint=""),
    "Sonnet": lambda: sonnet({"w": "a", "v": "b"}),
}


@pytest.mark.parametrize("make", HEALTHY.values(), ids=HEALTHY)
def test_no_false_alarm(tmp_path, make):
    old = make()
    if old.optimizer is not None:
        old.train(2)
    path = old.checkpoint.save(str(tmp_path / "ckpt"))
    report = diagnose(path, lambda: make().checkpoint)
    assert report.findings == ()
    assert report.passed
    # Between checkpoints too, where TensorFlow does not run.
    template = make().checkpoint.save(str(tmp_path / "template"))
    assert diagnose(path, template).passed


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.name)
def test_without_tensorflow_the_causes_are_the_same(made, tmp_path, scenario):
    path, _ = made(scenario.name)
    checkpoint = scenario.build()
    template = (checkpoint.save if scenario.call == "restore" else checkpoint.write)(str(tmp_path / "template"))
    found = diagnose(path, str(template), call=scenario.call).findings
    # Which variables a checkpoint would leave out, only the model tells.
    assert [each.kind for each in found] == ([] if scenario.kind == "untracked" else [scenario.kind])
    assert all("was not run" in each.tensorflow for each in found)


@pytest.mark.parametrize("prefix", corpus_prefixes().values(), ids=corpus_prefixes())
def test_real_checkpoints_are_healthy_for_themselves_and_of_another_model_for_others(tmp_path, prefix):
    prefix = ckptmigrate.find_prefix(prefix)
    with Bundle.open(prefix) as bundle:
        graph = ObjectGraph.from_bundle(bundle)
    call = "restore" if graph.kind == "name" or graph.child(0, "save_counter") is not None else "read"
    assert diagnose(prefix, prefix, call=call).findings == ()
    if graph.specs:
        other = write_tree(
            str(tmp_path / "other"), {"net": {f"k{i}": np.ones((2, 3, 5, 7), np.float32) for i in range(9)}}
        )
        assert len(diagnose(prefix, other, call=call).findings) <= 2


# The command, and what it refuses


def test_the_command_says_what_was_proven_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = of(failed_restores.Pair()).save("ckpts/ckpt")
    Path("model.py").write_text("from failed_restores import Pair, of\n\ndef build():\n    return of(Pair())\n")
    assert run("doctor", path, "--target", "model.py:build") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"healthy  {path} for model.py:build: 2 of 2 tensors")
    assert "assert_consumed" in line


def test_the_command_names_the_cause_and_the_mend(made, capsys):
    path, _ = made("without-number")
    target = f"{Path(path).parent}/target.py:build"
    assert run("doctor", path, "--target", target) == 1
    out = capsys.readouterr().out
    assert "1  path-without-number: " in out
    assert f'mend: checkpoint.restore("{path}-1")' in out
    assert run("doctor", path, "--target", target, "--json") == 1
    assert '"kind": "path-without-number"' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        ("def build():\n    raise ValueError('no data here')", "the factory raised"),
        ("def build():\n    return 7", "the factory returned no trackable"),
        ("import not_installed_anywhere", "the factory's module cannot be imported"),
    ],
)
def test_a_model_that_cannot_be_built_is_bad_input(tmp_path, factory, says):
    path = of(failed_restores.Pair()).save(str(tmp_path / "ckpt"))
    (tmp_path / "model.py").write_text(factory)
    with pytest.raises(ckptmigrate.CkptMigrateError, match=says) as raised:
        run("doctor", path, "--target", f"{tmp_path}/model.py:build")
    assert raised.value.exit_status == 2


def test_a_place_without_any_checkpoint_is_bad_input(tmp_path):
    with pytest.raises(ckptmigrate.CkptMigrateError, match="no checkpoint") as raised:
        run("doctor", str(tmp_path / "nothing"), "--target", str(tmp_path / "nothing"))
    assert raised.value.exit_status == 2


def test_a_restore_that_raises_says_the_causes(tmp_path):
    path = of(failed_restores.Pair()).save(str(tmp_path / "ckpt"))
    with pytest.raises(RestoreError) as raised:
        ckptmigrate.restore(of(failed_restores.Pair(kernel="kernel")), path)
    assert only(raised.value.report).kind == "renamed-attribute"
    assert "`model/w` is likely `model/kernel`" in str(raised.value)
    report = ckptmigrate.check(of(failed_restores.Pair(kernel="kernel")), path, expect_partial=True)
    assert [finding.kind for finding in report.findings] == ["not-in-checkpoint"]


def test_what_a_position_restored_and_names_lead_to_as_well_is_no_finding(tmp_path):
    """The optimizer's lists lead to a renamed variable; where shapes say that it is the right one, all is well."""

    def make(attribute):
        model, block = tf.Module(), tf.Module()
        setattr(model, attribute, block)
        block.w, block.b = tf.Variable(tf.random.normal((3, 5))), tf.Variable(tf.random.normal((5,)))
        model.bias = tf.Variable(tf.random.normal((7,)))
        optimizer = keras.optimizers.Adam()
        optimizer.build([block.w, block.b, model.bias])
        return tf.train.Checkpoint(model=model, optimizer=optimizer)

    path = make("encoder_block").save(str(tmp_path / "ckpt"))
    assert diagnose(path, lambda: make("encoder")).passed


def test_what_only_a_position_restored_is_told_as_what_it_is(tmp_path):
    def make(*attributes):
        model = tf.Module()
        for attribute in attributes:
            setattr(model, attribute, tf.Variable(tf.random.normal((3, 3))))
        optimizer = keras.optimizers.Adam()
        optimizer.build([getattr(model, attribute) for attribute in attributes])
        return tf.train.Checkpoint(model=model, optimizer=optimizer)

    path = make("a", "b").save(str(tmp_path / "ckpt"))
    (finding,) = diagnose(path, lambda: make("x", "y")).findings
    assert "got values by their places in the optimizer's lists" in finding.what
