"""From what the source says of classes to the nodes of two object graphs.

Both graphs are walked together from their roots. Of an object whose class is known, what it holds is followed as the
source says, else along equal labels. A live model knows the class of each of its objects; without one, classes are
known by what makes them, and the first by what it holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ckptmigrate.codemod.inference.alike import stem_of
from ckptmigrate.codemod.inference.facts import Source
from ckptmigrate.codemod.inference.infer import Inferred
from ckptmigrate.codemod.inference.made import INPUTS, Made
from ckptmigrate.codemod.inference.moves import Labels, Move
from ckptmigrate.codemod.inference.pair_classes import ClassPair
from ckptmigrate.graph import ROOT, ObjectGraph
from ckptmigrate.matching import Anchor

_HOLE = re.compile(r"\{i([+-]\d+)?\}")

_LIBRARIES = ("keras", "tf_keras", "tensorflow", "sonnet")
"""Modules whose classes are no project's, though one may be called as they are."""

_FITS = 0.75
"""The share of a class's attributes that an object has to have to be taken for one of it."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What the source says of two graphs.

    Attributes:
        anchors: The variables and objects that are each other, by way of something that changed.
        notes: What it says of these two models and could not be followed, in words.
    """

    anchors: tuple[Anchor, ...]
    notes: tuple[str, ...]


def bind(
    inferred: Inferred, source: ObjectGraph, target: ObjectGraph, classes: Mapping[int, str] | None = None
) -> Bound:
    """Find the nodes that what was inferred speaks of.

    Args:
        inferred: What two versions of the source say.
        source: The graph of the checkpoint that values are taken from.
        target: The graph of the new model.
        classes: The class of each node of the target that is known, with its module: ``nets.encoder.Encoder``.
    """
    return _Walk(inferred, source, target, classes or {}).run()


@dataclass(frozen=True, slots=True)
class _Step:
    """Two nodes that are each other, and how that is known.

    Attributes:
        source: The node of the source.
        target: The node of the target.
        made: What makes them, before and after, where the source says it.
        evidence: The places where something changed on the way; none if nothing did.
        is_top: Whether it is what the checkpoint is made of: its root, or a keyword.
    """

    source: int
    target: int
    made: tuple[Made, Made] | None = None
    evidence: tuple[str, ...] = ()
    is_top: bool = False


@dataclass
class _Walk:
    inferred: Inferred
    source: ObjectGraph
    target: ObjectGraph
    classes: Mapping[int, str]
    notes: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pairs = {(pair.old, pair.new): pair for pair in self.inferred.classes}
        self.by_new = {pair.new: pair for pair in self.inferred.classes}
        self.moves: dict[tuple[str, str], list[Move]] = {}
        for move in self.inferred.moves:
            self.moves.setdefault((move.old_owner, move.new_owner), []).append(move)
        self.endings: dict[str, list[str]] = {}
        for name in self.inferred.new.facts:
            self.endings.setdefault(name.rpartition(".")[2], []).append(name)
        olds, news = roots_of(self.inferred.old), roots_of(self.inferred.new)
        self.roots = {label: (olds[label], news[label]) for label in olds if label in news}

    def run(self) -> Bound:
        anchors: list[Anchor] = []
        seen = {(ROOT, ROOT)}
        stack = [_Step(ROOT, ROOT, is_top=True)]
        while stack:
            step = stack.pop()
            if step.evidence:
                anchors.append(Anchor(step.source, step.target, "; ".join(step.evidence)))
            for below in self._below(step):
                if (below.source, below.target) not in seen:
                    seen.add((below.source, below.target))
                    stack.append(below)
        return Bound(tuple(anchors), tuple(self.notes))

    def _below(self, step: _Step) -> Iterator[_Step]:
        """What two objects hold, each with what it is in the other."""
        ours, theirs = self.source.named_children(step.source), self.target.named_children(step.target)
        if not ours or not theirs:
            return
        spoken: tuple[set[str], set[str]] = (set(), set())
        pair = self._class_of(step)
        self._note_doubts(step, pair.new if pair is not None else "")
        for move in self.moves.get((pair.old, pair.new), ()) if pair is not None else ():
            for old, new in self._ends(step, move):
                evidence = step.evidence
                if not move.is_kept or move.is_placed:
                    evidence = (*evidence, *({move.evidence} - {*evidence}))
                yield _Step(old, new, (move.before, move.after), evidence)
            spoken[0].add(move.old[0])
            spoken[1].add(move.new[0])
        is_spoken = _those_spoken_of(spoken[0] | spoken[1])
        is_top = step.source == ROOT
        for label, child in ours.items():
            if label in theirs and not is_spoken(label):
                made = self.roots.get(label) if is_top else None
                yield _Step(child, theirs[label], made, step.evidence, is_top)
        if step.source == ROOT:
            yield from self._renamed_keywords(ours, theirs)

    def _note_doubts(self, step: _Step, owner: str) -> None:
        """Names that both have and that may be another's now: an equal path is no proof there."""
        for each in self.inferred.undecided:
            olds, news = dict(each.old), dict(each.new)
            if each.owner == owner and olds.keys() & news.keys():
                self.notes[
                    f"`{self.target.say(step.target)}`: {', '.join(olds)} -> {', '.join(news)} is not decided, what is "
                    f"paired by an equal name may be another: {each.reason}. State it with a rule"
                ] = None

    # Classes.

    def _class_of(self, step: _Step) -> ClassPair | None:
        named = self._named(self.classes.get(step.target, ""))
        if named is not None:
            return self.by_new.get(named)
        if step.made is not None:
            before, after = step.made
            pair = self.pairs.get((before.constructor, after.constructor))
            if pair is not None or (before.constructor and after.constructor):
                return pair
        return self._guessed(step) if step.is_top else None

    def _named(self, name: str) -> str | None:
        """The class of the source that a live object's class is."""
        if name.partition(".")[0] in _LIBRARIES:
            return None
        found = self.endings.get(name.rpartition(".")[2], [])
        shared = {each: _shared_ending(each, name) for each in found}
        best = [each for each in found if shared[each] == max(shared.values())]
        return best[0] if len(best) == 1 else None

    def _guessed(self, step: _Step) -> ClassPair | None:
        """The class whose attributes an object has: only where it is one of few and clearly that."""
        if step.source == ROOT and self.roots:
            return None
        scores: dict[tuple[str, str], tuple[int, int]] = {}
        for key, moves in self.moves.items():
            own = [move for move in moves if move.before.kind == "object" and "{i" not in "".join(move.old + move.new)]
            fitting = [move for move in own if next(self._ends(step, move), None) is not None]
            changed = [move for move in own if not move.is_kept]
            if own and len(fitting) >= _FITS * len(own) and any(move in fitting for move in changed or own):
                scores[key] = len(fitting), -len(own)
        best = [key for key, score in scores.items() if score == max(scores.values())]
        return self.pairs[best[0]] if len(best) == 1 else None

    def _renamed_keywords(self, ours: Mapping[str, int], theirs: Mapping[str, int]) -> Iterator[_Step]:
        """Keywords of checkpoints that are called otherwise, by what they are given."""
        for old, new in renamed_keywords(self.inferred):
            if old.label in ours and new.label in theirs and old.label not in theirs:
                evidence = (f"source: {old.place} -> {new.place}",)
                yield _Step(ours[old.label], theirs[new.label], (old, new), evidence)

    # Ways down.

    def _ends(self, step: _Step, move: Move) -> Iterator[tuple[int, int]]:
        """The nodes at both ends of a move; several for a loop."""
        if move.is_row:
            return  # its items are told one by one
        olds = dict(_walk(self.source, step.source, move.old, self._flow_of(move, old=True)))
        news = dict(_walk(self.target, step.target, move.new, self._flow_of(move, old=False)))
        if olds and news and len(olds) != len(news):
            row = "/".join(move.new)
            self.notes[
                f"`{self.target.say(step.target)}` has {len(olds)} (source) and {len(news)} (target) of `{row}`: "
                f"which are new, the source does not say ({move.evidence})"
            ] = None
            return
        for number, old in olds.items():
            if number in news:
                yield old, news[number]

    def _flow_of(self, move: Move, *, old: bool) -> Sequence[Made]:
        """The layers of the row that a move is about, if it is about one."""
        facts = (self.inferred.old.facts if old else self.inferred.new.facts)[move.old_owner if old else move.new_owner]
        way = move.old if old else move.new
        if way[0].startswith("#"):
            return facts.flow
        return next((item.items for item in facts.items if item.label == way[0] and item.kind == "flow"), ())


def roots_of(source: Source) -> dict[str, Made]:
    """The keywords of checkpoints with what they are given, as far as that is of one class wherever it is said."""
    found: dict[str, set[str]] = {}
    for made in source.roots:
        found.setdefault(made.label, set()).add(made.constructor)
    return {made.label: made for made in source.roots if len(found[made.label]) == 1}


def renamed_keywords(inferred: Inferred) -> Iterator[tuple[Made, Made]]:
    """The keywords of checkpoints that only one side has, and that are given one class."""
    olds, news = roots_of(inferred.old), roots_of(inferred.new)
    pairs = {(pair.old, pair.new) for pair in inferred.classes}
    for old in olds.values():
        found = [new for new in news.values() if new.label not in olds and (old.constructor, new.constructor) in pairs]
        if old.label not in news and len(found) == 1:
            yield old, found[0]


def _walk(graph: ObjectGraph, number: int, way: Labels, flow: Sequence[Made]) -> Iterator[tuple[int, int]]:
    """Where a way leads: a node, or one for each turn of a loop, by the number of the turn."""
    places = [(0, number)]
    for label in way:
        following: list[tuple[int, int]] = []
        for turn, place in places:
            if label.startswith("#"):
                following.extend(_layer(graph, place, label[1:], flow))
            elif "{i" in label:
                expression, shift = _expression(label), _shift(label)
                for name, child in graph.named_children(place).items():
                    found = expression.fullmatch(name)
                    if found is not None:
                        following.append((int(found[1]) - shift, child))
            else:
                only = graph.child(place, label)
                following.extend([(turn, only)] if only is not None else [])
        places = following
    yield from places


def _expression(label: str) -> re.Pattern[str]:
    before, _, after = _HOLE.split(label, maxsplit=1)
    return re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")


def _shift(label: str) -> int:
    found = _HOLE.search(label)
    return int(found[1] or 0) if found else 0


def _those_spoken_of(labels: Collection[str]) -> Callable[[str], bool]:
    """Whether an edge is one of those that moves begin with."""
    patterns = [_expression(label) for label in labels if "{i" in label]
    has_flow = any(label.startswith("#") for label in labels)

    def is_spoken(label: str) -> bool:
        return (
            label in labels
            or (has_flow and _is_of_flow(label))
            or any(pattern.fullmatch(label) for pattern in patterns)
        )

    return is_spoken


def _is_of_flow(label: str) -> bool:
    return label in ("_functional", "_operations", "_layers") or label.startswith(("layer-", "layer_with_weights-"))


def _layer(graph: ObjectGraph, number: int, label: str, flow: Sequence[Made]) -> Iterator[tuple[int, int]]:
    """The node of one layer of a row, by its name, or by its place if the model has as many as the source.

    What a loop makes is known by names with the number of the turn; each comes with that number.
    """
    layers = _layers(graph, number)
    made = next((item for item in flow if item.label == label), None)
    if made is None:
        return
    if made.is_loop:
        if "{i" in made.name:
            expression, shift = _expression(made.name), _shift(made.name)
            found = ((expression.fullmatch(name), layer) for layer in layers for name in _names(graph, layer))
            yield from ((int(match[1]) - shift, layer) for match, layer in found if match is not None)
        return
    named = [layer for layer in layers if made.name and made.name in _names(graph, layer)]
    if len(named) == 1:
        yield 0, named[0]
        return
    if any(item.is_loop for item in flow):
        return
    weighty = [item for item in flow if item.maker not in INPUTS]
    # A Sequential has the input that Keras 3 gives it, and none in Keras 2.
    for own, more in ((list(flow), 0), (weighty, 0), (weighty, 1)):
        if len(layers) == len(own) + more and made in own:
            if not _contradict(graph, layers[more:], own):
                yield 0, layers[more + own.index(made)]
            return


def _contradict(graph: ObjectGraph, layers: Sequence[int], own: Sequence[Made]) -> bool:
    """Whether the names of variables show that some of the layers are those of the source, and others are not.

    In a model of one's own class Keras 3 names no layer in them, and then none of them says anything.

    Source: ``to_snake_case`` in Keras 3 ``src/utils/naming.py`` and in tf_keras ``utils/generic_utils.py``.
    """
    said: set[bool] = set()
    for layer, made in zip(layers, own, strict=True):
        names = _names(graph, layer)
        words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", made.maker)
        automatic = re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
        if names and made.kind == "object":
            said.add(bool({made.name, automatic} & {*names, *map(stem_of, names)}))
    return len(said) > 1


def _layers(graph: ObjectGraph, number: int) -> list[int]:
    """The layers of a functional or Sequential model, in Keras's order.

    Source: ``Functional._trackable_children`` in tf_keras ``engine/functional.py``; ``Function`` in Keras 3
    ``src/ops/function.py`` and ``Sequential`` in ``src/models/sequential.py``.
    """
    for label in ("_functional", "_operations"):
        inner = graph.child(number, label)
        number = number if inner is None else inner
    found: dict[int, int] = {}
    for label, child in graph.nodes[number].children.items():
        counted = label.removeprefix("layer-")
        if counted.isdecimal():
            found[int(counted)] = child
    return [found[at] for at in sorted(found)]


def _names(graph: ObjectGraph, number: int) -> frozenset[str]:
    """The names on the way to the variables of a layer, as far as they are in the names of the variables."""
    key = next(iter(graph.keys_below(number)), None)
    return frozenset(graph.nodes[graph.node_of[key]].full_name.split("/")[:-1]) if key is not None else frozenset()


def _shared_ending(one: str, other: str) -> int:
    count = 0
    for ours, theirs in zip(reversed(one.split(".")), reversed(other.split(".")), strict=False):
        if ours != theirs:
            break
        count += 1
    return count
