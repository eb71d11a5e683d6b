"""Regions of tensors, and tensors seen in other shapes."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate, chain, pairwise, product
from operator import mul
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

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


def read_whole(source: Source, max_elements: int) -> Iterator[Array]:
    """All values of a source in row-major order, at most so many at a time."""
    shape = source.spec.shape or (1,)
    return (source.read_box(box, shape) for box in boxes(shape, max_elements))


def boxes(shape: Shape, max_elements: int) -> Iterator[Box]:
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


def replaced(items: tuple[Any, ...], at: int, item: object) -> tuple[Any, ...]:
    """A box or a shape with one of its axes replaced."""
    return (*items[:at], item, *items[at + 1 :])


# Another read costs as much as this many elements more in one.
_GAP_ELEMENTS = 16384


def extents(box: Box) -> Shape:
    """The sizes of a box."""
    return tuple(stop - start for start, stop in box)


def cuts_of(own: Shape, shape: Shape) -> list[Shape]:
    """Of each axis of `own`, what the bounds of the axes of `shape` cut it into, if they do cut it."""
    ends = sorted(set(accumulate(shape, mul)))
    cuts: list[Shape] = []
    for low, high in pairwise(accumulate(own, mul, initial=1)):
        bounds = [low, *(end for end in ends if low < end < high), high]
        fits = all(above % below == 0 for below, above in pairwise(bounds))
        cuts.append(tuple(above // below for below, above in pairwise(bounds)) if fits else (high // low,))
    return cuts


def read_as(box: Box, shape: Shape, own: Shape, read: Callable[[Box], Array]) -> Array:
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
            lengths.append(math.prod(extents(tuple(around))))
            picks.append(slice(low - base, high - base + 1) if positions is None else positions - base)
        region += around
    values = (read(tuple(region)) if apart is None else take(read, tuple(region), *apart)).reshape(lengths)
    for at, pick in enumerate(picks):
        if isinstance(pick, np.ndarray) or pick not in (slice(None), slice(0, lengths[at])):
            values = values[(*(slice(None),) * at, pick)]
    return values.reshape(extents(box))


class AxisSource:
    """What changes one axis of its own shape only. The other axes may be seen cut, the way who asks sees them."""

    __slots__ = ("axis", "spec")

    def __init__(self, spec: TensorSpec, axis: int) -> None:
        self.spec = spec
        self.axis = axis

    def read_box(self, box: Box, shape: Shape) -> Array:
        cuts = cuts_of(self.spec.shape, shape)
        cuts[self.axis] = (self.spec.shape[self.axis],)
        own = tuple(chain.from_iterable(cuts))
        axis = sum(map(len, cuts[: self.axis]))
        return read_as(box, shape, own, lambda region: self.read(region, own, axis))

    def read(self, box: Box, shape: Shape, axis: int) -> Array:
        """The values in a box of `shape`, its own shape with other axes than `axis` perhaps cut."""
        raise NotImplementedError


def _positions(box: Box, shape: Shape) -> tuple[int, int, Array | None]:
    """The first and the last flat position in a box, and all of them if they do not follow each other."""
    import numpy as np

    low = high = 0
    for (start, stop), size in zip(box, shape, strict=True):
        low, high = low * size + start, high * size + stop - 1
    if high - low + 1 == math.prod(extents(box)):
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


def take(read: Callable[[Box], Array], box: Box, axis: int, positions: Array) -> Array:
    """The values of a box at some positions along an axis, in any order, in as few reads as make sense."""
    import numpy as np

    shape = replaced(extents(box), axis, len(positions))
    order = np.argsort(positions, kind="stable")
    ascending = positions[order]
    out = np.empty(0)
    for low, high in _runs(ascending, math.prod(shape) // len(positions)):
        first, last = int(ascending[low]), int(ascending[high - 1])
        values = read(replaced(box, axis, (first, last + 1)))
        if high - low == len(positions):
            places = positions - first
            return values if np.array_equal(places, np.arange(values.shape[axis])) else values.take(places, axis)
        if (ascending[low:high] != np.arange(first, first + high - low)).any():
            values = values.take(ascending[low:high] - first, axis)
        if not low:
            out = np.empty(shape, values.dtype)
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
