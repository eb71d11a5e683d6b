"""`assert_restores`: a project's own tests say that its model still restores its checkpoint."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from models import Weights, weight
from test_imports import ONLY_FOR_SOME, SLOW

import ckptmigrate
from ckptmigrate.testing import assert_restores

ROOT = Path(ckptmigrate.__file__).parents[1]

PROJECT = """
import os
from pathlib import Path

import pytest
import tensorflow as tf

from ckptmigrate.testing import assert_restores as plainly

HERE = Path(__file__).parent


class Model(tf.Module):
    def __init__(self, attribute):
        super().__init__()
        setattr(self, attribute, tf.Variable([[1.0, 2.0]]))


def checkpoint_of(attribute):
    return tf.train.Checkpoint(model=Model(attribute))


def fails():
    raise ZeroDivisionError("of the model's own")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return checkpoint_of("w1").save(tmp_path_factory.mktemp("saved") / "ckpt")


def test_as_it_was(saved, assert_restores):
    assert assert_restores(lambda: checkpoint_of("w1"), saved).passed


def test_renamed(saved, assert_restores):
    assert_restores(lambda: checkpoint_of("kernel"), saved)


def test_renamed_plainly(saved):
    plainly(lambda: checkpoint_of("kernel"), saved)


def test_missing(assert_restores):
    assert_restores(lambda: checkpoint_of("w1"), HERE / "nowhere" / "ckpt-1")


@pytest.mark.skipif(not os.path.exists("nowhere/ckpt-1.index"), reason="no checkpoint here")
def test_skipped(assert_restores):
    assert_restores(lambda: checkpoint_of("w1"), HERE / "nowhere" / "ckpt-1")


def test_not_built(saved, assert_restores):
    assert_restores(fails, saved)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a machine on which ckptmigrate is installed as pyproject.toml says."""
    folder = tmp_path_factory.mktemp("installed")
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    package = folder / "ckptmigrate_as_installed-0.1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: ckptmigrate-as-installed\nVersion: 0.1\n")
    sections = (
        f"[{group}]\n" + "\n".join(f"{name} = {place}" for name, place in names.items())
        for group, names in points.items()
    )
    (package / "entry_points.txt").write_text("\n".join(sections))
    paths = (str(folder), str(ROOT), os.environ.get("PYTHONPATH", ""))
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def run_pytest(folder, environment, *arguments, python=()):
    command = [sys.executable, *python, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def said(installed, tmp_path_factory):
    """What pytest says of each test of a project, and at its end."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "test_restores.py").write_text(PROJECT)
    out = run_pytest(folder, installed, "-rs").stdout
    pieces = re.split(r"^_{3,} (\w+) _{3,}$", out, flags=re.MULTILINE)
    return {**dict(zip(pieces[1::2], pieces[2::2], strict=True)), "": out}


def test_a_model_that_still_restores_its_checkpoint_passes(said):
    assert "test_as_it_was" not in said
    assert "4 failed, 1 passed, 1 skipped" in said[""]


@pytest.mark.parametrize("test", ["test_renamed", "test_renamed_plainly"])
def test_a_renamed_attribute_fails_and_is_named_on_both_sides(said, test):
    assert re.search(r"^E +AssertionError: .*ckpt-1 for .*: failed$", said[test], re.MULTILINE)
    assert "failed  structure:" in said[test]
    assert "`model/kernel`" in said[test]
    assert "`model/w1`" in said[test]


def test_a_failure_shows_the_test_and_nothing_of_ours(said):
    assert '>       assert_restores(lambda: checkpoint_of("kernel"), saved)' in said["test_renamed"].replace(
        "   ", "   "
    )
    assert "ckptmigrate/" not in said["test_renamed"]
    assert "RestoreError" not in said["test_renamed"]


def test_a_missing_checkpoint_fails_and_how_to_skip_is_said(said):
    assert "AssertionError: no checkpoint @ " in said["test_missing"]
    assert "@pytest.mark.skipif(not os.path.exists(" in said["test_missing"]
    assert "no checkpoint here" in said[""]


def test_what_the_factory_raised_is_shown_where_it_was_raised(said):
    assert '>       raise ZeroDivisionError("of the model\'s own")' in said["test_not_built"]
    assert "AssertionError: the factory raised @ " in said["test_not_built"]
    assert "ckptmigrate/" not in said["test_not_built"]


def test_the_plugin_is_loaded_and_imports_nothing_until_it_is_used(installed, tmp_path):
    program = "import sys\ndef test_modules(): open('modules', 'w').write(' '.join(sys.modules))\n"
    (tmp_path / "test_modules.py").write_text(program)
    # Hypothesis has a plugin too, which imports numpy.
    ran = run_pytest(tmp_path, installed, "-p", "no:hypothesispytest")
    assert ran.returncode == 0, ran.stdout
    imported = set((tmp_path / "modules").read_text().split())
    assert {name for name in imported if name.startswith("ckptmigrate")} == {"ckptmigrate", "ckptmigrate.pytest_plugin"}
    assert not {name.partition(".")[0] for name in imported} & (SLOW | ONLY_FOR_SOME)


def saved(tmp_path):
    return ckptmigrate.build_checkpoint(lambda: module("w1")).save(str(tmp_path / "ckpt"))


def module(*attributes):
    return {"model": Weights({attribute: weight() for attribute in attributes})}


def test_what_was_proven_is_returned(tmp_path):
    report = assert_restores(lambda: module("w1"), saved(tmp_path))
    assert [(check.level, check.outcome) for check in report.checks] == [
        ("structure", "passed"),
        ("restore", "passed"),
        ("coverage", "passed"),
    ]


def test_a_directory_stands_for_its_latest_checkpoint(tmp_path):
    saved(tmp_path)
    assert assert_restores(lambda: module("w1"), tmp_path).prefix == str(tmp_path / "ckpt-1")


def test_a_factory_may_be_named(tmp_path):
    (tmp_path / "named_model.py").write_text("from test_testing import module\ndef build(): return module('w1')\n")
    assert assert_restores(f"{tmp_path}/named_model.py:build", saved(tmp_path)).passed


def test_a_checkpoint_may_hold_more_where_that_is_said(tmp_path):
    prefix = ckptmigrate.build_checkpoint(lambda: module("w1", "head")).save(str(tmp_path / "ckpt"))
    with pytest.raises(AssertionError, match="model/head"):
        assert_restores(lambda: module("w1"), prefix)
    assert assert_restores(lambda: module("w1"), prefix, expect_partial=True).passed


def test_a_checkpoint_that_is_damaged_fails(tmp_path):
    prefix = saved(tmp_path)
    Path(f"{prefix}.index").write_bytes(b"nothing")
    with pytest.raises(AssertionError, match=re.escape(prefix)):
        assert_restores(lambda: module("w1"), prefix)


def test_a_model_in_place_of_what_makes_it_is_told():
    with pytest.raises(AssertionError, match="pass the function that makes it"):
        assert_restores(tf_checkpoint(), "ckpt")


def test_no_path_at_all_is_told():
    with pytest.raises(AssertionError, match="None, for which TensorFlow restores nothing"):
        assert_restores(tf_checkpoint, None)


def tf_checkpoint():
    import tensorflow as tf

    return tf.train.Checkpoint(model=Weights({"a": weight()}))
