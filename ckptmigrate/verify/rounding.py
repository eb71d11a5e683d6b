"""How far the results of two models may lie apart, and how far they do.

The rule. Two models whose variables only moved, and which ran the same operations on the same shapes, give the same
bits: the tolerance is 0. Else every result that was rounded on the way may be another by one rounding, and so

    tolerance = 4 * sqrt(sum of eps ** 2 over all roundings) * the largest absolute value of the source's tensor

where the roundings are

- one of each operation that ran and rounds, in the dtype of its result;
- of a sum of n terms (a matrix product, a convolution, a mean) n more, in float32 or wider: that is how narrower
  floats are added up;
- one of each variable that the plan casts or computes, in the narrowest dtype on its way.

A rounding errs by 0.3 eps as a rule and half an eps at most, in either direction, so errors add up as their squares
do; in the worst case they would as they are, by orders of magnitude more. 4 is for the largest of many elements and for
what a model makes of an error on the way. A value in a wrong place differs by about as much as the values themselves.

Source: N. J. Higham and T. Mary, "A New Approach to Probabilistic Rounding Error Analysis", 2019 (sums of n terms
err as sqrt(n)).
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ckptmigrate.dtypes import FLOATS, PARTS
from ckptmigrate.matching import Step
from ckptmigrate.ops import Add, Average, Cast, Custom, FoldBias, FoldKernel, Gates, Scale
from ckptmigrate.spec import DType, Key, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_FACTOR = 4

# fmt: off
_EXACT = frozenset((
    "Abs", "BroadcastTo", "ConcatV2", "Copy", "EnsureShape", "ExpandDims", "Fill", "Gather", "GatherNd", "GatherV2",
    "Identity", "IdentityN", "MatrixBandPart", "Max", "MaxPool", "Maximum", "Min", "Minimum", "MirrorPad", "Neg",
    "OneHot", "OnesLike", "Pack", "Pad", "PadV2", "PreventGradient", "Range", "ReadVariableOp", "Relu", "Reshape",
    "ResourceGather", "ResourceGatherNd", "ReverseV2", "Select", "SelectV2", "Sign", "Slice", "Split", "SplitV",
    "Squeeze", "StopGradient", "StridedSlice", "Tile", "Transpose", "Unpack", "ZerosLike",
))
# fmt: on
"""Operations that give floats and round nothing: they move values, or take some of them."""

_PRODUCTS = ("MatMul", "BatchMatMul", "Einsum", "Conv", "DepthwiseConv", "_Fused", "CudnnRNN")
"""What operations begin with that sum up products of two tensors."""

_RANDOM = ("Random", "StatelessRandom", "StatelessTruncated", "TruncatedNormal", "StatelessMultinomial", "Multinomial")
"""What operations begin with that draw numbers; those that only make keys for them do too."""


@dataclass
class Operations:
    """What ran.

    Attributes:
        counts: How often each operation that rounds ran on which shapes.
        variance: The sum of eps ** 2 over their roundings.
        random: Operations that drew numbers.
    """

    counts: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    variance: float = 0
    random: set[str] = field(default_factory=set)


@contextlib.contextmanager
def watched() -> Iterator[Operations]:
    """Note the operations that TensorFlow runs eagerly.

    Source: tensorflow/python/framework/op_callbacks.py.
    """
    from tensorflow.python.framework import op_callbacks

    found = Operations()

    def note(kind: Any, inputs: Any, _attrs: Any, outputs: Any, op_name: Any = None, graph: Any = None) -> None:  # noqa: ARG001
        if graph is not None:
            return  # a function that is only traced
        kind = kind.decode() if isinstance(kind, bytes) else kind
        if kind.startswith(_RANDOM):
            found.random.add(kind)
        dtypes = [_dtype(each) for each in outputs]
        if kind in _EXACT or not any(dtype in FLOATS for dtype in dtypes):
            return
        if kind == "Cast" and eps_of(dtypes[0]) <= eps_of(_dtype(inputs[0])):
            return
        # A traced function has its number in its name.
        name = kind.rstrip("0123456789") if kind.startswith("__") else kind
        shapes = tuple(tuple(getattr(each, "shape", ())) for each in (*inputs, *outputs))
        found.counts[name, shapes, tuple(dtype and dtype.label for dtype in dtypes)] += 1
        eps = max(eps_of(dtype) for dtype in dtypes if dtype in FLOATS)
        found.variance += eps**2 + _terms(name, inputs, outputs) * min(eps, eps_of(DType.FLOAT32)) ** 2

    op_callbacks.add_op_callback(note)
    try:
        yield found
    finally:
        op_callbacks.remove_op_callback(note)


def _dtype(tensor: Any) -> DType | None:
    # None for a resource, and for what only TensorFlow knows.
    dtype = DType.__members__.get(str(getattr(getattr(tensor, "dtype", None), "name", "")).upper())
    return None if dtype is None else PARTS.get(dtype, dtype)


def _terms(kind: str, inputs: Any, outputs: Any) -> float:
    """How many terms an element of the result is a sum of: of ``[m, k] x [k, n]`` k. 0 where nothing is added up."""
    sizes = [math.prod(each.shape) for each in inputs if getattr(each, "shape", None) is not None]
    made = max(1, math.prod(outputs[0].shape))
    if len(sizes) > 1 and kind.startswith(_PRODUCTS):
        return math.sqrt(sizes[0] * sizes[1] / made)
    if "Softmax" in kind or "Norm" in kind:
        return float(outputs[0].shape[-1]) if len(outputs[0].shape) else 0
    return max(sizes) / made if sizes and max(sizes) > made else 0


def eps_of(dtype: DType | None) -> float:
    """The distance from 1 to the next float; 0 for what is no float."""
    return 2.0 ** (1 - FLOATS[dtype][0]) if dtype in FLOATS else 0


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far apart tensors may lie.

    Attributes:
        relative: As a part of the largest absolute value of the source's tensor; 0 for equal bits.
        why: What it follows from.
    """

    relative: float
    why: str

    def wider(self, relative: float) -> Tolerance:
        """A tolerance of so much more, unless it is 0."""
        return replace(self, relative=self.relative + relative) if self.relative else self

    def __str__(self) -> str:
        return f"{f'{self.relative:.2g} of the largest value' if self.relative else '0, equal bits'} ({self.why})"


def tolerance_of(
    source: Operations, target: Operations, steps: Iterable[Step], specs: Mapping[Key, TensorSpec]
) -> Tolerance:
    """The tolerance for what two runs made.

    Args:
        source: What ran in the source model.
        target: What ran in the target model.
        steps: The steps that made the variables; none where there is no plan.
        specs: The specs of the source's tensors.
    """
    computed = [step for step in steps if step.ops and step.sources]
    if not computed and source.counts == target.counts:
        ran = sum(target.counts.values())
        return Tolerance(0, f"variables only moved; both ran the same {ran} operations that round")
    roundings = [_narrowest(step, specs) for step in computed]
    variance = max(source.variance, target.variance) + sum(eps**2 for eps in roundings)
    ran = max(sum(each.counts.values()) for each in (source, target))
    rounded = sum(eps > 0 for eps in roundings)
    return Tolerance(
        _FACTOR * math.sqrt(variance),
        f"roundings of {ran} operations"
        + (f" and {rounded} computed variables" if rounded else "")
        + ("" if computed else f"; not the same operations on the same shapes: {_difference(source, target)}"),
    )


def _difference(source: Operations, target: Operations) -> str:
    """The names of what only one of the two ran."""
    told = []
    for word, ours, theirs in (("source", source, target), ("target", target, source)):
        names = sorted({name for name, *_ in ours.counts - theirs.counts})
        if names:
            told.append(f"only in the {word} {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}")
    return "; ".join(told)


def _narrowest(step: Step, specs: Mapping[Key, TensorSpec]) -> float:
    """The rounding that a step does, if it does one."""
    dtypes = [specs[key].dtype for key in step.sources if key in specs]
    casts = [op.dtype for op in step.ops if isinstance(op, Cast) and op.dtype is not None]
    eps = [eps_of(PARTS.get(dtype, dtype)) for dtype in (*dtypes, *casts)]
    rounds = any(isinstance(op, Add | Average | Custom | FoldBias | FoldKernel | Gates | Scale) for op in step.ops)
    narrows = any(eps_of(PARTS.get(dtype, dtype)) > min(eps) for dtype in casts)
    return max(eps, default=0) if rounds or narrows else 0


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest difference of two tensors, NaN being equal to NaN.

    Attributes:
        absolute: As a number; infinite where only one of the two is a number.
        index: Where it is.
        relative: The largest difference as a part of the source's element.
        relative_index: Where that is.
        source: The source's value at `index`.
        target: The target's.
        allowed: What `absolute` may be.
        beyond: How many elements differ by more than is allowed.
        elements: How many there are.
    """

    absolute: float
    index: tuple[int, ...]
    relative: float
    relative_index: tuple[int, ...]
    source: Any
    target: Any
    allowed: float
    beyond: int
    elements: int

    def __str__(self) -> str:
        at = f" at {list(self.index)}" if self.index else ""
        beyond = f" by more than {self.allowed:.2g}" if self.allowed else ""
        many = f"; {self.beyond} of {self.elements} elements differ{beyond}" if self.index else ""
        return (
            f"{self.absolute:.3g}{at} ({_said(self.source)} in the source, {_said(self.target)} in the target), "
            f"relatively by {self.relative:.3g}{many}"
        )

    def to_data(self) -> dict[str, Any]:
        """For programs."""
        return {
            "largest_absolute": self.absolute if math.isfinite(self.absolute) else str(self.absolute),
            "at": self.index,
            "largest_relative": self.relative if math.isfinite(self.relative) else str(self.relative),
            "relative_at": self.relative_index,
            "allowed": self.allowed,
            "beyond": self.beyond,
            "elements": self.elements,
        }


def _said(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def difference_of(source: Array, target: Array, tolerance: Tolerance) -> Difference:
    """The largest difference of two arrays of one shape. What is not a float has to be equal."""
    import numpy as np

    kinds = source.dtype.kind + target.dtype.kind
    is_number = not set(kinds) & set("OSU")
    is_exact = not is_number or set(kinds) <= set("biu")
    if not source.size:
        return Difference(0, (), 0, (), None, None, 0, 0, 0)
    with np.errstate(all="ignore"):
        if is_number:
            kind = np.complex128 if "c" in kinds else np.float64
            ours, theirs = source.astype(kind), target.astype(kind)
            size = np.abs(ours)
            gap = np.abs(ours - theirs)
        else:
            size = gap = np.ones(source.shape)
        # Integers may be larger than float64 is exact for: they are compared as they are.
        same = source == target if is_exact else (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        gap = np.where(same, 0, np.where(np.isnan(gap), np.inf, np.maximum(gap, 1) if is_exact else gap))
        relative = np.where(gap == 0, 0, gap / size)
    allowed = 0.0 if is_exact else tolerance.relative * float(size[np.isfinite(size)].max(initial=0))
    at, relative_at = (np.unravel_index(int(np.argmax(each)), gap.shape) for each in (gap, relative))
    return Difference(
        absolute=float(gap[at]),
        index=tuple(map(int, at)),
        relative=float(relative[relative_at]),
        relative_index=tuple(map(int, relative_at)),
        source=_plain(source[at]),
        target=_plain(target[at]),
        allowed=allowed,
        beyond=int((gap > allowed).sum()),
        elements=gap.size,
    )


def _plain(value: Any) -> Any:
    """An element as Python has it: of a float that numpy does not know, as a float."""
    plain = value.item() if hasattr(value, "item") else value
    return float(plain) if type(plain).__module__ == "ml_dtypes" else plain
