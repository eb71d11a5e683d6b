"""Noise that depends on nothing but its seed and its index."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ckptmigrate.noise import standard_normal

WORD = 2**64


def splitmix64(seed, count):
    """The generator as its authors wrote it, in Python's own integers."""
    outputs, state = [], seed
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % WORD
        mixed = state
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % WORD
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % WORD
        outputs.append(mixed ^ (mixed >> 31))
    return outputs


def test_the_generator_is_the_published_one():
    assert splitmix64(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@given(st.integers(0, WORD - 1))
def test_each_number_is_made_of_two_outputs_by_box_and_muller(seed):
    outputs = splitmix64(seed, 40)
    expected = [
        math.sqrt(-2 * math.log(((first >> 11) + 1) / 2**53)) * math.cos(2 * math.pi * (second >> 11) / 2**53)
        for first, second in zip(outputs[::2], outputs[1::2], strict=True)
    ]
    assert np.allclose(standard_normal(seed, np.arange(20)), expected, rtol=1e-12, atol=1e-14)


@given(st.integers(0, WORD - 1), st.lists(st.integers(0, 2**40), min_size=1))
def test_a_number_does_not_depend_on_what_else_is_asked_for(seed, indices):
    together = standard_normal(seed, np.array(indices))
    assert together.tolist() == [float(standard_normal(seed, np.array([index]))[0]) for index in indices]


def test_the_numbers_are_distributed_normally():
    numbers = np.sort(standard_normal(3, np.arange(200_000)))
    assert abs(numbers.mean()) < 0.01
    assert abs(numbers.std() - 1) < 0.01
    expected = [(1 + math.erf(x / math.sqrt(2))) / 2 for x in numbers[::1000]]
    assert np.abs(np.arange(200) / 200 - expected).max() < 0.006


def test_the_bits_are_these_on_every_machine():
    numbers = standard_normal(42, np.array([0, 1, 10**12]))
    assert [number.hex() for number in numbers.tolist()] == [
        "0x1.a8ac4b546f505p-2",
        "-0x1.c8a54f4e91a7ep-1",
        "-0x1.a6acaee9c8420p-1",
    ]
