"""Checkpoints that distribution strategies write: read as what they are, and led to other strategies."""

import os
import subprocess
import sys
from pathlib import Path

import distributed
import pytest
from builders import plan_between

from ckptmigrate import apply_plan, verify_checkpoint, write_template
from ckptmigrate.bundle import Bundle

OPTIMIZERS = ("legacy", "keras-2.11")


def run(strategy, *arguments):
    """The program in a process of its own: a cluster connects the whole of TensorFlow to its servers."""
    ran = subprocess.run(
        [sys.executable, str(Path(distributed.__file__)), strategy, *map(str, arguments)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-4000:]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_variable_sharded_over_parameter_servers_is_sharded_over_others(tmp_path, optimizer):
    source, target = str(tmp_path / "source"), str(tmp_path / "target")
    run("servers-2", "save", source, optimizer)
    run("servers-3", "template", target, optimizer)
    plan = plan_between(source, target)
    assert plan.is_complete
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    assert verify_checkpoint(out, target, plan=plan).passed
    with Bundle.open(out) as made, Bundle.open(source) as theirs:
        sharded = [key for key, entry in made.entries.items() if entry.slices]
        assert len(sharded) == 6  # a kernel, a bias, and the two moments of each
        for key in sharded:
            assert (len(theirs.entries[key].slices), len(made.entries[key].slices)) == (2, 3)
            assert made.read(key).tobytes() == theirs.read(key).tobytes()
    run("servers-3", "restore", out, optimizer, source)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_mirrored_checkpoint_is_one_of_one_copy(tmp_path, optimizer):
    source = str(tmp_path / "source")
    run("mirrored", "save", source, optimizer)

    def build():
        return distributed.build(optimizer)

    plan = plan_between(source, write_template(build, str(tmp_path / "target")).prefix)
    assert plan.is_complete
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    assert verify_checkpoint(out, build, plan=plan).passed
    run("mirrored", "restore", out, optimizer, source)
