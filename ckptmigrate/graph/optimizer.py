"""What each variable of an optimizer is: which kind of slot, of which model variable.

There are three generations of Keras, Sonnet, and TensorFlow 1. They differ in where the link from a slot to
its variable is:

==============  ==========================================  =========================================
generation      slots                                       the link
==============  ==========================================  =========================================
``legacy``      ``slot_variables`` records                  in the record
``keras-2.11``  ``_variables/N``, ``_momentums/N``, ...     full names: ``Adam/m/`` or ``m/`` + variable's
``keras-3``     ``_variables/N``, ``_momentums/N``, ...     the same index in ``_trainable_variables``
``sonnet``      ``m/N``, ``v/N``, ...                       full names: ``adam/m/`` + variable's name
``tf1``         ``dense/kernel/Adam``, ``.../Adam_1``       the name it begins with
==============  ==========================================  =========================================

They also have other words for the same things. Here a slot's kind is one word for one meaning, so that
state can go from one generation to another: what legacy Adam calls ``v`` and Keras 3 ``_velocities`` is
``velocity``, but what RMSprop calls ``_velocities`` is ``rms``.

Source: tensorflow/python/checkpoint/graph_view.py (``serialize_slot_variables``), tf_keras
``optimizers/optimizer.py`` and ``optimizers/legacy``, Keras 3 ``src/optimizers``, Sonnet ``src/optimizers``,
tensorflow/python/training (the slots of TensorFlow 1).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from ckptmigrate.graph.object_graph import ROOT, VARIABLE_ROLE
from ckptmigrate.graph.slot_links import link_by_name, link_by_whole_name

if TYPE_CHECKING:
    from ckptmigrate.graph.object_graph import ObjectGraph

Generation = Literal["legacy", "keras-2.11", "keras-3", "sonnet", "tf1"]

_COUNTERS = ("iter", "_iterations", "iterations", "step")
"""The child that counts the optimizer's steps, in each generation."""

FAMILIES = {"adamw": "adam", "nadam": "adam", "lamb": "adam"}
"""Algorithms whose slots hold the same as another's: the moments of the gradient, not corrected for their start."""


EVERY_OPTIMIZERS = frozenset({"average", "gradient_accumulator"})
"""The kinds that any optimizer may keep; they mean the same with all."""


class Slot(NamedTuple):
    """A variable that an optimizer keeps for a model variable.

    Attributes:
        kind: What it holds: ``momentum``, ``velocity``, ``rms``, ``accumulator``, ``average``, ...; for an
            optimizer that is not known, in its own word.
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
    """An optimizer and what each of its variables is.

    Attributes:
        node: Its node.
        generation: How its state is laid out.
        slots: Its slots.
        bookkeeping: Its edges that only repeat what others say.
        algorithm: ``adam``, ``sgd``, ...; empty where the checkpoint does not say it.
        scalars: The nodes of its other variables by what they hold: ``iterations``, ``learning_rate``,
            ``u_product``, ``loss_scale``, ``good_steps``; hyperparameters under their own names, and what a
            wrapper has for itself as ``wrapper_...``.
        wrapper: The node of the ``LossScaleOptimizer`` around it, where that is an object of its own.
    """

    node: int
    generation: Generation
    slots: tuple[Slot, ...]
    bookkeeping: frozenset[str] = frozenset()
    algorithm: str = ""
    scalars: Mapping[str, int] = field(default_factory=dict)
    wrapper: int | None = None

    def read_as(self, other: Optimizer) -> Optimizer:
        """This optimizer as the other's algorithm, if its own is not known and its slots may be of that one.

        Only legacy Adam and Adamax need it: ``v`` is the mean of squares with one and a maximum with the other.
        """
        if self.algorithm or self.generation != "legacy" or other.algorithm != "adamax":
            return self
        return replace(
            self,
            slots=tuple(slot._replace(kind="norm") if slot.kind == "velocity" else slot for slot in self.slots),
        )

    def is_other_than(self, other: Optimizer) -> bool:
        """Whether both checkpoints show that the two are no one algorithm, nor two whose slots hold the same."""
        ours, theirs = self._families, other._families
        return bool(ours and theirs) and not ours & theirs

    @property
    def _families(self) -> frozenset[str]:
        """What it may be; empty where that is open."""
        if self.algorithm:
            return frozenset({self.family})
        kinds = {slot.kind for slot in self.slots} - EVERY_OPTIMIZERS
        if self.generation == "legacy" and "velocity" in kinds:
            return frozenset({"adam", "adamax"})
        return frozenset({"sgd", "lion"}) if self.generation == "keras-2.11" and kinds == {"momentum"} else frozenset()

    @property
    def family(self) -> str:
        """The algorithm, one name for those whose slots hold the same."""
        return FAMILIES.get(self.algorithm, self.algorithm)


# What legacy Keras, Keras 2.11 and 3 (without their underscores), and Sonnet call slots, where every algorithm
# means the same by the word.
_KINDS = {
    "momentums": "momentum",
    "m": "momentum",
    "velocities": "velocity",
    "adam_velocities": "velocity",
    "v": "velocity",
    "velocity_hats": "velocity_hat",
    "vhat": "velocity_hat",
    "rms": "rms",
    "ms": "rms",
    "mom": "momentum",
    "mg": "average_gradient",
    "average_gradients": "average_gradient",
    "accumulators": "accumulator",
    "linears": "linear",
    "accum_grad": "accumulated_grad",
    "accumulated_grads": "accumulated_grad",
    "accum_var": "accumulated_delta_var",
    "accumulated_delta_vars": "accumulated_delta_var",
    "model_variables_moving_average": "average",
    "accumulated_gradients": "gradient_accumulator",
    # Sonnet adds gradients up as they are, Keras after multiplying them by -learning_rate.
    "accumulated_momentum": "gradient_sum",
    "u": "norm",
    "r": "row",
    "c": "column",
}

# Of an algorithm, the words that mean something else with it.
_OWN_KINDS = {
    "rmsprop": {"velocities": "rms"},
    "adamax": {"v": "norm"},
}

_SCALARS = {
    **dict.fromkeys(_COUNTERS, "iterations"),
    "_learning_rate": "learning_rate",
    "learning_rate": "learning_rate",
    "momentum_cache": "u_product",
    "_u_product": "u_product",
    "current_loss_scale": "loss_scale",
    "dynamic_scale": "loss_scale",
    "good_steps": "good_steps",
    "step_counter": "good_steps",
}

_TF1_SLOTS = {
    "Adam": ("adam", "momentum"),
    "Adam_1": ("adam", "velocity"),
    "adam_m": ("adam", "momentum"),
    "adam_v": ("adam", "velocity"),
    "AdaMax": ("adamax", "momentum"),
    "AdaMax_1": ("adamax", "norm"),
    "Momentum": ("sgd", "gradient_sum"),
    "RMSProp": ("rmsprop", "rms"),
    "RMSProp_1": ("rmsprop", "momentum"),
    "RMSProp_2": ("rmsprop", "momentum"),
    "Adagrad": ("adagrad", "accumulator"),
    "Adadelta": ("adadelta", "accumulated_grad"),
    "Adadelta_1": ("adadelta", "accumulated_delta_var"),
    "Ftrl": ("ftrl", "accumulator"),
    "Ftrl_1": ("ftrl", "linear"),
    "ExponentialMovingAverage": ("", "average"),
}
"""The names of TensorFlow 1's slots behind their variable's: algorithm, and what they hold.

Source: tensorflow/python/training/slot_creator.py, and ``_create_slots`` of each optimizer there; ``adam_m``
and ``adam_v`` are those of BERT's ``AdamWeightDecayOptimizer``.
"""

_TF1_SCALARS = {"global_step": "iterations", "beta1_power": "beta1_power", "beta2_power": "beta2_power"}


def read_optimizers(graph: ObjectGraph) -> tuple[Optimizer, ...]:
    """The optimizers of a graph, in the order of their nodes."""
    if graph.kind == "name":
        return _read_names(graph)
    candidates = [number for number, node in enumerate(graph.nodes) if node.children or node.slot_records]
    candidates = [number for number in candidates if _looks_like_optimizer(graph, number)]
    lists_of = {number: dict(_variable_lists(graph, number)) for number in candidates}
    internal: set[int] = set()
    for number in candidates:
        internal.update(child for child in graph.nodes[number].children.values() if graph.nodes[child].tensors)
        for label, items in lists_of[number].items():
            if label != "_trainable_variables":
                internal.update(items.values())
    wrappers = {
        inner: number
        for number in candidates
        if (inner := graph.child(number, "inner_optimizer")) is not None and inner in candidates
    }
    return tuple(_read_optimizer(graph, number, lists, internal, wrappers) for number, lists in lists_of.items())


def _looks_like_optimizer(graph: ObjectGraph, number: int) -> bool:
    node = graph.nodes[number]
    if node.slot_records:
        return True
    if node.children.keys().isdisjoint(_COUNTERS):
        return False
    # Legacy Keras makes slots in the first step only, and plain SGD none at all.
    if {"iter", "decay"} <= node.children.keys():
        return True
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


def _read_optimizer(
    graph: ObjectGraph,
    number: int,
    lists: Mapping[str, Mapping[int, int]],
    internal: set[int],
    wrappers: Mapping[int, int],
) -> Optimizer:
    node = graph.nodes[number]
    scalars = _scalars(graph, number)
    if node.slot_records or "iter" in node.children:
        algorithm = _legacy_algorithm(graph, number)
        words = {record.name: _kind(record.name, algorithm) for record in node.slot_records}
        records = tuple(Slot(words[record.name], record.slot, record.variable) for record in node.slot_records)
        return Optimizer(number, "legacy", records, frozenset(), algorithm, scalars)
    named = {child for label, child in node.children.items() if label not in lists}
    kinds = {
        label: items
        for label, items in lists.items()
        if label not in ("_variables", "_trainable_variables") and not named.issuperset(items.values())
    }
    bookkeeping = frozenset(lists)
    order = [item for _, item in sorted(lists.get("_variables", {}).items())]
    algorithm = _algorithm(graph, number, kinds, order)
    listed = named.union(*(items.values() for items in kinds.values()))
    others = [item for item in order if item not in listed]
    trained = lists.get("_trainable_variables")
    if trained is not None:
        slots = [
            Slot(kind, item, trained.get(index))
            for kind, items in ((_kind(label, algorithm), items) for label, items in kinds.items())
            for index, item in items.items()
        ]
        slots += _unlisted(graph, others, trained)
        wrapper = wrappers.get(number)
        if wrapper is not None:
            outer = _scalars(graph, wrapper)
            own = {
                role if role in ("loss_scale", "good_steps") else f"wrapper_{role}": at for role, at in outer.items()
            }
            scalars = {**scalars, **own}
        if number in wrappers.values():
            scalars = {}
        return Optimizer(number, "keras-3", tuple(slots), bookkeeping, algorithm, scalars, wrapper)
    generation: Generation = "keras-2.11" if "_variables" in node.children else "sonnet"
    # Sonnet's modules are tf.Modules; a Keras optimizer may train layers or a tf.Module.
    orders = (True,) if generation == "sonnet" else (False, True)
    links = link_by_name(graph, tuple(kinds.values()), internal, alphabetical=orders)
    slots = [
        Slot(_kind(label, algorithm), item, *_same_index(links, kinds, index, item))
        for label, items in kinds.items()
        for index, item in items.items()
    ]
    slots += [Slot("_variables", item, None, certain=False) for item in others]
    return Optimizer(number, generation, tuple(slots), bookkeeping, algorithm, scalars)


def _same_index(
    links: Mapping[int, tuple[int | None, bool]], kinds: Mapping[str, Mapping[int, int]], index: int, item: int
) -> tuple[int | None, bool]:
    """A slot's link; that of the slots with its index if its own name and shape tell nothing, as Adafactor's.

    Source: ``build`` of every optimizer in tf_keras ``optimizers`` appends to its lists variable by variable.
    """
    if links[item][0] is not None:
        return links[item]
    length = max(map(len, kinds.values()))
    beside = {
        links[items[index]]
        for items in kinds.values()
        if len(items) == length and index in items and links[items[index]][0] is not None
    }
    return beside.pop() if len(beside) == 1 else links[item]


def _unlisted(graph: ObjectGraph, slots: Sequence[int], trained: Mapping[int, int]) -> Iterator[Slot]:
    """Slots of Keras 3 that are in no list of their kind, because that list holds None for some variables.

    Muon's are told by their names. Adafactor makes three for each variable in turn: row, column, velocity; the
    first two are called as the variable alone, so that they are told by their places and shapes.
    """
    variables = [variable for _, variable in sorted(trained.items())]

    def shape(number: int) -> tuple[int, ...]:
        return graph.specs[graph.nodes[number].tensors[VARIABLE_ROLE]].shape

    def factors(variable: int) -> list[tuple[int, ...]]:
        whole = shape(variable)
        return [whole[:-1], (*whole[:-2], whole[-1]), whole] if len(whole) > 1 else [(), (), whole]

    if slots and [shape(slot) for slot in slots] == [each for variable in variables for each in factors(variable)]:
        for at, slot in enumerate(slots):
            yield Slot(("row", "column", "velocity")[at % 3], slot, variables[at // 3])
        return
    told = link_by_whole_name(graph, slots, trained)
    for slot in slots:
        if slot in told:
            yield Slot(told[slot][0], slot, told[slot][1])
        else:
            yield Slot("_variables", slot, None, certain=False)


def _kind(word: str, algorithm: str) -> str:
    word = word.strip("_")
    return _OWN_KINDS.get(algorithm, {}).get(word) or _KINDS.get(word, word)


def _scalars(graph: ObjectGraph, number: int) -> dict[str, int]:
    """An optimizer's own variables that belong to no model variable, by what they hold."""
    held = dict(graph.nodes[number].children)
    loss_scale = graph.child(number, "loss_scale")
    if loss_scale is not None:
        held |= graph.nodes[loss_scale].children
    return {
        _SCALARS.get(label, label): child
        for label, child in held.items()
        if VARIABLE_ROLE in graph.nodes[child].tensors
    }


def _legacy_algorithm(graph: ObjectGraph, number: int) -> str:
    node = graph.nodes[number]
    words = {record.name for record in node.slot_records} - {"average"}
    own = node.children.keys()
    if "m" in words and not {"vhat", "momentum_cache"} & {*words, *own}:
        # Adam and Adamax have the same slots and hyperparameters: only the name tells them apart.
        return _told_by_name(graph, node.children.get("iter"), ("adamax", "adam", "lamb"))
    for mark, algorithm in (
        ("vhat", "adam"),
        ("m", "nadam"),
        ("rms", "rmsprop"),
        ("linear", "ftrl"),
        ("accumulator", "adagrad"),
        ("accum_grad", "adadelta"),
        ("momentum", "sgd"),
    ):
        if mark in words:
            return algorithm
    return "" if words else _told_by_name(graph, node.children.get("iter"), ("sgd",))


def _told_by_name(graph: ObjectGraph, number: int | None, known: Sequence[str]) -> str:
    """The algorithm that a variable's name begins with, if its optimizer has the name it has by itself."""
    name = graph.nodes[number].full_name.partition("/")[0].lower() if number is not None else ""
    return next((algorithm for algorithm in known if name.rstrip("_0123456789") == algorithm), "")


def _algorithm(graph: ObjectGraph, number: int, kinds: Mapping[str, Mapping[int, int]], order: list[int]) -> str:
    """The algorithm of an optimizer with lists, by which lists it has and in which order it made its variables."""
    children = graph.nodes[number].children
    labels = {label.strip("_") for label in children}
    if "dynamic_scale" in labels and "inner_optimizer" in labels:
        return "loss-scale"
    for marks, algorithm in (
        ({"m", "u"}, "adamax"),
        ({"linears"}, "ftrl"),
        ({"accumulators"}, "adagrad"),
        ({"accumulated_grads"}, "adadelta"),
        ({"r", "c", "v"}, "adafactor"),
        ({"u_product"}, "nadam"),
        ({"adam_velocities"}, "muon"),
        ({"ms"}, "rmsprop"),
        ({"m", "v"}, "adam"),
        ({"accumulated_momentum"}, "sgd"),
    ):
        if marks <= labels:
            return algorithm
    if "_velocities" in kinds:
        first = {label: order.index(items[0]) for label, items in kinds.items() if items.get(0) in order}
        # RMSprop makes the mean of squares first, Adam the mean of gradients.
        return "adam" if first.get("_momentums", len(order)) < first.get("_velocities", -1) else "rmsprop"
    if "momentums" in labels:
        # SGD and Lion: Keras 3 has an underscore before Lion's list.
        item = next(iter(kinds.get("momentums", {}).values()), None)
        if "_momentums" in children:
            return "lion"
        return _told_by_name(graph, item, ("sgd", "lion")) or ("sgd" if "_trainable_variables" in children else "")
    return ""


# TensorFlow 1.


def _read_names(graph: ObjectGraph) -> tuple[Optimizer, ...]:
    """The optimizer of a TensorFlow 1 checkpoint, in which a slot is called as its variable and its optimizer."""
    slots: list[Slot] = []
    algorithms: set[str] = set()
    for number, node in enumerate(graph.nodes):
        own = node.tensors.get(VARIABLE_ROLE)
        if own is None:
            continue
        for label, child in node.children.items():
            key = graph.nodes[child].tensors.get(VARIABLE_ROLE)
            if label not in _TF1_SLOTS or key is None or graph.specs[key].shape != graph.specs[own].shape:
                continue
            algorithm, kind = _TF1_SLOTS[label]
            if label == "RMSProp_1" and "RMSProp_2" in node.children:
                kind = "average_gradient"
            slots.append(Slot(kind, child, number))
            algorithms.add(algorithm)
    if not slots:
        return ()
    algorithms.discard("")
    scalars = {_TF1_SCALARS[label]: number for label, number in _last_segments(graph) if label in _TF1_SCALARS}
    return (
        Optimizer(ROOT, "tf1", tuple(slots), frozenset(), algorithms.pop() if len(algorithms) == 1 else "", scalars),
    )


def _last_segments(graph: ObjectGraph) -> Iterator[tuple[str, int]]:
    """The last part of each scalar's name; an optimizer's scalars may be in a scope of its own."""
    for number, node in enumerate(graph.nodes):
        key = node.tensors.get(VARIABLE_ROLE)
        if key is not None and not graph.specs[key].shape:
            yield node.full_name.rpartition("/")[2], number
