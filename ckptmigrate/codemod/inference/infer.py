"""What became of the attributes of a model's classes between two versions of its source.

Classes are paired, then what paired classes hold, then what went from one class to another. Where several things are
about as good, all are left open and said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from ckptmigrate.codemod.inference.alike import Kinds, name_likeness, same_arguments
from ckptmigrate.codemod.inference.facts import Source
from ckptmigrate.codemod.inference.likelihood import clear_pairs
from ckptmigrate.codemod.inference.made import Made
from ckptmigrate.codemod.inference.moves import Labels, Move, Undecided
from ckptmigrate.codemod.inference.objects import Far, Objects
from ckptmigrate.codemod.inference.pair_classes import ClassPair, pair_by_use, pair_classes
from ckptmigrate.codemod.source.project import Place

_AKIN = 0.8
"""How alike the names of things are at least that went from one class to another."""


@dataclass(frozen=True, eq=False)
class Inferred:
    """What two versions of a project's source say together.

    Attributes:
        old: The source before.
        new: The source after.
        classes: The classes that are each other.
        moves: What they hold, what stayed included.
        undecided: What could be several things.
    """

    old: Source
    new: Source
    classes: tuple[ClassPair, ...]
    moves: tuple[Move, ...]
    undecided: tuple[Undecided, ...]

    @property
    def changes(self) -> tuple[Move, ...]:
        """What has another way to it, each told once: where it is defined, and not in classes derived from that."""
        told: dict[tuple[Place, Place, Labels, Labels], Move] = {}
        for move in sorted(self.moves, key=lambda move: self._depth(move.new_owner)):
            if not move.is_kept:
                told.setdefault((move.before.place, move.after.place, move.old, move.new), move)
        order = {name: number for number, name in enumerate(sorted(self.new.facts, key=self._where))}
        return tuple(sorted(told.values(), key=lambda move: (order[move.new_owner], move.after.place.line)))

    def _depth(self, owner: str) -> int:
        each = self.new.project.classes.get(owner)
        return len(self.new.project.ancestors(each)) if each is not None else 0

    def _where(self, owner: str) -> tuple[str, int]:
        place = self.new.facts[owner].place
        return place.file, place.line

    @property
    def renamed_classes(self) -> tuple[ClassPair, ...]:
        """The classes that are called otherwise now, or are elsewhere."""
        return tuple(pair for pair in self.classes if pair.old != pair.new)


def infer(old: Source, new: Source) -> Inferred:
    """Find what the second version calls what the first one has."""
    pairs = pair_classes(old, new)
    while True:
        classes = {pair.old: pair.new for pair in pairs}
        kinds = Kinds(old, new, classes)
        found = [Objects(kinds, old.facts[pair.old], new.facts[pair.new]) for pair in pairs]
        for each in found:
            each.follow_labels()
            each.solve()
        made = (
            (move.before.constructor, move.after.constructor, f"{move.new_owner}.{'.'.join(move.new)}")
            for each in found
            for move in each.moves
        )
        more = pair_by_use(old, new, pairs, made)
        if not more:
            break
        pairs.extend(more)
    moved = list(chain.from_iterable(_moved_between(kinds, found)))
    gone = {(move.old_owner, move.old[0]) for move in moved}, {(move.new_owner, move.new[0]) for move in moved}
    moves = (*chain.from_iterable(each.moves for each in found), *moved)
    undecided = tuple(chain.from_iterable(each.undecided(*gone) for each in found))
    return Inferred(old, new, tuple(pairs), moves, undecided)


# What went from one class to another: into a submodule, or out of one.


def _moved_between(kinds: Kinds, found: Sequence[Objects]) -> Iterator[list[Move]]:
    """What paired classes no longer hold, or did not, and what they hold through something else."""
    by_new = {each.new.owner: each for each in found}
    by_old = {each.old.owner: each for each in found}
    for each in found:
        olds = [Far(unit.way, unit.made) for unit in each.left[0]]
        news = [Far(unit.way, unit.made) for unit in each.left[1]]
        inner_news = list(_inside(each.new.items, kinds.new, by_new, side=1))
        inner_olds = list(_inside(each.old.items, kinds.old, by_old, side=0))
        moves = [*_across(kinds, each, olds, inner_news), *_across(kinds, each, inner_olds, news)]
        used = {move.old for move in moves}, {move.new for move in moves}
        rest = (
            [far for far in inner_olds if far.way not in used[0]],
            [far for far in inner_news if far.way not in used[1]],
        )
        # From one wrapper into another; what stayed in a class that is paired is told there.
        moves.extend(move for move in _across(kinds, each, *rest) if move.old[0] != move.new[0])
        yield moves


def _inside(items: Iterable[Made], source: Source, by_owner: Mapping[str, Objects], *, side: int) -> Iterator[Far]:
    """What objects of a class hold through something else, and what nothing has paired there."""
    counts: dict[str, int] = {}
    items = list(items)
    for item in items:
        counts[item.constructor] = counts.get(item.constructor, 0) + 1
    for item in items:
        facts = source.of(item)
        if facts is None or item.is_loop or counts[item.constructor] > 1:
            continue
        known = by_owner.get(item.constructor)
        if known is None:
            yield from (Far((item.label, inner.label), inner) for inner in facts.items)
        else:
            yield from (Far((item.label, *unit.way), unit.made) for unit in known.left[side])


def _across(kinds: Kinds, each: Objects, olds: Sequence[Far], news: Sequence[Far]) -> list[Move]:
    if not olds or not news:
        return []
    scores = [[_far_score(kinds, one, other, olds, news) for other in news] for one in olds]
    return [
        Move(
            each.old.owner,
            each.new.owner,
            olds[i].way,
            news[j].way,
            olds[i].made,
            news[j].made,
            "moved into or out of another class, made in the same way",
        )
        for i, j in clear_pairs(scores)
    ]


def _far_score(kinds: Kinds, one: Far, other: Far, olds: Sequence[Far], news: Sequence[Far]) -> float | None:
    kind = kinds.of(one.made, other.made)
    if not kind:
        return None
    label = max(name_likeness(one.way[-1], other.way[-1]), name_likeness("_".join(one.way), "_".join(other.way)))
    alike = [[far for far in side if far.made.maker == one.made.maker] for side in (olds, news)]
    in_order = len(alike[0]) == len(alike[1]) and one in alike[0] and other in alike[1]
    order = 0.6 if in_order and alike[0].index(one) == alike[1].index(other) else 0.0
    is_named = bool(one.made.name) and one.made.name == other.made.name
    if label < _AKIN and not is_named:
        return None
    return label + kind + 0.6 * same_arguments(one.made, other.made) + order + 0.8 * is_named
