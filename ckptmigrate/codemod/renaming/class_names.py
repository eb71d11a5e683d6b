"""The sites of a class's name: its definition, imports, and every name that stands for it."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator

from ckptmigrate.codemod.renaming.family import REFLECTION
from ckptmigrate.codemod.renaming.framework import reserved
from ckptmigrate.codemod.renaming.sites import (
    Change,
    Found,
    change,
    comments,
    definition_name,
    docstrings,
    documented,
    kind_of_text,
    name_at_end,
    site,
    text_token,
)
from ckptmigrate.codemod.renaming.values import texts
from ckptmigrate.codemod.source.kinds import ClassItself, Instance, Kinds, Package, Plain
from ckptmigrate.codemod.source.project import Class, Module, Project, dotted_name, imported_by
from ckptmigrate.codemod.source.receivers import Receivers
from ckptmigrate.codemod.source.scopes import Binding, gives, parameters
from ckptmigrate.errors import SourceError


class ClassNameScan:
    """Finds the sites of a class's name in a project.

    Args:
        receivers: What values may be.
        each: The class.
        new: Its new name.
    """

    def __init__(self, receivers: Receivers, each: Class, new: str) -> None:
        self.receivers = receivers
        self.project: Project = receivers.project
        self.each = each
        self.old = each.node.name
        self.new = new
        self.itself: Kinds = frozenset({ClassItself(each.name)})

    def scan(self, module: Module) -> Iterator[Found]:
        """The sites of a module.

        Raises:
            SourceError: The new name is taken in it.
        """
        if self.old not in module.source:
            return
        found = list(self._found(module))
        if any(isinstance(each, Change) for each in found):
            self._check_free(module)
        yield from found

    def _check_free(self, module: Module) -> None:
        taken = gives([module.tree], self.new) or any(
            argument.arg == self.new
            for node in ast.walk(module.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for argument in parameters(node)
        )
        if taken or hasattr(builtins, self.new):
            raise SourceError(
                "the new name is taken",
                str(module.path),
                expected=f"no `{self.new}` where the class is used",
                got="a builtin" if not taken else "something else of this name",
                hint="Choose another name",
            )

    def _found(self, module: Module) -> Iterator[Found]:
        settled: set[ast.AST] = set()
        strings: list[ast.Constant] = []
        for node in ast.walk(module.tree):
            match node:
                case ast.ClassDef(name=name) if name == self.old and node is self.each.node:
                    yield definition_name(module, node, self.old, self.new)
                    yield from self._definition(module, node)
                case ast.Name(id=name) if name == self.old:
                    yield from self._name(module, node)
                case ast.ImportFrom():
                    yield from self._import(module, node)
                case ast.Attribute(attr=name) if name == self.old:
                    yield from self._attribute(module, node)
                case ast.Call():
                    yield from self._call(module, node, settled)
                case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                    yield from self._exported(module, value, settled)
                case ast.arg(annotation=ast.expr() as note) | ast.AnnAssign(annotation=note):
                    yield from self._annotation(module, note, settled)
                case ast.FunctionDef(returns=ast.expr() as note) | ast.AsyncFunctionDef(returns=ast.expr() as note):
                    yield from self._annotation(module, note, settled)
                case ast.Constant(value=str(text)) if self.old in text:
                    strings.append(node)
        documents = docstrings(module.tree)
        for string in strings:
            if string in documents:
                yield from documented(module, string, self.old)
            elif string not in settled:
                kind = kind_of_text(str(string.value), self.old)
                if kind is not None:
                    yield site(module, string, kind)
        yield from comments(module, self.old)

    def _definition(self, module: Module, node: ast.ClassDef) -> Iterator[Found]:
        for decorator in node.decorator_list:
            function = decorator.func if isinstance(decorator, ast.Call) else decorator
            if "register" in (dotted_name(function) or ""):
                yield site(module, decorator, "registered")
        for inner in ast.walk(node):
            match inner:
                case ast.Attribute(attr=name) if name.startswith("__") and not name.endswith("__"):
                    yield site(module, inner, "mangled")
        if reserved(self.project.outside_bases(self.each)):
            yield site(module, node, "default_name")

    # Names

    def _name(self, module: Module, node: ast.Name) -> Iterator[Found]:
        found = self.receivers.scopes(module).lookup(self.old, node)
        if found is None:
            is_it = self.receivers.name(self.old, node, module) == self.itself
            if is_it:
                yield self._token(module, node)
            return
        scope, _ = found
        bindings = self.receivers.scopes(module).bound(scope)[self.old]
        meant = [self._stands_for_it(each, module) for each in bindings]
        if any(meant):
            others = [each for each, is_meant in zip(bindings, meant, strict=True) if not is_meant]
            # A name that is None where the import fails goes along.
            if all(each.how == "value" for each in others):
                yield self._token(module, node)
            else:
                yield site(module, node, "several")

    def _token(self, module: Module, node: ast.Name) -> Found:
        column = module.column(node.lineno, node.col_offset)
        return change(module, node.lineno, column, self.old, self.new) or site(module, node, "unplaced")

    def _stands_for_it(self, binding: Binding, module: Module) -> bool:
        match binding.how, binding.node:
            case "defined", node:
                return node is self.each.node
            case "imported", ast.ImportFrom() as node:
                dotted = imported_by(node, module.name, is_package=module.is_package).get(self.old, "")
                own = next((alias for alias in node.names if alias.asname in (self.old, None)), None)
                is_renamed = own is not None and any(
                    alias.asname == self.old and alias.name != self.old for alias in node.names
                )
                return not is_renamed and self.project.follow(dotted) == self.each.name
        return False

    def _import(self, module: Module, node: ast.ImportFrom) -> Iterator[Found]:
        for alias in node.names:
            if alias.name != self.old:
                continue
            whole = ast.ImportFrom(module=node.module, names=[ast.alias(alias.name)], level=node.level)
            dotted = imported_by(whole, module.name, is_package=module.is_package)[alias.name]
            if self.project.follow(dotted) == self.each.name:
                column = module.column(alias.lineno, alias.col_offset)
                yield change(module, alias.lineno, column, self.old, self.new) or site(module, node, "unplaced")
                if alias.asname == self.old:
                    yield site(module, node, "unplaced")

    def _attribute(self, module: Module, node: ast.Attribute) -> Iterator[Found]:
        kinds = self.receivers.kinds(node.value, module) - {Plain.NONE}
        verdicts = {self._holds(kind) for kind in kinds}
        if verdicts == {True}:
            yield name_at_end(module, node, self.old, self.new)
        elif not verdicts or verdicts != {False}:
            yield site(module, node, "untyped")

    def _holds(self, kind: object) -> bool | None:
        """Whether the class is found in something by its name."""
        match kind:
            case Package(name=name):
                owner = self.project.module_of[name]
                return self.project.resolve(owner, self.old) == self.each.name
            case ClassItself(name=name) | Instance(name=name):
                each = self.project.classes[name]
                return any(f"{one.name}.{self.old}" == self.each.name for one in (each, *self.project.ancestors(each)))
            case Plain.ANY | Plain.MOCK:
                return None
        return False

    # Texts

    def _call(self, module: Module, node: ast.Call, settled: set[ast.AST]) -> Iterator[Found]:
        function = dotted_name(node.func) or ""
        last = function.rpartition(".")[2]
        match node:
            case ast.Call(args=[value, named, *_]) if last in REFLECTION or function.endswith(
                ("patch.object", "monkeypatch.setattr")
            ):
                verdicts = {self._holds(kind) for kind in self.receivers.kinds(value, module)}
                if isinstance(named, ast.Constant) and named.value == self.old:
                    settled.add(named)
                    if verdicts == {True}:
                        yield text_token(module, named, self.old, self.new)
                    elif verdicts != {False}:
                        yield site(module, named, "untyped")
                # Unlike attributes of objects, classes are looked up by computed names in their modules only.
                elif True in verdicts and texts(named, module, self.receivers).may_be(self.old):
                    yield site(module, node, "computed")
            case ast.Call(args=[ast.Constant() as note, *_]) if last == "cast":
                yield from self._annotation(module, note, settled)
        for keyword in node.keywords:
            if keyword.arg == "bound" and last == "TypeVar":
                yield from self._annotation(module, keyword.value, settled)

    def _exported(self, module: Module, value: ast.expr, settled: set[ast.AST]) -> Iterator[Found]:
        is_it = self.project.resolve(module, self.old) == self.each.name
        for part in ast.walk(value):
            if isinstance(part, ast.Constant) and part.value == self.old and is_it:
                settled.add(part)
                yield text_token(module, part, self.old, self.new)

    def _annotation(self, module: Module, note: ast.expr, settled: set[ast.AST]) -> Iterator[Found]:
        """Names in annotations that are texts."""
        for part in ast.walk(note):
            if not (isinstance(part, ast.Constant) and isinstance(part.value, str) and self.old in part.value):
                continue
            if part in settled or self._is_literal(module, part):
                continue
            try:
                inner = ast.parse(part.value, mode="eval").body
            except SyntaxError:
                continue
            names = [each for each in ast.walk(inner) if isinstance(each, ast.Name) and each.id == self.old]
            dotted = [each for each in ast.walk(inner) if isinstance(each, ast.Attribute) and each.attr == self.old]
            own = self.receivers.name(self.old, note, module) == self.itself
            meant = own if names and not dotted else self._dotted_is_it(module, dotted)
            if (names and dotted) or not (names or dotted) or not meant:
                continue
            settled.add(part)
            new = re.sub(rf"(?<![A-Za-z0-9_]){re.escape(self.old)}(?![A-Za-z0-9_])", self.new, part.value)
            yield text_token(module, part, part.value, new)

    def _is_literal(self, module: Module, part: ast.Constant) -> bool:
        parent = self.receivers.scopes(module).parents.get(part)
        return isinstance(parent, ast.Subscript) and (dotted_name(parent.value) or "").endswith("Literal")

    def _dotted_is_it(self, module: Module, dotted: list[ast.Attribute]) -> bool:
        said = [dotted_name(each) for each in dotted]
        return bool(said) and all(
            each is not None and self.project.resolve(module, each) == self.each.name for each in said
        )
