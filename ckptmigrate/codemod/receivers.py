"""What class a value is of, where the source proves it.

A value is proven by where it comes from: ``self``, a constructor, an annotation, a function that returns it, an
attribute or a list that holds nothing else. What several places give has the classes of all of them, whatever runs
first. What is not understood may be anything; nothing is guessed.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from ckptmigrate.codemod.annotations import read_annotation
from ckptmigrate.codemod.kinds import (
    ANY,
    MOCK,
    NONE,
    OTHER,
    Callee,
    ClassItself,
    Imported,
    Instance,
    Items,
    Kind,
    Kinds,
    Outside,
    Package,
    Plain,
    Row,
    items_of,
    join,
    part_of,
    values_of,
)
from ckptmigrate.codemod.project import Class, Module, Project, dotted_name, imported_by
from ckptmigrate.codemod.scopes import Binding, Function, Scope, Scopes, own_nodes

_KEEPING = frozenset(
    {
        "property", "cached_property", "staticmethod", "classmethod", "abstractmethod", "override", "final",
        "lru_cache", "cache", "function", "contextmanager", "asynccontextmanager", "overload", "fixture", "setter",
        "no_automatic_dependency_tracking",
    }
)  # fmt: skip
"""Decorators after which a function still returns what it says; `function` is TensorFlow's."""

_OF_ITEMS = frozenset({"list", "tuple", "set", "frozenset", "sorted", "reversed", "iter", "deque"})
"""What makes a collection of the items of its argument."""

_OTHER_CALLS = frozenset(
    {
        "len", "str", "int", "float", "bool", "repr", "format", "isinstance", "hasattr", "range", "sum", "print", "id",
        "abs", "round", "bytes", "hash", "type", "dir", "any", "all", "callable",
    }
)  # fmt: skip
"""What returns no object of a class."""

_OUTSIDE_RESULTS: Mapping[str, str] = {
    f"tensorflow.{api}train.load_checkpoint": "tensorflow.train.CheckpointReader"
    for api in ("", "compat.v1.", "compat.v2.")
}
"""What functions of TensorFlow's return."""

_OUTSIDE_ATTRIBUTES: Mapping[tuple[str, str], str] = {
    (f"tensorflow.{api}train.CheckpointManager", "checkpoint"): "tensorflow.train.Checkpoint"
    for api in ("", "compat.v1.", "compat.v2.")
}
"""What attributes of TensorFlow's objects are."""

_ADDING: Mapping[str, int] = {"append": 0, "add": 0, "appendleft": 0, "insert": 1, "setdefault": 1}
"""Methods that put a value into a collection, and which argument it is."""


class Receivers:
    """Finds what values of a project may be."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._scopes: dict[Module, Scopes] = {}
        self._known: dict[ast.AST, Kinds] = {}
        self._attributes: dict[tuple[str, str], Kinds] = {}
        self._open: set[object] = set()

    def scopes(self, module: Module) -> Scopes:
        """The scopes of a module."""
        if module not in self._scopes:
            self._scopes[module] = Scopes(module.tree)
        return self._scopes[module]

    def kinds(self, node: ast.expr, module: Module) -> Kinds:
        """What an expression's value may be."""
        known = self._known.get(node)
        if known is not None:
            return known
        if node in self._open:
            return ANY  # its value depends on itself
        self._open.add(node)
        try:
            found = self._narrowed(node, module)
            if found is None:
                found = self._evaluate(node, module)
        except RecursionError:
            found = ANY
        finally:
            self._open.discard(node)
        self._known[node] = found
        return found

    def class_at(self, node: ast.ClassDef, module: Module) -> str:
        """The dotted name of a class by its definition."""
        return f"{module.name}.{self.scopes(module).qualified[node]}"

    def own_class(self, function: ast.AST, module: Module) -> str | None:
        """The class that a function is a method of."""
        node = self.scopes(module).class_of(function)
        return None if node is None else self.class_at(node, module)

    # Expressions

    def _evaluate(self, node: ast.expr, module: Module) -> Kinds:
        match node:
            case ast.Name(id=name):
                return self.name(name, node, module)
            case ast.Attribute():
                return self._attribute(node, module)
            case ast.Call():
                return self._call(node, module)
            case ast.Constant(value=None):
                return NONE
            case ast.Constant() | ast.JoinedStr() | ast.Compare() | ast.UnaryOp():
                return OTHER
            case ast.Await(value=value) | ast.NamedExpr(value=value) | ast.Starred(value=value):
                return self.kinds(value, module)
            case ast.IfExp(body=one, orelse=other):
                return self.kinds(one, module) | self.kinds(other, module)
            case ast.BoolOp(values=values):
                return join(self.kinds(value, module) for value in values)
            case ast.Tuple(elts=parts) if not any(isinstance(part, ast.Starred) for part in parts):
                return frozenset({Row(tuple(self.kinds(part, module) for part in parts))})
            case ast.List(elts=parts) | ast.Set(elts=parts) | ast.Tuple(elts=parts):
                return frozenset({Items(join(self._item(part, module) for part in parts))})
            case ast.Dict(keys=keys, values=values):
                of = [
                    self.kinds(value, module) if key is not None else values_of(self.kinds(value, module), None)
                    for key, value in zip(keys, values, strict=True)
                ]
                return frozenset({Items(join(of), OTHER)})
            case ast.ListComp(elt=item) | ast.SetComp(elt=item) | ast.GeneratorExp(elt=item):
                return frozenset({Items(self.kinds(item, module))})
            case ast.DictComp(key=key, value=value):
                return frozenset({Items(self.kinds(value, module), self.kinds(key, module))})
            case ast.Subscript(value=value, slice=ast.Slice()):
                return self._slice(self.kinds(value, module))
            case ast.Subscript(value=value, slice=index):
                at = index.value if isinstance(index, ast.Constant) and isinstance(index.value, int) else None
                return values_of(self.kinds(value, module), at)
            case ast.BinOp(left=left, op=ast.Add() | ast.Mult(), right=right):
                return self._added(self.kinds(left, module), self.kinds(right, module))
        return ANY

    def _item(self, part: ast.expr, module: Module) -> Kinds:
        kinds = self.kinds(part, module)
        return items_of(kinds) if isinstance(part, ast.Starred) else kinds

    @staticmethod
    def _slice(kinds: Kinds) -> Kinds:
        return join(
            frozenset({Items(join(kind.parts))}) if isinstance(kind, Row) else frozenset({kind}) for kind in kinds
        )

    @staticmethod
    def _added(left: Kinds, right: Kinds) -> Kinds:
        """Lists that are joined or repeated; anything else that is added is a number, a text, or unknown."""
        lists = {kind for kind in left | right if isinstance(kind, Items | Row)}
        if not lists:
            return OTHER if left | right == OTHER else ANY
        if any(kind not in lists and kind is not Plain.OTHER for kind in left | right):
            return ANY
        return frozenset({Items(join(join(kind.parts) if isinstance(kind, Row) else kind.of for kind in lists))})

    # Names

    def name(self, name: str, at: ast.AST, module: Module) -> Kinds:
        """What a name may be at a node."""
        found = self.scopes(module).lookup(name, at)
        if found is None:
            return frozenset({Imported(name)}) if hasattr(builtins, name) else self._of_star(name, module)
        scope, bindings = found
        return self._bound(name, scope, bindings, module)

    def _bound(self, name: str, scope: Scope, bindings: Iterable[Binding], module: Module) -> Kinds:
        given = list(bindings)
        # What is declared holds, whatever else is assigned.
        declared = [each for each in given if each.how == "annotated"]
        found = join(self._binding(name, scope, each, module) for each in declared or given)
        return found if declared else self._grown(found, name, scope, module)

    def _binding(self, name: str, scope: Scope, binding: Binding, module: Module) -> Kinds:
        node = binding.node
        match binding.how:
            case "value" if isinstance(node, ast.expr):
                return part_of(self.kinds(node, module), binding.within)
            case "item" if isinstance(node, ast.expr):
                return part_of(items_of(self.kinds(node, module)), binding.within)
            case "entered" if isinstance(node, ast.expr):
                return part_of(self._entered(node, module), binding.within)
            case "annotated":
                return self.annotation(node, module, node)
            case "parameter" if isinstance(node, ast.arg):
                return self._parameter(node, scope, module)
            case "defined":
                if isinstance(node, ast.ClassDef):
                    return frozenset({ClassItself(self.class_at(node, module))})
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    return frozenset({Callee(module, node)})
            case "imported":
                return self._imported(name, node, module)
            case "captured":
                return self._captured(node, module)
        return ANY

    def _imported(self, name: str, node: ast.AST, module: Module) -> Kinds:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            return ANY
        dotted = imported_by(node, module.name, is_package=module.is_package)[name]
        return self._dotted(self.project.follow(dotted))

    def _of_star(self, name: str, module: Module) -> Kinds:
        """What a name is that nothing in the module gives a value, but perhaps ``from x import *``."""
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                origin = imported_by(node, module.name, is_package=module.is_package)["*"]
                owner = self.project.module_of.get(origin)
                if owner is not None and not name.startswith("_"):
                    found = self._of_module(owner, name)
                    if found != ANY:
                        return found
        return ANY

    def _dotted(self, dotted: str) -> Kinds:
        """What a resolved dotted name is."""
        if dotted in self.project.classes:
            return frozenset({ClassItself(dotted)})
        if dotted in self.project.module_of:
            return frozenset({Package(self.project.module_of[dotted].name)})
        head, _, last = dotted.rpartition(".")
        owner = self.project.module_of.get(head)
        if owner is None:
            # What is the project's own and not found (a file that cannot be parsed, say) may be anything.
            is_own = "." in dotted and dotted.partition(".")[0] in self._own_names
            return ANY if is_own and not self._is_package(dotted) else frozenset({Imported(dotted)})
        return self._of_module(owner, last)

    @cached_property
    def _own_names(self) -> frozenset[str]:
        """What the project's modules and packages are called."""
        return frozenset(part for module in self.project.modules for part in module.name.split("."))

    def _is_package(self, dotted: str) -> bool:
        """Whether it is a directory of the project without an ``__init__``."""
        return any(f".{module.name}.".find(f".{dotted}.") >= 0 for module in self.project.modules)

    def _of_module(self, module: Module, name: str) -> Kinds:
        """What a name of another module of the project is."""
        scopes = self.scopes(module)
        bindings = scopes.bound(scopes.tree).get(name)
        if not bindings:
            return self._dotted(self.project.resolve(module, name)) if name in module.imports else ANY
        key = (module.name, name)
        if key in self._open:
            return ANY
        self._open.add(key)
        try:
            return self._bound(name, scopes.tree, bindings, module)
        finally:
            self._open.discard(key)

    def annotation(self, node: ast.AST | None, module: Module, at: ast.AST) -> Kinds:
        """What a value with an annotation may be."""
        scope = self.scopes(module).scope_of(at)
        while not isinstance(scope, ast.Module | ast.ClassDef):
            scope = self.scopes(module).scope_of(scope)
        own = Instance(self.class_at(scope, module)) if isinstance(scope, ast.ClassDef) else None
        return read_annotation(node, lambda name: self._dotted_at(name, module, at), own)

    def _dotted_at(self, node: ast.expr, module: Module, at: ast.AST) -> Kinds:
        match node:
            case ast.Name(id=name):
                return self.name(name, at, module)
            case ast.Attribute(value=value, attr=attribute):
                return join(self._member(kind, attribute) for kind in self._dotted_at(value, module, at))
        return ANY

    def _parameter(self, node: ast.arg, scope: Scope, module: Module) -> Kinds:
        if isinstance(scope, ast.Lambda) or not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            return ANY
        if node.annotation is not None:
            kinds = self.annotation(node.annotation, module, node.annotation)
            if node in (scope.args.vararg, scope.args.kwarg):
                return frozenset({Items(kinds)})
            return kinds
        if node in (scope.args.vararg, scope.args.kwarg):
            return frozenset({Items(ANY)})
        receiver = self.receiver(scope, module)
        return frozenset({receiver}) if receiver is not None and node.arg == first_parameter(scope) else ANY

    def receiver(self, function: Function, module: Module) -> Instance | ClassItself | None:
        """What the first parameter of a method is: an object of its class, or the class; None of other functions."""
        own = self.own_class(function, module)
        decorators = set(map(_last_name, function.decorator_list))
        if own is None or "staticmethod" in decorators or first_parameter(function) is None:
            return None
        if "classmethod" in decorators or function.name in ("__new__", "__init_subclass__", "__class_getitem__"):
            return ClassItself(own)
        # As in pydantic's validators, whose decorator makes a class method.
        return ClassItself(own) if first_parameter(function) == "cls" and decorators else Instance(own)

    def _captured(self, node: ast.AST, module: Module) -> Kinds:
        """What a pattern of `match` captures."""
        match node:
            case ast.MatchAs(pattern=ast.MatchClass(cls=each)):
                return _instances(self.kinds(each, module))
            case ast.MatchAs(pattern=ast.MatchOr(patterns=patterns)) if all(
                isinstance(each, ast.MatchClass) for each in patterns
            ):
                return join(
                    _instances(self.kinds(each.cls, module)) for each in patterns if isinstance(each, ast.MatchClass)
                )
        return ANY

    # Attributes

    def _attribute(self, node: ast.Attribute, module: Module) -> Kinds:
        return join(self._member(kind, node.attr) for kind in self.kinds(node.value, module))

    def _member(self, kind: Kind, attribute: str) -> Kinds:
        match kind:
            case Instance(name=name):
                if attribute == "__class__":
                    return frozenset({ClassItself(name)})
                return self.attribute(name, attribute, kind)
            case ClassItself(name=name):
                inner = f"{name}.{attribute}"
                if inner in self.project.classes:
                    return frozenset({ClassItself(inner)})
                return self.attribute(name, attribute, kind)
            case Package(name=name):
                inner = self.project.resolve(self.project.module_of[name], attribute)
                if inner in self.project.classes:
                    return frozenset({ClassItself(inner)})
                if f"{name}.{attribute}" in self.project.module_of:
                    return frozenset({Package(f"{name}.{attribute}")})
                return self._of_module(self.project.module_of[name], attribute)
            case Imported(name=name):
                return self._dotted(self.project.follow(f"{name}.{attribute}"))
            case Outside(name=name) if (name, attribute) in _OUTSIDE_ATTRIBUTES:
                return frozenset({Outside(_OUTSIDE_ATTRIBUTES[name, attribute], is_exact=False)})
            case Plain.NONE:
                return frozenset()
            case Plain.MOCK:
                return MOCK
        return ANY

    def attribute(self, class_name: str, attribute: str, receiver: Instance | ClassItself) -> Kinds:
        """What an attribute of a class's objects may be."""
        key = (class_name, attribute)
        if key in self._attributes:
            return self._attributes[key]
        if key in self._open:
            return ANY
        self._open.add(key)
        try:
            found = self._find_attribute(class_name, attribute, receiver)
        finally:
            self._open.discard(key)
        if not any(isinstance(kind, Callee) for kind in found):
            self._attributes[key] = found
        return found

    def _find_attribute(self, class_name: str, attribute: str, receiver: Instance | ClassItself) -> Kinds:
        each = self.project.classes[class_name]
        upward = (each, *self.project.ancestors(each))
        related = (*upward, *self.project.descendants(each))
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
                    return self.annotation(node.annotation, each.module, node.annotation)
                case ast.Attribute(value=ast.Name(), attr=name) if name == attribute:
                    return self.annotation(node.annotation, each.module, node.annotation)
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
            if method.name == name and not {"setter", "deleter"} & set(map(_last_name, method.decorator_list)):
                yield each, method

    def _method(self, each: Class, method: Function, receiver: Instance | ClassItself) -> Kinds:
        decorators = set(map(_last_name, method.decorator_list))
        if {"property", "cached_property"} & decorators:
            return self.returned(Callee(each.module, method, receiver))
        if "staticmethod" in decorators:
            return frozenset({Callee(each.module, method)})
        if "classmethod" in decorators:
            return frozenset({Callee(each.module, method, ClassItself(receiver.name))})
        return frozenset({Callee(each.module, method, receiver)})

    def _class_values(self, related: Iterable[Class], attribute: str) -> Iterator[Kinds]:
        for each in related:
            for node in each.nodes:
                bindings = self.scopes(each.module).bound(node).get(attribute)
                if bindings:
                    yield self._bound(attribute, node, bindings, each.module)

    def _stores(self, related: tuple[Class, ...], attribute: str) -> Iterator[Kinds]:
        names = {each.name for each in related}
        for module, node in self._stored.get(attribute, ()):
            if not self._may_be(self.kinds(node.value, module), names):
                continue
            binding = self._store_binding(node, module)
            yield ANY if binding is None else self._binding(attribute, module.tree, binding, module)

    def _store_binding(self, node: ast.Attribute, module: Module) -> Binding | None:
        """What an attribute that is assigned gets."""
        within: tuple[int, ...] = ()
        child: ast.AST = node
        for parent, _ in self.scopes(module).around(node):
            match parent:
                case ast.Tuple(elts=parts) | ast.List(elts=parts):
                    within = (next(at for at, part in enumerate(parts) if part is child), *within)
                case ast.Assign(value=value):
                    return Binding("value", value, within)
                case ast.AnnAssign(annotation=annotation):
                    return Binding("annotated", annotation)
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
        for module in self.project.modules:
            for node in ast.walk(module.tree):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    found.setdefault(node.attr, []).append((module, node))
        return found

    def _may_be(self, kinds: Kinds, names: set[str]) -> bool:
        for kind in kinds:
            match kind:
                case Plain.ANY:
                    return True
                case Instance(name=name) | ClassItself(name=name) if name in names:
                    return True
        return False

    # Collections that grow

    def _grown(self, kinds: Kinds, name: str, scope: Scope, module: Module) -> Kinds:
        """A collection with what is put into it later under the same name."""
        if not any(isinstance(kind, Items) for kind in kinds):
            return kinds
        found = [kinds]
        for node in ast.walk(scope):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=named), attr=method)) if named == name:
                    added = self._put_in(node, method, module)
                case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=named))], value=value) if named == name:
                    added = [self.kinds(value, module)]
                case _:
                    continue
            found.extend(frozenset({Items(each, OTHER if _has_keys(kinds) else frozenset())}) for each in added)
        return _merged(join(found))

    def _added_to_attribute(self, related: tuple[Class, ...], attribute: str, stores: list[Kinds]) -> Iterator[Kinds]:
        if not any(isinstance(kind, Items) for kind in join(stores)):
            return
        names = {each.name for each in related}
        keys = OTHER if _has_keys(join(stores)) else frozenset()
        gathered = [kinds for kinds in stores if any(isinstance(kind, Items) for kind in kinds)]
        for module, node in self._grows.get(attribute, ()):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Attribute(value=owner), attr=method)):
                    added = self._put_in(node, method, module) if self._owns(owner, module, names) else []
                case ast.Assign(targets=[ast.Subscript(value=ast.Attribute(value=owner))], value=value):
                    added = [self.kinds(value, module)] if self._owns(owner, module, names) else []
                case _:
                    continue
            gathered.extend(frozenset({Items(each, keys)}) for each in added)
        yield _merged(join(gathered))

    def _owns(self, owner: ast.expr, module: Module, names: set[str]) -> bool:
        return self._may_be(self.kinds(owner, module), names)

    def _put_in(self, call: ast.Call, method: str, module: Module) -> list[Kinds]:
        if method in _ADDING:
            at = _ADDING[method]
            return [self.kinds(call.args[at], module)] if len(call.args) > at else [ANY]
        if method in ("extend", "extendleft", "update"):
            return [items_of(self.kinds(call.args[0], module))] if len(call.args) == 1 else [ANY]
        return []

    @cached_property
    def _grows(self) -> Mapping[str, list[tuple[Module, ast.AST]]]:
        """Every place that puts something into a collection that an attribute holds, by the attribute's name."""
        found: dict[str, list[tuple[Module, ast.AST]]] = {}
        putting = {*_ADDING, "extend", "extendleft", "update"}
        for module in self.project.modules:
            for node in ast.walk(module.tree):
                match node:
                    case ast.Call(func=ast.Attribute(value=ast.Attribute(attr=held), attr=method)) if method in putting:
                        found.setdefault(held, []).append((module, node))
                    case ast.Assign(targets=[ast.Subscript(value=ast.Attribute(attr=held))]):
                        found.setdefault(held, []).append((module, node))
        return found

    # Calls

    def _call(self, node: ast.Call, module: Module) -> Kinds:
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.expr):
            from_items = self._from_items(node, node.func, module)
            if from_items is not None:
                return from_items
        return join(self._called(kind, node, module) for kind in self.kinds(node.func, module)) or ANY

    def _from_items(self, node: ast.Call, func: ast.Attribute, module: Module) -> Kinds | None:
        """What the methods of lists and dicts return."""
        if func.attr not in ("values", "items", "keys", "get", "pop", "copy", "popleft", "setdefault"):
            return None
        held = self.kinds(func.value, module)
        if not held or not all(isinstance(kind, Items) or kind is Plain.NONE for kind in held):
            return None
        of = values_of(held, None)
        keys = join(kind.keys for kind in held if isinstance(kind, Items)) or OTHER
        match func.attr:
            case "values":
                return frozenset({Items(of)})
            case "keys":
                return frozenset({Items(keys)})
            case "items":
                return frozenset({Items(frozenset({Row((keys, of))}))})
            case "copy":
                return held
        return of | join(self.kinds(argument, module) for argument in node.args[1:])

    def _called(self, kind: Kind, node: ast.Call, module: Module) -> Kinds:
        match kind:
            case ClassItself(name=name):
                return frozenset({Instance(name)})
            case Callee():
                return self.returned(kind)
            case Instance(name=name):
                found = self.attribute(name, "__call__", kind) if self._defines(name, "__call__") else ANY
                return join(self.returned(each) if isinstance(each, Callee) else ANY for each in found)
            case Imported(name=name):
                return self._outside_call(name, node, module)
            case Plain.MOCK:
                return MOCK
        return ANY

    def _defines(self, name: str, method: str) -> bool:
        each = self.project.classes[name]
        return any(found.name == method for one in (each, *self.project.ancestors(each)) for found in one.methods())

    def _outside_call(self, name: str, node: ast.Call, module: Module) -> Kinds:
        """What a function or class that is not in the project returns."""
        last = name.rpartition(".")[2]
        arguments = [self.kinds(each, module) for each in node.args[:3]]
        first = arguments[0] if arguments else ANY
        if last in ("Mock", "MagicMock", "AsyncMock", "NonCallableMock", "PropertyMock", "create_autospec"):
            return MOCK
        if name == "super":
            return self._super(node, module)
        if name == "type" and len(arguments) == 1:
            return frozenset(ClassItself(kind.name) if isinstance(kind, Instance) else Plain.ANY for kind in first)
        if name in _OF_ITEMS:
            return frozenset({Items(items_of(first) if arguments else frozenset())})
        if name == "enumerate":
            return frozenset({Items(frozenset({Row((OTHER, items_of(first)))}))})
        if name == "zip":
            return frozenset({Items(frozenset({Row(tuple(map(items_of, arguments)))}))}) if len(node.args) < 4 else ANY
        if name in ("next", "min", "max") and len(arguments) in (1, 2):
            return join([items_of(first), *arguments[1:]] if name == "next" or len(arguments) == 1 else arguments)
        if name == "dict" and not arguments:
            given = join(self.kinds(keyword.value, module) for keyword in node.keywords if keyword.arg)
            return frozenset({Items(given, OTHER)})
        if name in ("copy.copy", "copy.deepcopy") and arguments:
            return first
        if name in ("dataclasses.replace", "tensorflow.function", "tf.function") and arguments:
            return first
        if last == "cast" and name.startswith("typing") and node.args:
            return self.annotation(node.args[0], module, node.args[0])
        if name in _OTHER_CALLS:
            return OTHER
        if name in _OUTSIDE_RESULTS:
            return frozenset({Outside(_OUTSIDE_RESULTS[name], is_exact=False)})
        # A class, by how classes are written; what a function returns is not known.
        bare = last.lstrip("_")
        if bare[:1].isupper() and not bare.isupper():
            return frozenset({Outside(name, is_exact=True)})
        return ANY

    def _super(self, node: ast.Call, module: Module) -> Kinds:
        function = self.scopes(module).function_of(node)
        while function is not None and self.own_class(function, module) is None:
            function = self.scopes(module).function_of(function)
        receiver = None if function is None else self.receiver(function, module)
        return ANY if receiver is None else frozenset({receiver})

    def returned(self, callee: Callee) -> Kinds:
        """What a call of a function of the project returns."""
        node, module = callee.node, callee.module
        if not set(map(_last_name, node.decorator_list)) <= _KEEPING:
            return ANY
        if "fixture" in set(map(_last_name, node.decorator_list)):
            return ANY
        bound = callee.bound
        if node.returns is not None:
            if bound is not None and _says_self(node.returns):
                return frozenset({Instance(bound.name)})
            return self.annotation(node.returns, module, node.returns)
        key = (node, bound)
        if key in self._open:
            return ANY
        self._open.add(key)
        try:
            return join(self._returns(node, module, bound)) or NONE
        finally:
            self._open.discard(key)

    def _returns(self, node: Function, module: Module, bound: Instance | ClassItself | None) -> Iterator[Kinds]:
        own = first_parameter(node)
        for inner in own_nodes(node):
            match inner:
                case ast.Return(value=ast.Name(id=name)) if bound is not None and name == own:
                    yield frozenset({bound})
                case ast.Return(value=ast.Call(func=ast.Name(id=name))) if (
                    isinstance(bound, ClassItself) and name == own
                ):
                    yield frozenset({Instance(bound.name)})
                case ast.Return(value=ast.expr() as value):
                    yield self.kinds(value, module)
                case ast.Yield(value=ast.expr() as value):
                    yield frozenset({Items(self.kinds(value, module))})
                case ast.YieldFrom(value=value):
                    yield frozenset({Items(items_of(self.kinds(value, module)))})

    def _entered(self, node: ast.expr, module: Module) -> Kinds:
        """What `with` gives."""
        if isinstance(node, ast.Call):
            callees = self.kinds(node.func, module)
            managers = [
                kind
                for kind in callees
                if isinstance(kind, Callee)
                and {"contextmanager", "asynccontextmanager"} & set(map(_last_name, kind.node.decorator_list))
            ]
            if managers and len(managers) == len(callees):
                return join(items_of(self.returned(kind)) for kind in managers)
        found: list[Kinds] = []
        for kind in self.kinds(node, module):
            entering = ("__enter__", "__aenter__")
            name = kind.name if isinstance(kind, Instance) else ""
            method = next((each for each in entering if name and self._defines(name, each)), None)
            if method is None or not isinstance(kind, Instance):
                found.append(ANY)
                continue
            found.extend(
                self.returned(each) if isinstance(each, Callee) else ANY for each in self.attribute(name, method, kind)
            )
        return join(found) or ANY

    # Tests on types

    def _narrowed(self, node: ast.expr, module: Module) -> Kinds | None:
        """What a test around an expression proves it to be; None if none does."""
        text = dotted_name(node) if isinstance(node, ast.Name | ast.Attribute) else None
        if text is None or not isinstance(getattr(node, "ctx", None), ast.Load):
            return None
        if isinstance(node, ast.Name) and not self.scopes(module).lookup(node.id, node):
            return None
        for parent, child in self.scopes(module).around(node):
            proof = self._proof(parent, child, text, module)
            if proof is not None:
                return proof
            if isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
                return None
            if isinstance(parent, ast.For | ast.AsyncFor | ast.While) and _rebinds([parent], text):
                return None  # what was tested before the loop is another value in its second round
        return None

    def _proof(self, parent: ast.AST, child: ast.AST, text: str, module: Module) -> Kinds | None:
        match parent:
            case ast.If(test=test, body=body, orelse=orelse) | ast.While(test=test, body=body, orelse=orelse):
                before = _before(body, child)
                if before is not None:
                    return self._tested(_conjuncts(test), text, module) if not _rebinds(before, text) else None
                after = _before(orelse, child)
                if after is not None and isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
                    return self._tested([test.operand], text, module) if not _rebinds(after, text) else None
            case ast.IfExp(test=test, body=body) if body is child:
                return self._tested(_conjuncts(test), text, module)
            case ast.BoolOp(op=ast.And(), values=values):
                at = next(at for at, value in enumerate(values) if value is child)
                return self._tested(values[:at], text, module)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                if not isinstance(child, ast.comprehension):
                    tests = [test for generator in parent.generators for test in generator.ifs]
                    return self._tested([part for test in tests for part in _conjuncts(test)], text, module)
            case ast.match_case(pattern=pattern, body=body):
                return self._matched(parent, pattern, _before(body, child), text, module)
        for block in ("body", "orelse", "finalbody"):
            statements = getattr(parent, block, None)
            before = _before(statements, child) if isinstance(statements, list) else None
            if before is not None:
                return self._checked_before(before, text, module)
        return None

    def _checked_before(self, statements: list[ast.stmt], text: str, module: Module) -> Kinds | None:
        """What an `assert`, or an `if not ...: return`, in the same block has left."""
        for at in range(len(statements) - 1, -1, -1):
            match statements[at]:
                case ast.Assert(test=test):
                    proof = self._tested(_conjuncts(test), text, module)
                case ast.If(test=ast.UnaryOp(op=ast.Not(), operand=operand), body=body, orelse=[]) if isinstance(
                    body[-1], ast.Return | ast.Raise | ast.Continue | ast.Break
                ):
                    proof = self._tested([operand], text, module)
                case _:
                    proof = None
            if proof is not None:
                return proof
            if _rebinds(statements[at : at + 1], text):
                return None
        return None

    def _tested(self, tests: Iterable[ast.expr], text: str, module: Module) -> Kinds | None:
        for test in tests:
            match test:
                case ast.Call(func=ast.Name(id="isinstance"), args=[subject, classes]) if dotted_name(subject) == text:
                    given = classes.elts if isinstance(classes, ast.Tuple) else [classes]
                    proven = join(_instances(self.kinds(each, module)) for each in given)
                    if Plain.ANY not in proven:
                        return proven
        return None

    def _matched(
        self, case: ast.match_case, pattern: ast.pattern, before: list[ast.stmt] | None, text: str, module: Module
    ) -> Kinds | None:
        parent = self.scopes(module).parents[case]
        if before is None or not isinstance(parent, ast.Match) or dotted_name(parent.subject) != text:
            return None
        inner = pattern.pattern if isinstance(pattern, ast.MatchAs) and pattern.pattern is not None else pattern
        if not isinstance(inner, ast.MatchClass) or _rebinds(before, text):
            return None
        proven = _instances(self.kinds(inner.cls, module))
        return None if Plain.ANY in proven else proven


def first_parameter(function: Function) -> str | None:
    """The name of the first positional parameter."""
    positional = [*function.args.posonlyargs, *function.args.args]
    return positional[0].arg if positional else None


def _last_name(decorator: ast.expr) -> str:
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return "?"


def _instances(kinds: Kinds) -> Kinds:
    """The objects of classes."""
    found: set[Kind] = set()
    for kind in kinds:
        match kind:
            case ClassItself(name=name):
                found.add(Instance(name))
            case Imported(name=name):
                found.add(Outside(name, is_exact=False))
            case _:
                found.add(Plain.ANY)
    return frozenset(found)


def _merged(kinds: Kinds) -> Kinds:
    """Collections under one name are one, with the items of all."""
    lists = [kind for kind in kinds if isinstance(kind, Items)]
    if len(lists) < 2:
        return kinds
    whole = Items(join(kind.of for kind in lists), join(kind.keys for kind in lists))
    return frozenset({*(kind for kind in kinds if not isinstance(kind, Items)), whole})


def _has_keys(kinds: Kinds) -> bool:
    return any(isinstance(kind, Items) and kind.keys for kind in kinds)


def _says_self(annotation: ast.expr) -> bool:
    match annotation:
        case ast.Name(id="Self") | ast.Attribute(attr="Self") | ast.Constant(value="Self"):
            return True
    return False


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
