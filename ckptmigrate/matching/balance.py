"""Things of two sides in groups that words tell apart.

A word says something of which is which only where just as many have it on both sides. Words that contradict each
other, so that as many have the one and as many have the other and not as many have both, say nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from ckptmigrate.matching.tokens import Tokens

Group = tuple[tuple[int, ...], tuple[int, ...]]
"""Positions of things of one side, and of those of the other that these may be."""


def balanced_groups(left: Sequence[Tokens], right: Sequence[Tokens]) -> list[Group]:
    """The positions of things with the words of each, in the smallest groups that words tell apart."""
    groups: list[Group] = []
    stack: list[Group] = [(tuple(range(len(left))), tuple(range(len(right))))]
    while stack:
        group = stack.pop()
        parts = _parts(left, right, group)
        if len(parts) > 1:
            stack.extend(reversed(parts))
        else:
            groups.append(group)
    return groups


def _parts(left: Sequence[Tokens], right: Sequence[Tokens], group: Group) -> list[Group]:
    if len(group[0]) != len(group[1]) or len(group[0]) == 1:
        return [group]
    sides = [left[i] for i in group[0]], [right[j] for j in group[1]]
    words = _balanced(*sides)
    parts: dict[Tokens, tuple[list[int], list[int]]] = {}
    for side, (positions, held) in enumerate(zip(group, sides, strict=True)):
        for position, own in zip(positions, held, strict=True):
            parts.setdefault(own & words, ([], []))[side].append(position)
    if any(len(some) != len(others) for some, others in parts.values()):
        return [group]
    return [(tuple(some), tuple(others)) for some, others in parts.values()]


def _balanced(left: Sequence[Tokens], right: Sequence[Tokens]) -> Tokens:
    """The words that some things have, as many on both sides, and that no other such word contradicts."""
    counts = [Counter(word for own in side for word in own) for side in (left, right)]
    words = sorted(word for word, count in counts[0].items() if count == counts[1][word] < len(left))
    both = [Counter(pair for own in side for pair in _pairs(own, words)) for side in (left, right)]
    contradicted = {word for pair in both[0].keys() | both[1].keys() if both[0][pair] != both[1][pair] for word in pair}
    return frozenset(words) - contradicted


def _pairs(own: Tokens, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    return combinations([word for word in words if word in own], 2)
