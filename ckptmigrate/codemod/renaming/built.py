"""A model as some source builds it, in a process of its own: modules that were imported once stay as they were.

``python -m ckptmigrate.codemod.renaming.built`` reads what to build from its input: the factory, where its template
goes, and the bytes that files shall have that are not written yet. With `graph.live` and `graph.template` this is one
of the places that import tensorflow, in the process that it starts.
"""

from __future__ import annotations

import base64
import importlib.machinery
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ckptmigrate.codemod.source.rewrite import Rewritten
from ckptmigrate.errors import CkptMigrateError, Problems, TemplateError

Origin = tuple[str, str]
"""Where a class is from: its file, and its qualified name in it."""


@dataclass(frozen=True)
class Built:
    """A model that was built.

    Attributes:
        prefix: The prefix of its template.
        origins: For each object, as a walk of labels from the root: where its classes are from.
        warnings: What a person should know of it.
    """

    prefix: str
    origins: Mapping[tuple[str, ...], frozenset[Origin]]
    warnings: tuple[str, ...]


def build(factory: str, prefix: str, files: Iterable[Rewritten] = ()) -> Built:
    """Build a model with other bytes in some files, and write its template.

    Args:
        factory: ``package.module:function`` or ``file.py:function``.
        prefix: Where the template goes.
        files: Files whose new bytes are run in place of those on disk.

    Raises:
        TemplateError: It cannot be built.
    """
    order = {
        "factory": factory,
        "prefix": prefix,
        "files": {str(file.path.resolve()): base64.b64encode(file.after).decode() for file in files},
    }
    run = subprocess.run(
        [sys.executable, "-m", "ckptmigrate.codemod.renaming.built"],
        input=json.dumps(order).encode(),
        capture_output=True,
        check=False,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3")},
    )
    try:
        answer = json.loads(run.stdout.decode().rpartition("\n")[2])
    except ValueError:
        last = run.stderr.decode(errors="replace").strip().split("\n")[-1]
        raise TemplateError("the model cannot be built", factory, got=last or f"status {run.returncode}") from None
    if "error" in answer:
        raise TemplateError(**answer["error"])
    origins = {tuple(path): frozenset(map(tuple, found)) for path, found in answer["origins"]}
    return Built(prefix, origins, tuple(answer["warnings"]))


def _serve() -> None:
    order = json.load(sys.stdin)
    answer_to = os.dup(1)
    # What the model's code prints is no answer.
    os.dup2(2, 1)
    _overlay({path: base64.b64decode(data) for path, data in order["files"].items()})
    try:
        answer = _build(order["factory"], order["prefix"])
    except CkptMigrateError as error:
        answer = {"error": _error_data(error)}
    except Problems as group:
        answer = {"error": _error_data(group.problems[0])}
    sys.stdout.flush()
    os.write(answer_to, json.dumps(answer).encode())


def _error_data(error: CkptMigrateError) -> dict[str, str]:
    return {
        "what": error.what,
        "where": error.where,
        "expected": error.expected,
        "got": error.got,
        "hint": error.hint,
    }


def _overlay(sources: Mapping[str, bytes]) -> None:
    """Let imports find other bytes in some files than those on disk."""
    loader: Any = importlib.machinery.SourceFileLoader
    get_data, path_stats = loader.get_data, loader.path_stats

    def get_data_of(self: Any, path: str) -> bytes:
        found = sources.get(os.path.realpath(path))
        data: bytes = get_data(self, path) if found is None else found
        return data

    def path_stats_of(self: Any, path: str) -> Any:
        if os.path.realpath(path) in sources:
            raise OSError  # so that no compiled file of the bytes on disk is taken, and none is written
        return path_stats(self, path)

    loader.get_data, loader.path_stats = get_data_of, path_stats_of


def _build(factory: str, prefix: str) -> dict[str, Any]:
    from ckptmigrate.graph.live import LiveGraph
    from ckptmigrate.graph.template import write_template

    # The tests of a terminal and the like are not this process's; the directory is, as with `python -m`.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    template = write_template(factory, prefix)
    live = LiveGraph.read(template.checkpoint)
    walks: dict[int, tuple[str, ...]] = {0: ()}
    queue = [0]
    for number in queue:
        for label, child in live.graph.nodes[number].children.items():
            if child not in walks:
                walks[child] = (*walks[number], label)
                queue.append(child)
    origins = [[walk, _origins(live.objects[number])] for number, walk in walks.items()]
    return {"origins": [each for each in origins if each[1]], "warnings": list(template.warnings)}


def _origins(thing: Any) -> list[Origin]:
    found = []
    for kind in type(thing).__mro__:
        try:
            file = inspect.getsourcefile(kind)
        except TypeError:  # a builtin
            continue
        if file is not None and "site-packages" not in file:
            found.append((os.path.realpath(file), kind.__qualname__))
    return found


if __name__ == "__main__":
    _serve()
