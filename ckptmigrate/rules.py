"""Rules: what a person (or a pack, or a code-mod) states about how a source becomes a target.

A rule is a pattern over source paths, a pattern over target paths, and operations. A rulebook is read
from YAML; every mistake in it is reported with its line and column, all of them at once. Nothing here
looks at a checkpoint: which variables a rule means is found by matching.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, Literal

from ckptmigrate import ops
from ckptmigrate.errors import CkptMigrateError, PathError, Problems, RuleError, raise_all
from ckptmigrate.spec import Pattern

Kind = Literal["map", "drop", "init"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One statement of a rulebook.

    Attributes:
        kind: ``map``: values go from source to target, through `operations`. ``drop``: the source's
            values go nowhere. ``init``: the target's values come from nowhere, `operations` is one `Fill`.
        source: Which source paths; None for ``init``.
        target: Which target paths; None for ``drop``.
        operations: What happens to the values on the way, in order; empty for a rename.
        why: The reason that a person gave.
        where: File, line and column, for messages.
    """

    kind: Kind
    source: Pattern | None
    target: Pattern | None
    operations: tuple[ops.Op, ...] = ()
    why: str = ""
    where: str = ""

    def describe(self) -> str:
        """The rule in words, e.g. ``model/w1 -> model/dense/kernel, transpose [1, 0]``."""
        how = "".join(f", {operation.describe()}" for operation in self.operations)
        match self.kind:
            case "map":
                return f"{self.source} -> {self.target}{how}"
            case "drop":
                return f"drop {self.source}" + (f" ({self.why})" if self.why else "")
            case "init":
                return f"init {self.target}{how}"

    def to_data(self) -> dict[str, Any]:
        """The rule as a rule file has it."""
        why = {"why": self.why} if self.why else {}
        match self.kind:
            case "map":
                ends = {"from": str(self.source), "to": str(self.target)}
                if not self.operations:
                    return {"rename": {**ends, **why}}
                return {"map": {**ends, "ops": [ops.to_data(operation) for operation in self.operations], **why}}
            case "drop":
                return {"drop": {"from": str(self.source), **why}}
            case "init":
                (arguments,) = ops.to_data(self.operations[0]).values()
                return {"init": {"to": str(self.target), **arguments, **why}}


Rulebook = tuple[Rule, ...]


def read_rulebook(path: str | FilePath) -> Rulebook:
    """Read a rule file.

    Raises:
        RuleError: The file cannot be read, or is not a rulebook; `Problems` if several things are wrong.
    """
    name = str(path)
    try:
        text = FilePath(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RuleError("cannot read the rule file", name, got=str(error.strerror), hint="Check the path") from error
    except UnicodeDecodeError as error:
        raise RuleError("not text", name, expected="UTF-8", got=str(error), hint="Save the file as UTF-8") from error
    return parse_rulebook(text, name=name)


def read_rulebooks(paths: Iterable[str | FilePath]) -> Rulebook:
    """Read several rule files as one rulebook.

    Raises:
        RuleError: A file is not a rulebook; `Problems` with all that is wrong in all of them.
    """
    rules: list[Rule] = []
    problems: list[CkptMigrateError] = []
    for path in paths:
        try:
            rules.extend(read_rulebook(path))
        except RuleError as error:
            problems.append(error)
        except Problems as group:
            problems.extend(group.problems)
    raise_all("the rule files cannot be used", problems)
    return tuple(rules)


def parse_rulebook(text: str, *, name: str = "rules") -> Rulebook:
    """Read a rulebook from YAML text. `name` stands for the file in messages.

    Raises:
        RuleError: The text is not a rulebook; `Problems` if several things are wrong.
    """
    import yaml

    reader = _Reader(name)
    try:
        rules = reader.rulebook(yaml.compose(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        raise _yaml_error(error, name) from error
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, error.position - text.rfind("\n", 0, error.position)
        raise RuleError(
            "a character that YAML does not allow", f"{name}:{line}:{column}", got=f"{error.character:#x}"
        ) from error
    except RecursionError as error:
        raise RuleError("nested too deeply", name, expected="`rules:` and a list of rules") from error
    raise_all(f"{name}: not a rulebook", reader.problems)
    return tuple(rules)


def format_rulebook(rules: Iterable[Rule]) -> str:
    """A rulebook as YAML, one rule a line, in the form that `parse_rulebook` reads."""
    import yaml

    lines = ["rules:"]
    for rule, targets in _with_copies(rules):
        ((word, arguments),) = rule.to_data().items()
        data = {word: {**arguments, "to": targets} if len(targets) > 1 else arguments}
        flow = yaml.safe_dump(data, default_flow_style=True, sort_keys=False, width=float("inf")).strip()
        lines.append(f"  - {flow.removeprefix('{').removesuffix('}')}")
    return "\n".join(lines) + "\n"


def _with_copies(rules: Iterable[Rule]) -> Iterator[tuple[Rule, list[str]]]:
    """Rules with their targets: those that one list in `to` made are together again, as otherwise no copy is meant."""
    first: Rule | None = None
    targets: list[str] = []
    for rule in rules:
        if first is not None and first.kind == "map" and rule == replace(first, target=rule.target):
            targets.append(str(rule.target))
            continue
        if first is not None:
            yield first, targets
        first, targets = rule, [str(rule.target)]
    if first is not None:
        yield first, targets


def _yaml_error(error: Any, name: str) -> RuleError:
    mark = error.problem_mark or error.context_mark
    where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    line = mark.buffer.split("\n")[mark.line] if mark and mark.buffer else ""
    if "\t" in line:
        return RuleError("a tab in YAML", where, expected="spaces for indentation", hint="Replace the tab by spaces")
    reason = " ".join(filter(None, (error.context, error.problem)))
    unquoted = "A path that begins with `*` or `{` needs quotes" if "*" in line or "{" in line else ""
    return RuleError(f"not YAML ({reason})", where, hint=unquoted)


_RULE_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "rename": (),
    "transpose": ("perm",),
    "reshape": ("shape",),
    "cast": ("dtype",),
    "squeeze": ("axis",),
    "expand_dims": ("axis",),
    "map": ("ops",),
    "drop": (),
    "init": ("with",),
}
"""What each rule takes beside ``from``, ``to`` and ``why``."""


class _Reader:
    """Turns YAML nodes into rules, gathering problems with the place of each."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[CkptMigrateError] = []

    def place(self, node: Any) -> str:
        return f"{self.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def complain(self, node: Any, what: str, *, expected: str = "", got: str = "", hint: str = "") -> None:
        self.problems.append(RuleError(what, self.place(node), expected=expected, got=got, hint=hint))

    def rulebook(self, document: Any) -> list[Rule]:
        if document is None:
            self.problems.append(RuleError("empty rule file", self.name, expected="`rules:` and a list of rules"))
            return []
        fields = self.mapping(document, "a mapping with the key `rules`")
        if document.id != "mapping":
            return []
        for key, (key_node, _) in fields.items():
            if key != "rules":
                self.complain(key_node, "unknown word", expected="`rules`", got=f"`{key}`")
        if "rules" not in fields:
            self.complain(document, "no rules", expected="the key `rules`")
            return []
        rules = self.sequence(fields["rules"][1], "a list of rules")
        return [rule for node in rules for rule in self.rule(node)]

    def mapping(self, node: Any, expected: str) -> dict[str, tuple[Any, Any]]:
        """The pairs of a mapping by key, each with the nodes of its key and value."""
        if node.id != "mapping":
            self.complain(node, "wrong type", expected=expected, got=_type_name(node))
            return {}
        fields: dict[str, tuple[Any, Any]] = {}
        for key, value in node.value:
            if key.id != "scalar":
                self.complain(key, "wrong type", expected="a word", got=_type_name(key))
            elif key.value in fields:
                self.complain(key, "said twice", got=f"`{key.value}`", hint="Keep one of them")
            else:
                fields[key.value] = (key, value)
        return fields

    def sequence(self, node: Any, expected: str) -> Sequence[Any]:
        if node.id != "sequence":
            self.complain(node, "wrong type", expected=expected, got=_type_name(node))
            return ()
        items: Sequence[Any] = node.value
        return items

    def rule(self, node: Any) -> Sequence[Rule]:
        fields = self.mapping(node, "a rule, e.g. `rename: {from: a, to: b}`")
        if not fields:
            return ()
        if len(fields) > 1:
            self.complain(
                node,
                "several words in one rule",
                expected="one of them a list item",
                got=", ".join(f"`{key}`" for key in fields),
                hint="Begin each rule with its own `- `, and put its arguments in braces or one level deeper",
            )
            return ()
        ((word, (word_node, body)),) = fields.items()
        if word not in _RULE_ARGUMENTS:
            near = difflib.get_close_matches(word, _RULE_ARGUMENTS, 1)
            self.complain(
                word_node,
                "unknown word",
                expected=f"one of {', '.join(_RULE_ARGUMENTS)}",
                got=f"`{word}`",
                hint=f"The nearest is `{near[0]}`" if near else "",
            )
            return ()
        before = len(self.problems)
        rules = self.arguments(word, body)
        return rules if len(self.problems) == before else ()

    def arguments(self, word: str, body: Any) -> Sequence[Rule]:
        fields = self.mapping(body, f"the arguments of `{word}`, e.g. `{{from: ..., to: ...}}`")
        if not fields:
            if body.id == "mapping":
                self.complain(body, f"`{word}` without arguments", expected="`from` or `to`")
            return ()
        kind: Kind = word if word in ("drop", "init") else "map"  # type: ignore[assignment]  # narrowed by the test
        own = _RULE_ARGUMENTS[word]
        allowed = ("why", *own, *(("from",) if kind != "init" else ()), *(("to",) if kind != "drop" else ()))
        for key, (key_node, _) in fields.items():
            if key not in allowed:
                self.complain(
                    key_node, f"unknown word in `{word}`", expected=f"one of {', '.join(allowed)}", got=f"`{key}`"
                )
        operations = self.operations(word, {key: fields[key] for key in own if key in fields}, body)
        why = self.text(fields["why"][1]) if "why" in fields else ""
        place = self.place(body)
        source = self.pattern(fields.get("from", (None, None))[1], word, "from", body) if kind != "init" else None
        if kind == "drop":
            return [Rule(kind, source, None, (), why, place)]
        if kind == "map" and "to" not in fields:
            targets = [source]
        else:
            node = fields.get("to", (None, None))[1]
            copies = self.copies(node) if kind == "map" and node is not None and node.id == "sequence" else [node]
            targets = [self.pattern(copy, word, "to", body) for copy in copies]
            for copy, target in zip(copies, targets, strict=True):
                if source is not None and target is not None:
                    self.check_captures(source, target, copy)
        return [Rule(kind, source, target, operations, why, place) for target in targets]

    def copies(self, node: Any) -> Sequence[Any]:
        """The paths of a list in `to`: the values are copied to each of them."""
        if not node.value:
            self.complain(node, "an empty list", expected="a path, or several to copy the values to")
        said: set[object] = set()
        for copy in node.value:
            if copy.id == "scalar" and copy.value in said:
                self.complain(copy, "said twice", got=f"`{copy.value}`", hint="Keep one of them")
            said.add(copy.value if copy.id == "scalar" else None)
        paths: Sequence[Any] = node.value
        return paths

    def pattern(self, node: Any, word: str, key: str, body: Any) -> Pattern | None:
        if node is None:
            self.complain(body, f"`{word}` without `{key}`", expected=f"`{key}: a path`")
            return None
        text = self.text(node)
        if not text:
            return None
        try:
            pattern = Pattern.parse(text)
        except PathError as error:
            self.complain(node, error.what, expected=error.expected, got=error.got or f"`{text}`", hint=error.hint)
            return None
        # Only a target that is made of what a source captured has something to add to.
        if (key == "from" or word == "init") and any(hole.shift for hole in pattern.holes):
            self.complain(node, f"a shift in `{key}`", expected="`{n:int}`", got=f"`{text}`")
        return pattern

    def text(self, node: Any) -> str:
        if node.id != "scalar" or not node.value:
            self.complain(node, "wrong type", expected="text", got=_type_name(node))
            return ""
        return str(node.value)

    def operations(self, word: str, own: dict[str, tuple[Any, Any]], body: Any) -> tuple[ops.Op, ...]:
        read: list[ops.Op] = []
        match word:
            case "rename" | "drop":
                pass
            case "map":
                if "ops" not in own:
                    self.complain(body, "`map` without `ops`", expected="`ops: [...]`")
                    return ()
                for node in self.sequence(own["ops"][1], "a list of operations"):
                    with self.gathered():
                        read.append(ops.from_data(self.value(node), self.place(node)))
            case _:
                with self.gathered():
                    arguments = {key: self.value(value) for key, (_, value) in own.items()}
                    read.append(ops.from_data({word: arguments}, self.place(body)))
        return tuple(read)

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

    def check_captures(self, source: Pattern, target: Pattern, node: Any) -> None:
        """A target's holes have to be filled by its source's, in the same order around each ``**``."""
        if len(source.chunks) != len(target.chunks):
            self.complain(
                node,
                "`**` on one side only",
                expected=f"{len(source.chunks) - 1} times `**` (`from: {source}`)",
                got=f"{len(target.chunks) - 1} times (`{target}`)",
                hint="Each `**` of the target stands for what the one of the source matched",
            )
            return
        captured: set[str] = set()
        for left, right in zip(source.chunks, target.chunks, strict=True):
            captured |= {hole.name for segment in left for hole in segment.holes}
            for hole in (hole for segment in right for hole in segment.holes):
                if hole.name not in captured:
                    self.complain(
                        node,
                        "nothing to put in",
                        expected=f"`{hole.name if hole.name[0] == '*' else '{' + hole.name + '}'}` captured "
                        f"(`from: {source}`), before the same `**`",
                        got=f"`{target}`",
                    )


def _type_name(node: Any) -> str:
    if node.id == "scalar":
        return f"`{node.value}`" if node.value else "nothing"
    return "a mapping" if node.id == "mapping" else "a list"
