"""Layers that are each other though a shape or a dtype changed: transposed kernels, grown tables, other precision.

No path and no name of an operation is in a checkpoint, so none of this is certain. It is proposed where the place or
the names say that two layers are each other, and the shapes that one operation leads from the one to the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ckptmigrate.graph import VARIABLE_ROLE, ObjectGraph
from ckptmigrate.matching.confidence import Caveat, weakest
from ckptmigrate.matching.conversions import Conversion, are_of_a_kind, grown, reshaped, turned
from ckptmigrate.matching.draft import Draft
from ckptmigrate.matching.kinship import kinship
from ckptmigrate.matching.names import is_automatic
from ckptmigrate.matching.propose import Pair, dull_words, pair_units, reshapes
from ckptmigrate.matching.result import Step
from ckptmigrate.matching.tokens import tokens_of, weight_of
from ckptmigrate.matching.units import Nobodys, Unit
from ckptmigrate.spec import Key

_MOST = 48
"""Groups with more candidates are told by equal words or not at all."""

_CLEAR = 0.5
"""So much more than anything else has to speak for a pair."""

_CAVEATS: Mapping[str, Caveat] = {"transpose": "transposed", "resize": "grown", "cast": "cast"}
"""By the kind of a conversion, what keeps it from being certain: no checkpoint says that it happened, and rows that
are new in a table are taken to be at its end, though who adds tokens may sort them in."""

_TABLES = frozenset({"embedding", "lookup", "token", "position", "vocabulary", "vocab", "table"})
"""Words of tables of which a row is a token or a place: what people add rows to."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A unit of the source, and what it becomes.

    Attributes:
        source: The unit of the source.
        target: The unit of the target, with its members in the order of the source's.
        conversions: What happens to each of its variables; None if nothing does.
        caveat: What keeps it from being certain.
        evidence: Why, in words.
    """

    source: Unit
    target: Unit
    conversions: tuple[Conversion | None, ...]
    caveat: Caveat
    evidence: tuple[str, ...]


def take_converted(
    draft: Draft, sources: Sequence[Unit], targets: Sequence[Unit], pairs: Sequence[Pair], nobodys: Nobodys
) -> None:
    """Propose what is left over of two sides and differs by an operation on each variable.

    Args:
        draft: What is known; steps are added to it. Those of pairs that are not certain are taken back where a place
            or a name says that the two are others, transposed: each of two kernels then has the shape of the other.
        sources: The units of the source.
        targets: The units of the target.
        pairs: Those of them that are each other as they are.
        nobodys: Names of layers that tell no layer.
    """
    olds, news = free_units(draft, sources, targets)
    weak = [pair for pair in pairs if not pair.is_certain]
    search = _Search(draft, nobodys, dull_words(sources) | dull_words(targets))
    found = [
        *search.in_place([*olds, *(pair.source for pair in weak)], [*news, *(pair.target for pair in weak)]),
        *search.named([*olds, *(pair.source for pair in weak)], [*news, *(pair.target for pair in weak)]),
        *search.alike([*olds, *(pair.source for pair in weak)], [*news, *(pair.target for pair in weak)]),
        *search.by_names(olds, news),
    ]
    goal_of = {
        key: goal for pair in weak for key, goal in _key_pairs(draft, pair) if draft.steps[goal].sources == (key,)
    }
    for pair in found:
        for key, goal in _key_pairs(draft, pair):
            for other in (goal, goal_of.get(key)):
                if other in draft.steps:
                    draft.release(other)
    groups: dict[object, list[Key]] = {}
    for pair in found:
        kinds = {conversion.kind for conversion in pair.conversions if conversion is not None}
        groups.setdefault((tuple(sorted(kinds)), pair.caveat), []).extend(_take(draft, pair))
    draft.proposed.extend(map(tuple, groups.values()))


def free_units(draft: Draft, sources: Sequence[Unit], targets: Sequence[Unit]) -> tuple[list[Unit], list[Unit]]:
    """The units of each side that nothing leads to or from, and that nobody is asked about."""
    asked = {key for question in draft.questions for key in question.sources}
    taken = draft.used | draft.dropped.keys() | asked, draft.steps.keys() | draft.asked
    return tuple(  # type: ignore[return-value]  # two
        [unit for unit in units if not any(key in keys for key in keys_of(graph, unit))]
        for graph, units, keys in zip((draft.source, draft.target), (sources, targets), taken, strict=True)
    )


def keys_of(graph: ObjectGraph, unit: Unit) -> Iterator[Key]:
    """The tensors of a unit, block by block."""
    return (graph.nodes[number].tensors[VARIABLE_ROLE] for member in unit.members for number in member)


def leads_of(scores: Mapping[tuple[int, int], float]) -> dict[tuple[int, int], float]:
    """How much more speaks for each pair than for any other of one of the two; infinitely much if there is none."""
    best: dict[tuple[int, int], list[float]] = {}
    for pair, score in scores.items():
        for side in (0, 1):
            own = best.setdefault((side, pair[side]), [])
            own.append(score)
            own.sort(reverse=True)
            del own[2:]
    leads = {}
    for pair, score in scores.items():
        rivals: list[float] = []
        for side in (0, 1):
            own = best[side, pair[side]]
            rivals.extend(own[1:] if own[0] == score else own[:1])
        leads[pair] = score - max(rivals) if rivals else math.inf
    return leads


def in_order(s: Unit, t: Unit, nobodys: Nobodys) -> list[Unit]:
    """A target with its blocks in the order of the source's; none if their names and their order contradict."""
    if len(s.members) == 1:
        return [t]
    # Whether they do does not depend on what happens to the values.
    paired, _ = pair_units([s], [replace(t, roles=s.roles)], nobodys)
    return [replace(t, members=pair.target.members) for pair in paired]


def _key_pairs(draft: Draft, pair: Pair | Converted) -> Iterator[tuple[Key, Key]]:
    return zip(keys_of(draft.source, pair.source), keys_of(draft.target, pair.target), strict=True)


@dataclass(slots=True)
class _Search:
    """What converts into what, with the nodes that are found already: those of the source and those of the target."""

    draft: Draft
    nobodys: Nobodys
    dull: frozenset[str]
    found: tuple[set[int], set[int]] = field(default_factory=lambda: (set(), set()))

    def in_place(self, olds: Sequence[Unit], news: Sequence[Unit]) -> Iterator[Converted]:
        """What the same path leads to."""
        at = {member[0]: (unit, member) for unit in olds for member in unit.members}
        for t in news:
            for member in t.members:
                twins = tuple(self.draft.objects.get(number, -1) for number in member)
                s, old = at.get(twins[0], (t, ()))
                if old == twins:
                    evidence = f"same path `{self.draft.target.say(member[0])}`"
                    yield from self.accepted(_block(s, old), _block(t, member), evidence)

    def named(self, olds: Sequence[Unit], news: Sequence[Unit]) -> Iterator[Converted]:
        """What has the same name, which a person gave and nothing else has."""
        left, right = (self.by_given_name(units, side) for side, units in enumerate((olds, news)))
        for name, others in right.items():
            some = left.get(name, [])
            if len(some) == len(others) == 1:
                yield from self.accepted(some[0], others[0], f"full name `{name}` on both sides")

    def by_given_name(self, units: Sequence[Unit], side: int) -> dict[str, list[Unit]]:
        """The layers, block by block, by the name that a person gave them."""
        found: dict[str, list[Unit]] = {}
        for unit in self.free(units, side):
            for name, member in zip(unit.names, unit.members, strict=True):
                if name and name not in self.nobodys and not is_automatic(name.rpartition("/")[2]):
                    found.setdefault(name, []).append(_block(unit, member))
        return found

    def alike(self, olds: Sequence[Unit], news: Sequence[Unit]) -> Iterator[Converted]:
        """What has the same words, and nothing else has."""
        named: dict[object, tuple[list[Unit], list[Unit]]] = {}
        for side, units in enumerate((olds, news)):
            for unit in self.free(units, side):
                if unit.own - self.dull:
                    rough = (unit.counts, len(unit.members), tuple(role for role, _ in unit.roles))
                    named.setdefault((unit.tokens, unit.own, rough), ([], []))[side].append(unit)
        for left, right in named.values():
            if len(left) == len(right) == 1:
                evidence = f"names: {', '.join(sorted(left[0].own - self.dull))}"
                yield from self.accepted(left[0], right[0], evidence)

    def by_names(self, olds: Sequence[Unit], news: Sequence[Unit]) -> Iterator[Converted]:
        """What names tell of those that one kind of operation may lead from one to the other."""
        buckets: dict[object, tuple[list[Unit], list[Unit]]] = {}
        for side, units in enumerate((olds, news)):
            for unit in self.free(units, side):
                for form in self.forms(unit, side):
                    buckets.setdefault(form, ([], []))[side].append(unit)
        for left, right in buckets.values():
            some, others = self.free(left, 0), self.free(right, 1)
            if some and others and len(some) * len(others) <= _MOST**2:
                yield from self.best(some, others)

    def free(self, units: Sequence[Unit], side: int) -> list[Unit]:
        return [unit for unit in units if self.found[side].isdisjoint(n for member in unit.members for n in member)]

    def accepted(self, s: Unit, t: Unit, evidence: str, caveat: Caveat | None = None) -> Iterator[Converted]:
        """A pair, if operations lead from one to the other, and its blocks' names do not contradict their order."""
        conversions = self.conversions(s, t)
        if conversions is None:
            return
        for blocks in in_order(s, t, self.nobodys):
            caveats = (_CAVEATS[each.kind] for each in conversions if each is not None)
            made = Converted(s, blocks, conversions, weakest(caveat, *caveats), (evidence,))
            if not self.is_open(made) and not any(each and each.kind == "transpose" for each in conversions):
                return
            for side, unit in enumerate((s, t)):
                self.found[side].update(number for member in unit.members for number in member)
            yield made

    def is_open(self, pair: Converted) -> bool:
        """Whether no step leads from or to any of it."""
        olds, news = keys_of(self.draft.source, pair.source), keys_of(self.draft.target, pair.target)
        return self.draft.used.isdisjoint(olds) and self.draft.steps.keys().isdisjoint(news)

    def best(self, olds: Sequence[Unit], news: Sequence[Unit]) -> Iterator[Converted]:
        """Of units that one kind of operation leads from one to the other, those for which most speaks."""
        scores = {
            (i, j): self.score(s, t)
            for i, s in enumerate(olds)
            for j, t in enumerate(news)
            if self.conversions(s, t) is not None
        }
        for (i, j), lead in leads_of(scores).items():
            words = sorted(kinship(olds[i], news[j]) - self.dull)
            if lead >= _CLEAR and words:
                yield from self.accepted(olds[i], news[j], f"names: {', '.join(words)}")
            elif lead == math.inf:
                evidence = "the only one of its role whose shape fits"
                yield from self.accepted(olds[i], news[j], evidence, "converted-by-shape")

    def score(self, s: Unit, t: Unit) -> float:
        """How much speaks for two units being each other."""
        name = s.names[0]
        is_named = bool(name) and name == t.names[0] and not is_automatic(name.rpartition("/")[2])
        shared = kinship(s, t) - self.dull
        rest = (s.tokens & t.tokens) - self.dull - shared
        return weight_of(shared) + 0.5 * weight_of(rest) + 3.0 * is_named + 1.0 * (s.tokens == t.tokens and bool(s.own))

    def conversions(self, s: Unit, t: Unit) -> tuple[Conversion | None, ...] | None:
        """What happens to each variable of a unit; None if no operation leads to the other, or none is needed."""
        if _rough(s) != _rough(t):
            return None
        are_tables = is_table(self.draft.source, s.members[0][0]) and is_table(self.draft.target, t.members[0][0])
        found: list[Conversion | None] = []
        for (_, old), (_, new) in zip(s.roles, t.roles, strict=True):
            if not are_of_a_kind(old.dtype, new.dtype):
                return None
            if reshapes(old.shape, new.shape):
                said = f"{new.dtype.label} instead of {old.dtype.label}"
                found.append(Conversion("cast", reshaped(old, new), said) if old.dtype != new.dtype else None)
                continue
            conversion = turned(old, new) or (grown(old, new) if are_tables else None)
            if conversion is None:
                return None
            found.append(conversion)
        return tuple(found) if any(found) else None

    def forms(self, unit: Unit, side: int) -> Iterator[object]:
        """What two units have in common if one kind of operation may lead from one to the other."""
        yield _rough(unit), "turned", tuple(tuple(sorted(spec.shape)) for _, spec in unit.roles)
        yield _rough(unit), "cast", tuple(spec.num_elements for _, spec in unit.roles)
        if is_table((self.draft.source, self.draft.target)[side], unit.members[0][0]):
            yield _rough(unit), "grown", tuple(spec.shape[1:] for _, spec in unit.roles)


def _block(unit: Unit, member: tuple[int, ...]) -> Unit:
    """A unit in one of its blocks: what else is in blocks may differ between the sides."""
    return replace(unit, members=(member,), counts=())


def _rough(unit: Unit) -> object:
    """What no operation changes: the blocks, and what each variable is to its layer."""
    return unit.counts, len(unit.members), tuple(role for role, _ in unit.roles) if len(unit.roles) > 1 else 1


def is_table(graph: ObjectGraph, number: int) -> bool:
    """Whether a row of a variable is a token or a place, by its words and those of its layer."""
    return not tokens_of(graph.paths[number][-2:]).isdisjoint(_TABLES)


def _take(draft: Draft, pair: Converted) -> Iterator[Key]:
    """The targets that a pair makes steps for."""
    for olds, news in zip(pair.source.members, pair.target.members, strict=True):
        for s, t, conversion in zip(olds, news, pair.conversions, strict=True):
            source, target = draft.source.nodes[s].tensors[VARIABLE_ROLE], draft.target.nodes[t].tensors[VARIABLE_ROLE]
            spec, wanted = draft.source.specs[source], draft.target.specs[target]
            operations = reshaped(spec, wanted) if conversion is None else conversion.operations
            evidence = pair.evidence if conversion is None else (*pair.evidence, conversion.evidence)
            draft.used.add(source)
            draft.steps[target] = Step.proposed(target, (source,), operations, pair.caveat, evidence)
            yield target
