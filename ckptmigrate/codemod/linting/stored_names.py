"""The names of a checkpoint that stand in source as literals, and what a migration's rules make of them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from ckptmigrate.codemod.linting.checkpoints import CHECKPOINTS, Source
from ckptmigrate.codemod.linting.restores import argument
from ckptmigrate.rules import Rule
from ckptmigrate.spec import OBJECT_GRAPH_KEY, Path, Pattern, Segment, escape_segment, unescape_segment

_MAPS = frozenset({"init_from_checkpoint", "assign_from_checkpoint"})
_READS_ONE = frozenset({"load_variable"})
_OF_READER = frozenset({"get_tensor", "has_tensor"})

_ATTRIBUTES = "/.ATTRIBUTES/"
"""What stands between an object's path and the name of its value in a key.

Source: ``OBJECT_ATTRIBUTES_NAME`` in tensorflow/python/trackable/trackable_utils.py.
"""

_NOT_NAMES = frozenset({"", OBJECT_GRAPH_KEY})

_BELOW = "\0"
"""Stands for whatever is below a scope."""


@dataclass(frozen=True, eq=False)
class StoredName:
    """A literal that names something in a checkpoint.

    Attributes:
        node: The literal, or the keyword of ``tf.train.Checkpoint``.
        text: The name.
        where: ``map``: a key of an assignment map. ``read``: read by its name. ``keyword``: a keyword of a checkpoint,
            which is the first part of all names below it.
        is_scope: It stands for all names that begin with it.
    """

    node: ast.expr | ast.keyword
    text: str
    where: Literal["map", "read", "keyword"]
    is_scope: bool = False


def find_stored_names(source: Source) -> Iterator[StoredName]:
    """The literals of a module that are names in a checkpoint."""
    for call in source.calls:
        called = source.tensorflow(call.func)
        if called in _MAPS:
            mapping = argument(call, "assignment_map", 1)
            for key in _keys(source, mapping):
                yield from _literal(key, "map")
        elif called in _READS_ONE:
            yield from _literal(argument(call, "name", 1), "read")
        elif isinstance(call.func, ast.Attribute) and call.func.attr in _OF_READER:
            if source.type_of(call.func.value) == "CheckpointReader":
                yield from _literal(argument(call, "tensor_str"), "read")
        elif called in CHECKPOINTS:
            for keyword in call.keywords:
                if keyword.arg not in (None, "root"):
                    yield StoredName(keyword, str(keyword.arg), "keyword", is_scope=True)


def _keys(source: Source, mapping: ast.expr | None) -> Iterator[ast.expr]:
    """The keys of a map that is written out, there or where its variable is bound."""
    if isinstance(mapping, ast.Name):
        bindings = source.bindings(mapping)
        node = bindings[0].node if len(bindings) == 1 else None
        mapping = node if isinstance(node, ast.expr) else None
    match mapping:
        case ast.Dict(keys=keys):
            yield from (key for key in keys if key is not None)
        case ast.DictComp(key=key):
            yield key


def _literal(node: ast.expr | None, where: Literal["map", "read"]) -> Iterator[StoredName]:
    # `"/"` is the whole checkpoint, and its graph has the same name in all.
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.strip("/") not in _NOT_NAMES:
        yield StoredName(node, node.value, where, is_scope=where == "map" and node.value.endswith("/"))


def renamed(rules: Iterable[Rule], name: StoredName) -> str | None:
    """What a stored name is after a migration: another name, ``""`` if it is dropped, None if no rule speaks of it."""
    text, attribute, role = name.text.partition(_ATTRIBUTES)
    is_object = bool(attribute)
    path: Path = tuple(text.strip("/").split("/"))
    if is_object:
        path = tuple(map(unescape_segment, path))
    if name.is_scope:
        path = (*path, _BELOW)
    for rule in rules:
        for pattern in rule.sources:
            if name.is_scope and pattern.chunks[-1]:
                continue  # it speaks of a part of what is below
            if rule.target is None:
                if rule.kind == "drop" and _lead(pattern, pattern, path) is not None:
                    return ""
                continue
            # Of several sources that are joined, each is named otherwise afterwards.
            found = _lead(pattern, rule.target, path)
            if found is not None and found != path:
                labels = found[:-1] if name.is_scope else found
                new = "/".join(map(escape_segment, labels) if is_object else labels)
                return new + (attribute + role if is_object else "/" if name.text.endswith("/") else "")
    return None


def _lead(source: Pattern, target: Pattern, path: Path) -> Path | None:
    """Where a rule leads a path. Both patterns have as many ``**``."""
    if len(source.chunks) != len(target.chunks):
        return None

    def step(number: int, start: int, captures: dict[str, str]) -> Path | None:
        chunk, filled = source.chunks[number], target.chunks[number]
        captured = _captured(chunk, path[start : start + len(chunk)], captures)
        if captured is None:
            return None
        labels = [segment.fill(captured) for segment in filled]
        if None in labels:
            return None
        head = tuple(label for label in labels if label is not None)
        end = start + len(chunk)
        if number == len(source.chunks) - 1:
            return head if end == len(path) else None
        for following in range(end, len(path) + 1):
            tail = step(number + 1, following, captured)
            if tail is not None:
                return (*head, *path[end:following], *tail)
        return None

    return step(0, 0, {})


def _captured(segments: tuple[Segment, ...], labels: Path, captures: dict[str, str]) -> dict[str, str] | None:
    if len(labels) != len(segments):
        return None
    for segment, label in zip(segments, labels, strict=True):
        if segment.literal is not None:
            if segment.literal != label:
                return None
            continue
        added = segment.match(label, captures)
        if added is None:
            return None
        captures = {**captures, **added}
    return captures
