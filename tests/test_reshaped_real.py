"""Real models whose layers were cut, joined, transposed or grown: answered, applied, restored, and computed again."""

import numpy as np
import pytest
import tensorflow as tf

from ckptmigrate import Bundle, apply_plan, match_graphs, plan_bundles, verify_checkpoint
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.questioner import say

keras = tf.keras

WIDTH = 8
INPUTS = np.random.default_rng(0).standard_normal((2, 5, WIDTH)).astype(np.float32)
TOKENS = np.arange(10).reshape(2, 5)


class Dense(tf.Module):
    """A layer whose kernel may be stored the other way round."""

    def __init__(self, inputs, outputs, *, turned=False):
        super().__init__()
        self.turned = turned
        shape = (outputs, inputs) if turned else (inputs, outputs)
        self.kernel = tf.Variable(tf.random.normal(shape))
        self.bias = tf.Variable(tf.random.normal((outputs,)))

    def __call__(self, inputs):
        return tf.tensordot(inputs, tf.transpose(self.kernel) if self.turned else self.kernel, 1) + self.bias


class Attention(tf.Module):
    """Attention with three projections, or with one that holds them one after the other."""

    def __init__(self, *, fused):
        super().__init__()
        self.fused = fused
        if fused:
            self.qkv = Dense(WIDTH, 3 * WIDTH)
        else:
            self.query, self.key, self.value = (Dense(WIDTH, WIDTH) for _ in range(3))
        self.out = Dense(WIDTH, WIDTH)

    def __call__(self, inputs):
        if self.fused:
            query, key, value = tf.split(self.qkv(inputs), 3, axis=-1)
        else:
            query, key, value = self.query(inputs), self.key(inputs), self.value(inputs)
        return self.out(tf.nn.softmax(tf.matmul(query, key, transpose_b=True)) @ value)


class Encoder(tf.Module):
    """Some attentions, one after the other."""

    def __init__(self, *, fused):
        super().__init__()
        self.blocks = [Attention(fused=fused) for _ in range(3)]

    def __call__(self, inputs):
        for block in self.blocks:
            inputs = inputs + block(inputs)
        return inputs


class Head(tf.Module):
    """Two layers whose kernels are stored one way or the other."""

    def __init__(self, *, turned):
        super().__init__()
        self.hidden = Dense(WIDTH, 12, turned=turned)
        self.classes = Dense(12, 3, turned=turned)

    def __call__(self, inputs):
        return self.classes(tf.nn.relu(self.hidden(inputs)))


def tracked(model):
    """A checkpoint of a model with an optimizer whose slots are built and are not zero."""
    variables = list(model.trainable_variables)
    optimizer = keras.optimizers.Adam()
    optimizer.build(variables)
    for number, slot in enumerate(optimizer.variables[2:]):
        slot.assign(tf.ones_like(slot) * number)
    return tf.train.Checkpoint(model=model, optimizer=optimizer)


def migrate(tmp_path, old, new, *, answers):
    """From one model to another, with the first answer to each question and a yes to what is proposed."""
    prefixes = tracked(old).write(str(tmp_path / "old")), tracked(new).write(str(tmp_path / "new"))
    with Bundle.open(prefixes[0]) as source, Bundle.open(prefixes[1]) as target:
        graphs = ObjectGraph.from_bundle(source), ObjectGraph.from_bundle(target)
        questions = match_graphs(*graphs).questions
        assert len(questions) == answers
        rules = tuple(rule for question in questions for rule in say(question.hypotheses[0], *graphs))
        plan = plan_bundles(source, target, rules, yes_proposed=True)
    assert plan.is_complete
    out = str(tmp_path / "migrated")
    apply_plan(plan, out)
    report = verify_checkpoint(out, prefixes[1], plan=plan)
    assert report.passed, report
    tracked(new).read(out).assert_nontrivial_match().assert_existing_objects_matched().assert_consumed()
    return plan


@pytest.mark.parametrize("fused", [True, False])
def test_attention_with_its_projections_cut_or_joined_computes_the_same(tmp_path, fused):
    old, new = Encoder(fused=fused), Encoder(fused=not fused)
    migrate(tmp_path, old, new, answers=1)
    np.testing.assert_allclose(new(INPUTS), old(INPUTS), rtol=1e-5, atol=1e-5)


def test_layers_stored_the_other_way_round_compute_the_same(tmp_path):
    old, new = Head(turned=False), Head(turned=True)
    migrate(tmp_path, old, new, answers=0)
    np.testing.assert_allclose(new(INPUTS), old(INPUTS), rtol=1e-5, atol=1e-5)


def test_a_vocabulary_that_grew_keeps_its_rows(tmp_path):
    def model(rows):
        layers = keras.layers.Embedding(rows, WIDTH, name="tokens"), keras.layers.Dense(3, name="classes")
        built = keras.Sequential(layers)
        built.build((None, 5))
        return built

    old, new = model(1000), model(1200)
    fresh = np.array(new.layers[0].embeddings)
    migrate(tmp_path, old, new, answers=0)
    np.testing.assert_array_equal(new(TOKENS), old(TOKENS))
    np.testing.assert_array_equal(new.layers[0].embeddings[1000:], fresh[1000:])
