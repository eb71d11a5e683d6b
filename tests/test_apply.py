"""Applying plans: values, data files linked or copied, refusals, and nothing left behind."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from builders import (
    BFLOAT16,
    Partitioned,
    ckptmigrate,
    files_in,
    flip_byte,
    floats,
    key_of,
    plan_between,
    read_all,
    write_tensors,
    write_tree,
)

import ckptmigrate.apply.link as link_module
import ckptmigrate.apply.place as place_module
import ckptmigrate.apply.write as write_module
from ckptmigrate import Bundle, ObjectGraph, apply_plan
from ckptmigrate.apply import read_receipt
from ckptmigrate.bundle import ShardFile
from ckptmigrate.errors import CkptMigrateError, CorruptBundleError, OutputError, PlanError
from ckptmigrate.spec import OBJECT_GRAPH_KEY


def migrate(tmp_path, source, target, rules="", **how):
    """Write both trees, plan with rules, apply; the output's prefix."""
    ends = write_tree(tmp_path / "source", source), write_tree(tmp_path / "target", target)
    out = str(tmp_path / "out" / "ckpt")
    apply_plan(plan_between(*ends, rules), out, **how)
    return out


def cannot(number):
    """A call of the system that fails in this way."""

    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


no_space = cannot(errno.ENOSPC)


def assert_same_values(prefix, expected):
    found = read_all(prefix)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        assert found[key].tolist() == value.tolist(), key


# Values.

MATRIX = floats(2, 3)

OPERATIONS = {
    "transpose": (MATRIX, MATRIX.T, "transpose: {from: m/w, to: m/v, perm: [1, 0]}"),
    "reshape": (MATRIX, MATRIX.reshape(3, 2, 1), "reshape: {from: m/w, to: m/v, shape: [3, 2, 1]}"),
    "as the target has it": (
        MATRIX,
        MATRIX.astype(BFLOAT16).reshape(6),
        "map: {from: m/w, to: m/v, ops: [{cast: }, {reshape: }]}",
    ),
    "cast": (MATRIX, MATRIX.astype(BFLOAT16), "cast: {from: m/w, to: m/v, dtype: bfloat16}"),
    "squeeze": (MATRIX[None], MATRIX, "squeeze: {from: m/w, to: m/v, axis: 0}"),
    "expand_dims": (MATRIX, MATRIX[:, None], "expand_dims: {from: m/w, to: m/v, axis: 1}"),
    "slice": (MATRIX, MATRIX[:, 1:], "slice: {from: m/w, to: m/v, axis: 1, start: 1}"),
    "pad": (
        MATRIX,
        np.pad(MATRIX, ((0, 2), (0, 0)), constant_values=7),
        "pad: {from: m/w, to: m/v, axis: 0, after: 2, value: 7}",
    ),
    "gather": (MATRIX, MATRIX[:, [2, 0]], "gather: {from: m/w, to: m/v, axis: 1, indices: [2, 0]}"),
    "tile": (MATRIX, np.tile(MATRIX, (2, 1)), "tile: {from: m/w, to: m/v, axis: 0, times: 2}"),
    "repeat": (MATRIX, np.repeat(MATRIX, 2, 0), "repeat: {from: m/w, to: m/v, axis: 0, times: 2}"),
    "resize": (
        MATRIX,
        np.concatenate([MATRIX, [[1.5, 2.5, 3.5]]]).astype(np.float32),
        "resize: {from: m/w, to: m/v, axis: 0, fill: mean}",
    ),
    "resize with the template's values": (
        MATRIX,
        np.concatenate([MATRIX, -MATRIX[1:]]),
        "resize: {from: m/w, to: m/v, axis: 0}",
    ),
    "gates": (
        floats(8),
        np.array([0, 1, 5, 6, 2, 3, 6, 7], np.float32),
        "gates: {from: m/w, to: m/v, axis: 0, source: tf1_lstm, target: keras_lstm, forget_bias: 1}",
    ),
    "scale": (MATRIX, MATRIX * 2, "scale: {from: m/w, to: m/v, factor: 2}"),
    "add": (MATRIX, MATRIX + 1, "add: {from: m/w, to: m/v, value: 1}"),
    "chain": (
        MATRIX,
        MATRIX.T.astype(np.float64).reshape(6),
        "map: {from: m/w, to: m/v, ops: [{transpose: {}}, {cast: {dtype: double}}, {reshape: {shape: [6]}}]}",
    ),
    "strings": (
        np.array([[b"a", b""], [b"long" * 50, b"\xff\0"]], object),
        np.array([[b"a", b"long" * 50], [b"", b"\xff\0"]], object),
        "transpose: {from: m/w, to: m/v, perm: [1, 0]}",
    ),
    "bfloat16": (
        np.array([[1, 2], [3, 4]], BFLOAT16),
        np.array([[1, 3], [2, 4]], BFLOAT16),
        "transpose: {from: m/w, to: m/v, perm: [1, 0]}",
    ),
    "empty": (np.zeros((0, 3), np.float32), np.zeros((3, 0), np.float32), "transpose: {from: m/w, to: m/v}"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_changed_tensor_is_what_its_operations_make_of_it(tmp_path, name):
    before, after, rule = OPERATIONS[name]
    out = migrate(tmp_path, {"m": {"w": before, "b": floats(4)}}, {"m": {"v": after, "b": floats(4)}}, f"  - {rule}\n")
    assert_same_values(out, {key_of("m/v"): after, key_of("m/b"): floats(4)})


def test_a_variable_is_split_and_put_together_again(tmp_path):
    q, k, v = floats(2, 3, start=1), floats(2, 3, start=10), floats(2, 3, start=20)
    fused = np.concatenate([q, k, v], 1)
    parts = {"m": {"q": q, "k": k, "v": v}}
    (tmp_path / "split").mkdir()
    rule = "  - split: {from: m/qkv, to: [m/q, m/k, m/v], axis: 1}\n"
    out = migrate(tmp_path / "split", {"m": {"qkv": fused}}, parts, rule)
    assert_same_values(out, {key_of(f"m/{name}"): value for name, value in (("q", q), ("k", k), ("v", v))})
    for rule, value in (
        ("concat: {from: [m/q, m/k, m/v], to: m/all, axis: 1}", fused),
        ("stack: {from: [m/v, m/k, m/q], to: m/all, axis: 0}", np.stack([v, k, q])),
        ("average: {from: [m/q, m/k, m/v], to: m/all}", np.mean([q, k, v], 0, np.float64).astype(np.float32)),
    ):
        place = tmp_path / rule.partition(":")[0]
        place.mkdir()
        out = migrate(place, parts, {"m": {"all": value}}, f"  - {rule}\n")
        assert_same_values(out, {key_of("m/all"): value})


@pytest.mark.parametrize(("with_", "value"), [("zeros", 0), ("ones", 1), ("2.5", 2.5), ("template", 9)])
def test_an_initial_value(tmp_path, with_, value):
    target = {"b": floats(4), "new": np.full((2, 2), 9, np.float32)}
    out = migrate(tmp_path, {"b": floats(4)}, target, f"  - init: {{to: new, with: {with_}}}\n")
    assert_same_values(out, {key_of("new"): np.full((2, 2), value, np.float32), key_of("b"): floats(4)})


def test_the_graph_is_the_targets(tmp_path):
    target = {"other": {"deep": {"w": floats(2, 3)}}}
    out = migrate(tmp_path, {"w": MATRIX}, target, "  - rename: {from: w, to: other/deep/w}\n")
    with Bundle.open(out) as made, Bundle.open(str(tmp_path / "target")) as wanted:
        assert made.object_graph_bytes() == wanted.object_graph_bytes()
        assert ObjectGraph.from_bundle(made).find(("other", "deep", "w")) is not None


@pytest.mark.parametrize("lengths", [(2, 3), (4, 1), (5,), ()])
@pytest.mark.parametrize("from_lengths", [(2, 3), ()])
def test_a_tensor_is_cut_as_the_target_is(tmp_path, from_lengths, lengths):
    whole = floats(5, 2)
    source, target = (
        write_tensors(tmp_path / name, {"a/w": Partitioned(whole, sizes) if sizes else whole, "b": floats(3)}, shards=2)
        for name, sizes in (("s", from_lengths), ("t", lengths))
    )
    for layout in ("auto", "link", "compact"):
        out = str(tmp_path / layout)
        apply_plan(plan_between(source, target), out, layout=layout)
        assert_same_values(out, {"a/w": whole, "b": floats(3)})
        with Bundle.open(out) as bundle:
            cuts = [length for (_, length), _ in bundle.entries["a/w"].slices]
            assert tuple(cuts) == (from_lengths if layout == "link" else lengths)


def test_operations_and_constants_are_cut_as_the_target_is(tmp_path):
    whole = floats(2, 6)
    source = write_tensors(tmp_path / "s", {"w": Partitioned(whole, (1, 1))})
    target = write_tensors(
        tmp_path / "t", {"w": Partitioned(whole.T.copy(), (1, 3, 2)), "z": Partitioned(whole, (1, 1))}
    )
    out = str(tmp_path / "out")
    rules = "  - transpose: {from: w}\n  - init: {to: z, with: 3}\n"
    apply_plan(plan_between(source, target, rules), out)
    assert_same_values(out, {"w": whole.T, "z": np.full((2, 6), 3, np.float32)})
    with Bundle.open(out) as bundle:
        assert [len(bundle.entries[key].slices) for key in ("w", "z")] == [3, 2]


def test_a_partitioned_tensor_is_put_together_where_it_changes(tmp_path):
    whole = floats(5, 2)
    source = write_tensors(tmp_path / "s", {"w": Partitioned(whole, (2, 3))}, shards=2)
    target = write_tensors(tmp_path / "t", {"w": whole.T})
    out = str(tmp_path / "out")
    apply_plan(plan_between(source, target, "  - transpose: {from: w}\n"), out)
    assert_same_values(out, {"w": whole.T})


def test_a_copy_is_one_range_under_two_keys(tmp_path):
    out = migrate(tmp_path, {"a": floats(2)}, {"b": floats(2), "c": floats(2)}, "  - rename: {from: a, to: [b, c]}\n")
    with Bundle.open(out) as bundle:
        assert bundle.entries[key_of("b")].offset == bundle.entries[key_of("c")].offset
    assert_same_values(out, {key_of("b"): floats(2), key_of("c"): floats(2)})


# Data files.


def inodes(prefix):
    return [Path(path).stat().st_ino for path in Bundle.open(prefix).shard_paths]


@pytest.mark.parametrize("shards", [1, 3])
def test_unchanged_data_files_are_linked(tmp_path, shards):
    tree = {f"v{n}": floats(100, start=n) for n in range(6)}
    source = write_tree(tmp_path / "s", tree, shards=shards)
    out = str(tmp_path / "out")
    receipt = apply_plan(plan_between(source, source), out, link="hard")
    assert [shard.how for shard in receipt.shards][:shards] == ["hard link"] * shards
    assert set(inodes(source)) <= set(inodes(out))
    assert_same_values(out, read_all(source))


@pytest.mark.parametrize("link", ["auto", "copy"])
def test_the_way_of_linking_changes_no_value(tmp_path, link):
    source = write_tree(tmp_path / "s", {"w": floats(100), "b": floats(100)})
    receipt = apply_plan(plan_between(source, source), str(tmp_path / "out"), link=link)
    assert receipt.shards[0].how in ({"copy"} if link == "copy" else {"reflink", "hard link", "copy"})
    assert_same_values(str(tmp_path / "out"), read_all(source))


def mostly_dropped(tmp_path):
    """A plan that uses one tensor of ten."""
    source = write_tree(tmp_path / "s", {f"v{n}": floats(1000, start=n) for n in range(10)})
    target = write_tree(tmp_path / "t", {"v3": floats(1000)})
    return plan_between(source, target, drop_unused=True)


@pytest.mark.parametrize(("layout", "hows"), [("auto", ["new"]), ("compact", ["new"]), ("link", ["hard link", "new"])])
def test_live_ranges_are_copied_where_most_of_a_file_is_dead(tmp_path, layout, hows):
    receipt = apply_plan(mostly_dropped(tmp_path), str(tmp_path / "out"), layout=layout, link="hard")
    assert [shard.how for shard in receipt.shards] == hows
    assert_same_values(str(tmp_path / "out"), {key_of("v3"): floats(1000, start=3)})


def test_a_file_that_is_mostly_alive_is_linked(tmp_path):
    source = write_tree(tmp_path / "s", {name: floats(1000, start=n) for n, name in enumerate("abcdefghij")})
    target = write_tree(tmp_path / "t", {name: floats(1000) for name in "abcdef"})
    receipt = apply_plan(plan_between(source, target, drop_unused=True), str(tmp_path / "out"), link="hard")
    assert receipt.shards[0].how == "hard link"


def test_a_link_that_the_file_system_cannot_make_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(link_module, "_reflink", cannot(errno.EOPNOTSUPP))
    source = write_tree(tmp_path / "s", {"w": floats(10)})
    before = files_in(tmp_path)
    with pytest.raises(OutputError, match=r"cannot link a data file.*Use --link auto"):
        apply_plan(plan_between(source, source), str(tmp_path / "out"), link="reflink")
    assert files_in(tmp_path) == before
    assert apply_plan(plan_between(source, source), str(tmp_path / "out"), link="auto").shards[0].how == "hard link"


def test_auto_copies_where_nothing_can_be_linked(tmp_path, monkeypatch):
    monkeypatch.setattr(link_module, "_reflink", cannot(errno.EXDEV))
    monkeypatch.setattr(os, "link", cannot(errno.EXDEV))
    source = write_tree(tmp_path / "s", {"w": floats(10)})
    assert apply_plan(plan_between(source, source), str(tmp_path / "out")).shards[0].how == "copy"
    assert_same_values(str(tmp_path / "out"), read_all(source))


def test_the_source_and_the_target_stay_as_they_are(tmp_path):
    ends = write_tree(tmp_path / "s", {"w": MATRIX}), write_tree(tmp_path / "t", {"w": MATRIX.T})
    before = files_in(tmp_path)
    apply_plan(plan_between(*ends, "  - transpose: {from: w}\n"), str(tmp_path / "out"))
    after = files_in(tmp_path)
    assert {name: after[name] for name in before} == before
    added = {"out.index", "out.data-00000-of-00001", "out.ckptmigrate.json"}
    assert after.keys() - before.keys() == added


def test_the_receipt_says_what_was_done(tmp_path):
    ends = (
        write_tree(tmp_path / "s", {"w": MATRIX, "b": floats(99)}),
        write_tree(tmp_path / "t", {"w": MATRIX.T, "b": floats(99)}),
    )
    plan = plan_between(*ends, "  - transpose: {from: w}\n")
    out = str(tmp_path / "out")
    receipt = apply_plan(plan, out, link="hard")
    assert read_receipt(out) == receipt
    assert receipt.plan_digest == plan.digest
    assert (receipt.source.prefix, receipt.source.fingerprint) == (plan.source.prefix, plan.source.fingerprint)
    assert (receipt.target.prefix, receipt.target.fingerprint) == (plan.target.prefix, plan.target.fingerprint)
    assert [(shard.name, shard.how) for shard in receipt.shards] == [
        ("out.data-00000-of-00002", "hard link"),
        ("out.data-00001-of-00002", "new"),
    ]
    assert {path: Path(tmp_path / path).stat().st_size for path in (s.name for s in receipt.shards)} == {
        shard.name: shard.size_bytes for shard in receipt.shards
    }
    assert receipt.tensors.keys() == {key_of("w"), key_of("b"), OBJECT_GRAPH_KEY}
    assert receipt.written_at.endswith("+00:00")
    assert json.loads(Path(f"{out}.ckptmigrate.json").read_bytes())["schema"] == "ckptmigrate.receipt/1"


def test_progress_reaches_its_end(tmp_path):
    told = []
    migrate(
        tmp_path,
        {"w": floats(50, 40)},
        {"w": floats(40, 50)},
        "  - transpose: {from: w}\n",
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert told
    assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize("link", ["auto", "hard", "copy"])
def test_a_data_file_that_is_a_symbolic_link_is_linked_itself(tmp_path, link):
    write_tree(tmp_path / "store" / "s", {"w": MATRIX})
    for name in ("s.index", "s.data-00000-of-00001"):
        (tmp_path / name).symlink_to(Path("store", name))
    out = str(tmp_path / "elsewhere" / "out")
    apply_plan(plan_between(str(tmp_path / "s"), str(tmp_path / "s")), out, link=link)
    assert_same_values(out, {key_of("w"): MATRIX})
    assert not any(path.is_symlink() for path in (tmp_path / "elsewhere").iterdir())


# Refusals. After each, everything is as it was.


@pytest.fixture
def plan(tmp_path):
    source = write_tree(tmp_path / "s", {"w": MATRIX, "b": floats(99)})
    target = write_tree(tmp_path / "t", {"w": MATRIX.T, "b": floats(99)})
    return plan_between(source, target, "  - transpose: {from: w}\n")


def refused(plan, out, tmp_path, kind=OutputError, **how):
    before = files_in(tmp_path)
    with pytest.raises(kind) as raised:
        apply_plan(plan, str(out), **how)
    assert files_in(tmp_path) == before
    return raised.value


def test_an_output_that_exists_is_refused(plan, tmp_path):
    write_tree(tmp_path / "out", {"x": floats(1)})
    error = refused(plan, tmp_path / "out", tmp_path)
    assert error.what == "the output exists"
    assert error.got == "out.data-00000-of-00001, out.index"


def test_even_a_leftover_of_an_output_is_refused(plan, tmp_path):
    (tmp_path / "out.data-00004-of-00005").write_bytes(b"x")
    assert refused(plan, tmp_path / "out", tmp_path).what == "the output exists"


def test_an_output_is_replaced_when_asked(plan, tmp_path):
    write_tree(tmp_path / "out", {f"x{n}": floats(1) for n in range(5)}, shards=5)
    (tmp_path / "out-2.index").write_bytes(b"another checkpoint")
    apply_plan(plan, str(tmp_path / "out"), overwrite=True)
    assert_same_values(str(tmp_path / "out"), {key_of("w"): MATRIX.T, key_of("b"): floats(99)})
    assert len(list(tmp_path.glob("out.*"))) == 4
    assert (tmp_path / "out-2.index").exists()


@pytest.mark.parametrize("side", ["s", "t"])
def test_an_output_that_is_an_end_of_the_plan_is_refused_even_to_overwrite(plan, tmp_path, side):
    assert refused(plan, tmp_path / side, tmp_path, overwrite=True).what.startswith("the output is the ")
    assert refused(plan, f"{tmp_path}/./{side}", tmp_path, overwrite=True).what.startswith("the output is the ")


def test_an_end_of_the_plan_is_known_through_symbolic_links(plan, tmp_path):
    (tmp_path / "elsewhere").symlink_to(tmp_path)
    (tmp_path / "alias.index").symlink_to(tmp_path / "s.index")
    for out in (tmp_path / "elsewhere" / "s", tmp_path / "alias"):
        with pytest.raises(OutputError, match="the output is the source"):
            apply_plan(plan, str(out), overwrite=True)


def test_a_directory_is_no_prefix(plan, tmp_path):
    (tmp_path / "dir").mkdir()
    error = refused(plan, tmp_path / "dir", tmp_path)
    assert error.what == "a directory, not a prefix"
    assert str(tmp_path / "dir" / "ckpt") in error.hint
    assert refused(plan, f"{tmp_path}/new/", tmp_path).what == "a directory, not a prefix"


def test_missing_directories_are_made(plan, tmp_path):
    apply_plan(plan, str(tmp_path / "a" / "b" / "out"))
    assert (tmp_path / "a" / "b" / "out.index").exists()


def test_a_place_below_a_file_is_refused(plan, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert "Not a directory" in str(refused(plan, tmp_path / "file" / "out", tmp_path))
    assert "Not a directory" in str(refused(plan, tmp_path / "file" / "deep" / "out", tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_is_read_only_is_refused(plan, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert refused(plan, tmp_path / "locked" / "out", tmp_path).what == "cannot write here"


def test_a_plan_with_open_ends_is_refused(tmp_path):
    ends = write_tree(tmp_path / "s", {"w": MATRIX}), write_tree(tmp_path / "t", {"v": MATRIX})
    assert "wait for a yes" in str(
        refused(plan_between(*ends), tmp_path / "out", tmp_path, (ExceptionGroup, PlanError))
    )


@pytest.mark.parametrize("side", ["s", "t"])
def test_an_end_that_changed_since_is_refused(plan, tmp_path, side):
    write_tensors(tmp_path / "other", {"x": floats(3)})
    for name in ("index", "data-00000-of-00001"):
        (tmp_path / f"other.{name}").replace(tmp_path / f"{side}.{name}")
    error = refused(plan, tmp_path / "out", tmp_path, PlanError)
    assert error.what == f"the {'source' if side == 's' else 'target'} has changed since the plan was made"


def test_a_flipped_byte_in_what_is_read_is_refused(plan, tmp_path):
    with Bundle.open(str(tmp_path / "s")) as bundle:
        entry = bundle.entries[key_of("w")]
    flip_byte(tmp_path / "s.data-00000-of-00001", entry.offset + 5)
    error = refused(plan, tmp_path / "new" / "out", tmp_path, CorruptBundleError)
    assert (error.what, key_of("w") in error.where) == ("checksum mismatch", True)


# Interruptions.


@pytest.mark.parametrize(
    "call",
    [
        (os, "fsync"),
        (os, "pwrite"),
        (os, "ftruncate"),
        (ShardFile, "write_at"),
        (write_module, "write_index"),
        (write_module, "link_file"),
        (write_module, "make_receipt"),
    ],
)
def test_a_full_disk_leaves_nothing_behind(plan, tmp_path, monkeypatch, call):
    owner, name = call
    before = files_in(tmp_path)
    for layout in ("link",) if name == "link_file" else ("link", "compact"):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, no_space)
            with pytest.raises(OutputError, match="No space left on device"):
                apply_plan(plan, str(tmp_path / "new/deep/out"), layout=layout)
        assert files_in(tmp_path) == before


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("out", ["out", "new/deep/out"])
def test_a_rename_that_fails_half_way_leaves_nothing_behind(plan, tmp_path, monkeypatch, number, out):
    before = files_in(tmp_path)
    rename, calls = place_module.rename_to_free, []

    def fail_once(old, new):
        calls.append(new)
        if len(calls) == number:
            no_space()
        rename(old, new)

    monkeypatch.setattr(place_module, "rename_to_free", fail_once)
    with pytest.raises(OutputError):
        apply_plan(plan, str(tmp_path / out))
    assert files_in(tmp_path) == before


# Other runs at the same time. What they do is done at the last moment that this one could notice.


def before_the_end(monkeypatch, act):
    """Do something when all is written and nothing has its name yet."""
    make = write_module.make_receipt

    def make_after_act(*arguments):
        act()
        return make(*arguments)

    monkeypatch.setattr(write_module, "make_receipt", make_after_act)


@pytest.fixture(params=["hard links", "no hard links"])
def links(request, monkeypatch):
    if request.param == "no hard links":
        monkeypatch.setattr(os, "link", cannot(errno.EPERM))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.usefixtures("links")
def test_of_two_runs_to_one_output_the_later_fails_and_takes_nothing(plan, tmp_path, monkeypatch, shards):
    done = {}

    def other_run():
        write_tree(tmp_path / "out", {f"x{n}": floats(7) for n in range(shards)}, shards=shards)
        done.update({path: digest for path, digest in files_in(tmp_path).items() if path.startswith("out")})

    before = files_in(tmp_path)
    before_the_end(monkeypatch, other_run)
    with pytest.raises(OutputError, match="the output exists"):
        apply_plan(plan, str(tmp_path / "out"))
    assert files_in(tmp_path) == {**before, **done}


@pytest.mark.usefixtures("links")
def test_an_output_is_put_in_place_with_and_without_hard_links(plan, tmp_path):
    for _ in range(2):
        apply_plan(plan, str(tmp_path / "out"), overwrite=True)
        assert_same_values(str(tmp_path / "out"), {key_of("w"): MATRIX.T, key_of("b"): floats(99)})
        assert len(list(tmp_path.glob("out*"))) == 4
        assert not list(tmp_path.glob(".*"))


def test_a_directory_that_another_run_makes_first_is_used(plan, tmp_path, monkeypatch):
    mkdir = Path.mkdir

    def made_by_another(path, *arguments, **options):
        mkdir(path, *arguments, **options)
        mkdir(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", made_by_another)
        apply_plan(plan, str(tmp_path / "a" / "b" / "out"))
    assert_same_values(str(tmp_path / "a" / "b" / "out"), {key_of("w"): MATRIX.T, key_of("b"): floats(99)})


def test_an_output_that_cannot_be_replaced_is_still_there(plan, tmp_path, monkeypatch):
    write_tree(tmp_path / "out", {"x": floats(7)})
    before = files_in(tmp_path)
    for owner, name in ((ShardFile, "write_at"), (write_module, "write_index"), (place_module, "rename_to_free")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, no_space)
            with pytest.raises(OutputError):
                apply_plan(plan, str(tmp_path / "out"), overwrite=True)
        assert files_in(tmp_path) == before, name


def test_an_interruption_leaves_nothing_behind(plan, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    before = files_in(tmp_path)
    monkeypatch.setattr(write_module, "write_index", interrupt)
    with pytest.raises(KeyboardInterrupt):
        apply_plan(plan, str(tmp_path / "new" / "out"))
    assert files_in(tmp_path) == before


# The command.


def test_the_command_says_what_was_written_and_how(plan, tmp_path):
    (tmp_path / "plan.json").write_bytes(plan.to_json())
    ran = ckptmigrate("apply", tmp_path / "plan.json", "--out", tmp_path / "out", "--link", "hard")
    assert ran.status == 0
    assert "2 tensors" in ran.out
    assert "hard link" in ran.out
    again = ckptmigrate("apply", tmp_path / "plan.json", "--out", tmp_path / "out", "--overwrite", "--json")
    assert json.loads(again.out)["plan_digest"] == plan.digest


def test_a_plan_applies_from_any_directory(tmp_path, monkeypatch):
    write_tree(tmp_path / "s", {"w": MATRIX})
    monkeypatch.chdir(tmp_path)
    assert ckptmigrate("plan", "s", "--target", "s", "--out", "plan.json").status == 0
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert ckptmigrate("apply", "../plan.json", "--out", "out").status == 0
    assert_same_values("out", read_all("../s"))


def test_a_file_that_cannot_grow_is_told_by_its_final_name_and_not_left(tmp_path):
    import resource

    ends = write_tree(tmp_path / "s", {"w": floats(100, 200)}), write_tree(tmp_path / "t", {"w": floats(200, 100)})
    plan = plan_between(*ends, "  - transpose: {from: w}\n")
    before = files_in(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(CkptMigrateError) as raised:
            apply_plan(plan, str(tmp_path / "out"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_in(tmp_path) == before
    assert f"@ {tmp_path}/out" in str(raised.value)
    assert "File too large" in str(raised.value)
    assert ".ckptmigrate-" not in str(raised.value)


def test_what_is_not_finite_in_what_is_computed_is_counted(tmp_path):
    values = np.array([1, np.nan, np.inf, -np.inf, np.nan], np.float32)
    source = write_tree(tmp_path / "s", {"w": values, "moved": values.reshape(5, 1), "fine": floats(3)})
    target = write_tree(
        tmp_path / "t", {"w": values.astype(np.float64), "moved": values.reshape(1, 5), "fine": floats(3) * 2}
    )
    rules = (
        "  - cast: {from: w, dtype: float64}\n"
        "  - transpose: {from: moved, perm: [1, 0]}\n"
        "  - scale: {from: fine, factor: 2}\n"
    )
    plan = plan_between(source, target, rules)
    receipt = apply_plan(plan, str(tmp_path / "out"))
    assert {key: (found.nan, found.inf) for key, found in receipt.not_finite.items()} == {key_of("w"): (2, 2)}
    (tmp_path / "plan.json").write_bytes(plan.to_json())
    ran = ckptmigrate("apply", tmp_path / "plan.json", "--out", tmp_path / "again")
    assert f"warning: `{key_of('w')}` has 2 NaN and 2 infinite elements" in ran.err
