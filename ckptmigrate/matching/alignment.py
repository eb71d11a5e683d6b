"""Which items of two lists are each other, whatever the best alignment."""

from __future__ import annotations

from collections.abc import Sequence

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
    # Every longest alignment has one pair of each rank; where there is only one such pair, all of them have it.
    of_rank: dict[int, list[tuple[int, int]]] = {}
    for i in range(rows):
        for j in range(columns):
            if left[i] == right[j] and forward[i][j] + 1 + backward[i + 1][j + 1] == forward[rows][columns]:
                of_rank.setdefault(forward[i][j], []).append((i, j))
    return sorted(pairs[0] for pairs in of_rank.values() if len(pairs) == 1)
