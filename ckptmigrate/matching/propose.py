"""What leads where when no path and no rule says it: from structure, names and order together.

Two graphs are read as units (`units`), and units of one gate are candidates for each other. Within a gate the
words of paths and names decide, by the best assignment; but an edge of it is believed only as far as the best
assignment without it is worse (its *regret*). One kind of evidence that contradicts another is a question.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from operator import mul

from ckptmigrate.matching.balance import balanced_groups
from ckptmigrate.matching.confidence import Caveat
from ckptmigrate.matching.forms import may_become
from ckptmigrate.matching.kinship import are_kin, doubt_strangers, kinship
from ckptmigrate.matching.names import are_given, given_among, is_automatic
from ckptmigrate.matching.tokens import Tokens, tokens_of, weight_of
from ckptmigrate.matching.units import List, Nobodys, Shape, Unit

_MOST = 48
"""Gates with more candidates are settled by equal names or not at all: the best assignment is cubic."""

_DIGITS = re.compile(r"\d+")

_CLEAR = 0.99
"""The regret of an edge that is believed: a word that only its two ends share, or more."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A unit of the source and what it is in the target.

    Attributes:
        source: The unit of the source.
        target: The unit of the target, with its members in the order of the source's.
        caveat: What keeps it from being certain; None if the evidence is conclusive.
        evidence: The reasons, in words.
        is_named: Whether every member has the name of its twin, which people gave: that is its identity.
        is_alone: Whether nothing else on either side has the shapes and roles of one of them.
    """

    source: Unit
    target: Unit
    caveat: Caveat | None
    evidence: tuple[str, ...]
    is_named: bool = False
    is_alone: bool = True

    @property
    def is_certain(self) -> bool:
        return self.caveat is None

    def nodes(self) -> Iterator[tuple[int, int]]:
        """The variables of both, each with its twin."""
        for olds, news in zip(self.source.members, self.target.members, strict=True):
            yield from zip(olds, news, strict=True)


@dataclass(frozen=True, slots=True)
class Open:
    """Units that could be paired in several ways; the likeliest twin of each is at the same index."""

    sources: tuple[Unit, ...]
    targets: tuple[Unit, ...]
    reason: str


def pair_units(sources: Sequence[Unit], targets: Sequence[Unit], nobodys: Nobodys) -> tuple[list[Pair], list[Open]]:
    """Pair the units of two graphs.

    Args:
        sources: The units of the source that nothing else has settled.
        targets: Those of the target.
        nobodys: Names of layers that tell no layer.

    Returns:
        The pairs that the evidence leads to, and the units for which it does not decide.
    """
    pairs: list[Pair] = []
    opens: list[Open] = []
    components = list(_components(sources, targets))
    # Where everything has a twin, nothing went and nothing came: less evidence is needed than where much is left.
    is_complete = (
        all(len(each.sources) == len(each.targets) for each in components)
        and sum(len(each.sources) for each in components) == len(sources) == len(targets)
    )  # fmt: skip
    families = _families(sources), _families(targets)
    ends = _count_ends(sources), _count_ends(targets)
    known = _Known(dull_words(sources) | dull_words(targets), nobodys, is_complete, families, ends)
    for candidates in components:
        found, left = _decide(candidates, known)
        pairs.extend(found)
        if left is not None:
            opens.append(left)
    pairs = _unlike(_by_lists(_anchored(pairs), sources, targets), sources, targets)
    pairs = _beside_changed(pairs, sources, targets)
    return doubt_strangers(pairs), opens


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of all units of both sides.

    Attributes:
        dull: Words that tell nothing apart.
        nobodys: Names of layers that are no identity: several of a side have them, or differ in a count alone.
        is_complete: Whether there are as many candidates on both sides everywhere.
        families: For each side, how many layers are called alike but for the numbers of blocks.
        ends: For each side, how many names end so.
    """

    dull: frozenset[str]
    nobodys: Nobodys
    is_complete: bool
    families: tuple[Counter[object], Counter[object]]
    ends: tuple[Counter[str], Counter[str]]


@dataclass(frozen=True, slots=True)
class _Candidates:
    sources: tuple[Unit, ...]
    targets: tuple[Unit, ...]
    fits: frozenset[tuple[int, int]]


def _components(sources: Sequence[Unit], targets: Sequence[Unit]) -> Iterator[_Candidates]:
    """Units that may be each other, in groups that have nothing to do with each other."""
    gates: dict[object, tuple[list[Unit], list[Unit]]] = {}
    for side, units in enumerate((sources, targets)):
        for unit in units:
            gates.setdefault(unit.gate, ([], []))[side].append(unit)
    for left, right in gates.values():
        if left and right:
            yield from _connected(left, right) if len(left) * len(right) <= _MOST**2 else _by_spec(left, right)


def _connected(left: Sequence[Unit], right: Sequence[Unit]) -> Iterator[_Candidates]:
    fits = [{column for column, t in enumerate(right) if _reach(s, t)} for s in left]
    seen: set[int] = set()
    for start in range(len(left)):
        rows, columns = {start}, set(fits[start])
        if start in seen or not columns:
            continue
        while more := {row for row, own in enumerate(fits) if own & columns} - rows:
            rows |= more
            columns.update(*(fits[row] for row in more))
        seen |= rows
        at_row, at_column = sorted(rows), sorted(columns)
        yield _Candidates(
            tuple(left[row] for row in at_row),
            tuple(right[column] for column in at_column),
            frozenset((i, at_column.index(column)) for i, row in enumerate(at_row) for column in fits[row]),
        )


def _by_spec(left: Sequence[Unit], right: Sequence[Unit]) -> Iterator[_Candidates]:
    """Many candidates: only those with equal shapes, and of these only those with equal names."""
    named: dict[object, tuple[list[Unit], list[Unit]]] = {}
    for side, units in enumerate((left, right)):
        for unit in units:
            named.setdefault((unit.roles, unit.tokens), ([], []))[side].append(unit)
    for some, others in named.values():
        if len(some) == len(others) == 1:
            yield _Candidates(tuple(some), tuple(others), frozenset({(0, 0)}))


def _reach(source: Unit, target: Unit) -> bool:
    """Whether every variable can become the other's without a value changing its place among the others."""
    return all(
        reshapes(ours.shape, theirs.shape) for (_, ours), (_, theirs) in zip(source.roles, target.roles, strict=True)
    )


def reshapes(source: Shape, target: Shape) -> bool:
    """Whether one shape is the other with axes split or joined: (48, 48) and (48, 12, 4), not (2, 3) and (3, 2)."""
    if source == target:
        return True
    ends, others = ({*accumulate(shape, mul)} for shape in (source, target))
    return (
        len(source) != len(target)
        and max(ends, default=1) == max(others, default=1)
        and (ends <= others | {1} or others <= ends | {1})
    )


# One gate.


def _best_assignment(scores: Sequence[Sequence[float | None]]) -> tuple[dict[int, int], float]:
    """The column of each row in the one-to-one assignment with the largest sum of scores, and that sum.

    As many are assigned as can be; None is where two must not be paired.
    """
    from scipy.optimize import linear_sum_assignment

    never = -1e6
    rows, columns = linear_sum_assignment(
        [[never if value is None else value for value in row] for row in scores], maximize=True
    )
    chosen = {
        row: column
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if scores[row][column] is not None
    }
    return chosen, sum(scores[row][column] or 0.0 for row, column in chosen.items())


def _decide(candidates: _Candidates, known: _Known) -> tuple[list[Pair], Open | None]:
    is_alone = len(candidates.sources) == len(candidates.targets) == 1
    judged = [_judged_alone(candidates, known)] if is_alone else list(_judged(candidates, known))
    pairs: list[Pair] = []
    left: list[tuple[Unit, Unit]] = []
    for s, t, regret, evidence in judged:
        blocks = _members(s, t, known)
        is_clear = regret >= _CLEAR
        if blocks is None or not (is_clear or blocks.is_named or (len(judged) == 1 and regret > 0)):
            left.append((s, t))
            continue
        caveat = None if is_clear or blocks.is_named else _why_unclear(s, t, is_alone=is_alone)
        pairs.append(Pair(s, blocks.target, caveat, (*evidence, *blocks.evidence), blocks.is_named, is_alone))
    if not left:
        return pairs, None
    reason = "these have one shape and role, and neither names nor order tell which is which"
    # What has no twin in the best assignment may have one all the same.
    judged_units = {id(unit) for s, t, _, _ in judged for unit in (s, t)}
    rest = [
        [unit for unit in units if id(unit) not in judged_units] for units in (candidates.sources, candidates.targets)
    ]
    return pairs, Open((*(s for s, _ in left), *rest[0]), (*(t for _, t in left), *rest[1]), reason)


def _why_unclear(s: Unit, t: Unit, *, is_alone: bool) -> Caveat:
    if not is_alone:
        return "names-unclear"
    # Layers are thrown away and made anew one by one: that all blocks were is less likely.
    return "shape-and-a-word" if kinship(s, t) else "shape-of-blocks" if len(s.members) > 1 else "shape-alone"


_Judged = tuple[Unit, Unit, float, list[str]]
"""Two units that may be each other, how much speaks for it more than for anything else, and why."""

_UNCLEAR = _CLEAR / 2
"""What speaks for a pair that is no more than likely."""


def _judged_alone(candidates: _Candidates, known: _Known) -> _Judged:
    (s,), (t,) = candidates.sources, candidates.targets
    words = sorted(kinship(s, t) - known.dull)
    evidence = ["the only one of its shape and role", *([f"names: {', '.join(words)}"] if words else [])]
    is_clear = weight_of(words) >= (0.5 if known.is_complete else _CLEAR)
    return s, t, _CLEAR if is_clear else _UNCLEAR, evidence


def _judged(candidates: _Candidates, known: _Known) -> Iterator[_Judged]:
    """The pairs of the best assignments of those that are called alike."""
    groups = list(_called_alike(candidates))
    common = frozenset.intersection(*(unit.tokens for unit in (*candidates.sources, *candidates.targets)))
    judged = [(each, len(alike.sources) == 1) for alike in groups for each in _assigned(alike, known)]
    # The order in which things are made counts where no name tells them apart.
    unnamed = [(s, t) for (s, t, _, _), is_alone in judged if not (is_alone and kinship(s, t) - common)]
    for (s, t, regret, evidence), _ in judged:
        is_crossed = any(s is old for old, _ in unnamed) and _crosses(s, t, unnamed)
        yield s, t, min(regret, _UNCLEAR) if is_crossed else regret, evidence


def _called_alike(candidates: _Candidates) -> Iterator[_Candidates]:
    """Candidates in groups that words tell apart, where just as many have each of them on both sides.

    Of the kernels of an encoder and of a decoder as many are an encoder's here as there, and of these as many belong
    to a query: neither word is one layer's alone, and both together are.
    """
    rows, columns = range(len(candidates.sources)), range(len(candidates.targets))
    groups = balanced_groups([unit.tokens for unit in candidates.sources], [unit.tokens for unit in candidates.targets])
    if not all(
        all(any((i, j) in candidates.fits for j in group[1]) for i in group[0])
        and all(any((i, j) in candidates.fits for i in group[0]) for j in group[1])
        for group in groups
    ):
        groups = [(tuple(rows), tuple(columns))]
    for some, others in groups:
        yield _Candidates(
            tuple(candidates.sources[i] for i in some),
            tuple(candidates.targets[j] for j in others),
            frozenset((a, b) for a, i in enumerate(some) for b, j in enumerate(others) if (i, j) in candidates.fits),
        )


def _assigned(candidates: _Candidates, known: _Known) -> Iterator[_Judged]:
    """The pairs of the best assignment."""
    scores = _scores(candidates, known)
    chosen, total = _best_assignment(scores)
    found = [(candidates.sources[i], candidates.targets[j]) for i, j in chosen.items()]
    balanced = len(candidates.sources) == len(candidates.targets)
    for (i, j), (s, t) in zip(chosen.items(), found, strict=True):
        without = [[None if (a, b) == (i, j) else value for b, value in enumerate(row)] for a, row in enumerate(scores)]
        other, second = _best_assignment(without)
        regret = total - second if len(other) == len(chosen) else math.inf
        words = ", ".join(sorted(s.tokens & t.tokens))
        evidence = [f"names: {words}" if words else "what is left when the others are paired"]
        if not ((balanced or scores[i][j]) and are_kin(s, t)):
            regret = min(regret, _UNCLEAR)
        yield s, t, regret, evidence


def dull_words(units: Sequence[Unit]) -> frozenset[str]:
    """Words of so many units that they tell nothing apart."""
    counts = Counter(word for unit in units for word in unit.tokens)
    return frozenset(word for word, count in counts.items() if 2 * count > len(units))


def _scores(candidates: _Candidates, known: _Known) -> list[list[float | None]]:
    """How many words two units share that not all candidates of a side have; None where shapes do not fit."""
    common = [
        frozenset.intersection(*(unit.tokens for unit in units)) if len(units) > 1 else frozenset[str]()
        for units in (candidates.sources, candidates.targets)
    ]
    dull = common[0] | common[1]
    counts: dict[str, list[int]] = {}
    for side, units in enumerate((candidates.sources, candidates.targets)):
        for unit in units:
            for word in unit.tokens - dull:
                counts.setdefault(word, [0, 0])[side] += 1
    table: list[list[float | None]] = []
    for i, s in enumerate(candidates.sources):
        row: list[float | None] = []
        for j, t in enumerate(candidates.targets):
            if (i, j) not in candidates.fits:
                row.append(None)
                continue
            shared = (s.tokens & t.tokens) - dull
            score = sum(1 / max(counts[word]) for word in shared)
            # A number may have changed, but if it has not, that says something.
            score += 0.5 * len(s.numbered & t.numbered)
            score += 3.0 * (_same_given_name(s, t) and s.names[0] not in known.nobodys)
            row.append(score)
        table.append(row)
    return table


def _same_given_name(s: Unit, t: Unit) -> bool:
    name = s.names[0]
    return bool(name) and name == t.names[0] and not is_automatic(name.rpartition("/")[2])


def _crosses(s: Unit, t: Unit, pairs: Sequence[tuple[Unit, Unit]]) -> bool:
    """Whether the pair stands the other way round than another pair of its group, both within one object."""
    if s.order is None or t.order is None:
        return False
    return any(
        (old.order < s.order) != (new.order < t.order)
        for old, new in pairs
        if old is not s
        and old.order is not None
        and new.order is not None
        and (old.holder, new.holder) == (s.holder, t.holder)
    )


# The blocks of a unit.


def _members(s: Unit, t: Unit, known: _Known) -> _Blocks | None:
    """The target's unit with its members in the order of the source's; None if names and order contradict."""
    # What a class calls its variables says which class it is, and not which object.
    are_objects = s.roles[0][0] != "" or not any("/" in name for name in s.names)
    by_name = (
        by_given_names(s.names, t.names) if are_objects and not any(name in known.nobodys for name in s.names) else None
    )
    if by_name is not None and _are_theirs_alone(s.names, t.names, known):
        return _Blocks(_reordered(t, by_name), ("each has the other's name",), is_named=True)
    if len(s.members) == 1:
        return _Blocks(t, ())
    if s.is_numbered != t.is_numbered or _are_renumbered(s, t) or _are_shifted(s, t, known):
        return None
    if _are_partly_renamed(s, t, known):
        return None
    many = f"{len(s.members)} equal blocks, in the order of their indices"
    old_numbers, new_numbers = numbering(s.names), numbering(t.names)
    if old_numbers is None or new_numbers is None:
        return _Blocks(t, (many,))
    return _Blocks(t, (f"{many} and of the numbers in their names",)) if _agree(old_numbers, new_numbers) else None


def _are_renumbered(s: Unit, t: Unit) -> bool:
    """Whether people number the blocks on both sides, and not from the same number on.

    Who inserts one at one end and takes one out at the other may number the others anew, or not.
    """
    old, new = _given_numbers(s), _given_numbers(t)
    return old != new and {*map(len, old)} == {*map(len, new)} != {0}


def _are_partly_renamed(s: Unit, t: Unit, known: _Known) -> bool:
    """Whether some of the blocks are called as they were, and others as none was: these may be new."""
    # What is `a/b` in Keras 2 is `a_b` in Keras 3.
    old, new = (
        {name.replace("/", "_") for name in given_among(unit.names) if name not in known.nobodys} for unit in (s, t)
    )
    return old != new and bool(old & new)


def _are_shifted(s: Unit, t: Unit, known: _Known) -> bool:
    """Whether the blocks have other numbers, and there are more like them: the others may be what came or went."""
    old, new = ([tuple(number for _, number in places) for places in unit.places] for unit in (s, t))
    if _varying(old) == _varying(new) or len(old[0]) != len(new[0]):
        return False
    return any(
        families[_family(unit)] > len(unit.members) for families, unit in zip(known.families, (s, t), strict=True)
    )


def _families(units: Sequence[Unit]) -> Counter[object]:
    found: Counter[object] = Counter()
    for unit in units:
        found[_family(unit)] += len(unit.members)
    return found


def _family(unit: Unit) -> object:
    """What a layer is called but for the numbers of blocks; one list may hold an encoder's and a decoder's."""
    return re.sub(r"\d+", "#", "/".join((*unit.holder, unit.label))), unit.roles, unit.tokens


def _given_numbers(unit: Unit) -> set[tuple[int, ...]]:
    """The numbers in attributes that tell blocks apart: those that people gave, not a framework or a list."""
    numbers = [
        tuple(number for (_, before, _), number in places if before.strip("_") and not before.endswith("-"))
        for places in unit.places
    ]
    return _varying(numbers)


def _varying(numbers: Sequence[tuple[int, ...]]) -> set[tuple[int, ...]]:
    """The numbers of several things, but for those that all of them have."""
    return {*zip(*(column for column in zip(*numbers, strict=True) if len({*column}) > 1), strict=True)}


@dataclass(frozen=True, slots=True)
class _Blocks:
    target: Unit
    evidence: tuple[str, ...]
    is_named: bool = False


def by_given_names(olds: Sequence[str], news: Sequence[str]) -> list[int] | None:
    """Which member has the name of each, where all names are different, the same on both sides, and given.

    On one of the sides the names may begin with what holds the layers, which is nothing on the other.
    """
    olds, news = _without_holders(olds, news), _without_holders(news, olds)
    if "" in olds or len({*olds}) != len(olds) or {*olds} != {*news} or not are_given(olds):
        return None
    at = {name: number for number, name in enumerate(news)}
    return [at[name] for name in olds]


def _are_theirs_alone(olds: Sequence[str], news: Sequence[str], known: _Known) -> bool:
    """Whether equal names, or equal ends of names, are those of no other layers."""
    if {*olds} == {*news}:
        return True
    shorter = min((olds, news), key=lambda names: sum(map(len, names)))
    return all(ends[name] == 1 for ends in known.ends for name in shorter)


def _count_ends(units: Sequence[Unit]) -> Counter[str]:
    return Counter(end for unit in units for name in unit.names for end in _ends(name))


def _without_holders(names: Sequence[str], others: Sequence[str]) -> list[str]:
    """Names that end as one of the others, which is whole, does: that."""
    wholes = {*others}
    return [next((end for end in _ends(name) if end in wholes), name) for name in names]


def _ends(name: str) -> Iterator[str]:
    """A name, and what is left of it without what is before one of its ``/``."""
    while name:
        yield name
        name = name.partition("/")[2]


def _reordered(unit: Unit, order: Sequence[int]) -> Unit:
    return replace(unit, members=tuple(unit.members[number] for number in order))


@dataclass(frozen=True, slots=True)
class _Numbering:
    """Names that differ in numbers only: the text around these, the numbers, and those of them that people gave."""

    stem: str
    numbers: tuple[tuple[int, ...], ...]
    given: tuple[tuple[int, ...], ...]


def numbering(names: Sequence[str]) -> _Numbering | None:
    """The numbers in names that differ in nothing else; a name without a number is a framework's first."""
    texts = [
        "/".join(
            f"{segment}_0" if is_automatic(segment) and not re.search(r"_\d+$", segment) else segment
            for segment in name.split("/")
        )
        for name in names
    ]
    stems = {_DIGITS.sub("#", text) for text in texts}
    numbers = [tuple(map(int, _DIGITS.findall(text))) for text in texts]
    if len(stems) > 1 or len({*numbers}) < len(numbers):
        return None
    varying = [column for column in zip(*numbers, strict=True) if len({*column}) > 1]
    if not varying:  # one name alone is in no order
        return None
    given = tuple(
        tuple(
            int(found) for segment in text.split("/") if not is_automatic(segment) for found in _DIGITS.findall(segment)
        )
        for text in texts
    )
    return _Numbering(stems.pop(), tuple(zip(*varying, strict=True)), given)


def _agree(old: _Numbering, new: _Numbering) -> bool:
    """Whether the numbers of two sides may be those of the same blocks.

    Numbers that a framework gave, or that another naming gave, may begin elsewhere, but not stand in another order;
    those that people gave are the same in the same name.
    """
    if old.stem == new.stem and old.given != new.given:
        return False
    return ranks(old.numbers) == ranks(new.numbers)


def ranks(numbers: Sequence[tuple[int, ...]]) -> list[int]:
    order = {number: rank for rank, number in enumerate(sorted(numbers))}
    return [order[number] for number in numbers]


def _anchored(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs that only their shape speaks for are certain where the rest of their blocks is: so many are no chance."""
    sure = {lists for pair in pairs if pair.is_certain and pair.source.counts for lists in _lists_of(pair)}
    return [
        replace(pair, caveat=None, evidence=(*pair.evidence, "the rest of its blocks are paired"))
        if not pair.is_certain
        and pair.is_alone
        and pair.source.counts
        and are_kin(pair.source, pair.target)
        and sure.intersection(_lists_of(pair))
        else pair
        for pair in pairs
    ]


def _lists_of(pair: Pair) -> Iterator[tuple[List, List]]:
    """The lists of the two sides that hold the blocks of a pair, each with each."""
    for source_list, _ in pair.source.places[0]:
        for target_list, _ in pair.target.places[0]:
            yield source_list, target_list


def _unlike(pairs: Sequence[Pair], sources: Sequence[Unit], targets: Sequence[Unit]) -> list[Pair]:
    """Pairs are not certain if something else is called as one of the two is, and the other is not.

    Both kernels of a block change places if all are transposed: each has the shape that the other had.
    """
    called = [_Called(units) for units in (sources, targets)]
    return [
        replace(pair, caveat="namesake", evidence=(*pair.evidence, "something else has its name"))
        if pair.is_certain
        and not pair.is_named
        and (called[0].another(pair.target, pair.source) or called[1].another(pair.source, pair.target))
        else pair
        for pair in pairs
    ]


def _beside_changed(pairs: Sequence[Pair], sources: Sequence[Unit], targets: Sequence[Unit]) -> list[Pair]:
    """Items of a list are not certain if one like them, of a changed size, is new on one side: it may be one of them.

    A table that grew beside one like it that is new looks as if the new one were the old one.
    """
    gates = [{unit.gate for unit in units} for units in (sources, targets)]
    lone: list[dict[object, list[Unit]]] = [{}, {}]
    for side, units in enumerate((sources, targets)):
        for unit in units:
            if unit.gate not in gates[1 - side] and not tokens_of([unit.label]):
                lone[side].setdefault(_place_in_row(unit), []).append(unit)

    def may_be(unit: Unit, others: Sequence[Unit]) -> bool:
        shapes = [spec.shape for _, spec in unit.roles]
        return max(map(len, shapes)) > 1 and any(
            all(map(may_become, shapes, (spec.shape for _, spec in other.roles))) for other in others[:_MOST]
        )

    return [
        replace(pair, caveat="names-unclear", evidence=(*pair.evidence, "one like it, of another size, is beside it"))
        if pair.is_certain
        and not pair.is_named
        and (
            may_be(pair.source, lone[1].get(_place_in_row(pair.target), ()))
            or may_be(pair.target, lone[0].get(_place_in_row(pair.source), ()))
        )
        else pair
        for pair in pairs
    ]


def _place_in_row(unit: Unit) -> object:
    """The row that a layer is an item of, and what it holds; None if it is called something."""
    roles = tuple(role for role, _ in unit.roles)
    return None if tokens_of([unit.label]) else (*unit.holder, re.sub(r"\d+", "#", unit.label), roles)


class _Called:
    """The units of a side by what they are called."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units: dict[object, dict[object, Unit]] = {}
        for unit in units:
            for name in self._names(unit):
                self._units.setdefault(name, {}).setdefault((unit.place, unit.roles, len(unit.members)), unit)

    def another(self, one: Unit, twin: Unit) -> bool:
        """Whether a unit of this side is called as one of the other side is, more than its twin on this side is.

        Just as much is enough for what has the very shapes and was no candidate, being folded with others like it.
        """
        near, known = len(one.place & twin.place), set(self._names(twin))
        return any(
            len(one.place & unit.place) >= near + (name in known and not self._is_folded_otherwise(unit, twin))
            for name in self._names(one)
            for unit in islice(self._units.get(name, {}).values(), _MOST)
        )

    @staticmethod
    def _is_folded_otherwise(unit: Unit, twin: Unit) -> bool:
        return unit.roles == twin.roles and len(unit.members) != len(twin.members)

    @staticmethod
    def _names(unit: Unit) -> Iterator[object]:
        if unit.own:
            role = unit.roles[0][0]
            yield unit.own, role
            yield unit.label.strip("_").lower(), role


def are_transposed(sources: Sequence[Unit], targets: Sequence[Unit]) -> bool:
    """Whether some matrix has its axes the other way round on the other side, as its name shows."""
    turned: dict[object, dict[Tokens, None]] = {}
    for unit in sources:
        for shape in _oblong(unit):
            turned.setdefault((unit.own, shape), {})[_place_in_model(unit)] = None
    return any(
        place <= (ours := _place_in_model(unit)) or ours <= place
        for unit in targets
        for shape in _oblong(unit)
        for place in islice(turned.get((unit.own, shape[::-1]), ()), _MOST)
    )


def _place_in_model(unit: Unit) -> Tokens:
    """The words of what holds a layer within its model: what the model itself is called is another matter."""
    return unit.place - tokens_of(unit.holder[:1])


def _oblong(unit: Unit) -> Iterator[Shape]:
    return (spec.shape for _, spec in unit.roles if len({*spec.shape}) == len(spec.shape) == 2)


def _by_lists(pairs: Sequence[Pair], sources: Sequence[Unit], targets: Sequence[Unit]) -> list[Pair]:
    """What the order of whole lists says of their items.

    Where every item of a list has its twin in another, in the same order, the lists are the same. An item that
    stands the other way round than others is not certain: it moved, or it went and another like it came, and nothing
    tells these apart but a name.
    """
    of_lists: dict[tuple[List, List], set[tuple[int, int, int]]] = {}
    for at, pair in enumerate(pairs):
        for old, new in zip(pair.source.places, pair.target.places, strict=True):
            for source_list, i in old:
                for target_list, j in new:
                    of_lists.setdefault((source_list, target_list), set()).add((i, j, at))
    lengths = [_lengths(units) for units in (sources, targets)]
    crossed: set[int] = set()
    agreed: set[int] = set()
    known: set[int] = set()
    for (source_list, target_list), places in of_lists.items():
        across = set(_crossing(sorted(places)))
        crossed |= across
        twins = {(i, j) for i, j, _ in places}
        if not across and len(twins) == lengths[0][source_list] == lengths[1][target_list] > 1:
            agreed.update(at for _, _, at in places)
            if sum(pairs[at].is_certain for _, _, at in places) >= _MOST_OF_A_LIST * len(places):
                known.update(at for _, _, at in places)
    return [_judged_by_lists(pair, at in agreed, at in crossed, at in known) for at, pair in enumerate(pairs)]


_MOST_OF_A_LIST = 0.8
"""Where so many items of a list are known, one that has a name on one side only is what stands in its place."""


def _judged_by_lists(pair: Pair, is_agreed: bool, is_crossed: bool, is_known: bool) -> Pair:  # noqa: FBT001
    if is_crossed and not pair.is_named:
        return replace(pair, caveat="list-order", evidence=(*pair.evidence, "its list changed order"))
    is_kin = are_kin(pair.source, pair.target) or (is_known and not (pair.source.own and pair.target.own))
    if is_agreed and not pair.is_certain and pair.is_alone and is_kin:
        return replace(pair, caveat=None, evidence=(*pair.evidence, "all items of its list agree, in their order"))
    return pair


def _lengths(units: Sequence[Unit]) -> Counter[List]:
    """How many items of each list hold units."""
    items = {place for unit in units for places in unit.places for place in places}
    return Counter(which for which, _ in items)


def _crossing(places: Sequence[tuple[int, int, int]]) -> Iterator[int]:
    """Of pairs of indices, ascending, those that another pair crosses: a larger index before, or a smaller behind."""
    news = [new for _, new, _ in places]
    before = [-1, *accumulate(news, max)]
    behind = [math.inf, *accumulate(reversed(news), min)][::-1]
    for (_, new, at), highest, lowest in zip(places, before, behind[1:], strict=False):
        if highest > new or lowest < new:
            yield at
