"""The oracle: the model is built before and after a change of its source, and what differs is exactly the rules.

The rules are found here, too: an attribute that is renamed moves what is below the nodes of its class's objects, and
below no others.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path as FilePath

from ckptmigrate.bundle import Bundle
from ckptmigrate.codemod.renaming.built import Built, build
from ckptmigrate.codemod.renaming.change import Changed
from ckptmigrate.codemod.renaming.rename import Renamed
from ckptmigrate.errors import CkptMigrateError, PlanError, SourceError, raise_all
from ckptmigrate.graph import ROOT, ObjectGraph
from ckptmigrate.matching import Hypothesis, Lead, match_graphs
from ckptmigrate.questioner import say
from ckptmigrate.rules import Rulebook
from ckptmigrate.spec import Key, escape_segment

_SHOWN = 10


@dataclass(frozen=True)
class Proof:
    """A change of source that was seen to be exactly a change of names in the checkpoint.

    Attributes:
        rules: What the change means for a checkpoint.
        target: The prefix of the new model's template.
        moved: How many tensors have another path.
        kept: How many have the same.
        warnings: What a person should know of the model.
    """

    rules: Rulebook
    target: str
    moved: int
    kept: int
    warnings: tuple[str, ...]


@contextmanager
def prove(changed: Changed, factory: str) -> Iterator[Proof]:
    """Build the model before and after a change, and find the rules that are all of the difference.

    Args:
        changed: The change, which need not be written.
        factory: What builds the model.

    Raises:
        TemplateError: The model cannot be built with one of the two.
        SourceError: The two differ in something else than the change says; `Problems` for several things.
    """
    with tempfile.TemporaryDirectory(prefix="ckptmigrate-") as scratch:
        places = (os.path.join(scratch, "before"), os.path.join(scratch, "after"))  # noqa: PTH118
        # Each is built in a process of its own; most of the time both import the same libraries.
        with ThreadPoolExecutor(2) as pool:
            before, after = pool.map(build, (factory, factory), places, ((), changed.files))
        with Bundle.open(before.prefix) as old, Bundle.open(after.prefix) as new:
            compared = _Compared(ObjectGraph.from_bundle(old), ObjectGraph.from_bundle(new), before, changed, factory)
            rules, moved = compared.rules()
            kept = len(compared.pairs) - moved
        yield Proof(rules, after.prefix, moved, kept, after.warnings)


class _Compared:
    """Two graphs, walked together: each edge of the one leads where its new name leads in the other."""

    def __init__(self, old: ObjectGraph, new: ObjectGraph, built: Built, changed: Changed, factory: str) -> None:
        self.old = old
        self.new = new
        self.factory = factory
        self.problems: list[CkptMigrateError] = []
        self.names = _new_names(old, built, changed)
        self.may_have_other_names = any(step.rename.kind in ("class", "layer") for step in changed.steps)
        self.node_pairs = self._walk()
        self.pairs = dict(self._tensors())

    def _walk(self) -> Mapping[int, int]:
        """Each node of the old graph with its node of the new one."""
        # An optimizer's flat lists are in the order of the model's variables, which is that of names in a tf.Module;
        # its slots are compared by what they belong to.
        lists = {optimizer.node: frozenset(optimizer.bookkeeping) for optimizer in self.old.optimizers}
        pairs = {ROOT: ROOT}
        queue = [ROOT]
        for number in queue:
            renamed = {
                self.names.get((number, label), label): child
                for label, child in self.old.nodes[number].children.items()
                if label not in lists.get(number, ())
            }
            there = {
                label: child
                for label, child in self.new.nodes[pairs[number]].children.items()
                if label not in lists.get(number, ())
            }
            for label in renamed.keys() | there.keys():
                if label not in there or label not in renamed:
                    self._differ(number, label, "gone after it" if label in renamed else "there only after it")
                elif renamed[label] not in pairs:
                    pairs[renamed[label]] = there[label]
                    queue.append(renamed[label])
                elif pairs[renamed[label]] != there[label]:
                    self._differ(number, label, "another object after it")
        return pairs

    def _differ(self, number: int, label: str, how: str) -> None:
        path = "/".join(filter(None, (self.old.say(number) if number else "", escape_segment(label))))
        self.problems.append(
            SourceError("the model is another one after the change", path, expected="the same", got=how)
        )

    def _tensors(self) -> Iterator[tuple[Key, Key]]:
        for number, other in self.node_pairs.items():
            here, there = self.old.nodes[number], self.new.nodes[other]
            if here.tensors.keys() != there.tensors.keys():
                self._differ(number, "", "other tensors after it")
                continue
            for role, key in here.tensors.items():
                if self.old.specs.get(key) != self.new.specs.get(there.tensors[role]):
                    self._differ(number, role, "another shape or dtype after it")
                yield key, there.tensors[role]
            if here.full_name != there.full_name and not self.may_have_other_names:
                self._differ(number, "", f"called `{there.full_name}` and not `{here.full_name}` after it")
        old, new = (
            self._slots(self.old, self.node_pairs),
            self._slots(self.new, {each: each for each in self.node_pairs.values()}),
        )
        if old.keys() != new.keys():
            self.problems.append(SourceError("the optimizer has other slots after the change", self.factory))
        yield from ((key, new[slot]) for slot, key in old.items() if slot in new)

    @staticmethod
    def _slots(graph: ObjectGraph, pairs: Mapping[int, int]) -> Mapping[tuple[int, int | None, str, int], Key]:
        """The slots by their optimizer, variable and kind; those of no known variable by their place."""
        found: dict[tuple[int, int | None, str, int], Key] = {}
        for at, optimizer in enumerate(graph.optimizers):
            for place, slot in enumerate(optimizer.slots):
                keys = list(graph.nodes[slot.node].tensors.values())
                variable = None if slot.variable is None else pairs.get(slot.variable)
                if len(keys) == 1:
                    found[at, variable, slot.kind, place if variable is None else 0] = keys[0]
        return found

    def rules(self) -> tuple[Rulebook, int]:
        """The rules that say the difference, and how many tensors they move."""
        raise_all(f"{self.factory}: the change is more than a rename", self.problems[:_SHOWN])
        moved = [
            (key, other)
            for key, other in self.pairs.items()
            if self.old.say_key(key) != self.new.say_key(other) and key not in self.old.slot_owner
        ]
        leads = tuple(Lead(other, (key,), ()) for key, other in moved)
        rules = say(Hypothesis("the rename", leads), self.old, self.new) if leads else ()
        matching = match_graphs(self.old, self.new, rules)
        wrong = [step for step in matching.steps if step.sources and self.pairs.get(step.sources[0]) != step.target]
        left = [*matching.questions, *matching.unmatched_source, *matching.unmatched_target]
        if wrong or left:
            named = [str(step.target) for step in wrong][:_SHOWN] or [str(each) for each in left][:_SHOWN]
            raise PlanError("the rules are not all of the change", self.factory, got=", ".join(named))
        return rules, len(moved)


def _new_names(graph: ObjectGraph, built: Built, changed: Changed) -> Mapping[tuple[int, str], str]:
    """The edges that get another label, by the node that they are of."""
    found: dict[tuple[int, str], str] = {}
    walked = [(graph.find(walk), origins) for walk, origins in built.origins.items()]
    for step in changed.steps:
        rename = step.rename
        members = _origins(step, changed)
        meant = {
            "attribute": [number for number, origins in walked if number is not None and origins & members],
            "keyword": [ROOT],
        }
        for number in meant.get(rename.kind, ()):
            for label in graph.nodes[number].children:
                if found.get((number, label), label) == rename.old:
                    found[number, label] = rename.new
    return found


def _origins(step: Renamed, changed: Changed) -> frozenset[tuple[str, str]]:
    """Where the classes of a step are from: their files, and their names in the model as it was."""
    found: set[tuple[str, str]] = set()
    before = changed.steps[: changed.steps.index(step)]
    for each in step.classes:
        name = f"{each.name}."
        for other in reversed(before):
            if other.rename.kind == "class":
                name = name.replace(f"{other.rename.reversed().scope}.", f"{other.rename.scope}.", 1)
        qualified = name.removesuffix(".").removeprefix(f"{each.module.name}.")
        found.add((os.path.realpath(FilePath(each.module.path)), qualified))
    return frozenset(found)
