"""What each variable of an optimizer is: which kind of slot, of which model variable.

There are three generations, and Sonnet. They differ in where the link from a slot to its variable is:

==============  ==========================================  =========================================
generation      slots                                       the link
==============  ==========================================  =========================================
``legacy``      ``slot_variables`` records                  in the record
``keras-2.11``  ``_variables/N``, ``_momentums/N``, ...     full names: ``Adam/m/`` or ``m/`` + variable's
``keras-3``     ``_variables/N``, ``_momentums/N``, ...     the same index in ``_trainable_variables``
``sonnet``      ``m/N``, ``v/N``, ...                       full names: ``adam/m/`` + variable's name
==============  ==========================================  =========================================

Source: tensorflow/python/checkpoint/graph_view.py (``serialize_slot_variables``), tf_keras
``optimizers/optimizer.py``, Keras 3 ``src/optimizers/base_optimizer.py``, Sonnet ``src/optimizers``.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ckptmigrate.graph.object_graph import ROOT, VARIABLE_ROLE

if TYPE_CHECKING:
    from ckptmigrate.graph.object_graph import ObjectGraph

Generation = Literal["legacy", "keras-2.11", "keras-3", "sonnet"]

_COUNTERS = ("iter", "_iterations", "iterations", "step")
"""The child that counts the optimizer's steps, in each generation."""


_NameAndShape = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Slot:
    """A variable that an optimizer keeps for a model variable.

    Attributes:
        kind: What it holds, as the optimizer calls it: ``m``, ``momentums``, ``velocities``, ...
        node: Its own node.
        variable: The node of the model variable; None where the checkpoint does not say it.
        certain: Whether the checkpoint says it. If not, `variable` is what the usual order of variables says.
    """

    kind: str
    node: int
    variable: int | None
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Optimizer:
    """An optimizer's node, its generation, its slots, and its edges that only repeat what others say."""

    node: int
    generation: Generation
    slots: tuple[Slot, ...]
    bookkeeping: frozenset[str]


def read_optimizers(graph: ObjectGraph) -> tuple[Optimizer, ...]:
    """The optimizers of a graph, in the order of their nodes; none for a checkpoint without a graph."""
    if graph.kind == "name":
        return ()
    candidates = [number for number in range(len(graph.nodes)) if _looks_like_optimizer(graph, number)]
    internal: set[int] = set()
    for number in candidates:
        internal.update(child for child in graph.nodes[number].children.values() if graph.nodes[child].tensors)
        for label, items in _variable_lists(graph, number):
            if label != "_trainable_variables":
                internal.update(items.values())
    return tuple(_read_optimizer(graph, number, internal) for number in candidates)


def variables_in_order(graph: ObjectGraph) -> tuple[int, ...]:
    """The variables outside optimizers in the order in which they were made: that of the checkpoint's edges."""
    internal = {slot.node for optimizer in graph.optimizers for slot in optimizer.slots}
    return tuple(_variables_in_order(graph, internal, alphabetical=False))


def _looks_like_optimizer(graph: ObjectGraph, number: int) -> bool:
    node = graph.nodes[number]
    if node.slot_records:
        return True
    if not any(counter in node.children for counter in _COUNTERS):
        return False
    return "_variables" in node.children or any(
        _have_slot_names(graph, items.values()) for _, items in _variable_lists(graph, number)
    )


def _have_slot_names(graph: ObjectGraph, numbers: Collection[int]) -> bool:
    """Whether all full names are ``<optimizer>/<kind>/...`` with one optimizer and one kind."""
    names = [graph.nodes[number].full_name.split("/") for number in numbers]
    return all(len(name) > 2 for name in names) and len({tuple(name[:2]) for name in names}) == 1


def _variable_lists(graph: ObjectGraph, number: int) -> Iterator[tuple[str, Mapping[int, int]]]:
    """The children that are lists of variables: label, and the node at each index."""
    for label, child in graph.nodes[number].children.items():
        node = graph.nodes[child]
        if node.is_list and all(VARIABLE_ROLE in graph.nodes[item].tensors for item in node.children.values()):
            yield label, {int(index): item for index, item in node.children.items()}


def _read_optimizer(graph: ObjectGraph, number: int, internal: set[int]) -> Optimizer:
    node = graph.nodes[number]
    if node.slot_records:
        records = tuple(Slot(record.name, record.slot, record.variable) for record in node.slot_records)
        return Optimizer(number, "legacy", records, frozenset())
    lists = dict(_variable_lists(graph, number))
    named = {child for label, child in node.children.items() if label not in lists}
    kinds = {
        label.strip("_"): items
        for label, items in lists.items()
        if label not in ("_variables", "_trainable_variables") and not named.issuperset(items.values())
    }
    bookkeeping = frozenset(lists)
    listed = named.union(*(items.values() for items in kinds.values()))
    # What is in no list of a kind is still somebody's slot: Adafactor's factors, some of Muon's moments.
    others = tuple(
        Slot("_variables", item, None, certain=False)
        for item in lists.get("_variables", {}).values()
        if item not in listed
    )
    trained = lists.get("_trainable_variables")
    if trained is not None:
        slots = tuple(
            Slot(kind, item, trained.get(index)) for kind, items in kinds.items() for index, item in items.items()
        )
        return Optimizer(number, "keras-3", (*slots, *others), bookkeeping)
    if "_variables" in node.children:
        linked = _link_by_name(graph, kinds, internal, "keras-2.11")
        return Optimizer(number, "keras-2.11", (*linked, *others), bookkeeping)
    return Optimizer(number, "sonnet", _link_by_name(graph, kinds, internal, "sonnet"), bookkeeping)


def _link_by_name(
    graph: ObjectGraph, kinds: Mapping[str, Mapping[int, int]], internal: set[int], generation: Generation
) -> tuple[Slot, ...]:
    """Link slots to variables by their names, and by their order where several variables share a name.

    A slot's name ends in its variable's: ``Adam/m/dense/kernel``, or ``m/dense/kernel`` where the optimizer
    was built before its first step. Where several variables of one shape have the same name (those of two
    Sonnet layers, or none at all: ``Variable``), the k-th slot belongs to the k-th such variable in the order
    in which the optimizer was given them. That order is not stored. Usually it is that of
    ``trainable_variables``, so a link is made if each such order that fits the names of all slots says the
    same, and it is not certain.
    """
    # Sonnet's modules are tf.Modules; a Keras optimizer may train layers or a tf.Module.
    flags = (True,) if generation == "sonnet" else (False, True)
    orders = [list(_variables_in_order(graph, internal, alphabetical=flag)) for flag in flags]
    variables_of: dict[_NameAndShape, list[int]] = {}
    for variable in orders[0]:
        variables_of.setdefault(_name_and_shape(graph, variable), []).append(variable)
    links: list[Slot] = []
    for kind, items in kinds.items():
        slots = [items[index] for index in sorted(items)]
        readings = _owner_names(graph, slots, variables_of.keys())
        owners = readings[0] if len(readings) == 1 else {}
        counts = Counter(owners.values())
        answers = [answer for order in orders if (answer := _link_in_order(graph, owners, order))]
        for slot in slots:
            owner = owners.get(slot)
            if owner is not None and len(variables_of[owner]) == counts[owner] == 1:
                links.append(Slot(kind, slot, variables_of[owner][0]))
            else:
                found = {answer.get(slot) for answer in answers}
                links.append(Slot(kind, slot, found.pop() if len(found) == 1 else None, certain=False))
    return tuple(links)


def _owner_names(
    graph: ObjectGraph, slots: Sequence[int], named: Collection[_NameAndShape]
) -> list[dict[int, _NameAndShape]]:
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


def _variables_in_order(graph: ObjectGraph, internal: set[int], *, alphabetical: bool) -> Iterator[int]:
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


def _link_in_order(graph: ObjectGraph, owners: Mapping[int, _NameAndShape], variables: Iterable[int]) -> dict[int, int]:
    """The k-th slot to the k-th variable, if all slots in a row are called what the variables are; else none."""
    names = set(owners.values())
    trained = [variable for variable in variables if _name_and_shape(graph, variable) in names]
    fits = [_name_and_shape(graph, variable) for variable in trained] == list(owners.values())
    return dict(zip(owners, trained, strict=True)) if fits else {}


def _name_and_shape(graph: ObjectGraph, number: int) -> _NameAndShape:
    return graph.nodes[number].full_name, _shape(graph, number)


def _shape(graph: ObjectGraph, number: int) -> tuple[int, ...]:
    return graph.specs[graph.nodes[number].tensors[VARIABLE_ROLE]].shape
