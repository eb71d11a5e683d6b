"""What values are, as far as the source itself proves it: a checkpoint, its manager, an object of the project.

Nothing is guessed. A name that is bound to two kinds of things, or to something that cannot be followed, is nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ckptmigrate.codemod.project import Class, Module, Project, dotted_name

CHECKPOINTS = frozenset({"Checkpoint", "CheckpointV1"})
"""The types whose ``restore`` returns a status: ``tf.train.Checkpoint``, and that of ``tf.compat.v1``."""

_OF_TENSORFLOW = {
    "Checkpoint": "Checkpoint",
    "CheckpointV1": "CheckpointV1",
    "CheckpointManager": "CheckpointManager",
    "CheckpointReader": "CheckpointReader",
    "NewCheckpointReader": "CheckpointReader",
    "load_checkpoint": "CheckpointReader",
}
"""What calling a name of TensorFlow's gives. Its private modules have the same names as its public ones."""

_OF_OTHERS = re.compile(r"^.+\.tensorflow\.(?=(train|compat|python|contrib)\.)")
"""Where others import TensorFlow: ``keras.src.utils.module_utils.tensorflow.train``."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def tensorflow_name(dotted: str) -> str | None:
    """What a dotted name is called in TensorFlow, wherever it is imported from: ``latest_checkpoint``.

    TensorFlow 1's ``Checkpoint`` is another class than TensorFlow 2's and is called ``CheckpointV1``. Where ``tf`` may
    stand for either, it is that one: less can be done with it.
    """
    first, _, rest = _OF_OTHERS.sub("tensorflow.", dotted).partition(".")
    if first not in ("tensorflow", "tf") or not rest:
        return None
    last = rest.rpartition(".")[2]
    is_first = first == "tf" or rest.startswith(("compat.v1.", "contrib.", "_api.v1."))
    return "CheckpointV1" if last == "Checkpoint" and is_first else last


@dataclass(frozen=True, slots=True)
class _Binding:
    """What a name is bound to; both are None if that cannot be said."""

    annotation: ast.expr | None = None
    value: ast.expr | None = None


@dataclass(eq=False)
class Scope:
    """A module or a function, with what its names are bound to.

    Attributes:
        node: Its definition.
        parent: The function or module that it is in.
        name: Its dotted name, from which its own classes are found.
        owner: The class whose method it is.
    """

    node: ast.AST
    parent: Scope | None
    name: str
    owner: str | None = None
    bindings: dict[str, list[_Binding]] = field(default_factory=dict)
    outer: set[str] = field(default_factory=set)

    def bind(self, name: str, annotation: ast.expr | None = None, value: ast.expr | None = None) -> None:
        scope = self
        while name in scope.outer and scope.parent is not None:
            scope = scope.parent
        scope.bindings.setdefault(name, []).append(_Binding(annotation, value))

    def lookup(self, name: str) -> Scope | None:
        """The scope that a name is bound in."""
        scope: Scope | None = self
        while scope is not None and name not in scope.bindings:
            scope = scope.parent
        return scope


class Source:
    """A module looked at closely: what each node is in, and what each name is bound to.

    Attributes:
        module: The module.
        calls: The calls in it, in the order of the file.
        parents: What each node is directly in.
    """

    def __init__(self, module: Module) -> None:
        self.module = module
        self.calls: list[ast.Call] = []
        self.parents: dict[ast.AST, ast.AST] = {}
        self.functions: dict[str, _Function] = {}
        self.top = Scope(module.tree, None, module.name)
        self._scopes: dict[ast.AST, Scope] = {module.tree: self.top}
        self._read()
        self.calls.sort(key=lambda call: (call.lineno, call.col_offset, -(call.end_lineno or 0)))

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """What a node is in, from the inside."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def scope(self, node: ast.AST) -> Scope:
        """The function, or else the module, that a node is in."""
        return next(self._scopes[each] for each in self.ancestors(node) if each in self._scopes)

    def statement(self, node: ast.AST) -> ast.stmt:
        """The innermost statement that a node is in."""
        return next(each for each in (node, *self.ancestors(node)) if isinstance(each, ast.stmt))

    def scope_of_function(self, node: ast.AST) -> Scope:
        """The scope that a function makes."""
        return self._scopes[node]

    def _read(self) -> None:
        stack: list[tuple[ast.AST, Scope, str, str | None]] = [(self.module.tree, self.top, self.module.name, None)]
        while stack:
            node, scope, name, owner = stack.pop()
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
                match child:
                    case ast.ClassDef():
                        stack.append((child, scope, f"{name}.{child.name}", f"{name}.{child.name}"))
                    case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                        stack.append((child, *self._enter(child, scope, name, owner), None))
                    case _:
                        if isinstance(child, ast.Call):
                            self.calls.append(child)
                        self._bind(child, scope)
                        # The statements under a condition in a class are its own.
                        stack.append((child, scope, name, owner if isinstance(child, ast.stmt) else None))

    def _enter(self, node: _Function | ast.Lambda, scope: Scope, name: str, owner: str | None) -> tuple[Scope, str]:
        if not isinstance(node, ast.Lambda):
            name = f"{name}.{node.name}"
            self.functions[name] = node
            if owner is None:
                scope.bind(node.name)
        made = Scope(node, scope, name, owner)
        self._scopes[node] = made
        arguments = node.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        for argument in named:
            made.bind(argument.arg, annotation=argument.annotation)
        for rest in (arguments.vararg, arguments.kwarg):
            if rest is not None:
                made.bind(rest.arg)
        if not isinstance(node, ast.Lambda):
            # Before anything in it is bound, so that what it assigns to a name of another scope goes there.
            made.outer.update(_declared_elsewhere(node))
        return made, name

    def _bind(self, node: ast.AST, scope: Scope) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    for name, part in _unpacked(target, value):
                        scope.bind(name, value=part)
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                scope.bind(name, annotation=annotation, value=value)
            case ast.NamedExpr(target=ast.Name(id=name), value=value):
                scope.bind(name, value=value)
            case ast.AugAssign(target=target) | ast.For(target=target) | ast.AsyncFor(target=target):
                self._bind_unknown(target, scope)
            case ast.comprehension(target=target):
                self._bind_unknown(target, scope)
            case ast.withitem(optional_vars=ast.expr() as target):
                self._bind_unknown(target, scope)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                scope.bind(name)

    @staticmethod
    def _bind_unknown(target: ast.expr, scope: Scope) -> None:
        for name, _ in _unpacked(target, None):
            scope.bind(name)


def _declared_elsewhere(function: _Function) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Global | ast.Nonlocal):
            yield from node.names


def _unpacked(target: ast.expr, value: ast.expr | None) -> Iterator[tuple[str, ast.expr | None]]:
    """The names in the target of an assignment, each with its value if it can be told apart."""
    match target, value:
        case ast.Name(id=name), _:
            yield name, value
        case ast.Starred(value=inner), _:
            yield from _unpacked(inner, None)
        case ast.Tuple(elts=targets) | ast.List(elts=targets), ast.Tuple(elts=values) | ast.List(elts=values) if len(
            targets
        ) == len(values) and not any(isinstance(each, ast.Starred) for each in (*targets, *values)):
            for each, part in zip(targets, values, strict=True):
                yield from _unpacked(each, part)
        case ast.Tuple(elts=targets) | ast.List(elts=targets), _:
            for each in targets:
                yield from _unpacked(each, None)


class Values:
    """What expressions of a project are.

    A type is a name without a dot for those of TensorFlow's (``Checkpoint``, ``CheckpointV1``, ``CheckpointManager``,
    ``CheckpointReader``), and a class's dotted name for those of the project's.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self._sources: dict[Module, Source] = {}
        self._attributes: dict[str, Mapping[str, list[_Binding]]] = {}
        self._types: dict[ast.AST, str | None] = {}
        self._open: set[ast.AST] = set()

    def source(self, module: Module) -> Source:
        """A module looked at closely."""
        if module not in self._sources:
            self._sources[module] = Source(module)
        return self._sources[module]

    def resolve(self, source: Source, node: ast.expr) -> str | None:
        """What a dotted expression stands for; None if it is none, or begins with a variable."""
        dotted = dotted_name(node)
        if dotted is None:
            return None
        first = dotted.partition(".")[0]
        scope = source.scope(node)
        bound = scope.lookup(first)
        if bound is not None and first not in source.module.imports and not self._is_function(bound, first):
            return None
        return self.project.resolve(source.module, dotted, within=scope.name)

    @staticmethod
    def _is_function(scope: Scope, name: str) -> bool:
        """Whether all that a name is bound to is a definition."""
        return all(binding == _Binding() for binding in scope.bindings[name])

    def tensorflow(self, source: Source, node: ast.expr) -> str | None:
        """What an expression is called in TensorFlow; see `tensorflow_name`."""
        dotted = self.resolve(source, node)
        return tensorflow_name(dotted) if dotted else None

    def checkpoint_kind(self, type_name: str | None, method: str) -> str | None:
        """Which of `CHECKPOINTS` a type is whose method is TensorFlow's own; None if it is none."""
        if type_name is None or type_name in CHECKPOINTS:
            return type_name
        found = self.project.classes.get(type_name)
        if found is None:
            return None
        lineage = (found, *self.project.ancestors(found))
        if any(each.name == method for one in lineage for each in one.methods()):
            return None
        bases = [tensorflow_name(base) for base in self.project.outside_bases(found)]
        return next((base for base in bases if base in CHECKPOINTS), None)

    def type_of(self, source: Source, node: ast.expr) -> str | None:
        """The type of an expression, if it is proven."""
        if node in self._types:
            return self._types[node]
        if node in self._open:  # a name that is bound to itself
            return None
        self._open.add(node)
        found = self._type_of(source, node)
        self._open.discard(node)
        if not self._open:
            self._types[node] = found
        return found

    def _type_of(self, source: Source, node: ast.expr) -> str | None:
        match node:
            case ast.Call(func=ast.Name(id="super"), args=[]):
                return self._own_class(source, node)
            case ast.Call(func=function):
                return self._result_of(source, function)
            case ast.Name(id=name):
                return self._type_of_name(source, source.scope(node), name)
            case ast.Attribute(value=value, attr=attribute):
                return self._type_of_attribute(source, node, value, attribute)
            case ast.NamedExpr(value=value):
                return self.type_of(source, value)
            case ast.IfExp(body=body, orelse=other):
                return self._agreed(self._meant(source, [body, other]))
            case ast.BoolOp(values=values):
                return self._agreed(self._meant(source, values))
        return None

    def _meant(self, source: Source, values: Iterable[ast.expr]) -> Iterator[str | None]:
        return (self.type_of(source, value) for value in values if not _is_none(value))

    @staticmethod
    def _agreed(types: Iterable[str | None]) -> str | None:
        found = set(types)
        return found.pop() if len(found) == 1 else None

    def _own_class(self, source: Source, node: ast.AST) -> str | None:
        scope: Scope | None = source.scope(node)
        while scope is not None and scope.owner is None:
            scope = scope.parent
        return scope.owner if scope is not None else None

    def _result_of(self, source: Source, function: ast.expr) -> str | None:
        dotted = self.resolve(source, function)
        if dotted is not None:
            known = _OF_TENSORFLOW.get(tensorflow_name(dotted) or "")
            # `Checkpoint` in our own table is by its own name: it may be TensorFlow 1's.
            if known is not None:
                return tensorflow_name(dotted) if known in CHECKPOINTS else known
            if dotted in self.project.classes:
                return dotted
            return self._result_of_function(self._own_function(source, function, dotted) or dotted)
        if isinstance(function, ast.Attribute):
            owner = self.project.classes.get(self.type_of(source, function.value) or "")
            for each in (owner, *self.project.ancestors(owner)) if owner is not None else ():
                found = self._result_of_function(f"{each.name}.{function.attr}")
                if found is not None:
                    return found
        return None

    @staticmethod
    def _own_function(source: Source, node: ast.expr, dotted: str) -> str | None:
        """The function of a module that a name in it means, from the inside."""
        scope: Scope | None = source.scope(node)
        while scope is not None:
            # The functions of a class are no names in its methods.
            if f"{scope.name}.{dotted}" in source.functions:
                return f"{scope.name}.{dotted}"
            scope = scope.parent
        return None

    def _result_of_function(self, dotted: str) -> str | None:
        """What a function of the project returns."""
        head = dotted
        while head := head.rpartition(".")[0]:
            module = self.project.module_of.get(head)
            if module is not None:
                source = self.source(module)
                function = source.functions.get(module.name + dotted.removeprefix(head))
                return self._returned(source, function) if isinstance(function, ast.FunctionDef) else None
        return None

    def _returned(self, source: Source, function: ast.FunctionDef) -> str | None:
        """What a function returns: as its annotation says, or else all its statements."""
        if function.returns is not None:
            return self._annotated(source, function.returns)
        if function.decorator_list:
            return None
        found: list[ast.expr] = []
        stack: list[ast.AST] = list(function.body)
        while stack:
            match stack.pop():
                case ast.Return(value=value):
                    if value is None:
                        return None
                    found.append(value)
                case ast.Yield() | ast.YieldFrom():
                    return None
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.Lambda():
                    pass
                case node:
                    stack.extend(ast.iter_child_nodes(node))
        return self._agreed(self.type_of(source, value) for value in found)

    def _type_of_name(self, source: Source, scope: Scope, name: str) -> str | None:
        bound = scope.lookup(name)
        if bound is None:
            return self._imported(source, name)
        # The first argument of a method is an object of its class.
        arguments = bound.node.args if isinstance(bound.node, _Function) else None
        if bound.owner is not None and arguments is not None and not _is_static(bound.node):
            first = next(iter([*arguments.posonlyargs, *arguments.args]), None)
            if first is not None and first.arg == name and len(bound.bindings[name]) == 1:
                return bound.owner
        return self._bound(source, bound.bindings[name])

    def _bound(self, source: Source, bindings: Iterable[_Binding]) -> str | None:
        types: set[str | None] = set()
        for binding in bindings:
            if binding.annotation is not None:
                types.add(self._annotated(source, binding.annotation))
            elif binding.value is None:
                return None
            elif not _is_none(binding.value):
                types.add(self.type_of(source, binding.value))
        return self._agreed(types)

    def _imported(self, source: Source, name: str) -> str | None:
        """What a variable of another module is."""
        target = source.module.imports.get(name, "")
        home, _, variable = target.rpartition(".")
        module = self.project.module_of.get(home)
        if module is None or module is source.module:
            return None
        other = self.source(module)
        return self._bound(other, other.top.bindings[variable]) if variable in other.top.bindings else None

    def _type_of_attribute(self, source: Source, node: ast.expr, value: ast.expr, attribute: str) -> str | None:
        owner = self.type_of(source, value)
        if owner == "CheckpointManager":
            return "Checkpoint" if attribute == "checkpoint" else None
        found = self.project.classes.get(owner or "")
        if found is None:
            dotted = self.resolve(source, node)
            home, _, variable = (dotted or "").rpartition(".")
            module = self.project.module_of.get(home)
            if module is None or variable not in self.source(module).top.bindings:
                return None
            return self._bound(self.source(module), self.source(module).top.bindings[variable])
        for each in (found, *self.project.ancestors(found)):
            bindings = self._attributes_of(each).get(attribute)
            if bindings:
                return self._bound(self.source(each.module), bindings)
        return None

    def _attributes_of(self, each: Class) -> Mapping[str, list[_Binding]]:
        """What the attributes of a class's objects are bound to, in it."""
        if each.name not in self._attributes:
            found: dict[str, list[_Binding]] = {}
            for statement in each.node.body:
                match statement:
                    case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                        found.setdefault(name, []).append(_Binding(annotation))
                    case ast.Assign(targets=[ast.Name(id=name)], value=value):
                        found.setdefault(name, []).append(_Binding(value=value))
                    case ast.FunctionDef(name=name, decorator_list=decorators) if _is_property(decorators):
                        found.setdefault(name, []).append(_Binding(statement.returns))
            for method in each.methods():
                first = next(iter([*method.args.posonlyargs, *method.args.args]), None)
                if first is not None and not _is_static(method):
                    for name, binding in _assigned_attributes(method, first.arg):
                        found.setdefault(name, []).append(binding)
            self._attributes[each.name] = found
        return self._attributes[each.name]

    def _annotated(self, source: Source, annotation: ast.expr) -> str | None:
        """The type that an annotation says, without the None that it allows."""
        match annotation:
            case ast.Constant(value=str(text)):
                try:
                    parsed = ast.parse(text.strip(), mode="eval").body
                except SyntaxError:
                    return None
                # It stands where the text does.
                for node in ast.walk(parsed):
                    source.parents[node] = annotation
                return self._annotated(source, parsed)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self._agreed(self._annotated(source, each) for each in (left, right) if not _is_none(each))
            case ast.Subscript(value=value, slice=inner):
                outer = (dotted_name(value) or "").rpartition(".")[2]
                return self._annotated(source, inner) if outer in ("Optional", "Final", "Annotated") else None
            case ast.Name() | ast.Attribute():
                dotted = self.resolve(source, annotation)
                if dotted is None:
                    return None
                name = tensorflow_name(dotted)
                if name in _OF_TENSORFLOW and name[0].isupper():
                    return name
                return dotted if dotted in self.project.classes else None
        return None


def _assigned_attributes(method: _Function, own: str) -> Iterator[tuple[str, _Binding]]:
    for node in ast.walk(method):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    yield from _assigned(target, value, own)
            case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id=name), attr=attribute)) if name == own:
                yield attribute, _Binding(node.annotation)
            case ast.AugAssign(target=target) | ast.For(target=target):
                yield from _assigned(target, None, own)
            case ast.withitem(optional_vars=ast.expr() as target):
                yield from _assigned(target, None, own)


def _assigned(target: ast.expr, value: ast.expr | None, own: str) -> Iterator[tuple[str, _Binding]]:
    match target, value:
        case ast.Attribute(value=ast.Name(id=name), attr=attribute), _:
            if name == own:
                yield attribute, _Binding(value=value)
        case (ast.Tuple(elts=targets), ast.Tuple(elts=values)) if len(targets) == len(values):
            for each, part in zip(targets, values, strict=True):
                yield from _assigned(each, part, own)
        case ((ast.Tuple(elts=targets) | ast.List(elts=targets)), _):
            for each in targets:
                yield from _assigned(each, None, own)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_static(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", ())
    return any(dotted_name(each) in ("staticmethod", "classmethod") for each in decorators)


def _is_property(decorators: Iterable[ast.expr]) -> bool:
    names = {(dotted_name(each) or "").rpartition(".")[2] for each in decorators}
    return bool(names & {"property", "cached_property"})
