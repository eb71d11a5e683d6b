"""Migrations of real models.

What TensorFlow restores is the old model, its optimizer, and its next training step, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import keras
import models
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from models import WIDTH, Live

from ckptmigrate import (
    Bundle,
    Endpoint,
    ObjectGraph,
    Plan,
    apply_plan,
    make_plan,
    match_graphs,
    parse_rulebook,
    verify_checkpoint,
)
from ckptmigrate.errors import TemplateError
from ckptmigrate.graph.template import write_checkpoint

KERAS3 = pytest.param(keras, models.keras3_adam, id="keras-3")
KERAS2_LEGACY = pytest.param(tf_keras, models.legacy_adam, id="tf_keras-legacy")
KERAS2 = pytest.param(tf_keras, models.new_adam, id="tf_keras")
EVERY_KERAS = pytest.mark.parametrize(("framework", "adam"), [KERAS3, KERAS2, KERAS2_LEGACY])
EVERY_ADAM = pytest.mark.parametrize(
    "adam", [models.keras3_adam, models.new_adam, models.legacy_adam, models.sonnet_adam]
)


def plan(tmp_path: Path, old: Live, new: Live, rules: str = "", **allowed: bool) -> Plan:
    """Save the old model as it is, make the new one's template, and plan from the one to the other."""
    source = old.checkpoint.save(str(tmp_path / "old"))
    template = write_checkpoint(new.checkpoint, str(tmp_path / "template"), where="the new model").prefix
    with Bundle.open(source) as theirs, Bundle.open(template) as ours:
        matching = match_graphs(
            ObjectGraph.from_bundle(theirs), ObjectGraph.from_bundle(ours), parse_rulebook(rules) if rules else ()
        )
        return make_plan(Endpoint.of(theirs), Endpoint.of(ours), matching, **allowed)


def migrate(tmp_path: Path, old: Live, new: Live, rules: str = "", **allowed: bool) -> Plan:
    """Train, save, plan, apply, verify, and restore into the new model, which TensorFlow has to find complete."""
    if old.optimizer is not None:
        old.train(3)
    made = plan(tmp_path, old, new, rules, **allowed)
    assert made.is_complete, open_ends(made)
    out = str(tmp_path / "migrated")
    apply_plan(made, out)
    report = verify_checkpoint(out, made.target.prefix, plan=made)
    assert report.passed, report
    new.checkpoint.restore(out).assert_nontrivial_match().assert_existing_objects_matched().assert_consumed()
    return made


def open_ends(made: Plan) -> str:
    return "\n".join(
        [
            *(f"? {q.targets} <- {q.sources}: {q.reason}" for q in made.ambiguous),
            *(f"source {u.key}: {u.reason}" for u in made.unmatched_source),
            *(f"target {u.key}: {u.reason}" for u in made.unmatched_target),
        ]
    )


def assert_same(new: Mapping[str, np.ndarray], old: Mapping[str, np.ndarray]) -> None:
    assert new.keys() == old.keys()
    differing = [name for name in old if new[name].tobytes() != old[name].tobytes()]
    assert not differing


def assert_continues(new: Live, old: Live) -> None:
    """Every variable and slot is the old one's, and still is after both have trained one step further."""
    assert_same(new.values(), old.values())
    if old.optimizer is not None:
        assert all(np.any(value) for name, value in old.values().items() if "<" in name), "the slots say nothing"
        old.train()
        new.train()
        assert_same(new.values(), old.values())


def assert_moved(new: Live, old: Live, came_from: Mapping[str, str]) -> None:
    """Each variable of the new model, with its slots, has the values of the old model's variable named."""
    before, after = old.values(), new.values()
    for target, source in came_from.items():
        kinds = [name.removeprefix(target) for name in after if name.startswith(f"{target} <")]
        assert len(kinds) == 2
        for kind in ["", *kinds]:
            assert after[target + kind].tobytes() == before[source + kind].tobytes(), f"{target}{kind}"


def rename(source: str, target: str) -> str:
    return f"  - rename: {{from: '{source}', to: '{target}'}}\n"


# A rename, in each framework.


@pytest.mark.parametrize("adam", [models.keras3_adam, models.legacy_adam])
def test_renamed_attribute_of_a_module(tmp_path, adam):
    """From `gate` to `z`: in the alphabet, and so in the optimizer, it moves from the front to the back."""
    old = models.module({"first": "gate", "second": "kernel", "third": "same"}, adam)
    new = models.module({"first": "z", "second": "kernel", "third": "same"}, adam)
    assert list(old.variables) != list(new.variables)
    migrate(tmp_path, old, new, "rules:\n" + rename("model/gate", "model/z"))
    assert_continues(new, old)


@pytest.mark.parametrize("adam", [models.new_adam, models.sonnet_adam])
def test_renamed_attribute_of_a_module_whose_shapes_tell_its_variables(tmp_path, adam):
    shapes = {"first": (3, 5), "second": (5, 4), "third": (4, 3)}
    old = models.module({"first": "gate", "second": "kernel", "third": "same"}, adam, shapes=shapes)
    new = models.module({"first": "z", "second": "kernel", "third": "same"}, adam, shapes=shapes)
    migrate(tmp_path, old, new, "rules:\n" + rename("model/gate", "model/z"))
    assert_continues(new, old)


@pytest.mark.parametrize("adam", [models.new_adam, models.sonnet_adam])
def test_renamed_attribute_of_a_module_whose_variables_are_alike(tmp_path, adam):
    """All are called `Variable`: the usual order says whose slots are whose, and that is for a person to confirm."""
    old = models.module({"first": "b", "second": "kernel", "third": "same"}, adam)
    new = models.module({"first": "a", "second": "kernel", "third": "same"}, adam)
    made = migrate(tmp_path, old, new, "rules:\n" + rename("model/b", "model/a"), yes_proposed=True)
    assert sum("trainable_variables" in "".join(step.evidence) for step in made.steps) == 6
    assert_continues(new, old)


@EVERY_KERAS
def test_renamed_attributes_of_a_subclassed_model(tmp_path, framework, adam):
    old = models.subclassed(framework, {"first": "w1", "second": "w2"}, adam)
    new = models.subclassed(framework, {"first": "stem", "second": "head"}, adam)
    rules = "rules:\n" + rename("model/w1/**", "model/stem/**") + rename("model/w2/**", "model/head/**")
    migrate(tmp_path, old, new, rules)
    assert_continues(new, old)


@EVERY_KERAS
@pytest.mark.parametrize("make", [models.sequential, models.functional])
def test_renamed_keyword_of_the_checkpoint(tmp_path, framework, adam, make):
    old, new = make(framework, adam, checkpoint="net"), make(framework, adam, checkpoint="model")
    migrate(tmp_path, old, new, "rules:\n" + rename("net/**", "model/**"))
    assert_continues(new, old)


def test_renamed_attributes_of_a_sonnet_module(tmp_path):
    old = models.sonnet({"first": "w1", "second": "w2"})
    new = models.sonnet({"first": "stem", "second": "head"})
    assert list(old.variables) != list(new.variables)
    rules = "rules:\n" + rename("model/w1/**", "model/stem/**") + rename("model/w2/**", "model/head/**")
    migrate(tmp_path, old, new, rules, yes_proposed=True)
    assert_continues(new, old)


@pytest.mark.parametrize("framework", [keras, tf_keras])
def test_renamed_attributes_of_a_model_that_is_the_root(tmp_path, framework):
    old = models.subclassed(framework, {"first": "w1", "second": "w2"}, checkpoint="")
    new = models.subclassed(framework, {"first": "stem", "second": "head"}, checkpoint="")
    migrate(tmp_path, old, new, "rules:\n" + rename("w1/**", "stem/**") + rename("w2/**", "head/**"))
    assert_continues(new, old)


@EVERY_KERAS
def test_nothing_changed_needs_no_rule(tmp_path, framework, adam):
    old, new = (models.functional(framework, adam) for _ in range(2))
    made = migrate(tmp_path, old, new)
    assert {step.status for step in made.steps} == {"exact"}
    assert_continues(new, old)


# Permutations: all rules apply at once.


@EVERY_ADAM
def test_swap(tmp_path, adam):
    old, new = (models.module({"a": "a", "b": "b"}, adam) for _ in range(2))
    migrate(
        tmp_path, old, new, "rules:\n" + rename("model/a", "model/b") + rename("model/b", "model/a"), yes_proposed=True
    )
    assert_moved(new, old, {"a": "b", "b": "a"})


@EVERY_ADAM
def test_rotation_of_three(tmp_path, adam):
    old, new = (models.module({"a": "a", "b": "b", "c": "c"}, adam) for _ in range(2))
    moves = {"a": "b", "b": "c", "c": "a"}
    rules = "rules:\n" + "".join(rename(f"model/{source}", f"model/{target}") for source, target in moves.items())
    migrate(tmp_path, old, new, rules, yes_proposed=True)
    assert_moved(new, old, {target: source for source, target in moves.items()})


@EVERY_ADAM
def test_twelve_layers_shift_by_one(tmp_path, adam):
    old, new = models.module_list(12, adam), models.module_list(13, adam)
    fresh = new.values()
    rules = "rules:\n" + rename("model/layers/{i:int}/**", "model/layers/{i+1}/**")
    rules += "  - init: {to: 'model/layers/0/**', with: template}\n"
    migrate(tmp_path, old, new, rules, yes_proposed=True)
    names = ("b", "w")
    assert_moved(new, old, {f"layer {i + 1} {name}": f"layer {i} {name}" for i in range(12) for name in names})
    first = {name: value for name, value in new.values().items() if name.startswith("layer 0 ")}
    assert len(first) == 6
    assert_same(first, {name: fresh[name] for name in first})


# Several changes in one plan.


@EVERY_KERAS
def test_transposed_kernel_and_layers_wrapped_into_a_submodule(tmp_path, framework, adam):
    old = models.subclassed(framework, {"first": "w1", "second": "w2", "third": "proj"}, adam)
    new = models.wrapped(framework, {"first": "w1", "second": "w2"}, adam)
    kernel = "_kernel" if framework is keras else "kernel"
    rules = (
        "rules:\n"
        + rename("model/w1/**", "model/body/w1/**")
        + rename("model/w2/**", "model/body/w2/**")
        + f"  - transpose: {{from: 'model/proj/{kernel}', to: 'model/proj_t', perm: [1, 0]}}\n"
        + rename("model/proj/bias", "model/proj_b")
    )
    migrate(tmp_path, old, new, rules)
    expected = {name: value.T if name.startswith("third kernel") else value for name, value in old.values().items()}
    assert_same(new.values(), expected)
    assert any(np.any(expected[name] != expected[name].T) for name in expected if name.startswith("third kernel"))


@EVERY_ADAM
def test_new_variable_starts_with_the_template_and_so_do_its_slots(tmp_path, adam):
    shapes = {"extra": (3, 4), "last": (4, 3)}
    old = models.module({"kept": "kept"}, adam)
    new = models.module({"kept": "kept", "extra": "new", "last": "zlast"}, adam, shapes=shapes)
    fresh = new.values()
    rules = "rules:\n  - init: {to: 'model/new', with: template}\n  - init: {to: 'model/zlast', with: template}\n"
    made = migrate(tmp_path, old, new, rules)
    assert made.counts()["initial"] == 6
    assert_moved(new, old, {"kept": "kept"})
    started = {name: value for name, value in fresh.items() if not name.startswith("kept")}
    assert_same({name: new.values()[name] for name in started}, started)


@EVERY_ADAM
def test_dropped_variable_takes_its_slots_along(tmp_path, adam):
    shapes = {"extra": (3, 4), "last": (4, 3)}
    old = models.module({"kept": "kept", "extra": "new", "last": "zlast"}, adam, shapes=shapes)
    new = models.module({"kept": "kept"}, adam)
    rules = "rules:\n  - drop: {from: 'model/new', why: gone}\n  - drop: {from: 'model/zlast', why: gone}\n"
    made = migrate(tmp_path, old, new, rules)
    assert len(made.dropped) == 6
    assert_moved(new, old, {"kept": "kept"})


# Traps: without a rule, what cannot be known is not decided.


def decided(made: Plan, part: str = "") -> list[str]:
    """The targets with this in their key that would be applied without anyone's word."""
    return [step.target for step in made.steps if part in step.target and step.status != "proposed"]


def shapes_decided(made: Plan) -> set[tuple[int, ...]]:
    """The shapes of what is decided, but scalars: counters and learning rates are not in doubt."""
    with Bundle.open(made.target.prefix) as bundle:
        return {bundle.entries[key].spec.shape for key in decided(made)} - {()}


def slots_decided(made: Plan) -> list[str]:
    with Bundle.open(made.target.prefix) as bundle:
        graph = ObjectGraph.from_bundle(bundle)
    return [key for key in decided(made) if graph.node_of[key] in graph.slot_nodes]


@EVERY_ADAM
def test_equal_layer_inserted_in_a_list_decides_nothing_of_the_list(tmp_path, adam):
    made = plan(tmp_path, models.module_list(3, adam), models.module_list(4, adam))
    assert not made.is_complete
    assert shapes_decided(made) == set()


@EVERY_KERAS
@pytest.mark.parametrize("make", [models.sequential, models.functional])
def test_equal_layer_inserted_in_a_keras_model_decides_nothing_of_its_layers(tmp_path, framework, adam, make):
    old = make(framework, adam, layers={"a": None, "b": None})
    new = make(framework, adam, layers={"a": None, "x": None, "b": None})
    made = plan(tmp_path, old, new)
    assert not made.is_complete
    assert shapes_decided(made) == set()


@EVERY_KERAS
@pytest.mark.parametrize("make", [models.sequential, models.functional])
def test_reordered_layers_with_names_of_their_own_are_not_taken_by_position(tmp_path, framework, adam, make):
    old = make(framework, adam, layers={"a": "query", "b": "value"})
    new = make(framework, adam, layers={"b": "value", "a": "query"})
    made = plan(tmp_path, old, new)
    assert not made.is_complete
    assert shapes_decided(made) == set()


@pytest.mark.parametrize("adam", [models.new_adam, models.sonnet_adam])
@pytest.mark.parametrize("renamed", ["a", "l", "z"])
@pytest.mark.parametrize("attribute", ["b", "m", "y"])
def test_slots_of_variables_that_are_alike_are_never_decided_silently(tmp_path, adam, attribute, renamed):
    """Wherever in the alphabet the attribute moves: the slots are asked about, or proposed and right."""
    old = models.module({"first": attribute, "second": "kernel", "third": "same"}, adam)
    new = models.module({"first": renamed, "second": "kernel", "third": "same"}, adam)
    rules = "rules:\n" + rename(f"model/{attribute}", f"model/{renamed}")
    old.train(3)
    made = plan(tmp_path, old, new, rules)
    assert len(decided(made, "model/")) == 3
    assert slots_decided(made) == []
    if plan(tmp_path, old, new, rules, yes_proposed=True).is_complete:
        migrate(tmp_path, old, new, rules, yes_proposed=True)
        assert_continues(new, old)


@pytest.mark.parametrize("adam", [models.new_adam, models.sonnet_adam])
def test_slots_in_an_order_of_the_programs_own_are_not_decided_silently(tmp_path, adam):
    """The optimizer got the encoder's variable before the decoder's; the checkpoint sorts them by keyword."""
    old = models.pair({"first": "encoder", "second": "decoder"}, adam)
    new = models.pair({"first": "encoder", "second": "generator"}, adam)
    made = plan(tmp_path, old, new, "rules:\n" + rename("decoder/**", "generator/**"))
    assert not made.is_complete
    assert sorted(decided(made, "/w/")) == [f"{part}/w/.ATTRIBUTES/VARIABLE_VALUE" for part in ("encoder", "generator")]
    assert len([step for step in made.steps if step.status == "proposed"]) == 4


@pytest.mark.parametrize("adam", [models.new_adam, models.sonnet_adam])
def test_slots_of_some_among_variables_that_are_alike_are_asked_about(tmp_path, adam):
    """One of three is frozen: nothing says which of the three the two pairs of slots belong to."""
    old = models.module({"first": "b", "second": "k", "third": "same"}, adam, frozen=("first",))
    new = models.module({"first": "a", "second": "k", "third": "same"}, adam, frozen=("first",))
    made = plan(tmp_path, old, new, "rules:\n" + rename("model/b", "model/a"), yes_proposed=True)
    (question,) = made.ambiguous
    assert len(question.targets) == len(question.sources) == 4
    assert slots_decided(made) == []


@pytest.mark.parametrize("adam", [models.new_adam, models.sonnet_adam])
def test_slots_of_a_dropped_variable_that_is_like_another_are_not_dropped_silently(tmp_path, adam):
    old = models.module({"kept": "kept", "gone": "lost"}, adam)
    new = models.module({"kept": "kept"}, adam)
    rules = "rules:\n  - drop: {from: model/lost, why: gone}\n"
    made = plan(tmp_path, old, new, rules)
    assert [drop.source for drop in made.dropped] == ["model/lost/.ATTRIBUTES/VARIABLE_VALUE"]
    assert len(made.unmatched_source) == 2
    assert all("likely" in unmatched.reason for unmatched in made.unmatched_source)
    migrate(tmp_path, old, new, rules, yes_proposed=True, drop_unused=True)
    assert_moved(new, old, {"kept": "kept"})


def test_the_seeds_of_keras_3_layers_are_not_missed(tmp_path):
    """Recurrent layers have them, no checkpoint holds them, and the model's list of layers says that it has them."""
    model = keras.Sequential([keras.Input((3, WIDTH)), keras.layers.GRU(2)])
    written = write_checkpoint(tf.train.Checkpoint(model=model), str(tmp_path / "t"), where="the model")
    with Bundle.open(written.prefix) as bundle:
        assert sum("_functional" in key for key in bundle.entries) == 3


def test_layers_in_a_plain_list_of_a_keras_3_layer_fail_the_template_by_name(tmp_path):
    live = models.hidden_list()
    with pytest.raises(TemplateError, match="would not be saved") as raised:
        write_checkpoint(live.checkpoint, str(tmp_path / "template"), where="the model")
    assert "hidden_1/kernel" in str(raised.value)
    assert "hidden_2/bias" in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("adam", [models.new_adam, models.sonnet_adam])
def test_slots_that_are_only_likely_those_of_an_average_start_anew_if_that_is_confirmed(tmp_path, adam):
    old = models.module({"one": "a", "other": "b", "alike": "k"}, adam)
    new = models.module({"mean": "c", "alike": "k"}, adam)
    rules = "rules:\n  - average: {from: [model/a, model/b], to: model/c}\n"
    made = plan(tmp_path, old, new, rules)
    assert {step.status for step in made.steps if "starts anew" in step.evidence[0]} == {"proposed"}
    assert all("likely slot" in unmatched.reason for unmatched in made.unmatched_source)
    migrate(tmp_path, old, new, rules, yes_proposed=True, drop_unused=True)
    assert not np.any(new.values()["mean <m>"])
    assert_moved(new, old, {"alike": "alike"})


@EVERY_ADAM
@pytest.mark.parametrize("fused", [True, False], ids=["split", "concat"])
def test_a_fused_kernel_and_its_parts_train_on_alike(tmp_path, adam, fused):
    old, new = models.attention(adam, fused=fused), models.attention(adam, fused=not fused)
    parts = "[model/query, model/key, model/value]"
    rule = f"split: {{from: model/qkv, to: {parts}, axis: -1}}"
    if not fused:
        rule = f"concat: {{from: {parts}, to: model/qkv, axis: -1}}"
    migrate(tmp_path, old, new, f"rules:\n  - {rule}\n")
    whole, split = (old, new) if fused else (new, old)

    def assert_alike(**tolerance):
        for name, value in whole.values().items():
            pieces = [split.values()[name.replace("qkv", role)] for role in ("query", "key", "value")]
            np.testing.assert_allclose(value, np.concatenate(pieces, axis=-1), **tolerance)

    assert_alike(rtol=0)
    old.train(2)
    new.train(2)
    assert_alike(rtol=1e-5, atol=1e-6)
