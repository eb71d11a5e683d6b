"""Between a checkpoint of names and one of objects: the full names that an object graph keeps say what is what.

They are strong evidence where a person gave them and a trap where a framework counted: with one layer built
before, 149 of 151 pairs of equal names and shapes were wrong. So the names of both sides are matched as
paths are, with the same doubts about what was counted, and only a name that somebody gave is certain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ckptmigrate.graph import ROOT, VARIABLE_ROLE, ObjectGraph
from ckptmigrate.matching.draft import Draft, Grounds
from ckptmigrate.matching.exact import Settled, exact_pairs, keys_in, settled_by
from ckptmigrate.matching.list_hypotheses import of_list
from ckptmigrate.matching.names import is_automatic
from ckptmigrate.matching.parts import take_pieces
from ckptmigrate.matching.result import Answers, Hypothesis, Lead, Step
from ckptmigrate.spec import Key

_ROLES = frozenset(
    "beta bias biases count embeddings gamma kernel mean moving_mean moving_variance variance weights".split()  # noqa: SIM905
)
"""What layers call their variables: a name that is only this names no layer."""


@dataclass(frozen=True, slots=True)
class _Names:
    """A graph's variables by full name, as a tree of the names' segments.

    Attributes:
        tree: The tree, with the names as its keys.
        keys: The tensor of each name.
        nodes: The node of each name.
        shared: The nodes of each name that several have.
        families: What is known of `families` so far.
    """

    tree: ObjectGraph
    keys: Mapping[str, Key]
    nodes: Mapping[str, int]
    shared: Mapping[str, Sequence[int]]
    _families: dict[int, dict[str, frozenset[str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: ObjectGraph, *, skipped: int = 0) -> _Names:
        """The names of a graph, without so many segments that all of them begin with."""
        apart = graph.slot_nodes | graph.scalars if graph.kind == "object" else graph.slot_nodes
        held = [
            ("/".join(node.full_name.split("/")[skipped:]), number)
            for number, node in enumerate(graph.nodes)
            if VARIABLE_ROLE in node.tensors and node.full_name and number not in apart
        ]
        holders: dict[str, list[int]] = {}
        for name, number in held:
            holders.setdefault(name, []).append(number)
        nodes = {name: numbers[0] for name, numbers in holders.items() if len(numbers) == 1}
        keys = {name: graph.nodes[number].tensors[VARIABLE_ROLE] for name, number in nodes.items()}
        tree = ObjectGraph.from_names({Key(name): graph.specs[key] for name, key in keys.items()})
        return cls(tree, keys, nodes, {name: numbers for name, numbers in holders.items() if len(numbers) > 1})

    def scope(self) -> tuple[str, ...]:
        """The segments that all names begin with, none of them a name's last."""
        names = [name.split("/")[:-1] for name in self.keys]
        if not names:
            return ()
        first, last = min(names), max(names)
        length = next((at for at, label in enumerate(first) if at >= len(last) or label != last[at]), len(first))
        return tuple(first[:length])

    def families(self, number: int) -> dict[str, frozenset[str]]:
        """The labels below a node of the tree that are equal but for a number at their end."""
        found = self._families.get(number)
        if found is None:
            gathered: dict[str, set[str]] = {}
            for label in self.tree.nodes[number].children:
                gathered.setdefault(_stem(label), set()).add(label)
            found = self._families[number] = {stem: frozenset(labels) for stem, labels in gathered.items()}
        return found


def take_full_names(draft: Draft) -> None:
    """Pair the variables of a checkpoint of names and one of objects by their full names."""
    source, target = _Names.of(draft.source), _Names.of(draft.target)
    _ask_about_shared(draft, source, target)
    if _take(draft, source, target, scope=""):
        return
    # Keras puts a model's name before those of its layers.
    ours, theirs = target.scope(), source.scope()
    if bool(ours) != bool(theirs):
        said = "/".join(ours or theirs)
        _take(
            draft,
            _Names.of(draft.source, skipped=len(theirs)),
            _Names.of(draft.target, skipped=len(ours)),
            scope=f", below `{said}`, in which all variables of the {'target' if ours else 'source'} are",
        )


def take_names_as_paths(draft: Draft) -> None:
    """Propose what is called on one side as its path is on the other, where full names have decided nothing."""
    exact = exact_pairs(draft.source, draft.target, settled_by(draft))
    for s, t in exact.pairs.items():
        if t in draft.target.slot_nodes or s in draft.source.slot_nodes:
            continue
        evidence = f"the name of one side is the path of the other, `{draft.target.say(t)}`, and no full name says more"
        pieces = draft.source.pieces(s), draft.target.pieces(t)
        take_pieces(draft, *pieces, Grounds("proposed", evidence, "name-as-path"))


def _take(draft: Draft, source: _Names, target: _Names, *, scope: str) -> bool:
    """Pair what has equal names; whether anything has, or it is asked whether it has."""
    settled = _settled(draft, source, target)
    exact = exact_pairs(source.tree, target.tree, settled)
    found = bool(exact.doubts)
    for name, s, t, reason in _walk(source, target, exact.pairs):
        pieces = source.tree.pieces(s), target.tree.pieces(t)
        if not all(pieces):
            continue
        found = True
        said = f"full name `{name}` on both sides{scope}"
        sources, targets = (
            [names.keys[piece] for piece in each] for names, each in zip((source, target), pieces, strict=True)
        )
        if reason or scope:
            evidence = f"{said}; {reason}" if reason else said
            take_pieces(
                draft, sources, targets, Grounds("proposed", evidence, "counted-name" if reason else "scoped-name")
            )
        else:
            evidence = f"{said}, which a person gave and no other variable has"
            take_pieces(draft, sources, targets, Grounds("certain", evidence))
    names = _draft_of_names(source, target, settled)
    for doubt in exact.doubts:
        draft.ask(
            [source.keys[name] for name in keys_in(source.tree, doubt.source, doubt)],
            [target.keys[name] for name in keys_in(target.tree, doubt.target, doubt)],
            f"of the full names, {doubt.reason}",
            _by_key(of_list(names, doubt), source, target),
        )
    return found


def _draft_of_names(source: _Names, target: _Names, settled: Settled) -> Draft:
    """What is settled, by names."""
    used, steps = set(settled.source), {name: Step(name, (), (), "rule", 1.0, ()) for name in settled.target}
    steps.update((new, Step(new, (old,), (), "rule", 1.0, ())) for old, new in settled.moves.items())
    return Draft(source.tree, target.tree, steps=steps, used=used)


def _by_key(answers: Answers, source: _Names, target: _Names) -> Answers:
    """Answers that speak of names, in keys."""

    def by_key(hypothesis: Hypothesis) -> Hypothesis:
        return replace(
            hypothesis,
            leads=tuple(
                Lead(target.keys[lead.target], tuple(source.keys[name] for name in lead.sources), lead.ops)
                for lead in hypothesis.leads
            ),
            new=tuple(target.keys[name] for name in hypothesis.new),
            gone=tuple(source.keys[name] for name in hypothesis.gone),
        )

    return replace(answers, hypotheses=tuple(map(by_key, answers.hypotheses)))


def _walk(source: _Names, target: _Names, pairs: Mapping[int, int]) -> Iterator[tuple[str, int, int, str]]:
    """The pairs of nodes that equal names lead to: name, both nodes, and what speaks against the name if anything."""
    stack: list[tuple[tuple[str, ...], int, int, str, bool]] = [((), ROOT, ROOT, "", False)]
    while stack:
        path, s, t, doubt, is_in_named = stack.pop()
        if path:
            yield "/".join(path), s, t, doubt or _why_nobodys(path, is_in_named=is_in_named)
            is_in_named = is_in_named or not is_automatic(path[-1])
        children = target.tree.nodes[t].children
        # What was counted is looked at once for all objects that are counted together.
        ours, theirs = source.families(s), target.families(t)
        counted = {stem: _why_uncertain(stem, labels, theirs[stem]) for stem, labels in ours.items() if stem in theirs}
        for label, child in source.tree.nodes[s].children.items():
            if label in children and pairs.get(child) == children[label]:
                reason = doubt or counted[_stem(label)]
                stack.append(((*path, label), child, children[label], reason, is_in_named))


def _why_uncertain(stem: str, ours: frozenset[str], theirs: frozenset[str]) -> str:
    """What speaks against believing the labels of one stem, in one place; empty if nothing does."""
    if any(map(is_automatic, ours)):
        # An object that is the only one of its kind where it is needs no name to be told.
        alone = len(ours) == len(theirs) == 1
        return "" if alone else f"`{stem}_N` are a framework's names, whose numbers say what was built before them"
    return "" if ours == theirs else f"`{stem}_N` are counted otherwise: {len(ours)} (source), {len(theirs)} (target)"


def _why_nobodys(path: tuple[str, ...], *, is_in_named: bool) -> str:
    """What speaks against believing a name none of whose parts anybody gave; empty if somebody did."""
    *scope, own = path
    if _stem(own) in ("Variable", "variable", "ShardedVariable"):
        return f"`{own}` is what TensorFlow calls a variable that nobody named"
    if is_in_named or (not scope and own not in _ROLES):
        return ""
    return "nobody named what it belongs to"


def _stem(label: str) -> str:
    return re.sub(r"_?\d+$", "", label)


def _settled(draft: Draft, source: _Names, target: _Names) -> Settled:
    """What rules have spoken of, by name."""
    theirs = {key: Key(name) for name, key in source.keys.items()}
    ours = {key: Key(name) for name, key in target.keys.items()}
    gone = draft.used | draft.dropped.keys()
    return Settled(
        frozenset(name for key, name in theirs.items() if key in gone),
        frozenset(name for key, name in ours.items() if key in draft.steps),
        {
            theirs[key]: ours[step.target]
            for step in draft.steps.values()
            if step.target in ours
            for key in step.sources
            if key in theirs
        },
    )


def _ask_about_shared(draft: Draft, source: _Names, target: _Names) -> None:
    """A name that a person gave to several variables tells none of them from the others."""
    for name in dict.fromkeys((*source.shared, *target.shared)):
        holders = [
            [number] if (number := names.nodes.get(name)) is not None else names.shared.get(name, ())
            for names in (source, target)
        ]
        if not all(map(is_automatic, name.split("/"))):
            draft.ask(
                [draft.source.nodes[number].tensors[VARIABLE_ROLE] for number in holders[0]],
                [draft.target.nodes[number].tensors[VARIABLE_ROLE] for number in holders[1]],
                f"the full name `{name}` is that of {len(holders[0])} (source) and of {len(holders[1])} (target)",
            )
