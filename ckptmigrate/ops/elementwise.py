"""What computes each element from itself: casts, scales and sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from ckptmigrate.dtypes import (
    arithmetic_dtype,
    has_short_exponent,
    holds,
    int_range,
    is_finite,
    is_lossless,
    is_number,
    is_power_of_two,
)
from ckptmigrate.errors import IrreversibleError, OperationError
from ckptmigrate.ops.fitting import KEEP, Described, Specs, only, still_open
from ckptmigrate.spec import DType, TensorSpec


@dataclass(frozen=True, slots=True)
class Cast:
    """Convert every element to another dtype; a float is rounded, but no value is destroyed.

    See `compute` for what counts as destroyed. Strings, resources, variants and quantized types have
    no conversion.

    Attributes:
        dtype: The result's dtype. None while open: the target's.
    """

    dtype: DType | None = None
    name: ClassVar[str] = "cast"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if there is no conversion between the dtypes."""
        source = only(self, specs)
        if self.dtype is None:
            raise still_open(self, "dtype")
        for dtype, origin in ((source.dtype, f"source {source}"), (self.dtype, "dtype")):
            if not is_number(dtype):
                raise OperationError(
                    "no conversion between these dtypes",
                    self.describe(),
                    expected="bool, integer, float or complex on both sides",
                    got=f"{dtype.label} ({origin})",
                )
        return (TensorSpec(self.dtype, source.shape),)

    def inverse(self, specs: Specs) -> Cast:
        """The cast back, if this one keeps every value. Raises IrreversibleError if it does not."""
        (result,) = self.infer(specs)
        source = specs[0].dtype
        if not is_lossless(source, result.dtype):
            raise IrreversibleError(
                f"{result.dtype.label} does not hold every {source.label} value, so the source cannot be had back",
                self.describe(),
                hint=KEEP,
            )
        return Cast(source)

    def describe(self) -> str:
        """In words, e.g. ``cast to bfloat16``."""
        return f"cast to {self.dtype.label}" if self.dtype else "cast to the target's dtype"


@dataclass(frozen=True, slots=True)
class Scale:
    """Multiply every element by a constant.

    It is computed in the dtype itself, types narrower than float32 in float32 and then rounded. Integers
    are exact. A result that the dtype does not hold is refused (see `compute`).

    Attributes:
        factor: A finite number, for integers a whole one.
    """

    factor: float
    name: ClassVar[str] = "scale"

    def infer(self, specs: Specs) -> Specs:
        """The source's spec. Raises OperationError if the dtype has no such arithmetic."""
        return _arithmetic(self, specs, self.factor, "factor")

    def inverse(self, specs: Specs) -> Scale:
        """The scale by 1/factor, if that undoes it without rounding. Raises IrreversibleError if not.

        It does if the factor is a power of two, and for the types with a short exponent (float16 and
        narrower) if it is no less than 1: half of their smallest values, which are not that small, is
        rounded. So it is in the wider types, but only below 1e-37.
        """
        (source,) = self.infer(specs)
        if int_range(source.dtype):
            if abs(self.factor) == 1:
                return self
            raise IrreversibleError("integers have no division", self.describe(), hint=KEEP)
        shrinks = abs(self.factor) < 1 and has_short_exponent(source.dtype)
        if is_power_of_two(self.factor) and not shrinks:
            back = 1 / float(self.factor)
            if holds(arithmetic_dtype(source.dtype), back):
                return Scale(back)
        raise IrreversibleError(
            f"{source.dtype.label} rounds the result, so dividing does not give the source back",
            self.describe(),
            hint=KEEP,
        )

    def describe(self) -> str:
        """In words, e.g. ``scale by 0.5``."""
        return f"scale by {self.factor}"


@dataclass(frozen=True, slots=True)
class Add:
    """Add a constant to every element; for dtypes and rounding see `Scale`.

    Attributes:
        value: A finite number, for integers a whole one.
    """

    value: float
    name: ClassVar[str] = "add"

    def infer(self, specs: Specs) -> Specs:
        """The source's spec. Raises OperationError if the dtype has no such arithmetic."""
        return _arithmetic(self, specs, self.value, "value")

    def inverse(self, specs: Specs) -> Add:
        """The addition of the negative, for integers. Raises IrreversibleError for floats."""
        (source,) = self.infer(specs)
        if int_range(source.dtype):
            return Add(-self.value)
        raise IrreversibleError(
            f"{source.dtype.label} rounds the result, so subtracting does not give the source back",
            self.describe(),
            hint=KEEP,
        )

    def describe(self) -> str:
        """In words, e.g. ``add 1``."""
        return f"add {self.value}"


Elementwise: TypeAlias = Cast | Scale | Add
"""The operations that compute each element from itself."""


def _arithmetic(op: Described, specs: Specs, number: float, origin: str) -> Specs:
    source = only(op, specs)
    whole = int_range(source.dtype) is not None
    if source.dtype is DType.BOOL or not is_number(source.dtype):
        raise OperationError(
            "no arithmetic with this dtype",
            op.describe(),
            expected="integer, float or complex",
            got=f"{source.dtype.label} (source {source})",
        )
    if not is_finite(number) or (number != int(number) if whole else not holds(arithmetic_dtype(source.dtype), number)):
        kind = "a whole number" if whole else f"a number that {arithmetic_dtype(source.dtype).label} holds"
        raise OperationError(
            f"the {origin} does not fit the dtype",
            op.describe(),
            expected=f"{kind} (source {source})",
            got=f"{number} ({origin})",
        )
    return (source,)
