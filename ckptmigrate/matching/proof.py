"""Equal bytes as proof: where both sides hold the same trained values, their checksums say what is what.

A value counts if exactly one tensor of each side has it, in one dtype and with as many elements. It does not count
if it is plain (`ckptmigrate.bundle.content.is_plain`), because many variables begin with zeros, ones, or another
number, nor if it is very small.

**Equal by chance.** Two values of one dtype and size have one checksum with a chance of 2^-32. Only what has no twin
can be taken for another's twin, because a third tensor of equal checksum makes it count for none. So of one dtype
and size, no more than `_MOST_PAIRS` pairs may be left over: the chance of one wrong pair is one in a million. Of
100,000 tensors here and there all of which have their twin there are none.

**Equal by seed.** A fresh model has kernels that are drawn at random, and with an equal seed they are drawn again:
the fifth then has the values that the fifth had, whatever was put before it. A template may be such a model. So
equal kernels are proof only if something shows that the values are not those of a fresh model:

- most vectors are equal, and not plain: biases, scales and statistics begin as constants, and training alone gives
  them other values; or most slots, which begin as zeros;
- or one side's values are all on the other, in an order that no seed makes: something stands between them.

Where the values of a path are gone, and those that are now at it were elsewhere, one of the two has to be believed:
a copy that was frozen gives its twin's place the same values. That is proposed, and not decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from ckptmigrate.bundle.content import is_plain
from ckptmigrate.graph import ROOT, VARIABLE_ROLE, ObjectGraph
from ckptmigrate.matching.contents import Contents, Value, is_trained_vector, values_of
from ckptmigrate.matching.draft import Draft
from ckptmigrate.matching.names import is_automatic
from ckptmigrate.matching.result import Step
from ckptmigrate.ops import Op, Reshape, Transpose
from ckptmigrate.spec import Key, Path, TensorSpec

_MOST_PAIRS = 4096
"""So many pairs of one dtype and size may be left without a twin: 2^12 of 2^32."""


def take_contents(draft: Draft, contents: Contents) -> None:
    """Pair what has equal bytes, if these are trained values; rules that were taken stay."""
    search = _Search(draft, contents)
    variables = search.pairs(*search.variables)
    if not variables:
        return
    if not _are_most(variables, *search.vectors) and not _are_in_no_drawn_order(variables, *search.variables):
        slots = search.pairs(*search.slots)
        if not _are_most(slots, *search.slots):
            return
    draft.contents = contents
    source, target = search.variables
    left = target.without(source)
    for s, t in variables.items():
        _take_variable(draft, s, t, _said(target, t), _against(s, t, source, target, left))
    _take_siblings(draft, contents)
    if not all(map(_tells_its_slots, (draft.source, draft.target))):
        for s, t in search.pairs(*search.slots).items():
            _take_slot(draft, s, t, _said(search.slots[1], t))


def _tells_its_slots(graph: ObjectGraph) -> bool:
    """Whether it is certain of each slot whose it is; it then goes where that goes."""
    return all(slot.variable is not None and slot.certain for each in graph.optimizers for slot in each.slots)


@dataclass(frozen=True)
class _Side:
    """The values of one side's variables, or of its slots.

    Attributes:
        graph: The graph.
        values: The value of each tensor that has one which can count.
    """

    graph: ObjectGraph
    values: Mapping[Key, Value]

    @cached_property
    def holders(self) -> Mapping[Value, Sequence[Key]]:
        """The tensors of each value."""
        found: dict[Value, list[Key]] = {}
        for key, value in self.values.items():
            found.setdefault(value, []).append(key)
        return found

    @cached_property
    def at(self) -> Mapping[object, Key]:
        """The variables by path, and by full name where somebody gave it and no other has it."""
        counts = Counter(self.graph.nodes[self.graph.node_of[key]].full_name for key in self.values)
        found: dict[object, Key] = {}
        for key in self.values:
            path, name = self.places(key)
            found[path] = key
            if name and counts[name] == 1 and not any(map(is_automatic, name.split("/")[:-1])):
                found[name] = key
        return found

    def places(self, key: Key) -> tuple[Path, str]:
        """Where a variable is, and what it is called."""
        number = self.graph.node_of[key]
        return self.graph.paths[number], self.graph.nodes[number].full_name

    def is_plain(self, key: Key) -> bool:
        return is_plain(self.graph.specs[key], self.values[key].crc32c)

    def without(self, other: _Side) -> Counter[object]:
        """How many have no twin on the other side, by dtype and size."""
        return Counter(value.kind for value in self.values.values() if value not in other.holders)


@dataclass(frozen=True)
class _Search:
    draft: Draft
    contents: Contents

    @cached_property
    def variables(self) -> tuple[_Side, _Side]:
        return self.sides(of_slots=False)

    @cached_property
    def vectors(self) -> tuple[_Side, _Side]:
        """The variables that are plain as long as nobody trains them."""
        source, target = (
            _Side(
                side.graph,
                {key: value for key, value in side.values.items() if is_trained_vector(side.graph.specs[key])},
            )
            for side in self.variables
        )
        return source, target

    @cached_property
    def slots(self) -> tuple[_Side, _Side]:
        return self.sides(of_slots=True)

    def sides(self, *, of_slots: bool) -> tuple[_Side, _Side]:
        old, new = self.draft.source, self.draft.target
        return (
            _Side(old, values_of(old, self.contents.source, of_slots=of_slots)),
            _Side(new, values_of(new, self.contents.target, of_slots=of_slots)),
        )

    def pairs(self, source: _Side, target: _Side) -> dict[Key, Key]:
        """The tensors that alone on their side have a value that is alone on the other; in the target's order."""
        old, new = source.without(target), target.without(source)
        found: dict[Key, Key] = {}
        for value, keys in target.holders.items():
            others = source.holders.get(value, ())
            if len(keys) == len(others) == 1 and old[value.kind] * new[value.kind] <= _MOST_PAIRS:
                (t,), (s,) = keys, others
                if not (target.is_plain(t) or source.is_plain(s)):
                    found[s] = t
        return found


# Whether values are trained ones.


def _are_most(pairs: Mapping[Key, Key], source: _Side, target: _Side) -> bool:
    """Whether most tensors of one kind are twins of others, of those that could be."""
    known = {value.kind for value in source.values.values()}
    twins = frozenset(pairs.values())
    could = [key for key, value in target.values.items() if value.kind in known]
    return 2 * sum(key in twins for key in could) > len(could)


def _are_in_no_drawn_order(pairs: Mapping[Key, Key], source: _Side, target: _Side) -> bool:
    """Whether all values of one side are on the other, and of one dtype and size not all as far from the first one.

    From one seed the same is drawn up to where two models begin to differ, and then one draw after the other is for
    something else: what is equal has equal ranks, or not everything is.
    """
    whole = any(
        all(value in other.holders or side.is_plain(key) for key, value in side.values.items())
        for side, other in ((source, target), (target, source))
    )
    if not whole:
        return False
    ranks = [_ranks(side, {source.values[key].kind for key in pairs}) for side in (source, target)]
    offsets: dict[object, set[int]] = {}
    for s, t in pairs.items():
        if s in ranks[0] and t in ranks[1]:
            offsets.setdefault(source.values[s].kind, set()).add(ranks[1][t] - ranks[0][s])
    return any(len(found) > 1 for found in offsets.values())


def _ranks(side: _Side, kinds: set[tuple[int, int]]) -> dict[Key, int]:
    """Which of its dtype and size each variable is, of those that are not plain, from the root down."""
    counts: Counter[object] = Counter()
    found: dict[Key, int] = {}
    stack = [ROOT]
    while stack:
        number = stack.pop()
        key = side.graph.nodes[number].tensors.get(VARIABLE_ROLE)
        value = None if key is None else side.values.get(key)
        if key is not None and value is not None and value.kind in kinds and not side.is_plain(key):
            found[key] = counts[value.kind]
            counts[value.kind] += 1
        stack.extend(reversed(list(side.graph.tree_children(number).values())))
    return found


# What is taken.


def _said(side: _Side, key: Key) -> str:
    crc, size_bytes = side.values[key].crc32c, side.graph.specs[key].size_bytes
    return f"equal bytes: CRC32C {crc:#010x}, {size_bytes:,} bytes, the only ones of either side"


def _take_variable(draft: Draft, s: Key, t: Key, evidence: str, against: str) -> None:
    stated = draft.steps.get(t)
    if stated is not None:
        if stated.status == "rule" and not stated.ops and stated.sources != (s,):
            warning = f"yet the target has the bytes of `{draft.source.say_key(s)}` here"
            draft.steps[t] = replace(stated, evidence=(*stated.evidence, warning))
        return
    if s in draft.used or s in draft.dropped:
        return
    draft.used.add(s)
    operations = _reshaped(draft, s, t)
    if against:
        draft.steps[t] = Step.proposed(t, (s,), operations, "place-of-another", (evidence, against))
        return
    draft.steps[t] = Step(t, (s,), operations, "certain", 1.0, (evidence,))
    draft.proven.add(t)
    draft.objects[draft.target.node_of[t]] = draft.source.node_of[s]


def _reshaped(draft: Draft, s: Key, t: Key) -> tuple[Op, ...]:
    spec, wanted = draft.source.specs[s], draft.target.specs[t]
    if spec == wanted:
        return ()
    # A column that is a row now has the same bytes, and is said to be transposed: so are others then, it may be.
    is_turned = len(spec.shape) == 2 and 1 in spec.shape and spec.shape[::-1] == wanted.shape
    return (Transpose((1, 0)),) if is_turned else (Reshape(wanted.shape),)


def _against(s: Key, t: Key, source: _Side, target: _Side, left: Mapping[object, int]) -> str:
    """What else might have come to where the value of another is now; empty if there is nothing."""
    for place in target.places(t):
        other = source.at.get(place)
        if other is None or other == s or source.values[other].kind != target.values[t].kind:
            continue
        # Where it is known what became of it, it has just moved; and where nothing is left that it could be, it went.
        is_gone = source.values[other] not in target.holders
        if is_gone and left[target.values[t].kind]:
            said = "name" if isinstance(place, str) else "path"
            return f"but `{source.graph.say_key(other)}` of the source has its {said}, and its values are nowhere"
    return ""


def _take_slot(draft: Draft, s: Key, t: Key, evidence: str) -> None:
    """Pair two slots, if it is not known that their variables are not each other."""
    theirs, ours = draft.source.slot_owner.get(s), draft.target.slot_owner.get(t)
    if t in draft.steps or s in draft.used or s in draft.dropped:
        return
    if theirs is not None and ours is not None:
        step = draft.steps.get(ours[0])
        if theirs[1] != ours[1] or ours[0] not in draft.proven or step is None or step.sources != theirs[:1]:
            return  # what becomes of it is said by its variable
    draft.used.add(s)
    draft.steps[t] = Step(t, (s,), _reshaped(draft, s, t), "certain", 1.0, (evidence,))
    draft.proven.add(t)


# What stands beside it.


def _take_siblings(draft: Draft, contents: Contents) -> None:
    """Let what is too small or too plain to tell something follow the rest of its object, if its bytes are equal."""
    apart = [
        graph.slot_nodes
        | graph.scalars
        | {ROOT}
        | {number for each in graph.optimizers for number in (each.node, each.wrapper) if number is not None}
        for graph in (draft.source, draft.target)
    ]
    for t, s in _holders(draft):
        if s in apart[0] or t in apart[1]:
            continue
        draft.objects.setdefault(t, s)
        twins = draft.target.tree_children(t)
        said = (
            f"in `{draft.source.say(s)}` and `{draft.target.say(t)}` other variables have equal bytes, and so has this"
        )
        for label, child in draft.source.tree_children(s).items():
            twin = twins.get(label)
            if twin is None or any(map(str.isdigit, label)):
                continue
            for key, goal in _equal_below(draft, contents, (child, twin), apart) or ():
                if _may_be_turned(draft.target.specs[goal], contents.target[goal]):
                    continue
                if key not in draft.used and key not in draft.dropped and goal not in draft.steps:
                    draft.used.add(key)
                    draft.steps[goal] = Step(goal, (key,), (), "certain", 1.0, (said,))
                    draft.objects.setdefault(draft.target.node_of[goal], draft.source.node_of[key])


def _may_be_turned(spec: TensorSpec, crc: int) -> bool:
    """Whether a tensor has the same bytes, and the same shape, with its axes in another order; its slots have not."""
    return len({*spec.shape}) < len(spec.shape) and is_plain(spec, crc)


def _holders(draft: Draft) -> Iterator[tuple[int, int]]:
    """The objects of the target all of whose proven variables are in one object of the source, and the reverse."""
    parents = [
        {child: number for number, _ in enumerate(graph.nodes) for child in graph.tree_children(number).values()}
        for graph in (draft.source, draft.target)
    ]
    known = {draft.target.node_of[key]: draft.source.node_of[draft.steps[key].sources[0]] for key in draft.proven}
    while True:
        over: dict[int, set[int]] = {}
        under: dict[int, set[int]] = {}
        for t, s in known.items():
            if t in parents[1] and s in parents[0]:
                over.setdefault(parents[1][t], set()).add(parents[0][s])
                under.setdefault(parents[0][s], set()).add(parents[1][t])
        found = {t: next(iter(olds)) for t, olds in over.items() if len(olds) == 1 and t not in known}
        found = {t: s for t, s in found.items() if len(under[s]) == 1}
        if not found:
            return
        yield from sorted(found.items())
        known.update(found)


def _equal_below(
    draft: Draft, contents: Contents, pair: tuple[int, int], apart: Sequence[frozenset[int]]
) -> list[tuple[Key, Key]] | None:
    """The tensors at and below two nodes, each with its twin; None if the two are not alike, or not in all bytes."""
    found: list[tuple[Key, Key]] = []
    stack = [pair]
    while stack:
        s, t = stack.pop()
        old, new = draft.source.nodes[s].tensors, draft.target.nodes[t].tensors
        olds, news = draft.source.tree_children(s), draft.target.tree_children(t)
        if s in apart[0] or t in apart[1] or old.keys() != new.keys() or olds.keys() != news.keys():
            return None
        for role, key in old.items():
            if draft.source.specs[key] != draft.target.specs[new[role]] or not contents.are_equal(key, new[role]):
                return None
            found.append((key, new[role]))
        stack.extend((child, news[label]) for label, child in olds.items())
    return found
