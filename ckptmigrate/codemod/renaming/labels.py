"""The sites of names that are arguments: ``name="..."`` of a layer, and a keyword of ``tf.train.Checkpoint``."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator

from ckptmigrate.codemod.renaming.framework import reserved
from ckptmigrate.codemod.renaming.sites import (
    Found,
    comments,
    docstrings,
    documented,
    keyword_name,
    kind_of_text,
    name_at_end,
    site,
    text_token,
)
from ckptmigrate.codemod.renaming.values import texts
from ckptmigrate.codemod.source.kinds import ClassItself, Imported, Instance, Kind, Outside, Plain
from ckptmigrate.codemod.source.project import Module, Project, dotted_name
from ckptmigrate.codemod.source.receivers import Receivers
from ckptmigrate.errors import SourceError

CHECKPOINT = frozenset(
    {
        "save_counter", "root", "save", "restore", "read", "write", "sync", "save_path", "_checkpoint", "_root",
        "_attached_dependencies", "_maybe_create_save_counter", "_save_counter",
    }
)  # fmt: skip
"""What a checkpoint has itself. Source: ``dir(tf.train.Checkpoint())`` of TensorFlow 2.21."""

_NO_LAYERS = ("optimizers", "metrics", "losses", "callbacks", "initializers", "regularizers", "constraints", "Variable")


class Scoped:
    """The part of a project in which a name is renamed.

    Args:
        project: The project.
        scope: The dotted name of a class or function, or as much of it as it takes; empty for all of it.

    Raises:
        SourceError: There is no such class or function, or several.
    """

    def __init__(self, project: Project, receivers: Receivers, scope: str) -> None:
        self.scope = scope
        self.nodes: frozenset[ast.AST] | None = None
        self.name = ""
        if not scope:
            return
        named = {
            f"{module.name}.{name}": node
            for module in project.modules
            if scope.rpartition(".")[2] in module.source
            for node, name in receivers.scopes(module).qualified.items()
        }
        found = [name for name in named if name == scope or name.endswith(f".{scope}")]
        if len(found) != 1:
            near = difflib.get_close_matches(scope, {name.rpartition(".")[2] for name in named}, 3)
            hint = f"Is it {', '.join(near)}" if near else "Name the paths that its file is in"
            raise SourceError(
                "several classes or functions of this name" if found else "no such class or function",
                scope,
                expected="one" if found else "",
                got=", ".join(found),
                hint="Say more of its dotted name" if found else hint,
            )
        self.name = found[0]
        self.nodes = frozenset(ast.walk(named[found[0]]))

    def holds(self, node: ast.AST) -> bool:
        """Whether a node is in it."""
        return self.nodes is None or node in self.nodes


class LayerNameScan:
    """Finds the sites of the name that layers are given."""

    def __init__(self, receivers: Receivers, scoped: Scoped, old: str, new: str) -> None:
        self.receivers = receivers
        self.scoped = scoped
        self.old = old
        self.new = new
        self.names: set[str] = set()
        """All names that layers get in the scope."""

    def scan(self, module: Module) -> Iterator[Found]:
        """The sites of a module."""
        settled: set[ast.AST] = set()
        strings: list[ast.Constant] = []
        for node in ast.walk(module.tree):
            match node:
                case ast.Call():
                    yield from self._call(module, node, settled)
                case ast.FunctionDef(name="__init__"):
                    yield from self._default(module, node, settled)
                case ast.Constant(value=str(text)) if self.old in text:
                    strings.append(node)
        yield from _texts(module, strings, settled, self.old)

    def _call(self, module: Module, node: ast.Call, settled: set[ast.AST]) -> Iterator[Found]:
        if isinstance(node.func, ast.Attribute) and node.func.attr == "get_layer":
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                if isinstance(argument, ast.Constant) and argument.value == self.old:
                    settled.add(argument)
                    yield site(module, argument, "get_layer")
        for keyword in node.keywords:
            if keyword.arg != "name" or keyword.value in settled:
                continue
            verdict = self._makes_layer(node.func, module)
            if isinstance(keyword.value, ast.Constant):
                if verdict and self.scoped.holds(node) and isinstance(keyword.value.value, str):
                    self.names.add(keyword.value.value)
                if keyword.value.value != self.old:
                    continue
                settled.add(keyword.value)
                if not self.scoped.holds(node):
                    continue  # another layer of this name
                if verdict:
                    yield text_token(module, keyword.value, self.old, self.new)
                elif verdict is None:
                    yield site(module, keyword.value, "untyped", why="nothing proves that it is a layer")
            elif verdict is not False and self.scoped.holds(node):
                possible = texts(keyword.value, module, self.receivers)
                if not possible.is_open and possible.may_be(self.old):
                    yield site(module, keyword.value, "computed")

    def _makes_layer(self, func: ast.expr, module: Module) -> bool | None:
        if isinstance(func, ast.Attribute) and func.attr == "__init__":
            return self._all(self.receivers.kinds(func.value, module))
        return self._all(self.receivers.kinds(func, module))

    def _all(self, kinds: frozenset[Kind]) -> bool | None:
        verdicts = {self._is_layer(kind) for kind in kinds - {Plain.NONE}}
        return verdicts.pop() if len(verdicts) == 1 else None

    def _is_layer(self, kind: Kind) -> bool | None:
        match kind:
            case ClassItself(name=name) | Instance(name=name):
                project = self.receivers.project
                return bool(reserved(project.outside_bases(project.classes[name])))
            case Imported(name=name):
                if not name.startswith(("keras.", "tensorflow.keras.", "tf_keras.", "tf.keras.", "sonnet.", "snt.")):
                    return False
                return not any(f".{part}" in name for part in _NO_LAYERS)
            case Plain.ANY | Plain.MOCK:
                return None
        return False

    def _default(self, module: Module, node: ast.FunctionDef, settled: set[ast.AST]) -> Iterator[Found]:
        """``def __init__(self, name="...")`` of a layer."""
        own = self.receivers.own_class(node, module)
        if own is None or not self._is_layer(ClassItself(own)):
            return
        given = [*node.args.posonlyargs, *node.args.args]
        pairs: list[tuple[ast.arg, ast.expr | None]] = [
            *zip(given[len(given) - len(node.args.defaults) :], node.args.defaults, strict=True),
            *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True),
        ]
        for argument, default in pairs:
            if argument.arg != "name" or not isinstance(default, ast.Constant) or not isinstance(default.value, str):
                continue
            if self.scoped.holds(node):
                self.names.add(default.value)
            if default.value == self.old:
                settled.add(default)
                if self.scoped.holds(node):
                    yield text_token(module, default, self.old, self.new)


class KeywordScan:
    """Finds the sites of a keyword of ``tf.train.Checkpoint``."""

    def __init__(self, receivers: Receivers, scoped: Scoped, old: str, new: str) -> None:
        self.receivers = receivers
        self.scoped = scoped
        self.old = old
        self.new = new
        self.names: set[str] = set()
        """All keywords in the scope."""
        self._elsewhere = scoped.nodes is not None and any(
            not scoped.holds(node)
            for module in receivers.project.modules
            if old in module.source
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Call)
            and any(keyword.arg == old for keyword in node.keywords)
            and self._is_checkpoint_call(node, module)
        )

    def scan(self, module: Module) -> Iterator[Found]:
        """The sites of a module."""
        settled: set[ast.AST] = set()
        strings: list[ast.Constant] = []
        for node in ast.walk(module.tree):
            match node:
                case ast.Call() if self.scoped.holds(node):
                    yield from self._call(module, node)
                case ast.Attribute(attr=name) if name == self.old:
                    yield from self._read(module, node)
                case ast.Constant(value=str(text)) if text == self.old or text.startswith(f"{self.old}/"):
                    strings.append(node)
        yield from _texts(module, strings, settled, self.old)

    def _call(self, module: Module, node: ast.Call) -> Iterator[Found]:
        last = (dotted_name(node.func) or "").rpartition(".")[2]
        verdict = self._is_checkpoint_call(node, module)
        if verdict:
            self.names.update(keyword.arg for keyword in node.keywords if keyword.arg)
        for keyword in node.keywords:
            if keyword.arg == self.old and verdict:
                yield keyword_name(module, keyword, self.old, self.new)
            elif keyword.arg == self.old and verdict is None and last == "Checkpoint":
                yield site(module, keyword, "keyword")
            elif keyword.arg is None and verdict:
                yield site(module, node, "computed", why="the keywords are computed and may have this one")

    def _is_checkpoint_call(self, node: ast.Call, module: Module) -> bool | None:
        kinds = self.receivers.kinds(node.func, module)
        verdicts = {
            None if kind is Plain.ANY else isinstance(kind, Imported) and _is_checkpoint(kind.name) for kind in kinds
        }
        return verdicts.pop() if len(verdicts) == 1 else None

    def _read(self, module: Module, node: ast.Attribute) -> Iterator[Found]:
        kinds = self.receivers.kinds(node.value, module) - {Plain.NONE}
        verdicts = {self._is_checkpoint(kind) for kind in kinds}
        if verdicts == {True}:
            if self._elsewhere:
                yield site(module, node, "several", why="checkpoints are made with this keyword elsewhere, too")
            else:
                yield name_at_end(module, node, self.old, self.new)
        elif verdicts != {False}:
            yield site(module, node, "untyped")

    @staticmethod
    def _is_checkpoint(kind: Kind) -> bool | None:
        match kind:
            case Outside(name=name):
                return _is_checkpoint(name)
            case Plain.ANY | Plain.MOCK:
                return None
        return False


def _is_checkpoint(name: str) -> bool:
    return name.endswith("train.Checkpoint") and name.startswith(("tensorflow", "tf."))


def _texts(module: Module, strings: list[ast.Constant], settled: set[ast.AST], old: str) -> Iterator[Found]:
    documents = docstrings(module.tree)
    for string in strings:
        if string in documents:
            yield from documented(module, string, old)
        elif string not in settled:
            kind = kind_of_text(str(string.value), old)
            if kind is not None:
                yield site(module, string, kind)
    yield from comments(module, old)
