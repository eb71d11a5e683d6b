"""That matching takes time in proportion to what there is, whatever a checkpoint looks like; no absolute times."""

import gc
import time

import pytest
from large import SHAPES, ends, read

from ckptmigrate import Endpoint, make_plan, match_graphs


@pytest.fixture(autouse=True)
def _no_garbage():
    """To look for garbage takes time that depends on all else in this process; the command line hardly does."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def seconds(stored):
    """The processor's time from bytes to bytes: the less of two, which others on the machine disturb less."""

    def once():
        started = time.process_time()
        matching = match_graphs(*(read(*end) for end in stored))
        make_plan(Endpoint("source", "sha256:s"), Endpoint("target", "sha256:t"), matching).to_json()
        return time.process_time() - started

    return min(once() for _ in range(2))


# A path is as long as it is deep: what is deep has more in it than its size says.
@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "deep"])
def test_four_times_the_size_takes_no_more_than_seven_times_as_long(shape):
    small, large = (seconds(ends(shape, count)) for count in (1500, 6000))
    assert large < 7 * small


@pytest.mark.parametrize("shape", SHAPES)
def test_each_target_is_in_one_place(shape):
    source, target = (read(*end) for end in ends(shape, 300))
    found = match_graphs(source, target)
    places = [
        *(step.target for step in found.steps),
        *(key for question in found.questions for key in question.targets),
        *(item.key for item in found.unmatched_target),
    ]
    assert sorted(places) == sorted(target.specs)


@pytest.mark.parametrize("shape", ["strangers", "equal-tokens", "repeated"])
def test_what_nobody_can_know_is_not_decided(shape):
    source, target = (read(*end) for end in ends(shape, 2000))
    decided = [step for step in match_graphs(source, target).steps if step.status in ("exact", "certain")]
    assert not decided


def test_objects_within_objects_may_be_as_deep_as_they_like():
    source, target = (read(*end) for end in ends("deep", 900))
    assert max(map(len, target.paths)) > 900
    assert match_graphs(source, target)
