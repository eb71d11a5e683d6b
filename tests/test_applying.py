"""What `apply` tells: before, while it runs, and afterwards; and how much memory it takes."""

import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from builders import ckptmigrate, files_in, floats, plan_between, read_all, write_tensors

from ckptmigrate.apply import tasks as tasks_module
from ckptmigrate.bundle import Entry, data_path, extend_crc, index_path, mask_crc, write_index
from ckptmigrate.cli import outputs
from ckptmigrate.spec import DType, Key, TensorSpec


@pytest.fixture
def planned(tmp_path):
    """A plan that links one data file, and copies, casts and transposes what another holds."""
    kept = {"large": floats(30, 1000), "copied": floats(3)}
    changed = {"dropped": floats(9000), "w": floats(40, 50), "c": floats(64)}
    order = ["large", "dropped", "other", "w", "more", "c", "last", "copied"]  # by turns into the two files
    kept |= {"other": floats(10), "more": floats(20), "last": floats(30)}
    source = write_tensors(tmp_path / "source", {key: (kept | changed)[key] for key in order}, shards=2)
    target = write_tensors(tmp_path / "target", {**kept, "w": floats(50, 40), "c": floats(64).astype(np.float64)})
    rules = "  - transpose: {from: w}\n  - cast: {from: c, dtype: float64}\n"
    (tmp_path / "plan.json").write_bytes(plan_between(source, target, rules, drop_unused=True).to_json())
    return tmp_path / "plan.json"


LINKED = 4 * (30_000 + 10 + 20 + 30)
COMPUTED_FROM, COMPUTED, COPIED = 4 * (2000 + 64), 4 * 2000 + 8 * 64, 4 * 3


def test_an_estimate_says_what_would_be_done_and_does_nothing(planned, tmp_path):
    before = files_in(tmp_path)
    ran = ckptmigrate("apply", planned, "--out", tmp_path / "new" / "out", "--estimate", "--json", "--link", "hard")
    found = json.loads(ran.out)
    assert files_in(tmp_path) == before
    expected = {
        "linked_files": 1,
        "linked_bytes": LINKED,
        "copied_bytes": COPIED,
        "computed_bytes": COMPUTED,
        "read_bytes": COPIED + COMPUTED_FROM,
        "written_bytes": COPIED + COMPUTED,
        "written_files": 1,
    }
    assert {name: found[name] for name in expected} == expected
    assert found["free_bytes"] > 0
    assert 0 < found["memory_bytes"] < 1 << 28
    ran = ckptmigrate("apply", planned, "--out", tmp_path / "new" / "out", "--estimate")
    assert ran.out.splitlines()[:3] == [
        f"linked: {LINKED / 1024:.1f} KiB in 1 data file",
        "copied: 12 B",
        "computed: 8.3 KiB",
    ]
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("how", [[], ["--layout", "compact"], ["--link", "copy"], ["--shards", "3"]])
def test_what_was_estimated_is_what_is_done(planned, tmp_path, how):
    estimate = json.loads(ckptmigrate("apply", planned, "--out", tmp_path / "out", "--estimate", "--json", *how).out)
    ran = ckptmigrate("apply", planned, "--out", tmp_path / "out", "--json", "--stats", *how)
    stats = json.loads(ran.out)["stats"]
    for name in ("read_bytes", "written_bytes", "linked_bytes"):
        assert stats[name] == estimate[name], name
    written = [shard for shard in json.loads(ran.out)["shards"] if shard["how"] in ("new", "copy")]
    assert len(written) == estimate["written_files"]
    assert sum(shard["size_bytes"] for shard in written) == estimate["written_bytes"]


def test_an_estimate_of_a_plan_that_cannot_be_applied_is_refused(planned, tmp_path):
    ran = ckptmigrate("apply", planned, "--out", tmp_path / "source", "--estimate")
    assert ran.status == 2
    assert "the output is the source" in ran.err


def test_stats_say_what_was_moved_and_what_it_took(planned, tmp_path):
    ran = ckptmigrate("apply", planned, "--out", tmp_path / "out", "--stats", "--link", "hard")
    moved, taken = ran.out.splitlines()[-2:]
    assert moved == f"read 8.1 KiB, written 8.3 KiB, linked {LINKED / 1024:.1f} KiB"
    assert re.fullmatch(r"wall \d+\.\d\d s, CPU \d+\.\d\d s, peak memory \d+\.\d MiB", taken)
    plain = ckptmigrate("apply", planned, "--out", tmp_path / "plain")
    assert "peak memory" not in plain.out


def test_a_program_is_told_how_far_it_is(planned, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks_module, "TASK_BYTES", 1000)
    monkeypatch.setattr(outputs, "_LINES_S", 0)
    ran = ckptmigrate("apply", planned, "--out", tmp_path / "out", "--progress", "json", "--layout", "compact")
    lines = [json.loads(line) for line in ran.err.splitlines()]
    assert len(lines) > 10
    assert {line["total_bytes"] for line in lines} == {COPIED + COMPUTED + LINKED}
    done = [line["done_bytes"] for line in lines]
    assert done == sorted(done)
    assert lines[-1]["done_bytes"] == lines[-1]["total_bytes"]
    assert lines[-1]["left_s"] == 0
    assert all(line["doing"] == "writing" and line["bytes_per_s"] >= 0 for line in lines)


@pytest.mark.parametrize("how", [[], ["--progress", "none"], ["--progress", "auto"]])
def test_who_has_no_terminal_is_told_nothing(planned, tmp_path, how):
    assert ckptmigrate("apply", planned, "--out", tmp_path / "out", *how).err == ""


def test_a_person_sees_bytes_a_rate_and_the_time_left(monkeypatch):
    monkeypatch.setattr(outputs, "_PATIENCE_S", 0)
    monkeypatch.setenv("COLUMNS", "120")
    told = io.StringIO()
    told.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", told)
    with outputs.progress("writing") as on_progress:
        for number in range(5):
            on_progress(number << 20, 4 << 20)
            time.sleep(0.12)
    assert re.search(r"writing.*2\.0/4\.0 MiB.*MB/s.*\d:\d\d", told.getvalue())


# Memory.


def sparse(prefix, tensors):
    """Write a checkpoint of zeros, whose data file takes no room."""
    entries, offset = [], 0
    for key, shape in tensors.items():
        spec = TensorSpec(DType.FLOAT32, shape)
        entries.append(Entry(Key(key), spec, 0, offset, spec.size_bytes, crc_of_zeros(spec.size_bytes)))
        offset += spec.size_bytes
    with Path(data_path(str(prefix), 0, 1)).open("wb") as file:
        file.truncate(offset)
    write_index(index_path(str(prefix)), entries, 1)
    return str(prefix)


def crc_of_zeros(size_bytes):
    """Masked."""
    crc = 0
    for start in range(0, size_bytes, 1 << 20):
        crc = extend_crc(crc, bytes(min(1 << 20, size_bytes - start)))
    return mask_crc(crc)


ROWS = 1 << 18
TABLE = (ROWS, 128)  # 128 MiB
CHANGES = {
    "copied": ({"w": TABLE}, {"w": TABLE}, ""),
    "transposed": ({"w": TABLE}, {"w": TABLE[::-1]}, "transpose: {from: w}"),
    "cast": ({"w": TABLE}, {"w": TABLE}, "map: {from: w, ops: [{cast: {dtype: float64}}, {cast: {dtype: float32}}]}"),
    "joined": (
        {"a": (ROWS, 64), "b": (ROWS, 64)},
        {"w": TABLE},
        "concat: {from: [a, b], to: w, axis: 1}",
    ),
    "averaged": ({"a": (ROWS, 64), "b": (ROWS, 64)}, {"w": (ROWS, 64)}, "average: {from: [a, b], to: w}"),
    "padded": ({"w": (ROWS, 100)}, {"w": TABLE}, "pad: {from: w, axis: 1, after: 28}"),
    "grown by its mean": ({"w": (ROWS - 999, 128)}, {"w": TABLE}, "resize: {from: w, axis: 0, fill: mean}"),
    "turned and cut": (
        {"w": (ROWS, 160)},
        {"w": (128, ROWS)},
        "map: {from: w, ops: [{transpose: {}}, {slice: {axis: 0, stop: 128}}]}",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_memory_does_not_depend_on_the_size_of_a_tensor(tmp_path, name):
    before, after, rule = CHANGES[name]
    ends = sparse(tmp_path / "source", before), sparse(tmp_path / "target", after)
    plan = plan_between(*ends, f"  - {rule}\n" if rule else "")
    (tmp_path / "plan.json").write_bytes(plan.to_json())
    command = [sys.executable, "-m", "ckptmigrate", "apply", tmp_path / "plan.json", "--out", tmp_path / "out"]
    how = ["--layout", "compact", "--memory", "32MiB", "--jobs", "2", "--json", "--stats"]
    run = subprocess.run([*map(str, command), *how], capture_output=True, text=True, check=True)
    # The program itself takes about 60 MB: Python, numpy and what numpy starts.
    assert json.loads(run.stdout)["stats"]["peak_bytes"] < (32 + 70) << 20
    assert read_all(str(tmp_path / "out"))["w"].shape == after["w"]  # which verifies the checksum
