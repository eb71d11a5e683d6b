"""The work of a plan, cut into tasks: which bytes of which new data file, and what they are made from.

Sizes are known before a byte is written, so every tensor has its place in its data file from the start, and tasks may
be done in any order, by anybody, more than once: the bytes are the same. A task is plain data. Of strings the size
is known when they are; they are computed first, and a task holds the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import msgspec

from ckptmigrate.apply.boxes import Box, Shape, boxes, extents
from ckptmigrate.apply.layout import Kept, Layout, LinkedShard, Side
from ckptmigrate.apply.stream import block_elements, turned
from ckptmigrate.bundle import Bundle, SliceSpec, mask_crc, slice_box
from ckptmigrate.bundle.entry import MAX_SHARDS
from ckptmigrate.errors import OutputError
from ckptmigrate.matching import Step
from ckptmigrate.ops import Custom, Specs, infer_chain
from ckptmigrate.spec import Key, TensorSpec

TASK_BYTES = 1 << 25
"""About how much a task writes: what is lost at most by each worker that is killed."""


class Range(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Bytes that a data file has already.

    Attributes:
        side: Whose data file.
        shard: Its number.
        offset: Where in it they start.
    """

    side: Side
    shard: int
    offset: int


class Given(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Bytes that are at hand: strings."""

    data: bytes


class Values(msgspec.Struct, frozen=True, tag=True):
    """Elements of what a step makes.

    Attributes:
        step: The step's number in the plan.
        piece: The slice of its result that they are in; None if it is stored whole.
        shape: What the result, or the slice of it, is seen in.
        box: Which elements, per axis of `shape` the first and the one after the last.
    """

    step: int
    piece: SliceSpec | None
    shape: Shape
    box: Box


class Part(msgspec.Struct, frozen=True):
    """Bytes of one tensor that are written together.

    Attributes:
        tensor: The tensor's number in the `Cut`; -1 for what lies between tensors.
        offset: Where the tensor starts in the new data file.
        whole_bytes: How many bytes the tensor has.
        start: Where in the tensor these start.
        size_bytes: How many they are. Those of a box that is a tile have gaps in between.
        origin: What they are made from.
    """

    tensor: int
    offset: int
    whole_bytes: int
    start: int
    size_bytes: int
    origin: Range | Given | Values


class Task(msgspec.Struct, frozen=True):
    """What one worker does at a time.

    Attributes:
        number: Its number among all tasks.
        shard: Which new data file it writes to.
        parts: What it writes there.
    """

    number: int
    shard: int
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        """How many bytes it writes."""
        return sum(part.size_bytes for part in self.parts)


class Placed(msgspec.Struct, frozen=True):
    """A tensor in a new data file, or one slice of it.

    Attributes:
        key: The tensor's key in the new bundle.
        slice_spec: Which slice; None for a whole tensor.
        spec: Its dtype and shape; for a slice, the slice's own shape.
        shard: The new data file.
        offset: Where in it the bytes start.
        size_bytes: How many they are.
        crc32c: Their CRC32C as an entry has it, masked, if it is known before they are written.
        origin: The tensor whose bytes are taken, if they are.
        slices: The slices of a partitioned tensor, which has no bytes of its own.
    """

    key: Key
    slice_spec: SliceSpec | None
    spec: TensorSpec
    shard: int
    offset: int
    size_bytes: int
    crc32c: int | None
    origin: Kept | None
    slices: tuple[SliceSpec, ...] = ()


class NewShard(msgspec.Struct, frozen=True):
    """A data file that is written: a copy of another one, or a new one."""

    number: int
    size_bytes: int
    is_copy: bool


@dataclass(frozen=True, slots=True)
class Cut:
    """All that is written but the index.

    Attributes:
        shards: The data files.
        tensors: The tensors in those files, by number; behind those with parts, those that share their bytes.
        tasks: What makes them. Each byte of the files is in one of them.
    """

    shards: tuple[NewShard, ...]
    tensors: tuple[Placed, ...]
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True)
class Sharding:
    """How new tensors are dealt out to data files: in a number of them, or by size; in one if neither is said."""

    count: int | None = None
    size_bytes: int | None = None

    @classmethod
    def of(cls, count: int | None = None, size_bytes: int | None = None) -> Sharding:
        """What a person asks for.

        Raises:
            OutputError: It makes no sense.
        """
        if count is not None and size_bytes is not None:
            raise OutputError("a number of data files and a size of them", "--shards", hint="Say one of the two")
        if count is not None and not 0 < count <= MAX_SHARDS:
            raise OutputError("impossible number of shards", "--shards", expected=f"1 to {MAX_SHARDS}", got=str(count))
        if size_bytes is not None and size_bytes < 1:
            raise OutputError(
                "impossible size of shards", "--shard-size", expected="1 byte or more", got=str(size_bytes)
            )
        return cls(count, size_bytes)

    def deal(self, sizes: Sequence[int]) -> list[int]:
        """The data file of each tensor, from 0 on: neighbours stay together, and each file has one tensor at least."""
        if self.size_bytes is not None:
            return list(self._by_size(sizes, self.size_bytes))
        return list(self._evenly(sizes, self.count or 1))

    @staticmethod
    def _by_size(sizes: Sequence[int], most_bytes: int) -> Iterator[int]:
        shard = filled = 0
        for size in sizes:
            if filled and filled + size > most_bytes:
                shard, filled = shard + 1, 0
            filled += size
            yield shard

    @staticmethod
    def _evenly(sizes: Sequence[int], count: int) -> Iterator[int]:
        left_bytes, more_shards = sum(sizes), count - 1
        shard = filled = held = 0
        for number, size in enumerate(sizes):
            share = (left_bytes + filled) / (more_shards + 1)
            must_end = len(sizes) - number <= more_shards
            if held and more_shards and (must_end or filled + size / 2 > share):
                shard, more_shards, filled, held = shard + 1, more_shards - 1, 0, 0
            filled, held, left_bytes = filled + size, held + 1, left_bytes - size
            yield shard


class _Wanted(msgspec.Struct, frozen=True):
    """A tensor that has no place yet, and what it is made from."""

    key: Key
    slice_spec: SliceSpec | None
    spec: TensorSpec
    size_bytes: int
    origin: Kept | Given | int
    """Bytes that are taken, bytes at hand, or the number of the step that makes it."""
    crc32c: int | None = None
    slices: tuple[SliceSpec, ...] = ()

    def at(self, shard: int, offset: int) -> Placed:
        origin = self.origin if isinstance(self.origin, Kept) else None
        return Placed(
            self.key, self.slice_spec, self.spec, shard, offset, self.size_bytes, self.crc32c, origin, self.slices
        )


def cut(
    steps: Sequence[Step],
    layout: Layout,
    bundles: Mapping[Side, Bundle],
    *,
    copies: Sequence[int],
    strings: Mapping[tuple[int, SliceSpec | None], tuple[bytes, int]],
    sharding: Sharding,
    tile_bytes: int,
) -> Cut:
    """Cut the work.

    Args:
        steps: The plan's.
        layout: What is linked, copied and made.
        bundles: The bundles, by side.
        copies: The new numbers of the data files that should be linked and cannot be.
        strings: Of the string tensors that are made, and their slices: the bytes, and their CRC32C, not masked.
        sharding: How new tensors are dealt out.
        tile_bytes: How much of a tensor that is transposed is in memory at a time.
    """
    cutter = _Cutter(steps, bundles, tile_bytes)
    shards: list[NewShard] = []
    shared: list[Placed] = []
    for number in copies:
        linked = layout.linked[number]
        inside = [kept for kept in layout.in_place if (kept.side, kept.entry.shard) == (linked.side, linked.shard)]
        shared += cutter.copy_file(number, linked, inside)
        shards.append(NewShard(number, linked.size_bytes, is_copy=True))
    distinct, aliases = _apart([*map(_taken, layout.copied), *_made(steps, layout, bundles, strings)])
    ends: dict[int, int] = {}
    first = len(cutter.tensors)
    for item, dealt in zip(distinct, sharding.deal([item.size_bytes for item in distinct]), strict=True):
        shard = len(layout.linked) + dealt
        offset = ends.get(shard, 0)
        cutter.write(item, item.at(shard, offset))
        ends[shard] = offset + item.size_bytes
    for item, number in aliases:
        other = cutter.tensors[first + number]
        shared.append(item.at(other.shard, other.offset))
    if layout.has_new_shard and not ends:
        ends[len(layout.linked)] = 0
    shards += [NewShard(number, size_bytes, is_copy=False) for number, size_bytes in ends.items()]
    return Cut(tuple(shards), (*cutter.tensors, *shared), tuple(cutter.tasks()))


def _taken(kept: Kept) -> _Wanted:
    entry = kept.entry
    return _Wanted(kept.key, kept.slice_spec, entry.spec, entry.size_bytes, kept, entry.crc32c, entry.slices)


def _made(
    steps: Sequence[Step],
    layout: Layout,
    bundles: Mapping[Side, Bundle],
    strings: Mapping[tuple[int, SliceSpec | None], tuple[bytes, int]],
) -> Iterator[_Wanted]:
    number_of = {step.target: number for number, step in enumerate(steps)} if layout.made else {}
    for step in layout.made:
        number, entry = number_of[step.target], bundles["target"].entries[step.target]
        # Not always the template's: a table is as long as it is full.
        (whole,) = infer_chain(step.ops, specs_of(step, bundles))
        if entry.slices:
            yield _Wanted(step.target, None, entry.spec, 0, Given(b""), 0, entry.slices)
        for piece in entry.slices or (None,):
            spec = whole
            if piece is not None:
                spec = TensorSpec(whole.dtype, extents(slice_box(piece, whole.shape)))
            if spec.size_bytes is None:
                data, crc = strings[number, piece]
                yield _Wanted(step.target, piece, spec, len(data), Given(data), mask_crc(crc))
            else:
                yield _Wanted(step.target, piece, spec, spec.size_bytes, number)


def specs_of(step: Step, bundles: Mapping[Side, Bundle]) -> Specs:
    """What the first operation of a step takes."""
    sources = tuple(bundles["source"].entries[key].spec for key in step.sources)
    return sources or (bundles["target"].entries[step.target].spec,)


def _apart(items: Sequence[_Wanted]) -> tuple[list[_Wanted], list[tuple[_Wanted, int]]]:
    """The tensors that are written, and those that share the bytes of one of them, with its number."""
    number_of: dict[tuple[Side, int, int, int], int] = {}
    distinct: list[_Wanted] = []
    aliases: list[tuple[_Wanted, int]] = []
    for item in items:
        if isinstance(item.origin, Kept) and item.size_bytes:
            entry = item.origin.entry
            place = (item.origin.side, entry.shard, entry.offset, entry.size_bytes)
            number = number_of.setdefault(place, len(distinct))
            if number < len(distinct):
                aliases.append((item, number))
                continue
        distinct.append(item)
    return distinct, aliases


class _Cutter:
    """What is cut so far."""

    def __init__(self, steps: Sequence[Step], bundles: Mapping[Side, Bundle], tile_bytes: int) -> None:
        self.steps, self.bundles, self.tile_bytes = steps, bundles, tile_bytes
        self.tensors: list[Placed] = []
        self.parts: list[tuple[int, Part]] = []

    def copy_file(self, number: int, linked: LinkedShard, inside: Sequence[Kept]) -> list[Placed]:
        """Copy a data file whole, and say which of its tensors share another one's bytes."""
        end = 0
        shared: list[Placed] = []
        for kept in sorted(inside, key=lambda kept: (kept.entry.offset, kept.entry.size_bytes)):
            item = _taken(kept)
            offset = kept.entry.offset
            if item.size_bytes and offset < end:
                shared.append(item.at(number, offset))
                continue
            self.take(-1, number, end, offset - end, Range(linked.side, linked.shard, end))
            self.write(item, item.at(number, offset))
            end = max(end, offset + item.size_bytes)
        self.take(-1, number, end, linked.size_bytes - end, Range(linked.side, linked.shard, end))
        return shared

    def write(self, item: _Wanted, placed: Placed) -> None:
        number = len(self.tensors)
        self.tensors.append(placed)
        match item.origin:
            case Kept(side=side, entry=entry):
                self.take(
                    number, placed.shard, placed.offset, placed.size_bytes, Range(side, entry.shard, entry.offset)
                )
            case Given() as given:
                self.add(placed, number, 0, placed.size_bytes, given)
            case int(step):
                for start, size_bytes, values in self.values(step, item):
                    self.add(placed, number, start, size_bytes, values)

    def take(self, tensor: int, shard: int, offset: int, size_bytes: int, origin: Range) -> None:
        """Take a range of another file, in as many parts as tasks can have."""
        for start in range(0, size_bytes, TASK_BYTES):
            part = Range(origin.side, origin.shard, origin.offset + start)
            size = min(TASK_BYTES, size_bytes - start)
            self.parts.append((shard, Part(tensor, offset, size_bytes, start, size, part)))

    def add(self, placed: Placed, tensor: int, start: int, size_bytes: int, origin: Given | Values) -> None:
        if size_bytes:
            part = Part(tensor, placed.offset, placed.size_bytes, start, size_bytes, origin)
            self.parts.append((placed.shard, part))

    def values(self, step: int, item: _Wanted) -> Iterator[tuple[int, int, Values]]:
        """The boxes that a result is computed by: each where it starts in the tensor's bytes, its size, and itself."""
        itemsize = item.spec.dtype.itemsize_bytes or 0
        for shape, box in self.boxes(step, item):
            start = 0
            for (first, _), size in zip(box, shape, strict=True):
                start = start * size + first
            count = math.prod(extents(box))
            yield start * itemsize, count * itemsize, Values(step, item.slice_spec, shape, box)

    def boxes(self, step: int, item: _Wanted) -> Iterator[tuple[Shape, Box]]:
        ops, specs = self.steps[step].ops, specs_of(self.steps[step], self.bundles)
        count, itemsize = item.spec.num_elements, item.spec.dtype.itemsize_bytes or 0
        if isinstance(ops[0] if ops else None, Custom):
            # A function is called once.
            most = count
        else:
            most = TASK_BYTES // itemsize
            tile_elements = block_elements(ops, specs, self.tile_bytes)
            seen = turned(ops, specs) if item.slice_spec is None and count > tile_elements else None
            if seen is not None:
                yield from ((seen[0], box) for box in tiles(*seen, tile_elements))
                return
        shape = item.spec.shape or (1,)
        yield from ((shape, box) for box in boxes(shape, max(1, most)))

    def tasks(self) -> Iterator[Task]:
        """The parts in tasks, in their order: each of one data file and of at most about `TASK_BYTES`."""
        number = filled = shard = 0
        parts: list[Part] = []
        for of_shard, part in self.parts:
            if parts and (of_shard != shard or filled + part.size_bytes > TASK_BYTES):
                yield Task(number, shard, tuple(parts))
                number, filled, parts = number + 1, 0, []
            shard, filled = of_shard, filled + part.size_bytes
            parts.append(part)
        if parts:
            yield Task(number, shard, tuple(parts))


def tiles(sizes: Shape, stored: tuple[int, ...], max_elements: int) -> Iterator[Box]:
    """Boxes of a result that are read and written in long runs, and cover it.

    Args:
        sizes: The result's shape.
        stored: Its axes in the order in which the source has them.
        max_elements: How many elements a box has at most.
    """
    steps = _tile(sizes, stored, max_elements)
    starts = (range(0, size, step) for size, step in zip(sizes, steps, strict=True))
    for corner in product(*starts):
        yield tuple((start, min(start + step, size)) for start, step, size in zip(corner, steps, sizes, strict=True))


def _tile(sizes: Shape, stored: tuple[int, ...], max_elements: int) -> list[int]:
    """The extents of a tile: what is read at once and what is written at once are to be equally long."""
    steps = [1] * len(sizes)
    written, read = tuple(range(len(sizes))), stored

    def grows(order: tuple[int, ...]) -> tuple[int, int]:
        """How long a run is in an order of axes, and which axis has to grow to make it longer."""
        run = 1
        for axis in reversed(order):
            run *= steps[axis]
            if steps[axis] < sizes[axis]:
                return run, axis
        return run, -1

    while True:
        for _, axis in sorted((grows(order) for order in (read, written)), key=lambda grown: grown[0]):
            room = max_elements // (math.prod(steps) // steps[axis]) if axis >= 0 else 0
            longer = min(2 * steps[axis], sizes[axis], room)
            if axis >= 0 and longer > steps[axis]:
                steps[axis] = longer
                break
        else:
            return steps
