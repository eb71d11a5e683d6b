"""Which numbers each dtype holds, and which casts keep them all. Nothing here needs values."""

from __future__ import annotations

import math

from ckptmigrate.spec import DType

FLOATS = {
    DType.FLOAT64: (53, (2 - 2**-52) * 2.0**1023, -1074),
    DType.FLOAT32: (24, (2 - 2**-23) * 2.0**127, -149),
    DType.FLOAT16: (11, 65504.0, -24),
    DType.BFLOAT16: (8, (2 - 2**-7) * 2.0**127, -133),
    DType.FLOAT8_E5M2: (3, 57344.0, -16),
    DType.FLOAT8_E5M2FNUZ: (3, 57344.0, -17),
    DType.FLOAT8_E4M3FN: (4, 448.0, -9),
    DType.FLOAT8_E4M3FNUZ: (4, 240.0, -10),
    DType.FLOAT8_E4M3B11FNUZ: (4, 30.0, -13),
    DType.FLOAT4_E2M1FN: (2, 6.0, -1),
}
"""Of each float type: bits of the significand with the hidden one; the largest value; the exponent of two of
the least positive value."""

PARTS = {DType.COMPLEX64: DType.FLOAT32, DType.COMPLEX128: DType.FLOAT64}
"""Of each complex type: the type of its two parts."""


def int_range(dtype: DType) -> tuple[int, int] | None:
    """The least and the greatest value of an integer type; None for any other type."""
    kind = dtype.name.rstrip("0123456789")
    if kind not in ("INT", "UINT"):
        return None
    bits = int(dtype.name.removeprefix(kind))
    return (0, 2**bits - 1) if kind == "UINT" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def is_number(dtype: DType) -> bool:
    """Whether its elements are numbers: bool, integers, floats, and complex ones."""
    return dtype is DType.BOOL or dtype in FLOATS or dtype in PARTS or int_range(dtype) is not None


def is_lossless(source: DType, target: DType) -> bool:
    """Whether a cast keeps every value of `source`, so that a cast back gives it again.

    The payload of a NaN is not part of its value. False where there is no conversion.
    """
    if not (is_number(source) and is_number(target)):
        return False
    if source in (target, DType.BOOL):
        return True
    if target in PARTS:
        return is_lossless(PARTS.get(source, source), PARTS[target])
    whole, room = int_range(source), int_range(target)
    if whole and room:
        return room[0] <= whole[0] and whole[1] <= room[1]
    if whole and target in FLOATS:
        bits = whole[1].bit_length()
        return bits <= FLOATS[target][0] and 2**bits <= FLOATS[target][1]
    if source in FLOATS and target in FLOATS and "FNUZ" not in target.name:  # those have no negative zero
        (bits, top, bottom), (room_bits, room_top, room_bottom) = FLOATS[source], FLOATS[target]
        return bits <= room_bits and top <= room_top and bottom >= room_bottom
    return False


def holds(dtype: DType, value: float) -> bool:
    """Whether a number can be an element, if need be rounded to the nearest float."""
    if isinstance(value, str) or not is_finite(value):
        return False
    if dtype is DType.BOOL:
        return value in (0, 1)
    room = int_range(dtype)
    if room:
        return value == int(value) and room[0] <= value <= room[1]
    dtype = PARTS.get(dtype, dtype)
    return dtype in FLOATS and abs(value) <= FLOATS[dtype][1]


def arithmetic_dtype(dtype: DType) -> DType:
    """The dtype that sums and products with a constant are computed in: of a complex one, of its parts."""
    dtype = PARTS.get(dtype, dtype)
    return DType.FLOAT32 if dtype in FLOATS and dtype is not DType.FLOAT64 else dtype


def has_short_exponent(dtype: DType) -> bool:
    """Whether its least values are so large that ordinary ones come near them: float16 and narrower floats."""
    return dtype in FLOATS and FLOATS[dtype][2] > FLOATS[DType.BFLOAT16][2]


def is_power_of_two(value: float) -> bool:
    """Whether multiplying by a number, or dividing by it, changes nothing but the exponent (and the sign)."""
    if isinstance(value, int):
        return abs(value).bit_count() == 1
    return math.frexp(abs(value))[0] == 0.5


def is_finite(value: float) -> bool:
    """As math.isfinite, which raises for an int beyond float64."""
    return isinstance(value, int) or math.isfinite(value)
