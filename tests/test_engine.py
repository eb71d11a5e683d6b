"""Work cut into tasks: the bytes are the same whoever does them, in which order, and in how little memory."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from builders import (
    Partitioned,
    ckptmigrate,
    files_in,
    flip_byte,
    floats,
    plan_between,
    read_all,
    write_tensors,
    write_tree,
)
from chains import InMemory, chains, destroys, error_of, numpy_dtype, reference, run, same_bytes, template_for
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ckptmigrate import Bundle, Endpoint, Plan, apply_plan
from ckptmigrate.apply import engine as engine_module
from ckptmigrate.apply import tasks as tasks_module
from ckptmigrate.apply.boxes import extents
from ckptmigrate.apply.engine import Budget
from ckptmigrate.apply.tasks import Sharding, tiles
from ckptmigrate.apply.worker import Worker
from ckptmigrate.bundle import Runs
from ckptmigrate.errors import CorruptBundleError, OperationError, OutputError
from ckptmigrate.matching import Step
from ckptmigrate.ops import infer_chain
from ckptmigrate.spec import Key


@dataclass(frozen=True)
class Shuffled:
    """An engine that does its tasks in another order, each by a new worker, and some of them twice."""

    seed: int

    def run(self, job, bundles, tasks):
        order = [*tasks, *tasks[::3]]
        random.Random(self.seed).shuffle(order)  # noqa: S311
        found = {task.number: Worker(job, bundles).run(task, before) for task, before in order}
        yield from found.values()


def data_of(prefix):
    """The bytes of all files of a checkpoint but the receipt, which has a time in it."""
    folder, name = Path(prefix).parent, Path(prefix).name
    files = (file for file in sorted(folder.glob(f"{name}.*")) if file.suffix != ".json")
    return {file.name.removeprefix(name): file.read_bytes() for file in files}


# Chains of operations, through real files.


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("engine")


def plan_of(folder, tensors: Sequence[InMemory], ops, *, kept=None):
    """A plan with one step that is computed, from tensors in one bundle to another."""
    sources = {f"s{number}": tensor.values for number, tensor in enumerate(tensors)}
    specs = tuple(tensor.spec for tensor in tensors)
    (result,) = infer_chain(ops, specs)
    template = template_for(ops, specs)
    values = np.zeros(result.shape, numpy_dtype(result.dtype)) if template is None else template.values
    ends = [
        write_tensors(folder / "source", sources | (kept or {})),
        write_tensors(folder / "target", {"w": values} | (kept or {})),
    ]
    step = Step(Key("w"), tuple(map(Key, sources)), tuple(ops), "rule", 1, ())
    others = tuple(Step(Key(key), (Key(key),), (), "exact", 1, ()) for key in kept or ())
    with Bundle.open(ends[0]) as source, Bundle.open(ends[1]) as target:
        return Plan(Endpoint.of(source), Endpoint.of(target), (step, *others))


def applied(patch, plan, out, *, task_bytes, tile_bytes, jobs, **how):
    """Apply with limits that are far below those that a person can ask for."""
    patch.setattr(tasks_module, "TASK_BYTES", task_bytes)
    patch.setattr(engine_module, "_LEAST_WORKER_BYTES", 1)
    apply_plan(plan, out, overwrite=True, layout="compact", memory_bytes=6 * tile_bytes * jobs, jobs=jobs, **how)


@settings(max_examples=60, deadline=None)
@given(chains(), st.integers(1, 300), st.integers(1, 300), st.integers(1, 3))
def test_any_chain_in_any_limits_makes_what_the_plain_version_makes(scratch, chain, task_bytes, tile_bytes, jobs):
    tensors, ops = chain
    expected = reference(ops, tensors)
    plan = plan_of(scratch, tensors, ops)
    out = str(scratch / "out")
    with pytest.MonkeyPatch.context() as patch:
        if destroys(ops, tensors):
            event("values would be destroyed")
            wanted = error_of(OperationError, run, ops, *tensors)
            how = {"task_bytes": task_bytes, "tile_bytes": tile_bytes, "jobs": jobs}
            assert error_of(OperationError, applied, patch, plan, out, **how) == wanted
            return
        applied(patch, plan, out, task_bytes=task_bytes, tile_bytes=tile_bytes, jobs=jobs)
    with Bundle.open(out) as bundle:
        assert same_bytes(bundle.read("w"), expected)  # which verifies the checksum


@pytest.fixture
def mixed(tmp_path):
    """A plan that copies, shares, computes, transposes and cuts; strings too."""
    words = np.array([[b"a", b""], [b"long" * 50, b"\xff\0"]], object)
    whole = floats(10, 6, start=7)
    tensors = {f"v{n}": floats(50 + n, start=n) for n in range(20)}
    source = write_tensors(
        tmp_path / "s",
        {"w": floats(40, 30), "words": words, "parts": Partitioned(whole, (4, 6)), "x": floats(9, 8, 7), **tensors},
        shards=3,
    )
    target = write_tensors(
        tmp_path / "t",
        {
            "w": floats(30, 40),
            "words": words.T.copy(),
            "parts": Partitioned(whole * 0, (5, 5)),
            "x": floats(7, 8, 9).astype(np.float64),
            "again": tensors["v3"],
            "none": np.zeros((0, 3), np.float32),
            **tensors,
        },
    )
    rules = (
        "  - transpose: {from: w}\n"
        "  - transpose: {from: words}\n"
        "  - map: {from: x, ops: [{transpose: {perm: [2, 1, 0]}}, {cast: {dtype: float64}}]}\n"
        "  - rename: {from: v3, to: [v3, again]}\n"
        "  - init: {to: none, with: 0}\n"
    )
    return plan_between(source, target, rules)


@pytest.mark.parametrize("shards", [1, 4])
def test_the_bytes_are_the_same_for_any_workers_budget_and_order(mixed, tmp_path, monkeypatch, shards):
    wanted = None
    for task_bytes, tile_bytes, jobs, engine in (
        (1 << 25, 1 << 20, 1, None),
        (100, 64, 1, None),
        (1000, 1 << 10, 3, None),
        (333, 256, 7, None),
        (64, 128, 1, Shuffled(1)),
        (500, 16, 1, Shuffled(2)),
    ):
        out = str(tmp_path / "out")
        how = {"task_bytes": task_bytes, "tile_bytes": tile_bytes, "jobs": jobs, "shards": shards, "engine": engine}
        applied(monkeypatch, mixed, out, **how)
        found = data_of(out)
        assert len(found) == 1 + shards
        assert found == (wanted or found), how
        wanted = found
    values = read_all(out)
    assert values["w"].tolist() == floats(40, 30).T.tolist()
    assert values["x"].tolist() == floats(9, 8, 7).transpose(2, 1, 0).tolist()
    assert values["parts"].tolist() == floats(10, 6, start=7).tolist()
    assert values["words"].tolist() == [[b"a", b"long" * 50], [b"", b"\xff\0"]]
    assert values["again"].tolist() == values["v3"].tolist() == floats(53, start=3).tolist()


def test_a_tensor_that_is_whole_in_each_part_of_a_copied_file_is_checked(mixed, tmp_path):
    damaged = {"v0": "a tensor that is copied", "w": "one that is computed", "parts": "one that is cut anew"}
    with Bundle.open(str(tmp_path / "s")) as bundle:
        entries = {key: bundle.entries[key] for key in ("v0", "w")}
        entries["parts"] = next(entry for (key, _), entry in bundle.slice_entries.items() if key == "parts")
        paths = bundle.shard_paths
    for key, what in damaged.items():
        entry = entries[key]
        flip_byte(paths[entry.shard], entry.offset + entry.size_bytes - 1)
        before = files_in(tmp_path)
        with pytest.raises(CorruptBundleError, match="checksum mismatch") as raised:
            apply_plan(mixed, str(tmp_path / "out"), layout="compact")
        assert key in raised.value.where, what
        assert files_in(tmp_path) == before
        flip_byte(paths[entry.shard], entry.offset + entry.size_bytes - 1)


@pytest.mark.parametrize("jobs", [1, 3])
def test_data_files_that_cannot_be_linked_are_copied_whole_and_checked(tmp_path, monkeypatch, jobs):
    source = write_tensors(tmp_path / "s", {f"v{n}": floats(100 + n, start=n) for n in range(9)}, shards=2)
    target = write_tensors(tmp_path / "t", {f"v{n}": floats(100 + n) for n in range(9) if n != 4})
    plan = plan_between(source, target, drop_unused=True)
    out = str(tmp_path / "out")
    monkeypatch.setattr(tasks_module, "TASK_BYTES", 700)
    receipt = apply_plan(plan, out, link="copy", jobs=jobs)
    assert [shard.how for shard in receipt.shards] == ["copy", "copy"]
    with Bundle.open(source) as theirs, Bundle.open(out) as ours:
        for before, after in zip(theirs.shard_paths, ours.shard_paths, strict=True):
            assert Path(before).read_bytes() == Path(after).read_bytes()
    assert read_all(out).keys() == {f"v{n}" for n in range(9) if n != 4}
    with Bundle.open(source) as bundle:
        entry, path = bundle.entries["v7"], bundle.shard_paths[bundle.entries["v7"].shard]
    flip_byte(path, entry.offset)
    with pytest.raises(CorruptBundleError, match=r"checksum mismatch.*v7"):
        apply_plan(plan, str(tmp_path / "other"), link="copy", jobs=jobs)


# What is cut.


@given(st.lists(st.integers(1, 9), min_size=2, max_size=4), st.data(), st.integers(1, 300))
def test_tiles_cover_a_transpose_and_none_is_larger_than_it_may_be(shape, data, max_elements):
    perm = data.draw(st.permutations(range(len(shape))))
    seen = np.zeros(shape, int)
    for box in tiles(tuple(shape), tuple(perm), max_elements):
        assert 0 < np.prod(extents(box)) <= max_elements
        seen[tuple(slice(*ends) for ends in box)] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("shape", [(1 << 20, 64), (64, 1 << 20), (1 << 13, 1 << 13), (3, 1 << 22)])
def test_a_tile_is_read_and_written_in_runs_of_some_length(shape):
    box = next(iter(tiles(shape, (1, 0), 1 << 20)))
    assert Runs(box, shape).length >= min(1024, shape[1])
    assert Runs(box[::-1], shape[::-1]).length >= min(1024, shape[0])


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 9))
def test_tensors_are_dealt_out_to_so_many_files_in_order(sizes, count):
    dealt = Sharding(count=count).deal(sizes)
    assert len(dealt) == len(sizes)
    assert all(0 <= after - before <= 1 for before, after in pairwise([0, *dealt]))
    assert len({*dealt}) == min(count, len(sizes))


@given(st.lists(st.integers(1, 50), min_size=40, max_size=60))
def test_files_are_about_equally_large(sizes):
    dealt = Sharding(count=4).deal(sizes)
    filled = [sum(size for size, shard in zip(sizes, dealt, strict=True) if shard == number) for number in range(4)]
    assert max(filled) - min(filled) <= 2 * max(sizes)


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 60))
def test_no_file_is_larger_than_it_may_be_unless_for_one_tensor(sizes, most):
    dealt = Sharding(size_bytes=most).deal(sizes)
    assert all(0 <= after - before <= 1 for before, after in pairwise([0, *dealt]))
    for shard in {*dealt}:
        held = [size for size, number in zip(sizes, dealt, strict=True) if number == shard]
        assert sum(held) <= most or len([size for size in held if size]) == 1


def test_what_makes_no_sense_is_refused(tmp_path):
    source = write_tree(tmp_path / "s", {"w": floats(3)})
    (tmp_path / "plan.json").write_bytes(plan_between(source, source).to_json())
    for arguments, words in (
        (["--shards", "0"], "--shards"),
        (["--shards", "-3"], "--shards"),
        (["--shards", "2", "--shard-size", "1MiB"], "Say one of the two"),
        (["--shard-size", "0"], "--shard-size"),
        (["--shard-size", "many"], "--shard-size"),
        (["--jobs", "0"], "--jobs"),
        (["--memory", "100"], "expected 4 MiB or more"),
        (["--memory", "10MiB", "--jobs", "4"], "expected 16 MiB or more (4 MiB for each of 4 workers)"),
    ):
        ran = ckptmigrate("apply", tmp_path / "plan.json", "--out", tmp_path / "out", *arguments)
        assert ran.status == 2, arguments
        assert words in ran.err, arguments
    assert not list(tmp_path.glob("out*"))


def test_a_budget_is_divided_among_workers():
    assert Budget.of(1 << 28, 2).jobs == 2
    assert Budget.of(1 << 28, 64).peak_bytes <= 1 << 28
    for memory_bytes in (1 << 22, 1 << 24, 1 << 28, 1 << 34):
        budget = Budget.of(memory_bytes)
        assert budget.peak_bytes <= memory_bytes
        assert budget.block_bytes <= budget.tile_bytes
    with pytest.raises(OutputError, match="too little memory"):
        Budget.of((1 << 22) - 1)
