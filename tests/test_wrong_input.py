"""Wrong input through the real command line: one message, the right status, and nothing left behind."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from builders import ckptmigrate, files_in, flip_byte, floats, key_of, plan_between, serialize, write_graph, write_tree
from corpus import corpus_refuse_dir

from ckptmigrate.bundle import Bundle, BundleEntryProto, TrackableObjectGraph, index_path
from ckptmigrate.bundle.entry import encode_header
from ckptmigrate.bundle.table import write_table

FORM = re.compile(r"\S.* @ \S.*\.(\n|$)", re.DOTALL)
"""``{what} @ {where}: expected {x}, got {y}. {What to do}.``"""


def refused(*arguments, status=2, place=None):
    """Run a command that has to fail cleanly; the message."""
    before = files_in(place) if place else None
    ran = ckptmigrate(*arguments)
    assert ran.status == status, ran
    assert ran.err.startswith("ckptmigrate: ")
    message = ran.err.removeprefix("ckptmigrate: ").rstrip("\n")
    lines = message.split("\n")
    for line in lines[1:] or lines:
        assert FORM.match(line.strip()), line
        assert ".." not in line.replace("...", "").replace("`..`", ""), line
    assert "Traceback" not in ran.err + ran.out
    if place:
        assert files_in(place) == before
    return message


@pytest.fixture
def ends(tmp_path):
    """A source, a target, a rule file, and a plan that transposes."""
    source = write_tree(tmp_path / "s", {"w": floats(20, 30), "b": floats(40)})
    target = write_tree(tmp_path / "t", {"w": floats(30, 20), "b": floats(40)})
    (tmp_path / "rules.yaml").write_text("rules:\n  - transpose: {from: w, perm: [1, 0]}\n")
    plan = plan_between(source, target, "  - transpose: {from: w, perm: [1, 0]}\n")
    (tmp_path / "plan.json").write_bytes(plan.to_json())
    return source, target


def every_command_refuses(tmp_path, prefix, fine):
    """What each command says of a checkpoint that cannot be read, as source and as target."""
    plan = str(tmp_path / "new" / "plan.json")
    messages = [
        refused("inspect", prefix, place=tmp_path),
        refused("inspect", prefix, "--json", place=tmp_path),
        refused("diff", prefix, fine, place=tmp_path),
        refused("diff", fine, prefix, place=tmp_path),
        refused("plan", prefix, "--target", fine, "--out", plan, place=tmp_path),
        refused("plan", fine, "--target", prefix, "--out", plan, place=tmp_path),
        refused("verify", prefix, "--target", fine, place=tmp_path),
        refused("verify", fine, "--target", prefix, place=tmp_path),
    ]
    assert len(set(messages)) == 1
    return messages[0]


# Checkpoints.


@pytest.mark.skipif(corpus_refuse_dir() is None, reason="no corpus")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lfs-pointer/variables", "git-LFS pointer, not the file itself"),
        ("missing-data/checkpoint-1", "missing"),
        ("v1-sstable-export/export", "V1"),
    ],
)
def test_real_checkpoints_that_cannot_be_used(ends, tmp_path, name, told):
    message = every_command_refuses(tmp_path, str(corpus_refuse_dir() / name), ends[0])
    assert told in message
    assert name in message


@pytest.mark.parametrize("kept_bytes", [0, 1, 47, 48, 100, -1])
def test_an_index_that_is_cut_off(ends, tmp_path, kept_bytes):
    index = tmp_path / "s.index"
    index.write_bytes(index.read_bytes()[:kept_bytes])
    assert "s.index" in every_command_refuses(tmp_path, ends[0], ends[1])


def test_any_flipped_bit_of_an_index(ends, tmp_path):
    size = (tmp_path / "s.index").stat().st_size
    for offset in range(0, size, 7):
        flip_byte(tmp_path / "s.index", offset, mask=1 << offset % 8)
        ran = ckptmigrate("inspect", ends[0])
        assert (ran.status, "s.index" in ran.err) in ((2, True), (0, False)), offset
        flip_byte(tmp_path / "s.index", offset, mask=1 << offset % 8)
    # The padding of the footer carries nothing; the first block's bytes do.
    flip_byte(tmp_path / "s.index", 20)
    message = every_command_refuses(tmp_path, ends[0], ends[1])
    assert "expected" in message


def test_a_flipped_bit_of_an_index_that_a_plan_leads_from(ends, tmp_path):  # noqa: ARG001  # they are there
    flip_byte(tmp_path / "s.index", 20)
    assert "s.index" in refused("apply", tmp_path / "plan.json", "--out", tmp_path / "new" / "out", place=tmp_path)


def test_a_flipped_bit_of_a_tensor_that_is_read(ends, tmp_path):
    with Bundle.open(ends[0]) as bundle:
        entry = bundle.entries[key_of("w")]
    flip_byte(tmp_path / "s.data-00000-of-00001", entry.offset + 1000)
    message = refused("apply", tmp_path / "plan.json", "--out", tmp_path / "new" / "out", place=tmp_path)
    assert message.startswith("checksum mismatch @ ")
    assert key_of("w") in message


def test_a_flipped_bit_of_the_object_graph(ends, tmp_path):
    with Bundle.open(ends[0]) as bundle:
        entry = bundle.entries["_CHECKPOINTABLE_OBJECT_GRAPH"]
    flip_byte(tmp_path / "s.data-00000-of-00001", entry.offset + entry.size_bytes - 3)
    assert "checksum mismatch" in every_command_refuses(tmp_path, ends[0], ends[1])


def test_a_data_file_that_is_missing(ends, tmp_path):
    (tmp_path / "s.data-00000-of-00001").unlink()
    assert "s.data-00000-of-00001" in every_command_refuses(tmp_path, ends[0], ends[1])
    refused("apply", tmp_path / "plan.json", "--out", tmp_path / "new" / "out", place=tmp_path)


def test_a_data_file_that_is_cut_off(ends, tmp_path):
    data = tmp_path / "s.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1])
    assert "expected" in every_command_refuses(tmp_path, ends[0], ends[1])


def raw_bundle(prefix, **fields):
    """A bundle of one float tensor whose entry says anything."""
    shape = fields.pop("shape", (2,))
    entry = BundleEntryProto(dtype=1, **fields)
    for size in shape:
        entry.shape.dim.add(size=size)
    records = [(b"", encode_header(1)), (b"w", entry.SerializeToString())]
    Path(index_path(prefix)).write_bytes(b"".join(write_table(records)))
    Path(f"{prefix}.data-00000-of-00001").write_bytes(bytes(64))
    return prefix


@pytest.mark.parametrize(
    "fields",
    [
        {"offset": 1000, "size": 8},
        {"offset": 60, "size": 8},
        {"offset": -8, "size": 8},
        {"offset": 2**62, "size": 8},
        {"offset": 0, "size": 2**62, "shape": (2**60,)},
        {"offset": 0, "size": 8, "shape": (2**62,)},
        {"offset": 0, "size": 8, "shape": (2**62, 4)},
        {"offset": 0, "size": 0, "shape": (2**62, 2**62, 0)},
        {"offset": 0, "size": 8, "shape": (-1,)},
        {"offset": 0, "size": 8, "shard_id": 7},
    ],
    ids=str,
)
def test_an_index_that_claims_what_cannot_be(ends, tmp_path, fields):
    prefix = raw_bundle(str(tmp_path / "raw"), **fields)
    assert "raw.index" in every_command_refuses(tmp_path, prefix, ends[0])


def test_a_graph_with_a_child_out_of_range(ends, tmp_path):
    serialized, tensors = serialize({"w": floats(2)})
    message = TrackableObjectGraph.FromString(serialized)
    message.nodes[0].children.add(local_name="ghost", node_id=99)
    prefix = write_graph(tmp_path / "g", message, tensors)
    told = every_command_refuses(tmp_path, prefix, ends[0])
    assert told.startswith("child `ghost` of node 0 is not a node @ ")
    assert "got 99" in told


def test_a_graph_with_a_cycle_works_all_the_way(tmp_path):
    model = {"w": floats(2)}
    tree = {"model": model}
    model["parent"] = tree
    model["self"] = model
    prefix = write_tree(tmp_path / "c", tree)
    plan, out = tmp_path / "plan.json", tmp_path / "out"
    for command in (
        ("inspect", prefix),
        ("inspect", prefix, "--json"),
        ("diff", prefix, prefix),
        ("plan", prefix, "--target", prefix, "--out", plan),
        ("apply", plan, "--out", out),
        ("verify", out, "--target", prefix, "--plan", plan),
    ):
        assert ckptmigrate(*command).status == 0, command


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"garbage", b"\x0a\x7f"])
def test_a_graph_that_is_garbage(ends, tmp_path, garbage):
    prefix = write_graph(tmp_path / "g", garbage, {"w": floats(2)})
    assert "object graph" in every_command_refuses(tmp_path, prefix, ends[0])


def test_a_prefix_without_its_number_names_the_checkpoint_that_exists(tmp_path):
    write_tree(tmp_path / "my_checkpoint-1", {"w": floats(2)})
    message = refused("inspect", tmp_path / "my_checkpoint", place=tmp_path)
    assert f"Did you mean {tmp_path}/my_checkpoint-1" in message


def test_a_directory_without_a_checkpoint(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("inspect", tmp_path / "empty", place=tmp_path)


# Rules.


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules:\n\t- drop: {from: w}\n", "a tab in YAML @ {file}:2:1: expected spaces for indentation"),
        ("rules:\n  - renam: {from: w, to: v}\n", "unknown word @ {file}:2:5"),
        ("rules:\n  - drop: {from: w}\n  drop:\n", "not YAML"),
        ("rules:\n  - drop: {from: nothing/here}\n", "the rule matches nothing @ {file}:2:11"),
        ("rules:\n  - rename: {from: w}\n", "the shape does not come out @ {file}:2:13"),
        ("rules:\n  - transpose: {from: b, perm: [1, 0]}\n", "@ {file}:2:16, b"),
        ("\0", "a character that YAML does not allow @ {file}:1:1"),
        ("", "empty rule file @ {file}"),
    ],
)
def test_rules_that_are_wrong(ends, tmp_path, text, told):
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    message = refused(
        *("plan", ends[0], "--target", ends[1], "--rules", file, "--out", tmp_path / "new.json"), place=tmp_path
    )
    assert told.format(file=file) in message


def test_a_rule_file_that_is_missing(ends, tmp_path):
    message = refused("plan", ends[0], "--target", ends[1], "--rules", tmp_path / "no.yaml", place=tmp_path)
    assert message == f"cannot read the rule file @ {tmp_path}/no.yaml: got No such file or directory. Check the path."


# Plans.


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "not a plan @ {file}"),
        (b"rules: []", "not a plan @ {file}"),
        (b'{"schema": "ckptmigrate.plan/1"}', "missing required field `source`"),
        (b'{"schema": "ckptmigrate.receipt/1"}', "unknown schema @ {file}"),
        (b"\xff\xfe\0", "not a plan @ {file}"),
        (b"[" * 10**6, "not a plan @ {file}"),
    ],
)
def test_a_plan_that_is_none(tmp_path, text, told):
    file = tmp_path / "plan.json"
    file.write_bytes(text)
    for command in (("apply", file, "--out", tmp_path / "out"), ("verify", "x", "--target", "y", "--plan", file)):
        assert told.format(file=file) in refused(*command, place=tmp_path)


def test_a_plan_that_is_missing(tmp_path):
    assert "cannot read the plan" in refused("apply", tmp_path / "plan.json", "--out", tmp_path / "out", place=tmp_path)
    assert "Is a directory" in refused("apply", tmp_path, "--out", tmp_path / "out", place=tmp_path)


@pytest.mark.parametrize(
    ("edit", "status"),
    [
        (lambda data: data["steps"].pop(), 2),
        (lambda data: data["steps"].append(data["steps"][0]), 2),
        (lambda data: data["steps"][1].update(ops=[]), 2),
        (lambda data: data["steps"][1].update(ops=[{"transpose": {"perm": [0, 0]}}]), 2),
        (lambda data: data["steps"][1].update(ops=[{"crop": {}}]), 2),
        (lambda data: data["steps"][0].update(target="nope"), 2),
        (lambda data: data["steps"][0].update(sources=["nope"]), 2),
        (lambda data: data["steps"][0].update(surprise=1), 2),
        (lambda data: data["source"].update(fingerprint="sha256:0"), 2),
        (lambda data: data["target"].update(fingerprint="sha256:0"), 2),
        (lambda data: data["source"].update(prefix="/nowhere/ckpt"), 2),
        (lambda data: data["source"].update(prefix="a\0b"), 2),
        (lambda data: data["steps"][0].update(status="proposed"), 1),
        (lambda data: data["unmatched_source"].append(data["steps"].pop()["target"]), 2),
    ],
)
def test_a_plan_that_was_edited_so_that_it_no_longer_fits(ends, tmp_path, edit, status):  # noqa: ARG001  # they are there
    file = tmp_path / "plan.json"
    data = json.loads(file.read_bytes())
    edit(data)
    file.write_text(json.dumps(data))
    refused("apply", file, "--out", tmp_path / "new" / "out", place=tmp_path, status=status)


def test_an_open_plan_is_a_failed_check(tmp_path):
    source, target = write_tree(tmp_path / "s", {"a": floats(2)}), write_tree(tmp_path / "t", {"b": floats(3)})
    (tmp_path / "plan.json").write_bytes(plan_between(source, target).to_json())
    message = refused("apply", tmp_path / "plan.json", "--out", tmp_path / "out", place=tmp_path, status=1)
    assert "targets have no origin" in message
    assert "--init-new" in message


# Places.


@pytest.mark.parametrize("out", ["file/out", "file/deep/out", "dir", "dir/", "s", "/proc/nowhere/out", ""])
def test_an_output_that_cannot_be(ends, tmp_path, monkeypatch, out):  # noqa: ARG001  # they are there
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dir").mkdir()
    ran_before = files_in(tmp_path)
    ran = ckptmigrate("apply", "plan.json", "--out", out)
    assert ran.status == 2
    assert ran.err.startswith("ckptmigrate: ")
    assert "Traceback" not in ran.err
    assert files_in(tmp_path) == ran_before


@pytest.mark.parametrize("out", ["file/plan.json", "dir", ".", "", "/proc/nowhere/plan.json"])
def test_a_plan_that_cannot_be_written(ends, tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dir").mkdir()
    before = files_in(tmp_path)
    ran = ckptmigrate("plan", *ends[:1], "--target", ends[1], "--out", out)
    assert ran.status == 2
    assert ran.err.startswith(("ckptmigrate: cannot be written @ ", "ckptmigrate: a directory, not a file @ "))
    assert files_in(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_is_read_only(ends, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    refused("apply", tmp_path / "plan.json", "--out", locked / "out", place=tmp_path)
    refused("plan", ends[0], "--target", ends[1], "--out", locked / "plan.json", place=tmp_path)


# Models that cannot be built. Those that fail before tensorflow is needed come first.

FACTORIES = """
import tensorflow as tf

def raises():
    raise ValueError("no such size")

def returns_none():
    tf.Module()

def returns_a_number():
    return 7

def has_no_variables():
    return tf.Module()

def needs_arguments(size):
    return tf.Module()

not_callable = 3

def numbers_as_names():
    return {1: tf.Variable(0.0)}

def no_name_for_an_attribute():
    return {"self": tf.Variable(0.0)}

def numbers_inside():
    module = tf.Module()
    module.layers = {1: tf.Variable(0.0)}
    return module

def says_much():
    raise ValueError("first line\\n\\n  second line")

def exits():
    raise SystemExit(3)

class Model(tf.Module):
    def __init__(self):
        self.w = tf.Variable(tf.zeros([2]))
"""


@pytest.fixture
def factories(tmp_path):
    file = tmp_path / "factories.py"
    file.write_text(FACTORIES)
    yield file
    sys.modules.pop("factories", None)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("no_such_module:build", "No module named 'no_such_module'"),
        ("nowhere/model.py:build", "no such file @ nowhere/model.py:build"),
        ("json:no_such_factory", "no such factory @ json:no_such_factory"),
        ("json:__name__", "not a factory @ json:__name__"),
        ("keyword:nothing", "among others"),
        ("antigravity_of.py:ok:ok", "expected package.module:factory or path/to/file.py:factory"),
        ("path/without_ending:build", "expected package.module:factory or path/to/file.py:factory"),
    ],
)
def test_a_factory_that_is_not_there(ends, tmp_path, target, told):
    for command in (
        ("plan", ends[0], "--target", target, "--out", tmp_path / "new.json"),
        ("verify", ends[0], "--target", target),
        ("template", target, "--out", tmp_path / "template"),
    ):
        assert told in refused(*command, place=tmp_path)


def test_a_file_without_its_function_is_told_which_functions_it_has(ends, tmp_path):
    model = tmp_path / "some_model.py"
    model.write_text(
        "import nothing_that_is_run\n"
        "class Model: pass\n"
        "def build(width=4, *, depth=2): pass\n"
        "def needs(width): pass\n"
        "def needs_too(*, width): pass\n"
        "def _own(): pass\n"
    )
    for command in (
        ("plan", ends[0], "--target", model, "--out", tmp_path / "new.json"),
        ("verify", ends[0], "--target", model),
        ("template", model, "--out", tmp_path / "template"),
    ):
        message = refused(*command, place=tmp_path)
        assert message.startswith(f"a file, and no function in it @ {model}: expected {model}:FUNCTION, ")
        assert "got the file alone, which has Model, build. " in message


@pytest.mark.parametrize("text", ["def build(:\n", "x = 1\n", "\0"])
def test_a_file_in_which_no_function_can_be_seen_is_refused_too(ends, tmp_path, text):
    (tmp_path / "some_model.py").write_text(text)
    message = refused("verify", ends[0], "--target", tmp_path / "some_model.py")
    assert "which has no function that needs no arguments" in message


@pytest.mark.parametrize("text", ["import nothing_of_the_kind\n", "1 / 0\n", "def build(:\n", "raise SystemExit(0)\n"])
def test_a_factorys_file_that_cannot_be_imported(tmp_path, text):
    (tmp_path / "broken_model.py").write_text(text)
    message = refused("template", f"{tmp_path}/broken_model.py:build", "--out", tmp_path / "template")
    assert message.startswith("the factory's module cannot be imported @ ")
    assert not list(tmp_path.glob("template*"))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("raises", "got ValueError: no such size ({file}:5)"),
        ("says_much", "got ValueError: first line second line ("),
        ("exits", "got SystemExit: 3 ("),
        ("numbers_as_names", "expected names of attributes as its keys, e.g. `model`, got 1."),
        ("no_name_for_an_attribute", "got 'self'."),
        ("numbers_inside", "non-string key"),
        ("returns_none", "got None (did it forget to return?)"),
        ("returns_a_number", "got int '7'"),
        ("has_no_variables", "the model has no variables @ "),
        ("needs_arguments", "missing 1 required positional argument"),
        ("not_callable", "not a factory @ "),
        ("missing", "no such factory @ "),
    ],
)
def test_a_factory_that_gives_no_model(ends, factories, tmp_path, name, told):
    for command in (
        ("plan", ends[0], "--target", f"{factories}:{name}", "--out", tmp_path / "new.json"),
        ("verify", ends[0], "--target", f"{factories}:{name}"),
        ("template", f"{factories}:{name}", "--out", tmp_path / "template"),
    ):
        message = refused(*command)
        assert told.format(file=factories) in message
    assert not list(tmp_path.glob("template*"))
    assert not list(tmp_path.glob("new*"))
    assert not list(tmp_path.glob(".ckptmigrate*"))


def test_a_plan_for_programs_never_names_a_template_that_is_gone(ends, factories, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ("plan", ends[0], "--target", f"{factories}:Model", "--json")
    before = files_in(tmp_path)
    ran = ckptmigrate(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert "give --out PLAN with --json" in ran.err
    assert files_in(tmp_path) == before
    told = json.loads(ckptmigrate(*arguments, "--out", "plan.json").out)
    assert Path(f"{told['target']['prefix']}.index").exists()


def test_rules_that_do_not_fit_leave_no_template_and_take_none_away(ends, factories, tmp_path):
    target, plan = f"{factories}:Model", tmp_path / "new.json"
    assert ckptmigrate("plan", ends[0], "--target", target, "--out", plan).status == 1
    kept = {name: digest for name, digest in files_in(tmp_path).items() if name.startswith("new.")}
    assert set(kept) == {"new.json", "new.template.index", "new.template.data-00000-of-00001"}
    (tmp_path / "wrong.yaml").write_text("rules:\n  - drop: {from: nothing}\n")
    for out in (plan, tmp_path / "other.json"):
        refused("plan", ends[0], "--target", target, "--rules", tmp_path / "wrong.yaml", "--out", out, place=tmp_path)
    assert json.loads(plan.read_bytes())["target"]["prefix"] == str(tmp_path / "new.template")


def test_a_template_that_exists_is_not_replaced_unasked(factories, tmp_path):
    arguments = ("template", f"{factories}:Model", "--out", tmp_path / "template")
    assert ckptmigrate(*arguments).status == 0
    assert refused(*arguments).startswith("the output exists @ ")
    assert ckptmigrate(*arguments, "--overwrite").status == 0


def test_a_plan_is_never_written_over_a_checkpoint_that_is_read(tmp_path):
    source = write_tree(tmp_path / "source", {"w": floats(2)})
    target = write_tree(tmp_path / "target", {"w": floats(2)})
    for out in (index_path(source), f"{source}.data-00000-of-00001", index_path(target)):
        message = refused("plan", source, "--target", target, "--out", out, place=tmp_path)
        assert message.startswith("the file exists and is not a plan @ ")


def test_a_template_is_never_written_over_the_checkpoint_that_is_read(factories, tmp_path):
    source = write_tree(tmp_path / "run.template", {"w": floats(2)})
    before = files_in(tmp_path)
    message = refused("plan", source, "--target", f"{factories}:Model", "--out", tmp_path / "run.json")
    assert message.startswith("the template would replace the source @ ")
    assert {name: digest for name, digest in files_in(tmp_path).items() if "pycache" not in name} == before


@pytest.mark.parametrize("text", ["rules:\n  - drop: {from: w}\n", "import os\n", "", '{"schema": "other/1"}'])
def test_a_plan_replaces_an_earlier_plan_and_nothing_else(ends, tmp_path, text):
    out = tmp_path / "out"
    out.write_text(text)
    # Seen before anything is done: the target is not even looked for.
    message = refused("plan", ends[0], "--target", tmp_path / "nowhere", "--out", out, place=tmp_path)
    assert message.startswith("the file exists and is not a plan @ ")
    for _ in range(2):
        assert ckptmigrate("plan", ends[0], "--target", ends[0], "--out", tmp_path / "new.json").status == 0


# Names.


def test_an_empty_prefix(ends, tmp_path):
    assert every_command_refuses(tmp_path, "", ends[0]).startswith("an empty prefix @ ''. ")


def test_a_name_with_line_ends_and_colours_is_told_in_one_plain_line(tmp_path):
    message = refused("inspect", f"{tmp_path}/a\nb\x1b[31m", place=tmp_path)
    assert f"@ {tmp_path}/a\\nb\\x1b[31m: expected" in message


def test_a_module_without_functions_says_so(ends, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare_model.py").write_text("size = 3\n")
    assert "got no function." in refused("verify", ends[0], "--target", "bare_model.py:build")


def test_all_rule_files_are_read_before_any_is_complained_of(tmp_path):
    source = write_tree(tmp_path / "source", {"w": floats(2)})
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("rules:\n  - renam: {from: w, to: v}\n")
    rules = [word for name in ("a.yaml", "b.yaml") for word in ("--rules", str(tmp_path / name))]
    message = refused("plan", source, "--target", source, *rules)
    assert "a.yaml:2:5" in message
    assert "b.yaml:2:5" in message
