"""Sources with a batch normalization folded in, computed in float64 and rounded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from ckptmigrate.apply.boxes import AxisSource, Box, Shape, Source, boxes
from ckptmigrate.apply.elements import calculate
from ckptmigrate.errors import OperationError
from ckptmigrate.ops import Cast, FoldBias, FoldKernel
from ckptmigrate.spec import DType, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]


class Folded(AxisSource):
    """A kernel or a bias with one axis of channels. What each channel is computed with is read with it."""

    __slots__ = ("max_elements", "op", "sources")

    def __init__(self, op: FoldKernel | FoldBias, sources: Sequence[Source], max_elements: int) -> None:
        (spec,) = op.infer(tuple(source.spec for source in sources))
        start, stop = op.axes(spec) if isinstance(op, FoldKernel) else (0, 1)
        # Several axes of channels, as a depthwise kernel has them, are seen as one.
        shape = (*spec.shape[:start], sources[-1].spec.num_elements, *spec.shape[stop:])
        super().__init__(TensorSpec(spec.dtype, shape), start)
        self.op, self.sources, self.max_elements = op, sources, max_elements

    def read(self, box: Box, shape: Shape, axis: int) -> Array:
        values, lost = self.folded(box, shape, axis)
        if lost is not None:
            raise self.loss()
        return values

    def folded(self, box: Box, shape: Shape, axis: int) -> tuple[Array, Array | None]:
        """The values, and where a finite one became infinite or NaN (None: nowhere)."""
        import numpy as np

        def channels(source: Source) -> Array:
            vector = source.read_box((box[axis],), (shape[axis],)).astype(np.float64)
            return vector.reshape(tuple(-1 if at == axis else 1 for at in range(len(shape))))

        with np.errstate(all="ignore"):
            match self.op:
                case FoldKernel(epsilon, has_gamma, _):
                    given = [*map(channels, self.sources[1:])]
                    scale = (given[0] if has_gamma else 1.0) / np.sqrt(given[-1] + epsilon)
                    kernel = self.sources[0].read_box(box, shape).astype(np.float64)
                    result, known = kernel * scale, np.isfinite(kernel)
                case FoldBias(epsilon, has_bias, has_gamma, has_beta):
                    given = [*map(channels, self.sources)]
                    rest = iter(given)
                    bias, gamma, beta = (
                        next(rest) if there else other
                        for there, other in ((has_bias, 0.0), (has_gamma, 1.0), (has_beta, 0.0))
                    )
                    mean, variance = rest
                    result = (bias - mean) * (gamma / np.sqrt(variance + epsilon)) + beta
                    known = np.ones(result.shape, bool)
            for vector in given:
                known &= np.isfinite(vector)
            values, lost = calculate(Cast(self.spec.dtype), result, DType.FLOAT64)
            broken = known & ~np.isfinite(result)
        lost = broken if lost is None else lost | broken
        return values, lost if lost.any() else None

    def loss(self) -> OperationError:
        """What to say of results that do not fit, after looking at all of them."""
        count = total = 0
        for box in boxes(self.spec.shape, self.max_elements):
            values, lost = self.folded(box, self.spec.shape, self.axis)
            count += 0 if lost is None else int(lost.sum())
            total += values.size
        return OperationError(
            "results do not fit the dtype",
            self.op.describe(),
            expected=f"results that {self.spec.dtype.label} holds",
            got=f"{count} of {total} elements with others",
            hint="Look at the moving variance: it must not be negative, nor 0 without an epsilon",
        )
