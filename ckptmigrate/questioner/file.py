"""The file that answers are kept in: a rulebook, to which each answer adds rules with a comment of what was asked."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ckptmigrate.errors import RuleError
from ckptmigrate.rules import Rulebook, compose_yaml, format_rulebook, parse_rulebook

_HEAD = """\
# What was answered when `ckptmigrate plan --interactive` asked, as rules. With `--rules` they answer it again.
rules:
"""

_LONGEST = 160
"""So many characters of a comment are kept."""


@dataclass(frozen=True, slots=True)
class AnswerFile:
    """A rule file with answers.

    Attributes:
        name: What the file is called, in messages and in the evidence of steps.
        text: What is in it; empty where there is none yet.
        rules: The rules in it.
    """

    name: str
    text: str = ""
    rules: Rulebook = ()

    @classmethod
    def read(cls, name: str, text: str) -> AnswerFile:
        """Read the text of a file.

        Raises:
            RuleError: It is no rulebook, or rules cannot be added to it; `Problems` if several things are wrong.
        """
        if not text.strip():
            return cls(name)
        document = compose_yaml(text, name=name)
        found = parse_rulebook(text, name=name)
        if document.value[0][1].flow_style:
            raise RuleError(
                "answers cannot be added to the file",
                name,
                expected="each rule on a line of its own, after `- `",
                got="all of them in brackets",
                hint="Write them on lines, or name another file with --answers",
            )
        return cls(name, text, found)

    def added(self, rules: Rulebook, comments: tuple[str, ...]) -> AnswerFile:
        """The file with more rules at its end; all that is in it stays as it is.

        Raises:
            RuleError: What is there does not allow rules behind it, or the rules cannot be written as text.
        """
        text = self.text or _HEAD
        if not text.endswith("\n"):
            text += "\n"
        indent = " " * self.indent
        lines = [f"{indent}# {_one_line(comment)}" for comment in comments]
        lines += [indent + line.strip() for line in format_rulebook(rules).splitlines()[1:]]
        text += "\n".join(lines) + "\n"
        read = parse_rulebook(text, name=self.name)
        if [replace(rule, where="") for rule in read] != [
            *(replace(rule, where="") for rule in self.rules),
            *(replace(rule, where="") for rule in rules),
        ]:
            raise RuleError(
                "the answer cannot be added to the file",
                self.name,
                expected="a list of rules as the last thing in it",
                hint="Name another file with --answers",
            )
        return AnswerFile(self.name, text, read)

    @property
    def indent(self) -> int:
        """The column of its rules' dashes."""
        if not self.text:
            return 2
        column: int = compose_yaml(self.text, name=self.name).value[0][1].start_mark.column
        return column


def _one_line(comment: str) -> str:
    text = re.sub(r"[^\x20-\x7e\xa0-\ud7ff]+", " ", comment)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
