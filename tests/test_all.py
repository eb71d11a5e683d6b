"""One plan for all checkpoints of a training run."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders import ckptmigrate, files_in, flip_byte, floats, plan_between, read_all, write_tree

from ckptmigrate import Bundle
from ckptmigrate.apply import apply_all
from ckptmigrate.bundle.state import CheckpointState, read_state, write_state
from ckptmigrate.errors import CorruptBundleError, NotACheckpointError, OutputError


def tree(number, **more):
    return {"model": {"w1": floats(3, 4, start=number), "step": np.int64(number).reshape(()), **more}}


@pytest.fixture
def run(tmp_path):
    """A history of checkpoints 8 to 11, of which one has another shape and one another graph; and a plan."""
    folder = tmp_path / "run"
    for number in (8, 9, 10, 11):
        write_tree(folder / f"ckpt-{number}", tree(number))
    write_tree(folder / "ckpt-7", tree(7, early=floats(2)))
    write_tree(folder / "ckpt-12", {"model": {"w1": floats(4, 3), "step": np.int64(12).reshape(())}})
    names = ("ckpt-9", "ckpt-10", "ckpt-11", "ckpt-12")
    write_state(str(folder), CheckpointState("ckpt-11", names, (9.0, 10.0, 11.0, 12.0), 8.5))
    target = write_tree(tmp_path / "target", {"model": {"kernel": floats(4, 3), "step": np.int64(0).reshape(())}})
    rules = "  - transpose: {from: model/w1, to: model/kernel}\n"
    plan = plan_between(str(folder / "ckpt-9"), target, rules)
    (tmp_path / "plan.json").write_bytes(plan.to_json())
    return plan


def kinds(outcomes):
    return {Path(outcome.source).name: outcome.kind for outcome in outcomes}


def test_all_whose_graph_is_equal_are_migrated_and_the_others_are_left(run, tmp_path):
    before = files_in(tmp_path / "run")
    outcomes = list(apply_all(run, str(tmp_path / "run"), str(tmp_path / "new")))
    assert kinds(outcomes) == {
        "ckpt-7": "left",
        "ckpt-8": "done",
        "ckpt-9": "done",
        "ckpt-10": "done",
        "ckpt-11": "done",
        "ckpt-12": "left",
    }
    assert [outcome.why for outcome in outcomes if outcome.why] == [
        "tensors: 1 more",
        "tensors: 1 of another shape or dtype",
    ]
    for number in (8, 9, 10, 11):
        values = read_all(str(tmp_path / "new" / f"ckpt-{number}"))
        assert [values[key].tolist() for key in sorted(values)] == [floats(3, 4, start=number).T.tolist(), number]
    assert files_in(tmp_path / "run") == before


def test_a_graph_that_holds_the_same_tensors_otherwise_is_another_one(run, tmp_path):
    values = tree(13)
    values["model"]["deep"] = {"also": values["model"]["w1"]}
    write_tree(tmp_path / "run" / "ckpt-13", values)
    outcomes = list(apply_all(run, str(tmp_path / "run"), str(tmp_path / "new")))
    assert outcomes[-1].why == "the same tensors in another graph"


def test_the_state_file_is_like_the_sources(run, tmp_path):
    list(apply_all(run, str(tmp_path / "run"), str(tmp_path / "new")))
    state = read_state(str(tmp_path / "new"))
    assert state == CheckpointState("ckpt-11", ("ckpt-9", "ckpt-10", "ckpt-11"), (9.0, 10.0, 11.0), 8.5)
    write_state(str(tmp_path / "run"), CheckpointState("ckpt-12", ("ckpt-10", "ckpt-12")))
    list(apply_all(run, str(tmp_path / "run"), str(tmp_path / "new")))
    assert read_state(str(tmp_path / "new")) == CheckpointState("ckpt-11", ("ckpt-10",))
    (tmp_path / "run" / "checkpoint").unlink()
    list(apply_all(run, str(tmp_path / "run"), str(tmp_path / "other")))
    assert read_state(str(tmp_path / "other")) is None


def test_what_an_earlier_run_has_done_is_not_done_again(run, tmp_path):
    arguments = ["apply", tmp_path / "plan.json", "--all", tmp_path / "run", "--out", tmp_path / "new"]
    steps = apply_all(run, str(tmp_path / "run"), str(tmp_path / "new"))
    assert [next(steps).kind for _ in range(3)] == ["left", "done", "done"]
    done = files_in(tmp_path / "new")
    ran = ckptmigrate(*arguments)
    assert ran.status == 1
    assert ran.out.splitlines() == [
        f"{tmp_path}/run/ckpt-7: left: tensors: 1 more",
        f"{tmp_path}/new/ckpt-8: there already",
        f"{tmp_path}/new/ckpt-9: there already",
        f"{tmp_path}/new/ckpt-10: 2 tensors in 1 data file (new)",
        f"{tmp_path}/new/ckpt-11: 2 tensors in 1 data file (new)",
        f"{tmp_path}/run/ckpt-12: left: tensors: 1 of another shape or dtype",
        "2 done, 2 there already, 2 left",
    ]
    assert done.items() <= files_in(tmp_path / "new").items()


def test_the_first_that_fails_ends_it_unless_the_others_are_to_go_on(run, tmp_path):
    with Bundle.open(str(tmp_path / "run" / "ckpt-10")) as bundle:
        entry = next(entry for key, entry in bundle.entries.items() if "w1" in key)
    flip_byte(tmp_path / "run" / "ckpt-10.data-00000-of-00001", entry.offset)
    for number in (7, 12):
        for file in (tmp_path / "run").glob(f"ckpt-{number}.*"):
            file.unlink()
    found = []
    with pytest.raises(CorruptBundleError, match="checksum mismatch"):
        found.extend(apply_all(run, str(tmp_path / "run"), str(tmp_path / "new")))
    assert read_state(str(tmp_path / "new")) is None
    arguments = ["apply", tmp_path / "plan.json", "--all", tmp_path / "run", "--out", tmp_path / "new", "--json"]
    ran = ckptmigrate(*arguments)
    assert (ran.status, ran.out) == (2, "")
    ran = ckptmigrate(*arguments, "--keep-going")
    assert ran.status == 2
    told = json.loads(ran.out)
    assert (told["done"], told["there"], told["left"], told["failed"]) == (1, 2, 0, 1)
    assert [item["kind"] for item in told["checkpoints"]] == ["there", "there", "failed", "done"]
    assert "checksum mismatch" in told["checkpoints"][2]["why"]
    assert read_state(str(tmp_path / "new")).prefixes == ("ckpt-9", "ckpt-11")


def test_what_cannot_be_is_refused(run, tmp_path):
    before = files_in(tmp_path)
    with pytest.raises(OutputError, match="the output is the source"):
        list(apply_all(run, str(tmp_path / "run"), f"{tmp_path}/./run"))
    with pytest.raises(NotACheckpointError, match="no such directory"):
        list(apply_all(run, str(tmp_path / "nowhere"), str(tmp_path / "new")))
    ran = ckptmigrate("apply", tmp_path / "plan.json", "--all", tmp_path / "run", "--out", tmp_path / "n", "--estimate")
    assert ran.status == 2
    assert "--all goes with neither" in ran.err
    assert files_in(tmp_path) == before


def test_a_checkpoint_manager_goes_on_with_what_was_migrated(tmp_path):
    tf = pytest.importorskip("tensorflow")

    def checkpoint(name, value):
        model = tf.Module()
        setattr(model, name, tf.Variable(value))
        return tf.train.Checkpoint(model=model)

    manager = tf.train.CheckpointManager(old := checkpoint("w", [[1.0, 2.0]]), str(tmp_path / "run"), max_to_keep=3)
    for number in range(5):
        old.model.w.assign([[number, 2.0 * number]])
        manager.save()
    target = checkpoint("kernel", [[0.0], [0.0]]).save(str(tmp_path / "target"))
    plan = plan_between(manager.latest_checkpoint, target, "  - transpose: {from: model/w, to: model/kernel}\n")
    outcomes = list(apply_all(plan, str(tmp_path / "run"), str(tmp_path / "new")))
    assert kinds(outcomes) == {"ckpt-3": "done", "ckpt-4": "done", "ckpt-5": "done"}
    new = checkpoint("kernel", [[0.0], [0.0]])
    manager = tf.train.CheckpointManager(new, str(tmp_path / "new"), max_to_keep=3)
    assert [Path(path).name for path in manager.checkpoints] == ["ckpt-3", "ckpt-4", "ckpt-5"]
    for path in manager.checkpoints:
        number = int(path[-1]) - 1
        new.restore(path).assert_consumed()
        assert new.model.kernel.numpy().tolist() == [[number], [2.0 * number]]
    assert Path(manager.save()).name == "ckpt-6"
    assert [Path(path).name for path in manager.checkpoints] == ["ckpt-4", "ckpt-5", "ckpt-6"]
