"""The classes that share an attribute, and whether a name is free among them.

Not all classes of a hierarchy share an attribute: two that are derived from one base can each have an ``enc`` of their
own. They share it with all that are derived from them, and with those of their ancestors that speak of it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from ckptmigrate.codemod.source.kinds import (
    Callee,
    ClassItself,
    Imported,
    Instance,
    Items,
    Kinds,
    Makes,
    Outside,
    Package,
    Plain,
    Row,
)
from ckptmigrate.codemod.source.project import Class, Module, Place, Project, dotted_name
from ckptmigrate.codemod.source.scopes import first_parameter, own_nodes

REFLECTION = frozenset({"getattr", "setattr", "hasattr", "delattr"})
"""Functions that take the name of an attribute."""

_FRAMEWORKS = ("tensorflow", "keras", "tf_keras", "tf", "sonnet", "snt")
_PLAIN_BASES = frozenset(
    {
        "object", "Exception", "dict", "list", "tuple", "str", "int", "type", "abc.ABC", "ABC", "typing.Generic",
        "typing.Protocol", "typing.NamedTuple", "enum.Enum", "unittest.TestCase", "Generic", "Protocol", "NamedTuple",
    }
)  # fmt: skip
"""Bases from outside whose attributes nobody takes for a layer's."""


@dataclass(frozen=True)
class Family:
    """The classes that share an attribute.

    Attributes:
        project: Where they are.
        attribute: Its name.
        members: The classes, by dotted name.
        above: Their ancestors that do not speak of it: an object of one of those may be a member's.
        outside: The bases that are not in the project.
    """

    project: Project
    attribute: str
    members: dict[str, Class]
    above: dict[str, Class]
    outside: tuple[str, ...]

    @classmethod
    def of(cls, project: Project, each: Class, attribute: str) -> Family:
        """The classes that share an attribute with a class."""
        members = {each.name: each}
        queue = [each]
        for current in queue:
            sharing = [one for one in project.ancestors(current) if next(mentions(one, attribute), None)]
            for one in (*project.descendants(current), *sharing):
                if one.name not in members:
                    members[one.name] = one
                    queue.append(one)
        above = {one.name: one for member in queue for one in project.ancestors(member) if one.name not in members}
        outside = dict.fromkeys(base for member in queue for base in project.outside_bases(member))
        return cls(project, attribute, members, above, tuple(outside))

    def owns(self, kinds: Kinds) -> bool | None:
        """Whether a value is certainly a member's object or class; None if it only may be."""
        kinds = kinds - {Plain.NONE}
        if not kinds:
            return None
        verdicts = {self._owns(kind) for kind in kinds}
        return verdicts.pop() if len(verdicts) == 1 else None

    def _owns(self, kind: object) -> bool | None:
        match kind:
            case Instance(name=name) | ClassItself(name=name):
                if name in self.members:
                    return True
                return None if name in self.above or self._is_open(name) else False
            case Outside(name=name, is_exact=is_exact):
                return False if is_exact or not self._may_be_base(name) else None
            case Imported() | Package() | Items() | Row() | Callee() | Makes() | Plain.OTHER:
                return False
        return None

    def _is_open(self, name: str) -> bool:
        """Whether a class takes attributes of others for its own: it forwards them, or is a protocol."""
        each = self.project.classes[name]
        related = (each, *self.project.ancestors(each), *self.project.descendants(each))
        forwards = any(
            method.name in ("__getattr__", "__getattribute__") for one in related for method in one.methods()
        )
        return forwards or any(base.rpartition(".")[2] == "Protocol" for base in each.bases)

    def _may_be_base(self, name: str) -> bool:
        """Whether something annotated as a class from outside may be a member's object."""
        if not self.outside:
            return False
        tops = {_top(base) for base in self.outside}
        return "?" in tops or _top(name) in tops or _top(name) in ("typing", "abc", "collections")

    @property
    def unknown_bases(self) -> tuple[str, ...]:
        """Bases outside the paths that are neither Python's nor a framework's."""
        return tuple(
            base for base in self.outside if base not in _PLAIN_BASES and base.partition(".")[0] not in _FRAMEWORKS
        )

    @property
    def has_framework(self) -> bool:
        """Whether members are derived from a framework's class, or from one that nobody knows."""
        return any(base not in _PLAIN_BASES for base in self.outside)


def _top(name: str) -> str:
    top = name.partition(".")[0]
    return "tensorflow" if top in _FRAMEWORKS else top


@dataclass(frozen=True, slots=True)
class Mention:
    """Where a class speaks of an attribute of its own.

    Attributes:
        place: Where.
        defines: Whether it is given its value there, or declared: assigned, or a method, property, slot, class
            variable.
        what: What it is, in words.
    """

    place: Place
    defines: bool
    what: str


def mentions(each: Class, attribute: str) -> Iterator[Mention]:
    """Where a class speaks of an attribute: in its body, and of ``self`` and ``cls`` in its methods."""
    module = each.module
    if attribute not in module.source:
        return
    for node in (inner for one in each.nodes for inner in own_nodes(one)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) if name == attribute:
                yield Mention(module.place(node), True, "a class variable")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name == attribute:
                decorators = {dotted_name(decorator) or "" for decorator in node.decorator_list}
                is_property = any(
                    each.rpartition(".")[2] in ("property", "setter", "cached_property") for each in decorators
                )
                yield Mention(module.place(node), True, "a property" if is_property else "a method")
            case ast.ClassDef(name=name) if name == attribute:
                yield Mention(module.place(node), True, "a class")
            case ast.Assign(targets=[ast.Name(id="__slots__")], value=value):
                for part in ast.walk(value):
                    if isinstance(part, ast.Constant) and part.value == attribute:
                        yield Mention(module.place(part), True, "a slot")
    for method in each.methods():
        if not any(dotted_name(decorator) == "staticmethod" for decorator in method.decorator_list):
            yield from _in_method(module, method, attribute)


def _in_method(module: Module, method: ast.AST, attribute: str) -> Iterator[Mention]:
    assert isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)  # noqa: S101
    own = first_parameter(method)

    def is_own(node: ast.expr) -> bool:
        match node:
            case ast.Name(id=name):
                return name == own
            case ast.Call(func=ast.Name(id="super")):
                return True
            case ast.Call(func=ast.Name(id="type"), args=[ast.Name(id=name)]):
                return name == own
            case ast.Attribute(value=ast.Name(id=name), attr="__class__"):
                return name == own
        return False

    for node in ast.walk(method):
        match node:
            case ast.Attribute(value=value, attr=name, ctx=context) if name == attribute and is_own(value):
                yield Mention(module.place(node), isinstance(context, ast.Store), "an attribute")
            case ast.Call(func=ast.Name(id=function), args=[value, ast.Constant(value=name), *_]) if (
                name == attribute and function in REFLECTION and is_own(value)
            ):
                yield Mention(module.place(node), function == "setattr", "an attribute")
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="object") | ast.Call(), attr="__setattr__"),
                args=[*_, ast.Constant(value=name), _],
            ) if name == attribute:
                yield Mention(module.place(node), True, "an attribute")


def attributes_of(each: Class) -> set[str]:
    """The names that a class gives to its objects, for those who looked for another one."""
    found: set[str] = set()
    for node in (inner for one in each.nodes for inner in own_nodes(one)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
    for method in each.methods():
        for node in ast.walk(method):
            match node:
                case ast.Attribute(value=ast.Name(id=name), attr=attribute, ctx=ast.Store()) if name == first_parameter(
                    method
                ):
                    found.add(attribute)
    return found


_DATA_DECORATORS = frozenset({"dataclass", "define", "attrs", "frozen", "mutable", "s", "dataclass_transform"})
_DATA_BASES = frozenset({"NamedTuple", "BaseModel", "BaseSettings", "Struct", "TypedDict"})


def makes_own_init(project: Project, each: Class) -> bool:
    """Whether a class gets its constructor from its annotations: a dataclass and its kin."""
    for one in (each, *project.ancestors(each)):
        if any(method.name == "__init__" for method in one.methods()):
            return False
        names = {
            (dotted_name(decorator.func if isinstance(decorator, ast.Call) else decorator) or "").rpartition(".")[2]
            for decorator in one.node.decorator_list
        }
        if names & _DATA_DECORATORS or {base.rpartition(".")[2] for base in one.bases} & _DATA_BASES:
            return True
    return False
