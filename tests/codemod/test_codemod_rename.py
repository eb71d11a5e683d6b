"""`codemod rename` and `codemod apply`: what they show, write and refuse."""

import json
from pathlib import Path

import pytest
from builders import ckptmigrate

from ckptmigrate.codemod.code_rules import CodeRename
from ckptmigrate.codemod.renaming.change import change_source
from ckptmigrate.codemod.source.project import Project
from ckptmigrate.codemod.source.rewrite import write_all
from ckptmigrate.errors import OutputError

NETS = """\
class Encoder:
    def __init__(self):
        self.enc = 1  # what it is
        self.other = 2

    def call(self):
        return self.enc
"""
USES = "from nets import Encoder\n\n\ndef use(e: Encoder):\n    return e.enc\n"
UNTYPED = "def use(e):\n    return e.enc\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "nets.py").write_text(NETS)
    (tmp_path / "src" / "uses.py").write_text(USES)
    return tmp_path / "src"


def rename(*arguments):
    return ckptmigrate("codemod", "rename", *arguments)


def test_a_diff_is_shown_and_nothing_is_written(source):
    ran = rename("Encoder.enc", "encoder", "src")
    assert ran.status == 0
    assert "-        self.enc = 1  # what it is\n+        self.encoder = 1  # what it is\n" in ran.out
    assert ran.out.endswith("3 places in 2 files would be edited; 0 unsafe sites\n")
    assert (source / "nets.py").read_text() == NETS


def test_all_files_are_written_and_once_is_enough(source):
    assert rename("Encoder.enc", "encoder", "src", "--write").status == 0
    assert (source / "nets.py").read_text() == NETS.replace(".enc", ".encoder")
    assert (source / "uses.py").read_text() == USES.replace(".enc", ".encoder")
    assert rename("Encoder.enc", "encoder", "src").out == "0 places in 0 files would be edited; 0 unsafe sites\n"
    assert rename("Encoder.encoder", "enc", "src", "--write").status == 0
    assert (source / "nets.py").read_text() == NETS


def test_unsafe_sites_are_refused_until_they_are_accepted_and_then_stay(source):
    (source / "untyped.py").write_text(UNTYPED)
    refused = rename("Encoder.enc", "encoder", "src", "--write")
    assert refused.status == 1
    assert "nothing was written: 1 unsafe site." in refused.err
    assert (source / "nets.py").read_text() == NETS
    accepted = rename("Encoder.enc", "encoder", "src", "--write", "--accept-unsafe", "--json")
    assert accepted.status == 0
    told = json.loads(accepted.out)
    assert told["written"] is True
    assert [(each["file"], each["line"], each["column"], each["kind"], each["unsafe"]) for each in told["sites"]] == [
        ("src/untyped.py", 2, 12, "untyped", True)
    ]
    assert told["sites"][0]["why"]
    assert told["sites"][0]["what_to_do"]
    assert (source / "nets.py").read_text() == NETS.replace(".enc", ".encoder")
    assert (source / "untyped.py").read_text() == UNTYPED


@pytest.mark.usefixtures("source")
def test_a_use_outside_the_paths_is_told_and_not_edited(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "run.py").write_text("import src.nets\n\nprint(src.nets.Encoder().enc)\n")
    (tmp_path / "scripts" / "other.py").write_text("class Encoder:\n    enc = 1\n")
    (tmp_path / "conf.yaml").write_text("key: enc/kernel\n")
    told = json.loads(rename("Encoder.enc", "encoder", "src", "--json").out)
    assert [(each["file"], each["line"], each["kind"]) for each in told["sites"]] == [
        ("conf.yaml", 1, "outside"),
        ("scripts/run.py", 3, "outside"),
    ]
    assert told["files"] == ["src/nets.py", "src/uses.py"]


@pytest.mark.usefixtures("source")
def test_a_subclass_outside_the_paths_is_told(tmp_path):
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "more.py").write_text("from src.nets import Encoder\n\n\nclass Small(Encoder):\n    enc = 3\n")
    assert "more.py:5: outside" in rename("Encoder.enc", "encoder", "src").out


@pytest.mark.parametrize(
    ("what", "new", "said"),
    [
        ("Encoder.enc", "class", "a keyword of Python @ class"),
        ("Encoder.enc", "two words", "not a name @ two words"),
        ("Encoder.enc", "\u210c", "not a name as Python stores it @ \u210c: expected `H`"),
        ("Encoder.enc", "__enc", "a name that Python mangles"),
        ("Encoder.enc", "enc", "the new name is the old one"),
        ("Encoder.enc", "other", "the new name is taken @ src/nets.py:4"),
        (
            "Encoder.enc",
            "call",
            "the new name is taken @ src/nets.py:6: expected no `call` in nets.Encoder, got a method",
        ),
        ("Encodr.enc", "encoder", "no such class @ Encodr: expected a class below the paths. Is it Encoder."),
        ("Encoder.encc", "encoder", "no such attribute @ nets.Encoder.encc"),
        ("enc", "encoder", "no class @ enc: expected CLASS.ATTRIBUTE"),
    ],
)
def test_a_rename_that_cannot_be_is_told(source, what, new, said):
    ran = rename(what, new, "src", "--write")
    assert ran.status == 2
    assert said in ran.err
    assert (source / "nets.py").read_text() == NETS


def test_a_name_that_the_framework_has_is_neither_taken_nor_given(source):
    (source / "layer.py").write_text(
        "import keras\n\n\nclass L(keras.layers.Layer):\n    def __init__(self):\n        self.enc = 1\n\n"
        "    def call(self, x):\n        return x\n"
    )
    assert "the new name is the framework's @ losses" in rename("L.enc", "losses", "src").err
    assert "an attribute of the framework @ layer.L.call" in rename("L.call", "forward", "src").err


def test_a_class_that_is_there_twice_is_told(source):
    (source / "again.py").write_text("class Encoder:\n    enc = 1\n")
    ran = rename("Encoder.enc", "encoder", "src")
    assert ran.status == 2
    assert "several classes of this name @ Encoder: expected one, got" in ran.err
    assert rename("nets.Encoder.enc", "encoder", "src").status == 0


def test_a_file_that_cannot_be_parsed_is_named_and_the_others_go_on(source):
    (source / "broken.py").write_text("def f(:\n    pass\n")
    ran = rename("Encoder.enc", "encoder", "src", "--write")
    assert ran.status == 1
    assert "not Python that can be parsed @ src/broken.py:1" in ran.err
    assert (source / "nets.py").read_text() == NETS.replace(".enc", ".encoder")


def test_a_file_that_cannot_be_parsed_and_has_the_name_is_unsafe(source):
    (source / "broken.py").write_text("def f(:\n    return e.enc\n")
    assert "src/broken.py:2: unread" in rename("Encoder.enc", "encoder", "src", "--write").out
    assert (source / "nets.py").read_text() == NETS


def test_a_read_only_file_is_found_before_anything_is_written(source):
    (source / "uses.py").chmod(0o444)
    ran = rename("Encoder.enc", "encoder", "src", "--write")
    assert ran.status == 2
    assert "a read-only file @ src/uses.py" in ran.err
    assert (source / "nets.py").read_text() == NETS
    assert sorted(each.name for each in source.iterdir()) == ["nets.py", "uses.py"]


def test_a_read_only_directory_is_found_before_anything_is_written(source):
    source.chmod(0o555)
    try:
        assert "cannot be written to @ src/nets.py" in rename("Encoder.enc", "encoder", "src", "--write").err
    finally:
        source.chmod(0o755)
    assert (source / "nets.py").read_text() == NETS


@pytest.mark.parametrize(
    "data",
    [
        "class A:\r\n\tx = 1  # ü\r\n\r\n\tdef f(self):\r\n\t\treturn self . x\r\n".encode(),
        b"\xef\xbb\xbfclass A:\n    x = 1\n",
        "# -*- coding: latin-1 -*-\nclass A:\n    x = 'é'; y = x\n".encode("latin-1"),
        b"class A:\n    x = 1; z = \"x\"\n    def f(self): return getattr(self, '''x''', self\\\n.x)",
        b"class A:\n    x = 1\n\x0c\n    def f(self):\n        return f'{self.x}', self.x",
    ],
    ids=["tabs and CRLF", "byte order mark", "latin-1", "quotes and no last newline", "form feed"],
)
def test_all_but_the_names_keeps_its_bytes(tmp_path, data):
    (tmp_path / "a.py").write_bytes(data)
    (file,) = change_source(Project.read([tmp_path]), [CodeRename("attribute", "A", "x", "renamed")]).files
    assert file.before == data
    assert file.after.replace(b"renamed", b"x") == data
    assert file.after.count(b"renamed") >= 1


def test_a_rule_file_says_what_was_renamed_and_apply_does_it_elsewhere(source, tmp_path):
    assert rename("Encoder.enc", "encoder", "src", "--rules-out", "rules.yaml").status == 0
    assert (tmp_path / "rules.yaml").read_text() == (
        "# Renamed in source\nrules:\n  - rename: {from: '**/enc/**', to: '**/encoder/**'}\n"
        "code:\n  - rename_attribute: {class: nets.Encoder, from: enc, to: encoder}\n"
    )
    ran = ckptmigrate("codemod", "apply", "rules.yaml", "src", "--write")
    assert ran.status == 0
    assert (source / "nets.py").read_text() == NETS.replace(".enc", ".encoder")
    assert ckptmigrate("codemod", "apply", "rules.yaml", "src").out.startswith("0 places")


@pytest.mark.parametrize(
    "probe", ['getattr(e, "encoder", None)', 'hasattr(e, "encoder")', 'setattr(e, "encoder", 1)', "e.encoder"]
)
def test_a_new_name_that_objects_are_asked_for_elsewhere_is_taken(source, probe):
    (source / "uses.py").write_text(f"from nets import Encoder\n\n\ndef use(e: Encoder):\n    return {probe}\n")
    ran = rename("Encoder.enc", "encoder", "src")
    assert ran.status == 2
    assert "the new name is taken @ src/uses.py:5" in ran.err


@pytest.mark.usefixtures("source")
def test_what_is_renamed_is_one_thing():
    ran = rename("--class", "--name", "Encoder", "TextEncoder", "src")
    assert ran.status == 2
    assert "give one of them" in ran.err


@pytest.mark.parametrize("write", [(), ("--write",)])
def test_the_rules_replace_no_source_and_nothing_that_a_person_wrote(source, tmp_path, write):
    (tmp_path / "mine.yaml").write_text("rules: []\n")
    for out, said in (
        ("src/nets.py", "a file of the source that is read @ src/nets.py"),
        ("mine.yaml", "the file exists and is not one of the rules of a rename @ mine.yaml"),
        ("src", "a directory, not a file @ src"),
        ("missing/rules.yaml", "no such directory @ missing"),
    ):
        ran = rename("Encoder.enc", "encoder", "src", "--rules-out", out, *write)
        assert ran.status == 2
        assert said in ran.err
    assert (source / "nets.py").read_text() == NETS
    assert (tmp_path / "mine.yaml").read_text() == "rules: []\n"
    assert not (tmp_path / "missing").exists()


@pytest.mark.usefixtures("source")
def test_the_rules_of_an_earlier_rename_are_replaced():
    for new in ("encoder", "inner"):
        assert rename("Encoder.enc", new, "src", "--rules-out", "src/rules.yaml").status == 0


def test_a_pattern_that_something_else_matches_is_no_rule(source, tmp_path):
    (source / "more.py").write_text("class Decoder:\n    def __init__(self):\n        self.enc = 1\n")
    ran = rename("Encoder.enc", "encoder", "src", "--rules-out", "rules.yaml")
    assert ran.status == 2
    assert "a rule by pattern would not be sure" in ran.err
    assert "src/more.py:3" in ran.err
    assert "--target" in ran.err
    assert not (tmp_path / "rules.yaml").exists()


def test_several_renames_are_made_one_after_the_other_or_not_at_all(source, tmp_path):
    (tmp_path / "rules.yaml").write_text(
        "code:\n  - rename_attribute: {class: Encoder, from: enc, to: encoder}\n"
        "  - rename_attribute: {class: Encoder, from: other, to: enc}\n"
        "  - rename_class: {class: Encoder, to: TextEncoder}\n"
    )
    ran = ckptmigrate("codemod", "apply", "rules.yaml", "src", "--write")
    assert ran.status == 0
    assert (source / "nets.py").read_text() == NETS.replace(".enc", ".encoder").replace(".other", ".enc").replace(
        "class Encoder", "class TextEncoder"
    )
    assert "def use(e: TextEncoder)" in (source / "uses.py").read_text()


@pytest.mark.parametrize(
    "options",
    [
        ("--checkpoint", "a"),
        ("--checkpoint", "a", "--out", "b"),
        ("--checkpoint", "a", "--out", "b", "--target", "nets:build"),
    ],
)
def test_a_checkpoint_needs_all_that_it_takes(source, options):
    ran = rename("Encoder.enc", "encoder", "src", *options)
    assert ran.status == 2
    assert "Usage" in ran.err
    assert source.exists()


def test_the_name_of_a_layer_is_in_no_path(source, tmp_path):
    (source / "layers.py").write_text("import keras\n\nlayer = keras.layers.Dense(3, name='hidden')\n")
    ran = rename("--name", "hidden", "inner", "src", "--write", "--rules-out", "rules.yaml")
    assert ran.status == 0, ran.err
    assert "needs rules with `name:`" in ran.err
    assert "name='inner'" in (source / "layers.py").read_text()
    assert (tmp_path / "rules.yaml").read_text() == (
        "# Renamed in source\nrules: []\ncode:\n  - rename_layer: {from: hidden, to: inner}\n"
    )


def test_if_one_file_cannot_be_written_none_is(source, monkeypatch):
    changed = change_source(Project.read([source]), [CodeRename("attribute", "Encoder", "enc", "encoder")])
    replace, done = Path.replace, []

    def fail_the_second_time(self, target):
        done.append(target)
        if len(done) == 2:
            raise OSError(28, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_the_second_time)
    with pytest.raises(OutputError, match="cannot be written"):
        write_all(changed.files)
    assert len(done) == 2
    assert (source / "nets.py").read_text() == NETS
    assert (source / "uses.py").read_text() == USES
    assert sorted(each.name for each in source.iterdir()) == ["nets.py", "uses.py"]


MODELS = """\
import keras
import tensorflow as tf


class Block(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.ln = keras.layers.LayerNormalization()
        self.ffn = keras.layers.Dense(4, name="hidden")

    def build(self, shape):
        self.ln.build(shape)
        self.ffn.build(shape)


class Decoder(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.ln = keras.layers.LayerNormalization()

    def build(self, shape):
        self.ln.build(shape)


class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = Block()
        self.second = Block()
        self.decoder = Decoder()

    def build(self, shape):
        for layer in (self.first, self.second, self.decoder):
            layer.build(shape)


class Net(tf.Module):
    def __init__(self):
        super().__init__()
        self.a = tf.Variable([1.0, 2.0])
        self.b = tf.Variable([3.0, 4.0])


def build():
    model = Model()
    model.build((None, 4))
    net = Net()
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    legacy = tf.Module()
    legacy.slots = [tf.Variable(each) for each in net.trainable_variables]
    return tf.train.Checkpoint(model=model, net=net, optimizer=optimizer, legacy=legacy)
"""

SORTED = """\
import tensorflow as tf


class Net(tf.Module):
    def __init__(self):
        super().__init__()
        self.a = tf.Variable([1.0, 2.0])
        self.b = tf.Variable(3.0)
        self.all = [tf.Variable(each) for name, each in sorted(vars(self).items()) if isinstance(each, tf.Variable)]


def build():
    return tf.train.Checkpoint(net=Net())
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def test_the_oracle_finds_the_rules_and_a_checkpoint_goes_along(models):
    (models / "rules.yaml").write_text(
        "code:\n  - rename_class: {class: Block, to: Layered}\n"
        "  - rename_attribute: {class: Layered, from: ln, to: norm}\n"
        "  - rename_layer: {scope: Layered, from: hidden, to: inner}\n"
        "  - rename_keyword: {from: model, to: network}\n"
    )
    saved = ckptmigrate("template", "models.py:build", "--out", "old/ckpt")
    assert saved.status == 0, saved.err
    ran = ckptmigrate(
        "codemod", "apply", "rules.yaml", "models.py", "--write", "--accept-unsafe", "--target", "models.py:build",
        "--checkpoint", "old/ckpt", "--out", "new/ckpt", "--json",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    told = json.loads(ran.out)
    text = (models / "models.py").read_text()
    assert "class Layered" in text
    assert 'name="inner"' in text
    assert text.count("self.norm") == 2
    assert text.count("self.ln") == 2
    assert {rule["rename"]["from"] for rule in told["rules"]}
    assert told["moved"] == 10
    proven = ckptmigrate("verify", "new/ckpt", "--target", "models.py:build")
    assert proven.status == 0, proven.out


def test_a_model_that_changes_in_more_than_names_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models.py").write_text(SORTED)
    ran = rename(
        "Net.a", "z", "models.py", "--write", "--accept-unsafe", "--target", "models.py:build", "--rules-out", "r.yaml"
    )
    assert ran.status == 2
    assert "the model is another one after the change @ net/all" in ran.err
    assert (tmp_path / "models.py").read_text() == SORTED
    assert not (tmp_path / "r.yaml").exists()


def test_if_the_checkpoint_does_not_fit_the_source_stays_as_it_is(models):
    (models / "small.py").write_text("import tensorflow as tf\n\n\ndef build():\n    return {'x': tf.Variable(1.0)}\n")
    assert ckptmigrate("template", "small.py:build", "--out", "small/ckpt").status == 0
    ran = rename(
        "Block.ln", "norm", "models.py", "--write", "--accept-unsafe", "--target", "models.py:build",
        "--checkpoint", "small/ckpt", "--out", "new/ckpt",
    )  # fmt: skip
    assert ran.status in (1, 2)
    assert (models / "models.py").read_text() == MODELS
    assert not (models / "new").exists()
