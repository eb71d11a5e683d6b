"""Values that come from nowhere in the source: initial values, and what a longer axis is filled with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NoReturn, TypeAlias

from ckptmigrate.dtypes import FLOATS, holds, is_finite
from ckptmigrate.errors import IrreversibleError, OperationError
from ckptmigrate.ops.along import Slice
from ckptmigrate.ops.fitting import KEEP, Described, Specs, axis_of, only, resized, still_open
from ckptmigrate.spec import TensorSpec


@dataclass(frozen=True, slots=True)
class Fill:
    """The initial value of a tensor that nothing leads to. It comes first in a chain.

    Nothing of the source checkpoint goes in: the one spec (and for ``"template"`` the one source) that
    it takes is the template's tensor.

    Attributes:
        value: ``"template"`` for the template's own values, or a finite number for every element.
    """

    value: Literal["template"] | float
    name: ClassVar[str] = "init"

    def infer(self, specs: Specs) -> Specs:
        """The template's spec. Raises OperationError if its dtype does not hold the number."""
        template = only(self, specs)
        if self.value != "template" and not holds(template.dtype, self.value):
            raise OperationError(
                "the dtype does not hold the initial value",
                self.describe(),
                expected=f"a value of {template.dtype.label} (template {template})",
                got=f"{self.value} (with)",
            )
        return (template,)

    def inverse(self, specs: Specs) -> NoReturn:
        """Never succeeds. Raises IrreversibleError: an initial value has no source."""
        self.infer(specs)
        raise IrreversibleError(
            "an initial value has no source to lead back to",
            self.describe(),
            hint="Drop the tensor on the way back",
        )

    def describe(self) -> str:
        """In words, e.g. ``initial value: zeros``."""
        return f"initial value: {say_initial(self.value)}"


@dataclass(frozen=True, slots=True)
class Mean:
    """What is new along an axis is the mean of what is there, perhaps with noise.

    The mean is that of all indices of the axis, in their order, as `Average` has it: added up in float64.
    The noise is `ckptmigrate.noise.standard_normal` times `stddev`, at the element's flat index in the
    result. The sum of both is rounded once.

    Attributes:
        stddev: The noise's standard deviation; 0 for none.
        seed: The noise's seed, from 0 to 2**64 - 1.
    """

    stddev: float = 0
    seed: int = 0

    def describe(self) -> str:
        """In words, e.g. ``the mean``."""
        return f"the mean with noise of {self.stddev} (seed {self.seed})" if self.stddev else "the mean"


Filling: TypeAlias = Literal["template"] | float | Mean
"""What is new along an axis: the template's own values there, a number, or the mean of what is there."""


@dataclass(frozen=True, slots=True)
class Resize:
    """Make an axis longer or shorter at its end.

    Attributes:
        axis: The axis; a negative one counts from the end.
        size: The size it gets. None while open: the target's.
        fill: What is new, if it gets longer. The template's values come last in a chain: they are those of
            the target, where the new part is.
    """

    axis: int
    size: int | None = None
    fill: Filling = "template"
    name: ClassVar[str] = "resize"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if the new part cannot be filled like this."""
        source = only(self, specs)
        if self.size is None:
            raise still_open(self, "size")
        axis = axis_of(self, source, self.axis)
        if self.size < 0:
            raise OperationError("less than nothing", self.describe(), expected="0 or more", got=f"{self.size} (size)")
        if self.size > source.shape[axis]:
            check_filling(self, self.fill, source, axis)
        return (resized(source, axis, self.size),)

    def grows(self, source: TensorSpec) -> bool:
        """Whether anything is filled in a tensor that fits."""
        return self.size is not None and self.size > source.shape[self.axis]

    def inverse(self, specs: Specs) -> Slice:
        """The slice that keeps what was there before. Raises IrreversibleError if less is there."""
        (result,) = self.infer(specs)
        size = specs[0].shape[self.axis]
        if result.shape[self.axis] >= size:
            return Slice(self.axis, 0, size)
        raise IrreversibleError("what is cut off is lost", self.describe(), hint=KEEP)

    def describe(self) -> str:
        """In words, e.g. ``resize axis 0 to 1200, filled with the mean``."""
        size = "the target's size" if self.size is None else self.size
        return f"resize axis {self.axis} to {size}, filled with {say_filling(self.fill)}"


def check_filling(op: Described, fill: Filling, source: TensorSpec, axis: int) -> None:
    """Refuse what an axis that gets longer cannot be filled with.

    Raises:
        OperationError: The dtype does not hold the number, or there is no mean.
    """
    match fill:
        case "template":
            return
        case Mean(stddev, _):
            if source.dtype not in FLOATS or not source.shape[axis]:
                raise OperationError(
                    "there is no mean to fill with",
                    op.describe(),
                    expected="floats, at least one of them along the axis",
                    got=f"{source} (source), axis {axis}",
                    hint="Fill with the template's values, or a number",
                )
            if not is_finite(stddev) or stddev < 0:
                raise OperationError(
                    "no standard deviation", op.describe(), expected="a finite number from 0", got=f"{stddev} (stddev)"
                )
        case number:
            if not holds(source.dtype, number):
                raise OperationError(
                    "the dtype does not hold the value",
                    op.describe(),
                    expected=f"a value of {source.dtype.label} (source {source})",
                    got=f"{number} (fill)",
                )


def say_initial(value: Literal["template"] | float) -> str | float:
    """An initial value as rule files write it: zeros, ones, template, or the number."""
    if isinstance(value, str) or value not in (0, 1) or str(value).startswith("-"):
        return value
    return "ones" if value else "zeros"


def say_filling(fill: Filling) -> str:
    """What an axis is filled with, in words."""
    if isinstance(fill, Mean):
        return fill.describe()
    return "the template's values" if fill == "template" else str(say_initial(fill))
