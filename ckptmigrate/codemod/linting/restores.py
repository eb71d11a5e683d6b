"""The calls in source that restore a checkpoint, and what becomes of the status that each returns.

TensorFlow's ``restore`` returns before anyone knows whether it did anything. Only an ``assert_*`` method of its status
says so; a status that is dropped says nothing, but for warnings when it is deleted.

Source: ``CheckpointLoadStatus`` and ``InitializationOnlyStatus`` in tensorflow/python/checkpoint/checkpoint.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ckptmigrate.codemod.linting.checkpoints import CHECKPOINTS, Source
from ckptmigrate.codemod.source.project import dotted_name

STRONG = frozenset({"assert_consumed"})
WEAK = frozenset({"assert_existing_objects_matched", "assert_nontrivial_match"})
_IN_SESSIONS = frozenset({"initialize_or_restore", "run_restore_ops"})
_OF_STATUS = STRONG | WEAK | _IN_SESSIONS | {"expect_partial"}
_RETURN_IT = STRONG | WEAK | {"expect_partial"}
"""Methods of a status that return it."""

_SAYS_CHECKPOINT = re.compile(r"(^|_)(ckpt|checkpoint|ckpoint|chkpt)\d*(_?(obj|object|v\d))?$", re.IGNORECASE)
"""Names of what is likely to be a checkpoint: ``ckpt``, ``self._checkpoint``, ``model_ckpt``; not ``ckpt_path``."""

_FRAMEWORKS = ("tensorflow", "tf_keras", "keras", "sonnet")

Status = Literal["unchecked", "partial", "weak", "checked", "escapes"]


@dataclass(frozen=True, eq=False)
class Restore:
    """A call that restores.

    Attributes:
        call: The call of ``restore``, ``read``, ``load_weights`` or ``restore_or_initialize``.
        method: Which of them.
        receiver: What it is a method of.
        kind: What the receiver is proven to be: one of `CHECKPOINTS`, ``CheckpointManager``; None if it is not proven.
        outer: The call with the status's methods that are called on it directly.
        status: ``unchecked``: nothing asks it. ``partial``: it is told to say nothing. ``weak``: only the weaker
            assertions are asked. ``checked``: the strongest is. ``escapes``: others may ask it.
        telling: The calls of the status's methods.
        name: The variable that holds the status.
        is_seen: Whether a checkpoint is among what the receiver may be.
    """

    call: ast.Call
    method: str
    receiver: ast.expr
    kind: str | None
    outer: ast.Call
    status: Status
    telling: tuple[ast.Call, ...]
    name: str | None = None
    is_seen: bool = False

    @property
    def path(self) -> ast.expr | None:
        """The argument that says which checkpoint."""
        return argument(self.call, "save_path" if self.method in ("restore", "read") else "filepath")


def argument(call: ast.Call, keyword: str, position: int = 0) -> ast.expr | None:
    """An argument of a call, by its keyword or its position."""
    named = next((each.value for each in call.keywords if each.arg == keyword), None)
    if named is not None:
        return named
    before = call.args[: position + 1]
    if len(before) <= position or any(isinstance(each, ast.Starred) for each in before):
        return None
    return call.args[position]


def find_restores(source: Source) -> Iterator[Restore]:
    """The calls of a module that restore a checkpoint, with proof or by their receiver's name."""
    has_framework = any(each.startswith(_FRAMEWORKS) for each in source.module.imports.values())
    for call in source.calls:
        if not isinstance(call.func, ast.Attribute):
            continue
        method, receiver = call.func.attr, call.func.value
        if method in ("restore", "read", "load_weights"):
            outer, telling, name, escapes = _follow(source, call)
            asked = {each.func.attr for each in telling if isinstance(each.func, ast.Attribute)}
            type_name = source.type_of(receiver, method)
            kind = type_name if type_name in CHECKPOINTS else None
            is_seen = method != "load_weights" and source.may_be_checkpoint(receiver, method)
            status = _status(asked, escapes=escapes)
            found = Restore(call, method, receiver, kind, outer, status, telling, name, is_seen=is_seen)
            if is_seen or asked & _OF_STATUS:
                yield found
            elif method == "load_weights":
                # It returns a status for a checkpoint, and nothing for other files.
                if find_latest(source, found) is not None:
                    yield found
            # What is no checkpoint may return a value; that is what it is called for.
            elif type_name is None and name is None and has_framework and _is_likely(source, call):
                yield found
        elif method == "restore_or_initialize" and not call.args:
            kind = source.type_of(receiver)
            if kind == "CheckpointManager":
                yield Restore(call, method, receiver, kind, call, "unchecked", ())


def _is_likely(source: Source, call: ast.Call) -> bool:
    """Whether the name of a receiver or the argument says that it is a checkpoint."""
    assert isinstance(call.func, ast.Attribute)  # noqa: S101 # as its caller has seen
    # `saver.restore(session, path)` has two.
    if len(call.args) + len(call.keywords) != 1:
        return False
    last = (dotted_name(call.func.value) or "").rpartition(".")[2]
    path = argument(call, "save_path")
    return bool(_SAYS_CHECKPOINT.search(last)) or (path is not None and _is_latest(source, path))


@dataclass(frozen=True, slots=True)
class Latest:
    """That a path is None where there is no checkpoint.

    Attributes:
        origin: Where it is from.
        is_looked_at: Whether anything in the function looks whether it is None.
        is_excluded: Whether it is not None wherever the restore runs.
    """

    origin: ast.expr
    is_looked_at: bool
    is_excluded: bool


def find_latest(source: Source, restore: Restore) -> Latest | None:
    """Whether a restore's path is a latest checkpoint, which may be None."""
    path = restore.path
    if path is None:
        return None
    function = source.function(path)
    origin, since = path, 0
    if isinstance(path, ast.Name):
        given = [each.node for each in source.bindings(path) if isinstance(each.node, ast.expr)]
        # What it is bound to last before it is used; in a loop that may be what is below.
        before = [each for each in given if each.lineno <= path.lineno]
        origin = max(before or given, key=lambda each: each.lineno, default=path)
        since = origin.lineno if source.function(origin) is function else 0
    if not _is_latest(source, origin):
        return None
    written = {ast.dump(path), ast.dump(origin)}
    looks = [
        each
        for each in ast.walk(function)
        if isinstance(each, ast.If | ast.IfExp | ast.While | ast.Assert)
        and each.lineno >= since
        and any(isinstance(part, ast.expr) and ast.dump(part) in written for part in ast.walk(each.test))
    ]
    above = set(source.ancestors(restore.call))
    is_excluded = any(
        each in above or (each.lineno < path.lineno and (isinstance(each, ast.Assert) or _leaves(each)))
        for each in looks
    )
    return Latest(origin, bool(looks), is_excluded)


def _is_latest(source: Source, node: ast.expr) -> bool:
    match node:
        case ast.Call(func=function):
            return source.tensorflow(function) == "latest_checkpoint"
        case ast.Attribute(value=value, attr="latest_checkpoint"):
            return source.type_of(value) in (None, "CheckpointManager")
    return False


def _leaves(node: ast.AST) -> bool:
    """Whether a condition ends by leaving what it is in."""
    leaving = ast.Return | ast.Raise | ast.Continue | ast.Break
    return isinstance(node, ast.If) and isinstance(node.body[-1], leaving)


def _status(asked: set[str], *, escapes: bool) -> Status:
    if asked & STRONG:
        return "checked"
    if escapes:
        return "escapes"
    if asked & WEAK:
        return "weak"
    return "partial" if "expect_partial" in asked else "unchecked"


def _follow(source: Source, call: ast.Call) -> tuple[ast.Call, tuple[ast.Call, ...], str | None, bool]:
    """What becomes of a call's result.

    Returns:
        The call with the methods called on it directly, the calls of methods on it, the variable that holds it, and
        whether it gets out of sight.
    """
    outer, chain, alive = _chain(source, call)
    parent = source.parents.get(outer)
    if _is_expected_to_raise(source, outer):
        return outer, chain, None, True
    match parent:
        case ast.Expr():
            return outer, chain, None, False
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if alive:
            found, escapes = _uses(source, source.function(outer), name)
            return outer, (*chain, *found), name, escapes
    return outer, chain, None, alive


def _chain(source: Source, node: ast.expr) -> tuple[ast.Call, tuple[ast.Call, ...], bool]:
    """The methods of a status that are called on an expression, and whether the last of them returns it again."""
    found: list[ast.Call] = []
    while True:
        attribute = source.parents.get(node)
        call = source.parents.get(attribute) if isinstance(attribute, ast.Attribute) else None
        if not (isinstance(call, ast.Call) and isinstance(attribute, ast.Attribute) and call.func is attribute):
            break
        if attribute.attr not in _OF_STATUS:
            break
        found.append(call)
        node = call
        if attribute.attr not in _RETURN_IT:
            return call, tuple(found), False
    return node, tuple(found), True  # type: ignore[return-value]  # a call from the first step on


def _uses(source: Source, function: ast.AST, name: str) -> tuple[tuple[ast.Call, ...], bool]:
    """The methods of a status that are called on a variable, and whether it is used in any other way."""
    found: list[ast.Call] = []
    escapes = False
    for node in ast.walk(function):
        if isinstance(node, ast.Global | ast.Nonlocal) and name in node.names:
            escapes = True
        if not (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)):
            continue
        outer, chain, alive = _chain(source, node)
        found += chain
        if not chain or (alive and not isinstance(source.parents.get(outer), ast.Expr)):
            escapes = True
    return tuple(found), escapes


def _is_expected_to_raise(source: Source, node: ast.AST) -> bool:
    for each in source.ancestors(node):
        if isinstance(each, ast.With | ast.AsyncWith):
            for item in each.items:
                context = item.context_expr
                called = context.func if isinstance(context, ast.Call) else context
                if "raises" in (dotted_name(called) or "").lower():
                    return True
        elif isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            return False
    return False
