"""What is left of a chain when reshapes and identities are taken out, as few moves as can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import mul
from typing import TypeAlias

from ckptmigrate.ops import (
    Add,
    Cast,
    Elementwise,
    Fill,
    Gates,
    Gather,
    Op,
    Pad,
    Part,
    Repeat,
    Resize,
    Scale,
    Shape,
    Slice,
    Specs,
    Tile,
    Transpose,
    Vocab,
    inverted_order,
)
from ckptmigrate.spec import TensorSpec


@dataclass(frozen=True, slots=True)
class Move:
    """See the values in `shape`, transpose by `perm`, and take the result as flat again."""

    shape: Shape
    perm: tuple[int, ...]

    @property
    def result_shape(self) -> Shape:
        return tuple(self.shape[axis] for axis in self.perm)

    def then(self, seen: Shape, perm: tuple[int, ...]) -> Move | None:
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

        stored = [piece for axis in inverted_order(self.perm) for piece in pieces(ends, axis)]
        wanted = [piece for axis in perm for piece in pieces(seen_ends, axis)]
        # Neighbours that stay neighbours are one axis: long runs, and no bounds that a later step must respect.
        runs: list[list[int]] = []
        for piece in wanted:
            if runs and stored.index(piece) == stored.index(runs[-1][-1]) + 1:
                runs[-1].append(piece)
            else:
                runs.append([piece])
        order = sorted(range(len(runs)), key=lambda run: stored.index(runs[run][0]))
        return Move(
            tuple(math.prod(sizes[piece] for piece in runs[run]) for run in order), inverted_order(tuple(order))
        )


_AlongAxis: TypeAlias = Part | Slice | Pad | Gather | Tile | Repeat | Resize | Vocab | Gates


@dataclass(frozen=True, slots=True)
class Along:
    """An operation along an axis, and the shape that it sees its source in."""

    op: _AlongAxis
    shape: Shape


Step: TypeAlias = Move | Along | Elementwise


def normal_form(ops: Sequence[Op], specs: Specs) -> list[Step]:
    """What is left of a chain on one source when reshapes and identities are taken out, as few moves as can be.

    What computes elements commutes with what moves and selects them, and comes after it; only what
    is filled in, or added to a part, has to come after what does not hold for it. A reshape is only another
    way to see flat values.
    """
    steps: list[Step] = []
    elementwise: list[Elementwise] = []
    constant = False
    for op in ops:
        (spec,) = specs
        specs = op.infer(specs)
        match op:
            case Fill(value):
                constant = value != "template"
            case Cast(dtype) if dtype is spec.dtype:
                pass
            case Cast() | Scale() | Add():
                elementwise.append(op)
            case Transpose() if spec.num_elements and not constant:
                _add_transpose(steps, spec, op.order(len(spec.shape)))
            case _:
                selection = _selection(op, spec, specs[0])
                if selection is None:
                    continue
                if _brings_values(selection):
                    steps += elementwise
                    elementwise = []
                    constant = False
                steps.append(Along(selection, spec.shape))
    return [*steps, *elementwise]


def _selection(op: Op, spec: TensorSpec, result: TensorSpec) -> _AlongAxis | None:
    """What an operation does along an axis; None if it leaves the values as they are."""
    match op:
        case Gather(axis, indices):
            return None if indices == tuple(range(spec.shape[axis])) else op
        case Resize(axis, size, _) if not op.grows(spec):
            return None if result == spec else Slice(axis, 0, size)
        case Part() | Slice() | Pad() | Tile() | Repeat() | Resize():
            return None if result == spec else op
        case Gates():
            return None if op.is_identity else op
        case Vocab(_, source, target):
            return None if source.sha256 == target.sha256 else op
        case _:
            return None


def _brings_values(op: _AlongAxis) -> bool:
    """Whether there are values in its result that what was computed before does not hold for."""
    return isinstance(op, Pad | Resize | Vocab) or (isinstance(op, Gates) and op.forget_bias is not None)


def _add_transpose(steps: list[Step], spec: TensorSpec, perm: tuple[int, ...]) -> None:
    last = steps[-1] if steps else None
    fused = last.then(spec.shape, perm) if isinstance(last, Move) else None
    if fused is not None:
        steps.pop()
    else:
        fused = Move((spec.num_elements,), (0,)).then(spec.shape, perm)
    if fused and len(fused.shape) > 1:  # one axis is the identity
        steps.append(fused)
