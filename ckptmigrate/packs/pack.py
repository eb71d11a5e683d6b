"""A pack as a value, read from its file: one that is shipped, or a team's own."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import msgspec

from ckptmigrate.errors import CkptMigrateError, PathError, Problems, RuleError, raise_all
from ckptmigrate.rules import Rulebook, compose_yaml, parse_rules
from ckptmigrate.spec import Pattern

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_ENDING = ".yaml"


class Side(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One checkpoint of an example.

    Attributes:
        names: A TF1 checkpoint: the spec of each variable by its name, e.g. ``float32[2, 3]``.
        paths: A checkpoint with an object graph: the spec and, behind it, the full name of each variable by
            its path, e.g. ``float32[2, 3] dense/kernel``.
        same: Further paths, each with a path to the same object.
        slots: Legacy slot records: the optimizer's path, the kind, the variable's path, and the spec.
    """

    names: dict[str, str] = {}
    paths: dict[str, str] = {}
    same: dict[str, str] = {}
    slots: list[tuple[str, str, str, str]] = []


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A small checkpoint before and after, and what the pack says of them.

    Attributes:
        says: What it shows.
        before: The source.
        after: The target.
        moved: For each target that is not exact, by its path: the path of its source and the operations,
            e.g. ``w1, transpose [1, 0]``; ``new`` for one that keeps the template's value.
        dropped: Paths of sources that are dropped.
        lost: Paths of sources that lead nowhere.
        open: Paths of targets that nothing leads to, or that are asked about.
    """

    says: str
    before: Side
    after: Side
    moved: dict[str, str]
    dropped: list[str] = []
    lost: list[str] = []
    open: list[str] = []


@dataclass(frozen=True, slots=True)
class Positions:
    """Two lists whose items are the same if their numbers are: checked before a rule may believe it.

    Attributes:
        source: The items of the source; the number is in the last segment.
        target: The items of the target, as above.
    """

    source: Pattern
    target: Pattern


@dataclass(frozen=True, slots=True)
class Superseded:
    """Source variables that are dropped where another of the source goes in their place.

    Attributes:
        old: The variables.
        new: What goes in their place; its holes and ``**`` are those of `old`.
    """

    old: Pattern
    new: Pattern


@dataclass(frozen=True, slots=True)
class Pack:
    """Rules for one kind of move.

    Attributes:
        name: What ``--pack`` calls it.
        text: The file.
        purpose: What it is for.
        facts: Where each of its facts comes from.
        rules: Each has to lead somewhere, or the pack does not fit.
        optional: Rules that are left out where they lead nowhere.
        positions: Lists whose positions the rules believe if they are alike.
        superseded: Sources that others of the source go in the place of.
        examples: Its tests.
    """

    name: str
    text: str
    purpose: str
    facts: tuple[str, ...]
    rules: Rulebook
    optional: Rulebook
    positions: tuple[Positions, ...]
    superseded: tuple[Superseded, ...]
    examples: tuple[Example, ...]


def pack_names() -> tuple[str, ...]:
    """The packs that are shipped, sorted."""
    return tuple(
        sorted(file.name.removesuffix(_ENDING) for file in _shipped().iterdir() if file.name.endswith(_ENDING))
    )


def read_pack(name: str) -> Pack:
    """Read a pack.

    Args:
        name: One of `pack_names`, or the path of a file.

    Raises:
        RuleError: There is no such pack, or the file is none; `Problems` if several things are wrong.
    """
    if name.endswith((_ENDING, ".yml")) or os.sep in name:
        path = FilePath(name)
        try:
            return _parse(path.read_text(encoding="utf-8"), path.stem, name)
        except OSError as error:
            raise RuleError("cannot read the pack", name, got=str(error.strerror), hint="Check the path") from error
        except UnicodeDecodeError as error:
            raise RuleError("not text", name, expected="UTF-8", got=str(error), hint="Save it as UTF-8") from error
    if name not in pack_names():
        near = difflib.get_close_matches(name, pack_names(), 3, 0.3)
        nearest = f"The nearest: {', '.join(near)}. " if near else ""
        raise RuleError(
            "no such pack",
            name or "''",
            expected="the name of a pack, or a .yaml file",
            hint=f"{nearest}`ckptmigrate rules list` lists them",
        )
    return _parse((_shipped() / (name + _ENDING)).read_text(encoding="utf-8"), name, name)


def _shipped() -> Traversable:
    """Where the packs are: in the wheel inside the package, in a checkout beside it."""
    from importlib.resources import files

    inside = files("ckptmigrate") / "_rules"
    return inside if inside.is_dir() else FilePath(__file__).parents[2] / "rules"


def _parse(text: str, name: str, where: str) -> Pack:
    document = compose_yaml(text, name=where)
    nodes = {key.value: value for key, value in document.value} if getattr(document, "id", "") == "mapping" else {}
    wire = _decode(text, where)
    problems: list[CkptMigrateError] = []
    rulebooks: dict[str, Rulebook] = {}
    for word in ("rules", "optional"):
        try:
            rulebooks[word] = parse_rules(nodes[word], name=where) if word in nodes else ()
        except RuleError as error:
            problems.append(error)
        except Problems as group:
            problems.extend(group.problems)
    positions: list[Positions] = []
    superseded: list[Superseded] = []
    try:
        positions += [Positions(Pattern.parse(item.source), Pattern.parse(item.target)) for item in wire.pack.positions]
        superseded += [Superseded(Pattern.parse(item.old), Pattern.parse(item.new)) for item in wire.pack.superseded]
    except PathError as error:
        problems.append(error)
    raise_all(f"{where}: not a pack", problems)
    return Pack(
        name,
        text,
        " ".join(wire.pack.purpose.split()),
        tuple(" ".join(fact.split()) for fact in wire.pack.facts),
        rulebooks["rules"],
        rulebooks["optional"],
        tuple(positions),
        tuple(superseded),
        tuple(wire.examples),
    )


# The file as msgspec validates it; rules are read apart, with the line and column of each.


class _PositionsWire(msgspec.Struct, forbid_unknown_fields=True):
    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")


class _SupersededWire(msgspec.Struct, forbid_unknown_fields=True):
    old: str
    new: str = msgspec.field(name="by")


class _HeadWire(msgspec.Struct, forbid_unknown_fields=True):
    purpose: str = msgspec.field(name="for")
    facts: list[str]
    positions: list[_PositionsWire] = []
    superseded: list[_SupersededWire] = []


class _PackWire(msgspec.Struct, forbid_unknown_fields=True):
    pack: _HeadWire
    examples: list[Example] = []
    rules: Any = None
    optional: Any = None


def _decode(text: str, where: str) -> _PackWire:
    import yaml

    try:
        return msgspec.convert(yaml.safe_load(text), _PackWire)
    except (msgspec.ValidationError, yaml.YAMLError, ValueError, RecursionError) as error:
        reason, _, place = str(error).partition(" - at `$")
        raise RuleError(
            "not a pack",
            f"{where}{' ' + place.strip('.`') if place else ''}",
            expected="`pack: {for, facts}`, `rules` and `examples`",
            got=reason.partition("\n")[0],
            hint="`ckptmigrate rules show reroot` shows one that is short",
        ) from error
