"""Where the graph pairs are whose true mapping is known; tests skip what is not there.

A pair is ``NAME.json`` (the truth, and the shapes of both sides by key) with ``NAME.old.pb`` and ``NAME.new.pb``,
serialized object graphs; a side without one is a checkpoint of TensorFlow 1, of names only.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from builders import write_graph, write_tensors
from corpus import corpus_dir

from ckptmigrate import Matching, match_graphs
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.packs import fit_packs, read_pack
from ckptmigrate.spec import OBJECT_GRAPH_KEY, DType, Key, TensorSpec


def bench_dir() -> Path | None:
    corpus = corpus_dir()
    beside = corpus.parent / "bench" / "matching" if corpus else None
    return beside if beside and beside.is_dir() else None


def has_pair(name: str) -> bool:
    directory = bench_dir()
    return directory is not None and (directory / f"{name}.json").is_file()


@dataclass(frozen=True)
class Pair:
    """Two checkpoints by their shapes, and which variable is which."""

    name: str
    truth: dict[str, str]
    """The source's key, by the target's."""
    shapes: dict[str, dict[str, list[int]]]

    @classmethod
    def load(cls, name: str) -> "Pair":
        case = json.loads((bench_dir() / f"{name}.json").read_text())
        return cls(name, {target: source for source, target in case["truth"]}, case)

    def side(self, side: str) -> dict[str, tuple[int, ...]]:
        return {key: tuple(shape) for key, shape in self.shapes[side].items() if key != OBJECT_GRAPH_KEY}

    def serialized(self, side: str) -> bytes | None:
        file = bench_dir() / f"{self.name}.{side}.pb"
        return file.read_bytes() if file.exists() else None

    def graph(self, side: str) -> ObjectGraph:
        specs = {Key(key): TensorSpec(_dtype(key), shape) for key, shape in sorted(self.side(side).items())}
        serialized = self.serialized(side)
        return (
            ObjectGraph.from_names(specs)
            if serialized is None
            else ObjectGraph.from_bytes(serialized, specs, where=self.name)
        )

    def write(self, prefix: Path, side: str) -> str:
        """The side as a checkpoint whose variables hold a number of their own each, negative ones in the target."""
        sign = 1 if side == "old" else -1
        arrays = {
            key: np.full(shape, sign * number, _dtype(key).label)
            for number, (key, shape) in enumerate(sorted(self.side(side).items()), 1)
        }
        serialized = self.serialized(side)
        return write_tensors(prefix, arrays) if serialized is None else write_graph(prefix, serialized, arrays)

    def matched(self, *packs: str) -> tuple[Matching, tuple[str, ...]]:
        """What the packs make of it, with their notes."""
        source, target = self.graph("old"), self.graph("new")
        fitted = fit_packs(map(read_pack, packs), source, target)
        return match_graphs(source, target, fitted.rules), fitted.notes

    def right_and_wrong(self, matching: Matching) -> tuple[int, int]:
        """How many of the truth's pairs are decided as it has them, and how many otherwise."""
        decided = {
            step.target: step.sources
            for step in matching.steps
            if step.sources and step.status != "proposed" and "save_counter" not in step.target
        }
        right = sum(sources == (self.truth.get(target),) for target, sources in decided.items())
        return right, len(decided) - right


def _dtype(key: str) -> DType:
    return DType.INT64 if "save_counter" in key else DType.FLOAT32
