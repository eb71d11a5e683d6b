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

from ckptmigrate.apply.boxes import Box, Shape, Source, read_whole, replaced
from ckptmigrate.apply.computed import Averaged, Computed, Means
from ckptmigrate.apply.customs import Whole
from ckptmigrate.apply.folded import Folded
from ckptmigrate.apply.normal import Along, Move, normal_form
from ckptmigrate.apply.places import Constant, Joined, Moved, Window, along
from ckptmigrate.dtypes import PARTS
from ckptmigrate.errors import OperationError
from ckptmigrate.ops import (
    Add,
    Average,
    Cast,
    Concat,
    Custom,
    Elementwise,
    Fill,
    Filling,
    FoldBias,
    FoldKernel,
    Mean,
    Op,
    Resize,
    Scale,
    Specs,
    Stack,
    Vocab,
    infer_chain,
    inverted_order,
    needs_template,
)
from ckptmigrate.spec import TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]

# What an element of a string tensor is taken to weigh: its object and a short text.
_STRING_BYTES = 64


def compute(
    ops: Sequence[Op],
    sources: Sequence[Source],
    specs: Specs,
    *,
    block_bytes: int,
    template: Source | None = None,
    box: Box | None = None,
) -> Iterator[Array]:
    """The values that a chain of operations makes, a block at a time.

    Args:
        ops: As for `made_of`.
        sources: As for `made_of`.
        specs: As for `made_of`.
        block_bytes: As for `made_of`.
        template: As for `made_of`.
        box: As for `made_of`.

    Returns:
        Flat arrays of the result's dtype. Together, in order, they are what is wanted in row-major order.
        None for a result without elements. They may be views of the source: do not write to them.

    Raises:
        OperationError: The chain does not fit the specs, or the specs not the sources; at once. While
            reading: an operation destroys values. All is then read once more, so as to say how many.
    """
    source = made_of(ops, sources, specs, block_bytes=block_bytes, template=template, box=box)
    return (values.reshape(-1) for values in read_whole(source, block_elements(ops, specs, block_bytes)))


def made_of(
    ops: Sequence[Op],
    sources: Sequence[Source],
    specs: Specs,
    *,
    block_bytes: int,
    template: Source | None = None,
    box: Box | None = None,
) -> Source:
    """The tensor that a chain of operations makes of others, to be read a region at a time.

    A cast destroys a value when it is finite and becomes infinite or NaN; is infinite or NaN and becomes
    something else; does not fit the integer type or is not whole; is complex with an imaginary part and
    becomes real; or becomes bool and is neither 0 nor 1. A scale or a sum does when it makes a finite value
    infinite or NaN, or a whole one too large for its type. Rounding to the nearest float is no loss.

    Args:
        ops: The chain; empty for a copy.
        sources: One source for each spec; may be left out if the chain begins with a constant `Fill`.
        specs: What the sources are, as the plan says.
        block_bytes: How many bytes a region has at most that is read (at least one element). About three of
            them are in memory at a time: what was read, what was moved, what was computed. Only a chain that
            reshapes across the bounds of transposed axes, such as (4, 6) to (6, 4) between two transposes,
            may need more.
        template: The target's own tensor, for a chain that `needs_template`.
        box: Which region of the result is wanted; None for all of it.

    Returns:
        What is wanted. Reading raises an OperationError if an operation destroys values. All is then read once
        more, so as to say how many.

    Raises:
        OperationError: The chain does not fit the specs, or the specs not the sources.
    """
    (result,) = infer_chain(ops, specs)
    _check_sources(ops, sources, specs, template)
    max_elements = block_elements(ops, specs, block_bytes)
    readable, ops, specs = _beginning(ops, sources, specs, max_elements)
    steps = normal_form(ops, specs)
    for is_elementwise, group in groupby(steps, key=lambda step: isinstance(step, Cast | Scale | Add)):
        if is_elementwise:
            readable = Computed(readable, tuple(cast("Iterator[Elementwise]", group)), max_elements)
            continue
        for step in group:
            if isinstance(step, Move):
                readable = Moved(readable, step)
            elif isinstance(step, Along):
                readable = along(readable, step, _filler(step, readable, template, max_elements), max_elements)
    return readable if box is None else _region(readable, result.shape, box)


def block_elements(ops: Sequence[Op], specs: Specs, block_bytes: int) -> int:
    """How many elements of a chain's result are read at a time, so that no block on the way is larger."""
    return max(1, block_bytes // _itemsize_bytes(ops, specs))


def turned(ops: Sequence[Op], specs: Specs) -> tuple[Shape, tuple[int, ...]] | None:
    """How a chain's result is turned round; None if it is not, or if that is not so simple.

    Returns:
        A shape that the result is seen in, and its axes in the order in which the source has them. A box of it is
        one of the source, too, with the axes in that order, so the result can be read by tiles.
    """
    if ops and isinstance(ops[0], Concat | Stack | Average | Custom | FoldKernel | FoldBias):
        ops, specs = ops[1:], ops[0].infer(specs)
    steps = normal_form(ops, specs)
    last = max((number for number, step in enumerate(steps) if isinstance(step, Move)), default=-1)
    if last < 0:
        return None
    move = cast("Move", steps[last])
    shape = move.result_shape
    for step in steps[last + 1 :]:
        if isinstance(step, Along):
            (result,) = step.op.infer((TensorSpec(specs[0].dtype, step.shape),))
            if step.shape != shape or len(result.shape) != len(shape):
                return None
            shape = result.shape
    return shape, inverted_order(move.perm)


def _check_sources(ops: Sequence[Op], sources: Sequence[Source], specs: Specs, template: Source | None) -> None:
    result = infer_chain(ops, specs)[0]
    if needs_template(ops, specs) and (template is None or template.spec != result):
        raise OperationError(
            "the template is not what the chain was made for",
            ops[-1].describe(),
            expected=str(result),
            got="none" if template is None else str(template.spec),
        )
    constant = bool(ops) and isinstance(ops[0], Fill) and ops[0].value != "template"
    if not constant and tuple(source.spec for source in sources) != specs:
        raise OperationError(
            "the source is not what the chain was made for",
            ops[0].describe() if ops else "copy",
            expected=", ".join(map(str, specs)),
            got=", ".join(str(source.spec) for source in sources) or "none",
        )


def _beginning(
    ops: Sequence[Op], sources: Sequence[Source], specs: Specs, max_elements: int
) -> tuple[Source, Sequence[Op], Specs]:
    """One source, and what is left to do with it."""
    match ops[0] if ops else None:
        case Fill(value) if value != "template":
            return Constant(specs[0], value), ops, specs
        case Concat() | Stack() | Average() as first:
            return _combined(first, sources), ops[1:], first.infer(specs)
        case Custom() as first:
            return Whole(first, sources), ops[1:], first.infer(specs)
        case FoldKernel() | FoldBias() as first:
            return Folded(first, sources, max_elements), ops[1:], first.infer(specs)
        case _:
            return sources[0], ops, specs


def _itemsize_bytes(ops: Sequence[Op], specs: Specs) -> int:
    """The bytes of the widest element that there is on the way."""
    widths = [spec.dtype.itemsize_bytes or _STRING_BYTES for spec in specs]
    for op in ops:
        specs = op.infer(specs)
        widths.append(specs[0].dtype.itemsize_bytes or _STRING_BYTES)
        if isinstance(op, Average | FoldKernel | FoldBias) or (
            isinstance(op, Resize | Vocab) and isinstance(op.fill, Mean)
        ):
            widths.append(8 << (specs[0].dtype in PARTS))
    return max(widths)


def _region(source: Source, shape: Shape, box: Box) -> Source:
    """A box of a tensor, seen in a shape, as a tensor of its own."""
    for axis, (start, stop) in enumerate(box):
        if (start, stop) != (0, shape[axis]):
            source = Window(source, shape, axis, start, stop)
            shape = replaced(shape, axis, stop - start)
    return source


def _filling(step: Along) -> Filling | None:
    return step.op.fill if isinstance(step.op, Resize | Vocab) else None


def _filler(step: Along, source: Source, template: Source | None, max_elements: int) -> Source | None:
    """A tensor of the result's spec with what an operation fills in; None if it fills nothing in."""
    fill = _filling(step)
    if fill is None or fill == "template":
        return template
    if isinstance(fill, Mean):
        return Means(source, step, fill, max_elements)
    (result,) = step.op.infer((TensorSpec(source.spec.dtype, step.shape),))
    return Constant(result, fill)


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
