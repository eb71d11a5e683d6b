"""Which items of two lists are each other, in some of the best alignments or in all of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

Pairs = tuple[tuple[int, int], ...]
"""Positions of items that are aligned with each other, ascending."""

_MOST = 1_000_000
"""So many pairs of equal items may be looked at: lists of nothing but equal items have as many as a table of both."""


def sure_pairs(left: Sequence[int], right: Sequence[int]) -> list[tuple[int, int]]:
    """The positions of equal items that are aligned with each other in every longest alignment of two lists.

    Args:
        left: What each item of one list is, as a number.
        right: The same of the other.

    Returns:
        Pairs of positions, ascending; none for lists with too many pairs of equal items.
    """
    if left == right:
        return [(number, number) for number in range(len(left))]
    # Every longest alignment has one pair of each rank; where there is only one such pair, all of them have it.
    return sorted(pairs[0] for pairs in _by_rank(left, right) or () if len(pairs) == 1)


def longest_alignments(left: Sequence[int], right: Sequence[int], *, limit: int) -> tuple[list[Pairs], int]:
    """The longest alignments of two lists.

    Returns:
        So many of them as `limit` allows, those whose first items come first; and how many there are. None of 0
        for lists with too many pairs of equal items.
    """
    ranks = _by_rank(left, right)
    if ranks is None:
        return [], 0
    if not ranks:
        return [()], 1
    ways = _ways(ranks)
    # By rank, the pairs that the alignment has and those that are to be tried instead.
    chosen: list[tuple[int, int]] = []
    untried = [iter(ranks[0])]
    found: list[Pairs] = []
    while untried and len(found) < limit:
        del chosen[len(untried) - 1 :]
        i, j = chosen[-1] if chosen else (-1, -1)
        pair = next((pair for pair in untried[-1] if pair[0] > i and pair[1] > j), None)
        if pair is None:
            untried.pop()
            continue
        chosen.append(pair)
        if len(chosen) == len(ranks):
            found.append(tuple(chosen))
        else:
            untried.append(iter(ranks[len(chosen)]))
    return found, ways


def _ways(ranks: Sequence[Sequence[tuple[int, int]]]) -> int:
    """How many longest alignments there are, one pair of each rank."""
    # From the end: in how many ways each pair goes on. No pair goes on with another of its rank: the larger the one
    # position, the smaller the other. So those that a pair goes on with stand side by side.
    following: list[tuple[int, int]] = []
    sums = [0, 1]
    for pairs in reversed(ranks):
        ordered = sorted(pairs, key=lambda pair: (pair[0], -pair[1]))
        counts = [1] * len(ordered)
        if following:
            firsts, seconds = [i for i, _ in following], [-j for _, j in following]
            counts = [sums[bisect_left(seconds, -j)] - sums[bisect_right(firsts, i)] for i, j in ordered]
        following, sums = ordered, [0, *accumulate(counts)]
    return sums[-1]


def _by_rank(left: Sequence[int], right: Sequence[int]) -> list[list[tuple[int, int]]] | None:
    """The pairs of equal items that a longest alignment may have first, second, and so on.

    None for lists with too many pairs of equal items. By the method of Hunt and Szymanski (1977), from both ends.
    """
    at: dict[int, list[int]] = {}
    for j, item in enumerate(right):
        at.setdefault(item, []).append(j)
    places = [at.get(item, ()) for item in left]
    if sum(map(len, places)) > _MOST:
        return None
    # How many pairs the longest alignment has that ends with each pair, and how many that which begins with it.
    before = list(_lengths(places))
    last = len(right) - 1
    after = list(_lengths([last - j for j in reversed(own)] for own in reversed(places)))
    after.reverse()
    ranks: list[list[tuple[int, int]]] = [[] for _ in range(max(map(max, filter(None, before)), default=0))]
    for i, (own, ends, begins) in enumerate(zip(places, before, after, strict=True)):
        for j, end, begin in zip(own, ends, reversed(begins), strict=True):
            if end + begin - 1 == len(ranks):
                ranks[end - 1].append((i, j))
    return ranks


def _lengths(places: Iterable[Sequence[int]]) -> Iterator[list[int]]:
    """For each item, by each of its places in the other list, the length of the longest alignment up to there."""
    # The smallest place that an alignment of each length ends with.
    ends: list[int] = []
    for own in places:
        lengths = [bisect_left(ends, j) for j in own]
        yield [length + 1 for length in lengths]
        for length, j in zip(reversed(lengths), reversed(own), strict=True):
            ends[length : length + 1] = [j]
