"""Rulebooks from YAML."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path as FilePath
from typing import Any

from ckptmigrate import notation, ops
from ckptmigrate.errors import CkptMigrateError, PathError, Problems, RuleError, VocabularyError, raise_all
from ckptmigrate.rules.document import Reader, compose_yaml, not_too_deep, type_name
from ckptmigrate.rules.rule import Kind, Rule, Rulebook
from ckptmigrate.spec import Pattern
from ckptmigrate.vocabulary import compare_vocabularies


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
    with not_too_deep(name):
        rules = reader.rulebook(document)
    raise_all(f"{name}: not a rulebook", reader.problems)
    return tuple(rules)


def parse_rules(node: Any, *, name: str) -> Rulebook:
    """Read a list of rules from its node in a larger YAML document; `name` stands for that in messages.

    Raises:
        RuleError: The node is no list of rules; `Problems` if several things are wrong.
    """
    reader = _Reader(name)
    with not_too_deep(name):
        rules = reader.rules(node)
    raise_all(f"{name}: not a list of rules", reader.problems)
    return tuple(rules)


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
    "fold_batch_norm": ("from", "to", "epsilon", "axis"),
    "gates": ("axis", "source", "target", "forget_bias"),
    "vocab": ("source", "target", "fill", "offset", "at"),
    "scale": ("factor",),
    "add": ("value",),
    "split": ("axis", "sizes"),
    "unstack": ("axis",),
    "concat": ("axis",),
    "stack": ("axis",),
    "average": ("weights",),
    "custom": ("function", "shape", "dtype", "inverse"),
    "map": ("ops",),
    "drop": (),
    "init": ("with",),
}
"""What each rule takes beside ``from``, ``to`` and ``why``."""

_FOLDED = ("kernel", "bias", "gamma", "beta", "mean", "variance")
"""What there is of a layer and the batch normalization after it; only the first two come out of a fold."""

_PARTS = ("rules", "inferred", "code")
"""What a rule file has: what is stated, what was inferred and holds where it fits, and renames of source code."""

_SPLITS = ("split", "unstack")
"""One source to several targets: each target is a part of its own."""

_JOINS = ("concat", "stack", "average")
"""Several sources to one target."""


class _Reader(Reader):
    """Turns YAML nodes into rules."""

    def rulebook(self, document: Any) -> list[Rule]:
        if document is None:
            self.problems.append(RuleError("empty rule file", self.name, expected="`rules:` and a list of rules"))
            return []
        fields = self.mapping(document, "a mapping with the key `rules`")
        if document.id != "mapping":
            return []
        for key, (key_node, _) in fields.items():
            # What was renamed in the source stands beside the rules; `codemod apply` reads it.
            if key not in _PARTS:
                self.complain(key_node, "unknown word", expected="`rules`, `inferred` or `code`", got=f"`{key}`")
        if not fields.keys() & {*_PARTS}:
            self.complain(document, "no rules", expected="the key `rules`")
        stated = self.rules(fields["rules"][1]) if "rules" in fields else []
        return [*stated, *(self.inferred(fields["inferred"][1]) if "inferred" in fields else ())]

    def inferred(self, node: Any) -> Iterator[Rule]:
        """Rules that hold where they fit; they only rename, for nobody has said that values change."""
        for item in self.sequence(node, "a list of renames"):
            rules = self.rule(item)
            if any(rule.kind != "map" or rule.operations for rule in rules):
                self.complain(item, "an inferred rule that is no rename", expected="`rename: {from: a, to: b}`")
            yield from (replace(rule, inferred=True) for rule in rules)

    def rules(self, node: Any) -> list[Rule]:
        return [rule for item in self.sequence(node, "a list of rules") for rule in self.rule(item)]

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
        if word == "vocab":
            return self.vocab(fields, body)
        if word == "fold_batch_norm":
            return self.fold(fields, body)
        kind: Kind = word if word in ("drop", "init") else "map"  # type: ignore[assignment]  # narrowed by the test
        own = _RULE_ARGUMENTS[word]
        allowed = ("why", *own, *(("from",) if kind != "init" else ()), *(("to",) if kind != "drop" else ()))
        self.check_words(word, fields, allowed)
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

    def check_words(self, word: str, fields: dict[str, tuple[Any, Any]], allowed: Sequence[str]) -> None:
        for key, (key_node, _) in fields.items():
            if key not in allowed:
                self.complain(
                    key_node, f"unknown word in `{word}`", expected=f"one of {', '.join(allowed)}", got=f"`{key}`"
                )

    def fold(self, fields: dict[str, tuple[Any, Any]], body: Any) -> Sequence[Rule]:
        """A rule for the kernel and one for the bias that a batch normalization is folded into."""
        word = "fold_batch_norm"
        self.check_words(word, fields, ("why", *_RULE_ARGUMENTS[word]))
        why = self.text(fields["why"][1]) if "why" in fields else ""
        place = self.place(body)
        given = self.roles("from", fields, body, known=_FOLDED, needed=("kernel", "mean", "variance"))
        wanted = self.roles("to", fields, body, known=_FOLDED[:2], needed=_FOLDED[:2])
        if "epsilon" not in fields:
            self.complain(
                body, f"`{word}` without `epsilon`", expected="`epsilon: a number`, the batch normalization's"
            )
            return ()
        rules: list[Rule] = []
        with self.gathered():
            arguments = {key: self.value(fields[key][1]) for key in ("epsilon", "axis") if key in fields}
            axis = {"axis": arguments.pop("axis")} if "axis" in arguments else {}
            for target, operation, roles, more in (
                ("kernel", "fold_kernel", ("kernel", "gamma", "variance"), axis),
                ("bias", "fold_bias", ("bias", "gamma", "beta", "mean", "variance"), {}),
            ):
                there = {role: role in given for role in roles if role in ("bias", "gamma", "beta")}
                made = notation.from_data({operation: {**arguments, **there, **more}}, place)
                sources = tuple(given[role][1] for role in roles if role in given)
                if target in wanted:
                    node, pattern = wanted[target]
                    for source in sources:
                        self.check_captures(source, pattern, node)
                    rules.append(Rule("map", sources, pattern, (made,), why, place))
        return rules

    def roles(
        self, key: str, fields: dict[str, tuple[Any, Any]], body: Any, *, known: Sequence[str], needed: Sequence[str]
    ) -> dict[str, tuple[Any, Pattern]]:
        """The node and the pattern of each variable that a fold takes or makes, by what it is."""
        if key not in fields:
            self.complain(body, f"`fold_batch_norm` without `{key}`", expected=f"`{key}: {{kernel: a path, ...}}`")
            return {}
        given = self.mapping(fields[key][1], f"a path for each of {', '.join(needed)}")
        self.check_words(key, given, known)
        if given:
            for role in needed:
                if role not in given:
                    self.complain(fields[key][1], f"`{key}` without `{role}`", expected=f"`{role}: a path`")
        found = {role: (node, self.pattern(node, "map", key, body)) for role, (_, node) in given.items()}
        return {role: (node, pattern) for role, (node, pattern) in found.items() if pattern is not None}

    def vocab(self, fields: dict[str, tuple[Any, Any]], body: Any) -> Sequence[Rule]:
        """A rule for each variable that has the vocabulary along an axis."""
        self.check_words("vocab", fields, ("why", *_RULE_ARGUMENTS["vocab"]))
        why = self.text(fields["why"][1]) if "why" in fields else ""
        if "at" not in fields:
            self.complain(body, "`vocab` without `at`", expected="`at: [{from: a path, axis: 0}, ...]`")
            return ()
        entries = self.sequence(fields["at"][1], "a list of variables, each with its axis")
        if not entries and fields["at"][1].id == "sequence":
            self.complain(fields["at"][1], "an empty list", expected="a variable with its axis, or several")
        with self.gathered():
            given = {key: self.value(node) for key, (_, node) in fields.items() if key not in ("at", "why")}
            moved = notation.from_data({"vocab": {"axis": 0, **self.compared(given, body)}}, self.place(body))
            assert isinstance(moved, ops.Vocab)  # noqa: S101  # it has this name
            return [rule for node in entries for rule in self.vocab_entry(node, moved, why)]
        return ()

    def vocab_entry(self, node: Any, moved: ops.Vocab, why: str) -> Sequence[Rule]:
        fields = self.mapping(node, "a variable with its axis, e.g. `{from: a, axis: 0}`")
        self.check_words("at", fields, ("from", "to", "axis"))
        nodes = {key: value for key, (_, value) in fields.items()}
        sources = self.sources(nodes.get("from"), "vocab", node)
        targets = self.targets(nodes["to"], "vocab", sources, node) if "to" in nodes else sources
        axis = self.value(nodes["axis"]) if "axis" in nodes else None
        if not isinstance(axis, int) or isinstance(axis, bool):
            got = "nothing" if axis is None else repr(axis)
            self.complain(nodes.get("axis", node), "no axis", expected="`axis: an integer`", got=got)
            return ()
        operations = (replace(moved, axis=axis),)
        return [Rule("map", sources, target, operations, why, self.place(node)) for target in targets]

    def compared(self, arguments: dict[str, Any], node: Any) -> dict[str, Any]:
        """The arguments of `vocab` with what is in the files that they name.

        Raises:
            RuleError: The files cannot be used; `Problems` if several things are wrong.
        """
        if "kept" in arguments:  # as plans have it
            return arguments
        place = self.place(node)
        raise_all(
            "the vocabularies cannot be used",
            [
                RuleError(f"vocab: no `{side}`", place, expected=f"`{side}: a file with one token a line`")
                for side in ("source", "target")
                if not isinstance(arguments.get(side), str)
            ],
        )
        folder = FilePath(self.name).parent
        try:
            old, new, kept = compare_vocabularies(folder / arguments["source"], folder / arguments["target"])
        except (VocabularyError, Problems) as error:
            problems = error.problems if isinstance(error, Problems) else (error,)
            told = [
                RuleError(each.what, f"{place}, {each.where}", expected=each.expected, got=each.got, hint=each.hint)
                for each in problems
            ]
            raise_all("the vocabularies cannot be used", told)
        return {**arguments, "source": asdict(old), "target": asdict(new), "kept": kept}

    def sources(self, node: Any, word: str, body: Any) -> tuple[Pattern, ...]:
        """The patterns of `from`: a list for what joins several, else one."""
        if node is not None and node.id == "sequence" and word in ("map", "custom", *_JOINS):
            nodes = self.paths(node)
        elif node is not None and word in _JOINS:
            self.complain(node, "one source to join", expected="a list of paths", got=type_name(node))
            return ()
        else:
            nodes = [node]
        found = (self.pattern(each, word, "from", body) for each in nodes)
        return tuple(pattern for pattern in found if pattern is not None)

    def targets(self, node: Any, word: str, sources: Sequence[Pattern], body: Any) -> Sequence[Pattern | None]:
        """The patterns of `to`: a list for the parts of a split, or for several copies; else one."""
        if word in _SPLITS and node is not None and node.id != "sequence":
            self.complain(node, "one target to split to", expected="a list of paths", got=type_name(node))
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
                    return self.chains(own, body, count)
                case "split":
                    return [(part,) for part in self.parts(arguments, body, count)]
                case "unstack":
                    squeeze = notation.from_data({"squeeze": arguments}, self.place(body))
                    return [(part, squeeze) for part in self.parts(arguments, body, count)]
                case _:
                    return [(notation.from_data({word: arguments}, self.place(body)),)] * count
        return ()

    def chains(self, own: dict[str, tuple[Any, Any]], body: Any, count: int) -> Sequence[tuple[ops.Op, ...]]:
        """The operations that `map` lists, for each of so many targets."""
        if "ops" not in own:
            self.complain(body, "`map` without `ops`", expected="`ops: [...]`")
            return ()
        read: list[Sequence[ops.Op]] = []
        splits = 0
        for node in self.sequence(own["ops"][1], "a list of operations"):
            with self.gathered():
                value = self.value(node)
                match value:
                    case {"vocab": dict(arguments), **rest} if not rest:
                        value = {"vocab": self.compared(arguments, node)}
                    case {"split": dict(arguments), **rest} if not rest:
                        splits += 1
                        if splits > 1 or count < 2:
                            self.complain(node, "a split needs a list in `to`, and there is one for each part")
                        read.append(self.parts(arguments, node, count))
                        continue
                read.append([notation.from_data(value, self.place(node))] * count)
        return list(zip(*read, strict=True)) if read else [()] * count

    def parts(self, arguments: dict[Any, Any], node: Any, count: int) -> Sequence[ops.Op]:
        """The part of a split that each of so many targets gets."""
        whole = {} if "sizes" in arguments else {"parts": count}
        return [
            notation.from_data({"part": {"index": index, **whole, **arguments}}, self.place(node))
            for index in range(count)
        ]

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
