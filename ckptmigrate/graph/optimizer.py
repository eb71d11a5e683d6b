"""What each variable of an optimizer is: which kind of slot, of which model variable.

There are three generations, and Sonnet. They differ in where the link from a slot to its variable is:

==============  ==========================================  =========================================
generation      slots                                       the link
==============  ==========================================  =========================================
``legacy``      ``slot_variables`` records                  in the record
``keras-2.11``  ``_variables/N``, ``_momentums/N``, ...     full names: ``Adam/m/`` + variable's name
``keras-3``     ``_variables/N``, ``_momentums/N``, ...     the same index in ``_trainable_variables``
``sonnet``      ``m/N``, ``v/N``, ...                       full names: ``adam/m/`` + variable's name
==============  ==========================================  =========================================

Source: tensorflow/python/checkpoint/graph_view.py (``serialize_slot_variables``), tf_keras
``optimizers/optimizer.py``, Keras 3 ``src/optimizers/base_optimizer.py``, Sonnet ``src/optimizers``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ckptmigrate.graph.object_graph import ROOT, VARIABLE_ROLE

if TYPE_CHECKING:
    from ckptmigrate.graph.object_graph import ObjectGraph

Generation = Literal["legacy", "keras-2.11", "keras-3", "sonnet"]

_COUNTERS = ("iter", "_iterations", "iterations", "step")
"""The child that counts the optimizer's steps, in each generation."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A variable that an optimizer keeps for a model variable.

    Attributes:
        kind: What it holds, as the optimizer calls it: ``m``, ``momentums``, ``velocities``, ...
        node: Its own node.
        variable: The node of the model variable; None where the checkpoint does not say it for certain.
    """

    kind: str
    node: int
    variable: int | None


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
    trained = lists.get("_trainable_variables")
    if trained is not None:
        slots = tuple(
            Slot(kind, item, trained.get(index)) for kind, items in kinds.items() for index, item in items.items()
        )
        return Optimizer(number, "keras-3", slots, bookkeeping)
    if "_variables" in node.children:
        return Optimizer(number, "keras-2.11", _link_by_name(graph, kinds, internal), bookkeeping)
    return Optimizer(number, "sonnet", _link_by_name(graph, kinds, internal), bookkeeping)


def _link_by_name(graph: ObjectGraph, kinds: Mapping[str, Mapping[int, int]], internal: set[int]) -> tuple[Slot, ...]:
    """Link slots to variables by their names, where names and order leave one answer only.

    A slot's name is ``<optimizer>/<kind>/<variable>``. Where several variables have the same name (those of
    two subclassed models, or none at all: ``Variable``), the k-th slot of that name and shape belongs to
    the k-th such variable in the order in which the optimizer was built. That order is not stored; it is
    the one of the layers for Keras and alphabetical for tf.Module. A link is made if both agree.
    """
    orders = [list(_variables_in_order(graph, internal, alphabetical=flag)) for flag in (False, True)]
    links: list[Slot] = []
    for kind, items in kinds.items():
        slots = [items[index] for index in sorted(items)]
        answers = [_link_in_order(graph, slots, order) for order in orders]
        for slot in slots:
            first = answers[0].get(slot)
            agreed = first if all(answer.get(slot) == first for answer in answers) else None
            links.append(Slot(kind, slot, agreed))
    return tuple(links)


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


def _link_in_order(graph: ObjectGraph, slots: Sequence[int], variables: Sequence[int]) -> dict[int, int]:
    """The k-th slot of a name and shape to the k-th variable of them, where their numbers are equal."""
    slots_by_tail: dict[tuple[str, object], list[int]] = {}
    for slot in slots:
        _, _, tail = graph.nodes[slot].full_name.partition("/")
        _, _, tail = tail.partition("/")
        slots_by_tail.setdefault((tail, _shape(graph, slot)), []).append(slot)
    variables_by_name: dict[tuple[str, object], list[int]] = {}
    for variable in variables:
        variables_by_name.setdefault((graph.nodes[variable].full_name, _shape(graph, variable)), []).append(variable)
    links: dict[int, int] = {}
    for named, group in slots_by_tail.items():
        owners = variables_by_name.get(named, [])
        if len(owners) == len(group):
            links.update(zip(group, owners, strict=True))
    return links


def _shape(graph: ObjectGraph, number: int) -> tuple[int, ...]:
    return graph.specs[graph.nodes[number].tensors[VARIABLE_ROLE]].shape
