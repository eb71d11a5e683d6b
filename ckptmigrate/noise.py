"""Normal noise that is the same on every machine: a number for each seed and index, whatever else is asked for.

A number depends on nothing but the seed and its index, so a tensor filled by blocks is the tensor filled at
once, and a migration can be proven later and elsewhere. Logarithm and cosine are computed here by sums and
products, which IEEE 754 rounds alike everywhere; those of a system's library differ in the last bit.

Source: splitmix64, from Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), with
the constants of Vigna's splitmix64.c; Box and Muller, "A note on the generation of random normal deviates"
(1958).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]

_STEP = 0x9E3779B97F4A7C15
_FIRST_FACTOR = 0xBF58476D1CE4E5B9
_SECOND_FACTOR = 0x94D049BB133111EB
_WORD = 2**64

_LOG_OF_2 = 0.6931471805599453

# So many terms leave less than the last bit: |s| < 0.172 in the logarithm, |x| <= pi in the cosine.
_LOG_TERMS = 12
_COSINE_TERMS = 16

_STRETCH_ELEMENTS = 1 << 14
"""So many numbers are made at a time: what they are made of stays in the processor's cache."""


def standard_normal(seed: int, indices: Array) -> Array:
    """Normal deviates of mean 0 and standard deviation 1.

    Number i is made of the outputs 2i and 2i + 1 of splitmix64, by the method of Box and Muller.

    Args:
        seed: From 0 to 2**64 - 1.
        indices: Which numbers, from 0; int64, of any shape.

    Returns:
        float64, of the shape of `indices`.
    """
    import numpy as np

    flat = indices.reshape(-1)
    found = np.empty(flat.shape)
    for start in range(0, flat.size, _STRETCH_ELEMENTS):
        stretch = flat[start : start + _STRETCH_ELEMENTS].astype(np.uint64) * np.uint64(2)
        first, second = (_splitmix64(seed, stretch + np.uint64(which)) for which in (0, 1))
        # The upper 53 bits: more than 0 for the logarithm, less than 1 for the angle.
        radius = np.sqrt(-2.0 * _log(((first >> np.uint64(11)) + np.uint64(1)) * 2.0**-53))
        found[start : start + _STRETCH_ELEMENTS] = radius * _cosine_of_turns((second >> np.uint64(11)) * 2.0**-53)
    return found.reshape(indices.shape)


def _splitmix64(seed: int, indices: Array) -> Array:
    """The outputs at some places of the generator's sequence, as uint64."""
    import numpy as np

    state = indices * np.uint64(_STEP) + np.uint64((seed + _STEP) % _WORD)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_FIRST_FACTOR)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_SECOND_FACTOR)
    return np.asarray(state ^ (state >> np.uint64(31)))


def _log(values: Array) -> Array:
    """The natural logarithm of what is in (0, 1], by the series of the inverse hyperbolic tangent."""
    import numpy as np

    mantissa, exponent = np.frexp(values)
    small = mantissa < math.sqrt(0.5)
    mantissa, exponent = np.where(small, mantissa * 2, mantissa), exponent - small
    ratio = (mantissa - 1) / (mantissa + 1)
    square = ratio * ratio
    total = np.zeros(values.shape)
    for term in reversed(range(_LOG_TERMS)):
        total = total * square + 1 / (2 * term + 1)
    return np.asarray(exponent * _LOG_OF_2 + 2 * ratio * total)


def _cosine_of_turns(turns: Array) -> Array:
    """The cosine of what is in [0, 1) turns, by its series around the half turn."""
    import numpy as np

    angle = (turns - 0.5) * (2 * math.pi)
    square = angle * angle
    total = np.zeros(turns.shape)
    for term in reversed(range(_COSINE_TERMS)):
        total = (-1) ** term / math.factorial(2 * term) + total * square
    return np.asarray(-total)
