"""Real models whose migration only a person can decide: asked at a terminal, applied, verified, restored, and run."""

import re
import runpy

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from builders import ckptmigrate
from models import WIDTH, Live
from terminals import at_terminal

from ckptmigrate.graph.template import write_checkpoint

OPTION = re.compile(r"^  (\d+)  (.*(?:\n       .*)*)", re.MULTILINE)


def picking(*wanted):
    """Someone who takes the answer that has all words of one of `wanted`, and says yes to what is the only one."""

    def answer(seen):
        options = dict(OPTION.findall(seen))
        right = [number for number, text in options.items() for words in wanted if all(word in text for word in words)]
        assert right or len(options) == 1, seen
        return right[0] if right else "y"

    return answer


def migrated(folder, old: Live, new: Live, answer):
    """Train, save, plan at a terminal, apply, verify, and restore; what was seen before each answer."""
    if old.optimizer is not None:
        old.train(3)
    source = old.checkpoint.save(str(folder / "old"))
    template = write_checkpoint(new.checkpoint, str(folder / "template"), where="the new model").prefix
    plan = ("plan", source, "--target", template, "--out", "plan.json")
    assert at_terminal(plan, [], cwd=folder).status == 1, "nothing had to be asked"
    session = at_terminal((*plan, "--interactive"), answer, cwd=folder)
    assert session.status == 0, session.seen
    again = at_terminal((*plan, "--rules", "plan.answers.yaml"), [], cwd=folder)
    assert again.status == 0, again.out
    out = str(folder / "migrated")
    assert ckptmigrate("apply", folder / "plan.json", "--out", out).status == 0
    verified = ckptmigrate("verify", out, "--target", template, "--plan", folder / "plan.json")
    assert verified.status == 0, verified
    new.checkpoint.restore(out).assert_nontrivial_match().assert_existing_objects_matched().assert_consumed()
    return session.turns


def assert_equal_outputs(new: Live, old: Live):
    inputs = tf.constant(np.random.default_rng(11).normal(size=(32, WIDTH)), tf.float32)
    assert np.array_equal(new.call(inputs), old.call(inputs))
    assert np.any(old.call(inputs))


def assert_equal_slots(new: Live, old: Live):
    """What stands for the same has the same values, and the optimizer's state with it."""
    before, after = old.values(), new.values()
    assert before.keys() <= after.keys()
    assert not [name for name, value in before.items() if after[name].tobytes() != value.tobytes()]


OLD = {"first": "alpha", "second": "beta", "third": "gamma"}
NEW = {"first": "zinc", "second": "iron", "third": "lead"}
RIGHT = tuple(f"/{OLD[role]}` -> `model/{NEW[role]}`" for role in OLD)


@pytest.mark.parametrize(
    ("framework", "adam"),
    [
        pytest.param(keras, models.keras3_adam, id="keras-3"),
        pytest.param(tf_keras, models.new_adam, id="tf_keras"),
        pytest.param(tf_keras, models.legacy_adam, id="tf_keras-legacy"),
    ],
)
def test_layers_that_lost_their_names_are_told_apart_by_a_person(framework, adam, tmp_path):
    old, new = models.subclassed(framework, OLD, adam), models.subclassed(framework, NEW, adam)
    first, *_ = migrated(tmp_path, old, new, picking(RIGHT))
    assert "6 ways; one answer decides 6 variables and 12 slots" in first
    assert_equal_outputs(new, old)
    assert_equal_slots(new, old)


def residual_list(length: int, *, inserted: int | None = None) -> Live:
    """A tf.Module with a list of equal layers, each around a skip connection; an inserted one changes nothing."""
    model = tf.Module()
    model.layers = [models.Weights({"b": models.weight(WIDTH), "w": models.weight()}) for _ in range(length)]
    old = [layer for number, layer in enumerate(model.layers) if number != inserted]
    variables = {f"layer {number} {name}": getattr(layer, name) for number, layer in enumerate(old) for name in "bw"}
    if inserted is not None:
        for name in "bw":
            variables[f"inserted {name}"] = getattr(model.layers[inserted], name)
            variables[f"inserted {name}"].assign(tf.zeros_like(variables[f"inserted {name}"]))
    optimizer = models.start(models.keras3_adam(), variables)

    def call(inputs):
        for layer in model.layers:
            inputs += tf.tanh(inputs @ layer.w + layer.b)
        return inputs

    return Live(tf.train.Checkpoint(model=model, optimizer=optimizer), call, variables, optimizer)


def test_a_layer_inserted_at_index_5_of_12_in_a_module_list(tmp_path):
    old, new = residual_list(12), residual_list(13, inserted=5)
    first, *_ = migrated(tmp_path, old, new, picking(("model/layers/5` is new",)))
    assert "13 ways" in first
    assert_equal_outputs(new, old)
    assert_equal_slots(new, old)


def test_a_layer_inserted_at_index_5_of_12_in_a_functional_model(tmp_path):
    old = models.functional(keras, models.keras3_adam, layers={f"layer {n}": None for n in range(12)})
    roles = [f"layer {n}" for n in range(5)] + ["inserted"] + [f"layer {n}" for n in range(5, 12)]
    new = models.functional(keras, models.keras3_adam, layers=dict.fromkeys(roles))
    for role in ("kernel", "bias"):
        new.variables[f"inserted {role}"].assign(0 * new.variables[f"inserted {role}"])
    migrated(tmp_path, old, new, picking(("_operations/11` is new",), ("_operations/{11,12}` are new",)))
    assert_equal_outputs(new, old)
    assert_equal_slots(new, old)


MODEL = """
import keras
import tensorflow as tf

def build():
    inputs = keras.Input((3,))
    made = {role: keras.layers.Dense(4, name=name)(inputs) for role, name in {names}.items()}
    scores = keras.layers.Softmax()(keras.layers.Multiply()([made[role] for role in {order}]))
    model = keras.Model(inputs, keras.layers.Subtract()([scores, made["value"]]))
    return tf.train.Checkpoint(model=model)
"""


def test_all_of_it_with_the_new_model_given_as_code(tmp_path):
    """The dialogue is on the terminal, what building the model prints is not in its way, and the proof is complete."""
    made = {}
    names = {"query": "zinc", "key": "iron", "value": "lead"}
    for file, called, order in (("old", {role: role for role in names}, "qk"), ("new", names, "kq")):
        text = MODEL.replace("{names}", repr(called))
        text = text.replace("{order}", repr([{"q": "query", "k": "key"}[letter] for letter in order]))
        (tmp_path / f"{file}.py").write_text(text)
        made[file] = runpy.run_path(str(tmp_path / f"{file}.py"))["build"]()
    source = made["old"].save(str(tmp_path / "ckpt"))
    plan = ("plan", source, "--target", "new.py:build", "--out", "plan.json", "--interactive")
    right = [f"`{old}` -> `{new}`" for old, new in names.items()]
    session = at_terminal(plan, picking(right), cwd=tmp_path)
    assert session.status == 0, session.seen
    assert len(session.turns) == 1
    out = str(tmp_path / "migrated")
    assert ckptmigrate("apply", tmp_path / "plan.json", "--out", out).status == 0
    verified = ckptmigrate("verify", out, "--target", tmp_path / "new.py:build", "--plan", tmp_path / "plan.json")
    assert verified.status == 0, verified
    made["new"].restore(out).assert_consumed()
    inputs = np.random.default_rng(3).normal(size=(16, 3)).astype(np.float32)
    assert np.array_equal(made["new"].model(inputs), made["old"].model(inputs))
