"""Generated source changes on disk and as live models, and how right what is inferred of them is."""

import importlib
import sys
from dataclasses import dataclass, field

from source_changes import Case

from ckptmigrate.codemod.inference.facts import Source
from ckptmigrate.codemod.inference.infer import Inferred, infer
from ckptmigrate.codemod.source.project import Project


def write(files: dict[str, str], folder):
    """Files at a place that is made for them."""
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def infer_case(case: Case, folder) -> Inferred:
    """What is inferred from the two versions of a case, which are written below a folder."""
    old, new = (
        Source.read(Project.read([write(files, folder / side)]))
        for side, files in (("old", case.old), ("new", case.new))
    )
    return infer(old, new)


@dataclass
class Score:
    """How right what is said of some cases is.

    Attributes:
        right: What moved, and was found.
        wrong: What was said and is not so, or what nobody can know.
        missed: What moved, can be known, and was not said rightly.
        changes: How many changes were made.
    """

    right: int = 0
    wrong: list[object] = field(default_factory=list)
    missed: list[object] = field(default_factory=list)
    changes: int = 0

    @property
    def precision(self) -> float:
        return self.right / max(self.right + len(self.wrong), 1)

    @property
    def recall(self) -> float:
        return self.right / max(self.right + len(self.missed), 1)

    def add(self, case: Case, inferred: Inferred) -> None:
        """Compare what is said of a case with its truth."""
        said = dict(_ends(inferred))
        moved = case.moved
        self.changes += len(case.changes)
        for old, new in said.items():
            if case.truth.get(old) != new or old in case.undecidable:
                self.wrong.append((case.seed, old, new, case.truth.get(old)))
            elif old in moved:
                self.right += 1
        self.missed.extend((case.seed, old, new, said.get(old)) for old, new in moved.items() if said.get(old) != new)
        pairs = {pair.old: pair.new for pair in inferred.classes if not pair.old.startswith("parts.")}
        for old, new in pairs.items():
            if case.classes.get(old) != new:
                self.wrong.append((case.seed, old, new, case.classes.get(old)))
            elif old != new:
                self.right += 1
        self.missed.extend(
            (case.seed, old, new, pairs.get(old))
            for old, new in case.classes.items()
            if old != new and pairs.get(old) != new
        )


def _ends(inferred: Inferred):
    """What is said of things that a case knows, each as the class that holds it and the way from there."""
    for move in inferred.moves:
        if not move.is_row and move.before.maker != "Input" and not move.old_owner.startswith("parts."):
            yield (
                _innermost(inferred.old, move.old_owner, move.old),
                _innermost(inferred.new, move.new_owner, move.new),
            )


def _innermost(source: Source, owner: str, way: tuple[str, ...]):
    while len(way) > 1:
        item = next((item for item in source.facts[owner].items if item.label == way[0]), None)
        if item is None or item.kind != "object" or item.constructor not in source.facts:
            break
        owner, way = item.constructor, way[1:]
    return owner, way


def built(files: dict[str, str], factory: str, folder):
    """A live checkpoint of a case's model, called once; its modules are forgotten afterwards."""
    import tensorflow as tf

    sys.path.insert(0, str(write(files, folder)))
    importlib.invalidate_caches()
    try:
        module, _, name = factory.rpartition(".")
        model = getattr(importlib.import_module(module), name)()
        model(tf.zeros((1, 4)))
    finally:
        sys.path.pop(0)
        for name in files:
            sys.modules.pop(name.removesuffix(".py"), None)
    return tf.train.Checkpoint(model=model)
