"""What became of a thing that a model holds, as values."""

from __future__ import annotations

from dataclasses import dataclass

from ckptmigrate.codemod.inference.made import Made
from ckptmigrate.codemod.source.project import Place

Labels = tuple[str, ...]
"""A way down from an object: an attribute, and below it an item of a list, or an attribute of what was wrapped.

An item of a list is its position, a layer of a functional or Sequential model ``#`` and its position, and what a loop
makes the pattern of its label: ``blocks/{i}``.
"""


@dataclass(frozen=True, slots=True)
class Move:
    """What an object holds, before and after.

    Attributes:
        old_owner: The class before (or the function that makes the model).
        new_owner: The class after.
        old: The way to it from the object, before.
        new: The way to it after.
        before: How it was made.
        after: How it is made.
        why: What shows that it is the same, in words.
        is_placed: Whether its place is all that tells where it is, in a list that changed.
    """

    old_owner: str
    new_owner: str
    old: Labels
    new: Labels
    before: Made
    after: Made
    why: str
    is_placed: bool = False

    @property
    def is_row(self) -> bool:
        """Whether it is a list or a dict as a whole, whose items are told one by one."""
        return self.before.kind in ("list", "flow", "dict") and bool(self.before.items)

    @property
    def is_kept(self) -> bool:
        """Whether it is where it was."""
        return self.old == self.new

    @property
    def evidence(self) -> str:
        """Where the source says so, e.g. ``source: nets.py:12 -> nets.py:14``."""
        return f"source: {self.before.place} -> {self.after.place}"


@dataclass(frozen=True, slots=True)
class Undecided:
    """What could be several things, of one class.

    Attributes:
        owner: The class after.
        old: What is there before and has no place after, in words, each with its place.
        new: What is there after.
        reason: Why it is not decided.
    """

    owner: str
    old: tuple[tuple[str, Place], ...]
    new: tuple[tuple[str, Place], ...]
    reason: str
