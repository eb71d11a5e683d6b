"""The object graph of a checkpoint: who holds which variable, under which names.

A node is a trackable object, an edge the attribute (or list index, or dict key) that leads from one to
another. **The key of a tensor is not its identity**: a variable can be reached by many walks, and a
key is only the one that was shortest when the checkpoint was written. So everything here is asked of
nodes, and a node's identity is all of its paths.

Source: tensorflow/core/protobuf/trackable_object_graph.proto and
tensorflow/python/checkpoint/graph_view.py.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ckptmigrate.errors import GraphError, raise_all
from ckptmigrate.spec import OBJECT_GRAPH_KEY, Key, Path, TensorSpec, format_path

if TYPE_CHECKING:
    import networkx as nx

    from ckptmigrate.bundle import Bundle
    from ckptmigrate.graph.optimizer import Optimizer

ROOT = 0
"""The number of the root's node. Source: trackable_object_graph.proto ("The root is node 0")."""

VARIABLE_ROLE = "VARIABLE_VALUE"
"""The attribute that holds a variable's value. Source: tensorflow/python/trackable/base.py."""


CONFIG_ROLE = "OBJECT_CONFIG_JSON"
"""The attribute that holds what a Keras object was configured with.

Source: tensorflow/python/trackable/constants.py.
"""


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """One entry of an optimizer's ``slot_variables``: node numbers, and the slot's name (``m``, ``momentum``)."""

    variable: int
    name: str
    slot: int


class Node(NamedTuple):
    """A trackable object.

    Attributes:
        children: The node each edge leads to, by the edge's label, in the order of the checkpoint.
        tensors: The key of each tensor that the object saves, by its role: ``VARIABLE_VALUE`` for a
            variable, ``table-keys`` and ``table-values`` for a lookup table, ``ITERATOR_STATE`` for a
            dataset's iterator; for an object with a registered saver, the saver's name and what follows the
            object's in the key: ``Custom.stacks:-part-0``.
        full_name: The variable's name where it has one, e.g. ``dense_1/kernel``; else empty.
        slot_records: An optimizer's legacy slot variables.
    """

    children: Mapping[str, int]
    tensors: Mapping[str, Key]
    full_name: str = ""
    slot_records: tuple[SlotRecord, ...] = ()

    @property
    def is_list(self) -> bool:
        """Whether all edges are indices: a list, a tuple, or a dict keyed by numbers."""
        return bool(self.children) and all(label.isdecimal() for label in self.children)


_NO_CHILDREN: Mapping[str, int] = {}
_NO_TENSORS: Mapping[str, Key] = {}
_NO_RECORDS: tuple[SlotRecord, ...] = ()
"""Shared: there can be a million nodes, and most have no children or no tensors."""


@dataclass(frozen=True)
class ObjectGraph:
    """The nodes of a checkpoint, the tensors they hold, and the walks between them.

    Attributes:
        nodes: The trackable objects; node 0 is the root.
        specs: Dtype and shape of every tensor but the graph itself, by key.
        kind: ``object`` for a graph that was stored; ``name`` for one made of the names of a TF1
            checkpoint, whose segments are the parts of the names.
        missing: Keys that the stored graph names and the index has not. TensorFlow opens such a checkpoint
            and fails when it restores one of them.
    """

    nodes: tuple[Node, ...]
    specs: Mapping[Key, TensorSpec]
    kind: Literal["object", "name"] = "object"
    missing: tuple[Key, ...] = ()

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> ObjectGraph:
        """The stored object graph, or the tree of names where none is stored.

        Raises:
            GraphError: The graph refers to nodes that are not there.
        """
        specs = {key: entry.spec for key, entry in bundle.entries.items() if key != OBJECT_GRAPH_KEY}
        serialized = bundle.object_graph_bytes()
        if serialized is None:
            return cls.from_names(specs)
        return cls.from_bytes(serialized, specs, where=bundle.prefix)

    @classmethod
    def from_bytes(cls, serialized: bytes, specs: Mapping[Key, TensorSpec], *, where: str) -> ObjectGraph:
        """Read a serialized ``TrackableObjectGraph`` whose tensors have these specs.

        Args:
            serialized: The message's bytes.
            specs: Dtype and shape of every tensor of the bundle but the graph, by key.
            where: The checkpoint's name, for messages.

        Raises:
            GraphError: The bytes are no such message, or it refers to nodes that are not there.
        """
        from google.protobuf.message import DecodeError

        from ckptmigrate.bundle import protos

        message: Any = protos.TrackableObjectGraph()
        try:
            message.ParseFromString(serialized)
        except DecodeError as error:
            raise GraphError(
                "unreadable object graph", where, expected="a TrackableObjectGraph message", got=str(error)
            ) from error
        if not message.nodes:
            raise GraphError("empty object graph", where, expected="a root node", got="no nodes")
        nodes, missing = _read_nodes(message, specs)
        raise_all(f"{where}: the object graph cannot be used", _strangers(nodes, where))
        return cls(nodes, specs, "object", missing)

    @classmethod
    def from_names(cls, specs: Mapping[Key, TensorSpec]) -> ObjectGraph:
        """The tree of the names of a TF1 checkpoint: ``encoder/layer_0/kernel`` is a walk of three edges."""
        children: list[dict[str, int]] = [{}]
        tensors: list[dict[str, Key]] = [{}]
        names = [""]
        for key in specs:
            number = ROOT
            for segment in key.split("/"):
                following = children[number].get(segment)
                if following is None:
                    following = children[number][segment] = len(children)
                    children.append({})
                    tensors.append({})
                    names.append("")
                number = following
            tensors[number][VARIABLE_ROLE] = key
            names[number] = key
        nodes = tuple(map(Node, children, tensors, names))
        return cls(nodes, specs, "name")

    @cached_property
    def node_of(self) -> Mapping[Key, int]:
        """The node that holds each tensor. Keys that no node holds (those of registered savers) are not in it."""
        return {key: number for number, node in enumerate(self.nodes) if node.tensors for key in node.tensors.values()}

    @cached_property
    def unowned(self) -> tuple[Key, ...]:
        """The keys that no node holds, sorted: what registered savers wrote beside the graph."""
        return tuple(sorted(self.specs.keys() - self.node_of.keys()))

    @cached_property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The optimizers of the graph and what each of their variables is."""
        from ckptmigrate.graph.optimizer import read_optimizers

        return read_optimizers(self)

    @cached_property
    def slot_nodes(self) -> frozenset[int]:
        """The nodes that are optimizer slots."""
        return frozenset(slot.node for optimizer in self.optimizers for slot in optimizer.slots)

    @cached_property
    def scalars(self) -> frozenset[int]:
        """The nodes that are no variables of a model: an optimizer's steps and rates, and the count of saves."""
        own = frozenset(number for optimizer in self.optimizers for number in optimizer.scalars.values())
        counter = self.child(ROOT, "save_counter") if self.kind == "object" else None
        return own if counter is None else own | {counter}

    @cached_property
    def slot_owner(self) -> Mapping[Key, tuple[Key, str]]:
        """For each slot whose variable is known, by its key: the variable's key, and what the slot holds of it."""
        value_of = [node.tensors.get(VARIABLE_ROLE) for node in self.nodes]
        return {
            key: (owner, slot.kind)
            for optimizer in self.optimizers
            for slot in optimizer.slots
            if slot.variable is not None
            and (key := value_of[slot.node]) is not None
            and (owner := value_of[slot.variable]) is not None
        }

    @cached_property
    def slot_at(self) -> Mapping[tuple[int, str], int]:
        """The slot of each variable, by its node and ``<kind>``: as an edge of the variable, which is how paths say it.

        Where several optimizers have one of a kind of the same variable, it is none of them.
        """
        found: dict[tuple[int, str], set[int]] = {}
        for optimizer in self.optimizers:
            for slot in optimizer.slots:
                if slot.variable is not None:
                    found.setdefault((slot.variable, f"<{slot.kind}>"), set()).add(slot.node)
        return {end: next(iter(nodes)) for end, nodes in found.items() if len(nodes) == 1}

    def pieces(self, number: int) -> tuple[Key, ...]:
        """The tensors that a variable is saved as: its own, or those of its parts below it; none if it is none.

        A TF1 partitioner makes ``w/part_0``, ``w/part_1``, ... of a variable ``w``. A `Saver` saves them as slices
        of ``w``, unless it is given them by their own names.

        Source: ``PartitionedVariable`` in tensorflow/python/ops/variables.py.
        """
        node = self.nodes[number]
        own = node.tensors.get(VARIABLE_ROLE)
        if own is not None:
            return (own,)
        if self.kind == "object" or "part_0" not in node.children:
            return ()
        parts = [node.children.get(f"part_{index}") for index in range(len(node.children))]
        keys = [None if part is None else self.nodes[part].tensors.get(VARIABLE_ROLE) for part in parts]
        return tuple(key for key in keys if key is not None) if None not in keys else ()

    def child(self, number: int, label: str) -> int | None:
        """The node that the edge leads to, if there is such an edge."""
        return self.nodes[number].children.get(label)

    def find(self, path: Path) -> int | None:
        """The node at the end of a walk from the root, if it can be walked."""
        number: int | None = ROOT
        for label in path:
            if number is None:
                return None
            number = self.child(number, label)
        return number

    def named_children(self, number: int) -> Mapping[str, int]:
        """The edges that say what a child is to its parent: all but bookkeeping.

        Bookkeeping are the flat lists that frameworks keep beside the attributes of a model
        (``optimizer/_trainable_variables/7``, a SavedModel's ``variables/3``). Their indices shift with
        every variable that is added, so they identify nothing as long as there is another way.
        """
        return self._named[number]

    @cached_property
    def _named(self) -> Sequence[Mapping[str, int]]:
        named = [node.children for node in self.nodes]
        for number, skipped in self._bookkeeping.items():
            named[number] = {label: child for label, child in named[number].items() if label not in skipped}
        return named

    @cached_property
    def _bookkeeping(self) -> Mapping[int, frozenset[str]]:
        edges: dict[int, set[str]] = {}
        for optimizer in self.optimizers:
            edges.setdefault(optimizer.node, set()).update(optimizer.bookkeeping)
        holders = [(number, node.children.values()) for number, node in enumerate(self.nodes) if node.children]
        flat = {
            number
            for number, children in holders
            if all(VARIABLE_ROLE in self.nodes[child].tensors for child in children) and self.nodes[number].is_list
        }
        held_by_name: set[int] = set()
        for number, children in holders:
            if number not in flat:
                held_by_name.update(children)
        aliases = {number for number in flat if held_by_name.issuperset(self.nodes[number].children.values())}
        for number, children in holders:
            # A SavedModel repeats a Keras object's children below its `keras_api`.
            # Source: tensorflow/python/keras/saving/saved_model/constants.py (KERAS_ATTR).
            if "keras_api" in self.nodes[number].children or not aliases.isdisjoint(children):
                edges.setdefault(number, set()).update(
                    label
                    for label, child in self.nodes[number].children.items()
                    if child in aliases or label == "keras_api"
                )
        return {number: frozenset(labels) for number, labels in edges.items()}

    @cached_property
    def _tree(self) -> _Tree:
        """The breadth-first tree along named edges."""
        parents, depths = [-1] * len(self.nodes), [-1] * len(self.nodes)
        children = [_NO_CHILDREN] * len(self.nodes)
        depths[ROOT] = 0
        queue = [ROOT]
        for number in queue:
            edges = self._named[number]
            if not edges:
                continue
            own: dict[str, int] = {}
            for label, child in edges.items():
                if depths[child] < 0:
                    depths[child] = depths[number] + 1
                    parents[child] = number
                    own[label] = child
            queue.extend(own.values())
            # Most objects have nothing but what is theirs alone.
            children[number] = edges if len(own) == len(edges) else own
        return _Tree(parents, depths, children)

    def has_named_path(self, number: int) -> bool:
        """Whether a walk along named edges leads to the node."""
        return self._tree.depths[number] >= 0

    def keys_below(self, number: int) -> Iterator[Key]:
        """The tensors at or below a node, each in one place of the breadth-first tree."""
        children = self._tree.children
        stack = [number]
        while stack:
            current = stack.pop()
            yield from self.nodes[current].tensors.values()
            stack.extend(children[current].values())

    def climbs(self, number: int, child: int) -> bool:
        """Whether an edge leads back to an object that holds this one (a ``parent`` attribute)."""
        parents, depths, _ = self._tree
        if depths[child] < 0 or depths[child] > depths[number]:
            return False
        while number >= 0 and depths[number] > depths[child]:
            number = parents[number]
        return number == child

    def tree_children(self, number: int) -> Mapping[str, int]:
        """The edges of the breadth-first tree along named edges: each node below one parent only."""
        return self._tree.children[number]

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The path that a person would say, for each node; slots have the path of their variable with theirs.

        Short before long, named edges before bookkeeping, ``layer_with_weights-N`` before ``layer-N``.
        An object that cannot be reached from the root has an empty path.
        """
        best: list[Path | None] = [None] * len(self.nodes)
        # The cheapest first; of one cost, in the order in which they were found, which is the checkpoint's: so the
        # answer is the same on every run.
        found: dict[int, list[tuple[int, Path]]] = {0: [(ROOT, ())]}
        costs = [0]
        while costs:
            cost = heapq.heappop(costs)
            for number, path in found.pop(cost):
                if best[number] is not None:
                    continue
                best[number] = path
                children = self.nodes[number].children
                skipped = self._bookkeeping.get(number, ()) if children else ()
                for label, child in children.items():
                    if best[child] is None:
                        sum_of_costs = cost + _edge_cost(label, bookkeeping=label in skipped)
                        if sum_of_costs not in found:
                            found[sum_of_costs] = []
                            heapq.heappush(costs, sum_of_costs)
                        found[sum_of_costs].append((child, (*path, label)))
        for optimizer in self.optimizers:
            for slot in optimizer.slots:
                if best[slot.node] is None and slot.variable is not None and best[slot.variable] is not None:
                    best[slot.node] = (*(best[slot.variable] or ()), f"<{slot.kind}>")
        return tuple(path or () for path in best)

    def all_paths(self, number: int, *, limit: int = 64) -> tuple[Path, ...]:
        """The walks without a repeated node that lead from the root to a node, shortest first.

        There can be exponentially many, so no more than `limit` are given. Nothing is decided by this
        list: patterns are matched on the graph itself.
        """
        parents: dict[int, list[tuple[str, int]]] = {}
        for parent, node in enumerate(self.nodes):
            for label, child in node.children.items():
                parents.setdefault(child, []).append((label, parent))
        found: list[Path] = []
        queue: deque[tuple[int, Path, frozenset[int]]] = deque([(number, (), frozenset([number]))])
        while queue and len(found) < limit:
            current, path, seen = queue.popleft()
            if current == ROOT:
                found.append(path)
                continue
            for label, parent in parents.get(current, ()):
                if parent not in seen:
                    queue.append((parent, (label, *path), seen | {parent}))
        return tuple(found)

    def say(self, number: int) -> str:
        """A node as people name it: its path as text."""
        return format_path(self.paths[number])

    def say_key(self, key: Key) -> str:
        """A tensor as people name it: the path of its node, with the role where it is not a variable's value."""
        number = self.node_of.get(key)
        if number is None:
            return key
        tensors = self.nodes[number].tensors
        if tensors.get(VARIABLE_ROLE) == key:
            return self.say(number)
        role = next(role for role, held in tensors.items() if held == key)
        return f"{self.say(number)} ({role})" if role else self.say(number)

    def to_networkx(self) -> nx.MultiDiGraph:
        """The graph for networkx: edges keyed by their label, nodes with ``tensors`` and ``full_name``.

        Slot records are edges from the optimizer to the slot, keyed ``<slot>/<name>/<variable>``.
        """
        import networkx as nx

        graph = nx.MultiDiGraph()
        for number, node in enumerate(self.nodes):
            graph.add_node(number, tensors=dict(node.tensors), full_name=node.full_name)
        for number, node in enumerate(self.nodes):
            graph.add_edges_from((number, child, label) for label, child in node.children.items())
            graph.add_edges_from(
                (number, record.slot, f"<slot>/{record.name}/{record.variable}") for record in node.slot_records
            )
        return graph


def _edge_cost(label: str, *, bookkeeping: bool) -> int:
    if bookkeeping:
        return 1_000_000
    # Keras 2 gives each layer two edges; the one with the position among all layers shifts more easily.
    return 101 if label.startswith("layer-") else 100


class _Tree(NamedTuple):
    """A tree of nodes: parent and depth of each, -1 for what it does not reach, and the edges down from it."""

    parents: Sequence[int]
    depths: Sequence[int]
    children: Sequence[Mapping[str, int]]


_NO_KEY = Key("")
"""Stands for a key that is none of a tensor's."""

_CHILDREN, _ATTRIBUTES, _SLOTS, _SAVER = 1, 2, 3, 4
"""The fields of a node. Source: trackable_object_graph.proto."""


def _read_nodes(message: Any, specs: Mapping[Key, TensorSpec]) -> tuple[tuple[Node, ...], tuple[Key, ...]]:
    """The nodes of a stored graph, and the keys that it names and the index has not."""
    # One text for each key and each label, however often it comes up.
    keys: dict[str, Key] = dict(zip(specs, specs, strict=True))
    labels: dict[str, str] = {}
    nodes: list[Node] = []
    others: list[int] = []
    for stored in message.nodes:
        children, tensors, full_name, records = _NO_CHILDREN, _NO_TENSORS, "", _NO_RECORDS
        # To ask for what is set is faster than to ask for each field.
        for descriptor, value in stored.ListFields():
            field = descriptor.number
            if field == _CHILDREN:
                children = {labels.setdefault(name := child.local_name, name): child.node_id for child in value}
            elif field == _ATTRIBUTES:
                tensors = {item.name: keys.get(item.checkpoint_key, _NO_KEY) for item in value}
                full_name = next((name for item in value if (name := item.full_name)), "")
            elif field == _SLOTS:
                records = tuple(
                    SlotRecord(slot.original_variable_node_id, slot.slot_name, slot.slot_variable_node_id)
                    for slot in value
                )
            if field == _SAVER or (field == _ATTRIBUTES and _NO_KEY in tensors.values()):
                others.append(len(nodes))
        nodes.append(Node(children, tensors, full_name, records))
    missing: list[Key] = []
    if others:
        owned = _owned_tensors(message, specs)
        for number in dict.fromkeys(others):
            tensors, unknown = _named_tensors(message.nodes[number], owned)
            nodes[number] = nodes[number]._replace(tensors=tensors)
            missing.extend(unknown)
    return tuple(nodes), tuple(missing)


def _named_tensors(stored: Any, owned: Mapping[str, Sequence[Key]]) -> tuple[dict[str, Key], list[Key]]:
    """The tensors of a node by their roles, where not all have the key that the graph names; and what is missing."""
    tensors: dict[str, Key] = {}
    missing: list[Key] = []
    for attribute in stored.attributes:
        found = owned.get(attribute.checkpoint_key)
        if found is None:
            missing.append(Key(attribute.checkpoint_key))
        else:
            tensors.update((attribute.name + key[len(attribute.checkpoint_key) :], key) for key in found)
    if stored.registered_saver.name:
        saver, said = stored.registered_saver.name, stored.registered_saver.object_name
        tensors.update((f"{saver}:{key[len(said) :]}", key) for key in owned.get(said, ()))
    return tensors, missing


def _strangers(nodes: Sequence[Node], where: str) -> Iterator[GraphError]:
    """The numbers that a graph refers to and that are those of no nodes."""
    known = range(len(nodes))

    def stranger(what: str, number: int) -> GraphError:
        return GraphError(
            f"{what} is not a node",
            where,
            expected=f"a number from 0 to {len(nodes) - 1} (the object graph has {len(nodes)} nodes)",
            got=str(number),
            hint="The checkpoint is damaged; take another copy of it",
        )

    for number, node in enumerate(nodes):
        for label, child in node.children.items():
            if child not in known:
                yield stranger(f"child `{label}` of node {number}", child)
        for record in node.slot_records:
            if record.variable not in known:
                yield stranger(f"variable of slot `{record.name}` of node {number}", record.variable)
            if record.slot not in known:
                yield stranger(f"slot `{record.name}` of node {number}", record.slot)


def _owned_tensors(message: Any, specs: Mapping[Key, TensorSpec]) -> dict[str, list[Key]]:
    """The tensors that belong to each key that the graph names, and to each object with a registered saver.

    Most keys are those of a tensor. Of the others a lookup table's is what the keys of two tensors begin with
    (``...table-keys``, ``...table-values``), an iterator's that of one (``...ITERATOR_STATE``). What a registered
    saver writes begins with its object's name. The longest beginning counts.

    Source: ``legacy_saveable_name`` in tensorflow/python/checkpoint/saveable_compat.py;
    ``register_tf_checkpoint_saver`` in tensorflow/python/saved_model/registration/registration.py.
    """
    named = {attribute.checkpoint_key for node in message.nodes for attribute in node.attributes}
    owned = {key: [Key(key)] for key in named if key in specs}
    beginnings = named - owned.keys() - {""}
    beginnings |= {node.registered_saver.object_name for node in message.nodes if node.registered_saver.name}
    if not beginnings:
        return owned
    free = sorted(specs.keys() - owned.keys())
    for beginning in sorted(beginnings, key=len, reverse=True):
        start = bisect_left(free, beginning)
        stop = start
        while stop < len(free) and free[stop].startswith(beginning):
            stop += 1
        if start < stop:
            owned.setdefault(beginning, []).extend(free[start:stop])
            del free[start:stop]
    return owned
