"""The state file of a directory, as TensorFlow reads and writes it."""

import time

import pytest

from ckptmigrate.bundle import find_prefix, write_index
from ckptmigrate.bundle.state import CheckpointState, read_state, write_state

tf = pytest.importorskip("tensorflow")

NAMES = ["ckpt-1", 'with "quotes" and \\\\', "tab\tand\nline", "späte Zähne-7"]


@pytest.mark.parametrize("name", NAMES)
def test_tensorflow_reads_what_is_written(tmp_path, name):
    state = CheckpointState("first").with_latest("older", 1.5).with_latest(name, 1700000000.25)
    write_state(str(tmp_path), state)
    found = tf.train.get_checkpoint_state(str(tmp_path))
    assert found.model_checkpoint_path == f"{tmp_path}/{name}"
    assert list(found.all_model_checkpoint_paths) == [f"{tmp_path}/older", f"{tmp_path}/{name}"]
    assert list(found.all_model_checkpoint_timestamps) == [1.5, 1700000000.25]
    assert read_state(str(tmp_path)) == state
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("name", NAMES)
def test_what_tensorflow_writes_is_read(tmp_path, name):
    tf.compat.v1.train.update_checkpoint_state(
        str(tmp_path), name, ["older", name], all_model_checkpoint_timestamps=[1.5, 2.5], last_preserved_timestamp=0.5
    )
    assert read_state(str(tmp_path)) == CheckpointState(name, ("older", name), (1.5, 2.5), 0.5)


def test_a_checkpoint_manager_goes_on_with_a_state_that_was_added_to(tmp_path):
    checkpoint = tf.train.Checkpoint(v=tf.Variable(1.0))
    manager = tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=2)
    manager.save()
    manager.save()
    write_state(str(tmp_path), read_state(str(tmp_path)).with_latest("ours", time.time()))
    write_index(tmp_path / "ours.index", [], 1)
    (tmp_path / "ours.data-00000-of-00001").touch()
    again = tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=2)
    assert again.latest_checkpoint == f"{tmp_path}/ours" == find_prefix(tmp_path)
    again.save()
    state = read_state(str(tmp_path))
    assert state.latest == "ckpt-3"
    assert state.prefixes == ("ours", "ckpt-3")


def test_a_state_without_times_stays_without():
    state = CheckpointState("b", ("a", "b")).with_latest("c", 1.0)
    assert (state.prefixes, state.timestamps) == (("a", "b", "c"), ())


def test_what_is_no_state_file_is_none(tmp_path):
    assert read_state(str(tmp_path)) is None
    for content in (b"", b"\xff\xfe", b"something: else\n", b"model_checkpoint_path: unquoted\n"):
        (tmp_path / "checkpoint").write_bytes(content)
        assert read_state(str(tmp_path)) is None
