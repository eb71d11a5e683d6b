"""The examples of a pack, run: small graphs in memory, matched by its rules, and compared with what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ckptmigrate.errors import CkptMigrateError, Problems, RuleError
from ckptmigrate.graph import ROOT, VARIABLE_ROLE, Node, ObjectGraph, SlotRecord
from ckptmigrate.matching import Matching, match_graphs
from ckptmigrate.packs.fit import fit_packs
from ckptmigrate.packs.pack import Example, Pack, Side
from ckptmigrate.spec import DType, Key, Path, Pattern, TensorSpec

_NEW = "new"
"""What an example calls the origin of a target that keeps the template's value."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One example: what it shows, and in what it does not come out as the pack says; nothing if it does."""

    pack: str
    says: str
    problems: tuple[str, ...]


def run_examples(pack: Pack) -> tuple[Outcome, ...]:
    """Run a pack's examples. Needs neither files nor TensorFlow."""
    return tuple(Outcome(pack.name, example.says, tuple(_problems(pack, example))) for example in pack.examples)


def _problems(pack: Pack, example: Example) -> Iterator[str]:
    try:
        source, target = (
            build_graph(side, f"{pack.name}, `{example.says}`") for side in (example.before, example.after)
        )
        matching = match_graphs(source, target, fit_packs([pack], source, target).rules)
    except (CkptMigrateError, Problems) as error:
        yield str(error)
        return
    asked = [key for question in matching.questions for key in question.targets]
    waiting = [key for question in matching.questions for key in question.sources]
    yield from _differing("moved", example.moved, _moved(matching, source, target))
    for word, said, graph, keys in (
        ("dropped", example.dropped, source, [drop.source for drop in matching.dropped]),
        ("lost", example.lost, source, [*(item.key for item in matching.unmatched_source), *waiting]),
        ("open", example.open, target, [*(item.key for item in matching.unmatched_target), *asked]),
    ):
        yield from _differing(word, dict.fromkeys(said, ""), dict.fromkeys(map(graph.say_key, keys), ""))


def _moved(matching: Matching, source: ObjectGraph, target: ObjectGraph) -> dict[str, str]:
    moved = {}
    for step in matching.steps:
        if step.status == "exact":
            continue
        origin = ", ".join(map(source.say_key, step.sources)) or _NEW
        how = "".join(f", {op.describe()}" for op in step.ops) if step.sources else ""
        likely = " (proposed)" if step.status == "proposed" else ""
        moved[target.say_key(step.target)] = f"{origin}{how}{likely}"
    return moved


def _differing(word: str, said: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    for path in sorted({*said, *found}):
        if said.get(path) != found.get(path):
            expected, got = (
                f"`{path}`" + (f" <- `{side[path]}`" if side[path] else "") if path in side else "nothing"
                for side in (said, found)
            )
            yield f"{word}: expected {expected} (the example), got {got} (the rules)"


def build_graph(side: Side, where: str) -> ObjectGraph:
    """The graph of an example's checkpoint.

    Raises:
        RuleError: A path or a spec cannot be read.
        PathError: As above.
    """
    if side.names:
        return ObjectGraph.from_names({Key(name): _spec(text, where)[0] for name, text in side.names.items()})
    builder = _Builder(where)
    for text, said in side.paths.items():
        spec, full_name = _spec(said, where)
        builder.variable(builder.path(text), Key(f"{text}/.ATTRIBUTES/VARIABLE_VALUE"), spec, full_name)
    for text, other in side.same.items():
        *parent, label = builder.path(text)
        builder.children[builder.reach(tuple(parent))][label] = builder.reach(builder.path(other))
    for optimizer, kind, variable, said in side.slots:
        key = Key(f"{variable}/.OPTIMIZER_SLOT/{optimizer}/{kind}/.ATTRIBUTES/VARIABLE_VALUE")
        spec, full_name = _spec(said, where)
        number = builder.add(key, spec, full_name)
        record = SlotRecord(builder.reach(builder.path(variable)), kind, number)
        builder.records[builder.reach(builder.path(optimizer))].append(record)
    return builder.graph()


class _Builder:
    """An object graph on its way, node by node."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.specs: dict[Key, TensorSpec] = {}
        self.children: list[dict[str, int]] = [{}]
        self.records: list[list[SlotRecord]] = [[]]
        self.tensors: list[dict[str, Key]] = [{}]
        self.full_names = [""]

    def path(self, text: str) -> Path:
        literal = Pattern.parse(text).literal
        if not literal:
            raise RuleError("not a path", self.where, expected="a path without `*` and braces", got=f"`{text}`")
        return literal

    def add(self, key: Key | None = None, spec: TensorSpec | None = None, full_name: str = "") -> int:
        self.children.append({})
        self.records.append([])
        self.tensors.append({})
        self.full_names.append(full_name)
        if key is not None and spec is not None:
            self.tensors[-1][VARIABLE_ROLE] = key
            self.specs[key] = spec
        return len(self.children) - 1

    def reach(self, path: Path) -> int:
        """The node at a path; what is not there yet is made."""
        number = ROOT
        for label in path:
            if label not in self.children[number]:
                self.children[number][label] = self.add()
            number = self.children[number][label]
        return number

    def variable(self, path: Path, key: Key, spec: TensorSpec, full_name: str) -> None:
        self.children[self.reach(path[:-1])][path[-1]] = self.add(key, spec, full_name)

    def graph(self) -> ObjectGraph:
        nodes = zip(self.children, self.tensors, self.full_names, map(tuple, self.records), strict=True)
        return ObjectGraph(tuple(Node(*node) for node in nodes), self.specs)


def _spec(text: str, where: str) -> tuple[TensorSpec, str]:
    """A spec and the full name behind it: ``float32[2, 3] dense/kernel``."""
    found = re.fullmatch(r"(\w+)\[([\d, ]*)\](?: +(\S.*))?", text)
    if found is None:
        raise RuleError("not a tensor", where, expected="`float32[2, 3]` and perhaps a full name", got=f"`{text}`")
    sizes = tuple(int(size) for size in found[2].split(",") if size.strip())
    return TensorSpec(DType.from_label(found[1]), sizes), found[3] or ""
