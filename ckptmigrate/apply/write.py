"""Carry a plan out: write the new bundle beside its place, then rename it into it, the index last."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptmigrate.apply.layout import Choice, Kept, Layout, Side, lay_out
from ckptmigrate.apply.link import LinkChoice, link_file
from ckptmigrate.apply.receipt import NotFinite, Receipt, ShardReceipt, make_receipt, receipt_path
from ckptmigrate.apply.stream import compute
from ckptmigrate.bundle import (
    Box,
    Bundle,
    Entry,
    Extent,
    ShardWriter,
    SliceSpec,
    data_path,
    encode_strings,
    index_path,
    slice_box,
    write_index,
)
from ckptmigrate.dtypes import FLOATS, PARTS
from ckptmigrate.errors import CkptMigrateError, OutputError, PlanError, VocabularyError, raise_all
from ckptmigrate.health import count_not_finite
from ckptmigrate.matching import Step
from ckptmigrate.ops import Add, Average, Cast, FoldBias, FoldKernel, Scale, Vocab, infer_chain, needs_template
from ckptmigrate.plan import Endpoint, Plan, check_plan
from ckptmigrate.spec import OBJECT_GRAPH_KEY, DType, Key, TensorSpec
from ckptmigrate.vocabulary import check_unchanged

if TYPE_CHECKING:
    import numpy.typing as npt

# A prefix is text and not a path: pathlib would take a slash off its end and the dot off `./`.
# ruff: noqa: PTH100, PTH104, PTH108, PTH112, PTH118, PTH119, PTH120, PTH208

_COMPUTED = (Add, Average, Cast, FoldBias, FoldKernel, Scale)
"""What computes values. What only moves them leaves NaN where it was, and that is not looked at."""

BLOCK_BYTES = 16 * 1024 * 1024
"""How much of a tensor is in memory at a time."""

_NEW = "new"
"""The name of the new bundle while it is in its scratch directory."""

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
    on_progress: Progress | None = None,
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
        raise_all(f"{where}: the plan cannot be applied", _changed_vocabularies(plan))
        _check_output(out, source, target, overwrite=overwrite)
        decided = lay_out(plan, source, target, layout)
        with _scratch(out) as scratch:
            bundles: dict[Side, Bundle] = {"source": source, "target": target}
            return _Writing(plan, decided, bundles, os.path.join(scratch, _NEW), on_progress).run(
                out, link, overwrite=overwrite
            )


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


def _changed_vocabularies(plan: Plan) -> Iterator[CkptMigrateError]:
    vocabularies = (
        vocabulary
        for step in plan.steps
        for op in step.ops
        if isinstance(op, Vocab)
        for vocabulary in (op.source, op.target)
    )
    for vocabulary in dict.fromkeys(vocabularies):
        try:
            check_unchanged(vocabulary)
        except VocabularyError as error:
            yield error


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
        raise _exists(out, existing)


def _exists(out: str, existing: list[str]) -> OutputError:
    return OutputError(
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
            with contextlib.suppress(FileExistsError):  # another run may make the same directory
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
    except OutputError as error:
        # The file has its final name for who reads this.
        place = error.where.replace(os.path.join(scratch, _NEW), out)
        raise OutputError(
            error.what, place, expected=error.expected, got=error.got, hint=error.hint or "Choose another place"
        ) from error
    except OSError as error:
        raise OutputError(
            "cannot write the output", out, got=str(error.strerror or error), hint="Choose another place"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        _remove_empty(made)


def _remove_empty(directories: list[Path]) -> None:
    """Remove what was made for nothing; a directory with the output in it is not empty and stays."""
    for path in reversed(directories):
        with contextlib.suppress(OSError):
            path.rmdir()


class _Writing:
    """One bundle on its way to the disk, under a temporary prefix."""

    def __init__(
        self,
        plan: Plan,
        layout: Layout,
        bundles: Mapping[Side, Bundle],
        temporary: str,
        on_progress: Progress | None,
    ) -> None:
        self.plan = plan
        self.layout = layout
        self.bundles = bundles
        self.temporary = temporary
        self.tell = on_progress
        self.done_bytes = 0
        made = sum(bundles["target"].stored_bytes(step.target) for step in layout.made)
        self.total_bytes = made + sum(kept.entry.size_bytes for kept in layout.copied)
        self.entries: list[Entry] = []
        self.slices: dict[tuple[Key, SliceSpec], Entry] = {}
        self.shards: list[ShardReceipt] = []
        self.not_finite: dict[str, NotFinite] = {}

    def run(self, out: str, link: LinkChoice, *, overwrite: bool) -> Receipt:
        count = self.layout.num_shards
        for linked in self.layout.linked:
            number = len(self.shards)
            how = link_file(linked.path, data_path(self.temporary, number, count), link)
            self.shards.append(ShardReceipt(os.path.basename(data_path(out, number, count)), linked.size_bytes, how))
        number_of = {(linked.side, linked.shard): number for number, linked in enumerate(self.layout.linked)}
        for kept in self.layout.in_place:
            self.place(kept, number_of[kept.side, kept.entry.shard], kept.entry.offset)
        if self.layout.has_new_shard:
            with ShardWriter(data_path(self.temporary, count - 1, count)) as writer:
                self.copy(writer)
                for step in self.layout.made:
                    self.make(step, writer)
            name = os.path.basename(data_path(out, count - 1, count))
            self.shards.append(ShardReceipt(name, writer.size_bytes, "new"))
        write_index(index_path(self.temporary), self.entries, count, self.slices)
        entries = sorted(self.entries, key=lambda entry: entry.key)
        receipt = make_receipt(self.plan, tuple(self.shards), entries, self.not_finite)
        Path(receipt_path(self.temporary)).write_bytes(receipt.to_json())
        _put_in_place(self.temporary, out, count, overwrite=overwrite)
        return receipt

    def place(self, kept: Kept, shard: int, offset: int) -> None:
        old = kept.entry
        entry = Entry(kept.key, old.spec, shard, offset, old.size_bytes, old.crc32c, old.slices)
        if kept.slice_spec is None:
            self.entries.append(entry)
        else:
            self.slices[kept.key, kept.slice_spec] = entry

    def copy(self, writer: ShardWriter) -> None:
        """Copy live ranges within the kernel, neighbours at once and what several keys share once."""
        shard = self.layout.num_shards - 1
        for (side, number), kept in groupby(self.layout.copied, key=lambda item: (item.side, item.entry.shard)):
            descriptor = os.open(self.bundles[side].shard_paths[number], os.O_RDONLY)
            try:
                for run in _runs(kept):
                    start = run[0].entry.offset
                    size_bytes = max(item.entry.offset + item.entry.size_bytes for item in run) - start
                    # Each tensor keeps its own CRC; nobody asks for that of several together.
                    moved_to = writer.copy_range(descriptor, start, size_bytes, crc32c=0).offset
                    for item in run:
                        self.place(item, shard, moved_to + item.entry.offset - start)
                    self.progress(size_bytes)
            finally:
                os.close(descriptor)

    def make(self, step: Step, writer: ShardWriter) -> None:
        """Compute a step's values, a block at a time. What is read of the source is checked against its CRC."""
        wanted = self.bundles["target"].entries[step.target]
        source = self.bundles["source"]
        for key in step.sources:
            source.verify_crc(key)
        stored = [_Stored(source, source.entries[key]) for key in step.sources]
        specs = tuple(item.spec for item in stored) or (wanted.spec,)
        template = None
        if needs_template(step.ops, specs):
            self.bundles["target"].verify_crc(step.target)
            template = _Stored(self.bundles["target"], wanted)

        def extent(box: Box | None = None) -> Extent:
            blocks = compute(step.ops, stored, specs, block_bytes=BLOCK_BYTES, template=template, box=box)
            if any(isinstance(operation, _COMPUTED) for operation in step.ops):
                blocks = self.counted(step.target, blocks, wanted.spec.dtype)
            return self.put(blocks, wanted.spec.dtype, writer)

        shard = self.layout.num_shards - 1
        if not wanted.slices:
            (spec,) = infer_chain(step.ops, specs)  # not always the template's: a table is as long as it is full
            self.entries.append(Entry(step.target, spec, shard, *extent()))
            return
        self.entries.append(Entry(step.target, wanted.spec, 0, 0, 0, 0, wanted.slices))
        for piece in wanted.slices:
            box = slice_box(piece, wanted.spec.shape)
            spec = TensorSpec(wanted.spec.dtype, tuple(stop - start for start, stop in box))
            self.slices[step.target, piece] = Entry(step.target, spec, shard, *extent(box))

    def counted(self, key: Key, blocks: Iterable[npt.NDArray[Any]], dtype: DType) -> Iterator[npt.NDArray[Any]]:
        """The blocks of a tensor, while what is no finite number in them is counted."""
        import numpy as np

        for block in blocks:
            if (dtype in FLOATS or dtype in PARTS) and not np.isfinite(block).all():
                before = self.not_finite.get(key, NotFinite(0, 0))
                nan, inf = count_not_finite(block)
                self.not_finite[key] = NotFinite(before.nan + nan, before.inf + inf)
            yield block

    def put(self, blocks: Iterable[npt.NDArray[Any]], dtype: DType, writer: ShardWriter) -> Extent:
        """Write a tensor, or one slice of it, that comes in blocks."""
        if dtype is DType.STRING:
            return writer.append(*encode_strings([value for block in blocks for value in block]))
        writer.begin()
        for block in blocks:
            writer.write(block.view("u1").data)
            self.progress(block.nbytes)
        return writer.end()

    def progress(self, size_bytes: int) -> None:
        self.done_bytes += size_bytes
        if self.tell is not None:
            self.tell(self.done_bytes, self.total_bytes)


def _runs(items: Iterable[Kept]) -> Iterator[list[Kept]]:
    """Tensors of one file, in its order, in groups with no gap in between."""
    run: list[Kept] = []
    start = end = 0
    for item in items:
        entry = item.entry
        if run and (entry.offset > end or (entry.offset == end and end - start > BLOCK_BYTES)):
            yield run
            run = []
        if not run:
            start = end = entry.offset
        run.append(item)
        end = max(end, entry.offset + entry.size_bytes)
    if run:
        yield run


class _Stored:
    """A tensor of a bundle as operations read it."""

    def __init__(self, bundle: Bundle, entry: Entry) -> None:
        self.spec = entry.spec
        self._bundle = bundle
        self._entry = entry

    def read_box(self, box: Box, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        return self._bundle.read_box(self._entry, box, shape)


def _put_in_place(temporary: str, out: str, count: int, *, overwrite: bool) -> None:
    """Give the files their names, the index last: without its index a bundle does not exist.

    What is to be replaced is set aside before, its index first. No name that is taken is taken over, so of two
    runs to one prefix the later one fails. Everything is undone if anything fails.
    """
    names = [*(data_path("", number, count) for number in range(count)), receipt_path(""), index_path("")]
    replaced = sorted(_existing_files(out), key=lambda path: path != index_path(out)) if overwrite else []
    moves = [(path, f"{temporary}-replaced{path.removeprefix(out)}") for path in replaced]
    moves += [(temporary + name, out + name) for name in names]
    done: list[tuple[str, str]] = []
    try:
        for old, new in moves:
            _rename_to_free(old, new)
            done.append((old, new))
    except BaseException as error:
        for old, new in reversed(done):
            with contextlib.suppress(FileExistsError):  # what another run has put there stays
                _rename_to_free(new, old)
        if isinstance(error, FileExistsError):
            raise _exists(out, _existing_files(out)) from error
        raise
    directory = os.path.dirname(os.path.abspath(out))
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename_to_free(old: str, new: str) -> None:
    """Rename a file, unless the new name is taken."""
    try:
        # A rename replaces what is there, even if it came to be a moment ago; a link does not.
        os.link(old, new, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        # No links here. Whatever else is wrong, renaming tells.
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new) from None
        os.rename(old, new)
    else:
        os.unlink(old)
