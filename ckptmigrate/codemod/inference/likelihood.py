"""How well things of two versions fit each other, and which pairs are clearly better than any other.

As in matching, a pair is taken only as far as the best assignment without it is worse (its *regret*).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ckptmigrate.codemod.inference.alike import Kinds, aligned, name_likeness, same_arguments, text_of
from ckptmigrate.codemod.inference.facts import Facts
from ckptmigrate.codemod.inference.units import Unit
from ckptmigrate.matching.alignment import sure_pairs

_LEAST = 1.5
"""A pair that has no more to say than this is none."""

_CLEAR = 0.5
"""The regret of a pair that is believed."""

_ALIKE = 0.6
"""So many of the arguments are the same of a thing that got another name."""

_AKIN = 1.0
"""How alike names are that say as much as what something is."""

_MOST = 64
"""Objects that hold more than this that is not known are left open: the best assignment is cubic."""


class Context:
    """How well two things fit each other, given those that are paired."""

    def __init__(  # noqa: PLR0917  # two of each
        self,
        old: Facts,
        new: Facts,
        olds: Sequence[Unit],
        news: Sequence[Unit],
        pairs: Mapping[int, int],
        kinds: Kinds,
    ) -> None:
        self.olds, self.news, self.kinds = olds, news, kinds
        self.labels = {"": ""} | {olds[i].label_in_call: news[j].label_in_call for i, j in pairs.items()}
        self.known = set(self.labels.values())
        self.around = [_Around(facts) for facts in (old, new)]
        rest = (
            [i for i in range(len(olds)) if i not in pairs],
            [j for j in range(len(news)) if j not in {*pairs.values()}],
        )
        self.order = [
            _in_order(kinds, [olds[i] for i in order[0]], [news[j] for j in order[1]], order)
            for order in (
                (sorted(rest[0], key=lambda i: olds[i].at), sorted(rest[1], key=lambda j: news[j].at)),
                (_as_used(olds, rest[0], old.used), _as_used(news, rest[1], new.used)),
            )
        ]

    def score(self, i: int, j: int) -> float | None:
        one, other = self.olds[i], self.news[j]
        if bool(one.row) != bool(other.row):
            return None
        label = name_likeness(one.label, other.label)
        if one.row:
            return self._score_rows(one, other, label)
        kind = self.kinds.of(one.made, other.made)
        if kind is None:
            return label - 0.5 if label == 2 else None  # the same label
        if label < _AKIN and not all(made.constructor or made.items for made in (one.made, other.made)):
            return None  # nothing is known of what they are, and their names do not say that they are one
        same = same_arguments(one.made, other.made)
        is_named = bool(one.made.name) and one.made.name == other.made.name
        if label < _AKIN and not is_named and self._is_elsewhere(one.label_in_call, other.label_in_call):
            return None  # made alike, as others are, and used between others: one went and one came
        # One that went and one that came at its place, made otherwise and called otherwise, are not one.
        stranger = 1.0 if not label and not is_named and same < _ALIKE else 0.0
        return label + kind + same + 0.8 * is_named + 1.3 * self._context(i, j) - stranger

    def _score_rows(self, one: Unit, other: Unit, label: float) -> float | None:
        if {one.made.kind, other.made.kind} == {"list", "flow"}:
            return None
        found = aligned(self.kinds, one.items, other.items)
        if not found and one.items and other.items:
            return None
        share = len(found) / max(len(one.items), len(other.items), 1)
        return label + 1.0 + 1.2 * share

    def _is_elsewhere(self, one: str, other: str) -> bool:
        """Whether the nearest things that are paired, before or after it in the call, are none of the same."""
        old, new = self.around
        for before, after in ((old.before, new.before), (old.after, new.after)):
            mine = {self.labels[label] for label in _nearest(before, one, self.labels)}
            yours = _nearest(after, other, self.known)
            if mine and yours and mine.isdisjoint(yours):
                return True
        return False

    def _context(self, i: int, j: int) -> float:
        """How much the places are alike, from 0 to 1."""
        one, other = self.olds[i].label_in_call, self.news[j].label_in_call
        old, new = self.around
        parts = []
        for before, after in ((old.before, new.before), (old.after, new.after)):
            mine = {self.labels[label] for label in before.get(one, ()) if label in self.labels}
            yours = {label for label in after.get(other, ()) if label in self.known}
            if mine or yours:
                parts.append(len(mine & yours) / len(mine | yours))
        roles = old.roles.get(one, frozenset()), new.roles.get(other, frozenset())
        if any(roles):
            parts.append(len(roles[0] & roles[1]) / len(roles[0] | roles[1]))
        ordered = (pairs for pairs in self.order if i in pairs or j in pairs.values())
        parts.extend(float(pairs.get(i) == j) for pairs in ordered)
        return sum(parts) / len(parts) if parts else 0.0

    def reason(self, i: int, j: int) -> str:
        """What speaks for a pair, in words."""
        one, other = self.olds[i], self.news[j]
        said = []
        likeness = name_likeness(one.label, other.label)
        if likeness:
            said.append("the same name" if one.label == other.label else f"{one.label} and {other.label} are alike")
        if one.made.name and one.made.name == other.made.name:
            said.append(f'both are called "{one.made.name}"')
        if not one.row and same_arguments(one.made, other.made) == 1 and self.kinds.of(one.made, other.made):
            said.append("made in the same way")
        if self._context(i, j) > 0.6:  # more than half of what is known
            said.append("in the same place of the code and the call")
        return ", ".join(said) or "the best of all"


class _Around:
    """What comes before and after each label in the call, and what it is there."""

    def __init__(self, facts: Facts) -> None:
        self.before: dict[str, set[str]] = {}
        self.after: dict[str, set[str]] = {}
        self.roles = facts.roles
        for giver, taker in facts.inputs:
            self.before.setdefault(taker, set()).add(giver)
            self.after.setdefault(giver, set()).add(taker)


def _nearest(edges: Mapping[str, set[str]], label: str, known: Collection[str]) -> set[str]:
    """The first known labels on each way from a label, past those that are not."""
    found: set[str] = set()
    seen, stack = {label}, [label]
    while stack:
        for each in edges.get(stack.pop(), ()):
            if each in known:
                found.add(each)
            elif each not in seen:
                seen.add(each)
                stack.append(each)
    return found


def _as_used(units: Sequence[Unit], rest: Sequence[int], used: Sequence[str]) -> list[int]:
    """Units in the order in which the call uses them; those that it does not use are not in it."""
    at = {label: number for number, label in enumerate(used)}
    return sorted((i for i in rest if units[i].label_in_call in at), key=lambda i: at[units[i].label_in_call])


def _in_order(
    kinds: Kinds, olds: Sequence[Unit], news: Sequence[Unit], order: tuple[Sequence[int], Sequence[int]]
) -> dict[int, int]:
    """The units whose text pairs them in every best alignment of what is left of both sides."""
    texts: dict[str, int] = {}
    left, right = (
        [texts.setdefault(text_of(kinds, unit.made, is_old=is_old), len(texts)) for unit in units]
        for units, is_old in ((olds, True), (news, False))
    )
    return {order[0][a]: order[1][b] for a, b in sure_pairs(left, right)}


def clear_pairs(scores: Sequence[Sequence[float | None]]) -> list[tuple[int, int]]:
    """The pairs of the best assignment without which it is clearly worse. None is where there can be no pair."""
    if max(len(scores), len(scores[0])) > _MOST:
        return []
    gains = [[max((score or 0.0) - _LEAST, 0.0) for score in row] for row in scores]
    chosen, total = _best(gains)
    found = []
    for i, j in chosen:
        without = [[0.0 if (a, b) == (i, j) else gain for b, gain in enumerate(row)] for a, row in enumerate(gains)]
        if total - _best(without)[1] >= _CLEAR:
            found.append((i, j))
    return found


def _best(gains: Sequence[Sequence[float]]) -> tuple[list[tuple[int, int]], float]:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(gains, maximize=True)
    pairs = [(i, j) for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if gains[i][j] > 0]
    return pairs, sum(gains[i][j] for i, j in pairs)
