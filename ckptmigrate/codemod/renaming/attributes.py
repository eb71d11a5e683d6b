"""The sites of an attribute: where the source reads, gives, names or may reach it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property

from ckptmigrate.codemod.renaming.family import REFLECTION, Family, makes_own_init
from ckptmigrate.codemod.renaming.sites import (
    Found,
    change,
    comments,
    definition_name,
    docstrings,
    documented,
    keyword_name,
    kind_of_text,
    name_at_end,
    pattern_keyword,
    site,
    site_at,
    text_token,
)
from ckptmigrate.codemod.renaming.values import texts
from ckptmigrate.codemod.source.kinds import ClassItself, Instance, Kinds, Plain
from ckptmigrate.codemod.source.project import Module, Place, dotted_name
from ckptmigrate.codemod.source.receivers import Receivers
from ckptmigrate.codemod.source.scopes import own_nodes

_DYNAMIC = re.compile(
    r"\b(?:getattr|setattr|hasattr|delattr|vars|dir|attrgetter|methodcaller|getmembers|asdict|astuple)\b"
    r"|__(?:getattr|getattribute|setattr|delattr|dict)__"
)
"""What can reach an attribute without its name standing in the file."""

_HOOKS = frozenset({"__getattr__", "__getattribute__", "__setattr__", "__delattr__", "__dir__"})
_AS_DICTIONARY = frozenset({"vars", "dir", "getmembers", "asdict", "astuple"})
_PATCHING = frozenset({"patch.object", "monkeypatch.setattr", "monkeypatch.delattr"})
_STAND_INS = frozenset({"SimpleNamespace", "Mock", "MagicMock", "AsyncMock", "NonCallableMock", "namedtuple"})
_REGEX_CALLS = frozenset({"compile", "match", "fullmatch", "search", "sub", "subn", "findall", "finditer", "split"})


class AttributeScan:
    """Finds the sites of an attribute in a project.

    Args:
        receivers: What values may be.
        family: The classes that share the attribute.
        new: Its new name.
    """

    def __init__(self, receivers: Receivers, family: Family, new: str) -> None:
        self.receivers = receivers
        self.family = family
        self.old = family.attribute
        self.new = new

    def scan(self, module: Module) -> Iterator[Found]:
        """The sites of a module."""
        has_name = self.old in module.source
        if not has_name and not _DYNAMIC.search(module.source):
            return
        yield from _Pass(self, module, has_name=has_name).found()


class _Pass:
    """One walk through a module."""

    def __init__(self, scan: AttributeScan, module: Module, *, has_name: bool) -> None:
        self.receivers = scan.receivers
        self.family = scan.family
        self.old = scan.old
        self.new = scan.new
        self.module = module
        self.has_name = has_name
        self.settled: set[ast.AST] = set()
        """Texts that a call has told the meaning of."""

    def found(self) -> Iterator[Found]:
        strings: list[ast.Constant] = []
        for node in ast.walk(self.module.tree):
            match node:
                case ast.Attribute(attr=name) if name == self.old:
                    yield from self.attribute(node)
                case ast.Attribute(attr="__dict__", value=value):
                    yield from self.reached(node, value, "dictionary")
                case ast.Call():
                    yield from self.call(node)
                case ast.ClassDef():
                    yield from self.class_body(node)
                case ast.MatchClass(cls=each, kwd_attrs=names) if self.old in names:
                    yield from self.pattern(node, self.receivers.kinds(each, self.module))
                case ast.Constant(value=str(text)) if self.old in text:
                    strings.append(node)
        if not self.has_name:
            return
        documents = docstrings(self.module.tree)
        for string in strings:
            if string in documents:
                yield from documented(self.module, string, self.old)
            elif string not in self.settled:
                yield from self.text(string)
        yield from comments(self.module, self.old)

    # What a value may be

    def owns(self, value: ast.expr) -> bool | None:
        return self.family.owns(self.receivers.kinds(value, self.module))

    def doubt(self, value: ast.expr) -> str:
        """Why it is not certain whose attribute it is."""
        kinds = self.receivers.kinds(value, self.module) - {Plain.NONE}
        if Plain.MOCK in kinds:
            return "mock"
        if Plain.ANY in kinds or not kinds:
            return "untyped"
        return "several" if any(self.family.owns(frozenset({kind})) for kind in kinds) else self._of_base(kinds)

    def _of_base(self, kinds: Kinds) -> str:
        known = {kind.name for kind in kinds if isinstance(kind, Instance | ClassItself)}
        return "base" if known <= self.family.above.keys() else "forwarding"

    def reached(self, node: ast.AST, value: ast.expr, kind: str) -> Iterator[Found]:
        """A place that is unsafe if the value may be a member's."""
        if self.owns(value) is not False:
            yield site(self.module, node, kind)

    # Syntax

    def attribute(self, node: ast.Attribute) -> Iterator[Found]:
        owned = self.owns(node.value)
        if owned:
            yield name_at_end(self.module, node, self.old, self.new)
        elif owned is None:
            yield site(self.module, node, self.doubt(node.value))

    def class_body(self, node: ast.ClassDef) -> Iterator[Found]:
        name = self.receivers.class_at(node, self.module)
        related = name in self.family.members or name in self.family.above
        if not related:
            return
        for inner in own_nodes(node):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef) and inner.name in _HOOKS:
                yield site(self.module, inner, "forwarding")
        if name not in self.family.members or not self.has_name:
            return
        bound = self.old in self.receivers.scopes(self.module).bound(node)
        for inner in own_nodes(node):
            match inner:
                case ast.FunctionDef(name=named) | ast.AsyncFunctionDef(name=named) if named == self.old:
                    yield definition_name(self.module, inner, self.old, self.new)
                case ast.Name(id=named) if named == self.old and bound and self._is_class_name(inner, node):
                    made = change(self.module, *_start(self.module, inner), self.old, self.new)
                    yield made or site(self.module, inner, "unplaced")
                case ast.Assign(targets=[ast.Name(id="__slots__" | "__match_args__")], value=value):
                    for part in ast.walk(value):
                        if isinstance(part, ast.Constant) and part.value == self.old:
                            self.settled.add(part)
                            yield text_token(self.module, part, self.old, self.new)

    def _is_class_name(self, inner: ast.Name, node: ast.ClassDef) -> bool:
        found = self.receivers.scopes(self.module).lookup(self.old, inner)
        return found is not None and found[0] is node

    def pattern(self, node: ast.MatchClass, kinds: Kinds) -> Iterator[Found]:
        owned = self.family.owns(kinds)
        for name, inner in zip(node.kwd_attrs, node.kwd_patterns, strict=True):
            if name == self.old and owned:
                yield pattern_keyword(self.module, inner, self.old, self.new)
            elif name == self.old and owned is None:
                yield site(self.module, inner, "untyped")

    # Calls

    def call(self, node: ast.Call) -> Iterator[Found]:
        function = dotted_name(node.func) or ""
        last = function.rpartition(".")[2]
        match node:
            case ast.Call(func=ast.Name(id=name), args=[value, named, *_]) if name in REFLECTION:
                yield from self.reflection(node, value, named)
            case ast.Call(func=ast.Attribute(value=owner, attr="__setattr__" | "__getattribute__" | "__delattr__")):
                yield from self.dunder(node, owner)
            case ast.Call(args=[value, named, *_]) if ".".join(function.split(".")[-2:]) in _PATCHING:
                yield from self.reflection(node, value, named, kind="mock")
            case ast.Call(args=[value, *_]) if last == "multiple" and "patch" in function:
                yield from self.patched(node, value)
            case ast.Call(args=[value, *_]) if last in _AS_DICTIONARY:
                yield from self.reached(node, value, "dictionary")
            case ast.Call(args=arguments) if last in ("attrgetter", "methodcaller"):
                yield from self.getter(node, arguments)
            case ast.Call(func=ast.Attribute(attr="get_layer")):
                yield from self.layer(node)
        if self.has_name or any(keyword.arg is None for keyword in node.keywords):
            yield from self.keywords(node, last)

    def reflection(self, node: ast.Call, value: ast.expr, named: ast.expr, *, kind: str = "") -> Iterator[Found]:
        owned = self.owns(value)
        if isinstance(named, ast.Constant):
            if named.value == self.old:
                self.settled.add(named)
                if owned:
                    yield text_token(self.module, named, self.old, self.new)
                elif owned is None:
                    yield site(self.module, node, kind or self.doubt(value))
            return
        if owned is False:
            return
        possible = texts(named, self.module, self.receivers)
        if possible.may_be(self.old):
            yield site(self.module, node, "computed" if possible.is_open or possible.patterns else "loop")

    def dunder(self, node: ast.Call, owner: ast.expr) -> Iterator[Found]:
        """``object.__setattr__(x, "enc", v)``, ``super().__setattr__("enc", v)``."""
        is_unbound = isinstance(owner, ast.Name) and owner.id in ("object", "type")
        arguments = node.args if is_unbound else [owner, *node.args]
        if len(arguments) >= 2:
            yield from self.reflection(node, arguments[0], arguments[1])

    def patched(self, node: ast.Call, value: ast.expr) -> Iterator[Found]:
        if any(keyword.arg == self.old for keyword in node.keywords):
            yield from self.reached(node, value, "mock")

    def getter(self, node: ast.Call, arguments: list[ast.expr]) -> Iterator[Found]:
        for argument in arguments[:1] if "methodcaller" in ast.dump(node.func) else arguments:
            if isinstance(argument, ast.Constant):
                parts = argument.value.split(".") if isinstance(argument.value, str) else []
                if self.old in parts:
                    self.settled.add(argument)
                    yield site(self.module, argument, "untyped", why="it is read of whatever it is called with")
            elif texts(argument, self.module, self.receivers).may_be(self.old):
                yield site(self.module, node, "computed")

    def layer(self, node: ast.Call) -> Iterator[Found]:
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            if isinstance(argument, ast.Constant) and argument.value == self.old:
                self.settled.add(argument)
                yield site(self.module, argument, "get_layer")

    def keywords(self, node: ast.Call, last: str) -> Iterator[Found]:
        named = [keyword for keyword in node.keywords if keyword.arg == self.old]
        for keyword in node.keywords:
            # The name of a layer is another thing than the attribute that holds it.
            if keyword.arg == "name" and isinstance(keyword.value, ast.Constant) and keyword.value.value == self.old:
                self.settled.add(keyword.value)
                yield site(self.module, keyword.value, "layer_name")
        if named and last in _STAND_INS:
            yield from (site(self.module, keyword, "keyword") for keyword in named)
            return
        if not self._data_members:
            return
        owned, is_certain = self._constructs(node)
        if owned and is_certain:
            yield from (keyword_name(self.module, keyword, self.old, self.new) for keyword in named)
            if any(keyword.arg is None for keyword in node.keywords):
                yield site(self.module, node, "computed", why="the arguments' names are computed and may be this one")
        elif owned is None and named:
            yield from (site(self.module, keyword, "keyword") for keyword in named)

    def _constructs(self, node: ast.Call) -> tuple[bool | None, bool]:
        """Whether a call makes a member whose constructor takes the attribute, and whether that is certain."""
        if isinstance(node.func, ast.Attribute) and node.func.attr == "__init__":
            kinds = self.receivers.kinds(node.func.value, self.module)
            above = [kind.name for kind in kinds if isinstance(kind, Instance | ClassItself)]
            return (True, True) if above and all(map(self._inherits_init, above)) else (False, True)
        function = dotted_name(node.func) or ""
        if function.rpartition(".")[2] in ("replace", "evolve") and node.args:
            owned = self.owns(node.args[0])
            return owned, owned is not None
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("_replace", "model_copy"):
            owned = self.owns(node.func.value)
            return owned, owned is not None
        kinds = self.receivers.kinds(node.func, self.module)
        if kinds and all(isinstance(kind, ClassItself) for kind in kinds):
            names = {kind.name for kind in kinds if isinstance(kind, ClassItself)}
            if names <= self._data_members:
                return True, True
            return (None if names & self._data_members else False), False
        return (None if Plain.ANY in kinds and self._looks_like_class(node.func) else False), False

    @staticmethod
    def _looks_like_class(func: ast.expr) -> bool:
        name = (dotted_name(func) or "").rpartition(".")[2].lstrip("_")
        return name[:1].isupper() or name.endswith(("cls", "class"))

    def _inherits_init(self, name: str) -> bool:
        each = self.family.members.get(name)
        return each is not None and any(one.name in self._data_members for one in self.family.project.ancestors(each))

    @cached_property
    def _data_members(self) -> set[str]:
        """The members whose constructor has an argument for each attribute that they declare."""
        return {name for name, each in self.family.members.items() if makes_own_init(self.family.project, each)}

    # Texts

    def text(self, node: ast.Constant) -> Iterator[Found]:
        kind = kind_of_text(str(node.value), self.old)
        if kind is None:
            return
        if self._is_argument_of_regex(node):
            kind = "regex"
        if kind == "literal" and self._is_parameter(node):
            kind = "parameter"
        yield site_at(self._place(node), kind, self.module.line(self._place(node).line))

    def _place(self, node: ast.Constant) -> Place:
        """Where the name stands in a text of several lines."""
        place = self.module.place(node)
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        number = next((number for number in lines if self.old in self.module.line(number)), node.lineno)
        return place if number == node.lineno else Place(place.file, number)

    def _is_argument_of_regex(self, node: ast.Constant) -> bool:
        parent = self.receivers.scopes(self.module).parents.get(node)
        match parent:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=name)):
                return name in _REGEX_CALLS
        return False

    def _is_parameter(self, node: ast.Constant) -> bool:
        """Whether it is the name of the constructor's argument, in ``get_config`` or where that is read."""
        scopes = self.receivers.scopes(self.module)
        function = scopes.function_of(node)
        own = None if function is None else scopes.class_of(function)
        if function is None or own is None or function.name not in ("get_config", "from_config"):
            return False
        name = self.receivers.class_at(own, self.module)
        for each in (
            self.family.project.classes[name],
            *self.family.project.ancestors(self.family.project.classes[name]),
        ):
            for method in each.methods():
                if method.name == "__init__":
                    return any(argument.arg == self.old for argument in [*method.args.args, *method.args.kwonlyargs])
        return False


def _start(module: Module, node: ast.Name) -> tuple[int, int]:
    return node.lineno, module.column(node.lineno, node.col_offset)
