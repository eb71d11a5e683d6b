"""How long it takes to rename every variable of a checkpoint, beside what else there is.

    python tests/benchmarks/rename.py                         # 1 GB with Adam slots
    python tests/benchmarks/rename.py --gb 5 --skip by-hand --skip by-ops
    python tests/benchmarks/rename.py --variables 20000       # many small ones
    python tests/benchmarks/rename.py --variables 20000 --no-slots
    python tests/benchmarks/rename.py --variables 1000 --no-slots --skip by-hand --skip by-ops   # for `inspect`

Each row is a process of its own, from its start to its end; the rows take turns, and the table has the
medians. `apply` and what it is compared with do the same work, which is checked: the same tensors under
the same keys. Compared are `cp` of the files, TensorFlow as users write it (`by_hand.py`) and the leanest
script for TensorFlow (`by_ops.py`). The checkpoints are written with TensorFlow once and kept in
``--folder``, which has to have room for six times the size of one; delete it when you are done.
"""

from __future__ import annotations

# ruff: noqa: T201  # it is a program
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

# Nothing but the standard library: a child's peak memory counts what its parent had when it forked.

HERE = Path(__file__).parent
RULES = """\
rules:
  - rename: {from: "model/blocks/{i:int}/w", to: "model/layers/{i}/kernel"}
  - rename: {from: "model/blocks/{i:int}/b", to: "model/layers/{i}/bias"}
"""
BYTES_OF_A_VALUE = 4
WIDTH_OF_LARGE, WIDTH_OF_SMALL = 1024, 4
RENAMERS = ("apply", "by-hand", "by-ops")
COMPARED = ("cp", *RENAMERS)
WRITERS = (*COMPARED, "plan")


class Cost(NamedTuple):
    """What a process took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def main() -> None:
    arguments = parse()
    slots = int(not arguments.no_slots)
    width = WIDTH_OF_SMALL if arguments.variables else WIDTH_OF_LARGE
    block_bytes = (width * width + width) * BYTES_OF_A_VALUE * (3 if slots else 1)
    count = arguments.variables // 2 or max(1, round(arguments.gb * 1e9 / block_bytes))
    what = f"{2 * count} variables" + (" with Adam slots" if slots else "")
    inputs = arguments.folder / f"{count}-{width}-{slots}"
    shape = [str(count), str(width), str(slots)]
    prepare(inputs, shape)
    size_mb = sum(file.stat().st_size for file in inputs.glob("source.*")) / 1e6
    title = f"{what}, {size_mb:,.1f} MB, median of {arguments.runs}"
    print(title, flush=True)
    with tempfile.TemporaryDirectory(prefix="out-", dir=arguments.folder) as out:
        for name in WRITERS:
            made(Path(out, name))
        rows = {name: row for name, row in commands(inputs, out, shape).items() if name not in arguments.skip}
        costs: dict[str, list[Cost]] = {name: [] for name in rows}
        for turn in range(arguments.runs):
            for name, command in rows.items():
                costs[name].append(run(command))
            if turn == 0:
                check(Path(out))
            for name in WRITERS:
                shutil.rmtree(made(Path(out, name)))
                made(Path(out, name))
    medians = {name: Cost(*map(statistics.median, zip(*measured, strict=True))) for name, measured in costs.items()}
    text = table(title, medians)
    print(text)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with arguments.out.open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    print(f"added to {arguments.out}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--gb", type=float, default=1.0, help="size of a checkpoint of large variables, slots included")
    size.add_argument("--variables", type=int, default=0, help="how many small variables, slots not counted")
    parser.add_argument("--no-slots", action="store_true", help="no optimizer")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--skip", action="append", default=[], metavar="ROW", help="e.g. by-hand, by-ops")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "ckptmigrate-benchmarks")
    parser.add_argument("--out", type=Path, help="the file that the table is added to; FOLDER/rename.md if not given")
    arguments = parser.parse_args()
    arguments.out = arguments.out or arguments.folder / "rename.md"
    return arguments


def prepare(inputs: Path, shape: list[str]) -> None:
    """Write the checkpoints and the plan, unless an earlier run did."""
    if not (inputs / "target.index").exists():
        with tempfile.TemporaryDirectory(prefix="in-", dir=made(inputs.parent)) as scratch:
            run([sys.executable, str(HERE / "write_checkpoints.py"), scratch, *shape])
            for file in sorted(Path(scratch).iterdir(), key=lambda file: file.suffix == ".index"):
                file.rename(made(inputs) / file.name)
    (inputs / "rules.yaml").write_text(RULES, encoding="utf-8")
    run(plan_command(inputs, inputs / "plan.json"))


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def commands(inputs: Path, out: str, shape: list[str]) -> dict[str, list[str]]:
    """The rows; each that writes does so in a folder of its own name."""
    tool = [sys.executable, "-m", "ckptmigrate"]
    source = str(inputs / "source")
    return {
        "apply": [*tool, "apply", str(inputs / "plan.json"), "--out", f"{out}/apply/ckpt"],
        "cp": ["cp", f"{source}.index", f"{source}.data-00000-of-00001", f"{out}/cp"],
        "by-hand": [sys.executable, str(HERE / "by_hand.py"), source, f"{out}/by-hand/ckpt", *shape],
        "by-ops": [sys.executable, str(HERE / "by_ops.py"), source, f"{out}/by-ops/ckpt"],
        "plan": plan_command(inputs, Path(out) / "plan" / "plan.json"),
        "inspect": [*tool, "inspect", source],
        "--help": [*tool, "--help"],
    }


def plan_command(inputs: Path, out: Path) -> list[str]:
    source, target, rules = (str(inputs / name) for name in ("source", "target", "rules.yaml"))
    plan = [sys.executable, "-m", "ckptmigrate", "plan", source, "--target", target]
    return [*plan, "--rules", rules, "--out", str(out)]


def run(command: list[str]) -> Cost:
    """Run a process to its end; fail if it does."""
    # What the one before wrote is not this one's to wait for.
    os.sync()
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}\n{said.decode(errors='replace')}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def check(out: Path) -> None:
    """All that rename have made the same."""
    renamed = [str(out / name / "ckpt") for name in RENAMERS if (out / name / "ckpt.index").exists()]
    run([sys.executable, str(HERE / "agree.py"), *renamed])


def table(title: str, medians: dict[str, Cost]) -> str:
    ours = medians.get("apply")
    lines = [f"## {title}", "", "| | wall, s | CPU, s | peak, MB | wall / apply |", "|---|---:|---:|---:|---:|"]
    for name, cost in medians.items():
        ratio = f"{cost.wall_s / ours.wall_s:.2f}" if ours and name in COMPARED else ""
        lines.append(f"| {name} | {cost.wall_s:.2f} | {cost.cpu_s:.2f} | {cost.peak_mb:.0f} | {ratio} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
