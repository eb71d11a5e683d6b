"""Values of a tensor that is stored in slices: any region of it, in any shape, without putting all of it together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ckptmigrate.bundle.slices import Box, SliceSpec, format_slice, slice_box
from ckptmigrate.errors import CorruptBundleError
from ckptmigrate.spec import TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_FEW_ELEMENTS = 1 << 18
"""So many elements are read to pick a part of them; where more would be, the region is read in halves."""


def assemble(
    spec: TensorSpec,
    slices: Iterable[SliceSpec],
    box: Box,
    *,
    dtype: np.dtype[Any],
    read: Callable[[SliceSpec, Box], Array],
    where: str,
) -> Array:
    """A box of a partitioned tensor, from the parts of its slices that lie in it.

    Args:
        spec: The whole tensor's.
        slices: The slices that it is stored in.
        box: Per axis the first index, and the index after the last.
        dtype: The type of the result's elements.
        read: Gives a box of a slice, as the slice counts it.
        where: What to call the tensor in an error.

    Returns:
        A new array of the box's shape.

    Raises:
        CorruptBundleError: Slices overlap, or do not cover the box.
    """
    import numpy as np

    shape = tuple(stop - start for start, stop in box)
    out = np.empty(shape, dtype)
    covered = np.zeros(shape, np.bool_)
    for piece in slices:
        piece_box = slice_box(piece, spec.shape)
        common = tuple(
            (max(low, start), min(high, stop)) for (low, high), (start, stop) in zip(piece_box, box, strict=True)
        )
        if any(low >= high for low, high in common):
            continue
        inner = tuple((low - at, high - at) for (low, high), (at, _) in zip(common, piece_box, strict=True))
        outer = tuple(slice(low - at, high - at) for (low, high), (at, _) in zip(common, box, strict=True))
        if covered[outer].any():
            raise CorruptBundleError("slices overlap", where, got=format_slice(piece))
        out[outer] = read(piece, inner)
        covered[outer] = True
    if not covered.all():
        raise CorruptBundleError(
            "slices do not cover the tensor",
            where,
            expected=f"all of {spec}",
            got=", ".join(map(format_slice, slices)),
            hint="Only parts of this tensor were saved here",
        )
    return out


def read_as(box: Box, shape: tuple[int, ...], own: tuple[int, ...], read: Callable[[Box], Array]) -> Array:
    """A box of a tensor that is seen in another shape than its own, in row-major order.

    What is read is a region that is contiguous in that order and holds the box; the box is picked from it by
    its strides. A box whose elements lie far apart is read in halves, so memory stays near the box's own size.

    Args:
        box: Per axis of `shape` the first index, and the index after the last.
        shape: What the tensor is seen in.
        own: The tensor's shape.
        read: Gives a box of the tensor's own shape.

    Returns:
        A new array of the box's shape.
    """
    import numpy as np

    extents = tuple(stop - start for start, stop in box)
    wanted = math.prod(extents)
    if shape == own or not wanted:
        return read(box if wanted else ((0, 0),) * len(own)).reshape(extents)
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    first = sum(start * stride for (start, _), stride in zip(box, strides, strict=True))
    last = sum((stop - 1) * stride for (_, stop), stride in zip(box, strides, strict=True))
    around, offset = _box_around(first, last, own)
    size = math.prod(stop - start for start, stop in around)
    if size > max(2 * wanted, _FEW_ELEMENTS):
        axis = next(axis for axis, extent in enumerate(extents) if extent > 1)
        start, stop = box[axis]
        middle = (start + stop) // 2
        halves = ((*box[:axis], half, *box[axis + 1 :]) for half in ((start, middle), (middle, stop)))
        return np.concatenate([read_as(half, shape, own, read) for half in halves], axis)
    values = read(around).reshape(-1)[first - offset :]
    steps = [stride * values.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(values, extents, steps, writeable=False).copy()


def _box_around(first: int, last: int, shape: tuple[int, ...]) -> tuple[Box, int]:
    """The smallest box that holds two flat positions and is contiguous itself, and the position it begins at."""
    box: list[tuple[int, int]] = []
    offset = 0
    for axis in range(len(shape)):
        inner = math.prod(shape[axis + 1 :])
        low, high = (first - offset) // inner, (last - offset) // inner
        box.append((low, high + 1))
        offset += low * inner
        if low != high:
            return (*box, *((0, size) for size in shape[axis + 1 :])), offset
    return tuple(box), offset
