import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from corpus import corpus_dir, corpus_refuse_dir

from ckptmigrate.bundle import Bundle, find_prefix
from ckptmigrate.errors import NotACheckpointError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"


@pytest.fixture
def ckpt(make_bundle):
    """Write a small bundle under a name; its prefix."""

    def make(name="ckpt"):
        return make_bundle({"w": np.float32(1)}, name)

    return make


def refused(path):
    with pytest.raises(NotACheckpointError) as caught:
        Bundle.open(find_prefix(path))
    return caught.value


@pytest.mark.parametrize(
    "name", ["ckpt", "checkpoint", "cp-{epoch:04d}.ckpt", "a b", "a*[0-9]?", "ckpt.index", "x.data", ".hidden"]
)
def test_a_prefix_is_taken_as_it_is(ckpt, name):
    prefix = ckpt(name)
    assert find_prefix(prefix) == prefix
    assert Bundle.open(prefix).read("w") == 1


def test_an_index_wins_over_a_directory_and_a_state_file_of_its_name(ckpt, tmp_path):
    prefix = ckpt("checkpoint")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "other"\n')
    assert find_prefix(prefix) == prefix
    (tmp_path / "checkpoint").unlink()
    (tmp_path / "checkpoint").mkdir()
    assert find_prefix(prefix) == prefix


def test_a_directory_means_the_latest_that_its_state_file_names(ckpt, tmp_path):
    ckpt("a-1")
    latest = ckpt("a-2")
    for named in ("a-2", latest, "/moved/from/here/a-2"):
        (tmp_path / "checkpoint").write_text(
            f'model_checkpoint_path: "{named}"\nall_model_checkpoint_paths: "a-1"\nall_model_checkpoint_paths: "a-2"\n'
        )
        assert find_prefix(tmp_path) == latest


def test_a_state_file_may_have_escapes(ckpt, tmp_path):
    prefix = ckpt('é "x"')
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "\\303\\251 \\"x\\""\n')
    assert find_prefix(tmp_path) == prefix


def test_a_latest_that_is_gone_is_not_replaced_by_a_guess(ckpt, tmp_path):
    ckpt("a-1")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "a-2"\n')
    error = refused(tmp_path)
    assert "latest checkpoint is missing" in error.what
    assert error.got.endswith("a-1")


def test_a_saved_model_means_its_variables(ckpt, tmp_path):
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").touch()
    assert "SavedModel without variables" in refused(tmp_path).what
    prefix = ckpt("variables/variables")
    assert find_prefix(tmp_path) == prefix


def test_a_directory_of_one_checkpoint_means_that_one(ckpt, tmp_path):
    prefix = ckpt("only")
    assert find_prefix(tmp_path) == prefix
    assert find_prefix(f"{tmp_path}/") == prefix


def test_a_directory_of_several_is_refused_and_lists_them_newest_first(ckpt, tmp_path):
    for number in (2, 10, 1):
        ckpt(f"a-{number}")
    error = refused(tmp_path)
    assert [path.rpartition("-")[2] for path in error.got.split(", ")] == ["10", "2", "1"]


@pytest.mark.parametrize("name", ["my", "a[0]*"])
def test_a_prefix_without_its_number_names_those_there_are(ckpt, tmp_path, name):
    for number in (2, 10, 1):
        ckpt(f"{name}-{number}")
    ckpt("other-7")
    error = refused(str(tmp_path / name))
    assert [path.rpartition("/")[2] for path in error.hint.split(", ")] == [f"{name}-{n}" for n in (10, 2, 1)]
    assert error.hint.startswith("Did you mean")


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
def test_a_file_of_a_checkpoint_is_refused_with_its_prefix(ckpt, suffix):
    prefix = ckpt("ckpt-1")
    assert refused(prefix + suffix).hint == f"Use {prefix}"


def test_a_state_file_is_refused_with_its_directory(ckpt, tmp_path):
    ckpt("a-1")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "a-1"\n')
    assert refused(tmp_path / "checkpoint").hint == f"Use {tmp_path}"


@pytest.mark.parametrize("suffix", ["index", "data-00000-of-00001"])
def test_a_git_lfs_pointer_is_refused(ckpt, suffix):
    prefix = ckpt()
    Path(f"{prefix}.{suffix}").write_bytes(LFS)
    error = refused(prefix)
    assert error.where.endswith(suffix)
    assert "git lfs pull" in error.hint


def test_data_without_an_index_is_refused(ckpt):
    prefix = ckpt()
    Path(f"{prefix}.index").unlink()
    assert refused(prefix).what == "data files without their index"


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("w.h5", b"", "HDF5"),
        ("weights", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("m.keras", b"PK\x03\x04", "Keras archive"),
        ("text", b"hello", "not a checkpoint"),
    ],
)
@pytest.mark.parametrize("by_directory", [False, True])
def test_other_files_are_refused_by_kind(tmp_path, name, content, what, by_directory):
    (tmp_path / name).write_bytes(content)
    if by_directory and "." not in name:
        assert refused(tmp_path).what == "no checkpoint in the directory"
    else:
        assert what in refused(tmp_path if by_directory else tmp_path / name).what


def test_a_keras_archive_is_known_by_what_is_in_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "model", "w") as archive:
        archive.writestr("model.weights.h5", b"")
    assert "Keras archive" in refused(tmp_path / "model").what


def test_nothing_at_all_is_refused(tmp_path):
    assert refused(tmp_path).got == "an empty directory"
    assert "no directory" in refused(tmp_path / "a" / "b").got
    assert refused(tmp_path / "b").got == "no such file"
    assert refused("gs://bucket/ckpt").what == "not a local path"


needs_refuse = pytest.mark.skipif(corpus_refuse_dir() is None, reason="no corpus here")


@needs_refuse
def test_a_real_lfs_pointer_is_refused():
    assert "git lfs pull" in refused(corpus_refuse_dir() / "lfs-pointer" / "variables").hint


@needs_refuse
def test_a_real_checkpoint_without_its_data_is_refused():
    error = refused(corpus_refuse_dir() / "missing-data" / "checkpoint-1")
    assert "checkpoint-1.data-00000-of-00001" in error.got


@needs_refuse
@pytest.mark.parametrize("name", ["", "export", "export-00000-of-00001", "export-?????-of-00001"])
def test_a_real_v1_checkpoint_is_refused_with_the_way_to_convert_it(name):
    error = refused(str(corpus_refuse_dir() / "v1-sstable-export" / name))
    assert "TensorFlow V1" in error.what
    assert "write_version" in error.hint


@pytest.mark.skipif(corpus_dir() is None, reason="no corpus here")
def test_a_real_v1_file_beside_a_v2_checkpoint_does_not_hide_it(ckpt, tmp_path):
    if (refuse := corpus_refuse_dir()) is None:
        pytest.skip("no corpus here")
    prefix = ckpt("export")
    shutil.copy(refuse / "v1-sstable-export" / "export-00000-of-00001", tmp_path)
    assert find_prefix(prefix) == prefix
    assert find_prefix(tmp_path) == prefix
