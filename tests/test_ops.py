"""Operations: what they make of specs, of values by blocks, and how they are undone and written."""

import math
import subprocess
import sys
import tracemalloc
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptmigrate.apply.stream import compute, normal_form
from ckptmigrate.dtypes import is_lossless
from ckptmigrate.errors import IrreversibleError, OperationError, Problems, RuleError
from ckptmigrate.ops import (
    Cast,
    ExpandDims,
    Fill,
    Reshape,
    Squeeze,
    Transpose,
    from_data,
    infer_chain,
    inverse_chain,
    to_data,
)
from ckptmigrate.spec import DType, TensorSpec
from ckptmigrate.verify.reference import apply_reference

NUMBERS = [dtype for dtype in DType if dtype.itemsize_bytes and dtype.label == dtype.numpy_name]
INT, FLOAT = DType.INT32, DType.FLOAT32


def numpy_dtype(dtype):
    return np.dtype(getattr(ml_dtypes, dtype.numpy_name, None) or dtype.numpy_name)


@dataclass
class InMemory:
    """A source over an array; it checks what it is asked for."""

    spec: TensorSpec
    values: np.ndarray
    largest: int = 0

    def read_box(self, box, shape):
        assert len(box) == len(shape)
        assert all(0 <= start < stop <= size for (start, stop), size in zip(box, shape, strict=True))
        found = self.values.reshape(shape)[tuple(slice(start, stop) for start, stop in box)]
        self.largest = max(self.largest, found.size)
        found = found.view()
        found.flags.writeable = False
        return found


def moves_of(steps):
    return [step for step in steps if hasattr(step, "perm")]


def source(values, dtype):
    values = np.asarray(values).astype(numpy_dtype(dtype))
    return InMemory(TensorSpec(dtype, values.shape), values)


def run(ops, *tensors, block_bytes=1 << 20):
    specs = tuple(tensor.spec for tensor in tensors)
    blocks = [np.array(block) for block in compute(ops, tensors, specs, block_bytes=block_bytes)]
    (spec,) = infer_chain(ops, specs)
    assert all(block.ndim == 1 and block.size and block.dtype == numpy_dtype(spec.dtype) for block in blocks)
    whole = np.concatenate([np.empty(0, numpy_dtype(spec.dtype)), *blocks])
    return whole.reshape(spec.shape), blocks


def same_bytes(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def error_of(kind, function, *args, **kwargs):
    with pytest.raises(kind) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# ---------------------------------------------------------------- strategies

shapes = st.lists(st.sampled_from([0, 1, 1, 2, 2, 3, 4, 6, 8]), max_size=4).map(tuple)


@st.composite
def reshapes(draw, count):
    """Any shape with so many elements, a -1 among the sizes at times."""
    sizes, rest = [], count
    while len(sizes) < 5 and draw(st.booleans()):
        size = draw(st.sampled_from([d for d in (1, 2, 3, 4, 6, 8, 12) if rest % d == 0] if rest else [0, 1, 3]))
        sizes.append(size)
        rest = rest // size if size else 0
    if count and rest != 1:
        sizes.insert(draw(st.integers(0, len(sizes))), rest)
    if not count and 0 not in sizes:
        sizes.append(0)
    if count and sizes and draw(st.booleans()):
        sizes[draw(st.integers(0, len(sizes) - 1))] = -1
    return Reshape(tuple(sizes))


@st.composite
def operations(draw, spec):
    rank = len(spec.shape)
    ones = [axis for axis, size in enumerate(spec.shape) if size == 1]
    kind = draw(st.sampled_from([Transpose, Transpose, Transpose, Reshape, Reshape, Cast, Squeeze, ExpandDims]))
    if kind is Transpose:
        perm = draw(st.permutations(range(rank)))
        perm = [draw(st.sampled_from([axis, axis - rank])) for axis in perm]
        return Transpose(draw(st.sampled_from([None, tuple(perm), tuple(perm)])))
    if kind is Reshape:
        return draw(reshapes(spec.num_elements))
    if kind is Cast:
        return Cast(draw(st.sampled_from(NUMBERS)))
    if kind is Squeeze:
        return Squeeze(tuple(draw(st.lists(st.sampled_from(ones), unique=True)) if ones else ()))
    return ExpandDims(draw(st.integers(-rank - 1, rank)))


@st.composite
def chains(draw, max_size=6):
    """A source of any bytes, or of 0 and 1, which every dtype holds, if it is cast; and a chain that fits it."""
    spec = TensorSpec(draw(st.sampled_from(NUMBERS)), draw(shapes))
    start, ops = spec, []
    for _ in range(draw(st.integers(0, max_size))):
        op = draw(operations(spec))
        ops.append(op)
        (spec,) = op.infer((spec,))
    casts = any(isinstance(op, Cast) for op in ops)
    count = math.prod(start.shape)
    if casts or start.dtype is DType.BOOL:
        bits = np.random.default_rng(draw(st.integers(0, 9))).integers(0, 2, count)
        values = bits.astype(numpy_dtype(start.dtype))
    else:  # any bytes at all: moving does not look at them
        raw = np.arange(count * start.dtype.itemsize_bytes) * 7 + 1
        values = raw.astype(np.uint8).view(numpy_dtype(start.dtype))
    return InMemory(start, values.reshape(start.shape)), tuple(ops)


# ---------------------------------------------------------------- laws


@settings(max_examples=600, deadline=None)
@given(chains(), st.integers(1, 200))
def test_blocks_of_any_size_make_what_the_reference_makes_bit_for_bit(chain, block_bytes):
    tensor, ops = chain
    expected = apply_reference(ops, [tensor.values])
    (spec,) = infer_chain(ops, (tensor.spec,))
    assert (expected.shape, expected.dtype) == (spec.shape, numpy_dtype(spec.dtype))
    found, blocks = run(ops, tensor, block_bytes=block_bytes)
    assert same_bytes(found, expected)
    assert all(block.nbytes <= max(block_bytes, block.itemsize) for block in blocks)


@settings(max_examples=400, deadline=None)
@given(chains())
def test_a_chain_never_moves_values_more_often_than_it_transposes_them(chain):
    tensor, ops = chain
    steps = normal_form(ops, (tensor.spec,))
    assert len(moves_of(steps)) <= sum(isinstance(op, Transpose) for op in ops)
    assert len(steps) <= len(ops)


@settings(max_examples=300, deadline=None)
@given(chains())
def test_what_the_inverse_leads_back_to_is_the_source(chain):
    tensor, ops = chain
    try:
        back = inverse_chain(ops, (tensor.spec,))
    except IrreversibleError:
        specs = [infer_chain(ops[:i], (tensor.spec,))[0] for i in range(len(ops))]
        assert any(
            isinstance(op, Cast) and not is_lossless(spec.dtype, op.dtype) for op, spec in zip(ops, specs, strict=True)
        )
        return
    assert infer_chain((*ops, *back), (tensor.spec,)) == (tensor.spec,)
    assert same_bytes(run((*ops, *back), tensor, block_bytes=64)[0], tensor.values)


@pytest.mark.parametrize("dtype", [d for d in NUMBERS if d.itemsize_bytes <= 2], ids=lambda dtype: dtype.label)
def test_a_cast_is_lossless_exactly_if_every_value_survives_there_and_back(dtype):
    if dtype is DType.BOOL:
        values = np.array([False, True])
    elif "int" in dtype.label:
        info = ml_dtypes.iinfo(numpy_dtype(dtype))
        values = np.arange(int(info.min), int(info.max) + 1).astype(numpy_dtype(dtype))
    else:
        bits = 4 if dtype is DType.FLOAT4_E2M1FN else 8 * dtype.itemsize_bytes
        values = np.arange(2**bits).astype(f"u{dtype.itemsize_bytes}").view(numpy_dtype(dtype))

    def same(one, other):
        with np.errstate(invalid="ignore"):  # a signalling NaN becomes a quiet one
            one, other = one.astype(np.float64), other.astype(np.float64)
        return bool(((one == other) & (np.signbit(one) == np.signbit(other)) | np.isnan(one) & np.isnan(other)).all())

    for target in NUMBERS:
        there = apply_reference([Cast(target)], [values])
        real = there.real if np.iscomplexobj(there) else there
        survives = same(values, real) and same(values, apply_reference([Cast(dtype)], [there]))
        assert is_lossless(dtype, target) == survives, target
        if survives:
            tensor = InMemory(TensorSpec(dtype, values.shape), values)
            assert same_bytes(run([Cast(target)], tensor)[0], there)


def test_a_cast_between_any_two_numbers_keeps_zero_and_one():
    for dtype in NUMBERS:
        tensor = source([0, 1, 1], dtype)
        for target in NUMBERS:
            assert same_bytes(run([Cast(target)], tensor)[0], apply_reference([Cast(target)], [tensor.values]))


@given(
    st.one_of(
        [
            st.builds(Transpose, st.none() | st.permutations(range(3)).map(tuple)),
            st.builds(Reshape, st.lists(st.integers(-1, 9)).map(tuple)),
            st.builds(Cast, st.sampled_from(NUMBERS)),
            st.builds(Squeeze, st.lists(st.integers(-3, 3)).map(tuple)),
            st.builds(ExpandDims, st.integers(-3, 3)),
            st.builds(Fill, st.just("template") | st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
        ]
    )
)
def test_an_operation_reads_back_as_it_was_written(op):
    again = from_data(to_data(op), "plan.json")
    assert again == op
    assert to_data(again) == to_data(op)


# ---------------------------------------------------------------- casts that destroy

BIG = 2.0**63


@pytest.mark.parametrize(
    ("dtype", "values", "target", "lost", "first"),
    [
        (FLOAT, [1, 70000, -70000], DType.FLOAT16, 2, 1),
        (FLOAT, [1, 3.4e38], DType.BFLOAT16, 1, 1),
        (DType.FLOAT64, [1e39, 1], FLOAT, 1, 0),
        (FLOAT, [np.inf, np.nan, 1], DType.FLOAT8_E4M3FN, 1, 0),
        (FLOAT, [500, np.nan], DType.FLOAT8_E4M3FN, 1, 0),
        (FLOAT, [6, 7, np.nan, np.inf], DType.FLOAT4_E2M1FN, 3, 1),
        (FLOAT, [1, 1.5, np.nan, np.inf, 3e9, -1], INT, 4, 1),
        (FLOAT, [-1, 3], DType.UINT8, 1, 0),
        (DType.BFLOAT16, [256, 300, 1], DType.UINT8, 2, 0),
        (DType.FLOAT16, [0.5, 60000], DType.INT64, 1, 0),
        (DType.FLOAT64, [BIG, -BIG, 2 * BIG], DType.INT64, 2, 0),
        (DType.INT64, [2**31, -(2**31), -(2**31) - 1], INT, 2, 0),
        (DType.INT64, [-1, 5], DType.UINT64, 1, 0),
        (DType.UINT64, [2**63, 5], DType.INT64, 1, 0),
        (INT, [7, 8, -8, -9], DType.INT4, 2, 1),
        (DType.INT4, [-1, 3], DType.UINT2, 1, 0),
        (INT, [65504, 70000], DType.FLOAT16, 1, 1),
        (INT, [0, 1, 2, -1], DType.BOOL, 2, 2),
        (FLOAT, [0, 1, 0.5, np.nan], DType.BOOL, 2, 2),
        (DType.COMPLEX64, [1, 1 + 1j, complex(0, np.nan)], FLOAT, 2, 1),
        (DType.COMPLEX128, [1e39, 1e39j, 1], DType.COMPLEX64, 2, 0),
        (DType.COMPLEX64, [1, 1.5, 2j], INT, 2, 1),
        (DType.FLOAT64, [1, 1e39], DType.COMPLEX64, 1, 1),
    ],
)
def test_a_cast_that_destroys_values_says_how_many_and_which_is_the_first(dtype, values, target, lost, first):
    tensor = source(values, dtype)
    for block_bytes in (1, 1000):
        message = error_of(OperationError, run, [Cast(target)], tensor, block_bytes=block_bytes)
        assert message.startswith(f"the cast would destroy values @ cast to {target.label}: ")
        assert f"got {lost} of {len(values)} elements" in message
        assert f"flat index {first} ({tensor.values[first]})" in message


@pytest.mark.parametrize(
    ("dtype", "values", "target"),
    [
        (FLOAT, [np.inf, -np.inf, np.nan, 1.1, 1e-30, -0.0], DType.FLOAT16),
        (FLOAT, [np.inf, np.nan, 1.1], DType.BFLOAT16),
        (FLOAT, [np.nan, 440], DType.FLOAT8_E4M3FN),
        (FLOAT, [5.9, -6, 0.1], DType.FLOAT4_E2M1FN),
        (DType.FLOAT64, [-BIG, 3, -0.0], DType.INT64),
        (FLOAT, [-1.0, 3e9], DType.INT64),
        (DType.INT64, [2**53 + 1], FLOAT),
        (DType.COMPLEX128, [1.1, np.nan], FLOAT),
        (INT, [-8, 7], DType.INT4),
    ],
)
def test_rounding_and_values_that_stay_what_they_are_are_no_loss(dtype, values, target):
    tensor = source(values, dtype)
    assert same_bytes(run([Cast(target)], tensor)[0], apply_reference([Cast(target)], [tensor.values]))


def test_a_loss_is_told_of_the_first_cast_of_a_chain_that_loses():
    ops = [Cast(DType.FLOAT64), Cast(DType.FLOAT16), Cast(FLOAT)]
    message = error_of(OperationError, run, ops, source([1, 1e6, 1e7], FLOAT), block_bytes=4)
    assert "cast to float16" in message
    assert "2 of 3" in message


# ---------------------------------------------------------------- specs, messages


@pytest.mark.parametrize(
    ("op", "spec", "words"),
    [
        (
            Transpose((0, 0)),
            TensorSpec(FLOAT, (2, 3)),
            ["transpose [0, 0]", "expected each of the axes [0, 1] once", "got [0, 0]"],
        ),
        (Transpose((1, 0)), TensorSpec(FLOAT, (2,)), ["expected each of the axes [0] once"]),
        (
            Reshape((4, 2)),
            TensorSpec(FLOAT, (3, 3)),
            ["reshape to [4, 2]", "for 9 elements", "float32[3, 3]", "got [4, 2]"],
        ),
        (Reshape((-1, -1)), TensorSpec(FLOAT, (4,)), ["at most one of them -1"]),
        (Reshape((-1, 0)), TensorSpec(FLOAT, (0,)), ["does not hold"]),
        (Reshape((-2, -2)), TensorSpec(FLOAT, (4,)), ["does not hold"]),
        (Reshape((-1, 3)), TensorSpec(FLOAT, (4,)), ["for 4 elements"]),
        (
            Cast(FLOAT),
            TensorSpec(DType.STRING, ()),
            ["cast to float32", "expected bool, integer", "got string (source string[])"],
        ),
        (Cast(DType.QINT8), TensorSpec(FLOAT, ()), ["got qint8 (dtype)"]),
        (Squeeze((1,)), TensorSpec(FLOAT, (1, 2)), ["squeeze axis 1", "among [0]", "got [1]"]),
        (Squeeze((0, -2)), TensorSpec(FLOAT, (1, 2)), ["squeeze axes [0, -2]", "different axes"]),
        (ExpandDims(3), TensorSpec(FLOAT, (2,)), ["insert axis 3", "from -2 to 1", "got 3"]),
        (Fill(0.5), TensorSpec(INT, (2,)), ["initial value: 0.5", "expected a value of int32", "got 0.5"]),
        (Fill(300), TensorSpec(DType.UINT8, ()), ["got 300"]),
        (Fill(1e39), TensorSpec(FLOAT, ()), ["got 1e+39"]),
        (Fill(10**400), TensorSpec(DType.FLOAT64, ()), ["a value of float64"]),
        (Fill(0.0), TensorSpec(DType.STRING, ()), ["expected a value of string"]),
    ],
)
def test_an_operation_that_does_not_fit_says_what_it_expected_and_what_it_got(op, spec, words):
    message = error_of(OperationError, op.infer, (spec,))
    for word in [op.describe(), *words]:
        assert word in message
    with pytest.raises(OperationError):
        op.inverse((spec,))


def test_an_operation_takes_one_tensor():
    spec = TensorSpec(FLOAT, ())
    for op in (Transpose(), Reshape(()), Cast(INT), Squeeze(()), ExpandDims(0), Fill(0.0)):
        assert "got 2 (float32[], float32[])" in error_of(OperationError, op.infer, (spec, spec))
        assert "got 0 (none)" in error_of(OperationError, op.infer, ())


def test_the_inverse_is_the_operation_that_a_person_would_write():
    specs = (TensorSpec(FLOAT, (2, 1, 3)),)
    assert Transpose((1, 2, 0)).inverse(specs) == Transpose((2, 0, 1))
    assert Transpose().inverse(specs) == Transpose()
    assert Reshape((-1,)).inverse(specs) == Reshape((2, 1, 3))
    assert Squeeze((-2,)).inverse(specs) == ExpandDims(1)
    assert ExpandDims(-1).inverse(specs) == Squeeze((3,))
    assert Cast(DType.FLOAT64).inverse(specs) == Cast(FLOAT)


def test_what_has_no_inverse_says_why():
    specs = (TensorSpec(FLOAT, (2,)),)
    assert "bfloat16 does not hold every float32 value" in error_of(
        IrreversibleError, Cast(DType.BFLOAT16).inverse, specs
    )
    assert "no source" in error_of(IrreversibleError, Fill("template").inverse, specs)


def test_an_initial_value_is_the_template_or_a_constant():
    tensor = source([[3, 4], [5, 6]], FLOAT)
    assert same_bytes(run([Fill("template")], tensor, block_bytes=8)[0], tensor.values)
    assert same_bytes(run([Fill("template"), Transpose()], tensor, block_bytes=8)[0], tensor.values.T.copy())
    for dtype in NUMBERS:
        for value in (0.0, 1, 1.0):
            spec = TensorSpec(dtype, (3, 2))
            ops = [Fill(value), Transpose(), Cast(FLOAT)]
            found = np.concatenate(list(compute(ops, [], (spec,), block_bytes=8)))
            assert found.tobytes() == np.full(6, value, np.float32).tobytes()
    (found,) = compute([Fill(2**60 + 1)], [], (TensorSpec(DType.INT64, ()),), block_bytes=8)
    assert found.tolist() == [2**60 + 1]


def test_an_initial_value_comes_first():
    message = error_of(OperationError, infer_chain, [Transpose(), Fill(0.0)], (TensorSpec(FLOAT, (2,)),))
    assert "got it after transpose" in message


def test_a_source_that_is_not_what_the_chain_was_made_for_is_refused_before_anything_is_read():
    message = error_of(
        OperationError, compute, [Transpose()], [source([1], FLOAT)], (TensorSpec(FLOAT, (2,)),), block_bytes=9
    )
    assert "expected float32[2], got float32[1]" in message


def test_strings_can_be_moved():
    words = np.array([[b"a", b"bb"], [b"", b"d"]], object)
    tensor = InMemory(TensorSpec(DType.STRING, (2, 2)), words)
    blocks = compute([Transpose()], [tensor], (tensor.spec,), block_bytes=100)
    assert np.concatenate(list(blocks)).tolist() == [b"a", b"", b"bb", b"d"]


# ---------------------------------------------------------------- normal form, memory


def test_reshapes_between_transposes_vanish_where_the_axes_can_be_cut():
    specs = (TensorSpec(FLOAT, (12, 64)),)
    heads = [Transpose(), Reshape((8, 8, 12)), Transpose((0, 2, 1)), Cast(DType.BFLOAT16), Reshape((96, 8))]
    steps = normal_form(heads, specs)
    assert [(move.shape, move.perm) for move in moves_of(steps)] == [((12, 8, 8), (1, 0, 2))]
    assert steps[1:] == [Cast(DType.BFLOAT16)]
    assert normal_form([Transpose(), Transpose(), Reshape((12, 64)), Cast(FLOAT)], specs) == []


def test_reads_stay_as_small_as_the_block_except_across_uncuttable_bounds():
    tensor = source(np.arange(48 * 64).reshape(48, 64), FLOAT)
    ops = [Transpose(), Reshape((8, 8, 12, 4)), Transpose((2, 0, 3, 1)), Reshape((-1,))]
    found, _ = run(ops, tensor, block_bytes=256)
    assert same_bytes(found, apply_reference(ops, [tensor.values]))
    assert tensor.largest <= 64
    for middle in ((48, 64), (96, 32), (3, 1024)):
        odd = [Transpose(), Reshape(middle), Transpose(), Reshape((-1, 24)), Transpose()]
        assert len(moves_of(normal_form(odd, (tensor.spec,)))) > 1
        for block_bytes in (4, 256, 1 << 20):
            assert same_bytes(run(odd, tensor, block_bytes=block_bytes)[0], apply_reference(odd, [tensor.values]))


def test_a_transpose_of_64_megabytes_in_blocks_of_one_needs_a_few(tmp_path):
    path = tmp_path / "values"
    values = np.memmap(path, np.float32, "w+", shape=(2048, 8192))
    values[:] = np.arange(8192, dtype=np.float32)
    tensor = InMemory(TensorSpec(FLOAT, values.shape), values)
    total = 0
    tracemalloc.start()
    for block in compute([Transpose(), Cast(DType.BFLOAT16)], [tensor], (tensor.spec,), block_bytes=1 << 20):
        total += block.size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == values.size
    assert peak < 6 << 20


# ---------------------------------------------------------------- the external form


@pytest.mark.parametrize(
    ("data", "op"),
    [
        ({"transpose": {"perm": [1, 0]}}, Transpose((1, 0))),
        ({"transpose": {}}, Transpose()),
        ({"transpose": None}, Transpose()),
        ({"reshape": {"shape": [48, 12, -1]}}, Reshape((48, 12, -1))),
        ({"cast": {"dtype": "bfloat16"}}, Cast(DType.BFLOAT16)),
        ({"cast": {"dtype": "half"}}, Cast(DType.FLOAT16)),
        ({"squeeze": {"axis": 0}}, Squeeze((0,))),
        ({"squeeze": {"axis": [0, 2]}}, Squeeze((0, 2))),
        ({"expand_dims": {"axis": 0}}, ExpandDims(0)),
        ({"init": {"with": "template"}}, Fill("template")),
        ({"init": {"with": "zeros"}}, Fill(0.0)),
        ({"init": {"with": "ones"}}, Fill(1.0)),
        ({"init": {"with": 0.5}}, Fill(0.5)),
    ],
)
def test_every_operation_has_one_written_form(data, op):
    assert from_data(data, "rules.yaml:3:5") == op
    assert from_data(to_data(op), "plan.json") == op


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            {"tranpose": {}},
            ["unknown operation", "`transpose`, `reshape`, `cast`", "got `tranpose`", "Perhaps `transpose`"],
        ),
        ({"zzz": {}}, ["unknown operation", "got `zzz`."]),
        ({3: {}}, ["unknown operation", "got `3`"]),
        ("transpose", ["cannot be read", "got 'transpose'"]),
        ({"cast": {}, "reshape": {}}, ["one name with its arguments"]),
        ({"cast": "bfloat16"}, ["cast: the arguments cannot be read", "a mapping with `dtype`", "got 'bfloat16'"]),
        ({"transpose": {"prem": [1, 0]}}, ["transpose: unknown argument", "one of `perm`", "Perhaps `perm`"]),
        ({"reshape": {}}, ["reshape: missing argument", "expected `shape`"]),
        ({"reshape": {"shape": [1, "2"]}}, ["`shape` cannot be read", "a list of integers", "got [1, '2']"]),
        ({"reshape": {"shape": [True]}}, ["a list of integers"]),
        ({"squeeze": {"axis": 1.0}}, ["a list of integers"]),
        ({"expand_dims": {"axis": True}}, ["an integer", "got True"]),
        ({"cast": {"dtype": "float33"}}, ["`dtype` cannot be read", "one of float32, float64", "got 'float33'"]),
        ({"cast": {"dtype": 1}}, ["got 1"]),
        ({"init": {"with": "noise"}}, ["template, zeros, ones, or a finite number"]),
        ({"init": {"with": math.inf}}, ["finite"]),
        ({"init": {"with": [0]}}, ["finite"]),
    ],
)
def test_what_cannot_be_read_says_where_and_what_could_be(data, words):
    message = error_of(RuleError, from_data, data, "rules.yaml:3:5")
    for word in ["@ rules.yaml:3:5", *words]:
        assert word in message


def test_all_that_is_wrong_with_an_operation_is_told_together():
    with pytest.raises(Problems) as caught:
        from_data({"reshape": {"shpe": [1], "axis": 2}}, "rules.yaml:3:5")
    assert [problem.what for problem in caught.value.problems] == [
        "reshape: unknown argument",
        "reshape: unknown argument",
        "reshape: missing argument",
    ]


def test_planning_needs_no_numpy():
    code = "import sys, ckptmigrate.ops; print({'numpy', 'ml_dtypes', 'tensorflow'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
