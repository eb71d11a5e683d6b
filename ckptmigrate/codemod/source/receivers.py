"""What class a value is of, where the source proves it.

A value is proven by where it comes from: ``self``, a constructor, an annotation, a function that returns it, an
attribute or a list that holds nothing else. What several places give has the classes of all of them; where the order
of lines tells which one it is, it is that. What is not understood may be anything; nothing is guessed.

Attributes of classes are in `members`, what calls give in `calls`, and tests on types in `narrowing`.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from ckptmigrate.codemod.source.annotations import read_annotation
from ckptmigrate.codemod.source.calls import Calls
from ckptmigrate.codemod.source.kinds import (
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
    Makes,
    Outside,
    Package,
    Plain,
    Row,
    instances_of,
    items_of,
    join,
    part_of,
    values_of,
)
from ckptmigrate.codemod.source.members import Members
from ckptmigrate.codemod.source.narrowing import narrowed
from ckptmigrate.codemod.source.project import Module, Project, imported_by
from ckptmigrate.codemod.source.scopes import Binding, Function, Scope, Scopes, first_parameter, last_name

_MAX_ROUNDS = 8
"""So often is looked again at what depends on itself."""

_MAX_STEPS = 20_000
"""After so many steps for one question its answer is that it may be anything."""

_OUTSIDE_ATTRIBUTES: Mapping[tuple[str, str], str] = {
    (f"tensorflow.{api}train.CheckpointManager", "checkpoint"): "tensorflow.train.Checkpoint"
    for api in ("", "compat.v1.", "compat.v2.")
}
"""What attributes of TensorFlow's objects are."""


class Receivers:
    """Finds what values of a project may be."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._scopes: dict[Module, Scopes] = {}
        self.members = Members(self)
        self.calls = Calls(self)
        self._known: dict[object, Kinds] = {}
        self._open: dict[object, Kinds] = {}
        self._leant_on: set[object] = set()
        self._steps = 0

    def scopes(self, module: Module) -> Scopes:
        """The scopes of a module."""
        if module not in self._scopes:
            self._scopes[module] = Scopes(module.tree)
        return self._scopes[module]

    def kinds(self, node: ast.expr, module: Module) -> Kinds:
        """What an expression's value may be."""

        def find() -> Kinds:
            proven = narrowed(self, node, module)
            return self._evaluate(node, module) if proven is None else proven

        return self.settle(node, find)

    def settle(self, key: object, find: Callable[[], Kinds]) -> Kinds:
        """What something may be that may depend on itself (``node = node.parent``): the least that holds.

        Args:
            key: What it is known by.
            find: Finds what it may be. What is being found already is at first nothing, and then what was found for it
                in the round before, until it stays the same.
        """
        if key in self._known:
            return self._known[key]
        if key in self._open:
            self._leant_on.add(key)
            return self._open[key]
        if not self._open:
            self._steps = 0
        self._steps += 1
        if self._steps > _MAX_STEPS:
            return ANY
        before, self._leant_on = self._leant_on, set()
        self._open[key] = frozenset()
        try:
            found = self._rounds(key, find)
        except RecursionError:
            found = ANY
        finally:
            del self._open[key]
            leant_on, self._leant_on = self._leant_on - {key}, before | (self._leant_on - {key})
        # What leans on something that is not found yet may be more in the next round.
        if not leant_on and self._steps <= _MAX_STEPS:
            self._known[key] = found
        return found

    def _rounds(self, key: object, find: Callable[[], Kinds]) -> Kinds:
        for _ in range(_MAX_ROUNDS):
            found = find()
            if key not in self._leant_on or found == self._open[key]:
                return found
            self._open[key] = found
        return ANY

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
                return self.calls.call(node, module)
            case ast.Constant(value=None):
                return NONE
            case ast.Constant() | ast.JoinedStr() | ast.Compare() | ast.UnaryOp(op=ast.Not()):
                return OTHER
            case ast.UnaryOp(operand=operand):
                return OTHER if self.kinds(operand, module) == OTHER else ANY
            case ast.Await(value=ast.Call() as value) | ast.NamedExpr(value=value) | ast.Starred(value=value):
                return self.kinds(value, module)
            case ast.Lambda(body=body):
                return frozenset({Makes(self.kinds(body, module))})
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
        return self.bound(name, scope, bindings, module)

    def bound(self, name: str, scope: Scope, bindings: Iterable[Binding], module: Module) -> Kinds:
        """What a name may be that gets its value in some ways."""
        given = list(bindings)
        # What is declared holds, whatever else is assigned.
        declared = [each for each in given if each.how == "annotated"]
        found = join(self.binding(name, scope, each, module) for each in declared or given)
        return found if declared else self.members.grown(found, name, scope, module)

    def binding(self, name: str, scope: Scope, binding: Binding, module: Module) -> Kinds:
        """What one way of getting a value gives."""
        node = binding.node
        match binding.how:
            case "value" if isinstance(node, ast.expr):
                return part_of(self.kinds(node, module), binding.within)
            case "added" if isinstance(node, ast.expr):
                # A list that gets longer. What else `+=` makes is not known.
                return join(
                    frozenset({Items(items_of(frozenset({kind})))})
                    if isinstance(kind, Items | Row)
                    else OTHER
                    if kind is Plain.OTHER
                    else ANY
                    for kind in self.kinds(node, module)
                )
            case "item" if isinstance(node, ast.expr):
                return part_of(items_of(self.kinds(node, module)), binding.within)
            case "entered" if isinstance(node, ast.expr):
                return part_of(self.calls.entered(node, module), binding.within)
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
            if name in module.imports:
                return self._dotted(self.project.resolve(module, name))
            return self.settle((module.name, name), lambda: self._of_star(name, module))
        return self.settle((module.name, name), lambda: self.bound(name, scopes.tree, bindings, module))

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
                return join(self.member(kind, attribute) for kind in self._dotted_at(value, module, at))
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
        decorators = set(map(last_name, function.decorator_list))
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
                return instances_of(self.kinds(each, module))
            case ast.MatchAs(pattern=ast.MatchOr(patterns=patterns)) if all(
                isinstance(each, ast.MatchClass) for each in patterns
            ):
                return join(
                    instances_of(self.kinds(each.cls, module)) for each in patterns if isinstance(each, ast.MatchClass)
                )
        return ANY

    # Attributes

    def _attribute(self, node: ast.Attribute, module: Module) -> Kinds:
        return join(self.member(kind, node.attr) for kind in self.kinds(node.value, module))

    def member(self, kind: Kind, attribute: str) -> Kinds:
        """What an attribute of a value may be."""
        match kind:
            case Instance(name=name):
                if attribute == "__class__":
                    return frozenset({ClassItself(name)})
                return self.members.attribute(name, attribute, kind)
            case ClassItself(name=name):
                inner = f"{name}.{attribute}"
                if inner in self.project.classes:
                    return frozenset({ClassItself(inner)})
                return self.members.attribute(name, attribute, kind)
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
