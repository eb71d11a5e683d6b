"""Whether a model holds what a checkpoint does: TensorFlow writes what it has restored, and that is compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ckptmigrate.bundle import Bundle, same_slices, slice_box
from ckptmigrate.spec import OBJECT_GRAPH_KEY, DType, Key

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


def compared_keys(bundle: Bundle) -> list[Key]:
    """The tensors that can be compared: all but the graph, and what only TensorFlow can read (iterator states).

    What an iterator serializes depends on what its threads have done meanwhile; that it could be restored at all
    is what shows.
    """
    return [
        key
        for key, entry in bundle.entries.items()
        if key != OBJECT_GRAPH_KEY and entry.spec.dtype is not DType.VARIANT
    ]


def not_restored(bundle: Bundle, written: Bundle) -> Iterator[str]:
    """What a checkpoint holds and a model, as it was written after the restore, does not."""
    for key in compared_keys(bundle):
        if key not in written.entries:
            yield f"`{key}` is not in the model"
        elif not (_has_equal_bytes(bundle, written, key) or _has_equal_rows(bundle, written, key)):
            yield f"`{key}` does not hold the checkpoint's value after the restore"


def _has_equal_bytes(bundle: Bundle, written: Bundle, key: Key) -> bool:
    entry, now = bundle.entries[key], written.entries[key]
    if entry.spec != now.spec:
        return False
    if not entry.slices and not now.slices:
        return entry.crc32c == now.crc32c
    if same_slices(entry, now):
        crcs = [
            {
                slice_box(piece, entry.spec.shape): each.slice_entries[key, piece].crc32c
                for piece in each.entries[key].slices
            }
            for each in (bundle, written)
        ]
        return crcs[0] == crcs[1]
    # A variable that is cut otherwise in the model: TensorFlow puts it together, and so do we.
    return have_equal_values((bundle, key), (written, key))


def _has_equal_rows(bundle: Bundle, written: Bundle, key: Key) -> bool:
    """Whether a tensor is one of a lookup table's two, and the table is equal: a hash table keeps no order."""
    stem = key.removesuffix("-keys").removesuffix("-values")
    both = (Key(f"{stem}-keys"), Key(f"{stem}-values"))
    if key not in both or not all(each in side.entries for each in both for side in (bundle, written)):
        return False
    tables = [[side.read(each) for each in both] for side in (bundle, written)]
    if any(ours.dtype != theirs.dtype for ours, theirs in zip(*tables, strict=True)):
        return False
    return _rows(*tables[0]) == _rows(*tables[1])


def _rows(keys: Any, values: Any) -> list[tuple[Any, Any]]:
    return sorted(zip(keys.reshape(len(keys), -1).tolist(), values.reshape(len(values), -1).tolist(), strict=True))
