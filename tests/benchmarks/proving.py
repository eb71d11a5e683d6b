"""What it costs to know that a checkpoint restores, beside restoring it.

    python tests/benchmarks/proving.py             # 1 GB with Adam slots
    python tests/benchmarks/proving.py --gb 0.2

Each row is a process of its own, from its start to its end; the rows take turns, and the table has the medians. The
first row is the model built, restored and asserted (`restore().assert_consumed()`), and nothing else; the second the
model only. The checkpoint is written with TensorFlow once and kept in ``--folder``.
"""

from __future__ import annotations

# ruff: noqa: T201  # it is a program
import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from rename import Cost, made, run

HERE = Path(__file__).parent
WIDTH = 1024
BLOCK_BYTES = 3 * (WIDTH * WIDTH + WIDTH) * 4

MODEL = """\
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import tensorflow as tf


class Block(tf.Module):
    def __init__(self):
        super().__init__()
        self.w, self.b = tf.Variable(tf.ones(({width}, {width}))), tf.Variable(tf.ones(({width},)))


class Model(tf.Module):
    def __init__(self):
        super().__init__()
        self.blocks = [Block() for _ in range({count})]


def build():
    model, optimizer = Model(), keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    return tf.train.Checkpoint(model=model, optimizer=optimizer)
"""
SAVE = """
checkpoint = build()
for number, variable in enumerate([*checkpoint.model.variables, *checkpoint.optimizer.variables]):
    tensor = tf.cast(tf.fill(variable.shape, number % 100 + 1), variable.dtype)
    variable.assign(tensor)
checkpoint.save({prefix!r})
"""


def main() -> None:
    arguments = parse()
    count = max(1, round(arguments.gb * 1e9 / BLOCK_BYTES))
    inputs = made(arguments.folder / f"proving-{count}")
    model = MODEL.format(width=WIDTH, count=count)
    (inputs / "model.py").write_text(model, encoding="utf-8")
    prefix = f"{inputs / 'ckpt'}-1"
    target = f"{inputs / 'model.py'}:build"
    tool = [sys.executable, "-m", "ckptmigrate"]
    if not Path(f"{prefix}.index").exists():
        run([sys.executable, "-c", model + SAVE.format(prefix=str(inputs / "ckpt"))])
    plan = str(inputs / "plan.json")
    run([*tool, "plan", prefix, "--target", target, "--out", plan])
    run([*tool, "apply", plan, "--out", str(inputs / "out"), "--overwrite"])
    migrated = [*tool, "verify", str(inputs / "out"), "--plan", plan]
    rows = {
        "restore().assert_consumed()": [
            sys.executable,
            "-c",
            f"{model}\ncheckpoint = build()\ncheckpoint.restore({prefix!r}).assert_consumed()",
        ],
        "model only": [sys.executable, "-c", f"{model}\nbuild()"],
        "doctor": [*tool, "doctor", prefix, "--target", target],
        "verify --level coverage": [*tool, "verify", prefix, "--target", target],
        **{f"verify --plan --level {level}": [*migrated, "--level", level] for level in ("structure", "checksums")},
    }
    rows = {name: command for name, command in rows.items() if name not in arguments.skip}
    costs: dict[str, list[Cost]] = {name: [] for name in rows}
    for _ in range(arguments.runs):
        for name, command in rows.items():
            costs[name].append(run(command))
    medians = {name: Cost(*map(statistics.median, zip(*measured, strict=True))) for name, measured in costs.items()}
    text = table(f"{count * BLOCK_BYTES / 1e9:.2f} GB with Adam slots, median of {arguments.runs}", medians)
    print(text)
    made(arguments.out.parent)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=1.0, help="size of the checkpoint, slots included")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--skip", action="append", default=[], metavar="ROW", help="e.g. doctor")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "ckptmigrate-benchmarks")
    parser.add_argument("--out", type=Path, help="the table's file; FOLDER/proving.md if not given")
    arguments = parser.parse_args()
    arguments.out = arguments.out or arguments.folder / "proving.md"
    return arguments


def table(title: str, medians: dict[str, Cost]) -> str:
    base = next(iter(medians.values()))
    lines = [f"## {title}", "", "| | wall, s | CPU, s | peak, MB | wall / restore |", "|---|---:|---:|---:|---:|"]
    for name, cost in medians.items():
        lines.append(
            f"| {name} | {cost.wall_s:.2f} | {cost.cpu_s:.2f} | {cost.peak_mb:.0f} | {cost.wall_s / base.wall_s:.2f} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
