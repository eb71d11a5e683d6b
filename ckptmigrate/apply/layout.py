"""Which bytes of a new bundle are linked, which are copied, and which are made.

A tensor that does not change stays in its data file, and the file becomes a shard of the new bundle.
That is worth it while most of the file is still alive: a shard in which dropped tensors take more room
than what is left is not linked, its live ranges are copied. An object graph in it counts on neither
side: the target's is needed and the source's is not, whatever happens to the tensors.

A partitioned tensor is cut as the target's is: where the source has other slices, or none, its values are
written anew, slice by slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from ckptmigrate.bundle import Bundle, Entry, SliceSpec, same_slices
from ckptmigrate.matching import Step
from ckptmigrate.ops import Fill
from ckptmigrate.plan import Plan
from ckptmigrate.spec import OBJECT_GRAPH_KEY, Key

Side = Literal["source", "target"]
Choice = Literal["auto", "link", "compact"]


class Kept(msgspec.Struct, frozen=True, gc=False):
    """A tensor (or one slice of a partitioned one) whose bytes are taken as they are.

    Attributes:
        key: Its key in the new bundle.
        slice_spec: Which slice of it; None for a whole tensor.
        side: Whose bytes: the source's, or the target's for a template's initial value.
        entry: Its entry there.
    """

    key: Key
    slice_spec: SliceSpec | None
    side: Side
    entry: Entry


@dataclass(frozen=True, slots=True)
class LinkedShard:
    """A data file that becomes a shard of the new bundle as it is."""

    side: Side
    shard: int
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where every tensor of the new bundle will be.

    Attributes:
        linked: The data files that become shards, in the order of their new numbers.
        in_place: The tensors that stay where they are in those.
        copied: The tensors whose bytes are copied into the new shard, in the order of the files they are in.
        made: The steps whose values are computed into the new shard.
    """

    linked: tuple[LinkedShard, ...]
    in_place: tuple[Kept, ...]
    copied: tuple[Kept, ...]
    made: tuple[Step, ...]

    @property
    def has_new_shard(self) -> bool:
        """Whether anything is written but the index. A bundle needs one shard at least."""
        return bool(self.copied or self.made or not self.linked)

    @property
    def num_shards(self) -> int:
        return len(self.linked) + self.has_new_shard


def lay_out(plan: Plan, source: Bundle, target: Bundle, choice: Choice) -> Layout:
    """Decide for every tensor of a plan.

    Args:
        plan: A plan that fits its two ends.
        source: The bundle that values come from.
        target: The bundle of the new model, whose graph the new bundle gets.
        choice: ``link`` keeps all the source's data files that anything is used of, and the slices in them;
            ``compact`` none, ``auto`` those at least half of whose bytes are used.
    """
    bundles: dict[Side, Bundle] = {"source": source, "target": target}
    is_kept = [_is_kept(step, source, target, choice) for step in plan.steps]
    kept = list(_kept([step for step, stays in zip(plan.steps, is_kept, strict=True) if stays], bundles))
    made = tuple(step for step, stays in zip(plan.steps, is_kept, strict=True) if not stays)
    files: dict[tuple[Side, int], list[Kept]] = {}
    for item in kept:
        files.setdefault((item.side, item.entry.shard), []).append(item)
    linked: list[LinkedShard] = []
    in_place: list[Kept] = []
    copied: list[Kept] = []
    for (side, shard), items in sorted(files.items(), key=lambda file: file[0]):
        bundle = bundles[side]
        live_bytes = sum(
            size_bytes
            for _, size_bytes in {
                (item.entry.offset, item.entry.size_bytes) for item in items if item.key != OBJECT_GRAPH_KEY
            }
        )
        dead_bytes = bundle.shard_sizes[shard] - _graph_bytes(bundle, shard) - live_bytes
        # The template's own files are linked only if nearly all of the new bundle is initial values.
        forced = choice == "link" and side == "source"
        if live_bytes and choice != "compact" and (forced or dead_bytes <= live_bytes):
            linked.append(LinkedShard(side, shard, bundle.shard_paths[shard], bundle.shard_sizes[shard]))
            in_place.extend(items)
        else:
            copied.extend(sorted(items, key=lambda item: item.entry.offset))
    return Layout(tuple(linked), tuple(in_place), tuple(copied), made)


def _graph_bytes(bundle: Bundle, shard: int) -> int:
    graph = bundle.entries.get(OBJECT_GRAPH_KEY)
    return graph.size_bytes if graph is not None and graph.shard == shard else 0


def _is_kept(step: Step, source: Bundle, target: Bundle, choice: Choice) -> bool:
    """Whether a step's values are stored as its result is to be stored."""
    if step.ops:
        return step.ops == (Fill("template"),)
    found, wanted = source.entries[step.sources[0]], target.entries[step.target]
    return choice == "link" or same_slices(found, wanted)


def _kept(steps: Iterable[Step], bundles: dict[Side, Bundle]) -> Iterator[Kept]:
    for step in steps:
        side: Side = "source" if step.sources else "target"
        origin = step.sources[0] if step.sources else step.target
        entry = bundles[side].entries[origin]
        yield Kept(step.target, None, side, entry)
        for slice_spec in entry.slices:
            yield Kept(step.target, slice_spec, side, bundles[side].slice_entries[origin, slice_spec])
    graph = bundles["target"].entries.get(OBJECT_GRAPH_KEY)
    if graph is not None:
        yield Kept(OBJECT_GRAPH_KEY, None, "target", graph)
