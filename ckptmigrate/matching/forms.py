"""What an item of a list may have become: itself with its kernels transposed, or with another size on one axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise

from ckptmigrate.graph import ObjectGraph
from ckptmigrate.spec import TensorSpec

Shape = tuple[int, ...]

_MOST = 64
"""So many items of one build are compared with each other; of more, each may have become any."""


def with_changed_forms(
    ends: Sequence[tuple[ObjectGraph, Sequence[int]]], looks: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Number the items of two lists anew, so that what may have become each other has one number.

    Args:
        ends: For each side its graph, and the nodes of its items.
        looks: For each side a number for what each item is; equal numbers mean equal structure and shapes.
    """
    examples: dict[int, tuple[ObjectGraph, int]] = {}
    for (graph, items), numbers in zip(ends, looks, strict=True):
        for item, number in zip(items, numbers, strict=True):
            examples.setdefault(number, (graph, item))
    first = {number: number for number in examples}
    for one, other in _changed(examples):
        # Few are of one build, so to go through all of them is no matter.
        first = {number: first[other] if known == first[one] else known for number, known in first.items()}
    return [[first[number] for number in numbers] for numbers in looks]


def _changed(examples: Mapping[int, tuple[ObjectGraph, int]]) -> Iterator[tuple[int, int]]:
    """The numbers of items that may have become each other."""
    builds: dict[object, list[tuple[int, tuple[Shape, ...]]]] = {}
    for number, (graph, item) in examples.items():
        tensors = list(_tensors(graph, item))
        build = tuple((path, role, spec.dtype) for path, role, spec in tensors)
        if tensors:
            builds.setdefault(build, []).append((number, tuple(spec.shape for _, _, spec in tensors)))
    for several in builds.values():
        pairs = pairwise(several) if len(several) > _MOST else combinations(several, 2)
        for (one, shapes), (other, others) in pairs:
            # Vectors alone have nothing that stayed as it was.
            if len(several) > _MOST or (all(map(may_become, shapes, others)) and max(map(len, shapes)) > 1):
                yield one, other


def may_become(one: Shape, other: Shape) -> bool:
    """Whether a shape may be another's after a change that people make: transposed, or of another size on one axis."""
    if one == other or one == other[::-1]:
        return True
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1


def _tensors(graph: ObjectGraph, item: int) -> Iterator[tuple[tuple[str, ...], str, TensorSpec]]:
    """What is below an item: the walk to each tensor, what it is to its object, and its spec; slots apart."""
    stack: list[tuple[tuple[str, ...], int]] = [((), item)]
    while stack:
        path, number = stack.pop()
        for role, key in graph.nodes[number].tensors.items():
            yield path, role, graph.specs[key]
        stack.extend(
            ((*path, label), child)
            for label, child in graph.tree_children(number).items()
            if child not in graph.slot_nodes
        )
