"""The dialogue of `plan --interactive` in a terminal: on stderr and stdin, so that stdout has the result alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ckptmigrate.cli.outputs import write_file
from ckptmigrate.errors import RuleError

if TYPE_CHECKING:
    from ckptmigrate.bundle import Bundle
    from ckptmigrate.graph import ObjectGraph
    from ckptmigrate.matching import Hypothesis, Matching
    from ckptmigrate.questioner import AnswerFile, Asked, Match, Reply

_SHOWN = 9
"""So many answers are listed at first."""

_HELP = """\
  a number       this answer; y: the only one
  n, no          none of these: what else it could be is listed
  s, skip        it stays open
  w, why         both sides: paths, shapes, neighbours, and what their values are like
  m, more        all answers, where there are many
  q, quit        all of the rest stays open (as Ctrl-D does); Ctrl-C ends without a plan
What was answered is in the file of answers already."""

_WORDS = {
    "y": "yes",
    "n": "no",
    "none": "no",
    "s": "skip",
    "w": "why",
    "m": "more",
    "q": "quit",
    "?": "help",
    "h": "help",
}


def default_answers(plan_file: str | None) -> str:
    """Where answers are written if nobody says: beside the plan."""
    return str(Path(plan_file or "plan.json").with_suffix(".answers.yaml"))


def is_same_file(name: str, other: str) -> bool:
    """Whether two names are those of one file, which need not exist."""
    return os.path.realpath(name) == os.path.realpath(other)


def hold_dialogue(person: Terminal, match: Match, answers: AnswerFile, *, taken: AbstractSet[str]) -> Matching:
    """Ask what matching leaves open; the matching with all answers. Without a terminal nothing is asked.

    Args:
        person: Who is asked.
        match: How the graphs are matched with answers.
        answers: The answers so far, and the file that they are in.
        taken: The kinds of what is not asked, because all of it is taken without a word.

    Raises:
        RuleError: The answers so far do not fit; `Problems` if in several ways.
    """
    from ckptmigrate.questioner import ask_all

    # Who is asked reads what is written to stderr, and writes to stdin.
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        _say("--interactive: there is no terminal to ask at, so nothing is asked")
        return match(answers.rules)
    try:
        outcome = ask_all(
            person.source_graph, person.target_graph, match, person, answers, keep=_keep_answers, taken=taken
        )
    except KeyboardInterrupt:
        if Path(answers.name).exists():
            _say(f"\nwhat was answered is kept in {answers.name}")
        raise
    if outcome.answered:
        times = "1 answer" if outcome.answered == 1 else f"{outcome.answered} answers"
        _say(f"\n{times} written to {answers.name}: it answers the same with --rules, or with --interactive again\n")
    return outcome.matching


def read_answers(path: str) -> AnswerFile:
    """The answers that a file has already.

    Raises:
        RuleError: It cannot be read, or is no file of answers; `Problems` if several things are wrong.
    """
    from ckptmigrate.questioner import AnswerFile

    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return AnswerFile(path)
    except OSError as error:
        raise RuleError(
            "cannot read the answers", path, got=str(error.strerror), hint="Name another file with --answers"
        ) from error
    except UnicodeDecodeError as error:
        raise RuleError("not text", path, expected="UTF-8", got=str(error), hint="Save the file as UTF-8") from error
    return AnswerFile.read(path, text)


def _keep_answers(file: AnswerFile) -> None:
    """Write the answers so far, as a whole: what was answered is not lost, however the dialogue ends."""
    write_file(file.name, file.text.encode())


@dataclass(frozen=True, slots=True)
class Terminal:
    """A person at a terminal.

    Attributes:
        source: The source.
        target: The target.
        source_graph: The source's graph.
        target_graph: The target's graph.
        is_template: Whether the target's values are only initial ones.
    """

    source: Bundle
    target: Bundle
    source_graph: ObjectGraph
    target_graph: ObjectGraph
    is_template: bool

    def ask(self, asked: Asked, *, left: int) -> Reply:
        """Show what is asked until there is an answer to it."""
        _say("")
        self.show(asked, left, _SHOWN)
        hypotheses = asked.question.hypotheses
        while True:
            line = _read(_prompt(len(hypotheses)))
            if line is None:
                return "stop"
            word = line.strip().lower()
            reply = _reply(_WORDS.get(word, word), hypotheses)
            if reply is not None:
                return reply
            self.explain(word, asked, left)

    def show(self, asked: Asked, left: int, shown: int) -> None:
        from ckptmigrate.report.asking import asked_lines

        _show(asked_lines(asked, self.source_graph, self.target_graph, left=left, shown=shown))

    def explain(self, word: str, asked: Asked, left: int) -> None:
        """What is no answer: a question back, or something that has to be said in another way."""
        from ckptmigrate.report.asking import why_lines

        count = len(asked.question.hypotheses)
        match _WORDS.get(word, word):
            case "why":
                ends = (self.source, self.source_graph), (self.target, self.target_graph)
                _show(why_lines(asked, *ends, is_template=self.is_template))
            case "more":
                self.show(asked, left, count)
            case "help":
                _say(_HELP)
            case "":
                pass
            case "yes":
                _say(f"  There are {count} answers: give the number of one" if count else _NOTHING)
            case _:
                _say(f"  {word!r} is no answer. {_said_answers(count)}")

    def tell(self, text: str) -> None:
        """Say what became of an answer."""
        _say(f"  {text}")


def _reply(word: str, hypotheses: Sequence[Hypothesis]) -> Reply | None:
    """What a word means; None if it is no answer."""
    match word:
        case "yes" if len(hypotheses) == 1:
            return hypotheses[0]
        case "no" | "skip":
            return word
        case "quit":
            return "stop"
        case number if number.isdecimal() and 1 <= int(number) <= len(hypotheses):
            return hypotheses[int(number) - 1]
    return None


_NOTHING = "  There is no answer to say yes to: `n` lists what else there is"


def _said_answers(count: int) -> str:
    numbers = "" if not count else "y, " if count == 1 else f"1 to {count}, "
    return f"Answer {numbers}n, s, w, m or q; ? explains them"


def _prompt(count: int) -> str:
    numbers = "" if not count else "y/" if count == 1 else f"1-{count}/"
    return f"[{numbers}n/skip/why/quit/?] "


def _read(prompt: str) -> str | None:
    """A line that a person types; None at the end of what there is to read."""
    # Not `input`: it writes its prompt to stdout, where the result goes.
    click.echo(prompt, nl=False, err=True)
    line = sys.stdin.readline()
    if not line:
        click.echo(err=True)
        return None
    return line


def _say(text: str) -> None:
    click.echo(text, err=True)


def _show(lines: Iterable[str]) -> None:
    """Print lines of rich markup."""
    from rich.console import Console

    console = Console(stderr=True, emoji=False, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line)
