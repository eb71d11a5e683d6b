"""Which variable a slot belongs to, where only names and orders tell.

Nothing here is stored as such: a slot's full name ends in its variable's, and where several variables share
a name, the optimizer was given them in some order.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ckptmigrate.graph.object_graph import ROOT, VARIABLE_ROLE

if TYPE_CHECKING:
    from ckptmigrate.graph.object_graph import ObjectGraph

NameAndShape = tuple[str, tuple[int, ...]]

Link = tuple[int | None, bool]
"""A slot's variable, and whether the checkpoint says so or only the usual order."""


def link_by_name(
    graph: ObjectGraph, lists: Collection[Mapping[int, int]], internal: set[int], *, alphabetical: tuple[bool, ...]
) -> dict[int, Link]:
    """Link slots to variables by their names, and by their order where several variables share a name.

    A slot's name ends in its variable's: ``Adam/m/dense/kernel``, or ``m/dense/kernel`` where the optimizer
    was built before its first step. Where several variables of one shape have the same name (those of two
    Sonnet layers, or none at all: ``Variable``), the k-th slot belongs to the k-th such variable in the order
    in which the optimizer was given them. That order is not stored. Usually it is that of
    ``trainable_variables``, so a link is made if each such order that fits the names of all slots says the
    same, and it is not certain.

    Args:
        graph: The graph.
        lists: For each kind, the slots by their index.
        internal: The nodes of optimizers' own variables.
        alphabetical: In which orders the optimizer may have been given the variables: that of the alphabet,
            that of the checkpoint's edges, or either.

    Returns:
        A link for each slot.
    """
    orders = [list(variables_in_order_but(graph, internal, alphabetical=flag)) for flag in alphabetical]
    variables_of: dict[NameAndShape, list[int]] = {}
    for variable in orders[0]:
        variables_of.setdefault(_name_and_shape(graph, variable), []).append(variable)
    links: dict[int, Link] = {}
    for items in lists:
        slots = [items[index] for index in sorted(items)]
        readings = _owner_names(graph, slots, variables_of.keys())
        owners = readings[0] if len(readings) == 1 else {}
        counts = Counter(owners.values())
        answers = [answer for order in orders if (answer := _link_in_order(graph, owners, order))]
        for slot in slots:
            owner = owners.get(slot)
            if owner is not None and len(variables_of[owner]) == counts[owner] == 1:
                links[slot] = variables_of[owner][0], True
            else:
                found = {answer.get(slot) for answer in answers}
                links[slot] = found.pop() if len(found) == 1 else None, False
    return links


def _owner_names(
    graph: ObjectGraph, slots: Sequence[int], named: Collection[NameAndShape]
) -> list[dict[int, NameAndShape]]:
    """What the variables of one kind's slots are called: what is left of their names behind one prefix of all.

    The prefixes that lead to most of the variables there are; several if as many are found behind each.
    """
    names = [graph.nodes[slot].full_name.split("/") for slot in slots]
    shared = range(1, min(map(len, names), default=0))
    readings = []
    for length in itertools.takewhile(lambda length: len({tuple(name[:length]) for name in names}) == 1, shared):
        owners = (("/".join(name[length:]), _shape(graph, slot)) for slot, name in zip(slots, names, strict=True))
        readings.append({slot: owner for slot, owner in zip(slots, owners, strict=True) if owner in named})
    most = max(map(len, readings), default=0)
    return [reading for reading in readings if len(reading) == most]


def variables_in_order(graph: ObjectGraph) -> tuple[int, ...]:
    """The variables outside optimizers in the order in which they were made: that of the checkpoint's edges."""
    internal = {slot.node for optimizer in graph.optimizers for slot in optimizer.slots}
    return tuple(variables_in_order_but(graph, internal, alphabetical=False))


def variables_in_order_but(graph: ObjectGraph, internal: set[int], *, alphabetical: bool) -> Iterator[int]:
    """Variables outside optimizers: an object's own before those of the objects it holds.

    Source: ``Layer.trainable_weights`` in tf_keras (order of creation); ``Module._flatten`` in
    tensorflow/python/module/module.py (alphabetical).
    """
    seen: set[int] = set()
    stack = [ROOT]
    while stack:
        number = stack.pop()
        if number in seen or number in internal:
            continue
        seen.add(number)
        if VARIABLE_ROLE in graph.nodes[number].tensors:
            yield number
        edges = list(graph.nodes[number].children.items())
        if alphabetical:
            edges.sort(key=lambda edge: (int(edge[0]) if edge[0].isdecimal() else -1, edge[0]))
        # Stable: within each of the two halves the order stays.
        held = sorted((child for _, child in edges), key=lambda child: VARIABLE_ROLE not in graph.nodes[child].tensors)
        stack.extend(reversed(held))


def _link_in_order(graph: ObjectGraph, owners: Mapping[int, NameAndShape], variables: Iterable[int]) -> dict[int, int]:
    """The k-th slot to the k-th variable, if all slots in a row are called what the variables are; else none."""
    names = set(owners.values())
    trained = [variable for variable in variables if _name_and_shape(graph, variable) in names]
    fits = [_name_and_shape(graph, variable) for variable in trained] == list(owners.values())
    return dict(zip(owners, trained, strict=True)) if fits else {}


def link_by_whole_name(
    graph: ObjectGraph, slots: Iterable[int], trained: Mapping[int, int]
) -> dict[int, tuple[str, int]]:
    """Keras 3's slots whose names alone tell: ``muon/dense_kernel_momentum`` of ``dense/kernel``.

    Returns:
        The kind and the variable of each slot whose name ends in the path of just one trained variable.

    Source: ``add_variable_from_reference`` in Keras 3 ``src/optimizers/base_optimizer.py``.
    """
    variables: dict[str, list[int]] = {}
    for variable in trained.values():
        variables.setdefault(graph.nodes[variable].full_name.replace("/", "_"), []).append(variable)
    found: dict[int, tuple[str, int]] = {}
    for slot in slots:
        name = graph.nodes[slot].full_name.rpartition("/")[2]
        owners = [
            (name[at + 1 :], owner)
            for at, character in enumerate(name)
            if character == "_" and at
            for owner in variables.get(name[:at], ())
        ]
        if len(owners) == 1 and _shape(graph, slot) == _shape(graph, owners[0][1]):
            found[slot] = owners[0]
    return found


def _name_and_shape(graph: ObjectGraph, number: int) -> NameAndShape:
    return graph.nodes[number].full_name, _shape(graph, number)


def _shape(graph: ObjectGraph, number: int) -> tuple[int, ...]:
    return graph.specs[graph.nodes[number].tensors[VARIABLE_ROLE]].shape
