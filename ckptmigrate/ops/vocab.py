"""Rows that go where their tokens go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ckptmigrate.errors import IrreversibleError, OperationError
from ckptmigrate.ops.filling import Filling, check_filling, say_filling
from ckptmigrate.ops.fitting import KEEP, Specs, axis_of, only, resized
from ckptmigrate.spec import TensorSpec
from ckptmigrate.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Vocab:
    """Move the rows of an axis from the order of one vocabulary to that of another.

    The row of a token that both have goes along; that of a new one is filled; that of a lost one is left
    behind. The files are named and not held: which row goes where is read from them when values are made.

    Attributes:
        axis: The axis; a negative one counts from the end.
        source: The vocabulary of the source's rows.
        target: The vocabulary of the result's rows.
        kept: How many tokens are in both.
        fill: What the rows of new tokens are. The template's values come last in a chain, as in `Resize`.
        offset: So many rows stand before that of the first token, on both sides, and stay as they are.
    """

    axis: int
    source: Vocabulary
    target: Vocabulary
    kept: int
    fill: Filling = "template"
    offset: int = 0
    name: ClassVar[str] = "vocab"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if the vocabulary does not fit the axis."""
        spec = only(self, specs)
        axis = axis_of(self, spec, self.axis)
        self.check_size(self.source, spec, axis, "source")
        if not 0 <= self.kept <= min(self.source.count, self.target.count):
            raise OperationError(
                "more tokens in common than there are",
                self.describe(),
                expected=f"at most {min(self.source.count, self.target.count)}",
                got=f"{self.kept} (kept)",
            )
        if self.grows(spec):
            check_filling(self, self.fill, spec, axis)
        return (resized(spec, axis, self.offset + self.target.count),)

    def check_size(self, vocabulary: Vocabulary, spec: TensorSpec, axis: int, side: str) -> None:
        """Refuse a vocabulary of another size than an axis.

        Raises:
            OperationError: It is of another size.
        """
        size, rest = spec.shape[axis], spec.shape[axis] - vocabulary.count
        if self.offset < 0 or rest != self.offset:
            before = f" after {self.offset} rows" if self.offset else ""
            raise OperationError(
                f"the vocabulary does not fit the {side}",
                self.describe(),
                expected=f"{vocabulary.count} tokens{before} along axis {self.axis} ({vocabulary.path})",
                got=f"{size} rows ({side} {spec})",
                hint=f"If the first {rest} rows are of no token, such as padding, say `offset: {rest}`"
                if rest > 0
                else "",
            )

    def grows(self, spec: TensorSpec) -> bool:  # noqa: ARG002  # as `Resize.grows`
        """Whether anything is filled in a tensor that fits."""
        return self.kept < self.target.count

    def inverse(self, specs: Specs) -> Vocab:
        """The way back, if no token is lost. Raises IrreversibleError if one is."""
        self.infer(specs)
        lost = self.source.count - self.kept
        if lost:
            raise IrreversibleError(
                f"{lost} of {self.source.count} tokens are not in the new vocabulary, so their rows are lost",
                self.describe(),
                hint=KEEP,
            )
        return Vocab(self.axis, self.target, self.source, self.kept, 0, self.offset)

    def describe(self) -> str:
        """In words, e.g. ``rows by token along axis 0: 1000 of 1000 kept, 200 new filled with the mean``."""
        new = self.target.count - self.kept
        filled = f", {new} new filled with {say_filling(self.fill)}" if new else ""
        return f"rows by token along axis {self.axis}: {self.kept} of {self.source.count} kept{filled}"
