"""What a test around a value proves it to be: ``isinstance`` and ``match``."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ckptmigrate.codemod.source.kinds import Kinds, Plain, instances_of, join
from ckptmigrate.codemod.source.project import Module, dotted_name

if TYPE_CHECKING:
    from ckptmigrate.codemod.source.receivers import Receivers


def narrowed(receivers: Receivers, node: ast.expr, module: Module) -> Kinds | None:
    """What a test around an expression proves it to be; None if none does."""
    text = dotted_name(node) if isinstance(node, ast.Name | ast.Attribute) else None
    if text is None or not isinstance(getattr(node, "ctx", None), ast.Load):
        return None
    if isinstance(node, ast.Name) and not receivers.scopes(module).lookup(node.id, node):
        return None
    for parent, child in receivers.scopes(module).around(node):
        proof = _proof(receivers, parent, child, text, module)
        if proof is not None:
            return proof
        if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            return None
        if isinstance(parent, ast.For | ast.AsyncFor | ast.While) and _rebinds([parent], text):
            return None  # what was tested before the loop is another value in its second round
    return None


def _proof(receivers: Receivers, parent: ast.AST, child: ast.AST, text: str, module: Module) -> Kinds | None:
    match parent:
        case ast.If(test=test, body=body, orelse=orelse) | ast.While(test=test, body=body, orelse=orelse):
            before = _before(body, child)
            if before is not None:
                return _tested(receivers, _conjuncts(test), text, module) if not _rebinds(before, text) else None
            after = _before(orelse, child)
            if after is not None and isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
                return _tested(receivers, [test.operand], text, module) if not _rebinds(after, text) else None
        case ast.IfExp(test=test, body=body) if body is child:
            return _tested(receivers, _conjuncts(test), text, module)
        case ast.BoolOp(op=ast.And(), values=values):
            at = next(at for at, value in enumerate(values) if value is child)
            return _tested(receivers, values[:at], text, module)
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            if not isinstance(child, ast.comprehension):
                tests = [test for generator in parent.generators for test in generator.ifs]
                return _tested(receivers, [part for test in tests for part in _conjuncts(test)], text, module)
        case ast.match_case(body=body):
            return _matched(receivers, parent, _before(body, child), text, module)
    for block in ("body", "orelse", "finalbody"):
        statements = getattr(parent, block, None)
        before = _before(statements, child) if isinstance(statements, list) else None
        if before is not None:
            return _checked_before(receivers, before, text, module)
    return None


def _checked_before(receivers: Receivers, statements: list[ast.stmt], text: str, module: Module) -> Kinds | None:
    """What an `assert`, or an `if not ...: return`, in the same block has left."""
    for at in range(len(statements) - 1, -1, -1):
        match statements[at]:
            case ast.Assert(test=test):
                proof = _tested(receivers, _conjuncts(test), text, module)
            case ast.If(test=ast.UnaryOp(op=ast.Not(), operand=operand), body=body, orelse=[]) if isinstance(
                body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break
            ):
                proof = _tested(receivers, [operand], text, module)
            case _:
                proof = None
        if proof is not None:
            return proof
        if _rebinds(statements[at : at + 1], text):
            return None
    return None


def _tested(receivers: Receivers, tests: Iterable[ast.expr], text: str, module: Module) -> Kinds | None:
    for test in tests:
        match test:
            case ast.Call(func=ast.Name(id="isinstance"), args=[subject, classes]) if dotted_name(subject) == text:
                given = classes.elts if isinstance(classes, ast.Tuple) else [classes]
                proven = join(instances_of(receivers.kinds(each, module)) for each in given)
                if Plain.ANY not in proven:
                    return proven
    return None


def _matched(
    receivers: Receivers, case: ast.match_case, before: list[ast.stmt] | None, text: str, module: Module
) -> Kinds | None:
    pattern = case.pattern
    parent = receivers.scopes(module).parents[case]
    if before is None or not isinstance(parent, ast.Match) or dotted_name(parent.subject) != text:
        return None
    inner = pattern.pattern if isinstance(pattern, ast.MatchAs) and pattern.pattern is not None else pattern
    if not isinstance(inner, ast.MatchClass) or _rebinds(before, text):
        return None
    proven = instances_of(receivers.kinds(inner.cls, module))
    return None if Plain.ANY in proven else proven


def _conjuncts(test: ast.expr) -> list[ast.expr]:
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return [part for value in test.values for part in _conjuncts(value)]
    return [test]


def _before(statements: object, child: ast.AST) -> list[ast.stmt] | None:
    """The statements of a block before one of them; None if it is not in it."""
    if not isinstance(statements, list):
        return None
    at = next((at for at, each in enumerate(statements) if each is child), None)
    return None if at is None else statements[:at]


def _rebinds(statements: Iterable[ast.AST], text: str) -> bool:
    """Whether something in the statements may give a name, or what it is reached through, another value."""
    names = {text.rsplit(".", end)[0] for end in range(text.count(".") + 1)}
    for statement in statements:
        for node in ast.walk(statement):
            match node:
                case ast.Name(ctx=ast.Store() | ast.Del()) | ast.Attribute(ctx=ast.Store() | ast.Del()):
                    if isinstance(node, ast.expr) and dotted_name(node) in names:
                        return True
    return False
