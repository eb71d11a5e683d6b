"""Every operation there is, and chains of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

from ckptmigrate.errors import OperationError
from ckptmigrate.ops.along import Gather, Pad, Part, Repeat, Slice, Tile
from ckptmigrate.ops.custom import Custom
from ckptmigrate.ops.elementwise import Add, Cast, Scale
from ckptmigrate.ops.filling import Fill, Resize
from ckptmigrate.ops.fitting import Specs, axis_of
from ckptmigrate.ops.folds import FoldBias, FoldKernel
from ckptmigrate.ops.gates import Gates
from ckptmigrate.ops.joins import Average, Concat, Stack
from ckptmigrate.ops.shapes import ExpandDims, Reshape, Squeeze, Transpose
from ckptmigrate.ops.vocab import Vocab
from ckptmigrate.spec import TensorSpec

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
    | Resize
    | Vocab
    | Gates
    | Scale
    | Add
    | Average
    | FoldKernel
    | FoldBias
    | Custom
)
"""Every operation there is. The union is closed: code that tells them apart is a ``match``."""


_FIRST = Fill | Concat | Stack | Average | FoldKernel | FoldBias | Custom
_KEEPING_SHAPE = Cast | Scale | Add | Gates


def infer_chain(ops: Sequence[Op], specs: Specs) -> Specs:
    """The specs that a chain of operations leads to; `specs` itself for an empty chain.

    Raises:
        OperationError: An operation does not fit what it is given, or where it stands.
    """
    for position, op in enumerate(ops):
        if isinstance(op, _FIRST) and position:
            raise OperationError(
                "an initial value replaces what comes before it"
                if isinstance(op, Fill)
                else "an operation on several sources takes them as they are",
                op.describe(),
                expected="it to be the first operation",
                got=f"it after {ops[position - 1].describe()}",
            )
        made = op.infer(specs)
        if position < len(ops) - 1 and _takes_template(op, specs):
            raise OperationError(
                "the template's values are those of the result",
                op.describe(),
                expected="it to be the last operation",
                got=f"it before {ops[position + 1].describe()}",
                hint="Put it last, or fill with something else",
            )
        specs = made
    return specs


def needs_template(ops: Sequence[Op], specs: Specs) -> bool:
    """Whether a chain that fits takes values of the target's own tensor for a part of its result."""
    return bool(ops) and _takes_template(ops[-1], infer_chain(ops[:-1], specs))


def _takes_template(op: Op, specs: Specs) -> bool:
    return isinstance(op, Resize | Vocab) and op.fill == "template" and op.grows(specs[0])


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
                _check_kept(op, "shape", (other for other in rest if not isinstance(other, _KEEPING_SHAPE)))
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
                _check_kept(op, "shape", (other for other in rest if not isinstance(other, _KEEPING_SHAPE)))
                closing = Part(axis, index, tuple(part.shape[axis_of(op, part, axis)] for part in parts))
            case Resize(axis, None, fill):
                _check_kept(op, "shape", (other for other in rest if not isinstance(other, _KEEPING_SHAPE)))
                closing = Resize(axis, wanted.shape[axis_of(op, wanted, axis)], fill)
            case Custom():
                closing = _closed_custom(op, rest, wanted)
            case Vocab(axis):
                if all(isinstance(other, _KEEPING_SHAPE) for other in rest):
                    op.check_size(op.target, wanted, axis_of(op, wanted, axis), "target")
                closing = op
            case _:
                closing = op
        specs = closing.infer(specs)
        closed.append(closing)
    return tuple(closed)


def _closed_custom(op: Custom, rest: Sequence[Op], wanted: TensorSpec) -> Custom:
    if op.shape is None:
        _check_kept(op, "shape", (other for other in rest if not isinstance(other, _KEEPING_SHAPE)))
        op = replace(op, shape=wanted.shape)
    if op.dtype is None:
        _check_kept(op, "dtype", (other for other in rest if isinstance(other, Cast)))
        op = replace(op, dtype=wanted.dtype)
    return op


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
