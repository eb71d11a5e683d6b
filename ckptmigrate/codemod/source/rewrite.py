"""Edits of source text, token by token: all else stays as it is, byte for byte.

A file that is edited is parsed with libcst, which keeps formatting, comments, quotes, line ends and encoding. Each edit
names one token by its place; a token that is not found there, or says something else, is an error, not a guess.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptmigrate.errors import OutputError, SourceError, raise_all

if TYPE_CHECKING:
    import libcst as cst


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """One token that gets another text.

    Attributes:
        line: Its line, from 1.
        column: Its first column, from 1, in characters.
        old: Its text.
        new: Its text after the edit.
    """

    line: int
    column: int
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A file with its edits.

    Attributes:
        path: Where it is.
        before: Its bytes as they are.
        after: Its bytes with the edits.
    """

    path: Path
    before: bytes
    after: bytes

    def diff(self) -> Iterator[str]:
        """The lines of a unified diff."""
        before, after = (data.decode(errors="replace").splitlines() for data in (self.before, self.after))
        return difflib.unified_diff(before, after, f"a/{self.path}", f"b/{self.path}", lineterm="")


def rewrite(path: Path, edits: Iterable[Edit], before: bytes | None = None) -> Rewritten:
    """A file with edits.

    Args:
        path: The file.
        edits: The edits.
        before: Its bytes, if they are not those on disk.

    Raises:
        SourceError: It cannot be read or parsed, or an edit does not fit.
    """
    before = path.read_bytes() if before is None else before
    wanted = sorted(set(edits))
    after = _edited(before, wanted, str(path))
    # Undoing the edits where they are now has to give the same bytes.
    if _edited(after, _undone(wanted), str(path)) != before:
        raise SourceError("an edit that cannot be undone", str(path), hint="Change this file by hand")
    return Rewritten(path, before, after)


def _undone(edits: Sequence[Edit]) -> list[Edit]:
    """The edits that take edits back: each token is as much further right as those before it in its line are longer."""
    found: list[Edit] = []
    shift, line = 0, 0
    for edit in edits:
        shift = shift if edit.line == line else 0
        line = edit.line
        found.append(Edit(line, edit.column + shift, edit.new, edit.old))
        # What is in a text of several lines is in its first.
        shift += len(edit.new) - len(edit.old)
    return found


def _edited(data: bytes, edits: Sequence[Edit], name: str) -> bytes:
    import libcst as cst
    from libcst.metadata import MetadataWrapper

    try:
        # An own copy is not needed: nothing else holds the tree.
        wrapper = MetadataWrapper(cst.parse_module(data), unsafe_skip_copy=True)
        if wrapper.module.bytes != data:
            raise SourceError("a file that would not keep its bytes", name, hint="Change this file by hand")
        pending = {(edit.line, edit.column - 1): edit for edit in edits}
        edited = wrapper.visit(_transformer(pending))
    except cst.ParserSyntaxError as error:
        raise SourceError("not Python that libcst can parse", name, got=error.message.split("\n")[0]) from error
    if pending:
        left = next(iter(pending.values()))
        raise SourceError(
            "an edit that finds no token", f"{name}:{left.line}", expected=f"`{left.old}`", hint="Change it by hand"
        )
    return edited.bytes


def _transformer(pending: dict[tuple[int, int], Edit]) -> cst.CSTTransformer:
    """What does the edits; done ones are taken out of `pending`."""
    import libcst as cst
    from libcst.metadata import PositionProvider

    class Transformer(cst.CSTTransformer):
        METADATA_DEPENDENCIES = (PositionProvider,)

        def take(self, node: cst.CSTNode, text: str) -> str:
            if not pending:
                return text
            start = self.get_metadata(PositionProvider, node).start
            edit = pending.get((start.line, start.column))
            if edit is None or edit.old != text:
                return text
            del pending[start.line, start.column]
            return edit.new

        def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:  # noqa: N802
            text = self.take(original_node, original_node.value)
            return updated_node if text == original_node.value else updated_node.with_changes(value=text)

        def leave_SimpleString(  # noqa: N802
            self, original_node: cst.SimpleString, updated_node: cst.SimpleString
        ) -> cst.SimpleString:
            text = self.take(original_node, original_node.value)
            return updated_node if text == original_node.value else updated_node.with_changes(value=text)

    return Transformer()


def check_writable(paths: Iterable[Path]) -> None:
    """Find every file that could not be replaced, before any is.

    Raises:
        OutputError: A file or its directory is read-only; `Problems` for several.
    """
    problems = []
    for path in paths:
        place = path.resolve()
        for each, what in ((place, "a read-only file"), (place.parent, "a directory that cannot be written to")):
            if not _is_writable(each):
                problems.append(OutputError(what, str(path), hint="Nothing was written. Make it writable first"))
                break
    raise_all("the source cannot be written", problems)


def _is_writable(path: Path) -> bool:
    # To root everything is writable; a file that says it is read-only is meant to be.
    return os.access(path, os.W_OK) and bool(path.stat().st_mode & 0o222)


def write_all(files: Iterable[Rewritten]) -> None:
    """Replace all files, or none.

    Raises:
        OutputError: One cannot be written, or changed meanwhile; those that were replaced have their old bytes again.
    """
    changed = [file for file in files if file.after != file.before]
    check_writable(file.path for file in changed)
    with ExitStack() as stack:
        partial: list[tuple[Rewritten, Path]] = []
        for file in changed:
            if file.path.read_bytes() != file.before:
                raise OutputError("the file has changed meanwhile", str(file.path), hint="Run it again")
            partial.append((file, _write_beside(file, stack)))
        done: list[Rewritten] = []
        for file, beside in partial:
            try:
                beside.replace(file.path.resolve())
            except OSError as error:
                for other in done:
                    other.path.resolve().write_bytes(other.before)
                raise OutputError("cannot be written", str(file.path), got=str(error.strerror)) from error
            done.append(file)


def undo_all(files: Iterable[Rewritten]) -> None:
    """Give files their old bytes again."""
    write_all(Rewritten(file.path, file.after, file.before) for file in files)


def _write_beside(file: Rewritten, stack: ExitStack) -> Path:
    place = file.path.resolve()
    try:
        handle, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
        beside = Path(name)

        def remove() -> None:
            with suppress(OSError):
                beside.unlink()

        stack.callback(remove)
        with os.fdopen(handle, "wb") as out:
            out.write(file.after)
        beside.chmod(place.stat().st_mode & 0o7777)
    except OSError as error:
        raise OutputError("cannot be written", str(file.path), got=str(error.strerror)) from error
    return beside


def overlay(files: Iterable[Rewritten]) -> Mapping[str, bytes]:
    """The new bytes of each file by its real path, for a process that shall run them before they are written."""
    found: dict[str, Any] = {str(file.path.resolve()): file.after for file in files}
    return found
