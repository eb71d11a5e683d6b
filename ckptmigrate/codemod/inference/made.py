"""What source code makes: the objects that a model holds, as far as the code says what they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ckptmigrate.codemod.source.project import Place

Kind = Literal["object", "list", "dict", "flow", "given"]
"""What is made: an object by a call; a list or dict of things; a Sequential or functional model; or nothing here."""

INPUTS = ("Input", "InputLayer")
"""What makes a symbolic input: no layer of a Sequential, and the first of a functional model."""


@dataclass(frozen=True, slots=True)
class Made:
    """A thing that the source makes, or is given, and holds.

    Attributes:
        label: The edge to it from its holder. In a list its position; where a loop makes several, a pattern of their
            labels with the number of the turn from 0 on: ``{i}``, ``block_{i+1}``.
        kind: What it is.
        constructor: What is called to make it: a class of the project by its dotted name, else as it is imported;
            empty where that is not known.
        arguments: The text of its arguments, keywords with their names; not its name.
        name: What it is called by ``name=``; a pattern as a label is.
        place: Where it is made.
        items: What a list, a dict or a flow holds.
        count: The text of how many turns a loop has.
    """

    label: str
    kind: Kind
    place: Place
    constructor: str = ""
    arguments: tuple[str, ...] = ()
    name: str = ""
    items: tuple[Made, ...] = ()
    count: str = ""

    @property
    def is_loop(self) -> bool:
        """Whether it stands for as many things as a loop has turns."""
        return "{i" in self.label

    @property
    def maker(self) -> str:
        """The constructor without its module: ``layers.Dense`` and ``keras.layers.Dense`` are one."""
        return self.constructor.rpartition(".")[2]
