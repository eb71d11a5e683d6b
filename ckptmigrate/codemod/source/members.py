"""What attributes of a project's classes may be: declared, computed by a property, or assigned anywhere."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from ckptmigrate.codemod.source.kinds import (
    ANY,
    OTHER,
    Callee,
    ClassItself,
    Instance,
    Items,
    Kinds,
    Plain,
    items_of,
    join,
    values_of,
)
from ckptmigrate.codemod.source.project import Class, Module
from ckptmigrate.codemod.source.scopes import Binding, Function, Scope, first_parameter, last_name, own_nodes

if TYPE_CHECKING:
    from ckptmigrate.codemod.source.receivers import Receivers

_ADDING: Mapping[str, int] = {"append": 0, "add": 0, "appendleft": 0, "insert": 1, "setdefault": 1}
"""Methods that put a value into a collection, and which argument it is."""

_PUTTING = frozenset({*_ADDING, "extend", "extendleft", "update"})
"""Methods that put something into a collection."""


class Members:
    """Finds what attributes may be, and what is put into collections."""

    def __init__(self, receivers: Receivers) -> None:
        self._receivers = receivers

    def attribute(self, class_name: str, attribute: str, receiver: Instance | ClassItself) -> Kinds:
        """What an attribute of a class's objects may be."""
        # A method is bound to its receiver, and a property may return it.
        key = (class_name, attribute, receiver)
        return self._receivers.settle(key, lambda: self._find(class_name, attribute, receiver))

    def _find(self, class_name: str, attribute: str, receiver: Instance | ClassItself) -> Kinds:
        each = self._receivers.project.classes[class_name]
        upward = (each, *self._receivers.project.ancestors(each))
        related = (*upward, *self._receivers.project.descendants(each))
        for one in upward:
            declared = self._declared(one, attribute)
            if declared is not None:
                return declared
        methods = [method for one in related for method in self._methods(one, attribute)]
        if methods:
            return join(self._method(one, method, receiver) for one, method in methods)
        stores = [*self._class_values(related, attribute), *self._stores(related, attribute)]
        if not stores:
            return ANY
        return join(stores) | join(self._added_to_attribute(related, attribute, stores))

    def _declared(self, each: Class, attribute: str) -> Kinds | None:
        for node in self._annotated(each):
            target = node.target
            match target:
                case ast.Name(id=name) if name == attribute:
                    return self._receivers.annotation(node.annotation, each.module, node.annotation)
                case ast.Attribute(value=ast.Name(), attr=name) if name == attribute:
                    return self._receivers.annotation(node.annotation, each.module, node.annotation)
        return None

    def _annotated(self, each: Class) -> Iterator[ast.AnnAssign]:
        """The annotations in a class's body, and of attributes of ``self`` in its methods."""
        for node in (inner for one in each.nodes for inner in own_nodes(one)):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node
        for method in each.methods():
            for node in own_nodes(method):
                match node:
                    case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id=name))) if name == first_parameter(
                        method
                    ):
                        yield node

    @staticmethod
    def _methods(each: Class, name: str) -> Iterator[tuple[Class, Function]]:
        for method in each.methods():
            # A setter's function has the property's name, and returns nothing.
            if method.name == name and not {"setter", "deleter"} & set(map(last_name, method.decorator_list)):
                yield each, method

    def _method(self, each: Class, method: Function, receiver: Instance | ClassItself) -> Kinds:
        decorators = set(map(last_name, method.decorator_list))
        if {"property", "cached_property"} & decorators:
            return self._receivers.calls.returned(Callee(each.module, method, receiver))
        if "staticmethod" in decorators:
            return frozenset({Callee(each.module, method)})
        if "classmethod" in decorators:
            return frozenset({Callee(each.module, method, ClassItself(receiver.name))})
        return frozenset({Callee(each.module, method, receiver)})

    def _class_values(self, related: Iterable[Class], attribute: str) -> Iterator[Kinds]:
        for each in related:
            for node in each.nodes:
                bindings = self._receivers.scopes(each.module).bound(node).get(attribute)
                if bindings:
                    yield self._receivers.bound(attribute, node, bindings, each.module)

    def _stores(self, related: tuple[Class, ...], attribute: str) -> Iterator[Kinds]:
        names = {each.name for each in related}
        for module, node in self._stored.get(attribute, ()):
            if not _may_be(self._receivers.kinds(node.value, module), names):
                continue
            binding = self._store_binding(node, module)
            yield ANY if binding is None else self._receivers.binding(attribute, module.tree, binding, module)

    def _store_binding(self, node: ast.Attribute, module: Module) -> Binding | None:
        """What an attribute that is assigned gets."""
        within: tuple[int, ...] = ()
        child: ast.AST = node
        for parent, _ in self._receivers.scopes(module).around(node):
            match parent:
                case ast.Tuple(elts=parts) | ast.List(elts=parts):
                    within = (next(at for at, part in enumerate(parts) if part is child), *within)
                case ast.Assign(value=value):
                    return Binding("value", value, within)
                case ast.AnnAssign(annotation=annotation):
                    return Binding("annotated", annotation)
                case ast.AugAssign(op=ast.Add(), value=value):
                    return Binding("added", value)
                case ast.For(target=target, iter=value) if target is child:
                    return Binding("item", value, within)
                case ast.withitem(context_expr=value):
                    return Binding("entered", value, within)
                case _:
                    return None
            child = parent
        return None

    @cached_property
    def _stored(self) -> Mapping[str, list[tuple[Module, ast.Attribute]]]:
        """Every attribute that is assigned anywhere, by its name."""
        found: dict[str, list[tuple[Module, ast.Attribute]]] = {}
        for module in self._receivers.project.modules:
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    found.setdefault(node.attr, []).append((module, node))
        return found

    # Collections that grow

    def grown(self, kinds: Kinds, name: str, scope: Scope, module: Module) -> Kinds:
        """A collection with what is put into it later under the same name, or into one that it holds."""
        if not any(isinstance(kind, Items) for kind in kinds):
            return kinds
        found = [kinds]
        for node in ast.walk(scope):
            held = _held(node)
            if isinstance(held, ast.Name) and held.id == name:
                found.append(self._put(node, module, has_keys=_has_keys(kinds)))
        return _merged(join(found))

    def _added_to_attribute(self, related: tuple[Class, ...], attribute: str, stores: list[Kinds]) -> Iterator[Kinds]:
        if not any(isinstance(kind, Items) for kind in join(stores)):
            return
        names = {each.name for each in related}
        gathered = [kinds for kinds in stores if any(isinstance(kind, Items) for kind in kinds)]
        for module, node in self._grows.get(attribute, ()):
            held = _held(node)
            if isinstance(held, ast.Attribute) and _may_be(self._receivers.kinds(held.value, module), names):
                gathered.append(self._put(node, module, has_keys=_has_keys(join(stores))))
        yield _merged(join(gathered))

    def _put(self, node: ast.AST, module: Module, *, has_keys: bool) -> Kinds:
        """A collection that holds what a node puts into one, as deep in it as it goes."""
        match node:
            case ast.Call(func=ast.Attribute(value=target, attr=method)):
                put, depth = join(self._put_in(node, method, module)), _depth(target) + 1
            case ast.Subscript():
                put, depth = self._stored_at(node, module)
            case _:
                return frozenset()
        for _ in range(depth):
            put = frozenset({Items(put)})
        return frozenset({Items(kind.of, OTHER if has_keys else kind.keys) for kind in put if isinstance(kind, Items)})

    def _stored_at(self, node: ast.Subscript, module: Module) -> tuple[Kinds, int]:
        """What ``x[i] = ...`` stores, and how deep in x."""
        kinds = self._receivers.kinds
        match self._receivers.scopes(module).parents.get(node):
            case ast.Assign(targets=[target], value=value) if target is node:
                given = kinds(value, module)
                return items_of(given) if isinstance(node.slice, ast.Slice) else given, _depth(node)
            case ast.AugAssign(op=ast.Add(), value=value):
                # A number that gets more, or a list that gets longer.
                given = kinds(value, module)
                return (OTHER, _depth(node)) if given == OTHER else (items_of(given), _depth(node) + 1)
        return ANY, _depth(node)

    def _put_in(self, call: ast.Call, method: str, module: Module) -> list[Kinds]:
        if method in _ADDING:
            at = _ADDING[method]
            return [self._receivers.kinds(call.args[at], module)] if len(call.args) > at else [ANY]
        if method in ("extend", "extendleft", "update"):
            given = [self._receivers.kinds(argument, module) for argument in call.args]
            named = [self._receivers.kinds(keyword.value, module) for keyword in call.keywords if keyword.arg]
            of_dicts = [values_of(each, None) if _has_keys(each) else items_of(each) for each in given]
            return [*of_dicts, *named] if len(named) == len(call.keywords) else [ANY]
        return []

    @cached_property
    def _grows(self) -> Mapping[str, list[tuple[Module, ast.AST]]]:
        """Every place that puts something into a collection that an attribute holds, by the attribute's name."""
        found: dict[str, list[tuple[Module, ast.AST]]] = {}
        for module in self._receivers.project.modules:
            for node in ast.walk(module.tree):
                held = _held(node)
                if isinstance(held, ast.Attribute):
                    found.setdefault(held.attr, []).append((module, node))
        return found


def _held(node: ast.AST) -> ast.expr | None:
    """What holds the collection that a node puts something into: ``x`` of ``x[0].append(y)`` and of ``x[0] = y``."""
    match node:
        case ast.Call(func=ast.Attribute(value=target, attr=method)) if method in _PUTTING:
            pass
        case ast.Subscript(value=target, ctx=ast.Store()):
            pass
        case _:
            return None
    while isinstance(target, ast.Subscript):
        target = target.value
    return target


def _depth(target: ast.expr) -> int:
    """How often something is looked up in a collection."""
    depth = 0
    while isinstance(target, ast.Subscript):
        target, depth = target.value, depth + 1
    return depth


def _may_be(kinds: Kinds, names: set[str]) -> bool:
    for kind in kinds:
        match kind:
            case Plain.ANY:
                return True
            case Instance(name=name) | ClassItself(name=name) if name in names:
                return True
    return False


def _merged(kinds: Kinds) -> Kinds:
    """Collections under one name are one, with the items of all."""
    lists = [kind for kind in kinds if isinstance(kind, Items)]
    if len(lists) < 2:
        return kinds
    whole = Items(join(kind.of for kind in lists), join(kind.keys for kind in lists))
    return frozenset({*(kind for kind in kinds if not isinstance(kind, Items)), whole})


def _has_keys(kinds: Kinds) -> bool:
    return any(isinstance(kind, Items) and kind.keys for kind in kinds)
