"""Which tensors a rulebook speaks of, and all that is wrong with it for this source and target."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ckptmigrate.errors import CkptMigrateError, OperationError, RuleError, raise_all
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.matching.parts import are_cut_otherwise
from ckptmigrate.matching.walk import nodes_matching, pairs_matching
from ckptmigrate.ops import Op, Part, close_chain, infer_chain
from ckptmigrate.rules import Rule, Rulebook
from ckptmigrate.spec import Key, Pattern, fits, format_path

_SHOWN = 3
"""So many problems of one rule are told one by one; the rest are counted."""


class Claim(NamedTuple):
    """What a rule says of a target tensor (None for `drop`) and the source tensors (none for `init`) it is made of.

    Attributes:
        rule: The rule.
        sources: The source tensors, in the order that `operations` take them.
        target: The target tensor.
        operations: The rule's, with what it leaves open as the target has it.
    """

    rule: Rule
    sources: tuple[Key, ...]
    target: Key | None
    operations: tuple[Op, ...]


def read_claims(source: ObjectGraph, target: ObjectGraph, rulebook: Rulebook) -> Claims:
    """Find what each rule means.

    Raises:
        RuleError: A rule matches nothing, or contradicts another or the shapes; `Problems` if several do.
    """
    claims = Claims(source, target)
    problems: list[CkptMigrateError] = []
    found = [(rule, list(claims.of(rule, problems))) for rule in rulebook]
    splits = Splits(claim for _, several in found for claim in several)
    for rule, several in found:
        claims.claims.extend(claims.fitting(rule, several, splits, problems))
    problems.extend(claims.contradictions())
    # The parts of one split, and copies, go wrong in the same way at the same place.
    told = {str(problem): problem for problem in problems}
    raise_all("the rules do not fit the source and the target", told.values())
    return claims


@dataclass(slots=True)
class Claims:
    """The claims of a rulebook, while they are gathered and afterwards.

    Attributes:
        source: The graph of the source.
        target: The graph of the target.
        claims: One for each tensor that a rule speaks of.
        objects: Source node by target node, for the objects and variables that rules pair.
        reasons: Why a source tensor that a rule matches leads nowhere all the same.
    """

    source: ObjectGraph
    target: ObjectGraph
    claims: list[Claim] = field(default_factory=list)
    objects: dict[int, int] = field(default_factory=dict)
    reasons: dict[Key, str] = field(default_factory=dict)

    def of(self, rule: Rule, problems: list[CkptMigrateError]) -> Iterator[Claim]:
        """The tensors that one rule speaks of."""
        match rule.kind:
            case "map":
                yield from self.mapped(rule, problems)
            case "drop":
                (pattern,) = rule.sources
                keys = _keys_of(self.source, nodes_matching(self.source, pattern))
                if not keys:
                    problems.append(_matches_nothing(rule, pattern, self.source, "source"))
                yield from (Claim(rule, (key,), None, ()) for key in keys)
            case "init":
                assert rule.target is not None  # noqa: S101  # `Rule` says so; mypy cannot
                keys = _keys_of(self.target, nodes_matching(self.target, rule.target))
                if not keys:
                    problems.append(_matches_nothing(rule, rule.target, self.target, "target"))
                yield from (Claim(rule, (), key, rule.operations) for key in keys)

    def fitting(
        self, rule: Rule, claims: Iterable[Claim], splits: Splits, problems: list[CkptMigrateError]
    ) -> Iterator[Claim]:
        """Those of a rule's claims that lead to the target's shapes and dtypes, closed."""
        misfits: list[CkptMigrateError] = []
        for claim in claims:
            if claim.target is None:
                yield claim
                continue
            try:
                yield claim._replace(operations=self.closed(claim, splits))
            except RuleError as error:
                misfits.append(error)
        problems.extend(_folded(misfits, rule.where))

    def mapped(self, rule: Rule, problems: list[CkptMigrateError]) -> Iterator[Claim]:
        assert rule.target is not None  # noqa: S101  # `Rule` says so; mypy cannot
        origins = [self.origins(rule, pattern, rule.target, problems) for pattern in rule.sources]
        misfits: list[CkptMigrateError] = []
        for target_key in dict.fromkeys(key for found in origins for key in found):
            per_pattern = [found.get(target_key, []) for found in origins]
            if len(origins) > 1 and not all(len(keys) == 1 for keys in per_pattern):
                misfits.append(self.incomplete(rule, target_key, per_pattern))
                continue
            # One pattern may lead from several sources to one target: that is a contradiction, told with the others.
            for sources in zip(*per_pattern, strict=True):
                yield Claim(rule, sources, target_key, rule.operations)
        problems.extend(_folded(misfits, rule.where))

    def origins(
        self, rule: Rule, source_pattern: Pattern, target_pattern: Pattern, problems: list[CkptMigrateError]
    ) -> dict[Key, list[Key]]:
        """The source keys that one of a rule's patterns leads from, by the target's key."""
        origins: dict[Key, list[Key]] = {}
        led: set[int] = set()
        pairs = sorted(pairs_matching(self.source, source_pattern, self.target, target_pattern))
        # A variable in parts has no tensor of its own, and part 1 of 4 is not part 1 of 3.
        recut = (
            [] if rule.operations else [(s, t) for s, t in pairs if are_cut_otherwise(self.source, s, self.target, t)]
        )
        in_parts = {key for _, t in recut for key in self.target.pieces(t)}
        led.update(s for s, _ in recut)
        for s, t in pairs:
            self.objects.setdefault(t, s)
            for role, source_key in self.source.nodes[s].tensors.items():
                target_key = self.target.nodes[t].tensors.get(role)
                if target_key is not None and target_key not in in_parts:
                    origins.setdefault(target_key, []).append(source_key)
                    led.add(s)
        nodes = nodes_matching(self.source, source_pattern)
        matching = [s for s in nodes if self.source.nodes[s].tensors or self.source.pieces(s)]
        if not matching:
            problems.append(_matches_nothing(rule, source_pattern, self.source, "source"))
        elif not led:
            example = self.source.say(min(matching))
            problems.append(
                RuleError(
                    "the rule leads nowhere",
                    rule.where,
                    expected=f"a variable of the target at `{target_pattern}`",
                    got=f"none for `{example}` (source){_and_more(len(matching) - 1)}",
                    hint=_nearest(self.target, target_pattern),
                )
            )
        for s in matching:
            if s not in led:
                for key in self.source.nodes[s].tensors.values():
                    self.reasons[key] = f"rule {rule.where} matches it, but the target has no such path"
        return origins

    def incomplete(self, rule: Rule, target_key: Key, per_pattern: list[list[Key]]) -> CkptMigrateError:
        counts = ", ".join(
            f"{len(keys)} at `{pattern}`" for pattern, keys in zip(rule.sources, per_pattern, strict=True)
        )
        return RuleError(
            "sources that cannot be joined",
            rule.where,
            expected=f"one of each pattern for `{self.target.say_key(target_key)}` (target)",
            got=f"{counts} (source)",
            hint="Capture in each pattern of `from` what tells its variables apart, and use it in `to`",
        )

    def closed(self, claim: Claim, splits: Splits) -> tuple[Op, ...]:
        """A claim's operations with nothing open.

        Raises:
            RuleError: They do not lead from the sources to the target.
        """
        rule, sources, target_key, operations = claim
        assert target_key is not None  # noqa: S101  # a drop has no operations
        wanted = self.target.specs[target_key]
        given = sources or (target_key,)
        side = self.source if sources else self.target
        said = ", ".join(map(side.say_key, given))
        specs = tuple(side.specs[key] for key in given)
        try:
            parts = [self.target.specs[key] for key in splits.targets(claim)]
            operations = close_chain(operations, specs, wanted, parts)
            specs = infer_chain(operations, specs)
        except OperationError as error:
            raise RuleError(
                error.what, f"{rule.where}, {said}", expected=error.expected, got=error.got, hint=error.hint
            ) from error
        if len(specs) > 1:
            raise RuleError(
                "several sources and nothing that joins them",
                rule.where,
                expected="an operation that takes them all: concat, stack or average",
                got=f"{said} (source)",
            )
        (result,) = specs
        if not fits(target_key, result, wanted):
            after = " after the rule's operations" if operations else ""
            raise RuleError(
                "the shape does not come out" if result.shape != wanted.shape else "the dtype does not come out",
                rule.where,
                expected=f"{wanted} (target {self.target.say_key(target_key)})",
                got=f"{result} (source {said}{after})",
                hint="Add the operation that leads from one to the other, or mend the pattern",
            )
        return operations

    def contradictions(self) -> Iterator[CkptMigrateError]:
        """Targets that several claims make, and sources that several use without saying so."""
        by_target: dict[Key, list[tuple[Rule, tuple[Key, ...]]]] = {}
        by_source: dict[Key, list[tuple[Rule, Key | None]]] = {}
        for rule, sources, target_key, _ in self.claims:
            if target_key is not None:
                by_target.setdefault(target_key, []).append((rule, sources))
            for source_key in sources:
                by_source.setdefault(source_key, []).append((rule, target_key))
        seen: set[tuple[str, ...]] = set()

        def once(*rules: Rule) -> bool:
            places = tuple(rule.where + rule.describe() for rule in rules)
            known = places in seen
            seen.add(places)
            return not known

        for target_key, origins in by_target.items():
            if len(origins) > 1 and once(*(rule for rule, _ in origins)):
                same_rule = len({rule for rule, _ in origins}) == 1
                yield RuleError(
                    "two sources on one target" if same_rule else "two rules for one target",
                    ", ".join(dict.fromkeys(rule.where for rule, _ in origins)),
                    expected=f"one origin of `{self.target.say_key(target_key)}` (target)",
                    got=" and ".join(
                        f"`{', '.join(map(self.source.say_key, keys))}`"
                        if same_rule and keys
                        else f"`{rule.describe()}`"
                        for rule, keys in origins[:_SHOWN]
                    ),
                    hint="Make the patterns narrower",
                )
        for source_key, uses in by_source.items():
            # A list in `to` says that the copy is meant; its rules share one place in the file.
            copied = len({rule for rule, _ in uses}) == len(uses) and len({rule.where for rule, _ in uses}) == 1
            if len(uses) > 1 and not copied and not _taken_apart(uses) and once(*(rule for rule, _ in uses)):
                dropped = any(key is None for _, key in uses)
                yield RuleError(
                    "a source used and dropped" if dropped else "a source used twice",
                    ", ".join(dict.fromkeys(rule.where for rule, _ in uses)),
                    expected=f"one use of `{self.source.say_key(source_key)}` (source)",
                    got=" and ".join(
                        f"`{self.target.say_key(key)}`" if key else f"`{rule.describe()}`"
                        for rule, key in uses[:_SHOWN]
                    ),
                    hint="Make the patterns narrower"
                    if dropped
                    else "If the copy is meant, say so with a list: `rename: {from: a, to: [b, c]}`",
                )


def _taken_apart(uses: Sequence[tuple[Rule, Key | None]]) -> bool:
    """Whether several rules take different parts of one source: a split whose parts go through operations."""
    parts = [rule.operations[0] for rule, _ in uses if rule.operations and isinstance(rule.operations[0], Part)]
    distinct = {part.index for part in parts if isinstance(part, Part)}
    wholes = {(part.axis, part.sizes) for part in parts if isinstance(part, Part)}
    return len(distinct) == len(uses) and len(wholes) == 1


class Splits:
    """The targets of all parts of each split whose sizes are those of its targets."""

    def __init__(self, claims: Iterable[Claim]) -> None:
        self._targets: dict[tuple[object, ...], dict[int, Key]] = {}
        for claim in claims:
            part = _open_part(claim)
            if part is not None and claim.target is not None:
                self._targets.setdefault(_split_of(claim), {})[part.index] = claim.target

    def targets(self, claim: Claim) -> Sequence[Key]:
        """The targets of the parts, in order; none for a claim that is part of no such split.

        Raises:
            OperationError: A part has no target.
        """
        part = _open_part(claim)
        if part is None:
            return ()
        targets = self._targets[_split_of(claim)]
        missing = [index for index in range(max(targets)) if index not in targets]
        if missing:
            raise OperationError(
                "the sizes do not follow from the targets",
                part.describe(),
                expected="a target for each part",
                got=f"none for part {missing[0]}",
                hint="Say the sizes",
            )
        return [target for _, target in sorted(targets.items())]


def _open_part(claim: Claim) -> Part | None:
    return next((op for op in claim.operations if isinstance(op, Part) and op.sizes is None), None)


def _split_of(claim: Claim) -> tuple[object, ...]:
    """What the claims of one split of one source have in common."""
    return claim.rule.where, claim.rule.sources, claim.sources


def _keys_of(graph: ObjectGraph, nodes: Iterable[int]) -> list[Key]:
    """The tensors of nodes; for an optimizer, its slots too: whoever speaks of all of it means them."""
    slots = {optimizer.node: [slot.node for slot in optimizer.slots] for optimizer in graph.optimizers}
    numbers = dict.fromkeys(number for node in sorted(nodes) for number in (node, *slots.get(node, ())))
    return [key for number in numbers for key in graph.nodes[number].tensors.values()]


def _folded(problems: list[CkptMigrateError], where: str) -> Iterator[CkptMigrateError]:
    yield from problems[:_SHOWN]
    if len(problems) > _SHOWN:
        yield RuleError(f"{len(problems) - _SHOWN} more of this rule do not come out", where)


def _and_more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _matches_nothing(rule: Rule, pattern: Pattern, graph: ObjectGraph, side: str) -> RuleError:
    objects = nodes_matching(graph, pattern)
    return RuleError(
        "the rule matches nothing",
        rule.where,
        expected=f"a variable of the {side} at `{pattern}`",
        got="an object without a value of its own" if objects else f"none among {len(graph.specs)}",
        hint=f"For all below it write `{pattern}/**`" if objects else _nearest(graph, pattern),
    )


def _nearest(graph: ObjectGraph, pattern: Pattern) -> str:
    """The paths nearest to a pattern, as a hint."""
    if pattern.by_name:
        said = {node.full_name for node in graph.nodes if node.full_name}
        near = difflib.get_close_matches(pattern.text.removeprefix("name:"), sorted(said), 2, 0.5)
        return "Nearest: " + ", ".join(f"`name:{text}`" for text in near) if near else ""
    said = {format_path(graph.paths[number]) for number, node in enumerate(graph.nodes) if node.tensors}
    near = difflib.get_close_matches(pattern.text, sorted(said), 2, 0.5)
    return "Nearest: " + ", ".join(f"`{text}`" for text in near) if near else ""
