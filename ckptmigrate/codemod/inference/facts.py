"""What the source of a model says of its objects: what each holds, in which order it is made, and how it is used.

Nothing is imported or run. A statement that is not understood says nothing; what is said twice counts the first time.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ckptmigrate.codemod.inference.made import Made
from ckptmigrate.codemod.inference.making import Body, Holder
from ckptmigrate.codemod.inference.uses import Uses
from ckptmigrate.codemod.source.project import Class, Module, Place, Project


@dataclass(frozen=True, eq=False)
class Facts:
    """What is said of the objects of a class, or of what a function makes.

    Attributes:
        owner: The class's or function's dotted name.
        place: Where it is defined.
        items: What the object holds, in the order in which it is made, inherited things first.
        flow: The layers of a functional or Sequential model, in Keras's order, where the object is one.
        used: The labels in the order in which the call uses them.
        inputs: Which label's output the call gives to which; an empty one is the call's own input.
        roles: What each label is to the expressions that it stands in, e.g. that it is called, or the second
            argument of ``matmul``.
    """

    owner: str
    place: Place
    items: tuple[Made, ...] = ()
    flow: tuple[Made, ...] = ()
    used: tuple[str, ...] = ()
    inputs: frozenset[tuple[str, str]] = frozenset()
    roles: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not self.items and not self.flow


@dataclass(frozen=True, eq=False)
class Source:
    """A project, and what it says of its models.

    Attributes:
        project: Its index.
        facts: By the dotted name of the class, or of the function that returns a model.
        roots: The keywords of ``tf.train.Checkpoint`` with what they are given, wherever one is made.
    """

    project: Project
    facts: Mapping[str, Facts]
    roots: tuple[Made, ...]

    @classmethod
    def read(cls, project: Project) -> Source:
        """Read the facts of all classes and functions."""
        reader = _Reader(project)
        facts = {name: found for name, each in project.classes.items() if not (found := reader.of_class(each)).is_empty}
        roots: list[Made] = []
        for module in project.modules:
            facts.update(reader.of_functions(module))
            if "Checkpoint(" in module.source:
                roots.extend(reader.roots(module))
        return cls(project, facts, tuple(dict.fromkeys(roots)))

    @cached_property
    def users(self) -> Mapping[str, tuple[str, ...]]:
        """The classes and functions that make each class's objects."""
        found: dict[str, dict[str, None]] = {}
        for name, facts in self.facts.items():
            for item in (*facts.items, *facts.flow):
                for each in (item, *item.items):
                    if each.constructor in self.facts:
                        found.setdefault(each.constructor, {})[name] = None
        return {name: tuple(users) for name, users in found.items()}

    def of(self, made: Made) -> Facts | None:
        """The facts of what is made, where its class or function is one of the project's."""
        return self.facts.get(made.constructor)


_FIRST = ("__init__", "build", "setup")
"""The methods that make what an object holds, in the order in which they run; all others come after them."""

_CALLS = ("call", "__call__")


class _Reader:
    def __init__(self, project: Project) -> None:
        self.project = project
        self.functions = {
            f"{module.name}.{node.name}": (module, node)
            for module in project.modules
            for node in module.tree.body
            if isinstance(node, ast.FunctionDef)
        }
        self._own: dict[str, Facts] = {}

    # Classes.

    def of_class(self, each: Class) -> Facts:
        """The facts of a class: what its bases in the project say as well, farthest first."""
        found = self._own_facts(each)
        items: dict[str, Made] = {}
        used, inputs, roles = found.used, found.inputs, found.roles
        for base in reversed(self.project.ancestors(each)):
            theirs = self._own_facts(base)
            items.update((item.label, item) for item in theirs.items)
            if not found.used:
                used, inputs, roles = theirs.used, theirs.inputs, theirs.roles
        items.update((item.label, item) for item in found.items)
        return Facts(
            found.owner, found.place, tuple(items.values()), found.flow,
            tuple(label for label in used if label in items),
            frozenset((a, b) for a, b in inputs if b in items and (not a or a in items)),
            {label: known for label, known in roles.items() if label in items},
        )  # fmt: skip

    def _own_facts(self, each: Class) -> Facts:
        if each.name not in self._own:
            self._own[each.name] = self._read_class(each)
        return self._own[each.name]

    def _read_class(self, each: Class) -> Facts:
        methods = {method.name: method for method in each.methods()}
        order = [*(name for name in _FIRST if name in methods), *(name for name in methods if name not in _FIRST)]
        holder = Holder(dict.fromkeys(methods))
        for name in order:
            method = methods[name]
            receiver = method.args.args[0].arg if method.args.args else ""
            Body(self.project, self.functions, each.module, each.name, holder, receiver).run(method)
        uses = Uses(methods)
        called = next((methods[name] for name in _CALLS if name in methods), None)
        if called is not None:
            uses.read(called)
        items = tuple(
            item
            for item in holder.items.values()
            # What is only handed over is part of the model if the call uses it as such.
            if item.kind != "given" or "called" in uses.roles.get(item.label, ())
        )
        return Facts(
            each.name, each.place, items, holder.flow, tuple(dict.fromkeys(uses.used)), frozenset(uses.inputs),
            {label: frozenset(roles) for label, roles in uses.roles.items()},
        )  # fmt: skip

    # Functions and checkpoints.

    def of_functions(self, module: Module) -> Iterator[tuple[str, Facts]]:
        """The functions of a module that return a Sequential or functional model."""
        if "Model(" not in module.source and "Sequential(" not in module.source:
            return
        for node in module.tree.body:
            if isinstance(node, ast.FunctionDef):
                holder = Holder({})
                body = Body(self.project, self.functions, module, module.name, holder, "")
                body.run(node)
                made = body.returned
                if isinstance(made, Made) and made.kind == "flow":
                    name = f"{module.name}.{node.name}"
                    yield name, Facts(name, module.place(node), flow=made.items)

    def roots(self, module: Module) -> Iterator[Made]:
        """What checkpoints are made of in a module."""
        functions = [node.body for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef)]
        for statements in (module.tree.body, *functions):
            body = Body(self.project, self.functions, module, module.name, Holder({}), "")
            body.statements(statements)
            yield from body.checkpoints
