"""From a live model to a template: a checkpoint of the new model with its fresh initial values.

This is one of the two places that import tensorflow. The model's code is the user's: what it raises is
told with its own traceback, because the mistake is there.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckptmigrate.errors import OutputError, TemplateError
from ckptmigrate.graph.live import LiveGraph, say_error

_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Template:
    """What was built and written.

    Attributes:
        prefix: The template's prefix.
        checkpoint: The live ``tf.train.Checkpoint``.
        warnings: What a person should know before relying on it, in words.
    """

    prefix: str
    checkpoint: Any
    warnings: tuple[str, ...]


Factory = str | Callable[[], object]
"""What makes a model: a function without arguments, or where one is (``package.module:factory``, ``file.py:factory``).

It returns a ``tf.train.Checkpoint``, a trackable, or a dict of trackables.
"""


def is_factory(target: str) -> bool:
    """Whether a TARGET names a factory (``package.module:factory``, ``file.py:factory``) and not a checkpoint.

    Raises:
        TemplateError: It is a Python file, and no function of it is named.
    """
    module, separator, name = target.rpartition(":")
    if target.endswith(".py") and os.path.isfile(target):  # noqa: PTH113
        found = ", ".join(_functions_in(target)[:_SHOWN])
        raise TemplateError(
            "a file, and no function in it",
            target,
            expected=f"{target}:FUNCTION",
            got=f"the file alone, which has {found or 'no function that needs no arguments'}",
            hint="Name the function that makes the model",
        )
    return bool(separator and module and name.isidentifier()) and not os.path.exists(f"{target}.index")  # noqa: PTH110


def _functions_in(path: str) -> list[str]:
    """What of a file can be called without arguments, as far as that can be seen without running it."""
    try:
        statements = ast.parse(Path(path).read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    found = []
    for each in statements:
        if isinstance(each, ast.FunctionDef):
            positional = [*each.args.posonlyargs, *each.args.args]
            needed = len(positional) - len(each.args.defaults) + each.args.kw_defaults.count(None)
        elif not isinstance(each, ast.ClassDef):
            continue
        else:
            needed = 0
        if not needed and not each.name.startswith("_"):
            found.append(each.name)
    return found


def build_checkpoint(factory: Factory, *, said: str = "") -> Any:
    """Call a factory and make a ``tf.train.Checkpoint`` of what it returns.

    Args:
        factory: What makes the model.
        said: How a person named it; if not given, as `say_factory` has it.

    Raises:
        TemplateError: The factory is not there, raises, or returns something else.
    """
    target = said or say_factory(factory)
    tf = _import_tensorflow(target)
    make = load_factory(factory)
    try:
        built = make()
    except (Exception, SystemExit) as error:  # a script that ends by itself would end us, and well
        raise TemplateError(
            "the factory raised",
            target,
            expected="a model",
            got=say_raised(error),
            hint="Call the factory in Python to see the whole traceback",
        ) from error
    if isinstance(built, tf.train.Checkpoint):
        return built
    trackable = tf.__internal__.tracking.Trackable
    if isinstance(built, dict) and built and all(isinstance(value, trackable) for value in built.values()):
        try:
            return tf.train.Checkpoint(**built)
        except TypeError as error:  # no attribute can be called so
            raise TemplateError(
                "the factory's dict makes no checkpoint",
                target,
                expected="names of attributes as its keys, e.g. `model`",
                got=", ".join(repr(key) for key in list(built)[:_SHOWN]),
            ) from error
    if isinstance(built, trackable):
        return tf.train.Checkpoint(built)
    raise TemplateError(
        "the factory returned no trackable",
        target,
        expected="a tf.train.Checkpoint, a trackable (a model), or a dict of trackables",
        got=_describe(built),
    )


def load_factory(factory: Factory) -> Callable[[], object]:
    """The function that a person named, or gave.

    Raises:
        TemplateError: It is not there, or its module cannot be imported.
    """
    if not isinstance(factory, str):
        return factory
    _import_tensorflow(factory)  # before the user's code does, so that it says nothing
    loaded: Callable[[], object] = _load(factory)
    return loaded


def say_factory(factory: Factory) -> str:
    """A factory as people name it, e.g. ``models.py:build``."""
    if isinstance(factory, str):
        return factory
    return f"{getattr(factory, '__module__', '')}:{getattr(factory, '__qualname__', type(factory).__name__)}"


def write_template(factory: Factory, out: str, *, overwrite: bool = False) -> Template:
    """Build the model and write its fresh checkpoint.

    Args:
        factory: What makes the model.
        out: The template's prefix.
        overwrite: Replace a checkpoint that is there.

    Raises:
        TemplateError: The model cannot be built, or has variables that its checkpoint would leave out.
        OutputError: The template is there already, or cannot be written.
    """
    if not overwrite and os.path.exists(f"{out}.index"):  # noqa: PTH110
        raise OutputError("the output exists", out, hint="Name another prefix, or say --overwrite")
    return write_checkpoint(build_checkpoint(factory), out, where=say_factory(factory))


def write_checkpoint(checkpoint: Any, out: str, *, where: str) -> Template:
    """Write a live checkpoint after seeing that it holds all of its model.

    Raises:
        TemplateError: It would leave variables out, or holds none, or TensorFlow cannot save it.
        OutputError: It cannot be written.
    """
    import tensorflow as tf

    live = LiveGraph.read(checkpoint)
    if live.untracked:
        names = list(map(str, live.untracked))
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise TemplateError(
            f"{len(names)} variables would not be saved",
            where,
            expected="every variable of the model in its checkpoint",
            got=f"not in it: {', '.join(names[:_SHOWN])}{more}",
            hint=(
                "They are in a plain list or dict that TensorFlow does not track: give each layer its own attribute "
                "(`setattr(self, f'block_{i}', layer)`), or make the model a Sequential or functional one"
            ),
        )
    live.refuse_empty(where)
    # `restore` looks for a counter, so a template has one, though `write` would not make it.
    _ = checkpoint.save_counter
    try:
        prefix = checkpoint.write(out)
    except (OSError, tf.errors.OpError) as error:
        raise OutputError("the template cannot be written", out, got=str(error)) from error
    return Template(str(prefix), checkpoint, live.warnings)


def _import_tensorflow(target: str) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # at 2, to have no GPU is an error
    try:
        with _without_native_chatter():
            import tensorflow as tf
    except ImportError as error:
        raise TemplateError(
            "tensorflow cannot be imported", target, got=str(error), hint="Install tensorflow to build a model"
        ) from error
    return tf


@contextlib.contextmanager
def _without_native_chatter() -> Iterator[None]:
    """Keep what native code says of the machine's devices, at import and at any log level, off stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _load(target: str) -> Any:
    module_name, _, name = target.rpartition(":")
    module = _load_file(module_name, target) if module_name.endswith(".py") else _import(module_name, target)
    factory = getattr(module, name, None)
    if factory is None:
        near = [found for found, value in vars(module).items() if callable(value) and not found.startswith("_")]
        raise TemplateError(
            "no such factory",
            target,
            expected=f"`{name}` in {module_name}",
            got=f"among others {', '.join(near[:5])}" if near else "no function",
        )
    if not callable(factory):
        raise TemplateError("not a factory", target, expected="a function without arguments", got=_describe(factory))
    return factory


def _load_file(path: str, target: str) -> Any:
    file = Path(path)
    if not file.is_file():
        raise TemplateError("no such file", target, expected=path, hint="Check the path")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None  # noqa: S101  # a .py file always has a spec
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    # The file's neighbours are importable, as they are when it is run.
    sys.path.insert(0, str(file.resolve().parent))
    sys.modules.setdefault(file.stem, module)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise _import_failed(error, target) from error
    return module


def _import(module_name: str, target: str) -> Any:
    if module_name.startswith(".") or set(module_name) & set(":/\\"):
        raise TemplateError("not a factory", target, expected="package.module:factory or path/to/file.py:factory")
    # What a person runs from a directory is importable from it, as with `python -m`.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise _import_failed(error, target) from error


def _import_failed(error: BaseException, target: str) -> TemplateError:
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = f"Install what provides `{error.name}`, or run from the directory that has it"
    return TemplateError(
        "the factory's module cannot be imported",
        target,
        got=say_raised(error),
        hint=hint,
    )


def say_raised(error: BaseException) -> str:
    """What the user's code raised, in one line, and where."""
    return f"{say_error(error)}{_place(error)}"


def _place(error: BaseException) -> str:
    """The last line of the user's own code in a traceback, in parentheses: not ours, not a library's."""
    import traceback

    ours = str(Path(__file__).resolve().parent.parent)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((ours, "<frozen")) and "site-packages" not in frame.filename
    ]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def _describe(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:60]!r}" if value is not None else "None (did it forget to return?)"
