"""Code that restores without proof: what is found, what is not, and what mends it."""

import ast
from pathlib import Path

import pytest

from ckptmigrate.codemod.linting.edits import Text, apply_edits, import_ckptmigrate
from ckptmigrate.codemod.linting.lint import lint
from ckptmigrate.codemod.linting.lint_rules import LINT_RULES
from ckptmigrate.codemod.source.project import Module, Project
from ckptmigrate.rules import parse_rulebook

TF = "import tensorflow as tf\n\n"
GOOD = [(rule.id, source) for rule in LINT_RULES.values() for source in rule.good]
BAD = [(rule.id, bad) for rule in LINT_RULES.values() for bad in rule.bad]


def linted(folder, source, *ids, **options):
    """What is found in one file, all rules or some."""
    file = folder / "code.py"
    file.write_text(source)
    return lint(Project.read([file]), ids=ids or None, **options).findings


def mended(folder, source, *ids, **options):
    """A source after its fixes."""
    found = linted(folder, source, *ids, **options)
    return apply_edits(source, (edit for each in found for edit in each.fix.edits))


def said(findings):
    return [(each.place.line, each.rule.id) for each in findings]


# The rules' own examples.


@pytest.mark.parametrize(("rule", "source"), GOOD)
def test_a_rule_is_silent_about_its_good_examples(tmp_path, rule, source):
    assert linted(tmp_path, TF + source, rule) == ()


@pytest.mark.parametrize(("rule", "bad"), BAD)
def test_a_rule_finds_its_bad_examples(tmp_path, rule, bad):
    (found,) = linted(tmp_path, TF + bad.source, rule)
    assert found.severity == (bad.severity or LINT_RULES[rule].severity)


@pytest.mark.parametrize(("rule", "bad"), BAD)
def test_a_rule_mends_its_bad_examples_as_it_says_and_once(tmp_path, rule, bad):
    once = mended(tmp_path, TF + bad.source, rule)
    fixed = bad.source if bad.fixed is None else bad.fixed
    assert once == ("import ckptmigrate\n" if "ckptmigrate." in fixed else "") + TF + fixed
    compile(once, "fixed", "exec")
    assert mended(tmp_path, once, rule) == once
    if bad.fixed is not None:
        assert linted(tmp_path, once, rule) == ()


# What is proven to be a checkpoint.


PROVEN = {
    "called directly": "tf.train.Checkpoint(m=m).restore(p)",
    "an annotated argument": "def f(x: tf.train.Checkpoint, p):\n    x.restore(p)",
    "a text annotation that allows None": "def f(p, x: 'tf.train.Checkpoint | None' = None):\n    x.restore(p)",
    "Optional": "from typing import Optional\ndef f(x: Optional[tf.train.Checkpoint], p):\n    x.restore(p)",
    "another name": "from tensorflow.train import Checkpoint as C\nx = C(m=m)\nx.restore(p)",
    "another TensorFlow": "tf = tf.compat.v2\ndef f(m):\n    tf.train.Checkpoint(m=m).restore(p)",
    "another name for the module": "train = tf.train\nx = train.Checkpoint(m=m)\nx.restore(p)",
    "TensorFlow 1's": "import tensorflow.compat.v1 as tf1\nx = tf1.train.Checkpoint(m=m)\nx.restore(p)",
    "compat.v1": "x = tf.compat.v1.train.Checkpoint(m=m)\nx.restore(p)",
    "TensorFlow's own": "from tensorflow.python.checkpoint import checkpoint as c\nc.Checkpoint(m=m).restore(p)",
    "Keras's own way to TensorFlow": (
        "from keras.src.utils.module_utils import tensorflow as t\nt.train.Checkpoint(m=m).restore(p)"
    ),
    "None first": "x = None\nx = tf.train.Checkpoint(m=m)\nx.restore(p)",
    "one of two, both checkpoints": "x = tf.train.Checkpoint(m=m) if m else tf.train.Checkpoint()\nx.restore(p)",
    "unpacked": "x, y = tf.train.Checkpoint(m=m), 3\nx.restore(p)",
    "a variable of the module in a function": "x = tf.train.Checkpoint(m=m)\ndef f(p):\n    x.restore(p)",
    "one of the outer function": "def f(m):\n    x = tf.train.Checkpoint(m=m)\n    def g(p):\n        x.restore(p)",
    "a manager's": "k = tf.train.CheckpointManager(m, 'd', 3)\nk.checkpoint.restore(p)",
    "what a function says it returns": "def f() -> tf.train.Checkpoint: ...\nf().restore(p)",
    "what a function returns": "def f(m):\n    return tf.train.Checkpoint(m=m)\nx = f(m)\nx.restore(p)",
    "a subclass": "class Mine(tf.train.Checkpoint): pass\nMine(m=m).restore(p)",
    "itself": "class Mine(tf.train.Checkpoint):\n    def load(self, p):\n        self.restore(p)",
    "its base": "class Mine(tf.train.Checkpoint):\n    def load(self, p):\n        super().restore(p)",
    "an attribute": (
        "class T:\n    def __init__(self, m):\n        self.x = tf.train.Checkpoint(m=m)\n"
        "    def load(self, p):\n        self.x.restore(p)"
    ),
    "an attribute of the base": (
        "class B:\n    def __init__(self, m):\n        self.x = tf.train.Checkpoint(m=m)\n"
        "class T(B):\n    def load(self, p):\n        self.x.restore(p)"
    ),
    "an attribute from outside": (
        "class T:\n    def __init__(self, m):\n        self.x = tf.train.Checkpoint(m=m)\nt = T(m)\nt.x.restore(p)"
    ),
    "a declared attribute": "class T:\n    x: tf.train.Checkpoint\n    def load(self, p):\n        self.x.restore(p)",
    "a property": (
        "class T:\n    @property\n    def x(self) -> tf.train.Checkpoint: ...\n"
        "    def load(self, p):\n        self.x.restore(p)"
    ),
}

UNPROVEN = {
    "a saver of TensorFlow 1": "s = tf.compat.v1.train.Saver()\ns.restore(session, p)",
    "something else": "x = backup()\nx.restore(p)",
    "a file": "checkpoint = open(p)\nx = checkpoint.read()",
    "bound to another since": "x = tf.train.Checkpoint(m=m)\nx = other()\nx.restore(p)",
    "the variable of a loop": "x = tf.train.Checkpoint(m=m)\nfor x in others:\n    x.restore(p)",
    "a class with a restore of its own": (
        "class Mine(tf.train.Checkpoint):\n    def restore(self, p): ...\nMine(m=m).restore(p)"
    ),
    "another Checkpoint": "from nets import Checkpoint\nCheckpoint(m).restore(p)",
    "the project's own": "class Checkpoint:\n    def restore(self, p): ...\nckpt = Checkpoint()\nckpt.restore(p)",
    "a path": "def f(ckpt_path, p):\n    ckpt_path.restore(p)",
    "the value that another's restore returns": "def f(ckpt, p):\n    state = ckpt.restore(p)\n    return state",
}


@pytest.mark.parametrize("source", PROVEN.values(), ids=PROVEN)
def test_a_restore_of_what_is_proven_to_be_a_checkpoint_is_a_warning(tmp_path, source):
    (found,) = linted(tmp_path, f"{TF}{source}\n", "CM001")
    assert found.severity == "warning"


@pytest.mark.parametrize("source", UNPROVEN.values(), ids=UNPROVEN)
def test_a_restore_of_anything_else_is_not_told(tmp_path, source):
    assert linted(tmp_path, f"{TF}{source}\n") == ()


@pytest.mark.parametrize(
    "source",
    [
        "x = tf.train.Checkpoint()\ndef f():\n    global x\n    x = other()\nx.restore(p)",
        "def f(m):\n    x = other() if m else tf.train.Checkpoint(m=m)\n    x.restore(p)",
        (
            "class T:\n    def __init__(self, m):\n        self.x = tf.train.Checkpoint(m=m)\n"
            "    def load(self, p):\n        self.x.restore(p)\ndef f(t):\n    t.x = other()"
        ),
    ],
)
def test_what_may_be_a_checkpoint_or_something_else_is_told_and_not_edited(tmp_path, source):
    (found,) = linted(tmp_path, f"{TF}{source}\n")
    assert (found.rule.id, found.severity, found.fix.edits) == ("CM001", "warning", ())
    assert "not proven" in found.fix.says


def test_a_name_proves_nothing_and_only_where_tensorflow_is_used(tmp_path):
    source = "def f(self, p):\n    self._checkpoint.restore(p)\n"
    (found,) = linted(tmp_path, TF + source)
    assert (found.severity, found.fix.edits) == ("info", ())
    assert linted(tmp_path, "import torch\n" + source) == ()


def test_a_checkpoint_is_followed_through_the_files_of_a_project(tmp_path):
    (tmp_path / "state.py").write_text(
        f"{TF}CHECKPOINT = tf.train.Checkpoint()\nclass Mine(tf.train.Checkpoint): pass\n"
    )
    (tmp_path / "a.py").write_text("from state import CHECKPOINT\nCHECKPOINT.restore('p')\n")
    (tmp_path / "b.py").write_text("import state\nstate.CHECKPOINT.restore('p')\nx = state.Mine()\nx.restore('p')\n")
    found = lint(Project.read([tmp_path])).findings
    assert [(each.place.file.rpartition("/")[2], each.place.line) for each in found] == [
        ("a.py", 2),
        ("b.py", 2),
        ("b.py", 4),
    ]


# What becomes of the status.


CHECKPOINT = f"{TF}x = tf.train.Checkpoint(m=m)\n"

STATUSES = {
    "dropped": ("x.restore(p)", "CM001"),
    "kept and not asked": ("s = x.restore(p)\nprint('restored')", "CM001"),
    "run in a session": ("s = x.restore(p)\ns.initialize_or_restore(session)", "CM001"),
    "its result is used, itself is not": ("s = x.restore(p)\nrun(s.initialize_or_restore())", "CM001"),
    "asked": ("s = x.restore(p)\ntrain()\ns.assert_consumed()", None),
    "asked in a function": ("s = x.restore(p)\ndef done():\n    s.assert_consumed()", None),
    "asked and run": ("x.restore(p).assert_consumed().run_restore_ops()", None),
    "asked where it may fail": ("try:\n    x.restore(p).assert_consumed()\nexcept AssertionError:\n    pass", None),
    "passed on": ("s = x.restore(p)\ncheck(s)", None),
    "passed on directly": ("check(x.restore(p))", None),
    "returned": ("def f(p):\n    return x.restore(p)", None),
    "stored": ("class A:\n    def f(self, p):\n        self.s = x.restore(p)", None),
    "given to another name": ("s = x.restore(p)\nt = s", None),
    "kept for others": ("def f(p):\n    global s\n    s = x.restore(p)", None),
    "meant to raise": ("with self.assertRaisesRegex(ValueError, 'x'):\n    x.restore(p)", None),
    "told to say nothing": ("x.restore(p).expect_partial()", "CM002"),
    "told so later": ("s = x.restore(p)\ns.expect_partial()", "CM002"),
    "told so and asked": ("s = x.restore(p)\ns.expect_partial()\ns.assert_existing_objects_matched()", "CM003"),
    "told so and asked in one": ("x.restore(p).expect_partial().assert_consumed()", None),
    "asked a little": ("x.read(p).assert_nontrivial_match()", "CM003"),
}


@pytest.mark.parametrize(("source", "rule"), STATUSES.values(), ids=STATUSES)
def test_what_becomes_of_a_status_is_followed(tmp_path, source, rule):
    found = linted(tmp_path, f"{CHECKPOINT}{source}\n")
    assert [each.rule.id for each in found] == ([] if rule is None else [rule])


@pytest.mark.parametrize("asking", ["s.assert_existing_objects_matched()", "getattr(s, name)()", "check(s)"])
def test_a_status_of_unknown_origin_is_not_told_if_it_is_asked_beside(tmp_path, asking):
    assert linted(tmp_path, f"{TF}def f(s):\n    s.expect_partial()\n    {asking}\n") == ()


# Paths that may be None.


LATEST = "k = tf.train.CheckpointManager(x, 'd', 3)\n"
NONE_OR_NOT = {
    "straight": ("x.restore(k.latest_checkpoint)", True),
    "by a name": ("p = tf.train.latest_checkpoint('d')\nx.restore(p)", True),
    "looked at before": ("p = tf.train.latest_checkpoint('d')\nif p is None:\n    raise OSError\nx.restore(p)", False),
    "asserted": ("p = tf.train.latest_checkpoint('d')\nassert p\nx.restore(p)", False),
    "under a condition": ("if k.latest_checkpoint:\n    x.restore(k.latest_checkpoint)", False),
    "looked at before it is another": (
        "p = k.latest_checkpoint\nif p:\n    use(p)\np = tf.train.latest_checkpoint('d')\nx.restore(p)",
        True,
    ),
    "another by then": ("p = k.latest_checkpoint\np = 'd/run-1'\nx.restore(p)", False),
    "told after": ("x.restore(k.latest_checkpoint)\nif k.latest_checkpoint:\n    print('restored')", False),
    "asked": ("x.restore(k.latest_checkpoint).assert_consumed()", False),
}


@pytest.mark.parametrize(("source", "may_be_none"), NONE_OR_NOT.values(), ids=NONE_OR_NOT)
def test_a_latest_checkpoint_that_nobody_looks_at_is_told(tmp_path, source, may_be_none):
    assert bool(linted(tmp_path, f"{CHECKPOINT}{LATEST}{source}\n", "CM008")) == may_be_none


def test_a_latest_checkpoint_says_that_a_receiver_is_likely_a_checkpoint(tmp_path):
    found = linted(tmp_path, f"{TF}def f(state):\n    state.restore(tf.train.latest_checkpoint('d'))\n")
    assert [(each.rule.id, each.severity) for each in found] == [("CM001", "info"), ("CM008", "warning")]


@pytest.mark.parametrize("way", ["restore", "assert"])
def test_what_may_be_none_is_not_made_to_raise_by_an_edit(tmp_path, way):
    source = f"{CHECKPOINT}{LATEST}x.restore(k.latest_checkpoint)\nif k.latest_checkpoint:\n    print('restored')\n"
    (found,) = linted(tmp_path, source, way=way)
    assert found.fix.edits == ()
    assert "may be None" in found.fix.says


# The prefix that was saved.


def test_of_a_prefix_that_was_saved_and_written_nothing_is_said(tmp_path):
    source = "x.save('p')\nx.write('p')\nx.read('p').assert_consumed()\n"
    assert linted(tmp_path, CHECKPOINT + source) == ()


def test_a_prefix_that_is_another_by_then_is_not_the_saved_one(tmp_path):
    source = "def f(p):\n    x.save(p)\n    p = p + '-1'\n    x.restore(p).assert_consumed()\n"
    assert linted(tmp_path, CHECKPOINT + source) == ()


def test_a_save_that_may_not_have_run_is_left_to_a_person(tmp_path):
    (found,) = linted(tmp_path, f"{CHECKPOINT}if m:\n    x.save('p')\nx.restore('p').assert_consumed()\n")
    assert (found.rule.id, found.severity, found.fix.edits) == ("CM007", "error", ())


def test_a_saved_prefix_and_an_unasked_status_are_mended_together(tmp_path):
    source = f"{CHECKPOINT}x.save('p')\nx.restore('p')\n"
    assert mended(tmp_path, source) == (
        f"import ckptmigrate\n{CHECKPOINT}save_path = x.save('p')\nckptmigrate.restore(x, save_path)\n"
    )


# Names in a checkpoint.


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("tf.train.load_variable(p, 'model/enc/w/.ATTRIBUTES/VARIABLE_VALUE')", "`model/encoder/w/.ATTRIBUTES/VAR"),
        ("tf.train.load_variable(p, 'model/enc/w')", "becomes `model/encoder/w`"),
        ("tf.train.load_variable(p, name='model/head/b')", "is dropped"),
        ("m = {'model/enc/': 'e/'}\ntf.compat.v1.train.init_from_checkpoint(p, m)", "becomes `model/encoder/`"),
        ("tf.train.Checkpoint(old=model)", "becomes `new`"),
        ("tf.compat.v1.train.NewCheckpointReader(p).get_tensor('block/3/k')", "becomes `layers/4/k`"),
    ],
)  # fmt: skip
def test_a_name_that_a_rule_changes_is_told_with_its_new_one(tmp_path, source, said):
    rules = parse_rulebook(
        """
rules:
  - rename: {from: "model/enc/**", to: "model/encoder/**"}
  - rename: {from: "old/**", to: "new/**"}
  - rename: {from: "name:block/{i:int}/k", to: "name:layers/{i+1}/k"}
  - drop: {from: "model/head/*", why: "another task"}
"""
    )
    (found,) = linted(tmp_path, f"{TF}{source}\n", rules=rules)
    assert found.severity == "warning"
    assert said in found.message


def test_a_name_that_no_rule_changes_is_not_told(tmp_path):
    rules = parse_rulebook('rules:\n  - rename: {from: "model/enc/kernel", to: "model/enc/w"}\n')
    source = "tf.compat.v1.train.init_from_checkpoint(p, {'model/enc/': 'e/', 'model/enc/bias': b})\n"
    assert linted(tmp_path, f"{TF}{source}tf.train.Checkpoint(model=m)\n", rules=rules) == ()


# Mending.


MENDED = {
    "an argument on lines of its own": (
        "x.restore(\n    # the best\n    p,\n)\n",
        "ckptmigrate.restore(\n    # the best\n    x, p,\n)\n",
    ),
    "parentheses": ("(x).restore((p))\n", "ckptmigrate.restore(x, (p))\n"),
    "a receiver of several lines": (
        "(tf.train.Checkpoint(\n    m=m,  # all\n)\n .restore(p))\n",
        "(ckptmigrate.restore(tf.train.Checkpoint(\n    m=m,  # all\n), p))\n",
    ),
    "partial with a comma": (
        "x.restore(p,).expect_partial()\n",
        "ckptmigrate.restore(x, p, expect_partial=True,)\n",
    ),
    "partial in parentheses": (
        "x.restore((p)).expect_partial()  # yes\n",
        "ckptmigrate.restore(x, (p), expect_partial=True)  # yes\n",
    ),
    "letters of other alphabets before it": ("'é😀'; x.restore(p)\n", "'é😀'; ckptmigrate.restore(x, p)\n"),
    "two in a line": ("x.restore(p); x.read(q)\n", "ckptmigrate.restore(x, p); ckptmigrate.restore(x, q)\n"),
}


@pytest.mark.parametrize(("before", "after"), MENDED.values(), ids=MENDED)
def test_what_is_not_edited_stays_as_it_is(tmp_path, before, after):
    assert mended(tmp_path, CHECKPOINT + before) == f"import ckptmigrate\n{CHECKPOINT}{after}"


def test_an_assertion_is_the_other_way(tmp_path):
    source = f"{CHECKPOINT}x.restore(\n    p\n)\nx.restore(p).expect_partial()\n"
    assert mended(tmp_path, source, way="assert") == (
        f"{CHECKPOINT}x.restore(\n    p\n).assert_consumed()\n"
        "x.restore(p).expect_partial().assert_existing_objects_matched()\n"
    )


BY_HAND = {
    "TensorFlow 1's checkpoint": ("y = tf.compat.v1.train.Checkpoint(m=m)\ny.restore(p)", "TensorFlow 1"),
    "graphs": ("tf.compat.v1.disable_eager_execution()\nx.restore(p)", "eager execution"),
    "options": ("x.restore(p, options)", "no options"),
    "unpacked arguments": ("x.restore(**where)", "no options"),
    "a session": ("x.restore(p).run_restore_ops()", "session"),
    "a variable that is used": ("s = x.restore(p)\ns.expect_partial()", "variable"),
    "a comment in the way": ("x.restore(p)\\\n  .expect_partial(  # all\n  )", "comment"),
    "the base's": (
        "class M(tf.train.Checkpoint):\n    def f(self, p):\n        super().restore(p)",
        "a class of its own",
    ),
    "its name is taken": ("ckptmigrate = 3\nx.restore(p)", "name of something else"),
}


@pytest.mark.parametrize(("source", "why"), BY_HAND.values(), ids=BY_HAND)
def test_what_cannot_be_mended_safely_is_left_with_the_reason(tmp_path, source, why):
    (found,) = [each for each in linted(tmp_path, f"{CHECKPOINT}{source}\n") if each.rule.id in ("CM001", "CM002")]
    assert found.fix.edits == ()
    assert why in found.fix.says


IMPORTS = {
    "among its kind": "import os\n\nimport absl\n+import tensorflow as tf\nfrom a import b\n",
    "after what comes before it": "import absl\nfrom tensorflow import train\n+import tensorflow as tf\n",
    "before what is imported from": "import os\n\n+from tensorflow import train\n\nimport mine\n",
    "below a docstring": '"""Ours."""\n\n+import tensorflow as tf\n',
    "below the future": "from __future__ import annotations\n\nimport os\n\n+import tensorflow as tf\n",
    "where there is no other": '"""Ours."""\n+\ndef f(x: "tf.train.Checkpoint"):\n    x.restore(p)\n',
    "where lines end otherwise": "import os\r\n+import tensorflow as tf\r\n",
}


@pytest.mark.parametrize("source", IMPORTS.values(), ids=IMPORTS)
def test_the_import_stands_where_a_person_would_put_it(source):
    end = "\r\n" if "\r\n" in source else "\n"
    file = Path("code.py")
    before = source.replace("+", "")
    name, edits = import_ckptmigrate(Text(Module(file, "code", before, ast.parse(before), {})))
    assert name == "ckptmigrate"
    assert apply_edits(before, edits) == source.replace("+", f"import ckptmigrate{end}")


def test_what_it_is_called_already_is_used(tmp_path):
    source = f"import ckptmigrate as cm\n{CHECKPOINT}"
    assert mended(tmp_path, f"{source}x.restore(p)\n") == f"{source}cm.restore(x, p)\n"


# Comments.


@pytest.mark.parametrize(
    ("comment", "is_silent"),
    [
        ("# ckptmigrate: ignore[CM001]", True),
        ("# ckptmigrate: ignore[CM002, CM001]", True),
        ("# ckptmigrate: ignore", True),
        ("# why not; ckptmigrate:ignore[CM001]", True),
        ("# ckptmigrate: ignore[CM002]", False),
        ("# ckptmigrate: ignore[]", False),
        ("# noqa", False),
    ],
)
@pytest.mark.parametrize("call", ["x.restore(p)", "x.restore(\n    p\n)"])
def test_a_comment_on_the_line_keeps_a_rule_silent(tmp_path, comment, is_silent, call):
    file = tmp_path / "code.py"
    file.write_text(f"{CHECKPOINT}{call}  {comment}\n")
    found = lint(Project.read([file]))
    assert (len(found.findings), len(found.suppressed)) == ((0, 1) if is_silent else (1, 0))
