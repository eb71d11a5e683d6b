"""What operations ask of the tensors they are given, and how they refuse them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

from ckptmigrate.errors import OperationError
from ckptmigrate.spec import TensorSpec

Specs: TypeAlias = tuple[TensorSpec, ...]
Shape: TypeAlias = tuple[int, ...]

KEEP = "Keep the source checkpoint: it is the only way back"

_SHOWN = 8
"""So many items of a list are told in words."""


class Described(Protocol):
    """What can say what it is."""

    def describe(self) -> str:
        """In words."""


def still_open(op: Described, what: str) -> OperationError:
    return OperationError("an open operation", op.describe(), expected=f"its {what}", got="none")


def only(op: Described, specs: Specs) -> TensorSpec:
    if len(specs) != 1:
        shown = ", ".join(map(str, specs)) or "none"
        raise OperationError("wrong number of tensors", op.describe(), expected="1", got=f"{len(specs)} ({shown})")
    return specs[0]


def first_of(op: Described, specs: Specs) -> TensorSpec:
    if not specs:
        raise OperationError("wrong number of tensors", op.describe(), expected="at least 1", got="0 (none)")
    return specs[0]


def check_equal(op: Described, specs: Specs) -> None:
    for spec in specs:
        if spec != specs[0]:
            raise OperationError(
                "the sources differ",
                op.describe(),
                expected=f"{specs[0]} (first source)",
                got=f"{spec} (another source)",
            )


def axis_of(op: Described, source: TensorSpec, axis: int) -> int:
    rank = len(source.shape)
    if not -rank <= axis < rank:
        raise OperationError(
            "no such axis",
            op.describe(),
            expected=f"an axis from {-rank} to {rank - 1} (source {source})" if rank else f"an axis (source {source})",
            got=f"{axis} (axis)",
        )
    return axis % rank


def new_axis_of(op: Described, source: TensorSpec, axis: int) -> int:
    rank = len(source.shape) + 1
    if not -rank <= axis < rank:
        raise OperationError(
            "the new axis is out of range",
            op.describe(),
            expected=f"an axis from {-rank} to {rank - 1} (source {source})",
            got=f"{axis} (axis)",
        )
    return axis % rank


def resized(spec: TensorSpec, axis: int, size: int) -> TensorSpec:
    return TensorSpec(spec.dtype, (*spec.shape[:axis], size, *spec.shape[axis + 1 :]))


def short(items: Sequence[float]) -> str:
    if len(items) <= _SHOWN:
        return str(list(items))
    return f"[{', '.join(map(str, items[:_SHOWN]))}, ... {len(items)} in all]"
