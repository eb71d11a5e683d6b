"""Proofs: they pass on what is sound, and name what is not."""

import json

import numpy as np
import pytest
from builders import (
    Legacy,
    Partitioned,
    adam,
    ckptmigrate,
    files_in,
    flip_byte,
    floats,
    key_of,
    plan_between,
    write_tensors,
    write_tree,
)

from ckptmigrate import Bundle, apply_plan, verify_checkpoint
from ckptmigrate.bundle import index_path, write_index

MATRIX = floats(20, 30)
RULES = """  - transpose: {from: m/w, perm: [1, 0]}
  - rename: {from: m/old, to: m/new}
  - init: {to: m/zero, with: zeros}
  - init: {to: m/fresh, with: template}
  - drop: {from: m/gone}
"""


class Migrated:
    """A plan that was applied, all of it copied so that each byte of the output is its own."""

    def __init__(self, directory):
        shared = {"same": floats(50), "twin": floats(50, start=9)}
        source = {"m": {"w": MATRIX, "old": floats(40), "gone": floats(5), **shared}}
        target = {"m": {"w": MATRIX.T, "new": floats(40), "zero": floats(3), "fresh": floats(6), **shared}}
        self.source, self.target = write_tree(directory / "s", source), write_tree(directory / "t", target)
        self.plan = plan_between(self.source, self.target, RULES)
        self.plan_file = directory / "plan.json"
        self.plan_file.write_bytes(self.plan.to_json())
        self.out = str(directory / "out")
        apply_plan(self.plan, self.out, layout="compact")

    def flip(self, key):
        """Change one byte of a tensor of the output."""
        with Bundle.open(self.out) as bundle:
            entry = bundle.entries[key]
            path = bundle.shard_paths[entry.shard]
        flip_byte(path, entry.offset + entry.size_bytes // 2)

    def rewrite_index(self, change):
        """Write the output's index again with other entries."""
        with Bundle.open(self.out) as bundle:
            entries = dict(bundle.entries)
        change(entries)
        write_index(index_path(self.out), entries.values(), 1)

    def verify(self, *, with_plan=True):
        return verify_checkpoint(self.out, self.target, plan=self.plan if with_plan else None)


@pytest.fixture
def migrated(tmp_path):
    return Migrated(tmp_path)


def failed(report):
    """The problems of each level that failed."""
    return {check.level: check.problems for check in report.checks if check.outcome == "failed"}


@pytest.mark.parametrize("layout", ["auto", "link", "compact"])
@pytest.mark.parametrize("link", ["auto", "hard", "copy"])
def test_what_apply_writes_is_proven(migrated, tmp_path, layout, link):
    out = str(tmp_path / "again")
    apply_plan(migrated.plan, out, layout=layout, link=link)
    report = verify_checkpoint(out, migrated.target, plan=migrated.plan)
    assert report.passed
    structure, checksums, *dearer = report.checks
    assert structure.proof == (
        "6 tensors as the target has them; the graph is the target's; 4 source tensors used, 1 dropped by name"
    )
    assert checksums.proof == (
        "4 tensors have the CRC32C of their origin, 1 equal their operations run again, 1 hold their constant"
    )
    assert [(check.level, check.outcome) for check in dearer] == [("restore", "not run"), ("coverage", "not run")]


def test_without_a_model_it_says_that_tensorflow_did_not_run_and_how_it_would(migrated):
    ran = ckptmigrate("verify", migrated.out, "--target", migrated.target, "--plan", migrated.plan_file)
    assert ran.status == 0
    assert "not run  restore" in ran.out
    assert "--target package.module:factory" in ran.out


def test_without_a_plan_every_tensor_is_read(migrated):
    report = migrated.verify(with_plan=False)
    assert report.passed
    assert report.checks[1].proof == "7 tensors read, each equal to its CRC32C"


@pytest.mark.parametrize("with_plan", [True, False])
@pytest.mark.parametrize("path", ["m/w", "m/same", "m/new", "m/zero", "m/fresh"])
def test_a_flipped_byte_is_found_and_its_tensor_named(migrated, path, with_plan):
    migrated.flip(key_of(path))
    problems = failed(migrated.verify(with_plan=with_plan))
    assert problems.keys() == {"checksums"}
    ((problem),) = problems["checksums"]
    assert key_of(path) in problem


def test_the_command_fails_with_1_and_names_the_tensor(migrated, tmp_path):
    migrated.flip(key_of("m/same"))
    before = files_in(tmp_path)
    ran = ckptmigrate("verify", migrated.out, "--target", migrated.target, "--plan", migrated.plan_file)
    assert ran.status == 1
    assert "failed  checksums" in ran.out
    assert key_of("m/same") in ran.out
    assert "apply the plan again" in ran.out
    assert files_in(tmp_path) == before


def test_the_report_as_json(migrated):
    migrated.flip(key_of("m/same"))
    ran = ckptmigrate("verify", migrated.out, "--target", migrated.target, "--plan", migrated.plan_file, "--json")
    assert ran.status == 1
    data = json.loads(ran.out)
    assert (data["schema"], data["passed"]) == ("ckptmigrate.report/1", False)
    assert {check["level"]: check["outcome"] for check in data["checks"]} == {
        "structure": "passed",
        "checksums": "failed",
        "restore": "not run",
        "coverage": "not run",
    }


def test_what_failed_does_not_say_that_it_holds(migrated):
    migrated.flip(key_of("m/same"))
    migrated.rewrite_index(lambda entries: entries.pop(key_of("m/new")))
    structure, checksums, *_ = migrated.verify().checks
    assert structure.proof.startswith("5 of 6 tensors as the target has them; the graph is not the target's")
    assert checksums.proof.startswith("2 tensors have the CRC32C of their origin")
    (structure, checksums, *_) = migrated.verify(with_plan=False).checks
    assert checksums.proof == "6 tensors read, 5 of them equal to its CRC32C"


def test_deep_reads_what_a_plan_left_where_it_was(migrated, tmp_path):
    out = str(tmp_path / "linked")
    apply_plan(migrated.plan, out, layout="link", link="hard")
    with Bundle.open(out) as bundle:
        entry = bundle.entries[key_of("m/same")]
        path = bundle.shard_paths[entry.shard]
    flip_byte(path, entry.offset + 3)  # in the source too: it is one file
    assert verify_checkpoint(out, migrated.target, plan=migrated.plan).passed
    problems = failed(verify_checkpoint(out, migrated.target, plan=migrated.plan, deep=True))["checksums"]
    assert any(key_of("m/same") in problem for problem in problems)


def test_values_swapped_in_the_index_are_found(migrated):
    same, twin = key_of("m/same"), key_of("m/twin")

    def swap(entries):
        places = {key: (entries[key].offset, entries[key].crc32c) for key in (same, twin)}
        for key, other in ((same, twin), (twin, same)):
            entries[key] = replaced(entries[key], places[other])

    migrated.rewrite_index(swap)
    # Each tensor is sound by itself: only the plan tells that they changed places.
    assert migrated.verify(with_plan=False).passed
    problems = failed(migrated.verify())["checksums"]
    assert [key in problem for key, problem in zip((same, twin), problems, strict=True)] == [True, True]


def replaced(entry, place):
    import msgspec

    return msgspec.structs.replace(entry, offset=place[0], crc32c=place[1])


def test_a_tensor_at_another_place_of_a_linked_file_is_found(migrated, tmp_path):
    out = str(tmp_path / "linked")
    apply_plan(migrated.plan, out, layout="link", link="hard")
    same, twin = key_of("m/same"), key_of("m/twin")
    with Bundle.open(out) as bundle:
        entries = dict(bundle.entries)
        count = bundle.num_shards
    places = {key: entries[key].offset for key in (same, twin)}
    entries[same] = replaced(entries[same], (places[twin], entries[same].crc32c))
    entries[twin] = replaced(entries[twin], (places[same], entries[twin].crc32c))
    write_index(index_path(out), entries.values(), count)
    problems = failed(verify_checkpoint(out, migrated.target, plan=migrated.plan))["checksums"]
    assert len(problems) == 2


def test_a_missing_tensor_is_named(migrated):
    migrated.rewrite_index(lambda entries: entries.pop(key_of("m/same")))
    problems = failed(migrated.verify())
    assert any("`m/same/.ATTRIBUTES/VARIABLE_VALUE` is missing" in problem for problem in problems["structure"])
    assert any(key_of("m/same") in problem for problem in problems["checksums"])


def test_a_tensor_too_many_is_named(migrated):
    def add(entries):
        entries["extra"] = type(entries[key_of("m/same")])(
            "extra", entries[key_of("m/same")].spec, 0, *((entries[key_of("m/same")]).offset, 200, 0)
        )

    migrated.rewrite_index(add)
    assert any("`extra`" in problem for problem in failed(migrated.verify())["structure"])


def test_another_shape_is_named(migrated, tmp_path):
    target = write_tree(tmp_path / "t2", {"m": {"w": MATRIX}})
    problems = failed(verify_checkpoint(migrated.target, target))["structure"]
    assert any("expected float32[20, 30] (target), got float32[30, 20] (checkpoint" in each for each in problems)


def test_slices_are_compared_too(tmp_path):
    source = write_tensors(tmp_path / "s", {"a": Partitioned(floats(50, 2), (20, 30)), "b": floats(3)})
    target = write_tensors(tmp_path / "t", {"x": Partitioned(floats(50, 2), (20, 30)), "b": floats(3)})
    plan = plan_between(source, target, "  - rename: {from: a, to: x}\n")
    out = str(tmp_path / "out")
    apply_plan(plan, out, layout="compact")
    assert verify_checkpoint(out, target, plan=plan).passed
    with Bundle.open(out) as bundle:
        (*_, last) = bundle.slice_entries.values()
    flip_byte(f"{out}.data-00000-of-00001", last.offset + 3)
    problems = failed(verify_checkpoint(out, target, plan=plan))["checksums"]
    assert "'x'" in problems[0]


def test_slices_that_are_cut_anew_are_compared_too(tmp_path):
    source = write_tensors(tmp_path / "s", {"a": Partitioned(floats(50, 2), (20, 30))})
    target = write_tensors(tmp_path / "t", {"a": Partitioned(floats(50, 2), (10, 15, 25))})
    plan = plan_between(source, target)
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    assert verify_checkpoint(out, target, plan=plan).passed
    with Bundle.open(out) as bundle:
        (*_, last) = bundle.slice_entries.values()
    flip_byte(f"{out}.data-00000-of-00001", last.offset + 3)
    problems = failed(verify_checkpoint(out, target, plan=plan))["checksums"]
    assert "'a'" in problems[0]
    other = write_tensors(tmp_path / "other", {"a": Partitioned(floats(50, 2, start=1), (10, 15, 25))})
    assert failed(verify_checkpoint(other, target, plan=plan))["checksums"] == ("`a` is not `a`",)


# Graphs.


def compare(tmp_path, ours, theirs):
    """How a checkpoint differs from what a plan was to make."""
    prefix, target = write_tree(tmp_path / "ours", ours), write_tree(tmp_path / "theirs", theirs)
    plan = plan_between(target, target)
    return failed(verify_checkpoint(prefix, target, plan=plan, level="structure")).get("structure", ())


def test_a_graph_that_only_numbers_its_objects_in_another_order_is_the_same(tmp_path):
    a, b = floats(2), floats(3)
    assert compare(tmp_path, {"x": {"a": a, "b": b}, "y": {"c": a}}, {"y": {"c": a}, "x": {"b": b, "a": a}}) != ()
    assert compare(tmp_path, {"x": {"a": a}, "y": {"b": b}}, {"y": {"b": b}, "x": {"a": a}}) == ()


def test_an_edge_too_few_is_told(tmp_path):
    w = floats(2)
    problems = compare(tmp_path, {"a": w}, {"a": w, "alias": w})
    assert problems == ("`.`: edge `alias` is not in the checkpoint",)


def test_an_edge_too_many_is_told(tmp_path):
    w = floats(2)
    assert compare(tmp_path, {"a": w, "alias": w}, {"a": w}) == ("`.`: edge `alias` is not in the target",)


def test_an_edge_to_another_object_is_told(tmp_path):
    a, b = floats(2), floats(2)
    problems = compare(tmp_path, {"a": a, "b": b, "c": a}, {"a": a, "b": b, "c": b})
    assert problems == ("`.`: edge `c` leads to another object than in the target",)


def test_slots_that_belong_to_another_variable_are_told(tmp_path):
    def model(first, second):
        variables = {"a": floats(2), "b": floats(2)}
        slots = [("m", variables[first], floats(2)), ("m", variables[second], floats(2))]
        return {"m": variables, "optimizer": Legacy({"iter": np.array(1)}, slots[:1])}

    problems = compare(tmp_path, model("a", "b"), model("b", "a"))
    assert "2 slot variables of the optimizer differ from the target's" in problems


def test_a_slot_record_that_leads_to_the_wrong_slot_is_told(tmp_path):
    """Both graphs have the same tensors and the same pairs of variable and name; only the records cross."""
    from builders import serialize, write_graph

    from ckptmigrate.bundle import TrackableObjectGraph

    a, b = floats(2), floats(2)
    tree = {"m": {"a": a, "b": b}, "o": Legacy({"iter": np.array(1)}, [("m", a, floats(2)), ("m", b, floats(2))])}
    serialized, tensors = serialize(tree)
    crossed = TrackableObjectGraph.FromString(serialized)
    (records,) = [node.slot_variables for node in crossed.nodes if node.slot_variables]
    first, second = records
    first.slot_variable_node_id, second.slot_variable_node_id = (
        second.slot_variable_node_id,
        first.slot_variable_node_id,
    )
    target = write_graph(tmp_path / "t", serialized, tensors)
    plan = plan_between(target, target)
    report = verify_checkpoint(write_graph(tmp_path / "c", crossed, tensors), target, plan=plan)
    assert "structure" in failed(report)


def test_keras_3_optimizers_are_compared_by_their_edges(tmp_path):
    def model(order):
        variables = {"a": floats(2), "b": floats(2)}
        return {"m": variables, "optimizer": adam([variables[name] for name in order])}

    assert compare(tmp_path, model("ab"), model("ab")) == ()
    assert compare(tmp_path, model("ab"), model("ba")) != ()


# Plans that do not belong.


def test_a_source_that_changed_since_is_told(migrated):
    write_tree(migrated.source, {"m": {"w": MATRIX + 1}})
    problems = failed(migrated.verify())["checksums"]
    assert problems == (f"{migrated.source} has changed since the plan was made: nothing can be compared with it",)


def test_a_plan_that_was_edited_since_is_told(migrated):
    edited = migrated.plan_file.read_text().replace('"m/old/.ATTR', '"m/nope/.ATTR')
    migrated.plan_file.write_text(edited)
    ran = ckptmigrate("verify", migrated.out, "--target", migrated.target, "--plan", migrated.plan_file)
    assert ran.status == 1
    assert "no such source" in ran.out


def test_a_source_that_is_gone_is_told(migrated, tmp_path):
    (tmp_path / "s.index").unlink()
    ran = ckptmigrate("verify", migrated.out, "--target", migrated.target, "--plan", migrated.plan_file)
    assert ran.status == 2
    assert ran.err.startswith("ckptmigrate: data files without their index @ ")
