"""What the confidence of a proposal is: how many of its kind are right, fitted on synthetic cases.

    python tests/benchmarks/calibrate.py                  # fits, and says whether the table of the module agrees
    python tests/benchmarks/calibrate.py --cases 2000

The seeds are others than those of the reports (`matching.py`). Templates are counted and not variables. The table is
that of `ckptmigrate/matching/confidence.py`; where it does not agree with what is measured, the one to paste is
printed, and the exit status is 1.

The cases are those of `tests/refactorings.py`. One in eight has another form: the target is of another precision, or
the source is a checkpoint of names, which are full names, those within a scope, or paths. Of these only the caveats
count that they are made for.

**The fit.** Templates of one case are wrong together, and those of one family are more alike than those of two. So a
confidence is the least of two lower bounds, each of 95%, rounded down:

- that of the mean of the families' shares, each family for one observation (Student's t): what a family that is not
  among these may look like on average;
- that of Clopper and Pearson of the share of all templates, as if each case were one.

**Held out by family**: what is fitted on the other families is applied to each. The expected calibration error is the
mean distance of a confidence from the share that is right, of the templates of one caveat (held out: and family); the
Brier score the mean square of confidence less outcome. Both are of the cautious confidence, so part of the error is
intended: the share is above it.
"""

from __future__ import annotations

# ruff: noqa: T201  # it is a program
import argparse
import math
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from matching import DECIDED, upper_bound  # noqa: E402  # beside this
from refactorings import Case, Origin, case  # noqa: E402  # above this
from scipy.stats import t as student  # noqa: E402
from scoring import judge  # noqa: E402

from ckptmigrate import ObjectGraph, match_graphs  # noqa: E402
from ckptmigrate.graph import VARIABLE_ROLE  # noqa: E402
from ckptmigrate.matching.confidence import CONFIDENCE, UNMEASURED, Caveat  # noqa: E402
from ckptmigrate.spec import DType, Key, TensorSpec  # noqa: E402

FIRST = 1_000_000
"""The first seed of the fit; those of the reports are far below."""

_FEW = 10
"""A family with fewer templates of a caveat is no observation of its own."""

_MOST = 0.99
"""No proposal is surer, however many were right: what is surer is certain."""

_TOLERANCE = 0.02
"""So far off the table may be: every change of matching moves a few templates."""

_EVERY = 8
"""One in so many cases has another form."""

VARIANTS: Mapping[str, frozenset[Caveat]] = {
    "cast": frozenset({"cast"}),
    "names": frozenset({"counted-name", "scoped-name", "name-as-path"}),
    "scoped names": frozenset({"counted-name", "scoped-name", "name-as-path"}),
    "paths": frozenset({"counted-name", "scoped-name", "name-as-path"}),
}
"""Other forms of a case, each with the caveats that are counted of it."""


class Tally(NamedTuple):
    """How many templates of one case are right, of those that have one caveat; None for what is decided."""

    seed: int
    family: str
    caveat: Caveat | None
    right: int
    total: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=FIRST, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.cases)
    tallies: list[Tally] = []
    started = time.perf_counter()
    with multiprocessing.Pool(arguments.processes) as pool:
        for number, some in enumerate(pool.imap(tallied, seeds, chunksize=20), 1):
            tallies.extend(some)
            if number % 1000 == 0:
                print(f"{number} cases, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    fitted = fit(tallies)
    print("\n".join([f"# Confidence on {len(seeds)} synthetic cases, seeds {seeds.start} to {seeds.stop - 1}", ""]))
    print("\n".join([*_caveats(tallies, fitted), *_held_out(tallies, fitted), *_decided(tallies)]))
    if differing := {each: value for each, value in fitted.items() if abs(CONFIDENCE[each] - value) > _TOLERANCE}:
        print(f"The table of the module is off by more than {_TOLERANCE}. What is measured:\n")
        print("\n".join(f'    "{caveat}": {value},' for caveat, value in differing.items()))
        sys.exit(1)
    print(f"The table of the module agrees, to within {_TOLERANCE}.")


# What is counted.


def tallied(seed: int) -> list[Tally]:
    """A case, as it is or, one of so many, in another form."""
    one = case(seed)
    if seed % _EVERY:
        return tally(one)
    name = list(VARIANTS)[seed // _EVERY % len(VARIANTS)]
    other = varied(one, name)
    return [] if other is None else [found for found in tally(other) if found.caveat in VARIANTS[name]]


def tally(one: Case) -> list[Tally]:
    """What is right of a case, by caveat: a template is if all of it is."""
    rights: dict[tuple[Caveat | None, str], bool] = {}
    for finding in judge(one, match_graphs(one.source, one.target)):
        if finding.status in (*DECIDED, "proposed"):
            name = finding.caveat, finding.template
            # What was decided though nobody can know is wrong; what is but proposed may have luck.
            is_right = bool(finding.is_right) and not finding.is_failure
            rights[name] = rights.get(name, True) and is_right
    found: dict[Caveat | None, list[bool]] = defaultdict(list)
    for (caveat, _), is_right in rights.items():
        found[caveat].append(is_right)
    return [Tally(one.seed, one.family, caveat, sum(some), len(some)) for caveat, some in found.items()]


def varied(one: Case, name: str) -> Case | None:
    """A case in another form; None if it has none."""
    if name == "cast":
        half = DType.BFLOAT16
        specs = {
            key: TensorSpec(half, spec.shape) if spec.dtype == DType.FLOAT32 else spec
            for key, spec in one.target.specs.items()
        }
        return replace(one, target=replace(one.target, specs=specs))
    return _named(one, name)


def _named(one: Case, name: str) -> Case | None:
    """The variables of the source as a checkpoint of names; what belongs to an optimizer stays behind."""
    graph = one.source
    if graph.kind != "object" or one.target.kind != "object":
        return None
    apart = graph.slot_nodes | graph.scalars
    key_of: dict[Key, Key] = {}
    for number, node in enumerate(graph.nodes):
        full_name = "/".join(graph.paths[number]) if name == "paths" else node.full_name
        if VARIABLE_ROLE in node.tensors and number not in apart and full_name:
            key_of[node.tensors[VARIABLE_ROLE]] = Key(f"scope/{full_name}" if name == "scoped names" else full_name)
    if len({*key_of.values()}) < len(key_of) or not key_of:
        return None
    slots = {key for number in one.target.slot_nodes for key in one.target.nodes[number].tensors.values()}
    truth = {
        key: Origin(tuple(key_of[source] for source in origin.sources), origin.ops)
        for key, origin in one.truth.items()
        if key not in slots and all(source in key_of for source in origin.sources)
    }
    source = ObjectGraph.from_names({new: graph.specs[old] for old, new in sorted(key_of.items(), key=lambda i: i[1])})
    undecidable = {key: why for key, why in one.undecidable.items() if key in truth}
    return replace(one, source=source, truth=truth, undecidable=undecidable)


# The fit.


def fit(tallies: Iterable[Tally]) -> dict[Caveat, float]:
    """The confidence of each caveat that is measured."""
    found: dict[Caveat, list[Tally]] = defaultdict(list)
    for each in tallies:
        if each.caveat is not None:
            found[each.caveat].append(each)
    return {caveat: confidence_in(found[caveat]) for caveat in CONFIDENCE if caveat in found}


def confidence_in(tallies: Sequence[Tally]) -> float:
    least = min(_low_of_cases(tallies), _low_of_families(tallies)[1])
    return max(0.01, math.floor(min(least, _MOST) * 100) / 100)


def _low_of_cases(tallies: Sequence[Tally]) -> float:
    right, total = _sums(tallies)
    return 1 - upper_bound(math.ceil((1 - right / total) * len(tallies)), len(tallies))


def _low_of_families(tallies: Sequence[Tally]) -> tuple[float, float]:
    """The mean of the families' shares, and its lower bound; 1 where there is nothing to tell."""
    shares = list(_shares(tallies).values())
    if len(shares) < 2:  # an error takes two
        return 1.0, 1.0
    mean = sum(shares) / len(shares)
    error = math.sqrt(sum((share - mean) ** 2 for share in shares) / (len(shares) - 1) / len(shares))
    return mean, mean - float(student.ppf(0.95, len(shares) - 1)) * error


def _shares(tallies: Iterable[Tally]) -> dict[str, float]:
    """The share that is right in each family, of those with more than a few templates."""
    sums = {family: _sums(some) for family, some in _by_family(tallies).items()}
    return {family: right / total for family, (right, total) in sums.items() if total >= _FEW}


def _by_family(tallies: Iterable[Tally]) -> dict[str, list[Tally]]:
    found: dict[str, list[Tally]] = defaultdict(list)
    for each in tallies:
        found[each.family].append(each)
    return dict(sorted(found.items()))


def _sums(tallies: Sequence[Tally]) -> tuple[int, int]:
    return sum(each.right for each in tallies), sum(each.total for each in tallies)


# The report.


def _caveats(tallies: Sequence[Tally], fitted: Mapping[Caveat, float]) -> Iterator[str]:
    yield "## By caveat"
    yield ""
    yield (
        "| caveat | templates | cases | families | right | bound, cases | mean of families | bound, families "
        "| worst family | right there | confidence | in the module |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---|---:|---:|---:|"
    for caveat in CONFIDENCE:
        some = [each for each in tallies if each.caveat == caveat]
        if caveat not in fitted:
            why = "not measured" if caveat in UNMEASURED else "no case"
            yield f"| {caveat} | 0 | | | | | | | {why} | | | {CONFIDENCE[caveat]} |"
            continue
        right, total = _sums(some)
        shares = _shares(some)
        worst = min(shares, key=lambda family: shares[family], default="")
        mean, low = _low_of_families(some)
        row = (
            f"| {caveat} | {total} | {len(some)} | {len(shares)} | {right / total:.1%} | {_low_of_cases(some):.1%} "
            f"| {mean:.1%} | {low:.1%} | {worst} | {f'{shares[worst]:.1%}' if worst else ''} "
            f"| {fitted[caveat]} | {CONFIDENCE[caveat]} |"
        )
        yield row
    yield ""


def _held_out(tallies: Sequence[Tally], fitted: Mapping[Caveat, float]) -> Iterator[str]:
    likely = [each for each in tallies if each.caveat in fitted]
    yield "## Held out by family"
    yield ""
    yield "| family | templates | right | mean confidence | calibration error | Brier score |"
    yield "|---|---:|---:|---:|---:|---:|"
    apart: list[_Group] = []
    for family, own in _by_family(likely).items():
        table = fit(each for each in likely if each.family != family)
        groups = _groups(own, table)
        apart.extend(groups)
        yield _scored(family, groups)
    yield _scored("**all, held out**", apart)
    yield _scored("**all, as fitted**", _groups(likely, fitted))
    yield ""
    yield "By the confidence that a family was given by the others:"
    yield ""
    yield "| confidence | templates | right | families in which fewer are, of those with 20 templates |"
    yield "|---:|---:|---:|---|"
    for low in (0.9, 0.8, 0.7, 0.6, 0.5, 0.0):
        some = [group for group in apart if low <= group.confidence < low + (0.1 if low else 0.5)]
        if not some:
            continue
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for group in some:
            sums[group.family][0] += group.right
            sums[group.family][1] += group.total
        fewer = [
            f"{family} {right / total:.1%}" for family, (right, total) in sums.items() if 20 <= total > right / low
        ] if low else []  # fmt: skip
        right, total = sum(group.right for group in some), sum(group.total for group in some)
        yield f"| {low or 'less'} | {total} | {right / total:.1%} | {', '.join(fewer)} |"
    yield ""


class _Group(NamedTuple):
    """Templates of one family and caveat, with the confidence that they were given."""

    family: str
    caveat: Caveat
    confidence: float
    right: int
    total: int


def _groups(tallies: Iterable[Tally], table: Mapping[Caveat, float]) -> list[_Group]:
    sums: dict[tuple[str, Caveat], list[int]] = defaultdict(lambda: [0, 0])
    for each in tallies:
        if each.caveat is not None and each.caveat in table:
            sums[each.family, each.caveat][0] += each.right
            sums[each.family, each.caveat][1] += each.total
    return [_Group(family, caveat, table[caveat], *both) for (family, caveat), both in sums.items()]


def _scored(name: str, groups: Sequence[_Group]) -> str:
    total = sum(group.total for group in groups)
    right = sum(group.right for group in groups)
    mean = sum(group.confidence * group.total for group in groups) / total
    by_confidence: dict[float, list[int]] = defaultdict(lambda: [0, 0])
    for group in groups:
        by_confidence[group.confidence][0] += group.right
        by_confidence[group.confidence][1] += group.total
    error = sum(abs(good - confidence * of) for confidence, (good, of) in by_confidence.items()) / total
    brier = sum(
        group.right * (1 - group.confidence) ** 2 + (group.total - group.right) * group.confidence**2
        for group in groups
    ) / total  # fmt: skip
    return f"| {name} | {total} | {right / total:.1%} | {mean:.3f} | {error:.3f} | {brier:.3f} |"


def _decided(tallies: Sequence[Tally]) -> Iterator[str]:
    some = [each for each in tallies if each.caveat is None]
    if not some:
        return
    right, total = _sums(some)
    bad = sum(each.right < each.total for each in some)
    yield "## Decided without anyone's word (confidence 1)"
    yield ""
    yield f"{total - right} wrong of {total} templates: at most {upper_bound(total - right, total):.4%}, with 95%;"
    yield f"{bad} of {len(some)} cases: at most {upper_bound(bad, len(some)):.3%}."
    if bad:
        yield f"Seeds: {', '.join(str(each.seed) for each in some if each.right < each.total)}."
    yield ""


if __name__ == "__main__":
    main()
