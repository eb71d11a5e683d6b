"""Variables that a TensorFlow 1 partitioner cut: cut otherwise, put together, and with their slots."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from builders import Partitioned, floats, plan_between, write_tree

from ckptmigrate import apply_plan, verify_checkpoint, write_template
from ckptmigrate.bundle import Bundle

v1 = tf.compat.v1
ROWS = 10
_SEEDS = itertools.count(1)


def build(parts, *, axis=0, shape=(ROWS, 3)):
    """A TF1 graph with a variable in so many parts, one that is never cut, and an Adam step for both."""
    with v1.variable_scope("model", partitioner=v1.fixed_size_partitioner(parts, axis) if parts else None):
        weights = v1.get_variable("w", shape, initializer=v1.random_normal_initializer(seed=next(_SEEDS)))
    bias = v1.get_variable("bias", [3], initializer=v1.random_normal_initializer(seed=next(_SEEDS)))
    loss = tf.reduce_sum(tf.convert_to_tensor(weights) ** 3) + tf.reduce_sum(bias**3)
    return v1.train.AdamOptimizer(0.1).minimize(loss, global_step=v1.train.get_or_create_global_step())


def save_partitioned(prefix, parts, *, steps=2, **how):
    """Train and save as TF1 does; the prefix."""
    with tf.Graph().as_default(), v1.Session() as session:
        train = build(parts, **how)
        session.run(v1.global_variables_initializer())
        for _ in range(steps):
            session.run(train)
        return v1.train.Saver().save(session, str(prefix), write_meta_graph=False)


def values(prefix):
    """Every tensor as TensorFlow's own reader gives it."""
    reader = tf.train.load_checkpoint(prefix)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_equal_bytes(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.asarray(found[name]).tobytes() == np.asarray(value).tobytes(), name


def restored_by_saver(prefix, parts, **how):
    """What a TF1 Saver of a graph in so many parts makes of a checkpoint: each variable, put together."""
    with tf.Graph().as_default(), v1.Session() as session:
        build(parts, **how)
        v1.train.Saver().restore(session, prefix)
        found = {}
        for variable in v1.global_variables():
            info = variable._get_save_slice_info()
            name, at = (info.full_name, info.var_offset) if info else (variable.op.name, [0] * len(variable.shape))
            found.setdefault(name, []).append((at, session.run(variable)))
    axis = how.get("axis", 0)
    return {
        name: pieces[0][1]
        if len(pieces) == 1
        else np.concatenate([piece for _, piece in sorted(pieces, key=lambda piece: piece[0])], axis)
        for name, pieces in found.items()
    }


@pytest.mark.parametrize(("old", "new"), [(4, 0), (4, 1), (4, 3), (0, 3)])
def test_a_variable_in_parts_is_cut_anew_with_its_slots(tmp_path, old, new):
    source, target = save_partitioned(tmp_path / "s", old), save_partitioned(tmp_path / "t", new, steps=0)
    plan = plan_between(source, target)
    assert plan.is_complete
    out = str(tmp_path / "out" / "ckpt")
    apply_plan(plan, out)
    assert verify_checkpoint(out, target, plan=plan).passed
    assert_equal_bytes(values(out), values(source))
    assert_equal_bytes(restored_by_saver(out, new), values(source))
    with Bundle.open(out) as made, Bundle.open(target) as wanted:
        assert {key: entry.slices for key, entry in made.entries.items()} == {
            key: entry.slices for key, entry in wanted.entries.items()
        }


def test_slices_of_the_last_axis_are_operated_on_and_cut_along_the_first(tmp_path):
    source = save_partitioned(tmp_path / "s", 3, axis=1, shape=(ROWS, 6))
    target = save_partitioned(tmp_path / "t", 4, shape=(6, ROWS), steps=0)
    moved = ("model/w", "model/w/Adam", "model/w/Adam_1")
    plan = plan_between(source, target, "".join(f"  - transpose: {{from: {name}}}\n" for name in moved))
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    assert verify_checkpoint(out, target, plan=plan).passed
    expected = values(source)
    assert_equal_bytes(values(out), expected | {name: expected[name].T.copy() for name in moved})
    assert_equal_bytes(restored_by_saver(out, 4, shape=(6, ROWS)), values(out))


@pytest.mark.parametrize("layout", ["auto", "link"])
def test_slices_that_stay_are_put_together_by_tensorflow_and_compared(tmp_path, layout):
    weights = floats(ROWS, 3)
    source = write_tree(
        tmp_path / "source", {"w": Partitioned(weights, (4, 6)), "save_counter": np.int64(1).reshape(())}
    )
    variables = []

    def build():
        variables.append(tf.Variable(tf.zeros([ROWS, 3])))
        return tf.train.Checkpoint(w=variables[-1])

    plan = plan_between(source, write_template(build, str(tmp_path / "target")).prefix)
    out = str(tmp_path / "out")
    apply_plan(plan, out, layout=layout)
    with Bundle.open(out) as bundle:
        assert bool(bundle.slice_entries) == (layout == "link")
    assert verify_checkpoint(out, build, plan=plan).passed
    assert np.array_equal(variables[-1].numpy(), weights)
