"""Sources that compute what their elements are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ckptmigrate.apply.boxes import Box, Shape, Source, extents, read_whole
from ckptmigrate.apply.elements import calculate, element_dtype, result_dtype
from ckptmigrate.dtypes import PARTS
from ckptmigrate.errors import OperationError
from ckptmigrate.ops import Cast, Elementwise, infer_chain
from ckptmigrate.spec import TensorSpec

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
