"""What can go wrong, as values: every error of ours has the fields that its message shows.

The form of a message is the same everywhere::

    {what} @ {where}: expected {x} ({its origin}), got {y} ({its origin}). {What to do}.

Only these classes are turned into a message by the command line. Anything else that is raised is a
bug of ours and shows its traceback.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Self

_SHOWN = 30
"""So many problems of one pass are told one by one; the rest are counted."""


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _one_line(text: str) -> str:
    """A text with its line ends and control characters escaped: a name may hold any of them."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


class CkptMigrateError(Exception):
    """A mistake in what we were given, said so that a person can mend it.

    Attributes:
        what: The fact that does not hold, in a few words.
        where: The file, key, path, or line that it does not hold for.
        expected: What should be there, with its origin in parentheses; empty if nothing is compared.
        got: What is there instead, with its origin in parentheses; empty if nothing is compared.
        hint: What to do, as a sentence without its full stop; empty if there is nothing to say.
        exit_status: What the process returns: 2 for bad input, 1 for a failed check.
    """

    exit_status = 2

    def __init__(self, what: str, where: str, *, expected: str = "", got: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.got = got
        self.hint = hint
        super().__init__(what, where)

    def __str__(self) -> str:
        comparison = ", ".join(
            f"{word} {text}" for word, text in (("expected", self.expected), ("got", self.got)) if text
        )
        head = f"{self.what} @ {self.where or repr('')}"
        text = f"{head}: {comparison}." if comparison else f"{head}."
        return _one_line(f"{text} {self.hint}." if self.hint else text)


class PathError(CkptMigrateError):
    """A path or a pattern that cannot be read as one."""


class NotACheckpointError(CkptMigrateError):
    """No checkpoint that we read is at the place that was named."""


class CorruptBundleError(CkptMigrateError):
    """The bytes of a bundle contradict each other, their checksums, or the format."""


class GraphError(CkptMigrateError):
    """An object graph that refers to what is not there."""


class RuleError(CkptMigrateError):
    """A rule that cannot be read, matches nothing, or contradicts another."""


class VocabularyError(CkptMigrateError):
    """A vocabulary file that cannot be read as one, or is not what it was."""


class OperationError(CkptMigrateError):
    """An operation whose input or output has not the shape, dtype, or values that it needs."""


class IrreversibleError(CkptMigrateError):
    """An operation that loses what its inverse would need."""


class SourceError(CkptMigrateError):
    """Source code that cannot be read, or a name in it that is not there, or there twice."""


class TemplateError(CkptMigrateError):
    """A model that cannot be built, or whose checkpoint would not hold all of it."""


class RunError(CkptMigrateError):
    """A model that cannot be run: which thing it is, what it takes, or what it raised."""


class InputsError(CkptMigrateError):
    """Inputs that cannot be read, or that a model does not take."""


class PlanError(CkptMigrateError):
    """A plan that cannot be read, is not complete, or no longer fits its source or target."""


class OutputError(CkptMigrateError):
    """A place that cannot be written to, or must not be."""


class Problems(ExceptionGroup[CkptMigrateError]):
    """Several errors of ours, found in one pass and reported together."""

    def __new__(cls, message: str, problems: Sequence[CkptMigrateError]) -> Self:
        return super().__new__(cls, message, list(problems))

    def derive(self, excs: Sequence[CkptMigrateError], /) -> Problems:  # type: ignore[override]  # only our own errors are ever grouped
        return Problems(self.message, excs)

    @property
    def exit_status(self) -> int:
        return max(problem.exit_status for problem in self.problems)

    @property
    def problems(self) -> tuple[CkptMigrateError, ...]:
        """The errors, in the order they were found."""
        return tuple(problem for problem in self.exceptions if isinstance(problem, CkptMigrateError))

    def __str__(self) -> str:
        more = [f"  and {len(self.problems) - _SHOWN} more"] if len(self.problems) > _SHOWN else []
        return "\n".join(
            [f"{_one_line(self.message)}:", *(f"  {problem}" for problem in self.problems[:_SHOWN]), *more]
        )


def raise_all(message: str, problems: Iterable[CkptMigrateError]) -> None:
    """Raise what was gathered: nothing for none, the error itself for one, a group for more."""
    gathered = list(problems)
    if len(gathered) == 1:
        raise gathered[0]
    if gathered:
        raise Problems(message, gathered)
