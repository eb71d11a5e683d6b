"""What of source is a checkpoint of TensorFlow's, its manager or its reader, as far as the source proves it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property

from ckptmigrate.codemod.source.kinds import Callee, ClassItself, Imported, Instance, Kind, Outside, Plain
from ckptmigrate.codemod.source.project import Module
from ckptmigrate.codemod.source.receivers import Receivers
from ckptmigrate.codemod.source.scopes import Binding, Function

CHECKPOINTS = frozenset({"Checkpoint", "CheckpointV1"})
"""The types whose ``restore`` returns a status: ``tf.train.Checkpoint``, and that of ``tf.compat.v1``."""

_TYPES = {
    "Checkpoint": "Checkpoint",
    "CheckpointV1": "CheckpointV1",
    "CheckpointManager": "CheckpointManager",
    "CheckpointReader": "CheckpointReader",
    "NewCheckpointReader": "CheckpointReader",
}

_OTHER = "something else"

_OF_INTEREST = _TYPES.keys() | {
    "latest_checkpoint",
    "load_checkpoint",
    "load_variable",
    "init_from_checkpoint",
    "assign_from_checkpoint",
}

_OF_OTHERS = re.compile(r"^.+\.tensorflow\.(?=(train|compat|python|contrib)\.)")
"""Where others import TensorFlow: ``keras.src.utils.module_utils.tensorflow.train``."""


def tensorflow_name(dotted: str) -> str | None:
    """What a dotted name is called in TensorFlow, wherever it is imported from: ``latest_checkpoint``.

    Its private modules have the same names as its public ones. TensorFlow 1's ``Checkpoint`` is another class than
    TensorFlow 2's and is called ``CheckpointV1``.
    """
    first, _, rest = _OF_OTHERS.sub("tensorflow.", dotted).partition(".")
    if first != "tensorflow" or not rest:
        return None
    last = rest.rpartition(".")[2]
    is_first = rest.startswith(("compat.v1.", "contrib.", "_api.v1."))
    return "CheckpointV1" if last == "Checkpoint" and is_first else last


class Source:
    """A module, with what its expressions are.

    Attributes:
        module: The module.
        receivers: What values of the project may be.
        scopes: The scopes of the module.
        parents: What each node is directly in.
    """

    def __init__(self, module: Module, receivers: Receivers) -> None:
        self.module = module
        self.receivers = receivers
        self.scopes = receivers.scopes(module)
        self.parents = self.scopes.parents

    @cached_property
    def calls(self) -> tuple[ast.Call, ...]:
        """The calls, in the order of the file."""
        found = [node for node in self.parents if isinstance(node, ast.Call)]
        return tuple(sorted(found, key=lambda call: (call.lineno, call.col_offset, -(call.end_lineno or 0))))

    def ancestors(self, node: ast.AST) -> Iterator[ast.AST]:
        """What a node is in, from the inside."""
        return (parent for parent, _ in self.scopes.around(node))

    def function(self, node: ast.AST) -> Function | ast.Module:
        """The function that a node is in, or else the module."""
        return self.scopes.function_of(node) or self.module.tree

    def statement(self, node: ast.AST) -> ast.stmt:
        """The innermost statement that a node is in."""
        return next(each for each in (node, *self.ancestors(node)) if isinstance(each, ast.stmt))

    def bindings(self, node: ast.Name) -> tuple[Binding, ...]:
        """All that may give a name its value where it stands."""
        found = self.scopes.lookup(node.id, node)
        return () if found is None else tuple(found[1])

    def tensorflow(self, node: ast.expr) -> str | None:
        """What a function or class is called in TensorFlow, if it is of interest here; see `tensorflow_name`."""
        written = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
        # Most calls are of something else, and what they are need not be found out.
        if written not in _OF_INTEREST and written not in self._renamed:
            return None
        names = {_dotted(kind) for kind in self.receivers.kinds(node, self.module)}
        name = names.pop() if len(names) == 1 else None
        return None if name is None else tensorflow_name(name)

    @cached_property
    def _renamed(self) -> frozenset[str]:
        """What names of interest are called in this module, where it is otherwise."""
        imports = self.module.imports.items()
        return frozenset(local for local, target in imports if target.rpartition(".")[2] in _OF_INTEREST)

    def type_of(self, node: ast.expr, method: str = "") -> str | None:
        """What an expression is.

        Args:
            node: The expression.
            method: A class that is derived from a checkpoint is one if this method is TensorFlow's own.

        Returns:
            One of `CHECKPOINTS`, ``CheckpointManager``, ``CheckpointReader``; another text if it is something else;
            None if it may be anything.
        """
        types = self._types(node, method)
        if None in types:
            return None
        if types and types <= CHECKPOINTS:
            # Less can be done with that of TensorFlow 1.
            return max(map(str, types))
        return types.pop() if len(types) == 1 else _OTHER

    def may_be_checkpoint(self, node: ast.expr, method: str) -> bool:
        """Whether one of several things that an expression may be is a checkpoint."""
        return bool(self._types(node, method) & CHECKPOINTS)

    def _types(self, node: ast.expr, method: str) -> set[str | None]:
        kinds = self.receivers.kinds(node, self.module) - {Plain.NONE}
        return {None if kind is Plain.ANY else self._type_of(kind, method) for kind in kinds}

    def _type_of(self, kind: Kind, method: str) -> str:
        match kind:
            case Outside(name=name):
                return _TYPES.get(tensorflow_name(name) or "", _OTHER)
            case Instance(name=name):
                project = self.receivers.project
                found = project.classes[name]
                known = _TYPES.get(tensorflow_name(name) or "")
                if known is not None:  # where TensorFlow's own source is looked at
                    return known
                lineage = (found, *project.ancestors(found))
                if any(each.name == method for one in lineage for each in one.methods()):
                    return _OTHER
                bases = {tensorflow_name(base) for base in project.outside_bases(found)} & CHECKPOINTS
                return max(map(str, bases), default=_OTHER)
        return _OTHER


def _dotted(kind: Kind) -> str | None:
    """The dotted name of a function or class."""
    match kind:
        case Imported(name=name) | ClassItself(name=name):
            return name
        case Callee(module=module, node=node, bound=None):
            return f"{module.name}.{node.name}"
    return None
