"""Patterns matched on graphs.

A variable can have more paths than can be listed, so a pattern is never tried on lists of paths. It is
walked on the graph, and a rule on both graphs at once: the source is walked along the left pattern and
the target, step by step, along the right one with the captures filled in. Where the patterns say
``**``, both sides take equal steps. Each pair of nodes is visited once, so the cost is that of the
graphs and not of their paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ckptmigrate.graph import ROOT, ObjectGraph
from ckptmigrate.spec import Pattern, Segment

Captured = tuple[tuple[str, str], ...]
"""Captures as a hashable value: pairs of name and text, sorted."""


class _Space(Protocol):
    """What a pattern is walked on: the graph's paths, or the tree of its variables' full names."""

    def child(self, place: int, label: str) -> int | None:
        """The place that a literal label leads to."""

    def children(self, place: int) -> Iterator[tuple[str, int]]:
        """The steps that a wildcard may take."""

    def nodes(self, place: int) -> Iterable[int]:
        """The graph's nodes at a place."""


@dataclass(frozen=True, slots=True)
class _Paths:
    graph: ObjectGraph

    def child(self, place: int, label: str) -> int | None:
        child = self.graph.child(place, label)
        # What an optimizer holds of a variable is below it in paths, as `<momentum>`, wherever it is stored.
        return self.graph.slot_at.get((place, label)) if child is None and label.startswith("<") else child

    def children(self, place: int) -> Iterator[tuple[str, int]]:
        # A wildcard goes down: not back through a `parent` attribute, and not into an optimizer's flat
        # lists, where an index says nothing. A literal label goes wherever it leads.
        for label, child in self.graph.named_children(place).items():
            if not self.graph.climbs(place, child):
                yield label, child

    def nodes(self, place: int) -> Iterable[int]:
        return (place,)


class _Names:
    def __init__(self, graph: ObjectGraph) -> None:
        self._children: list[dict[str, int]] = [{}]
        self._nodes: list[list[int]] = [[]]
        for number, node in enumerate(graph.nodes):
            if not node.full_name or number in graph.slot_nodes:
                continue
            place = ROOT
            for segment in node.full_name.split("/"):
                following = self._children[place].get(segment)
                if following is None:
                    following = self._children[place][segment] = len(self._children)
                    self._children.append({})
                    self._nodes.append([])
                place = following
            self._nodes[place].append(number)

    def child(self, place: int, label: str) -> int | None:
        return self._children[place].get(label)

    def children(self, place: int) -> Iterator[tuple[str, int]]:
        return iter(self._children[place].items())

    def nodes(self, place: int) -> Iterable[int]:
        return self._nodes[place]


def nodes_matching(graph: ObjectGraph, pattern: Pattern) -> frozenset[int]:
    """The nodes with a path (or a full name) that matches."""
    space = _space(graph, pattern)
    states: set[tuple[int, Captured]] = {(ROOT, ())}
    for number, chunk in enumerate(pattern.chunks):
        if number:
            states = _closure(space, states)
        states = {found for state in states for found in _advance(space, state, chunk)}
    return frozenset(node for place, _ in states for node in space.nodes(place))


def pairs_matching(
    source: ObjectGraph, source_pattern: Pattern, target: ObjectGraph, target_pattern: Pattern
) -> frozenset[tuple[int, int]]:
    """The pairs of a source and a target node that a rule with these patterns joins.

    Both patterns have the same number of ``**``, and the target's holes are captured by the source's.
    """
    left, right = _space(source, source_pattern), _space(target, target_pattern)
    states: set[tuple[int, int, Captured]] = {(ROOT, ROOT, ())}
    for number, (left_chunk, right_chunk) in enumerate(zip(source_pattern.chunks, target_pattern.chunks, strict=True)):
        if number:
            states = _joint_closure(left, right, states)
        states = {
            (source_place, target_place, captured)
            for source_start, target_start, captures in states
            for source_place, captured in _advance(left, (source_start, captures), left_chunk)
            if (target_place := _follow(right, target_start, right_chunk, captured)) is not None
        }
    return frozenset(
        (source_node, target_node)
        for source_place, target_place, _ in states
        for source_node in left.nodes(source_place)
        for target_node in right.nodes(target_place)
    )


def _space(graph: ObjectGraph, pattern: Pattern) -> _Space:
    return _Names(graph) if pattern.by_name else _Paths(graph)


def _advance(
    space: _Space, state: tuple[int, Captured], segments: tuple[Segment, ...]
) -> Iterator[tuple[int, Captured]]:
    """Where a run of segments leads from a place."""
    states = [state]
    for segment in segments:
        literal = segment.literal
        following: list[tuple[int, Captured]] = []
        for place, captured in states:
            if literal is not None:
                child = space.child(place, literal)
                if child is not None:
                    following.append((child, captured))
                continue
            captures = dict(captured)
            for label, child in space.children(place):
                added = segment.match(label, captures)
                if added is not None:
                    following.append((child, tuple(sorted({**captures, **added}.items()))))
        states = following
    yield from states


def _follow(space: _Space, place: int, segments: tuple[Segment, ...], captured: Captured) -> int | None:
    """Where a run of segments leads once its holes are filled."""
    captures = dict(captured)
    current: int | None = place
    for segment in segments:
        label = segment.fill(captures)
        if label is None or current is None:
            return None
        current = space.child(current, label)
    return current


def _closure(space: _Space, states: Iterable[tuple[int, Captured]]) -> set[tuple[int, Captured]]:
    """All places at or below the given ones."""
    seen = set(states)
    stack = list(seen)
    while stack:
        place, captured = stack.pop()
        for _, child in space.children(place):
            if (child, captured) not in seen:
                seen.add((child, captured))
                stack.append((child, captured))
    return seen


def _joint_closure(
    left: _Space, right: _Space, states: Iterable[tuple[int, int, Captured]]
) -> set[tuple[int, int, Captured]]:
    """All pairs of places that equal steps lead to from the given ones."""
    seen = set(states)
    stack = list(seen)
    while stack:
        source_place, target_place, captured = stack.pop()
        target_children = dict(right.children(target_place))
        for label, source_child in left.children(source_place):
            target_child = target_children.get(label)
            if target_child is not None and (source_child, target_child, captured) not in seen:
                seen.add((source_child, target_child, captured))
                stack.append((source_child, target_child, captured))
    return seen
