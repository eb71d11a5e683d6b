import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptmigrate.bundle.checksum import extend_crc
from ckptmigrate.bundle.slices import decode_slice_key, encode_slice_key, format_slice, slice_box
from ckptmigrate.bundle.strings import (
    _fixed_lengths,
    decode_strings,
    encode_strings,
    encode_variants,
    string_crc,
    variant_crc,
)
from ckptmigrate.errors import CkptMigrateError, CorruptBundleError

strings = st.lists(st.binary(max_size=300), max_size=20)
numbers = st.integers(-(2**63), 2**63 - 1)
slices = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6).map(tuple)


@given(strings)
def test_strings_read_back_with_their_checksum(values):
    data, crc = encode_strings(values)
    assert decode_strings(memoryview(data), len(values), "t") == values
    assert string_crc(memoryview(data), len(values), "t") == crc


def test_a_string_tensor_has_the_bytes_that_tensorflow_writes():
    # From TensorFlow's testdata/old_string_tensors: the scalar "hello".
    data, _ = encode_strings([b"hello"])
    assert data == b"\x05\xd9\xc6\x9cChello"


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_variants_have_the_checksum_that_they_were_written_with(values):
    data, crc = encode_variants(values)
    assert variant_crc(memoryview(data), len(values), "t") == crc


def test_lengths_of_more_than_32_bits_are_checksummed_with_64():
    assert _fixed_lengths([1, 2**32 - 1]) == b"\x01\0\0\0\xff\xff\xff\xff"
    assert _fixed_lengths([1, 2**32]) == b"\x01\0\0\0" + b"\0\0\0\0\x01\0\0\0"


@given(strings, st.data())
def test_one_flipped_bit_in_strings_is_found(values, data):
    encoded, crc = encode_strings(values)
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    damaged = bytearray(encoded)
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        found = string_crc(memoryview(damaged), len(values), "t")
    except CorruptBundleError:
        return
    assert found != crc


@given(st.binary(max_size=60), st.integers(0, 30))
def test_random_strings_raise_only_our_errors(data, count):
    for read in (decode_strings, string_crc, variant_crc):
        try:
            read(memoryview(data), count, "t")
        except CkptMigrateError as error:
            assert error.where.startswith("t")  # noqa: PT017


@given(st.binary(max_size=20), slices)
def test_a_slice_key_reads_back(name, spec):
    assert decode_slice_key(encode_slice_key(name, spec)) == (name, spec)


@given(slices, slices)
def test_slice_keys_sort_as_slices_do(left, right):
    if len(left) == len(right):
        assert (encode_slice_key(b"w", left) < encode_slice_key(b"w", right)) == (left < right)


@given(st.binary(max_size=40))
def test_random_slice_keys_are_refused_or_are_what_we_write(tail):
    try:
        name, spec = decode_slice_key(b"\0" + tail)
    except ValueError:
        return
    assert encode_slice_key(name, spec) == b"\0" + tail


def test_a_slice_is_a_box_of_its_tensor():
    assert slice_box(((2, 3), (0, -1)), (8, 4)) == ((2, 5), (0, 4))
    assert format_slice(((2, 3), (0, -1))) == "2,3:-"
    for spec in (((2, 7), (0, -1)), ((-1, 2), (0, -1)), ((0, -1),), ((0, -2), (0, -1))):
        with pytest.raises(ValueError, match="a slice"):
            slice_box(spec, (8, 4))


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_crc_extends_over_any_split(data, step):
    crc = 0
    for start in range(0, len(data), step):
        crc = extend_crc(crc, data[start : start + step])
    assert crc == extend_crc(0, data)
