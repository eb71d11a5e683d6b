"""The source of a project, indexed: its modules, what they import, and its classes with their bases.

Indexing is done with `ast`, which is many times faster than a concrete syntax tree; only files that are edited are
parsed a second time, with libcst. No code is imported or run.
"""

from __future__ import annotations

import ast
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ckptmigrate.errors import CkptMigrateError, SourceError

_SKIPPED = {"__pycache__", "node_modules", "build", "dist", "site-packages"}
"""Directories that are no source of the project's; nor are those whose name starts with a dot."""

_OF_OTHERS = sys.stdlib_module_names | {"tensorflow", "keras", "tf_keras", "sonnet", "numpy", "jax", "torch"}
"""Top-level modules of others, which a file of that name below a directory does not stand for."""

_TEXTS = {".yaml", ".yml", ".json", ".toml", ".cfg", ".ini", ".gin", ".ipynb"}
"""Files that may hold a name of the code's, and that are only reported."""

_MAX_TEXT_BYTES = 4 << 20
"""Larger configurations and notebooks are data."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands, as editors count: lines and columns from 1, columns in characters."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, eq=False)
class Module:
    """A Python file.

    Attributes:
        path: The file, as it was reached from the paths that were given.
        name: Its dotted name from the topmost directory: ``src/nets/encoder.py`` is ``src.nets.encoder``. What it is
            imported as may be shorter.
        source: Its bytes, decoded as its coding line says.
        tree: Its syntax tree.
        imports: What each name stands for that is imported anywhere in it, or is another name for one of those, as a
            dotted name; relative imports are absolute. A name that stands for two things is not in it.
    """

    path: Path
    name: str
    source: str
    tree: ast.Module
    imports: Mapping[str, str]

    @property
    def is_package(self) -> bool:
        """Whether it is the ``__init__`` of a package."""
        return self.path.name == "__init__.py"

    def place(self, node: ast.AST) -> Place:
        """Where a node starts."""
        line: int = getattr(node, "lineno", 1)
        return Place(str(self.path), line, self.column(line, getattr(node, "col_offset", 0)))

    def line(self, number: int) -> str:
        """A line of its source, without its end."""
        return self._lines[number - 1] if number <= len(self._lines) else ""

    def column(self, number: int, offset_bytes: int) -> int:
        """The column, from 1 and in characters, of what ast counts in bytes of UTF-8 from 0."""
        text = self.line(number)
        return 1 + (offset_bytes if text.isascii() else len(text.encode()[:offset_bytes].decode(errors="ignore")))

    @cached_property
    def _lines(self) -> list[str]:
        # As the tokenizer splits, which leaves form feeds and other separators alone.
        return self.source.replace("\r\n", "\n").replace("\r", "\n").split("\n")


@dataclass(frozen=True, eq=False)
class Class:
    """A class of the project.

    Attributes:
        name: Its dotted name with its module's: ``nets.encoder.Encoder``; ``nets.encoder.Outer.Inner``.
        module: Where it is.
        node: Its definition.
        again: Its other definitions, where it is defined under conditions, or once more.
        bases: Its bases as dotted names as far as they can be followed: those of the project by their `name`, others as
            they are imported (``keras.layers.Layer``); a base that is computed is ``?``.
    """

    name: str
    module: Module
    node: ast.ClassDef
    bases: tuple[str, ...]
    again: tuple[ast.ClassDef, ...] = ()

    @property
    def nodes(self) -> tuple[ast.ClassDef, ...]:
        """All its definitions."""
        return (self.node, *self.again)

    @property
    def place(self) -> Place:
        """Where it is defined."""
        return self.module.place(self.node)

    def methods(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """The functions in its body, those under a condition too."""
        stack: list[ast.AST] = [part for node in reversed(self.nodes) for part in reversed(node.body)]
        while stack:
            node = stack.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node
            elif not isinstance(node, ast.ClassDef | ast.Lambda):
                stack.extend(reversed(list(ast.iter_child_nodes(node))))


@dataclass(frozen=True, eq=False)
class Project:
    """All source below some paths.

    Attributes:
        modules: The Python files, in the order of their paths.
        texts: Configurations and notebooks, which are not edited.
        problems: Files that cannot be read or parsed. The others are there all the same.
        unread: Those files.
        around: Files of modules and texts that stand beside the paths and not below them: they are read, since what
            they say may depend on the source below the paths, and never edited.
        sources: The bytes of files that are not those on disk.
    """

    modules: tuple[Module, ...]
    texts: tuple[Path, ...]
    problems: tuple[CkptMigrateError, ...]
    unread: tuple[Path, ...] = ()
    around: frozenset[Path] = frozenset()
    sources: Mapping[Path, bytes] = field(default_factory=dict)

    @classmethod
    def read(cls, paths: Iterable[str | os.PathLike[str]], *, names: Iterable[str] = ()) -> Project:
        """Index files and directories.

        Args:
            paths: Files and directories.
            names: If there are any, files beside the paths that have one of these words are read too: those of the
                same repository or package, as far up as a ``.git`` or a ``pyproject.toml`` tells.

        Raises:
            SourceError: A path does not exist, or there is no Python file below any of them.
        """
        given = [Path(path) for path in paths]
        for path in given:
            if not path.exists():
                raise SourceError("no such file or directory", str(path))
        own = dict.fromkeys(file for path in given for file in _walk(path))
        if not any(file.suffix == ".py" for file in own):
            raise SourceError("no Python files", ", ".join(map(str, given)), hint="Name the directory of the source")
        beside = frozenset(_around(given, own, frozenset(names)))
        files = [*own, *sorted(beside)]
        modules: list[Module] = []
        problems: list[CkptMigrateError] = []
        unread: list[Path] = []
        for file, name in _dotted_names([file for file in files if file.suffix == ".py"]).items():
            try:
                modules.append(_read_module(file, name))
            except SourceError as error:
                if file not in beside:
                    problems.append(error)
                    unread.append(file)
        texts = tuple(file for file in files if file.suffix in _TEXTS)
        return cls(tuple(modules), texts, tuple(problems), tuple(unread), beside)

    def replaced(self, sources: Mapping[Path, bytes]) -> Project:
        """The project with other bytes in some of its files."""
        modules = [
            _read_module(module.path, module.name, sources[module.path]) if module.path in sources else module
            for module in self.modules
        ]
        return replace(self, modules=tuple(modules), sources={**self.sources, **sources})

    @property
    def sources_read(self) -> tuple[Path, ...]:
        """The Python files, those that cannot be parsed too."""
        return (*(module.path for module in self.modules), *self.unread)

    @cached_property
    def module_of(self) -> Mapping[str, Module]:
        """Each module by what it may be imported as: every end of its dotted name that no other module's has."""
        found: dict[str, Module | None] = {}
        for module in self.modules:
            parts = module.name.split(".")
            for start in range(len(parts)):
                name = ".".join(parts[start:])
                if start and parts[start] in _OF_OTHERS:
                    continue  # `import logging` is not our `nets/logging.py`
                # The whole name is its own, whatever the ends of others are.
                found[name] = module if name not in found or not start else None
        whole = {module.name: module for module in self.modules}
        return {name: module for name, module in found.items() if module is not None} | whole

    @cached_property
    def classes(self) -> Mapping[str, Class]:
        """Every class by its dotted name, nested ones and those in functions too."""
        found: dict[str, Class] = {}
        for name, ((module, node), *more) in self._definitions.items():
            again = tuple(other for where, other in more if where is module)
            bases = [self._base(module, name, base) for each in (node, *again) for base in each.bases]
            # Of one definition a base stands where it stands.
            found[name] = Class(name, module, node, tuple(dict.fromkeys(bases) if again else bases), again)
        return found

    @cached_property
    def _definitions(self) -> Mapping[str, list[tuple[Module, ast.ClassDef]]]:
        """Where each class is defined; a name that is defined twice (under a condition, say) has several places."""
        found: dict[str, list[tuple[Module, ast.ClassDef]]] = {}
        for module in self.modules:
            for name, node in _class_nodes(module):
                found.setdefault(name, []).append((module, node))
        return found

    def _base(self, module: Module, name: str, base: ast.expr) -> str:
        if isinstance(base, ast.Subscript):  # Generic[T]
            base = base.value
        dotted = dotted_name(base)
        return "?" if dotted is None else self.resolve(module, dotted, within=name.rpartition(".")[0])

    def resolve(self, module: Module, dotted: str, *, within: str = "") -> str:
        """What a dotted name stands for in a module: a class by its `Class.name`, else as it is imported.

        Args:
            module: Where it is used.
            dotted: The name, e.g. ``layers.Encoder``.
            within: The dotted name of the class or function it is used in, whose own classes come first.
        """
        scope = within or module.name
        while scope.startswith(module.name):
            if f"{scope}.{dotted}" in self._definitions:
                return f"{scope}.{dotted}"
            scope = scope.rpartition(".")[0]
        first, _, rest = dotted.partition(".")
        if first not in module.imports:
            return dotted
        return self._follow(module.imports[first] + (f".{rest}" if rest else ""), set())

    def follow(self, dotted: str) -> str:
        """What a dotted name stands for that is imported: a class by its `Class.name`, else as it is."""
        return self._follow(dotted, set())

    def _follow(self, dotted: str, seen: set[str]) -> str:
        """Follow a dotted name through the modules that import it from one another."""
        if dotted in seen:
            return dotted
        seen.add(dotted)
        head, rest = dotted, ""
        while head:
            module = self.module_of.get(head)
            if module is not None:
                if not rest:
                    return module.name
                if f"{module.name}.{rest}" in self._definitions:
                    return f"{module.name}.{rest}"
                first, _, tail = rest.partition(".")
                target = module.imports.get(first)
                if target is None:
                    return f"{module.name}.{rest}"
                return self._follow(target + (f".{tail}" if tail else ""), seen)
            head, _, last = head.rpartition(".")
            rest = f"{last}.{rest}" if rest else last
        return dotted

    def find_class(self, name: str) -> Class:
        """The class that a person means: by its name, or by as much of its dotted name as it takes.

        Raises:
            SourceError: There is none, or several.
        """
        found = [each for each in self._definitions if each == name or each.endswith(f".{name}")]
        # What stands beside the paths is meant only if nothing below them is.
        found = [each for each in found if self._definitions[each][0][0].path not in self.around] or found
        places = [f"{each} ({module.place(node)})" for each in found for module, node in self._definitions[each]]
        if len(places) == 1:
            return self.classes[found[0]]
        if found:
            several = len(found) > 1
            raise SourceError(
                "several classes of this name" if several else "a class that is defined twice",
                name,
                expected="one",
                got=", ".join(places),
                hint="Say more of its dotted name, as listed" if several else "Give one of them another name first",
            )
        import difflib

        last = name.rpartition(".")[2]
        near = difflib.get_close_matches(last, {full.rpartition(".")[2] for full in self.classes}, 3)
        hint = f"Is it {', '.join(near)}" if near else "Name the paths that its file is in"
        raise SourceError("no such class", name, expected="a class below the paths", hint=hint)

    @cached_property
    def _subclasses(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for each in self.classes.values():
            for base in each.bases:
                found.setdefault(base, []).append(each.name)
        return {name: tuple(names) for name, names in found.items()}

    def ancestors(self, each: Class) -> tuple[Class, ...]:
        """The classes of the project that a class is derived from, nearest first, without itself."""
        return self._reached(each, lambda found: found.bases)

    def descendants(self, each: Class) -> tuple[Class, ...]:
        """The classes of the project that are derived from a class, nearest first, without itself."""
        return self._reached(each, lambda found: self._subclasses.get(found.name, ()))

    def hierarchy(self, each: Class) -> tuple[Class, ...]:
        """All classes whose instances share attributes with a class's: it, its ancestors, and all their descendants."""
        found = {each.name: each}
        for root in (each, *self.ancestors(each)):
            found[root.name] = root
            found.update((child.name, child) for child in self.descendants(root))
        return tuple(found.values())

    def outside_bases(self, each: Class) -> tuple[str, ...]:
        """The bases of a class and of its ancestors that are not in the project, as dotted names."""
        bases = dict.fromkeys(base for one in (each, *self.ancestors(each)) for base in one.bases)
        return tuple(base for base in bases if base not in self.classes and base != "object")

    def _reached(self, each: Class, following: Callable[[Class], Iterable[str]]) -> tuple[Class, ...]:
        found: dict[str, Class] = {}
        queue = [each]
        for current in queue:
            for name in following(current):
                other = self.classes.get(name)
                if other is not None and name != each.name and name not in found:
                    found[name] = other
                    queue.append(other)
        return tuple(found.values())


def dotted_name(node: ast.expr | None) -> str | None:
    """``a.b.c`` of a name or an attribute of one; None for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join(reversed([*parts, node.id]))


def _walk(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for directory, folders, files in os.walk(path):
        folders[:] = sorted(each for each in folders if each not in _SKIPPED and not each.startswith("."))
        for name in sorted(files):
            file = Path(directory, name)
            if file.suffix == ".py" or (file.suffix in _TEXTS and file.stat().st_size <= _MAX_TEXT_BYTES):
                yield file


def _dotted_names(files: list[Path]) -> dict[Path, str]:
    """Each file's dotted name, from the directory that holds all of them."""
    if not files:
        return {}
    absolute = {file: file.resolve() for file in files}
    top = Path(os.path.commonpath([file.parent for file in absolute.values()]))
    # Inside a package the names begin with that of the outermost one.
    while (top / "__init__.py").exists() and top.parent != top:
        top = top.parent
    found = {}
    for file, whole in absolute.items():
        parts = list(whole.relative_to(top).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 1:
            parts.pop()
        found[file] = ".".join(parts)
    return found


def _around(given: list[Path], own: Mapping[Path, None], names: frozenset[str]) -> Iterator[Path]:
    """Files of the same repository or package that are not below the paths and have one of the names."""
    if not names:
        return
    pattern = re.compile(
        "|".join(rf"(?<![A-Za-z0-9_]){re.escape(name)}(?![A-Za-z0-9_])" for name in sorted(names)).encode()
    )
    known = {file.resolve() for file in own}
    for top in dict.fromkeys(_top(path.resolve()) for path in given):
        for file in _walk(top) if top is not None else ():
            if file.resolve() not in known:
                known.add(file.resolve())
                with suppress(OSError):
                    if pattern.search(file.read_bytes()):
                        yield _relative(file)


def _top(path: Path) -> Path | None:
    """The directory of the repository or the package that a path is in."""
    for above in (path, *path.parents):
        if (above / ".git").exists():
            return above
    return next((above for above in (path, *path.parents) if (above / "pyproject.toml").exists()), None)


def _relative(file: Path) -> Path:
    """A file as a person here would say it."""
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file


def _read_module(file: Path, name: str, data: bytes | None = None) -> Module:
    import tokenize

    try:
        data = file.read_bytes() if data is None else data
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        source = data.decode(encoding)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes are the business of whoever runs it
            tree = ast.parse(source, str(file))
    except OSError as error:
        raise SourceError("unreadable file", str(file), got=str(error.strerror)) from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise SourceError(
            "not Python that can be parsed",
            f"{file}:{line}" if line else str(file),
            got=str(getattr(error, "msg", None) or error),
            hint="Mend it, or leave it out of the paths",
        ) from error
    return Module(file, name, source, tree, _imports(tree, name, is_package=file.name == "__init__.py"))


def imported_by(node: ast.Import | ast.ImportFrom, name: str, *, is_package: bool) -> dict[str, str]:
    """What an import in the module of a name imports: dotted names by the local ones, ``*`` for everything of one."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: alias.name if alias.asname else alias.name.partition(".")[0]
            for alias in node.names
        }
    package = name.split(".") if is_package else name.split(".")[:-1]
    above = package[: len(package) - node.level + 1] if node.level else []
    origin = ".".join([*above, *([node.module] if node.module else [])])
    return {
        alias.asname or alias.name: origin if alias.name == "*" else f"{origin}.{alias.name}".lstrip(".")
        for alias in node.names
    }


def _imports(tree: ast.Module, name: str, *, is_package: bool) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for local, origin in imported_by(node, name, is_package=is_package).items():
                if local != "*":
                    found.setdefault(local, set()).add(origin)
    for statement in tree.body:
        # Another name for what is imported: `layers = tf.keras.layers`.
        match statement:
            case ast.Assign([ast.Name(local)], ast.Attribute() | ast.Name() as value) if local not in found:
                dotted = dotted_name(value)
                first, _, rest = (dotted or "").partition(".")
                if len(found.get(first, ())) == 1:
                    found[local] = {f"{next(iter(found[first]))}.{rest}".rstrip(".")}
    return {local: next(iter(targets)) for local, targets in found.items() if len(targets) == 1}


def _class_nodes(module: Module) -> Iterator[tuple[str, ast.ClassDef]]:
    """Classes with their dotted names, in the order of the file."""
    stack: list[tuple[str, ast.AST]] = [(module.name, module.tree)]
    while stack:
        scope, node = stack.pop()
        for child in reversed(list(ast.iter_child_nodes(node))):
            inner = scope
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                inner = f"{scope}.{child.name}"
            if isinstance(child, ast.ClassDef):
                yield inner, child
            if not isinstance(child, ast.expr):
                stack.append((inner, child))
