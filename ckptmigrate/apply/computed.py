"""Sources that compute what their elements are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ckptmigrate.apply.boxes import AxisSource, Box, Shape, Source, extents, read_whole, replaced
from ckptmigrate.apply.elements import calculate, element_dtype, result_dtype
from ckptmigrate.apply.normal import Along
from ckptmigrate.dtypes import PARTS
from ckptmigrate.errors import OperationError
from ckptmigrate.noise import standard_normal
from ckptmigrate.ops import Cast, Elementwise, Mean, infer_chain
from ckptmigrate.spec import DType, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]

# So many elements of an average are in the processor's cache while they are added up.
_STRETCH_ELEMENTS = 1 << 14


@dataclass(frozen=True, slots=True)
class Averaged:
    """The weighted mean of several sources, added up in float64 in their order."""

    sources: Sequence[Source]
    weights: tuple[float, ...]

    @property
    def spec(self) -> TensorSpec:
        return self.sources[0].spec

    def read_box(self, box: Box, shape: Shape) -> Array:
        import numpy as np

        dtype = self.spec.dtype
        parts = 1 + (dtype in PARTS)
        # Divided by a power of two, which rounds nothing, so that no sum can overflow.
        _, exponent = math.frexp(math.fsum(self.weights))
        weights = [math.ldexp(weight, -exponent) for weight in self.weights]
        total = np.zeros(math.prod(extents(box)) * parts)
        scratch = np.empty(_STRETCH_ELEMENTS)
        for source, weight in zip(self.sources, weights, strict=True):
            values = np.ascontiguousarray(source.read_box(box, shape)).reshape(-1)
            values = values.view(element_dtype(PARTS.get(dtype, dtype)))
            for start in range(0, len(total), _STRETCH_ELEMENTS):
                stretch = values[start : start + _STRETCH_ELEMENTS].astype(np.float64, copy=False)
                with np.errstate(all="ignore"):
                    total[start : start + _STRETCH_ELEMENTS] += np.multiply(
                        stretch, weight, out=scratch[: len(stretch)]
                    )
        with np.errstate(all="ignore"):
            total /= math.fsum(weights)
            mean = total.view(np.complex128 if parts == 2 else np.float64).astype(element_dtype(dtype), copy=False)
        return mean.reshape(extents(box))


class Means(AxisSource):
    """What fills an axis with the mean of what is there: everywhere the mean, of the spec that the result has."""

    __slots__ = ("_whole", "count", "fill", "max_elements", "source")

    def __init__(self, source: Source, step: Along, fill: Mean, max_elements: int) -> None:
        (result,) = step.op.infer((TensorSpec(source.spec.dtype, step.shape),))
        super().__init__(result, step.op.axis % len(step.shape))
        self.source, self.count, self.fill, self.max_elements = source, step.shape[self.axis], fill, max_elements
        self._whole: Array | None = None

    def read(self, box: Box, shape: Shape, axis: int) -> Array:
        import numpy as np

        one = replaced(shape, axis, 1)
        if math.prod(one) <= self.max_elements:
            # It is asked for again and again, and small enough to be kept.
            if self._whole is None:
                own = self.spec.shape
                self._whole = self.mean(tuple((0, size) for size in own), own, self.axis)
            place = replaced(box, axis, (0, 1))
            mean = self._whole.reshape(one)[tuple(slice(start, stop) for start, stop in place)]
        else:
            mean = self.mean(box, shape, axis)
        wide = np.broadcast_to(mean, extents(box))
        if self.fill.stddev:
            wide = wide + self.fill.stddev * standard_normal(self.fill.seed, _flat_indices(box, shape))
        dtype = self.spec.dtype
        values, lost = calculate(Cast(dtype), wide, DType.FLOAT64)
        if lost is not None:
            raise OperationError(
                "what is filled in does not fit the dtype",
                self.fill.describe(),
                expected=f"values that {dtype.label} holds",
                got=f"{int(lost.sum())} of {lost.size} that it does not, the first {wide[lost][0]}",
                hint="Fill with less noise, or with something else",
            )
        return values

    def mean(self, box: Box, shape: Shape, axis: int) -> Array:
        """The mean of what is there, of size 1 along the axis; float64, added up in order."""
        import numpy as np

        rest = math.prod(extents(replaced(box, axis, (0, 1))))
        step = max(1, self.max_elements // rest)
        # Divided by a power of two, as `Averaged` does.
        _, exponent = math.frexp(self.count)
        weight = math.ldexp(1, -exponent)
        total = np.zeros(rest)
        with np.errstate(all="ignore"):
            for start in range(0, self.count, step):
                part = replaced(box, axis, (start, min(start + step, self.count)))
                values = self.source.read_box(part, replaced(shape, axis, self.count))
                rows = np.moveaxis(values, axis, 0).reshape(-1, rest).astype(np.float64) * weight
                total = _added_up(total, rows)
            total /= self.count * weight
        return total.reshape(extents(replaced(box, axis, (0, 1))))


# Rows with fewer elements are added up faster by `cumsum`, which is as strict about the order as a loop. A sum is not.
_LONG_ROW_ELEMENTS = 128


def _added_up(total: Array, rows: Array) -> Array:
    if rows.shape[1] < _LONG_ROW_ELEMENTS:
        rows[0] += total
        last: Array = rows.cumsum(0)[-1]
        return last
    for row in rows:
        total += row
    return total


def _flat_indices(box: Box, shape: Shape) -> Array:
    """The flat position of each element of a box."""
    import numpy as np

    indices = np.zeros((), np.int64)
    for (start, stop), size in zip(box, shape, strict=True):
        indices = np.add.outer(indices * size, np.arange(start, stop))
    return indices


@dataclass(frozen=True, slots=True)
class Computed:
    """A source with each element computed from itself."""

    source: Source
    ops: tuple[Elementwise, ...]
    max_elements: int

    @property
    def spec(self) -> TensorSpec:
        (spec,) = infer_chain(self.ops, (self.source.spec,))
        return spec

    def read_box(self, box: Box, shape: Shape) -> Array:
        values, dtype = self.source.read_box(box, shape), self.source.spec.dtype
        for op in self.ops:
            values, lost = calculate(op, values, dtype)
            if lost is not None:
                raise self.loss()
            dtype = result_dtype(op, dtype)
        return values

    def loss(self) -> OperationError:
        """What to say of the first operation that destroys a value, after looking at all of them."""
        counts = [0] * len(self.ops)
        firsts = [""] * len(self.ops)
        offset = 0
        for values in read_whole(self.source, self.max_elements):
            given, dtype = values.reshape(-1), self.source.spec.dtype
            for at, op in enumerate(self.ops):
                out, lost = calculate(op, given, dtype)
                if lost is not None:
                    index = int(lost.argmax())
                    firsts[at] = firsts[at] or f"the first at flat index {offset + index} ({given[index]})"
                    counts[at] += int(lost.sum())
                    break
                given, dtype = out, result_dtype(op, dtype)
            offset += values.size
        at = next(at for at, count in enumerate(counts) if count)
        (spec,) = infer_chain(self.ops[: at + 1], (self.source.spec,))
        is_cast = isinstance(self.ops[at], Cast)
        return OperationError(
            "the cast would destroy values" if is_cast else "results do not fit the dtype",
            self.ops[at].describe(),
            expected=f"{'values' if is_cast else 'results'} that {spec.dtype.label} holds",
            got=f"{counts[at]} of {offset} elements {'that it does not' if is_cast else 'with others'}, {firsts[at]}",
            hint="Cast to a type that holds them, or mend the values before",
        )
