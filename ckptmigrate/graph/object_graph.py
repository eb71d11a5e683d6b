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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ckptmigrate.errors import CkptMigrateError, GraphError, raise_all
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


@dataclass(frozen=True, slots=True)
class Node:
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
        problems: list[CkptMigrateError] = []
        count = len(message.nodes)
        if not count:
            problems.append(GraphError("empty object graph", where, expected="a root node", got="no nodes"))

        def known(number: int, what: str) -> bool:
            if 0 <= number < count:
                return True
            problems.append(
                GraphError(
                    f"{what} is not a node",
                    where,
                    expected=f"a number from 0 to {count - 1} (the object graph has {count} nodes)",
                    got=str(number),
                    hint="The checkpoint is damaged; take another copy of it",
                )
            )
            return False

        nodes = []
        owned = _owned_tensors(message, specs)
        missing: list[Key] = []
        for number, stored in enumerate(message.nodes):
            children = {
                child.local_name: child.node_id
                for child in stored.children
                if known(child.node_id, f"child `{child.local_name}` of node {number}")
            }
            tensors: dict[str, Key] = {}
            full_name = ""
            for attribute in stored.attributes:
                full_name = full_name or attribute.full_name
                found = owned.get(attribute.checkpoint_key)
                if found is None:
                    missing.append(Key(attribute.checkpoint_key))
                else:
                    tensors.update((attribute.name + key[len(attribute.checkpoint_key) :], key) for key in found)
            if stored.registered_saver.name:
                saver, said = stored.registered_saver.name, stored.registered_saver.object_name
                tensors.update((f"{saver}:{key[len(said) :]}", key) for key in owned.get(said, ()))
            records = tuple(
                SlotRecord(slot.original_variable_node_id, slot.slot_name, slot.slot_variable_node_id)
                for slot in stored.slot_variables
                if known(slot.original_variable_node_id, f"variable of slot `{slot.slot_name}` of node {number}")
                and known(slot.slot_variable_node_id, f"slot `{slot.slot_name}` of node {number}")
            )
            nodes.append(Node(children, tensors, full_name, records))
        raise_all(f"{where}: the object graph cannot be used", problems)
        return cls(tuple(nodes), specs, "object", tuple(missing))

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
        return {key: number for number, node in enumerate(self.nodes) for key in node.tensors.values()}

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

    def named_children(self, number: int) -> Iterator[tuple[str, int]]:
        """The edges that say what a child is to its parent: all but bookkeeping.

        Bookkeeping are the flat lists that frameworks keep beside the attributes of a model
        (``optimizer/_trainable_variables/7``, a SavedModel's ``variables/3``). Their indices shift with
        every variable that is added, so they identify nothing as long as there is another way.
        """
        skipped = self._bookkeeping.get(number, frozenset())
        for label, child in self.nodes[number].children.items():
            if label not in skipped:
                yield label, child

    @cached_property
    def _bookkeeping(self) -> Mapping[int, frozenset[str]]:
        edges: dict[int, set[str]] = {}
        for optimizer in self.optimizers:
            edges.setdefault(optimizer.node, set()).update(optimizer.bookkeeping)
        flat = {
            number
            for number, node in enumerate(self.nodes)
            if node.is_list and all(VARIABLE_ROLE in self.nodes[child].tensors for child in node.children.values())
        }
        held_by_name = {
            child for number, node in enumerate(self.nodes) if number not in flat for child in node.children.values()
        }
        aliases = {number for number in flat if held_by_name.issuperset(self.nodes[number].children.values())}
        for number, node in enumerate(self.nodes):
            for label, child in node.children.items():
                # A SavedModel repeats a Keras object's children below its `keras_api`.
                # Source: tensorflow/python/keras/saving/saved_model/constants.py (KERAS_ATTR).
                if child in aliases or label == "keras_api":
                    edges.setdefault(number, set()).add(label)
        return {number: frozenset(labels) for number, labels in edges.items()}

    @cached_property
    def _tree(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Breadth-first parent and depth of each node along named edges; -1 for what they do not reach."""
        parents, depths = [-1] * len(self.nodes), [-1] * len(self.nodes)
        depths[ROOT] = 0
        queue = deque([ROOT])
        while queue:
            number = queue.popleft()
            for _, child in self.named_children(number):
                if depths[child] < 0:
                    depths[child] = depths[number] + 1
                    parents[child] = number
                    queue.append(child)
        return tuple(parents), tuple(depths)

    def has_named_path(self, number: int) -> bool:
        """Whether a walk along named edges leads to the node."""
        return self._tree[1][number] >= 0

    def keys_below(self, number: int) -> Iterator[Key]:
        """The tensors at or below a node, each in one place of the breadth-first tree."""
        stack = [number]
        while stack:
            current = stack.pop()
            yield from self.nodes[current].tensors.values()
            stack.extend(child for _, child in self.tree_children(current))

    def climbs(self, number: int, child: int) -> bool:
        """Whether an edge leads back to an object that holds this one (a ``parent`` attribute)."""
        parents, depths = self._tree
        if depths[child] < 0 or depths[child] > depths[number]:
            return False
        while number >= 0 and depths[number] > depths[child]:
            number = parents[number]
        return number == child

    def tree_children(self, number: int) -> Iterator[tuple[str, int]]:
        """The edges of the breadth-first tree along named edges: each node below one parent only."""
        parents, _ = self._tree
        seen = set()
        for label, child in self.named_children(number):
            if parents[child] == number and child not in seen:
                seen.add(child)
                yield label, child

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The path that a person would say, for each node; slots have the path of their variable with theirs.

        Short before long, named edges before bookkeeping, ``layer_with_weights-N`` before ``layer-N``.
        An object that cannot be reached from the root has an empty path.
        """
        best: list[Path | None] = [None] * len(self.nodes)
        # Ties are broken by the order of the checkpoint, so the answer is the same on every run.
        queue: list[tuple[int, int, int, Path]] = [(0, 0, ROOT, ())]
        order = 0
        while queue:
            cost, _, number, path = heapq.heappop(queue)
            if best[number] is not None:
                continue
            best[number] = path
            skipped = self._bookkeeping.get(number, frozenset())
            for label, child in self.nodes[number].children.items():
                if best[child] is None:
                    order += 1
                    heapq.heappush(
                        queue, (cost + _edge_cost(label, bookkeeping=label in skipped), order, child, (*path, label))
                    )
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
        role = next(role for role, held in self.nodes[number].tensors.items() if held == key)
        return self.say(number) if role in (VARIABLE_ROLE, "") else f"{self.say(number)} ({role})"

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
