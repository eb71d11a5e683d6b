"""What the names of two layers say of them: whether they are kin, and whether what holds them is still called alike.

To be in one place is no evidence: all that an object holds is in one place. What counts are a layer's own words, and
those that it shares with the other alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ckptmigrate.matching.names import INNER
from ckptmigrate.matching.tokens import Tokens, tokens_of
from ckptmigrate.matching.units import Unit

if TYPE_CHECKING:
    from ckptmigrate.matching.propose import Pair

_FEW = 3
"""Fewer variables than this are easily thrown away and made anew, under another name."""


def kinship(s: Unit, t: Unit) -> Tokens:
    """The words that two layers share and that one of them has for itself, not for what holds it."""
    if _is_layer(s) != _is_layer(t):
        # The words of a layer are no more than the place of a variable with a name of its own.
        return s.own & t.own
    return (s.own & t.own) | ((s.own - s.place) & _place(t)) | ((t.own - t.place) & _place(s))


def _place(unit: Unit) -> Tokens:
    """The words of what holds a layer, as people say them: names may have those of a class where paths have words."""
    return tokens_of(unit.holder) or unit.place


def _is_layer(unit: Unit) -> bool:
    """Whether its words are those of a layer, and not those of a variable alone."""
    return unit.roles[0][0] != ""


def are_kin(s: Unit, t: Unit) -> bool:
    """Whether two layers are called alike, or neither is called anything."""
    return bool(kinship(s, t)) or not (s.own or t.own)


def doubt_strangers(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs are not certain if what holds them got a name that has nothing to do with the old one.

    It may as well be another object of the same class, made anew, unless it is large: so much that fits is no chance.
    A layer's own name that stayed says nothing then: Keras calls what has no name after its class.
    """
    renamed = [_renamed(pair) for pair in pairs]
    held: dict[_Names, list[Unit]] = {}
    for pair, names in zip(pairs, renamed, strict=True):
        if names is not None:
            held.setdefault(names, []).append(pair.source)
    small = {names for names, units in held.items() if _is_small(names, units)}
    return [
        replace(pair, caveat="strangers", evidence=(*pair.evidence, _said(names)))
        if names is not None and names in small and pair.is_certain and not pair.is_named
        else replace(pair, caveat="strangers", evidence=(*pair.evidence, _said(_ends(pair))))
        if pair.is_certain and _are_strangers(pair)
        else pair
        for pair, names in zip(pairs, renamed, strict=True)
    ]


def _are_strangers(pair: Pair) -> bool:
    """Whether people call the two, and no word of the one leads to the other: only names are alike, or their class."""
    s, t = pair.source, pair.target
    if _is_layer(s) != _is_layer(t):
        return False
    old, new = tokens_of([s.label]), tokens_of([t.label])
    if not old or not new or old & new:
        return False
    places = tokens_of(s.holder), tokens_of(t.holder)
    return not ((old - places[0]) & places[1] or (new - places[1]) & places[0])


def _ends(pair: Pair) -> _Names:
    return (*pair.source.holder, pair.source.label), (*pair.target.holder, pair.target.label)


_Names = tuple[tuple[str, ...], tuple[str, ...]]
"""The paths to an object of the source and to what it would be in the target."""


def _renamed(pair: Pair) -> _Names | None:
    """The innermost objects that hold the two, and are called nothing that the other side knows.

    None if there are none on one of the sides: then something was wrapped, or is no more.
    """
    # A class may be in names, for want of a better one: it is no object's, so only what leads to it counts.
    ends = pair.source, pair.target
    own = [tokens_of([unit.label]) for unit in ends]
    known = tokens_of(pair.target.holder) | (own[1] - own[0]), tokens_of(pair.source.holder) | (own[0] - own[1])
    olds, news = (
        [
            number
            for number, label in enumerate(unit.holder, 1)
            if (words := tokens_of([label])) and words.isdisjoint(others)
        ]
        for unit, others in zip(ends, known, strict=True)
    )
    return (pair.source.holder[: olds[-1]], pair.target.holder[: news[-1]]) if olds and news else None


def _is_small(names: _Names, units: Sequence[Unit]) -> bool:
    depth = len(names[0])
    below = {(*unit.holder, unit.label)[depth] for unit in units}
    return sum(len(unit.roles) for unit in units) < _FEW or below <= INNER


def _said(names: _Names) -> str:
    old, new = ("/".join(path) for path in names)
    return f"`{old}` and `{new}`, which would be each other, have no word in common"
