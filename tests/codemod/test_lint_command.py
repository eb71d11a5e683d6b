"""`ckptmigrate codemod lint`: what it prints and writes, and how it ends."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from builders import ckptmigrate, files_in

from ckptmigrate.codemod.linting.lint_rules import LINT_RULES

UNCHECKED = """\
import tensorflow as tf

checkpoint = tf.train.Checkpoint(model=model)
checkpoint.restore("ckpts/run-12")
"""
FIXED = """\
import ckptmigrate
import tensorflow as tf

checkpoint = tf.train.Checkpoint(model=model)
ckptmigrate.restore(checkpoint, "ckpts/run-12")
"""
MAP = """\
import tensorflow as tf

tf.compat.v1.train.init_from_checkpoint("model.ckpt", {"bert/pooler/": "pooler/"})
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text(UNCHECKED)
    (tmp_path / "b.py").write_text(MAP)
    return tmp_path


def lint(*arguments):
    return ckptmigrate("codemod", "lint", *arguments)


@pytest.mark.usefixtures("project")
def test_each_finding_is_a_line_that_editors_read():
    ran = lint("a.py", "b.py")
    assert (ran.status, ran.err) == (1, "")
    assert ran.out == (
        "a.py:4:1: CM001 `checkpoint.restore(...)`: nothing asks its status, so a half restore goes unnoticed (--fix)\n"
        "b.py:3:56: CM005 `bert/pooler/`: all names below it begin with it in the checkpoint; after a migration, "
        "check it\n"
        "2 files, 2 with findings: 1 warning, 1 info; --fix mends 1, --diff shows how\n"
    )


@pytest.mark.usefixtures("project")
def test_what_only_informs_ends_with_0():
    assert lint("b.py").status == 0
    assert lint(".", "--ignore", "CM001").status == 0
    assert lint(".", "--select", "CM005,CM003").status == 0
    assert lint(".", "--select", "CM001").status == 1


@pytest.mark.usefixtures("project")
def test_nothing_found_is_said():
    ran = lint("a.py", "--ignore", "cm001")
    assert (ran.status, ran.out) == (0, "1 file: nothing found\n")


def test_a_fix_is_written_once(project):
    ran = lint("a.py", "--fix")
    assert (ran.status, ran.out) == (0, "mended 1 in 1 file\n1 file: nothing found\n")
    assert (project / "a.py").read_text() == FIXED
    again = lint("a.py", "--fix")
    assert (again.status, again.out) == (0, "1 file: nothing found\n")
    assert (project / "a.py").read_text() == FIXED
    assert sorted(files_in(project)) == ["a.py", "b.py"]


def test_a_fix_is_shown_and_not_written(project):
    before = files_in(project)
    ran = lint("a.py", "--diff", "--fix-with", "assert")
    assert ran.status == 1
    assert '-checkpoint.restore("ckpts/run-12")\n+checkpoint.restore("ckpts/run-12").assert_consumed()\n' in ran.out
    assert files_in(project) == before


def test_coding_and_line_ends_are_kept(project):
    text = "# -*- coding: latin-1 -*-\r\n# äöü\r\n" + UNCHECKED.replace("\n", "\r\n")
    (project / "a.py").write_bytes(text.encode("latin-1"))
    assert lint("a.py", "--fix").status == 0
    fixed = "# -*- coding: latin-1 -*-\r\n# äöü\r\n" + FIXED.replace("\n", "\r\n")
    assert (project / "a.py").read_bytes() == fixed.encode("latin-1")


def test_a_read_only_file_means_that_none_is_written(project):
    (project / "c.py").write_text(UNCHECKED)
    (project / "c.py").chmod(0o444)
    before = files_in(project)
    ran = lint(".", "--fix")
    assert (ran.status, ran.out) == (2, "")
    assert "a read-only file @ c.py" in ran.err
    assert files_in(project) == before


def test_a_file_that_does_not_parse_is_named_and_the_others_go_on(project):
    (project / "c.py").write_text("def broken(:\n")
    ran = lint(".", "--ignore", "CM001")
    assert ran.status == 1
    assert "b.py:3:56: CM005" in ran.out
    assert ran.err.startswith("ckptmigrate: not Python that can be parsed @ c.py:1")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("a.py", "--select", "CM999"),
        ("--explain", "XX"),
        ("a.py", "--json", "--sarif", "-"),
        (".", "--fix-with", "x"),
    ],
)
@pytest.mark.usefixtures("project")
def test_wrong_arguments_end_with_2(arguments):
    ran = lint(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert "Usage:" in ran.err


@pytest.mark.usefixtures("project")
def test_a_path_that_is_not_there_ends_with_2():
    ran = lint("nowhere")
    assert (ran.status, ran.out) == (2, "")
    assert "no such file or directory @ nowhere" in ran.err


def test_with_the_rules_of_a_migration_the_names_that_it_changes_fail(project):
    (project / "rules.yaml").write_text('rules:\n  - rename: {from: "bert/pooler/**", to: "encoder/pooler/**"}\n')
    ran = lint("b.py", "--rules", "rules.yaml")
    assert ran.status == 1
    assert "`bert/pooler/` becomes `encoder/pooler/` in the migrated checkpoint" in ran.out


@pytest.mark.parametrize("rule", LINT_RULES)
def test_every_rule_explains_itself_with_examples(rule):
    ran = lint("--explain", rule)
    assert ran.status == 0
    assert ran.out.startswith(f"{rule} {LINT_RULES[rule].name} (")
    assert "\nfound:\n" in ran.out
    assert "\nnot found:\n" in ran.out


@pytest.mark.usefixtures("project")
def test_json_has_the_edits():
    ran = lint("a.py", "--json")
    assert ran.status == 1
    (found,) = json.loads(ran.out)["findings"]
    assert (found["file"], found["line"], found["column"], found["end_line"], found["end_column"]) == (
        "a.py",
        4,
        1,
        4,
        35,
    )
    assert (found["rule"], found["severity"]) == ("CM001", "warning")
    assert found["fix"]["edits"] == [
        {"line": 1, "column": 1, "end_line": 1, "end_column": 1, "text": "import ckptmigrate\n"},
        {"line": 4, "column": 1, "end_line": 4, "end_column": 19, "text": "ckptmigrate.restore"},
        {"line": 4, "column": 20, "end_line": 4, "end_column": 20, "text": "checkpoint, "},
    ]


# SARIF. What the schema of OASIS asks of the parts that are written here.

_TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
_NUMBER = {"type": "integer", "minimum": 1}
_REGION = {
    "type": "object",
    "additionalProperties": False,
    "required": ["startLine"],
    "properties": dict.fromkeys(("startLine", "startColumn", "endLine", "endColumn"), _NUMBER),
}
_URI = {"type": "string", "format": "uri-reference"}
_ARTIFACT = {
    "type": "object",
    "required": ["uri"],
    "properties": {"uri": _URI},
}
_LOCATION = {
    "type": "object",
    "additionalProperties": False,
    "required": ["physicalLocation"],
    "properties": {
        "physicalLocation": {
            "type": "object",
            "additionalProperties": False,
            "required": ["artifactLocation"],
            "properties": {"artifactLocation": _ARTIFACT, "region": _REGION},
        }
    },
}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_REPLACEMENT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["deletedRegion"],
    "properties": {
        "deletedRegion": _REGION,
        "insertedContent": {"type": "object", "properties": {"text": {"type": "string"}}},
    },
}
_CHANGE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["artifactLocation", "replacements"],
    "properties": {
        "artifactLocation": _ARTIFACT,
        "replacements": {"type": "array", "minItems": 1, "items": _REPLACEMENT},
    },
}
_FIX = {
    "type": "object",
    "additionalProperties": False,
    "required": ["artifactChanges"],
    "properties": {"description": _TEXT, "artifactChanges": {"type": "array", "minItems": 1, "items": _CHANGE}},
}
_RESULT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["message"],
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": _LEVEL,
        "message": _TEXT,
        "locations": {"type": "array", "items": _LOCATION},
        "fixes": {"type": "array", "items": _FIX, "uniqueItems": True},
        "suppressions": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["kind"],
                "properties": {"kind": {"enum": ["inSource", "external"]}},
            },
        },
    },
}
_RULE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id"],
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "shortDescription": _TEXT,
        "fullDescription": _TEXT,
        "defaultConfiguration": {"type": "object", "properties": {"level": _LEVEL}},
    },
}
_NOTIFICATION = {
    "type": "object",
    "additionalProperties": False,
    "required": ["message"],
    "properties": {"level": _LEVEL, "message": _TEXT, "locations": {"type": "array", "items": _LOCATION}},
}
_INVOCATION = {
    "type": "object",
    "additionalProperties": False,
    "required": ["executionSuccessful"],
    "properties": {
        "executionSuccessful": {"type": "boolean"},
        "toolExecutionNotifications": {"type": "array", "items": _NOTIFICATION},
    },
}
_DRIVER = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "semanticVersion": {"type": "string"},
        "rules": {"type": "array", "items": _RULE, "uniqueItems": True},
    },
}
_RUN = {
    "type": "object",
    "additionalProperties": False,
    "required": ["tool"],
    "properties": {
        "tool": {"type": "object", "required": ["driver"], "properties": {"driver": _DRIVER}},
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "invocations": {"type": "array", "items": _INVOCATION},
        "results": {"type": "array", "items": _RESULT},
    },
}
SARIF = {
    "type": "object",
    "additionalProperties": False,
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {"type": "array", "items": _RUN},
    },
}


def test_sarif_is_what_its_schema_asks_for(project):
    (project / "c.py").write_text("def broken(:\n")
    (project / "d ü.py").write_text(UNCHECKED.replace('12")', '12")  # ckptmigrate: ignore[CM001]'))
    ran = lint(".", "--sarif", "-")
    log = json.loads(ran.out)
    jsonschema.validate(log, SARIF)
    assert ran.status == 1
    (run,) = log["runs"]
    first, second, ignored = run["results"]
    assert [each["ruleId"] for each in run["results"]] == ["CM001", "CM005", "CM001"]
    rules = run["tool"]["driver"]["rules"]
    assert [each["level"] for each in run["results"]] == ["warning", "note", "warning"]
    assert first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a.py"
    assert [rules[each["ruleIndex"]]["id"] for each in run["results"]] == ["CM001", "CM005", "CM001"]
    assert ("fixes" in first, "fixes" in second) == (True, False)
    assert ignored["suppressions"] == [{"kind": "inSource"}]
    assert ignored["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "d%20%C3%BC.py"
    (invocation,) = run["invocations"]
    assert not invocation["executionSuccessful"]
    assert invocation["toolExecutionNotifications"][0]["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "c.py"},
        "region": {"startLine": 1},
    }


def test_sarif_goes_to_a_file_beside_what_a_person_reads(project):
    ran = lint("a.py", "--sarif", "lint.sarif")
    assert "a.py:4:1: CM001" in ran.out
    jsonschema.validate(json.loads((project / "lint.sarif").read_bytes()), SARIF)


def test_sarif_replaces_no_source_and_only_what_is_sarif(project):
    before = (project / "a.py").read_bytes()
    (project / "data.json").write_text("[1]")
    for out, said in (
        ("a.py", "a file of the source that is read @ a.py"),
        ("data.json", "is not one of the logs in SARIF @ data.json"),
        ("missing/lint.sarif", "no such directory @ missing"),
    ):
        ran = lint("a.py", "--fix", "--sarif", out)
        assert ran.status == 2
        assert said in ran.err
    assert (project / "a.py").read_bytes() == before
    assert (project / "data.json").read_text() == "[1]"
    for _ in range(2):
        lint("a.py", "--sarif", "lint.sarif")
    assert json.loads((project / "lint.sarif").read_bytes())["runs"]


# The hook.


def test_the_hook_says_what_pre_commit_asks_for():
    top = Path(__file__).parents[2]
    (hook,) = yaml.safe_load((top / ".pre-commit-hooks.yaml").read_text())
    assert {"id", "name", "entry", "language"} <= hook.keys()
    assert (hook["id"], hook["language"], hook["types"]) == ("ckptmigrate-lint", "python", ["python"])
    arguments = hook["entry"].split()
    assert arguments[0] == "ckptmigrate"
    assert ckptmigrate(*arguments[1:], "--help").status == 0


# What it costs.


@pytest.mark.usefixtures("project")
def test_nothing_slow_is_imported():
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ckptmigrate", "codemod", "lint", "b.py", "--fix"],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in run.stderr.splitlines()}
    assert "ckptmigrate" in modules
    assert not modules & {"tensorflow", "keras", "scipy", "libcst", "numpy", "networkx"}


# That it is true.


def test_what_is_said_of_tensorflow_is_so(tmp_path):
    import tensorflow as tf

    import ckptmigrate as cm

    path = tf.train.Checkpoint(a=tf.Variable(1.0)).save(str(tmp_path / "run"))
    fresh = tf.train.Checkpoint(b=tf.Variable(5.0))
    fresh.restore(path).expect_partial()
    assert fresh.b.numpy() == 5.0  # nothing is said
    fresh.restore(None)
    with pytest.raises(tf.errors.NotFoundError):
        fresh.restore(str(tmp_path / "run"))
    with pytest.raises(AssertionError):
        fresh.restore(None).assert_consumed()
    with pytest.raises(cm.RestoreError):
        cm.restore(fresh, path)
    with pytest.raises(cm.CkptMigrateError, match="not a checkpoint"):
        cm.restore(tf.compat.v1.train.Checkpoint(a=tf.Variable(1.0)), path)


TRAINED = """\
import tensorflow as tf

tf.train.Checkpoint(a=tf.Variable(1.0)).save("run")
checkpoint = tf.train.Checkpoint(a=tf.Variable(5.0), b=tf.Variable(5.0))
checkpoint.restore("run-1").expect_partial()
checkpoint.restore("run-1")
"""


@pytest.mark.parametrize(("way", "error"), [("restore", "RestoreError"), ("assert", "AssertionError")])
def test_a_half_restore_that_went_unnoticed_is_noticed_after_the_fix(project, way, error):
    (project / "a.py").write_text(TRAINED)
    before = {}
    exec(compile(TRAINED, "a.py", "exec"), before)  # noqa: S102 # our own lines
    assert before["checkpoint"].b.numpy() == 5.0
    assert lint("a.py", "--fix", "--fix-with", way).status == 0
    with pytest.raises(Exception, match="b") as raised:  # which one is asked below
        exec(compile((project / "a.py").read_text(), "a.py", "exec"), {})  # noqa: S102
    assert type(raised.value).__name__ == error
