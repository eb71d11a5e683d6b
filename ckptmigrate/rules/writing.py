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
    if len(statement) == 1 and _fold(first, rule):
        return True
    if first.kind != "map" or rule != replace(first, target=rule.target, operations=rule.operations):
        return False
    return first.operations == rule.operations or _split_at(first, rule, len(statement)) is not None


def _split_at(first: Rule, other: Rule, index: int) -> int | None:
    """Where the operations of a split's rules differ: each takes another part there."""
    pairs = zip(first.operations, other.operations, strict=False)
    differing = [at for at, (one, another) in enumerate(pairs) if one != another]
    if len(differing) != 1 or len(first.operations) != len(other.operations):
        return None
    part, wanted = first.operations[differing[0]], other.operations[differing[0]]
    is_part = isinstance(part, ops.Part) and part.index == 0 and wanted == replace(part, index=index)
    return differing[0] if is_part else None


def _fold(kernel: Rule, bias: Rule) -> dict[str, Any] | None:
    """Two rules as the fold of a batch normalization that they came from; None if they did not."""
    match kernel.operations, bias.operations:
        case (ops.FoldKernel(epsilon, gamma, axis),), (ops.FoldBias(other, has_bias, has_gamma, has_beta),):
            pass
        case _:
            return None
    if (epsilon, gamma, kernel.why, kernel.where) != (other, has_gamma, bias.why, bias.where):
        return None
    optional = (("bias", has_bias), ("gamma", has_gamma), ("beta", has_beta))
    roles = [*(role for role, there in optional if there), "mean", "variance"]
    given = dict(zip(roles, map(str, bias.sources), strict=True))
    if [*map(str, kernel.sources)][1:] != [given[role] for role in ("gamma", "variance") if role in given]:
        return None
    return {
        "fold_batch_norm": {
            "from": {"kernel": str(kernel.sources[0]), **given},
            "to": {"kernel": str(kernel.target), "bias": str(bias.target)},
            "epsilon": epsilon,
            "axis": list(axis),
            **({"why": kernel.why} if kernel.why else {}),
        }
    }


def _statement_data(statement: list[Rule]) -> dict[str, Any]:
    first = statement[0]
    if len(statement) == 1:
        return first.to_data()
    folded = _fold(first, statement[1])
    if folded:
        return folded
    targets = [str(rule.target) for rule in statement]
    at = _split_at(first, statement[1], 1)
    part = None if at is None else first.operations[at]
    if at is None or not isinstance(part, ops.Part):
        ((word, arguments),) = first.to_data().items()
        return {word: {**arguments, "to": targets}}
    split: dict[str, Any] = {"axis": part.axis}
    if not isinstance(part.sizes, int):
        split["sizes"] = "target" if part.sizes is None else list(part.sizes)
    others = (*first.operations[:at], *first.operations[at + 1 :])
    if at == 0 and len(first.sources) == 1 and others in ((), (ops.Squeeze((part.axis,)),)):
        why = {"why": first.why} if first.why else {}
        return {"unstack" if others else "split": {"from": str(first.sources[0]), "to": targets, **split, **why}}
    arguments = first.to_data()["map"]
    arguments["ops"][at] = {"split": split}
    return {"map": {**arguments, "to": targets}}
