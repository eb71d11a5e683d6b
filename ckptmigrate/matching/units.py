"""A graph's variables in units, with equal blocks folded into one.

A unit is what moves together: the kernel and the bias of a layer, the scale and the offset of a normalization.
Twelve equal layers of an encoder are one layer twelve times, so that what is found out about one of them holds
for all: a unit has one member for each of them, in the order of their indices.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ckptmigrate.graph import ROOT, VARIABLE_ROLE, ObjectGraph
from ckptmigrate.matching.names import counted_names, is_automatic
from ckptmigrate.matching.tokens import Tokens, tokens_of
from ckptmigrate.spec import TensorSpec

Shape = tuple[int, ...]

List = tuple[int, str, str]
"""A list: the object that holds it, and what is written around the index."""

Place = tuple[List, int]
"""A list, and an index in it."""

_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)", re.DOTALL)

_ROLES = {
    **dict.fromkeys(("kernel", "w", "weight", "weights", "depthwise_kernel"), "kernel"),
    "pointwise_kernel": "pointwise",  # a separable convolution has both
    **dict.fromkeys(("embedding", "embeddings", "table", "lookup_table"), "kernel"),
    **dict.fromkeys(("recurrent_kernel", "recurrent"), "recurrent"),
    **dict.fromkeys(("bias", "b"), "offset"),
    **dict.fromkeys(("beta", "offset", "shift"), "offset"),
    **dict.fromkeys(("gamma", "scale"), "scale"),
    **dict.fromkeys(("moving_mean", "mean", "running_mean", "adapt_mean"), "mean"),
    **dict.fromkeys(("moving_variance", "variance", "var", "running_var", "moving_var", "adapt_variance"), "variance"),
}
"""What a variable is to its layer, by the name that layers give it."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Variables that move together, once for each of the equal blocks they are in.

    Attributes:
        roles: What each variable is to its layer, sorted, and its shape and dtype.
        members: For each block, the node of each variable in the order of `roles`; in the order of the blocks.
        names: For each member, the full name of its layer, without what the variable is to it.
        places: For each member, the lists that it is in, from the root down: what each list is, and the index.
        counts: How many equal blocks there are on each level on the way down; empty if it is in none.
        tokens: The words of its paths and names, but for numbers of blocks.
        own: Those of the layer itself, without what holds it.
        place: Those of what holds it.
        order: Its place among the units, in the order in which the model was made; None where that is not known.
        holder: The path of the object that holds the layer.
        label: The edge to it from there.
        is_numbered: Whether its blocks are themselves what is numbered, and not what holds them.
    """

    roles: tuple[tuple[str, TensorSpec], ...]
    members: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]
    places: tuple[tuple[Place, ...], ...]
    counts: tuple[int, ...]
    tokens: Tokens
    own: Tokens
    place: Tokens
    order: int | None
    holder: tuple[str, ...]
    label: str
    is_numbered: bool

    @property
    def numbered(self) -> frozenset[str]:
        """The attributes that lead to it and have a number, as people give it; none of what is several blocks."""
        if len(self.members) > 1:
            return frozenset()
        return frozenset(
            label.strip("_").lower()
            for label in (*self.holder, self.label)
            if label[-1:].isdigit() and label.strip("_0123456789")
        )

    @property
    def gate(self) -> tuple[object, ...]:
        """What has to be equal for two units to be one another: blocks, roles, numbers of elements, dtypes.

        Of blocks within blocks some may be settled already, so how many there are is more than the counts.
        """
        return (
            tuple(count for count in self.counts if count > 1),
            len(self.members),
            tuple((role if len(self.roles) > 1 else "", spec.dtype, spec.num_elements) for role, spec in self.roles),
        )


@dataclass(frozen=True, slots=True)
class Nobodys:
    """The names of layers that are no identity, of a graph or of two.

    Attributes:
        repeated: Those that several layers have, as in a Keras 3 model that is no functional one.
        counted: Those that differ in nothing but numbers that nobody gave.
    """

    repeated: frozenset[str] = frozenset()
    counted: frozenset[str] = frozenset()

    @classmethod
    def of(cls, graph: ObjectGraph) -> Nobodys:
        holders: dict[str, set[int]] = {}
        for number, node in enumerate(graph.nodes):
            for child in graph.tree_children(number).values() if node.children else ():
                name = graph.nodes[child].full_name
                if name and child not in graph.slot_nodes:
                    holders.setdefault(name.rpartition("/")[0], set()).add(number)
        repeated = frozenset(name for name, found in holders.items() if len(found) > 1)
        return cls(repeated, counted_names(holders))

    def __contains__(self, name: object) -> bool:
        return name in self.repeated or name in self.counted

    def __or__(self, other: Nobodys) -> Nobodys:
        return Nobodys(self.repeated | other.repeated, self.counted | other.counted)


def read_units(graph: ObjectGraph, skipped: Collection[int], repeated: frozenset[str] = frozenset()) -> list[Unit]:
    """The units of a graph, in the order of the checkpoint.

    Args:
        graph: The graph.
        skipped: Nodes of variables that are settled; slots are left out anyway.
        repeated: Names of layers that tell no layer, because another one has them as well.
    """
    tree = _Tree(graph, skipped, repeated)
    units: dict[tuple[object, ...], list[tuple[tuple[int, ...], dict[str, int]]]] = {}
    for own in tree.groups():
        units.setdefault(own.key, []).append((own.indices, own.variables))
    found = []
    for order, members in enumerate(units.values()):
        members.sort(key=lambda member: member[0])
        roles = tuple(sorted(members[0][1]))
        if any(tuple(sorted(variables)) != roles for _, variables in members):
            # Some of the blocks are partly settled already: each of them for itself.
            for indices, variables in members:
                found.append(_unit(graph, tree, [(indices, variables)], (), order))
            continue
        found.append(_unit(graph, tree, members, _counts(members), order))
    return found


def _counts(members: Sequence[tuple[tuple[int, ...], object]]) -> tuple[int, ...]:
    levels = zip(*(indices for indices, _ in members), strict=True)
    return tuple(len(set(level)) for level in levels)


def _unit(
    graph: ObjectGraph,
    tree: _Tree,
    members: Sequence[tuple[tuple[int, ...], Mapping[str, int]]],
    counts: tuple[int, ...],
    order: int,
) -> Unit:
    roles = tuple(sorted(members[0][1]))
    first = members[0][1]
    specs = tuple((role, graph.specs[graph.nodes[first[role]].tensors[VARIABLE_ROLE]]) for role in roles)
    path = tree.path(first[roles[0]])
    # What a variable is to its layer is its role; the words are those of the layer, and those that people gave.
    names = tuple(graph.nodes[variables[roles[0]]].full_name for _, variables in members)
    if roles != ("",):
        path = path[:-1]
        names = tuple(name.rpartition("/")[0] for name in names)
    own, place = _words(path, "" if names[0] in tree.repeated else names[0], is_layer=roles != ("",))
    return Unit(
        specs,
        tuple(tuple(variables[role] for role in roles) for _, variables in members),
        names,
        tuple(tree.places(variables[roles[0]]) for _, variables in members),
        counts,
        own | place,
        own,
        place,
        order if graph.kind == "object" else None,
        path[:-1],
        path[-1] if path else "",
        len(members) > 1 and tree.label(members[0][1], roles) != tree.label(members[1][1], roles),
    )


def _words(path: tuple[str, ...], name: str, *, is_layer: bool) -> tuple[Tokens, Tokens]:
    """A layer's own words, and those of what holds it: of its path and of its name, as far as a person gave it.

    A variable that is no layer's may have a layer's name all the same: ``word_embeddings/weight`` for `weight`.
    """
    segments = name.split("/")
    if not is_layer and len(segments) > 1 and segments[-1] in _ROLES:
        segments.pop()
    *holders, own = segments
    given = [own] if not is_automatic(own) else []
    return (
        tokens_of([*path[-1:], *given]),
        tokens_of([*path[:-1], *(holder for holder in holders if not is_automatic(holder))]),
    )


@dataclass(frozen=True, slots=True)
class _Group:
    key: tuple[object, ...]
    indices: tuple[int, ...]
    variables: dict[str, int]


_NOTHING: list[tuple[str, int]] = []
"""What a leaf holds, shared by all."""


class _Tree:
    """The breadth-first tree of a graph, with a number for each subtree's structure."""

    def __init__(self, graph: ObjectGraph, skipped: Collection[int], repeated: frozenset[str]) -> None:
        self.graph = graph
        self.skipped = skipped
        self.repeated = repeated
        self.children: dict[int, list[tuple[str, int]]] = {}
        self.parent: dict[int, tuple[int, str]] = {}
        # What is on the way down to an object is so for all that it holds.
        self._paths: dict[int, tuple[str, ...]] = {ROOT: ()}
        self._places: dict[int, tuple[Place, ...]] = {ROOT: ()}
        order = [ROOT]
        slots = graph.slot_nodes
        for number in order:
            children = graph.tree_children(number)
            if children and number != ROOT:
                self._paths[number], self._places[number] = self.path(number), self.places(number)
            own = [item for item in children.items() if item[1] not in slots] if children else _NOTHING
            self.children[number] = own
            for label, child in own:
                self.parent[child] = (number, label)
                order.append(child)
        self.structure: dict[int, int] = {}
        known: dict[object, int] = {}
        for number in reversed(order):
            below = self.children[number]
            shape = tuple(sorted([(label, self.structure[child]) for label, child in below])) if below else ()
            self.structure[number] = known.setdefault((self._spec(number), shape), len(known))

    def _spec(self, number: int) -> TensorSpec | None:
        key = self.graph.nodes[number].tensors.get(VARIABLE_ROLE)
        return None if key is None else self.graph.specs[key]

    def path(self, number: int) -> tuple[str, ...]:
        holder, label = self.parent[number]
        return (*self._paths[holder], label)

    def label(self, variables: Mapping[str, int], roles: Sequence[str]) -> str:
        """The edge to a layer, or to a variable that is none's, by its variables' nodes."""
        holder, label = self.parent[variables[roles[0]]]
        return label if roles == ("",) else self.parent.get(holder, (ROOT, ""))[1]

    def places(self, number: int) -> tuple[Place, ...]:
        """The lists on the way down to a node, with the index in each."""
        holder, label = self.parent[number]
        match = _NUMBERED.fullmatch(label)
        if match is None:
            return self._places[holder]
        return (*self._places[holder], ((holder, match["before"], match["after"]), int(match["number"])))

    def groups(self) -> list[_Group]:
        """The variables of each layer, with the blocks they are in."""
        found: list[_Group] = []
        stack: list[tuple[int, tuple[object, ...], tuple[int, ...]]] = [(ROOT, (), ())]
        while stack:
            number, key, indices = stack.pop()
            found.extend(self._own_groups(number, key, indices))
            children = self.children[number]
            kinds = {
                child: ((match["before"], match["after"], self.structure[child]), int(match["number"]))
                for label, child in children
                if (match := _NUMBERED.fullmatch(label)) and self.children[child]
            }
            equal = Counter(kind for kind, _ in kinds.values())
            below: list[tuple[int, tuple[object, ...], tuple[int, ...]]] = []
            for label, child in children:
                kind, at = kinds.get(child, (None, 0))
                if kind is not None and equal[kind] > 1:
                    below.append((child, (*key, kind), (*indices, at)))
                elif self.children[child]:
                    below.append((child, (*key, label), indices))
            stack.extend(reversed(below))
        return found

    def _own_groups(self, number: int, key: tuple[object, ...], indices: tuple[int, ...]) -> list[_Group]:
        """The variables that an object holds itself: by their roles, and those without one each for itself."""
        named: dict[str, list[tuple[str, int]]] = {}
        apart: list[_Group] = []
        # A variable that holds others (slots in a tree of names) is a variable all the same.
        for label, child in self.children[number]:
            spec = self._spec(child)
            if spec is None or child in self.skipped:
                continue
            role = _role(label, spec)
            if role:
                named.setdefault(role, []).append((label, child))
            else:
                apart.append(_Group((*key, label), indices, {"": child}))
        together: dict[str, int] = {}
        for role, variables in named.items():
            if len(variables) == 1:
                together[role] = variables[0][1]
            else:
                apart.extend(_Group((*key, label), indices, {"": child}) for label, child in variables)
        if together:
            apart.insert(0, _Group((*key, None), indices, together))
        return apart


def _role(label: str, spec: TensorSpec) -> str:
    role = _ROLES.get(label.strip("_").lower(), "")
    return "scale" if role == "kernel" and len(spec.shape) == 1 else role
