"""A bundle for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ckptmigrate.bundle import Bundle, unmask_crc, writer_version
from ckptmigrate.graph import VARIABLE_ROLE, ObjectGraph
from ckptmigrate.health import FAILING, Health, Suspicion
from ckptmigrate.spec import Key, format_path


def inspect_data(bundle: Bundle, graph: ObjectGraph) -> dict[str, Any]:
    """What `inspect --json` prints: every tensor with its path, full name, and what it is a slot of."""
    slots: dict[Key, dict[str, str]] = {}
    for optimizer in graph.optimizers:
        for slot in optimizer.slots:
            owner = {} if slot.variable is None else {"variable": graph.say(slot.variable)}
            key = graph.nodes[slot.node].tensors[VARIABLE_ROLE]
            slots[key] = {"optimizer": graph.say(optimizer.node), "kind": slot.kind, **owner}
    return {
        "prefix": bundle.prefix,
        "kind": graph.kind,
        "nodes": len(graph.nodes),
        "fingerprint": bundle.fingerprint,
        "format_version": bundle.producer_version,
        "tensorflow_version": writer_version(bundle.prefix) or None,
        "shards": [
            {"path": path, "size_bytes": size}
            for path, size in zip(bundle.shard_paths, bundle.shard_sizes, strict=True)
        ],
        "optimizers": [
            {
                "path": graph.say(optimizer.node),
                "generation": optimizer.generation,
                "algorithm": optimizer.algorithm or None,
                "slots": len(optimizer.slots),
                "scalars": {
                    role: graph.nodes[number].tensors[VARIABLE_ROLE] for role, number in optimizer.scalars.items()
                },
            }
            for optimizer in graph.optimizers
        ],
        "tensors": [_tensor_data(bundle, graph, key, slots.get(key)) for key in graph.specs],
    }


def _tensor_data(bundle: Bundle, graph: ObjectGraph, key: Key, slot: dict[str, str] | None) -> dict[str, Any]:
    entry = bundle.entries[key]
    number = graph.node_of.get(key)
    data: dict[str, Any] = {
        "key": key,
        "path": None if number is None else format_path(graph.paths[number]),
        "full_name": "" if number is None else graph.nodes[number].full_name,
        "dtype": entry.spec.dtype.label,
        "shape": entry.spec.shape,
        "size_bytes": bundle.stored_bytes(key),
        "shard": entry.shard,
        "crc32c": f"{unmask_crc(entry.crc32c):08x}",
    }
    if entry.slices:
        data["slices"] = [[list(extent) for extent in item] for item in entry.slices]
    if slot is not None:
        data["slot"] = slot
    return data


def health_data(data: dict[str, Any], found: Mapping[Key, Health], suspicions: Sequence[Suspicion]) -> dict[str, Any]:
    """What `inspect --health --json` prints: the same, with what the values are like."""
    kinds: dict[Key, list[str]] = {}
    for suspicion in suspicions:
        kinds.setdefault(suspicion.key, []).append(suspicion.kind)
    return {
        **data,
        "passed": not any(suspicion.kind in FAILING for suspicion in suspicions),
        "suspicious": dict(Counter(suspicion.kind for suspicion in suspicions)),
        "tensors": [
            {**tensor, "health": _values_data(found[tensor["key"]], kinds.get(tensor["key"], []))}
            for tensor in data["tensors"]
        ],
    }


def _values_data(health: Health, kinds: Sequence[str]) -> dict[str, Any]:
    return {
        "suspicious": kinds,
        "problem": health.problem or None,
        "nan": health.nan,
        "inf": health.inf,
        "subnormals": health.subnormals,
        "subnormal_share": health.subnormal_share,
        "all_zero": health.is_zero,
        "constant": health.is_constant,
        "norm": health.norm,
        "min": health.minimum,
        "max": health.maximum,
    }
