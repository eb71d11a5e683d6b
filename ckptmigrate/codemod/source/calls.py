"""What calls give: objects of classes, and what functions return."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from itertools import repeat
from typing import TYPE_CHECKING

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
    Plain,
    Row,
    items_of,
    join,
    values_of,
)
from ckptmigrate.codemod.source.project import Module, dotted_name
from ckptmigrate.codemod.source.scopes import Function, first_parameter, last_name, own_nodes

if TYPE_CHECKING:
    from ckptmigrate.codemod.source.receivers import Receivers

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
        "len", "str", "int", "float", "bool", "repr", "format", "isinstance", "hasattr", "range", "print", "id",
        "abs", "round", "bytes", "hash", "dir", "any", "all", "callable",
    }
)  # fmt: skip
"""What returns no object of a class."""

_OUTSIDE_RESULTS: Mapping[str, str] = {
    f"tensorflow.{api}train.load_checkpoint": "tensorflow.train.CheckpointReader"
    for api in ("", "compat.v1.", "compat.v2.")
}
"""What functions of TensorFlow's return."""


class Calls:
    """Finds what calls give."""

    def __init__(self, receivers: Receivers) -> None:
        self._receivers = receivers

    def call(self, node: ast.Call, module: Module) -> Kinds:
        """What a call returns."""
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.expr):
            from_items = self._from_items(node, node.func, module)
            if from_items is not None:
                return from_items
        return join(self._called(kind, node, module) for kind in self._receivers.kinds(node.func, module))

    def _from_items(self, node: ast.Call, func: ast.Attribute, module: Module) -> Kinds | None:
        """What the methods of lists and dicts return."""
        if func.attr not in ("values", "items", "keys", "get", "pop", "copy", "popleft", "setdefault"):
            return None
        held = self._receivers.kinds(func.value, module)
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
        return of | join(self._receivers.kinds(argument, module) for argument in node.args[1:])

    def _called(self, kind: Kind, node: ast.Call, module: Module) -> Kinds:
        match kind:
            case ClassItself(name=name):
                return ANY if self._makes_others(name) else frozenset({Instance(name)})
            case Callee():
                return self.returned(kind)
            case Makes(of=of):
                return of
            case Instance(name=name):
                found = (
                    self._receivers.members.attribute(name, "__call__", kind)
                    if self._defines(name, "__call__")
                    else ANY
                )
                return join(self.returned(each) if isinstance(each, Callee) else ANY for each in found)
            case Imported(name=name):
                return self._outside_call(name, node, module)
            case Plain.MOCK:
                return MOCK
        return ANY

    def _makes_others(self, name: str) -> bool:
        """Whether a class may make objects of another: a decorator does, or a ``__new__`` that asks none above it."""
        each = self._receivers.project.classes[name]
        return any(map(self._may_replace, each.node.decorator_list, repeat(each.module))) or any(
            method.name == "__new__"
            and not any(isinstance(node, ast.Attribute) and node.attr == "__new__" for node in ast.walk(method))
            for one in (each, *self._receivers.project.ancestors(each))
            for method in one.methods()
        )

    def _may_replace(self, decorator: ast.expr, module: Module) -> bool:
        """Whether a decorator of the project may return something else than the class that it is given.

        Those of others (``dataclass``, ``keras.saving.register_keras_serializable()``) give the class back.
        """
        dotted = dotted_name(decorator.func if isinstance(decorator, ast.Call) else decorator)
        if dotted is None:
            return True
        home, _, last = self._receivers.project.resolve(module, dotted).rpartition(".")
        place = self._receivers.project.module_of.get(home) if home else module
        if place is None:
            return False
        for node in place.tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == last:
                return isinstance(decorator, ast.Call) or not _gives_back(node)
        return False

    def _defines(self, name: str, method: str) -> bool:
        each = self._receivers.project.classes[name]
        return any(
            found.name == method for one in (each, *self._receivers.project.ancestors(each)) for found in one.methods()
        )

    def _outside_call(self, name: str, node: ast.Call, module: Module) -> Kinds:
        """What a function or class that is not in the project returns."""
        last = name.rpartition(".")[2]
        if name in _OTHER_CALLS:
            return OTHER
        if any(isinstance(each, ast.Starred) for each in node.args):
            return ANY
        arguments = [self._receivers.kinds(each, module) for each in node.args[:3]]
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
            default = [self._receivers.kinds(each.value, module) for each in node.keywords if each.arg == "default"]
            of = [items_of(first), *arguments[1:]] if name == "next" or len(arguments) == 1 else arguments
            return join([*of, *default])
        if name == "dict" and not arguments:
            given = join(self._receivers.kinds(keyword.value, module) for keyword in node.keywords if keyword.arg)
            return frozenset({Items(given, OTHER)})
        if name in ("copy.copy", "copy.deepcopy") and arguments:
            return first
        if name in ("dataclasses.replace", "tensorflow.function", "tf.function") and arguments:
            return first
        if last == "cast" and name.startswith("typing") and node.args:
            return self._receivers.annotation(node.args[0], module, node.args[0])
        if name in _OUTSIDE_RESULTS:
            return frozenset({Outside(_OUTSIDE_RESULTS[name], is_exact=False)})
        # A class, by how classes are written; what a function returns is not known.
        bare = last.lstrip("_")
        if bare[:1].isupper() and not bare.isupper():
            return frozenset({Outside(name, is_exact=True)})
        return ANY

    def _super(self, node: ast.Call, module: Module) -> Kinds:
        function = self._receivers.scopes(module).function_of(node)
        while function is not None and self._receivers.own_class(function, module) is None:
            function = self._receivers.scopes(module).function_of(function)
        receiver = None if function is None else self._receivers.receiver(function, module)
        return ANY if receiver is None else frozenset({receiver})

    def returned(self, callee: Callee) -> Kinds:
        """What a call of a function of the project returns."""
        node, module = callee.node, callee.module
        if not set(map(last_name, node.decorator_list)) <= _KEEPING:
            return ANY
        if "fixture" in set(map(last_name, node.decorator_list)):
            return ANY
        bound = callee.bound
        if node.returns is not None:
            if bound is not None and _says_self(node.returns):
                return frozenset({Instance(bound.name)})
            return self._receivers.annotation(node.returns, module, node.returns)
        return self._receivers.settle((node, bound), lambda: self._join_of_returns(node, module, bound))

    def _join_of_returns(self, node: Function, module: Module, bound: Instance | ClassItself | None) -> Kinds:
        given = list(self._returns(node, module, bound))
        return join(given) if given else NONE

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
                    yield self._receivers.kinds(value, module)
                case ast.Yield(value=ast.expr() as value):
                    yield frozenset({Items(self._receivers.kinds(value, module))})
                case ast.YieldFrom(value=value):
                    yield frozenset({Items(items_of(self._receivers.kinds(value, module)))})

    def entered(self, node: ast.expr, module: Module) -> Kinds:
        """What `with` gives."""
        if isinstance(node, ast.Call):
            callees = self._receivers.kinds(node.func, module)
            managers = [
                kind
                for kind in callees
                if isinstance(kind, Callee)
                and {"contextmanager", "asynccontextmanager"} & set(map(last_name, kind.node.decorator_list))
            ]
            if managers and len(managers) == len(callees):
                return join(items_of(self.returned(kind)) for kind in managers)
        found: list[Kinds] = []
        for kind in self._receivers.kinds(node, module):
            entering = ("__enter__", "__aenter__")
            name = kind.name if isinstance(kind, Instance) else ""
            method = next((each for each in entering if name and self._defines(name, each)), None)
            if method is None or not isinstance(kind, Instance):
                found.append(ANY)
                continue
            found.extend(
                self.returned(each) if isinstance(each, Callee) else ANY
                for each in self._receivers.members.attribute(name, method, kind)
            )
        return join(found)


def _says_self(annotation: ast.expr) -> bool:
    match annotation:
        case ast.Name(id="Self") | ast.Attribute(attr="Self") | ast.Constant(value="Self"):
            return True
    return False


def _gives_back(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Whether all that a function returns is its first argument."""
    if isinstance(node, ast.ClassDef):
        return False
    given = first_parameter(node)
    returns = [each.value for each in ast.walk(node) if isinstance(each, ast.Return)]
    return bool(returns) and all(isinstance(each, ast.Name) and each.id == given for each in returns)
