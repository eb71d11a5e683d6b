"""Which operation leads from one shape and dtype to another, as far as the two say it.

None of these is more than possible: that a kernel has the shape of another one turned round does not say that its
values are. What makes it likely is said where layers are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ckptmigrate.dtypes import FLOATS, int_range
from ckptmigrate.matching.propose import reshapes
from ckptmigrate.ops import Cast, Concat, Op, Part, Reshape, Resize, Stack, Transpose
from ckptmigrate.spec import DType, TensorSpec

Shape = tuple[int, ...]

Kind = Literal["cast", "transpose", "resize"]
"""What happens to the values; where several things do, what is least a matter of course."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a tensor would become another.

    Attributes:
        kind: What happens to it.
        operations: The operations, in order.
        evidence: What the two shapes or dtypes say, in words.
    """

    kind: Kind
    operations: tuple[Op, ...]
    evidence: str


def reshaped(source: TensorSpec, target: TensorSpec) -> tuple[Op, ...]:
    """What a change of shape takes that keeps the order of values, and a change of dtype."""
    operations: list[Op] = []
    if source.dtype != target.dtype:
        operations.append(Cast(target.dtype))
    if source.shape != target.shape:
        operations.append(Reshape(target.shape))
    return tuple(operations)


def are_of_a_kind(source: DType, target: DType) -> bool:
    """Whether a dtype may have become another in the same model: both floats, or both integers."""
    if source == target:
        return True
    return (source in FLOATS and target in FLOATS) or (int_range(source) is not None and int_range(target) is not None)


def transposition(source: Shape, target: Shape) -> tuple[int, ...] | None:
    """The order of axes that leads from one shape to another, axes of equal size in their order; None if none does.

    Where the shapes are equal nothing shows that anything was transposed.
    """
    if source == target or sorted(source) != sorted(target) or len(source) < 2:  # one axis has one order
        return None
    free = list(range(len(source)))
    found = []
    for size in target:
        axis = next(axis for axis in free if source[axis] == size)
        free.remove(axis)
        found.append(axis)
    return tuple(found)


def grown_axis(source: Shape, target: Shape) -> int | None:
    """The one axis that is longer now, where all others are as they were."""
    if len(source) != len(target):
        return None
    differing = [axis for axis, (old, new) in enumerate(zip(source, target, strict=True)) if old != new]
    return differing[0] if len(differing) == 1 and source[differing[0]] < target[differing[0]] else None


def turned(source: TensorSpec, target: TensorSpec) -> Conversion | None:
    """The transpose that leads from one to the other."""
    order = transposition(source.shape, target.shape)
    if order is None:
        return None
    casts = (Cast(target.dtype),) if source.dtype != target.dtype else ()
    said = f"the shape of one is that of the other transposed: {source} (source), {target} (target)"
    return Conversion("transpose", (*casts, Transpose(order)), said)


def grown(source: TensorSpec, target: TensorSpec) -> Conversion | None:
    """The growth of one axis, at its end."""
    axis = grown_axis(source.shape, target.shape)
    if axis is None:
        return None
    # What is new has the target's values, which have the target's dtype: the cast comes first.
    casts = (Cast(target.dtype),) if source.dtype != target.dtype else ()
    size = target.shape[axis]
    said = (
        f"axis {axis} has {size} instead of {source.shape[axis]}: what is new is taken to be at its end, with the "
        "template's values; if the vocabulary was put in another order, say so with a `vocab` rule"
    )
    return Conversion("resize", (*casts, Resize(axis, size)), said)


@dataclass(frozen=True, slots=True)
class Fusion:
    """One way in which several tensors may lie in one.

    Attributes:
        axis: Where what tells the parts apart comes among the axes of a part, counted from the end.
        splits: The operations that make each part of the whole.
        joins: Those that make the whole of the parts.
    """

    axis: int
    splits: tuple[tuple[Op, ...], ...]
    joins: tuple[Op, ...]


def fusions(whole: Shape, parts: Sequence[Shape]) -> list[Fusion]:
    """The ways in which tensors may lie in one of as many elements, the outermost first: one after the other, mostly.

    Equal parts may lie within each other as well: head by head, or element by element.
    """
    count, rank = len(parts), len(parts[0])
    found: dict[int, Fusion] = {}
    for axis in range(rank if len(whole) == rank else 0):
        others = {(*shape[:axis], *shape[axis + 1 :]) for shape in (whole, *parts)}
        sizes = tuple(shape[axis] for shape in parts)
        if len(others) == 1 and sum(sizes) == whole[axis]:
            told = count if len({*sizes}) == 1 else sizes
            splits = tuple((Part(axis - rank, number, told),) for number in range(count))
            found[axis - rank] = Fusion(axis - rank, splits, (Concat(axis - rank),))
    for axis in range(rank + 1) if len({*parts}) == 1 else ():
        stacked = (*parts[0][:axis], count, *parts[0][axis:])
        if axis - rank not in found and reshapes(stacked, whole):
            to, back = ((Reshape(stacked),), (Reshape(whole),)) if stacked != whole else ((), ())
            splits = tuple((*to, Part(axis, number, count), Reshape(parts[0])) for number in range(count))
            found[axis - rank] = Fusion(axis - rank, splits, (Stack(axis), *back))
    return [fusion for _, fusion in sorted(found.items())]
