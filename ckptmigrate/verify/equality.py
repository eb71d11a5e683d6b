"""Whether two tensors of two bundles are equal, however each is stored."""

from __future__ import annotations

from typing import Any

from ckptmigrate.bundle import Bundle
from ckptmigrate.spec import Key

_BLOCK_BYTES = 16 * 1024 * 1024
"""How much of a tensor is compared at a time where its checksum does not say whether it is equal."""

_STRING_BYTES = 64
"""What a string is taken to weigh."""


def have_equal_values(left: tuple[Bundle, Key], right: tuple[Bundle, Key]) -> bool:
    """Whether two tensors of one spec are equal, however each is cut into slices. A block of each is in memory."""
    (bundle, key), (other, twin) = left, right
    spec = bundle.entries[key].spec
    # As one axis, so that a block is never larger than it should be.
    step = max(1, _BLOCK_BYTES // (spec.dtype.itemsize_bytes or _STRING_BYTES))
    for start in range(0, spec.num_elements, step):
        box = ((start, min(start + step, spec.num_elements)),)
        ours, theirs = (each.read_box(name, box, (spec.num_elements,)) for each, name in ((bundle, key), (other, twin)))
        if ours.tolist() != theirs.tolist() if ours.dtype.hasobject else ours.tobytes() != theirs.tobytes():
            return False
    return True


def holds_equal(left: tuple[Bundle, Key], right: tuple[Bundle, Key]) -> bool:
    """Whether two tensors are equal, or are one half of two lookup tables that are."""
    return _has_equal_bytes(left, right) or _has_equal_rows(left, right)


def _has_equal_bytes(left: tuple[Bundle, Key], right: tuple[Bundle, Key]) -> bool:
    (bundle, key), (other, twin) = left, right
    entry, now = bundle.entries[key], other.entries[twin]
    if entry.spec != now.spec:
        return False
    if not entry.slices and not now.slices:
        return entry.crc32c == now.crc32c
    return have_equal_values(left, right)


def _has_equal_rows(left: tuple[Bundle, Key], right: tuple[Bundle, Key]) -> bool:
    """Whether a tensor is one of a lookup table's two, and the table is equal: a hash table keeps no order."""
    tables = []
    for bundle, key in (left, right):
        stem = key.removesuffix("-keys").removesuffix("-values")
        both = (Key(f"{stem}-keys"), Key(f"{stem}-values"))
        if key not in both or not all(each in bundle.entries for each in both):
            return False
        tables.append([bundle.read(each) for each in both])
    if any(ours.dtype != theirs.dtype for ours, theirs in zip(*tables, strict=True)):
        return False
    return _rows(*tables[0]) == _rows(*tables[1])


def _rows(keys: Any, values: Any) -> list[tuple[Any, Any]]:
    return sorted(zip(keys.reshape(len(keys), -1).tolist(), values.reshape(len(values), -1).tolist(), strict=True))
