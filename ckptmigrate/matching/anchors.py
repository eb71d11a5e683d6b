"""What is said of single variables and is no rule: it holds where it fits, and gives way where it does not.

Rules are stated, and one that does not fit is a mistake. What is inferred from source code is evidence: a variable that
was `w` in the code and is `kernel` now is that variable, unless its shape or its dtype says otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ckptmigrate.graph import ObjectGraph
from ckptmigrate.matching.draft import Draft
from ckptmigrate.matching.propose import reshapes
from ckptmigrate.matching.result import Step
from ckptmigrate.matching.walk import pairs_matching
from ckptmigrate.ops import Op, Reshape
from ckptmigrate.rules import Rule
from ckptmigrate.spec import Key, Path, fits

_SHOWN = 20
"""So many are told one by one; the rest are counted."""


class Anchor(NamedTuple):
    """A node of the source and what it is in the target, as far as it is an object or a variable that fits.

    Attributes:
        source: The node of the source.
        target: The node of the target.
        evidence: Who says so, in words, e.g. ``source: nets.py:12 -> nets.py:14``.
    """

    source: int
    target: int
    evidence: str


def inferred_anchors(source: ObjectGraph, target: ObjectGraph, rules: Sequence[Rule]) -> Iterator[Anchor]:
    """What rules that are only inferred say of two graphs; nothing for those that lead nowhere.

    A rule may speak of another class than it was inferred from, where nothing was renamed: what is still at its path
    is left alone, unless another rule leads there.
    """
    found: dict[tuple[int, int], tuple[str, bool]] = {}
    for rule in rules:
        for pattern in rule.sources if rule.target is not None else ():
            assert rule.target is not None  # noqa: S101  # mypy cannot see it
            is_anywhere = pattern.by_name or not pattern.chunks[0]
            for s, t in sorted(pairs_matching(source, pattern, target, rule.target)):
                found.setdefault((s, t), (rule.why or f"inferred: {rule.describe()}", is_anywhere))
    led = {t for _, t in found}
    for (s, t), (evidence, is_anywhere) in found.items():
        there = target.find(source.paths[s])
        is_shift = not is_anywhere and _is_shift(source.paths[s], target.paths[t])
        if there in (None, t) or is_shift or (there in led and not is_anywhere):
            yield Anchor(s, t, evidence)


def _is_shift(path: Path, other: Path) -> bool:
    """Whether two paths differ in positions in lists alone."""
    return len(path) == len(other) and all(
        one == two or (one.isdecimal() and two.isdecimal()) for one, two in zip(path, other, strict=True)
    )


def take_anchors(draft: Draft, anchors: Iterable[Anchor]) -> tuple[str, ...]:
    """Take what fits and nothing contradicts; say what does not."""
    told = list(dict.fromkeys(anchors))
    slots = draft.source.slot_nodes, draft.target.slot_nodes
    pairs = {(anchor.source, anchor.target) for anchor in told}
    counts = Counter(s for s, _ in pairs), Counter(t for _, t in pairs)
    misfits: list[str] = []
    for s, t, evidence in told:
        if s in slots[0] or t in slots[1]:
            continue
        is_one = counts[0][s] == counts[1][t] == 1
        if is_one:
            draft.objects.setdefault(t, s)
        for role, source_key in draft.source.nodes[s].tensors.items():
            target_key = draft.target.nodes[t].tensors.get(role)
            if target_key is None or target_key in draft.steps or _is_spoken_of(draft, source_key):
                continue
            why = _why_not(draft, source_key, target_key) if is_one else "the source says several things of them"
            if why:
                ends = f"`{draft.source.say_key(source_key)}` and `{draft.target.say_key(target_key)}`"
                misfits.append(f"{ends} are not paired, {why} ({evidence})")
                continue
            draft.used.add(source_key)
            operations = _operations(draft, source_key, target_key)
            draft.steps[target_key] = Step(target_key, (source_key,), operations, "certain", 1.0, (evidence,))
    misfits = list(dict.fromkeys(misfits))
    more = [f"and {len(misfits) - _SHOWN} more are not paired"] if len(misfits) > _SHOWN else []
    return (*misfits[:_SHOWN], *more)


def _is_spoken_of(draft: Draft, source_key: Key) -> bool:
    return source_key in draft.used or source_key in draft.dropped


def _operations(draft: Draft, source_key: Key, target_key: Key) -> tuple[Op, ...]:
    spec, wanted = draft.source.specs[source_key], draft.target.specs[target_key]
    return () if fits(target_key, spec, wanted) else (Reshape(wanted.shape),)


def _why_not(draft: Draft, source_key: Key, target_key: Key) -> str:
    """What contradicts a pair; empty if nothing does."""
    spec, wanted = draft.source.specs[source_key], draft.target.specs[target_key]
    keeps_values = spec.dtype == wanted.dtype and reshapes(spec.shape, wanted.shape)
    if not fits(target_key, spec, wanted) and not keeps_values:
        return f"{spec} (source) is not {wanted} (target)"
    if draft.differ(source_key, target_key):
        return "their values differ, where both sides have equal ones elsewhere"
    return ""


def split_inferred(rulebook: Sequence[Rule]) -> tuple[tuple[Rule, ...], tuple[Rule, ...]]:
    """The rules that are stated, and those that are inferred."""
    return tuple(rule for rule in rulebook if not rule.inferred), tuple(rule for rule in rulebook if rule.inferred)
