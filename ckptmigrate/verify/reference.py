"""What operations mean, said the plain way: numpy on whole tensors.

This is what `ckptmigrate.ops.compute` is compared with, by the tests and when a migration is verified.
So it shares nothing with it but the operations themselves, and it checks nothing: a shape that does not
fit is numpy's error, and a cast does what numpy does, destroyed values and all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ckptmigrate.ops import Cast, ExpandDims, Fill, Op, Reshape, Squeeze, Transpose
from ckptmigrate.spec import DType


def apply_reference(ops: Sequence[Op], arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The result of a chain of operations.

    Args:
        ops: The chain; each operation takes what the one before it made.
        arrays: What the first operation takes: the source, or for `Fill` the template's tensor.

    Returns:
        An array of the result's shape and dtype, in row-major order. It may share memory with `arrays`.
    """
    (array,) = arrays
    for op in ops:
        match op:
            case Transpose(perm):
                array = np.transpose(array, perm)
            case Reshape(shape):
                array = np.reshape(array, shape)
            case Cast(dtype):
                array = _cast(array, dtype)
            case Squeeze(axis):
                array = np.squeeze(array, axis)
            case ExpandDims(axis):
                array = np.expand_dims(array, axis)
            case Fill("template"):
                pass
            case Fill(value):
                array = np.full_like(array, value)
    return np.ascontiguousarray(array).reshape(array.shape)  # the former makes a vector of a scalar


def _cast(array: npt.NDArray[Any], dtype: DType) -> npt.NDArray[Any]:
    name = dtype.numpy_name or "O"
    if np.iscomplexobj(array) and not name.startswith("complex"):
        array = array.real
    if array.dtype.name in ("int4", "uint4", "int2", "uint2"):  # ml_dtypes has no casts among these
        array = array.astype(np.int8)
    with np.errstate(all="ignore"):
        return array.astype(np.dtype(getattr(ml_dtypes, name, None) or name))
