"""What operations mean, said the plain way: numpy on whole tensors.

This is what `ckptmigrate.apply.stream.compute` is compared with, by the tests and when a migration is
verified. So it shares nothing with it but the operations themselves, and it checks nothing: a shape that
does not fit is numpy's error, a cast does what numpy does, destroyed values and all, and so does a float
that overflows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ckptmigrate.apply.customs import call_custom
from ckptmigrate.noise import standard_normal
from ckptmigrate.ops import (
    Add,
    Average,
    Cast,
    Concat,
    Custom,
    ExpandDims,
    Fill,
    Filling,
    FoldBias,
    FoldKernel,
    Gates,
    Gather,
    Mean,
    Op,
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
)
from ckptmigrate.spec import DType, TensorSpec

Array: TypeAlias = npt.NDArray[Any]


def apply_reference(ops: Sequence[Op], arrays: Sequence[Array], template: Array | None = None) -> Array:
    """The result of a chain of operations.

    Args:
        ops: The chain; each operation takes what the one before it made.
        arrays: What the first operation takes: the sources, or for `Fill` the template's tensor.
        template: The target's own tensor, for a chain that fills a part of its result from there.

    Returns:
        An array of the result's shape and dtype, in row-major order. It may share memory with `arrays`.
    """
    match ops[0] if ops else None:
        case Concat(axis):
            array = np.concatenate(arrays, axis)
        case Stack(axis):
            array = np.stack(arrays, axis)
        case Average(weights):
            array = _average(arrays, weights or [1] * len(arrays))
        case Custom() as custom:
            array = call_custom(custom, arrays)
        case FoldKernel() | FoldBias() as fold:
            array = _folded(fold, arrays)
        case _:
            (array,) = arrays
    for op in ops:
        array = _rows(op, array, template) if isinstance(op, Resize | Vocab) else _apply(op, array)
    return np.ascontiguousarray(array).reshape(array.shape)  # the former makes a vector of a scalar


def _apply(op: Op, array: Array) -> Array:  # noqa: C901, PLR0912  # a case for each operation, and nothing else
    match op:
        case Transpose(perm):
            array = np.transpose(array, perm)
        case Reshape(tuple(shape)):
            array = np.reshape(array, shape)
        case Cast(DType() as dtype):
            array = _cast(array, dtype)
        case Squeeze(axes):
            array = np.squeeze(array, axes)
        case ExpandDims(axis):
            array = np.expand_dims(array, axis)
        case Fill("template") | Concat() | Stack() | Average() | FoldKernel() | FoldBias() | Custom():
            pass
        case Fill(value):
            array = np.full_like(array, value)
        case Part(axis, index, int(count)):
            array = np.split(array, count, axis)[index]
        case Part(axis, index, tuple(sizes)):
            array = np.split(array, np.cumsum(sizes)[:-1], axis)[index]
        case Slice(axis, start, stop):
            array = np.moveaxis(np.moveaxis(array, axis, 0)[start:stop], 0, axis)
        case Pad(axis, before, after, value):
            front = np.moveaxis(array, axis, 0)
            ends = [np.full((size, *front.shape[1:]), value, array.dtype) for size in (before, after)]
            array = np.moveaxis(np.concatenate([ends[0], front, ends[1]]), 0, axis)
        case Gather(axis, indices):
            array = np.take(array, np.array(indices, np.int64), axis)
        case Gates(axis, source, target, forget_bias):
            blocks = dict(zip(source, np.split(array, len(source), axis), strict=True))
            if forget_bias:
                blocks["f"] = _calculate(blocks["f"], forget_bias, is_product=False)
            array = np.concatenate([blocks[letter] for letter in target], axis)
        case Tile(axis, times):
            array = np.concatenate([array] * times, axis)
        case Repeat(axis, times):
            array = np.repeat(array, times, axis)
        case Scale(number) | Add(number):
            array = _calculate(array, number, is_product=isinstance(op, Scale))
    return array


def _rows(op: Resize | Vocab, array: Array, template: Array | None) -> Array:
    """The rows of an axis in another order, some of them filled."""
    front = np.moveaxis(array, op.axis, 0)
    match op:
        case Resize():
            origins = [row if row < len(front) else -1 for row in range(op.size or 0)]
        case Vocab(_, source, target, _, _, offset):
            old = {token: offset + row for row, token in enumerate(_tokens(source.path))}
            origins = [*range(offset), *(old.get(token, -1) for token in _tokens(target.path))]
    rows = np.array(origins, np.int64)
    made = np.empty((len(rows), *front.shape[1:]), array.dtype)
    made[rows >= 0] = front[rows[rows >= 0]]
    if (rows < 0).any():
        made[rows < 0] = _filling(op.fill, array, op.axis, len(rows), template)[rows < 0]
    return np.moveaxis(made, 0, op.axis)


def _tokens(path: str) -> list[str]:
    text = Path(path).read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n")


def _filling(fill: Filling, array: Array, axis: int, size: int, template: Array | None) -> Array:
    """What an axis of so many is filled with, everywhere along it; the axis comes first."""
    front = np.moveaxis(array, axis, 0)
    shape = (size, *front.shape[1:])
    match fill:
        case "template":
            return np.empty(shape, array.dtype) if template is None else np.moveaxis(template, axis, 0)
        case Mean(stddev, seed):
            wide = np.broadcast_to(_mean(front, [1] * len(front)), shape)
            if stddev:
                result = np.moveaxis(wide, 0, axis).shape
                indices = np.moveaxis(np.arange(math.prod(result)).reshape(result), axis, 0)
                wide = wide + stddev * standard_normal(seed, indices)
            with np.errstate(all="ignore"):
                return wide.astype(array.dtype)
        case number:
            return np.full(shape, number, array.dtype)


def _cast(array: Array, dtype: DType) -> Array:
    name = dtype.numpy_name or "O"
    if np.iscomplexobj(array) and not name.startswith("complex"):
        array = array.real
    if array.dtype.name in ("int4", "uint4", "int2", "uint2"):  # ml_dtypes has no casts among these
        array = array.astype(np.int8)
    with np.errstate(all="ignore"):
        return array.astype(np.dtype(getattr(ml_dtypes, name, None) or name))


def _calculate(array: Array, number: float, *, is_product: bool) -> Array:
    """A product or a sum: Python's own for integers, in float32 for narrow floats, by parts for complex numbers."""
    with np.errstate(all="ignore"):
        if np.iscomplexobj(array):
            result = array.copy()
            result.real = _calculate(array.real, number, is_product=is_product)
            if is_product:
                result.imag = _calculate(array.imag, number, is_product=True)
            return result
        if "int" in array.dtype.name:
            narrow = array.astype(np.int8) if array.dtype.kind == "V" else array
            exact = narrow.astype(object)
            exact = exact * int(number) if is_product else exact + int(number)
            return np.asarray(exact).astype(narrow.dtype).astype(array.dtype)
        wide = np.float64 if array.dtype == np.float64 else np.float32
        exact = array.astype(wide)
        return np.asarray(exact * wide(number) if is_product else exact + wide(number)).astype(array.dtype)


def _average(arrays: Sequence[Array], weights: Sequence[float]) -> Array:
    """The weighted mean, rounded once."""
    if np.iscomplexobj(arrays[0]):
        result = arrays[0].copy()
        result.real = _average([array.real for array in arrays], weights)
        result.imag = _average([array.imag for array in arrays], weights)
        return result
    with np.errstate(all="ignore"):
        return _mean(arrays, weights).astype(arrays[0].dtype)


def _folded(op: FoldKernel | FoldBias, arrays: Sequence[Array]) -> Array:
    """Batch normalization in float64, rounded once."""
    wide = [array.astype(np.float64) for array in arrays]
    variance = wide.pop()
    with np.errstate(all="ignore"):
        match op:
            case FoldKernel():
                kernel, gamma = wide[0], wide[1] if op.gamma else 1
                start, stop = op.axes(TensorSpec(DType.FLOAT64, kernel.shape))
                scale = np.broadcast_to(gamma / np.sqrt(variance + op.epsilon), variance.shape)
                rest = (1,) * (kernel.ndim - stop)
                return np.asarray(kernel * scale.reshape(*kernel.shape[start:stop], *rest)).astype(arrays[0].dtype)
            case FoldBias():
                mean = wide.pop()
                bias = wide.pop(0) if op.bias else 0
                gamma = wide.pop(0) if op.gamma else 1
                beta = wide.pop(0) if op.beta else 0
                result = (bias - mean) * (gamma / np.sqrt(variance + op.epsilon)) + beta
                return np.asarray(result).astype(arrays[0].dtype)


def _mean(arrays: Sequence[Array] | Array, weights: Sequence[float]) -> Array:
    """The mean in float64, added up in order. All weights over a power of two, so that they add up to less than 1."""
    _, exponent = math.frexp(math.fsum(weights))
    small = [math.ldexp(weight, -exponent) for weight in weights]
    with np.errstate(all="ignore"):
        total = np.zeros(arrays[0].shape)
        for array, weight in zip(arrays, small, strict=True):
            total = total + array.astype(np.float64) * weight
        return np.asarray(total / math.fsum(small))
