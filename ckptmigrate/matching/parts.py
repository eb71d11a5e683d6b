"""A variable that one side saves whole and the other in parts, each a tensor of its own; or both in parts.

TF1 partitioners cut a variable along one axis. Which one, and where, the shapes say.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from ckptmigrate.graph import VARIABLE_ROLE, ObjectGraph
from ckptmigrate.matching.draft import Draft, Grounds
from ckptmigrate.ops import Concat, Op, Part, Slice
from ckptmigrate.spec import Key, TensorSpec, fits


def are_cut_otherwise(source: ObjectGraph, s: int, target: ObjectGraph, t: int) -> bool:
    """Whether two nodes are variables of which one at least is in parts, and not both in the same."""
    whole = VARIABLE_ROLE in source.nodes[s].tensors, VARIABLE_ROLE in target.nodes[t].tensors
    if all(whole):
        return False
    sources, targets = source.pieces(s), target.pieces(t)
    if not sources or not targets:
        return False
    return any(whole) or [source.specs[key] for key in sources] != [target.specs[key] for key in targets]


def take_pieces(draft: Draft, sources: Sequence[Key], targets: Sequence[Key], grounds: Grounds) -> None:
    """Make the pieces of one variable of those of another, if all of them are free and their shapes fit.

    Args:
        draft: What is known.
        sources: The pieces of the source's variable in their order; one if it is whole.
        targets: The pieces of the target's variable.
        grounds: Why the two are the same variable.
    """
    is_free = not any(key in draft.used or key in draft.dropped for key in sources)
    if not sources or not targets or not is_free or any(key in draft.steps for key in targets):
        return
    old, new = (
        [graph.specs[key] for key in keys] for graph, keys in ((draft.source, sources), (draft.target, targets))
    )
    if len(old) == len(new) and all(map(fits, targets, old, new)):
        for source, target in zip(sources, targets, strict=True):
            draft.take(source, target, grounds)
        return
    axis = _axis(old, new)
    if axis is None:
        said = [f"{specs[0]}" + (f" and {len(specs) - 1} more parts" if len(specs) > 1 else "") for specs in (old, new)]
        reason = f"{grounds.evidence}, but other shapes or dtypes: {said[0]} (source), {said[1]} (target)"
        draft.source_apart.update(sources)
        draft.target_apart.update(targets)
        draft.source_reasons.update(dict.fromkeys(sources, reason))
        draft.target_reasons.update(dict.fromkeys(targets, reason))
        return
    # What is cut in two goes to both, and its slots with it.
    draft.copied.update(sources)
    draft.used.update(sources)
    cut = f"{_count(old)} (source) and {_count(new)} (target) along axis {axis}"
    for target, (needed, operations) in zip(targets, _recut(sources, old, new, axis), strict=True):
        draft.steps[target] = grounds.step(target, needed, operations, cut)


def _count(specs: Sequence[TensorSpec]) -> str:
    return f"{len(specs)} parts" if len(specs) > 1 else "whole"


def _axis(old: Sequence[TensorSpec], new: Sequence[TensorSpec]) -> int | None:
    """The axis along which both sides' pieces make up the same tensor; None if there is none."""
    specs = (*old, *new)
    if len({(spec.dtype, len(spec.shape)) for spec in specs}) > 1:
        return None
    for axis in range(len(old[0].shape)):
        others = {(*spec.shape[:axis], *spec.shape[axis + 1 :]) for spec in specs}
        if len(others) == 1 and sum(spec.shape[axis] for spec in old) == sum(spec.shape[axis] for spec in new):
            return axis
    return None


def _recut(
    sources: Sequence[Key], old: Sequence[TensorSpec], new: Sequence[TensorSpec], axis: int
) -> list[tuple[tuple[Key, ...], tuple[Op, ...]]]:
    """For each new piece, the old ones that it is made of and how."""
    sizes = tuple(spec.shape[axis] for spec in new)
    if len(sources) == 1:
        return [(tuple(sources), (Part(axis, index, sizes),)) for index in range(len(new))]
    starts = list(accumulate((spec.shape[axis] for spec in old), initial=0))
    made: list[tuple[tuple[Key, ...], tuple[Op, ...]]] = []
    for low, high in pairwise(accumulate(sizes, initial=0)):
        needed = [index for index in range(len(old)) if starts[index] < high and starts[index + 1] > low]
        first, last = (needed[0], needed[-1]) if needed else (0, 0)
        operations: list[Op] = [Concat(axis)] if first < last else []
        if (low, high) != (starts[first], starts[last + 1]):
            operations.append(Slice(axis, low - starts[first], high - starts[first]))
        made.append((tuple(sources[first : last + 1]), tuple(operations)))
    return made
