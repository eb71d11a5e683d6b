"""Which items of two lists are each other, in some of the best alignments or in all of them."""

from __future__ import annotations

from collections.abc import Sequence

Pairs = tuple[tuple[int, int], ...]
"""Positions of items that are aligned with each other, ascending."""

_MOST = 1_000_000
"""So many cells a table may have: alignment is quadratic."""


def sure_pairs(left: Sequence[int], right: Sequence[int]) -> list[tuple[int, int]]:
    """The positions of equal items that are aligned with each other in every longest alignment of two lists.

    Args:
        left: What each item of one list is, as a number.
        right: The same of the other.

    Returns:
        Pairs of positions, ascending; none for lists so long that a table of both would be too large.
    """
    if left == right:
        return [(number, number) for number in range(len(left))]
    # Every longest alignment has one pair of each rank; where there is only one such pair, all of them have it.
    return sorted(pairs[0] for pairs in _by_rank(left, right) if len(pairs) == 1)


def longest_alignments(left: Sequence[int], right: Sequence[int], *, limit: int) -> tuple[list[Pairs], int]:
    """The longest alignments of two lists.

    Returns:
        So many of them as `limit` allows, those whose first items come first; and how many there are. None of 0
        for lists so long that a table of both would be too large.
    """
    ranks = _by_rank(left, right)
    if not ranks:
        return ([()], 1) if len(left) * len(right) <= _MOST else ([], 0)
    # From the end: in how many ways each pair goes on.
    following: list[tuple[int, int, int]] = [(len(left), len(right), 1)]
    ways: list[list[tuple[int, int, int]]] = []
    for pairs in reversed(ranks):
        following = [(i, j, sum(count for k, m, count in following if k > i and m > j)) for i, j in pairs]
        ways.append(following)
    ways.reverse()
    found: list[Pairs] = []
    stack: list[Pairs] = [()]
    while stack and len(found) < limit:
        begun = stack.pop()
        if len(begun) == len(ranks):
            found.append(begun)
            continue
        i, j = begun[-1] if begun else (-1, -1)
        stack.extend((*begun, (k, m)) for k, m, count in reversed(ways[len(begun)]) if k > i and m > j and count)
    return found, sum(count for _, _, count in ways[0])


def _by_rank(left: Sequence[int], right: Sequence[int]) -> list[list[tuple[int, int]]]:
    """The pairs of equal items that a longest alignment may have first, second, and so on.

    None for lists so long that a table of both would be too large.
    """
    rows, columns = len(left), len(right)
    if (rows + 1) * (columns + 1) > _MOST:
        return []
    # forward[i][j]: the longest alignment of left[:i] with right[:j]; backward: of left[i:] with right[j:].
    forward = [[0] * (columns + 1) for _ in range(rows + 1)]
    backward = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows):
        for j in range(columns):
            equal = forward[i][j] + 1 if left[i] == right[j] else 0
            forward[i + 1][j + 1] = max(equal, forward[i][j + 1], forward[i + 1][j])
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            equal = backward[i + 1][j + 1] + 1 if left[i] == right[j] else 0
            backward[i][j] = max(equal, backward[i + 1][j], backward[i][j + 1])
    ranks: list[list[tuple[int, int]]] = [[] for _ in range(forward[rows][columns])]
    for i in range(rows):
        for j in range(columns):
            if left[i] == right[j] and forward[i][j] + 1 + backward[i + 1][j + 1] == forward[rows][columns]:
                ranks[forward[i][j]].append((i, j))
    return ranks
