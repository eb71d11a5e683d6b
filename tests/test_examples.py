"""The examples run, and what they assert holds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

SAID = {
    "linear_module": "Did you mean",
    "test_restores": "`model/weights` float32[8, 4]: not in the checkpoint, it keeps its initial value",
    "added_variables": "assert_consumed passes",
    "renamed_by_hand": "passed  outputs",
    "training_goes_on": "w1 and kernel have the same bits",
    "rename_in_git": "the outputs are equal, bit for bit",
    "failed_restores": "| without a restore | yes | no |",
}


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SAID.keys()


@pytest.mark.parametrize("name", SAID)
def test_example(tmp_path, name):
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", tmp_path],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert SAID[name] in done.stdout
    page = EXAMPLES / f"{name}.md"
    if page.exists():
        said, shown = done.stdout.splitlines(), page.read_text(encoding="utf-8").splitlines()
        versions = next(line for line in said if line.startswith("TensorFlow "))
        if versions not in shown:
            pytest.skip(f"{page.name} was not made with {versions}: other versions have other words")
        assert said == shown
