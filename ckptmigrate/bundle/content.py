"""What checksums say of values that are not read: whether two tensors have the same, and whether they are all one.

The CRC32C of bytes is a linear function of their bits, but for a constant. So that of two pieces is known from
theirs, and where one element is repeated, the element can be had back from the checksum: nothing has to be read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from ckptmigrate.bundle.algebra import Matrix, behind, image, join_crcs
from ckptmigrate.bundle.checksum import extend_crc, unmask_crc
from ckptmigrate.bundle.reader import Bundle
from ckptmigrate.bundle.slices import slice_box
from ckptmigrate.spec import DType, Key, TensorSpec

_WHOLE = 1 << 16
"""Whole numbers up to this size are plain: what people fill a variable with to know it again."""

_PRIORS = tuple(-math.log(1 / prior - 1) for prior in (0.01, 0.05, 0.1))
"""Biases of a detector's classes: the logit of how often one is seen.

Source: Lin et al., "Focal loss for dense object detection", section 4.1.
"""

_WORD = DType.FLOAT32, DType.INT32, DType.UINT32, DType.QINT32
_DOUBLE = DType.FLOAT64, DType.INT64, DType.UINT64


def content_crcs(bundle: Bundle) -> dict[Key, int]:
    """The CRC32C of each tensor's values, not masked: equal values have equal ones, however they are stored.

    Strings and variants are not in it, because their checksums are over more than their bytes; and of partitioned
    tensors only those that are cut along their first axis, so that their slices stand one behind the other.
    """
    found: dict[Key, int] = {}
    for key, entry in bundle.entries.items():
        if entry.spec.size_bytes is None:
            continue
        if not entry.slices:
            found[key] = unmask_crc(entry.crc32c)
            continue
        boxes = sorted((slice_box(piece, entry.spec.shape), piece) for piece in entry.slices)
        ends = [box[0] for box, _ in boxes if box[1:] == tuple((0, size) for size in entry.spec.shape[1:])]
        is_row = len(ends) == len(boxes) and all(one[1] == other[0] for one, other in pairwise(ends))
        if is_row and (ends[0][0], ends[-1][1]) == (0, entry.spec.shape[0]):
            pieces = [bundle.slice_entries[key, piece] for _, piece in boxes]
            found[key] = 0
            for piece in pieces:
                found[key] = join_crcs(found[key], unmask_crc(piece.crc32c), piece.size_bytes)
    return found


def is_plain(spec: TensorSpec, crc: int) -> bool:
    """Whether a tensor may hold what an initializer gives without chance: one plain number, or an LSTM's bias.

    A number is plain if it is whole and small, or has no more than three digits (of float64, one digit); of types of
    two bytes or less each number is. One in ten thousand tensors of other values is taken for plain.

    Args:
        spec: The tensor's dtype and shape; a dtype of fixed size.
        crc: The CRC32C of its values, not masked.
    """
    count = spec.num_elements
    itemsize = spec.dtype.itemsize_bytes or 0
    if not count:
        return True
    if spec.dtype in _DOUBLE:
        words = _repeated(8, count, _half(spec.dtype), crc)
        plain = any(_is_plain_number(_double(spec.dtype, word), spec.dtype) for word in words)
        plain = plain or crc in _plain_doubles(spec.dtype, count)
    elif spec.dtype in _WORD:
        words = _repeated(4, count, (0, 32), crc)
        plain = any(_is_plain_number(_single(spec.dtype, word), spec.dtype) for word in words)
    elif itemsize <= 2:
        plain = any(True for _ in _repeated(itemsize, count, (0, 8 * itemsize), crc))
    else:
        plain = False
    return plain or crc in _lstm_biases(spec)


# Numbers.


def _is_plain_number(value: float, dtype: DType) -> bool:
    if not math.isfinite(value):
        return math.isinf(value)
    if value == int(value) and abs(value) <= _WHOLE:
        return True
    if not 1e-12 < abs(value) < 1e12:
        return False
    short = float(f"{value:.3g}")
    if dtype is not DType.FLOAT32:
        return value == short or value in _PRIORS
    return value in (_rounded(short), *_ROUNDED_PRIORS)


def _rounded(value: float) -> float:
    """A number as float32 has it."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


_ROUNDED_PRIORS = tuple(map(_rounded, _PRIORS))


def _single(dtype: DType, word: int) -> float:
    code = "<f" if dtype is DType.FLOAT32 else "<I" if dtype is DType.UINT32 else "<i"
    return float(struct.unpack(code, word.to_bytes(4, "little"))[0])


def _half(dtype: DType) -> tuple[int, int]:
    """The bits of eight bytes that are not zero in a plain number, first and end."""
    return (32, 64) if dtype is DType.FLOAT64 else (0, 32)


def _double(dtype: DType, word: int) -> float:
    return float(struct.unpack("<d", (word << 32).to_bytes(8, "little"))[0]) if dtype is DType.FLOAT64 else float(word)


@lru_cache(maxsize=4096)
def _plain_doubles(dtype: DType, count: int) -> frozenset[int]:
    """The checksums of plain numbers whose bits are in both halves of their eight bytes."""
    if dtype is not DType.FLOAT64:
        return frozenset(_crc_of(number.to_bytes(8, "little", signed=True), count) for number in range(-128, 0))
    decimals = (digit * 10.0**power for digit in (1, 2, 3, 5, 25) for power in range(-9, 0))
    values = (sign * value for value in (*decimals, *_PRIORS) for sign in (1, -1))
    return frozenset(_crc_of(struct.pack("<d", value), count) for value in values)


@lru_cache(maxsize=4096)
def _lstm_biases(spec: TensorSpec) -> frozenset[int]:
    """The checksums of an LSTM's biases with a forget gate of ones: Keras' and, twice as long, cuDNN's.

    Source: ``unit_forget_bias`` in keras/src/layers/rnn/lstm.py and tf_keras/layers/rnn/cudnn_lstm.py.
    """
    one = {DType.FLOAT32: 1.0, DType.FLOAT64: 1.0}.get(spec.dtype)
    if one is None or len(spec.shape) != 1:
        return frozenset()
    element = struct.pack("<f" if spec.dtype is DType.FLOAT32 else "<d", one)
    zero = bytes(len(element))
    found = set()
    for gates, forget in ((4, 1), (8, 5), (8, 1)):
        if spec.shape[0] % gates == 0:
            units = spec.shape[0] // gates
            crc = 0
            for part, size in ((zero, forget * units), (element, units), (zero, (gates - forget - 1) * units)):
                crc = join_crcs(crc, _crc_of(part, size), len(part) * size)
            found.add(crc)
    return frozenset(found)


# Elements that are repeated.


@lru_cache(maxsize=256)
def _repeated_power(itemsize: int, power: int) -> Matrix:
    """What each bit of an element adds to the checksum of two to the power of a number of them."""
    if not power:
        zero = extend_crc(0, bytes(itemsize))
        return tuple(extend_crc(0, (1 << bit).to_bytes(itemsize, "little")) ^ zero for bit in range(8 * itemsize))
    half = _repeated_power(itemsize, power - 1)
    shift = behind((1 << power - 1) * itemsize)
    return tuple(image(shift, bits) ^ bits for bits in half)


@lru_cache(maxsize=4096)
def _repetition(itemsize: int, count: int) -> tuple[Matrix, int]:
    """What each bit of an element adds to the checksum of so many of them, and the checksum of as many zeros."""
    matrix: Matrix = (0,) * (8 * itemsize)
    for power in range(count.bit_length()):
        if count >> power & 1:
            shift = behind((1 << power) * itemsize)
            more = _repeated_power(itemsize, power)
            matrix = tuple(image(shift, bits) ^ other for bits, other in zip(matrix, more, strict=True))
    # That of nothing, with so many zero bytes behind it; a checksum starts with all bits set, and ends inverted.
    return matrix, image(behind(count * itemsize), 0xFFFFFFFF) ^ 0xFFFFFFFF


def _crc_of(element: bytes, count: int) -> int:
    """The checksum of an element, repeated."""
    matrix, zeros = _repetition(len(element), count)
    return image(matrix, int.from_bytes(element, "little")) ^ zeros


@lru_cache(maxsize=4096)
def _solved(itemsize: int, count: int, bits: tuple[int, int]) -> tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]:
    """How elements that are repeated are had back from their checksums.

    Returns:
        Four tables, one for each byte of a checksum, from the lowest up. What they have for its bytes, added up, is an
        element in the bits above 32, and below them what is left of the checksum; and the elements that add nothing.
    """
    matrix, _ = _repetition(itemsize, count)
    basis: dict[int, int] = {}
    kernel: list[int] = []
    for bit, added in enumerate(matrix[slice(*bits)]):
        vector = 1 << bit + 32 | added
        for pivot, other in basis.items():
            if vector >> pivot & 1:
                vector ^= other
        left = vector & 0xFFFFFFFF
        if not left:
            kernel.append(vector >> 32)
            continue
        pivot = left.bit_length() - 1
        basis = {at: other ^ vector if other >> pivot & 1 else other for at, other in basis.items()}
        basis[pivot] = vector
    # A bit that no element has alone stays; one that has one takes the element, and all that it adds.
    units = [1 << bit ^ basis.get(bit, 0) for bit in range(32)]
    tables = []
    for start in range(0, 32, 8):
        table = [0]
        for unit in units[start : start + 8]:
            table += [value ^ unit for value in table]
        tables.append(tuple(table))
    return tuple(tables), tuple(kernel)


def _repeated(itemsize: int, count: int, bits: tuple[int, int], crc: int) -> Iterator[int]:
    """The elements that have a checksum if they are repeated: those with no other bits than these, from the first on.

    There are few: none for most checksums of short elements, one or two for those of four bytes.
    """
    _, zeros = _repetition(itemsize, count)
    (one, two, three, four), kernel = _solved(itemsize, count, bits)
    crc ^= zeros
    found = one[crc & 255] ^ two[crc >> 8 & 255] ^ three[crc >> 16 & 255] ^ four[crc >> 24]
    if found & 0xFFFFFFFF:
        return
    elements = [found >> 32]
    for more in kernel[:4]:
        elements += [element ^ more for element in elements]
    yield from elements
