"""What carries tasks out: reads ranges, computes by blocks, writes at known offsets, and says what was written."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from ckptmigrate.apply.boxes import Box, Shape, Source, boxes, extents
from ckptmigrate.apply.elements import all_finite
from ckptmigrate.apply.layout import Side
from ckptmigrate.apply.stream import block_elements, made_of
from ckptmigrate.apply.tasks import Part, Range, Task, Values, specs_of
from ckptmigrate.bundle import Bundle, DataFile, Entry, Reads, Runs, SliceSpec, data_path, extend_crc, slice_box
from ckptmigrate.bundle.algebra import shift_crc, shift_crcs
from ckptmigrate.bundle.writer import ShardFile
from ckptmigrate.dtypes import FLOATS, PARTS
from ckptmigrate.errors import CkptMigrateError, OperationError
from ckptmigrate.health import count_not_finite
from ckptmigrate.matching import Step
from ckptmigrate.ops import Add, Average, Cast, FoldBias, FoldKernel, Scale, Transpose, needs_template
from ckptmigrate.spec import DType, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_COMPUTED = (Add, Average, Cast, FoldBias, FoldKernel, Scale)
"""What computes values. What only moves them leaves NaN where it was, and that is not looked at."""


_TASKS_BEHIND = 2
"""So many tasks later, what a worker wrote is on the disk."""


@dataclass(frozen=True, slots=True)
class Job:
    """What all tasks of a plan have in common.

    Attributes:
        steps: The plan's.
        source: The source's prefix.
        target: The target's prefix.
        prefix: The prefix of the new bundle while it is being written.
        num_shards: How many data files it has.
        block_bytes: How much is computed at a time.
        tile_bytes: How much of a tensor that is transposed is in memory at a time.
    """

    steps: tuple[Step, ...]
    source: str
    target: str
    prefix: str
    num_shards: int
    block_bytes: int
    tile_bytes: int

    def shard_path(self, shard: int) -> str:
        """Where a data file is while it is being written."""
        return data_path(self.prefix, shard, self.num_shards)


class Done(msgspec.Struct, frozen=True, tag=True):
    """What a worker says of a task that is done.

    Attributes:
        task: The task's number.
        crcs: What each part adds to the CRC32C of its tensor, not masked.
        not_finite: By part, how many of its elements are NaN, and how many infinite, if any are.
        reads: What was read of tensors to compute others: the side, the shard, the offset, and what that adds to the
            CRC32C of what is there; None if that is not known.
        read_bytes: How much was read.
        written_bytes: How much was written.
        is_kept: Whether it was done before, and what was written then is still there.
    """

    task: int
    crcs: tuple[int, ...]
    not_finite: dict[int, tuple[int, int]] = {}
    reads: tuple[tuple[Side, int, int, int | None], ...] = ()
    read_bytes: int = 0
    written_bytes: int = 0
    is_kept: bool = False


class Worker:
    """One worker. It holds no more than a few blocks at a time, and of each step what is asked for again and again."""

    def __init__(self, job: Job, bundles: Mapping[Side, Bundle]) -> None:
        self._job, self._bundles = job, bundles
        self._reads: dict[Side, Reads] = {}
        self._made: tuple[tuple[int, SliceSpec | None], Source, int] | None = None
        self._written: deque[tuple[str, int, int]] = deque()

    def run(self, task: Task, before: Done | None = None) -> Done:
        """Do a task, unless it was done and what it wrote is there.

        Args:
            task: The task.
            before: What was said of it when it was done before.

        Raises:
            OperationError: An operation destroys values.
            CorruptBundleError: A source is damaged.
            OutputError: The data file cannot be written.
        """
        path = self._job.shard_path(task.shard)
        if before is not None and self._is_there(task, before, path):
            return msgspec.structs.replace(before, is_kept=True)
        self._reads = {"source": Reads(), "target": Reads()}
        crcs: list[int] = []
        not_finite: dict[int, tuple[int, int]] = {}
        read_bytes = 0
        with ShardFile(path) as file:
            for group in _neighbours(task.parts):
                origin = group[0].origin
                if isinstance(origin, Range):
                    crcs += self._copy(group, origin, file)
                    read_bytes += sum(part.size_bytes for part in group)
                elif isinstance(origin, Values):
                    crc, found = self._make(group[0], origin, file)
                    if any(found):
                        not_finite[len(crcs)] = found
                    crcs.append(crc)
                else:
                    file.write_at(group[0].offset, origin.data)
                    crcs.append(extend_crc(0, origin.data))
        self._forget_behind(task, path)
        reads = [
            (side, shard, offset, crc)
            for side, read in self._reads.items()
            for (shard, offset), crc in read.crcs.items()
        ]
        read_bytes += sum(read.size_bytes for read in self._reads.values())
        return Done(task.number, tuple(crcs), not_finite, tuple(reads), read_bytes, task.size_bytes)

    def _forget_behind(self, task: Task, path: str) -> None:
        """Drop from the system's cache what was written a few tasks ago, and is on the disk by now."""
        first, last = task.parts[0], task.parts[-1]
        start, end = first.offset + first.start, last.offset + last.start + last.size_bytes
        if end - start != task.size_bytes:
            return  # it has gaps
        self._written.append((path, start, end - start))
        if len(self._written) > _TASKS_BEHIND:
            path, start, size_bytes = self._written.popleft()
            with ShardFile(path) as file:
                file.forget(start, size_bytes)

    def _copy(self, parts: Sequence[Part], origin: Range, file: ShardFile) -> Iterator[int]:
        """Copy neighbours; what each adds to the checksum of its tensor."""
        at = parts[0].offset + parts[0].start
        left = iter(parts)
        part, crc, missing = next(left), 0, parts[0].size_bytes
        source = self._bundles[origin.side].data_file(origin.shard)
        for piece in source.pieces(origin.offset, sum(part.size_bytes for part in parts)):
            file.write_at(at, piece)
            at += len(piece)
            start = 0
            while start < len(piece):
                some = piece[start : start + missing] if start or missing < len(piece) else piece
                crc, missing, start = extend_crc(crc, some), missing - len(some), start + len(some)
                if not missing:
                    yield shift_crc(crc, part.whole_bytes - part.start - part.size_bytes)
                    part = next(left, part)
                    crc, missing = 0, part.size_bytes

    def _make(self, part: Part, values: Values, file: ShardFile) -> tuple[int, tuple[int, int]]:
        """Compute elements; what they add to the checksum of their tensor, and how many are NaN, and infinite."""
        import numpy as np

        step = self._job.steps[values.step]
        try:
            source, max_elements = self._source(values.step, values.piece)
            dtype = source.spec.dtype
            is_counted = any(isinstance(op, _COMPUTED) for op in step.ops) and (dtype in FLOATS or dtype in PARTS)
            runs = Runs(values.box, values.shape)
            # Of what has gaps in between, a tile is as much as may be in memory.
            inner = [values.box] if len(runs.starts) > 1 else _blocks(values.box, max_elements)
            crc, at = 0, part.offset + part.start
            nan = inf = 0
            for box in inner:
                block = np.ascontiguousarray(source.read_box(box, values.shape)).reshape(-1)
                if is_counted and not all_finite(block, dtype):
                    more = count_not_finite(block)
                    nan, inf = nan + more[0], inf + more[1]
                data = block.view("u1")
                if len(runs.starts) > 1:
                    return self._scatter(part, data, runs, dtype, file), (nan, inf)
                file.write_at(at, data.data)
                crc, at = extend_crc(crc, data), at + len(data)
        except OperationError:
            # Values that a damaged file gives are not what is wrong.
            for key in step.sources:
                self._bundles["source"].verify_crc(key)
            raise
        return shift_crc(crc, part.whole_bytes - part.start - part.size_bytes), (nan, inf)

    def _scatter(self, part: Part, data: Array, runs: Runs, dtype: DType, file: ShardFile) -> int:
        """Write the runs of a tile."""
        itemsize = dtype.itemsize_bytes or 0
        run_bytes = runs.length * itemsize
        crcs = []
        for number, start in enumerate((runs.starts * itemsize).tolist()):
            run = data[number * run_bytes : (number + 1) * run_bytes]
            file.write_at(part.offset + start, run.data)
            crcs.append(extend_crc(0, run))
        return _together(crcs, runs, itemsize)

    def _source(self, number: int, piece: SliceSpec | None) -> tuple[Source, int]:
        """What a step makes, or a slice of it, and how many of its elements are read at a time."""
        if self._made is not None and self._made[0] == (number, piece):
            return self._made[1:]
        self._made = None
        step = self._job.steps[number]
        target = self._bundles["target"].entries[step.target]
        specs = specs_of(step, self._bundles)
        stored = [self._stored("source", self._bundles["source"].entries[key]) for key in step.sources]
        template = self._stored("target", target) if needs_template(step.ops, specs) else None
        box = None if piece is None else slice_box(piece, target.spec.shape)
        is_moved = any(isinstance(op, Transpose) for op in step.ops)
        block_bytes = self._job.tile_bytes if is_moved else self._job.block_bytes
        source = made_of(step.ops, stored, specs, block_bytes=block_bytes, template=template, box=box)
        max_elements = block_elements(step.ops, specs, block_bytes)
        self._made = (number, piece), source, max_elements
        return source, max_elements

    def _stored(self, side: Side, entry: Entry) -> Stored:
        return Stored(self._bundles[side], entry, lambda: self._reads[side])

    def _is_there(self, task: Task, before: Done, path: str) -> bool:
        """Whether what was written before is what is in the data file."""
        try:
            file = DataFile(path, 0)
            return tuple(_crc_there(part, file) for part in task.parts) == before.crcs
        except CkptMigrateError:
            return False


class Stored:
    """A tensor of a bundle as operations read it."""

    __slots__ = ("_bundle", "_entry", "_reads", "spec")

    def __init__(self, bundle: Bundle, entry: Entry, reads: Callable[[], Reads | None] = lambda: None) -> None:
        self.spec: TensorSpec = entry.spec
        self._bundle, self._entry, self._reads = bundle, entry, reads

    def read_box(self, box: Box, shape: Shape) -> Array:
        return self._bundle.read_box(self._entry, box, shape, self._reads())


def _neighbours(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Parts in order, ranges that follow each other on both sides together, all others alone."""
    group: list[Part] = []
    for part in parts:
        if group and not _follows(group[-1], part):
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def _follows(left: Part, right: Part) -> bool:
    one, other = left.origin, right.origin
    return (
        isinstance(one, Range)
        and isinstance(other, Range)
        and (one.side, one.shard, one.offset + left.size_bytes) == (other.side, other.shard, other.offset)
        and left.offset + left.start + left.size_bytes == right.offset + right.start
    )


def _blocks(box: Box, max_elements: int) -> Iterator[Box]:
    """A box in boxes of at most so many elements."""
    for inner in boxes(extents(box), max_elements):
        yield tuple((start + low, start + high) for (start, _), (low, high) in zip(box, inner, strict=True))


def _crc_there(part: Part, file: DataFile) -> int:
    """What the bytes of a part that are in a file add to the checksum of its tensor."""
    runs = Runs(part.origin.box, part.origin.shape) if isinstance(part.origin, Values) else None
    if runs is None or len(runs.starts) == 1:
        crc = 0
        for piece in file.pieces(part.offset + part.start, part.size_bytes):
            crc = extend_crc(crc, piece)
        return shift_crc(crc, part.whole_bytes - part.start - part.size_bytes)
    itemsize = part.whole_bytes // runs.total
    run_bytes = runs.length * itemsize
    crcs = []
    for start in (runs.starts * itemsize).tolist():
        crc = 0
        for piece in file.pieces(part.offset + start, run_bytes):
            crc = extend_crc(crc, piece)
        crcs.append(crc)
    return _together(crcs, runs, itemsize)


def _together(crcs: Sequence[int], runs: Runs, itemsize: int) -> int:
    import numpy as np

    behind_bytes = (runs.total - runs.length - runs.starts) * itemsize
    return shift_crcs(np.array(crcs, np.uint32), behind_bytes)
