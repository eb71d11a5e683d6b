"""Edits of a source file as spans of its text: what they do not cover stays as it is, to the byte.

Calls are mended without a concrete syntax tree: `ast` says where a call and its parts begin and end, so what is edited
is known to the character, and the bytes around it are those of the file.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ckptmigrate.codemod.source.project import Module
from ckptmigrate.codemod.source.rewrite import Rewritten
from ckptmigrate.errors import SourceError

_LINE_END = re.compile(r"\r\n|\r|\n")
_BLANK = re.compile(r"(?:\s|\\\r?\n|#[^\r\n]*)*")
"""Space, continued lines and comments."""


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """Characters from `start` up to `end` of a file become `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Text:
    """The text of a module, by the places that its nodes have."""

    module: Module

    @property
    def source(self) -> str:
        return self.module.source

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(found.end() for found in _LINE_END.finditer(self.source))]

    def offset(self, line: int, column_bytes: int) -> int:
        """Where a line and a column, as `ast` counts them, is in the text."""
        start = self._starts[line - 1]
        end = self._starts[line] if line < len(self._starts) else len(self.source)
        text = self.source[start:end]
        return start + (column_bytes if text.isascii() else len(text.encode()[:column_bytes].decode(errors="ignore")))

    def position(self, offset: int) -> tuple[int, int]:
        """The line and the column of an offset, both from 1, as editors count."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def start(self, node: ast.stmt | ast.expr | ast.keyword) -> int:
        """Where a node begins."""
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: ast.stmt | ast.expr | ast.keyword) -> int:
        """Where a node ends."""
        return self.offset(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)

    def of(self, node: ast.stmt | ast.expr) -> str:
        """A node as it is written."""
        return self.source[self.start(node) : self.end(node)]

    def line(self, number: int) -> str:
        """A line, from 1, with its end."""
        end = self._starts[number] if number < len(self._starts) else len(self.source)
        return self.source[self._starts[number - 1] : end]

    def after_blank(self, offset: int) -> int:
        """The first place at or after an offset that is neither space nor comment."""
        found = _BLANK.match(self.source, offset)
        return found.end() if found else offset

    @cached_property
    def newline(self) -> str:
        """How lines end."""
        found = _LINE_END.search(self.source)
        return found[0] if found else "\n"


def apply_edits(source: str, edits: Iterable[Edit]) -> str:
    """The text with edits made. The same edit twice is one; of two that overlap, the second is a mistake of ours."""
    parts: list[str] = []
    position = 0
    for edit in sorted(set(edits)):
        assert edit.start >= position, edit  # noqa: S101 # the fixes of one call cover different parts of it
        parts += [source[position : edit.start], edit.text]
        position = edit.end
    return "".join([*parts, source[position:]])


def import_ckptmigrate(text: Text) -> tuple[str, tuple[Edit, ...]] | None:
    """What ckptmigrate is called in a module, with the edit that imports it there; None if the name is another's."""
    body = text.module.tree.body
    for each in body:
        for alias in each.names if isinstance(each, ast.Import) else ():
            if alias.name == "ckptmigrate":
                return alias.asname or alias.name, ()
    if _is_taken(text.module.tree, "ckptmigrate"):
        return None
    statement, is_before = _place_of_import(body)
    line = f"import ckptmigrate{text.newline}"
    if statement is None:
        return "ckptmigrate", (Edit(0, 0, line),)
    # Statements that share a line stay together.
    number = statement.lineno if is_before else (statement.end_lineno or statement.lineno) + 1
    at = text.offset(number, 0) if number <= text.position(len(text.source))[0] else len(text.source)
    if at == len(text.source) and not text.source.endswith(("\n", "\r")):
        line = text.newline + line
    return "ckptmigrate", (Edit(at, at, line),)


def _place_of_import(body: list[ast.stmt]) -> tuple[ast.stmt | None, bool]:
    """The statement that an import of ours stands next to, and whether before it."""
    imports = [each for each in body if isinstance(each, ast.Import | ast.ImportFrom) and not _is_future(each)]
    if not imports:
        head = [each for each in body if _is_future(each) or _is_docstring(each, body)]
        return (head[-1], False) if head else (body[0] if body else None, True)
    blocks: list[list[ast.Import | ast.ImportFrom]] = []
    for each in imports:
        near = blocks and body.index(each) == body.index(blocks[-1][-1]) + 1
        if near and each.lineno <= (blocks[-1][-1].end_lineno or 0) + 1:
            blocks[-1].append(each)
        else:
            blocks.append([each])
    block = next((each for each in blocks if any(_is_framework(one) for one in each)), blocks[-1])
    others = [each for each in block if _top_name(each) not in sys.stdlib_module_names]
    plain = [each for each in others if isinstance(each, ast.Import)]
    later = [each for each in plain if _top_name(each) > "ckptmigrate"]
    if later:
        return later[0], True
    if plain:
        return plain[-1], False
    return (others[0], True) if others else (block[-1], False)


def _top_name(node: ast.Import | ast.ImportFrom) -> str:
    name = node.names[0].name if isinstance(node, ast.Import) else "." * node.level + (node.module or "")
    return name.partition(".")[0]


def _is_framework(node: ast.Import | ast.ImportFrom) -> bool:
    return _top_name(node) in ("tensorflow", "keras", "tf_keras")


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _is_docstring(node: ast.stmt, body: list[ast.stmt]) -> bool:
    return node is body[0] and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_taken(tree: ast.Module, name: str) -> bool:
    """Whether a name is used in a module at all."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=used) | ast.arg(arg=used) | ast.FunctionDef(name=used) | ast.ClassDef(name=used):
                if used == name:
                    return True
            case ast.alias():
                if (node.asname or node.name.partition(".")[0]) == name:
                    return True
    return False


def edit_module(module: Module, edits: Iterable[Edit]) -> Rewritten:
    """A module with edits.

    Raises:
        SourceError: What comes out is no Python, or the file has changed meanwhile.
    """
    before = module.path.read_bytes()
    encoding, _ = tokenize.detect_encoding(io.BytesIO(before).readline)
    if before != module.source.encode(encoding):
        raise SourceError("the file has changed meanwhile", str(module.path), hint="Run it again")
    after = apply_edits(module.source, edits)
    try:
        ast.parse(after)
    except SyntaxError as error:
        place = f"{module.path}:{error.lineno}"
        raise SourceError("an edit that would break the file", place, hint="Mend it by hand") from error
    return Rewritten(module.path, before, after.encode(encoding))
