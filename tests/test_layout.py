"""Which data files are linked, and that live ranges are copied right whatever lies between them."""

from pathlib import Path

import numpy as np
import pytest
from builders import floats, key_of, plan_between, read_all, write_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptmigrate import Bundle, apply_plan
from ckptmigrate.apply import lay_out
from ckptmigrate.apply import tasks as tasks_module
from ckptmigrate.spec import OBJECT_GRAPH_KEY


def test_a_data_file_that_is_mostly_its_graph_is_linked_for_its_tensors(tmp_path):
    tensors = {f"w{number}": floats(2, start=number) for number in range(50)}
    source, target = (write_tree(tmp_path / name / "ckpt", {"model": tensors}) for name in ("source", "target"))
    plan = plan_between(source, target)
    with Bundle.open(source) as theirs, Bundle.open(target) as ours:
        assert theirs.entries[OBJECT_GRAPH_KEY].size_bytes > theirs.shard_sizes[0] / 2
        layout = lay_out(plan, theirs, ours, "auto")
    assert [(shard.side, shard.shard) for shard in layout.linked] == [("source", 0)]
    assert [kept.key for kept in layout.copied] == [OBJECT_GRAPH_KEY]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("layouts")


@given(
    sizes=st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=12),
    shards=st.integers(1, 3),
    most_bytes=st.sampled_from([3, 8, 1 << 24]),
    out_shards=st.integers(1, 4),
    jobs=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_whatever_is_dropped_the_rest_is_copied_with_its_values(  # noqa: PLR0917
    scratch, sizes, shards, most_bytes, out_shards, jobs
):
    names = "abcdefghijkl"
    everything = {
        name: floats(size, start=10 * n) for n, (name, (size, _)) in enumerate(zip(names, sizes, strict=False))
    }
    kept = {name for name, (_, is_kept) in zip(names, sizes, strict=False) if is_kept} | {"a"}
    source = write_tree(scratch / "source", {"model": everything}, shards=shards)
    target = write_tree(scratch / "target", {"model": {name: everything[name] * 0 for name in sorted(kept)}})
    out = str(scratch / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks_module, "TASK_BYTES", most_bytes)
        plan = plan_between(source, target, drop_unused=True)
        apply_plan(plan, out, layout="compact", overwrite=True, shards=out_shards, jobs=jobs)
    found = read_all(out)  # which verifies every checksum
    assert found.keys() == {key_of(f"model/{name}") for name in kept}
    for name in kept:
        np.testing.assert_array_equal(found[key_of(f"model/{name}")], everything[name])
    for prefix in (source, target):
        for file in Path(prefix).parent.glob(f"{Path(prefix).name}.*"):
            file.unlink()
