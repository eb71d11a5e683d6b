"""Every way in which a restore fails, made for real; what TensorFlow says of it, often nothing, and what the doctor.

python examples/failed_restores.py    prints the tables that are kept in failed_restores.md
"""

import contextlib
import gc
import logging
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from ckptmigrate.verify import diagnose

SIZE = 4
"""All layers map so many features to as many: shapes do not tell one from another."""


# The models, old and new: all with random values.


class Pair(tf.Module):
    """A kernel and a bias, at attributes with these names."""

    def __init__(self, kernel="w", bias="b"):
        super().__init__()
        setattr(self, kernel, tf.Variable(tf.random.normal([SIZE, SIZE]), name=kernel))
        setattr(self, bias, tf.Variable(tf.random.normal([SIZE]), name=bias))


class WithHead(Pair):
    """The same with a head that was added later."""

    def __init__(self):
        super().__init__()
        self.head = tf.Variable(tf.random.normal([SIZE, 2]), name="head")


class Stack(tf.Module):
    """A list of layers that are alike."""

    def __init__(self, length):
        super().__init__()
        self.layers = [Pair() for _ in range(length)]


class Vision(tf.Module):
    """A model of something else."""

    def __init__(self):
        super().__init__()
        self.stem = tf.Variable(tf.random.normal([3, 3, 1, 8]), name="stem")
        self.stages = [tf.Variable(tf.random.normal([3, 3, 8, 8]), name=f"stage_{i}") for i in range(3)]


class ListOfLayers(keras.layers.Layer):
    """Three layers in a list. TensorFlow's checkpoint does not follow the lists of Keras 3."""

    def __init__(self):
        super().__init__()
        self.steps = [dense(keras) for _ in range(3)]

    def build(self, shape):
        for step in self.steps:
            step.build(shape)

    def call(self, inputs):
        for step in self.steps:
            inputs = step(inputs)
        return inputs


class AttributesOfLayers(ListOfLayers):
    """The same layers, each at an attribute too: what `ListOfLayers` should have been."""

    def __init__(self):
        super().__init__()
        for number, step in enumerate(self.steps):
            setattr(self, f"step_{number}", step)


def dense(framework, name=None):
    return framework.layers.Dense(SIZE, activation="tanh", bias_initializer="random_normal", name=name)


def sequential(framework, *layers):
    """A Sequential of these layers, or of so many Dense."""
    made = [dense(framework) for _ in range(layers[0])] if layers and isinstance(layers[0], int) else layers
    return framework.Sequential([framework.Input([SIZE]), *made])


def functional(framework):
    inputs = framework.Input([SIZE])
    return framework.Model(inputs, dense(framework, "out")(dense(framework, "hidden")(inputs)))


def subclassed(framework, *, built=True):
    class Net(framework.Model):
        def __init__(self):
            super().__init__()
            self.hidden = dense(framework, "hidden")
            self.out = dense(framework, "out")

        def call(self, inputs):
            return self.out(self.hidden(inputs))

    model = Net()
    if built:
        model(tf.zeros([1, SIZE]))
    return model


def frozen(model, count):
    """A model whose first layers are not trained."""
    for layer in model.layers[:count]:
        layer.trainable = False
    return model


def of(model, optimizer=None, *, built=True):
    """The checkpoint of a model, and of the optimizer that trains it."""
    if optimizer is None:
        return tf.train.Checkpoint(model=model)
    if built and isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer):
        optimizer._create_all_weights(model.trainable_variables)  # noqa: SLF001  # a step is the only public way
    elif built:
        optimizer.build(model.trainable_variables)
    return tf.train.Checkpoint(model=model, optimizer=optimizer)


def train(checkpoint):
    """One step on data that are always the same."""
    data = tf.reshape(tf.linspace(-1.0, 1.0, 2 * SIZE), [2, SIZE])
    variables = checkpoint.model.trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((checkpoint.model(data) - 0.3) ** 2)
    tensors = [variable.value if isinstance(variable, keras.Variable) else variable for variable in variables]
    checkpoint.optimizer.apply_gradients(zip(tape.gradient(loss, tensors), variables, strict=True))
    return checkpoint


# What the old program left behind. Each writes into a folder and gives the path that the person restores.


def saved(build):
    """What most do: `checkpoint.save`, and the path that it returns; after a step, where there is an optimizer."""

    def save(folder):
        checkpoint = build()
        return (train(checkpoint) if hasattr(checkpoint, "optimizer") else checkpoint).save(f"{folder}/ckpt")

    return save


def written(folder):
    return of(Pair()).write(f"{folder}/ckpt")


def named_without_number(folder):
    of(Pair()).save(f"{folder}/my_checkpoint")
    return f"{folder}/my_checkpoint"


def named_by_directory(folder):
    of(Pair()).save(f"{folder}/ckpt")
    return folder


def named_by_file(suffix, folder):
    return of(Pair()).save(f"{folder}/ckpt") + suffix


def without_a_shard(folder):
    """A checkpoint in several data files, of which one did not arrive."""
    policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=100)
    options = tf.train.CheckpointOptions(experimental_sharding_callback=policy)
    prefix = of(Stack(3)).save(f"{folder}/ckpt", options=options)
    Path(f"{prefix}.data-00001-of-00003").unlink()
    return prefix


def cut_short(folder):
    """A checkpoint whose index was still being written."""
    prefix = of(Pair()).save(f"{folder}/ckpt")
    index = Path(f"{prefix}.index")
    index.write_bytes(index.read_bytes()[:100])
    return prefix


def tf1_saver(folder):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for layer in ("hidden", "out"):
            tf.compat.v1.get_variable(f"net/{layer}/kernel", [SIZE, SIZE])
            tf.compat.v1.get_variable(f"net/{layer}/bias", [SIZE])
        session.run(tf.compat.v1.global_variables_initializer())
        return tf.compat.v1.train.Saver().save(session, f"{folder}/model.ckpt", write_meta_graph=False)


def saved_model(folder):
    tf.saved_model.save(Pair(), folder)
    return folder


def weights_file(folder):
    sequential(keras, 2).save_weights(f"{folder}/model.weights.h5")
    return f"{folder}/model.weights.h5"


def keras_archive(folder):
    sequential(keras, 2).save(f"{folder}/model.keras")
    return f"{folder}/model.keras"


@dataclass(frozen=True)
class Scenario:
    """A restore that fails, or that only seems to succeed.

    Attributes:
        name: Its name.
        kind: What the doctor calls it.
        says: What happened.
        save: The old program: writes into a folder, and gives the path that the person restores.
        build: The new program: makes the checkpoint that is restored.
        call: How it is restored: ``restore`` or ``read``.
    """

    name: str
    kind: str
    says: str
    save: Callable[[str], str]
    build: Callable[[], tf.train.Checkpoint]
    call: str = "restore"


SCENARIOS = (
    Scenario(
        "without-number",
        "path-without-number",
        "`save('./my_checkpoint')`, then `restore('./my_checkpoint')`",
        named_without_number,
        lambda: of(Pair()),
    ),
    Scenario(
        "directory",
        "path-is-directory",
        "`restore` of the directory that the checkpoint is in",
        named_by_directory,
        lambda: of(Pair()),
    ),
    Scenario(
        "index-file",
        "path-is-index-file",
        "`restore` of the file `ckpt-1.index`",
        partial(named_by_file, ".index"),
        lambda: of(Pair()),
    ),
    Scenario(
        "data-file",
        "path-is-data-file",
        "`restore` of the file `ckpt-1.data-00000-of-00001`",
        partial(named_by_file, ".data-00000-of-00001"),
        lambda: of(Pair()),
    ),
    Scenario(
        "saved-model",
        "saved-model",
        "`restore` of a SavedModel's directory, by `Checkpoint(model=model)`",
        saved_model,
        lambda: of(Pair()),
    ),
    Scenario(
        "weights-file",
        "weights-file",
        "`restore` of a file `.weights.h5`",
        weights_file,
        lambda: of(sequential(keras, 2)),
    ),
    Scenario(
        "keras-archive",
        "keras-archive",
        "`restore` of a file `.keras`",
        keras_archive,
        lambda: of(sequential(keras, 2)),
    ),
    Scenario(
        "missing-shard",
        "incomplete",
        "one of the checkpoint's data files is not there",
        without_a_shard,
        lambda: of(Stack(3)),
    ),
    Scenario(
        "truncated-index",
        "damaged",
        "the checkpoint's index is cut short",
        cut_short,
        lambda: of(Pair()),
    ),
    Scenario(
        "restore-of-write",
        "written-not-saved",
        "`restore` of what `write` wrote",
        written,
        lambda: of(Pair()),
    ),
    Scenario(
        "read-of-save",
        "saved-not-written",
        "`read` of what `save` wrote",
        saved(lambda: of(Pair())),
        lambda: of(Pair()),
        "read",
    ),
    Scenario(
        "root-to-attribute",
        "other-root",
        "saved as `Checkpoint(model)`, restored by `Checkpoint(model=model)`",
        saved(lambda: tf.train.Checkpoint(Pair())),
        lambda: of(Pair()),
    ),
    Scenario(
        "attribute-to-root",
        "other-root",
        "saved as `Checkpoint(model=model)`, restored by `Checkpoint(model)`",
        saved(lambda: of(Pair())),
        lambda: tf.train.Checkpoint(Pair()),
    ),
    Scenario(
        "optimizer-left-out",
        "optimizer-left-out",
        "the new `Checkpoint` has the model and not its optimizer",
        saved(lambda: of(sequential(keras, 2), keras.optimizers.Adam())),
        lambda: of(sequential(keras, 2)),
    ),
    Scenario(
        "optimizer-not-built",
        "optimizer-not-built",
        "the new optimizer has no slots yet",
        saved(lambda: of(sequential(keras, 2), keras.optimizers.Adam())),
        lambda: of(sequential(keras, 2), keras.optimizers.Adam(), built=False),
    ),
    Scenario(
        "legacy-optimizer",
        "legacy-optimizer",
        "saved with `tf_keras.optimizers.legacy.Adam`, restored into `tf_keras.optimizers.Adam`",
        saved(lambda: of(sequential(tf_keras, 2), tf_keras.optimizers.legacy.Adam())),
        lambda: of(sequential(tf_keras, 2), tf_keras.optimizers.Adam()),
    ),
    Scenario(
        "mixed-precision",
        "mixed-precision",
        "the new optimizer is in a `LossScaleOptimizer`",
        saved(lambda: of(sequential(keras, 2), keras.optimizers.Adam())),
        lambda: of(sequential(keras, 2), keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())),
    ),
    Scenario(
        "model-not-built",
        "model-not-built",
        "the layers of the new model have no weights yet",
        saved(lambda: of(subclassed(keras))),
        lambda: of(subclassed(keras, built=False)),
    ),
    Scenario(
        "renamed-attribute",
        "renamed-attribute",
        "`self.w` is `self.kernel` now",
        saved(lambda: of(Pair())),
        lambda: of(Pair(kernel="kernel")),
    ),
    Scenario(
        "item-inserted",
        "list-changed",
        "a layer of the same shape more in the list",
        saved(lambda: of(Stack(3))),
        lambda: of(Stack(4)),
    ),
    Scenario(
        "item-removed",
        "list-changed",
        "a layer of the same shape less in the list",
        saved(lambda: of(sequential(keras, 3))),
        lambda: of(sequential(keras, 2)),
    ),
    Scenario(
        "subclassed-to-functional",
        "functional-or-subclassed",
        "the layers were attributes of a class, and are in a functional model now",
        saved(lambda: of(subclassed(keras))),
        lambda: of(functional(keras)),
    ),
    Scenario(
        "keras-2-to-3",
        "keras-2-to-3",
        "saved by Keras 2, restored by Keras 3",
        saved(lambda: of(functional(tf_keras), tf_keras.optimizers.Adam())),
        lambda: of(functional(keras), keras.optimizers.Adam()),
    ),
    Scenario(
        "layers-in-a-list",
        "untracked",
        "a layer of Keras 3 has its layers in a plain list, in the old program and in the new one",
        saved(lambda: of(sequential(keras, ListOfLayers(), dense(keras)))),
        lambda: of(sequential(keras, ListOfLayers(), dense(keras))),
    ),
    Scenario(
        "frozen-weights",
        "trained-weights-changed",
        "the first layer is frozen in the new program, and the optimizer has the rest",
        saved(lambda: of(sequential(keras, 3), keras.optimizers.Adam())),
        lambda: of(frozen(sequential(keras, 3), 1), keras.optimizers.Adam()),
    ),
    Scenario(
        "tf1-names",
        "name-based",
        "a file of TensorFlow 1's `Saver`, and a model whose variables have other names",
        tf1_saver,
        lambda: of(functional(keras)),
    ),
    Scenario(
        "expect-partial",
        "not-in-checkpoint",
        "the model has a new head; with `expect_partial` nobody hears of it",
        saved(lambda: of(Pair())),
        lambda: of(WithHead()),
    ),
    Scenario(
        "another-model",
        "another-model",
        "the checkpoint of another model altogether",
        saved(lambda: of(Vision())),
        lambda: of(functional(keras)),
    ),
)


# What TensorFlow says

LADDER = ("assert_nontrivial_match", "assert_existing_objects_matched", "assert_consumed")


@dataclass(frozen=True)
class Said:
    """TensorFlow's words for one restore, shortened.

    Attributes:
        raised: What `restore` raised; empty if it returned.
        rungs: What each assertion said; empty where it passed.
        logged: What is logged where no assertion is made, as most programs do; nothing with `expect_partial`.
    """

    raised: str = ""
    rungs: dict[str, str] = field(default_factory=dict)
    logged: tuple[str, ...] = ()

    def __str__(self):
        if self.raised:
            return f"raises {self.raised}"
        passed = [f"`{rung}`" for rung, said in self.rungs.items() if not said]
        failed = {}
        for rung, said in self.rungs.items():
            if said:
                failed.setdefault(said, []).append(f"`{rung}`")
        parts = [f"{', '.join(passed)} pass{'es' if len(passed) == 1 else ''}"] if passed else []
        parts += [f"{', '.join(rungs)}: {said}" for said, rungs in failed.items()]
        more = f" and {len(self.logged) - 1} more" if len(self.logged) > 1 else ""
        parts.append(
            f"without an assertion logs: {self.logged[0]}{more}" if self.logged else "without an assertion says nothing"
        )
        return "; ".join(parts)


def tensorflow_says(path, build, call="restore"):
    """Restore for real, twice: with the assertions, and without."""
    rungs = {}
    try:
        checkpoint = build()
        status = getattr(checkpoint, call)(path)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what a person sees
        return Said(raised=f"{type(error).__name__}: {shorten(str(error), path)}")
    for rung in LADDER:
        try:
            getattr(status, rung)()
            rungs[rung] = ""
        except AssertionError as error:
            rungs[rung] = shorten(str(error), path)
    # TensorFlow warns of what was not used when the last one who knows of it is gone.
    status.expect_partial()
    del checkpoint, status
    gc.collect()
    with logged() as lines:
        checkpoint = build()
        getattr(checkpoint, call)(path)
        del checkpoint
        gc.collect()
    return Said("", rungs, tuple(shorten(line, path) for line in lines if not line.startswith("Detecting that")))


def shorten(text, path):
    """What a message says before it lists objects with their values; paths without where they are."""
    text = re.sub(r"\{\{.*?\}\} ", "", text.replace(f"{Path(path).parent}/", ""))
    for end in _LISTS:
        text = text.partition(end)[0]
    return " ".join(text.split()).removesuffix(".")


_LISTS = (" Showing ", ": attributes {", ": defaultdict(", ": \n", "\n", " [Op:", " The following objects", ", e.g.:")


@contextlib.contextmanager
def logged():
    """The lines that TensorFlow logs meanwhile."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = tf.get_logger()
    before = logger.handlers, logger.level
    logger.handlers = [handler]
    logger.setLevel(logging.WARNING)
    try:
        yield lines
    finally:
        logger.handlers, level = before
        logger.setLevel(level)


# A check that is often seen, and tells nothing


def one_more_step():
    """What "the weights changed after one more step" says with and without a restore, and what does tell.

    Gives for each of the two programs: whether the weights changed, and whether they are what one more step makes
    of the program that was never interrupted.
    """

    def make():
        return of(sequential(keras, 2), keras.optimizers.Adam())

    def weights(checkpoint):
        return [weight.numpy() for weight in checkpoint.model.weights]

    def equal(left, right):
        return all(map(np.array_equal, left, right))

    with tempfile.TemporaryDirectory() as folder:
        uninterrupted = train(make())
        path = uninterrupted.save(f"{folder}/ckpt")
        train(uninterrupted)
        programs = {}
        for name in ("without a restore", "restored"):
            checkpoint = make()
            if name == "restored":
                checkpoint.restore(path).assert_consumed()
            before = weights(checkpoint)
            train(checkpoint)
            after = weights(checkpoint)
            programs[name] = (not equal(before, after), equal(after, weights(uninterrupted)))
    return programs


def rows(folder):
    """A row of the table for each scenario: what happened, what TensorFlow says, and what the doctor."""
    for scenario in SCENARIOS:
        place = Path(folder) / scenario.name
        place.mkdir()
        path = scenario.save(str(place))
        said = tensorflow_says(path, scenario.build, scenario.call)
        (finding,) = diagnose(path, scenario.build, call=scenario.call).findings
        yield scenario.says, str(said), f"*{finding.kind}*: {shorten(finding.what, path)}"


def table():
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            "# What is said of a restore that failed",
            "",
            "Each was made by `python examples/failed_restores.py`, which prints this page. Most programs make no",
            "assertion; with `expect_partial()` nothing is logged either. The doctor goes on with the tensors, the",
            "likely reason, and commands or code that mend it.",
            "",
            f"TensorFlow {tf.__version__}, Keras {keras.__version__}, tf_keras {tf_keras.__version__}.",
            "",
            "| what happened | TensorFlow | `ckptmigrate doctor` |",
            "|---|---|---|",
        ]
        lines += [f"| {' | '.join(row)} |" for row in rows(folder)]
    lines += [
        "",
        "A check that is often seen: the weights changed after one more step. It passes without any restore.",
        "What tells is that they are what the program that was never interrupted has after that step.",
        "",
        "| | weights changed | equal to the uninterrupted run |",
        "|---|---|---|",
    ]
    said = {True: "yes", False: "no"}
    lines += [f"| {name} | {said[changed]} | {said[same]} |" for name, (changed, same) in one_more_step().items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
