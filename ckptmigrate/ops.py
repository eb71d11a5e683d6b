"""Tensor operations as values: what they make of a spec, how they are undone, and how they run by blocks.

An operation is data. It proves shapes and dtypes without values (`infer_chain`), and says how it is
written (`to_data`). Values only flow in `compute`, which never holds a whole tensor: everything that
has values is a `Source`, asked for a region at a time, and an operation that runs is a source that
answers from regions of other sources.

The unit of a region is the box: one ``(start, stop)`` per axis. Every source can be asked for a box of
*any* shape with as many elements as its own, read in row-major order. So a reshape costs nothing: it
hands the question on. Only a transpose moves values.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import accumulate, pairwise, product
from operator import mul
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

from ckptmigrate.errors import IrreversibleError, OperationError, PathError, RuleError, raise_all
from ckptmigrate.spec import DType, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]

Specs: TypeAlias = tuple[TensorSpec, ...]
Shape: TypeAlias = tuple[int, ...]
Box: TypeAlias = tuple[tuple[int, int], ...]


class Source(Protocol):
    """A tensor whose values are read a region at a time."""

    @property
    def spec(self) -> TensorSpec:
        """The dtype and the shape of the whole tensor."""

    def read_box(self, box: Box, shape: Shape) -> Array:
        """The values in a region, with the tensor seen in another shape.

        Args:
            box: One ``(start, stop)`` per axis of `shape`; never empty.
            shape: Sizes whose product is the tensor's number of elements. The values, in row-major
                order, are taken as if they were stored in this shape.

        Returns:
            An array of the extents of `box`, of the tensor's dtype. It may be a view; it is not written to.
        """


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
        return Transpose() if self.perm is None else Transpose(_inverted(order))

    def describe(self) -> str:
        """In words, e.g. ``transpose [1, 0]``."""
        return "transpose, axes reversed" if self.perm is None else f"transpose {list(self.perm)}"


@dataclass(frozen=True, slots=True)
class Reshape:
    """Give the values another shape, in row-major order.

    Attributes:
        shape: The sizes; one may be -1 and follows from the others.
    """

    shape: tuple[int, ...]
    name: ClassVar[str] = "reshape"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if the numbers of elements differ."""
        source = _one(self, specs)
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
        return f"reshape to {list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Cast:
    """Convert every element to another dtype; a float is rounded, but no value is destroyed.

    See `compute` for what counts as destroyed. Strings, resources, variants and quantized types have
    no conversion.
    """

    dtype: DType
    name: ClassVar[str] = "cast"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if there is no conversion between the dtypes."""
        source = _one(self, specs)
        for dtype, origin in ((source.dtype, f"source {source}"), (self.dtype, "dtype")):
            if not _is_number(dtype):
                raise OperationError(
                    "no conversion between these dtypes",
                    self.describe(),
                    expected="bool, integer, float or complex on both sides",
                    got=f"{dtype.label} ({origin})",
                )
        return (TensorSpec(self.dtype, source.shape),)

    def inverse(self, specs: Specs) -> Op:
        """The cast back, if this one keeps every value. Raises IrreversibleError if it does not."""
        self.infer(specs)
        source = specs[0].dtype
        if not is_lossless(source, self.dtype):
            raise IrreversibleError(
                f"{self.dtype.label} does not hold every {source.label} value, so the source cannot be had back",
                self.describe(),
                hint="Keep the source checkpoint: it is the only way back",
            )
        return Cast(source)

    def describe(self) -> str:
        """In words, e.g. ``cast to bfloat16``."""
        return f"cast to {self.dtype.label}"


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
        rank = len(source.shape) + 1
        if not -rank <= self.axis < rank:
            raise OperationError(
                "the new axis is out of range",
                self.describe(),
                expected=f"an axis from {-rank} to {rank - 1} (source {source})",
                got=f"{self.axis} (axis)",
            )
        at = self.axis % rank
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
        if self.value != "template" and not _holds(template.dtype, self.value):
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
        return f"initial value: {_initial_to_data(self.value)}"


Op: TypeAlias = Transpose | Reshape | Cast | Squeeze | ExpandDims | Fill
"""Every operation there is. The union is closed: code that tells them apart is a ``match``."""


def infer_chain(ops: Sequence[Op], specs: Specs) -> Specs:
    """The specs that a chain of operations leads to; `specs` itself for an empty chain.

    Raises:
        OperationError: An operation does not fit what it is given.
    """
    for position, op in enumerate(ops):
        if isinstance(op, Fill) and position:
            raise OperationError(
                "an initial value replaces what comes before it",
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


def _one(op: Op, specs: Specs) -> TensorSpec:
    if len(specs) != 1:
        shown = ", ".join(map(str, specs)) or "none"
        raise OperationError("wrong number of tensors", op.describe(), expected="1", got=f"{len(specs)} ({shown})")
    return specs[0]


def _inverted(perm: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


# ---------------------------------------------------------------- dtypes

# Of each float type: bits of the significand with the hidden one; the largest value; the exponent of
# two of the least positive value.
_FLOATS = {
    DType.FLOAT64: (53, (2 - 2**-52) * 2.0**1023, -1074),
    DType.FLOAT32: (24, (2 - 2**-23) * 2.0**127, -149),
    DType.FLOAT16: (11, 65504.0, -24),
    DType.BFLOAT16: (8, (2 - 2**-7) * 2.0**127, -133),
    DType.FLOAT8_E5M2: (3, 57344.0, -16),
    DType.FLOAT8_E5M2FNUZ: (3, 57344.0, -17),
    DType.FLOAT8_E4M3FN: (4, 448.0, -9),
    DType.FLOAT8_E4M3FNUZ: (4, 240.0, -10),
    DType.FLOAT8_E4M3B11FNUZ: (4, 30.0, -13),
    DType.FLOAT4_E2M1FN: (2, 6.0, -1),
}
_PARTS = {DType.COMPLEX64: DType.FLOAT32, DType.COMPLEX128: DType.FLOAT64}


def _int_range(dtype: DType) -> tuple[int, int] | None:
    """The least and the greatest value of an integer type; None for any other type."""
    kind = dtype.name.rstrip("0123456789")
    if kind not in ("INT", "UINT"):
        return None
    bits = int(dtype.name.removeprefix(kind))
    return (0, 2**bits - 1) if kind == "UINT" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _is_number(dtype: DType) -> bool:
    return dtype is DType.BOOL or dtype in _FLOATS or dtype in _PARTS or _int_range(dtype) is not None


def is_lossless(source: DType, target: DType) -> bool:
    """Whether a cast keeps every value of `source`, so that a cast back gives it again.

    The payload of a NaN is not part of its value. False where there is no conversion.
    """
    if not (_is_number(source) and _is_number(target)):
        return False
    if source in (target, DType.BOOL):
        return True
    if target in _PARTS:
        return is_lossless(_PARTS.get(source, source), _PARTS[target])
    whole, room = _int_range(source), _int_range(target)
    if whole and room:
        return room[0] <= whole[0] and whole[1] <= room[1]
    if whole and target in _FLOATS:
        bits = whole[1].bit_length()
        return bits <= _FLOATS[target][0] and 2**bits <= _FLOATS[target][1]
    if source in _FLOATS and target in _FLOATS and "FNUZ" not in target.name:  # those have no negative zero
        (bits, top, bottom), (room_bits, room_top, room_bottom) = _FLOATS[source], _FLOATS[target]
        return bits <= room_bits and top <= room_top and bottom >= room_bottom
    return False


def _holds(dtype: DType, value: float) -> bool:
    """Whether a number can be an element, if need be rounded to the nearest float."""
    if isinstance(value, str) or not _is_finite(value):
        return False
    if dtype is DType.BOOL:
        return value in (0, 1)
    room = _int_range(dtype)
    if room:
        return value == int(value) and room[0] <= value <= room[1]
    dtype = _PARTS.get(dtype, dtype)
    return dtype in _FLOATS and abs(value) <= _FLOATS[dtype][1]


def _is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)  # isfinite raises for an int beyond float64


def _numpy_dtype(dtype: DType) -> np.dtype[Any]:
    import ml_dtypes
    import numpy as np

    name = dtype.numpy_name
    if name is None:
        return np.dtype(object)  # strings: one Python object an element
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def _widened(values: Array, dtype: DType) -> Array:
    """Values in a type that compares exactly with any Python number; the narrow ones do not."""
    if dtype in _FLOATS and dtype is not DType.FLOAT64:
        return values.astype("float32", copy=False)
    return values.astype("int8") if _int_range(dtype) and values.dtype.kind == "V" else values


def _converted(values: Array, source: DType, target: DType) -> tuple[Array, Array | None]:
    """Values cast to `target`, and where a value was destroyed (None: nowhere)."""
    import numpy as np

    with np.errstate(all="ignore"):
        real = values.real if source in _PARTS and target not in _PARTS else values
        if _int_range(source):
            real = _widened(real, source)  # ml_dtypes has no casts between its own integer types
        out = real.astype(_numpy_dtype(target))
        if is_lossless(source, target):
            return out, None
        lost = _lost(values, out, source, target)
    return out, lost if lost.any() else None


def _lost(values: Array, out: Array, source: DType, target: DType) -> Array:
    import numpy as np

    lost: Array
    if target in _PARTS:
        lost = _lost(values.real, out.real, _PARTS.get(source, source), _PARTS[target])
        return lost | _lost(values.imag, out.imag, _PARTS[source], _PARTS[target]) if source in _PARTS else lost
    if source in _PARTS:
        lost = _lost(values.real, out, _PARTS[source], target)
        lost |= values.imag != 0
        return lost
    room = (0, 1) if target is DType.BOOL else _int_range(target)
    wide = _widened(values, source)
    if room is not None:
        if source not in _FLOATS:
            lost = (wide < room[0]) | (wide > room[1])
            return lost
        # room[1] + 1 is a power of two, which a float holds; room[1] itself may be rounded up to it.
        lost = ~((wide >= room[0]) & (wide < room[1] + 1) & (wide == np.trunc(wide)))
        return lost
    if target is DType.FLOAT4_E2M1FN:  # has neither infinity nor NaN: what is too large becomes the largest
        lost = ~(np.abs(wide.astype("float64")) <= _FLOATS[target][1])
        return lost
    lost = ~np.isfinite(out)
    if lost.any():  # a value that was not finite is kept if it is still the same one
        lost &= np.isfinite(wide) | (np.isnan(wide) != np.isnan(out))
    return lost


# ---------------------------------------------------------------- normal form


@dataclass(frozen=True, slots=True)
class _Move:
    """See the values in `shape`, transpose by `perm`, and take the result as flat again."""

    shape: Shape
    perm: tuple[int, ...]

    @property
    def result_shape(self) -> Shape:
        return tuple(self.shape[axis] for axis in self.perm)

    def then(self, seen: Shape, perm: tuple[int, ...]) -> _Move | None:
        """This and, after it, a transpose of the result seen in the shape `seen`, as one; None if there is none.

        There is one if the axes of both can be cut at each other's bounds, as (2, 6) and (4, 3) can
        (both are cuts of (2, 2, 3)) and (4, 6) and (6, 4) cannot.
        """
        ends, seen_ends = (list(accumulate(shape, mul)) for shape in (self.result_shape, seen))
        bounds = sorted({1, *ends, *seen_ends})
        if any(above % below for below, above in pairwise(bounds)):
            return None
        sizes = [above // below for below, above in pairwise(bounds)]

        def pieces(ends: list[int], axis: int) -> range:
            return range(bounds.index(ends[axis - 1] if axis else 1), bounds.index(ends[axis]))

        stored = [piece for axis in _inverted(self.perm) for piece in pieces(ends, axis)]
        wanted = [piece for axis in perm for piece in pieces(seen_ends, axis)]
        # Neighbours that stay neighbours are one axis: long runs, and no bounds that a later step must respect.
        runs: list[list[int]] = []
        for piece in wanted:
            if runs and stored.index(piece) == stored.index(runs[-1][-1]) + 1:
                runs[-1].append(piece)
            else:
                runs.append([piece])
        order = sorted(range(len(runs)), key=lambda run: stored.index(runs[run][0]))
        return _Move(tuple(math.prod(sizes[piece] for piece in runs[run]) for run in order), _inverted(tuple(order)))


def _normal_form(ops: Sequence[Op], specs: Specs) -> tuple[list[_Move], list[Cast]]:
    """The transposes that are left when reshapes, casts and identities are taken out, and the casts.

    A cast works on each element and a move only on places, so they commute; a reshape is only another
    way to see flat values. Nearly always at most one move is left.
    """
    moves: list[_Move] = []
    casts: list[Cast] = []
    for op in ops:
        spec = specs[0]
        match op:
            case Cast() if op.dtype is not spec.dtype:
                casts.append(op)
            case Transpose() if spec.num_elements:
                perm = op.order(len(spec.shape))
                still = _Move((spec.num_elements,), (0,))
                fused = moves[-1].then(spec.shape, perm) if moves else None
                if fused is not None:
                    moves.pop()
                fused = fused or still.then(spec.shape, perm)
                if fused and len(fused.shape) > 1:  # one axis is the identity
                    moves.append(fused)
            case Cast() | Transpose() | Reshape() | Squeeze() | ExpandDims() | Fill():
                pass
        specs = op.infer(specs)
    return moves, casts


def simplify(ops: Sequence[Op], specs: Specs) -> tuple[Op, ...]:
    """A chain that makes the same result, bit for bit, with as few transposes as there can be, and casts last.

    It is the form that runs best, not the one that reads best: a plan keeps what the person wrote.

    Raises:
        OperationError: The chain does not fit the specs.
    """
    (result,) = infer_chain(ops, specs)
    constant = [op for op in ops if isinstance(op, Fill) and op.value != "template"]
    moves, casts = _normal_form(ops, specs)
    simple: list[Op] = [*constant]
    shape = specs[0].shape
    for move in [] if constant else moves:
        simple += [Reshape(move.shape)] if shape != move.shape else []
        simple.append(Transpose(move.perm))
        shape = move.result_shape
    simple += [Reshape(result.shape)] if shape != result.shape else []
    return (*simple, *casts)


# ---------------------------------------------------------------- running by blocks

# A transposed copy runs fastest when it fills a cache line of the result at a time (64 bytes are 16
# float32), over as many rows as make the loop's overhead small. Measured: 0.9 GB/s without, 5 GB/s with.
_STRIP_ELEMENTS = 16
_STRIP_MIN_ELEMENTS = 1024
# What an element of a string tensor is taken to weigh: its object and a short text.
_STRING_BYTES = 64


def compute(ops: Sequence[Op], sources: Sequence[Source], specs: Specs, *, block_bytes: int) -> Iterator[Array]:
    """The values that a chain of operations makes, a block at a time.

    A cast destroys a value when it is finite and becomes infinite or NaN; is infinite or NaN and becomes
    something else; does not fit the integer type or is not whole; is complex with an imaginary part and
    becomes real; or becomes bool and is neither 0 nor 1. Rounding to the nearest float is no loss.

    Args:
        ops: The chain; empty for a copy.
        sources: One source for each spec; may be left out if the chain begins with a constant `Fill`.
        specs: What the sources are, as the plan says.
        block_bytes: How many bytes a block has at most (at least one element). About three blocks are in
            memory at a time: what was read, what was moved, what was cast. Only a chain that reshapes
            across the bounds of transposed axes, such as (4, 6) to (6, 4) between two transposes, may need
            more.

    Returns:
        Flat arrays of the result's dtype. Together, in order, they are the result in row-major order.
        None for a result without elements. They may be views of the source: do not write to them.

    Raises:
        OperationError: The chain does not fit the specs, or the specs not the sources; at once. While
            reading: a cast destroys values. All the rest is then read, so as to say how many.
    """
    infer_chain(ops, specs)
    readable: Source
    match ops[0] if ops else None:
        case Fill(value) if value != "template":
            readable = _Constant(specs[0], value)
        case _:
            if tuple(source.spec for source in sources) != specs:
                raise OperationError(
                    "the source is not what the chain was made for",
                    ops[0].describe() if ops else "copy",
                    expected=", ".join(map(str, specs)),
                    got=", ".join(str(source.spec) for source in sources) or "none",
                )
            (readable,) = sources
    moves, casts = _normal_form(ops, specs)
    if isinstance(readable, _Constant):
        moves = []
    for move in moves:
        readable = _Moved(readable, move)
    shape = moves[-1].result_shape if moves else (specs[0].num_elements,)
    itemsize_bytes = max(dtype.itemsize_bytes or _STRING_BYTES for dtype in (specs[0].dtype, *(c.dtype for c in casts)))
    blocks = (readable.read_box(box, shape).reshape(-1) for box in _boxes(shape, max(1, block_bytes // itemsize_bytes)))
    return _cast_blocks(blocks, specs[0].dtype, casts) if casts else blocks


def _boxes(shape: Shape, max_elements: int) -> Iterator[Box]:
    """Boxes of at most so many elements that follow each other in row-major order and cover the shape."""
    if 0 in shape:
        return
    # The first axis of which one element's inner part fits into a box.
    cut = next(axis for axis in range(len(shape)) if math.prod(shape[axis + 1 :]) <= max_elements)
    step = max_elements // math.prod(shape[cut + 1 :])
    inner = tuple((0, size) for size in shape[cut + 1 :])
    for outer in product(*map(range, shape[:cut])):
        for start in range(0, shape[cut], step):
            yield (*((i, i + 1) for i in outer), (start, min(start + step, shape[cut])), *inner)


def _cast_blocks(blocks: Iterator[Array], dtype: DType, casts: Sequence[Cast]) -> Iterator[Array]:
    offset, lost_count, first = 0, 0, ""
    culprit = casts[-1]
    for block in blocks:
        values, source = block, dtype
        for cast in casts:
            out, lost = _converted(values, source, cast.dtype)
            if lost is not None:
                if not lost_count:
                    index = int(lost.argmax())
                    culprit, first = cast, f"the first at flat index {offset + index} ({values[index]})"
                lost_count += int(lost.sum())
                break
            values, source = out, cast.dtype
        offset += len(block)
        if not lost_count:
            yield values
    if lost_count:
        raise OperationError(
            "the cast would destroy values",
            culprit.describe(),
            expected=f"values that {culprit.dtype.label} holds",
            got=f"{lost_count} of {offset} elements that it does not, {first}",
            hint="Cast to a type that holds them, or mend the values before",
        )


@dataclass(frozen=True, slots=True)
class _Constant:
    """A tensor with the same value everywhere."""

    spec: TensorSpec
    value: float

    def read_box(self, box: Box, shape: Shape) -> Array:  # noqa: ARG002  # the same in every shape
        import numpy as np

        return np.full(_extents(box), self.value, _numpy_dtype(self.spec.dtype))


@dataclass(frozen=True, slots=True)
class _Moved:
    """A source that has been moved; its own shape is the move's result shape."""

    source: Source
    move: _Move

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.source.spec.dtype, self.move.result_shape)

    def read_box(self, box: Box, shape: Shape) -> Array:
        hull, lengths, picks = _hull(box, shape, self.move.result_shape)
        region = tuple(hull[axis] for axis in _inverted(self.move.perm))
        values = _transposed_copy(self.source.read_box(region, self.move.shape), self.move.perm).reshape(lengths)
        for axis, pick in enumerate(picks):
            values = values[(*(slice(None),) * axis, pick)]
        return values.reshape(_extents(box))


def _transposed_copy(values: Array, perm: tuple[int, ...]) -> Array:
    import numpy as np

    view = values.transpose(perm)
    if values.dtype.kind == "V":  # numpy copies its own types faster; same bytes
        return _transposed_copy(values.view(f"u{values.itemsize}"), perm).view(values.dtype)
    if perm[-1] == len(perm) - 1:
        return np.ascontiguousarray(view)
    out = np.empty(view.shape, view.dtype)
    rows = view.size // view.shape[-1]
    step = max(_STRIP_ELEMENTS, _STRIP_MIN_ELEMENTS // rows)
    for start in range(0, view.shape[-1], step):
        out[..., start : start + step] = view[..., start : start + step]
    return out


def _extents(box: Box) -> Shape:
    return tuple(stop - start for start, stop in box)


def _hull(box: Box, shape: Shape, into: Shape) -> tuple[Box, Shape, list[slice | Array]]:
    """The box of a tensor seen in the shape `into` that holds what `box` is when it is seen in `shape`.

    The axes of both fall into groups with equal products, e.g. (64, 48) and (64, 4, 12) into 64 = 64 and
    48 = 4 * 12. In each group the hull is the box around a range of flat positions, and such a box is
    itself contiguous in the group.

    Returns:
        The hull; the number of elements it has in each group; and where in those the box's values are.
    """
    import numpy as np

    ends, into_ends = (list(accumulate(sizes, mul)) for sizes in (shape, into))
    hull: list[tuple[int, int]] = []
    lengths: list[int] = []
    picks: list[slice | Array] = []
    axis = 0
    for bound in sorted({*ends} & {*into_ends} | {math.prod(shape)}):
        group = slice(axis, axis := bisect_right(ends, bound))
        positions = np.zeros((), np.int64)
        for (start, stop), size in zip(box[group], shape[group], strict=True):
            positions = np.add.outer(positions * size, np.arange(start, stop))
        flat = positions.reshape(-1)
        low, high = int(flat[0]), int(flat[-1])
        around = _box_around(low, high, into[len(hull) : bisect_right(into_ends, bound)])
        base = 0
        for (start, _), size in zip(around, into[len(hull) :], strict=False):
            base = base * size + start
        hull += around
        lengths.append(math.prod(_extents(tuple(around))))
        whole = high - low + 1 == len(flat)
        picks.append(slice(low - base, high - base + 1) if whole else flat - base)
    return tuple(hull), tuple(lengths), picks


def _box_around(low: int, high: int, sizes: Shape) -> list[tuple[int, int]]:
    """The least box that is contiguous and holds the flat positions from `low` to `high`."""
    if not sizes:
        return []
    inner = math.prod(sizes[1:])
    first, last = low // inner, high // inner
    if first != last:
        return [(first, last + 1), *((0, size) for size in sizes[1:])]
    return [(first, first + 1), *_box_around(low % inner, high % inner, sizes[1:])]


# ---------------------------------------------------------------- the external form


class _UnreadableError(ValueError):
    """An argument that is not of its type; the text is what it should be."""


def _read_int(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _UnreadableError("an integer")
    return value


def _read_ints(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or any(type(item) is not int for item in value):
        raise _UnreadableError("a list of integers")
    return tuple(value)


def _read_ints_or_none(value: object) -> tuple[int, ...] | None:
    return None if value is None else _read_ints(value)


def _read_int_or_ints(value: object) -> tuple[int, ...]:
    return (value,) if type(value) is int else _read_ints(value)


def _read_dtype(value: object) -> DType:
    if isinstance(value, str):
        try:
            return DType.from_label(value)
        except PathError:
            pass
    raise _UnreadableError(f"one of {', '.join(dtype.label for dtype in DType if _is_number(dtype))}")


def _read_initial(value: object) -> Literal["template"] | float:
    if value == "template":
        return "template"
    if value in ("zeros", "ones"):
        return 0.0 if value == "zeros" else 1.0
    if isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value):
        return value
    raise _UnreadableError("template, zeros, ones, or a finite number")


def _initial_to_data(value: Literal["template"] | float) -> str | float:
    if isinstance(value, str) or value not in (0, 1) or str(value).startswith("-"):
        return value
    return "ones" if value else "zeros"


# Of each operation: its class, and of each argument how it is read and whether it may be left out.
_FORMS: Mapping[str, tuple[Callable[..., Op], Mapping[str, tuple[Callable[[object], object], bool]]]] = {
    Transpose.name: (Transpose, {"perm": (_read_ints_or_none, True)}),
    Reshape.name: (Reshape, {"shape": (_read_ints, False)}),
    Cast.name: (Cast, {"dtype": (_read_dtype, False)}),
    Squeeze.name: (Squeeze, {"axis": (_read_int_or_ints, False)}),
    ExpandDims.name: (ExpandDims, {"axis": (_read_int, False)}),
    Fill.name: (lambda **arguments: Fill(arguments["with"]), {"with": (_read_initial, False)}),
}


def to_data(op: Op) -> dict[str, dict[str, Any]]:
    """An operation as rule files and plans write it, e.g. ``{"transpose": {"perm": [1, 0]}}``."""
    arguments: dict[str, Any]
    match op:
        case Transpose(None):
            arguments = {}
        case Transpose(perm):
            arguments = {"perm": list(perm or ())}
        case Reshape(shape):
            arguments = {"shape": list(shape)}
        case Cast(dtype):
            arguments = {"dtype": dtype.label}
        case Squeeze(axis):
            arguments = {"axis": list(axis)}
        case ExpandDims(at):
            arguments = {"axis": at}
        case Fill(value):
            arguments = {"with": _initial_to_data(value)}
    return {op.name: arguments}


def from_data(data: object, where: str) -> Op:
    """Read an operation as rule files and plans write it.

    Args:
        data: A mapping of one operation's name to a mapping of its arguments (None for no arguments).
        where: The place in the file, e.g. ``rules.yaml:3:5``, for messages.

    Raises:
        RuleError: One thing is wrong: the operation or an argument is unknown, missing, or not of its type.
        Problems: Several things are.
    """
    if not isinstance(data, Mapping) or len(data) != 1:
        raise RuleError(
            "an operation cannot be read",
            where,
            expected="one name with its arguments, such as {transpose: {perm: [1, 0]}}",
            got=repr(data),
        )
    ((name, given),) = data.items()
    if name not in _FORMS:
        raise RuleError("unknown operation", where, **_names(name, _FORMS))
    make, form = _FORMS[name]
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise RuleError(
            f"{name}: the arguments cannot be read", where, expected=f"a mapping with {_listed(form)}", got=repr(given)
        )
    problems = [
        RuleError(f"{name}: unknown argument", where, **_names(argument, form))
        for argument in given
        if argument not in form
    ]
    arguments: dict[str, object] = {}
    for argument, (read, optional) in form.items():
        if argument not in given:
            if not optional:
                problems.append(RuleError(f"{name}: missing argument", where, expected=f"`{argument}`"))
            continue
        try:
            arguments[argument] = read(given[argument])
        except _UnreadableError as error:
            value = repr(given[argument])
            problems.append(RuleError(f"{name}: `{argument}` cannot be read", where, expected=str(error), got=value))
    raise_all(f"the operation {name} cannot be read", problems)
    return make(**arguments)


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _names(name: object, known: Mapping[str, object]) -> dict[str, str]:
    near = get_close_matches(str(name), known, n=1)
    hint = f"Perhaps `{near[0]}` is meant" if near else ""
    return {"expected": f"one of {_listed(known)}", "got": f"`{name}`", "hint": hint}
