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
from ckptmigrate.spec import Key, fits

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
    """What rules that are only inferred say of two graphs; nothing for those that lead nowhere."""
    names = {node.full_name for node in target.nodes} if any(_is_by_name(rule) for rule in rules) else set()
    for rule in rules:
        if rule.target is None:
            continue
        evidence = rule.why or f"inferred: {rule.describe()}"
        for pattern in rule.sources:
            is_anywhere = pattern.by_name or not pattern.chunks[0]
            for s, t in sorted(pairs_matching(source, pattern, target, rule.target)):
                # What begins anywhere may speak of something else, where nothing was renamed.
                is_there = (
                    source.nodes[s].full_name in names
                    if pattern.by_name
                    else target.find(source.paths[s]) not in (None, t)
                )
                if not (is_anywhere and is_there):
                    yield Anchor(s, t, evidence)


def _is_by_name(rule: Rule) -> bool:
    return any(pattern.by_name for pattern in rule.sources)


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
