"""A run that is killed, refused, or not alone: no output or a whole one, and the next run goes on."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import tempfile
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from builders import ckptmigrate, files_in, flip_byte, floats, plan_between, read_all, write_tensors

from ckptmigrate import apply_plan
from ckptmigrate.apply import tasks as tasks_module
from ckptmigrate.apply import write as write_module
from ckptmigrate.apply.engine import Threads
from ckptmigrate.apply.journal import Journal
from ckptmigrate.apply.place import Scratch, scratch_path
from ckptmigrate.bundle import DataFile
from ckptmigrate.bundle.state import read_state
from ckptmigrate.errors import CorruptBundleError, NotACheckpointError, OutputError, PlanError

HERE = Path(__file__).parent


def planned(folder, *, rows=40):
    """A plan that links a data file, copies ranges of another, and computes three tensors."""
    large = {f"v{n}": floats(500, start=n) for n in range(4)}
    source = write_tensors(
        folder / "source",
        {"w": floats(rows, 300), **large, "x": floats(30, 80), "dropped": floats(5000), "y": floats(20, 10)},
        shards=2,
    )
    target = write_tensors(
        folder / "target",
        {"w": floats(300, rows), **large, "x": floats(80, 30), "y": floats(20, 10).astype(np.float64)},
    )
    rules = "  - transpose: {from: w}\n  - transpose: {from: x}\n  - cast: {from: y, dtype: float64}\n"
    plan = plan_between(source, target, rules, drop_unused=True)
    (folder / "plan.json").write_bytes(plan.to_json())
    return plan


@pytest.fixture
def quick(tmp_path):
    """A folder in memory, if there is one: what is tried hundreds of times does not wait for a disk."""
    memory = Path("/dev/shm")  # noqa: S108
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="ckptmigrate-test-", dir=memory) as folder:
        yield Path(folder)


def tried(folder, how, *options, rows=40):
    """What `killing.py` saw."""
    planned(folder, rows=rows)
    command = [sys.executable, HERE / "killing.py", how, folder / "plan.json", folder / "out/deep/ckpt", *options]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["problems"] == [], run.stderr
    return found["calls"], Counter(found["seen"])


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_a_run_that_is_killed_at_any_call_leaves_no_output_or_a_whole_one_and_is_gone_on_with(quick, options):
    calls, seen = tried(quick, "calls", *options)
    assert calls > 60
    assert seen["killed, old" if options else "killed, none"] > 50
    assert seen["killed, whole"] > 4
    assert seen["went on"] > 15
    assert seen.total() - seen["went on"] == calls


@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--keep"]])
def test_no_space_or_a_failing_disk_at_any_call_leaves_no_output_or_a_whole_one(quick, options):
    calls, seen = tried(quick, "errors", *options)
    assert seen["failed, old" if options == ["--overwrite"] else "failed, none"] > 50
    assert seen["ended, whole"] > 4  # what cannot be tidied up is left, and is no failure
    assert bool(seen["went on"]) == (options == ["--keep"])
    assert seen.total() - seen["went on"] == calls


def test_a_run_may_be_killed_at_any_instant(quick):
    tf = pytest.importorskip("tensorflow")
    _, seen = tried(quick, "instants", "--count", "25", rows=400)
    assert seen["went on"] > 5
    reader = tf.train.load_checkpoint(str(quick / "out/deep/ckpt"))
    assert np.array_equal(reader.get_tensor("w"), floats(400, 300).T)
    assert np.array_equal(reader.get_tensor("v2"), floats(500, start=2))


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--keep"]])
def test_so_it_is_for_both_at_every_call_on_a_real_disk(tmp_path, options):
    calls, seen = tried(tmp_path, "errors", "--both", *options)
    assert seen.total() - seen["went on"] == 2 * calls


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_a_run_may_be_killed_at_two_hundred_instants(tmp_path, options):
    _, seen = tried(tmp_path, "instants", "--count", "200", "--seed", "1", *options, rows=2000)
    assert seen["went on"] > 100
    assert seen.total() - seen["went on"] == 200


# What is gone on with.


SMALL_TASKS = 1 << 12


def stopped(plan, out, monkeypatch, after, **how):
    """Apply a plan, and stop it after so many tasks as if it were killed: what it has done stays."""
    with monkeypatch.context() as patch:
        patch.setattr(tasks_module, "TASK_BYTES", SMALL_TASKS)
        patch.setattr(Scratch, "__exit__", lambda scratch, *_: os.close(scratch._lock))
        patch.setattr(Journal, "add", stopping(Journal.add, after))
        with pytest.raises(KeyboardInterrupt):
            apply_plan(plan, str(out), jobs=1, **how)


def stopping(function, after):
    """The function, which is interrupted when it was called so many times."""
    left = [after]

    def call(*arguments):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        function(*arguments)

    return call


def gone_on(plan, out, monkeypatch, **how):
    """Apply a plan; how much was kept of an earlier run, and how much was written."""
    with monkeypatch.context() as patch:
        patch.setattr(tasks_module, "TASK_BYTES", SMALL_TASKS)
        work = apply_plan(plan, str(out), **how).work
    assert list(read_all(str(out))) == sorted(["v0", "v1", "v2", "v3", "w", "x", "y"])  # which verifies the checksums
    assert not list(Path(out).parent.glob(".*"))
    return work.kept_bytes, work.written_bytes


def test_what_was_done_is_kept_and_the_rest_is_done(tmp_path, monkeypatch):
    plan = planned(tmp_path)
    stopped(plan, tmp_path / "out", monkeypatch, 4)
    assert [path.name for path in tmp_path.glob(".*")] == [Path(scratch_path(str(tmp_path / "out"))).name]
    assert not list(tmp_path.glob("out*"))
    kept, written = gone_on(plan, tmp_path / "out", monkeypatch)
    assert kept > 3 * SMALL_TASKS / 2
    assert written > kept
    total = kept + written
    assert gone_on(plan, tmp_path / "whole", monkeypatch) == (0, total)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_of_what_was_kept_every_byte_is_looked_at_again(tmp_path, monkeypatch, number):
    plan = planned(tmp_path)
    wanted = gone_on(plan, tmp_path / "whole", monkeypatch)[1]
    stopped(plan, tmp_path / "out", monkeypatch, 3)
    scratch = Path(scratch_path(str(tmp_path / "out")))
    data = scratch / "new.data-00000-of-00001"
    tasks = Journal(str(scratch / "journal")).done
    assert len(tasks) == 3
    flip_byte(data, [0, SMALL_TASKS + 50, 3 * SMALL_TASKS - 400][number])
    kept, written = gone_on(plan, tmp_path / "out", monkeypatch)
    assert 0 < kept < sum(task.written_bytes for task in tasks.values())
    assert kept + written == wanted
    assert (tmp_path / "out.data-00000-of-00001").read_bytes() == (tmp_path / "whole.data-00000-of-00001").read_bytes()


def test_a_data_file_that_is_gone_is_made_anew(tmp_path, monkeypatch):
    plan = planned(tmp_path)
    stopped(plan, tmp_path / "out", monkeypatch, 3)
    (Path(scratch_path(str(tmp_path / "out"))) / "new.data-00000-of-00001").unlink()
    assert gone_on(plan, tmp_path / "out", monkeypatch)[0] == 0


@pytest.mark.parametrize("cut", [1, 40, 10**6])
def test_of_a_journal_that_was_cut_short_what_is_whole_counts(tmp_path, monkeypatch, cut):
    plan = planned(tmp_path)
    stopped(plan, tmp_path / "out", monkeypatch, 4)
    journal = Path(scratch_path(str(tmp_path / "out"))) / "journal"
    data = journal.read_bytes()
    journal.write_bytes(data[: max(0, len(data) - cut)])
    kept, _ = gone_on(plan, tmp_path / "out", monkeypatch)
    assert (kept > 0) == (cut < 1000)


def test_a_journal_of_nonsense_counts_for_nothing(tmp_path, monkeypatch):
    plan = planned(tmp_path)
    scratch = Path(scratch_path(str(tmp_path / "out")))
    scratch.mkdir()
    (scratch / "journal").write_bytes(b"\xff\0\n{}\n00000000 {}\n")
    (scratch / "new.index").write_bytes(b"left by something else")
    assert gone_on(plan, tmp_path / "out", monkeypatch)[0] == 0


def test_another_plan_other_options_or_another_source_start_anew(tmp_path, monkeypatch):
    plan = planned(tmp_path)
    out = tmp_path / "out"
    stopped(plan, out, monkeypatch, 4)
    stopped(plan, out, monkeypatch, 2, layout="compact")
    assert len(Journal(str(Path(scratch_path(str(out))) / "journal")).done) == 2
    assert gone_on(plan, out, monkeypatch, shards=2)[0] == 0
    for path in tmp_path.glob("out*"):
        path.unlink()
    stopped(plan, out, monkeypatch, 4)
    os.utime(tmp_path / "source.data-00001-of-00002", (1, 1))
    assert gone_on(plan, out, monkeypatch)[0] == 0


def test_other_workers_and_a_little_more_memory_go_on(tmp_path, monkeypatch):
    plan = planned(tmp_path)
    stopped(plan, tmp_path / "out", monkeypatch, 4)
    assert gone_on(plan, tmp_path / "out", monkeypatch, jobs=2, memory_bytes=1 << 29)[0] > 0


def test_a_run_that_is_stopped_says_what_it_keeps_and_that_it_goes_on(tmp_path, monkeypatch):
    plan = planned(tmp_path)
    monkeypatch.setattr(tasks_module, "TASK_BYTES", SMALL_TASKS)
    monkeypatch.setattr(write_module, "_WORTH_KEEPING_BYTES", 1)
    scratch = scratch_path(str(tmp_path / "out"))
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", stopping(Journal.add, 3))
        ran = ckptmigrate("apply", tmp_path / "plan.json", "--out", tmp_path / "out", "--jobs", "1")
    assert ran.status == 130
    assert f"stopped\nThe same command goes on where this one ended: {scratch} keeps " in ran.err
    with monkeypatch.context() as patch:
        patch.setattr(os, "statvfs", lambda _: types.SimpleNamespace(f_bavail=0, f_frsize=1, f_blocks=1))
        ran = ckptmigrate("apply", tmp_path / "plan.json", "--out", tmp_path / "out")
    assert "not enough space" in ran.err
    assert f"Make room, or choose another place. The same command goes on where this one ended: {scratch}" in ran.err
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", raising(errno.ENOSPC))
        ran = ckptmigrate("apply", tmp_path / "plan.json", "--out", tmp_path / "out")
    assert ran.status == 2
    assert "No space left on device" in ran.err
    assert f"The same command goes on where this one ended: {scratch} keeps " in ran.err
    assert gone_on(plan, tmp_path / "out", monkeypatch)[0] > 0


def test_what_is_little_is_not_kept(tmp_path, monkeypatch):
    planned(tmp_path)
    before = files_in(tmp_path)
    monkeypatch.setattr(Journal, "add", stopping(Journal.add, 0))
    ran = ckptmigrate("apply", tmp_path / "plan.json", "--out", tmp_path / "new" / "out", "--jobs", "1")
    assert (ran.status, ran.err) == (130, "\nstopped\n")
    assert files_in(tmp_path) == before


# Who else is there.


def test_of_two_runs_to_one_output_the_second_says_who_holds_it(tmp_path):
    plan = planned(tmp_path)
    out = str(tmp_path / "out")
    with Scratch(out):
        before = files_in(tmp_path)
        with pytest.raises(OutputError) as raised:
            apply_plan(plan, out)
        assert raised.value.what == "another run is writing this output"
        assert f"process {os.getpid()} on {os.uname().nodename}, since 20" in raised.value.got
        apply_plan(plan, str(tmp_path / "other"))
        for path in tmp_path.glob("other*"):
            path.unlink()
        assert files_in(tmp_path) == before
    apply_plan(plan, out)


def test_a_lock_of_a_run_that_was_killed_holds_nobody_up(tmp_path):
    plan = planned(tmp_path)
    scratch = Path(scratch_path(str(tmp_path / "out")))
    scratch.mkdir()
    (scratch / "lock").write_bytes(b'{"pid": 1, "host": "elsewhere", "since": "1970"}')
    apply_plan(plan, str(tmp_path / "out"))


def test_where_there_are_no_locks_a_run_goes_without(tmp_path, monkeypatch):
    plan = planned(tmp_path)
    monkeypatch.setattr(fcntl, "flock", raising(errno.ENOLCK))
    apply_plan(plan, str(tmp_path / "out"))


# The source, and the room.


def raising(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


def test_without_room_nothing_is_begun(tmp_path, monkeypatch):
    plan = planned(tmp_path)
    before = files_in(tmp_path)
    found = os.statvfs(tmp_path)
    room = types.SimpleNamespace(f_bavail=5, f_frsize=1024, f_blocks=found.f_blocks)
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    with pytest.raises(OutputError) as raised:
        apply_plan(plan, str(tmp_path / "out"), layout="compact")
    assert raised.value.what == "not enough space"
    needed = sum(4 * size for size in (40 * 300, 4 * 500, 30 * 80, 2 * 20 * 10))
    assert (raised.value.expected, raised.value.got) == (f"{needed} bytes", "5120 bytes free")
    assert files_in(tmp_path) == before


def test_a_source_that_changes_while_it_is_read_is_told(tmp_path, monkeypatch):
    plan = planned(tmp_path)
    before = files_in(tmp_path)
    other = write_tensors(tmp_path / "elsewhere" / "source", {"w": floats(3)}, shards=2)
    run = Threads.run

    def run_and_change(*arguments):
        yield from run(*arguments)
        for suffix in ("index", "data-00000-of-00002", "data-00001-of-00002"):
            Path(f"{other}.{suffix}").replace(f"{tmp_path / 'source'}.{suffix}")

    monkeypatch.setattr(Threads, "run", run_and_change)
    with pytest.raises(PlanError, match="the source changed while it was read"):
        apply_plan(plan, str(tmp_path / "out"))
    assert not {name for name in files_in(tmp_path) if name not in before and not name.startswith("elsewhere")}


@pytest.mark.parametrize("layout", ["link", "compact"])
def test_a_source_that_is_cut_while_it_is_read_is_told(tmp_path, monkeypatch, layout):
    plan = planned(tmp_path)
    open_file = DataFile.__init__

    def open_and_cut(file, path, size_bytes):
        open_file(file, path, size_bytes)
        os.truncate(path, size_bytes // 3)

    with monkeypatch.context() as patch:
        patch.setattr(DataFile, "__init__", open_and_cut)
        with pytest.raises(CorruptBundleError, match="has become shorter"):
            apply_plan(plan, str(tmp_path / "out"), layout=layout)
    assert not [name for name in files_in(tmp_path) if name.startswith((".", "out"))]


def test_a_source_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    plan = planned(tmp_path)
    before = files_in(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", raising(errno.EIO))
        with pytest.raises(NotACheckpointError, match=r"unreadable data file \(Input/output error\) @ .*source"):
            apply_plan(plan, str(tmp_path / "out"))
    assert files_in(tmp_path) == before


# The latest.


def state_of(folder):
    state = read_state(str(folder))
    return state.latest, state.prefixes


def test_the_state_file_is_left_alone_unless_it_is_asked_for(tmp_path):
    plan = planned(tmp_path)
    for number in range(3):
        apply_plan(plan, str(tmp_path / f"out-{number}"), update_latest=number > 0)
        assert (tmp_path / "checkpoint").exists() == (number > 0)
    assert state_of(tmp_path) == ("out-2", ("out-1", "out-2"))
    apply_plan(plan, str(tmp_path / "out-1"), overwrite=True, update_latest=True)
    assert state_of(tmp_path) == ("out-1", ("out-2", "out-1"))
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_fails_does_not_become_the_latest(tmp_path):
    plan = planned(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "source"\n')
    before = files_in(tmp_path)
    flip_byte(tmp_path / "source.data-00000-of-00002", 3)
    with pytest.raises(CorruptBundleError):
        apply_plan(plan, str(tmp_path / "out"), update_latest=True)
    flip_byte(tmp_path / "source.data-00000-of-00002", 3)
    assert files_in(tmp_path) == before
