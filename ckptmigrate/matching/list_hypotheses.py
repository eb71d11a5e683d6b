"""The ways to read a list that changed: which of its items went, which came, and which are each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain, islice, pairwise, permutations, product
from math import factorial, prod

from ckptmigrate.fold import fold
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.matching.alignment import Pairs, longest_alignments
from ckptmigrate.matching.draft import Draft
from ckptmigrate.matching.exact import Doubt
from ckptmigrate.matching.hypotheses import AGAIN, LISTED, PARTS, leads_below, said
from ckptmigrate.matching.names import Name, is_given, item_names
from ckptmigrate.matching.result import Answers, Hypothesis, Lead

_ENUMERATED = 200
"""So many alignments are looked at to find the likeliest."""

_MOST_LEADS = 50_000
"""So many pairs of tensors all answers together may list."""

_NAMED = 3
"""So many items are named where several are told."""


def of_list(draft: Draft, doubt: Doubt) -> Answers:
    """The ways to read a list that changed: by what is known of its items, by names, by order, by place."""
    items = _Items.of(draft, doubt)
    if not items.olds or not items.news:
        return Answers()
    return _of_changed(items) if items.is_changed else _of_reordered(items)


_Make = Callable[[], Hypothesis]
"""Makes an answer: there can be many of long lists, of which few are listed."""


def _of_changed(items: _Items) -> Answers:
    """Items went or came, or changed."""
    found: dict[Pairs, _Make] = {
        pairs: partial(items.moved, pairs, evidence) for pairs, evidence in items.by_evidence()
    }
    aligned, ways = items.aligned()
    runs, count = items.runs() if ways == 0 or ways > LISTED else ([], 0)
    for pairs in runs or sorted(aligned, key=items.unlikelihood)[:PARTS]:
        found.setdefault(pairs, partial(items.inserted, pairs))
    if items.old_labels == items.new_labels:
        place = tuple((k, k) for k in range(len(items.olds)))
        found.setdefault(place, partial(items.moved, place, "every item is where it was"))
    parts = partial(items.parts, aligned) if not 0 < ways <= (count or len(aligned)) else list
    missing = "which items went or came: nothing but their order tells equal items apart"
    return Answers(_listed_answers(found.values(), parts), max(ways, len(found)), missing)


def _of_reordered(items: _Items) -> Answers:
    """The same items are there, and may have changed places."""
    found: dict[Pairs, _Make] = {
        pairs: partial(items.moved, pairs, evidence) for pairs, evidence in items.by_evidence()
    }
    ways = len(found) + 1 if found else items.exchanges()
    place = tuple((k, k) for k in range(len(items.olds)))
    found.setdefault(place, partial(items.moved, place, "every item is where it was"))
    parts: Callable[[], list[Hypothesis]] = list
    if ways > LISTED:
        parts = items.parts_of_equal
    elif ways > len(found):
        for pairs in items.all_exchanges():
            found.setdefault(pairs, partial(items.moved, pairs, "items of equal shapes changed places"))
    missing = "whether places count, or names that each item has on both sides"
    return Answers(_listed_answers(found.values(), parts), ways, missing)


def _listed_answers(whole: Iterable[_Make], parts: Callable[[], list[Hypothesis]]) -> tuple[Hypothesis, ...]:
    """The answers, those that decide all of it first, as many of them as may be listed."""
    makers = iter(whole)
    first = next(makers)()
    most = max(2, _MOST_LEADS // max(len(first.leads), 1))
    made = [first, *(make() for make in islice(makers, most - 1))]
    return (*made, *parts()[: most - len(made)]) if len(made) < most else tuple(made)


@dataclass(frozen=True, slots=True)
class _Items:
    """The items of a list that are open, and those that are known to be each other.

    Attributes:
        source: The graph of the source.
        target: The graph of the target.
        olds: The source's items, in order.
        news: The target's.
        old_labels: The edge to each of `olds`.
        new_labels: The edge to each of `news`.
        moves: What is known: which of them are each other, wholly or in part, as positions.
        left: What each of `olds` is, as a number: that of a pair that is known, or that of its shapes.
        right: The same of `news`.
        old_names: What each of `olds` is called.
        new_names: What each of `news` is called.
    """

    source: ObjectGraph
    target: ObjectGraph
    olds: Sequence[int]
    news: Sequence[int]
    old_labels: Sequence[str]
    new_labels: Sequence[str]
    moves: Pairs
    left: Sequence[int]
    right: Sequence[int]
    old_names: Sequence[Name]
    new_names: Sequence[Name]

    @classmethod
    def of(cls, draft: Draft, doubt: Doubt) -> _Items:
        ends = ((draft.source, doubt.source), (draft.target, doubt.target))
        olds, news = (
            {
                label: item
                for label in doubt.labels
                if (item := graph.child(number, label)) is not None and next(graph.keys_below(item), None) is not None
            }
            for graph, number in ends
        )
        moves = _known(draft, list(olds.values()), list(news.values()))
        # What is known to have changed places says nothing of the order of the rest.
        is_ordered = all(one[1] < other[1] for one, other in pairwise(moves))
        settled = (draft.used | draft.dropped.keys(), draft.steps.keys())
        for end, ((graph, _), items) in enumerate(zip(ends, (olds, news), strict=True)):
            labels_of = list(items)
            kept = {labels_of[move[end]] for move in moves if is_ordered}
            for label, item in list(items.items()):
                if label not in kept and settled[end] >= set(graph.keys_below(item)):
                    del items[label]
        old_items, new_items = list(olds.values()), list(news.values())
        moves = _known(draft, old_items, new_items)
        contents: dict[tuple[str, ...], int] = {}
        left, right = (
            [contents.setdefault(_contents(graph, item), len(contents)) for item in items]
            for graph, items in ((draft.source, old_items), (draft.target, new_items))
        )
        if is_ordered:
            for number, (i, j) in enumerate(moves, 1):
                left[i] = right[j] = -number
        names = item_names(draft.source, old_items), item_names(draft.target, new_items)
        labels = list(olds), list(news)
        return cls(draft.source, draft.target, old_items, new_items, *labels, moves, left, right, *names)

    @property
    def is_changed(self) -> bool:
        """Whether other items are there than before, and not only in another order."""
        return self.old_labels != self.new_labels or Counter(self.left) != Counter(self.right)

    def by_evidence(self) -> Iterator[tuple[Pairs, str]]:
        """What rules or other paths say of the items' places, and what names say that people gave."""
        if any(self.old_labels[i] != self.new_labels[j] for i, j in self.moves):
            yield self.moves, "rules or other paths lead to a part of each there"
        old_counts, new_counts = Counter(self.old_names), Counter(self.new_names)
        at = {name: j for j, name in enumerate(self.new_names)}
        is_permuted = old_counts == new_counts
        pairs = tuple(
            (i, at[name])
            for i, name in enumerate(self.old_names)
            if name
            and old_counts[name] == new_counts[name] == 1
            and self.left[i] == self.right[at[name]]
            and (is_permuted or is_given(name))
        )
        if any(self.old_labels[i] != self.new_labels[j] for i, j in pairs):
            yield pairs, f"these have one name on both sides: {self.names(pairs)}"

    def names(self, pairs: Pairs) -> str:
        """The names of items, some of them."""
        said_names = [f"`{'/'.join(self.old_names[i])}`" for i, _ in pairs]
        return ", ".join(said_names[:_NAMED]) + (f" and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else "")

    def aligned(self) -> tuple[list[Pairs], int]:
        """The best alignments, some of them, and how many there are."""
        at = {number: j for j, number in enumerate(self.right)}
        known = [(i, at[number]) for i, number in enumerate(self.left) if number < 0]
        bounds = [(-1, -1), *known, (len(self.olds), len(self.news))]
        segments: list[list[Pairs]] = []
        ways = []
        for (i, j), (next_i, next_j) in pairwise(bounds):
            found, count = longest_alignments(self.left[i + 1 : next_i], self.right[j + 1 : next_j], limit=_ENUMERATED)
            ways.append(count)
            segments.append([tuple((i + 1 + a, j + 1 + b) for a, b in pairs) for pairs in found])
            segments.append([((next_i, next_j),)] if next_i < len(self.olds) else [()])
        return [tuple(chain.from_iterable(each)) for each in islice(product(*segments), _ENUMERATED)], prod(ways)

    def runs(self) -> tuple[list[Pairs], int]:
        """The alignments where items that stand side by side went, or came, and all others stayed.

        Returns:
            The likeliest, and how many there are.
        """
        size = min(len(self.olds), len(self.news))
        fewer, more = len(self.olds) - size, len(self.news) - size
        if fewer == more:
            place = tuple((k, k) for k in range(size))
            return ([place], 1) if self.left == self.right else ([], 0)
        # For each place of the gap, whether those before it and behind it are each other, and how many keep names.
        before, behind = self._agreeing(0, 0, size), self._agreeing(fewer, more, size)
        fitting = [at for at in range(size + 1) if before[0][at] == at and behind[0][size] - behind[0][at] == size - at]
        fitting.sort(key=lambda at: (before[1][at] + behind[1][size] - behind[1][at], at), reverse=True)
        likeliest = [
            tuple((k + fewer * (k >= at), k + more * (k >= at)) for k in range(size)) for at in fitting[:PARTS]
        ]
        return likeliest, len(fitting)

    def _agreeing(self, old: int, new: int, size: int) -> tuple[list[int], list[int]]:
        """Of the first so many pairs from two positions on, how many are of one structure, and how many of one name."""
        pairs = [(old + k, new + k) for k in range(size)]
        return (
            list(accumulate((self.left[i] == self.right[j] for i, j in pairs), initial=0)),
            list(accumulate((self.keeps_name(i, j) for i, j in pairs), initial=0)),
        )

    def keeps_name(self, i: int, j: int) -> bool:
        """Whether two items have one name, and one that a person gave."""
        return self.old_names[i] == self.new_names[j] and is_given(self.old_names[i])

    def unlikelihood(self, pairs: Pairs) -> tuple[int, int, Pairs]:
        """How little speaks for an alignment: how few items keep their names, and how many runs went or came."""
        same = sum(self.keeps_name(i, j) for i, j in pairs)
        bounds = ((-1, -1), *pairs, (len(self.olds), len(self.news)))
        gaps = sum((b - a > 1) + (d - c > 1) for (a, c), (b, d) in pairwise(bounds))
        return -same, gaps, pairs

    def exchanges(self) -> int:
        """In how many ways items of one structure may have changed places."""
        return prod(map(factorial, Counter(self.left).values()))

    def all_exchanges(self) -> list[Pairs]:
        """The ways in which items of one structure may have changed places."""
        places: dict[int, list[int]] = {}
        for j, signature in enumerate(self.right):
            places.setdefault(signature, []).append(j)
        found: list[Pairs] = []
        for orders in product(*(permutations(own) for own in places.values())):
            taken = {signature: iter(order) for signature, order in zip(places, orders, strict=True)}
            found.append(tuple((i, next(taken[signature])) for i, signature in enumerate(self.left)))
        return sorted(found)

    def parts(self, aligned: Sequence[Pairs]) -> list[Hypothesis]:
        """What the first open item of the target may be: an item of the source, or new."""
        origins = [{j: i for i, j in pairs} for pairs in aligned]
        for j, item in enumerate(self.news):
            options = {origin.get(j) for origin in origins}
            if len(options) > 1:
                found = [self.part(i, j) for i in sorted(i for i in options if i is not None)[:PARTS]]
                if None in options:
                    keys = tuple(self.target.keys_below(item))
                    found.append(Hypothesis(f"`{self.target.say(item)}` is new, {AGAIN}", (), new=keys))
                return found
        return []

    def parts_of_equal(self) -> list[Hypothesis]:
        """What the first item may be, if items of equal shapes changed places."""
        counts = Counter(self.left)
        for j, signature in enumerate(self.right):
            if counts[signature] > 1:
                return [self.part(i, j) for i, other in enumerate(self.left) if other == signature][:PARTS]
        return []

    def part(self, i: int, j: int) -> Hypothesis:
        text = f"`{self.source.say(self.olds[i])}` -> `{self.target.say(self.news[j])}`, {AGAIN}"
        return Hypothesis(text, self.leads(((i, j),)), evidence=self.by_name(((i, j),)))

    def by_name(self, pairs: Pairs) -> tuple[str, ...]:
        """What the items are called that would be each other, where numbers alone say little and names differ."""
        rows = [("/".join(self.old_names[i]), "/".join(self.new_names[j])) for i, j in pairs]
        told = [(old, new) for old, new in rows if old and new and old != new]
        return (f"by name: {said(told)}",) if told else ()

    def leads(self, pairs: Pairs) -> tuple[Lead, ...]:
        return tuple(
            lead for i, j in pairs for lead in leads_below(self.source, self.olds[i], self.target, self.news[j])
        )

    def moved(self, pairs: Pairs, evidence: str) -> Hypothesis:
        """The answer that these items are each other, and nothing of the rest."""
        rows = [(self.source.say(self.olds[i]), self.target.say(self.news[j])) for i, j in pairs]
        return Hypothesis(said(rows), self.leads(pairs), evidence=(evidence, *self.by_name(pairs)))

    def inserted(self, pairs: Pairs) -> Hypothesis:
        """The answer that these items are each other, and all others of the longer list came or went.

        Where both lists have others, these may be each other after all, with another structure: they stay open.
        """
        stay_old, stay_new = {i for i, _ in pairs}, {j for _, j in pairs}
        gone = [item for i, item in enumerate(self.olds) if i not in stay_old]
        new = [item for j, item in enumerate(self.news) if j not in stay_new]
        named = tuple((i, j) for i, j in pairs if self.keeps_name(i, j))
        evidence = [f"{len(pairs)} items have the shapes of what they become, and are in the same order"]
        if named:
            evidence.append(f"{len(named)} of them keep their names: {self.names(named)}")
        evidence += self.by_name(pairs)
        if gone and new:
            left = f"{_listed(self.source, gone)} (source) and {_listed(self.target, new)} (target)"
            return Hypothesis(
                f"{left} stay open, all others keep their order", self.leads(pairs), evidence=tuple(evidence)
            )
        came = "".join(
            f"{_listed(graph, items)} {'is' if len(items) == 1 else 'are'} {word}"
            for graph, items, word in ((self.target, new, "new"), (self.source, gone, "gone"))
            if items
        )
        return Hypothesis(
            f"{came}, all others keep their order" if came else "all items keep their order",
            self.leads(pairs),
            tuple(key for item in new for key in self.target.keys_below(item)),
            tuple(key for item in gone for key in self.source.keys_below(item)),
            tuple(evidence),
        )


def _listed(graph: ObjectGraph, items: Sequence[int]) -> str:
    rows = [f"`{row.columns[0]}`" for row in fold([(graph.say(item),) for item in items], numbered=1)]
    return ", ".join(rows[:_NAMED]) + (f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else "")


def _contents(graph: ObjectGraph, item: int) -> tuple[str, ...]:
    """What tensors are at or below an item, whatever they are called."""
    return tuple(sorted(str(graph.specs[key]) for key in graph.keys_below(item)))


def _known(draft: Draft, olds: Sequence[int], news: Sequence[int]) -> Pairs:
    """Which items are each other by what is decided already, of all or of a part of each."""
    item_of = {key: i for i, item in enumerate(olds) for key in draft.source.keys_below(item)}
    found: dict[int, int] = {}
    for j, item in enumerate(news):
        steps = [draft.steps[key] for key in draft.target.keys_below(item) if key in draft.steps]
        origins = {item_of[key] for step in steps for key in step.sources if key in item_of}
        if len(origins) == 1:
            found.setdefault(origins.pop(), j)
    return tuple(sorted(found.items()))
