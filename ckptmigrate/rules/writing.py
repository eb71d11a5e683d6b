"""Rulebooks as YAML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ckptmigrate import ops
from ckptmigrate.rules.rule import Rule


def format_rulebook(rules: Iterable[Rule]) -> str:
    """A rulebook as YAML, one statement a line, in the form that `parse_rulebook` reads."""
    import yaml

    lines = ["rules:"]
    for statement in _statements(rules):
        data = _statement_data(statement)
        flow = yaml.safe_dump(data, default_flow_style=True, sort_keys=False, width=float("inf")).strip()
        lines.append(f"  - {flow.removeprefix('{').removesuffix('}')}")
    return "\n".join(lines) + "\n"


def _statements(rules: Iterable[Rule]) -> Iterator[list[Rule]]:
    """Rules that one list in `to` made are together again: a copy, or the parts of a split."""
    statement: list[Rule] = []
    for rule in rules:
        if statement and not _continues(statement, rule):
            yield statement
            statement = []
        statement.append(rule)
    if statement:
        yield statement


def _continues(statement: list[Rule], rule: Rule) -> bool:
    first = statement[0]
    if first.kind != "map" or rule != replace(first, target=rule.target, operations=rule.operations):
        return False
    match first.operations, rule.operations:
        case (ops.Part(index=0) as part, *rest), (ops.Part() as other, *others):
            return other == replace(part, index=len(statement)) and rest == others
        case operations, others:
            return operations == others


def _statement_data(statement: list[Rule]) -> dict[str, Any]:
    first = statement[0]
    if len(statement) == 1:
        return first.to_data()
    targets = [str(rule.target) for rule in statement]
    match first.operations:
        case (ops.Part(axis, 0, sizes), *rest) if rest in ([], [ops.Squeeze((axis,))]):
            given = {} if isinstance(sizes, int) else {"sizes": "target" if sizes is None else list(sizes)}
            why = {"why": first.why} if first.why else {}
            word = "unstack" if rest else "split"
            return {word: {"from": str(first.sources[0]), "to": targets, "axis": axis, **given, **why}}
    ((word, arguments),) = first.to_data().items()
    return {word: {**arguments, "to": targets}}
