"""The command that writes a checkpoint, and what it tells while it does and afterwards."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from ckptmigrate.cli.inputs import read_plan
from ckptmigrate.cli.options import JSON, OVERWRITE, Size, examples
from ckptmigrate.cli.outputs import print_json, progress

if TYPE_CHECKING:
    from ckptmigrate.apply import Estimate, Outcome, Receipt
    from ckptmigrate.apply.many import Kind
    from ckptmigrate.plan import Plan


@click.command(
    epilog=examples(
        "ckptmigrate apply plan.json --out migrated/ckpt",
        "ckptmigrate apply plan.json --out migrated/ckpt --estimate",
        "ckptmigrate apply plan.json --out /other/disk/ckpt --link copy --shard-size 2GiB --stats",
        "ckptmigrate apply plan.json --all runs/7/ --out migrated/7/",
    )
)
@click.argument("plan_file", metavar="PLAN")
@click.option("--out", required=True, metavar="PREFIX", help="The new checkpoint; with --all a directory.")
@click.option(
    "--all",
    "directory",
    metavar="DIR",
    help="Every checkpoint in DIR whose graph is that of the plan's source. Exit status 1 if any is left.",
)
@click.option("--keep-going", is_flag=True, help="With --all: go on with the others if one fails.")
@click.option(
    "--link",
    type=click.Choice(["auto", "reflink", "hard", "copy"]),
    default="auto",
    show_default=True,
    help="How unchanged data files become the new checkpoint's; auto takes the first that works here.",
)
@click.option(
    "--layout",
    type=click.Choice(["auto", "link", "compact"]),
    default="auto",
    show_default=True,
    help="Link data files whole, or copy what is used of them; auto links if at least half is used.",
)
@click.option(
    "--shards",
    type=click.IntRange(min=1),
    help="Into how many data files what is written goes; at most one for each tensor. One if not given.",
)
@click.option("--shard-size", type=Size(), help="How large these become at most, e.g. 2GiB.")
@click.option(
    "--memory",
    type=Size(),
    default="256MiB",
    show_default=True,
    help="What all workers together hold in memory at most, however large a tensor is.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="How many workers; one for each core if not given.")
@click.option("--update-latest", is_flag=True, help="Make it the latest checkpoint of its directory (`checkpoint`).")
@click.option("--estimate", is_flag=True, help="Only say what would be linked, copied, computed and written.")
@click.option("--stats", is_flag=True, help="Say how much was read, written and linked, and what it took.")
@click.option(
    "--progress",
    "shows",
    type=click.Choice(["auto", "json", "none"]),
    default="auto",
    show_default=True,
    help="On stderr: auto is a bar if that is a terminal, json a line for a program twice a second.",
)
@OVERWRITE
@JSON
def apply(
    plan_file: str,
    out: str,
    *,
    directory: str | None,
    keep_going: bool,
    memory: int,
    shard_size: int | None,
    update_latest: bool,
    overwrite: bool,
    estimate: bool,
    stats: bool,
    shows: Any,
    as_json: bool,
    **how: Any,
) -> None:
    """Write the checkpoint that a plan describes. Never imports tensorflow, never touches the source.

    What it has done is kept if it is killed: the same command goes on where it ended.
    """
    from ckptmigrate.apply import apply_plan, estimate_plan

    if directory is not None and (estimate or stats or update_latest):
        raise click.UsageError("--all goes with neither --estimate nor --stats, and writes a state file by itself")
    started = time.monotonic()
    made = read_plan(plan_file)
    how |= {"where": plan_file, "memory_bytes": memory, "shard_bytes": shard_size}
    if estimate:
        _show_estimate(estimate_plan(made, out, **how), as_json=as_json)
        return
    if directory is not None:
        _apply_all(made, directory, out, how | {"overwrite": overwrite}, shows, keep_going=keep_going, as_json=as_json)
        return
    with progress("writing", shows) as on_progress:
        receipt = apply_plan(
            made, out, overwrite=overwrite, update_latest=update_latest, on_progress=on_progress, **how
        )
    taken = _taken(receipt, time.monotonic() - started) if stats else {}
    if as_json:
        print_json(receipt.to_data() | ({"stats": taken} if stats else {}))
    else:
        click.echo(_written(made, out, receipt))
        click.echo(f"{out}.ckptmigrate.json: the receipt")
        for line in _stats_lines(taken) if stats else ():
            click.echo(line)
    _warn_not_finite(receipt)


def _written(made: Plan, out: str, receipt: Receipt) -> str:
    hows = ", ".join(dict.fromkeys(shard.how for shard in receipt.shards))
    return f"{out}: {len(made.steps)} tensors in {_files(len(receipt.shards))} ({hows})"


def _warn_not_finite(receipt: Receipt, where: str = "") -> None:
    for key, found in receipt.not_finite.items():
        click.echo(f"warning: {where}`{key}` has {found.nan} NaN and {found.inf} infinite elements", err=True)


def _apply_all(
    made: Plan, directory: str, out: str, how: dict[str, Any], shows: Any, *, keep_going: bool, as_json: bool
) -> None:
    """Apply a plan to all checkpoints in a directory, tell of each, and end with the status."""
    from ckptmigrate.apply import apply_all

    outcomes: list[Outcome] = []
    with progress("writing", shows) as on_progress:
        for outcome in apply_all(made, directory, out, keep_going=keep_going, on_progress=on_progress, **how):
            outcomes.append(outcome)
            if not as_json:
                click.echo(_said(made, outcome))
            if outcome.receipt is not None:
                _warn_not_finite(outcome.receipt, f"{outcome.out}: ")
    counts = Counter(outcome.kind for outcome in outcomes)
    if as_json:
        told: dict[str, Any] = {"checkpoints": outcomes}
        for kind in _KINDS:
            told[kind] = counts[kind]
        print_json(told)
    else:
        click.echo(
            ", ".join(f"{counts[kind]} {said}" for kind, said in _KINDS.items() if counts[kind] or kind == "done")
        )
    raise click.exceptions.Exit(2 if counts["failed"] else 1 if counts["left"] else 0)


_KINDS: dict[Kind, str] = {"done": "done", "there": "there already", "left": "left", "failed": "failed"}


def _said(made: Plan, outcome: Outcome) -> str:
    if outcome.kind == "done" and outcome.receipt is not None:
        return _written(made, outcome.out, outcome.receipt)
    if outcome.kind == "there":
        return f"{outcome.out}: there already"
    return f"{outcome.source}: {outcome.kind}: {outcome.why}"


def _taken(receipt: Receipt, wall_s: float) -> dict[str, float]:
    """What a run moved, and what it took."""
    from ckptmigrate.apply import peak_bytes

    work = receipt.work
    return {
        "read_bytes": work.read_bytes,
        "written_bytes": work.written_bytes,
        "linked_bytes": work.linked_bytes,
        "kept_bytes": work.kept_bytes,
        "wall_s": round(wall_s, 3),
        "cpu_s": round(time.process_time(), 3),
        "peak_bytes": peak_bytes(),
    }


def _stats_lines(taken: dict[str, float]) -> list[str]:
    from ckptmigrate.report.sizes import format_bytes

    sizes = {name: format_bytes(int(size)) for name, size in taken.items() if name.endswith("_bytes")}
    kept = f", kept of an earlier run {sizes['kept_bytes']}" if taken["kept_bytes"] else ""
    return [
        f"read {sizes['read_bytes']}, written {sizes['written_bytes']}, linked {sizes['linked_bytes']}{kept}",
        f"wall {taken['wall_s']:.2f} s, CPU {taken['cpu_s']:.2f} s, peak memory {sizes['peak_bytes']}",
    ]


def _show_estimate(found: Estimate, *, as_json: bool) -> None:
    from ckptmigrate.report.sizes import format_bytes

    if as_json:
        print_json(found)
        return
    click.echo(f"linked: {format_bytes(found.linked_bytes)} in {_files(found.linked_files)}")
    click.echo(f"copied: {format_bytes(found.copied_bytes)}")
    click.echo(f"computed: {format_bytes(found.computed_bytes)}")
    click.echo(
        f"written: {format_bytes(found.written_bytes)} in {_files(found.written_files)}; "
        f"{format_bytes(found.free_bytes)} are free"
    )
    click.echo(f"read: {format_bytes(found.read_bytes)}")
    click.echo(f"memory: {format_bytes(found.memory_bytes)} at most for {found.workers} workers, beside the program")


def _files(count: int) -> str:
    return f"{count} data file{'' if count == 1 else 's'}"
