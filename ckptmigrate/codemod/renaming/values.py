"""Which names an expression can be: those that ``getattr`` is given."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ckptmigrate.codemod.source.project import Module
from ckptmigrate.codemod.source.receivers import Receivers

_FIELD = re.compile(r"%[-#0 +]*\d*(?:\.\d+)?[sdrfxia]|\{[^{}]*\}")
"""What a format puts a value in place of."""


@dataclass(frozen=True, slots=True)
class Texts:
    """What a text may be.

    Attributes:
        known: The texts that it may be.
        patterns: Regular expressions of others that it may be.
        is_open: Whether it may be anything.
    """

    known: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    is_open: bool = False

    def may_be(self, name: str) -> bool:
        """Whether it may be a name."""
        return self.is_open or name in self.known or any(re.fullmatch(each, name, re.DOTALL) for each in self.patterns)


_OPEN = Texts(is_open=True)

_READING = frozenset({"items", "keys", "values", "get", "index", "count", "copy"})
"""Methods that leave a collection as it is."""


def texts(node: ast.expr, module: Module, receivers: Receivers, depth: int = 0) -> Texts:
    """What the text of an expression may be."""
    if depth > 8:
        return _OPEN

    def inner(part: ast.expr) -> Texts:
        return texts(part, module, receivers, depth + 1)

    match node:
        case ast.Constant(value=str(text)):
            return Texts(frozenset({text}))
        case ast.JoinedStr(values=parts):
            return _concatenated(
                inner(part.value) if isinstance(part, ast.FormattedValue) and _is_plain(part) else inner(part)
                for part in parts
            )
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _concatenated([inner(left), inner(right)])
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod()):
            return _formatted(text)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
            return _formatted(text)
        case ast.IfExp(body=one, orelse=other):
            return _either([inner(one), inner(other)])
        case ast.BoolOp(values=values):
            return _either(map(inner, values))
        case ast.NamedExpr(value=value):
            return inner(value)
        case ast.Subscript(value=value):
            return _items(value, module, receivers, depth + 1, of_values=True)
        case ast.Name(id=name):
            return _named(name, node, module, receivers, depth)
    return _OPEN


def _named(name: str, node: ast.AST, module: Module, receivers: Receivers, depth: int) -> Texts:
    found = receivers.scopes(module).lookup(name, node)
    if found is None:
        return _OPEN
    read: list[Texts] = []
    for binding in found[1]:
        value = binding.node
        if not isinstance(value, ast.expr):
            return _OPEN
        if binding.how == "value" and not binding.within:
            read.append(texts(value, module, receivers, depth + 1))
        elif binding.how == "item":
            read.append(_items(value, module, receivers, depth + 1, within=binding.within))
        else:
            return _OPEN
    return _either(read)


def _items(
    node: ast.expr,
    module: Module,
    receivers: Receivers,
    depth: int,
    *,
    within: tuple[int, ...] = (),
    of_values: bool = False,
) -> Texts:
    """What an item of a collection of texts may be."""
    if depth > 8:
        return _OPEN
    match node:
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            picked = [_part(part, within) for part in parts]
            return _either(_OPEN if part is None else texts(part, module, receivers, depth + 1) for part in picked)
        case ast.Dict(keys=keys, values=values):
            chosen = values if of_values or within == (1,) else keys
            return _either(_OPEN if part is None else texts(part, module, receivers, depth + 1) for part in chosen)
        case ast.Call(func=ast.Name(id="enumerate"), args=[inner]) if within[:1] == (1,):
            return _items(inner, module, receivers, depth + 1, within=within[1:])
        case ast.Call(func=ast.Name(id="zip"), args=arguments) if within and within[0] < len(arguments):
            return _items(arguments[within[0]], module, receivers, depth + 1, within=within[1:])
        case ast.Call(func=ast.Name(id="sorted" | "list" | "tuple" | "set" | "reversed"), args=[inner]):
            return _items(inner, module, receivers, depth + 1, within=within)
        case ast.Call(func=ast.Attribute(value=value, attr="items")) if within:
            return _items(value, module, receivers, depth + 1, within=within, of_values=within == (1,))
        case ast.Call(func=ast.Attribute(value=value, attr="keys" | "values" as which)):
            return _items(value, module, receivers, depth + 1, of_values=which == "values")
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="split"), args=[]):
            return Texts(frozenset(text.split()))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _either(
                [
                    _items(left, module, receivers, depth + 1, within=within),
                    _items(right, module, receivers, depth + 1, within=within),
                ]
            )
        case ast.Name(id=name):
            found = receivers.scopes(module).lookup(name, node)
            simple = found and all(each.how == "value" and not each.within for each in found[1])
            if found and simple and not _is_changed(name, found[0]):
                return _either(
                    _items(each.node, module, receivers, depth + 1, within=within, of_values=of_values)
                    for each in found[1]
                    if isinstance(each.node, ast.expr)
                )
    return _OPEN


def _is_changed(name: str, scope: ast.AST) -> bool:
    """Whether a collection gets more items, or others, after it was made."""
    for node in ast.walk(scope):
        match node:
            case ast.Attribute(value=ast.Name(id=named), attr=method) if named == name and method not in _READING:
                return True
            case ast.Subscript(value=ast.Name(id=named), ctx=ast.Store()) if named == name:
                return True
    return False


def _part(node: ast.expr, within: tuple[int, ...]) -> ast.expr | None:
    for at in within:
        if not isinstance(node, ast.Tuple | ast.List) or not 0 <= at < len(node.elts):
            return None
        node = node.elts[at]
    return None if isinstance(node, ast.Starred) else node


def _is_plain(part: ast.FormattedValue) -> bool:
    return part.conversion == -1 and part.format_spec is None


def _either(found: Iterable[Texts]) -> Texts:
    known: set[str] = set()
    patterns: set[str] = set()
    for each in found:
        if each.is_open:
            return _OPEN
        known |= each.known
        patterns |= each.patterns
    return Texts(frozenset(known), frozenset(patterns))


def _concatenated(parts: Iterable[Texts]) -> Texts:
    whole = ""
    only: str | None = ""
    for part in parts:
        options = [*map(re.escape, sorted(part.known)), *sorted(part.patterns)]
        whole += ".*" if part.is_open or not options else f"(?:{'|'.join(options)})"
        only = only + next(iter(part.known)) if only is not None and part.known and len(options) == 1 else None
    if only is not None:
        return Texts(frozenset({only}))
    return _OPEN if set(whole) <= {".", "*"} else Texts(patterns=frozenset({whole}))


def _formatted(text: str) -> Texts:
    pieces = map(re.escape, _FIELD.split(text))
    return Texts(patterns=frozenset({".*".join(pieces)}))
