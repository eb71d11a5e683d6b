"""`inspect --health`: what the values of a checkpoint are like, and what of it a person should look at."""

import json
import math
import subprocess
import sys
import warnings

import ml_dtypes
import numpy as np
import pytest
from builders import Legacy, Partitioned, Table, adam, ckptmigrate, flip_byte, floats, key_of, write_tensors, write_tree
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ckptmigrate import Bundle, ObjectGraph
from ckptmigrate.bundle import data_path
from ckptmigrate.dtypes import FLOATS, PARTS, is_number
from ckptmigrate.health import find_suspicions, measure, read_health
from ckptmigrate.spec import DType

NUMBERS = [dtype for dtype in DType if is_number(dtype) and hasattr(ml_dtypes, dtype.label) | (dtype.label in dir(np))]


def numpy_type(dtype):
    return np.dtype(getattr(ml_dtypes, dtype.label, dtype.label))


def plainly(values, dtype):
    """What is told of values, computed at once and without care for time and memory."""
    part = PARTS.get(dtype, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dtype in PARTS:
            rows = [(float(v.real), float(v.imag)) for v in values.reshape(-1)]
        elif part in FLOATS:
            rows = [(float(v),) for v in values.reshape(-1)]
        else:
            rows = [(int(v),) for v in values.reshape(-1)]
    finite = [row for row in rows if all(map(math.isfinite, row))]
    bits, _, exponent = FLOATS.get(part, (0, 0, 0))
    normal = 2.0 ** (exponent + bits - 1) if bits else 0
    ends = [row[0] for row in finite] if dtype not in PARTS else []
    return {
        "elements": len(rows),
        "nan": sum(any(map(math.isnan, row)) for row in rows),
        "inf": sum(any(map(math.isinf, row)) for row in rows),
        "subnormals": sum(any(0 < abs(v) < normal for v in row) for row in finite),
        "norm": math.hypot(*(v for row in finite for v in row)),
        "minimum": min(ends, default=None),
        "maximum": max(ends, default=None),
        "is_constant": len(rows) > 1 and all(row == rows[0] for row in rows),
        "is_zero": bool(rows) and not any(v for row in rows for v in row),
    }


def told(health):
    return {name: getattr(health, name) for name in plainly(np.zeros(0, np.float32), DType.FLOAT32)}


def health_of(prefix):
    with Bundle.open(prefix) as bundle:
        return read_health(bundle)


def suspicions_of(prefix):
    with Bundle.open(prefix) as bundle:
        graph = ObjectGraph.from_bundle(bundle)
        found = find_suspicions(graph, read_health(bundle, graph.specs))
        return [(graph.say_key(suspicion.key), suspicion.kind) for suspicion in found]


@st.composite
def any_values(draw):
    """Values of any numeric type with any bits, or few different ones, so that constants are among them."""
    dtype = draw(st.sampled_from(NUMBERS))
    kind = numpy_type(dtype)
    count = draw(st.integers(0, 40))
    if dtype is DType.BOOL:
        return draw(arrays.arrays(np.bool_, count)), dtype
    bits = draw(st.sampled_from([st.integers(0, 255), st.sampled_from([0, 0, 1]), st.sampled_from([0, 127, 128, 255])]))
    data = draw(arrays.arrays(np.uint8, count * kind.itemsize, elements=bits))
    return data.view(kind), dtype


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("health")


@given(drawn=any_values(), block=st.sampled_from([1, 3, 1 << 16]), slices=st.booleans())
@settings(max_examples=300, deadline=None)
def test_whatever_the_values_and_the_blocks_what_is_told_is_what_plain_python_finds(scratch, drawn, block, slices):
    values, dtype = drawn
    cut = len(values) // 3
    stored = Partitioned(values, (cut, len(values) - cut)) if cut and slices else values
    prefix = write_tensors(scratch / "ckpt", {"w": stored})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "BLOCK_ELEMENTS", block)
        health = health_of(prefix)["w"]
    found, wanted = told(health), plainly(values, dtype)
    norm, other = found.pop("norm"), wanted.pop("norm")
    assert found == wanted
    assert norm == pytest.approx(other, rel=1e-12) or norm == other == math.inf


@pytest.mark.parametrize("dtype", NUMBERS, ids=lambda dtype: dtype.label)
def test_every_numeric_type_can_be_read_in_more_blocks_than_one(dtype, scratch):
    count = measure.BLOCK_ELEMENTS + 7
    values = np.resize(np.arange(1, 3), count).astype(np.int8).astype(numpy_type(dtype))
    wanted = np.asarray(values.astype(np.complex128 if dtype in PARTS else np.float64))
    health = health_of(write_tensors(scratch / "ckpt", {"w": values}))["w"]
    assert health.norm == pytest.approx(np.linalg.norm(wanted), rel=1e-12)
    assert (health.elements, health.nan, health.inf, health.is_zero) == (count, 0, 0, False)
    assert health.is_constant == (len(np.unique(wanted)) == 1)


@pytest.mark.parametrize("value", [1e308, 1.5e-308, 5e-324, 3e200, 1e-200])
def test_the_norm_of_the_largest_and_the_smallest_numbers_is_a_number(value, tmp_path):
    health = health_of(write_tensors(tmp_path / "ckpt", {"w": np.array([value, 0.0, -value / 2])}))["w"]
    assert health.norm == pytest.approx(math.hypot(value, value / 2), rel=1e-12)


def test_large_integers_are_told_exactly_and_constants_are_not_taken_for_others(tmp_path):
    close = np.array([2**63 - 1, 2**63 - 2])
    health = health_of(write_tensors(tmp_path / "ckpt", {"w": close}))["w"]
    assert (health.minimum, health.maximum, health.is_constant) == (2**63 - 2, 2**63 - 1, False)


def test_what_holds_no_numbers_is_verified_and_told_apart(tmp_path):
    strings = np.array([b"a", b"bc"], object)
    health = health_of(write_tensors(tmp_path / "ckpt", {"s": strings, "w": floats(2)}))
    assert (health["s"].norm, health["s"].elements, health["s"].problem) == (None, 2, "")
    assert health["w"].norm == 1


def test_a_damaged_tensor_is_named_and_the_rest_is_told(tmp_path):
    prefix = write_tree(tmp_path / "ckpt", {"a": floats(4), "b": floats(4), "s": np.array(b"text", object)})
    with Bundle.open(prefix) as bundle:
        places = [bundle.entries[key_of(name)].offset + bundle.entries[key_of(name)].size_bytes - 1 for name in "as"]
    for place in places:
        flip_byte(data_path(prefix, 0, 1), place)
    ran = ckptmigrate("inspect", prefix, "--health")
    assert ran.status == 1
    assert ran.out.count("damaged: checksum mismatch @ ") == 2
    assert f"key '{key_of('a')}'" in ran.out
    assert "2 damaged" in ran.out
    data = json.loads(ckptmigrate("inspect", prefix, "--health", "--json").out)
    health = {tensor["path"]: tensor["health"] for tensor in data["tensors"]}
    assert data["passed"] is False
    assert health["a"]["problem"].startswith("checksum mismatch")
    assert health["a"]["norm"] is None
    assert health["b"] == {
        "suspicious": [],
        "problem": None,
        "nan": 0,
        "inf": 0,
        "subnormals": 0,
        "subnormal_share": 0.0,
        "all_zero": False,
        "constant": False,
        "norm": pytest.approx(14**0.5),
        "min": 0.0,
        "max": 3.0,
    }


def test_a_damaged_slice_is_damage_of_its_tensor(tmp_path):
    prefix = write_tensors(tmp_path / "ckpt", {"w": Partitioned(floats(6, 2), (2, 4)), "v": floats(3)})
    flip_byte(data_path(prefix, 0, 1), 20)
    health = health_of(prefix)
    assert health["w"].problem.startswith("checksum mismatch")
    assert not health["v"].problem


@pytest.mark.parametrize(("value", "said"), [(np.nan, "1 NaN"), (-np.inf, "1 infinite")])
def test_nan_and_infinity_come_first_and_end_with_1(value, said, tmp_path):
    kernel = floats(2, 3)
    kernel[0, 1] = value
    prefix = write_tree(tmp_path / "ckpt", {"a": floats(3, 3), "kernel": kernel, "z": np.zeros((2, 2), np.float32)})
    ran = ckptmigrate("inspect", prefix, "--health")
    lines = ran.out.splitlines()
    assert ran.status == 1
    assert lines[1].split()[0] == "kernel"
    assert lines[1].rstrip().endswith(said)
    assert lines[2].split()[0] == "z"
    assert "1 with NaN or infinity" in lines
    assert lines[-1] == "3 tensors, 76 B: 2 suspicious"


def test_what_is_suspicious_but_may_be_meant_ends_with_0(tmp_path):
    prefix = write_tree(tmp_path / "ckpt", {"kernel": np.zeros((2, 3), np.float32)})
    ran = ckptmigrate("inspect", prefix, "--health")
    assert (ran.status, ran.err) == (0, "")
    assert "1 of one value, as no trained kernel is" in ran.out


def test_what_initializers_fill_with_one_value_is_as_usual(tmp_path):
    kernel = floats(2, 3, start=1)
    tree = {
        "dense": {"kernel": kernel, "bias": np.zeros(3, np.float32)},
        "attention": {"query": {"kernel": floats(2, 2, 2), "bias": np.zeros((2, 2), np.float32)}},
        "gru": {"kernel": floats(2, 6), "bias": np.zeros((2, 6), np.float32)},
        "norm": {"gamma": np.ones((1, 1, 4), np.float32), "moving_mean": np.zeros((1, 4), np.float32)},
        "ids": np.zeros((3, 3), np.int32),
        "rate": np.float32(0.5).reshape(()),
        "none": np.zeros((0, 4), np.float32),
    }
    tree["optimizer"] = Legacy({}, [("m", kernel, np.zeros((2, 3), np.float32))])
    prefix = write_tree(tmp_path / "ckpt", tree)
    assert suspicions_of(prefix) == []
    ran = ckptmigrate("inspect", prefix, "--health")
    assert ran.status == 0
    assert ran.out.splitlines()[-1].endswith("none suspicious; as is usual: 6 all zero, 1 of one other value")


@pytest.mark.parametrize("value", [0, 0.5])
def test_a_kernel_of_one_value_is_suspicious(value, tmp_path):
    prefix = write_tree(tmp_path / "ckpt", {"kernel": np.full((2, 3), value, np.float32), "bias": floats(3)})
    assert suspicions_of(prefix) == [("kernel", "constant kernel")]
    assert f"all {value or 'zero'}" in ckptmigrate("inspect", prefix, "--health").out


def test_what_stayed_as_it_was_where_most_like_it_changed_was_left_behind(tmp_path):
    layers = [{"kernel": floats(2, 2, start=n), "gamma": floats(2, start=n)} for n in range(5)]
    layers[3]["gamma"] = np.ones(2, np.float32)
    kernels = [layer["kernel"] for layer in layers]
    optimizer = adam(kernels)
    optimizer["_momentums"][1][:] = 0
    prefix = write_tree(tmp_path / "ckpt", {"layers": layers, "optimizer": optimizer})
    found = suspicions_of(prefix)
    assert ("layers/3/gamma", "left behind") in found
    assert [kind for _, kind in found] == ["left behind", "left behind"]
    assert "layers/1/kernel/<momentum>" in ckptmigrate("inspect", prefix, "--health").out


def test_scales_that_are_all_fresh_were_not_left_behind(tmp_path):
    layers = [{"kernel": floats(2, 2, start=n), "gamma": np.ones(2, np.float32)} for n in range(5)]
    layers[0]["gamma"] = floats(2)
    assert suspicions_of(write_tree(tmp_path / "ckpt", {"layers": layers})) == []


@pytest.mark.parametrize(
    ("dtype", "share", "is_suspicious"),
    [
        (np.float32, 0.005, False),
        (np.float32, 0.02, True),
        (ml_dtypes.bfloat16, 0.02, True),
        (np.float16, 0.02, False),
        (np.float16, 0.2, True),
        (ml_dtypes.float8_e5m2, 0.5, False),
    ],
)
def test_many_subnormals_are_suspicious_where_a_type_has_room_for_small_numbers(dtype, share, is_suspicious, tmp_path):
    values = np.ones(1000, dtype)
    values[: int(share * 1000)] = ml_dtypes.finfo(dtype).smallest_subnormal
    prefix = write_tree(tmp_path / "ckpt", {"w": values.reshape(10, 100)})
    assert suspicions_of(prefix) == ([("w", "subnormal")] if is_suspicious else [])
    assert f"{100 * share:.3g}% subnormal" in ckptmigrate("inspect", prefix, "--health").out


def test_equal_layers_are_one_row_with_the_least_and_the_most_of_all(tmp_path):
    layers = [{"kernel": floats(2, 2, start=10 * n + 1)} for n in range(12)]
    prefix = write_tree(tmp_path / "ckpt", {"layers": layers, "table": Table(np.arange(3), floats(3))})
    row = ckptmigrate("inspect", prefix, "--health").out.splitlines()[1]
    assert row.split() == ["layers/{0..11}/kernel", "float32[2,", "2]", "(12", "times)", "5.48..225", "1", "114"]


def test_a_tensor_of_any_size_is_read_in_little_memory(tmp_path):
    pytest.importorskip("resource")
    prefix = write_tensors(tmp_path / "ckpt", {"w": np.full(1 << 25, 0.5, np.float32)})
    program = (
        "import resource, sys, numpy\n"
        "from ckptmigrate.bundle import Bundle\n"
        "from ckptmigrate.health import read_health\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(read_health(Bundle.open(sys.argv[1]))['w'].norm)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, prefix], capture_output=True, text=True, check=True)
    norm, grown = map(float, done.stdout.split())
    assert norm == pytest.approx(0.5 * 2**12.5)
    assert grown * (1 if sys.platform == "darwin" else 1024) < 48 << 20 < (1 << 25) * 4


def test_how_far_it_is_is_told_up_to_the_end(tmp_path):
    prefix = write_tensors(tmp_path / "ckpt", {"a": floats(9), "s": np.array(b"xy", object), "e": floats(0)})
    told = []
    with Bundle.open(prefix) as bundle:
        read_health(bundle, on_progress=lambda done, total: told.append((done, total)))
        size = sum(map(bundle.stored_bytes, bundle.entries))
    assert told[-1] == (size, size)
    assert sorted(told) == told
