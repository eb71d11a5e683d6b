"""How much two things that source code makes have in common, and which items of two rows are each other."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

from ckptmigrate.codemod.inference.facts import Source
from ckptmigrate.codemod.inference.made import Made
from ckptmigrate.matching.alignment import sure_pairs
from ckptmigrate.matching.tokens import tokens_of, weight_of

_VARIABLES = frozenset({"add_weight", "add_variable", "Variable", "get_variable"})
"""Ways to make a variable, which are one."""

_COUNT = re.compile(r"_?\d+$|\{i[^}]*\}")
"""What counts in a label or a name."""


def stem_of(label: str) -> str:
    """A label without what counts in it."""
    return _COUNT.sub("", label)


class Kinds:
    """Whether what is made here and there is of one kind, as far as classes are paired."""

    def __init__(self, old: Source, new: Source, classes: Mapping[str, str]) -> None:
        self.old = old
        self.new = new
        self.classes = classes
        self._taken = frozenset(classes.values())

    def of(self, one: Made, other: Made) -> float | None:
        """1 for one kind, 0 where nothing is known, None for two kinds."""
        if one.kind != other.kind and "given" not in (one.kind, other.kind):
            return None
        if not one.constructor or not other.constructor:
            return 0.0
        is_own, is_theirs = one.constructor in self.old.facts, other.constructor in self.new.facts
        if is_own and is_theirs:
            paired = self.classes.get(one.constructor)
            if paired == other.constructor:
                return 1.0
            return 0.0 if paired is None and other.constructor not in self._taken else None
        if one.maker == other.maker or {one.maker, other.maker} <= _VARIABLES:
            return 1.0
        return None

    def is_paired(self, made: Made, *, is_old: bool) -> bool:
        """Whether what is made is of a class that both versions have."""
        return made.constructor in (self.classes if is_old else self._taken)

    def key(self, made: Made, *, is_old: bool) -> str:
        """What is made, as text that is equal for one kind on both sides."""
        if is_old and made.constructor in self.classes:
            return self.classes[made.constructor]
        if made.constructor in (self.old if is_old else self.new).facts:
            return made.constructor
        return "variable" if made.maker in _VARIABLES else made.maker or made.kind


def name_likeness(one: str, other: str) -> float:
    """How much two labels say the same: 2 for equal ones, 0 for labels that have nothing in common."""
    return _likeness(one, other)


@lru_cache(maxsize=100_000)
def _likeness(one: str, other: str) -> float:
    if one == other:
        return 2.0
    ours, theirs = (re.sub(r"[^a-z0-9{}]", "", label.lower()) for label in (one, other))
    numbers = [re.findall(r"\d+|\{i[^}]*\}", label) for label in (one, other)]
    factor = 1.0 if numbers[0] == numbers[1] else 0.6
    if ours == theirs:
        return 1.8
    left, right = tokens_of([one]), tokens_of([other])
    shared = weight_of(left & right)
    words = 1.5 * shared / weight_of(left | right) if shared else 0.0
    letters = difflib.SequenceMatcher(None, ours, theirs, autojunk=False).ratio()
    return factor * max(words, 1.3 * letters if letters > 0.8 else 0.0)


def same_arguments(one: Made, other: Made) -> float:
    """The share of arguments that are equal as text."""
    if one.arguments == other.arguments:
        return 1.0 if one.arguments else 0.7
    ours, theirs = Counter(map(_plain, one.arguments)), Counter(map(_plain, other.arguments))
    return (ours & theirs).total() / max((ours | theirs).total(), 1)


def _plain(argument: str) -> str:
    """An argument whoever holds what it is made of, positional or not."""
    return re.sub(r"^\w+=(?!=)|\bself\._?", "", argument)


# Rows.


def aligned(kinds: Kinds, olds: Sequence[Made], news: Sequence[Made]) -> list[tuple[int, int, str]]:
    """The items of two rows that are each other, with the reason; the others could be several.

    The text of an item is what it is; a number in its name is not, where the row has other items now. What is like
    another item counts where every best alignment of the two rows pairs it.
    """
    if len(olds) == len(news) == 1 and (olds[0].is_loop or news[0].is_loop):
        return list(_aligned_loop(kinds, olds[0], news[0]))
    counts = len(olds) == len(news)
    keys = [
        [_text(kinds, item, is_old=is_old, with_number=counts) for item in row]
        for row, is_old in ((olds, True), (news, False))
    ]
    if keys[0] == keys[1]:
        return [(at, at, "the two lists are equal, item by item") for at in range(len(olds))]
    texts: dict[str, int] = {}
    left, right = ([texts.setdefault(key, len(texts)) for key in side] for side in keys)
    found = dict.fromkeys(_named(olds, news), "both have this name, and nothing else in the list has it")
    found = _with_others(found, _sure(left, right))
    if _is_ascending(found):
        found = _with_others(found, _between(kinds, olds, news, found))
    return [(i, j, why) for (i, j), why in sorted(found.items())]


_Paired = dict[tuple[int, int], str]
"""Positions that are each other, with the reason."""


def _with_others(found: _Paired, more: Iterable[tuple[int, int, str]]) -> _Paired:
    """Pairs, and more of what they leave free."""
    taken = {i for i, _ in found}, {j for _, j in found}
    return found | {(i, j): why for i, j, why in more if i not in taken[0] and j not in taken[1]}


def _sure(left: Sequence[int], right: Sequence[int]) -> Iterator[tuple[int, int, str]]:
    """What every best alignment pairs; and of what it leaves, what is the only one of its text on both sides."""
    pairs = sure_pairs(left, right)
    for i, j in pairs:
        yield i, j, "the same text, and every best alignment of the two lists pairs them"
    known = {i for i, _ in pairs}, {j for _, j in pairs}
    places: list[dict[int, list[int]]] = [{}, {}]
    for side, row in enumerate((left, right)):
        for at, content in enumerate(row):
            if at not in known[side]:
                places[side].setdefault(content, []).append(at)
    for content, olds in places[0].items():
        news = places[1].get(content, [])
        if len(olds) == len(news) == 1:
            yield olds[0], news[0], "the same text, and nothing else that is left has it"


def _between(
    kinds: Kinds, olds: Sequence[Made], news: Sequence[Made], found: _Paired
) -> Iterator[tuple[int, int, str]]:
    """Between neighbours that are paired: what is made alike and called otherwise; or the only one, made otherwise."""
    for places, others in _gaps(found, len(olds), len(news)):
        texts: dict[str, int] = {}
        left = [texts.setdefault(text_of(kinds, olds[at], is_old=True), len(texts)) for at in places]
        right = [texts.setdefault(text_of(kinds, news[at], is_old=False), len(texts)) for at in others]
        pairs = [(places[a], others[b]) for a, b in sure_pairs(left, right)]
        if not pairs and len(places) == len(others) == 1 and kinds.of(olds[places[0]], news[others[0]]):
            pairs = [(places[0], others[0])]
        yield from ((i, j, "made alike, between the same neighbours") for i, j in pairs)


def _aligned_loop(kinds: Kinds, old: Made, new: Made) -> Iterator[tuple[int, int, str]]:
    """Two loops, where nothing says that they have other turns."""
    # Of more turns than before nobody knows which are new; a number that is computed may be the same.
    is_changed = old.count != new.count and (_is_fixed(old.count) or _is_fixed(new.count))
    if old.is_loop == new.is_loop and kinds.of(old, new) is not None and not is_changed:
        yield 0, 0, "the same loop makes them"


def _is_fixed(count: str) -> bool:
    return bool(re.search(r"\d", count))


def text_of(kinds: Kinds, item: Made, *, is_old: bool) -> str:
    """How something is made, as text that is equal for one kind on both sides; not its name."""
    return f"{kinds.key(item, is_old=is_old)}({', '.join(map(_plain, item.arguments))})"


def _text(kinds: Kinds, item: Made, *, is_old: bool, with_number: bool) -> str:
    count = f" for {item.count}" if item.is_loop else ""
    return f"{text_of(kinds, item, is_old=is_old)} {item.name if with_number else stem_of(item.name)}{count}"


def _named(olds: Sequence[Made], news: Sequence[Made]) -> Iterator[tuple[int, int]]:
    """The items with a name that a person gave, without a number, and that no other item has."""
    sides = [
        {item.name: at for at, item in enumerate(row) if item.name and stem_of(item.name) == item.name}
        for row in (olds, news)
    ]
    counts = [Counter(item.name for item in row) for row in (olds, news)]
    for name, i in sides[0].items():
        j = sides[1].get(name)
        if j is not None and counts[0][name] == counts[1][name] == 1:
            yield i, j


def _is_ascending(found: Iterable[tuple[int, int]]) -> bool:
    return all(one < other for one, other in pairwise(j for _, j in sorted(found)))


def _gaps(found: Iterable[tuple[int, int]], left: int, right: int) -> list[tuple[range, range]]:
    """What of two rows stands between neighbours that are paired."""
    ends = [(-1, -1), *sorted(found), (left, right)]
    gaps = [(range(i + 1, end), range(j + 1, other)) for (i, j), (end, other) in pairwise(ends)]
    return [gap for gap in gaps if gap[0] and gap[1]]
