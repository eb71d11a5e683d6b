"""Which rules of a pack speak of two checkpoints, and whether the pack is for them at all.

A person's rule that matches nothing is a mistake. A pack's is one of many, written without a look at this
checkpoint: so it is left out where it leads nowhere, gives way to what a person says, and does not believe a
position in a list that may have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import groupby

from ckptmigrate.dtypes import FLOATS
from ckptmigrate.errors import CkptMigrateError, RuleError, raise_all
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.matching.claims import Claim, Claims
from ckptmigrate.matching.exact import doubts_between
from ckptmigrate.matching.names import crossed, same_layer
from ckptmigrate.matching.walk import nodes_matching, pairs_matching
from ckptmigrate.ops import Cast, Op, Part, Reshape
from ckptmigrate.packs.pack import Pack, Positions, pack_names, read_pack
from ckptmigrate.rules import Rule, Rulebook
from ckptmigrate.spec import Key, Pattern, Segment

_SHOWN = 3
"""So many rules, or lists, are named; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The rules of packs that speak of two checkpoints.

    Attributes:
        rules: For `match_graphs`, beside a person's.
        notes: For a person: which rules led nowhere, and which were left out for a reason.
    """

    rules: Rulebook
    notes: tuple[str, ...]


def fit_packs(packs: Iterable[Pack], source: ObjectGraph, target: ObjectGraph, rulebook: Rulebook = ()) -> Fitted:
    """Choose the rules of packs that lead from one graph to another.

    Args:
        packs: The packs that a person names.
        source: The graph of the checkpoint that values are taken from.
        target: The graph of the new model's checkpoint.
        rulebook: A person's own rules. What they speak of, no pack speaks of.

    Raises:
        RuleError: A pack does not fit: some of its rules that each has to lead somewhere lead nowhere. `Problems`
            if several packs do not.
    """
    said = _said((rule for rule in rulebook if not rule.inferred), source, target)
    rules: list[Rule] = []
    notes: list[str] = []
    problems: list[CkptMigrateError] = []
    told: set[_What] = set()
    for pack in packs:
        fit = _Fit.of(pack, source, target)
        if not fit.fits:
            problems.append(_does_not_fit(fit))
            continue
        doubts = dict(_doubts(fit))
        chosen = fit.choose(*said, doubts.keys(), told)
        # One pattern that leads one source to two places is a contradiction; rules by paths would hide it.
        problems.extend(
            Claims(source, target, [claim for claims in chosen.values() for claim in claims]).contradictions()
        )
        rules.extend(fit.rules_for(chosen))
        rules.extend(_drops(fit, chosen))
        notes.extend(fit.notes(doubts))
    raise_all("the packs do not fit the source and the target", problems)
    return Fitted(tuple(rules), tuple(notes))


def does_fit(pack: Pack, source: ObjectGraph, target: ObjectGraph) -> bool:
    """Whether a pack is for two checkpoints: each of its rules that has to lead somewhere does."""
    return _Fit.of(pack, source, target).fits


_What = tuple[tuple[Key, ...], Key | None, tuple[Op, ...]]
"""What a claim says, whoever says it."""


def _said(
    rulebook: Iterable[Rule], source: ObjectGraph, target: ObjectGraph
) -> tuple[AbstractSet[Key], AbstractSet[Key]]:
    """The tensors of each side that a person's rules speak of. What is wrong with the rules is told by matching."""
    claims = [claim for rule in rulebook for claim in _claims(rule, source, target)]
    return {key for claim in claims for key in claim.sources}, {claim.target for claim in claims if claim.target}


def _claims(rule: Rule, source: ObjectGraph, target: ObjectGraph) -> list[Claim]:
    # Whoever asks for claims that there are none of waits for the nearest paths, which nobody reads here.
    led = rule.kind != "map" or all(_leads_somewhere(pattern, rule, source, target) for pattern in rule.sources)
    return list(Claims(source, target).of(rule, [])) if led else []


def _leads_somewhere(pattern: Pattern, rule: Rule, source: ObjectGraph, target: ObjectGraph) -> bool:
    if rule.target is None:
        return False
    pairs = pairs_matching(source, pattern, target, rule.target)
    return any(source.nodes[s].tensors.keys() & target.nodes[t].tensors.keys() for s, t in pairs)


@dataclass(frozen=True, slots=True)
class _Fit:
    """A pack, and what its rules speak of.

    Attributes:
        claims: What each rule that leads somewhere says.
        cut: Those of them that would say more, which no rule of a pack says.
        missing: One rule of each statement that has to lead somewhere and does not.
        idle: One rule of each optional statement that leads nowhere.
    """

    pack: Pack
    source: ObjectGraph
    target: ObjectGraph
    claims: dict[Rule, Sequence[Claim]] = field(default_factory=dict)
    cut: set[Rule] = field(default_factory=set)
    missing: list[Rule] = field(default_factory=list)
    idle: list[Rule] = field(default_factory=list)

    @classmethod
    def of(cls, pack: Pack, source: ObjectGraph, target: ObjectGraph) -> _Fit:
        fit = cls(pack, source, target)
        for rules, without in ((pack.rules, fit.missing), (pack.optional, fit.idle)):
            for several in _statements(rules):
                found = {rule: fit._of_rule(rule) for rule in several}
                leading = {rule: claims for rule, claims in found.items() if claims}
                # The parts of a split belong together; of several paths in `to` one is enough.
                whole = any(isinstance(op, Part) for rule in several for op in rule.operations)
                if len(leading) < len(several) if whole else not leading:
                    without.append(next(rule for rule in several if rule not in leading))
                else:
                    fit.claims.update(leading)
        return fit

    def _of_rule(self, rule: Rule) -> list[Claim]:
        claims = _claims(rule, self.source, self.target)
        kept = [claim for claim in claims if not self._is_exact(claim) and not self._makes_floats_of_integers(claim)]
        if len(kept) < len(claims) or any(map(self._changes_nothing, kept)):
            self.cut.add(rule)
        return kept

    @property
    def fits(self) -> bool:
        return bool(self.claims) and not self.missing

    def choose(
        self,
        sources: AbstractSet[Key],
        targets: AbstractSet[Key],
        doubtful: AbstractSet[Key],
        told: set[_What],
    ) -> dict[Rule, list[Claim]]:
        """What is left of each rule without what a person's rules speak of, is doubtful, or told already."""
        chosen: dict[Rule, list[Claim]] = {}
        for rule, claims in self.claims.items():
            for claim in claims:
                what = (claim.sources, claim.target, claim.operations)
                if (
                    claim.target not in targets
                    and sources.isdisjoint(claim.sources)
                    and doubtful.isdisjoint(claim.sources)
                    and what not in told
                ):
                    told.add(what)
                    chosen.setdefault(rule, []).append(claim)
        return chosen

    def rules_for(self, chosen: Mapping[Rule, Sequence[Claim]]) -> Iterator[Rule]:
        """The rules; where something of one is left out, one for each tensor that is not."""
        for rule, claims in chosen.items():
            if rule not in self.cut and len(claims) == len(self.claims[rule]):
                yield rule
            else:
                yield from dict.fromkeys(map(self._literal, claims))

    def _is_exact(self, claim: Claim) -> bool:
        """Whether the claim only says that what is equal at one path is the same: matching does so with more care."""
        return self._changes_nothing(claim) and claim.rule.sources == (claim.rule.target,)

    def _changes_nothing(self, claim: Claim) -> bool:
        """Whether all operations are as the target has it, and it has it as the source."""
        return (
            claim.target is not None
            and bool(claim.rule.operations)
            and all(op in (Cast(None), Reshape(None)) for op in claim.rule.operations)
            and [self.source.specs[key] for key in claim.sources] == [self.target.specs[claim.target]]
        )

    def _makes_floats_of_integers(self, claim: Claim) -> bool:
        """Whether a cast to the target's dtype leads from integers to floats or back: that is no other precision."""
        if claim.target is None or Cast(None) not in claim.rule.operations:
            return False
        wanted = self.target.specs[claim.target].dtype in FLOATS
        return any((self.source.specs[key].dtype in FLOATS) != wanted for key in claim.sources)

    def _literal(self, claim: Claim) -> Rule:
        """A rule that speaks of one tensor, by its paths."""
        rule = claim.rule
        return replace(
            rule,
            sources=tuple(_path_of(self.source, key) for key in claim.sources),
            target=None if claim.target is None else _path_of(self.target, claim.target),
            operations=() if self._changes_nothing(claim) else rule.operations,
        )

    def notes(self, doubts: Mapping[Key, str]) -> Iterator[str]:
        """What a person may want to know: rules whose sources have no place in the target, and what is left open."""
        name = self.pack.name
        claimed = {key for claims in self.claims.values() for claim in claims for key in claim.sources}
        nowhere = [rule for rule in self.idle if not claimed.issuperset(self._sources(rule))]
        if nowhere:
            shown = ", ".join(f"`{_end_of(rule)}`" for rule in nowhere[:_SHOWN])
            more = f" and {len(nowhere) - _SHOWN} more" if len(nowhere) > _SHOWN else ""
            yield f"pack {name}: the target has no place for {shown}{more}"
        for reason in dict.fromkeys(doubts.values()):
            yield f"pack {name}: left open, {reason}"

    def _sources(self, rule: Rule) -> Iterator[Key]:
        """The tensors that a rule's patterns match in the source."""
        for pattern in rule.sources:
            for number in nodes_matching(self.source, pattern):
                yield from self.source.nodes[number].tensors.values()


def _statements(rules: Rulebook) -> Iterator[Sequence[Rule]]:
    """Rules that one list in `to` made are together again."""
    for _, several in groupby(rules, lambda rule: rule.where):
        yield tuple(several)


def _path_of(graph: ObjectGraph, key: Key) -> Pattern:
    return Pattern.parse(graph.say(graph.node_of[key]))


def _end_of(rule: Rule) -> Pattern:
    return rule.sources[0] if rule.sources else rule.target  # type: ignore[return-value]  # a rule has one of them


def _drops(fit: _Fit, chosen: Mapping[Rule, Sequence[Claim]]) -> Iterator[Rule]:
    """Rules that drop the variables in whose place others of the source go."""
    used = {key for claims in chosen.values() for claim in claims for key in claim.sources}
    for superseded in fit.pack.superseded:
        for new, old in sorted(pairs_matching(fit.source, superseded.new, fit.source, superseded.old)):
            keys = set(fit.source.nodes[old].tensors.values())
            if keys and keys.isdisjoint(used) and used.issuperset(fit.source.nodes[new].tensors.values()):
                why = f"`{fit.source.say(new)}` goes in its place"
                yield Rule("drop", (Pattern.parse(fit.source.say(old)),), None, (), why, fit.pack.name)


# What a pack's rules say of positions in lists.


def _doubts(fit: _Fit) -> Iterator[tuple[Key, str]]:
    """The tensors of the source that a rule leads to a position, or along a list, that cannot be believed."""
    source, target = fit.source, fit.target
    claimed = {key for claims in fit.claims.values() for claim in claims for key in claim.sources}
    for rule in fit.claims:
        for doubt in doubts_between(source, target, _walked(rule, source, target)):
            for label in doubt.labels:
                child = source.child(doubt.source, label)
                if child is not None:
                    yield from ((key, doubt.reason) for key in source.keys_below(child) if key in claimed)
    pairs = {
        source.node_of[claim.sources[0]]: target.node_of[claim.target]
        for rule, claims in fit.claims.items()
        for claim in claims
        if len(claim.sources) == 1 and claim.target is not None and not rule.sources[0].by_name
    }
    for s, _ in crossed(source, target, pairs):
        reason = "names that people gave stand at each other's paths: a rule has to say which counts"
        yield from ((key, reason) for key in source.nodes[s].tensors.values())
    for positions in fit.pack.positions:
        for keys, reason in _misplaced(positions, source, target):
            yield from ((key, reason) for key in keys if key in claimed)


def _walked(rule: Rule, source: ObjectGraph, target: ObjectGraph) -> Iterator[tuple[int, int]]:
    """The pairs of objects that the ``**`` of a rule walk over."""
    if rule.target is None or rule.target.by_name:
        return
    for pattern in rule.sources:
        if pattern.by_name:
            continue
        for number in range(1, len(pattern.chunks)):
            left, right = (replace(each, chunks=(*each.chunks[:number], ())) for each in (pattern, rule.target))
            yield from sorted(pairs_matching(source, left, target, right))


def _misplaced(positions: Positions, source: ObjectGraph, target: ObjectGraph) -> Iterator[tuple[list[Key], str]]:
    """The lists that positions pair and that are not alike: the tensors of the source below, and why."""
    (left, number), (right, other) = map(_split_last, (positions.source, positions.target))
    for s, t in sorted(pairs_matching(source, left, target, right)):
        items = {
            label: child
            for name, child in source.named_children(s).items()
            if (found := number.match(name, {})) is not None and (label := other.fill(found)) is not None
        }
        # What stands before the first item is none of them: Keras 3 puts an `InputLayer` before a Sequential's.
        first = max((hole.shift for hole in other.holes), default=0)
        others = {
            label: child
            for label, child in target.named_children(t).items()
            if other.match(label, {}) is not None and not (label.isdecimal() and int(label) < first)
        }
        reason = _unlike(source, items, target, others) if items and others else ""
        if reason:
            where = f"`{source.say(s)}` and `{target.say(t)}`"
            keys = [key for child in items.values() for key in source.keys_below(child)]
            yield keys, f"the layers of {where} are not the same: {reason}"


def _split_last(pattern: Pattern) -> tuple[Pattern, Segment]:
    *front, last = pattern.chunks
    return replace(pattern, chunks=(*front, last[:-1])), last[-1]


def _unlike(source: ObjectGraph, items: Mapping[str, int], target: ObjectGraph, others: Mapping[str, int]) -> str:
    """Why two lists of layers do not hold the same layers at the same positions; empty if they do."""
    if items.keys() != others.keys():
        return f"{len(items)} (source), {len(others)} (target)"
    for label, s in items.items():
        left, right = _weights(source, s), _weights(target, others[label])
        if bool(left) != bool(right):
            return f"only one side has weights at {label}"
        if left and right and not same_layer(left[0], right[0]):
            return f"`{left[0]}` (source) and `{right[0]}` (target) at {label}"
    return ""


def _weights(graph: ObjectGraph, number: int) -> list[str]:
    """The full names of the variables at or below a node, but for the state of random numbers.

    Source: ``SeedGenerator`` in Keras 3 ``src/random/seed_generator.py``.
    """
    names = (graph.nodes[graph.node_of[key]].full_name for key in graph.keys_below(number))
    return [name for name in names if not name.endswith("seed_generator_state")]


# What is said of a pack that does not fit.


def _does_not_fit(fit: _Fit) -> RuleError:
    pack = fit.pack
    count = sum(1 for _ in _statements(pack.rules))
    shown = [f"{_nothing_at(rule, fit)} ({rule.where})" for rule in fit.missing[:_SHOWN]]
    more = f" and {len(fit.missing) - _SHOWN} more" if len(fit.missing) > _SHOWN else ""
    return RuleError(
        "the pack does not fit",
        pack.name,
        expected=f"each of its {count} rules to lead somewhere" if count else "one of its rules to lead somewhere",
        got=f"{', '.join(shown)}{more}" if shown else "none that does",
        hint=_better(fit),
    )


def _nothing_at(rule: Rule, fit: _Fit) -> str:
    for pattern in rule.sources:
        if not any(fit.source.nodes[number].tensors for number in nodes_matching(fit.source, pattern)):
            return f"no variable of the source at `{pattern}`"
    return f"no variable of the target at `{rule.target}`"


def _better(fit: _Fit) -> str:
    """Which shipped pack speaks of most of the target, of those that fit."""
    counted = []
    for name in pack_names():
        if name != fit.pack.name:
            other = _Fit.of(read_pack(name), fit.source, fit.target)
            targets = {claim.target for claims in other.claims.values() for claim in claims}
            if other.fits:
                counted.append((-len(targets), name))
    if not counted:
        return "No other pack that is shipped fits either; `ckptmigrate rules list` says what each is for"
    (count, name) = min(counted)
    return f"`--pack {name}` fits: it speaks of {-count} tensors of the target"
