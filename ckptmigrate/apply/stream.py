"""Operations on tensors that need not fit in memory.

Everything that has values is a `Source`, asked for a region at a time, and an operation that runs is a
source that answers from regions of other sources. The unit of a region is the box: one ``(start, stop)``
per axis. Every source can be asked for a box of *any* shape with as many elements as its own, read in
row-major order. So a reshape costs nothing: it hands the question on. Only a transpose moves values.

A chain becomes a stack of sources in three layers: what makes one tensor of several; what says where
each element comes from (transposes, parts, paddings, ...); what computes each element from itself
(casts, scales, sums), which comes last, because it does not mind where an element is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ckptmigrate.apply.boxes import Source, read_whole
from ckptmigrate.apply.computed import Averaged, Computed
from ckptmigrate.apply.normal import Along, Move, normal_form
from ckptmigrate.apply.places import Constant, Joined, Moved, along
from ckptmigrate.dtypes import PARTS
from ckptmigrate.errors import OperationError
from ckptmigrate.ops import Add, Average, Cast, Concat, Elementwise, Fill, Op, Scale, Specs, Stack, infer_chain

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]

# What an element of a string tensor is taken to weigh: its object and a short text.
_STRING_BYTES = 64


def compute(ops: Sequence[Op], sources: Sequence[Source], specs: Specs, *, block_bytes: int) -> Iterator[Array]:
    """The values that a chain of operations makes, a block at a time.

    A cast destroys a value when it is finite and becomes infinite or NaN; is infinite or NaN and becomes
    something else; does not fit the integer type or is not whole; is complex with an imaginary part and
    becomes real; or becomes bool and is neither 0 nor 1. A scale or a sum does when it makes a finite value
    infinite or NaN, or a whole one too large for its type. Rounding to the nearest float is no loss.

    Args:
        ops: The chain; empty for a copy.
        sources: One source for each spec; may be left out if the chain begins with a constant `Fill`.
        specs: What the sources are, as the plan says.
        block_bytes: How many bytes a block has at most (at least one element). About three blocks are in
            memory at a time: what was read, what was moved, what was computed. Only a chain that reshapes
            across the bounds of transposed axes, such as (4, 6) to (6, 4) between two transposes, may need
            more.

    Returns:
        Flat arrays of the result's dtype. Together, in order, they are the result in row-major order.
        None for a result without elements. They may be views of the source: do not write to them.

    Raises:
        OperationError: The chain does not fit the specs, or the specs not the sources; at once. While
            reading: an operation destroys values. All is then read once more, so as to say how many.
    """
    infer_chain(ops, specs)
    first = ops[0] if ops else None
    constant = isinstance(first, Fill) and first.value != "template"
    if not constant and tuple(source.spec for source in sources) != specs:
        raise OperationError(
            "the source is not what the chain was made for",
            first.describe() if first else "copy",
            expected=", ".join(map(str, specs)),
            got=", ".join(str(source.spec) for source in sources) or "none",
        )
    readable: Source
    match first:
        case Fill(value) if value != "template":
            readable = Constant(specs[0], value)
        case Concat() | Stack() | Average():
            readable = _combined(first, sources)
            specs = first.infer(specs)
            ops = ops[1:]
        case _:
            (readable,) = sources
    steps = normal_form(ops, specs)
    wide_bytes = [8 << (readable.spec.dtype in PARTS)] if isinstance(readable, Averaged) else []
    dtypes = (readable.spec.dtype, *(step.dtype for step in steps if isinstance(step, Cast) and step.dtype))
    itemsize_bytes = max(*wide_bytes, *(dtype.itemsize_bytes or _STRING_BYTES for dtype in dtypes), 1)
    max_elements = max(1, block_bytes // itemsize_bytes)
    for is_elementwise, group in groupby(steps, key=lambda step: isinstance(step, Cast | Scale | Add)):
        if is_elementwise:
            readable = Computed(readable, tuple(cast("Iterator[Elementwise]", group)), max_elements)
            continue
        for step in group:
            readable = Moved(readable, step) if isinstance(step, Move) else along(readable, cast("Along", step))
    return (values.reshape(-1) for values in read_whole(readable, max_elements))


def _combined(op: Concat | Stack | Average, sources: Sequence[Source]) -> Source:
    shape = sources[0].spec.shape
    match op:
        case Concat():
            axis = op.axis % len(shape)
            return Joined(sources, shape, axis, [source.spec.shape[axis] for source in sources])
        case Stack():
            axis = op.axis % (len(shape) + 1)
            return Joined(sources, (*shape[:axis], 1, *shape[axis:]), axis, [1] * len(sources))
        case Average(weights):
            return Averaged(sources, weights or (1.0,) * len(sources))
