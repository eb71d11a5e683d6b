"""YAML documents of ours, read so that every mistake is told with its line and column, all of them at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ckptmigrate.errors import CkptMigrateError, Problems, RuleError


def compose_yaml(text: str, *, name: str) -> Any:
    """The root node of a YAML document, with the line and column of every node; None for an empty one.

    Raises:
        RuleError: The text is not YAML.
    """
    import yaml

    try:
        with not_too_deep(name):
            return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _yaml_error(error, name) from error
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, error.position - text.rfind("\n", 0, error.position)
        raise RuleError(
            "a character that YAML does not allow", f"{name}:{line}:{column}", got=f"{error.character:#x}"
        ) from error


@contextlib.contextmanager
def not_too_deep(name: str) -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise RuleError("nested too deeply", name, expected="`rules:` and a list of rules") from error


class Reader:
    """Turns YAML nodes into values, gathering problems with the place of each."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[CkptMigrateError] = []

    def place(self, node: Any) -> str:
        return f"{self.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def complain(self, node: Any, what: str, *, expected: str = "", got: str = "", hint: str = "") -> None:
        self.problems.append(RuleError(what, self.place(node), expected=expected, got=got, hint=hint))

    def mapping(self, node: Any, expected: str) -> dict[str, tuple[Any, Any]]:
        """The pairs of a mapping by key, each with the nodes of its key and value."""
        if node.id != "mapping":
            self.complain(node, "wrong type", expected=expected, got=type_name(node))
            return {}
        fields: dict[str, tuple[Any, Any]] = {}
        for key, value in node.value:
            if key.id != "scalar":
                self.complain(key, "wrong type", expected="a word", got=type_name(key))
            elif key.value in fields:
                self.complain(key, "said twice", got=f"`{key.value}`", hint="Keep one of them")
            else:
                fields[key.value] = (key, value)
        return fields

    def sequence(self, node: Any, expected: str) -> Sequence[Any]:
        if node.id != "sequence":
            self.complain(node, "wrong type", expected=expected, got=type_name(node))
            return ()
        items: Sequence[Any] = node.value
        return items

    def text(self, node: Any) -> str:
        if node.id != "scalar" or not node.value:
            self.complain(node, "wrong type", expected="text", got=type_name(node))
            return ""
        return str(node.value)

    @contextlib.contextmanager
    def gathered(self) -> Iterator[None]:
        """What is raised is kept with the other problems."""
        try:
            yield
        except RuleError as error:
            self.problems.append(error)
        except Problems as group:
            self.problems.extend(group.problems)

    def value(self, node: Any) -> object:
        """A node as a plain value."""
        import yaml

        # SafeLoader's constructor resolves a composed node to plain values; it reads no text of its own.
        construct: Callable[..., object] = yaml.SafeLoader("").construct_object
        try:
            return construct(node, deep=True)
        except (yaml.YAMLError, ValueError) as error:
            reason = getattr(error, "problem", None) or str(error)
            raise RuleError(f"unreadable value ({reason})", self.place(node), expected="a plain value") from error


def type_name(node: Any) -> str:
    if node.id == "scalar":
        return f"`{node.value}`" if node.value else "nothing"
    return "a mapping" if node.id == "mapping" else "a list"


def _yaml_error(error: Any, name: str) -> RuleError:
    mark = error.problem_mark or error.context_mark
    where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    line = mark.buffer.split("\n")[mark.line] if mark and mark.buffer else ""
    if "\t" in line:
        return RuleError("a tab in YAML", where, expected="spaces for indentation", hint="Replace the tab by spaces")
    reason = " ".join(filter(None, (error.context, error.problem)))
    unquoted = "A path that begins with `*` or `{` needs quotes" if "*" in line or "{" in line else ""
    return RuleError(f"not YAML ({reason})", where, hint=unquoted)
