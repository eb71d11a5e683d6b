"""Where in a project a rename would have to change something: what is proven, and what a person has to look at."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ckptmigrate.codemod.source.project import Module, Place, Project
from ckptmigrate.codemod.source.rewrite import Edit


@dataclass(frozen=True, slots=True)
class Site:
    """A place that a rename concerns and that is not edited.

    Attributes:
        place: Where.
        kind: What it is, e.g. ``untyped``, ``computed``, ``config``.
        why: Why it is not edited.
        what_to_do: What a person does about it.
        text: The line.
        is_unsafe: Whether the program may break there; what only reads oddly afterwards is a note.
    """

    place: Place
    kind: str
    why: str
    what_to_do: str
    text: str
    is_unsafe: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """An edit of a file."""

    path: Path
    edit: Edit


Found = Change | Site

_LOOK = "look whether it is this one, and change it by hand"

REASONS: dict[str, tuple[str, str]] = {
    "untyped": (
        "nothing proves what class the value is of",
        "annotate the value, or change it by hand if it is this class",
    ),
    "several": ("the value may be of several classes", "change it by hand if they all have the new name"),
    "base": (
        "the value may be any object of a base class",
        "test it with isinstance first, or change it by hand",
    ),
    "mock": ("a mock has any attribute, so no error would tell", "change it by hand if it stands for this class"),
    "computed": ("the name is computed and may be this one", "change what computes it, or the name it is given"),
    "loop": ("the name comes from a list of names", "change the name in the list if it is this one"),
    "forwarding": ("attributes are found by code here", "see that it finds the new name"),
    "dictionary": ("attributes are read as a dictionary here", "see that nothing looks for the old name in it"),
    "literal": ("a text that is the name", "change it if it names the attribute or a key of the checkpoint"),
    "key": ("a text that looks like a key of the checkpoint", "change it if it is one"),
    "regex": ("a pattern that has the name in it", "change it if it is matched with names or keys"),
    "get_layer": (
        "layers are found by their name, which may follow the attribute",
        "change it if the layer's name does",
    ),
    "keyword": ("the name is an argument of what may stand for this class", "change it by hand if it does"),
    "config": ("a configuration has the name", "change it if it means the attribute or a key"),
    "notebook": ("notebooks are not edited", "change it in the notebook"),
    "outside": ("it is outside the paths that are changed", "name this path too, or change it by hand"),
    "unplaced": ("the name is written in a form that is not edited", "change it by hand"),
    "protocol": (
        "objects of the class may pass for this one, which has the attribute too",
        "change it by hand if they do, and what else passes for it",
    ),
    "bases": ("a base of the class is outside the paths", "see that it neither has the new name nor uses the old one"),
    "docs": ("documentation has the name", "change it if it means this one"),
    "layer_name": ("the name of a layer, which does not follow the attribute", "rename it with --name if it shall"),
    "parameter": ("an argument of the constructor, which keeps its name", "nothing, as long as the argument stays"),
    "registered": ("the class is registered under its name", "saved configurations have the old name: register it too"),
    "mangled": ("Python makes the class's name a part of this one", "give it another name first"),
    "default_name": (
        "layers without a name are named after their class: full names and .h5 paths move, and object paths do not",
        "nothing, if only object-based checkpoints are read",
    ),
    "unread": ("the file cannot be parsed", "mend it, or change it by hand"),
    "star": ("everything is imported from the module", "import the class by its name"),
}
"""Why a kind of site is not edited, and what to do."""

_NOTES = frozenset({"docs", "layer_name", "parameter", "registered", "default_name"})


def site(module: Module, node: ast.AST, kind: str, *, why: str = "") -> Site:
    """A site at a node."""
    return site_at(module.place(node), kind, module.line(getattr(node, "lineno", 1)), why=why)


def site_at(place: Place, kind: str, text: str, *, why: str = "") -> Site:
    """A site at a place."""
    reason, what_to_do = REASONS[kind]
    return Site(place, kind, why or reason, what_to_do, text.strip()[:200], kind not in _NOTES)


# Tokens


def name_at_end(module: Module, node: ast.expr, old: str, new: str) -> Found:
    """The edit of the name that an attribute ends with."""
    line, offset = node.end_lineno or 1, node.end_col_offset or 0
    column = module.column(line, offset) - len(old)
    return change(module, line, column, old, new) or site(module, node, "unplaced")


def change(module: Module, line: int, column: int, old: str, new: str) -> Change | None:
    """The edit of a token; None if another one stands there."""
    if column < 1 or not module.line(line)[column - 1 :].startswith(old):
        return None
    return Change(module.path, Edit(line, column, old, new))


def definition_name(module: Module, node: ast.AST, old: str, new: str) -> Found:
    """The edit of the name of a function or class where it is defined."""
    line = getattr(node, "lineno", 1)
    start = module.column(line, getattr(node, "col_offset", 0)) - 1
    found = re.compile(r"(?:async\s+)?(?:def|class)\s+").match(module.line(line), start)
    made = change(module, line, found.end() + 1, old, new) if found else None
    return made or site(module, node, "unplaced")


def keyword_name(module: Module, node: ast.keyword, old: str, new: str) -> Found:
    """The edit of the name of an argument."""
    made = change(module, node.lineno, module.column(node.lineno, node.col_offset), old, new)
    return made or site(module, node, "unplaced")


def pattern_keyword(module: Module, pattern: ast.pattern, old: str, new: str) -> Found:
    """The edit of ``old`` in ``case C(old=pattern)``."""
    column = module.column(pattern.lineno, pattern.col_offset) - 1
    found = re.search(rf"{re.escape(old)}(?=\s*=\s*$)", module.line(pattern.lineno)[:column])
    made = change(module, pattern.lineno, found.start() + 1, old, new) if found else None
    return made or site(module, pattern, "unplaced")


def text_token(module: Module, node: ast.Constant, old: str, new: str) -> Found:
    """The edit of a text that is a name, in its own quotes."""
    line = node.lineno
    column = module.column(line, node.col_offset)
    found = re.compile(r"[A-Za-z]{0,2}('''|\"\"\"|'|\")").match(module.line(line), column - 1)
    if found and node.end_lineno == line:
        end = module.column(line, node.end_col_offset or 0) - 1
        token = module.line(line)[column - 1 : end]
        quote = found[1]
        prefix = found[0].removesuffix(quote)
        if token == f"{prefix}{quote}{old}{quote}":
            made = change(module, line, column, token, f"{prefix}{quote}{new}{quote}")
            if made:
                return made
    return site(module, node, "unplaced")


# Texts

_REGEX = re.compile(r"[\\^$*+?\[\]|]")


def kind_of_text(text: str, name: str) -> str | None:
    """What a text with a name in it looks like; None if it is prose, or has it only in another word."""
    if text == name:
        return "literal"
    if not re.search(rf"(?<![A-Za-z0-9_-]){re.escape(name)}(?![A-Za-z0-9_-])", text):
        return None
    if re.search(r"\s", text.strip()) and "/" not in text and "\\" not in text:
        # Words in a sentence, but for code in it.
        return "key" if re.search(rf"\.{re.escape(name)}(?![A-Za-z0-9_])", text) and "(" in text else None
    if _REGEX.search(text):
        return "regex"
    return "key" if re.search(r"[/.:]", text) else "literal"


def docstrings(tree: ast.Module) -> set[ast.AST]:
    """The texts that document something."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                # Attributes have theirs below them.
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    found.add(statement.value)
    return found


def documented(module: Module, node: ast.Constant, name: str) -> Iterator[Site]:
    """Where documentation has a name."""
    for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
        column = _word_in(module.line(number), name)
        if column is not None:
            yield site_at(Place(str(module.path), number, column), "docs", module.line(number))


def comments(module: Module, name: str) -> Iterator[Site]:
    """Where a comment has a name."""
    import io
    import tokenize

    if not re.search(rf"#.*\b{re.escape(name)}\b", module.source):
        return
    for token in tokenize.generate_tokens(io.StringIO(module.source).readline):
        column = _word_in(token.string, name) if token.type == tokenize.COMMENT else None
        if column is not None:
            line, before = token.start
            yield site_at(Place(str(module.path), line, before + column), "docs", token.line)


_OURS = re.compile(r"^(?:rules|code):[ \[]*$|\"schema\": ?\"ckptmigrate\.", re.MULTILINE)
"""A rule file, a plan or a receipt says what was called so once, and goes on saying it."""


def texts_with(project: Project, name: str) -> Iterator[Site]:
    """Where configurations and notebooks have a name."""
    for path in project.texts:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if name not in text or _OURS.search(text):
            continue
        kind = "notebook" if path.suffix == ".ipynb" else "config"
        for number, line in enumerate(text.split("\n"), 1):
            column = _word_in(line, name)
            if column is not None:
                yield site_at(Place(str(path), number, column), kind, line)


def _word_in(line: str, name: str) -> int | None:
    found = re.search(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])", line)
    return None if found is None else found.start() + 1
