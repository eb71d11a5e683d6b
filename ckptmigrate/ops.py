"""Tensor operations as values: what they make of a spec, how they are undone, and how they are written.

An operation is data. It proves shapes and dtypes without values (`infer_chain`), and has one external
form, in rule files as in plans (`to_data`, `from_data`). The union is closed: what an operation does to
values is said where it runs, by blocks, and once more where it is verified, on whole tensors.

In a rule an operation may leave a parameter open (None): "as the target has it". `close_chain` fills it
in once the target is known. Nothing else takes an open operation; a plan holds none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from ckptmigrate.dtypes import (
    FLOATS,
    PARTS,
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
from ckptmigrate.spec import DType, TensorSpec

Specs: TypeAlias = tuple[TensorSpec, ...]
Shape: TypeAlias = tuple[int, ...]

_SHOWN = 8
"""So many items of a list are told in words."""

_KEEP = "Keep the source checkpoint: it is the only way back"


# ---------------------------------------------------------------- the operations


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
        source = _one(self, specs)
        return (TensorSpec(source.dtype, tuple(source.shape[axis] for axis in self.order(len(source.shape)))),)

    def inverse(self, specs: Specs) -> Op:
        """The transpose that leads back."""
        order = self.order(len(_one(self, specs).shape))
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
        source = _one(self, specs)
        if self.shape is None:
            raise _still_open(self, "shape")
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

    def inverse(self, specs: Specs) -> Op:
        """The reshape back to the source's shape."""
        self.infer(specs)
        return Reshape(specs[0].shape)

    def describe(self) -> str:
        """In words, e.g. ``reshape to [48, 12, 4]``."""
        return "reshape to the target's shape" if self.shape is None else f"reshape to {list(self.shape)}"


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
        source = _one(self, specs)
        if self.dtype is None:
            raise _still_open(self, "dtype")
        for dtype, origin in ((source.dtype, f"source {source}"), (self.dtype, "dtype")):
            if not is_number(dtype):
                raise OperationError(
                    "no conversion between these dtypes",
                    self.describe(),
                    expected="bool, integer, float or complex on both sides",
                    got=f"{dtype.label} ({origin})",
                )
        return (TensorSpec(self.dtype, source.shape),)

    def inverse(self, specs: Specs) -> Op:
        """The cast back, if this one keeps every value. Raises IrreversibleError if it does not."""
        (result,) = self.infer(specs)
        source = specs[0].dtype
        if not is_lossless(source, result.dtype):
            raise IrreversibleError(
                f"{result.dtype.label} does not hold every {source.label} value, so the source cannot be had back",
                self.describe(),
                hint=_KEEP,
            )
        return Cast(source)

    def describe(self) -> str:
        """In words, e.g. ``cast to bfloat16``."""
        return f"cast to {self.dtype.label}" if self.dtype else "cast to the target's dtype"


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
        source = _one(self, specs)
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

    def inverse(self, specs: Specs) -> Op:
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
        source = _one(self, specs)
        at = _new_axis(self, source, self.axis)
        return (TensorSpec(source.dtype, (*source.shape[:at], 1, *source.shape[at:])),)

    def inverse(self, specs: Specs) -> Op:
        """The squeeze of the new axis."""
        (result,) = self.infer(specs)
        return Squeeze((self.axis % len(result.shape),))

    def describe(self) -> str:
        """In words, e.g. ``insert axis 0``."""
        return f"insert axis {self.axis}"


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
        template = _one(self, specs)
        if self.value != "template" and not holds(template.dtype, self.value):
            raise OperationError(
                "the dtype does not hold the initial value",
                self.describe(),
                expected=f"a value of {template.dtype.label} (template {template})",
                got=f"{self.value} (with)",
            )
        return (template,)

    def inverse(self, specs: Specs) -> Op:
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
class Part:
    """One part of a split along an axis. The other parts are other targets' business.

    Attributes:
        axis: The axis; a negative one counts from the end.
        index: Which part, from 0.
        sizes: The sizes of all parts along the axis, or how many equal parts there are. None while open:
            as the targets of all parts have them.
    """

    axis: int
    index: int
    sizes: tuple[int, ...] | int | None
    name: ClassVar[str] = "part"

    def bounds(self, source: TensorSpec) -> tuple[int, int, int]:
        """The axis (not negative), and where on it the part begins and ends.

        Raises:
            OperationError: The parts do not make up the axis, or there is no such part.
        """
        axis = _axis(self, source, self.axis)
        size = source.shape[axis]
        if self.sizes is None:
            raise _still_open(self, "sizes")
        count = self.sizes if isinstance(self.sizes, int) else len(self.sizes)
        if isinstance(self.sizes, int) and (count < 1 or size % count):
            raise OperationError(
                "the axis does not split into equal parts",
                self.describe(),
                expected=f"a divisor of {size} (axis {self.axis} of source {source})",
                got=f"{count} (parts)",
            )
        sizes = (size // count,) * count if isinstance(self.sizes, int) else self.sizes
        if sum(sizes) != size or min(sizes, default=0) < 0:
            raise OperationError(
                "the parts do not make up the axis",
                self.describe(),
                expected=f"sizes that add up to {size} (axis {self.axis} of source {source})",
                got=f"{list(sizes)}, in all {sum(sizes)} (sizes)",
            )
        if not 0 <= self.index < count:
            raise OperationError(
                "no such part", self.describe(), expected=f"from 0 to {count - 1}", got=f"{self.index} (index)"
            )
        start = sum(sizes[: self.index])
        return axis, start, start + sizes[self.index]

    def infer(self, specs: Specs) -> Specs:
        """The part's spec. Raises OperationError as `bounds` does."""
        source = _one(self, specs)
        axis, start, stop = self.bounds(source)
        return (_resized(source, axis, stop - start),)

    def inverse(self, specs: Specs) -> Op:
        """Never succeeds. Raises IrreversibleError: the other parts are needed too."""
        self.infer(specs)
        raise IrreversibleError(
            "one part of several does not give the whole back",
            self.describe(),
            hint="`concat` of all the parts leads back",
        )

    def describe(self) -> str:
        """In words, e.g. ``part 0 of 3 along axis -1``."""
        match self.sizes:
            case None:
                whole = "the targets' sizes"
            case int():
                whole = str(self.sizes)
            case _:
                whole = f"sizes {_short(self.sizes)}"
        return f"part {self.index} of {whole} along axis {self.axis}"


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
        first = _several(self, specs)
        axis = _axis(self, first, self.axis)
        for spec in specs:
            if len(spec.shape) != len(first.shape) or _resized(spec, axis, 0) != _resized(first, axis, 0):
                raise OperationError(
                    "the sources differ in more than the axis",
                    self.describe(),
                    expected=f"{first} but for axis {self.axis} (first source)",
                    got=f"{spec} (another source)",
                )
        return (_resized(first, axis, sum(spec.shape[axis] for spec in specs)),)

    def inverse(self, specs: Specs) -> Op:
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
        first = _several(self, specs)
        _same(self, specs)
        at = _new_axis(self, first, self.axis)
        return (TensorSpec(first.dtype, (*first.shape[:at], len(specs), *first.shape[at:])),)

    def inverse(self, specs: Specs) -> Op:
        """Never succeeds. Raises IrreversibleError: one operation has one result."""
        self.infer(specs)
        raise IrreversibleError(
            "several sources became one", self.describe(), hint="`unstack` leads back: an index for each source"
        )

    def describe(self) -> str:
        """In words, e.g. ``stack along axis 0``."""
        return f"stack along axis {self.axis}"


@dataclass(frozen=True, slots=True)
class Slice:
    """Keep a range of an axis.

    Attributes:
        axis: The axis; a negative one counts from the end.
        start: The first index that is kept; a negative one counts from the axis's end.
        stop: The index after the last one that is kept, as `start`; None for the axis's end.
    """

    axis: int
    start: int = 0
    stop: int | None = None
    name: ClassVar[str] = "slice"

    def bounds(self, source: TensorSpec) -> tuple[int, int, int]:
        """The axis, the start and the stop, none of them negative.

        Raises:
            OperationError: The range is not in the axis. Python would cut it off there; a wrong number would pass.
        """
        axis = _axis(self, source, self.axis)
        size = source.shape[axis]
        start, stop = (size if at is None else at + size if at < 0 else at for at in (self.start, self.stop))
        if not 0 <= start <= stop <= size:
            raise OperationError(
                "the range is not in the axis",
                self.describe(),
                expected=f"a range in 0:{size} (axis {self.axis} of source {source})",
                got=f"{_range(self.start, self.stop)} (start and stop)",
            )
        return axis, start, stop

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError as `bounds` does."""
        source = _one(self, specs)
        axis, start, stop = self.bounds(source)
        return (_resized(source, axis, stop - start),)

    def inverse(self, specs: Specs) -> Op:
        """The slice itself, if it keeps everything. Raises IrreversibleError if it does not."""
        (result,) = self.infer(specs)
        if result == specs[0]:
            return Slice(self.axis)
        raise IrreversibleError("what is cut off is lost", self.describe(), hint=_KEEP)

    def describe(self) -> str:
        """In words, e.g. ``slice 2:5 of axis 0``."""
        return f"slice {_range(self.start, self.stop)} of axis {self.axis}"


@dataclass(frozen=True, slots=True)
class Pad:
    """Make an axis longer, with a constant in what is new.

    Attributes:
        axis: The axis; a negative one counts from the end.
        before: How many are added at the beginning.
        after: How many are added at the end.
        value: What they are; a finite number.
    """

    axis: int
    before: int = 0
    after: int = 0
    value: float = 0
    name: ClassVar[str] = "pad"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if a count is negative or the dtype does not hold the value."""
        source = _one(self, specs)
        axis = _axis(self, source, self.axis)
        if min(self.before, self.after) < 0:
            raise OperationError(
                "an axis cannot be padded by less than nothing",
                self.describe(),
                expected="counts from 0",
                got=f"{self.before} (before), {self.after} (after)",
                hint="`slice` cuts an axis",
            )
        if not holds(source.dtype, self.value):
            raise OperationError(
                "the dtype does not hold the value",
                self.describe(),
                expected=f"a value of {source.dtype.label} (source {source})",
                got=f"{self.value} (value)",
            )
        return (_resized(source, axis, self.before + source.shape[axis] + self.after),)

    def inverse(self, specs: Specs) -> Op:
        """The slice that keeps what was there before."""
        self.infer(specs)
        size = specs[0].shape[self.axis]
        return Slice(self.axis, self.before, self.before + size)

    def describe(self) -> str:
        """In words, e.g. ``pad axis 0 by 0 before and 3 after with 0``."""
        return f"pad axis {self.axis} by {self.before} before and {self.after} after with {self.value}"


@dataclass(frozen=True, slots=True)
class Gather:
    """Take indices of an axis, in any order, as often as one likes: rows or channels permuted, or some of them.

    Attributes:
        axis: The axis; a negative one counts from the end.
        indices: Index i of the result is index ``indices[i]`` of the source. None is negative: -1 is too
            often what stands for a row that is missing.
    """

    axis: int
    indices: tuple[int, ...]
    name: ClassVar[str] = "gather"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if an index is not in the axis."""
        source = _one(self, specs)
        axis = _axis(self, source, self.axis)
        size = source.shape[axis]
        if self.indices and not 0 <= min(self.indices) <= max(self.indices) < size:
            wrong = [index for index in self.indices if not 0 <= index < size]
            raise OperationError(
                "indices are not in the axis",
                self.describe(),
                expected=f"from 0 to {size - 1} (axis {self.axis} of source {source})",
                got=f"{len(wrong)} of {len(self.indices)} that are not, the first {wrong[0]} (indices)",
            )
        return (_resized(source, axis, len(self.indices)),)

    def inverse(self, specs: Specs) -> Op:
        """The gather that leads back, if every index is taken. Raises IrreversibleError if one is not."""
        self.infer(specs)
        size = specs[0].shape[self.axis]
        place = {index: at for at, index in enumerate(self.indices)}
        if len(place) < size:
            raise IrreversibleError(
                f"{size - len(place)} of {size} indices are not taken, so what they hold is lost",
                self.describe(),
                hint=_KEEP,
            )
        return Gather(self.axis, tuple(place[index] for index in range(size)))

    def describe(self) -> str:
        """In words, e.g. ``gather [2, 0, 1] of axis 0``."""
        return f"gather {_short(self.indices)} of axis {self.axis}"


@dataclass(frozen=True, slots=True)
class Tile:
    """The whole axis again and again: ``a b`` twice is ``a b a b``.

    Attributes:
        axis: The axis; a negative one counts from the end.
        times: How often what is there stands in the result; at least once.
    """

    axis: int
    times: int
    name: ClassVar[str] = "tile"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if there is no such axis, or `times` is less than 1."""
        return _times(self, specs, self.axis, self.times)

    def inverse(self, specs: Specs) -> Op:
        """The slice that keeps the first one."""
        self.infer(specs)
        return Slice(self.axis, 0, specs[0].shape[self.axis])

    def describe(self) -> str:
        """In words, e.g. ``tile axis 0, 3 times``."""
        return f"tile axis {self.axis}, {self.times} times"


@dataclass(frozen=True, slots=True)
class Repeat:
    """Every index of an axis again and again: ``a b`` twice is ``a a b b``.

    Attributes:
        axis: The axis; a negative one counts from the end.
        times: How often each stands in the result; at least once.
    """

    axis: int
    times: int
    name: ClassVar[str] = "repeat"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if there is no such axis, or `times` is less than 1."""
        return _times(self, specs, self.axis, self.times)

    def inverse(self, specs: Specs) -> Op:
        """The gather of the first one of each."""
        (result,) = self.infer(specs)
        return Gather(self.axis, tuple(range(0, result.shape[self.axis], self.times)))

    def describe(self) -> str:
        """In words, e.g. ``repeat each of axis 0, 3 times``."""
        return f"repeat each of axis {self.axis}, {self.times} times"


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

    def inverse(self, specs: Specs) -> Op:
        """The scale by 1/factor, if that undoes it without rounding. Raises IrreversibleError if not.

        It does if the factor is a power of two, and for the types with a short exponent (float16 and
        narrower) if it is no less than 1: half of their smallest values, which are not that small, is
        rounded. So it is in the wider types, but only below 1e-37.
        """
        (source,) = self.infer(specs)
        if int_range(source.dtype):
            if abs(self.factor) == 1:
                return self
            raise IrreversibleError("integers have no division", self.describe(), hint=_KEEP)
        shrinks = abs(self.factor) < 1 and has_short_exponent(source.dtype)
        if is_power_of_two(self.factor) and not shrinks:
            back = 1 / float(self.factor)
            if holds(arithmetic_dtype(source.dtype), back):
                return Scale(back)
        raise IrreversibleError(
            f"{source.dtype.label} rounds the result, so dividing does not give the source back",
            self.describe(),
            hint=_KEEP,
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

    def inverse(self, specs: Specs) -> Op:
        """The addition of the negative, for integers. Raises IrreversibleError for floats."""
        (source,) = self.infer(specs)
        if int_range(source.dtype):
            return Add(-self.value)
        raise IrreversibleError(
            f"{source.dtype.label} rounds the result, so subtracting does not give the source back",
            self.describe(),
            hint=_KEEP,
        )

    def describe(self) -> str:
        """In words, e.g. ``add 1``."""
        return f"add {self.value}"


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
        first = _several(self, specs)
        _same(self, specs)
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

    def inverse(self, specs: Specs) -> Op:
        """Never succeeds. Raises IrreversibleError: an average does not say what it is of."""
        self.infer(specs)
        raise IrreversibleError(
            "an average does not give its sources back",
            self.describe(),
            hint=_KEEP,
        )

    def describe(self) -> str:
        """In words, e.g. ``average with weights [3, 1]``."""
        return "average" if self.weights is None else f"average with weights {_short(self.weights)}"


Op: TypeAlias = (
    Transpose
    | Reshape
    | Cast
    | Squeeze
    | ExpandDims
    | Fill
    | Part
    | Concat
    | Stack
    | Slice
    | Pad
    | Gather
    | Tile
    | Repeat
    | Scale
    | Add
    | Average
)
"""Every operation there is. The union is closed: code that tells them apart is a ``match``."""


def infer_chain(ops: Sequence[Op], specs: Specs) -> Specs:
    """The specs that a chain of operations leads to; `specs` itself for an empty chain.

    Raises:
        OperationError: An operation does not fit what it is given.
    """
    for position, op in enumerate(ops):
        if isinstance(op, Fill | Concat | Stack | Average) and position:
            raise OperationError(
                "an initial value replaces what comes before it"
                if isinstance(op, Fill)
                else "an operation on several sources takes them as they are",
                op.describe(),
                expected="it to be the first operation",
                got=f"it after {ops[position - 1].describe()}",
            )
        specs = op.infer(specs)
    return specs


def inverse_chain(ops: Sequence[Op], specs: Specs) -> tuple[Op, ...]:
    """The chain that leads from the result of `ops` on `specs` back to the source.

    Raises:
        OperationError: An operation does not fit what it is given.
        IrreversibleError: An operation loses what its inverse would need.
    """
    inverted: list[Op] = []
    infer_chain(ops, specs)
    for op in ops:
        inverted.append(op.inverse(specs))
        specs = op.infer(specs)
    return tuple(reversed(inverted))


def close_chain(
    ops: Sequence[Op], specs: Specs, wanted: TensorSpec, parts: Sequence[TensorSpec] = ()
) -> tuple[Op, ...]:
    """The chain with what it leaves open as the target has it.

    Args:
        ops: A rule's operations.
        specs: What the first of them takes.
        wanted: The target.
        parts: For a chain with an open `Part`: the targets of all parts, in the parts' order.

    Returns:
        The chain without anything open. What it leads to may still be another spec than the target's.

    Raises:
        OperationError: An operation does not fit what it is given, or what is open does not follow from the target.
    """
    closed: list[Op] = []
    for position, op in enumerate(ops):
        rest = ops[position + 1 :]
        match op:
            case Reshape(None):
                _check_kept(op, "shape", (other for other in rest if not isinstance(other, Cast | Scale | Add)))
                if wanted.num_elements != specs[0].num_elements:
                    raise OperationError(
                        "the target's shape does not hold the values",
                        op.describe(),
                        expected=f"{specs[0].num_elements} elements (source {specs[0]})",
                        got=f"{wanted.num_elements} (target {wanted})",
                    )
                closing: Op = Reshape(wanted.shape)
            case Cast(None):
                _check_kept(op, "dtype", (other for other in rest if isinstance(other, Cast)))
                closing = Cast(wanted.dtype)
            case Part(axis, index, None):
                _check_kept(op, "shape", (other for other in rest if not isinstance(other, Cast | Scale | Add)))
                closing = Part(axis, index, tuple(part.shape[_axis(op, part, axis)] for part in parts))
            case _:
                closing = op
        specs = closing.infer(specs)
        closed.append(closing)
    return tuple(closed)


def _check_kept(op: Op, what: str, changing: Iterable[Op]) -> None:
    """What is open can be seen in the target if nothing that follows changes it."""
    for other in changing:
        raise OperationError(
            f"the {what} does not follow from the target",
            op.describe(),
            expected=f"only operations that keep the {what} after it",
            got=other.describe(),
            hint=f"Say the {what}",
        )


def _still_open(op: Op, what: str) -> OperationError:
    return OperationError("an open operation", op.describe(), expected=f"its {what}", got="none")


def _one(op: Op, specs: Specs) -> TensorSpec:
    if len(specs) != 1:
        shown = ", ".join(map(str, specs)) or "none"
        raise OperationError("wrong number of tensors", op.describe(), expected="1", got=f"{len(specs)} ({shown})")
    return specs[0]


def _several(op: Op, specs: Specs) -> TensorSpec:
    if not specs:
        raise OperationError("wrong number of tensors", op.describe(), expected="at least 1", got="0 (none)")
    return specs[0]


def _same(op: Op, specs: Specs) -> None:
    for spec in specs:
        if spec != specs[0]:
            raise OperationError(
                "the sources differ",
                op.describe(),
                expected=f"{specs[0]} (first source)",
                got=f"{spec} (another source)",
            )


def _axis(op: Op, source: TensorSpec, axis: int) -> int:
    rank = len(source.shape)
    if not -rank <= axis < rank:
        raise OperationError(
            "no such axis",
            op.describe(),
            expected=f"an axis from {-rank} to {rank - 1} (source {source})" if rank else f"an axis (source {source})",
            got=f"{axis} (axis)",
        )
    return axis % rank


def _new_axis(op: Op, source: TensorSpec, axis: int) -> int:
    rank = len(source.shape) + 1
    if not -rank <= axis < rank:
        raise OperationError(
            "the new axis is out of range",
            op.describe(),
            expected=f"an axis from {-rank} to {rank - 1} (source {source})",
            got=f"{axis} (axis)",
        )
    return axis % rank


def _resized(spec: TensorSpec, axis: int, size: int) -> TensorSpec:
    return TensorSpec(spec.dtype, (*spec.shape[:axis], size, *spec.shape[axis + 1 :]))


def _times(op: Op, specs: Specs, axis: int, times: int) -> Specs:
    source = _one(op, specs)
    axis = _axis(op, source, axis)
    if times < 1:
        raise OperationError("it would leave nothing", op.describe(), expected="1 or more", got=f"{times} (times)")
    return (_resized(source, axis, source.shape[axis] * times),)


def _arithmetic(op: Op, specs: Specs, number: float, origin: str) -> Specs:
    source = _one(op, specs)
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


def _short(items: Sequence[float]) -> str:
    if len(items) <= _SHOWN:
        return str(list(items))
    return f"[{', '.join(map(str, items[:_SHOWN]))}, ... {len(items)} in all]"


def _range(start: int, stop: int | None) -> str:
    return f"{start}:{'' if stop is None else stop}"


def inverted_order(perm: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes one."""
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


def say_initial(value: Literal["template"] | float) -> str | float:
    if isinstance(value, str) or value not in (0, 1) or str(value).startswith("-"):
        return value
    return "ones" if value else "zeros"
