"""Which classes of two versions of a project are each other: by name, by what they hold, and by who makes them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ckptmigrate.codemod.inference.facts import Facts, Source

_ALIKE = 0.5
"""So much two classes with different names have in common that are one."""

_KNOWN = 0.2
"""So much they have in common where something else says that they are one: their name, or who makes them."""

_CLEAR = 0.15
"""So much more than with any other."""

_STANDS = 3
"""So much it counts where a class stands."""

_DEEP = 5
"""So many levels of classes are looked into."""

_MOST = 40
"""What more classes hold says little about any of them."""


@dataclass(frozen=True, slots=True)
class ClassPair:
    """A class, or a function that makes a model, before and after.

    Attributes:
        old: Its dotted name before.
        new: Its dotted name after.
        why: What shows that it is the same, in words.
    """

    old: str
    new: str
    why: str


def pair_classes(old: Source, new: Source) -> list[ClassPair]:
    """Pair the classes that hold something, by their names and by what they hold."""
    pairs = [ClassPair(name, name, "the same name") for name in old.facts if name in new.facts]
    features = {side: _Features(side) for side in (old, new)}
    for same_name in (True, False):
        taken = {pair.old for pair in pairs}, {pair.new for pair in pairs}
        left = [name for name in old.facts if name not in taken[0]]
        right = [name for name in new.facts if name not in taken[1]]
        scores = dict(_scores(features[old], left, features[new], right, same_name=same_name))
        least = _KNOWN if same_name else _ALIKE
        for one, other, score in _clear(scores, least):
            how = "the same name, moved" if same_name else f"{score:.0%} of what they hold and do is the same"
            pairs.append(ClassPair(one, other, how))
    return pairs


def pair_by_use(
    old: Source, new: Source, pairs: Sequence[ClassPair], made: Iterable[tuple[str, str, str]]
) -> list[ClassPair]:
    """Pair classes that nothing else pairs by what makes them: attributes that are each other.

    Args:
        old: The source before.
        new: The source after.
        pairs: What is paired already.
        made: What paired attributes are made of, before and after, with the attribute in words.
    """
    taken = {pair.old for pair in pairs}, {pair.new for pair in pairs}
    found: dict[tuple[str, str], str] = {}
    for one, other, what in made:
        if one in old.facts and other in new.facts and one not in taken[0] and other not in taken[1]:
            found.setdefault((one, other), what)
    counts = Counter(one for one, _ in found), Counter(other for _, other in found)
    features = _Features(old), _Features(new)
    return [
        ClassPair(one, other, f"both are what `{what}` is made of")
        for (one, other), what in found.items()
        if counts[0][one] == counts[1][other] == 1 and _likeness(features[0].of(one), features[1].of(other)) >= _KNOWN
    ]


class _Features:
    """What a class is like, as a bag of words."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._known: dict[str, Counter[str]] = {}

    def of(self, name: str) -> Counter[str]:
        if name not in self._known:
            self._known[name] = Counter(self._words(name, self.source.facts[name]))
        return self._known[name]

    def _words(self, name: str, facts: Facts) -> Iterator[str]:
        for item in (*facts.items, *facts.flow, *(inner for holder in facts.items for inner in holder.items)):
            maker = "a class" if item.constructor in self.source.facts else item.maker or item.kind
            yield f"label {item.label}"
            yield f"made {maker}"
            yield f"made {maker}({', '.join(item.arguments)})"
        # What it holds, however deep: some of it may be wrapped now, or taken out of a wrapper.
        yield from (f"deep {maker}" for maker in _below(self.source, facts, frozenset({name})))
        # Where it stands in the model: a part of it that was taken out stands elsewhere.
        yield from _STANDS * [f"made by {_last(user)}" for user in self.source.users.get(name, ("",))]
        each = self.source.project.classes.get(name)
        if each is not None:
            yield from (f"method {method.name}" for method in each.methods() if not method.name.startswith("__"))
            yield from _STANDS * [f"base {_last(base)}" for base in each.bases]
            for method in each.methods():
                if method.name == "__init__":
                    yield from (f"parameter {argument.arg}" for argument in method.args.args[1:])
        yield from (f"word {word}" for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name.rpartition(".")[2]))


def _below(source: Source, facts: Facts, above: frozenset[str]) -> Iterator[str]:
    """The makers of what is held, however deep."""
    for item in (*facts.items, *facts.flow):
        for each in (item, *item.items):
            inner = source.of(each)
            if inner is None and each.maker:
                yield f"{each.maker}({', '.join(each.arguments)})"
            elif inner is not None and each.constructor not in above and len(above) < _DEEP:
                yield from _below(source, inner, above | {each.constructor})


def _likeness(one: Counter[str], other: Counter[str]) -> float:
    return (one & other).total() / max((one | other).total(), 1)


def _scores(
    ours: _Features, left: Sequence[str], theirs: _Features, right: Sequence[str], *, same_name: bool
) -> Iterator[tuple[tuple[str, str], float]]:
    """How alike the classes are that may be each other; not all with all, where there are many."""
    at: dict[str, list[str]] = {}
    for name in right:
        words = [_last(name)] if same_name else theirs.of(name)
        for word in words:
            at.setdefault(word, []).append(name)
    for name in left:
        words = [_last(name)] if same_name else ours.of(name)
        near = dict.fromkeys(other for word in words if len(at.get(word, ())) <= _MOST for other in at.get(word, ()))
        for other in near:
            # A function that makes a model is no class.
            if (name in ours.source.project.classes) == (other in theirs.source.project.classes):
                yield (name, other), _likeness(ours.of(name), theirs.of(other))


def _clear(scores: Mapping[tuple[str, str], float], least: float) -> Iterator[tuple[str, str, float]]:
    """The pairs that are better than any other of either, clearly."""
    rows: dict[str, list[float]] = {}
    columns: dict[str, list[float]] = {}
    for (one, other), score in scores.items():
        rows.setdefault(one, []).append(score)
        columns.setdefault(other, []).append(score)
    for (one, other), score in scores.items():
        others = sorted((*rows[one], *columns[other]), reverse=True)
        others.remove(score)
        others.remove(score)
        if score >= least and (not others or score - others[0] >= _CLEAR):
            yield one, other, score


def _last(name: str) -> str:
    return name.rpartition(".")[2]
