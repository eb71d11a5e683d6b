"""Checkpoints that other people's programs wrote, before and after their models changed."""

import numpy as np
import pytest
import tensorflow as tf
from builders import plan_between
from corpus import corpus_prefixes

from ckptmigrate import apply_plan, verify_checkpoint
from ckptmigrate.spec import OBJECT_GRAPH_KEY

PREFIXES = corpus_prefixes()

pytestmark = pytest.mark.skipif(not PREFIXES, reason="no corpus")


def values(prefix):
    """Every tensor but the graph, as TensorFlow's own reader gives it."""
    reader = tf.train.load_checkpoint(prefix)
    names = reader.get_variable_to_shape_map().keys() - {OBJECT_GRAPH_KEY}
    return {name: np.asarray(reader.get_tensor(name)) for name in names}


def plan_pair(source, target, rules="", **allowed):
    return plan_between(PREFIXES[source], PREFIXES[target], rules, **allowed)


def migrate(tmp_path, plan):
    """Apply a plan, verify the result, and read it as TensorFlow does."""
    assert plan.is_complete
    out = str(tmp_path / "out" / "ckpt")
    apply_plan(plan, out)
    assert verify_checkpoint(out, plan.target.prefix, plan=plan).passed
    return values(out)


def assert_equal_values(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape), name
        assert found[name].tobytes() == value.tobytes(), name


def moved(plan):
    """Where each source of a step without operations goes."""
    return {step.target: step.sources[0] for step in plan.steps if step.sources and not step.ops}


def test_sonnet_counters_become_integers_by_one_rule(tmp_path):
    source = values(PREFIXES["sonnet-cifar-1"])
    counters = {name for name in source if "/_counter/" in name}
    assert {source[name].dtype for name in counters} == {np.dtype("float32")}
    bare = plan_pair("sonnet-cifar-1", "sonnet-cifar-2")
    assert moved(bare) == {name: name for name in source if name not in counters}
    assert {item.key for item in bare.unmatched_source} == counters
    found = migrate(tmp_path, plan_pair("sonnet-cifar-1", "sonnet-cifar-2", "  - cast: {from: '**/_counter'}\n"))
    as_integers = {name: source[name].astype(np.int64) for name in counters}
    assert_equal_values(found, source | as_integers)


def test_sonnet_gets_variables_that_start_anew(tmp_path):
    source, template = values(PREFIXES["sonnet-cifar-2"]), values(PREFIXES["sonnet-cifar-3"])
    bare = plan_pair("sonnet-cifar-2", "sonnet-cifar-3")
    assert moved(bare) == {name: name for name in source}
    assert {item.key for item in bare.unmatched_target} == template.keys() - source.keys()
    found = migrate(tmp_path, plan_pair("sonnet-cifar-2", "sonnet-cifar-3", init_new=True))
    assert_equal_values(found, template | source)


SHIFT = "  - rename: {from: 'agent/{of}/network/layers/{n:int}/**', to: 'agent/{of}/network/layers/{n+1}/**'}\n"
OPTIMIZERS = (
    "  - rename: {from: 'agent/baseline_optimizer/optimizer/optimizer/**', "
    "to: 'agent/baseline_optimizer/optimizer/tf_optimizer/**'}\n"
    "  - rename: {from: 'agent/optimizer/optimizer/optimizer/optimizer/**', "
    "to: 'agent/optimizer/optimizer/optimizer/optimizer/tf_optimizer/**'}\n"
)


def tensorforce_origin(key):
    """The key of the first checkpoint that a key of the second one stands for, by what was changed in the code."""
    for number in (2, 3):
        if f"/network/layers/{number}/" in key:
            key = key.replace(f"/network/layers/{number}/", f"/network/layers/{number - 1}/")
            break
    key = key.replace("/optimizer/optimizer/optimizer/tf_optimizer/", "/optimizer/optimizer/optimizer/")
    return key.replace("/baseline_optimizer/optimizer/tf_optimizer/", "/baseline_optimizer/optimizer/optimizer/")


def test_tensorforce_layers_shift_by_one_with_their_slots(tmp_path):
    source = values(PREFIXES["tensorforce-1-20200530"])
    plan = plan_pair("tensorforce-1-20200530", "tensorforce-2-20200607", SHIFT + OPTIMIZERS)
    found = migrate(tmp_path, plan)
    assert len(found) == 67
    assert_equal_values(found, {key: source[tensorforce_origin(key)] for key in found})


def test_a_tensorforce_key_that_means_another_layer_now_is_not_taken_for_itself():
    source, target = PREFIXES["tensorforce-1-20200530"], PREFIXES["tensorforce-2-20200607"]
    trap = "agent/policy/network/layers/2/bias/.ATTRIBUTES/VARIABLE_VALUE"
    assert values(source)[trap].shape == values(target)[trap].shape
    plan = plan_between(source, target)
    asked = {key for question in plan.ambiguous for key in question.targets}
    assert trap in asked or moved(plan)[trap] == trap.replace("/2/", "/1/")


@pytest.mark.parametrize("rules", ["", SHIFT])
def test_tensorforce_puts_nothing_into_another_variable(rules):
    plan = plan_pair("tensorforce-1-20200530", "tensorforce-2-20200607", rules)
    assert all(source == tensorforce_origin(target) for target, source in moved(plan).items())


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("serving-half-plus-two-tf1", "serving-half-plus-two-tf2-2020"),
        ("serving-half-plus-two-tf2-2020", "serving-half-plus-two-tf1"),
    ],
)
def test_half_plus_two_goes_between_names_and_objects_without_a_rule(tmp_path, source, target):
    plan = plan_pair(source, target)
    assert {step.status for step in plan.steps} == {"certain"}
    found = migrate(tmp_path, plan)
    expected, layout = values(PREFIXES[source]), values(PREFIXES[target])
    assert found.keys() == layout.keys()
    by_name = {key.partition("/")[0]: value for key, value in expected.items()}
    assert_equal_values(found, {key: by_name[key.partition("/")[0]] for key in found})


def test_a_tf1_export_leaves_the_slots_behind(tmp_path):
    source, exported = values(PREFIXES["cloudml-housing-ckpt"]), values(PREFIXES["cloudml-housing-export"])
    bare = plan_pair("cloudml-housing-ckpt", "cloudml-housing-export")
    assert moved(bare) == {name: name for name in exported}
    slots = source.keys() - exported.keys()
    assert {item.key for item in bare.unmatched_source} == slots
    plan = plan_pair("cloudml-housing-ckpt", "cloudml-housing-export", drop_unused=True)
    assert {drop.source for drop in plan.dropped} == slots
    found = migrate(tmp_path, plan)
    assert len(found) == 26
    assert_equal_values(found, exported)
    assert_equal_values(found, {name: source[name] for name in exported})
