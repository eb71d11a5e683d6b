"""An answer as rules: as few as say it, each of which says nothing else.

A pattern is made of paths that differ in numbers only (``{i:int}``), or of what is below two objects (``**``). It is
kept only if the claims that it makes on the two graphs are all claims of the answer: what else it would match, in a
place that nobody thought of, nobody was asked about. What no such pattern says, a rule for each variable says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from ckptmigrate.errors import CkptMigrateError, Problems
from ckptmigrate.fold import split_numbers
from ckptmigrate.graph import CONFIG_ROLE, ObjectGraph
from ckptmigrate.matching import Hypothesis
from ckptmigrate.matching.claims import read_claims
from ckptmigrate.matching.walk import nodes_matching, pairs_matching
from ckptmigrate.ops import Fill, Op, Part
from ckptmigrate.rules import Kind, Rule, Rulebook
from ckptmigrate.spec import Key, Pattern

_NAMES = "ijklmnpqrstuvw"
"""What the numbers of a pattern are called, in order."""

Claimed = tuple[tuple[Key, ...], Key | None, tuple[Op, ...]]
"""What a rule makes of what: sources, target, operations. No sources for what is new, no target for what is gone."""


def claims_of(answer: Hypothesis) -> frozenset[Claimed]:
    """All that an answer says."""
    return frozenset(
        (
            *((lead.sources, lead.target, lead.ops) for lead in answer.leads),
            *(((), key, (Fill("template"),)) for key in answer.new),
            *(((key,), None, ()) for key in answer.gone),
        )
    )


def say(
    answer: Hypothesis,
    source: ObjectGraph,
    target: ObjectGraph,
    *,
    only: Callable[[Claimed], bool] = lambda _: True,
    beside: Rulebook = (),
) -> Rulebook:
    """The rules that say an answer, or those of its claims that have to be said.

    Args:
        answer: What a person chose.
        source: The graph of the source.
        target: The graph of the target.
        only: Which claims have to be said; rules may say others of the answer as well.
        beside: Rules that say a part of the answer already.

    Returns:
        Rules, each of which makes claims of the answer and no others. What no path leads to, no rule speaks of.
    """
    rest = [row for row in _rows(answer, source, target) if any(map(only, row.claims))]
    statements = _Statements(source, target, claims_of(answer), rest)
    statements.done.update(statements.said_by(beside))
    for grouped in (_together, _by_first_number, _apart):
        statements.take(grouped)
    return tuple(rule for _, rules in sorted(statements.made, key=lambda made: made[0]) for rule in rules)


@dataclass(frozen=True, slots=True)
class _Row:
    """What one statement would say: several targets are copies of one source, or its parts.

    Attributes:
        number: Its place among the others.
        kind: The rule's.
        paths: The paths in `from`, then those in `to`.
        operations: Those that lead to each target.
        claims: What it says of which tensors.
    """

    number: int
    kind: Kind
    paths: tuple[str, ...]
    operations: tuple[tuple[Op, ...], ...]
    claims: frozenset[Claimed]

    def heads(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Ways to say the paths: what they begin with, and what stands behind it in all of them.

        That is nothing, or anything (``**``), and of slots anything and what they hold of their variables.
        """
        yield self.paths, ""
        split = [path.split("/") for path in self.paths]
        slot = split[0][-1] if split[0][-1].startswith("<") and len({labels[-1] for labels in split}) == 1 else ""
        tail = f"/**/{slot}" if slot else "/**"
        alike = list(takewhile(lambda labels: len({*labels}) == 1, zip(*map(reversed, split), strict=False)))
        # A rule on everything is more than anyone was asked, but of one kind of slots.
        shortest = 0 if slot else 1
        for size in range(1, min(len(alike), *(len(labels) - shortest for labels in split)) + 1):
            heads = ["/".join(labels[:-size]) for labels in split]
            yield tuple(heads), tail

    def rules(self, paths: Sequence[str]) -> Rulebook:
        patterns = tuple(map(Pattern.parse, paths))
        where = f"answer {self.number}"  # what has one place in a file is one statement
        match self.kind:
            case "drop":
                return (Rule("drop", patterns, None, (), "answered: it is gone", where),)
            case "init":
                return (Rule("init", (), patterns[0], self.operations[0], "", where),)
            case "map":
                sources = patterns[: -len(self.operations)]
                goals = zip(patterns[len(sources) :], self.operations, strict=True)
                return tuple(Rule("map", sources, goal, operations, "", where) for goal, operations in goals)


def _rows(answer: Hypothesis, source: ObjectGraph, target: ObjectGraph) -> Iterator[_Row]:
    """A row for each source, or sources that are joined, for what is new, and for what is gone."""
    by_sources: dict[tuple[Key, ...], list[tuple[Key, tuple[Op, ...]]]] = {}
    for lead in answer.leads:
        by_sources.setdefault(lead.sources, []).append((lead.target, lead.ops))
    made: list[tuple[Kind, list[str | None], tuple[tuple[Op, ...], ...], list[Claimed]]] = []
    for keys, goals in by_sources.items():
        goals.sort(key=lambda goal: next((op.index for op in goal[1] if isinstance(op, Part)), 0))
        paths = [*(_path(source, key) for key in keys), *(_path(target, key) for key, _ in goals)]
        made.append(("map", paths, tuple(ops for _, ops in goals), [(keys, key, ops) for key, ops in goals]))
    fill = (Fill("template"),)
    made.extend(("init", [_path(target, key)], (fill,), [((), key, fill)]) for key in answer.new)
    made.extend(("drop", [_path(source, key)], ((),), [((key,), None, ())]) for key in answer.gone)
    for number, (kind, paths, operations, claims) in enumerate(made):
        sayable = tuple(path for path in paths if path is not None)
        if len(sayable) == len(paths):
            yield _Row(number, kind, sayable, operations, frozenset(claims))


def _path(graph: ObjectGraph, key: Key) -> str | None:
    """The path by which a rule speaks of a tensor; None where no walk leads to it."""
    number = graph.node_of.get(key)
    if number is None:
        return None
    said = [graph.say(number)]
    if key in graph.slot_owner:
        # Below its variable, whose numbers say more than its place in a flat list.
        owner, kind = graph.slot_owner[key]
        said.insert(0, f"{graph.say_key(owner)}/<{kind}>")
    return next((path for path in said if nodes_matching(graph, Pattern.parse(path)) == {number}), None)


@dataclass(slots=True)
class _Statements:
    """Rules on their way: what is left to say, what is said, and the rules that say it, each with its place."""

    source: ObjectGraph
    target: ObjectGraph
    claims: frozenset[Claimed]
    rest: list[_Row]
    done: set[Claimed] = field(default_factory=set)
    made: list[tuple[int, Rulebook]] = field(default_factory=list)

    def take(self, grouped: _Grouping) -> None:
        """Say of what is left what patterns of one kind say exactly: those that say most first."""
        groups: dict[object, list[tuple[_Row, tuple[str, ...], str]]] = {}
        for row in self.rest:
            for paths, tail in row.heads():
                key = (row.kind, row.operations, tail, grouped(paths))
                groups.setdefault(key, []).append((row, paths, tail))
        left = {row.number: row for row in self.rest}
        row_of = {claimed: row for row in self.rest for claimed in row.claims}
        for members in sorted(groups.values(), key=_rank):
            if not any(row.number in left for row, _, _ in members):
                continue
            first, _, tail = members[0]
            patterns = _pattern([paths for _, paths, _ in members], len(first.operations), first.kind)
            if patterns is None:
                continue
            rules = first.rules([f"{pattern}{tail}".removeprefix("/") for pattern in patterns])
            said = self.said_by(rules)
            covered = {owner.number for claimed in said if (owner := row_of.get(claimed)) is not None}
            # What was said already must not be said again, and what is said by halves would have to be.
            if covered <= left.keys() and said.isdisjoint(self.done) and all(left[n].claims <= said for n in covered):
                self.made.extend([(min(covered), rules)] if covered else [])
                self.done.update(said if covered else ())
                for number in covered:
                    del left[number]
        self.rest = list(left.values())

    def said_by(self, rules: Rulebook) -> frozenset[Claimed]:
        """What rules say, if that is what the answer says; else nothing."""
        for rule in rules:
            ends = rule.sources or (rule.target,)
            graph = self.source if rule.sources else self.target
            if not all(end is not None and nodes_matching(graph, end) for end in ends):
                return frozenset()
            if rule.kind == "map" and rule.target is not None:
                walks = (pairs_matching(self.source, end, self.target, rule.target) for end in rule.sources)
                if not all(walks):
                    return frozenset()
        try:
            claims = read_claims(self.source, self.target, rules).claims
        except (CkptMigrateError, Problems):
            return frozenset()
        said = frozenset(
            (claim.sources, claim.target, claim.operations)
            for claim in claims
            if not _is_config(self.target, claim.target)
        )
        return said if said <= self.claims else frozenset()


def _is_config(graph: ObjectGraph, key: Key | None) -> bool:
    """Whether a tensor is what an object was configured with, of which rules say nothing."""
    number = None if key is None else graph.node_of.get(key)
    return number is not None and graph.nodes[number].tensors.get(CONFIG_ROLE) == key


# Groups of paths that one pattern may stand for.

_Grouping = Callable[[tuple[str, ...]], object]


def _rank(members: Sequence[tuple[_Row, tuple[str, ...], str]]) -> tuple[int, int, int]:
    """Patterns that may say more come first; of those that say the same, the one that says most of where it is."""
    first, paths, _ = members[0]
    return -len(members), -sum(map(len, paths)), first.number


def _together(paths: tuple[str, ...]) -> object:
    """All that differ in numbers only."""
    return tuple(split_numbers(path)[0] for path in paths)


def _by_first_number(paths: tuple[str, ...]) -> object:
    """Those of them with the same first number: one tower of several."""
    return tuple((split_numbers(path)[0], split_numbers(path)[1][:1]) for path in paths)


def _apart(paths: tuple[str, ...]) -> object:
    """Each for itself."""
    return paths


def _pattern(rows: Sequence[tuple[str, ...]], targets: int, kind: Kind) -> tuple[str, ...] | None:
    """The patterns that stand for rows of paths; None if their numbers have no rule."""
    if len({*rows}) == 1:
        return rows[0]
    binding = len(rows[0]) - (targets if kind == "map" else 0)
    pieces = [split_numbers(path)[0] for path in rows[0]]
    columns = [list(zip(*(split_numbers(row[at])[1] for row in rows), strict=True)) for at in range(len(pieces))]
    names: dict[tuple[str, ...], str] = {}
    bound: list[set[str]] = []
    patterns = []
    for at, (around, numbers) in enumerate(zip(pieces, columns, strict=True)):
        text, used = around[0], set()
        for column, piece in zip(numbers, around[1:], strict=True):
            hole: str | None = column[0]
            if len({*column}) > 1:
                if at < binding:
                    name = names.setdefault(column, _NAMES[len(names) % len(_NAMES)])
                    used.add(name)
                    hole = f"{{{name}:int}}"
                else:
                    hole = _shifted(column, names)
            if hole is None:
                return None
            text += hole + piece
            used.update(name for name in names.values() if hole.startswith(f"{{{name}"))
        if at < binding:
            bound.append(used)
        elif not all(used <= each for each in bound):
            return None
        patterns.append(text)
    return tuple(patterns) if len(names) < len(_NAMES) else None


def _shifted(column: tuple[str, ...], names: dict[tuple[str, ...], str]) -> str | None:
    """The hole of a target that a number of the source fills, shifted by as much in each row."""
    for known, name in names.items():
        shifts = {int(new) - int(old) for new, old in zip(column, known, strict=True)}
        if len(shifts) == 1:
            (shift,) = shifts
            return f"{{{name}{shift:+d}}}" if shift else f"{{{name}}}"
    return None
