"""Tensors in memory, chains of operations that fit them, and what several tests do with both."""

import hashlib
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import event
from hypothesis import strategies as st

from ckptmigrate.apply.stream import compute
from ckptmigrate.dtypes import FLOATS, PARTS, int_range
from ckptmigrate.errors import OperationError
from ckptmigrate.ops import (
    Add,
    Average,
    Cast,
    Concat,
    ExpandDims,
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
    infer_chain,
    needs_template,
)
from ckptmigrate.spec import DType, TensorSpec
from ckptmigrate.verify.reference import apply_reference
from ckptmigrate.vocabulary import Vocabulary

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


def source(values, dtype):
    values = np.asarray(values).astype(numpy_dtype(dtype))
    return InMemory(TensorSpec(dtype, values.shape), values)


def template_for(ops, specs):
    """A target's own tensor for a chain that needs one; the same each time."""
    if not needs_template(ops, specs):
        return None
    (spec,) = infer_chain(ops, specs)
    return InMemory(spec, (np.arange(spec.num_elements) % 2).astype(numpy_dtype(spec.dtype)).reshape(spec.shape))


def run(ops, *tensors, block_bytes=1 << 20):
    specs = tuple(tensor.spec for tensor in tensors)
    template = template_for(ops, specs)
    blocks = [np.array(b) for b in compute(ops, tensors, specs, template=template, block_bytes=block_bytes)]
    (spec,) = infer_chain(ops, specs)
    assert all(block.ndim == 1 and block.size and block.dtype == numpy_dtype(spec.dtype) for block in blocks)
    whole = np.concatenate([np.empty(0, numpy_dtype(spec.dtype)), *blocks])
    return whole.reshape(spec.shape), blocks


def destroys(ops, tensors):
    """Whether the chain refuses these values, which only narrow types make happen."""
    try:
        run(ops, *tensors)
    except OperationError as error:
        event(f"{error.what} {error.expected}")
        assert any(isinstance(op, Cast | Scale | Add | Resize | Vocab | Gates | FoldKernel | FoldBias) for op in ops)
        return True
    return False


def same_bytes(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def reference(ops, tensors):
    """What the plain version makes of whole tensors."""
    template = template_for(ops, tuple(tensor.spec for tensor in tensors))
    return apply_reference(ops, [tensor.values for tensor in tensors], template and template.values)


def error_of(kind, function, *args, **kwargs):
    with pytest.raises(kind) as caught:
        function(*args, **kwargs)
    return str(caught.value)


_VOCABULARIES = tempfile.TemporaryDirectory(prefix="ckptmigrate-test-")


def vocabulary(tokens):
    """A vocabulary file of these tokens."""
    content = "".join(f"{token}\n" for token in tokens).encode()
    digest = hashlib.sha256(content).hexdigest()
    path = Path(_VOCABULARIES.name, digest)
    if not path.exists():
        path.write_bytes(content)
    return Vocabulary(str(path), digest, len(tokens))


def vocab(axis, old, new, fill="template", offset=0):
    """An operation that moves the rows of some tokens to where they are among others."""
    return Vocab(axis, vocabulary(old), vocabulary(new), len({*old} & {*new}), fill, offset)


# ---------------------------------------------------------------- strategies

TOKENS = tuple("abcdefghi")

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
def selections(draw, spec):
    """What takes, adds or repeats along an axis, of a tensor that has one."""
    rank = len(spec.shape)
    axis = draw(st.integers(-rank, rank - 1))
    size = spec.shape[axis]
    kind = draw(st.sampled_from([Part, Part, Slice, Pad, Gather, Gather, Tile, Repeat, Resize, Resize, Resize, Gates]))
    if kind in (Pad, Tile, Repeat, Resize) and spec.num_elements > 400:
        kind = Slice
    if kind is Resize:
        return draw(filled(axis, size, draw(fillings(spec, size))))
    if kind is Gates:
        return draw(gates(spec, axis))
    if kind is Part:
        parts = draw(st.sampled_from([n for n in (1, 2, 3, 4) if size % n == 0]))
        ends = sorted(draw(st.lists(st.integers(0, size), max_size=3)))
        sizes = tuple(high - low for low, high in zip([0, *ends], [*ends, size], strict=True))
        whole = draw(st.sampled_from([parts, sizes]))
        return Part(axis, draw(st.integers(0, (parts if whole is parts else len(sizes)) - 1)), whole)
    if kind is Slice:
        start = draw(st.integers(0, size))
        stop = draw(st.integers(start, size))
        start -= draw(st.sampled_from([0, size])) if start < size else 0
        if stop == size:
            return Slice(axis, start, draw(st.sampled_from([None, size])))
        return Slice(axis, start, stop - draw(st.sampled_from([0, size])))
    if kind is Pad:
        counts = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
        return Pad(axis, *counts, draw(st.sampled_from([0, 1, 1.0])))
    if kind is Gather:
        if draw(st.booleans()):
            return Gather(axis, tuple(draw(st.permutations(range(size)))))
        return Gather(axis, tuple(draw(st.lists(st.integers(0, size - 1), max_size=9)) if size else ()))
    return kind(axis, draw(st.integers(1, 3)))


@st.composite
def gates(draw, spec, axis):
    """Blocks of an axis in another order, with a forget bias where there can be one."""
    letters = draw(
        st.sampled_from([order for order in ("ifco", "zrh", "rz", "f") if spec.shape[axis] % len(order) == 0])
    )
    target = "".join(draw(st.permutations(letters)))
    added = "f" in letters and len(spec.shape) == 1 and spec.dtype in FLOATS
    return Gates(axis, letters, target, draw(st.sampled_from([None, 0.5])) if added else None)


@st.composite
def filled(draw, axis, size, fill):
    """What may fill a part of an axis of so many."""
    if draw(st.booleans()) or not 1 <= size <= len(TOKENS):
        return Resize(axis, draw(st.integers(0, size + 3)), fill)
    offset = draw(st.integers(0, min(size - 1, 2)))
    old = draw(st.permutations(TOKENS))[: size - offset]
    new = draw(st.permutations(TOKENS))[: draw(st.integers(1, len(TOKENS)))]
    return vocab(axis, old, draw(st.sampled_from([new, draw(st.permutations(old))])), fill, offset)


def fillings(spec, size):
    """What an axis of so many can be filled with in the middle of a chain."""
    means = st.sampled_from([Mean(), Mean(0.25, 3), Mean(0.5, 2**64 - 1)])
    return st.sampled_from([0, 1, 1.0]) | (means if size and spec.dtype in FLOATS else st.nothing())


def calculates(op):
    """Whether an operation makes values that were not there, which may be odd ones."""
    if isinstance(op, Gates):
        return op.forget_bias is not None
    return isinstance(op, Scale | Add | Average | FoldKernel | FoldBias) or (
        isinstance(op, Resize | Vocab) and isinstance(op.fill, Mean)
    )


def is_inexact(dtype):
    return dtype in FLOATS or dtype in PARTS


@st.composite
def operations(draw, spec, *, is_calculated):
    """An operation that fits a tensor; after arithmetic, one that no rounded value is too odd for."""
    rank = len(spec.shape)
    ones = [axis for axis, size in enumerate(spec.shape) if size == 1]
    kinds = [Transpose, Transpose, Transpose, Reshape, Reshape, Cast, Squeeze, ExpandDims]
    kinds += [Part] * 7 if rank else []
    kinds += [] if spec.dtype is DType.BOOL else [Scale, Add]
    kind = draw(st.sampled_from(kinds))
    if kind is Part:
        return draw(selections(spec))
    if kind is Transpose:
        perm = draw(st.permutations(range(rank)))
        perm = [draw(st.sampled_from([axis, axis - rank])) for axis in perm]
        return Transpose(draw(st.sampled_from([None, tuple(perm), tuple(perm)])))
    if kind is Reshape:
        return draw(reshapes(spec.num_elements))
    if kind is Cast:
        return Cast(draw(st.sampled_from([dtype for dtype in NUMBERS if not is_calculated or is_inexact(dtype)])))
    if kind is Squeeze:
        return Squeeze(tuple(draw(st.lists(st.sampled_from(ones), unique=True)) if ones else ()))
    if kind in (Scale, Add):
        return kind(draw(st.sampled_from([0, 1, 1.0] if int_range(spec.dtype) else [0.1, -1, 0.5, 1.7])))
    return ExpandDims(draw(st.integers(-rank - 1, rank)))


@st.composite
def heads(draw, spec):
    """What makes one tensor of several, and the specs of those."""
    rank = len(spec.shape)
    count = draw(st.integers(1, 4))
    folds = [FoldKernel] * bool(rank) + [FoldBias] * (rank == 1) if spec.dtype in FLOATS else []
    kind = draw(st.sampled_from([Concat] * bool(rank) + [Stack] + [Average] * is_inexact(spec.dtype) + folds))
    if kind in (FoldKernel, FoldBias):
        return draw(batch_norms(spec, kind))
    if kind is Concat:
        axis = draw(st.integers(-rank, rank - 1))
        sizes = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
        at = axis % rank
        return Concat(axis), [TensorSpec(spec.dtype, (*spec.shape[:at], n, *spec.shape[at + 1 :])) for n in sizes]
    if kind is Stack:
        return Stack(draw(st.integers(-rank - 1, rank))), [spec] * count
    weights = st.lists(st.sampled_from([1, 0.1, 3, 1e-3]), min_size=count, max_size=count).map(tuple)
    return Average(draw(st.none() | weights)), [spec] * count


@st.composite
def batch_norms(draw, spec, kind):
    """A fold, and the specs of a layer and its batch normalization."""
    flags = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    if kind is FoldBias:
        return FoldBias(draw(st.sampled_from([0.25, 1e-3])), *flags), [spec] * (2 + sum(flags))
    start = draw(st.integers(0, len(spec.shape) - 1))
    stop = draw(st.integers(start + 1, len(spec.shape)))
    axis = tuple(at - draw(st.sampled_from([0, len(spec.shape)])) for at in range(start, stop))
    vector = TensorSpec(draw(st.sampled_from([spec.dtype, FLOAT])), (math.prod(spec.shape[start:stop]),))
    return FoldKernel(draw(st.sampled_from([0.25, 1e-3])), flags[0], axis), [spec, *[vector] * (1 + flags[0])]


def draw_values(draw, spec, ops):
    """Any bytes if they are only moved; otherwise ordinary numbers if all are floats; otherwise 0 and 1."""
    count, dtype = spec.num_elements, numpy_dtype(spec.dtype)
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    computed = any(isinstance(op, Cast) or calculates(op) for op in ops)
    if not computed and spec.dtype is not DType.BOOL:
        return rng.integers(0, 256, count * dtype.itemsize, np.uint8).view(dtype)
    if is_inexact(spec.dtype) and all(is_inexact(op.dtype) for op in ops if isinstance(op, Cast)):
        return rng.normal(size=count).clip(-3, 3).astype(dtype)
    return rng.integers(0, 2, count).astype(dtype)


@st.composite
def chains(draw, max_size=6, *, several=True):
    """Sources, and a chain that fits them. Hardly any of the chains destroys a value."""
    spec = TensorSpec(draw(st.sampled_from(NUMBERS)), draw(shapes))
    ops, specs = [], [spec]
    if several and draw(st.sampled_from([False, False, True])):
        op, specs = draw(heads(spec))
        ops.append(op)
        (spec,) = op.infer(tuple(specs))
    for _ in range(draw(st.integers(0, max_size))):
        op = draw(operations(spec, is_calculated=any(map(calculates, ops))))
        ops.append(op)
        (spec,) = op.infer((spec,))
    if spec.shape and draw(st.sampled_from([False, False, True])):
        axis = draw(st.integers(-len(spec.shape), len(spec.shape) - 1))
        ops.append(draw(filled(axis, spec.shape[axis], "template")))
    tensors = [InMemory(spec, draw_values(draw, spec, ops).reshape(spec.shape)) for spec in specs]
    if ops and isinstance(ops[0], FoldKernel | FoldBias):
        tensors[-1].values = np.abs(tensors[-1].values)  # a variance
    return tensors, tuple(ops)
