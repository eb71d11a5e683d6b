"""Layers that became several, and several that became one: fused projections and gates.

Sizes that add up among siblings say that a kernel was cut or made, and of what. How the parts lie in it is in no
checkpoint (projections first or heads first have one shape), so it is asked: once for all layers of a kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

from ckptmigrate.graph import VARIABLE_ROLE, ObjectGraph
from ckptmigrate.matching.conversions import Fusion, fusions
from ckptmigrate.matching.converted import free_units, in_order, keys_of, leads_of
from ckptmigrate.matching.draft import Draft
from ckptmigrate.matching.hypotheses import said
from ckptmigrate.matching.propose import dull_words
from ckptmigrate.matching.result import Answers, Hypothesis, Lead
from ckptmigrate.matching.tokens import weight_of
from ckptmigrate.matching.units import Nobodys, Unit

_TOGETHER = (("query", "key", "value"), ("key", "value"), ("gate", "up"))
"""What people fuse, in the order in which they do."""

_MOST = 6
"""So many siblings of unknown names are taken for parts of one."""

_MOST_COMPARED = 48**2
"""So many pairs of a layer and siblings are compared; of more, only those in one place."""

_ORDERED = 3
"""Of so many parts whose names tell no order, all orders are listed."""

_PLACE = 3.0
"""How much it says, in words, that one object holds the layer on one side and its parts on the other."""

_Ways = tuple[tuple[Fusion, ...], ...]
"""The ways in which layers may lie in one: for each of its variables, how."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """Siblings that may be parts of one; `words` are what they are called, in the usual order, if that is known."""

    units: tuple[Unit, ...]
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Fused:
    """A layer, the parts that it became or that it was made of, how they may lie in it, and words of both."""

    whole: Unit
    parts: _Parts
    ways: _Ways
    words: tuple[str, ...]

    @property
    def kind(self) -> object:
        """What is answered for all layers that have it in common: the ways, and what the parts are called."""
        return tuple(way[0].axis for way in self.ways), self.parts.words, len(self.parts.units)


def take_fused(draft: Draft, sources: Sequence[Unit], targets: Sequence[Unit], nobodys: Nobodys) -> None:
    """Ask about what is left over of two sides where several units have the shape of one together.

    Args:
        draft: What is known; questions are added to it.
        sources: The units of the source.
        targets: The units of the target.
        nobodys: Names of layers that tell no layer.
    """
    olds, news = free_units(draft, sources, targets)
    dull = dull_words(sources) | dull_words(targets)
    for is_split, wholes, parts in ((True, olds, news), (False, news, olds)):
        search = _Search(draft, is_split, nobodys, dull)
        asked: dict[object, list[_Fused]] = {}
        for fused in search.found(wholes, list(_siblings(parts))):
            asked.setdefault(fused.kind, []).append(fused)
        for group in asked.values():
            search.ask(group)


def _siblings(units: Sequence[Unit]) -> Iterator[_Parts]:
    """Units that one object holds and that may be parts of one: by their words, or all that are there."""
    held: dict[object, list[Unit]] = {}
    for unit in units:
        roles = tuple((role, spec.dtype, len(spec.shape)) for role, spec in unit.roles)
        held.setdefault((unit.holder, unit.counts, len(unit.members), roles), []).append(unit)
    for group in held.values():
        called = [(words, [[unit for unit in group if word in unit.own] for word in words]) for words in _TOGETHER]
        found = [_Parts(tuple(unit for (unit,) in each), words) for words, each in called if _are_apart(each)]
        yield from found
        if not found and 1 < len(group) <= _MOST:
            yield _Parts(tuple(group), ())


def _are_apart(found: Sequence[Sequence[Unit]]) -> bool:
    """Whether each word is that of one unit, and each of another one."""
    return all(len(each) == 1 for each in found) and len({id(unit) for (unit,) in found}) == len(found)


def _form(unit: Unit, elements: Sequence[int]) -> object:
    """What a layer and its parts have in common: blocks, roles, dtypes, and how many elements there are in all."""
    roles = tuple(role for role, _ in unit.roles) if len(unit.roles) > 1 else 1
    return unit.counts, len(unit.members), roles, tuple(spec.dtype for _, spec in unit.roles), tuple(elements)


@dataclass(frozen=True, slots=True)
class _Search:
    draft: Draft
    is_split: bool
    nobodys: Nobodys
    dull: frozenset[str]

    @property
    def graphs(self) -> tuple[ObjectGraph, ObjectGraph]:
        """That of the whole layers, and that of their parts."""
        return (self.draft.source, self.draft.target) if self.is_split else (self.draft.target, self.draft.source)

    def found(self, wholes: Sequence[Unit], siblings: Sequence[_Parts]) -> Iterator[_Fused]:
        """The layers with their parts: each the only one that fits the other, or the one that most speaks for."""
        ways: dict[object, _Ways] = {}
        fits: dict[tuple[int, int], _Ways] = {}
        scores: dict[tuple[int, int], float] = {}
        for row, column in self.candidates(wholes, siblings):
            whole, parts = wholes[row], siblings[column]
            shapes = tuple(unit.roles for unit in (whole, *parts.units))
            if shapes not in ways:
                ways[shapes] = _ways(whole, parts.units)
            score = self.score(whole, parts)
            # Two layers that are gone and one that is new may have as many elements by chance.
            if ways[shapes] and (score or parts.words):
                scores[row, column], fits[row, column] = score, ways[shapes]
        for (row, column), lead in leads_of(scores).items():
            if lead > 0:
                whole, parts = wholes[row], siblings[column]
                words = (whole.tokens & parts.units[0].tokens) - self.dull
                yield _Fused(whole, parts, fits[row, column], tuple(sorted(words)))

    def candidates(self, wholes: Sequence[Unit], siblings: Sequence[_Parts]) -> Iterator[tuple[int, int]]:
        """What has as many elements on both sides; where that is much, only what is in one place."""
        forms: dict[object, tuple[list[int], list[int]]] = {}
        for row, whole in enumerate(wholes):
            elements = [spec.num_elements for _, spec in whole.roles]
            forms.setdefault(_form(whole, elements), ([], []))[0].append(row)
        for column, parts in enumerate(siblings):
            each = ([spec.num_elements for _, spec in unit.roles] for unit in parts.units)
            elements = [sum(sizes) for sizes in zip(*each, strict=True)]
            forms.setdefault(_form(parts.units[0], elements), ([], []))[1].append(column)
        for rows, columns in forms.values():
            if len(rows) * len(columns) <= _MOST_COMPARED:
                yield from product(rows, columns)
                continue
            places: dict[int, list[int]] = {}
            for row in rows:
                places.setdefault(self.place(wholes[row], 0), []).append(row)
            for column in columns:
                at = places.get(self.place(siblings[column].units[0], 1), [])
                yield from ((row, column) for row in at[:_MOST])

    def place(self, unit: Unit, side: int) -> int:
        """The source's object that holds a unit, or that its holder was; one that is no object's if none is known."""
        graph, nowhere = self.graphs[side], -1 - side
        number = graph.find(unit.holder)
        if number is None:
            return nowhere
        return self.draft.objects.get(number, nowhere) if graph is self.draft.target else number

    def score(self, whole: Unit, parts: _Parts) -> float:
        """How much speaks for a layer being these parts together."""
        first = parts.units[0]
        is_one_place = self.place(whole, 0) == self.place(first, 1)
        return _PLACE * is_one_place + weight_of((whole.tokens & first.tokens) - self.dull)

    def ask(self, group: Sequence[_Fused]) -> None:
        """One question for all that are fused in the same way."""
        ordered = [
            (fused, whole)
            for fused in group
            for whole in in_order(fused.parts.units[0], fused.whole, self.nobodys)
        ]  # fmt: skip
        if not ordered:
            return
        parts, ways = group[0].parts, group[0].ways
        many = len(parts.units)
        is_any = not parts.words and many <= _ORDERED
        orders = list(permutations(range(many))) if is_any else [tuple(range(many))]
        answers = tuple(self.answer(ordered, number, order) for number in range(len(ways)) for order in orders)
        wholes = [key for _, whole in ordered for key in keys_of(self.graphs[0], whole)]
        others = [key for fused, _ in ordered for unit in fused.parts.units for key in keys_of(self.graphs[1], unit)]
        missing, is_all = _missing(group[0])
        known = Answers(answers, len(answers) if is_all else 0, missing)
        how = "their sizes add up; how they lie in it, sizes do not say"
        if self.is_split:
            self.draft.ask(wholes, others, f"one layer became {many}: {how}", known)
        else:
            self.draft.ask(others, wholes, f"{many} layers became one: {how}", known)

    def answer(self, group: Sequence[tuple[_Fused, Unit]], number: int, order: Sequence[int]) -> Hypothesis:
        """The answer that all of them are fused in one way and one order."""
        one, other = self.graphs
        leads: list[Lead] = []
        rows: list[tuple[str, str]] = []
        for fused, whole in group:
            units = [fused.parts.units[at] for at in order]
            for block, member in enumerate(whole.members):
                for role, node in enumerate(member):
                    fusion = fused.ways[number][role]
                    key = one.nodes[node].tensors[VARIABLE_ROLE]
                    keys = [other.nodes[unit.members[block][role]].tensors[VARIABLE_ROLE] for unit in units]
                    if self.is_split:
                        leads.extend(Lead(goal, (key,), ops) for goal, ops in zip(keys, fusion.splits, strict=True))
                    else:
                        leads.append(Lead(key, tuple(keys), fusion.joins))
                names = _layer(one, whole, block), _listed(other, units, block)
                rows.append(names if self.is_split else names[::-1])
        first = group[0][0]
        labels = [_label(other, first.parts.units[at], 0) for at in order]
        evidence = ["their sizes add up, in each of their variables"]
        if first.words:
            evidence.append(f"names: {', '.join(first.words)}")
        if first.parts.words:
            evidence.append(f"{', '.join(first.parts.words)} is the usual order")
        way = _said_way(first.ways[number][0], number)
        return Hypothesis(f"{', '.join(labels)}, {way}: {said(rows)}", tuple(leads), evidence=tuple(evidence))


def _ways(whole: Unit, parts: Sequence[Unit]) -> _Ways:
    """The ways in which all variables of units may lie in those of one; none if they cannot."""
    least = min(len(spec.shape) for _, spec in parts[0].roles)
    found = []
    for role, (_, spec) in enumerate(whole.roles):
        shapes = [unit.roles[role][1].shape for unit in parts]
        rank = len(shapes[0])
        # What has inputs has them first or last, and they are the same for all parts: they are no part of the cut.
        has_inputs = rank > least or (len(whole.roles) == 1 and rank > 1)
        found.append(
            {
                fusion.axis: fusion
                for fusion in fusions(spec.shape, shapes)
                if fusion.axis == -rank or not has_inputs or spec.shape[0] == shapes[0][0]
            }
        )
    if not all(found):
        return ()
    shared = [axis for axis in found[0] if all(axis in each for each in found)]
    if not shared:  # a kernel with its outputs first, and a bias that has nothing but outputs
        return (tuple(each[min(each)] for each in found),)
    # Element by element people fuse two and not three.
    usual = [axis for axis in shared if axis or len(parts) == 2] or shared
    return tuple(tuple(each[axis] for each in found) for axis in usual)


def _layer(graph: ObjectGraph, unit: Unit, block: int) -> str:
    """The layer that a unit is in a block, or the variable if it is one alone."""
    path = graph.say(unit.members[block][0])
    return path.rpartition("/")[0] if unit.roles[0][0] else path


def _label(graph: ObjectGraph, unit: Unit, block: int) -> str:
    return _layer(graph, unit, block).rpartition("/")[2]


def _listed(graph: ObjectGraph, units: Sequence[Unit], block: int) -> str:
    """Siblings, with the path of what holds them once."""
    first, *rest = units
    return ", ".join((_layer(graph, first, block), *(_label(graph, unit, block) for unit in rest)))


def _said_way(fusion: Fusion, number: int) -> str:
    if number == 0:
        return "one after the other"
    return "head by head" if fusion.axis else "element by element"


def _missing(fused: _Fused) -> tuple[str, bool]:
    """What would decide, and whether all ways to answer are known."""
    if "query" not in fused.parts.words:
        return "in which order they lie in it: only the code that uses it says it", True
    missing = "whether the projections or the heads come first in it: only the code that uses it says it"
    if len(fused.ways) > 1:
        return missing, True
    if len({unit.roles for unit in fused.parts.units}) == 1:
        missing += (
            "; where the heads do, a `map` rule says it for each part: reshape the last axis to [HEADS, "
            f"{len(fused.parts.units)}, ...], take one part of the axis before the last, and reshape it back"
        )
    return missing, False
