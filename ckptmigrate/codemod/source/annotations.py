"""What annotations say of a value."""

from __future__ import annotations

import ast
from collections.abc import Callable

from ckptmigrate.codemod.source.kinds import (
    ANY,
    NONE,
    OTHER,
    ClassItself,
    Imported,
    Instance,
    Items,
    Kinds,
    Makes,
    Outside,
    Row,
    join,
)

_PLAIN = frozenset({"int", "float", "str", "bytes", "bool", "complex", "bytearray", "range", "slice", "memoryview"})
_ITEMS = frozenset(
    {
        "list", "List", "set", "Set", "frozenset", "FrozenSet", "Sequence", "MutableSequence", "Iterable", "Iterator",
        "Collection", "Generator", "AsyncIterator", "AsyncIterable", "AsyncGenerator", "deque", "Deque",
        "AbstractSet", "MutableSet", "Reversible",
    }
)  # fmt: skip
_MAPS = frozenset({"dict", "Dict", "Mapping", "MutableMapping", "OrderedDict", "defaultdict", "DefaultDict"})
_SAME = frozenset({"Annotated", "ClassVar", "Final", "Required", "NotRequired", "Awaitable", "InitVar"})
_OPEN = frozenset({"Any", "object", "Self", "Callable", "Protocol", "TypeVar", "Generic"})


def read_annotation(node: ast.AST | None, evaluate: Callable[[ast.expr], Kinds], own: Instance | None) -> Kinds:
    """What a value annotated like this may be.

    Args:
        node: The annotation.
        evaluate: What an expression in its place is, for the names in it.
        own: What ``Self`` is there.
    """
    match node:
        case ast.Constant(value=None):
            return NONE
        case ast.Constant(value=str(text)):
            try:
                inner = ast.parse(text, mode="eval").body
            except SyntaxError:
                return ANY
            # Names in it are looked up from where the text stands.
            return read_annotation(inner, evaluate, own)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return read_annotation(left, evaluate, own) | read_annotation(right, evaluate, own)
        case ast.Subscript(value=outer, slice=inner):
            return _generic(_last(outer), outer, inner, evaluate, own)
        case ast.Name(id=name) | ast.Attribute(attr=name) if isinstance(node, ast.expr):
            return _named(name, node, evaluate, own)
    return ANY


def _named(name: str, node: ast.expr, evaluate: Callable[[ast.expr], Kinds], own: Instance | None) -> Kinds:
    if name == "Self" and own is not None:
        return frozenset({own})
    found: set[Kinds] = set()
    for kind in evaluate(node):
        match kind:
            case ClassItself(name=each):
                found.add(frozenset({Instance(each)}))
            case Imported(name=dotted):
                last = dotted.rpartition(".")[2]
                if last in _PLAIN:
                    found.add(OTHER)
                elif last in _OPEN:
                    found.add(ANY)
                elif last in _ITEMS or last in _MAPS or last in ("tuple", "Tuple"):
                    found.add(frozenset({Items(ANY)}))
                else:
                    found.add(frozenset({Outside(dotted, is_exact=False)}))
            case _:
                found.add(ANY)
    return join(found) or ANY


def _generic(
    name: str, outer: ast.expr, inner: ast.expr, evaluate: Callable[[ast.expr], Kinds], own: Instance | None
) -> Kinds:
    given = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]

    def read(part: ast.expr) -> Kinds:
        return read_annotation(part, evaluate, own)

    if name == "Optional":
        return read(inner) | NONE
    if name == "Callable" and len(given) == 2:
        return frozenset({Makes(read(given[1]))})
    if name == "Union":
        return join(map(read, given))
    if name in _SAME:
        return read(given[0])
    if name in _ITEMS:
        return frozenset({Items(read(given[0]))})
    if name in _MAPS and len(given) == 2:
        return frozenset({Items(read(given[1]), read(given[0]))})
    if name in ("tuple", "Tuple"):
        if len(given) == 2 and isinstance(given[1], ast.Constant) and given[1].value is ...:
            return frozenset({Items(read(given[0]))})
        return frozenset({Row(tuple(map(read, given)))})
    if name in ("type", "Type"):
        return frozenset(ClassItself(kind.name) if isinstance(kind, Instance) else kind for kind in read(given[0]))
    if name == "Literal":
        return OTHER
    # A generic class of the project, or one from outside.
    return read_annotation(outer, evaluate, own)


def _last(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
