"""What elements become one by one: casts, scales and sums, and which values they would destroy."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

from ckptmigrate.dtypes import (
    FLOATS,
    PARTS,
    arithmetic_dtype,
    int_range,
    is_lossless,
)
from ckptmigrate.ops import Add, Cast, Elementwise, Scale
from ckptmigrate.spec import DType

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]


def calculate(op: Elementwise, values: Array, dtype: DType) -> tuple[Array, Array | None]:
    """Values after an operation on each, and where one was destroyed (None: nowhere)."""
    match op:
        case Cast():
            return _converted(values, dtype, result_dtype(op, dtype))
        case Scale(number) | Add(number):
            calculate = _calculated_whole if int_range(dtype) else _calculated
            return calculate(values, dtype, number, is_product=isinstance(op, Scale))


_NOT_FINITE = {DType.BFLOAT16: (0x7F80, 0xFF80), DType.FLOAT16: (0x7C00, 0xFC00)}
"""From which number on the bits of a float are infinity or NaN: of positive ones, and of negative ones."""


def all_finite(values: Array, dtype: DType) -> bool:
    """Whether no float, or complex number, is NaN or infinite."""
    import numpy as np

    bits = _NOT_FINITE.get(dtype)
    if bits is None:
        return bool(np.isfinite(values).all())
    positive, negative = bits
    # As a number with a sign, what is negative is less than what is positive.
    return bool(values.view("i2").max(initial=0) < positive and values.view("u2").max(initial=0) < negative)


def result_dtype(op: Elementwise, dtype: DType) -> DType:
    """The dtype of what an operation makes of elements of `dtype`."""
    return op.dtype or dtype if isinstance(op, Cast) else dtype


def _calculated(values: Array, dtype: DType, number: float, *, is_product: bool) -> tuple[Array, Array | None]:
    import numpy as np

    constant = element_dtype(arithmetic_dtype(dtype)).type(number)
    with np.errstate(all="ignore"):
        wide = values if dtype in PARTS else _widened(values, dtype)
        if dtype in PARTS:  # part by part: as a complex number, the constant would make NaN of infinity
            result = np.empty(values.shape, values.dtype)
            result.real = values.real * constant if is_product else values.real + constant
            result.imag = values.imag * constant if is_product else values.imag
        else:
            result = np.asarray(wide * constant if is_product else wide + constant)
        finite = np.isfinite(result)
        out, lost = (result, None) if result.dtype == values.dtype else _converted(result, DType.FLOAT32, dtype)
        if not finite.all():
            overflown = ~finite & np.isfinite(wide)
            lost = overflown if lost is None else lost | overflown
    return out, lost if lost is not None and lost.any() else None


def _calculated_whole(values: Array, dtype: DType, number: float, *, is_product: bool) -> tuple[Array, Array | None]:
    import numpy as np

    least, most = int_range(dtype) or (0, 0)
    constant = int(number)
    if is_product and constant:
        bounds = sorted((Fraction(least, constant), Fraction(most, constant)))
        low, high = math.ceil(bounds[0]), math.floor(bounds[1])
    else:
        low, high = (least, most) if is_product else (least - constant, most - constant)
    wide = _widened(values, dtype)
    lost = np.zeros(wide.shape, bool)
    if low > least:
        lost |= wide < low
    if high < most:
        lost |= wide > high
    if lost.any():
        return values, lost
    # Whole numbers are added and multiplied modulo 2**64 alike, with and without a sign.
    modular = np.uint64(constant % 2**64)
    result = wide.astype(np.uint64)
    result = result * modular if is_product else result + modular
    return result.astype(wide.dtype).astype(values.dtype, copy=False), None


def element_dtype(dtype: DType) -> np.dtype[Any]:
    import ml_dtypes
    import numpy as np

    name = dtype.numpy_name
    if name is None:
        return np.dtype(object)  # strings: one Python object an element
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def _widened(values: Array, dtype: DType) -> Array:
    """Values in a type that compares exactly with any Python number; the narrow ones do not."""
    if dtype in FLOATS and dtype is not DType.FLOAT64:
        return values.astype("float32", copy=False)
    return values.astype("int8") if int_range(dtype) and values.dtype.kind == "V" else values


def _converted(values: Array, source: DType, target: DType) -> tuple[Array, Array | None]:
    """Values cast to `target`, and where a value was destroyed (None: nowhere)."""
    import numpy as np

    with np.errstate(all="ignore"):
        real = values.real if source in PARTS and target not in PARTS else values
        if int_range(source):
            real = _widened(real, source)  # ml_dtypes has no casts between its own integer types
        out = real.astype(element_dtype(target))
        if is_lossless(source, target) or (source in FLOATS and target in _NOT_FINITE and all_finite(out, target)):
            return out, None
        lost = _lost(values, out, source, target)
    return out, lost if lost.any() else None


def _lost(values: Array, out: Array, source: DType, target: DType) -> Array:
    import numpy as np

    lost: Array
    if target in PARTS:
        lost = _lost(values.real, out.real, PARTS.get(source, source), PARTS[target])
        return lost | _lost(values.imag, out.imag, PARTS[source], PARTS[target]) if source in PARTS else lost
    if source in PARTS:
        lost = _lost(values.real, out, PARTS[source], target)
        lost |= values.imag != 0
        return lost
    room = (0, 1) if target is DType.BOOL else int_range(target)
    wide = _widened(values, source)
    if room is not None:
        if source not in FLOATS:
            lost = (wide < room[0]) | (wide > room[1])
            return lost
        # room[1] + 1 is a power of two, which a float holds; room[1] itself may be rounded up to it.
        lost = ~((wide >= room[0]) & (wide < room[1] + 1) & (wide == np.trunc(wide)))
        return lost
    if target is DType.FLOAT4_E2M1FN:  # has neither infinity nor NaN: what is too large becomes the largest
        lost = ~(np.abs(wide.astype("float64")) <= FLOATS[target][1])
        return lost
    lost = ~np.isfinite(out)
    if lost.any():  # a value that was not finite is kept if it is still the same one
        lost &= np.isfinite(wide) | (np.isnan(wide) != np.isnan(out))
    return lost
