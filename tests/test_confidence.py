"""The confidence of proposals: one for each caveat, and not above what is right on synthetic cases."""

import math
from collections import defaultdict
from functools import cache
from typing import get_args

from benchmarks.calibrate import VARIANTS, tallied, tally, varied
from benchmarks.matching import upper_bound
from refactorings import case

from ckptmigrate import match_graphs
from ckptmigrate.matching.confidence import CONFIDENCE, UNMEASURED, Caveat, confidence_of, weakest

SEEDS = range(240)


@cache
def counted():
    """The tallies of some cases, by caveat; each second case in another form as well."""
    found = defaultdict(list)
    for seed in SEEDS:
        tallies = tally(case(seed))
        if seed % 2:
            name = list(VARIANTS)[seed // 2 % len(VARIANTS)]
            other = varied(case(seed), name)
            tallies += [] if other is None else [each for each in tally(other) if each.caveat in VARIANTS[name]]
        for each in tallies:
            found[each.caveat].append(each)
    return found


def test_every_caveat_has_a_confidence_and_none_is_certain():
    assert {*CONFIDENCE} == {*get_args(Caveat)}
    assert all(0 < value < 1 for value in CONFIDENCE.values())
    assert confidence_of(None) == 1
    assert weakest("transposed", None, "list-order", "square") == "list-order"


def test_what_is_proposed_has_a_caveat_and_what_is_decided_has_none():
    for seed in SEEDS[:60]:
        one = case(seed)
        for step in match_graphs(one.source, one.target).steps:
            assert (step.caveat is not None) == (step.status == "proposed"), (seed, step)
            assert step.confidence == confidence_of(step.caveat)


def test_cases_measure_the_caveats_that_the_table_says_are_measured():
    rare = {"list-order", "names-unclear", "namesake", "square-turned"}
    measured = {*counted()} - {None}
    assert measured <= {*CONFIDENCE} - UNMEASURED
    assert {*CONFIDENCE} - UNMEASURED - rare <= measured


def test_no_confidence_is_above_what_is_right():
    for caveat, tallies in counted().items():
        share = sum(each.right for each in tallies) / sum(each.total for each in tallies)
        # Templates of a case are wrong together, so each case counts once.
        right = upper_bound(math.floor(share * len(tallies)), len(tallies), level=0.999)
        assert caveat is None or confidence_of(caveat) <= right, caveat


def test_a_seed_is_counted_the_same_again():
    assert tallied(1_000_008) == tallied(1_000_008)
