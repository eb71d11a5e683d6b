"""Operations as values: what they make of specs, how they are undone, and how they are written."""

import json
import math
import subprocess
import sys

import pytest
from chains import FLOAT, INT, NUMBERS, error_of
from hypothesis import given
from hypothesis import strategies as st

from ckptmigrate.errors import IrreversibleError, OperationError, Problems, RuleError
from ckptmigrate.notation import from_data, to_data
from ckptmigrate.ops import (
    Add,
    Average,
    Cast,
    Concat,
    ExpandDims,
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
    Squeeze,
    Stack,
    Tile,
    Transpose,
    Vocab,
    close_chain,
    infer_chain,
    inverse_chain,
    needs_template,
)
from ckptmigrate.spec import DType, TensorSpec
from ckptmigrate.vocabulary import Vocabulary

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
        (
            Part(-1, 0, 3),
            TensorSpec(FLOAT, (2, 8)),
            ["into equal parts", "expected a divisor of 8 (axis -1 of source float32[2, 8])", "got 3 (parts)"],
        ),
        (Part(0, 0, 0), TensorSpec(FLOAT, (2,)), ["a divisor of 2", "got 0"]),
        (Part(0, 0, (1, 2)), TensorSpec(FLOAT, (4,)), ["add up to 4", "got [1, 2], in all 3"]),
        (Part(0, 0, (-1, 5)), TensorSpec(FLOAT, (4,)), ["add up to 4", "got [-1, 5]"]),
        (Part(0, 2, (1, 3)), TensorSpec(FLOAT, (4,)), ["no such part", "from 0 to 1", "got 2 (index)"]),
        (Part(0, -1, 2), TensorSpec(FLOAT, (4,)), ["no such part", "got -1"]),
        (Part(1, 0, 1), TensorSpec(FLOAT, (4,)), ["no such axis", "from -1 to 0 (source float32[4])", "got 1"]),
        (Concat(0), TensorSpec(FLOAT, ()), ["no such axis", "expected an axis (source float32[])"]),
        (Stack(2), TensorSpec(FLOAT, (1,)), ["from -2 to 1"]),
        (Slice(0, 1, 5), TensorSpec(FLOAT, (4,)), ["a range in 0:4", "got 1:5"]),
        (Slice(0, -5), TensorSpec(FLOAT, (4,)), ["a range in 0:4", "got -5: (start"]),
        (Slice(0, 3, 2), TensorSpec(FLOAT, (4,)), ["a range in 0:4", "got 3:2"]),
        (Pad(0, -1, 0), TensorSpec(FLOAT, (4,)), ["less than nothing", "got -1 (before)", "`slice` cuts"]),
        (Pad(0, 1, 0, 0.5), TensorSpec(INT, (4,)), ["a value of int32", "got 0.5"]),
        (Pad(0, 1), TensorSpec(DType.STRING, (4,)), ["a value of string"]),
        (Gather(0, (0, 4, -1)), TensorSpec(FLOAT, (4,)), ["from 0 to 3", "got 2 of 3 that are not, the first 4"]),
        (Gather(0, tuple(range(40))), TensorSpec(FLOAT, (4,)), ["gather [0, 1, 2, 3, 4, 5, 6, 7, ... 40 in all]"]),
        (Tile(0, 0), TensorSpec(FLOAT, (4,)), ["leave nothing", "got 0 (times)"]),
        (Repeat(0, -2), TensorSpec(FLOAT, (4,)), ["expected 1 or more", "got -2"]),
        (Resize(1, 3), TensorSpec(FLOAT, (4,)), ["no such axis", "got 1 (axis)"]),
        (Resize(0, -3), TensorSpec(FLOAT, (4,)), ["less than nothing", "got -3 (size)"]),
        (Resize(0, 5, 0.5), TensorSpec(INT, (4,)), ["filled with 0.5", "a value of int32", "got 0.5 (fill)"]),
        (Resize(0, 5, 0), TensorSpec(DType.STRING, (4,)), ["filled with zeros", "a value of string"]),
        (Resize(0, 5, Mean()), TensorSpec(INT, (4,)), ["filled with the mean", "no mean", "got int32[4]", "a number"]),
        (Resize(0, 5, Mean()), TensorSpec(FLOAT, (0, 2)), ["at least one of them along the axis"]),
        (Resize(0, 5, Mean(math.inf)), TensorSpec(FLOAT, (4,)), ["a finite number from 0", "got inf (stddev)"]),
        (Gates(0, "ifco", "icf"), TensorSpec(FLOAT, (8,)), ["the same letters", "got ifco (source), icf (target)"]),
        (Gates(0, "iff", "iff"), TensorSpec(FLOAT, (9,)), ["each once"]),
        (Gates(0, "", ""), TensorSpec(FLOAT, (9,)), ["the same letters"]),
        (Gates(-1, "zrh", "rzh"), TensorSpec(FLOAT, (2, 8)), ["a multiple of 3 (zrh)", "got 8 (axis -1 of source"]),
        (Gates(0, "icfo", "ifco", 1), TensorSpec(FLOAT, (8, 4)), ["no bias of a forget gate", "Kernels get no"]),
        (
            Gates(0, "zrh", "rzh", 1),
            TensorSpec(FLOAT, (3,)),
            ["a vector with a block `f`", "got float32[3] (source), zrh"],
        ),
        (Gates(0, "icfo", "ifco", 1e39), TensorSpec(FLOAT, (4,)), ["that float32 holds", "got 1e+39 (forget_bias)"]),
        (Gates(0, "icfo", "ifco", 1), TensorSpec(INT, (4,)), ["that int32 holds"]),
        (Scale(0.5), TensorSpec(INT, ()), ["the factor does not fit", "a whole number (source int32[])", "got 0.5"]),
        (Scale(1e39), TensorSpec(DType.FLOAT16, ()), ["a number that float32 holds", "got 1e+39"]),
        (Scale(math.inf), TensorSpec(DType.FLOAT64, ()), ["got inf"]),
        (Add(1), TensorSpec(DType.BOOL, ()), ["no arithmetic", "expected integer, float or complex", "got bool"]),
        (Add(1), TensorSpec(DType.STRING, ()), ["no arithmetic"]),
        (Add(1e309), TensorSpec(DType.INT64, ()), ["the value does not fit", "got inf (value)"]),
        (
            Average(),
            TensorSpec(INT, (2,)),
            ["only floats", "float or complex", "got int32", "Cast them before"],
        ),
        (Average((1, 2)), TensorSpec(FLOAT, ()), ["expected 1 numbers from 0", "got [1, 2]"]),
        (Average((0,)), TensorSpec(FLOAT, ()), ["not all of them 0", "got [0]"]),
        (Average((-1,)), TensorSpec(FLOAT, ()), ["got [-1]"]),
        (Average((math.nan,)), TensorSpec(FLOAT, ()), ["got [nan]"]),
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
    ones = (Transpose(), Reshape(()), Cast(INT), Squeeze(()), ExpandDims(0), Fill(0.0), Part(0, 0, 1), Slice(0))
    for op in (
        *ones,
        Pad(0),
        Gather(0, ()),
        Tile(0, 1),
        Repeat(0, 1),
        Resize(0, 1),
        Gates(0, "a", "a"),
        Scale(1),
        Add(0),
    ):
        assert "got 2 (float32[], float32[])" in error_of(OperationError, op.infer, (spec, spec))
        assert "got 0 (none)" in error_of(OperationError, op.infer, ())


def test_what_takes_several_takes_one_at_least_and_only_what_fits_together():
    one = TensorSpec(FLOAT, (2, 3))
    for op in (Concat(0), Stack(0), Average()):
        assert "expected at least 1, got 0 (none)" in error_of(OperationError, op.infer, ())
        message = error_of(OperationError, op.infer, (one, one, TensorSpec(DType.FLOAT64, (2, 3))))
        assert "expected float32[2, 3]" in message
        assert "got float64[2, 3] (another source)" in message
        message = error_of(OperationError, infer_chain, [Transpose(), op], (one,))
        assert f"@ {op.describe()}" in message
        assert "expected it to be the first operation, got it after transpose" in message
    wide = TensorSpec(FLOAT, (2, 5))
    assert "but for axis 0" in error_of(OperationError, Concat(0).infer, (one, wide))
    assert "the sources differ" in error_of(OperationError, Stack(0).infer, (one, wide))
    assert "the sources differ" in error_of(OperationError, Average().infer, (one, wide))
    assert "another source" in error_of(OperationError, Concat(0).infer, (one, TensorSpec(FLOAT, (2,))))
    assert "another source" in error_of(OperationError, Concat(1).infer, (one, TensorSpec(FLOAT, (2,))))


@pytest.mark.parametrize(
    ("op", "specs", "words"),
    [
        (
            FoldKernel(0.1),
            [(3, 4), (4,)],
            ["wrong number of tensors", "expected kernel, gamma, variance, got float32"],
        ),
        (FoldKernel(0.1, gamma=False), [(3, 4), (3,)], ["the channels differ", "vectors of 4 (kernel float32[3, 4])"]),
        (FoldKernel(0.1), [(3, 4), (4,), (2, 2)], ["got float32[2, 2]", "Is `axis` the kernel's axis of output"]),
        (FoldKernel(0.1, axis=(0, 2)), [(3, 4, 2), (6,), (6,)], ["axes that follow each other", "got [0, 2] (axis)"]),
        (FoldKernel(0.1, axis=(2,)), [(3, 4), (4,), (4,)], ["from -2 to 1 (kernel"]),
        (FoldKernel(0.1, axis=()), [(3, 4), (4,), (4,)], ["got [] (axis)"]),
        (FoldKernel(-1), [(3, 4), (4,), (4,)], ["a finite number from 0", "got -1 (epsilon)"]),
        (FoldBias(math.inf), [(4,)] * 5, ["got inf (epsilon)"]),
        (FoldBias(0.1, bias=False), [(4,)] * 5, ["expected gamma, beta, mean, variance, got"]),
        (FoldBias(0.1), [(4,)] * 4 + [(3,)], ["vectors of 3 (variance float32[3])", "got float32[4]"]),
        (FoldBias(0.1), [(2, 2)] * 5, ["the channels differ"]),
    ],
)
def test_a_fold_that_does_not_fit_says_what_it_takes(op, specs, words):
    message = error_of(OperationError, op.infer, tuple(TensorSpec(FLOAT, shape) for shape in specs))
    for word in [op.describe(), *words]:
        assert word in message
    whole = tuple(TensorSpec(INT, (4,)) for _ in range(5))
    assert "only floats can be folded" in error_of(OperationError, FoldBias(0.1).infer, whole)


@pytest.mark.parametrize(
    ("op", "shapes", "result"),
    [
        (Part(-1, 2, 3), [(2, 6)], (2, 2)),
        (Part(0, 1, (2, 5, 0)), [(7,)], (5,)),
        (Part(0, 2, (2, 5, 0)), [(7,)], (0,)),
        (Concat(-1), [(2, 3), (2, 0), (2, 4)], (2, 7)),
        (Stack(-1), [(2, 3)] * 4, (2, 3, 4)),
        (Stack(0), [()] * 4, (4,)),
        (Slice(0), [(5, 2)], (5, 2)),
        (Slice(0, -3, -1), [(5, 2)], (2, 2)),
        (Pad(1, 1, 2), [(5, 2)], (5, 5)),
        (Gather(1, (1, 1, 0)), [(5, 2)], (5, 3)),
        (Gather(0, ()), [(0, 2)], (0, 2)),
        (Tile(0, 3), [(5, 2)], (15, 2)),
        (Repeat(-1, 3), [(5, 2)], (5, 6)),
        (Resize(0, 3), [(5, 2)], (3, 2)),
        (Resize(-1, 3, Mean()), [(5, 2)], (5, 3)),
        (Scale(2), [(5, 2)], (5, 2)),
        (Average((1, 0)), [(5, 2)] * 2, (5, 2)),
        (FoldKernel(0.1), [(3, 3, 5, 2), (2,), (2,)], (3, 3, 5, 2)),
        (FoldKernel(0.1, gamma=False, axis=(-2, -1)), [(3, 3, 5, 2), (10,)], (3, 3, 5, 2)),
        (FoldBias(0.1), [(2,)] * 5, (2,)),
    ],
)
def test_shapes_are_known_without_values(op, shapes, result):
    assert op.infer(tuple(TensorSpec(FLOAT, shape) for shape in shapes)) == (TensorSpec(FLOAT, result),)


def test_the_inverse_is_the_operation_that_a_person_would_write():
    specs = (TensorSpec(FLOAT, (2, 1, 3)),)
    for op, inverse in [
        (Transpose((1, 2, 0)), Transpose((2, 0, 1))),
        (Transpose(), Transpose()),
        (Reshape((-1,)), Reshape((2, 1, 3))),
        (Squeeze((-2,)), ExpandDims(1)),
        (ExpandDims(-1), Squeeze((3,))),
        (Cast(DType.FLOAT64), Cast(FLOAT)),
        (Slice(-1, 0, 3), Slice(-1)),
        (Pad(-1, 2, 4, 9), Slice(-1, 2, 5)),
        (Gather(-1, (2, 0, 1)), Gather(-1, (1, 2, 0))),
        (Gather(-1, (2, 0, 1, 2)), Gather(-1, (1, 2, 3))),
        (Tile(0, 3), Slice(0, 0, 2)),
        (Repeat(0, 3), Gather(0, (0, 3))),
        (Resize(-1, 7), Slice(-1, 0, 3)),
        (Resize(0, 2), Slice(0, 0, 2)),
        (Gates(-1, "abc", "cab"), Gates(-1, "cab", "abc")),
        (Scale(-0.25), Scale(-4.0)),
        (Scale(8), Scale(0.125)),
    ]:
        assert op.inverse(specs) == inverse
    assert Add(3).inverse((TensorSpec(INT, ()),)) == Add(-3)
    assert Scale(-1).inverse((TensorSpec(INT, ()),)) == Scale(-1)
    assert Scale(2).inverse((TensorSpec(DType.FLOAT16, ()),)) == Scale(0.5)


def test_what_has_no_inverse_says_why():
    specs = (TensorSpec(FLOAT, (2,)),)
    for op, words in [
        (Cast(DType.BFLOAT16), "bfloat16 does not hold every float32 value"),
        (Fill("template"), "no source"),
        (Part(0, 0, 2), "`concat` of all the parts"),
        (Concat(0), "`split` leads back"),
        (Stack(0), "`unstack` leads back"),
        (Slice(0, 1), "cut off is lost"),
        (Resize(0, 1), "cut off is lost"),
        (Gates(0, "fi", "if", 1.0), "float32 rounds the sum with the forget bias"),
        (Gather(0, (1, 1)), "1 of 2 indices are not taken"),
        (Scale(3), "float32 rounds the result"),
        (Scale(0), "rounds the result"),
        (Add(1), "subtracting does not"),
        (Average(), "does not give its sources back"),
    ]:
        assert words in error_of(IrreversibleError, op.inverse, specs)
    for fold, several in ((FoldKernel(0.1, gamma=False), specs * 2), (FoldBias(0.1), specs * 5)):
        assert "cannot be told from the rest" in error_of(IrreversibleError, fold.inverse, several)
    with pytest.raises(IrreversibleError):
        Scale(2.0**-130).inverse(specs)  # 2**130 is no float32
    assert "rounds" in error_of(IrreversibleError, Scale(0.5).inverse, (TensorSpec(DType.FLOAT16, ()),))
    assert "no division" in error_of(IrreversibleError, Scale(2).inverse, (TensorSpec(INT, ()),))
    with pytest.raises(IrreversibleError):
        inverse_chain([Concat(0), Transpose()], specs * 2)


def test_an_initial_value_comes_first():
    message = error_of(OperationError, infer_chain, [Transpose(), Fill(0.0)], (TensorSpec(FLOAT, (2,)),))
    assert "got it after transpose" in message


def test_what_is_filled_with_the_templates_values_comes_last():
    specs = (TensorSpec(FLOAT, (2, 3)),)
    message = error_of(OperationError, infer_chain, [Resize(0, 3), Transpose()], specs)
    assert "expected it to be the last operation, got it before transpose" in message
    infer_chain([Transpose(), Resize(0, 5)], specs)
    infer_chain([Resize(0, 2), Resize(0, 1), Resize(0, 5, 0), Transpose()], specs)
    assert needs_template([Transpose(), Resize(0, 5)], specs)
    assert not needs_template([Transpose(), Resize(0, 3)], specs)
    assert not needs_template([Resize(0, 5, Mean())], specs)
    assert not needs_template([], specs)


# ---------------------------------------------------------------- open operations


def test_what_is_left_open_is_as_the_target_has_it():
    specs, wanted = (TensorSpec(FLOAT, (2, 6)),), TensorSpec(DType.BFLOAT16, (3, 4))
    assert close_chain([Transpose(), Reshape(), Cast(), Scale(2)], specs, wanted) == (
        Transpose(),
        Reshape((3, 4)),
        Cast(DType.BFLOAT16),
        Scale(2),
    )
    assert close_chain([Cast(), Reshape()], specs, wanted) == (Cast(DType.BFLOAT16), Reshape((3, 4)))
    parts = [TensorSpec(INT, (2, 1)), TensorSpec(INT, (2, 5))]
    assert close_chain([Part(-1, 1, None), Cast()], specs, parts[1], parts) == (Part(-1, 1, (1, 5)), Cast(INT))
    assert close_chain([Transpose()], specs, wanted) == (Transpose(),)
    grown = TensorSpec(INT, (2, 9))
    assert close_chain([Resize(-1, None, 0), Cast()], specs, grown) == (Resize(-1, 9, 0), Cast(INT))


@pytest.mark.parametrize(
    ("ops", "words"),
    [
        ([Reshape(), Transpose()], ["the shape does not follow", "keep the shape after it, got transpose", "Say the"]),
        ([Reshape(), Reshape()], ["the shape does not follow"]),
        ([Cast(), Transpose(), Cast(INT)], ["the dtype does not follow", "got cast to int32"]),
        ([Part(0, 0, None), Tile(0, 2)], ["the shape does not follow", "got tile axis 0"]),
        ([Reshape()], ["does not hold the values", "expected 6 elements (source float32[2, 3])", "got 4 (target"]),
        ([Part(1, 0, None)], ["no such axis", "got 1 (axis)"]),
        ([Resize(1)], ["no such axis", "got 1 (axis)"]),
        ([Resize(0), Transpose()], ["the shape does not follow"]),
        ([Part(0, 0, None)], ["do not make up the axis", "add up to 2", "got [4, 1], in all 5"]),
    ],
)
def test_what_does_not_follow_from_the_target_has_to_be_said(ops, words):
    parts = (TensorSpec(FLOAT, (4,)), TensorSpec(FLOAT, (1,)))
    message = error_of(OperationError, close_chain, ops, (TensorSpec(FLOAT, (2, 3)),), parts[0], parts)
    for word in words:
        assert word in message


def test_an_open_operation_is_no_step():
    for op in (Reshape(), Cast(), Part(0, 0, None), Resize(0)):
        message = error_of(OperationError, op.infer, (TensorSpec(FLOAT, (2,)),))
        assert message.startswith(f"an open operation @ {op.describe()}: expected its ")
        assert "target" in op.describe()


# ---------------------------------------------------------------- the external form


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
whole = st.integers(-3, 9)
wholes = st.lists(whole).map(tuple)
orders = st.text("abcdfiorz", min_size=1)
vocabularies = st.builds(Vocabulary, st.text(), st.text("0123456789abcdef"), whole)
means = st.just(Mean()) | st.builds(Mean, st.floats(0, 9, exclude_min=True), st.integers(0, 2**64 - 1))


@given(
    st.one_of(
        [
            st.builds(Transpose, st.none() | st.permutations(range(3)).map(tuple)),
            st.builds(Reshape, st.none() | st.lists(st.integers(-1, 9)).map(tuple)),
            st.builds(Cast, st.none() | st.sampled_from(NUMBERS)),
            st.builds(Squeeze, st.lists(st.integers(-3, 3)).map(tuple)),
            st.builds(ExpandDims, st.integers(-3, 3)),
            st.builds(Fill, st.just("template") | numbers),
            st.builds(Part, whole, whole, st.none() | whole | wholes),
            st.builds(Concat, whole),
            st.builds(Stack, whole),
            st.builds(Slice, whole, whole, st.none() | whole),
            st.builds(Pad, whole, whole, whole, numbers),
            st.builds(Gather, whole, wholes),
            st.builds(Tile, whole, whole),
            st.builds(Repeat, whole, whole),
            st.builds(Resize, whole, st.none() | whole, st.just("template") | numbers | means),
            st.builds(Gates, whole, orders, orders, st.none() | numbers),
            st.builds(FoldKernel, numbers, st.booleans(), wholes),
            st.builds(FoldBias, numbers, st.booleans(), st.booleans(), st.booleans()),
            st.builds(Vocab, whole, vocabularies, vocabularies, whole, st.just("template") | numbers | means, whole),
            st.builds(Scale, numbers),
            st.builds(Add, numbers),
            st.builds(Average, st.none() | st.lists(numbers).map(tuple)),
        ]
    )
)
def test_an_operation_reads_back_as_it_was_written(op):
    again = from_data(to_data(op), "plan.json")
    assert again == op
    assert to_data(again) == to_data(op)
    assert from_data(json.loads(json.dumps(to_data(op))), "plan.json") == op


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
        ({"part": {"axis": -1, "index": 0, "parts": 3}}, Part(-1, 0, 3)),
        ({"part": {"axis": -1, "index": 0, "sizes": [4, 8]}}, Part(-1, 0, (4, 8))),
        ({"part": {"axis": -1, "index": 0, "sizes": "target"}}, Part(-1, 0, None)),
        ({"reshape": None}, Reshape()),
        ({"cast": {}}, Cast()),
        ({"concat": {"axis": 0}}, Concat(0)),
        ({"stack": {"axis": 0}}, Stack(0)),
        ({"slice": {"axis": 0, "start": 2, "stop": -1}}, Slice(0, 2, -1)),
        ({"slice": {"axis": 0, "stop": 5}}, Slice(0, 0, 5)),
        ({"slice": {"axis": 0, "start": 2, "stop": None}}, Slice(0, 2)),
        ({"pad": {"axis": 0, "after": 3}}, Pad(0, 0, 3, 0)),
        ({"pad": {"axis": 0, "before": 1, "after": 3, "value": 0.5}}, Pad(0, 1, 3, 0.5)),
        ({"gather": {"axis": 1, "indices": [2, 0, 1]}}, Gather(1, (2, 0, 1))),
        ({"tile": {"axis": 0, "times": 2}}, Tile(0, 2)),
        ({"repeat": {"axis": 0, "times": 2}}, Repeat(0, 2)),
        ({"gates": {"axis": 0, "source": "tf1_lstm", "target": "keras_lstm"}}, Gates(0, "icfo", "ifco")),
        ({"gates": {"axis": 0, "source": "cudnn_gru", "target": "keras_gru"}}, Gates(0, "rzh", "zrh")),
        ({"gates": {"axis": 0, "source": "rz", "target": "zr", "forget_bias": 1}}, Gates(0, "rz", "zr", 1)),
        ({"fold_kernel": {"epsilon": 0.001}}, FoldKernel(0.001)),
        ({"fold_kernel": {"epsilon": 1, "gamma": False, "axis": -2}}, FoldKernel(1, gamma=False, axis=(-2,))),
        ({"fold_bias": {"epsilon": 1, "beta": False}}, FoldBias(1, beta=False)),
        ({"resize": {"axis": 0}}, Resize(0)),
        ({"resize": {"axis": 0, "size": 9, "fill": "template"}}, Resize(0, 9)),
        ({"resize": {"axis": 0, "size": 9, "fill": "ones"}}, Resize(0, 9, 1.0)),
        ({"resize": {"axis": 0, "size": 9, "fill": "mean"}}, Resize(0, 9, Mean())),
        ({"resize": {"axis": 0, "fill": {"mean": {"stddev": 0.5}}}}, Resize(0, None, Mean(0.5, 0))),
        ({"resize": {"axis": 0, "fill": {"mean": {"stddev": 1, "seed": 7}}}}, Resize(0, None, Mean(1, 7))),
        ({"scale": {"factor": 0.5}}, Scale(0.5)),
        ({"add": {"value": 1}}, Add(1)),
        ({"average": None}, Average()),
        ({"average": {"weights": [0.9, 0.1]}}, Average((0.9, 0.1))),
    ],
)
def test_every_operation_has_one_written_form(data, op):
    assert from_data(data, "rules.yaml:3:5") == op
    assert from_data(to_data(op), "plan.json") == op


PINNED = {"path": "/a/vocab.txt", "sha256": "0" * 64, "count": 3}


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
        ({"tile": {"axis": 0}}, ["tile: missing argument", "expected `times`"]),
        ({"reshape": {"shape": [1, "2"]}}, ["`shape` cannot be read", "a list of integers", "got [1, '2']"]),
        ({"reshape": {"shape": [True]}}, ["a list of integers"]),
        ({"squeeze": {"axis": 1.0}}, ["a list of integers"]),
        ({"expand_dims": {"axis": True}}, ["an integer", "got True"]),
        ({"cast": {"dtype": "float33"}}, ["`dtype` cannot be read", "one of float32, float64", "got 'float33'"]),
        ({"cast": {"dtype": 1}}, ["got 1"]),
        ({"init": {"with": "noise"}}, ["template, zeros, ones, or a finite number"]),
        ({"init": {"with": math.inf}}, ["finite"]),
        ({"init": {"with": [0]}}, ["finite"]),
        ({"part": {"axis": 0, "index": 0}}, ["either `parts`", "or `sizes`", "got `axis`, `index`"]),
        ({"part": {"axis": 0, "index": 0, "parts": 2, "sizes": [1]}}, ["either `parts`"]),
        ({"part": {"axis": 0, "index": 0, "sizes": "even"}}, ["a list of integers, or `target`", "got 'even'"]),
        ({"part": {"axis": 0, "index": 0, "parts": [2]}}, ["part: `parts` cannot be read", "an integer", "got [2]"]),
        ({"concat": {}}, ["concat: missing argument", "expected `axis`"]),
        ({"slice": {"axis": 0, "end": 3}}, ["slice: unknown argument", "`axis`, `start`, `stop`", "got `end`"]),
        ({"pad": {"axis": 0, "value": "zeros"}}, ["`value` cannot be read", "a finite number", "got 'zeros'"]),
        ({"gather": {"axis": 0, "indices": [0.5]}}, ["a list of integers"]),
        ({"scale": {"factor": math.inf}}, ["a finite number", "got inf"]),
        ({"scale": {"factor": True}}, ["a finite number", "got True"]),
        ({"average": {"weights": [1, "x"]}}, ["a list of finite numbers", "got [1, 'x']"]),
        ({"average": {"weights": 1}}, ["a list of finite numbers", "got 1"]),
        ({"gathre": {}}, ["Perhaps `gather`"]),
        ({"fold_bias": {"epsilon": 1, "beta": 1}}, ["`beta` cannot be read", "true or false", "got 1"]),
        (
            {"gates": {"axis": 0, "source": "keras-lstm", "target": "ifco"}},
            ["`source` cannot be read", "such as ifco, or one of keras_lstm, cudnn_lstm", "got 'keras-lstm'"],
        ),
        (
            {"vocab": {"axis": 0, "source": "old.txt", "target": PINNED, "kept": 1}},
            ["`source` cannot be read", "{path: ..., sha256: ..., count: how many tokens}", "got 'old.txt'"],
        ),
        ({"vocab": {"axis": 0, "source": PINNED, "target": {**PINNED, "x": 1}, "kept": 1}}, ["`target` cannot"]),
        (
            {"resize": {"axis": 0, "fill": "median"}},
            ["mean, {mean: {stddev: ..., seed: ...}}, template, zeros, ones, or a finite number", "got 'median'"],
        ),
        ({"resize": {"axis": 0, "fill": {"mean": {}}}}, ["stddev: a positive number", "got {'mean': {}}"]),
        ({"resize": {"axis": 0, "fill": {"mean": {"stddev": -1}}}}, ["stddev: a positive number"]),
        ({"resize": {"axis": 0, "fill": {"mean": {"stddev": 1, "sed": 1}}}}, ["seed: an integer from 0"]),
        ({"resize": {"axis": 0, "fill": {"mean": {"stddev": 1, "seed": 2**64}}}}, ["seed: an integer from 0"]),
    ],
)
def test_what_cannot_be_read_says_where_and_what_could_be(data, words):
    message = error_of(RuleError, from_data, data, "rules.yaml:3:5")
    for word in ["@ rules.yaml:3:5", *words]:
        assert word in message


def test_all_that_is_wrong_with_an_operation_is_told_together():
    with pytest.raises(Problems) as caught:
        from_data({"gather": {"indexes": [1], "axes": 2}}, "rules.yaml:3:5")
    assert [problem.what for problem in caught.value.problems] == [
        *["gather: unknown argument"] * 2,
        *["gather: missing argument"] * 2,
    ]


def test_planning_needs_no_numpy():
    code = "import sys, ckptmigrate.ops; print({'numpy', 'ml_dtypes', 'tensorflow'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
