"""What applying a plan would do, without doing it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import msgspec

from ckptmigrate.apply.engine import BLOCKS, DEFAULT_MEMORY_BYTES, Budget
from ckptmigrate.apply.layout import Choice, LinkedShard, Side, lay_out
from ckptmigrate.apply.link import LinkChoice
from ckptmigrate.apply.prepare import check_output, open_ends, string_slices
from ckptmigrate.apply.tasks import Cut, Given, Range, Sharding, Values, cut
from ckptmigrate.bundle import Bundle
from ckptmigrate.ops import Custom, Transpose
from ckptmigrate.plan import Plan

# A prefix is text and not a path: pathlib would take a slash off its end and the dot off `./`.
# ruff: noqa: PTH100, PTH110, PTH116, PTH120

_PASSING_BYTES = 1 << 20
"""What a worker holds at a time of bytes that only pass through."""


class Estimate(msgspec.Struct, frozen=True):
    """What would be done, in bytes.

    Attributes:
        linked_files: How many data files would be linked.
        linked_bytes: How large they are.
        copied_bytes: What would be copied as it is.
        computed_bytes: What would be computed.
        read_bytes: What would be read.
        written_bytes: What would be written, the index and the receipt not counted.
        written_files: Into how many data files.
        free_bytes: How much room there is.
        tasks: How many tasks there are.
        workers: How many workers would share them.
        memory_bytes: What they would hold in memory at most, beside the program and the indices.
    """

    linked_files: int
    linked_bytes: int
    copied_bytes: int
    computed_bytes: int
    read_bytes: int
    written_bytes: int
    written_files: int
    free_bytes: int
    tasks: int
    workers: int
    memory_bytes: int


def estimate_plan(
    plan: Plan,
    out: str,
    *,
    where: str = "plan",
    link: LinkChoice = "auto",
    layout: Choice = "auto",
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    jobs: int | None = None,
    shards: int | None = None,
    shard_bytes: int | None = None,
) -> Estimate:
    """Say what `ckptmigrate.apply.apply_plan` would do with the same arguments. Nothing is written, and no value read.

    Whether a data file can be linked is taken from whether the output is on its device, and the sizes of strings
    that are computed from those that they are computed of.

    Raises:
        PlanError: The plan is not complete, or does not fit its source or target any more.
        OutputError: The output cannot be there.
    """
    budget = Budget.of(memory_bytes, jobs)
    sharding = Sharding.of(shards, shard_bytes)
    with open_ends(plan, where) as bundles:
        check_output(out, bundles)
        decided = lay_out(plan, bundles["source"], bundles["target"], layout)
        place = _existing(out)
        strings = {
            (number, piece): (bytes(sum(map(bundles["source"].stored_bytes, plan.steps[number].sources))), 0)
            for number, piece in string_slices(plan, decided, bundles)
        }
        work = cut(
            plan.steps,
            decided,
            bundles,
            copies=[number for number, linked in enumerate(decided.linked) if not _can_link(linked, place, link)],
            strings=strings,
            sharding=sharding,
            tile_bytes=budget.tile_bytes,
        )
        copies = {shard.number for shard in work.shards if shard.is_copy}
        linked = [shard for number, shard in enumerate(decided.linked) if number not in copies]
        parts = [part for task in work.tasks for part in task.parts]
        copied_bytes = sum(part.size_bytes for part in parts if isinstance(part.origin, Range))
        written_bytes = sum(part.size_bytes for part in parts)
        computed_from = sum(bundles["source"].stored_bytes(key) for step in decided.made for key in step.sources)
        room = os.statvfs(place)
        workers = min(budget.jobs, max(1, len(work.tasks)))
        return Estimate(
            linked_files=len(linked),
            linked_bytes=sum(shard.size_bytes for shard in linked),
            copied_bytes=copied_bytes,
            computed_bytes=written_bytes - copied_bytes,
            read_bytes=copied_bytes + computed_from,
            written_bytes=written_bytes,
            written_files=len(work.shards),
            free_bytes=room.f_bavail * room.f_frsize,
            tasks=len(work.tasks),
            workers=workers,
            memory_bytes=sum(_needed(plan, bundles, work, budget, workers)),
        )


def _existing(out: str) -> str:
    """The directory of the output, or the first above it that is there."""
    directory = os.path.dirname(os.path.abspath(out))
    while not os.path.exists(directory):
        directory = os.path.dirname(directory)
    return directory


def _can_link(linked: LinkedShard, place: str, link: LinkChoice) -> bool:
    return link != "copy" and os.stat(linked.path).st_dev == os.stat(place).st_dev


def _needed(plan: Plan, bundles: Mapping[Side, Bundle], work: Cut, budget: Budget, workers: int) -> Iterator[int]:
    """What workers hold, and what is held whole: strings, and what a function of somebody's own gets."""
    numbers = {part.origin.step for task in work.tasks for part in task.parts if isinstance(part.origin, Values)}
    steps = [plan.steps[number] for number in numbers]
    most = _PASSING_BYTES
    for step in steps:
        is_moved = any(isinstance(op, Transpose) for op in step.ops)
        size_bytes = max(
            bundles["target"].stored_bytes(step.target), *map(bundles["source"].stored_bytes, step.sources), 0
        )
        most = max(most, min(size_bytes, budget.tile_bytes if is_moved else budget.block_bytes) * BLOCKS)
        if step.ops and isinstance(step.ops[0], Custom):
            yield 3 * size_bytes
    yield workers * most
    yield sum(len(part.origin.data) for task in work.tasks for part in task.parts if isinstance(part.origin, Given))
