"""How the call of an object uses what the object holds: the way of values from attribute to attribute."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class Uses:
    """How the call of an object uses what it holds: the way of values from label to label."""

    def __init__(self, methods: Mapping[str, ast.FunctionDef | ast.AsyncFunctionDef]) -> None:
        self.methods = methods
        self.used: list[str] = []
        self.inputs: set[tuple[str, str]] = set()
        self.roles: dict[str, set[str]] = {}
        self._open: list[str] = []

    def read(self, method: ast.FunctionDef | ast.AsyncFunctionDef, given: Iterable[frozenset[str]] = ()) -> _Labels:
        """What a method returns is made by the labels that are returned."""
        self._open.append(method.name)
        names = [each.arg for each in (*method.args.posonlyargs, *method.args.args, *method.args.kwonlyargs)]
        receiver, *rest = names or [""]
        inputs = [*given]
        scope = _Scope(receiver, {name: inputs[at] if at < len(inputs) else _INPUT for at, name in enumerate(rest)})
        self._statements(method.body, scope)
        self._open.pop()
        return scope.returned

    def _statements(self, body: Iterable[ast.stmt], scope: _Scope) -> None:
        for node in body:
            match node:
                case ast.Assign(targets, value):
                    self._bind(targets, self.of(value, scope, ""), scope)
                case ast.AnnAssign(target, _, ast.expr() as value):
                    self._bind([target], self.of(value, scope, ""), scope)
                case ast.AugAssign(target, operator, value):
                    name = type(operator).__name__
                    self._bind([target], self.of(target, scope, name) | self.of(value, scope, name), scope)
                case ast.For(target, iterable, inner, orelse):
                    self._bind([target], self.of(iterable, scope, "each of"), scope)
                    self._statements([*inner, *orelse], scope)
                case ast.Return(ast.expr() as value):
                    scope.returned |= self.of(value, scope, "returned")
                case _:
                    for child in ast.iter_child_nodes(node):
                        if isinstance(child, ast.expr):
                            self.of(child, scope, type(node).__name__)
                    for part in ("body", "orelse", "finalbody"):
                        self._statements(getattr(node, part, ()), scope)

    def _bind(self, targets: Iterable[ast.expr], labels: _Labels, scope: _Scope) -> None:
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, ast.Name):
                    scope.names[node.id] = labels

    def of(self, node: ast.expr, scope: _Scope, role: str) -> _Labels:
        """The labels that an expression's value comes from."""
        label = _label_of(node, scope.receiver)
        if label:
            return self._use(label, _NOTHING, role)
        match node:
            case ast.Name(name):
                return scope.names.get(name, _NOTHING)
            case ast.Call(func, arguments, keywords):
                return self._call(func, [*arguments, *(each.value for each in keywords)], scope)
            case ast.BinOp(left, operator, right):
                name = type(operator).__name__
                return self._together([(left, f"left of {name}"), (right, f"right of {name}")], scope)
            case ast.Lambda() | ast.Constant():
                return _NOTHING
        parts = [child for child in ast.walk(node) if child is not node and isinstance(child, ast.Name | ast.Attribute)]
        if not parts:
            return _NOTHING
        children = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        for generator in getattr(node, "generators", ()):
            self._bind([generator.target], self.of(generator.iter, scope, "each of"), scope)
        return self._together([(child, type(node).__name__) for child in children], scope)

    def _call(self, func: ast.expr, arguments: list[ast.expr], scope: _Scope) -> _Labels:
        label = _label_of(func, scope.receiver)
        if label in self.methods:
            given = [self.of(each, scope, "") for each in arguments]
            if label in self._open:
                return frozenset().union(*given)
            return self.read(self.methods[label], given)
        called = {label} if label else set(scope.names.get(func.id, ()) if isinstance(func, ast.Name) else ()) - {""}
        if called:
            inputs = frozenset().union(*(self.of(each, scope, "given") for each in arguments)) or _INPUT
            return frozenset().union(*(self._use(each, inputs, "called") for each in called))
        name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
        parts = [(each, f"argument {at} of {name}") for at, each in enumerate(arguments)]
        if isinstance(func, ast.Attribute):
            parts.insert(0, (func.value, f"its {name}"))
        elif not isinstance(func, ast.Name):
            parts.insert(0, (func, "called"))
        return self._together(parts, scope)

    def _together(self, parts: Iterable[tuple[ast.expr, str]], scope: _Scope) -> _Labels:
        """What is made of several values: what the object holds itself takes the others as its input."""
        own: list[str] = []
        others: set[str] = set()
        for node, role in parts:
            label = _label_of(node, scope.receiver)
            if label and label not in self.methods:
                self._use(label, _NOTHING, role)
                own.append(label)
            else:
                others |= self.of(node, scope, role)
        self.inputs.update((other, label) for label in own for other in others)
        return frozenset(own or others)

    def _use(self, label: str, inputs: _Labels, role: str) -> _Labels:
        self.used.append(label)
        self.roles.setdefault(label, set()).add(role)
        self.inputs.update((each, label) for each in inputs)
        return frozenset({label})


_Labels = frozenset[str]
_INPUT = frozenset({""})
_NOTHING: _Labels = frozenset()


@dataclass
class _Scope:
    receiver: str
    names: dict[str, _Labels]
    returned: _Labels = _NOTHING


def _label_of(node: ast.expr, receiver: str) -> str:
    """The label of the object that an expression begins with: ``self.a``, ``self.a.b[0]``, ``getattr(self, "a")``."""
    while True:
        match node:
            case ast.Attribute(ast.Name(name), label):
                return label if name == receiver else ""
            case ast.Attribute(inner, _) | ast.Subscript(inner, _):
                node = inner
            case ast.Call(ast.Name("getattr"), [ast.Name(name), key, *_]) if name == receiver:
                return _text_of(key)
            case _:
                return ""


def _text_of(node: ast.expr) -> str:
    """A name that is made of text and the number of a turn."""
    match node:
        case ast.Constant(str(text)):
            return text
        case ast.JoinedStr(parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "{i}" for part in parts)
    return ""
