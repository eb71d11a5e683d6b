"""From two graphs and a rulebook to what leads where: rules first, then what is exact, then the slots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Literal

from ckptmigrate.graph import CONFIG_ROLE, ROOT, VARIABLE_ROLE, ObjectGraph
from ckptmigrate.matching.anchors import Anchor, inferred_anchors, split_inferred, take_anchors
from ckptmigrate.matching.claims import Claim, read_claims
from ckptmigrate.matching.contents import Contents
from ckptmigrate.matching.converted import take_converted
from ckptmigrate.matching.draft import Draft, Grounds
from ckptmigrate.matching.exact import (
    ExactPairs,
    Signatures,
    aligned_items,
    exact_pairs,
    keys_in,
    named_items,
    settled_by,
)
from ckptmigrate.matching.full_names import take_full_names, take_names_as_paths
from ckptmigrate.matching.fused import take_fused
from ckptmigrate.matching.hypotheses import of_apart, of_tied, of_units
from ckptmigrate.matching.list_hypotheses import of_list
from ckptmigrate.matching.names import counted_segments
from ckptmigrate.matching.parts import are_cut_otherwise, take_pieces
from ckptmigrate.matching.proof import take_contents
from ckptmigrate.matching.propose import Pair, are_transposed, pair_units
from ckptmigrate.matching.questions import finished_questions, proposals
from ckptmigrate.matching.result import Drop, Matching, Status, Step, Unmatched
from ckptmigrate.matching.slots import take_slots
from ckptmigrate.matching.squares import doubt_squares
from ckptmigrate.matching.tied import doubt_tied
from ckptmigrate.matching.units import Nobodys, Unit, read_units
from ckptmigrate.ops import Fill, Reshape
from ckptmigrate.rules import Rulebook
from ckptmigrate.spec import Key


def match_graphs(
    source: ObjectGraph,
    target: ObjectGraph,
    rulebook: Rulebook = (),
    contents: Contents | None = None,
    anchors: Iterable[Anchor] = (),
) -> Matching:
    """Say for every tensor of both sides where it goes or comes from, or that it is open.

    Args:
        source: The graph of the checkpoint that values are taken from.
        target: The graph of the new model's checkpoint.
        rulebook: Rules, all of which apply at once: none sees the result of another.
        contents: The checksums of the values of both, where they are known: equal ones can be proof.
        anchors: What the source code shows to be each other. It holds where it fits and no rule says otherwise.

    Returns:
        Steps by rules and by what is exact, questions where positions are doubtful, and the rest.

    Raises:
        RuleError: A rule matches nothing, or contradicts another or the shapes; `Problems` if several do.
    """
    draft = Draft(source, target)
    stated, inferred = split_inferred(rulebook)
    claims = read_claims(source, target, stated)
    draft.objects.update(claims.objects)
    draft.source_reasons.update(claims.reasons)
    for claim in claims.claims:
        _take_claim(draft, claim)
    _keep_configs(draft)
    for t, s in claims.objects.items():
        if are_cut_otherwise(source, s, target, t):
            evidence = f"rules lead from `{source.say(s)}` to `{target.say(t)}`"
            take_pieces(draft, source.pieces(s), target.pieces(t), Grounds("rule", evidence))
    if contents is not None:
        take_contents(draft, contents)
    notes = take_anchors(draft, (*inferred_anchors(source, target, inferred), *anchors))
    if source.kind == target.kind:
        exact = _take_exact(draft)
        _take_aligned(draft, exact)
        _take_units(draft, _keys_apart(source, exact, side="source"), _keys_apart(target, exact, side="target"))
        _ask_about(draft, exact)
    else:
        take_full_names(draft)
        take_names_as_paths(draft)
        asked = {key for question in draft.questions for key in question.sources}
        _take_units(draft, asked, draft.asked)
    doubt_tied(draft)
    _take_unowned(draft)
    take_slots(draft)
    _start_save_counter(draft)
    return _result(draft, notes)


def _take_claim(draft: Draft, claim: Claim) -> None:
    rule = claim.rule
    if claim.target is None:
        draft.dropped.update((source, Drop(source, rule.describe())) for source in claim.sources)
        return
    if claim.sources and _holds_config(draft.target, claim.target):
        return
    draft.copied.update(draft.used.intersection(claim.sources))
    draft.used.update(claim.sources)
    evidence = f"rule {rule.where}: {rule.describe()}" if rule.where else f"rule: {rule.describe()}"
    status: Status = "initial" if rule.kind == "init" else "rule"
    draft.steps[claim.target] = Step(claim.target, claim.sources, claim.operations, status, 1.0, (evidence,))


def _take_exact(draft: Draft) -> ExactPairs:
    exact = exact_pairs(draft.source, draft.target, settled_by(draft))
    in_parts = _take_parts(draft, exact)
    for s, t in exact.pairs.items():
        draft.objects.setdefault(t, s)
        if t in draft.target.slot_nodes or s in draft.source.slot_nodes:
            continue
        for role, source_key in draft.source.nodes[s].tensors.items():
            target_key = draft.target.nodes[t].tensors.get(role)
            if target_key is not None and target_key not in in_parts:
                draft.equal(source_key, target_key, _same_path(draft.source.say(s), draft.target.say(t)))
    return exact


def _take_parts(draft: Draft, exact: ExactPairs) -> frozenset[Key]:
    """Pair variables in parts that are cut otherwise; the tensors of those in the target."""
    in_parts: set[Key] = set()
    for s, t in exact.pairs.items():
        if are_cut_otherwise(draft.source, s, draft.target, t):
            sources, targets = draft.source.pieces(s), draft.target.pieces(t)
            # Part 1 of 4 is not part 1 of 3, even where it has its shape.
            in_parts.update(targets)
            take_pieces(draft, sources, targets, Grounds("certain", f"same name `{draft.target.say(t)}`"))
    return frozenset(in_parts)


def _take_unowned(draft: Draft) -> None:
    shared_keys = set(draft.source.unowned) & set(draft.target.unowned)
    for key in sorted(shared_keys):
        draft.equal(key, key, "same key; no object of the graph holds it")


def _take_aligned(draft: Draft, exact: ExactPairs) -> None:
    """Of lists that changed, the items that names tell, and those that no alignment could take for others."""
    signatures = Signatures()
    counted = frozenset().union(*map(counted_segments, (draft.source, draft.target) if exact.doubts else ()))
    for doubt in exact.doubts:
        for pair in named_items(draft.source, draft.target, doubt, signatures, counted):
            _take_items(draft, *pair, "both have one name, which a person gave and no other item has")
        for pair in aligned_items(draft.source, draft.target, doubt, signatures):
            _take_items(draft, *pair, "every best alignment of the two lists pairs them")


def _take_items(draft: Draft, s: int, t: int, why: str) -> None:
    """Pair two items of lists, of one structure, with all that is below them."""
    alike = list(_walk_alike(draft, s, t))
    if any(draft.differ(*keys) for pair in alike for keys in _keys_of_both(draft, *pair)):
        return
    evidence = f"`{draft.source.say(s)}` and `{draft.target.say(t)}`: {why}"
    for old, new in alike:
        draft.objects.setdefault(new, old)
        for source_key, target_key in _keys_of_both(draft, old, new):
            if target_key not in draft.steps and source_key not in draft.used:
                draft.used.add(source_key)
                draft.steps[target_key] = Step(target_key, (source_key,), (), "certain", 1.0, (evidence,))


def _keys_of_both(draft: Draft, s: int, t: int) -> Iterator[tuple[Key, Key]]:
    """The tensors that two nodes have in the same role."""
    for role, source_key in draft.source.nodes[s].tensors.items():
        target_key = draft.target.nodes[t].tensors.get(role)
        if target_key is not None:
            yield source_key, target_key


def _walk_alike(draft: Draft, s: int, t: int) -> Iterator[tuple[int, int]]:
    """The pairs of nodes at and below two that have one structure."""
    stack = [(s, t)]
    while stack:
        s, t = stack.pop()
        yield s, t
        twins = draft.target.tree_children(t)
        # A tree of names holds slots below their variables, and the other side's optimizer may be another one.
        stack.extend((child, twins[label]) for label, child in draft.source.tree_children(s).items() if label in twins)


def _take_units(draft: Draft, source_apart: AbstractSet[Key], target_apart: AbstractSet[Key]) -> None:
    """What leads where by structure, names and order, of what is left and not asked about already."""
    settled = (
        draft.used | draft.dropped.keys() | draft.source_apart | source_apart,
        draft.steps.keys() | draft.target_apart | target_apart,
    )
    nobodys = Nobodys.of(draft.source) | Nobodys.of(draft.target)
    sources, targets = (
        read_units(
            graph, {number for key, number in graph.node_of.items() if key in keys} | graph.scalars, nobodys.repeated
        )
        for graph, keys in zip((draft.source, draft.target), settled, strict=True)
    )
    pairs, opens = pair_units(sources, targets, nobodys)
    for pair in (_compared(draft, pair) for pair in pairs):
        for s, t in pair.nodes():
            _take_pair(draft, s, t, pair)
        if not pair.is_certain:
            draft.proposed.append(tuple(_keys_of(draft.target, [pair.target])))
    for group in opens:
        keys = _keys_of(draft.source, group.sources), _keys_of(draft.target, group.targets)
        draft.ask(*keys, group.reason, of_units(draft.source, draft.target, group))
    take_converted(draft, sources, targets, pairs, nobodys)
    take_fused(draft, sources, targets, nobodys)
    doubt_squares(draft, are_turned=are_transposed(sources, targets))


def _compared(draft: Draft, pair: Pair) -> Pair:
    """A pair that is not certain if its bytes differ, where those of others are equal."""
    keys = (both for s, t in pair.nodes() for both in _keys_of_both(draft, s, t))
    if not pair.is_certain or not any(draft.differ(*both) for both in keys):
        return pair
    evidence = "but its values differ, where both sides have equal ones elsewhere: one may have gone, and another come"
    return replace(pair, caveat="values-differ", evidence=(*pair.evidence, evidence))


def _take_pair(draft: Draft, s: int, t: int, pair: Pair) -> None:
    source, target = draft.source.nodes[s].tensors[VARIABLE_ROLE], draft.target.nodes[t].tensors[VARIABLE_ROLE]
    wanted = draft.target.specs[target]
    operations = () if draft.source.specs[source] == wanted else (Reshape(wanted.shape),)
    draft.used.add(source)
    if pair.caveat is None:
        draft.steps[target] = Step(target, (source,), operations, "certain", 1.0, pair.evidence)
    else:
        draft.steps[target] = Step.proposed(target, (source,), operations, pair.caveat, pair.evidence)


def _keys_of(graph: ObjectGraph, units: Iterable[Unit]) -> list[Key]:
    return [
        graph.nodes[number].tensors[VARIABLE_ROLE] for unit in units for member in unit.members for number in member
    ]


def _keys_apart(graph: ObjectGraph, exact: ExactPairs, *, side: Literal["source", "target"]) -> set[Key]:
    """The tensors that equal paths lead to and that something else keeps apart: a question already."""
    at: Literal[0, 1] = 0 if side == "source" else 1
    numbers = {number for tied in exact.tied for number in tied[at]}
    numbers.update(number for apart in exact.apart for number in apart.side(at))
    doubted = {key for doubt in exact.doubts for key in keys_in(graph, (doubt.source, doubt.target)[at], doubt)}
    return doubted | {key for number in numbers for key in graph.nodes[number].tensors.values()}


def _same_path(source: str, target: str) -> str:
    return f"same path `{target}`" if source == target else f"`{source}` and `{target}` have a path in common"


def _ask_about(draft: Draft, exact: ExactPairs) -> None:
    """Turn what could not be decided into questions, where both sides have tensors that wait."""
    for doubt in exact.doubts:
        draft.ask(
            keys_in(draft.source, doubt.source, doubt),
            keys_in(draft.target, doubt.target, doubt),
            doubt.reason,
            of_list(draft, doubt),
        )
    for sources, targets in exact.tied:
        draft.ask(
            [key for s in sorted(sources) for key in draft.source.nodes[s].tensors.values()],
            [key for t in sorted(targets) for key in draft.target.nodes[t].tensors.values()],
            "equal paths lead to one variable on one side and to several on the other (tied or untied weights)",
            of_tied(draft.source, draft.target, sources, targets),
        )
    for apart in exact.apart:
        draft.ask(
            [key for s in apart.side(0) for key in draft.source.nodes[s].tensors.values()],
            [key for t in apart.side(1) for key in draft.target.nodes[t].tensors.values()],
            apart.reason,
            of_apart(draft.source, draft.target, apart),
        )


def _result(draft: Draft, notes: tuple[str, ...]) -> Matching:
    questions = finished_questions(draft)
    asked_targets = {key for question in questions for key in question.targets}
    asked_sources = {key for question in questions for key in question.sources}
    return Matching(
        steps=tuple(draft.steps[key] for key in draft.target.specs if key in draft.steps),
        questions=questions,
        unmatched_source=tuple(
            Unmatched(key, draft.source_reasons.get(key, ""))
            for key in draft.source.specs
            if key not in draft.used and key not in draft.dropped and key not in asked_sources
        ),
        unmatched_target=tuple(
            Unmatched(key, draft.target_reasons.get(key, ""))
            for key in draft.target.specs
            if key not in draft.steps and key not in asked_targets
        ),
        dropped=tuple(draft.dropped[key] for key in draft.source.specs if key in draft.dropped),
        proposals=proposals(draft),
        notes=notes,
    )


def _holds_config(graph: ObjectGraph, key: Key) -> bool:
    number = graph.node_of.get(key)
    return number is not None and graph.nodes[number].tensors.get(CONFIG_ROLE) == key


def _keep_configs(draft: Draft) -> None:
    """What an object was configured with belongs to its code, like the graph, and not to its training.

    Keras wrote it from TensorFlow 1.13 to 2.1. It names the object and its shapes, so the source's would
    contradict the target's graph; and nothing is lost, because TensorFlow never restores it.

    Source: ``NoRestoreSaveable`` in tensorflow/python/trackable/base.py.
    """
    for node in draft.target.nodes:
        key = node.tensors.get(CONFIG_ROLE)
        if key is not None and key not in draft.steps:
            evidence = "what an object is configured with belongs to the target's code"
            draft.steps[key] = Step(key, (), (Fill("template"),), "initial", 1.0, (evidence,))
    for node in draft.source.nodes:
        key = node.tensors.get(CONFIG_ROLE)
        if key is not None:
            why = "what an object was configured with belongs to its code, and is not restored"
            draft.dropped.setdefault(key, Drop(key, why))


def _start_save_counter(draft: Draft) -> None:
    """``Checkpoint.save`` counts its calls, ``Checkpoint.write`` does not; a new count starts at the template's.

    A checkpoint without objects has none: a `Saver` has other means.

    Source: ``Checkpoint._maybe_create_save_counter`` in tensorflow/python/checkpoint/checkpoint.py.
    """
    counter, old = draft.target.child(ROOT, "save_counter"), draft.source.child(ROOT, "save_counter")
    if draft.target.kind == "name" and draft.source.kind == "object" and counter is None and old is not None:
        for key in draft.source.nodes[old].tensors.values():
            if key not in draft.used:
                draft.dropped.setdefault(key, Drop(key, "a checkpoint without objects has no save counter"))
    if counter is None or old is not None:
        return
    for key in draft.target.nodes[counter].tensors.values():
        if key not in draft.steps:
            evidence = "the source was written without a save counter"
            draft.steps[key] = Step(key, (), (Fill("template"),), "initial", 1.0, (evidence,))
