"""What a restore would do: TensorFlow's own rule, followed on two object graphs. Nothing is read or restored."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from ckptmigrate.graph import CONFIG_ROLE, ROOT, VARIABLE_ROLE, ObjectGraph
from ckptmigrate.spec import Key, fits

Call = Literal["restore", "read"]
"""The methods of a ``tf.train.Checkpoint`` that restore what ``save`` and what ``write`` wrote."""

LADDER = ("assert_nontrivial_match", "assert_existing_objects_matched", "assert_consumed")
"""TensorFlow's assertions on what ``restore`` returns, from weak to strong."""

_INDEX = re.compile(r"(layer(_with_weights)?-)?\d+")
"""Edges that are positions: of lists, and of the layers of a functional model of Keras 2."""


@dataclass(frozen=True)
class Restoration:
    """What of a checkpoint a restore into a model would put where.

    Attributes:
        source: The checkpoint's graph.
        target: The model's graph.
        bound: The node of the target that each node of the source is restored into.
        restored: The target's tensors that get a value of their dtype and shape, with the source's.
        misfits: Those whose value has another dtype or shape.
        missing: The target's tensors that get none.
        unused: The source's tensors that go nowhere.
        doubled: What two tensors of the source are restored into: both, and the target's. One of them is lost.
        crossed: Slots that are restored into the slot of another variable than theirs, because lists of an optimizer
            are in another order: the target's, and the source's.
    """

    source: ObjectGraph
    target: ObjectGraph
    bound: Mapping[int, int]
    restored: Mapping[Key, Key]
    misfits: Mapping[Key, Key]
    missing: tuple[Key, ...]
    unused: tuple[Key, ...]
    doubled: tuple[tuple[Key, Key, Key], ...]
    crossed: Mapping[Key, Key]

    @property
    def is_whole(self) -> bool:
        """Whether everything on both sides finds its place."""
        wrong = self.misfits or self.missing or self.unused or self.doubled or self.crossed or self.astray
        return not wrong

    @property
    def is_unbuilt(self) -> bool:
        """Whether the checkpoint has weights and the target nothing but steps and rates: then nothing is proven."""
        source, target = self.source, self.target
        own = source.slot_nodes | source.scalars
        has_weights = any(
            VARIABLE_ROLE in node.tensors and number not in own and number != source.child(ROOT, "save_counter")
            for number, node in enumerate(source.nodes)
        )
        state = [key for key in target.specs if _is_state(target, key)]
        return has_weights and all(target.node_of.get(key) in target.scalars for key in state)

    @cached_property
    def by_name(self) -> frozenset[tuple[int, int]]:
        """The source's and the target's objects that one walk along named edges leads to.

        In a list that has another length now, an index says nothing.
        """
        pairs = {(ROOT, ROOT)}
        stack = [(ROOT, ROOT)]
        while stack:
            number, twin = stack.pop()
            ours, theirs = self.source.named_children(number), self.target.named_children(twin)
            is_same_length = ours.keys() == theirs.keys() or _length(ours) == _length(theirs)
            for label in ours.keys() & theirs.keys():
                pair = ours[label], theirs[label]
                if pair not in pairs and (is_same_length or not _INDEX.fullmatch(label)):
                    pairs.add(pair)
                    stack.append(pair)
        return frozenset(pairs)

    @cached_property
    def astray(self) -> Mapping[Key, Key]:
        """The variables that are restored from another than the one that their own path leads to, with that.

        The lists that an optimizer keeps (``_trainable_variables/3``) are the shortest walk to a variable, so that
        TensorFlow goes by them and not by the names of attributes. No assertion sees it. Where the variable's own
        name agrees with the list, it is the path that changed.
        """
        reached = {twin for _, twin in self.by_name}
        ours, theirs = _names(self.source), _names(self.target)
        return {
            into: key
            for into, key in self._by_position()
            if (twin := self.target.node_of[into]) in reached
            and not (twin in theirs and ours.get(self.source.node_of[key]) == theirs[twin])
        }

    @cached_property
    def positional(self) -> Mapping[Key, Key]:
        """The variables that nothing but a position leads to, and that no path contradicts: they may be right."""
        return {into: key for into, key in self._by_position() if into not in self.astray}

    def _by_position(self) -> Iterator[tuple[Key, Key]]:
        """The variables that get a value though no walk that a person would say leads to both."""
        source, target = self.source, self.target
        if "name" in (source.kind, target.kind):
            return
        own = source.slot_nodes | source.scalars
        for into, key in self.restored.items():
            number, twin = source.node_of[key], target.node_of[into]
            if number in own or source.nodes[number].tensors.get(VARIABLE_ROLE) != key:
                continue
            if target.find(source.paths[number]) == twin or source.find(target.paths[twin]) == number:
                continue
            if (number, twin) not in self.by_name:
                yield into, key


def _length(edges: Iterable[str]) -> int:
    return sum(1 for label in edges if _INDEX.fullmatch(label))


def _names(graph: ObjectGraph) -> dict[int, str]:
    """The full names of variables that no other has."""
    counted = Counter(node.full_name for node in graph.nodes)
    return {number: node.full_name for number, node in enumerate(graph.nodes) if counted[node.full_name] == 1}


def find_restored(source: ObjectGraph, target: ObjectGraph) -> Restoration:
    """Follow TensorFlow's rule from a checkpoint's graph to a model's.

    Breadth first from the root, an object of the checkpoint is restored into the object that the edge of the same
    label leads to; the first walk that comes to it decides. A slot goes where its optimizer and its variable have
    gone. A checkpoint of names is restored by the full names of variables.

    Source: ``CheckpointPosition._restore_descendants`` and ``bind_object`` in tensorflow/python/checkpoint/restore.py;
    ``TrackableSaver.restore`` in tensorflow/python/checkpoint/checkpoint.py.
    """
    bound = _bind_names(source, target) if source.kind == "name" != target.kind else _bind_objects(source, target)
    restored: dict[Key, Key] = {}
    misfits: dict[Key, Key] = {}
    doubled: list[tuple[Key, Key, Key]] = []
    for number, twin in bound.items():
        for role, key in source.nodes[number].tensors.items():
            into = target.nodes[twin].tensors.get(role)
            if into is None:
                continue
            if into in restored:
                doubled.append((restored[into], key, into))
            (restored if fits(into, source.specs[key], target.specs[into]) else misfits)[into] = key
    placed = {*restored.values(), *misfits.values(), *(key for key, _, _ in doubled)}
    return Restoration(
        source,
        target,
        bound,
        restored,
        misfits,
        tuple(key for key in target.specs if key not in restored and key not in misfits and _is_state(target, key)),
        tuple(key for key in source.specs if key not in placed and _is_state(source, key)),
        tuple(doubled),
        dict(_find_crossed(source, target, bound, restored)),
    )


def _find_crossed(
    source: ObjectGraph, target: ObjectGraph, bound: Mapping[int, int], restored: Mapping[Key, Key]
) -> Iterator[tuple[Key, Key]]:
    for into, key in restored.items():
        ours, theirs = source.slot_owner.get(key), target.slot_owner.get(into)
        if ours is None or theirs is None:
            continue
        variable = bound.get(source.node_of[ours[0]])
        if variable is not None and (variable, ours[1]) != (target.node_of[theirs[0]], theirs[1]):
            yield into, key


def _is_state(graph: ObjectGraph, key: Key) -> bool:
    """Whether a tensor is something to restore.

    The counter of saves is not: `save` has it, `write` has not, and either may be restored. Nor is what a Keras object
    was configured with.
    """
    number = graph.node_of.get(key)
    if number is None or graph.kind == "name":
        return True
    return number != graph.child(ROOT, "save_counter") and graph.nodes[number].tensors.get(CONFIG_ROLE) != key


def bind_from(source: ObjectGraph, target: ObjectGraph, start: int, into: int) -> dict[int, int]:
    """What goes where if an object of the source is restored into one of the target, by edges alone.

    Args:
        source: The checkpoint's graph.
        target: The model's graph.
        start: An object of the source.
        into: The object of the target that it is restored into.
    """
    bound = {start: into}
    queue = deque([start])
    while queue:
        number = queue.popleft()
        twins = target.nodes[bound[number]].children
        for label, child in source.nodes[number].children.items():
            twin = twins.get(label)
            if twin is not None and child not in bound:
                bound[child] = twin
                queue.append(child)
    return bound


def _bind_objects(source: ObjectGraph, target: ObjectGraph) -> dict[int, int]:
    bound = bind_from(source, target, ROOT, ROOT)
    bound.update(_bind_slots(source, target, bound))
    return bound


def _bind_slots(source: ObjectGraph, target: ObjectGraph, bound: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    slots = {
        (number, record.variable, record.name): record.slot
        for number, node in enumerate(target.nodes)
        for record in node.slot_records
    }
    for number, node in enumerate(source.nodes):
        for record in node.slot_records:
            twin = slots.get((bound.get(number, -1), bound.get(record.variable, -1), record.name))
            if twin is not None:
                yield record.slot, twin


def _bind_names(source: ObjectGraph, target: ObjectGraph) -> dict[int, int]:
    named = {node.full_name: number for number, node in enumerate(target.nodes) if node.full_name}
    return {
        number: named[node.full_name]
        for number, node in enumerate(source.nodes)
        if node.tensors and node.full_name in named
    }
