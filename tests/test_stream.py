"""Values by blocks: the laws that every chain keeps, what destroys values, and how much memory it takes."""

import math
import tracemalloc
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import pytest
from chains import (
    FLOAT,
    INT,
    NUMBERS,
    InMemory,
    chains,
    destroys,
    error_of,
    numpy_dtype,
    reference,
    run,
    same_bytes,
    source,
    template_for,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptmigrate.apply.normal import normal_form
from ckptmigrate.apply.stream import compute
from ckptmigrate.dtypes import is_lossless
from ckptmigrate.errors import IrreversibleError, OperationError
from ckptmigrate.ops import (
    Add,
    Average,
    Cast,
    Concat,
    Fill,
    FoldBias,
    FoldKernel,
    Gates,
    Gather,
    Mean,
    Pad,
    Part,
    Repeat,
    Reshape,
    Resize,
    Scale,
    Slice,
    Stack,
    Tile,
    Transpose,
    Vocab,
    infer_chain,
    inverse_chain,
)
from ckptmigrate.spec import DType, TensorSpec
from ckptmigrate.verify.reference import apply_reference

# ---------------------------------------------------------------- laws


def moves_of(steps):
    return [step for step in steps if hasattr(step, "perm")]


def specs_of(tensors):
    return tuple(tensor.spec for tensor in tensors)


@settings(max_examples=1200, deadline=None)
@given(chains(), st.integers(1, 200))
def test_blocks_of_any_size_make_what_the_reference_makes_bit_for_bit(chain, block_bytes):
    tensors, ops = chain
    expected = reference(ops, tensors)
    (spec,) = infer_chain(ops, specs_of(tensors))
    assert (expected.shape, expected.dtype) == (spec.shape, numpy_dtype(spec.dtype))
    if destroys(ops, tensors):
        return
    found, blocks = run(ops, *tensors, block_bytes=block_bytes)
    assert same_bytes(found, expected)
    assert all(block.nbytes <= max(block_bytes, block.itemsize) for block in blocks)


@settings(max_examples=200, deadline=None)
@given(chains(), st.data())
def test_a_region_of_the_result_is_that_region(chain, data):
    tensors, ops = chain
    if destroys(ops, tensors):
        return
    ends = [data.draw(st.integers(0, size)) for size in reference(ops, tensors).shape]
    box = tuple((data.draw(st.integers(0, end)), end) for end in ends)
    specs = specs_of(tensors)
    blocks = compute(ops, tensors, specs, template=template_for(ops, specs), block_bytes=64, box=box)
    region = reference(ops, tensors)[tuple(slice(start, stop) for start, stop in box)]
    assert b"".join(block.tobytes() for block in blocks) == region.tobytes()


@settings(max_examples=600, deadline=None)
@given(chains(several=False))
def test_a_chain_never_moves_values_more_often_than_it_transposes_them(chain):
    tensors, ops = chain
    steps = normal_form(ops, specs_of(tensors))
    assert len(moves_of(steps)) <= sum(isinstance(op, Transpose) for op in ops)
    assert len(steps) <= len(ops)


@settings(max_examples=800, deadline=None)
@given(chains(max_size=4))
def test_what_the_inverse_leads_back_to_is_the_source(chain):
    tensors, ops = chain
    try:
        back = inverse_chain(ops, specs_of(tensors))
    except IrreversibleError:
        lossy = (Part, Slice, Gather, Resize, Vocab, Gates, Scale, Add, Concat, Stack, Average, FoldKernel, FoldBias)
        specs = [infer_chain(ops[:i], specs_of(tensors))[0] for i in range(len(ops))]
        assert any(
            not is_lossless(spec.dtype, op.dtype) if isinstance(op, Cast) else isinstance(op, lossy)
            for op, spec in zip(ops, specs, strict=True)
        )
        return
    (tensor,) = tensors
    (spec,) = infer_chain(ops, (tensor.spec,))
    assert infer_chain(back, (spec,)) == (tensor.spec,)
    if not destroys(ops, tensors):
        there = InMemory(spec, run(ops, tensor, block_bytes=64)[0])
        assert same_bytes(run(back, there, block_bytes=64)[0], tensor.values)


@settings(max_examples=200, deadline=None)
@given(chains(several=False), st.sampled_from([0, 1]), st.integers(1, 200))
def test_what_follows_a_constant_makes_what_the_reference_makes(chain, value, block_bytes):
    (tensor,), ops = chain
    ops = (Fill(value), *ops)
    if destroys(ops, [tensor]):
        return
    template = template_for(ops, (tensor.spec,))
    zeros = np.zeros(tensor.spec.shape, numpy_dtype(tensor.spec.dtype))
    expected = apply_reference(ops, [zeros], template and template.values)
    blocks = compute(ops, [], (tensor.spec,), template=template, block_bytes=block_bytes)
    assert b"".join(block.tobytes() for block in blocks) == expected.tobytes()


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


# ---------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("dtype", [d for d in NUMBERS if "int" in d.label], ids=lambda dtype: dtype.label)
def test_whole_numbers_are_exact_and_refused_where_python_has_a_number_that_does_not_fit(dtype):
    info = ml_dtypes.iinfo(numpy_dtype(dtype))
    least, most = int(info.min), int(info.max)
    values = sorted({v for v in (least, least + 1, -1, 0, 1, 2, most // 3, most - 1, most) if least <= v <= most})
    tensor = source(np.array(values, object), dtype)
    for number in (0, 1, -1, 2, 3.0, -5, most, least, 2**70):
        for op in (Scale(number), Add(number)):
            exact = [v * int(number) if isinstance(op, Scale) else v + int(number) for v in values]
            wrong = [at for at, result in enumerate(exact) if not least <= result <= most]
            if wrong:
                message = error_of(OperationError, run, [op], tensor, block_bytes=3)
                assert f"results do not fit the dtype @ {op.describe()}" in message
                assert f"got {len(wrong)} of {len(values)} elements" in message
                assert f"flat index {wrong[0]} ({values[wrong[0]]})" in message
            fine = source(np.array([v for at, v in enumerate(values) if at not in wrong], object), dtype)
            found, _ = run([op], fine, block_bytes=3)
            assert found.astype(object).tolist() == [v for at, v in enumerate(exact) if at not in wrong]


@pytest.mark.parametrize(
    ("dtype", "values", "op", "lost", "first"),
    [
        (FLOAT, [1, 3e38, -3e38, np.inf, np.nan], Scale(2), 2, 1),
        (FLOAT, [3e38, 1], Add(3e38), 1, 0),
        (DType.FLOAT64, [1, 1e308], Scale(10), 1, 1),
        (DType.FLOAT16, [60000, 1], Add(60000), 1, 0),
        (DType.BFLOAT16, [1, 3e38], Scale(4), 1, 1),
        (DType.FLOAT8_E4M3FN, [np.nan, 400], Scale(2), 1, 1),
        (DType.FLOAT4_E2M1FN, [1, 6], Add(2), 1, 1),
        (DType.COMPLEX64, [1, 3e38j, complex(0, np.inf)], Scale(2), 1, 1),
    ],
)
def test_a_finite_value_that_becomes_infinite_is_refused_with_a_count(dtype, values, op, lost, first):
    tensor = source(values, dtype)
    for block_bytes in (1, 1000):
        message = error_of(OperationError, run, [op], tensor, block_bytes=block_bytes)
        assert f"results do not fit the dtype @ {op.describe()}" in message
        assert f"expected results that {dtype.label} holds" in message
        assert f"got {lost} of {len(values)} elements" in message
        assert f"flat index {first} (" in message


def test_arithmetic_is_in_the_dtype_or_in_float32_and_keeps_what_is_not_finite():
    tensor = source([0.1, -0.0, np.inf, -np.inf, np.nan, 3e4], DType.FLOAT16)
    found, _ = run([Scale(0.3)], tensor)
    assert same_bytes(found, (tensor.values.astype(np.float32) * np.float32(0.3)).astype(np.float16))
    tensor = source([1 / 3, 1e300], DType.FLOAT64)
    assert same_bytes(run([Add(0.1)], tensor)[0], tensor.values + 0.1)
    found, _ = run([Scale(2)], source([complex(np.inf, 1), complex(1, np.nan)], DType.COMPLEX64))
    assert repr(found.tolist()) == "[(inf+2j), (2+nanj)]"
    found, _ = run([Add(2)], source([complex(1, -0.0)], DType.COMPLEX128))
    assert repr(found.tolist()) == "[(3-0j)]"


def test_a_loss_before_a_padding_is_told_of_what_the_operation_was_given():
    ops = [Transpose(), Cast(DType.FLOAT16), Pad(0, 1, 1), Scale(2), Tile(1, 5)]
    tensor = source([[1, 1e6, 2], [3, 4, 1e7]], FLOAT)
    for block_bytes in (1, 8, 1000):
        message = error_of(OperationError, run, ops, tensor, block_bytes=block_bytes)
        assert "cast to float16" in message
        assert "got 2 of 6 elements that it does not, the first at flat index 2 (1000000.0)" in message


def test_the_value_of_a_padding_is_in_the_dtype_where_it_stands():
    tensor = source([1.5, 2.5], FLOAT)
    assert run([Scale(2), Cast(INT), Pad(0, 1, 0, 7), Add(1)], tensor)[0].tolist() == [8, 4, 6]
    assert run([Pad(0, 0, 1, 0.1), Cast(DType.BFLOAT16)], tensor)[0][2] == ml_dtypes.bfloat16(0.1)


# ---------------------------------------------------------------- averages


def test_an_average_of_equals_is_what_they_are_where_float64_is_wide_enough():
    for dtype in (DType.FLOAT16, DType.BFLOAT16, FLOAT, DType.COMPLEX64):
        values = np.random.default_rng(0).normal(size=999)
        tensor = source([*values, np.inf, -0.0 if dtype is FLOAT else 0], dtype)
        for weights in (None, (1, 1, 1)):
            found, _ = run([Average(weights)], tensor, tensor, tensor, block_bytes=64)
            assert np.array_equal(found, tensor.values)


def test_an_average_is_rounded_once_and_its_weights_need_not_add_up_to_one():
    one, other = source([1, 2**24, 3e38], FLOAT), source([2, 1, 3e38], FLOAT)
    expected = np.array([1.75, (2**24 + 3) / 4, 3e38], np.float32)
    for weights in [(1, 3), (0.25, 0.75), (1e300, 3e300)]:
        assert same_bytes(run([Average(weights)], one, other)[0], expected)
    most = source([1.7e308, -1.7e308], DType.FLOAT64)
    assert run([Average()], *[most] * 5)[0].tolist() == most.values.tolist()
    assert np.isnan(run([Average()], source([np.inf], FLOAT), source([-np.inf], FLOAT))[0]).all()
    tiny = source([65504, 1], DType.FLOAT16)
    assert run([Average((0, 1))], source([np.inf, 1], FLOAT), source([2, 3], FLOAT))[0][1] == 3
    assert run([Average()], tiny, tiny)[0].tolist() == [65504, 1]


# ---------------------------------------------------------------- what is filled in


def test_a_longer_axis_is_filled_with_what_was_said():
    tensor = source([[1, 2], [3, 5]], FLOAT)
    for fill, row in [(0, [0, 0]), (7, [7, 7]), (Mean(), [2, 3.5]), ("template", [0, 1])]:
        assert run([Resize(0, 3, fill)], tensor, block_bytes=4)[0].tolist() == [[1, 2], [3, 5], row]
    assert run([Resize(-1, 3, Mean())], tensor, block_bytes=4)[0].tolist() == [[1, 2, 1.5], [3, 5, 4]]
    assert run([Resize(0, 1, Mean())], tensor)[0].tolist() == [[1, 2]]
    assert run([Resize(0, 2)], tensor)[0].tolist() == [[1, 2], [3, 5]]


def test_the_mean_is_rounded_once_and_does_not_overflow():
    rows = np.array([[3e38], [3e38], [2.9e38]], np.float32)
    found, _ = run([Resize(0, 4, Mean())], source(rows, FLOAT), block_bytes=4)
    assert found[3] == rows.astype(np.float64).mean().astype(np.float32)
    most = source([[1.7e308], [1.7e308]], DType.FLOAT64)
    assert run([Resize(0, 3, Mean())], most)[0][2] == 1.7e308
    passed_on, _ = run([Resize(0, 3, Mean())], source([[np.nan, np.inf], [1, 1]], FLOAT))
    assert np.isnan(passed_on[2, 0])
    assert passed_on[2, 1] == np.inf


def test_a_mean_is_of_what_the_operations_before_made():
    ops = [Scale(2), Cast(DType.FLOAT64), Resize(0, 3, Mean()), Add(1)]
    assert run(ops, source([1, 2], FLOAT), block_bytes=8)[0].tolist() == [3, 5, 4]


def test_noise_is_normal_the_same_again_and_another_with_another_seed():
    tensor = source(np.zeros((3, 500)), FLOAT)
    once, again, other = (run([Resize(0, 203, Mean(0.5, seed))], tensor, block_bytes=999)[0] for seed in (1, 1, 2))
    assert same_bytes(once, again)
    assert np.unique(once[3:]).size > 99_000
    assert abs(once[3:].mean()) < 0.01
    assert abs(once[3:].std() - 0.5) < 0.01
    assert abs(np.corrcoef(once[3:].reshape(-1), other[3:].reshape(-1))[0, 1]) < 0.02


def test_noise_that_the_dtype_does_not_hold_is_refused():
    tensor = source(np.full((2, 9), 6), DType.FLOAT4_E2M1FN)
    message = error_of(OperationError, run, [Resize(0, 3, Mean(9, 1))], tensor)
    assert "what is filled in does not fit the dtype @ the mean with noise of 9 (seed 1)" in message
    assert "of 9 that it does not, the first" in message


def test_a_template_that_is_not_the_targets_is_refused_before_anything_is_read():
    tensor = source([1, 2], FLOAT)
    for template, words in [(None, "got none"), (tensor, "got float32[2]")]:
        message = error_of(
            OperationError, compute, [Resize(0, 3)], [tensor], (tensor.spec,), template=template, block_bytes=9
        )
        assert f"expected float32[3], {words}" in message


# ---------------------------------------------------------------- batch normalization


def test_a_variance_that_makes_no_scale_is_refused_with_a_count():
    kernel, gamma = source(np.ones((3, 2)), FLOAT), source([1, 1], FLOAT)
    for block_bytes in (8, 1000):
        for variance, epsilon in (([-1, 1], 0.5), ([0, 1], 0)):
            given = (kernel, gamma, source(variance, FLOAT))
            message = error_of(OperationError, run, [FoldKernel(epsilon)], *given, block_bytes=block_bytes)
            assert "got 3 of 6 elements with others. Look at the moving variance" in message
    given = [source(values, DType.FLOAT16) for values in ([1, 2], [1, 1], [0, 0], [5, 5], [0, 1])]
    message = error_of(OperationError, run, [FoldBias(1e-30)], *given)
    assert "expected results that float16 holds, got 1 of 2" in message


def test_a_fold_passes_on_what_is_not_finite():
    kernel = source([[np.inf, np.nan, 1]], FLOAT)
    found, _ = run([FoldKernel(0, gamma=False)], kernel, source([4, 4, np.nan], FLOAT))
    assert found[0, 0] == np.inf
    assert np.isnan(found[0, 1:]).all()


# ---------------------------------------------------------------- sources


def test_joined_gathered_and_repeated_strings():
    one = InMemory(TensorSpec(DType.STRING, (2,)), np.array([b"a", b"bb"], object))
    ops = [Concat(0), Gather(0, (3, 0, 1)), Repeat(0, 2), Part(0, 1, 2)]
    specs = (one.spec, one.spec)
    found = np.concatenate(list(compute(ops, [one, one], specs, block_bytes=100)))
    assert found.tolist() == apply_reference(ops, [one.values, one.values]).tolist() == [b"a", b"bb", b"bb"]


def test_sources_that_are_not_what_the_chain_was_made_for_are_refused():
    one = source([1, 2], FLOAT)
    message = error_of(OperationError, compute, [Concat(0)], [one], (one.spec, one.spec), block_bytes=9)
    assert "expected float32[2], float32[2], got float32[2]" in message


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


# ---------------------------------------------------------------- what is read


@dataclass
class Counted(InMemory):
    """A source that keeps the boxes it was asked for."""

    boxes: list = field(default_factory=list)

    def read_box(self, box, shape):
        self.boxes.append(box)
        return super().read_box(box, shape)


def counted(*shape):
    values = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    return Counted(TensorSpec(FLOAT, shape), values)


def test_rows_that_follow_each_other_are_read_at_once():
    table = counted(1000, 40_000)
    rows = (*range(500, 520), *range(10, 30), 700, 999)
    found, _ = run([Gather(0, rows)], table, block_bytes=1 << 30)
    assert np.array_equal(found, table.values[list(rows)])
    assert sorted(box[0] for box in table.boxes) == [(10, 30), (500, 520), (700, 701), (999, 1000)]


def test_a_permutation_of_an_inner_axis_reads_whole_boxes():
    table = counted(64, 256)
    order = tuple(np.random.default_rng(0).permutation(256).tolist())
    found, _ = run([Gather(1, order)], table, block_bytes=16 * 1024)
    assert np.array_equal(found, table.values[:, list(order)])
    assert len(table.boxes) == 4


def test_a_part_reads_only_the_part():
    table = counted(64, 96)
    run([Part(1, 1, 3), Reshape((64, 4, 8)), Transpose((1, 0, 2))], table, block_bytes=2048)
    assert {box[0] for box in table.boxes} <= {(0, 64)}
    assert sum((b - a) * (d - c) for (a, b), (c, d) in ((box[0], box[-1]) for box in table.boxes)) == 64 * 32


@pytest.mark.parametrize(
    "middle",
    [Concat(1), Gather(1, tuple(np.random.default_rng(1).permutation(192).tolist())), Pad(1, 96, 96), Part(1, 0, 2)],
    ids=lambda op: op.name,
)
def test_heads_moved_outwards_after_an_operation_along_their_axis_need_no_whole_tensor(middle):
    tables = [counted(512, 192), counted(512, 192)] if middle == Concat(1) else [counted(512, 192)]
    (spec,) = middle.infer(tuple(table.spec for table in tables))
    heads = (512, 3, spec.shape[1] // 12, 4)
    for perm in ((1, 0, 2, 3), (3, 0, 1, 2), (2, 3, 1, 0)):
        ops = [middle, Reshape(heads), Transpose(perm), Cast(DType.BFLOAT16)]
        found, _ = run(ops, *tables, block_bytes=4096)
        assert same_bytes(found, reference(ops, tables))
        assert max(table.largest for table in tables) <= 4 * 4096


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("count", "ops"),
    [
        (2, [Concat(0), Cast(DType.BFLOAT16)]),
        (2, [Concat(1)]),
        (2, [Stack(1), Transpose((1, 0, 2))]),
        (1, [Gather(0, tuple(np.random.default_rng(0).permutation(2048).tolist()))]),
        (1, [Gather(1, tuple(np.random.default_rng(0).permutation(8192).tolist()))]),
        (3, [Average((1, 2, 3)), Scale(2)]),
        (1, [Reshape((4096, 4096)), Gates(1, "ifco", "icfo")]),
        (1, [Scale(2), Pad(1, 1, 1), Tile(0, 2), Part(1, 0, (8000, 194))]),
        (1, [Repeat(1, 3), Slice(0, 1, -1), Transpose()]),
        (1, [Resize(0, 2300, Mean(0.1, 1))]),
        (1, [Resize(1, 8300, Mean()), Transpose()]),
        (1, [Reshape((2, 1 << 23)), Resize(0, 3, Mean())]),
    ],
    ids=lambda value: "-".join(op.name for op in value) if isinstance(value, list) else "",
)
def test_64_megabytes_in_blocks_of_one_need_a_few(tmp_path, count, ops):
    sources = []
    for number in range(count):
        values = np.memmap(tmp_path / str(number), np.float32, "w+", shape=(2048, 8192))
        values[:] = np.arange(8192, dtype=np.float32)
        sources.append(InMemory(TensorSpec(FLOAT, values.shape), values))
    specs = specs_of(sources)
    (result,) = infer_chain(ops, specs)
    tracemalloc.start()
    total = sum(block.size for block in compute(ops, sources, specs, block_bytes=1 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == result.num_elements
    assert peak < 6 << 20
