"""Packs on checkpoints that TensorFlow and Keras wrote: what the new model restores computes what the old one did."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from corpus import corpus_prefixes

from ckptmigrate import Bundle, Endpoint, ObjectGraph, apply_plan, make_plan, match_graphs, verify_checkpoint
from ckptmigrate.graph.template import write_checkpoint
from ckptmigrate.packs import fit_packs, read_pack

tf1 = tf.compat.v1


def plan(tmp_path: Path, source, target, *packs, **allowed):
    """From a prefix to a live checkpoint, by packs; with the packs' notes."""
    template = write_checkpoint(target, str(tmp_path / "template"), where="the new model").prefix
    with Bundle.open(source) as theirs, Bundle.open(template) as ours:
        graphs = ObjectGraph.from_bundle(theirs), ObjectGraph.from_bundle(ours)
        fitted = fit_packs(map(read_pack, packs), *graphs)
        matching = match_graphs(*graphs, fitted.rules)
        return make_plan(Endpoint.of(theirs), Endpoint.of(ours), matching, **allowed), fitted.notes


def migrate(tmp_path, source, target, *packs, **allowed):
    """Plan, apply, verify, and restore into the live checkpoint."""
    made, _ = plan(tmp_path, source, target, *packs, **allowed)
    left = [*made.ambiguous, *made.unmatched_target, *made.unmatched_source]
    assert made.is_complete, (left, [step for step in made.steps if step.status == "proposed"])
    out = str(tmp_path / "migrated")
    apply_plan(made, out)
    assert verify_checkpoint(out, made.target.prefix, plan=made).passed
    target.restore(out).assert_nontrivial_match().assert_existing_objects_matched().assert_consumed()
    return made


def save_named(prefix, values):
    """A checkpoint as TensorFlow 1's Saver writes it."""
    with tf.Graph().as_default(), tf1.Session() as session:
        for name, value in values.items():
            tf1.get_variable(name, value.shape, initializer=tf1.constant_initializer(value))
        session.run(tf1.global_variables_initializer())
        return tf1.train.Saver().save(session, str(prefix), write_meta_graph=False)


def numbers(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32) / 2


# Keras 2 to Keras 3.


def convolutions(framework):
    layers = framework.layers
    given = framework.Input((6, 6, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(given)))
    y = layers.SeparableConv2D(4, 3, padding="same")(layers.DepthwiseConv2D(3, padding="same", name="deep")(x))
    x = layers.GlobalAveragePooling2D()(layers.Dropout(0.0)(layers.Add()([x, y])))
    x = layers.PReLU()(layers.LayerNormalization()(layers.Dense(4)(x)))
    return framework.Model(given, layers.Dense(4)(layers.Dense(4)(x)))


def sequences(framework):
    layers = framework.layers
    given = framework.Input((5,), dtype="int32")
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(layers.Embedding(20, 4)(given))
    x = layers.GRU(4, return_sequences=True)(x)
    x = layers.MultiHeadAttention(2, 2, name="attention")(x, x)
    return framework.Model(given, layers.SimpleRNN(3)(layers.TimeDistributed(layers.Dense(4))(x)))


def nested(framework):
    layers = framework.layers
    given = framework.Input((4,))
    inner = framework.Model(given, layers.Dense(4)(layers.Dense(4)(given)))
    row = framework.Sequential([layers.Dense(4), layers.Dropout(0.0), layers.Dense(4)])
    held = framework.Sequential([framework.Input((4,)), inner, layers.Dense(4), row])
    return framework.Model(given, layers.Dense(2)(held(inner(given))))


def sequential(framework):
    layers = framework.layers
    model = framework.Sequential([layers.Dense(4), layers.BatchNormalization(), layers.Dense(4), layers.Dense(2)])
    model.build((None, 4))
    return model


def subclassed(framework):
    class Model(framework.Model):
        def __init__(self):
            super().__init__()
            self.embedding = framework.layers.Embedding(20, 4)
            self.reader = framework.layers.LSTM(4)
            self.head = framework.layers.Dense(2)

        def call(self, given):
            return self.head(self.reader(self.embedding(given)))

    model = Model()
    model(np.zeros((1, 5), np.int32))
    return model


def data_of(model, make):
    if make in (sequences, subclassed):
        # No token twice: the two differ in how they square the gradients of rows that occur several times.
        return np.arange(20).reshape(4, 5)
    return numbers(4, *model.inputs[0].shape[1:])


@pytest.mark.parametrize("make", [convolutions, sequences, nested, sequential, subclassed])
@pytest.mark.parametrize("adam", [tf_keras.optimizers.Adam, tf_keras.optimizers.legacy.Adam])
def test_a_model_of_keras_2_trains_on_in_keras_3(tmp_path, make, adam):
    old = make(tf_keras)
    given = data_of(old, make)
    wanted = numbers(*old(given).shape, seed=1)
    # An epsilon of this size keeps gradients that are zero but for rounding from being scaled up.
    old.compile(adam(0.01, epsilon=0.001), "mse")
    old.fit(given, wanted, epochs=3, verbose=0)
    source = tf.train.Checkpoint(model=old, optimizer=old.optimizer).save(str(tmp_path / "old"))
    for _ in range(3):
        keras.layers.Dense(2).build((None, 2))  # numbers in automatic names start elsewhere
    new = make(keras)
    new.compile(keras.optimizers.Adam(0.01, epsilon=0.001), "mse")
    new.optimizer.build(new.trainable_variables)
    migrate(
        tmp_path,
        source,
        tf.train.Checkpoint(model=new, optimizer=new.optimizer),
        "keras2-to-keras3",
        yes_proposed=True,
    )
    np.testing.assert_allclose(new(given), old(given), atol=1e-5)
    old.fit(given, wanted, verbose=0, shuffle=False)
    new.fit(given, wanted, verbose=0, shuffle=False)
    np.testing.assert_allclose(new(given), old(given), atol=1e-4)


def row(framework, count):
    x = given = framework.Input((4,))
    for _ in range(count):
        x = framework.layers.Dense(4)(x)
    return framework.Model(given, x)


def test_a_layer_inserted_on_the_way_to_keras_3_is_not_taken_for_another(tmp_path):
    source = tf.train.Checkpoint(model=row(tf_keras, 5)).save(str(tmp_path / "old"))
    made, notes = plan(tmp_path, source, tf.train.Checkpoint(model=row(keras, 6)), "keras2-to-keras3")
    decided = [step for step in made.steps if step.sources and step.status != "proposed"]
    assert [step.target for step in decided] == ["save_counter/.ATTRIBUTES/VARIABLE_VALUE"]
    assert "are not the same: 6 (source), 7 (target)" in notes[0]


# Optimizers and precision.


@pytest.mark.parametrize(("framework", "adam"), [(tf_keras, tf_keras.optimizers.Adam), (keras, keras.optimizers.Adam)])
def test_a_legacy_optimizer_trains_on_as_a_new_one(tmp_path, framework, adam):
    given, wanted = numbers(4, 4), numbers(4, 2, seed=1)
    old = sequential(tf_keras)
    old.compile(tf_keras.optimizers.legacy.Adam(0.01), "mse")
    old.fit(given, wanted, epochs=3, verbose=0)
    source = tf.train.Checkpoint(model=old, optimizer=old.optimizer).save(str(tmp_path / "old"))
    new = sequential(framework)
    new.compile(adam(0.5), "mse")
    new.optimizer.build(new.trainable_variables)
    packs = ["legacy-to-new-optimizer", *(["keras2-to-keras3"] if framework is keras else [])]
    # The optimizer is the model's: it is in the checkpoint, and no keyword says it again.
    migrate(tmp_path, source, tf.train.Checkpoint(model=new), *packs, yes_proposed=True)
    assert float(new.optimizer.learning_rate) == pytest.approx(0.01)
    for model in (old, new):
        model.fit(given, wanted, verbose=0, shuffle=False)
    np.testing.assert_allclose(new(given), old(given), atol=1e-5)


@pytest.mark.parametrize("policy", ["bfloat16", "float16", "mixed_bfloat16", "mixed_float16"])
def test_a_model_goes_down_and_up_in_precision_with_its_optimizer(tmp_path, policy):
    def build(policy):
        keras.config.set_dtype_policy(policy)
        try:
            model = sequential(keras)
            model.compile("adam", "mse")
            model.optimizer.build(model.trainable_variables)
        finally:
            keras.config.set_dtype_policy("float32")
        return model, tf.train.Checkpoint(model=model, optimizer=model.optimizer)

    whole, checkpoint = build("float32")
    whole.fit(numbers(4, 4), numbers(4, 2, seed=1), verbose=0)
    source = checkpoint.save(str(tmp_path / "float32"))
    low, checkpoint = build(policy)
    packs = ("mixed-precision",) if "mixed" not in policy else ()
    (tmp_path / "down").mkdir()
    migrate(tmp_path / "down", source, checkpoint, *packs)
    for variable, other in zip(low.weights, whole.weights, strict=True):
        assert variable.dtype == ("float32" if "mixed" in policy else policy)
        np.testing.assert_array_equal(variable.numpy(), other.numpy().astype(variable.numpy().dtype))
    again, up = build("float32")
    (tmp_path / "up").mkdir()
    migrate(tmp_path / "up", checkpoint.save(str(tmp_path / "low")), up, *packs)
    for variable, other in zip(again.weights, low.weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), other.numpy().astype(np.float32))


def test_saved_weights_become_a_checkpoint_of_the_model_and_back(tmp_path):
    old, new, last = (convolutions(tf_keras) for _ in range(3))
    old.save_weights(str(tmp_path / "weights"), save_format="tf")
    migrate(tmp_path, str(tmp_path / "weights"), tf.train.Checkpoint(model=new), "reroot")
    given = numbers(2, 6, 6, 3)
    np.testing.assert_array_equal(new(given), old(given))
    (tmp_path / "back").mkdir()
    source = tf.train.Checkpoint(model=new).write(str(tmp_path / "back" / "new"))
    migrate(tmp_path / "back", source, tf.train.Checkpoint(last), "reroot")
    np.testing.assert_array_equal(last(given), old(given))


# TensorFlow 1.


def test_moving_averages_take_the_weights_places(tmp_path):
    with tf.Graph().as_default(), tf1.Session() as session:
        kernel = tf1.get_variable("head/kernel", initializer=numbers(3, 2))
        bias = tf1.get_variable("head/bias", initializer=numbers(2))
        step = tf1.train.get_or_create_global_step()
        averages = tf1.train.ExponentialMovingAverage(0.9)
        keep = averages.apply([kernel, bias])
        session.run(tf1.global_variables_initializer())
        session.run([kernel.assign_add(tf.ones_like(kernel)), bias.assign_add(tf.ones_like(bias))])
        session.run([keep, step.assign_add(1)])
        average = session.run([averages.average(kernel), averages.average(bias)])
        source = tf1.train.Saver().save(session, str(tmp_path / "old"))
    head = keras.layers.Dense(2, name="head")
    head.build((None, 3))
    made = migrate(tmp_path, source, tf.train.Checkpoint(head=head), "tf1-ema-to-weights", drop_unused=True)
    assert sorted(drop.source for drop in made.dropped) == ["global_step", "head/bias", "head/kernel"]
    np.testing.assert_array_equal(head.kernel, average[0])
    np.testing.assert_array_equal(head.bias, average[1])


def test_slims_layers_become_those_of_keras(tmp_path):
    values = {
        "Net/Conv_1/weights": numbers(3, 3, 2, 4),
        "Net/Conv_1/BatchNorm/beta": numbers(4, seed=1),
        "Net/Conv_1/BatchNorm/moving_mean": numbers(4, seed=2),
        "Net/Conv_1/BatchNorm/moving_variance": numbers(4, seed=3) ** 2,
        "Net/Deep/depthwise_weights": numbers(3, 3, 4, 1),
        "Net/Logits/weights": numbers(1, 1, 4, 2),
        "Net/Logits/biases": numbers(2, seed=4),
    }
    source = save_named(tmp_path / "slim", values)
    given = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="Conv_1")(given)
    x = keras.layers.BatchNormalization(scale=False, epsilon=0.001, name="Conv_1_bn")(x)
    x = keras.layers.DepthwiseConv2D(3, use_bias=False, name="Deep")(x)
    model = keras.Model(given, keras.layers.Conv2D(2, 1, name="Logits")(x))
    migrate(tmp_path, source, tf.train.Checkpoint(model=model), "tf-slim-batchnorm")
    data, values = numbers(1, 6, 6, 2), {name.removeprefix("Net/"): value for name, value in values.items()}
    x = tf.nn.conv2d(data, values["Conv_1/weights"], 1, "VALID")
    moments = values["Conv_1/BatchNorm/moving_mean"], values["Conv_1/BatchNorm/moving_variance"]
    x = tf.nn.batch_normalization(x, *moments, values["Conv_1/BatchNorm/beta"], None, 0.001)
    x = tf.nn.depthwise_conv2d(x, values["Deep/depthwise_weights"], (1, 1, 1, 1), "VALID")
    x = tf.nn.conv2d(x, values["Logits/weights"], 1, "VALID") + values["Logits/biases"]
    np.testing.assert_allclose(model(data), x, atol=1e-5)


def block_cell(values, inputs):
    """What the cell that stands in for cuDNN computes: `LSTMBlockCell` without a forget bias, step by step."""
    batch, steps, _ = inputs.shape
    units = values["bias"].size // 4
    state, hidden, none, outputs = tf.zeros((batch, units)), tf.zeros((batch, units)), tf.zeros(units), []
    for step in range(steps):
        made = tf.raw_ops.LSTMBlockCell(
            x=inputs[:, step],
            cs_prev=state,
            h_prev=hidden,
            w=values["kernel"],
            wci=none,
            wcf=none,
            wco=none,
            b=values["bias"],
            forget_bias=0.0,
        )
        state, hidden = made.cs, made.h
        outputs.append(hidden)
    return tf.stack(outputs, axis=1)


@pytest.mark.parametrize("framework", [keras, tf_keras])
def test_a_cudnn_lstm_of_two_layers_computes_the_same_in_keras(tmp_path, framework):
    cells = [{"kernel": numbers(3 + 4, 16), "bias": numbers(16)}, {"kernel": numbers(4 + 2, 8), "bias": numbers(8)}]
    named = {
        f"cudnn_lstm/rnn/multi_rnn_cell/cell_{number}/cudnn_compatible_lstm_cell/{part}": value
        for number, cell in enumerate(cells)
        for part, value in cell.items()
    }
    source = save_named(tmp_path / "cudnn", named)
    given = framework.Input((5, 3))
    x = framework.layers.LSTM(4, return_sequences=True, name="cudnn_lstm_0")(given)
    model = framework.Model(given, framework.layers.LSTM(2, return_sequences=True, name="cudnn_lstm_1")(x))
    made = migrate(tmp_path, source, tf.train.Checkpoint(model=model), "cudnn-lstm-to-keras")
    assert [step.status for step in made.steps].count("rule") == 6
    data = numbers(2, 5, 3)
    wanted = block_cell(cells[1], block_cell(cells[0], data))
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(model(data), wanted, atol=1e-5)


@pytest.mark.parametrize("framework", [keras, tf_keras])
def test_a_cudnn_lstm_in_both_directions_computes_the_same_in_keras(tmp_path, framework):
    ways = {
        way: {"kernel": numbers(3 + 4, 16, seed=n), "bias": numbers(16, seed=n)} for n, way in enumerate(("fw", "bw"))
    }
    place = "blstm/stack_bidirectional_rnn/cell_0/bidirectional_rnn"
    named = {
        f"{place}/{way}/cudnn_compatible_lstm_cell/{part}": value
        for way, cell in ways.items()
        for part, value in cell.items()
    }
    source = save_named(tmp_path / "cudnn", named)
    given = framework.Input((5, 3))
    lstm = framework.layers.LSTM(4, return_sequences=True, name="lstm")
    model = framework.Model(given, framework.layers.Bidirectional(lstm, name="blstm")(given))
    migrate(tmp_path, source, tf.train.Checkpoint(model=model), "cudnn-lstm-to-keras")
    data = numbers(2, 5, 3)
    both = [block_cell(ways["fw"], data), block_cell(ways["bw"], data[:, ::-1])[:, ::-1]]
    np.testing.assert_allclose(model(data), tf.concat(both, -1), atol=1e-5)


@pytest.mark.skipif("cloudml-housing-ckpt" not in corpus_prefixes(), reason="no corpus")
def test_a_real_canned_estimator_becomes_layers_of_keras(tmp_path):
    source = corpus_prefixes()["cloudml-housing-ckpt"]
    old = {name: tf.train.load_variable(source, name) for name, _ in tf.train.list_variables(source)}
    columns = sorted(name.split("/")[3] for name in old if name.endswith("_embedding/embedding_weights"))
    assert len(columns) == 5
    given = {column: keras.Input((), dtype="int32", name=column.removesuffix("_embedding")) for column in columns}
    rest = keras.Input((3,), name="numeric")

    def weights(column):
        return old[f"dnn/input_from_feature_columns/input_layer/{column}/embedding_weights"]

    embedded = [keras.layers.Embedding(*weights(c).shape, name=c)(given[c]) for c in columns]
    x = keras.layers.Concatenate()([*embedded, rest])
    assert x.shape[-1] == 15
    for number, units in enumerate((32, 22, 15)):
        x = keras.layers.Dense(units, activation="relu", name=f"hiddenlayer_{number}")(x)
        x = keras.layers.BatchNormalization(name=f"batchnorm_{number}")(x)
    model = keras.Model([*given.values(), rest], keras.layers.Dense(1, name="logits")(x))
    made = migrate(tmp_path, source, tf.train.Checkpoint(model=model), "estimator-canned-to-keras", drop_unused=True)
    assert all("/Adam" in drop.source or drop.source.startswith(("head/", "global_step")) for drop in made.dropped)
    numeric = numbers(2, 3)
    x = np.concatenate([*(weights(column)[[1, 0]] for column in columns), numeric], axis=1)
    for number in range(3):
        layer = f"dnn/hiddenlayer_{number}"
        x = np.maximum(x @ old[f"{layer}/kernel"] + old[f"{layer}/bias"], 0)
        norm = {v: old[f"{layer}/batchnorm_{number}/{v}"] for v in ("gamma", "beta", "moving_mean", "moving_variance")}
        x = (x - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 0.001) * norm["gamma"] + norm["beta"]
    x = x @ old["dnn/logits/kernel"] + old["dnn/logits/bias"]
    np.testing.assert_allclose(model([*(np.array([1, 0]) for _ in columns), numeric]), x, atol=1e-4)


# Transformers' GPT-2, in small: one block, with the names and the arithmetic of the two libraries.

WIDTH, HEADS, LENGTH, WORDS = 6, 2, 4, 9


class Old(tf.Module):
    """As ``TFGPT2Model`` calls its variables."""

    def __init__(self):
        super().__init__()
        shapes = {
            "wte/weight": (WORDS, WIDTH),
            "wpe/embeddings": (LENGTH, WIDTH),
            "h_._0/attn/c_attn/weight": (WIDTH, 3 * WIDTH),
            "h_._0/attn/c_attn/bias": (1, 3 * WIDTH),
            "h_._0/attn/c_proj/weight": (WIDTH, WIDTH),
            "h_._0/attn/c_proj/bias": (1, WIDTH),
            "h_._0/mlp/c_fc/weight": (WIDTH, 8),
            "h_._0/mlp/c_fc/bias": (1, 8),
            "h_._0/mlp/c_proj/weight": (8, WIDTH),
            "h_._0/mlp/c_proj/bias": (1, WIDTH),
            **{
                f"{norm}/{part}": (WIDTH,)
                for norm in ("h_._0/ln_1", "h_._0/ln_2", "ln_f")
                for part in ("gamma", "beta")
            },
        }
        self.held = {
            name.replace("/", "_"): tf.Variable(numbers(*shape, seed=number), name=f"tfgpt2_model/transformer/{name}")
            for number, (name, shape) in enumerate(shapes.items())
        }

    def __call__(self, tokens):
        held = {name.removeprefix("h_._0_"): variable for name, variable in self.held.items()}

        def norm(x, name):
            mean, variance = tf.nn.moments(x, [-1], keepdims=True)
            return tf.nn.batch_normalization(x, mean, variance, held[f"{name}_beta"], held[f"{name}_gamma"], 1e-5)

        def project(x, name):
            return tf.einsum("bsi,io->bso", x, held[f"{name}_weight"]) + held[f"{name}_bias"]

        x = tf.gather(held["wte_weight"], tokens) + held["wpe_embeddings"]
        fused = project(norm(x, "ln_1"), "attn_c_attn")
        q, k, v = (tf.reshape(part, (-1, LENGTH, HEADS, WIDTH // HEADS)) for part in tf.split(fused, 3, axis=-1))
        scores = tf.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(WIDTH / HEADS)
        scores += (1 - tf.linalg.band_part(tf.ones((LENGTH, LENGTH)), -1, 0)) * -1e9
        seen = tf.reshape(tf.einsum("bhqk,bkhd->bqhd", tf.nn.softmax(scores), v), (-1, LENGTH, WIDTH))
        x += project(seen, "attn_c_proj")
        x += project(tf.nn.gelu(project(norm(x, "ln_2"), "mlp_c_fc"), approximate=True), "mlp_c_proj")
        return norm(x, "ln_f")


class Block(keras.layers.Layer):
    """As a decoder layer of KerasHub calls its parts."""

    def __init__(self, name):
        super().__init__(name=name)
        layers = keras.layers
        self.attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name="self_attention")
        self.attention_norm = layers.LayerNormalization(epsilon=1e-5, name="self_attention_layer_norm")
        self.wide = layers.Dense(8, name="feedforward_intermediate_dense")
        self.narrow = layers.Dense(WIDTH, name="feedforward_output_dense")
        self.norm = layers.LayerNormalization(epsilon=1e-5, name="feedforward_layer_norm")

    def build(self, shape):
        # So that each variable is called by the layer that holds it, as KerasHub's are.
        self.attention.build(shape, shape)
        for layer in (self.attention_norm, self.norm, self.wide):
            layer.build(shape)
        self.narrow.build((*shape[:-1], 8))

    def call(self, x):
        normed = self.attention_norm(x)
        x = x + self.attention(normed, normed, use_causal_mask=True)
        return x + self.narrow(keras.ops.gelu(self.wide(self.norm(x)), approximate=True))


def test_a_fused_gpt_2_comes_apart(tmp_path):
    old = Old()
    source = tf.train.Checkpoint(model=old).write(str(tmp_path / "old"))
    tokens, positions = keras.Input((LENGTH,), dtype="int32"), keras.ops.arange(LENGTH)
    x = keras.layers.Embedding(WORDS, WIDTH, name="token_embedding")(tokens)
    placed = keras.layers.Embedding(LENGTH, WIDTH, name="position_embedding")
    placed.build(None)
    x = keras.layers.Lambda(lambda x: x + placed(positions))(x)
    x = Block("transformer_layer_0")(x)
    model = keras.Model(tokens, keras.layers.LayerNormalization(epsilon=1e-5, name="layer_norm")(x))
    given = np.array([[1, 5, 0, 8], [2, 2, 7, 3]])
    model(given)
    target = tf.train.Checkpoint(model=model, position=placed)
    made = migrate(tmp_path, source, target, "hf-tf-gpt2-to-keras-hub")
    assert sum("c_attn" in step.sources[0] for step in made.steps if step.sources) == 6
    np.testing.assert_allclose(model(given), old(given), atol=1e-5)
