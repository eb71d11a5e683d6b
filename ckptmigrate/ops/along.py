"""What takes, adds or repeats along one axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NoReturn

from ckptmigrate.dtypes import holds
from ckptmigrate.errors import IrreversibleError, OperationError
from ckptmigrate.ops.fitting import KEEP, Described, Specs, axis_of, only, resized, short, still_open
from ckptmigrate.spec import TensorSpec


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
        axis = axis_of(self, source, self.axis)
        size = source.shape[axis]
        if self.sizes is None:
            raise still_open(self, "sizes")
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
        source = only(self, specs)
        axis, start, stop = self.bounds(source)
        return (resized(source, axis, stop - start),)

    def inverse(self, specs: Specs) -> NoReturn:
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
                whole = f"sizes {short(self.sizes)}"
        return f"part {self.index} of {whole} along axis {self.axis}"


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
        axis = axis_of(self, source, self.axis)
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
        source = only(self, specs)
        axis, start, stop = self.bounds(source)
        return (resized(source, axis, stop - start),)

    def inverse(self, specs: Specs) -> Slice:
        """The slice itself, if it keeps everything. Raises IrreversibleError if it does not."""
        (result,) = self.infer(specs)
        if result == specs[0]:
            return Slice(self.axis)
        raise IrreversibleError("what is cut off is lost", self.describe(), hint=KEEP)

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
        source = only(self, specs)
        axis = axis_of(self, source, self.axis)
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
        return (resized(source, axis, self.before + source.shape[axis] + self.after),)

    def inverse(self, specs: Specs) -> Slice:
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
        source = only(self, specs)
        axis = axis_of(self, source, self.axis)
        size = source.shape[axis]
        if self.indices and not 0 <= min(self.indices) <= max(self.indices) < size:
            wrong = [index for index in self.indices if not 0 <= index < size]
            raise OperationError(
                "indices are not in the axis",
                self.describe(),
                expected=f"from 0 to {size - 1} (axis {self.axis} of source {source})",
                got=f"{len(wrong)} of {len(self.indices)} that are not, the first {wrong[0]} (indices)",
            )
        return (resized(source, axis, len(self.indices)),)

    def inverse(self, specs: Specs) -> Gather:
        """The gather that leads back, if every index is taken. Raises IrreversibleError if one is not."""
        self.infer(specs)
        size = specs[0].shape[self.axis]
        place = {index: at for at, index in enumerate(self.indices)}
        if len(place) < size:
            raise IrreversibleError(
                f"{size - len(place)} of {size} indices are not taken, so what they hold is lost",
                self.describe(),
                hint=KEEP,
            )
        return Gather(self.axis, tuple(place[index] for index in range(size)))

    def describe(self) -> str:
        """In words, e.g. ``gather [2, 0, 1] of axis 0``."""
        return f"gather {short(self.indices)} of axis {self.axis}"


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

    def inverse(self, specs: Specs) -> Slice:
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

    def inverse(self, specs: Specs) -> Gather:
        """The gather of the first one of each."""
        (result,) = self.infer(specs)
        return Gather(self.axis, tuple(range(0, result.shape[self.axis], self.times)))

    def describe(self) -> str:
        """In words, e.g. ``repeat each of axis 0, 3 times``."""
        return f"repeat each of axis {self.axis}, {self.times} times"


def _times(op: Described, specs: Specs, axis: int, times: int) -> Specs:
    source = only(op, specs)
    axis = axis_of(op, source, axis)
    if times < 1:
        raise OperationError("it would leave nothing", op.describe(), expected="1 or more", got=f"{times} (times)")
    return (resized(source, axis, source.shape[axis] * times),)


def _range(start: int, stop: int | None) -> str:
    return f"{start}:{'' if stop is None else stop}"
