"""Operations on tensors that need not fit in memory.

Everything that has values is a `Source`, asked for a region at a time, and an operation that runs is a
source that answers from regions of other sources. The unit of a region is the box: one ``(start, stop)``
per axis. Every source can be asked for a box of *any* shape with as many elements as its own, read in
row-major order. So a reshape costs nothing: it hands the question on. Only a transpose moves values.

A chain becomes a stack of sources in three layers: what makes one tensor of several; what says where
each element comes from (transposes, parts, paddings, ...); what computes each element from itself
(casts, scales, sums), which comes last, because it does not mind where an element is.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby, pairwise, product
from operator import mul
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from ckptmigrate.apply.elements import Elementwise, calculate, element_dtype, result_dtype
from ckptmigrate.dtypes import PARTS
from ckptmigrate.errors import OperationError
from ckptmigrate.ops import (
    Add,
    Average,
    Cast,
    Concat,
    Fill,
    Gather,
    Op,
    Pad,
    Part,
    Repeat,
    Scale,
    Slice,
    Specs,
    Stack,
    Tile,
    Transpose,
    infer_chain,
    inverted_order,
)
from ckptmigrate.spec import TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]

Shape: TypeAlias = tuple[int, ...]
Box: TypeAlias = tuple[tuple[int, int], ...]


class Source(Protocol):
    """A tensor whose values are read a region at a time."""

    @property
    def spec(self) -> TensorSpec:
        """The dtype and the shape of the whole tensor."""

    def read_box(self, box: Box, shape: Shape) -> Array:
        """The values in a region, with the tensor seen in another shape.

        Args:
            box: One ``(start, stop)`` per axis of `shape`; never empty.
            shape: Sizes whose product is the tensor's number of elements. The values, in row-major
                order, are taken as if they were stored in this shape.

        Returns:
            An array of the extents of `box`, of the tensor's dtype. It may be a view; it is not written to.
        """


# ---------------------------------------------------------------- normal form


@dataclass(frozen=True, slots=True)
class _Move:
    """See the values in `shape`, transpose by `perm`, and take the result as flat again."""

    shape: Shape
    perm: tuple[int, ...]

    @property
    def result_shape(self) -> Shape:
        return tuple(self.shape[axis] for axis in self.perm)

    def then(self, seen: Shape, perm: tuple[int, ...]) -> _Move | None:
        """This and, after it, a transpose of the result seen in the shape `seen`, as one; None if there is none.

        There is one if the axes of both can be cut at each other's bounds, as (2, 6) and (4, 3) can
        (both are cuts of (2, 2, 3)) and (4, 6) and (6, 4) cannot.
        """
        ends, seen_ends = (list(accumulate(shape, mul)) for shape in (self.result_shape, seen))
        bounds = sorted({1, *ends, *seen_ends})
        if any(above % below for below, above in pairwise(bounds)):
            return None
        sizes = [above // below for below, above in pairwise(bounds)]

        def pieces(ends: list[int], axis: int) -> range:
            return range(bounds.index(ends[axis - 1] if axis else 1), bounds.index(ends[axis]))

        stored = [piece for axis in inverted_order(self.perm) for piece in pieces(ends, axis)]
        wanted = [piece for axis in perm for piece in pieces(seen_ends, axis)]
        # Neighbours that stay neighbours are one axis: long runs, and no bounds that a later step must respect.
        runs: list[list[int]] = []
        for piece in wanted:
            if runs and stored.index(piece) == stored.index(runs[-1][-1]) + 1:
                runs[-1].append(piece)
            else:
                runs.append([piece])
        order = sorted(range(len(runs)), key=lambda run: stored.index(runs[run][0]))
        return _Move(
            tuple(math.prod(sizes[piece] for piece in runs[run]) for run in order), inverted_order(tuple(order))
        )


_AlongAxis: TypeAlias = Part | Slice | Pad | Gather | Tile | Repeat


@dataclass(frozen=True, slots=True)
class _Along:
    """An operation along an axis, and the shape that it sees its source in."""

    op: _AlongAxis
    shape: Shape


_Step: TypeAlias = _Move | _Along | Elementwise


def normal_form(ops: Sequence[Op], specs: Specs) -> list[_Step]:
    """What is left of a chain on one source when reshapes and identities are taken out, as few moves as can be.

    What computes elements commutes with what moves and selects them, and comes after it; only a padding
    has to come after what does not hold for its value. A reshape is only another way to see flat values.
    """
    steps: list[_Step] = []
    elementwise: list[Elementwise] = []
    constant = False
    for op in ops:
        (spec,) = specs
        specs = op.infer(specs)
        match op:
            case Fill(value):
                constant = value != "template"
            case Cast(dtype) if dtype is spec.dtype:
                pass
            case Cast() | Scale() | Add():
                elementwise.append(op)
            case Transpose() if spec.num_elements and not constant:
                _add_transpose(steps, spec, op.order(len(spec.shape)))
            case Pad() if specs[0] != spec:
                steps += elementwise
                elementwise = []
                constant = False
                steps.append(_Along(op, spec.shape))
            case Gather(axis, indices) if indices != tuple(range(spec.shape[axis])):
                steps.append(_Along(op, spec.shape))
            case Part() | Slice() | Tile() | Repeat() if specs[0] != spec:
                steps.append(_Along(op, spec.shape))
            case _:
                pass
    return [*steps, *elementwise]


def _add_transpose(steps: list[_Step], spec: TensorSpec, perm: tuple[int, ...]) -> None:
    last = steps[-1] if steps else None
    fused = last.then(spec.shape, perm) if isinstance(last, _Move) else None
    if fused is not None:
        steps.pop()
    else:
        fused = _Move((spec.num_elements,), (0,)).then(spec.shape, perm)
    if fused and len(fused.shape) > 1:  # one axis is the identity
        steps.append(fused)


# ---------------------------------------------------------------- running by blocks

# A transposed copy runs fastest when it fills a cache line of the result at a time (64 bytes are 16
# float32), over as many rows as make the loop's overhead small. Measured: 0.9 GB/s without, 5 GB/s with.
_STRIP_ELEMENTS = 16
_STRIP_MIN_ELEMENTS = 1024
# What an element of a string tensor is taken to weigh: its object and a short text.
_STRING_BYTES = 64


def compute(ops: Sequence[Op], sources: Sequence[Source], specs: Specs, *, block_bytes: int) -> Iterator[Array]:
    """The values that a chain of operations makes, a block at a time.

    A cast destroys a value when it is finite and becomes infinite or NaN; is infinite or NaN and becomes
    something else; does not fit the integer type or is not whole; is complex with an imaginary part and
    becomes real; or becomes bool and is neither 0 nor 1. A scale or a sum does when it makes a finite value
    infinite or NaN, or a whole one too large for its type. Rounding to the nearest float is no loss.

    Args:
        ops: The chain; empty for a copy.
        sources: One source for each spec; may be left out if the chain begins with a constant `Fill`.
        specs: What the sources are, as the plan says.
        block_bytes: How many bytes a block has at most (at least one element). About three blocks are in
            memory at a time: what was read, what was moved, what was computed. Only a chain that reshapes
            across the bounds of transposed axes, such as (4, 6) to (6, 4) between two transposes, may need
            more.

    Returns:
        Flat arrays of the result's dtype. Together, in order, they are the result in row-major order.
        None for a result without elements. They may be views of the source: do not write to them.

    Raises:
        OperationError: The chain does not fit the specs, or the specs not the sources; at once. While
            reading: an operation destroys values. All is then read once more, so as to say how many.
    """
    infer_chain(ops, specs)
    first = ops[0] if ops else None
    constant = isinstance(first, Fill) and first.value != "template"
    if not constant and tuple(source.spec for source in sources) != specs:
        raise OperationError(
            "the source is not what the chain was made for",
            first.describe() if first else "copy",
            expected=", ".join(map(str, specs)),
            got=", ".join(str(source.spec) for source in sources) or "none",
        )
    readable: Source
    match first:
        case Fill(value) if value != "template":
            readable = _Constant(specs[0], value)
        case Concat() | Stack() | Average():
            readable = _combined(first, sources)
            specs = first.infer(specs)
            ops = ops[1:]
        case _:
            (readable,) = sources
    steps = normal_form(ops, specs)
    wide_bytes = [8 << (readable.spec.dtype in PARTS)] if isinstance(readable, _Averaged) else []
    dtypes = (readable.spec.dtype, *(step.dtype for step in steps if isinstance(step, Cast) and step.dtype))
    itemsize_bytes = max(*wide_bytes, *(dtype.itemsize_bytes or _STRING_BYTES for dtype in dtypes), 1)
    max_elements = max(1, block_bytes // itemsize_bytes)
    for is_elementwise, group in groupby(steps, key=lambda step: isinstance(step, Cast | Scale | Add)):
        if is_elementwise:
            readable = _Computed(readable, tuple(cast("Iterator[Elementwise]", group)), max_elements)
            continue
        for step in group:
            readable = _Moved(readable, step) if isinstance(step, _Move) else _along(readable, cast("_Along", step))
    return (values.reshape(-1) for values in _whole(readable, max_elements))


def _whole(source: Source, max_elements: int) -> Iterator[Array]:
    shape = source.spec.shape or (1,)
    return (source.read_box(box, shape) for box in _boxes(shape, max_elements))


def _boxes(shape: Shape, max_elements: int) -> Iterator[Box]:
    """Boxes of at most so many elements that follow each other in row-major order and cover the shape."""
    if 0 in shape:
        return
    # The first axis of which one element's inner part fits into a box.
    cut = next(axis for axis in range(len(shape)) if math.prod(shape[axis + 1 :]) <= max_elements)
    step = max_elements // math.prod(shape[cut + 1 :])
    inner = tuple((0, size) for size in shape[cut + 1 :])
    for outer in product(*map(range, shape[:cut])):
        for start in range(0, shape[cut], step):
            yield (*((i, i + 1) for i in outer), (start, min(start + step, shape[cut])), *inner)


# ---------------------------------------------------------------- where elements come from


@dataclass(frozen=True, slots=True)
class _Constant:
    """A tensor with the same value everywhere."""

    spec: TensorSpec
    value: float

    def read_box(self, box: Box, shape: Shape) -> Array:  # noqa: ARG002  # the same in every shape
        import numpy as np

        return np.full(_extents(box), self.value, element_dtype(self.spec.dtype))


@dataclass(frozen=True, slots=True)
class _Moved:
    """A source that has been moved; its own shape is the move's result shape."""

    source: Source
    move: _Move

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.source.spec.dtype, self.move.result_shape)

    def read_box(self, box: Box, shape: Shape) -> Array:
        cuts = _cuts(self.move.result_shape, shape)
        back = inverted_order(self.move.perm)
        stored = [(axis, piece) for axis in back for piece in range(len(cuts[axis]))]
        wanted = sorted(stored)
        perm = tuple(stored.index(piece) for piece in wanted)
        move = _Move(tuple(cuts[axis][piece] for axis, piece in stored), perm)

        def read(region: Box) -> Array:
            region = tuple(region[axis] for axis in inverted_order(perm))
            return _transposed_copy(self.source.read_box(region, move.shape), perm)

        return _read_as(box, shape, move.result_shape, read)


def _transposed_copy(values: Array, perm: tuple[int, ...]) -> Array:
    import numpy as np

    view = values.transpose(perm)
    if values.dtype.kind == "V":  # numpy copies its own types faster; same bytes
        return _transposed_copy(values.view(f"u{values.itemsize}"), perm).view(values.dtype)
    if perm[-1] == len(perm) - 1:
        return np.ascontiguousarray(view)
    out = np.empty(view.shape, view.dtype)
    rows = view.size // view.shape[-1]
    step = max(_STRIP_ELEMENTS, _STRIP_MIN_ELEMENTS // rows)
    for start in range(0, view.shape[-1], step):
        out[..., start : start + step] = view[..., start : start + step]
    return out


class _AxisSource:
    """What changes one axis of its own shape only. The other axes may be seen cut, the way who asks sees them."""

    __slots__ = ("axis", "spec")

    def __init__(self, spec: TensorSpec, axis: int) -> None:
        self.spec = spec
        self.axis = axis

    def read_box(self, box: Box, shape: Shape) -> Array:
        cuts = _cuts(self.spec.shape, shape)
        cuts[self.axis] = (self.spec.shape[self.axis],)
        own = tuple(chain.from_iterable(cuts))
        axis = sum(map(len, cuts[: self.axis]))
        return _read_as(box, shape, own, lambda region: self.read(region, own, axis))

    def read(self, box: Box, shape: Shape, axis: int) -> Array:
        """The values in a box of `shape`, its own shape with other axes than `axis` perhaps cut."""
        raise NotImplementedError


class _Window(_AxisSource):
    """A range of an axis."""

    __slots__ = ("full", "source", "start")

    def __init__(self, source: Source, shape: Shape, axis: int, start: int, stop: int) -> None:
        super().__init__(TensorSpec(source.spec.dtype, _with(shape, axis, stop - start)), axis)
        self.source, self.start, self.full = source, start, shape[axis]

    def read(self, box: Box, shape: Shape, axis: int) -> Array:
        start, stop = box[axis]
        return self.source.read_box(
            _with(box, axis, (start + self.start, stop + self.start)), _with(shape, axis, self.full)
        )


class _Gathered(_AxisSource):
    """Some indices of an axis, in any order."""

    __slots__ = ("full", "indices", "source")

    def __init__(self, source: Source, shape: Shape, axis: int, indices: Sequence[int]) -> None:
        import numpy as np

        super().__init__(TensorSpec(source.spec.dtype, _with(shape, axis, len(indices))), axis)
        self.source, self.full, self.indices = source, shape[axis], np.array(indices, np.int64)

    def read(self, box: Box, shape: Shape, axis: int) -> Array:
        start, stop = box[axis]
        seen = _with(shape, axis, self.full)
        return _take(lambda region: self.source.read_box(region, seen), box, axis, self.indices[start:stop])


class _Repeated(_AxisSource):
    """A new axis along which everything is the same."""

    __slots__ = ("source",)

    def __init__(self, source: Source, shape: Shape, axis: int, times: int) -> None:
        super().__init__(TensorSpec(source.spec.dtype, (*shape[:axis], times, *shape[axis:])), axis)
        self.source = source

    def read(self, box: Box, shape: Shape, axis: int) -> Array:
        import numpy as np

        one = self.source.read_box((*box[:axis], *box[axis + 1 :]), (*shape[:axis], *shape[axis + 1 :]))
        return np.broadcast_to(np.expand_dims(one, axis), _extents(box))


class _Joined(_AxisSource):
    """Several sources, one after another along an axis."""

    __slots__ = ("sizes", "sources")

    def __init__(self, sources: Sequence[Source], shape: Shape, axis: int, sizes: Sequence[int]) -> None:
        super().__init__(TensorSpec(sources[0].spec.dtype, _with(shape, axis, sum(sizes))), axis)
        self.sources, self.sizes = sources, sizes

    def read(self, box: Box, shape: Shape, axis: int) -> Array:
        import numpy as np

        start, stop = box[axis]
        parts: list[Array] = []
        low = 0
        for source, size in zip(self.sources, self.sizes, strict=True):
            first, last = max(start - low, 0), min(stop - low, size)
            if first < last:
                parts.append(source.read_box(_with(box, axis, (first, last)), _with(shape, axis, size)))
            low += size
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis)


def _with(items: tuple[Any, ...], at: int, item: object) -> tuple[Any, ...]:
    return (*items[:at], item, *items[at + 1 :])


def _along(source: Source, step: _Along) -> Source:
    shape = step.shape
    spec = TensorSpec(source.spec.dtype, shape)
    axis = step.op.axis % len(shape)
    match step.op:
        case Part() | Slice():
            _, start, stop = step.op.bounds(spec)
            return _Window(source, shape, axis, start, stop)
        case Pad(_, before, after, value):
            ends = [_Constant(TensorSpec(spec.dtype, _with(shape, axis, size)), value) for size in (before, after)]
            return _Joined([ends[0], source, ends[1]], shape, axis, [before, shape[axis], after])
        case Gather(_, indices):
            return _Gathered(source, shape, axis, indices)
        case Tile(_, times):
            return _Repeated(source, shape, axis, times)
        case Repeat(_, times):
            return _Repeated(source, shape, axis + 1, times)


def _combined(op: Concat | Stack | Average, sources: Sequence[Source]) -> Source:
    shape = sources[0].spec.shape
    match op:
        case Concat():
            axis = op.axis % len(shape)
            return _Joined(sources, shape, axis, [source.spec.shape[axis] for source in sources])
        case Stack():
            axis = op.axis % (len(shape) + 1)
            return _Joined(sources, (*shape[:axis], 1, *shape[axis:]), axis, [1] * len(sources))
        case Average(weights):
            return _Averaged(sources, weights or (1.0,) * len(sources))


# ---------------------------------------------------------------- boxes seen in other shapes

# Another read costs as much as this many elements more in one.
_GAP_ELEMENTS = 16384


def _extents(box: Box) -> Shape:
    return tuple(stop - start for start, stop in box)


def _cuts(own: Shape, shape: Shape) -> list[Shape]:
    """Of each axis of `own`, what the bounds of the axes of `shape` cut it into, if they do cut it."""
    ends = sorted(set(accumulate(shape, mul)))
    cuts: list[Shape] = []
    for low, high in pairwise(accumulate(own, mul, initial=1)):
        bounds = [low, *(end for end in ends if low < end < high), high]
        fits = all(above % below == 0 for below, above in pairwise(bounds))
        cuts.append(tuple(above // below for below, above in pairwise(bounds)) if fits else (high // low,))
    return cuts


def _read_as(box: Box, shape: Shape, own: Shape, read: Callable[[Box], Array]) -> Array:
    """What a box of a tensor seen in `shape` holds, by reading a box of it seen in the shape `own`.

    The axes of both fall into groups with equal products, e.g. (64, 48) and (64, 4, 12) into 64 = 64 and
    48 = 4 * 12. In each group what is read is the box around a range of flat positions, and such a box is
    itself contiguous in the group.
    """
    import numpy as np

    if shape == own:
        return read(box)
    ends, own_ends = (list(accumulate(sizes, mul)) for sizes in (shape, own))
    region: list[tuple[int, int]] = []
    lengths: list[int] = []
    picks: list[slice | Array] = []
    apart: tuple[int, Array] | None = None
    axis = 0
    for bound in sorted({*ends} & {*own_ends} | {math.prod(shape)}):
        group = slice(axis, axis := bisect_right(ends, bound))
        sizes = own[len(region) : bisect_right(own_ends, bound)]
        low, high, positions = _positions(box[group], shape[group])
        around = _box_around(low, high, sizes)
        if positions is not None and sum(size > 1 for size in sizes) == 1:
            apart = len(region) + next(at for at, size in enumerate(sizes) if size > 1), positions
            lengths.append(len(positions))
            picks.append(slice(None))
        else:
            base = 0
            for (start, _), size in zip(around, sizes, strict=True):
                base = base * size + start
            lengths.append(math.prod(_extents(tuple(around))))
            picks.append(slice(low - base, high - base + 1) if positions is None else positions - base)
        region += around
    values = (read(tuple(region)) if apart is None else _take(read, tuple(region), *apart)).reshape(lengths)
    for at, pick in enumerate(picks):
        if isinstance(pick, np.ndarray) or pick not in (slice(None), slice(0, lengths[at])):
            values = values[(*(slice(None),) * at, pick)]
    return values.reshape(_extents(box))


def _positions(box: Box, shape: Shape) -> tuple[int, int, Array | None]:
    """The first and the last flat position in a box, and all of them if they do not follow each other."""
    import numpy as np

    low = high = 0
    for (start, stop), size in zip(box, shape, strict=True):
        low, high = low * size + start, high * size + stop - 1
    if high - low + 1 == math.prod(_extents(box)):
        return low, high, None
    positions = np.zeros((), np.int64)
    for (start, stop), size in zip(box, shape, strict=True):
        positions = np.add.outer(positions * size, np.arange(start, stop))
    return low, high, positions.reshape(-1)


def _box_around(low: int, high: int, sizes: Shape) -> list[tuple[int, int]]:
    """The least box that is contiguous and holds the flat positions from `low` to `high`."""
    if not sizes:
        return []
    inner = math.prod(sizes[1:])
    first, last = low // inner, high // inner
    if first != last:
        return [(first, last + 1), *((0, size) for size in sizes[1:])]
    return [(first, first + 1), *_box_around(low % inner, high % inner, sizes[1:])]


def _take(read: Callable[[Box], Array], box: Box, axis: int, positions: Array) -> Array:
    """The values of a box at some positions along an axis, in any order, in as few reads as make sense."""
    import numpy as np

    extents = _with(_extents(box), axis, len(positions))
    order = np.argsort(positions, kind="stable")
    ascending = positions[order]
    out = np.empty(0)
    for low, high in _runs(ascending, math.prod(extents) // len(positions)):
        first, last = int(ascending[low]), int(ascending[high - 1])
        values = read(_with(box, axis, (first, last + 1)))
        if high - low == len(positions):
            places = positions - first
            return values if np.array_equal(places, np.arange(values.shape[axis])) else values.take(places, axis)
        if (ascending[low:high] != np.arange(first, first + high - low)).any():
            values = values.take(ascending[low:high] - first, axis)
        if not low:
            out = np.empty(extents, values.dtype)
        into = order[low:high]
        neighbours = (into == np.arange(into[0], into[0] + len(into))).all()
        out[(*(slice(None),) * axis, slice(into[0], into[-1] + 1) if neighbours else into)] = values
    return out


def _runs(ascending: Array, row_elements: int) -> Iterator[tuple[int, int]]:
    """From where to where positions are read at once.

    What lies between two positions is read too if that is less than another read costs; but at a time at
    most about twice as much as there is in all, so that memory does not depend on where positions are.
    """
    import numpy as np

    gaps = np.flatnonzero(np.diff(ascending) > max(1, _GAP_ELEMENTS // row_elements)) + 1
    for low, high in pairwise([0, *gaps.tolist(), len(ascending)]):
        start = low
        while start < high:
            stop = start + int(np.searchsorted(ascending[start:high], ascending[start] + 2 * len(ascending)))
            yield start, stop
            start = stop


# ---------------------------------------------------------------- what elements are computed from

# So many elements of an average are in the processor's cache while they are added up.
_STRETCH_ELEMENTS = 1 << 14


@dataclass(frozen=True, slots=True)
class _Averaged:
    """The weighted mean of several sources, added up in float64 in their order."""

    sources: Sequence[Source]
    weights: tuple[float, ...]

    @property
    def spec(self) -> TensorSpec:
        return self.sources[0].spec

    def read_box(self, box: Box, shape: Shape) -> Array:
        import numpy as np

        dtype = self.spec.dtype
        parts = 1 + (dtype in PARTS)
        # Divided by a power of two, which rounds nothing, so that no sum can overflow.
        _, exponent = math.frexp(math.fsum(self.weights))
        weights = [math.ldexp(weight, -exponent) for weight in self.weights]
        total = np.zeros(math.prod(_extents(box)) * parts)
        scratch = np.empty(_STRETCH_ELEMENTS)
        for source, weight in zip(self.sources, weights, strict=True):
            values = np.ascontiguousarray(source.read_box(box, shape)).reshape(-1)
            values = values.view(element_dtype(PARTS.get(dtype, dtype)))
            for start in range(0, len(total), _STRETCH_ELEMENTS):
                stretch = values[start : start + _STRETCH_ELEMENTS].astype(np.float64, copy=False)
                with np.errstate(all="ignore"):
                    total[start : start + _STRETCH_ELEMENTS] += np.multiply(
                        stretch, weight, out=scratch[: len(stretch)]
                    )
        with np.errstate(all="ignore"):
            total /= math.fsum(weights)
            mean = total.view(np.complex128 if parts == 2 else np.float64).astype(element_dtype(dtype), copy=False)
        return mean.reshape(_extents(box))


@dataclass(frozen=True, slots=True)
class _Computed:
    """A source with each element computed from itself."""

    source: Source
    ops: tuple[Elementwise, ...]
    max_elements: int

    @property
    def spec(self) -> TensorSpec:
        (spec,) = infer_chain(self.ops, (self.source.spec,))
        return spec

    def read_box(self, box: Box, shape: Shape) -> Array:
        values, dtype = self.source.read_box(box, shape), self.source.spec.dtype
        for op in self.ops:
            values, lost = calculate(op, values, dtype)
            if lost is not None:
                raise self.loss()
            dtype = result_dtype(op, dtype)
        return values

    def loss(self) -> OperationError:
        """What to say of the first operation that destroys a value, after looking at all of them."""
        counts = [0] * len(self.ops)
        firsts = [""] * len(self.ops)
        offset = 0
        for values in _whole(self.source, self.max_elements):
            given, dtype = values.reshape(-1), self.source.spec.dtype
            for at, op in enumerate(self.ops):
                out, lost = calculate(op, given, dtype)
                if lost is not None:
                    index = int(lost.argmax())
                    firsts[at] = firsts[at] or f"the first at flat index {offset + index} ({given[index]})"
                    counts[at] += int(lost.sum())
                    break
                given, dtype = out, result_dtype(op, dtype)
            offset += values.size
        at = next(at for at, count in enumerate(counts) if count)
        (spec,) = infer_chain(self.ops[: at + 1], (self.source.spec,))
        is_cast = isinstance(self.ops[at], Cast)
        return OperationError(
            "the cast would destroy values" if is_cast else "results do not fit the dtype",
            self.ops[at].describe(),
            expected=f"{'values' if is_cast else 'results'} that {spec.dtype.label} holds",
            got=f"{counts[at]} of {offset} elements {'that it does not' if is_cast else 'with others'}, {firsts[at]}",
            hint="Cast to a type that holds them, or mend the values before",
        )
