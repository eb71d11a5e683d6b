"""What is exact: the same walk on both sides, and nothing that makes the walk doubtful.

A path through a list says "the third one". It identifies nothing if the list changed: one equal layer
inserted at index 5 of 12 puts 112 of 199 values into the wrong variable if paths are believed. So an
index counts only if the sequences of items leave no other reading: equal length, and the item lies on
the diagonal of *every* best alignment of what the items are; and names that people gave do not say that
the order changed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from typing import Literal

from ckptmigrate.graph import ROOT, VARIABLE_ROLE, ObjectGraph
from ckptmigrate.matching.alignment import sure_pairs
from ckptmigrate.matching.draft import Draft
from ckptmigrate.matching.forms import with_changed_forms
from ckptmigrate.matching.names import (
    Name,
    are_renamed,
    crossed,
    is_automatic,
    is_given,
    item_names,
    moved,
    scope_names,
    slot_tails,
)
from ckptmigrate.spec import Key, TensorSpec, format_path

_INDEX = re.compile(r"(?P<before>.*?)(?P<index>\d+)(?P<after>\D*)", re.DOTALL)
"""Edges that are positions: list items, Keras 2's ``layer_with_weights-3``, and what people number themselves.

Source: ``Functional._trackable_children`` in tf_keras ``engine/functional.py``.
"""


_LISTS = ("N", "layer-N", "layer_with_weights-N")
"""What lists and Keras 2's layers are called, with N for the number. All else is numbered by people."""

_MOST_COMPARED = 10_000
"""So many pairs of unlike items of a list are compared; of more, none that changed is believed."""

_PARTS = "part_N"
"""The parts of a partitioned variable: their numbers are no order of equal things.

Source: ``_get_partitioned_variable`` in tensorflow/python/ops/variable_scope.py.
"""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A list that leads to nodes on both sides, and why its indices cannot be believed.

    Attributes:
        source: The object of the source that is the list, or holds it.
        target: The object of the target.
        labels: The edges that lead to the doubtful items of either side, by their numbers.
        reason: Why, in words.
        where: The list in the target, in words.
    """

    source: int
    target: int
    labels: tuple[str, ...]
    reason: str
    where: str

    def items(self, graph: ObjectGraph, number: int) -> list[int]:
        """The doubtful items of one side, in the order of the list."""
        children = graph.nodes[number].children
        return [children[label] for label in self.labels if label in children]


@dataclass(frozen=True, slots=True)
class Apart:
    """Pairs of variables that equal walks lead to and names keep apart."""

    pairs: tuple[tuple[int, int], ...]
    reason: str

    def side(self, at: Literal[0, 1]) -> list[int]:
        """The variables of the source (0) or of the target (1)."""
        return sorted(pair[at] for pair in self.pairs)


@dataclass(frozen=True, slots=True)
class ExactPairs:
    """The pairs of nodes that equal walks lead to, those below a doubtful list apart."""

    pairs: Mapping[int, int]
    tied: tuple[tuple[frozenset[int], frozenset[int]], ...]
    doubts: tuple[Doubt, ...]
    apart: tuple[Apart, ...] = ()


@dataclass(frozen=True, slots=True)
class Settled:
    """The tensors that rules have spoken of, on each side. A list's items that are settled raise no doubt.

    Attributes:
        source: The source's keys.
        target: The target's keys.
        moves: The source's keys that rules lead somewhere, with the target's.
    """

    source: frozenset[Key] = frozenset()
    target: frozenset[Key] = frozenset()
    moves: Mapping[Key, Key] = field(default_factory=dict)


def exact_pairs(source: ObjectGraph, target: ObjectGraph, settled: Settled) -> ExactPairs:
    """Walk both graphs along equal labels.

    Returns:
        Target node by source node, for objects as well as variables. Where equal walks lead from one
        node to several (weights that were tied and are not any more, or the other way round), the
        nodes are in `tied` and not in `pairs`.
    """
    lists = _Lists(source, target, settled)
    reached, doubts = _walk(lists, {}, named_only=True)
    # What only a framework's flat list leads to (Keras 3: a layer in a plain list, by way of the
    # optimizer) is believed if the list's other items stand where they are known to stand.
    is_needed = _holds_nameless(source)
    all_reached, more_doubts = _walk(lists, dict(reached), named_only=False) if is_needed else ({}, ())
    nameless = {s: t for s, t in all_reached if not source.has_named_path(s) and not target.has_named_path(t)}
    unlike = _told_apart(source, target, nameless)
    pairs, tied = _one_to_one([*reached, *(pair for pair in nameless.items() if pair not in unlike)])
    contradicted = frozenset(crossed(source, target, pairs))
    # Those lists are doubted only for the sake of what nothing else leads to.
    needed = (doubt for doubt in more_doubts if _leads_to_nameless(source, doubt.source, doubt.labels))
    return ExactPairs(
        {s: t for s, t in pairs.items() if (s, t) not in contradicted},
        tied,
        tuple(dict.fromkeys((*doubts, *needed))),
        (
            *_apart(contradicted, "names that people gave stand at each other's paths: a rule has to say which counts"),
            *_apart(unlike, "only the optimizer's list leads to them, and nothing shows that its order is the same"),
        ),
    )


def _apart(pairs: Collection[tuple[int, int]], reason: str) -> Iterator[Apart]:
    if pairs:
        yield Apart(tuple(sorted(pairs)), reason)


def _told_apart(source: ObjectGraph, target: ObjectGraph, nameless: Mapping[int, int]) -> frozenset[tuple[int, int]]:
    """Of the pairs that only an optimizer's list leads to, those that the names of their slots do not confirm.

    Where they have no slots, one that is alone with its shape cannot be another.
    """
    if not nameless:
        return frozenset()
    old, new = slot_tails(source), slot_tails(target)
    lists = (source.child(optimizer.node, "_trainable_variables") for optimizer in source.optimizers)
    trained = {s for number in lists if number is not None for s in source.nodes[number].children.values()}
    signatures = {s: tuple(map(source.specs.get, source.nodes[s].tensors.values())) for s in trained & nameless.keys()}
    alike = Counter(signatures.values())
    return frozenset(
        (s, nameless[s])
        for s, signature in signatures.items()
        if (old.get(s) != new.get(nameless[s]) if s in old or nameless[s] in new else alike[signature] > 1)
    )


def _holds_nameless(graph: ObjectGraph) -> bool:
    """Whether only bookkeeping leads to some tensor, slots apart: these follow their variables."""
    return any(
        node.tensors and not graph.has_named_path(number) and number not in graph.slot_nodes
        for number, node in enumerate(graph.nodes)
    )


def _leads_to_nameless(source: ObjectGraph, number: int, labels: Iterable[str]) -> bool:
    children = (source.child(number, label) for label in labels)
    return any(
        child is not None and child not in source.slot_nodes and not source.has_named_path(child) for child in children
    )


def _one_to_one(
    reached: Sequence[tuple[int, int]],
) -> tuple[dict[int, int], tuple[tuple[frozenset[int], frozenset[int]], ...]]:
    forward: dict[int, set[int]] = {}
    backward: dict[int, set[int]] = {}
    for s, t in reached:
        forward.setdefault(s, set()).add(t)
        backward.setdefault(t, set()).add(s)
    pairs: dict[int, int] = {}
    tied: dict[tuple[frozenset[int], frozenset[int]], None] = {}
    for s, targets in forward.items():
        sources = frozenset().union(*(backward[t] for t in targets))
        if len(targets) == 1 and sources == {s}:
            pairs[s] = next(iter(targets))
        else:
            tied[sources, frozenset(targets)] = None
    return pairs, tuple(tied)


def _walk(
    lists: _Lists, known: Mapping[int, int], *, named_only: bool
) -> tuple[dict[tuple[int, int], None], tuple[Doubt, ...]]:
    """The pairs that equal labels lead to from the roots, and the lists that were not entered."""
    source, target = lists.source, lists.target
    reached: dict[tuple[int, int], None] = {(ROOT, ROOT): None}
    doubts: list[Doubt] = []
    stack = [(ROOT, ROOT)]
    while stack:
        s, t = stack.pop()
        source_edges, target_edges = (
            (source.named_children(s), target.named_children(t))
            if named_only
            else (source.nodes[s].children, target.nodes[t].children)
        )
        if not source_edges or not target_edges:
            continue
        doubtful: set[str] = set()
        for doubt in lists.doubts((s, t), source_edges, target_edges, known):
            doubtful.update(doubt.labels)
            doubts.append(doubt)
        for label, s_child in source_edges.items():
            t_child = target_edges.get(label)
            if t_child is not None and label not in doubtful and (s_child, t_child) not in reached:
                reached[s_child, t_child] = None
                stack.append((s_child, t_child))
    return reached, tuple(doubts)


@dataclass(frozen=True, slots=True)
class _Items:
    """The items of a list on both sides, by their labels, and what rules say of them.

    Attributes:
        all_source: The items of the source.
        all_target: The items of the target.
        source: Those that rules have not spoken of, or not wholly.
        target: The same of the target.
        moves: Which items rules lead to which: those they speak of wholly, and those of which a part moved.
        torn: The items of which rules move a part, and leave another.
    """

    all_source: Mapping[str, int]
    all_target: Mapping[str, int]
    source: Mapping[str, int]
    target: Mapping[str, int]
    moves: tuple[tuple[str, str], ...] = ()
    torn: frozenset[str] = frozenset()

    @property
    def is_moved(self) -> bool:
        """Whether rules lead from one item to another."""
        return any(old != new for old, new in self.moves)

    def sure(self, left: Mapping[str, int], right: Mapping[str, int], *, is_list: bool) -> set[str]:
        """The items that are where they were in every best alignment that has what rules say.

        Args:
            left: What each item of the source is, as a number.
            right: The same of the target.
            is_list: Whether the items have an order that may be another, not only numbers that may have a gap.
        """
        labels, ours, theirs = (list(left), list(right)), list(left.values()), list(right.values())
        places = [{label: at for at, label in enumerate(each)} for each in labels]
        fixed = sorted((places[0][old], places[1][new]) for old, new in self.moves)
        is_ordered = all(one[0] < other[0] and one[1] < other[1] for one, other in pairwise(fixed))
        is_shuffled = not is_ordered or (is_list and _are_shuffled(ours, theirs))
        counts = Counter(ours), Counter(theirs)
        return {
            labels[0][i]
            for i, j in _sure_between(ours, theirs, fixed if is_ordered else ())
            if labels[0][i] == labels[1][j] and not (is_shuffled and counts[0][ours[i]] + counts[1][theirs[j]] > 2)
        }


def _sure_between(
    left: Sequence[int], right: Sequence[int], fixed: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """The pairs of every best alignment that has some pairs, which are ascending."""
    yield from fixed
    for (i, j), (end, other) in pairwise([(-1, -1), *fixed, (len(left), len(right))]):
        yield from ((i + 1 + a, j + 1 + b) for a, b in sure_pairs(left[i + 1 : end], right[j + 1 : other]))


def _unsettled(graph: ObjectGraph, items: Mapping[str, int], settled: frozenset[Key]) -> dict[str, int]:
    if not settled:
        return dict(items)

    def is_settled(node: int) -> bool:
        keys = list(graph.keys_below(node))
        return bool(keys) and settled.issuperset(keys)

    return {label: node for label, node in items.items() if not is_settled(node)}


class _Lists:
    """Which items of which lists can be believed to be where they were."""

    def __init__(self, source: ObjectGraph, target: ObjectGraph, settled: Settled) -> None:
        self.source = source
        self.target = target
        self.settled = settled
        self.kinds: dict[TensorSpec, int] = {}
        self.known: dict[tuple[int, ...], int] = {}
        self.bags: list[Counter[TensorSpec]] = []
        self.turned: list[Counter[TensorSpec]] = []
        self.whatever_order: dict[frozenset[tuple[TensorSpec, int]], int] = {}
        self.shared: dict[tuple[int, int], int] = {}
        self.sound: set[tuple[int, int, str, int, int]] = set()

    def doubts(
        self,
        pair: tuple[int, int],
        source_edges: Mapping[str, int],
        target_edges: Mapping[str, int],
        known: Mapping[int, int],
    ) -> Iterator[Doubt]:
        """What cannot be believed of the lists that two paired nodes are, or hold."""
        # In a TF1 checkpoint `dense_2` is a position too: the third dense layer that was built.
        counted = self.source.kind == "name"
        source_families = _families(source_edges, counted=counted)
        target_families = _families(target_edges, counted=counted)
        for family in source_families:
            if family not in target_families or family == _PARTS:
                continue
            where = format_path((*self.target.paths[pair[1]], family))
            items = self._items(source_families[family], target_families[family])
            if items.torn:
                reason = f"the list `{where}` changed order by rules that speak of part of its items: what of the rest?"
                yield Doubt(*pair, _by_number(items.torn), reason, where)
            # What was looked at on an earlier walk and found in order can only be contradicted by what is known now.
            this = (*pair, family, len(items.source), len(items.target))
            if this in self.sound and not _misplaced(items.source, items.target, known):
                continue
            is_list = family in _LISTS or (counted and is_automatic(family.replace("_N", "")))
            doubts = self._doubts_of if is_list else self._doubts_of_attributes
            found = list(doubts(items, known))
            for labels, reason in found:
                yield Doubt(*pair, _by_number(labels), f"the list `{where}` {reason}", where)
            if not found:
                self.sound.add(this)

    def _items(self, source_items: Mapping[str, int], target_items: Mapping[str, int]) -> _Items:
        left = _unsettled(self.source, source_items, self.settled.source)
        right = _unsettled(self.target, target_items, self.settled.target)
        found = _Items(source_items, target_items, left, right)
        if not self.settled.moves:
            return found
        item_of = {key: label for label, node in target_items.items() for key in self.target.keys_below(node)}
        moves: dict[tuple[str, str], None] = {}
        torn: set[str] = set()
        for label, node in source_items.items():
            goals = {
                item_of[goal]
                for key in self.source.keys_below(node)
                if (goal := self.settled.moves.get(key)) in item_of
            }
            # That a part of an item stayed says nothing of the rest of it; that a part moved, much of the whole list.
            moves.update(((label, goal), None) for goal in goals if label not in left or goal != label)
            if goals - {label} and label in left:
                torn |= {label, *goals}
        return replace(found, moves=tuple(moves), torn=frozenset(torn))

    def _doubts_of(self, items: _Items, known: Mapping[int, int]) -> Iterator[tuple[set[str], str]]:
        source_items, target_items = items.source, items.target
        everything = {*source_items, *target_items}
        if list(source_items) != list(target_items):
            if source_items and target_items:
                change = (
                    f"changed length, from {len(source_items)} to {len(target_items)}"
                    if len(source_items) != len(target_items)
                    else "has items at other indices"
                )
                yield everything, f"{change}: an index may mean another item"
            return
        labels = list(source_items)
        nodes = list(source_items.values()), list(target_items.values())
        left_names, right_names = item_names(self.source, nodes[0]), item_names(self.target, nodes[1])
        reordered = _misplaced(source_items, target_items, known) or _moved(left_names, right_names, labels)
        reordered = reordered or _moved(scope_names(self.source, nodes[0]), scope_names(self.target, nodes[1]), labels)
        if reordered:
            yield everything, f"changed order: {reordered}"
            return
        # Not what is below is called, but what it is: an item may have been renamed within as it moved.
        left = [self.contents(self.source, node) for node in source_items.values()]
        right = [self.contents(self.target, node) for node in target_items.values()]
        renamed: dict[int, set[str]] = {}
        for label, old, new, signature in zip(labels, left_names, right_names, left, strict=True):
            if are_renamed(old, new):
                renamed.setdefault(signature, set()).add(label)
        swappable = {label for group in renamed.values() if len(group) > 1 for label in group}
        if swappable:
            yield swappable, "has equal items whose names all changed: they may have changed order"
        numbers = self._numbers(items)
        sure = items.sure(*numbers, is_list=True)
        # An item that is like none of the other side did not move but changed; its shapes say how.
        both = {*numbers[0].values()} & {*numbers[1].values()}
        unsure = {
            label for label in labels if label not in sure and (numbers[0][label] in both or numbers[1][label] in both)
        }
        if unsure:
            yield unsure, "changed, with equal items on both sides of the change: one may be new and another gone"
        is_shuffled = _are_shuffled(*([self._turned(content) for content in side] for side in (left, right)))
        sides = (dict(zip(labels, side, strict=True)) for side in (left, right))
        nearer = self._nearer(*sides, ties=is_shuffled)
        if nearer - unsure:
            yield nearer - unsure, "changed, and items of it are more like others now than like those at their index"

    def _doubts_of_attributes(self, items: _Items, known: Mapping[int, int]) -> Iterator[tuple[set[str], str]]:
        """What cannot be believed of attributes that people number themselves: ``conv1``, ``conv2``.

        Who inserts one, or takes one out, may number the others anew. That leaves numbers without a gap; where there
        is one, and where what is there is like nothing else, a number is a name.
        """
        del known  # it speaks of positions, and a number is none while the others are what they were
        same = items.all_source.keys() == items.all_target.keys()
        if not same and not items.is_moved and not (_have_no_gap(items.all_source) and _have_no_gap(items.all_target)):
            return
        left, right = self._numbers(items)
        sure = items.sure(left, right, is_list=False)
        # Where the numbers are the same, an item like none of the other side changed in its place.
        alike = {*left.values()} & {*right.values()}
        if not same:
            alike |= {content for side in (left, right) for content, n in Counter(side.values()).items() if n > 1}
        unsure = {label for side in (left, right) for label, content in side.items() if content in alike} - sure
        open_left, open_right = (
            {label: self.contents(graph, node) for label, node in side.items()}
            for graph, side in ((self.source, items.source), (self.target, items.target))
        )
        nearer = self._nearer(open_left, open_right, ties=not same)
        # Where one was numbered anew, so were those whose numbers only one side has.
        unsure |= nearer if same or not nearer else {*open_left, *open_right} - sure
        unsure &= {*open_left, *open_right}
        if unsure.intersection(open_left) and unsure.intersection(open_right):
            yield unsure, "has other numbers now: equal ones may have been numbered anew"

    def _numbers(self, items: _Items) -> tuple[dict[str, int], dict[str, int]]:
        """What all items of a list are, as numbers: those that rules speak of are like what they lead to alone."""
        left, right = (
            {label: self.contents(graph, node) for label, node in side.items()}
            for graph, side in ((self.source, items.all_source), (self.target, items.all_target))
        )
        unlike = count(-1, -1)
        for numbers, still_open in ((left, items.source), (right, items.target)):
            numbers.update({label: next(unlike) for label in numbers if label not in still_open})
        for old, new in items.moves:
            left[old] = right[new] = next(unlike)
        return left, right

    def _nearer(self, left: Mapping[str, int], right: Mapping[str, int], *, ties: bool) -> set[str]:
        """The labels of items that changed and have more in common with an item at another label than at their own.

        Args:
            left: What the source's items are, as numbers, by their labels.
            right: The same of the target.
            ties: Whether as much in common is enough.
        """
        changed = [label for label, content in left.items() if right.get(label, content) != content]
        found: set[str] = set()
        for some, others in ((left, right), (right, left)):
            counts = Counter(others.values())
            if len({some[label] for label in changed}) * len(counts) > _MOST_COMPARED:
                return set(changed)
            nearer: dict[tuple[int, int], bool] = {}
            for label in changed:
                pair = some[label], others[label]
                if pair not in nearer:
                    own = self._in_common(*pair)
                    nearer[pair] = any(
                        self._in_common(pair[0], content) + ties > own
                        for content, count in counts.items()
                        if content != pair[1] or count > 1
                    )
                if nearer[pair]:
                    found.add(label)
        return found

    def _in_common(self, one: int, other: int) -> int:
        """How much two items have in common: two for each tensor of equal shape, one if its axes have another order."""
        pair = (one, other)
        if pair not in self.shared:
            self.shared[pair] = sum((bags[one] & bags[other]).total() for bags in (self.bags, self.turned))
        return self.shared[pair]

    def _turned(self, content: int) -> int:
        """A number for what an item's tensors are, whatever the order of their axes."""
        kinds = frozenset(self.turned[content].items())
        return self.whatever_order.setdefault(kinds, len(self.whatever_order))

    def contents(self, graph: ObjectGraph, number: int) -> int:
        """A number for what tensors are at or below a node but slots, whatever they are called."""
        kinds, slots = self.kinds, graph.slot_owner
        specs = [graph.specs[key] for key in graph.keys_below(number) if key not in slots]
        numbers = tuple(sorted(kinds.setdefault(spec, len(kinds)) for spec in specs))
        found = self.known.setdefault(numbers, len(self.known))
        if found == len(self.bags):
            self.bags.append(Counter(specs))
            self.turned.append(Counter(replace(spec, shape=tuple(sorted(spec.shape))) for spec in specs))
        return found


def _misplaced(source_items: Mapping[str, int], target_items: Mapping[str, int], known: Mapping[int, int]) -> str:
    """How known pairs contradict equal positions; empty if they do not."""
    labels = list(source_items)
    position = {node: number for number, node in enumerate(target_items.values())} if known else {}
    for number, node in enumerate(source_items.values()):
        if position.get(known.get(node, -1), number) != number:
            return f"item {labels[number]} is now {labels[position[known[node]]]}"
    return ""


def _moved(left: Sequence[Name], right: Sequence[Name], labels: Sequence[str]) -> str:
    """Which item's name stands elsewhere on the other side; empty if none does."""
    found = moved(left, right)
    return f"`{'/'.join(left[found[0]])}` is now item {labels[found[1]]}" if found else ""


def _are_shuffled(left: Sequence[int], right: Sequence[int]) -> bool:
    """Whether items that each side has once stand in another order: then the order of the rest says nothing."""
    counts = Counter(left), Counter(right)
    at = {content: position for position, content in enumerate(right)}
    places = [at[content] for content in left if counts[0][content] == counts[1][content] == 1]
    return any(one > other for one, other in pairwise(places))


def _by_number(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels of items in the order of their indices; ``dense`` comes before ``dense_1``."""

    def index(label: str) -> int:
        found = _INDEX.fullmatch(label)
        return int(found["index"]) if found else -1

    return tuple(sorted(labels, key=lambda label: (index(label), label)))


def _families(edges: Mapping[str, int], *, counted: bool) -> dict[str, dict[str, int]]:
    """The edges that are positions, by what they count (``N`` for the number), in the order of their numbers."""
    families: dict[str, list[tuple[int, str, int]]] = {}
    for label, child in edges.items():
        found = _INDEX.fullmatch(label)
        if found:
            family = f"{found['before']}N{found['after']}"
            families.setdefault(family, []).append((int(found["index"]), label, child))
        elif counted and is_automatic(label):
            families.setdefault(f"{label}_N", []).append((0, label, child))
    return {family: {label: child for _, label, child in sorted(items)} for family, items in families.items()}


def _have_no_gap(items: Mapping[str, int]) -> bool:
    """Whether items are numbered from 0 or 1 on, as who numbers them anew would do it."""
    numbers = [int(found["index"]) for label in items if (found := _INDEX.fullmatch(label))]
    return numbers in (list(range(len(items))), list(range(1, len(items) + 1)))


class Signatures:
    """A number for what an object is: the tensors it holds and, below each label, what its children are.

    Equal numbers mean equal structure, dtypes and shapes, across both graphs. Only the breadth-first
    tree is looked at, so cycles end and a ``parent`` attribute does not drag the whole model in.
    """

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}
        self._of: dict[tuple[int, int], int] = {}

    def of(self, graph: ObjectGraph, root: int) -> int:
        stack = [root]
        while stack:
            number = stack[-1]
            if (id(graph), number) in self._of:
                stack.pop()
                continue
            slots = graph.slot_nodes
            children = {label: child for label, child in graph.tree_children(number).items() if child not in slots}
            waiting = [child for child in children.values() if (id(graph), child) not in self._of]
            if waiting:
                stack.extend(waiting)
                continue
            tensors = tuple(
                sorted((role, _said(role, graph.specs[key])) for role, key in graph.nodes[number].tensors.items())
            )
            below = tuple(sorted((label, self._of[id(graph), child]) for label, child in children.items()))
            value = self._numbers.setdefault((tensors, below), len(self._numbers))
            self._of[id(graph), number] = value
            stack.pop()
        return self._of[id(graph), root]


def _said(role: str, spec: TensorSpec) -> str:
    # A table's length says how full it is, not what it is.
    return str(spec) if role == VARIABLE_ROLE else spec.dtype.label


def named_items(
    source: ObjectGraph, target: ObjectGraph, doubt: Doubt, signatures: Signatures, counted: Collection[str]
) -> Iterator[tuple[int, int]]:
    """The items of a list whose indices changed that have a name which a person gave, and no other of either side has.

    Names that stand in another order contradict the list: one of the two is not what it was.

    Args:
        source: The graph of the source.
        target: The graph of the target.
        doubt: The list.
        signatures: What objects are.
        counted: The segments of names that may be positions.
    """
    olds, news = doubt.items(source, doubt.source), doubt.items(target, doubt.target)
    names = item_names(source, olds), item_names(target, news)
    counts = tuple(map(Counter, names))
    named = [
        {name: item for name, item in zip(own, items, strict=True) if name and count[name] == 1}
        for own, items, count in zip(names, (olds, news), counts, strict=True)
    ]
    shared = [name for name in named[0] if name in named[1]]
    if shared != [name for name in named[1] if name in named[0]]:
        return
    for name in shared:
        s, t = named[0][name], named[1][name]
        if not any(segment in counted for segment in name) and signatures.of(source, s) == signatures.of(target, t):
            yield s, t


def aligned_items(
    source: ObjectGraph, target: ObjectGraph, doubt: Doubt, signatures: Signatures
) -> Iterator[tuple[int, int]]:
    """The items of a list whose indices changed that are each other whatever the best alignment of both.

    Not those whose names, which people gave, stand at another item of the other side.
    """
    old_items, new_items = (
        {label: children[label] for label in doubt.labels if label in children}
        for children in (source.nodes[doubt.source].children, target.nodes[doubt.target].children)
    )
    if old_items.keys() == new_items.keys() or not all(label[-1].isdecimal() for label in old_items):
        return
    if {_INDEX.sub(r"\g<before>N\g<after>", label) for label in old_items} - {*_LISTS}:
        return
    olds, news = list(old_items.values()), list(new_items.values())
    old_names, new_names = item_names(source, olds), item_names(target, news)
    left, right = ([signatures.of(graph, node) for node in nodes] for graph, nodes in ((source, olds), (target, news)))
    at = {label: number for number, label in enumerate(new_items)}
    labels, pairs = list(old_items), sure_pairs(left, right)
    # What is unlike all of the other side may be one of those after all, and then the others stand elsewhere.
    freely = with_changed_forms(((source, olds), (target, news)), (left, right))
    if freely != [left, right]:
        pairs = sorted({*pairs}.intersection(sure_pairs(*freely)))
    # Layers without weights come and go, and nobody minds where.
    weighty = [
        [at for at, node in enumerate(nodes) if next(graph.keys_below(node), None) is not None]
        for graph, nodes in ((source, olds), (target, news))
    ]
    if [*map(len, weighty)] != [len(olds), len(news)]:
        among = sure_pairs([left[at] for at in weighty[0]], [right[at] for at in weighty[1]])
        pairs = sorted({*pairs}.intersection((weighty[0][i], weighty[1][j]) for i, j in among))
    # What moved while something like it is where it was: either may be it, and so with all that is like them.
    twins = {left[i] for i, j in pairs if at.get(labels[i], j) != j and right[at[labels[i]]] == left[i]}
    counts, is_ordered = (Counter(left), Counter(right)), not _are_shuffled(left, right)
    for i, j in pairs:
        # Where only an optimizer tells of variables, nobody knows how many of them came or went together.
        is_single = counts[0][left[i]] == counts[1][left[i]] == 1
        if left[i] in twins or not (is_single or (is_ordered and source.has_named_path(olds[i]))):
            continue
        name = old_names[i]
        if not (is_given(name) and name in new_names and new_names[j] != name):
            yield olds[i], news[j]


def doubts_between(source: ObjectGraph, target: ObjectGraph, pairs: Iterable[tuple[int, int]]) -> Iterator[Doubt]:
    """The lists that nodes of two graphs are or hold, where these are the same, and that cannot be believed."""
    lists = _Lists(source, target, Settled())
    for s, t in pairs:
        yield from lists.doubts((s, t), source.named_children(s), target.named_children(t), {})


def keys_in(graph: ObjectGraph, number: int, doubt: Doubt) -> list[Key]:
    """The tensors of a list's doubtful items, but for slots."""
    return [
        key for item in doubt.items(graph, number) if item not in graph.slot_nodes for key in graph.keys_below(item)
    ]


def settled_by(draft: Draft) -> Settled:
    """What rules have said so far."""
    return Settled(
        frozenset(draft.used | draft.dropped.keys()),
        frozenset(draft.steps),
        {source: step.target for step in draft.steps.values() for source in step.sources},
    )
