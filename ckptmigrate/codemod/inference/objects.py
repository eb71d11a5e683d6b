"""The objects of one class before and after, and what became of what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ckptmigrate.codemod.inference.alike import Kinds, aligned, same_arguments
from ckptmigrate.codemod.inference.facts import Facts
from ckptmigrate.codemod.inference.likelihood import Context, clear_pairs
from ckptmigrate.codemod.inference.made import Made
from ckptmigrate.codemod.inference.moves import Labels, Move, Undecided
from ckptmigrate.codemod.inference.units import Unit, flow_unit, units_of

_ROUNDS = 6


class Objects:
    """The objects of one class, before and after."""

    def __init__(self, kinds: Kinds, old: Facts, new: Facts) -> None:
        self.kinds = kinds
        self.old = old
        self.new = new
        self.moves: list[Move] = []
        self.pairs: dict[str, str] = {}
        self.left: tuple[list[Unit], list[Unit]] = ([], [])
        self.doubtful: list[tuple[list[Unit], list[Unit], str]] = []

    def follow_labels(self) -> None:
        """What went into a class that is new, or out of one that is gone, and is called as it was."""
        labels = [{item.label for item in facts.items} for facts in (self.old, self.new)]
        sides = (
            (self.old, labels[1], list(_inside_unpaired(self.kinds, self.new, is_old=False))),
            (self.new, labels[0], list(_inside_unpaired(self.kinds, self.old, is_old=True))),
        )
        for is_new, (facts, known, inner) in enumerate(sides):
            for item in facts.items:
                found = [far for far in inner if far.way[-1] == item.label]
                if item.label in known or len(found) != 1:
                    continue
                near = Far((item.label,), item)
                one, other = (found[0], near) if is_new else (near, found[0])
                if self.kinds.of(one.made, other.made):
                    self._move(one, other, "the same name, in a class that is new or gone")

    def solve(self) -> None:
        """Pair all that the objects hold, as far as it is clear."""
        if self.old.flow and self.new.flow:
            self._rows(flow_unit(self.old), flow_unit(self.new))
        gone, come = {move.old[0] for move in self.moves}, {move.new[0] for move in self.moves}
        olds, news = units_of(
            [item for item in self.old.items if item.label not in gone],
            [item for item in self.new.items if item.label not in come],
        )
        exchanged = self._exchanged(olds, news)
        if exchanged and not self._is_made_crosswise(olds, news, exchanged):
            sides = [olds[i] for i in exchanged], [news[j] for j in exchanged.values()]
            self.doubtful.append((*sides, self._doubt(*sides)))
            olds = [unit for i, unit in enumerate(olds) if i not in exchanged]
            news = [unit for j, unit in enumerate(news) if j not in {*exchanged.values()}]
            exchanged = {}
        reasons = dict.fromkeys(exchanged, "made in the same way, in the same place of the code and the call")
        pairs = exchanged | {
            i: j for i, j in self._unchanged(olds, news) if i not in exchanged and j not in {*exchanged.values()}
        }
        reasons = dict.fromkeys(pairs, "the same attribute") | reasons
        for _ in range(_ROUNDS):
            self.pairs = {olds[i].label: news[j].label for i, j in pairs.items()}
            more = dict(self._clear(olds, news, pairs))
            if not more:
                break
            for i, (j, why) in more.items():
                pairs[i], reasons[i] = j, why
        for i, j in sorted(pairs.items()):
            self._take(olds[i], news[j], reasons[i])
        taken = set(pairs.values())
        self.left = (
            [unit for i, unit in enumerate(olds) if i not in pairs],
            [unit for j, unit in enumerate(news) if j not in taken],
        )

    def _exchanged(self, olds: Sequence[Unit], news: Sequence[Unit]) -> dict[int, int]:
        """What has the place of another one's name now, in the code and in the call, and all else is as it was.

        First of all that the call uses, then of what has a name that both sides have.
        """
        both = {unit.label for unit in olds} & {unit.label for unit in news}
        used = set(self.old.used), set(self.new.used)
        for is_kept in (False, True):
            rows = [
                [
                    at
                    for at, unit in enumerate(units)
                    if not unit.row and unit.label in used[side] and (not is_kept or unit.label in both)
                ]
                for side, units in enumerate((olds, news))
            ]
            if len(rows[0]) != len(rows[1]):
                continue
            places = dict(zip(*rows, strict=True))
            moved = {i: j for i, j in places.items() if olds[i].label != news[j].label}
            labels = {olds[i].label: news[j].label for i, j in places.items()}
            names = {olds[i].label for i in moved} & {news[j].label for j in moved.values()}
            if names and self._are_alike(olds, news, moved) and _fits(self.old, self.new, labels, names):
                return moved
        return {}

    def _are_alike(self, olds: Sequence[Unit], news: Sequence[Unit], pairs: Mapping[int, int]) -> bool:
        return all(self._could_be(olds[i], news[j]) for i, j in pairs.items())

    def _is_made_crosswise(self, olds: Sequence[Unit], news: Sequence[Unit], pairs: Mapping[int, int]) -> bool:
        """Whether nothing of it is made as what has its name was."""
        at = {news[j].label: news[j] for j in pairs.values()}
        return all(olds[i].label in at and not self._could_be(olds[i], at[olds[i].label]) for i in pairs)

    @staticmethod
    def _doubt(olds: Sequence[Unit], news: Sequence[Unit]) -> str:
        labels = [unit.label for unit in olds]
        if {*labels} == {unit.label for unit in news}:
            names = f"{', '.join(labels[:-1])} and {labels[-1]}"
            return f"{names} may have swapped their names: definition and call agree"
        return "a name that both have may be another's now: its place in definition and call is"

    def _unchanged(self, olds: Sequence[Unit], news: Sequence[Unit]) -> Iterator[tuple[int, int]]:
        """What is called as it was and made as it was; and where it is made otherwise, nothing else is."""
        at = {unit.label: j for j, unit in enumerate(news) if not unit.row}
        known = {unit.label for unit in olds}
        rows = {(unit.label, unit.made.kind): j for j, unit in enumerate(news) if unit.row}
        fresh = [unit for unit in news if unit.label not in known]
        for i, one in enumerate(olds):
            j = rows.get((one.label, one.made.kind)) if one.row else at.get(one.label)
            if j is None:
                continue
            other = news[j]
            kind = self.kinds.of(one.made, other.made)
            is_same = kind is not None and same_arguments(one.made, other.made) == 1
            if one.row or is_same or not any(self._could_be(one, unit) for unit in fresh):
                yield i, j

    def _could_be(self, one: Unit, other: Unit) -> bool:
        return bool(self.kinds.of(one.made, other.made)) and same_arguments(one.made, other.made) == 1

    def _clear(
        self, olds: Sequence[Unit], news: Sequence[Unit], pairs: Mapping[int, int]
    ) -> Iterator[tuple[int, tuple[int, str]]]:
        """More pairs, where nothing else is about as good."""
        taken = set(pairs.values())
        rows = [i for i in range(len(olds)) if i not in pairs]
        columns = [j for j in range(len(news)) if j not in taken]
        if not rows or not columns:
            return
        context = Context(self.old, self.new, olds, news, pairs, self.kinds)
        scores = [[context.score(i, j) for j in columns] for i in rows]
        for a, b in clear_pairs(scores):
            i, j = rows[a], columns[b]
            yield i, (j, context.reason(i, j))

    def _take(self, one: Unit, other: Unit, why: str) -> None:
        if one.row or other.row:
            self._rows(one, other)
            if one.made.items and other.made.items and one.way != other.way:
                self._move(Far(one.way, one.made), Far(other.way, other.made), why)
            return
        self._move(Far(one.way, one.made), Far(other.way, other.made), why)
        if one.made.kind == other.made.kind == "dict":
            self._dict(one, other)

    def _move(self, one: Far, other: Far, why: str, *, is_placed: bool = False) -> None:
        self.moves.append(
            Move(self.old.owner, self.new.owner, one.way, other.way, one.made, other.made, why, is_placed)
        )

    def _rows(self, one: Unit, other: Unit) -> None:
        found = aligned(self.kinds, one.items, other.items)
        if not self._are_used_in_order([(one.row[i], other.row[j]) for i, j, _ in found]):
            found = []
        is_placed = len(found) < max(len(one.items), len(other.items)) or any(i != j for i, j, _ in found)
        for i, j, why in found:
            self._move(Far(one.row[i], one.items[i]), Far(other.row[j], other.items[j]), why, is_placed=is_placed)
        left = [i for i in range(len(one.items)) if i not in {i for i, _, _ in found}]
        right = [j for j in range(len(other.items)) if j not in {j for _, j, _ in found}]
        # With nothing on one side, things only went or only came.
        if left and right:
            sides = [
                [Unit("/".join(unit.row[at]), unit.items[at], at) for at in places]
                for unit, places in ((one, left), (other, right))
            ]
            self.doubtful.append((sides[0], sides[1], "items of a list that changed, and nothing tells which is which"))

    def _are_used_in_order(self, pairs: Sequence[tuple[Labels, Labels]]) -> bool:
        """Whether the call uses numbered attributes that are paired in one order before and after."""
        after = {old[0]: new[0] for old, new in pairs if len(old) == len(new) == 1}
        before = [after[label] for label in self.old.used if label in after]
        return before == [label for label in self.new.used if label in set(before)]

    def _dict(self, one: Unit, other: Unit) -> None:
        holder = Objects(
            self.kinds,
            Facts(self.old.owner, one.made.place, one.made.items),
            Facts(self.new.owner, other.made.place, other.made.items),
        )
        holder.solve()
        for move in holder.moves:
            self.moves.append(replace(move, old=(*one.way, *move.old), new=(*other.way, *move.new)))
        self.doubtful.extend(holder.doubtful)

    def undecided(self, gone: set[tuple[str, str]], come: set[tuple[str, str]]) -> Iterator[Undecided]:
        """What is left of both sides and could be each other."""
        olds = [unit for unit in self.left[0] if (self.old.owner, unit.way[0]) not in gone]
        news = [unit for unit in self.left[1] if (self.new.owner, unit.way[0]) not in come]
        for one in olds:
            alike = [other for other in news if self.kinds.of(one.made, other.made)]
            if alike:
                yield self._say([one], alike, "neither names, nor text, nor use tell clearly what it became")
        for left, right, reason in self.doubtful:
            yield self._say(left, right, reason)

    def _say(self, olds: Sequence[Unit], news: Sequence[Unit], reason: str) -> Undecided:
        sides = [tuple((unit.label or unit.made.maker, unit.made.place) for unit in units) for units in (olds, news)]
        return Undecided(self.new.owner, sides[0], sides[1], reason)


@dataclass(frozen=True, slots=True)
class Far:
    """A thing with the way to it from an object that it may be held by through another."""

    way: Labels
    made: Made


def _fits(old: Facts, new: Facts, labels: Mapping[str, str], names: set[str]) -> bool:
    """Whether the call is as it was if labels are renamed, and is not if names stay."""
    known = {*labels, ""}, {*labels.values(), ""}
    before = {(a, b) for a, b in old.inputs if {a, b} <= known[0]}
    after = {(a, b) for a, b in new.inputs if {a, b} <= known[1]}
    order = [labels[label] for label in old.used if label in labels]
    return (
        {edge for edge in before if names & {*edge}} != {edge for edge in after if names & {*edge}}
        and {(labels.get(a, a), labels[b]) for a, b in before} == after
        and order == [label for label in new.used if label in known[1]]
        and all(old.roles.get(one) == new.roles.get(other) for one, other in labels.items())
    )


def _inside_unpaired(kinds: Kinds, facts: Facts, *, is_old: bool) -> Iterator[Far]:
    """What objects of a class hold through objects of classes that only one version has."""
    source = kinds.old if is_old else kinds.new
    for item in facts.items:
        inner = source.of(item)
        if inner is not None and not item.is_loop and not kinds.is_paired(item, is_old=is_old):
            yield from (Far((item.label, each.label), each) for each in inner.items)
