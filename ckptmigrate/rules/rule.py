"""A rule: a pattern over source paths, a pattern over target paths, and operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ckptmigrate import notation, ops
from ckptmigrate.spec import Pattern

Kind = Literal["map", "drop", "init"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One statement of a rulebook.

    Attributes:
        kind: ``map``: values go from source to target, through `operations`. ``drop``: the source's
            values go nowhere. ``init``: the target's values come from nowhere, `operations` is one `Fill`.
        sources: Which source paths, in the order that `operations` take them; none for ``init``.
        target: Which target paths; None for ``drop``.
        operations: What happens to the values on the way, in order; empty for a rename.
        why: The reason that a person gave.
        where: File, line and column, for messages.
        inferred: Nobody states it, something shows it: it holds where it fits, and gives way to what is stated.
    """

    kind: Kind
    sources: tuple[Pattern, ...]
    target: Pattern | None
    operations: tuple[ops.Op, ...] = ()
    why: str = ""
    where: str = ""
    inferred: bool = False

    def describe(self) -> str:
        """The rule in words, e.g. ``model/w1 -> model/dense/kernel, transpose [1, 0]``."""
        how = "".join(f", {operation.describe()}" for operation in self.operations)
        origin = ", ".join(map(str, self.sources))
        match self.kind:
            case "map":
                return f"{origin} -> {self.target}{how}"
            case "drop":
                return f"drop {origin}" + (f" ({self.why})" if self.why else "")
            case "init":
                return f"init {self.target}{how}"

    def to_data(self) -> dict[str, Any]:
        """The rule as a rule file has it."""
        why = {"why": self.why} if self.why else {}
        origin = [str(source) for source in self.sources]
        match self.kind:
            case "map":
                ends = {"from": origin if len(origin) > 1 else origin[0], "to": str(self.target)}
                if not self.operations:
                    return {"rename": {**ends, **why}}
                return {"map": {**ends, "ops": [notation.to_data(operation) for operation in self.operations], **why}}
            case "drop":
                return {"drop": {"from": origin[0], **why}}
            case "init":
                (arguments,) = notation.to_data(self.operations[0]).values()
                return {"init": {"to": str(self.target), **arguments, **why}}


Rulebook = tuple[Rule, ...]
