"""What of a checkpoint's values a person should look at, and what is as it often is.

A bias of zeros, a fresh slot and a scale of ones are what initializers give, and a moving mean is zero until it is
moved. A kernel of one value is never so, and what is constant where others like it are not was left behind.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Literal, NamedTuple, get_args

from ckptmigrate.dtypes import FLOATS, PARTS, has_short_exponent
from ckptmigrate.fold import split_numbers
from ckptmigrate.graph import VARIABLE_ROLE, ObjectGraph
from ckptmigrate.health.measure import Health
from ckptmigrate.spec import DType, Key

Kind = Literal["damaged", "not finite", "constant kernel", "left behind", "subnormal"]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""What can be suspicious, the worst first."""

FAILING: frozenset[Kind] = frozenset({"damaged", "not finite"})
"""What is never right, so that a check fails."""

_MANY_SUBNORMALS = 0.01

_MANY_SUBNORMALS_FLOAT16 = 0.1
"""Its least normal number is so large that some of an ordinary kernel are below it."""

_CONSTANT_NAMES = frozenset(
    {"b", "bias", "biases", "beta", "offset", "mean", "state", "states", "cache", "mask", "lora"}
)
"""Words in the names of what often starts with one value although it has two axes."""


class Suspicion(NamedTuple):
    """A tensor to look at.

    Attributes:
        key: Which.
        kind: Why.
    """

    key: Key
    kind: Kind


def find_suspicions(graph: ObjectGraph, found: Mapping[Key, Health]) -> list[Suspicion]:
    """What a person should look at, the worst first.

    Args:
        graph: The checkpoint's graph, which says what is a slot of what.
        found: What each tensor's values are like.
    """
    suspicions = [*_single(graph, found), *_left_behind(graph, found)]
    return sorted(suspicions, key=lambda suspicion: KINDS.index(suspicion.kind))


def _single(graph: ObjectGraph, found: Mapping[Key, Health]) -> Iterator[Suspicion]:
    """What is suspicious whatever the others are."""
    for key, health in found.items():
        if health.problem:
            yield Suspicion(key, "damaged")
        if not health.is_finite:
            yield Suspicion(key, "not finite")
        if health.is_constant and _is_kernel(graph, key):
            yield Suspicion(key, "constant kernel")
        # The velocities of what is seldom used become ever smaller.
        if graph.node_of.get(key) not in graph.slot_nodes and _has_many_subnormals(graph.specs[key].dtype, health):
            yield Suspicion(key, "subnormal")


def _has_many_subnormals(dtype: DType, health: Health) -> bool:
    if dtype is DType.FLOAT16:
        return health.subnormal_share >= _MANY_SUBNORMALS_FLOAT16
    return health.subnormal_share >= _MANY_SUBNORMALS and not has_short_exponent(dtype)


def _is_kernel(graph: ObjectGraph, key: Key) -> bool:
    """Whether a tensor is a model's variable that an initializer fills by chance."""
    number, spec = graph.node_of.get(key), graph.specs[key]
    if number is None or number in graph.slot_nodes or number in graph.scalars:
        return False
    node = graph.nodes[number]
    # A bias may have an axis for the heads, and more of size 1 to fit what it is added to.
    if node.tensors.get(VARIABLE_ROLE) != key or sum(size > 1 for size in spec.shape) < 2:
        return False
    names = (*graph.paths[number][-1:], node.full_name.rpartition("/")[2])
    words = {word for name in names for word in re.findall("[a-z]+", name.lower())}
    return (spec.dtype in FLOATS or spec.dtype in PARTS) and not words & _CONSTANT_NAMES


def _left_behind(graph: ObjectGraph, found: Mapping[Key, Health]) -> Iterator[Suspicion]:
    """What is constant where most of those like it are not: it was not trained with them, or not restored."""
    groups: dict[Hashable, list[Key]] = {}
    kinds = {slot.node: (place, slot.kind) for place, each in enumerate(graph.optimizers) for slot in each.slots}
    for key, health in found.items():
        if health.elements < 2 or health.norm is None:
            continue
        number = graph.node_of.get(key)
        likeness = kinds.get(number) if number is not None else None
        groups.setdefault(likeness or split_numbers(graph.say_key(key))[0], []).append(key)
    for alike in groups.values():
        constant = [key for key in alike if found[key].is_constant]
        if 2 * len(constant) < len(alike):
            yield from (Suspicion(key, "left behind") for key in constant if not _is_kernel(graph, key))
