"""Synthetic refactorings: that the generator says the truth, and that matching is never silently wrong on them."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest
from architectures import FAMILIES, Part, Weight, batch_norm, conv, dense, embedding, listed, lstm, multi_head
from changes import CHANGES
from large import SHAPES, read
from large import ends as large_ends
from layouts import Design, State, lay
from refactorings import case
from scoring import judge, wrong_drops

from ckptmigrate import Bundle, Endpoint, ObjectGraph, make_plan, match_graphs
from ckptmigrate.ops import Part as Cut
from ckptmigrate.ops import infer_chain

SEEDS = range(300)


@cache
def drawn(seed):
    return case(seed)


@cache
def matched(seed):
    return match_graphs(drawn(seed).source, drawn(seed).target)


# The generator.


def test_a_seed_makes_the_same_case_again():
    for seed in SEEDS[:20]:
        assert case(seed) == drawn(seed)


def test_a_case_and_its_plan_are_the_same_in_every_process():
    def digest(hash_seed):
        command = [sys.executable, "-c", "from test_refactorings import print_digest; print_digest()"]
        paths = os.pathsep.join(sys.path)
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths}
        return subprocess.run(command, env=env, capture_output=True, check=True).stdout

    assert digest("1") == digest("2")


def print_digest():
    digest = hashlib.sha256()
    for seed in SEEDS[:60]:
        ends = Endpoint("source", "sha256:s"), Endpoint("target", "sha256:t")
        digest.update(repr((drawn(seed).truth, drawn(seed).undecidable)).encode())
        digest.update(make_plan(*ends, matched(seed)).to_json())
    for shape in SHAPES:
        large = match_graphs(*(read(*end) for end in large_ends(shape, 400)))
        digest.update(make_plan(*ends, large).to_json())
    print(digest.hexdigest())  # noqa: T201  # what the other process reads


def test_every_change_family_and_reason_comes_up():
    cases = [drawn(seed) for seed in SEEDS]
    assert {one.family for one in cases} == {*FAMILIES}
    assert {name for one in cases for name in one.refactorings} == {*CHANGES}
    assert {len(one.refactorings) for one in cases} == {1, 2, 3, 4, 5}
    reasons = {reason for one in cases for reason in one.undecidable.values()}
    assert reasons == {"twins", "position", "number", "replaced", "layout", "square", "tied"}
    assert len({one.styles for one in cases}) > 12


def test_shapes_and_dtypes_come_out_as_the_target_has_them():
    for seed in SEEDS:
        one = drawn(seed)
        for key, origin in one.truth.items():
            specs = tuple(one.source.specs[source] for source in origin.sources)
            assert not specs or infer_chain(origin.ops, specs) == (one.target.specs[key],), (seed, key)


def test_a_source_leads_to_one_target_unless_it_is_cut_or_copied():
    for seed in SEEDS:
        one = drawn(seed)
        if "untie" in one.refactorings:
            continue
        uses = Counter(
            source
            for origin in one.truth.values()
            if not any(isinstance(op, Cut) for op in origin.ops)
            for source in origin.sources
        )
        assert set(uses.values()) <= {1}, seed


def test_the_truth_speaks_of_every_tensor_but_hyperparameters():
    for seed in SEEDS:
        one = drawn(seed)
        for key in one.target.specs.keys() - one.truth.keys():
            assert one.target.specs[key].shape == (), (seed, key)
        assert one.undecidable.keys() <= one.truth.keys()


# The layouts, against real ones.


def seen(graph):
    """Every tensor by a walk to it, with its name and its spec; a slot by its variable's."""
    owners = {slot.node: (slot.kind, slot.variable) for optimizer in graph.optimizers for slot in optimizer.slots}

    def walk(number):
        return graph.paths[number] if number not in owners else (owners[number][0], *graph.paths[owners[number][1]])

    return {
        (walk(number), role): (node.full_name, graph.specs[key])
        for number, node in enumerate(graph.nodes)
        for role, key in node.tensors.items()
    }


def edges_of(graph):
    """Every edge that leads to something with tensors, by the walk to its start."""
    holders = {
        number for number, _ in enumerate(graph.nodes) if any(True for _ in graph.keys_below(number))
    } - graph.slot_nodes
    return {
        (graph.paths[number], label)
        for number, node in enumerate(graph.nodes)
        for label, child in node.children.items()
        if child in holders and number in holders
    }


def check_layout(design, checkpoint, tmp_path):
    with Bundle.open(checkpoint.write(str(tmp_path / "real"))) as bundle:
        real = ObjectGraph.from_bundle(bundle)
    made = lay(design).graph
    assert seen(made) == seen(real)
    assert edges_of(made) == edges_of(real)
    assert [o.generation for o in made.optimizers] == [o.generation for o in real.optimizers]


def layers_of(framework):
    """A functional model with a layer of most types, and its parts."""
    layers = framework.layers
    words = framework.Input((5,), dtype="int32")
    values = layers.Embedding(11, 4, name="words")(words)
    values = layers.MultiHeadAttention(2, 2)(values, values)
    values = layers.LSTM(3)(values)
    values = layers.Dropout(0.1)(values)
    values = layers.Dense(6)(values)
    values = layers.Reshape((1, 2, 3))(values)
    values = layers.Conv2D(2, 1)(values)
    values = layers.BatchNormalization()(values)
    values = layers.Flatten()(values)
    model = framework.Model(words, layers.Dense(2, name="head")(values))
    parts = [
        embedding(11, 4),
        multi_head(4, 2),
        lstm(4, 3),
        dense(3, 6),
        conv(1, 3, 2),
        batch_norm(2),
        dense(4, 2),
    ]
    for part, after in zip(parts, (0, 0, 1, 1, 0, 1, 0), strict=True):
        part.after = after
    parts[0].given, parts[-1].given = "words", "head"
    return model, Part("checkpoint", {"model": listed("functional", parts, "flow")})


def test_a_functional_model_of_keras_3_looks_like_a_real_one(tmp_path):
    import keras
    import tensorflow as tf

    keras.backend.clear_session()
    model, root = layers_of(keras)
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    design = Design(root, "keras3", "given", states=(State("optimizer", (0,), "keras-3", "adam"),))
    check_layout(design, tf.train.Checkpoint(model=model, optimizer=optimizer), tmp_path)


@pytest.mark.parametrize("generation", ["keras-2.11", "legacy"])
@pytest.mark.parametrize("algorithm", ["adam", "sgd"])
def test_a_functional_model_of_keras_2_looks_like_a_real_one(tmp_path, generation, algorithm):
    import tensorflow as tf
    import tf_keras

    tf_keras.backend.clear_session()
    model, root = layers_of(tf_keras)
    package = tf_keras.optimizers if generation == "keras-2.11" else tf_keras.optimizers.legacy
    optimizer = package.Adam() if algorithm == "adam" else package.SGD(momentum=0.9)
    (optimizer.build if generation == "keras-2.11" else optimizer._create_all_weights)(model.trainable_variables)
    design = Design(root, "keras2", "given", states=(State("optimizer", (0,), generation, algorithm, fitted=False),))
    check_layout(design, tf.train.Checkpoint(model=model, optimizer=optimizer), tmp_path)


def test_lists_of_layers_that_keras_3_does_not_follow_look_as_in_a_real_checkpoint(tmp_path):
    import keras
    import tensorflow as tf

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [keras.layers.Dense(3), keras.layers.Dense(3)]
            self.head = keras.layers.Dense(2)

        def build(self, _):
            for layer in (*self.blocks, self.head):
                layer.build((None, 3))

    keras.backend.clear_session()
    model = Net()
    model.build((None, 3))
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    net = Part("net", {"blocks": listed("blocks", [dense(3, 3), dense(3, 3)]), "head": dense(3, 2)})
    state = State("optimizer", (0,), "keras-3", "adam")
    design = Design(Part("checkpoint", {"model": net}), "keras3", "auto", states=(state,), hides_lists=True)
    check_layout(design, tf.train.Checkpoint(model=model, optimizer=optimizer), tmp_path)


def test_a_module_looks_like_a_real_one(tmp_path):
    import keras
    import tensorflow as tf

    module, block = tf.Module(), tf.Module()
    block.w, block.b = tf.Variable(tf.zeros((2, 3))), tf.Variable(tf.zeros(3))
    module.steps = [block]
    module.a = tf.Variable(tf.zeros(4))
    optimizer = keras.optimizers.SGD(momentum=0.9)
    optimizer.build(list(module.trainable_variables))
    part = dense(2, 3)
    root = Part("checkpoint", {"model": Part("net", {"a": Weight((4,)), "steps": listed("steps", [part])})})
    state = State("optimizer", (0,), "keras-3", "sgd")
    design = Design(root, "module", "none", roles="short", states=(state,))
    check_layout(design, tf.train.Checkpoint(model=module, optimizer=optimizer), tmp_path)


# Matching on them.


def test_each_target_is_in_one_place():
    for seed in SEEDS:
        found = matched(seed)
        places = [
            *(step.target for step in found.steps),
            *(key for question in found.questions for key in question.targets),
            *(item.key for item in found.unmatched_target),
        ]
        assert sorted(places) == sorted(drawn(seed).target.specs), seed


def test_nothing_is_decided_wrongly_and_nothing_that_nobody_can_know():
    failed = Counter()
    for seed in SEEDS:
        findings = judge(drawn(seed), matched(seed))
        failed.update({finding.undecidable or "wrong" for finding in findings if finding.is_failure})
        failed["dropped"] += any(True for _ in wrong_drops(drawn(seed), matched(seed)))
    assert not +failed
