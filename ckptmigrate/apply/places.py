"""Sources that say where each element comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ckptmigrate.apply.boxes import AxisSource, Box, Shape, Source, cuts_of, extents, read_as, replaced, take
from ckptmigrate.apply.computed import Computed
from ckptmigrate.apply.elements import element_dtype
from ckptmigrate.apply.normal import Along, Move
from ckptmigrate.errors import OperationError
from ckptmigrate.ops import Add, Gates, Gather, Pad, Part, Repeat, Resize, Slice, Tile, Vocab, inverted_order
from ckptmigrate.spec import TensorSpec
from ckptmigrate.vocabulary import rows_by_token

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]

# A transposed copy runs fastest when it fills a few cache lines of the result at a time, over as many rows as make
# the loop's overhead small. Measured with float32: 0.6 GB/s without, 5 GB/s with.
_STRIP_ELEMENTS = 64
_STRIP_MIN_ELEMENTS = 1024

# Of several axes, numpy may choose others for its inner loops than the two whose elements are neighbours before and
# after. From this size on, it pays to give it these two alone.
_MATRIX_ELEMENTS = 4096


@dataclass(frozen=True, slots=True)
class Constant:
    """A tensor with the same value everywhere."""

    spec: TensorSpec
    value: float

    def read_box(self, box: Box, shape: Shape) -> Array:  # noqa: ARG002  # the same in every shape
        import numpy as np

        return np.full(extents(box), self.value, element_dtype(self.spec.dtype))


@dataclass(frozen=True, slots=True)
class Moved:
    """A source that has been moved; its own shape is the move's result shape."""

    source: Source
    move: Move

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.source.spec.dtype, self.move.result_shape)

    def read_box(self, box: Box, shape: Shape) -> Array:
        cuts = cuts_of(self.move.result_shape, shape)
        back = inverted_order(self.move.perm)
        stored = [(axis, piece) for axis in back for piece in range(len(cuts[axis]))]
        wanted = sorted(stored)
        perm = tuple(stored.index(piece) for piece in wanted)
        move = Move(tuple(cuts[axis][piece] for axis, piece in stored), perm)

        def read(region: Box) -> Array:
            region = tuple(region[axis] for axis in inverted_order(perm))
            return _transposed_copy(self.source.read_box(region, move.shape), perm)

        return read_as(box, shape, move.result_shape, read)


def _transposed_copy(values: Array, perm: tuple[int, ...]) -> Array:
    import numpy as np

    view = values.transpose(perm)
    if values.dtype.kind == "V":  # numpy copies its own types faster; same bytes
        return _transposed_copy(values.view(f"u{values.itemsize}"), perm).view(values.dtype)
    if perm[-1] == len(perm) - 1:
        return np.ascontiguousarray(view)
    out = np.empty(view.shape, view.dtype)
    neighbours = perm.index(len(perm) - 1)
    if view.shape[neighbours] * view.shape[-1] < _MATRIX_ELEMENTS:
        _copy_strips(out, view)
        return out
    matrices, results = (np.moveaxis(array, neighbours, -2) for array in (view, out))
    for place in np.ndindex(matrices.shape[:-2]):
        _copy_strips(results[place], matrices[place])
    return out


def _copy_strips(out: Array, view: Array) -> None:
    rows = view.size // view.shape[-1]
    step = max(_STRIP_ELEMENTS, _STRIP_MIN_ELEMENTS // rows)
    for start in range(0, view.shape[-1], step):
        out[..., start : start + step] = view[..., start : start + step]


class Window(AxisSource):
    """A range of an axis."""

    __slots__ = ("full", "source", "start")

    def __init__(self, source: Source, shape: Shape, axis: int, start: int, stop: int) -> None:
        super().__init__(TensorSpec(source.spec.dtype, replaced(shape, axis, stop - start)), axis)
        self.source, self.start, self.full = source, start, shape[axis]

    def read(self, box: Box, shape: Shape, axis: int) -> Array:
        start, stop = box[axis]
        return self.source.read_box(
            replaced(box, axis, (start + self.start, stop + self.start)), replaced(shape, axis, self.full)
        )


class Gathered(AxisSource):
    """Some indices of an axis, in any order; where one is -1, what another tensor of the result's spec has there."""

    __slots__ = ("filler", "full", "indices", "source")

    def __init__(
        self, source: Source, shape: Shape, axis: int, indices: Sequence[int] | Array, filler: Source | None = None
    ) -> None:
        import numpy as np

        super().__init__(TensorSpec(source.spec.dtype, replaced(shape, axis, len(indices))), axis)
        self.source, self.full, self.indices, self.filler = source, shape[axis], np.asarray(indices, np.int64), filler

    def read(self, box: Box, shape: Shape, axis: int) -> Array:
        import numpy as np

        start, stop = box[axis]
        seen, indices = replaced(shape, axis, self.full), self.indices[start:stop]
        there = indices >= 0
        if self.filler is None or there.all():
            return take(lambda region: self.source.read_box(region, seen), box, axis, indices)
        filler = self.filler
        new = take(lambda region: filler.read_box(region, shape), box, axis, start + np.flatnonzero(~there))
        values = np.empty(extents(box), new.dtype)
        rows = np.moveaxis(values, axis, 0)
        rows[~there] = np.moveaxis(new, axis, 0)
        if there.any():
            old = take(lambda region: self.source.read_box(region, seen), box, axis, indices[there])
            rows[there] = np.moveaxis(old, axis, 0)
        return values


class Repeated(AxisSource):
    """A new axis along which everything is the same."""

    __slots__ = ("source",)

    def __init__(self, source: Source, shape: Shape, axis: int, times: int) -> None:
        super().__init__(TensorSpec(source.spec.dtype, (*shape[:axis], times, *shape[axis:])), axis)
        self.source = source

    def read(self, box: Box, shape: Shape, axis: int) -> Array:
        import numpy as np

        one = self.source.read_box((*box[:axis], *box[axis + 1 :]), (*shape[:axis], *shape[axis + 1 :]))
        return np.broadcast_to(np.expand_dims(one, axis), extents(box))


class Joined(AxisSource):
    """Several sources, one after another along an axis."""

    __slots__ = ("sizes", "sources")

    def __init__(self, sources: Sequence[Source], shape: Shape, axis: int, sizes: Sequence[int]) -> None:
        super().__init__(TensorSpec(sources[0].spec.dtype, replaced(shape, axis, sum(sizes))), axis)
        self.sources, self.sizes = sources, sizes

    def read(self, box: Box, shape: Shape, axis: int) -> Array:
        import numpy as np

        start, stop = box[axis]
        parts: list[Array] = []
        low = 0
        for source, size in zip(self.sources, self.sizes, strict=True):
            first, last = max(start - low, 0), min(stop - low, size)
            if first < last:
                parts.append(source.read_box(replaced(box, axis, (first, last)), replaced(shape, axis, size)))
            low += size
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis)


def along(source: Source, step: Along, filler: Source | None, max_elements: int) -> Source:
    """The source that an operation along an axis makes of another.

    Args:
        source: What it takes.
        step: The operation, and the shape that it sees its source in.
        filler: For what is filled: a tensor of the result's spec with the values that new parts have.
        max_elements: How many elements are computed at a time.
    """
    shape = step.shape
    spec = TensorSpec(source.spec.dtype, shape)
    axis = step.op.axis % len(shape)
    match step.op:
        case Part() | Slice():
            _, start, stop = step.op.bounds(spec)
            return Window(source, shape, axis, start, stop)
        case Pad(_, before, after, value):
            ends = [Constant(TensorSpec(spec.dtype, replaced(shape, axis, size)), value) for size in (before, after)]
            return Joined([ends[0], source, ends[1]], shape, axis, [before, shape[axis], after])
        case Resize():
            assert filler is not None  # noqa: S101  # it is only in the chain if it fills something in
            (result,) = step.op.infer((spec,))
            old, new = shape[axis], result.shape[axis]
            added = Window(filler, result.shape, axis, old, new)
            return Joined([source, added], shape, axis, [old, new - old])
        case Gather(_, indices):
            return Gathered(source, shape, axis, indices)
        case Vocab():
            return Gathered(source, shape, axis, _rows(step.op), filler)
        case Gates():
            return _gates(source, step, step.op, max_elements)
        case Tile(_, times):
            return Repeated(source, shape, axis, times)
        case Repeat(_, times):
            return Repeated(source, shape, axis + 1, times)


def _rows(op: Vocab) -> Array:
    """Of each row of the result its row in the source, or -1."""
    import numpy as np

    tokens = rows_by_token(op.source, op.target)
    kept = int((tokens >= 0).sum())
    if kept != op.kept:
        raise OperationError(
            "the vocabularies have more or fewer tokens in common than the plan says",
            op.describe(),
            expected=f"{op.kept} (plan)",
            got=f"{kept} (files)",
            hint="Make the plan again",
        )
    return np.concatenate([np.arange(op.offset), np.where(tokens < 0, -1, tokens + op.offset)])


def _gates(source: Source, step: Along, op: Gates, max_elements: int) -> Source:
    axis, count = op.axis % len(step.shape), len(op.source)
    size = step.shape[axis] // count
    blocks: dict[str, Source] = {
        letter: Window(source, step.shape, axis, at * size, (at + 1) * size) for at, letter in enumerate(op.source)
    }
    if op.forget_bias:
        blocks["f"] = Computed(blocks["f"], (Add(op.forget_bias),), max_elements)
    return Joined([blocks[letter] for letter in op.target], step.shape, axis, [size] * count)
