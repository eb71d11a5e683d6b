"""Two versions of source beside a checkpoint: what they say enters the plan as evidence, and never as force."""

import importlib
import json
import sys

import pytest
from click.testing import CliRunner

from ckptmigrate.cli import cli

BUILD = """
import tensorflow as tf
import tf_keras as keras
from nets import Model

def build():
    keras.utils.set_random_seed(1)
    model = Model()
    model(tf.zeros((1, 4)))
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    return tf.train.Checkpoint(model=model, optimizer=optimizer)
"""

# Two layers of one shape got names that say nothing, one was wrapped, and two lists of equal layers got one more.
OLD = """
import tf_keras as keras

class Block(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.mix = keras.layers.Dense(4)
        self.gate = keras.layers.Dense(4)

    def call(self, x):
        return self.mix(x) * self.gate(x)

class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = Block()
        self.second = Block()
        self.row = [
            keras.layers.Dense(4, activation="relu"),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.Dense(4),
        ]
        self.out = keras.layers.Dense(2)

    def call(self, x):
        x = self.second(self.first(x))
        for layer in self.row:
            x = layer(x)
        return self.out(x)
"""

NEW = """
import tf_keras as keras

class Block(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.acorn = keras.layers.Dense(4)
        self.birch = keras.layers.Dense(4)

    def call(self, x):
        return self.acorn(x) * self.birch(x)

class Head(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.out = keras.layers.Dense({size})

    def call(self, x):
        return self.out(x)

class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.cedar = Block()
        self.daisy = Block()
        self.row = [
            keras.layers.Dense(4, activation="relu"),
            keras.layers.Dense(4),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.Dense(4, activation="softplus"),
        ]
        self.head = Head()

    def call(self, x):
        x = self.daisy(self.cedar(x))
        for layer in self.row:
            x = layer(x)
        return self.head(x)
"""


def load(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "nets.py").write_text(text)
    (folder / "build.py").write_text(BUILD)
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        return importlib.import_module("build").build()
    finally:
        sys.path.pop(0)
        forget()


def forget():
    for name in ("build", "nets"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The source and a checkpoint of the old model, and the sources of new ones, with a checkpoint of the first."""
    folder = tmp_path_factory.mktemp("models")
    checkpoint = load(folder / "old", OLD)
    for number, variable in enumerate(checkpoint.model.trainable_variables):
        variable.assign_add(variable * 0 + number)
    checkpoint.write(str(folder / "ckpt"))
    load(folder / "new", NEW.format(size=2)).write(str(folder / "template"))
    load(folder / "wider", NEW.format(size=3))
    forget()
    return folder


def plan(saved, target, *arguments):
    """The steps of a plan by their target, and what was said beside it."""
    out = saved / "plan.json"
    outcome = CliRunner().invoke(cli, ["plan", str(saved / "ckpt"), "--target", target, "--out", str(out), *arguments])
    forget()
    assert outcome.exit_code in (0, 1), outcome.output
    made = json.loads(out.read_text())
    return {step["target"].removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): step for step in made["steps"]}, outcome


def sources(saved, new="new"):
    return ["--old-source", str(saved / "old"), "--new-source", str(saved / new)]


EXPECTED = {
    "model/cedar/acorn/kernel": "model/first/mix/kernel",
    "model/cedar/birch/kernel": "model/first/gate/kernel",
    "model/daisy/acorn/bias": "model/second/mix/bias",
    "model/daisy/birch/bias": "model/second/gate/bias",
    "model/row/0/kernel": "model/row/0/kernel",
    "model/row/1/kernel": "model/row/2/kernel",
    "model/row/2/kernel": "model/row/1/kernel",
    "model/head/out/kernel": "model/out/kernel",
}


def origins(steps):
    return {
        target: steps[target]["sources"][0].removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
        for target in EXPECTED
        if target in steps and steps[target]["sources"]
    }


def test_without_the_source_it_is_asked(saved):
    steps, outcome = plan(saved, str(saved / "template"))
    assert outcome.exit_code == 1
    assert origins(steps) != EXPECTED


@pytest.mark.parametrize("target", ["template", "new/build.py:build"], ids=["a checkpoint", "a live model"])
def test_the_source_decides_with_its_places_as_evidence(saved, target):
    steps, outcome = plan(saved, str(saved / target), *sources(saved), "--init-new")
    assert outcome.exit_code == 0, outcome.output
    assert origins(steps) == EXPECTED
    evidence = steps["model/cedar/acorn/kernel"]["evidence"][0]
    assert f"source: {saved}/old/nets.py:16 -> {saved}/new/nets.py:24" in evidence
    assert f"source: {saved}/old/nets.py:7 -> {saved}/new/nets.py:7" in evidence
    # The layer that is new in the list is nobody's.
    assert steps["model/row/3/kernel"]["status"] == "initial"


def test_the_rule_file_says_the_same(saved):
    rules = saved / "rules.yaml"
    outcome = CliRunner().invoke(cli, ["codemod", "infer", str(saved / "old"), str(saved / "new"), "--out", str(rules)])
    assert outcome.exit_code == 0
    steps, outcome = plan(saved, str(saved / "template"), "--rules", str(rules), "--init-new")
    assert outcome.exit_code == 0, outcome.output
    assert origins(steps) == EXPECTED


def test_what_does_not_fit_is_told_and_forced_on_nothing(saved):
    steps, outcome = plan(saved, str(saved / "wider" / "build.py:build"), *sources(saved, "wider"), "--init-new")
    assert "model/head/out/kernel" not in origins(steps)
    assert origins(steps)["model/cedar/acorn/kernel"] == "model/first/mix/kernel"
    assert "`model/out/kernel` and `model/head/out/kernel` are not paired" in outcome.stderr
    assert f"(source: {saved}/old/nets.py:23 -> {saved}/wider/nets.py:16)" in outcome.stderr


def test_a_stated_rule_comes_first(saved):
    rules = saved / "stated.yaml"
    rules.write_text("rules:\n  - rename: {from: model/first/gate/**, to: model/cedar/acorn/**}\n")
    steps, _ = plan(saved, str(saved / "template"), *sources(saved), "--rules", str(rules), "--init-new")
    assert origins(steps)["model/cedar/acorn/kernel"] == "model/first/gate/kernel"
    assert steps["model/cedar/acorn/kernel"]["status"] == "rule"


def test_an_inferred_rule_that_leads_nowhere_is_no_mistake(saved):
    rules = saved / "nowhere.yaml"
    rules.write_text(
        "inferred:\n  - rename: {from: '**/none/**', to: '**/other/**', why: 'source: a.py:1 -> b.py:2'}\n"
    )
    _, outcome = plan(saved, str(saved / "template"), "--rules", str(rules))
    assert outcome.exit_code == 1  # questions, as without it


def test_an_inferred_rule_on_any_path_leaves_alone_what_is_there_still(saved):
    rules = saved / "anywhere.yaml"
    rules.write_text("inferred:\n  - rename: {from: '**/row/0/**', to: '**/row/3/**'}\n")
    steps, _ = plan(saved, str(saved / "template"), "--rules", str(rules))
    assert "model/row/3/kernel" not in steps


@pytest.mark.parametrize("pattern", ["model/first/gate/**", "**/first/gate/**"])
def test_an_inferred_rule_leaves_alone_what_is_where_it_was(saved, pattern):
    rules = saved / "there.yaml"
    goal = pattern.replace("gate", "mix")
    rules.write_text(f"inferred:\n  - rename: {{from: '{pattern}', to: '{goal}'}}\n")
    steps, _ = plan(saved, str(saved / "ckpt"), "--rules", str(rules))
    assert steps["model/first/mix/kernel"]["sources"] == ["model/first/mix/kernel/.ATTRIBUTES/VARIABLE_VALUE"]


def test_the_reason_is_given_with_what_is_found(saved):
    rules = (saved / "rules.yaml").read_text()
    assert "  # nets.Model: first -> cedar: " in rules
    assert "# nets.Model: row/1 -> row/2: the same text, and" in rules


def test_one_source_alone_is_no_use(saved):
    outcome = CliRunner().invoke(cli, ["plan", "a", "--target", "b", "--old-source", str(saved / "old")])
    assert outcome.exit_code == 2
    assert "one says nothing without the other" in outcome.output
