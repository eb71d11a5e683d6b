"""Object graphs: nodes, walks, slots, and what damaged ones are refused with."""

import numpy as np
import pytest
from builders import (
    Legacy,
    Partitioned,
    Table,
    Var,
    adam,
    ckptmigrate,
    floats,
    graph_of,
    key_of,
    serialize,
    spec_of,
    value_of,
    write_graph,
    write_tensors,
    write_tree,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptmigrate import Bundle, ObjectGraph
from ckptmigrate.bundle import TrackableObjectGraph
from ckptmigrate.errors import GraphError, Problems
from ckptmigrate.graph import ROOT


def read_graph(message, tensors=()):
    serialized = message if isinstance(message, bytes) else message.SerializeToString()
    return ObjectGraph.from_bytes(
        serialized, {key: spec_of(value_of(v)) for key, v in dict(tensors).items()}, where="g"
    )


def test_a_variable_has_the_key_of_its_node():
    graph = graph_of({"model": {"dense": {"kernel": floats(2, 3)}}})
    number = graph.find(("model", "dense", "kernel"))
    assert graph.nodes[number].tensors == {"VARIABLE_VALUE": key_of("model/dense/kernel")}
    assert graph.say(number) == "model/dense/kernel"
    assert graph.node_of[key_of("model/dense/kernel")] == number
    assert graph.find(("model", "other")) is None


def test_a_shared_node_has_several_paths_and_one_key():
    kernel = floats(2)
    graph = graph_of({"a": {"deep": {"kernel": kernel}}, "b": {"kernel": kernel}})
    (number,) = graph.node_of.values()
    assert set(graph.all_paths(number)) == {("a", "deep", "kernel"), ("b", "kernel")}
    assert graph.say(number) == "b/kernel"


def test_a_cycle_ends():
    child = {"w": floats(2)}
    tree = {"model": child}
    child["parent"] = tree
    graph = graph_of(tree)
    number = graph.find(("model", "parent", "model", "w"))
    assert number == graph.find(("model", "w"))
    assert graph.all_paths(number) == (("model", "w"),)
    assert list(graph.keys_below(ROOT)) == [key_of("model/w")]
    assert graph.climbs(graph.find(("model",)), ROOT)


def test_labels_with_slashes_and_dots_are_escaped_in_paths():
    graph = graph_of({"a/b": {"c.d": floats(2)}})
    assert graph.say(graph.find(("a/b", "c.d"))) == "a.Sb/c..d"


def test_a_table_is_two_tensors_of_one_node():
    graph = graph_of({"table": Table(np.array([b"x"], object), np.array([1]))})
    (number,) = set(graph.node_of.values())
    assert sorted(graph.nodes[number].tensors) == ["table-keys", "table-values"]
    assert graph.say_key("table/.ATTRIBUTES/table-keys") == "table (table-keys)"


def test_the_names_of_a_tf1_checkpoint_are_a_tree(tmp_path):
    with Bundle.open(write_tensors(tmp_path / "ckpt", {"a/w": floats(2), "a/w/Adam": floats(2), "b": floats(1)})) as it:
        graph = ObjectGraph.from_bundle(it)
    assert graph.kind == "name"
    assert graph.nodes[graph.find(("a", "w", "Adam"))].tensors == {"VARIABLE_VALUE": "a/w/Adam"}
    assert graph.nodes[graph.find(("a", "w"))].tensors == {"VARIABLE_VALUE": "a/w"}
    (optimizer,) = graph.optimizers
    assert (optimizer.generation, optimizer.algorithm) == ("tf1", "adam")
    assert [(slot.kind, graph.say(slot.variable)) for slot in optimizer.slots] == [("momentum", "a/w")]


def test_keys_that_no_object_holds_are_kept_apart():
    serialized, tensors = serialize({"w": floats(2)})
    graph = read_graph(serialized, {**tensors, "saver/state": floats(1)})
    assert graph.unowned == ("saver/state",)


def test_a_tensor_that_the_index_lacks_is_told_and_not_refused(tmp_path):
    serialized, tensors = serialize({"w": floats(2), "b": floats(1)})
    del tensors[key_of("b")]
    assert read_graph(serialized, tensors).missing == (key_of("b"),)
    ran = ckptmigrate("inspect", write_graph(tmp_path / "ckpt", serialized, tensors))
    assert ran.status == 0
    assert "b/.ATTRIBUTES/VARIABLE_VALUE" in ran.out


@pytest.mark.parametrize("number", [-1, 2, 2**31 - 1])
def test_a_child_out_of_range_is_refused(number):
    message = TrackableObjectGraph()
    message.nodes.add().children.add(local_name="model", node_id=number)
    message.nodes.add()
    with pytest.raises(GraphError) as raised:
        read_graph(message)
    assert raised.value.what == "child `model` of node 0 is not a node"
    assert raised.value.expected.startswith("a number from 0 to 1")
    assert raised.value.got == str(number)


@pytest.mark.parametrize(("variable", "slot", "what"), [(9, 1, "variable of slot"), (1, 9, "slot `m` of node 0")])
def test_a_slot_out_of_range_is_refused(variable, slot, what):
    message = TrackableObjectGraph()
    message.nodes.add().slot_variables.add(
        slot_name="m", original_variable_node_id=variable, slot_variable_node_id=slot
    )
    message.nodes.add()
    with pytest.raises(GraphError, match=what):
        read_graph(message)


def test_all_that_is_out_of_range_is_told_at_once():
    message = TrackableObjectGraph()
    root = message.nodes.add()
    for number in range(3):
        root.children.add(local_name=f"c{number}", node_id=7 + number)
    with pytest.raises(Problems) as raised:
        read_graph(message)
    assert [problem.got for problem in raised.value.problems] == ["7", "8", "9"]


def test_a_graph_that_is_damaged_everywhere_is_told_in_a_few_lines():
    message = TrackableObjectGraph()
    root = message.nodes.add()
    for number in range(1, 5001):
        root.children.add(local_name=f"c{number}", node_id=number)
    with pytest.raises(Problems) as raised:
        read_graph(message)
    assert len(str(raised.value).splitlines()) < 50
    assert "more" in str(raised.value)


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x0a\xff\x01", b"\x0a\x03\x0a\x05a", b"not a graph"])
def test_bytes_that_are_no_graph_are_refused(garbage):
    with pytest.raises(GraphError, match="unreadable object graph @ g"):
        read_graph(garbage)


def test_a_graph_without_a_root_is_refused():
    with pytest.raises(GraphError, match="empty object graph"):
        read_graph(b"")


KERNEL = Var(floats(2), "dense/kernel")
SERIALIZED, TENSORS = serialize({"model": {"k": KERNEL, "l": [{"b": floats(1)}]}, "optimizer": adam([KERNEL])})


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SERIALIZED) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_a_damaged_graph_is_read_or_refused_as_ours(position, damage, removed):
    damaged = SERIALIZED[:position] + damage + SERIALIZED[position + removed :]
    try:
        graph = read_graph(damaged, TENSORS)
    except (GraphError, Problems):
        pass
    else:
        # Whatever was read can be walked.
        assert len(graph.paths) == len(graph.nodes)
        assert {slot.node for each in graph.optimizers for slot in each.slots} <= set(range(len(graph.nodes)))


# Optimizers.


def test_keras_3_ties_slots_to_variables_by_index():
    w, b = floats(2, 3), floats(3)
    graph = graph_of({"model": {"w": w, "b": b}, "optimizer": adam([b, w])})
    (optimizer,) = graph.optimizers
    assert optimizer.generation == "keras-3"
    said = {(slot.kind, graph.say(slot.variable)) for slot in optimizer.slots}
    assert said == {(kind, f"model/{v}") for kind in ("momentum", "velocity") for v in "wb"}


def test_the_path_of_a_variable_is_the_one_that_people_say():
    # Its key is the shortest path, which leads through the optimizer.
    w = floats(2)
    graph = graph_of({"model": {"tower": {"deep": {"w": w}}}, "optimizer": adam([w])})
    number = graph.find(("model", "tower", "deep", "w"))
    assert graph.nodes[number].tensors["VARIABLE_VALUE"] == key_of("optimizer/_trainable_variables/0")
    assert graph.say(number) == "model/tower/deep/w"


def test_slot_records_tie_slots_to_variables():
    w = floats(2)
    graph = graph_of({"model": {"w": w}, "optimizer": Legacy({"iter": np.array(3)}, [("m", w, floats(2, start=9))])})
    (optimizer,) = graph.optimizers
    ((slot),) = optimizer.slots
    assert (optimizer.generation, slot.kind, graph.say(slot.variable)) == ("legacy", "momentum", "model/w")
    assert graph.say(slot.node) == "model/w/<momentum>"


# What inspect and diff print.


def test_inspect_folds_slots_under_their_variable(tmp_path):
    w, b = floats(2, 3), floats(3)
    ran = ckptmigrate("inspect", write_tree(tmp_path / "ckpt", {"model": {"w": w, "b": b}, "optimizer": adam([w, b])}))
    assert ran.status == 0
    assert "w  float32[2, 3] 24 B + momentum, velocity" in ran.out
    assert "8 tensors, 120 B, 4 of them slots (keras-3 adam optimizer at optimizer)" in ran.out
    assert "_momentums" not in ran.out


def test_inspect_folds_equal_layers(tmp_path):
    layers = [{"kernel": floats(2)} for _ in range(12)]
    ran = ckptmigrate("inspect", write_tree(tmp_path / "ckpt", {"model": {"layers": layers}}))
    assert "{0..11}" in ran.out
    assert ran.out.count("kernel") == 1


def test_inspect_as_json_lists_every_tensor(tmp_path):
    import json

    w = Var(floats(2), "dense/w")
    prefix = write_tree(tmp_path / "ckpt", {"model": {"w": w}, "optimizer": adam([w])})
    data = json.loads(ckptmigrate("inspect", prefix, "--json").out)
    assert data["kind"] == "object"
    tensors = {item["path"]: item for item in data["tensors"]}
    assert tensors["model/w"] | {"crc32c": "", "key": "", "shard": 0} == {
        "key": "",
        "path": "model/w",
        "full_name": "dense/w",
        "dtype": "float32",
        "shape": [2],
        "size_bytes": 8,
        "shard": 0,
        "crc32c": "",
    }
    slots = [item["slot"] for item in data["tensors"] if "slot" in item]
    assert {"optimizer": "optimizer", "kind": "momentum", "variable": "model/w"} in slots


def test_inspect_says_the_size_of_a_partitioned_variable(tmp_path):
    ran = ckptmigrate("inspect", write_tensors(tmp_path / "ckpt", {"w": Partitioned(floats(4, 2), (1, 3))}))
    assert "w  float32[4, 2] 32 B in 2 slices" in ran.out
    assert "1 tensors, 32 B" in ran.out


def test_inspect_shows_names_that_look_like_markup(tmp_path):
    ran = ckptmigrate("inspect", write_tree(tmp_path / "[red]ckpt", {"[bold]m[b]": {"w[red]": floats(2)}}))
    assert "[bold]m[b]" in ran.out
    assert "w[red]" in ran.out


def test_inspect_shows_the_keys_that_no_object_holds_as_they_are(tmp_path):
    serialized, tensors = serialize({"w": floats(2)})
    ran = ckptmigrate("inspect", write_graph(tmp_path / "ckpt", serialized, {**tensors, "saver/state": floats(1)}))
    assert ran.out.splitlines()[2:4] == ["└── saver", "    └── state  float32[1] (held by no object)"]
    assert ".S" not in ran.out


def test_diff_tells_only_here_only_there_moved_and_reshaped(tmp_path):
    source = write_tree(
        tmp_path / "a",
        {"m": {"same": floats(2), "changed": floats(3), "gone": floats(5, start=50), "old": floats(4, start=7)}},
    )
    target = write_tree(
        tmp_path / "b",
        {"m": {"same": floats(2), "changed": floats(3, 1), "fresh": floats(6), "new": floats(4, start=7)}},
    )
    ran = ckptmigrate("diff", source, target)
    assert ran.status == 0
    lines = [line.strip() for line in ran.out.splitlines()]
    assert lines == [
        "only in the source (1):",
        "m/gone  float32[5]",
        "only in the target (1):",
        "m/fresh  float32[6]",
        "moved (equal bytes at another path) (1):",
        "m/old -> m/new  float32[4]",
        "other shape or dtype (1):",
        "m/changed  float32[3] -> float32[3, 1]",
        "1 at one path with one shape, 1 of them with equal bytes",
    ]


def test_diff_compares_slots_by_their_variables(tmp_path):
    def model(order):
        variables = {"a": floats(2), "b": floats(2, start=5)}
        return {"m": variables, "optimizer": adam([variables[name] for name in order])}

    ran = ckptmigrate("diff", write_tree(tmp_path / "a", model("ab")), write_tree(tmp_path / "b", model("ba")))
    assert "8 at one path with one shape" in ran.out
    assert "only in" not in ran.out
