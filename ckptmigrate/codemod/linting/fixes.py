"""How calls that restore without proof are mended: as edits of their text, or the reason why a person has to."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ckptmigrate.codemod.linting.checkpoints import CHECKPOINTS, Source
from ckptmigrate.codemod.linting.edits import Edit, Text, import_ckptmigrate
from ckptmigrate.codemod.linting.restores import Restore

Way = Literal["restore", "assert"]
"""Mend by ``ckptmigrate.restore(checkpoint, path)``, or by an assertion on the status that TensorFlow returns."""


@dataclass(frozen=True, slots=True)
class Fix:
    """A way to mend a finding.

    Attributes:
        edits: What changes; empty if it is left to a person.
        says: What the edits do, or why there are none.
    """

    edits: tuple[Edit, ...]
    says: str


def by_hand(why: str) -> Fix:
    """Nothing is edited."""
    return Fix((), why)


def prove_restore(text: Text, restore: Restore, way: Way, *, may_be_none: bool) -> Fix:
    """Mend a call whose status is not asked, or told to say nothing."""
    if restore.kind is None:
        return by_hand("what it is called on is not proven to be a tf.train.Checkpoint")
    if restore.kind not in CHECKPOINTS:
        return by_hand("it returns no status; restore `manager.checkpoint` from `manager.latest_checkpoint` instead")
    if may_be_none:
        return by_hand("the path may be None, for which an edit would make it raise: decide what happens then")
    if way == "assert":
        if restore.status == "partial":
            # It stands where the status is told to say nothing; both is what TensorFlow advises.
            at = text.end(restore.telling[-1])
            return Fix((Edit(at, at, ".assert_existing_objects_matched()"),), "asserts that what exists is restored")
        at = text.end(restore.call)
        return Fix((Edit(at, at, ".assert_consumed()"),), "asserts that all was restored")
    why = _why_not_ours(text, restore)
    ours = import_ckptmigrate(text)
    if why:
        return by_hand(why)
    if ours is None:
        return by_hand("`ckptmigrate` is the name of something else in this file")
    name, imported = ours
    return _call_ours(text, restore, name, imported)


def _why_not_ours(text: Text, restore: Restore) -> str:
    """Why `ckptmigrate.restore` cannot take the place of a call; nothing if it can."""
    call = restore.call
    arguments: Sequence[ast.expr | ast.keyword] = [*call.args, *call.keywords]
    dropped = text.source[text.start(call) : text.start(restore.receiver)]
    dropped += text.source[text.end(restore.receiver) : text.end(call.func)]
    if restore.kind != "Checkpoint":
        return "`ckptmigrate.restore` takes no checkpoint of TensorFlow 1; `--fix-with assert` asserts"
    if "disable_eager_execution(" in text.source or "disable_v2_behavior(" in text.source:
        return "`ckptmigrate.restore` needs eager execution, which is switched off; `--fix-with assert` asserts"
    if restore.name is not None and restore.telling:
        return "the status is kept in a variable that is used"
    if any(_name_of(each) != "expect_partial" for each in restore.telling):
        return "the status runs in a session"
    if text.of(restore.receiver).startswith("super("):
        return "it is the restore of a class of its own"
    if len(arguments) != 1 or isinstance(arguments[0], ast.Starred) or getattr(arguments[0], "arg", "") is None:
        return "`ckptmigrate.restore` takes a path and no options; `--fix-with assert` asserts"
    if "#" in dropped or "#" in text.source[text.end(call) : text.end(restore.outer)]:
        return "a comment stands where it would be edited"
    return ""


def _call_ours(text: Text, restore: Restore, name: str, imported: tuple[Edit, ...]) -> Fix:
    call = restore.call
    called_end = text.end(call.func)
    first = text.after_blank(text.source.index("(", called_end) + 1)
    edits = [
        *imported,
        Edit(text.start(call), called_end, f"{name}.restore"),
        Edit(first, first, f"{text.of(restore.receiver)}, "),
    ]
    argument: ast.expr | ast.keyword = call.args[0] if call.args else call.keywords[0]
    if isinstance(argument, ast.keyword) and argument.arg is not None:
        start = text.start(argument)
        edits.append(Edit(start, start + len(argument.arg), "path"))
    if restore.status == "partial":
        last = _end_of_argument(text, text.end(argument), text.end(call) - 1)
        edits.append(Edit(last, last, ", expect_partial=True"))
        edits.append(Edit(text.end(call), text.end(restore.outer), ""))
        return Fix(tuple(edits), "proves that all the model has is restored")
    return Fix(tuple(edits), "proves that all is restored")


def _name_of(call: ast.Call) -> str | None:
    return call.func.attr if isinstance(call.func, ast.Attribute) else None


def _end_of_argument(text: Text, end: int, closing: int) -> int:
    """Where an argument ends with the parentheses around it."""
    position = end
    while (position := text.after_blank(position)) < closing and text.source[position] in "),":
        position += 1
        if text.source[position - 1] == ")":
            end = position
    return end


def use_saved_path(source: Source, text: Text, saved: ast.Call, path: ast.expr) -> Fix:
    """Restore the path that ``save`` returns.

    Args:
        source: The module.
        text: Its text.
        saved: The call of ``save``.
        path: The argument of ``restore``.
    """
    statement = source.statement(saved)
    function = source.function(saved)
    if function is not source.function(path) or not _same_block(source, statement, path):
        return by_hand("`save` may not have run before it")
    start, end = text.start(path), text.end(path)
    match statement:
        case ast.Expr(value=value) if value is saved:
            taken = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
            name = next((each for each in ("save_path", "saved_path", "saved_checkpoint") if each not in taken), None)
            if name is None:
                return by_hand("no name is free for the path")
            at = text.start(statement)
            return Fix((Edit(at, at, f"{name} = "), Edit(start, end, name)), "restores the path that `save` returns")
        case ast.Assign(targets=[ast.Name(id=name) as target], value=value) if value is saved:
            stores = [node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id == name]
            if all(node is target or isinstance(node.ctx, ast.Load) for node in stores):
                return Fix((Edit(start, end, name),), "restores the path that `save` returns")
    return by_hand("what `save` returns is not kept where it can be used")


def _same_block(source: Source, statement: ast.stmt, node: ast.AST) -> bool:
    """Whether a node is in the list of statements that another stands in, below one that follows it."""
    parent = source.parents[statement]
    for name in ("body", "orelse", "finalbody"):
        block = getattr(parent, name, None)
        if isinstance(block, list) and statement in block:
            later = block[block.index(statement) + 1 :]
            return any(each in later for each in (source.statement(node), *source.ancestors(node)))
    return False
