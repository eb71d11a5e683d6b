"""Several sources that become one tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NoReturn

from ckptmigrate.dtypes import FLOATS, PARTS, is_finite
from ckptmigrate.errors import IrreversibleError, OperationError
from ckptmigrate.ops.fitting import KEEP, Specs, axis_of, check_equal, first_of, new_axis_of, resized, short
from ckptmigrate.spec import DType, TensorSpec


@dataclass(frozen=True, slots=True)
class Concat:
    """Put several sources one after another along an axis. It comes first in a chain.

    Attributes:
        axis: The axis; a negative one counts from the end.
    """

    axis: int
    name: ClassVar[str] = "concat"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if the sources differ in more than the size of the axis."""
        first = first_of(self, specs)
        axis = axis_of(self, first, self.axis)
        for spec in specs:
            if len(spec.shape) != len(first.shape) or resized(spec, axis, 0) != resized(first, axis, 0):
                raise OperationError(
                    "the sources differ in more than the axis",
                    self.describe(),
                    expected=f"{first} but for axis {self.axis} (first source)",
                    got=f"{spec} (another source)",
                )
        return (resized(first, axis, sum(spec.shape[axis] for spec in specs)),)

    def inverse(self, specs: Specs) -> NoReturn:
        """Never succeeds. Raises IrreversibleError: one operation has one result."""
        self.infer(specs)
        raise IrreversibleError(
            "several sources became one", self.describe(), hint="`split` leads back: a part for each source"
        )

    def describe(self) -> str:
        """In words, e.g. ``concat along axis 0``."""
        return f"concat along axis {self.axis}"


@dataclass(frozen=True, slots=True)
class Stack:
    """Put several sources of one shape beside each other along a new axis. It comes first in a chain.

    Attributes:
        axis: Where the new axis is in the result; a negative one counts from the result's end.
    """

    axis: int
    name: ClassVar[str] = "stack"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if the sources differ or the result has no such axis."""
        first = first_of(self, specs)
        check_equal(self, specs)
        at = new_axis_of(self, first, self.axis)
        return (TensorSpec(first.dtype, (*first.shape[:at], len(specs), *first.shape[at:])),)

    def inverse(self, specs: Specs) -> NoReturn:
        """Never succeeds. Raises IrreversibleError: one operation has one result."""
        self.infer(specs)
        raise IrreversibleError(
            "several sources became one", self.describe(), hint="`unstack` leads back: an index for each source"
        )

    def describe(self) -> str:
        """In words, e.g. ``stack along axis 0``."""
        return f"stack along axis {self.axis}"


@dataclass(frozen=True, slots=True)
class Average:
    """The mean of several sources, element by element. It comes first in a chain.

    It is computed in float64, in the order of the sources, and rounded once to their dtype. A source with
    the weight 0 still passes on what is not finite.

    Attributes:
        weights: A weight of 0 or more for each source; they need not add up to 1. None if all weigh the same.
    """

    weights: tuple[float, ...] | None = None
    name: ClassVar[str] = "average"

    def infer(self, specs: Specs) -> Specs:
        """The sources' spec. Raises OperationError if they differ, are no floats, or the weights do not fit."""
        first = first_of(self, specs)
        check_equal(self, specs)
        if first.dtype not in FLOATS and first.dtype not in PARTS:
            raise OperationError(
                "only floats have an average",
                self.describe(),
                expected="float or complex",
                got=f"{first.dtype.label} (sources {first})",
                hint="Cast them before, or take one of them",
            )
        weights = (1.0,) * len(specs) if self.weights is None else self.weights
        good = len(weights) == len(specs) and all(is_finite(weight) and weight >= 0 for weight in weights)
        if not good or not 0 < sum(weights) <= FLOATS[DType.FLOAT64][1]:
            raise OperationError(
                "the weights do not fit the sources",
                self.describe(),
                expected=f"{len(specs)} numbers from 0, not all of them 0 (sources)",
                got=f"{list(weights)} (weights)",
            )
        return (first,)

    def inverse(self, specs: Specs) -> NoReturn:
        """Never succeeds. Raises IrreversibleError: an average does not say what it is of."""
        self.infer(specs)
        raise IrreversibleError(
            "an average does not give its sources back",
            self.describe(),
            hint=KEEP,
        )

    def describe(self) -> str:
        """In words, e.g. ``average with weights [3, 1]``."""
        return "average" if self.weights is None else f"average with weights {short(self.weights)}"
