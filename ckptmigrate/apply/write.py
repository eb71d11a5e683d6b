"""Carry a plan out: cut its work into tasks, have them done, and write the index last."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from ckptmigrate import __version__
from ckptmigrate.apply.engine import DEFAULT_MEMORY_BYTES, Budget, Engine, Threads
from ckptmigrate.apply.journal import Begun
from ckptmigrate.apply.layout import Choice, Layout, Side, lay_out
from ckptmigrate.apply.link import How, LinkChoice, link_file
from ckptmigrate.apply.place import Scratch, existing_files, exists_error, scratch_path
from ckptmigrate.apply.prepare import check_output, check_still_there, make_strings, open_ends
from ckptmigrate.apply.receipt import Receipt, ShardReceipt, Work, make_receipt, read_receipt, receipt_path
from ckptmigrate.apply.sums import Sums
from ckptmigrate.apply.tasks import Cut, Sharding, cut
from ckptmigrate.apply.worker import Job
from ckptmigrate.bundle import (
    Bundle,
    Entry,
    SliceSpec,
    create_shard,
    data_path,
    index_path,
    sync,
    write_file,
    write_index,
)
from ckptmigrate.bundle.entry import MAX_SHARDS
from ckptmigrate.bundle.state import CheckpointState, read_state, write_state
from ckptmigrate.errors import OutputError
from ckptmigrate.plan import Plan
from ckptmigrate.spec import Key

# A prefix is text and not a path: pathlib would take a slash off its end and the dot off `./`.
# ruff: noqa: PTH105, PTH108, PTH112, PTH113, PTH116, PTH119

_LINKED = "linked-"
"""How the names of linked data files begin until it is known which they become."""

_WORTH_KEEPING_BYTES = 1 << 30
"""What took longer to make than a few seconds is kept when a run fails for want of space, or is stopped."""

_ELSEWHERE = "Choose another place"

Progress = Callable[[int, int], None]
"""Told how many bytes are written, and how many will be."""


class Options(NamedTuple):
    """How a plan is applied; not what comes out of it, but for the data files.

    Attributes:
        link: How a data file becomes one of the new checkpoint's.
        layout: Whether data files are linked (``link``), or their live ranges copied (``compact``).
        sharding: How what is written is dealt out to data files.
        budget: How many workers there are, and how much each may hold in memory.
        overwrite: Replace a checkpoint that is there.
    """

    link: LinkChoice
    layout: Choice
    sharding: Sharding
    budget: Budget
    overwrite: bool


def apply_plan(
    plan: Plan,
    out: str,
    *,
    where: str = "plan",
    link: LinkChoice = "auto",
    layout: Choice = "auto",
    overwrite: bool = False,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    jobs: int | None = None,
    shards: int | None = None,
    shard_bytes: int | None = None,
    update_latest: bool = False,
    engine: Engine | None = None,
    on_progress: Progress | None = None,
) -> Receipt:
    """Write the checkpoint that a plan describes. TensorFlow is not needed.

    Unchanged tensors are neither read nor written where their data files can be linked. What a run has done is kept
    if it is killed: the next one that is to do the same goes on with it.

    Args:
        plan: The plan.
        out: The prefix of the new checkpoint.
        where: The plan's name, for messages.
        link: How a data file becomes one of the new checkpoint's.
        layout: Whether data files are linked (``link``), or their live ranges copied (``compact``).
        overwrite: Replace a checkpoint that is there.
        memory_bytes: What all workers together may hold in memory, however large a tensor is.
        jobs: How many workers; one for each core if not given.
        shards: Into how many data files what is written goes; one if neither this nor `shard_bytes` is given.
        shard_bytes: How large these may become. A tensor that is larger has one of its own.
        update_latest: Make it the latest checkpoint of its directory, in the state file; that is done last.
        engine: Who carries the work out; threads of this process if not given.
        on_progress: Called now and then while bytes are written.

    Returns:
        The receipt, which is also written to ``OUT.ckptmigrate.json``.

    Raises:
        PlanError: The plan is not complete, or does not fit its source or target any more.
        CorruptBundleError: What was read is damaged.
        OperationError: An operation destroys values.
        OutputError: The output is there already, another run is writing it, or it cannot be written.
    """
    budget = Budget.of(memory_bytes, jobs)
    options = Options(link, layout, Sharding.of(shards, shard_bytes), budget, overwrite)
    with open_ends(plan, where) as bundles:
        check_output(out, bundles)
        if existing_files(out) and not overwrite and not os.path.isdir(scratch_path(out)):
            raise exists_error(out)
        with _held(out) as scratch:
            run = _Run(plan, bundles, out, scratch, options)
            receipt = run.find() or run.write(engine or Threads(budget.jobs), on_progress)
            if update_latest:
                directory, name = os.path.split(out)
                state = read_state(directory) or CheckpointState("")
                write_state(directory, state.with_latest(name, time.time()))
            return receipt


@contextlib.contextmanager
def _held(out: str) -> Iterator[Scratch]:
    """The scratch directory of an output, and errors told by the output's own names."""
    with Scratch(out) as scratch:
        try:
            yield scratch
        except OutputError as error:
            hint = ". ".join(filter(None, (error.hint, _kept(scratch)))) or _ELSEWHERE
            # The file has its final name for who reads this.
            place = error.where.replace(scratch.prefix, out)
            raise OutputError(error.what, place, expected=error.expected, got=error.got, hint=hint) from error
        except OSError as error:
            hint = _kept(scratch) or _ELSEWHERE
            raise OutputError("cannot write the output", out, got=str(error.strerror or error), hint=hint) from error
        except KeyboardInterrupt as error:
            error.add_note(_kept(scratch))
            raise


def _kept(scratch: Scratch) -> str:
    """Keep what was done, if it is much, and say so."""
    size_bytes = scratch.journal.written_bytes
    if size_bytes < _WORTH_KEEPING_BYTES:
        return ""
    scratch.keep()
    return f"The same command goes on where this one ended: {scratch.path} keeps {size_bytes} bytes"


class _Run:
    """One plan on its way to the disk."""

    def __init__(
        self, plan: Plan, bundles: Mapping[Side, Bundle], out: str, scratch: Scratch, options: Options
    ) -> None:
        self.plan, self.bundles, self.out, self.scratch, self.options = plan, bundles, out, scratch, options
        self.digest = plan.digest
        self.identity = self.identify()

    def identify(self) -> str:
        """A digest of all that the output's bytes depend on."""
        stats = [os.stat(path) for bundle in self.bundles.values() for path in bundle.shard_paths]
        times = [(found.st_mtime_ns, found.st_size) for found in stats]
        sharding = (self.options.sharding.count, self.options.sharding.size_bytes)
        ends = (self.plan.source.fingerprint, self.plan.target.fingerprint)
        facts = (__version__, self.digest, ends, times, self.options.link, self.options.layout, sharding)
        return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()

    def find(self) -> Receipt | None:
        """The receipt of a run that was to do the same and was killed when it was nearly done; it is finished.

        Raises:
            OutputError: The output exists.
        """
        scratch = self.scratch
        begun = scratch.journal.begun
        if scratch.settle(finish=begun is not None and begun.identity == self.identity):
            return read_receipt(self.out)
        if not existing_files(self.out) or self.options.overwrite:
            return None
        if scratch.was_there and os.path.isfile(index_path(self.out)):
            # It may have been killed while it cleaned up.
            receipt = read_receipt(self.out)
            ends = (self.plan.source.fingerprint, self.plan.target.fingerprint)
            if (
                receipt is not None
                and receipt.plan_digest == self.digest
                and (receipt.source.fingerprint, receipt.target.fingerprint) == ends
            ):
                return receipt
        raise exists_error(self.out)

    def write(self, engine: Engine, on_progress: Progress | None) -> Receipt:
        """Do all that is to be done."""
        plan, bundles, prefix = self.plan, self.bundles, self.scratch.prefix
        layout = lay_out(plan, bundles["source"], bundles["target"], self.options.layout)
        hows = self.link(layout)
        work = cut(
            plan.steps,
            layout,
            bundles,
            copies=[number for number, how in enumerate(hows) if how == "copy"],
            strings=make_strings(plan, layout, bundles),
            sharding=self.options.sharding,
            tile_bytes=self.options.budget.tile_bytes,
        )
        count = len(hows) + sum(not shard.is_copy for shard in work.shards)
        self.begin(work, hows, count)
        sums = self.carry_out(engine, work, count, on_progress)
        sums.check(layout.made, bundles)
        check_still_there(plan, bundles)
        for number in range(count):
            sync(data_path(prefix, number, count))
        entries, slices = self.entries(layout, hows, sums)
        write_index(index_path(prefix), entries, count, slices)
        linked_bytes = sum(shard.size_bytes for shard, how in zip(layout.linked, hows, strict=True) if how != "copy")
        receipt = make_receipt(
            plan,
            self.digest,
            self.shards(layout, hows, work, count),
            sorted(entries, key=lambda entry: entry.key),
            sums.not_finite(),
            Work(sums.read_bytes, sums.written_bytes, linked_bytes, sums.kept_bytes),
        )
        write_file(receipt_path(prefix), [receipt.to_json()])
        self.scratch.place(count, overwrite=self.options.overwrite)
        return receipt

    def link(self, layout: Layout) -> list[How]:
        """Link what is to be linked, under names of its own. It costs nothing, so it is done anew by each run."""
        hows: list[How] = []
        for number, linked in enumerate(layout.linked):
            name = self.scratch.file(f"{_LINKED}{number}")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            hows.append(link_file(linked.path, name, self.options.link))
        return hows

    def begin(self, work: Cut, hows: Sequence[How], count: int) -> None:
        """Make room for the data files. What another run has written is kept if it was to do the same."""
        scratch = self.scratch
        if count > MAX_SHARDS:
            raise OutputError("too many data files", self.out, expected=f"{MAX_SHARDS} at most", got=str(count))
        begun = Begun(self.identity, hashlib.sha256(msgspec.json.encode((work.shards, work.tasks))).hexdigest())
        if scratch.journal.begun != begun:
            scratch.clear(keeping=_LINKED)
            scratch.journal.begin(begun)
        paths = {shard: data_path(scratch.prefix, shard.number, count) for shard in work.shards}
        check_space(self.out, scratch.path, {path: shard.size_bytes for shard, path in paths.items()})
        for number, how in enumerate(hows):
            if how != "copy":
                os.replace(scratch.file(f"{_LINKED}{number}"), data_path(scratch.prefix, number, count))
        for shard, path in paths.items():
            create_shard(path, shard.size_bytes)

    def carry_out(self, engine: Engine, work: Cut, count: int, on_progress: Progress | None) -> Sums:
        """Have the tasks done."""
        budget, journal = self.options.budget, self.scratch.journal
        job = Job(
            self.plan.steps,
            self.plan.source.prefix,
            self.plan.target.prefix,
            self.scratch.prefix,
            count,
            budget.block_bytes,
            budget.tile_bytes,
        )
        total_bytes = sum(task.size_bytes for task in work.tasks)
        sums = Sums(work)
        for done in engine.run(job, self.bundles, [(task, journal.done.get(task.number)) for task in work.tasks]):
            if not done.is_kept:
                journal.add(done)
            sums.add(done)
            if on_progress is not None:
                on_progress(sums.written_bytes + sums.kept_bytes, total_bytes)
        return sums

    def entries(
        self, layout: Layout, hows: Sequence[How], sums: Sums
    ) -> tuple[list[Entry], dict[tuple[Key, SliceSpec], Entry]]:
        """The index: the entries of tensors, and those of slices."""
        number_of = {(linked.side, linked.shard): number for number, linked in enumerate(layout.linked)}
        entries: list[Entry] = []
        slices: dict[tuple[Key, SliceSpec], Entry] = {}
        for kept in layout.in_place:
            old, number = kept.entry, number_of[kept.side, kept.entry.shard]
            entry = Entry(kept.key, old.spec, number, old.offset, old.size_bytes, old.crc32c, old.slices)
            if hows[number] == "copy":
                continue
            if kept.slice_spec is None:
                entries.append(entry)
            else:
                slices[kept.key, kept.slice_spec] = entry
        for placed, entry in sums.entries():
            if placed.slice_spec is None:
                entries.append(entry)
            else:
                slices[placed.key, placed.slice_spec] = entry
        return entries, slices

    def shards(self, layout: Layout, hows: Sequence[How], work: Cut, count: int) -> tuple[ShardReceipt, ...]:
        sizes = [linked.size_bytes for linked in layout.linked]
        sizes += [shard.size_bytes for shard in work.shards if not shard.is_copy]
        names = [os.path.basename(data_path(self.out, number, count)) for number in range(count)]
        return tuple(
            ShardReceipt(name, size_bytes, hows[number] if number < len(hows) else "new")
            for number, (name, size_bytes) in enumerate(zip(names, sizes, strict=True))
        )


def check_space(out: str, directory: str, sizes: Mapping[str, int]) -> None:
    """Check that there is room for files.

    Args:
        out: The output, for messages.
        directory: Where they will be.
        sizes: Their sizes by path. Of those that are there only what is missing counts.

    Raises:
        OutputError: There is not.
    """
    needed_bytes = sum(sizes.values())
    for path in sizes:
        with contextlib.suppress(FileNotFoundError):
            needed_bytes -= min(os.stat(path).st_blocks * 512, sizes[path])
    found = os.statvfs(directory)
    free_bytes = found.f_bavail * found.f_frsize
    if found.f_blocks and free_bytes < needed_bytes:
        raise OutputError(
            "not enough space",
            out,
            expected=f"{needed_bytes} bytes",
            got=f"{free_bytes} bytes free",
            hint="Make room, or choose another place",
        )
