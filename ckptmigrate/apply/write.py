"""Carry a plan out: write the new bundle beside its place, then rename it into it, the index last."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptmigrate.apply.layout import Choice, Kept, Layout, Side, lay_out
from ckptmigrate.apply.link import LinkChoice, link_file
from ckptmigrate.apply.receipt import Receipt, ShardReceipt, make_receipt, receipt_path
from ckptmigrate.bundle import Box, Bundle, Entry, Extent, ShardWriter, SliceSpec, data_path, index_path, write_index
from ckptmigrate.errors import CkptMigrateError, OutputError, PlanError, raise_all
from ckptmigrate.matching import Step
from ckptmigrate.ops import compute
from ckptmigrate.plan import Endpoint, Plan, check_plan
from ckptmigrate.spec import OBJECT_GRAPH_KEY, Key, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

# A prefix is text and not a path: pathlib would take a slash off its end and the dot off `./`.
# ruff: noqa: PTH100, PTH104, PTH108, PTH112, PTH118, PTH119, PTH120, PTH202, PTH208

BLOCK_BYTES = 16 * 1024 * 1024
"""How much of a tensor is in memory at a time."""

Progress = Callable[[int, int], None]
"""Told how many bytes are written, and how many will be."""


def apply_plan(
    plan: Plan,
    out: str,
    *,
    where: str = "plan",
    link: LinkChoice = "auto",
    layout: Choice = "auto",
    overwrite: bool = False,
    on_progress: Progress = lambda done, total: None,
) -> Receipt:
    """Write the checkpoint that a plan describes. TensorFlow is not needed.

    Unchanged tensors are neither read nor written where their data files can be linked.

    Args:
        plan: The plan.
        out: The prefix of the new checkpoint.
        where: The plan's name, for messages.
        link: How a data file becomes one of the new checkpoint's.
        layout: Whether data files are linked (``link``), or their live ranges copied (``compact``).
        overwrite: Replace a checkpoint that is there.
        on_progress: Called now and then while bytes are written.

    Returns:
        The receipt, which is also written to ``OUT.ckptmigrate.json``.

    Raises:
        PlanError: The plan is not complete, or does not fit its source or target any more.
        OutputError: The output is there already, or cannot be written. Nothing is left behind.
    """
    with Bundle.open(plan.source.prefix) as source, Bundle.open(plan.target.prefix) as target:
        raise_all(
            f"{where}: the plan cannot be applied",
            [*_changed(plan.source, source, "source", where), *_changed(plan.target, target, "target", where)],
        )
        check_plan(plan, _specs(source), _specs(target), where=where)
        _check_output(out, source, target, overwrite=overwrite)
        decided = lay_out(plan, source, target, layout)
        with _scratch(out) as scratch:
            return _write(plan, decided, source, target, out, scratch, link, on_progress)


def _specs(bundle: Bundle) -> dict[Key, TensorSpec]:
    return {key: entry.spec for key, entry in bundle.entries.items() if key != OBJECT_GRAPH_KEY}


def _changed(end: Endpoint, bundle: Bundle, side: Side, where: str) -> Iterator[CkptMigrateError]:
    if bundle.fingerprint != end.fingerprint:
        yield PlanError(
            f"the {side} has changed since the plan was made",
            end.prefix,
            expected=f"{_short(end.fingerprint)} ({where})",
            got=f"{_short(bundle.fingerprint)} (the files)",
            hint="Make the plan again",
        )


def _short(fingerprint: str) -> str:
    return fingerprint[:19] + "..."


def _check_output(out: str, source: Bundle, target: Bundle, *, overwrite: bool) -> None:
    if not os.path.basename(out) or os.path.isdir(out):
        raise OutputError(
            "a directory, not a prefix",
            out,
            expected="a prefix: the output's files will be PREFIX.index, PREFIX.data-...",
            hint=f"Write for example `{os.path.join(out, 'ckpt')}`",
        )
    place = os.path.realpath(index_path(out))
    for bundle, side in ((source, "source"), (target, "target")):
        if place == os.path.realpath(index_path(bundle.prefix)):
            raise OutputError(f"the output is the {side}", out, hint="The source is never changed; name another prefix")
    existing = _existing_files(out)
    if existing and not overwrite:
        raise OutputError(
            "the output exists",
            out,
            expected="a prefix that is free",
            got=", ".join(os.path.basename(name) for name in existing[:3]) + (", ..." if len(existing) > 3 else ""),
            hint="Name another prefix, or say --overwrite",
        )


def _existing_files(out: str) -> list[str]:
    directory, name = os.path.split(out)
    own = re.compile(re.escape(name) + r"\.(index|data-\d{5}-of-\d{5}|ckptmigrate\.json)")
    try:
        return sorted(os.path.join(directory, found) for found in os.listdir(directory or ".") if own.fullmatch(found))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError("cannot be read", directory, got=str(error.strerror)) from error


@contextlib.contextmanager
def _scratch(out: str) -> Iterator[str]:
    """A directory beside the output, on the same file system, gone afterwards whatever happens."""
    directory = os.path.dirname(os.path.abspath(out))
    made: list[Path] = []
    try:
        missing = [path for path in (Path(directory), *Path(directory).parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            made.append(path)
        scratch = tempfile.mkdtemp(prefix=f".{os.path.basename(out)[:64]}.ckptmigrate-", dir=directory)
    except OSError as error:
        _remove_empty(made)
        raise OutputError(
            "cannot write here", directory, got=str(error.strerror), hint="Choose another place"
        ) from error
    try:
        yield scratch
    except OSError as error:
        raise OutputError("cannot write the output", out, got=str(error.strerror or error)) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        _remove_empty(made)


def _remove_empty(directories: list[Path]) -> None:
    """Remove what was made for nothing; a directory with the output in it is not empty and stays."""
    for path in reversed(directories):
        with contextlib.suppress(OSError):
            path.rmdir()


def _write(
    plan: Plan,
    decided: Layout,
    source: Bundle,
    target: Bundle,
    out: str,
    scratch: str,
    link: LinkChoice,
    on_progress: Progress,
) -> Receipt:
    temporary = os.path.join(scratch, "new")
    count = decided.num_shards
    shards: list[ShardReceipt] = []

    def add_shard(number: int, how: str) -> None:
        path = data_path(temporary, number, count)
        name = os.path.basename(data_path(out, number, count))
        shards.append(ShardReceipt(name, os.path.getsize(path), how))  # type: ignore[arg-type]  # one of its words

    for number, linked in enumerate(decided.linked):
        add_shard(number, link_file(linked.path, data_path(temporary, number, count), link))
    number_of = {(linked.side, linked.shard): number for number, linked in enumerate(decided.linked)}
    placed: list[tuple[Kept, int, Extent]] = [
        (
            kept,
            number_of[kept.side, kept.entry.shard],
            Extent(kept.entry.offset, kept.entry.size_bytes, kept.entry.crc32c),
        )
        for kept in decided.in_place
    ]
    made: list[Entry] = []
    new = count - 1
    if decided.has_new_shard:
        with ShardWriter(data_path(temporary, new, count)) as writer:
            progress = _Meter(decided, target, on_progress)
            placed += [(kept, new, extent) for kept, extent in _copy(decided, source, target, writer, progress)]
            made = [_make(step, source, target, writer, new, progress) for step in decided.made]
        add_shard(new, "new")
    entries = [*made]
    slices: dict[tuple[Key, SliceSpec], Entry] = {}
    for kept, shard, extent in placed:
        parts = kept.entry.slices
        entry = Entry(kept.key, kept.entry.spec, shard, extent.offset, extent.size_bytes, extent.crc32c, parts)
        if kept.slice_spec is None:
            entries.append(entry)
        else:
            slices[kept.key, kept.slice_spec] = entry
    write_index(index_path(temporary), entries, count, slices)
    receipt = make_receipt(plan, tuple(shards), sorted(entries, key=lambda entry: entry.key))
    Path(receipt_path(temporary)).write_bytes(receipt.to_json())
    _put_in_place(temporary, out, count)
    return receipt


class _Meter:
    """Counts bytes written for whoever watches."""

    def __init__(self, decided: Layout, target: Bundle, on_progress: Progress) -> None:
        made = sum(target.entries[step.target].size_bytes for step in decided.made)
        self._total = made + sum(kept.entry.size_bytes for kept in decided.copied)
        self._done = 0
        self._tell = on_progress

    def add(self, size_bytes: int) -> None:
        self._done += size_bytes
        self._tell(self._done, self._total)


def _copy(
    decided: Layout, source: Bundle, target: Bundle, writer: ShardWriter, progress: _Meter
) -> Iterator[tuple[Kept, Extent]]:
    """Copy live ranges within the kernel; a range that several keys share is copied once."""
    with contextlib.ExitStack() as files:
        descriptors: dict[tuple[Side, int], int] = {}
        extents: dict[tuple[Side, int, int, int], Extent] = {}
        for kept in decided.copied:
            entry = kept.entry
            place = (kept.side, entry.shard)
            extent = extents.get((*place, entry.offset, entry.size_bytes))
            if extent is None:
                if place not in descriptors:
                    bundle = source if kept.side == "source" else target
                    descriptors[place] = os.open(bundle.shard_paths[entry.shard], os.O_RDONLY)
                    files.callback(os.close, descriptors[place])
                extent = writer.copy_range(descriptors[place], entry.offset, entry.size_bytes, entry.crc32c)
                extents[(*place, entry.offset, entry.size_bytes)] = extent
                progress.add(entry.size_bytes)
            yield kept, extent._replace(crc32c=entry.crc32c)


def _make(step: Step, source: Bundle, target: Bundle, writer: ShardWriter, shard: int, progress: _Meter) -> Entry:
    """Compute a step's values, a block at a time. What is read of the source is checked against its CRC."""
    wanted = target.entries[step.target].spec
    for key in step.sources:
        source.verify_crc(key)
    sources = [_Stored(source, source.entries[key]) for key in step.sources]
    specs = tuple(stored.spec for stored in sources) or (wanted,)
    writer.begin()
    for block in compute(step.ops, sources, specs, block_bytes=BLOCK_BYTES):
        data = block.reshape(-1).view("u1").data
        writer.write(data)
        progress.add(data.nbytes)
    extent = writer.end()
    return Entry(step.target, wanted, shard, extent.offset, extent.size_bytes, extent.crc32c)


class _Stored:
    """A tensor of a bundle as operations read it."""

    def __init__(self, bundle: Bundle, entry: Entry) -> None:
        self.spec = entry.spec
        self._bundle = bundle
        self._entry = entry

    def read_box(self, box: Box, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        return self._bundle.read_box(self._entry, box, shape)


def _put_in_place(temporary: str, out: str, count: int) -> None:
    """Rename into place, the index last: without its index a bundle does not exist."""
    names = [*(data_path("", number, count) for number in range(count)), receipt_path(""), index_path("")]
    directory = os.path.dirname(os.path.abspath(out))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(index_path(out))
    for stale in _existing_files(out):
        os.unlink(stale)
    renamed: list[str] = []
    try:
        for name in names:
            os.rename(temporary + name, out + name)
            renamed.append(out + name)
    except OSError:
        for path in renamed:
            os.unlink(path)
        raise
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
