"""The statements of functions that make models, read in order: what is made, and what holds it.

A small part of Python is understood: assignments, calls of what makes layers, lists, dicts, loops and comprehensions,
names that are made of text and a loop's turn, and layers that are called on symbolic tensors.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from ckptmigrate.codemod.inference.layer_order import Tensor, order_of_layers
from ckptmigrate.codemod.inference.made import INPUTS, Made
from ckptmigrate.codemod.source.project import Module, Project, dotted_name

Functions = Mapping[str, tuple[Module, ast.FunctionDef]]
"""The functions of a project by their dotted names."""

_SCALARS = ("add_weight", "add_variable", "Variable", "get_variable")
"""Calls that make a variable: their first argument may be its name or its shape."""

_LOOK_UPS = ("get", "deserialize")
"""Functions of Keras that make functions and configurations of text; what they make is no part of a model's objects."""

_MAX_DEPTH = 8
_MAX_TURNS = 256
"""So many turns of a loop over constants, in a functional model, are followed."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """The number of a loop's turn, plus something."""

    shift: int = 0

    def __str__(self) -> str:
        return f"{{i{self.shift:+d}}}" if self.shift else "{i}"


@dataclass(frozen=True, slots=True)
class _Row:
    """Values that are known one by one."""

    values: tuple[object, ...]


@dataclass
class Holder:
    """What a class holds, as far as it is read."""

    methods: Mapping[str, object]
    items: dict[str, Made] = field(default_factory=dict)
    flow: tuple[Made, ...] = ()

    def hold(self, label: str, made: Made) -> None:
        known = self.items.get(label)
        if known is None or (known.kind == "given" and made.kind != "given"):
            self.items[label] = replace(made, label=label)

    def extend(self, label: str, items: Iterable[Made]) -> None:
        """Put things at the end of a list, or into a dict under their labels."""
        known = self.items.get(label)
        if known is None or known.kind not in ("list", "flow", "dict"):
            return
        added = [
            item if known.kind == "dict" or item.is_loop else replace(item, label=str(len(known.items) + at))
            for at, item in enumerate(items)
        ]
        self.items[label] = replace(known, items=(*known.items, *added))


class Body:
    """The statements of one function, read in order."""

    def __init__(  # noqa: PLR0917  # made in three places
        self, project: Project, functions: Functions, module: Module, scope: str, holder: Holder, receiver: str
    ) -> None:
        self.project = project
        self.functions = functions
        self.module = module
        self.scope = scope
        self.holder = holder
        self.receiver = receiver
        self.names: dict[str, object] = {}
        self.count = ""
        self.depth = 0
        self.returned: object = None
        self.checkpoints: list[Made] = []

    def run(self, function: ast.FunctionDef | ast.AsyncFunctionDef, given: Mapping[str, object] | None = None) -> None:
        arguments = function.args
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            if each.arg != self.receiver:
                made = dotted_name(each.annotation)
                constructor = self.project.resolve(self.module, made) if made else ""
                self.names[each.arg] = Made("", "given", self.module.place(each), constructor)
        self.names.update(given or {})
        self.statements(function.body)

    def statements(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets, value):
                made = self.value(value)
                for target in targets:
                    self.assign(target, made)
            case ast.AnnAssign(target, _, ast.expr() as value):
                self.assign(target, self.value(value))
            case ast.AugAssign(target, ast.Add(), value):
                label, made = self.own_label(target), self.value(value)
                if label and isinstance(made, Made):
                    self.holder.extend(label, made.items)
                elif isinstance(target, ast.Name):
                    self.names[target.id] = self._joined(self.names.get(target.id), made, node)
            case ast.Expr(ast.Call() as call):
                self.effect(call)
            case ast.For(target, iterable, body, _):
                self.loop(target, iterable, partial(self.statements, body))
            case ast.Return(ast.expr() as value):
                made = self.value(value)
                self.returned = made if self.returned is None else self.returned
            case ast.If(_, body, orelse):
                self.statements(body)
                self.statements(orelse)
            case ast.With(_, body) | ast.AsyncWith(_, body):
                self.statements(body)
            case ast.Try(body, handlers, orelse, final):
                for part in (body, *(handler.body for handler in handlers), orelse, final):
                    self.statements(part)
            case _:
                pass

    def own_label(self, node: ast.AST) -> str:
        """The attribute of the object itself that an expression is; empty if it is none."""
        match node:
            case ast.Attribute(ast.Name(receiver), label) if receiver == self.receiver and receiver:
                return label
        return ""

    def assign(self, target: ast.expr, value: object) -> None:
        label = self.own_label(target)
        if label:
            if isinstance(value, Made):
                self.holder.hold(label, value)
            return
        match target:
            case ast.Name(name):
                # What a loop or a branch says later is the same thing again.
                self.names[name] = value
            case ast.Subscript(container, key):
                label, at = self.own_label(container), self.constant(key)
                if isinstance(value, Made) and at is not None:
                    item = replace(value, label=str(at), count=self.count)
                    if label:
                        self.holder.extend(label, [item])
                    elif isinstance(container, ast.Name) and isinstance(known := self.names.get(container.id), Made):
                        self.names[container.id] = replace(known, items=(*known.items, item))
            case ast.Tuple(parts) | ast.List(parts):
                values = value.values if isinstance(value, _Row) else value.items if isinstance(value, Made) else ()
                for at, part in enumerate(parts):
                    self.assign(part, values[at] if len(values) == len(parts) else value)

    def effect(self, call: ast.Call) -> None:
        """A call for its effect: what it adds to a list, or sets by name."""
        match call.func, call.args:
            case ast.Name("setattr"), [ast.Name(receiver), key, value] if receiver == self.receiver:
                label, made = self.constant(key), self.value(value)
                if label is not None and isinstance(made, Made):
                    self.holder.hold(str(label), replace(made, count=self.count if "{i" in str(label) else ""))
            case ast.Attribute(container, "append" | "add" as verb), [value]:
                self._append(container, [self.value(value)], self.own_label(container) or verb)
            case ast.Attribute(container, "extend"), [value]:
                made = self.value(value)
                self._append(container, made.items if isinstance(made, Made) else (), self.own_label(container))
            case ast.Attribute(ast.Call(ast.Name("super")), "__init__"), _:
                flow = self._flow(call)
                if flow is not None:
                    self.holder.flow = flow.items
            case _:
                self.value(call)

    def _append(self, container: ast.expr, values: Iterable[object], label: str) -> None:
        items = [
            replace(value, label="{i}", count=self.count) if self.count else value
            for value in values
            if isinstance(value, Made)
        ]
        if self.own_label(container):
            self.holder.extend(label, items)
        elif isinstance(container, ast.Name) and container.id == self.receiver and self.receiver:
            # A Sequential of one's own, which adds its layers itself.
            numbered = (replace(item, label=str(len(self.holder.flow) + at)) for at, item in enumerate(items))
            self.holder.flow = (*self.holder.flow, *numbered)
        elif isinstance(container, ast.Name) and isinstance(known := self.names.get(container.id), Made):
            self.names[container.id] = _with_items(known, (*known.items, *items))

    def loop(self, target: ast.expr, iterable: ast.expr, body: Callable[[], object]) -> None:
        """A loop: each turn where they are known one by one, else one for all."""
        turns = self.turns(iterable)
        if turns is None:
            outer, self.count = self.count, self.count or ast.unparse(iterable)
            self._bind_turn(target, iterable)
            body()
            self.count = outer
            return
        for turn in turns:
            self.assign(target, turn)
            body()

    def turns(self, iterable: ast.expr) -> list[object] | None:
        """The values of a loop's variable, if all are known: those of a literal, or numbers in a model of functions."""
        match iterable:
            case ast.List(values) | ast.Tuple(values):
                found = [self.value(value) for value in values]
                known = all(isinstance(value, str | int | _Row | Made | Tensor) for value in found)
                return found if known else None
            case ast.Name() | ast.Attribute():
                match self.value(iterable):
                    case _Row(values=row):
                        return list(row)
                    case Made(kind="list" | "flow", items=items) if items:
                        return list(items)
            case ast.Call(ast.Name("enumerate"), [inner]):
                inside = self.turns(inner)
                return None if inside is None else [_Row((at, value)) for at, value in enumerate(inside)]
            case ast.Call(ast.Name("range"), [ast.Constant(int(count))]) if not self.receiver and count <= _MAX_TURNS:
                return list(range(count))
        return None

    def _bind_turn(self, target: ast.expr, iterable: ast.expr) -> None:
        start = 0
        match iterable:
            case ast.Call(ast.Name("range"), [ast.Constant(int(first)), _, *_]):
                start = first
            case ast.Call(ast.Name("enumerate"), _, _):
                if isinstance(target, ast.Tuple) and target.elts:
                    for part in target.elts:
                        self.assign(part, None)
                    self.assign(target.elts[0], _Turn())
                return
            case ast.Call(ast.Name("range")):
                pass
            case _:
                self.assign(target, None)
                return
        self.assign(target, _Turn(start))

    def constant(self, node: ast.expr) -> object:
        """Text or a number that is known, as it is or as a pattern of the turn."""
        value = self.value(node)
        return str(value) if isinstance(value, str | int | _Turn) else None

    # Values.

    def value(self, node: ast.expr) -> object:
        """What an expression makes: a `Made`, a `Tensor`, a constant, a row of values; None for anything else."""
        match node:
            case ast.Constant(str() | int() as constant):
                return constant
            case ast.Name(name):
                return self.names.get(name)
            case ast.JoinedStr(parts):
                return self._text(parts)
            case ast.Attribute():
                label = self.own_label(node)
                return self.holder.items.get(label) if label else None
            case ast.List(values) | ast.Tuple(values):
                return self._row(values, node)
            case ast.ListComp(element, [generator]) | ast.GeneratorExp(element, [generator]):
                return self._comprehension(element, generator, node)
            case ast.Dict(keys, values):
                return self._dict(keys, values, node)
            case ast.DictComp(key, value, [generator]):
                return self._dict_comprehension(key, value, generator, node)
            case ast.IfExp(_, body, orelse):
                return self._first(body, orelse)
            case ast.BoolOp(_, values):
                return self._first(*reversed(values))
            case ast.NamedExpr(ast.Name(name), value):
                self.names[name] = made = self.value(value)
                return made
            case ast.BinOp(left, operator, right):
                return self._binary(self.value(left), operator, self.value(right), node)
            case ast.Call():
                return self.call(node)
        return None

    def _first(self, *nodes: ast.expr) -> object:
        found = [self.value(node) for node in nodes]
        return next((value for value in found if isinstance(value, Made | Tensor)), found[0])

    def _text(self, parts: Iterable[ast.expr]) -> str | None:
        text = ""
        for part in parts:
            value = self.value(part.value) if isinstance(part, ast.FormattedValue) else self.value(part)
            if not isinstance(value, str | int | _Turn):
                return None
            text += str(value)
        return text

    def _binary(self, left: object, operator: ast.operator, right: object, node: ast.expr) -> object:
        if isinstance(operator, ast.Add | ast.Sub) and isinstance(left, _Turn | int) and isinstance(right, _Turn | int):
            sign = 1 if isinstance(operator, ast.Add) else -1
            if isinstance(left, _Turn) and isinstance(right, int):
                return _Turn(left.shift + sign * right)
            if isinstance(right, _Turn) and isinstance(left, int) and sign > 0:
                return _Turn(right.shift + left)
            if isinstance(left, int) and isinstance(right, int):
                return left + sign * right
        if isinstance(operator, ast.Add) and isinstance(left, str) and isinstance(right, str):
            return left + right
        return self._joined(left, right, node)

    def _joined(self, left: object, right: object, node: ast.AST) -> object:
        if isinstance(left, Tensor) or isinstance(right, Tensor):
            return self._applied(self._made(node, "operator"), [left, right])
        if isinstance(left, Made) and isinstance(right, Made) and {left.kind, right.kind} <= {"list", "flow"}:
            return _with_items(left, (*left.items, *right.items))
        return left if isinstance(left, Made) else None

    def _row(self, nodes: list[ast.expr], node: ast.expr) -> object:
        parts = [each.value if isinstance(each, ast.Starred) else each for each in nodes]
        values = [self.value(part) for part in parts]
        if nodes and not any(isinstance(value, Made) for value in values):
            return _Row(tuple(values))
        items: list[Made] = []
        for each, value in zip(nodes, values, strict=True):
            if isinstance(each, ast.Starred) and isinstance(value, Made):
                items.extend(value.items)
            else:
                made = value.made if isinstance(value, Tensor) else value
                items.append(made if isinstance(made, Made) else Made("", "given", self.module.place(each)))
        return _with_items(Made("", "list", self.module.place(node)), items)

    def _comprehension(self, element: ast.expr, generator: ast.comprehension, node: ast.expr) -> object:
        found: list[object] = []
        inside = self.turns(generator.iter)
        self.loop(generator.target, generator.iter, lambda: found.append(self.value(element)))
        items = [value for value in found if isinstance(value, Made)]
        if not items:
            return _Row(tuple(found)) if inside is not None else None
        if inside is None:
            items = [replace(items[0], label="{i}", count=ast.unparse(generator.iter))]
        return _with_items(Made("", "list", self.module.place(node)), items)

    def _dict(self, keys: list[ast.expr | None], values: list[ast.expr], node: ast.expr) -> object:
        items = [
            replace(made, label=str(label))
            for key, value in zip(keys, values, strict=True)
            if key is not None
            and (label := self.constant(key)) is not None
            and isinstance(made := self.value(value), Made)
        ]
        if not items and (tensors := _tensors(map(self.value, values))):
            return _Row(tuple(tensors))
        return Made("", "dict", self.module.place(node), items=tuple(items)) if items or not keys else None

    def _dict_comprehension(
        self, key: ast.expr, value: ast.expr, generator: ast.comprehension, node: ast.expr
    ) -> object:
        items: dict[str, Made] = {}

        def turn() -> None:
            label, made = self.constant(key), self.value(value)
            if label is not None and isinstance(made, Made):
                items[str(label)] = replace(made, label=str(label))

        self.loop(generator.target, generator.iter, turn)
        return Made("", "dict", self.module.place(node), items=tuple(items.values())) if items else None

    def call(self, node: ast.Call) -> object:
        arguments = [self.value(each.value if isinstance(each, ast.Starred) else each) for each in node.args]
        keywords = {each.arg: self.value(each.value) for each in node.keywords if each.arg}
        given = [*arguments, *keywords.values()]
        if isinstance(node.func, ast.Call) or self.own_label(node.func):
            made = self.value(node.func)
            if isinstance(made, Made) and made.kind != "given":
                return self._applied(made, given)
            if not self.own_label(node.func):
                return None
        dotted = dotted_name(node.func)
        if dotted is None:
            return None
        known = self.names.get(dotted)
        if isinstance(known, Made):
            return self._applied(known, given) if _tensors(given) else None
        if self.receiver and dotted.startswith(f"{self.receiver}."):
            method = dotted.removeprefix(f"{self.receiver}.")
            return self._made(node, method) if method in _SCALARS else None
        constructor = self.project.resolve(self.module, dotted, within=self.scope)
        if constructor == dotted and f"{self.module.name}.{dotted}" in self.functions:
            constructor = f"{self.module.name}.{dotted}"
        return self._constructed(node, constructor, arguments, keywords)

    def _constructed(
        self, node: ast.Call, constructor: str, arguments: list[object], keywords: Mapping[str, object]
    ) -> object:
        given = [*arguments, *keywords.values()]
        maker = constructor.rpartition(".")[2]
        if maker in INPUTS:
            return Tensor(replace(self._made(node, constructor), count=self.count), ())
        if maker == "Checkpoint":
            self.checkpoints.extend(
                replace(value, label=label) for label, value in keywords.items() if isinstance(value, Made)
            )
            return None
        if maker in ("list", "tuple", "ListWrapper", "List") and len(given) == 1:
            return given[0]
        if maker == "dict":
            items = [replace(value, label=label) for label, value in keywords.items() if isinstance(value, Made)]
            return Made("", "dict", self.module.place(node), items=tuple(items))
        if maker in ("Sequential", "Model", "Functional"):
            flow = self._flow(node)
            if flow is not None:
                return replace(flow, constructor=constructor, name=self._name(node))
        if _tensors(given):
            inlined = self._inlined(constructor, arguments, keywords)
            return self._applied(self._made(node, constructor), given) if inlined is None else inlined
        is_made = maker[:1].isupper() or maker in _SCALARS or (constructor in self.functions and maker not in _LOOK_UPS)
        return self._made(node, constructor) if is_made else None

    def _inlined(self, constructor: str, arguments: list[object], keywords: Mapping[str, object]) -> object:
        """What a function of the project makes of tensors: its layers are the caller's."""
        found = self.functions.get(constructor)
        if found is None or self.depth >= _MAX_DEPTH:
            return None
        module, function = found
        names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
        given = dict(zip(names, arguments, strict=False)) | dict(keywords)
        inner = Body(self.project, self.functions, module, module.name, self.holder, "")
        inner.depth, inner.count = self.depth + 1, self.count
        inner.run(function, given)
        return inner.returned

    def _flow(self, node: ast.Call) -> Made | None:
        """The layers of a model that is made of layers, or of inputs and outputs."""
        keywords = {each.arg: each.value for each in node.keywords}
        layers = node.args[0] if node.args else keywords.get("layers")
        outputs = node.args[1] if len(node.args) > 1 else keywords.get("outputs")
        place = self.module.place(node)
        if outputs is not None:
            tensors = _tensors([self.value(outputs)])
            inputs = _tensors([self.value(layers or keywords.get("inputs") or outputs)])
            if not tensors:
                return None
            return _with_items(Made("", "flow", place), order_of_layers(inputs, tensors))
        made = self.value(layers) if layers is not None else Made("", "list", place)
        is_sequential = (dotted_name(node.func) or "").endswith("Sequential")
        if is_sequential and isinstance(made, _Row):  # nothing but an input
            return Made("", "flow", place)
        if not is_sequential or not isinstance(made, Made) or made.kind not in ("list", "flow"):
            return None
        return _with_items(replace(made, kind="flow"), made.items)

    def _applied(self, made: Made, given: list[object]) -> Tensor | None:
        """The output of a layer."""
        tensors = tuple(_tensors(given))
        return Tensor(replace(made, label="{i}", count=self.count) if self.count else made, tensors)

    def _made(self, node: ast.AST, constructor: str) -> Made:
        arguments: list[str] = []
        name = ""
        if isinstance(node, ast.Call):
            name = self._name(node)
            arguments = [ast.unparse(each) for each in node.args]
            arguments += [
                f"{each.arg}={ast.unparse(each.value)}" if each.arg else f"**{ast.unparse(each.value)}"
                for each in node.keywords
                if each.arg != "name"
            ]
        return Made("", "object", self.module.place(node), constructor, tuple(arguments), name, count=self.count)

    def _name(self, node: ast.Call) -> str:
        for each in node.keywords:
            if each.arg == "name":
                return str(self.constant(each.value) or "")
        return ""


def _with_items(holder: Made, items: Iterable[Made]) -> Made:
    """A list or flow with these items, numbered; what a loop makes has the loop's number in a flow."""
    loop = "{at}:{{i}}" if holder.kind == "flow" else "{{i}}"
    numbered = (replace(item, label=loop.format(at=at) if item.is_loop else str(at)) for at, item in enumerate(items))
    return replace(holder, items=tuple(numbered))


def _tensors(values: Iterable[object]) -> list[Tensor]:
    """The tensors among values, and in rows of them."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, _Row):
            found.extend(_tensors(value.values))
    return found
