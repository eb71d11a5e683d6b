"""What a value can be, as far as source code shows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from ckptmigrate.codemod.source.project import Module
from ckptmigrate.codemod.source.scopes import Function


class Plain(Enum):
    """What is no object with attributes of its own that we follow."""

    NONE = "None"
    OTHER = "a plain value"
    ANY = "anything"
    MOCK = "a mock"


@dataclass(frozen=True, slots=True)
class Instance:
    """An object of a class of the project, or of one derived from it."""

    name: str


@dataclass(frozen=True, slots=True)
class ClassItself:
    """A class of the project, or one derived from it."""

    name: str


@dataclass(frozen=True, slots=True)
class Outside:
    """An object of a class that is not in the project: of exactly that one where it was made here."""

    name: str
    is_exact: bool


@dataclass(frozen=True, slots=True)
class Imported:
    """A module, class or function that is not in the project, by its dotted name."""

    name: str


@dataclass(frozen=True, slots=True)
class Package:
    """A module of the project."""

    name: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list, set, iterator or dict: what its items or values are, and its keys."""

    of: Kinds
    keys: Kinds = frozenset()


@dataclass(frozen=True, slots=True)
class Row:
    """A tuple whose parts are known one by one."""

    parts: tuple[Kinds, ...]


@dataclass(frozen=True, slots=True)
class Callee:
    """A function of the project, and what it is bound to if it is a method."""

    module: Module
    node: Function
    bound: Instance | ClassItself | None = None


@dataclass(frozen=True, slots=True)
class Makes:
    """Something that is called and returns this: a lambda, or what is annotated so."""

    of: Kinds


Kind = Plain | Instance | ClassItself | Outside | Imported | Package | Items | Row | Callee | Makes
Kinds = frozenset[Kind]
"""All that a value may be."""

ANY: Kinds = frozenset({Plain.ANY})
OTHER: Kinds = frozenset({Plain.OTHER})
NONE: Kinds = frozenset({Plain.NONE})
MOCK: Kinds = frozenset({Plain.MOCK})


def join(found: Iterable[Kinds]) -> Kinds:
    """What a value may be that is one of several."""
    joined: set[Kind] = set()
    for each in found:
        joined.update(each)
    return frozenset(joined)


def items_of(kinds: Kinds) -> Kinds:
    """What an item of a value may be, in a loop."""
    found: list[Kinds] = []
    for kind in kinds:
        match kind:
            case Items(of=of, keys=keys):
                found.append(keys or of)
            case Row(parts=parts):
                found.extend(parts)
            case Plain.NONE:
                pass
            case Plain.OTHER:
                found.append(OTHER)
            case _:
                found.append(ANY)
    return join(found)


def values_of(kinds: Kinds, index: int | None) -> Kinds:
    """What is found in a value by an index or a key."""
    found: list[Kinds] = []
    for kind in kinds:
        match kind:
            case Items(of=of):
                found.append(of)
            case Row(parts=parts):
                known = index is not None and -len(parts) <= index < len(parts)
                found.append(parts[index] if known and index is not None else join(parts))
            case Plain.NONE:
                pass
            case Plain.OTHER:
                found.append(OTHER)
            case _:
                found.append(ANY)
    return join(found)


def part_of(kinds: Kinds, within: tuple[int, ...]) -> Kinds:
    """What a part of an unpacked value may be."""
    for at in within:
        kinds = frozenset({Items(items_of(kinds))}) if at < 0 else join(_part(kind, at) for kind in kinds)
    return kinds


def _part(kind: Kind, at: int) -> Kinds:
    match kind:
        case Row(parts=parts):
            return parts[at] if at < len(parts) else ANY
        case _:
            return items_of(frozenset({kind}))


def instances_of(kinds: Kinds) -> Kinds:
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
