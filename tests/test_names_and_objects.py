"""From TensorFlow 1's checkpoints of names to checkpoints of objects and back, with real TensorFlow at both ends."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from builders import Partitioned, Var, floats, graph_of, key_of, plan_between, spec_of, write_tensors, write_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptmigrate import ObjectGraph, apply_plan, match_graphs, reverse_plan, verify_checkpoint, write_template
from ckptmigrate.bundle import Bundle
from ckptmigrate.spec import OBJECT_GRAPH_KEY, Key

v1 = tf.compat.v1


def variables(shapes):
    """TF1 variables by name, with values like no other's."""
    return {
        name: v1.get_variable(name, shape, initializer=v1.random_normal_initializer(seed=number))
        for number, (name, shape) in enumerate(shapes.items())
    }


def save_names(prefix, shapes):
    """What a TF1 Saver writes of variables with these names; the prefix."""
    with tf.Graph().as_default(), v1.Session() as session:
        variables(shapes)
        session.run(v1.global_variables_initializer())
        return v1.train.Saver().save(session, str(prefix), write_meta_graph=False)


def restore_names(prefix, shapes):
    """What a TF1 Saver restores into variables with these names."""
    with tf.Graph().as_default(), v1.Session() as session:
        made = variables(shapes)
        v1.train.Saver().restore(session, prefix)
        return session.run(made)


def values(prefix):
    reader = tf.train.load_checkpoint(prefix)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if name != OBJECT_GRAPH_KEY}


def module(names):
    """A module with a variable at each attribute, called by a name of its own."""
    made = tf.Module()
    for number, (attribute, (name, shape)) in enumerate(names.items()):
        setattr(made, attribute, tf.Variable(tf.random.stateless_normal(shape, (number, 5)), name=name))
    return made


def path_steps(plan):
    return {step.target.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): step for step in plan.steps if step.sources}


ENCODER = {
    "encoder/layer_0/attention/query/kernel": (3, 4),
    "encoder/layer_0/attention/output/dense/kernel": (4, 3),
    "encoder/layer_1/attention/query/kernel": (3, 4),
    "encoder/layer_1/attention/output/dense/kernel": (4, 3),
    "embeddings/table": (7, 3),
}


def as_objects():
    """The same variables as objects, at other paths and with their names."""
    model = tf.Module()
    model.layers = [
        module({"q": (f"{at}/query/kernel", (3, 4)), "out": (f"{at}/output/dense/kernel", (4, 3))})
        for at in ("encoder/layer_0/attention", "encoder/layer_1/attention")
    ]
    model.table = tf.Variable(tf.zeros([7, 3]), name="embeddings/table")
    return tf.train.Checkpoint(model=model)


def test_names_that_people_gave_lead_from_names_to_objects(tmp_path):
    source = save_names(tmp_path / "tf1", ENCODER)
    target = write_template(as_objects, str(tmp_path / "target")).prefix
    plan = plan_between(source, target)
    assert plan.is_complete
    steps = path_steps(plan)
    assert {step.status for step in steps.values()} == {"certain"}
    assert steps["model/layers/1/out"].sources == ("encoder/layer_1/attention/output/dense/kernel",)
    assert "which a person gave" in steps["model/table"].evidence[0]
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    assert verify_checkpoint(out, as_objects, plan=plan).passed
    found, expected = values(out), values(source)
    for step in steps.values():
        assert found[step.target].tobytes() == expected[step.sources[0]].tobytes()


def test_and_from_objects_to_names_that_a_session_restores(tmp_path):
    source = as_objects().save(str(tmp_path / "tf2"))
    target = save_names(tmp_path / "tf1", ENCODER)
    plan = plan_between(source, target)
    assert plan.is_complete
    assert [drop.source for drop in plan.dropped] == [key_of("save_counter")]
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    assert verify_checkpoint(out, target, plan=plan).passed
    expected = values(source)
    for name, value in restore_names(out, ENCODER).items():
        (step,) = (step for step in plan.steps if step.target == name)
        assert value.tobytes() == expected[step.sources[0]].tobytes()
    assert OBJECT_GRAPH_KEY not in tf.train.load_checkpoint(out).get_variable_to_shape_map()


def test_a_plan_between_names_and_objects_has_a_way_back(tmp_path):
    source = save_names(tmp_path / "tf1", ENCODER)
    plan = plan_between(source, write_template(as_objects, str(tmp_path / "target")).prefix)
    out, again = str(tmp_path / "out"), str(tmp_path / "again")
    apply_plan(plan, out)
    with Bundle.open(out) as migrated, Bundle.open(source) as original:
        apply_plan(reverse_plan(plan, migrated, original, where="plan"), again)
    expected = values(source)
    assert all(value.tobytes() == expected[name].tobytes() for name, value in restore_names(again, ENCODER).items())


# Names that nobody gave.


def dense_names(count):
    return [f"dense_{number}" if number else "dense" for number in range(count)]


def dense_stack(count):
    layers = [tf_keras.layers.Dense(4, use_bias=False) for _ in range(count)]
    return tf_keras.Sequential([tf_keras.Input((4,)), *layers])


def test_with_one_layer_built_before_no_counted_name_is_believed(tmp_path):
    tf_keras.backend.clear_session()  # counts layers anew
    source = save_names(tmp_path / "tf1", {f"{name}/kernel": (4, 4) for name in dense_names(75)})
    tf_keras.layers.Dense(2).build((None, 2))
    model = dense_stack(75)
    target = tf.train.Checkpoint(model=model).write(str(tmp_path / "target"))
    plan = plan_between(source, target)
    by_name = {variable.name.removesuffix(":0") for variable in model.variables}
    assert len(by_name & values(source).keys()) == 74
    assert not path_steps(plan)
    (question,) = plan.ambiguous
    assert len(question.sources) == len(question.targets) == 75
    assert "dense_N" in question.reason


def test_counted_names_that_are_the_same_are_proposed(tmp_path):
    tf_keras.backend.clear_session()  # counts layers anew
    source = save_names(tmp_path / "tf1", {f"{name}/kernel": (4, 4) for name in dense_names(3)})
    model = dense_stack(3)
    target = tf.train.Checkpoint(model=model).write(str(tmp_path / "target"))
    plan = plan_between(source, target)
    assert {step.status for step in plan.steps} == {"proposed"}
    assert not plan.is_complete
    taken = plan_between(source, target, yes_proposed=True)
    assert taken.is_complete
    out = str(tmp_path / "out")
    apply_plan(taken, out)
    tf.train.Checkpoint(model=model).read(out).assert_consumed()
    expected = values(source)
    for variable in model.variables:
        assert variable.numpy().tobytes() == expected[variable.name.removesuffix(":0")].tobytes()


def names_tree(*names, shape=(2,)):
    return {"model": {f"v{number}": Var(floats(*shape, start=number), name) for number, name in enumerate(names)}}


def status_of(tmp_path, sources, targets):
    """The status of each step between checkpoints of such names, by the source's name; and the questions' reasons."""
    source = write_tensors(tmp_path / "s", {name: floats(2, start=number) for number, name in enumerate(sources)})
    plan = plan_between(source, write_tree(tmp_path / "t", names_tree(*targets)))
    back = plan_between(str(tmp_path / "t"), source)
    found = {step.sources[0]: step.status for step in plan.steps if step.sources}
    assert {step.target: step.status for step in back.steps if step.sources} == found
    assert len(plan.ambiguous) == len(back.ambiguous)
    return found, [question.reason for question in plan.ambiguous]


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (["a", "b"], "certain"),
        (["enc/w", "dec/w"], "certain"),
        (["enc/dense/kernel", "dec/dense/kernel"], "certain"),
        (["block_1/w", "block_2/w"], "certain"),
        (["lstm1/kernel", "lstm2/kernel"], "certain"),
        (["dense/kernel"], "proposed"),
        (["dense/kernel", "dense_1/kernel"], "proposed"),
        (["enc/dense/kernel", "enc/dense_1/kernel"], "proposed"),
        (["kernel", "bias"], "proposed"),
        (["Variable", "Variable_1"], "proposed"),
        (["Conv/weights", "Conv_1/weights"], "proposed"),
    ],
)
def test_a_name_is_certain_if_somebody_gave_it(tmp_path, names, status):
    found, questions = status_of(tmp_path, names, names)
    assert found == dict.fromkeys(names, status)
    assert not questions


@pytest.mark.parametrize(
    ("sources", "targets"),
    [
        (["dense/kernel", "dense_1/kernel"], ["dense_1/kernel", "dense_2/kernel"]),
        (["dense/kernel", "dense_1/kernel"], ["dense/kernel", "dense_1/kernel", "dense_2/kernel"]),
        (["enc/dense/kernel", "enc/dense_1/kernel"], ["enc/dense/kernel"]),
    ],
)
def test_names_that_are_counted_otherwise_are_asked_about(tmp_path, sources, targets):
    found, questions = status_of(tmp_path, sources, targets)
    assert not found
    assert len(questions) == 1


def test_numbers_that_people_gave_are_asked_about_where_there_are_more_of_them_now(tmp_path):
    found, _ = status_of(tmp_path, ["block_1/w", "block_2/w"], ["block_1/w", "block_2/w", "block_3/w"])
    assert not found


def called(layers, first):
    """The kernels' full names: a person's, or a framework's, which counts from `first`."""
    numbers = itertools.count(first)
    scopes = [
        name or f"dense_{number}".removesuffix("_0")
        for _, name, _ in layers
        for number in [None if name else next(numbers)]
    ]
    return [f"{scope}/kernel" for scope in scopes]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_is_built_in_whatever_order_nothing_certain_is_wrong(data):
    sizes = st.integers(1, 3)
    old = [
        (at, data.draw(st.sampled_from([None, f"enc{'abcdef'[at]}"])), data.draw(sizes))
        for at in range(data.draw(st.integers(1, 6)))
    ]
    new = list(data.draw(st.permutations(old)))[data.draw(st.integers(0, 2)) :]
    for number in range(data.draw(st.integers(0 if new else 1, 2))):
        new.insert(data.draw(st.integers(0, len(new))), (100 + number, None, data.draw(sizes)))
    old_names, new_names = called(old, 0), called(new, data.draw(st.integers(0, 2)))
    items = [{"kernel": Var(floats(size, 2), name)} for name, (_, _, size) in zip(new_names, new, strict=True)]
    labels = data.draw(st.permutations("zyxwvuts"))
    tree = {"model": items if data.draw(st.booleans()) else dict(zip(labels, items, strict=False))}
    paths = [
        f"model/{label}/kernel" for label in (range(len(new)) if isinstance(tree["model"], list) else tree["model"])
    ]
    names = {Key(name): spec_of(floats(size, 2)) for name, (_, _, size) in sorted(zip(old_names, old, strict=True))}
    found = match_graphs(ObjectGraph.from_names(names), graph_of(tree))
    is_what = dict(zip(old_names, (at for at, _, _ in old), strict=True))
    is_now = dict(zip(map(key_of, paths), (at for at, _, _ in new), strict=True))
    for step in found.steps:
        assert step.status == "proposed" or is_what[step.sources[0]] == is_now[step.target]


def test_a_name_that_several_variables_have_is_asked_about(tmp_path):
    source = write_tensors(tmp_path / "s", {"enc/w": floats(2)})
    target = write_tree(tmp_path / "t", names_tree("enc/w", "enc/w"))
    for plan in (plan_between(source, target), plan_between(target, source)):
        assert not plan.steps
        (question,) = plan.ambiguous
        assert {len(question.sources), len(question.targets)} == {1, 2}
        assert "the full name `enc/w` is that of" in question.reason


def test_another_shape_under_one_name_is_told(tmp_path):
    source = write_tensors(tmp_path / "s", {"enc/w": floats(3)})
    plan = plan_between(source, write_tree(tmp_path / "t", names_tree("enc/w")))
    assert "other shapes or dtypes: float32[3] (source), float32[2] (target)" in plan.unmatched_target[0].reason


def test_a_path_that_is_called_as_a_name_is_proposed_where_its_own_name_says_nothing(tmp_path):
    source = write_tensors(tmp_path / "s", {"model/w": floats(2), "model/u": floats(2, start=3)})
    tree = {"model": {"w": Var(floats(2), "Variable"), "u": Var(floats(2), "Variable")}}
    plan = plan_between(source, write_tree(tmp_path / "t", tree))
    assert {step.sources[0]: (step.target, step.status) for step in plan.steps} == {
        name: (key_of(name), "proposed") for name in ("model/w", "model/u")
    }


def test_full_names_count_for_more_than_paths(tmp_path):
    source = write_tensors(tmp_path / "s", {"a": floats(2), "b": floats(2, start=3)})
    plan = plan_between(source, write_tree(tmp_path / "t", {"a": Var(floats(2), "b"), "b": Var(floats(2), "a")}))
    assert {step.sources[0]: step.target for step in plan.steps} == {"a": key_of("b"), "b": key_of("a")}


def test_names_below_the_models_own_are_proposed(tmp_path):
    layers = {"hidden/kernel": (3, 4), "hidden/bias": (4,), "out/kernel": (4, 2), "out/bias": (2,)}

    def build():
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4, name="hidden"), keras.layers.Dense(2, name="out")], name="net"
        )
        return tf.train.Checkpoint(model=model)

    source = save_names(tmp_path / "tf1", layers)
    target = write_template(build, str(tmp_path / "target")).prefix
    plan = plan_between(source, target)
    assert {step.status for step in plan.steps if step.sources} == {"proposed"}
    assert all("below `net`" in step.evidence[0] for step in plan.steps if step.sources)
    for taken in (
        plan_between(source, target, yes_proposed=True),
        plan_between(source, target, "  - rename: {from: '**', to: 'name:net/**'}\n"),
    ):
        out = str(tmp_path / taken.steps[0].status)
        apply_plan(taken, out)
        assert verify_checkpoint(out, build, plan=taken).passed
        assert sorted(value.tobytes() for value in values(out).values() if value.shape) == sorted(
            value.tobytes() for value in values(source).values()
        )


# Rules.

BY_PATH = (
    "  - rename: {from: 'encoder/layer_{n:int}/attention/query/kernel', to: 'model/layers/{n}/q'}\n"
    "  - rename: {from: 'encoder/layer_{n:int}/attention/output/dense/kernel', to: 'model/layers/{n}/out'}\n"
    "  - rename: {from: 'embeddings/table', to: 'model/table'}\n"
)
BACK_BY_PATH = (
    "  - rename: {from: 'model/layers/{n}/q', to: 'encoder/layer_{n}/attention/query/kernel'}\n"
    "  - rename: {from: 'model/layers/{n}/out', to: 'encoder/layer_{n}/attention/output/dense/kernel'}\n"
    "  - rename: {from: 'model/table', to: 'embeddings/table'}\n"
)


def nameless():
    """The encoder of objects, none of which has a name."""
    model = tf.Module()
    model.layers = [module({"q": (None, (3, 4)), "out": (None, (4, 3))}) for _ in range(2)]
    model.table = tf.Variable(tf.zeros([7, 3]))
    return tf.train.Checkpoint(model=model)


def test_rules_lead_from_names_to_paths_and_back(tmp_path):
    source = save_names(tmp_path / "tf1", ENCODER)
    target = write_template(nameless, str(tmp_path / "target")).prefix
    plan = plan_between(source, target, BY_PATH)
    assert {step.status for step in path_steps(plan).values()} == {"rule"}
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    assert verify_checkpoint(out, nameless, plan=plan).passed
    back = plan_between(out, source, BACK_BY_PATH)
    again = str(tmp_path / "again")
    apply_plan(back, again)
    expected = values(source)
    assert all(value.tobytes() == expected[name].tobytes() for name, value in restore_names(again, ENCODER).items())


@pytest.mark.parametrize("to", ["name:decoder/**", "model/{n}"])
def test_rules_speak_of_full_names_on_either_side(tmp_path, to):
    names = tmp_path / "s"
    source = write_tensors(names, {f"enc/b_{number}/w": floats(2, start=number) for number in range(3)})
    tree = {"model": {str(number): Var(floats(2), f"decoder/b_{number}/w") for number in range(3)}}
    target = write_tree(tmp_path / "t", tree)
    there = "enc/**" if to.startswith("name:") else "enc/b_{n}/w"
    plan = plan_between(source, target, f"  - rename: {{from: '{there}', to: '{to}'}}\n")
    back = plan_between(target, source, f"  - rename: {{from: '{to}', to: '{there}'}}\n")
    by_full_name = plan_between(source, target, f"  - rename: {{from: 'name:{there}', to: '{to}'}}\n")
    expected = {(f"enc/b_{number}/w", key_of(f"model/{number}")) for number in range(3)}
    for found in (plan, by_full_name):
        assert {(*step.sources, step.target) for step in found.steps} == expected
    assert {(step.target, *step.sources) for step in back.steps} == expected


# Parts under their own names.


def in_parts(name, value, lengths):
    starts = np.cumsum((0, *lengths))
    return {
        f"{name}/part_{number}": value[start:stop].copy()
        for number, (start, stop) in enumerate(itertools.pairwise(starts))
    }


def with_slots(tensors):
    """The tensors with TF1's Adam slots of each."""
    slots = {
        f"{name}/{kind}": value + add
        for name, value in tensors.items()
        for kind, add in (("Adam", 100), ("Adam_1", 200))
    }
    return {**tensors, **slots}


@pytest.mark.parametrize("new", [(), (10,), (3, 4, 3), (5, 5), (1, 1, 8), (3, 3, 2, 2)])
@pytest.mark.parametrize("old", [(), (10,), (3, 3, 2, 2)])
def test_parts_under_their_own_names_are_joined_and_cut_with_their_slots(tmp_path, old, new):
    whole = floats(10, 3)

    def saved(name, lengths):
        parts = in_parts("m/w", whole, lengths) if lengths else {"m/w": whole}
        return write_tensors(tmp_path / name, with_slots({**parts, "b": floats(2)}))

    source, target = saved("s", old), saved("t", new)
    plan = plan_between(source, target)
    assert plan.is_complete
    assert {step.status for step in plan.steps} <= {"exact", "certain"}
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    assert verify_checkpoint(out, target, plan=plan).passed
    found, expected = values(out), values(target)
    assert all(found[name].tobytes() == value.tobytes() for name, value in expected.items())


def test_parts_lead_to_a_variable_of_that_full_name_and_back(tmp_path):
    whole = floats(10, 3)
    names = write_tensors(tmp_path / "s", {**in_parts("m/w", whole, (4, 6)), "other": floats(1)})
    objects = write_tree(tmp_path / "t", {"model": {"x": Var(whole, "m/w"), "y": Var(floats(1), "other")}})
    for source, target in ((names, objects), (objects, names)):
        plan = plan_between(source, target)
        assert plan.is_complete
        assert {step.status for step in plan.steps} == {"certain"}
        out = str(tmp_path / f"out-{target[-1]}")
        apply_plan(plan, out)
        found, expected = values(out), values(target)
        assert all(found[name].tobytes() == value.tobytes() for name, value in expected.items())


@pytest.mark.parametrize("lengths", [(10,), (3, 4, 3)])
def test_a_rule_for_a_scope_cuts_the_parts_in_it_anew(tmp_path, lengths):
    whole = floats(10, 3)
    source = write_tensors(tmp_path / "s", {**in_parts("m/w", whole, (3, 3, 4)), "m/b": floats(1)})
    target = write_tensors(tmp_path / "t", {**in_parts("n/w", whole, lengths), "n/b": floats(1)})
    plan = plan_between(source, target, "  - rename: {from: 'm/**', to: 'n/**'}\n")
    assert plan.is_complete
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    assert all(value.tobytes() == values(target)[name].tobytes() for name, value in values(out).items())


@pytest.mark.parametrize(
    "rule",
    [
        "rename: {from: m/w, to: model/x}",
        "rename: {from: 'm/**', to: 'model/**'}",
        "rename: {from: 'm/w/**', to: 'model/x/**'}",
    ],
)
def test_a_rule_for_a_variable_is_one_for_its_parts(tmp_path, rule):
    whole = floats(10, 3)
    source = write_tensors(tmp_path / "s", in_parts("m/w", whole, (4, 6)))
    target = write_tensors(tmp_path / "t", {"model/w" if "**" in rule and "x" not in rule else "model/x": whole})
    (step,) = plan_between(source, target, f"  - {rule}\n").steps
    assert step.sources == ("m/w/part_0", "m/w/part_1")
    assert step.status == "rule"


def test_parts_that_do_not_make_up_the_variable_are_told(tmp_path):
    source = write_tensors(tmp_path / "s", in_parts("m/w", floats(10, 3), (4, 6)))
    plan = plan_between(source, write_tensors(tmp_path / "t", {"m/w": floats(11, 3)}))
    assert not plan.steps
    assert "float32[4, 3] and 1 more parts (source), float32[11, 3] (target)" in plan.unmatched_target[0].reason


def test_a_part_is_not_taken_for_one_of_another_cut(tmp_path):
    source = write_tensors(tmp_path / "s", in_parts("m/w", floats(10, 3), (3, 3, 4)))
    target = write_tensors(tmp_path / "t", in_parts("m/w", floats(11, 3), (3, 3, 5)))
    assert not plan_between(source, target).steps


def test_slices_become_parts(tmp_path):
    whole = floats(10, 3)
    source = write_tensors(tmp_path / "s", {"m/w": Partitioned(whole, (3, 7))})
    target = write_tensors(tmp_path / "t", in_parts("m/w", whole, (5, 5)))
    plan = plan_between(source, target)
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    assert verify_checkpoint(out, target, plan=plan).passed
    assert all(value.tobytes() == values(target)[name].tobytes() for name, value in values(out).items())
