"""Many rows that differ only in their numbers become one: ``layers/{0..11}/kernel``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

_NUMBER = re.compile(r"(?<![A-Za-z0-9.])\d+(?![A-Za-z0-9.])")
"""Numbers that stand alone in a label (``3``, ``layer-3``, ``layer_3`` too), not parts of words (``conv2d``)."""

_SHOWN = 8
"""So many numbers are listed where they are no range."""


@dataclass(frozen=True, slots=True)
class Folded:
    """Rows that were folded into one.

    Attributes:
        columns: The texts, with ``{a..b}`` where the rows differ.
        rows: Which rows they were, by number.
    """

    columns: tuple[str, ...]
    rows: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many rows they were."""
        return len(self.rows)


def fold(rows: Sequence[tuple[str, ...]], *, numbered: int) -> list[Folded]:
    """Fold rows that are equal but for numbers.

    Args:
        rows: Each a tuple of as many texts.
        numbered: In how many of the first columns numbers may differ; the rest have to be equal.

    Returns:
        The folded rows, each where the first of its rows stood. Rows are folded only if nothing is
        lost: where the ranges that would be shown stand for exactly the rows there are.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(rows):
        masked = tuple(_mask(text) for text in row[:numbered])
        groups.setdefault((*masked, *row[numbered:]), []).append(number)
    folded: dict[int, Folded] = {}
    for members in groups.values():
        for block in _blocks([rows[number] for number in members], numbered):
            numbers = tuple(members[index] for index in block)
            folded[numbers[0]] = Folded(_merge([rows[number] for number in numbers], numbered), numbers)
    return [folded[number] for number in sorted(folded)]


def split_numbers(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The numbers in a text that fold as ``{0..11}`` does, and what stands around them: one piece more."""
    parts = _NUMBER.split(text.replace("_", "\x00"))
    return tuple(part.replace("\x00", "_") for part in parts), tuple(_NUMBER.findall(text.replace("_", "\x00")))


def _mask(text: str) -> str:
    return _NUMBER.sub("#", text.replace("_", "\x00")).replace("\x00", "_")


def _numbers(row: tuple[str, ...], numbered: int) -> tuple[int, ...]:
    return tuple(int(found) for text in row[:numbered] for found in _NUMBER.findall(text.replace("_", "\x00")))


def _blocks(rows: Sequence[tuple[str, ...]], numbered: int) -> list[list[int]]:
    """Groups of rows whose numbers are a full product of ranges; single rows where there is none."""
    if len(rows) == 1 or _is_product([_numbers(row, numbered) for row in rows]):
        return [list(range(len(rows)))]
    if not _numbers(rows[0], numbered):
        return [[index] for index in range(len(rows))]  # the very same row, several times
    # Not all at once: those with one first number together, then what is left alone.
    by_first: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        by_first.setdefault(_numbers(row, numbered)[:1], []).append(index)
    blocks: list[list[int]] = []
    for block in by_first.values():
        if len(by_first) > 1 and len(block) > 1 and _is_product([_numbers(rows[index], numbered) for index in block]):
            blocks.append(block)
        else:
            blocks.extend([index] for index in block)
    return blocks


def _free_columns(table: Sequence[tuple[int, ...]]) -> list[int]:
    """The positions that vary by themselves: not constant, and not another one plus a constant."""
    free: list[int] = []
    for position in range(len(table[0])):
        values = [row[position] for row in table]
        if len(set(values)) == 1:
            continue
        if not any(len({row[position] - row[other] for row in table}) == 1 for other in free):
            free.append(position)
    return free


def _is_product(table: Sequence[tuple[int, ...]]) -> bool:
    free = _free_columns(table)
    return math.prod(len({row[position] for row in table}) for position in free) == len(set(table)) == len(table)


def _merge(rows: Sequence[tuple[str, ...]], numbered: int) -> tuple[str, ...]:
    if len(rows) == 1:
        return rows[0]
    table = [_numbers(row, numbered) for row in rows]
    ranges = [_range({row[position] for row in table}) for position in range(len(table[0]))]
    columns = []
    position = 0
    for text in rows[0][:numbered]:
        pieces = _mask(text).split("#")
        merged = pieces[0]
        for piece in pieces[1:]:
            merged += ranges[position] + piece
            position += 1
        columns.append(merged)
    return (*columns, *rows[0][numbered:])


def _range(values: set[int]) -> str:
    ordered = sorted(values)
    if len(ordered) == 1:
        return str(ordered[0])
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):  # two are listed
        return f"{{{ordered[0]}..{ordered[-1]}}}"
    listed = ",".join(map(str, ordered[:_SHOWN]))
    return f"{{{listed},...{ordered[-1]}}}" if len(ordered) > _SHOWN else f"{{{listed}}}"
