"""Operations on tensors that need not fit in memory.

Everything that has values is a `Source`, asked for a region at a time, and an operation that runs is a
source that answers from regions of other sources. The unit of a region is the box: one ``(start, stop)``
per axis. Every source can be asked for a box of *any* shape with as many elements as its own, read in
row-major order. So a reshape costs nothing: it hands the question on. Only a transpose moves values.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, product
from operator import mul
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ckptmigrate.dtypes import FLOATS, PARTS, int_range, is_lossless
from ckptmigrate.errors import OperationError
from ckptmigrate.ops import Cast, ExpandDims, Fill, Op, Reshape, Specs, Squeeze, Transpose, infer_chain, inverted_order
from ckptmigrate.spec import DType, TensorSpec

if TYPE_CHECKING:
    import numpy as np
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


def normal_form(ops: Sequence[Op], specs: Specs) -> tuple[list[_Move], list[Cast]]:
    """The transposes that are left when reshapes, casts and identities are taken out, and the casts.

    A cast works on each element and a move only on places, so they commute; a reshape is only another
    way to see flat values. Nearly always at most one move is left.
    """
    moves: list[_Move] = []
    casts: list[Cast] = []
    for op in ops:
        spec = specs[0]
        match op:
            case Cast() if op.dtype is not spec.dtype:
                casts.append(op)
            case Transpose() if spec.num_elements:
                perm = op.order(len(spec.shape))
                still = _Move((spec.num_elements,), (0,))
                fused = moves[-1].then(spec.shape, perm) if moves else None
                if fused is not None:
                    moves.pop()
                fused = fused or still.then(spec.shape, perm)
                if fused and len(fused.shape) > 1:  # one axis is the identity
                    moves.append(fused)
            case Cast() | Transpose() | Reshape() | Squeeze() | ExpandDims() | Fill():
                pass
        specs = op.infer(specs)
    return moves, casts


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
    becomes real; or becomes bool and is neither 0 nor 1. Rounding to the nearest float is no loss.

    Args:
        ops: The chain; empty for a copy.
        sources: One source for each spec; may be left out if the chain begins with a constant `Fill`.
        specs: What the sources are, as the plan says.
        block_bytes: How many bytes a block has at most (at least one element). About three blocks are in
            memory at a time: what was read, what was moved, what was cast. Only a chain that reshapes
            across the bounds of transposed axes, such as (4, 6) to (6, 4) between two transposes, may need
            more.

    Returns:
        Flat arrays of the result's dtype. Together, in order, they are the result in row-major order.
        None for a result without elements. They may be views of the source: do not write to them.

    Raises:
        OperationError: The chain does not fit the specs, or the specs not the sources; at once. While
            reading: a cast destroys values. All the rest is then read, so as to say how many.
    """
    infer_chain(ops, specs)
    readable: Source
    match ops[0] if ops else None:
        case Fill(value) if value != "template":
            readable = _Constant(specs[0], value)
        case _:
            if tuple(source.spec for source in sources) != specs:
                raise OperationError(
                    "the source is not what the chain was made for",
                    ops[0].describe() if ops else "copy",
                    expected=", ".join(map(str, specs)),
                    got=", ".join(str(source.spec) for source in sources) or "none",
                )
            (readable,) = sources
    moves, casts = normal_form(ops, specs)
    if isinstance(readable, _Constant):
        moves = []
    for move in moves:
        readable = _Moved(readable, move)
    shape = moves[-1].result_shape if moves else (specs[0].num_elements,)
    itemsize_bytes = max(dtype.itemsize_bytes or _STRING_BYTES for dtype in (specs[0].dtype, *(c.dtype for c in casts)))
    blocks = (readable.read_box(box, shape).reshape(-1) for box in _boxes(shape, max(1, block_bytes // itemsize_bytes)))
    return _cast_blocks(blocks, specs[0].dtype, casts) if casts else blocks


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


def _cast_blocks(blocks: Iterator[Array], dtype: DType, casts: Sequence[Cast]) -> Iterator[Array]:
    offset, lost_count, first = 0, 0, ""
    culprit = casts[-1]
    for block in blocks:
        values, source = block, dtype
        for cast in casts:
            out, lost = _converted(values, source, cast.dtype)
            if lost is not None:
                if not lost_count:
                    index = int(lost.argmax())
                    culprit, first = cast, f"the first at flat index {offset + index} ({values[index]})"
                lost_count += int(lost.sum())
                break
            values, source = out, cast.dtype
        offset += len(block)
        if not lost_count:
            yield values
    if lost_count:
        raise OperationError(
            "the cast would destroy values",
            culprit.describe(),
            expected=f"values that {culprit.dtype.label} holds",
            got=f"{lost_count} of {offset} elements that it does not, {first}",
            hint="Cast to a type that holds them, or mend the values before",
        )


@dataclass(frozen=True, slots=True)
class _Constant:
    """A tensor with the same value everywhere."""

    spec: TensorSpec
    value: float

    def read_box(self, box: Box, shape: Shape) -> Array:  # noqa: ARG002  # the same in every shape
        import numpy as np

        return np.full(_extents(box), self.value, _numpy_dtype(self.spec.dtype))


@dataclass(frozen=True, slots=True)
class _Moved:
    """A source that has been moved; its own shape is the move's result shape."""

    source: Source
    move: _Move

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.source.spec.dtype, self.move.result_shape)

    def read_box(self, box: Box, shape: Shape) -> Array:
        hull, lengths, picks = _hull(box, shape, self.move.result_shape)
        region = tuple(hull[axis] for axis in inverted_order(self.move.perm))
        values = _transposed_copy(self.source.read_box(region, self.move.shape), self.move.perm).reshape(lengths)
        for axis, pick in enumerate(picks):
            values = values[(*(slice(None),) * axis, pick)]
        return values.reshape(_extents(box))


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


def _extents(box: Box) -> Shape:
    return tuple(stop - start for start, stop in box)


def _hull(box: Box, shape: Shape, into: Shape) -> tuple[Box, Shape, list[slice | Array]]:
    """The box of a tensor seen in the shape `into` that holds what `box` is when it is seen in `shape`.

    The axes of both fall into groups with equal products, e.g. (64, 48) and (64, 4, 12) into 64 = 64 and
    48 = 4 * 12. In each group the hull is the box around a range of flat positions, and such a box is
    itself contiguous in the group.

    Returns:
        The hull; the number of elements it has in each group; and where in those the box's values are.
    """
    import numpy as np

    ends, into_ends = (list(accumulate(sizes, mul)) for sizes in (shape, into))
    hull: list[tuple[int, int]] = []
    lengths: list[int] = []
    picks: list[slice | Array] = []
    axis = 0
    for bound in sorted({*ends} & {*into_ends} | {math.prod(shape)}):
        group = slice(axis, axis := bisect_right(ends, bound))
        positions = np.zeros((), np.int64)
        for (start, stop), size in zip(box[group], shape[group], strict=True):
            positions = np.add.outer(positions * size, np.arange(start, stop))
        flat = positions.reshape(-1)
        low, high = int(flat[0]), int(flat[-1])
        around = _box_around(low, high, into[len(hull) : bisect_right(into_ends, bound)])
        base = 0
        for (start, _), size in zip(around, into[len(hull) :], strict=False):
            base = base * size + start
        hull += around
        lengths.append(math.prod(_extents(tuple(around))))
        whole = high - low + 1 == len(flat)
        picks.append(slice(low - base, high - base + 1) if whole else flat - base)
    return tuple(hull), tuple(lengths), picks


def _box_around(low: int, high: int, sizes: Shape) -> list[tuple[int, int]]:
    """The least box that is contiguous and holds the flat positions from `low` to `high`."""
    if not sizes:
        return []
    inner = math.prod(sizes[1:])
    first, last = low // inner, high // inner
    if first != last:
        return [(first, last + 1), *((0, size) for size in sizes[1:])]
    return [(first, first + 1), *_box_around(low % inner, high % inner, sizes[1:])]


# ---------------------------------------------------------------- casts


def _numpy_dtype(dtype: DType) -> np.dtype[Any]:
    import ml_dtypes
    import numpy as np

    name = dtype.numpy_name
    if name is None:
        return np.dtype(object)  # strings: one Python object an element
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def _widened(values: Array, dtype: DType) -> Array:
    """Values in a type that compares exactly with any Python number; the narrow ones do not."""
    if dtype in FLOATS and dtype is not DType.FLOAT64:
        return values.astype("float32", copy=False)
    return values.astype("int8") if int_range(dtype) and values.dtype.kind == "V" else values


def _converted(values: Array, source: DType, target: DType) -> tuple[Array, Array | None]:
    """Values cast to `target`, and where a value was destroyed (None: nowhere)."""
    import numpy as np

    with np.errstate(all="ignore"):
        real = values.real if source in PARTS and target not in PARTS else values
        if int_range(source):
            real = _widened(real, source)  # ml_dtypes has no casts between its own integer types
        out = real.astype(_numpy_dtype(target))
        if is_lossless(source, target):
            return out, None
        lost = _lost(values, out, source, target)
    return out, lost if lost.any() else None


def _lost(values: Array, out: Array, source: DType, target: DType) -> Array:
    import numpy as np

    lost: Array
    if target in PARTS:
        lost = _lost(values.real, out.real, PARTS.get(source, source), PARTS[target])
        return lost | _lost(values.imag, out.imag, PARTS[source], PARTS[target]) if source in PARTS else lost
    if source in PARTS:
        lost = _lost(values.real, out, PARTS[source], target)
        lost |= values.imag != 0
        return lost
    room = (0, 1) if target is DType.BOOL else int_range(target)
    wide = _widened(values, source)
    if room is not None:
        if source not in FLOATS:
            lost = (wide < room[0]) | (wide > room[1])
            return lost
        # room[1] + 1 is a power of two, which a float holds; room[1] itself may be rounded up to it.
        lost = ~((wide >= room[0]) & (wide < room[1] + 1) & (wide == np.trunc(wide)))
        return lost
    if target is DType.FLOAT4_E2M1FN:  # has neither infinity nor NaN: what is too large becomes the largest
        lost = ~(np.abs(wide.astype("float64")) <= FLOATS[target][1])
        return lost
    lost = ~np.isfinite(out)
    if lost.any():  # a value that was not finite is kept if it is still the same one
        lost &= np.isfinite(wide) | (np.isnan(wide) != np.isnan(out))
    return lost
