"""Where a name of a module gets its value: its scopes, and what is bound in each.

This is Python's own rule of names, without the order in which things run: a name has all the values that anything in
its scope gives it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Function = ast.FunctionDef | ast.AsyncFunctionDef
"""What `def` makes."""

Scope = ast.Module | ast.ClassDef | Function | ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
"""What has names of its own."""

_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, *_COMPREHENSIONS)

How = Literal[
    "value", "added", "item", "entered", "annotated", "parameter", "defined", "imported", "captured", "unknown"
]
"""How a binding gives a name its value.

``value``: by assignment of an expression. ``added``: by ``+=``. ``item``: an item of an expression, in a loop.
``entered``: by `with`. ``annotated``: by an annotation. ``parameter``: of the function. ``defined``: by `def` or
`class`. ``imported``: by an import. ``captured``: by a pattern of `match`. ``unknown``: in any other way.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """One way in which a name gets a value.

    Attributes:
        how: The way.
        node: The expression, annotation, parameter, definition or pattern.
        within: Which part of the expression it is, from outside in: ``a, (b, c) = x`` makes c ``(1, 1)`` of x. A
            negative number is what a star takes.
    """

    how: How
    node: ast.AST
    within: tuple[int, ...] = ()


class Scopes:
    """The scopes of one module."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.parents: dict[ast.AST, ast.AST] = {}
        self._bound: dict[Scope, Mapping[str, list[Binding]]] = {}
        self._elsewhere: dict[str, list[tuple[Function, bool]]] = {}
        """The functions that give a name of a scope around them a value, and whether it is the module's."""
        stack: list[ast.AST] = [tree]
        while stack:
            node = stack.pop()
            if isinstance(node, ast.Global | ast.Nonlocal):
                self._note_elsewhere(node)
            for child in ast.iter_child_nodes(node):
                # Contexts and operators are shared between all nodes, and are nobody's children.
                if isinstance(child, ast.expr_context | ast.operator | ast.cmpop | ast.boolop | ast.unaryop):
                    continue
                self.parents[child] = node
                stack.append(child)

    def _note_elsewhere(self, node: ast.Global | ast.Nonlocal) -> None:
        function = self.scope_of(node)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for name in node.names:
                self._elsewhere.setdefault(name, []).append((function, isinstance(node, ast.Global)))

    def _given_elsewhere(self, name: str, scope: Scope) -> list[Binding]:
        """What functions inside a scope give to a name of it by `global` or `nonlocal`."""
        found: list[Binding] = []
        for function, is_global in self._elsewhere[name]:
            around = self.scope_of(function)
            while not is_global and around is not scope and not isinstance(around, ast.Module):
                around = self.scope_of(around)
            if around is scope or (is_global and scope is self.tree):
                found.extend(each for given, each in _bindings(function) if given == name)
        return found

    def around(self, node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
        """Each node around one with the child that it is reached from, from inside out."""
        child = node
        while (parent := self.parents.get(child)) is not None:
            yield parent, child
            child = parent

    def scope_of(self, node: ast.AST) -> Scope:
        """The scope in which a node stands; of a definition, the one that it is made in."""
        for parent, child in self.around(node):
            if isinstance(parent, _SCOPES) and not _stands_outside(parent, child):
                return parent
        return self.tree

    def function_of(self, node: ast.AST) -> Function | None:
        """The innermost `def` around a node."""
        scope = self.scope_of(node)
        while not isinstance(scope, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef):
            scope = self.scope_of(scope)
        return None if isinstance(scope, ast.Module) else scope

    def class_of(self, function: ast.AST) -> ast.ClassDef | None:
        """The class whose body a function stands in directly."""
        scope = self.scope_of(function)
        return scope if isinstance(scope, ast.ClassDef) else None

    def lookup(self, name: str, at: ast.AST) -> tuple[Scope, Sequence[Binding]] | None:
        """The scope that a name at a node belongs to, and all that gives it a value there; None for a builtin."""
        scope = self.scope_of(at)
        is_own = True
        while True:
            # A class's names are not seen from the functions in it.
            if is_own or not isinstance(scope, ast.ClassDef):
                found = self.bound(scope).get(name)
                more = self._given_elsewhere(name, scope) if name in self._elsewhere else []
                if more:
                    return scope, [*found, *more] if found else more
                if found:
                    reaching = self._reaching(name, at, scope, found) if len(found) > 1 else None
                    return scope, found if reaching is None else [reaching]
            if isinstance(scope, ast.Module):
                return None
            # A comprehension in a class sees only its outermost iterable there, which is close enough.
            is_own = is_own and isinstance(scope, _COMPREHENSIONS)
            scope = self.scope_of(scope)

    def _reaching(self, name: str, at: ast.AST, scope: Scope, bindings: Sequence[Binding]) -> Binding | None:
        """The one binding of several that gives a name its value at a node, where the order of lines tells."""
        for parent, child in self.around(at):
            if isinstance(parent, _SCOPES) and parent is not scope:
                return None  # a function runs at another time than it is defined
            for block in ("body", "orelse", "finalbody"):
                statements = getattr(parent, block, None)
                if isinstance(statements, list) and child in statements:
                    for statement in reversed(statements[: statements.index(child)]):
                        match statement:
                            case ast.Assign(targets=[ast.Name(id=given)], value=value) if given == name:
                                return next((each for each in bindings if each.node is value), None)
                            case ast.Import() | ast.ImportFrom() if any(each.node is statement for each in bindings):
                                return next(each for each in bindings if each.node is statement)
                        if gives([statement], name):
                            return None
            match parent:
                case ast.For(body=body) | ast.AsyncFor(body=body) | ast.With(body=body) | ast.AsyncWith(body=body):
                    targets = _bound_by_head(parent)
                    own = [each for each in bindings if each.node in targets]
                    if child in body and any(name in names for names in targets.values()):
                        return own[0] if len(own) == 1 and not gives(body, name) else None
            if isinstance(parent, ast.For | ast.AsyncFor | ast.While) and gives([parent], name):
                return None  # the value of the round before
            if parent is scope:
                return None
        return None

    def bound(self, scope: Scope) -> Mapping[str, list[Binding]]:
        """The names that a scope binds, with what gives each its value."""
        if scope not in self._bound:
            found: dict[str, list[Binding]] = {}
            others = {name for name, given in self._elsewhere.items() if any(scope is one for one, _ in given)}
            for name, binding in _bindings(scope):
                if name not in others:
                    found.setdefault(name, []).append(binding)
            self._bound[scope] = found
        return self._bound[scope]

    @cached_property
    def qualified(self) -> Mapping[ast.AST, str]:
        """The dotted name below its module of each class and function."""
        found: dict[ast.AST, str] = {}
        stack: list[tuple[str, ast.AST]] = [("", self.tree)]
        while stack:
            above, node = stack.pop()
            for child in ast.iter_child_nodes(node):
                inner = above
                if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    inner = f"{above}.{child.name}" if above else child.name
                    found[child] = inner
                if not isinstance(child, ast.expr):
                    stack.append((inner, child))
        return found


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run in a scope, without those of scopes inside it; a definition is there, its body is not."""
    stack: list[ast.AST] = list(reversed(list(_inside(scope))))
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, _SCOPES):
            stack.extend(child for child in ast.iter_child_nodes(node) if _stands_outside(node, child))
        else:
            stack.extend(reversed(list(ast.iter_child_nodes(node))))


def first_parameter(function: Function) -> str | None:
    """The name of the first positional parameter."""
    positional = [*function.args.posonlyargs, *function.args.args]
    return positional[0].arg if positional else None


def last_name(decorator: ast.expr) -> str:
    """The last part of the name of a decorator: ``tf.function(...)`` is ``function``."""
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return "?"


def parameters(function: Function | ast.Lambda) -> list[ast.arg]:
    """All parameters of a function, in order."""
    given = function.args
    return [
        *given.posonlyargs,
        *given.args,
        *([given.vararg] if given.vararg else []),
        *given.kwonlyargs,
        *([given.kwarg] if given.kwarg else []),
    ]


def _bound_by_head(statement: ast.For | ast.AsyncFor | ast.With | ast.AsyncWith) -> dict[ast.AST, set[str]]:
    """The expressions that the head of a statement takes values from, with the names that each gives."""
    if isinstance(statement, ast.For | ast.AsyncFor):
        heads: list[tuple[ast.expr, ast.expr | None]] = [(statement.iter, statement.target)]
    else:
        heads = [(item.context_expr, item.optional_vars) for item in statement.items]
    return {
        value: {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}
        for value, target in heads
        if target is not None
    }


def gives(statements: Sequence[ast.AST], name: str) -> bool:
    """Whether something in statements may give a name another value."""
    for statement in statements:
        for node in ast.walk(statement):
            match node:
                case ast.Name(id=given, ctx=ast.Store() | ast.Del()) if given == name:
                    return True
                case ast.ClassDef(name=given) | ast.FunctionDef(name=given) | ast.AsyncFunctionDef(name=given):
                    if given == name:
                        return True
                case ast.MatchAs(name=given) | ast.MatchStar(name=given) | ast.MatchMapping(rest=given):
                    if given == name:
                        return True
                case ast.ExceptHandler(name=given) if given == name:
                    return True
                case ast.alias(name=imported, asname=asname) if (asname or imported.partition(".")[0]) == name:
                    return True
    return False


def _inside(scope: ast.AST) -> Iterator[ast.AST]:
    return (child for child in ast.iter_child_nodes(scope) if not _stands_outside(scope, child))


def _stands_outside(scope: ast.AST, child: ast.AST) -> bool:
    """Whether a part of a scope's node is evaluated in the scope around it: decorators, defaults, bases."""
    match scope:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            return child not in scope.body
        case ast.Lambda():
            return child is not scope.body
        case ast.ClassDef():
            return child not in scope.body
    return False


def _bindings(scope: Scope) -> Iterator[tuple[str, Binding]]:
    if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for parameter in parameters(scope):
            yield parameter.arg, Binding("parameter", parameter)
    if isinstance(scope, _COMPREHENSIONS):
        for generator in scope.generators:
            yield from _targets(generator.target, "item", generator.iter)
        return
    for node in own_nodes(scope):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _targets(target, "value", value)
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                yield name, Binding("annotated", annotation)
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add(), value=value):
                yield name, Binding("added", value)
            case ast.AugAssign(target=ast.Name(id=name), value=value):
                yield name, Binding("unknown", value)
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                yield name, Binding("value", value)
            case ast.For(target=target, iter=iterated) | ast.AsyncFor(target=target, iter=iterated):
                yield from _targets(target, "item", iterated)
            case ast.withitem(context_expr=entered, optional_vars=ast.expr() as target):
                yield from _targets(target, "entered", entered)
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, Binding("defined", node)
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                for alias in names:
                    if alias.name != "*":
                        yield alias.asname or alias.name.partition(".")[0], Binding("imported", node)
            case ast.ExceptHandler(name=str(name)):
                yield name, Binding("unknown", node)
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield name, Binding("captured", node)
            case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                # What a walrus in it binds is bound out here.
                for inner in ast.walk(node):
                    if isinstance(inner, ast.NamedExpr):
                        yield inner.target.id, Binding("value", inner.value)


def _targets(target: ast.expr, how: How, node: ast.expr) -> Iterator[tuple[str, Binding]]:
    stack: list[tuple[ast.expr, tuple[int, ...]]] = [(target, ())]
    while stack:
        current, within = stack.pop()
        match current:
            case ast.Name(id=name):
                yield name, Binding(how, node, within)
            case ast.Starred(value=ast.Name(id=name)):
                yield name, Binding(how, node, (*within[:-1], -1))
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                stack.extend((part, (*within, at)) for at, part in enumerate(parts))
