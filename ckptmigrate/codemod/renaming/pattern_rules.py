"""What renames mean for a checkpoint, where the source alone tells: patterns on paths."""

from __future__ import annotations

from ckptmigrate.codemod.renaming.change import Changed
from ckptmigrate.codemod.renaming.rename import Renamed
from ckptmigrate.errors import SourceError
from ckptmigrate.rules import Rulebook
from ckptmigrate.rules.rule import Rule
from ckptmigrate.spec import Pattern, escape_segment


def pattern_rules(changed: Changed) -> Rulebook:
    """The rules of a change, by pattern.

    Raises:
        SourceError: Only a model that is built can tell which paths are meant.
    """
    return tuple(rule for step in changed.steps for rule in _rules(step))


def _rules(step: Renamed) -> Rulebook:
    rename = step.rename
    ends = escape_segment(rename.old), escape_segment(rename.new)
    match rename.kind:
        case "class" | "layer":
            return ()  # paths are made of attributes
        case "keyword":
            return (_rule(f"{ends[0]}/**", f"{ends[1]}/**"),)
        case "attribute":
            if step.alike is None:
                return (_rule(f"**/{ends[0]}/**", f"**/{ends[1]}/**"),)
            raise SourceError(
                "a rule by pattern would not be sure",
                rename.describe(),
                got=f"`{rename.old}` is the name of something else, too ({step.alike})",
                hint="Say --target MODULE:FACTORY: the model that it builds tells which paths are meant",
            )


def _rule(old: str, new: str) -> Rule:
    return Rule("map", (Pattern.parse(old),), Pattern.parse(new))
