"""What `lint` looks for, in words, with examples. The examples are the rules' tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Bad:
    """An example of what a rule finds.

    Attributes:
        source: The example, below an import of tensorflow.
        fixed: What it becomes by ``--fix``; None if it is left to a person.
        severity: If it is another than the rule's.
    """

    source: str
    fixed: str | None = None
    severity: Severity | None = None


@dataclass(frozen=True, slots=True)
class LintRule:
    """A rule.

    Attributes:
        id: How people name it.
        name: How SARIF names it.
        severity: ``error``: it cannot work. ``warning``: it can go wrong in silence. ``info``: know it.
        summary: What it finds, in one line.
        explanation: Why that is so, and what to do.
        good: Examples of what it does not find.
        bad: Examples of what it finds.
        is_asked_for: It speaks only where it is selected, or where the rules of a migration are given.
    """

    id: str
    name: str
    severity: Severity
    summary: str
    explanation: str
    good: tuple[str, ...]
    bad: tuple[Bad, ...]
    is_asked_for: bool = False


UNCHECKED = LintRule(
    "CM001",
    "unchecked-restore",
    "warning",
    "restores without asking whether it did",
    """\
`restore` and `read` of a tf.train.Checkpoint return a status, and raise nothing if only a part of the checkpoint fits,
or none of it: what has no place in the checkpoint keeps its initial value. Ask the status, or use
`ckptmigrate.restore(checkpoint, path)`, which compares every variable with the checkpoint.
`CheckpointManager.restore_or_initialize` asks nothing and returns no status.

`ckptmigrate.restore` looks at once: what it restores into has to be built, optimizers too. What TensorFlow would
restore later, as it is made, is a problem that it names.

Where only the name of a variable says that it is a checkpoint, it is told as info, and not edited.
A status that is returned, stored or passed on is somebody else's to ask.""",
    good=(
        """\
checkpoint = tf.train.Checkpoint(model=model)
checkpoint.restore("ckpts/run-12").assert_consumed()
""",
        """\
checkpoint = tf.train.Checkpoint(model=model)
status = checkpoint.restore("ckpts/run-12")
train_one_step(model)
status.assert_consumed()
""",
        """\
def load(checkpoint: tf.train.Checkpoint, path):
    return checkpoint.restore(path)
""",
        """\
saver = tf.compat.v1.train.Saver()
saver.restore(session, "model.ckpt")
""",
    ),
    bad=(
        Bad(
            """\
checkpoint = tf.train.Checkpoint(model=model)
checkpoint.restore("ckpts/run-12")
""",
            """\
checkpoint = tf.train.Checkpoint(model=model)
ckptmigrate.restore(checkpoint, "ckpts/run-12")
""",
        ),
        Bad(
            """\
class Trainer:
    def __init__(self, model):
        self.checkpoint = tf.train.Checkpoint(model=model)

    def load(self, path):
        status = self.checkpoint.read(
            save_path=path,  # what `write` wrote
        )
""",
            """\
class Trainer:
    def __init__(self, model):
        self.checkpoint = tf.train.Checkpoint(model=model)

    def load(self, path):
        status = ckptmigrate.restore(
            self.checkpoint, path=path,  # what `write` wrote
        )
""",
        ),
        Bad(
            """\
manager = tf.train.CheckpointManager(tf.train.Checkpoint(model=model), "ckpts", 3)
manager.restore_or_initialize()
"""
        ),
        Bad(
            """\
def load(ckpt, path):
    ckpt.restore(path)
""",
            severity="info",
        ),
    ),
)

EXPECT_PARTIAL = LintRule(
    "CM002",
    "expect-partial",
    "warning",
    "silences the only warning of a restore that did not fit",
    """\
`expect_partial()` asserts nothing. It switches off the warnings about what of the checkpoint was not used and about
what of the model was not restored, so that a model that got nothing at all looks like one that got everything. To say
that the checkpoint may hold more than the model asks for, and have the rest proven, use
`ckptmigrate.restore(checkpoint, path, expect_partial=True)`.""",
    good=(
        """\
checkpoint = tf.train.Checkpoint(model=model)
checkpoint.restore("ckpts/run-12").expect_partial().assert_existing_objects_matched()
""",
        """\
import ckptmigrate
checkpoint = tf.train.Checkpoint(model=model)
ckptmigrate.restore(checkpoint, "ckpts/run-12", expect_partial=True)
""",
    ),
    bad=(
        Bad(
            """\
checkpoint = tf.train.Checkpoint(model=model)
checkpoint.restore("ckpts/run-12").expect_partial()
""",
            """\
checkpoint = tf.train.Checkpoint(model=model)
ckptmigrate.restore(checkpoint, "ckpts/run-12", expect_partial=True)
""",
        ),
        Bad(
            """\
model.load_weights("ckpts/run-12").expect_partial()
"""
        ),
        Bad(
            """\
def quiet(status):
    status.expect_partial()
"""
        ),
    ),
)

WEAK = LintRule(
    "CM003",
    "weak-assertion",
    "info",
    "asserts less than it seems to",
    """\
`assert_nontrivial_match()` passes if a single variable was restored. `assert_existing_objects_matched()` is silent
about layers that are not built yet, about what of the checkpoint was not used, and about variables that no checkpoint
of this model would hold, such as those of layers in a plain list in Keras 3. `ckptmigrate.restore(checkpoint, path,
expect_partial=True)` compares every variable of the model with the checkpoint.

Keras 2's `load_weights` of a checkpoint asks for `assert_nontrivial_match()` and returns the status; Keras 3's loads no
checkpoints.""",
    good=(
        """\
checkpoint = tf.train.Checkpoint(model=model)
status = checkpoint.restore("ckpts/run-12")
status.assert_existing_objects_matched()
status.assert_consumed()
""",
    ),
    bad=(
        Bad(
            """\
checkpoint = tf.train.Checkpoint(model=model)
checkpoint.restore("ckpts/run-12").assert_existing_objects_matched()
"""
        ),
        Bad(
            """\
checkpoint = tf.train.Checkpoint(model=model)
status = checkpoint.restore("ckpts/run-12")
status.assert_nontrivial_match()
"""
        ),
        Bad(
            """\
model.load_weights(tf.train.latest_checkpoint("ckpts"))
"""
        ),
    ),
)

LENIENT_WEIGHTS = LintRule(
    "CM004",
    "lenient-load-weights",
    "warning",
    "leaves out what does not fit",
    """\
With `skip_mismatch=True`, `load_weights` leaves a layer as it was initialized if its weights have another shape or
number. With `by_name=True` it leaves every layer so whose name is not in the file; one changed name is enough, and
automatic names such as `dense_1` count what was built before. Neither raises. Write down what is to be left out, or
migrate the weights: `ckptmigrate plan` tells what leads where and `--init-new` what stays initial.""",
    good=(
        """\
model.load_weights("run.weights.h5")
""",
        """\
model.load_weights("run.h5", by_name=False, skip_mismatch=False)
""",
    ),
    bad=(
        Bad(
            """\
model.load_weights("run.weights.h5", skip_mismatch=True)
"""
        ),
        Bad(
            """\
model.load_weights("run.h5", by_name=True)
"""
        ),
    ),
)

STORED_NAMES = LintRule(
    "CM005",
    "stored-names",
    "info",
    "names in a checkpoint, written out in source",
    """\
The keys of an assignment map, and the names that are given to `load_variable` and to a reader's `get_tensor`, are those
that a checkpoint has. A migration that renames them makes this code stale. With `--rules rules.yaml` only those are
told that a rule renames or drops, as warnings, with their new names.""",
    good=(
        """\
reader = tf.train.load_checkpoint("ckpts/run-12")
for name in reader.get_variable_to_shape_map():
    print(reader.get_tensor(name))
""",
        """\
tf.compat.v1.train.init_from_checkpoint("model.ckpt", {"/": "encoder/"})
""",
    ),
    bad=(
        Bad(
            """\
tf.compat.v1.train.init_from_checkpoint("model.ckpt", {"bert/embeddings/": "encoder/embeddings/"})
"""
        ),
        Bad(
            """\
kernel = tf.train.load_variable("model.ckpt", "bert/pooler/dense/kernel")
"""
        ),
        Bad(
            """\
reader = tf.train.load_checkpoint("ckpts/run-12")
kernel = reader.get_tensor("model/w/.ATTRIBUTES/VARIABLE_VALUE")
"""
        ),
    ),
)

KEYWORDS = LintRule(
    "CM006",
    "checkpoint-keywords",
    "info",
    "keywords of a checkpoint are names in it",
    """\
`tf.train.Checkpoint(model=model)` stores all of the model below `model`. Another keyword is another checkpoint: nothing
of the model is restored, and nothing is said. With `--rules rules.yaml` those are told that a rule renames, as
warnings, with their new names; without it, this rule speaks only where it is selected.""",
    good=(
        """\
checkpoint = tf.train.Checkpoint(model)
""",
    ),
    bad=(
        Bad(
            """\
checkpoint = tf.train.Checkpoint(model=model)
"""
        ),
    ),
    is_asked_for=True,
)

SAVED_PREFIX = LintRule(
    "CM007",
    "restore-of-saved-prefix",
    "error",
    "restores a prefix that `save` has numbered",
    """\
`save("ckpts/run")` writes `ckpts/run-1`, then `ckpts/run-2`, and returns that path. There is no checkpoint at
`ckpts/run`: to restore it raises NotFoundError, or restores what an earlier `write` left there. Restore the path that
`save` returns. `write` adds no number.""",
    good=(
        """\
checkpoint = tf.train.Checkpoint(model=model)
path = checkpoint.save("./my_checkpoint")
checkpoint.restore(path).assert_consumed()
""",
        """\
checkpoint = tf.train.Checkpoint(model=model)
checkpoint.write("./my_checkpoint")
checkpoint.read("./my_checkpoint").assert_consumed()
""",
    ),
    bad=(
        Bad(
            """\
checkpoint = tf.train.Checkpoint(model=model)
checkpoint.save("./my_checkpoint")
checkpoint.restore("./my_checkpoint").assert_consumed()
""",
            """\
checkpoint = tf.train.Checkpoint(model=model)
save_path = checkpoint.save("./my_checkpoint")
checkpoint.restore(save_path).assert_consumed()
""",
        ),
        Bad(
            """\
def test(first: tf.train.Checkpoint, second: tf.train.Checkpoint, prefix):
    path = first.save(file_prefix=prefix)
    second.restore(prefix).assert_consumed()
""",
            """\
def test(first: tf.train.Checkpoint, second: tf.train.Checkpoint, prefix):
    path = first.save(file_prefix=prefix)
    second.restore(path).assert_consumed()
""",
        ),
    ),
)

MAYBE_NONE = LintRule(
    "CM008",
    "maybe-no-checkpoint",
    "warning",
    "restores nothing, in silence, where there is no checkpoint",
    """\
`tf.train.latest_checkpoint(directory)` and `manager.latest_checkpoint` are None where there is no checkpoint: a wrong
directory, a missing file `checkpoint`, the first run. `restore(None)` does nothing and says nothing. Look first: start
anew on purpose, or raise. The assertions of the status raise, and so does `ckptmigrate.restore`.""",
    good=(
        """\
checkpoint = tf.train.Checkpoint(model=model)
latest = tf.train.latest_checkpoint("ckpts")
if latest is None:
    raise FileNotFoundError("ckpts")
checkpoint.restore(latest)
""",
        """\
checkpoint = tf.train.Checkpoint(model=model)
manager = tf.train.CheckpointManager(checkpoint, "ckpts", 3)
if manager.latest_checkpoint:
    checkpoint.restore(manager.latest_checkpoint)
""",
        """\
checkpoint = tf.train.Checkpoint(model=model)
checkpoint.restore(tf.train.latest_checkpoint("ckpts")).assert_consumed()
""",
    ),
    bad=(
        Bad(
            """\
checkpoint = tf.train.Checkpoint(model=model)
checkpoint.restore(tf.train.latest_checkpoint("ckpts"))
"""
        ),
        Bad(
            """\
checkpoint = tf.train.Checkpoint(model=model)
manager = tf.train.CheckpointManager(checkpoint, "ckpts", 3)
checkpoint.restore(manager.latest_checkpoint).expect_partial()
"""
        ),
    ),
)

LINT_RULES = {
    rule.id: rule
    for rule in (UNCHECKED, EXPECT_PARTIAL, WEAK, LENIENT_WEIGHTS, STORED_NAMES, KEYWORDS, SAVED_PREFIX, MAYBE_NONE)
}
