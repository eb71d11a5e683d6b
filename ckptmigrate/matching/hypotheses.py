"""The answers that a question may have: whole ones where these are few, else the likeliest and one part at a time.

What is asked cannot be decided by what is here. What is here says which answers are possible at all, in which
order a person should look at them, and what speaks for each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain, combinations, islice
from math import perm

from ckptmigrate.fold import fold
from ckptmigrate.graph import VARIABLE_ROLE, ObjectGraph
from ckptmigrate.matching.alignment import Pairs
from ckptmigrate.matching.exact import Apart
from ckptmigrate.matching.names import slot_tails
from ckptmigrate.matching.propose import Open, by_given_names, numbering, ranks, reshapes
from ckptmigrate.matching.result import Answers, Hypothesis, Lead
from ckptmigrate.matching.units import Unit
from ckptmigrate.ops import Reshape
from ckptmigrate.spec import Key, fits

LISTED = 6
"""So many ways are all listed; of more, the likeliest, and the answers that decide a part."""

PARTS = 24
"""So many answers that decide a part are listed."""

AGAIN = "and the rest is asked again"

_ROWS = 6
"""So many folded rows an answer in words has."""


def said(rows: Iterable[tuple[str, str]]) -> str:
    """What leads where, folded: the paths of the source's, with those of the target's."""
    folded = fold(list(rows), numbered=2)
    text = ", ".join(f"`{old}` -> `{new}`" for old, new in (item.columns for item in folded[:_ROWS]))
    return text + (f" and {sum(item.count for item in folded[_ROWS:])} more" if len(folded) > _ROWS else "")


def leads_below(source: ObjectGraph, s: int, target: ObjectGraph, t: int) -> Iterator[Lead]:
    """What of one object leads to what of another: by equal labels, and what only one of either side fits."""
    ours, theirs = (dict.fromkeys(graph.keys_below(node)) for graph, node in ((target, t), (source, s)))
    stack = [(s, t)]
    while stack:
        s, t = stack.pop()
        for lead in _own_leads(source, s, target, t):
            if lead.target in ours and lead.sources[0] in theirs:
                del ours[lead.target], theirs[lead.sources[0]]
                yield lead
        twins = target.tree_children(t)
        stack.extend((child, twins[label]) for label, child in source.tree_children(s).items() if label in twins)
    # What was wrapped, or taken out of a wrapper, still ends as it did; at last the shape that only one has.
    for words in (3, 2, 1, 0):
        if not ours or not theirs:
            return
        olds, news = (
            [((*graph.paths[graph.node_of[key]][-words:][:words], graph.specs[key]), key) for key in keys]
            for graph, keys in ((source, theirs), (target, ours))
        )
        counts = [Counter(end for end, _ in keys) for keys in (olds, news)]
        alone = {end: key for end, key in olds if counts[0][end] == 1}
        for end, goal in news:
            if counts[1][end] == 1 and end in alone:
                del ours[goal], theirs[alone[end]]
                yield Lead(goal, (alone[end],))


# Units of one gate.


def of_units(source: ObjectGraph, target: ObjectGraph, group: Open) -> Answers:
    """The ways to pair units that neither names nor order tell apart."""
    sides = _Sides(source, target, group.sources, group.targets)
    missing = "a word that one source and one target have and the others have not, or a shape that only one has"
    if len(group.sources) == len(group.targets) == 1:
        orders = sides.orders()
        return Answers(orders, len(orders), "which counts, the index of a block or the number in its name")
    ways = sides.ways()
    size = min(len(group.sources), len(group.targets))
    best = tuple((number, number) for number in range(size))
    if all(number in sides.fits[number] for number in range(size)):
        whole = [best, *(pairs for pairs in islice(sides.assignments(), LISTED + 1) if pairs != best)]
    else:
        whole = list(islice(sides.assignments(), LISTED + 1))
    whole[1:] = sorted(whole[1:], key=sides.unlikelihood)
    if 0 < ways <= LISTED:
        return Answers(tuple(map(sides.whole, whole)), ways, missing)
    return Answers((*map(sides.whole, whole[:1]), *sides.parts()), ways, missing)


@dataclass(frozen=True)
class _Sides:
    source: ObjectGraph
    target: ObjectGraph
    sources: Sequence[Unit]
    targets: Sequence[Unit]

    @cached_property
    def fits(self) -> list[frozenset[int]]:
        """For each source, the targets that it could become."""
        return [
            frozenset(
                j
                for j, t in enumerate(self.targets)
                if all(
                    reshapes(ours.shape, theirs.shape) for (_, ours), (_, theirs) in zip(s.roles, t.roles, strict=True)
                )
            )
            for s in self.sources
        ]

    def ways(self) -> int:
        """How many assignments there are of as many as possible; 0 where there are too many to count."""
        fits, columns = self.fits, len(self.targets)
        small, large = sorted((len(fits), columns))
        if all(len(own) == columns for own in fits):
            return perm(large, small)
        if len(fits) != columns or columns > 14:  # the table has two to the power of this many rows
            return 0

        @cache
        def count(row: int, free: frozenset[int]) -> int:
            return sum(count(row + 1, free - {j}) for j in fits[row] & free) if row < len(fits) else 1

        return count(0, frozenset(range(columns)))

    def assignments(self) -> Iterator[Pairs]:
        """The assignments of as many as possible, those that change the order least first."""
        fits = self.fits
        turned = len(self.sources) > len(self.targets)
        if turned:
            fits = [frozenset(i for i, own in enumerate(fits) if j in own) for j in range(len(self.targets))]

        def extend(begun: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
            if len(begun) == len(fits):
                yield begun
                return
            for other in sorted(fits[len(begun)]):
                if other not in begun:
                    yield from extend((*begun, other))

        for chosen in extend(()):
            pairs = enumerate(chosen)
            yield tuple(sorted((other, own) for own, other in pairs)) if turned else tuple(pairs)

    def shared(self, i: int, j: int) -> frozenset[str]:
        """The words that a source and a target share, and that tell them from others."""
        dull = [
            frozenset.intersection(*(unit.tokens for unit in units)) if len(units) > 1 else frozenset[str]()
            for units in (self.sources, self.targets)
        ]
        return (self.sources[i].tokens & self.targets[j].tokens) - dull[0] - dull[1]

    def unlikelihood(self, pairs: Pairs) -> tuple[int, int]:
        return -sum(len(self.shared(i, j)) for i, j in pairs), self.inversions(pairs)

    def inversions(self, pairs: Pairs) -> int:
        """How many two of the pairs stand in another order on the other side."""
        orders = [(self.sources[i].order, self.targets[j].order) for i, j in pairs]
        return sum(
            None not in (*one, *other) and (one[0] < other[0]) != (one[1] < other[1])  # type: ignore[operator]  # not None
            for one, other in combinations(orders, 2)
        )

    def paired(self, i: int, j: int) -> tuple[list[Lead], list[tuple[str, str]]]:
        """What one unit leads to if it is another, and each of its layers with what that becomes."""
        s, t = self.sources[i], self.targets[j]
        order = by_given_names(s.names, t.names)
        return self.ordered(s, t.members if order is None else [t.members[number] for number in order])

    def ordered(self, s: Unit, members: Sequence[tuple[int, ...]]) -> tuple[list[Lead], list[tuple[str, str]]]:
        """The same, with the target's blocks in the order of the source's."""
        pairs = list(zip(s.members, members, strict=True))
        leads = [self.lead(old, new) for olds, news in pairs for old, new in zip(olds, news, strict=True)]
        return leads, [(_said_member(self.source, olds), _said_member(self.target, news)) for olds, news in pairs]

    def lead(self, s: int, t: int) -> Lead:
        key, goal = self.source.nodes[s].tensors[VARIABLE_ROLE], self.target.nodes[t].tensors[VARIABLE_ROLE]
        wanted = self.target.specs[goal]
        return Lead(goal, (key,), () if self.source.specs[key] == wanted else (Reshape(wanted.shape),))

    def whole(self, pairs: Pairs) -> Hypothesis:
        """The answer that all of these are each other."""
        made = [self.paired(i, j) for i, j in pairs]
        words = [
            f"{said(rows)}: both say {', '.join(sorted(shared))}"
            for (i, j), (_, rows) in zip(pairs, made, strict=True)
            if (shared := self.shared(i, j))
        ]
        if len(words) > _ROWS:
            words[_ROWS:] = [f"and so do {len(words) - _ROWS} more"]
        evidence = words or ["no name speaks for it"]
        if all(unit.order is not None for unit in (*self.sources, *self.targets)):
            crossed = self.inversions(pairs)
            evidence.append(f"against it: {crossed} of them change their order" if crossed else "they keep their order")
        leads = chain.from_iterable(leads for leads, _ in made)
        return Hypothesis(said(chain.from_iterable(rows for _, rows in made)), tuple(leads), evidence=tuple(evidence))

    def parts(self) -> list[Hypothesis]:
        """What one of the units may be: that which has least to choose from."""
        choices = [[i for i, own in enumerate(self.fits) if j in own] for j in range(len(self.targets))]
        j = min((j for j, own in enumerate(choices) if own), key=lambda j: len(choices[j]))
        found = []
        for i in sorted(choices[j], key=lambda i: -len(self.shared(i, j)))[:PARTS]:
            leads, rows = self.paired(i, j)
            words = ", ".join(sorted(self.shared(i, j)))
            evidence = f"both say {words}" if words else "no name speaks for it"
            found.append(Hypothesis(f"{said(rows)}, {AGAIN}", tuple(leads), evidence=(evidence,)))
        return found

    def orders(self) -> tuple[Hypothesis, ...]:
        """Which block is which, where one unit is another but the numbers of its blocks contradict."""
        (s,), (t,) = self.sources, self.targets
        orders = {tuple(range(len(t.members))): "the blocks are in the order of their indices"}
        old, new = numbering(s.names), numbering(t.names)
        if old is not None and new is not None:
            at = {rank: number for number, rank in enumerate(ranks(new.numbers))}
            by_name = tuple(at[rank] for rank in ranks(old.numbers))
            orders.setdefault(by_name, "the blocks are in the order of the numbers in their names")
        found = []
        for order, evidence in orders.items():
            leads, rows = self.ordered(s, [t.members[number] for number in order])
            found.append(Hypothesis(f"{evidence}: {said(rows)}", tuple(leads), evidence=(evidence,)))
        return tuple(found)


def _said_member(graph: ObjectGraph, member: Sequence[int]) -> str:
    """The layer that variables are of, or the variable if it is one alone."""
    path = graph.say(member[0])
    return path.rpartition("/")[0] or path if len(member) > 1 else path


# Weights that were tied, or that names keep apart; and anything else.


def of_tied(source: ObjectGraph, target: ObjectGraph, sources: Iterable[int], targets: Iterable[int]) -> Answers:
    """The ways to untie or to tie weights."""
    olds, news = sorted(sources), sorted(targets)
    missing = "which of them has the values that count: no checkpoint says what a model means"

    def leads(pairs: Iterable[tuple[int, int]]) -> tuple[Lead, ...]:
        return tuple(lead for s, t in pairs for lead in _own_leads(source, s, target, t))

    if len(olds) == 1:
        (s,) = olds
        everywhere = Hypothesis(
            said((source.say(s), target.say(t)) for t in news),
            leads((s, t) for t in news),
            evidence=("they were one variable, so all of them had its values",),
        )
        apart = [
            Hypothesis(
                f"`{source.say(s)}` -> `{target.say(t)}` only, the others are new",
                leads([(s, t)]),
                tuple(key for other in news if other != t for key in target.nodes[other].tensors.values()),
            )
            for t in news
        ]
        return Answers((everywhere, *apart[: LISTED - 1]), 2 ** len(news) - 1, missing)
    if len(news) == 1:
        (t,) = news
        one = [
            Hypothesis(
                f"`{source.say(s)}` -> `{target.say(t)}`, the others are dropped",
                leads([(s, t)]),
                gone=tuple(key for other in olds if other != s for key in source.nodes[other].tensors.values()),
            )
            for s in olds
        ]
        return Answers(tuple(one[:PARTS]), len(one), missing)
    return Answers(missing=missing)


def of_apart(source: ObjectGraph, target: ObjectGraph, apart: Apart) -> Answers:
    """By place, or by the names that keep them apart."""

    def hypothesis(pairs: Sequence[tuple[int, int]], evidence: str) -> Hypothesis:
        rows = said((source.say(s), target.say(t)) for s, t in pairs)
        leads = tuple(lead for s, t in pairs for lead in _own_leads(source, s, target, t))
        return Hypothesis(rows, leads, evidence=(evidence,))

    found = []
    names: list[tuple[Mapping[int, object], Mapping[int, object], str]] = [
        (
            {s: source.nodes[s].full_name for s in apart.side(0)},
            {t: target.nodes[t].full_name for t in apart.side(1)},
            "their full names are equal",
        ),
        (slot_tails(source), slot_tails(target), "the names of their slots are equal"),
    ]
    for old, new, evidence in names:
        at = {name: t for t in apart.side(1) if (name := new.get(t))}
        pairs = [(s, at[name]) for s in apart.side(0) if (name := old.get(s)) in at]
        if len(pairs) == len({t for _, t in pairs}) == len(at) == len(apart.pairs):
            found.append(hypothesis(pairs, evidence))
            break
    found.append(hypothesis(apart.pairs, "they are in the same place"))
    return Answers(tuple(found), len(found), "which counts, the name or the place")


def of_order(
    source: ObjectGraph, target: ObjectGraph, groups: Iterable[tuple[Sequence[Key], Sequence[Key]]], evidence: str
) -> Answers:
    """The one answer that lists of equal length on both sides are in the same order."""
    pairs = [
        pair
        for sources, targets in groups
        if len(sources) == len(targets)
        for pair in zip(sources, targets, strict=True)
    ]
    leads = tuple(Lead(t, (s,)) for s, t in pairs if fits(t, source.specs[s], target.specs[t]))
    if not leads:
        return Answers()
    rows = said((source.say_key(lead.sources[0]), target.say_key(lead.target)) for lead in leads)
    return Answers((Hypothesis(rows, leads, evidence=(evidence,)),))


def of_keys(source: ObjectGraph, target: ObjectGraph, sources: Sequence[Key], targets: Sequence[Key]) -> Answers:
    """What the first of some tensors may be made of, where nothing is known but what fits."""
    for goal in targets:
        wanted = target.specs[goal]
        leads = []
        for key in sources:
            spec = source.specs[key]
            if (key in source.slot_owner) != (goal in target.slot_owner):
                continue
            if fits(goal, spec, wanted):
                leads.append(Lead(goal, (key,)))
            elif spec.dtype == wanted.dtype and reshapes(spec.shape, wanted.shape):
                leads.append(Lead(goal, (key,), (Reshape(wanted.shape),)))
        if leads:
            rest = f", {AGAIN}" if len(targets) > 1 else ""
            return Answers(
                tuple(
                    Hypothesis(f"`{source.say_key(lead.sources[0])}` -> `{target.say_key(goal)}`{rest}", (lead,))
                    for lead in leads[:PARTS]
                )
            )
    return Answers()


def _own_leads(source: ObjectGraph, s: int, target: ObjectGraph, t: int) -> Iterator[Lead]:
    """What of one node leads to another."""
    for role, key in source.nodes[s].tensors.items():
        goal = target.nodes[t].tensors.get(role)
        if goal is not None and fits(goal, source.specs[key], target.specs[goal]):
            yield Lead(goal, (key,))
