"""The main job on real input, told step by step: an old checkpoint becomes a proven new one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

from ckptmigrate.errors import OutputError

_FILES = ("old_model.py", "new_model.py", "rules.yaml")

_STORY = (
    (
        "A model is trained for ten steps with Adam and saved (old_model.py).",
        "python old_model.py old/ckpt",
    ),
    (
        "This is what the checkpoint holds.",
        "ckptmigrate inspect old/ckpt-1",
    ),
    (
        """The model was refactored (new_model.py): attributes renamed, two layers wrapped into a submodule,
   a kernel transposed. rules.yaml says so; the rest, and the optimizer's state, is found.""",
        "ckptmigrate plan old/ckpt-1 --target new_model.py:build --rules rules.yaml --out plan.json",
    ),
    (
        "The plan is carried out, without tensorflow; what does not change is not rewritten.",
        "ckptmigrate apply plan.json --out new/ckpt",
    ),
    (
        """The new checkpoint is proven: TensorFlow itself restores it, and on the same inputs both models give the same
   and train on alike.""",
        "ckptmigrate verify new/ckpt --plan plan.json --source-model old_model.py:build --level training-step",
    ),
)
"""What is done, and the command that does it."""


def run_demo(folder: str | None, say: Callable[[str], None]) -> int:
    """Save a checkpoint from an old model, then plan, apply and verify its migration to a new one.

    Every command is run as a person would type it, in a process of its own, and shows what it printed.

    Args:
        folder: Where the files are left; it must be empty or absent. None for a new temporary folder.
        say: Takes each piece of text.

    Returns:
        The exit status of the first command that failed, or 0.

    Raises:
        OutputError: The folder is not empty, or cannot be made.
    """
    place = _make_folder(folder)
    for name in _FILES:
        with as_file(files(__name__) / name) as original:
            shutil.copyfile(original, place / name)
    for number, (why, command) in enumerate(_STORY, 1):
        say(f"\n{number}. {why}\n\n$ {command}")
        done = _run(command, place)
        say(done.stdout.rstrip())
        if done.returncode:
            say(done.stderr.rstrip())
            say(f"\nThe command failed with exit status {done.returncode}. The files are in {place}")
            return done.returncode
    say(f"\nAll files are in {place}")
    return 0


def _run(command: str, place: Path) -> subprocess.CompletedProcess[str]:
    program, *arguments = command.split()
    start = [sys.executable] if program == "python" else [sys.executable, "-m", program]
    # What TensorFlow says of the machine it runs on is no part of the story.
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow"}
    return subprocess.run([*start, *arguments], cwd=place, env=quiet, capture_output=True, text=True, check=False)  # noqa: S603


def _make_folder(folder: str | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="ckptmigrate-demo-"))
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        taken = next(place.iterdir(), None)
    except OSError as error:
        raise OutputError("cannot be used as a folder", folder, got=str(error.strerror)) from error
    if taken is not None:
        raise OutputError("the folder is not empty", folder, got=f"among others `{taken.name}`", hint="Name a new one")
    return place.resolve()
