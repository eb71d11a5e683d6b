"""The command line: what it prints where, and how it ends."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from builders import ckptmigrate, files_in, floats, read_all, write_tree
from click.testing import CliRunner
from corpus import corpus_prefixes
from rich.tree import Tree

from ckptmigrate import Bundle, __version__
from ckptmigrate.cli import cli
from ckptmigrate.cli.outputs import print_lines
from ckptmigrate.spec import OBJECT_GRAPH_KEY

COMMANDS = ("inspect", "diff", "template", "plan", "apply", "verify", "schema", "demo", "rules")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command):
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0
    assert f"  ckptmigrate {command}" in result.output


def test_the_version_is_the_packages():
    assert CliRunner().invoke(cli, ["--version"]).output == f"ckptmigrate, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect",),
        ("nope",),
        ("inspect", "a", "b"),
        ("plan", "a"),
        ("plan", "a", "--target", "b", "--nope"),
        ("apply", "p", "--out", "o", "--link", "soft"),
        ("apply", "p", "--out", "o", "--layout", "loose"),
        ("template", "no_factory", "--out", "o"),
        ("schema", "receipts"),
    ],
)
def test_wrong_arguments_end_with_2_and_say_how_it_is_used(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = ckptmigrate(*arguments)
    assert ran.status == 2
    assert ran.out == ""
    assert "Usage: ckptmigrate" in ran.err
    assert files_in(tmp_path) == {}


def test_results_go_to_stdout_and_errors_to_stderr(tmp_path):
    prefix = write_tree(tmp_path / "ckpt", {"w": floats(2)})
    fine, wrong = ckptmigrate("inspect", prefix), ckptmigrate("inspect", prefix + "x")
    assert (fine.status, fine.err) == (0, "")
    assert (wrong.status, wrong.out) == (2, "")
    assert wrong.err.startswith("ckptmigrate: no checkpoint @ ")


def test_what_is_no_error_of_ours_shows_its_traceback(tmp_path, monkeypatch):
    import ckptmigrate.graph as graph_module

    def bug(bundle):
        raise ZeroDivisionError(bundle)

    monkeypatch.setattr(graph_module.ObjectGraph, "from_bundle", bug)
    prefix = write_tree(tmp_path / "ckpt", {"w": floats(2)})
    with pytest.raises(ZeroDivisionError):
        ckptmigrate("inspect", prefix)


def test_an_interruption_ends_with_130(tmp_path, monkeypatch):
    import ckptmigrate.graph as graph_module

    def interrupt(bundle):
        raise KeyboardInterrupt(bundle)

    monkeypatch.setattr(graph_module.ObjectGraph, "from_bundle", interrupt)
    ran = ckptmigrate("inspect", write_tree(tmp_path / "ckpt", {"w": floats(2)}))
    assert (ran.status, ran.err.strip()) == (130, "stopped")


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path):
    prefix = write_tree(tmp_path / "ckpt", {f"v{n}_{'x' * n}": floats(n + 1) for n in range(400)})
    command = f"'{sys.executable}' -m ckptmigrate inspect '{prefix}' | head -n 1"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ran.stdout == f"{prefix}\n"
    assert ran.stderr == ""


def test_it_runs_as_a_module_and_the_shell_sees_its_status(tmp_path):
    command = [sys.executable, "-m", "ckptmigrate", "inspect", str(tmp_path / "nope")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith("ckptmigrate: no checkpoint @ ")
    assert "Traceback" not in ran.stderr


def test_a_directory_stands_for_its_checkpoint(tmp_path):
    write_tree(tmp_path / "run" / "ckpt-3", {"w": floats(2)})
    assert str(tmp_path / "run" / "ckpt-3") in ckptmigrate("inspect", tmp_path / "run").out


def test_the_whole_way_for_programs(tmp_path):
    source = write_tree(tmp_path / "s", {"a": floats(2, 3), "b": floats(4)})
    target = write_tree(tmp_path / "t", {"c": floats(3, 2), "b": floats(4)})
    (tmp_path / "r.yaml").write_text("rules:\n  - transpose: {from: a, to: c}\n")
    plan, out = tmp_path / "plan.json", tmp_path / "out"
    ran = [
        ckptmigrate("plan", source, "--target", target, "--rules", tmp_path / "r.yaml", "--out", plan, "--json"),
        ckptmigrate("apply", plan, "--out", out, "--json"),
        ckptmigrate("verify", out, "--target", target, "--plan", plan, "--json"),
        ckptmigrate("inspect", out, "--json"),
        ckptmigrate("diff", source, out, "--json"),
    ]
    assert [each.status for each in ran] == [0] * 5
    schemas = [json.loads(each.out).get("schema") for each in ran]
    assert schemas[:3] == ["ckptmigrate.plan/1", "ckptmigrate.receipt/1", "ckptmigrate.report/1"]
    assert len(json.loads(ran[3].out)["tensors"]) == 2
    assert json.loads(ran[4].out)["equal_values"] == 1


def test_what_a_models_code_prints_is_no_result(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chatty_model.py").write_text(
        "import os, sys\n"
        "import tensorflow as tf\n"
        "print('import')\n"
        "class Model(tf.Module):\n"
        "    def __init__(self):\n"
        "        print('factory')\n"
        "        os.system('echo program')\n"
        "        self.w = tf.Variable(tf.zeros([2]))\n"
    )
    try:
        for command in (
            ("template", "chatty_model.py:Model", "--out", "template"),
            ("plan", "template", "--target", "chatty_model.py:Model", "--out", "plan.json"),
            ("verify", "template", "--target", "chatty_model.py:Model"),
        ):
            ran = ckptmigrate(*command, "--json")
            assert ran.status == 0
            assert json.loads(ran.out)
            assert ran.err == "import\nfactory\n"
            out, err = capfd.readouterr()
            assert (out, "program\n" in err) == ("", True)
    finally:
        sys.modules.pop("chatty_model", None)


def test_tensorflow_says_nothing_of_the_machine(tmp_path):
    (tmp_path / "quiet_model.py").write_text(
        "import tensorflow as tf\n"
        "class Model(tf.Module):\n"
        "    def __init__(self):\n"
        "        self.w = tf.Variable(tf.zeros([2]))\n"
    )
    command = [sys.executable, "-m", "ckptmigrate", "template", "quiet_model.py:Model", "--out", "template"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert (ran.stdout, ran.stderr) == ("template: 2 tensors\n", "")


def test_proposed_is_explained_where_it_is_taken():
    assert "usual order of variables" in " ".join(ckptmigrate("plan", "--help").out.split())


def test_rules_may_come_from_several_files(tmp_path):
    source = write_tree(tmp_path / "s", {"a": floats(2), "b": floats(3)})
    target = write_tree(tmp_path / "t", {"x": floats(2), "y": floats(3)})
    files = []
    for old, new in ("ax", "by"):
        files += ["--rules", tmp_path / f"{old}.yaml"]
        (tmp_path / f"{old}.yaml").write_text(f"rules:\n  - rename: {{from: {old}, to: {new}}}\n")
    assert ckptmigrate("plan", source, "--target", target, *files).status == 0


@pytest.mark.parametrize("name", ["packs", "plan", "rules"])
def test_schemas_are_printed_as_they_are(name):
    assert "$schema" in json.loads(ckptmigrate("schema", name).out)


# Real checkpoints: planned onto themselves, applied, and read by TensorFlow.


@pytest.mark.parametrize("name", sorted(corpus_prefixes()))
def test_a_real_checkpoint_migrated_to_itself_is_what_tensorflow_read_before(name, tmp_path):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf

    prefix = corpus_prefixes()[name]
    plan, out = tmp_path / "plan.json", str(tmp_path / "out")
    planned = ckptmigrate("plan", prefix, "--target", prefix, "--out", plan)
    assert planned.status == 0, planned.out
    applied = ckptmigrate("apply", plan, "--out", out)
    assert applied.status == 0, applied.err
    before, after = tf.train.load_checkpoint(prefix), tf.train.load_checkpoint(out)
    assert after.get_variable_to_shape_map() == before.get_variable_to_shape_map()
    assert after.get_variable_to_dtype_map() == before.get_variable_to_dtype_map()
    for key in before.get_variable_to_shape_map():
        old, new = np.asarray(before.get_tensor(key)), np.asarray(after.get_tensor(key))
        assert old.dtype == new.dtype
        assert (old == new).all() if old.dtype == object else old.tobytes() == new.tobytes(), key
    proven = ckptmigrate("verify", out, "--target", prefix, "--plan", plan)
    assert proven.status == 0, proven.out
    with Bundle.open(prefix) as source, Bundle.open(out) as made:
        keys = [key for key in source.entries if key != OBJECT_GRAPH_KEY]
        assert [key for key in made.entries if key != OBJECT_GRAPH_KEY] == keys
        assert all(made.entries[key].crc32c == source.entries[key].crc32c for key in keys)


@pytest.mark.parametrize("name", sorted(corpus_prefixes()))
def test_a_real_checkpoint_is_inspected_and_differs_from_itself_in_nothing(name):
    prefix = corpus_prefixes()[name]
    assert ckptmigrate("inspect", prefix).status == 0
    data = json.loads(ckptmigrate("inspect", prefix, "--json").out)
    difference = json.loads(ckptmigrate("diff", prefix, prefix, "--json").out)
    assert difference["equal_values"] == len(difference["same"]) == len(data["tensors"])
    assert not any(difference[kind] for kind in ("only_source", "only_target", "moved", "respecified"))


def test_a_tree_in_utf_8_reaches_a_pipe(tmp_path):
    prefix = write_tree(tmp_path / "ckpt", {"größe": {"層": floats(2)}})
    assert len(read_all(prefix)) == 1
    command = [sys.executable, "-m", "ckptmigrate", "inspect", prefix]
    ran = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert "層" in ran.stdout.decode()


def test_what_is_printed_is_what_was_meant_and_no_emoji(capsys):
    tree = Tree("model.py:new:")
    tree.add("[bold]:key:[/bold]")
    print_lines(["healthy  ckpt for :model:new: model.py:new:", tree])
    assert capsys.readouterr().out.split("\n")[0] == "healthy  ckpt for :model:new: model.py:new:"
    print_lines([tree])
    told = capsys.readouterr().out
    assert "model.py:new:" in told
    assert ":key:" in told
