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

from ckptmigrate import notation, ops
from ckptmigrate.errors import CkptMigrateError, PathError, Problems, RuleError, raise_all
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
    """

    kind: Kind
    sources: tuple[Pattern, ...]
    target: Pattern | None
    operations: tuple[ops.Op, ...] = ()
    why: str = ""
    where: str = ""

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
    reader = _Reader(name)
    document = compose_yaml(text, name=name)
    with _not_too_deep(name):
        rules = reader.rulebook(document)
    raise_all(f"{name}: not a rulebook", reader.problems)
    return tuple(rules)


def parse_rules(node: Any, *, name: str) -> Rulebook:
    """Read a list of rules from its node in a larger YAML document; `name` stands for that in messages.

    Raises:
        RuleError: The node is no list of rules; `Problems` if several things are wrong.
    """
    reader = _Reader(name)
    with _not_too_deep(name):
        rules = reader.rules(node)
    raise_all(f"{name}: not a list of rules", reader.problems)
    return tuple(rules)


def compose_yaml(text: str, *, name: str) -> Any:
    """The root node of a YAML document, with the line and column of every node; None for an empty one.

    Raises:
        RuleError: The text is not YAML.
    """
    import yaml

    try:
        with _not_too_deep(name):
            return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _yaml_error(error, name) from error
    except yaml.reader.ReaderError as error:
        line, column = text.count("\n", 0, error.position) + 1, error.position - text.rfind("\n", 0, error.position)
        raise RuleError(
            "a character that YAML does not allow", f"{name}:{line}:{column}", got=f"{error.character:#x}"
        ) from error


@contextlib.contextmanager
def _not_too_deep(name: str) -> Iterator[None]:
    try:
        yield
    except RecursionError as error:
        raise RuleError("nested too deeply", name, expected="`rules:` and a list of rules") from error


def format_rulebook(rules: Iterable[Rule]) -> str:
    """A rulebook as YAML, one statement a line, in the form that `parse_rulebook` reads."""
    import yaml

    lines = ["rules:"]
    for statement in _statements(rules):
        data = _statement_data(statement)
        flow = yaml.safe_dump(data, default_flow_style=True, sort_keys=False, width=float("inf")).strip()
        lines.append(f"  - {flow.removeprefix('{').removesuffix('}')}")
    return "\n".join(lines) + "\n"


def _statements(rules: Iterable[Rule]) -> Iterator[list[Rule]]:
    """Rules that one list in `to` made are together again: a copy, or the parts of a split."""
    statement: list[Rule] = []
    for rule in rules:
        if statement and not _continues(statement, rule):
            yield statement
            statement = []
        statement.append(rule)
    if statement:
        yield statement


def _continues(statement: list[Rule], rule: Rule) -> bool:
    first = statement[0]
    if first.kind != "map" or rule != replace(first, target=rule.target, operations=rule.operations):
        return False
    match first.operations, rule.operations:
        case (ops.Part(index=0) as part, *rest), (ops.Part() as other, *others):
            return other == replace(part, index=len(statement)) and rest == others
        case operations, others:
            return operations == others


def _statement_data(statement: list[Rule]) -> dict[str, Any]:
    first = statement[0]
    if len(statement) == 1:
        return first.to_data()
    targets = [str(rule.target) for rule in statement]
    match first.operations:
        case (ops.Part(axis, 0, sizes), *rest) if rest in ([], [ops.Squeeze((axis,))]):
            given = {} if isinstance(sizes, int) else {"sizes": "target" if sizes is None else list(sizes)}
            why = {"why": first.why} if first.why else {}
            word = "unstack" if rest else "split"
            return {word: {"from": str(first.sources[0]), "to": targets, "axis": axis, **given, **why}}
    ((word, arguments),) = first.to_data().items()
    return {word: {**arguments, "to": targets}}


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
    "slice": ("axis", "start", "stop"),
    "pad": ("axis", "before", "after", "value"),
    "gather": ("axis", "indices"),
    "tile": ("axis", "times"),
    "repeat": ("axis", "times"),
    "resize": ("axis", "size", "fill"),
    "scale": ("factor",),
    "add": ("value",),
    "split": ("axis", "sizes"),
    "unstack": ("axis",),
    "concat": ("axis",),
    "stack": ("axis",),
    "average": ("weights",),
    "map": ("ops",),
    "drop": (),
    "init": ("with",),
}
"""What each rule takes beside ``from``, ``to`` and ``why``."""

_SPLITS = ("split", "unstack")
"""One source to several targets: each target is a part of its own."""

_JOINS = ("concat", "stack", "average")
"""Several sources to one target."""


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
        return self.rules(fields["rules"][1])

    def rules(self, node: Any) -> list[Rule]:
        return [rule for item in self.sequence(node, "a list of rules") for rule in self.rule(item)]

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
        why = self.text(fields["why"][1]) if "why" in fields else ""
        place = self.place(body)
        nodes = {key: node for key, (_, node) in fields.items()}
        sources = () if kind == "init" else self.sources(nodes.get("from"), word, body)
        if kind == "drop":
            return [Rule(kind, sources, None, (), why, place)]
        if kind == "map" and "to" not in fields and word not in _SPLITS and len(sources) == 1:
            targets: Sequence[Pattern | None] = sources
        else:
            targets = self.targets(nodes.get("to"), word, sources, body)
        operations = self.operations(word, {key: fields[key] for key in own if key in fields}, body, len(targets))
        if len(operations) != len(targets):
            return ()
        return [Rule(kind, sources, *made, why, place) for made in zip(targets, operations, strict=True)]

    def sources(self, node: Any, word: str, body: Any) -> tuple[Pattern, ...]:
        """The patterns of `from`: a list for what joins several, else one."""
        if node is not None and node.id == "sequence" and word in ("map", *_JOINS):
            nodes = self.paths(node)
        elif node is not None and word in _JOINS:
            self.complain(node, "one source to join", expected="a list of paths", got=_type_name(node))
            return ()
        else:
            nodes = [node]
        found = (self.pattern(each, word, "from", body) for each in nodes)
        return tuple(pattern for pattern in found if pattern is not None)

    def targets(self, node: Any, word: str, sources: Sequence[Pattern], body: Any) -> Sequence[Pattern | None]:
        """The patterns of `to`: a list for the parts of a split, or for several copies; else one."""
        if word in _SPLITS and node is not None and node.id != "sequence":
            self.complain(node, "one target to split to", expected="a list of paths", got=_type_name(node))
            return ()
        several = node is not None and node.id == "sequence" and word not in ("init", *_JOINS)
        nodes = self.paths(node) if several else [node]
        found = [self.pattern(each, word, "to", body) for each in nodes]
        for each, target in zip(nodes, found, strict=True):
            for source in sources:
                if target is not None:
                    self.check_captures(source, target, each)
        return found

    def paths(self, node: Any) -> Sequence[Any]:
        """The nodes of a list of paths."""
        if not node.value:
            self.complain(node, "an empty list", expected="a path, or several")
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

    def operations(
        self, word: str, own: dict[str, tuple[Any, Any]], body: Any, count: int
    ) -> Sequence[tuple[ops.Op, ...]]:
        """The operations that lead to each of so many targets; fewer if they cannot be read."""
        with self.gathered():
            arguments = {key: self.value(value) for key, (_, value) in own.items() if key != "ops"}
            match word:
                case "rename" | "drop":
                    return [()] * count
                case "map":
                    return [self.chain(own, body)] * count
                case "split":
                    parts = {} if "sizes" in arguments else {"parts": count}
                    return [
                        (notation.from_data({"part": {"index": index, **parts, **arguments}}, self.place(body)),)
                        for index in range(count)
                    ]
                case "unstack":
                    squeeze = notation.from_data({"squeeze": arguments}, self.place(body))
                    rows = [{"part": {"index": index, "parts": count, **arguments}} for index in range(count)]
                    return [(notation.from_data(row, self.place(body)), squeeze) for row in rows]
                case _:
                    return [(notation.from_data({word: arguments}, self.place(body)),)] * count
        return ()

    def chain(self, own: dict[str, tuple[Any, Any]], body: Any) -> tuple[ops.Op, ...]:
        """The operations that `map` lists."""
        if "ops" not in own:
            self.complain(body, "`map` without `ops`", expected="`ops: [...]`")
            return ()
        read: list[ops.Op] = []
        for node in self.sequence(own["ops"][1], "a list of operations"):
            with self.gathered():
                read.append(notation.from_data(self.value(node), self.place(node)))
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
