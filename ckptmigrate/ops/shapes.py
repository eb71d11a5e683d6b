"""The same values in another shape: transposes, reshapes, axes of size 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ckptmigrate.errors import OperationError
from ckptmigrate.ops.fitting import Specs, new_axis_of, only, still_open
from ckptmigrate.spec import TensorSpec


@dataclass(frozen=True, slots=True)
class Transpose:
    """Reorder the axes: axis i of the result is axis ``perm[i]`` of the source.

    Attributes:
        perm: Every axis once (negative ones count from the end); None reverses them.
    """

    perm: tuple[int, ...] | None = None
    name: ClassVar[str] = "transpose"

    def order(self, rank: int) -> tuple[int, ...]:
        """The permutation for a tensor of this rank, without negative axes.

        Raises:
            OperationError: It does not name every axis once.
        """
        if self.perm is None:
            return tuple(reversed(range(rank)))
        order = tuple(axis + rank if axis < 0 else axis for axis in self.perm)
        if sorted(order) != list(range(rank)):
            raise OperationError(
                "the permutation does not fit the tensor",
                self.describe(),
                expected=f"each of the axes {list(range(rank))} once (the source has rank {rank})",
                got=f"{list(self.perm)} (perm)",
            )
        return order

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if `perm` does not fit the source."""
        source = only(self, specs)
        return (TensorSpec(source.dtype, tuple(source.shape[axis] for axis in self.order(len(source.shape)))),)

    def inverse(self, specs: Specs) -> Transpose:
        """The transpose that leads back."""
        order = self.order(len(only(self, specs).shape))
        return Transpose() if self.perm is None else Transpose(inverted_order(order))

    def describe(self) -> str:
        """In words, e.g. ``transpose [1, 0]``."""
        return "transpose, axes reversed" if self.perm is None else f"transpose {list(self.perm)}"


@dataclass(frozen=True, slots=True)
class Reshape:
    """Give the values another shape, in row-major order.

    Attributes:
        shape: The sizes; one may be -1 and follows from the others. None while open: the target's.
    """

    shape: tuple[int, ...] | None = None
    name: ClassVar[str] = "reshape"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if the numbers of elements differ."""
        source = only(self, specs)
        if self.shape is None:
            raise still_open(self, "shape")
        known = math.prod(size for size in self.shape if size != -1)
        missing = self.shape.count(-1)
        if missing == 1 and known > 0 and source.num_elements % known == 0:
            rest = source.num_elements // known
            return (TensorSpec(source.dtype, tuple(rest if size == -1 else size for size in self.shape)),)
        if missing or min(self.shape, default=0) < 0 or known != source.num_elements:
            raise OperationError(
                "the shape does not hold the values",
                self.describe(),
                expected=f"sizes, at most one of them -1, for {source.num_elements} elements (source {source})",
                got=f"{list(self.shape)} (shape)",
            )
        return (TensorSpec(source.dtype, self.shape),)

    def inverse(self, specs: Specs) -> Reshape:
        """The reshape back to the source's shape."""
        self.infer(specs)
        return Reshape(specs[0].shape)

    def describe(self) -> str:
        """In words, e.g. ``reshape to [48, 12, 4]``."""
        return "reshape to the target's shape" if self.shape is None else f"reshape to {list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Squeeze:
    """Remove axes of size 1.

    Attributes:
        axis: The axes, as the source counts them; negative ones count from the end.
    """

    axis: tuple[int, ...]
    name: ClassVar[str] = "squeeze"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if an axis is not there or not of size 1."""
        source = only(self, specs)
        rank = len(source.shape)
        axes = [axis + rank if axis < 0 else axis for axis in self.axis]
        if len(set(axes)) != len(axes) or any(not 0 <= axis < rank or source.shape[axis] != 1 for axis in axes):
            ones = [axis for axis, size in enumerate(source.shape) if size == 1]
            raise OperationError(
                "an axis to squeeze is not of size 1",
                self.describe(),
                expected=f"different axes among {ones} (those of size 1 in source {source})",
                got=f"{list(self.axis)} (axis)",
            )
        return (TensorSpec(source.dtype, tuple(size for i, size in enumerate(source.shape) if i not in axes)),)

    def inverse(self, specs: Specs) -> ExpandDims | Reshape:
        """The operation that puts the axes back."""
        self.infer(specs)
        source = specs[0]
        if len(self.axis) == 1:
            return ExpandDims(self.axis[0] % len(source.shape))
        return Reshape(source.shape)

    def describe(self) -> str:
        """In words, e.g. ``squeeze axes [0, 2]``."""
        return f"squeeze axis {self.axis[0]}" if len(self.axis) == 1 else f"squeeze axes {list(self.axis)}"


@dataclass(frozen=True, slots=True)
class ExpandDims:
    """Insert an axis of size 1.

    Attributes:
        axis: Where it is in the result; a negative one counts from the result's end.
    """

    axis: int
    name: ClassVar[str] = "expand_dims"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if the result has no such axis."""
        source = only(self, specs)
        at = new_axis_of(self, source, self.axis)
        return (TensorSpec(source.dtype, (*source.shape[:at], 1, *source.shape[at:])),)

    def inverse(self, specs: Specs) -> Squeeze:
        """The squeeze of the new axis."""
        (result,) = self.infer(specs)
        return Squeeze((self.axis % len(result.shape),))

    def describe(self) -> str:
        """In words, e.g. ``insert axis 0``."""
        return f"insert axis {self.axis}"


def inverted_order(perm: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes one."""
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))
