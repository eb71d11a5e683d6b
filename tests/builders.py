"""Checkpoints written without TensorFlow, from plain Python values."""

import contextlib
import hashlib
import io
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import ml_dtypes
import numpy as np

from ckptmigrate import Endpoint, ObjectGraph, make_plan, match_graphs, parse_rulebook
from ckptmigrate.bundle import (
    Bundle,
    Entry,
    TrackableObjectGraph,
    data_path,
    encode_strings,
    extend_crc,
    index_path,
    mask_crc,
    write_index,
)
from ckptmigrate.cli import main
from ckptmigrate.spec import OBJECT_GRAPH_KEY, DType, Key, TensorSpec

BFLOAT16 = ml_dtypes.bfloat16


@dataclass(eq=False)
class Var:
    """A variable with a full name; plain arrays have none."""

    value: np.ndarray
    name: str = ""


@dataclass(eq=False)
class Table:
    """A lookup table: one attribute in the graph, two tensors in the bundle."""

    keys: np.ndarray
    values: np.ndarray


@dataclass(eq=False)
class Partitioned:
    """A variable stored in slices of its first axis."""

    value: np.ndarray
    lengths: tuple[int, ...]


@dataclass(eq=False)
class Legacy:
    """An optimizer with slot records: children, and (kind, variable, value) for each slot."""

    children: dict
    slots: list = field(default_factory=list)


def key_of(path):
    """The key of the variable at a path."""
    return Key(f"{path}/.ATTRIBUTES/VARIABLE_VALUE")


def floats(*shape, start=0):
    """Distinct numbers in a shape."""
    return np.arange(start, start + int(np.prod(shape)), dtype=np.float32).reshape(shape)


def adam(variables, *, start=1000, dtype=np.float32):
    """A Keras 3 optimizer: flat lists, whose indices tie slots to variables."""
    iterations, rate = np.int64(7).reshape(()), np.float32(0.001).reshape(())
    momentums = [floats(*value_of(v).shape, start=start + 20 * n).astype(dtype) for n, v in enumerate(variables)]
    velocities = [floats(*value_of(v).shape, start=2 * start + 20 * n).astype(dtype) for n, v in enumerate(variables)]
    pairs = [slot for pair in zip(momentums, velocities, strict=True) for slot in pair]
    return {
        "_iterations": iterations,
        "_learning_rate": rate,
        "_variables": [iterations, rate, *pairs],
        "_trainable_variables": list(variables),
        "_momentums": momentums,
        "_velocities": velocities,
    }


def value_of(leaf):
    return leaf.value if isinstance(leaf, Var | Partitioned) else leaf


def children_of(thing):
    match thing:
        case dict():
            return dict(thing)
        case list():
            return {str(number): item for number, item in enumerate(thing)}
        case Legacy():
            return dict(thing.children)
        case _:
            return {}


def serialize(tree):
    """The object graph of nested dicts and lists, and its tensors by key.

    One value in two places is one node with two paths; a dict that holds itself makes a cycle. Keys are shortest
    paths, as TensorFlow's are.
    """
    nodes, keys = number_nodes(tree)
    number_of = {id(node): number for number, node in enumerate(nodes)}
    message, tensors = TrackableObjectGraph(), {}
    for thing in nodes:
        node = message.nodes.add()
        for label, child in children_of(thing).items():
            node.children.add(local_name=label, node_id=number_of[id(child)])
        for kind, variable, slot in slots_of(thing):
            node.slot_variables.add(
                slot_name=kind,
                original_variable_node_id=number_of[id(variable)],
                slot_variable_node_id=number_of[id(slot)],
            )
        if isinstance(thing, Table):
            key = f"{keys[id(thing)]}/.ATTRIBUTES/table"
            node.attributes.add(name="table", checkpoint_key=key)
            tensors |= {f"{key}-keys": thing.keys, f"{key}-values": thing.values}
        elif not isinstance(thing, dict | list | Legacy):
            key = key_of(keys[id(thing)])
            name = thing.name if isinstance(thing, Var) else ""
            node.attributes.add(name="VARIABLE_VALUE", checkpoint_key=key, full_name=name)
            tensors[key] = thing
    return message.SerializeToString(), tensors


def number_nodes(tree):
    """The nodes of a tree, breadth first, then the slots; and the shortest path of each as text, by its id."""
    nodes, keys = [tree], {id(tree): ""}
    queue = deque([tree])
    while queue:
        thing = queue.popleft()
        for label, child in children_of(thing).items():
            if id(child) not in keys:
                escaped = label.replace(".", "..").replace("/", ".S")
                keys[id(child)] = f"{keys[id(thing)]}/{escaped}".lstrip("/")
                nodes.append(child)
                queue.append(child)
    for optimizer in list(nodes):
        for kind, variable, slot in slots_of(optimizer):
            keys[id(slot)] = f"{keys[id(variable)]}/.OPTIMIZER_SLOT/{keys[id(optimizer)]}/{kind}"
            nodes.append(slot)
    return nodes, keys


def slots_of(thing):
    return thing.slots if isinstance(thing, Legacy) else ()


def graph_of(tree):
    """The object graph of a tree, without a file."""
    serialized, tensors = serialize(tree)
    specs = {Key(key): spec_of(value_of(value)) for key, value in sorted(tensors.items())}
    return ObjectGraph.from_bytes(serialized, specs, where="tree")


def spec_of(array):
    return TensorSpec(DType.STRING if array.dtype == object else DType.from_label(array.dtype.name), array.shape)


def write_tree(prefix, tree, *, shards=1):
    """Write a checkpoint with an object graph; its prefix."""
    serialized, tensors = serialize(tree)
    graph = np.array(serialized, dtype=object)
    return write_tensors(prefix, {**tensors, OBJECT_GRAPH_KEY: graph}, shards=shards)


def write_graph(prefix, message, tensors=()):
    """Write a checkpoint with any bytes for its object graph."""
    serialized = message if isinstance(message, bytes) else message.SerializeToString()
    return write_tensors(prefix, {**dict(tensors), OBJECT_GRAPH_KEY: np.array(serialized, dtype=object)})


class ShardWriter:
    """A new data file that tensors are appended to."""

    def __init__(self, path):
        self.file = Path(path).open("xb")  # noqa: SIM115  # closed by __exit__

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def append(self, data, crc=None):
        """Add bytes; their offset, size, and masked CRC32C, which is given where it is not simply that of the bytes."""
        data = data.tobytes() if hasattr(data, "tobytes") else data
        offset = self.file.tell()
        self.file.write(data)
        return offset, len(data), mask_crc(extend_crc(0, data) if crc is None else crc)


def write_tensors(prefix, tensors, *, shards=1):
    """Write a bundle of arrays by key, dealt out to the data files in turn; its prefix."""
    prefix = str(prefix)
    Path(prefix).parent.mkdir(parents=True, exist_ok=True)
    for number in range(shards):
        Path(data_path(prefix, number, shards)).unlink(missing_ok=True)
    entries, slices = [], {}
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(ShardWriter(data_path(prefix, n, shards))) for n in range(shards)]
        for number, (name, thing) in enumerate(tensors.items()):
            key, shard, array = Key(name), number % shards, value_of(thing)
            if isinstance(thing, Partitioned):
                pieces = pieces_of(thing)
                entries.append(Entry(key, spec_of(array), 0, 0, 0, 0, tuple(pieces)))
                for piece, part in pieces.items():
                    slices[key, piece] = Entry(key, spec_of(part), shard, *writers[shard].append(part.tobytes()))
            else:
                strings = array.dtype == object
                stored = encode_strings(array.reshape(-1).tolist()) if strings else (array.tobytes(),)
                entries.append(Entry(key, spec_of(array), shard, *writers[shard].append(*stored)))
    write_index(index_path(prefix), entries, shards, slices)
    return prefix


def pieces_of(thing):
    """The slices of a partitioned tensor, with their values."""
    starts = np.cumsum((0, *thing.lengths))[:-1].tolist()
    whole = ((0, -1),) * (thing.value.ndim - 1)
    return {
        ((start, length), *whole): thing.value[start : start + length]
        for start, length in zip(starts, thing.lengths, strict=True)
    }


def read_all(prefix):
    """The arrays of a bundle by key, without its graph."""
    with Bundle.open(prefix) as bundle:
        return {key: bundle.read(key) for key in bundle.entries if key != OBJECT_GRAPH_KEY}


def plan_between(source, target, rules="", **allowed):
    """The plan from one prefix to another, with rules as YAML list items or as they were read."""
    rulebook = parse_rulebook("rules:\n" + rules) if rules and isinstance(rules, str) else rules or ()
    with Bundle.open(source) as theirs, Bundle.open(target) as ours:
        matching = match_graphs(ObjectGraph.from_bundle(theirs), ObjectGraph.from_bundle(ours), rulebook)
        return make_plan(Endpoint.of(theirs), Endpoint.of(ours), matching, **allowed)


def flip_byte(path, offset, mask=0x01):
    """Change a byte of a file in place."""
    with Path(path).open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def files_in(directory):
    """Every file and directory below one, with a digest of each file: equal before and after means untouched."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "directory"
        for path in sorted(Path(directory).rglob("*"))
    }


@dataclass(frozen=True)
class Ran:
    """What a command did: its exit status, and what it printed."""

    status: int
    out: str
    err: str


def ckptmigrate(*arguments):
    """Run the real command line in this process. An error that is not ours comes through as it is."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["ckptmigrate", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            status = 0
        except SystemExit as stop:
            status = stop.code or 0
    return Ran(status, out.getvalue(), err.getvalue())
