"""What the checksums of two checkpoints say of their values: which are equal, and which no chance made equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

from ckptmigrate.bundle.content import content_crcs
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.spec import DType, Key, TensorSpec

if TYPE_CHECKING:
    from ckptmigrate.bundle import Bundle

_LEAST_ELEMENTS, _LEAST_BYTES = 4, 16
"""Smaller tensors tell nothing: they are counters, rates, states of random generators.

With 16 bytes a value has four times as many bits as its checksum, which then is the weaker evidence: see `proof`.
"""

FLOATS = frozenset({DType.FLOAT16, DType.BFLOAT16, DType.FLOAT32, DType.FLOAT64})
"""What is trained."""

_DTYPES = FLOATS | {
    dtype for dtype in DType if dtype.itemsize_bytes is not None and dtype.name.lstrip("Q").startswith(("INT", "UINT"))
}
"""The dtypes of which equal bytes can be proof. Masks have few values; of complex numbers no plain ones are known."""


class Value(NamedTuple):
    """What a tensor holds, whatever its shape: two of them are equal if the tensors are, but for their axes.

    Attributes:
        kind: Dtype and number of elements: what has to be equal for values to be equal at all.
        crc32c: The checksum of its bytes.
    """

    kind: tuple[int, int]
    crc32c: int


@dataclass(frozen=True, slots=True)
class Contents:
    """The CRC32C of the values of two checkpoints, by key and not masked. Of these only what has a fixed size.

    Attributes:
        source: Those of the source.
        target: Those of the target.
    """

    source: Mapping[Key, int]
    target: Mapping[Key, int]

    @classmethod
    def of(cls, source: Bundle, target: Bundle) -> Self:
        """Those of two bundles, from their indices: no value is read."""
        return cls(content_crcs(source), content_crcs(target))

    def are_equal(self, source: Key, target: Key) -> bool:
        """Whether both are known and equal; their specs are another matter."""
        return source in self.source and self.source[source] == self.target.get(target)

    def differ(self, source: Key, target: Key) -> bool:
        """Whether both are known and not equal."""
        ours, theirs = self.target.get(target), self.source.get(source)
        return None not in (ours, theirs) and ours != theirs


def values_of(graph: ObjectGraph, crcs: Mapping[Key, int], *, of_slots: bool) -> dict[Key, Value]:
    """The values of variables, or of slots, that are large enough to tell something."""
    found: dict[Key, Value] = {}
    kinds: dict[TensorSpec, tuple[int, int] | None] = {}
    for key, number in graph.node_of.items():
        if (number in graph.slot_nodes) != of_slots or key not in crcs or number in graph.scalars:
            continue
        spec = graph.specs[key]
        if spec not in kinds:
            kinds[spec] = _kind(spec)
        kind = kinds[spec]
        if kind is not None:
            found[key] = Value(kind, crcs[key])
    return found


def _kind(spec: TensorSpec) -> tuple[int, int] | None:
    count = spec.num_elements
    is_large = count >= _LEAST_ELEMENTS and count * (spec.dtype.itemsize_bytes or 0) >= _LEAST_BYTES
    return (int(spec.dtype), count) if is_large and spec.dtype in _DTYPES else None


def is_trained_vector(spec: TensorSpec) -> bool:
    """Whether only training makes such a tensor anything but plain: no layer draws its biases and scales."""
    return len(spec.shape) == 1 and spec.dtype in FLOATS
