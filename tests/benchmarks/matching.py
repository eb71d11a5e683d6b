"""How good matching is at finding the mapping by itself, and how long it takes.

    python tests/benchmarks/matching.py                       # 10,000 synthetic cases: tables, curve, bounds
    python tests/benchmarks/matching.py --cases 500 --first 20000
    python tests/benchmarks/matching.py --seed 214            # one case in full
    python tests/benchmarks/matching.py --seed 214 --only insert_other
    python tests/benchmarks/matching.py --scale               # time and memory, from 10^4 variables to 10^6 nodes

The cases are those of `tests/refactorings.py`; what is counted is explained in the report. A step is judged by
where its values come from and by what happens to them on the way. **Templates** are counted and not variables: the
twelve equal layers of an encoder, and the slots of a variable, are decided together, so they are one decision. The
upper bounds are those of Clopper and Pearson for the templates, and once more for whole cases, in which templates
depend on each other. Wrong cases are printed with the seed and the fewest refactorings that still make them.
"""

from __future__ import annotations

# ruff: noqa: T201  # it is a program
import argparse
import math
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

DECIDED = ("exact", "certain", "initial")
ANSWERED = ("exact", "certain", "proposed")


def main() -> None:
    arguments = parse()
    if arguments.measure:
        measure(Path(arguments.measure))
    elif arguments.seed is not None:
        show(arguments.seed, arguments.only.split(",") if arguments.only else None)
    elif arguments.scale:
        scale(arguments)
    else:
        count(arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, help="show one case")
    parser.add_argument("--only", help="with --seed: these refactorings, separated by commas")
    parser.add_argument("--scale", action="store_true", help="time and memory")
    parser.add_argument("--largest", type=int, default=1_000_000, help="with --scale: nodes of the largest checkpoint")
    parser.add_argument(
        "--shapes",
        default="blocks,names,row,attributes,inserted,tied,tf1",
        help="with --scale: which models; also the other shapes of tests/large.py",
    )
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "ckptmigrate-benchmarks")
    return parser.parse_args()


# Many cases.


class Verdict(NamedTuple):
    """What was said of one template of one case."""

    template: str
    status: str
    confidence: float
    is_right: bool | None
    undecidable: str
    is_new: bool
    problem: str


class Outcome(NamedTuple):
    """One case."""

    seed: int
    family: str
    styles: tuple[str, str]
    refactorings: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    drops: int
    smallest: tuple[str, ...]


def run(seed: int, only: Sequence[str] | None = None) -> Outcome:
    """Make a case, match it, judge the result; a failed one is made as small as can be."""
    from refactorings import case
    from scoring import judge, wrong_drops

    from ckptmigrate import Endpoint, make_plan, match_graphs

    one = case(seed, only)
    matching = match_graphs(one.source, one.target)
    make_plan(Endpoint("source", "sha256:s"), Endpoint("target", "sha256:t"), matching)
    grouped: dict[tuple[str, str, str, bool], Verdict] = {}
    for found in judge(one, matching):
        name = (found.template, found.status, found.undecidable, found.is_new)
        old = grouped.get(name)
        right = found.is_right if old is None or old.is_right else old.is_right
        confidence = found.confidence if old is None else min(old.confidence, found.confidence)
        problem = found.problem if old is None else old.problem or found.problem
        grouped[name] = Verdict(name[0], name[1], confidence, right, name[2], name[3], problem)
    verdicts = tuple(grouped.values())
    smallest = one.refactorings
    causes = causes_of(verdicts)
    if only is None and causes:
        smallest = _smallest(seed, one.refactorings, causes[0])
    drops = sum(1 for _ in wrong_drops(one, matching))
    return Outcome(seed, one.family, one.styles, one.refactorings, verdicts, drops, smallest)


def is_failure(verdict: Verdict) -> bool:
    """Whether it applies without anyone's word, and is wrong or a guess."""
    return verdict.status in DECIDED and bool(verdict.problem)


def causes_of(verdicts: Iterable[Verdict]) -> list[str]:
    """Why it failed, the worst first: ``wrong``, or why nobody could have known."""
    return sorted({v.undecidable or "wrong" for v in verdicts if is_failure(v)}, key=lambda why: (why != "wrong", why))


def _smallest(seed: int, names: Sequence[str], cause: str) -> tuple[str, ...]:
    """The fewest refactorings that still fail for a reason, leaving out one after the other."""
    for name in names:
        fewer = [other for other in names if other != name]
        if cause in causes_of(run(seed, fewer).verdicts):
            return _smallest(seed, fewer, cause)
    return tuple(names)


def count(arguments: argparse.Namespace) -> None:
    seeds = range(arguments.first, arguments.first + arguments.cases)
    started = time.perf_counter()
    outcomes = []
    with multiprocessing.Pool(arguments.processes) as pool:
        for outcome in pool.imap(run, seeds, chunksize=20):
            outcomes.append(outcome)
            if len(outcomes) % 1000 == 0:
                print(f"{len(outcomes)} cases, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    failures = list(_failures(outcomes))
    report = list(_report(seeds, outcomes))
    folder = arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "matching.md").write_text("\n".join([*report, *failures, ""]), encoding="utf-8")
    (folder / "matching-risk-coverage.svg").write_text(_curve(outcomes), encoding="utf-8")
    print("\n".join([*report, *failures]))
    print(f"\nwritten to {folder}", file=sys.stderr)


def _report(seeds: range, outcomes: Sequence[Outcome]) -> Iterator[str]:
    verdicts = [verdict for outcome in outcomes for verdict in outcome.verdicts]
    yield f"# Matching on {len(outcomes)} synthetic cases, seeds {seeds.start} to {seeds.stop - 1}"
    yield ""
    yield f"{len(verdicts)} templates. Decided: {', '.join(DECIDED)}. A guess: decided where nobody can know."
    yield ""
    yield "| | decided | wrong | 95% upper bound | guesses |"
    yield "|---|---:|---:|---:|---:|"
    sure = [v for v in verdicts if v.status in DECIDED and not v.undecidable]
    guesses = [v for v in verdicts if v.status in DECIDED and v.undecidable]
    yield _row("templates", sure, guesses)
    for status in DECIDED:
        yield _row(status, [v for v in sure if v.status == status], [v for v in guesses if v.status == status])
    bad = sum(any(is_failure(v) and not v.undecidable for v in outcome.verdicts) for outcome in outcomes)
    guessed = sum(any(is_failure(v) and v.undecidable for v in outcome.verdicts) for outcome in outcomes)
    yield f"| cases | {len(outcomes)} | {bad} | {upper_bound(bad, len(outcomes)):.3%} | {guessed} |"
    yield ""
    yield f"Cases in which a source that is needed was dropped: {sum(outcome.drops > 0 for outcome in outcomes)}."
    yield ""
    yield "## What becomes of targets whose source there is evidence for"
    yield ""
    yield from _fates([v for v in verdicts if not v.undecidable and not v.is_new])
    yield "## What becomes of targets that are new"
    yield ""
    yield from _fates([v for v in verdicts if not v.undecidable and v.is_new])
    yield "## What becomes of targets that nobody can know, by the reason"
    yield ""
    for reason in sorted({v.undecidable for v in verdicts if v.undecidable}):
        yield f"{reason}:"
        yield ""
        yield from _fates([v for v in verdicts if v.undecidable == reason])
    yield "## What a confidence means"
    yield ""
    yield from _calibration(outcomes)
    yield "## By family"
    yield ""
    yield from _table(outcomes, lambda outcome: [outcome.family])
    yield "## By refactoring (a case counts for each of its own)"
    yield ""
    yield from _table(outcomes, lambda outcome: outcome.refactorings)
    yield "## By number of refactorings"
    yield ""
    yield from _table(outcomes, lambda outcome: [str(len(outcome.refactorings))])
    yield "## By style of the source"
    yield ""
    yield from _table(outcomes, lambda outcome: outcome.styles[:1])


def _row(name: str, sure: Sequence[Verdict], guesses: Sequence[Verdict]) -> str:
    wrong = sum(bool(v.problem) for v in sure)
    return f"| {name} | {len(sure)} | {wrong} | {upper_bound(wrong, len(sure)):.4%} | {len(guesses)} |"


def _fates(verdicts: Sequence[Verdict]) -> Iterator[str]:
    total = max(1, len(verdicts))
    yield "| | templates | share | right |"
    yield "|---|---:|---:|---:|"
    for status, number in Counter(v.status for v in verdicts).most_common():
        right = sum(bool(v.is_right) for v in verdicts if v.status == status)
        yield f"| {status} | {number} | {number / total:.1%} | {right if status in (*DECIDED, 'proposed') else ''} |"
    beside = sum(v.status == "question" and bool(v.problem) for v in verdicts)
    yield ""
    if beside:
        yield f"{beside} of the questions do not have the right answer among their sources."
        yield ""


def _calibration(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """How often steps of one confidence are right, and in which family least often: a family is no other's sample."""
    yield "How many of the steps of a confidence are right, those that nobody can know included; and the family in"
    yield "which the fewest are, of those with at least 20 templates."
    yield ""
    yield "| confidence | status | templates | right | 95% lower bound | worst family | right there |"
    yield "|---:|---|---:|---:|---:|---|---:|"
    found: dict[tuple[float, str], dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for outcome in outcomes:
        for v in outcome.verdicts:
            if v.status in ANSWERED:
                found[round(v.confidence, 2), v.status][outcome.family].append(bool(v.is_right))
    for (confidence, status), families in sorted(found.items(), reverse=True):
        every = [right for rights in families.values() for right in rights]
        large = {family: sum(rights) / len(rights) for family, rights in families.items() if len(rights) >= 20}
        worst = min(large, key=lambda family: large[family], default="")
        least = f"{large[worst]:.2%}" if worst else ""
        low = 1 - upper_bound(len(every) - sum(every), len(every))
        share = sum(every) / len(every)
        yield f"| {confidence} | {status} | {len(every)} | {share:.2%} | {low:.2%} | {worst} | {least} |"
    yield ""


def _table(outcomes: Sequence[Outcome], names_of: Callable[[Outcome], Iterable[str]]) -> Iterator[str]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        for name in dict.fromkeys(names_of(outcome)):
            groups[name].append(outcome)
    yield "| | cases | wrong cases | guessing cases | decided, of what can be | proposed | right of these |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for name, some in sorted(groups.items()):
        wrong = sum(any(is_failure(v) and not v.undecidable for v in outcome.verdicts) for outcome in some)
        guessing = sum(any(is_failure(v) and v.undecidable for v in outcome.verdicts) for outcome in some)
        known = [v for outcome in some for v in outcome.verdicts if not v.undecidable and not v.is_new]
        total = max(1, len(known))
        decided = sum(v.status in DECIDED for v in known)
        proposed = [v for v in known if v.status == "proposed"]
        right = f"{sum(bool(v.is_right) for v in proposed) / len(proposed):.1%}" if proposed else ""
        share = f"{decided / total:.1%} | {len(proposed) / total:.1%} | {right}"
        yield f"| {name} | {len(some)} | {wrong} | {guessing} | {share} |"
    yield ""


def _failures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    failed = [outcome for outcome in outcomes if any(map(is_failure, outcome.verdicts)) or outcome.drops]
    yield f"## Failed cases: {len(failed)}"
    yield ""
    groups: dict[tuple[str, tuple[str, ...]], list[Outcome]] = defaultdict(list)
    for outcome in failed:
        cause = (causes_of(outcome.verdicts) or ["dropped"])[0]
        groups[cause, outcome.smallest].append(outcome)
    for (cause, smallest), some in sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1])):
        first = some[0]
        seeds = " ".join(str(outcome.seed) for outcome in some[:12]) + (" ..." if len(some) > 12 else "")
        yield f"- **{cause}** by {', '.join(smallest) or 'nothing'}: {len(some)} (seeds {seeds})"
        shown = next((v for v in first.verdicts if is_failure(v) and (v.undecidable or "wrong") == cause), None)
        if shown is not None:
            problem = shown.problem.replace("/.ATTRIBUTES/VARIABLE_VALUE", "")
            target = shown.template.replace("/.ATTRIBUTES/VARIABLE_VALUE", "")
            yield f"  - {first.seed}, {first.family}, {' -> '.join(first.styles)}: {shown.status} `{target}`: {problem}"


def upper_bound(wrong: int, total: int, level: float = 0.95) -> float:
    """The one-sided upper bound of Clopper and Pearson of a share: 3 / total, about, if none is wrong."""
    if not total or wrong >= total:
        return 1.0
    low, high = wrong / total, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(wrong, total, middle) > 1 - level else (low, middle)
    return high


def _at_most(wrong: int, total: int, share: float) -> float:
    """The chance of no more than so many, each with the chance `share`."""
    if share <= 0:
        return 1.0
    logs = (
        math.lgamma(total + 1)
        - math.lgamma(k + 1)
        - math.lgamma(total - k + 1)
        + k * math.log(share)
        + (total - k) * math.log1p(-share)
        for k in range(wrong + 1)
    )
    return math.fsum(map(math.exp, logs))


# Plots, without a library.


def _curve(outcomes: Sequence[Outcome]) -> str:
    """Risk over coverage: of the most confident answers, how many, and how many of them wrong."""
    verdicts = [v for outcome in outcomes for v in outcome.verdicts]
    total = sum(not v.is_new for v in verdicts)
    levels: dict[tuple[float, str], list[bool]] = defaultdict(list)
    for v in verdicts:
        if v.status in ANSWERED:
            levels[v.confidence, "exact" if v.status == "exact" else "all"].append(bool(v.is_right))
    points, bounds, marks, answered, wrong = [], [], [], 0, 0
    marked = [0.95, 0.9, 0.8, 0.5]
    for (confidence, which), rights in sorted(levels.items(), key=lambda level: (-level[0][0], level[0][1] == "all")):
        # What is said of a threshold is the last point that is not below it.
        if marks and marked and confidence < marked[0]:
            marks[-1] = marks[-1] or f"≥ {marked[0]:g}"
            marked = [each for each in marked if each <= confidence]
        answered += len(rights)
        wrong += len(rights) - sum(rights)
        points.append((answered / total, wrong / answered))
        bounds.append((answered / total, upper_bound(wrong, answered)))
        marks.append("exact" if which == "exact" else "certain" if confidence == 1 else "")
    if marks:
        marks[-1] = "all"
    lines = {"wrong": points, "95% upper bound": bounds}
    start = max(0.0, math.floor(min((x for x, _ in points), default=0.0) * 10 - 0.5) / 10)
    title = "Risk and coverage: templates answered at a confidence or above, and the share of them that is wrong"
    return plot(
        title, "coverage: the share of templates that is answered", "risk", lines, marks={"wrong": marks}, start=start
    )


COLORS = ("#1f6f8b", "#c05621", "#2f855a", "#805ad5")


def plot(
    title: str,
    across: str,
    up: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    marks: Mapping[str, Sequence[str]] | None = None,
    logarithmic: bool = False,
    start: float = 0.0,
) -> str:
    """Lines with their points, as SVG; the axis across begins at `start` unless it is logarithmic."""
    width, height, left, bottom, top = 760, 420, 80, 50, 50
    every = [point for points in lines.values() for point in points] or [(1.0, 1.0)]

    def scaled(values: Sequence[float], size: float, first: float = 0.0) -> Callable[[float], float]:
        if logarithmic:
            low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
            return lambda value: (math.log10(value) - low) / max(1, high - low) * size
        high = max(values) * 1.1 or 1.0
        return lambda value: (value - first) / (high - first) * size

    x_of = scaled([x for x, _ in every], width - left - 40, start)
    y_of = scaled([y for _, y in every], height - top - bottom)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="24" font-size="13">{title}</text>',
        f'<path d="M{left} {top} V{height - bottom} H{width - 40}" fill="none" stroke="#444"/>',
        f'<text x="{(width + left) / 2}" y="{height - 12}" text-anchor="middle">{across}</text>',
        f'<text transform="translate(20 {height / 2}) rotate(-90)" text-anchor="middle">{up}</text>',
    ]
    for values, is_x in (([x for x, _ in every], True), ([y for _, y in every], False)):
        for tick in _ticks(values, logarithmic=logarithmic):
            if is_x and not logarithmic and tick < start:
                continue
            if is_x:
                at = left + x_of(tick)
                parts.append(f'<text x="{at:.1f}" y="{height - bottom + 16}" text-anchor="middle">{tick:g}</text>')
            else:
                at = height - bottom - y_of(tick)
                parts.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
                parts.append(f'<path d="M{left} {at:.1f} H{width - 40}" stroke="#ddd"/>')
    for number, (name, points) in enumerate(lines.items()):
        color = COLORS[number % len(COLORS)]
        placed = [(left + x_of(x), height - bottom - y_of(y)) for x, y in points]
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in placed)
        for (x, y), mark in zip(placed, (marks or {}).get(name, ()), strict=False):
            parts.append(f'<text x="{x - 4:.1f}" y="{y - 8:.1f}" text-anchor="end" fill="{color}">{mark}</text>')
        parts.append(f'<text x="{width - 44}" y="{top + 16 * number}" text-anchor="end" fill="{color}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _ticks(values: Sequence[float], *, logarithmic: bool) -> list[float]:
    if logarithmic:
        return [10.0**n for n in range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)]
    high = max(values) * 1.1 or 1.0
    step = 10 ** math.floor(math.log10(high))
    step = next(s for s in (step / 10, step / 5, step / 2, step) if high / s <= 8 or s == step)
    return [n * step for n in range(int(high / step) + 1)]


# One case.


def show(seed: int, only: Sequence[str] | None) -> None:
    from refactorings import case
    from scoring import judge

    from ckptmigrate import match_graphs

    one = case(seed, only)
    print(f"{seed}: {one.family}, {' -> '.join(one.styles)}, {', '.join(one.refactorings)}")
    for name, graph in (("source", one.source), ("target", one.target)):
        print(f"\n{name}:")
        for number, node in enumerate(graph.nodes):
            for key in node.tensors.values():
                if number not in graph.slot_nodes:
                    print(f"  {graph.say(number)}  {graph.specs[key]}  {node.full_name}")
    print("\nwhat is said of each target, and where it truly comes from:")
    for finding in judge(one, match_graphs(one.source, one.target)):
        truth = one.truth[finding.target]
        operations = "".join(f", {op.describe()}" for op in truth.ops)
        origin = " + ".join(truth.sources) or "new"
        why = f" ({finding.undecidable})" if finding.undecidable else ""
        mark = "FAILED" if finding.is_failure else finding.status
        line = f"  {mark:10} {finding.target} <- {origin}{operations}{why}  {finding.problem}"
        print(line.replace("/.ATTRIBUTES/VARIABLE_VALUE", ""))


# Scale.


def scale(arguments: argparse.Namespace) -> None:
    sizes = [size for size in (10_000, 30_000, 100_000) if 4 * size <= arguments.largest]
    rows: list[tuple[str, dict[str, float]]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for shape in arguments.shapes.split(","):
            for size in (*sizes, -arguments.largest):
                file = Path(scratch) / "graphs"
                # In a process of its own, so that none of its memory is counted.
                maker = multiprocessing.Process(target=make_large, args=(shape, size, file))
                maker.start()
                maker.join()
                command = [sys.executable, str(Path(__file__)), "--measure", str(file)]
                measured = subprocess.run(command, capture_output=True, text=True, check=False)
                if measured.returncode:
                    sys.exit(measured.stderr)
                rows.append((shape, pickle.loads(bytes.fromhex(measured.stdout.split()[-1]))))  # noqa: S301  # our own
                print(shape, rows[-1][1], file=sys.stderr)
    lines = ["# Matching at scale", ""]
    lines += [
        "| model | variables | nodes | read, s | match, s | plan, s | peak, MB | match, us a variable | decided |"
    ]
    lines += ["|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    lines_of_growth = list(_growth(rows))
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for shape, cost in rows:
        each = cost["match_s"] / cost["variables"] * 1e6
        lines.append(
            f"| {shape} | {cost['variables']:.0f} | {cost['nodes']:.0f} | {cost['read_s']:.1f} |"
            f" {cost['match_s']:.1f} | {cost['plan_s']:.1f} | {cost['peak_mb']:.0f} | {each:.0f} |"
            f" {cost['decided']:.1%} |"
        )
        curves[shape].append((cost["nodes"], _all_s(cost)))
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines += ["", *lines_of_growth]
    (arguments.out / "matching-scale.md").write_text("\n".join([*lines, ""]), encoding="utf-8")
    title = "Time to read, match and plan two checkpoints, by the nodes of one"
    drawn = plot(title, "nodes", "seconds", curves, logarithmic=True)
    (arguments.out / "matching-scale.svg").write_text(drawn, encoding="utf-8")
    print("\n".join(lines))


def _all_s(cost: Mapping[str, float]) -> float:
    return cost["read_s"] + cost["match_s"] + cost["plan_s"]


def _growth(rows: Sequence[tuple[str, Mapping[str, float]]]) -> Iterator[str]:
    """How time grows with size: the exponent of a line through all sizes, and the largest beside the smallest."""
    for shape in dict.fromkeys(shape for shape, _ in rows):
        costs = [cost for other, cost in rows if other == shape]
        if len(costs) < 2:
            continue
        points = [(math.log(cost["nodes"]), math.log(_all_s(cost))) for cost in costs]
        middle = [sum(column) / len(points) for column in zip(*points, strict=True)]
        slope = sum((x - middle[0]) * (y - middle[1]) for x, y in points) / sum((x - middle[0]) ** 2 for x, _ in points)
        each = [_all_s(cost) / cost["nodes"] for cost in costs]
        yield f"- {shape}: time grows with the {slope:.2f}th power of the nodes; a node of the largest takes "
        yield f"  {each[-1] / each[0]:.2f} times as long as one of the smallest."


def make_large(shape: str, size: int, file: Path) -> None:
    """Write two checkpoints' graphs and specs: so many variables, or with a minus so many nodes, Adam included."""
    from architectures import Part, dense, embedding, layer_norm, listed
    from changes import rename, wrap
    from drafts import Draft
    from large import SHAPES, ends, word
    from layouts import Design, State, store
    from refactorings import copied
    from rows import insert_other

    rng = random.Random(size)  # noqa: S311  # nothing is to be kept secret
    variables = size if size > 0 else -size // 4
    if shape in SHAPES:
        file.write_bytes(pickle.dumps(ends(shape, variables)))
        return
    if shape == "blocks":

        def block():
            inner = {name: dense(8, 8) for name in ("query", "key", "value", "out")}
            attention = Part("attention", inner)
            return Part("block", {"attn": attention, "ln_1": layer_norm(8), "fc": dense(8, 32), "proj": dense(32, 8)})

        model = Part("model", {"blocks": listed("blocks", [block() for _ in range(variables // 14)])})
        changes = (rename, rename, wrap)
    elif shape == "names":
        tables = {f"feature_{word(n)}": embedding(7 + n % 50, 4) for n in range(variables)}
        model = Part("model", {"tables": Part("tables", tables), "head": dense(4, 1)})
        changes = (wrap,)
    else:
        layers = [dense(8, 8) if n % 3 else dense(8, 16) if n % 2 else layer_norm(8) for n in range(variables // 2)]
        model = listed("functional", layers, "flow")
        changes = (insert_other,)
    framework = "keras2" if shape == "row" else "module"
    naming = "auto" if shape == "row" else "none"
    state = State("optimizer", (0,), "legacy" if shape == "row" else "keras-3", "adam")
    source = Design(Part("checkpoint", {"model": model}), framework, naming, states=(state,))
    draft = Draft(source, copied(source), rng)
    if shape == "names":
        # Every feature is called as before, and more.
        held = draft.target.root.children["model"].children["tables"]
        held.children = {f"{label}_embedding": child for label, child in held.children.items()}
    for change in changes:
        change(draft)
    stored = [store(design) for design in (draft.source, draft.target)]
    file.write_bytes(pickle.dumps([(end.graph, end.specs) for end in stored]))


def measure(file: Path) -> None:
    """Read, match, plan; print what it took."""
    import gc
    import resource

    # To import it takes as long for the smallest as for the largest.
    import scipy.optimize  # noqa: F401
    from large import read as read_graph

    from ckptmigrate import Endpoint, make_plan, match_graphs

    gc.set_threshold(100_000, 50, 10)  # as the command line has it
    ends = pickle.loads(file.read_bytes())  # noqa: S301  # our own file
    # The processor's time: what else runs on the machine is no matter.
    started = time.process_time()
    source, target = (read_graph(graph, specs) for graph, specs in ends)
    read = time.process_time()
    matching = match_graphs(source, target)
    matched = time.process_time()
    make_plan(Endpoint("source", "sha256:s"), Endpoint("target", "sha256:t"), matching).to_json()
    cost = {
        "variables": len(source.specs) - len(source.slot_nodes),
        "nodes": len(source.nodes),
        "read_s": read - started,
        "match_s": matched - read,
        "plan_s": time.process_time() - matched,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "decided": sum(step.status in DECIDED for step in matching.steps) / len(target.specs),
    }
    print(pickle.dumps(cost).hex())


if __name__ == "__main__":
    main()
