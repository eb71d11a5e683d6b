"""How long it takes to rewrite a large checkpoint, beside copying its files and what people do with TensorFlow.

    python tests/benchmarks/streaming.py                # 1 GB
    python tests/benchmarks/streaming.py --gb 5 --runs 5
    python tests/benchmarks/streaming.py --gb 20 --sparse --runs 1 --only rewrite --only bfloat16   # for the memory

One half of the bytes is one table, the rest many matrices of 4 MiB. The rows are (a) everything written anew under new
names, beside `cp`; (b) a twentieth, a tenth and a fifth of the bytes transposed, and the table; (c) everything cast to
bfloat16; (d) the work of (a) by TensorFlow: variables loaded, assigned and written, and the leanest script there is
(`RestoreV2`, `SaveV2`). Each is a process of its own, from its start to its end; they take turns, so that each is
paired with a `cp` that ran beside it, and the table has the medians of its times and of the ratios. `cp` does not wait
for the disk and the others do: what it costs to wait is in a row of its own. All that do the same work are compared.

The checkpoints are kept in ``--folder``, which has to have room for four times the size of one.
"""

from __future__ import annotations

# ruff: noqa: T201  # it is a program
import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

# Nothing but the standard library: a child's peak memory counts what its parent had when it forked.
from rename import Cost, made, run

HERE = Path(__file__).parent
BLOCK_BYTES = (1024 * 1024 + 1024) * 4
ROW_BYTES = 128 * 4
TOOL = [sys.executable, "-m", "ckptmigrate"]
PLANS = ("renamed", "turned-5", "turned-10", "turned-20", "turned-table", "bfloat16")
LABELS = {
    "cp": "cp",
    "cp-sync": "cp, and wait for the disk",
    "rewrite": "(a) apply: all written anew",
    "turned-5": "(b) apply: 5% transposed",
    "turned-10": "(b) apply: 10% transposed",
    "turned-20": "(b) apply: 20% transposed",
    "turned-table": "(b) apply: the table, 50%, transposed",
    "bfloat16": "(c) apply: all cast to bfloat16",
    "by-ops": "(d) RestoreV2, SaveV2",
    "by-hand": "(d) load, assign, write",
}


def main() -> None:
    arguments = parse()
    count = max(1, round(arguments.gb * 1e9 / 2 / BLOCK_BYTES))
    rows = count * BLOCK_BYTES // ROW_BYTES
    inputs = made(arguments.folder) / f"streaming-{count}{'-sparse' if arguments.sparse else ''}"
    prepare(inputs, rows, count, sparse=arguments.sparse)
    costs: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory(prefix="out-", dir=arguments.folder) as scratch:
        commands = {
            name: command
            for name, command in rows_of(inputs, Path(scratch), rows, count, arguments.options).items()
            if name not in arguments.skip and (not arguments.only or name in arguments.only)
        }
        for turn in range(arguments.runs):
            for name, command in commands.items():
                made(Path(scratch) / name)
                costs.setdefault(name, []).append(run(command))
                print(f"{turn + 1}/{arguments.runs} {name}: {costs[name][-1].wall_s:.2f} s", flush=True)
                if name in ("cp", "cp-sync") or turn or arguments.sparse:
                    shutil.rmtree(Path(scratch) / name)
            if not turn and not arguments.sparse:
                compare(Path(scratch), commands)
                for name in commands:
                    shutil.rmtree(Path(scratch) / name, ignore_errors=True)
    size_gb = 2 * count * BLOCK_BYTES / 1e9
    title = (
        f"{size_gb:.2f} GB{', sparse' if arguments.sparse else ''}, {os.cpu_count()} cores, median of {arguments.runs}"
    )
    text = table(title, costs, size_gb)
    print(text)
    made(arguments.out.parent)
    with arguments.out.open("a", encoding="utf-8") as file:
        file.write(text + "\n")
    drawing = arguments.out.with_suffix(".svg")
    draw(title, costs, drawing)
    print(f"added to {arguments.out}; drawn in {drawing}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=1.0, help="size of the checkpoint")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sparse", action="store_true", help="a source of holes, which takes no room")
    parser.add_argument("--skip", action="append", default=[], metavar="ROW", help="e.g. by-hand, by-ops")
    parser.add_argument("--only", action="append", default=[], metavar="ROW")
    parser.add_argument("--options", default="", help="more options for apply, e.g. '--jobs 1 --memory 64MiB'")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "ckptmigrate-benchmarks")
    parser.add_argument(
        "--out", type=Path, help="the file that the table is added to; FOLDER/streaming.md if not given"
    )
    arguments = parser.parse_args()
    arguments.out = arguments.out or arguments.folder / "streaming.md"
    return arguments


def prepare(inputs: Path, rows: int, count: int, *, sparse: bool) -> None:
    """Write the checkpoints and the plans, unless an earlier run did."""
    if (inputs / "bfloat16.index").exists():
        return
    with tempfile.TemporaryDirectory(prefix="in-", dir=inputs.parent) as scratch:
        command = [sys.executable, str(HERE / "streaming_source.py"), scratch, str(rows), str(count)]
        run([*command, "sparse"] if sparse else command)
        for file in sorted(Path(scratch).iterdir(), key=lambda file: file.suffix == ".index"):
            file.rename(made(inputs) / file.name)
    for name in PLANS:
        (inputs / f"{name}.yaml").write_text(rules_of(name, count), encoding="utf-8")
        plan = [*TOOL, "plan", str(inputs / "source"), "--target", str(inputs / name)]
        run([*plan, "--rules", str(inputs / f"{name}.yaml"), "--out", str(inputs / f"{name}.json")])


def rules_of(name: str, count: int) -> str:
    share = name.removeprefix("turned-")
    turned = max(1, 2 * count * int(share) // 100) if share.isdecimal() else 0
    cast = ", ops: [{cast: {dtype: bfloat16}}]" if name == "bfloat16" else ""
    kind = "map" if cast else "rename"
    lines = ["rules:"]
    if cast:
        lines.append("  - cast: {from: model/table, dtype: bfloat16}")
    if share == "table":
        lines.append("  - transpose: {from: model/table}")
    for number in range(count):
        old, new = f"model/blocks/{number}", f"model/layers/{number}"
        lines.append(f"  - {'transpose' if number < turned else kind}: {{from: {old}/w, to: {new}/kernel{cast}}}")
        lines.append(f"  - {kind}: {{from: {old}/b, to: {new}/bias{cast}}}")
    return "\n".join([*lines, ""])


def rows_of(inputs: Path, out: Path, rows: int, count: int, options: str) -> dict[str, list[str]]:
    """The rows; each writes into a folder of its own name."""

    def apply(name: str, plan: str, *more: str) -> list[str]:
        return [
            *TOOL,
            "apply",
            str(inputs / f"{plan}.json"),
            "--out",
            str(out / name / "ckpt"),
            *more,
            *options.split(),
        ]

    source = str(inputs / "source")
    files = [f"{source}.index", f"{source}.data-00000-of-00001"]
    copies = " ".join(files)
    commands = {
        "cp": ["cp", *files, str(out / "cp")],
        "cp-sync": ["sh", "-c", f"cp {copies} {out / 'cp-sync'} && sync {out / 'cp-sync'}/*"],
        "rewrite": apply("rewrite", "renamed", "--layout", "compact"),
    }
    commands |= {name: apply(name, name) for name in PLANS if name != "renamed"}
    commands["by-ops"] = [sys.executable, str(HERE / "by_ops.py"), source, str(out / "by-ops" / "ckpt")]
    by_hand = [sys.executable, str(HERE / "streaming_by_hand.py"), source, str(out / "by-hand" / "ckpt")]
    commands["by-hand"] = [*by_hand, str(rows), str(count)]
    return commands


def compare(out: Path, commands: Mapping[str, list[str]]) -> None:
    """All that rename have made the same."""
    same = [str(out / name / "ckpt") for name in ("rewrite", "by-ops", "by-hand") if name in commands]
    run([sys.executable, str(HERE / "agree.py"), *same])


def ratios(costs: Mapping[str, list[Cost]], name: str, to: str) -> float | None:
    """The median of the ratios of paired runs."""
    pairs = zip(costs[name], costs.get(to, ()), strict=False)
    found = [one.wall_s / other.wall_s for one, other in pairs]
    return statistics.median(found) if found else None


def table(title: str, costs: Mapping[str, list[Cost]], size_gb: float) -> str:
    lines = [f"## {title}", "", "| | wall, s | CPU, s | peak, MB | GB/s | cp / this | this / (a) |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for name, measured in costs.items():
        cost = Cost(*map(statistics.median, zip(*measured, strict=True)))
        to_cp, to_ours = ratios(costs, name, "cp"), ratios(costs, name, "rewrite")
        lines.append(
            f"| {LABELS[name]} | {cost.wall_s:.2f} | {cost.cpu_s:.2f} | {cost.peak_mb:.0f} | "
            f"{size_gb / cost.wall_s:.2f} | {'' if to_cp is None else f'{1 / to_cp:.2f}'} | "
            f"{'' if to_ours is None else f'{to_ours:.2f}'} |"
        )
    return "\n".join([*lines, ""])


def draw(title: str, costs: Mapping[str, list[Cost]], path: Path) -> None:
    """Bars: wall and CPU seconds, each run a dot."""
    width, left, height = 900, 290, 34
    most = max(cost.wall_s for measured in costs.values() for cost in measured)
    scale = (width - left - 90) / most
    tall = 60 + height * len(costs)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {tall}" font-size="13">',
        "<style>text { font-family: sans-serif }</style>",
        f'<rect width="{width}" height="{tall}" fill="white"/>',
        f'<text x="10" y="24" font-size="15">{title}: wall seconds (bar), CPU seconds (line), each run (dots)</text>',
    ]
    for number, (name, measured) in enumerate(costs.items()):
        top = 44 + number * height
        cost = Cost(*map(statistics.median, zip(*measured, strict=True)))
        parts.append(f'<text x="{left - 8}" y="{top + 14}" text-anchor="end">{LABELS[name]}</text>')
        colour = "#4477aa" if "apply" in LABELS[name] else "#bbbbbb"
        parts.append(f'<rect x="{left}" y="{top}" width="{cost.wall_s * scale:.1f}" height="18" fill="{colour}"/>')
        parts.append(f'<rect x="{left}" y="{top + 20}" width="{cost.cpu_s * scale:.1f}" height="4" fill="#cc6677"/>')
        parts += [f'<circle cx="{left + one.wall_s * scale:.1f}" cy="{top + 9}" r="2.5"/>' for one in measured]
        end = left + max(one.wall_s for one in measured) * scale + 8
        parts.append(f'<text x="{end:.1f}" y="{top + 14}">{cost.wall_s:.2f} s</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
