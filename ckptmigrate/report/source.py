"""What was inferred from source code, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.markup import escape

from ckptmigrate.codemod.code_rules import CodeRename
from ckptmigrate.codemod.inference.infer import Inferred
from ckptmigrate.codemod.inference.inferred_rules import Statement
from ckptmigrate.codemod.inference.moves import Move, Undecided
from ckptmigrate.codemod.source.project import Place

_SHOWN = 20


def inferred_lines(inferred: Inferred) -> Iterator[str]:
    """Classes, then what they hold, each change with its places and why; at last what is not decided."""
    renamed = inferred.renamed_classes
    if renamed:
        yield "classes"
    for pair in renamed:
        places = f"{inferred.old.facts[pair.old].place} -> {inferred.new.facts[pair.new].place}"
        yield f"  {escape(pair.old)} -> {escape(pair.new)}  [dim]{escape(places)}: {escape(pair.why)}[/dim]"
    owner = ""
    for move in inferred.changes:
        if move.new_owner != owner:
            owner = move.new_owner
            yield escape(owner)
        places = f"{move.before.place} -> {move.after.place}"
        yield f"  {escape(say_move(move))}  [dim]{escape(places)}: {escape(move.why)}[/dim]"
    if inferred.undecided:
        yield "not decided"
    for each in inferred.undecided[:_SHOWN]:
        ends = f"{_ends(each.old)} -> {_ends(each.new)}?"
        yield f"  {escape(each.owner)}: {escape(ends)}  [dim]{each.reason}[/dim]"
    if len(inferred.undecided) > _SHOWN:
        yield f"  and {len(inferred.undecided) - _SHOWN} more"


def inferred_summary(inferred: Inferred) -> str:
    """How much was found, in one line."""
    changes, classes = len(inferred.changes), len(inferred.renamed_classes)
    if not changes and not classes and not inferred.undecided:
        return f"nothing changed in what the objects of {_classes(len(inferred.classes))} hold"
    parts = [f"{changes} moved", f"{_classes(classes)} renamed or elsewhere"]
    if inferred.undecided:
        parts.append(f"{len(inferred.undecided)} not decided")
    return ", ".join(parts)


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"


def say_move(move: Move) -> str:
    """A change in words: ``enc -> encoder``."""
    return f"{'.'.join(move.old)} -> {'.'.join(move.new)}"


def _ends(ends: tuple[tuple[str, Place], ...]) -> str:
    shown = ", ".join(f"{label} ({place})" for label, place in ends[:3])
    return shown + (f" and {len(ends) - 3} more" if len(ends) > 3 else "")


def inferred_data(inferred: Inferred, rules: list[Statement], code: list[CodeRename]) -> dict[str, Any]:
    """The same for programs."""
    return {
        "classes": [{"old": pair.old, "new": pair.new, "why": pair.why} for pair in inferred.renamed_classes],
        "changes": [
            {
                "class": move.new_owner,
                "old_class": move.old_owner,
                "old": list(move.old),
                "new": list(move.new),
                "before": _place(move.before.place),
                "after": _place(move.after.place),
                "why": move.why,
            }
            for move in inferred.changes
        ],
        "undecided": [_undecided(each) for each in inferred.undecided],
        "rules": [{"from": each.source, "to": each.target, "why": each.evidence} for each in rules],
        "code": [rename.to_data() for rename in code],
    }


def _undecided(each: Undecided) -> dict[str, Any]:
    sides = ([{"label": label, **_place(place)} for label, place in side] for side in (each.old, each.new))
    old, new = sides
    return {"class": each.owner, "old": old, "new": new, "reason": each.reason}


def _place(place: Place) -> dict[str, Any]:
    return {"file": place.file, "line": place.line}
