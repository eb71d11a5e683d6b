"""What two bundles do not share. Linear in the number of nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ckptmigrate.graph import ObjectGraph
from ckptmigrate.matching.walk import pairs_matching
from ckptmigrate.spec import Key, Pattern


@dataclass(frozen=True, slots=True)
class Difference:
    """Two bundles' tensors, by what they have in common.

    Attributes:
        only_source: Keys of the source at no path of the target.
        only_target: Keys of the target at no path of the source.
        moved: Pairs at different paths whose stored bytes are equal, and equal to no others'.
        respecified: Pairs at one path with another shape or dtype.
        same: Pairs at one path with equal shape and dtype.
        equal_values: How many of `same` have equal bytes.
    """

    only_source: tuple[Key, ...]
    only_target: tuple[Key, ...]
    moved: tuple[tuple[Key, Key], ...]
    respecified: tuple[tuple[Key, Key], ...]
    same: tuple[tuple[Key, Key], ...]
    equal_values: int


def find_difference(
    source: ObjectGraph, target: ObjectGraph, source_crcs: Mapping[Key, int], target_crcs: Mapping[Key, int]
) -> Difference:
    """Compare two bundles by the paths of their variables.

    A path through a list means what it says here, unlike in matching: a difference decides nothing.

    Args:
        source: One graph.
        target: The other.
        source_crcs: The CRC32C of each tensor's stored bytes, by key; no data is read.
        target_crcs: The same of the other.
    """
    pairs: dict[Key, Key] = {}
    taken: set[Key] = set()
    for source_key, target_key in _at_one_path(source, target):
        if source_key not in pairs and target_key not in taken:
            pairs[source_key] = target_key
            taken.add(target_key)
    only_source = [key for key in source.specs if key not in pairs]
    only_target = [key for key in target.specs if key not in taken]
    moved = _moved(
        {key: (source.specs[key], source_crcs[key]) for key in only_source},
        {key: (target.specs[key], target_crcs[key]) for key in only_target},
    )
    moved_targets = set(moved.values())
    same = tuple((s, t) for s, t in pairs.items() if source.specs[s] == target.specs[t])
    return Difference(
        tuple(key for key in only_source if key not in moved),
        tuple(key for key in only_target if key not in moved_targets),
        tuple(moved.items()),
        tuple((s, t) for s, t in pairs.items() if source.specs[s] != target.specs[t]),
        same,
        sum(source_crcs[s] == target_crcs[t] for s, t in same),
    )


def _at_one_path(source: ObjectGraph, target: ObjectGraph) -> Iterator[tuple[Key, Key]]:
    everything = Pattern.parse("**")
    for s, t in sorted(pairs_matching(source, everything, target, everything)):
        for role, key in source.nodes[s].tensors.items():
            if role in target.nodes[t].tensors:
                yield key, target.nodes[t].tensors[role]
    # Slots and what only bookkeeping leads to: by the path that people would say.
    said = {target.say_key(key): key for key in target.specs}
    for key in source.specs:
        twin = said.get(source.say_key(key))
        if twin is not None:
            yield key, twin


def _moved(source: Mapping[Key, object], target: Mapping[Key, object]) -> dict[Key, Key]:
    by_content: dict[object, tuple[list[Key], list[Key]]] = {}
    for key, content in source.items():
        by_content.setdefault(content, ([], []))[0].append(key)
    for key, content in target.items():
        by_content.setdefault(content, ([], []))[1].append(key)
    return {left[0]: right[0] for left, right in by_content.values() if len(left) == len(right) == 1}
