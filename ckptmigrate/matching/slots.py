"""Optimizer slots follow their variable: no rule has to speak of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from ckptmigrate.errors import OperationError
from ckptmigrate.graph import ROOT, VARIABLE_ROLE, ObjectGraph, Optimizer, Slot
from ckptmigrate.graph.optimizer import EVERY_OPTIMIZERS
from ckptmigrate.graph.slot_links import variables_in_order
from ckptmigrate.matching.confidence import Caveat, weakest
from ckptmigrate.matching.draft import Draft
from ckptmigrate.matching.hypotheses import of_order
from ckptmigrate.matching.result import Answers, Drop, Lead, Step
from ckptmigrate.ops import (
    Add,
    Average,
    Cast,
    Custom,
    Fill,
    FoldBias,
    FoldKernel,
    Gates,
    Op,
    Resize,
    Scale,
    Vocab,
    infer_chain,
)
from ckptmigrate.spec import Key, TensorSpec

_ORDER_EVIDENCE = (
    "several variables have the name that the slot has, and it is taken for its variable's because the optimizer was "
    "given them in the order of `trainable_variables`, as is usual"
)
"""Why a slot's variable is likely and not certain. The order is not in the checkpoint."""

_POWERS = ("beta1_power", "beta2_power")

_SECOND_MOMENTS = frozenset(
    {"velocity", "velocity_hat", "rms", "accumulator", "accumulated_grad", "accumulated_delta_var", "row", "column"}
)
"""The kinds that hold squares: of gradients, or of what they change."""


def take_slots(draft: Draft) -> None:
    """Let every slot go where its variable goes: along with it, anew, or nowhere."""
    pairs = tuple(_optimizer_pairs(draft))
    for theirs, ours in pairs:
        if ours.is_other_than(theirs):
            _start_other(draft, theirs, ours)
        else:
            _follow_scalars(draft, theirs, ours)
    for optimizer in draft.target.optimizers:
        for slot in optimizer.slots:
            _start_with_variable(draft, slot)
    for optimizer in draft.source.optimizers:
        for slot in optimizer.slots:
            _drop_with_variable(draft, slot)
    for theirs, ours in pairs:
        _follow_variables(draft, theirs, ours)


def _optimizer_pairs(draft: Draft) -> Iterator[tuple[Optimizer, Optimizer]]:
    """Optimizers that a rule or equal paths join, or that have slots of the same variables and no others.

    An optimizer within a `LossScaleOptimizer` is at the place of that as well as at its own.
    """
    theirs = [optimizer for optimizer in draft.source.optimizers if optimizer.algorithm != "loss-scale"]
    ours = [optimizer for optimizer in draft.target.optimizers if optimizer.algorithm != "loss-scale"]
    at = {place: optimizer for optimizer in theirs for place in _places(optimizer)}
    pairs: dict[int, Optimizer] = {}
    for optimizer in ours:
        places = (draft.objects.get(place, -1) for place in _places(optimizer))
        other = next((at[place] for place in places if place in at), None)
        if other is not None:
            pairs[optimizer.node] = other
    if not pairs and len(theirs) == len(ours) == 1:
        pairs[ours[0].node] = theirs[0]
    free = [other for other in theirs if other not in pairs.values()]
    alike = {
        optimizer.node: [other for other in free if _share_variables(draft, other, optimizer)]
        for optimizer in ours
        if optimizer.node not in pairs
    }
    for node, others in alike.items():
        if len(others) == 1 and sum(others[0] in rivals for rivals in alike.values()) == 1:
            pairs[node] = others[0]
    for optimizer in ours:
        if optimizer.node in pairs:
            other = pairs[optimizer.node]
            yield other.read_as(optimizer), optimizer.read_as(other)


def _places(optimizer: Optimizer) -> Iterator[int]:
    yield optimizer.node
    if optimizer.wrapper is not None:
        yield optimizer.wrapper


def _share_variables(draft: Draft, theirs: Optimizer, ours: Optimizer) -> bool:
    """Whether what one optimizer trains is what the other trains, and nothing of it is another's."""
    old = {slot.variable for slot in theirs.slots}
    new = {
        draft.source.node_of.get(key)
        for slot in ours.slots
        if (step := draft.step_of(slot.variable)) is not None
        for key in step.sources
    }
    return bool(new) and new <= old


def _start_other(draft: Draft, theirs: Optimizer, ours: Optimizer) -> None:
    """Another optimizer starts anew: slots, steps, learning rate. What any optimizer keeps is not its own."""
    swap = f"another optimizer: {theirs.algorithm or 'adam'} (source), {ours.algorithm or 'adam'} (target)"
    own = [slot.node for slot in ours.slots if slot.kind not in EVERY_OPTIMIZERS]
    for number in (*own, *ours.scalars.values()):
        key = draft.target.nodes[number].tensors[VARIABLE_ROLE]
        step = draft.steps.get(key)
        if step is not None and step.status == "exact":
            draft.release(key)
        if key not in draft.steps:
            draft.steps[key] = Step(key, (), (Fill("template"),), "initial", 1.0, (f"{swap}: it starts anew",))
    left = [slot.node for slot in theirs.slots if slot.kind not in EVERY_OPTIMIZERS]
    for number in (*left, *theirs.scalars.values()):
        key = draft.source.nodes[number].tensors[VARIABLE_ROLE]
        if key not in draft.used:
            draft.dropped.setdefault(key, Drop(key, swap))


def _follow_scalars(draft: Draft, theirs: Optimizer, ours: Optimizer) -> None:
    """What an optimizer has once (its steps, its learning rate) goes to what means the same."""
    value_of = {role: draft.source.nodes[number].tensors[VARIABLE_ROLE] for role, number in theirs.scalars.items()}
    wanted = {role: draft.target.nodes[number].tensors[VARIABLE_ROLE] for role, number in ours.scalars.items()}
    for role, target in wanted.items():
        step = draft.steps.get(target)
        # Equal paths mislead where one of the two is within a LossScaleOptimizer, which has steps of its own.
        if step is not None and step.status == "exact" and step.sources != (value_of.get(role),):
            draft.release(target)
    differ = theirs.generation != ours.generation or ("loss_scale" in value_of) != ("loss_scale" in wanted)
    for role, target in wanted.items():
        source = value_of.get(role)
        if target in draft.steps:
            continue
        if source is not None and source not in draft.used and source not in draft.dropped:
            _take_scalar(draft, role, source, target)
        elif source is None and role in _POWERS:
            draft.target_reasons[target] = (
                "TensorFlow 1 keeps a beta to the power of the number of steps, and the source keeps the steps: "
                "compute it, and give it with an `init` rule"
            )
        elif source is None and differ:
            evidence = f"the source's optimizer ({theirs.generation}) does not store its `{role}`"
            draft.steps[target] = Step(target, (), (Fill("template"),), "initial", 1.0, (evidence,))
    for role, source in value_of.items():
        if differ and role not in wanted and source not in draft.used and source not in draft.dropped:
            draft.dropped[source] = Drop(source, f"the target's optimizer ({ours.generation}) does not store `{role}`")


def _take_scalar(draft: Draft, role: str, source: Key, target: Key) -> None:
    spec, wanted = draft.source.specs[source], draft.target.specs[target]
    if spec.shape != wanted.shape:
        draft.target_reasons[target] = draft.source_reasons[source] = (
            f"`{role}` of the optimizer has another shape: {spec} (source), {wanted} (target)"
        )
        return
    operations = () if spec == wanted else (Cast(wanted.dtype),)
    draft.used.add(source)
    draft.steps[target] = Step(target, (source,), operations, "certain", 1.0, (f"`{role}` of the optimizer",))


def _follow_variables(draft: Draft, theirs: Optimizer, ours: Optimizer) -> None:
    """A slot goes where its variable goes, through the same operations."""
    doubt = ""
    if theirs.generation != ours.generation and not (theirs.algorithm and ours.algorithm):
        unknown = "source" if not theirs.algorithm else "target"
        doubt = f"the {unknown} does not say which optimizer this is: slots are taken to mean the same by the same word"
    # What is certain comes first: it may show that what is only likely is wrong.
    _follow_links(draft, theirs, ours, certain=True, doubt=doubt)
    is_open = any(_key(draft.target, slot) not in draft.steps for slot in ours.slots)
    if is_open and theirs.generation == ours.generation and _nothing_moved(draft):
        _follow_positions(draft, theirs, ours)
    _follow_links(draft, theirs, ours, certain=False, doubt=doubt or _ORDER_EVIDENCE)
    if not all(slot.variable is not None for slot in (*theirs.slots, *ours.slots)):
        olds = [
            slot
            for slot in theirs.slots
            if slot.variable is None or draft.source.nodes[slot.variable].tensors[VARIABLE_ROLE] in draft.used
        ]
        news = [slot for slot in ours.slots if slot.variable is None or draft.step_of(slot.variable) is not None]
        draft.ask(
            [_key(draft.source, slot) for slot in olds],
            [_key(draft.target, slot) for slot in news],
            "the checkpoint does not say which variables these slots belong to: several variables share a name",
            _in_order(draft, olds, news),
        )


def _in_order(draft: Draft, olds: Sequence[Slot], news: Sequence[Slot]) -> Answers:
    """The one answer that the open slots of each kind are in the same order on both sides."""
    left = [slot for slot in olds if (key := _key(draft.source, slot)) not in draft.used and key not in draft.dropped]
    right = [slot for slot in news if _key(draft.target, slot) not in draft.steps]
    groups = []
    for kind in dict.fromkeys(slot.kind for slot in right):
        rows = [[slot for slot in side if slot.kind == kind] for side in (left, right)]
        if not _contradict(draft, olds, news, zip(*rows, strict=False)):
            groups.append(([_key(draft.source, s) for s in rows[0]], [_key(draft.target, t) for t in rows[1]]))
    evidence = "they are in the same order in both optimizers, if the variables were given to both in one order"
    return of_order(draft.source, draft.target, groups, evidence)


def _follow_links(draft: Draft, theirs: Optimizer, ours: Optimizer, *, certain: bool, doubt: str) -> None:
    if not certain and all(slot.certain for slot in (*theirs.slots, *ours.slots)):
        return
    slots = {(slot.kind, slot.variable): slot for slot in theirs.slots if slot.variable is not None}
    for slot in ours.slots:
        step = draft.step_of(slot.variable)
        if step is None or not step.sources:
            continue
        owners = [draft.source.node_of[key] for key in step.sources]
        found = [slots[slot.kind, owner] for owner in owners if (slot.kind, owner) in slots]
        unknown = _unknown_moments(step.ops, slot.kind) if step.ops else ""
        if unknown:
            if certain == (slot.certain and all(theirs_of.certain for theirs_of in found)):
                _start_anew(draft, [_key(draft.source, other) for other in found], slot, step, unknown, doubt=doubt)
        elif len(found) == len(owners):
            if certain == (slot.certain and all(theirs_of.certain for theirs_of in found)):
                _follow(draft, found, slot, step, doubt=doubt)
        elif all(other.variable is not None for other in theirs.slots):
            without = next(owner for owner in owners if (slot.kind, owner) not in slots)
            draft.target_reasons[_key(draft.target, slot)] = (
                f"the source has no slot `{slot.kind}` of `{draft.source.say(without)}`"
            )


def _follow(draft: Draft, theirs: Sequence[Slot], ours: Slot, step: Step, *, doubt: str) -> None:
    """Make a slot of the slots of the variables that its variable is made of."""
    sources = tuple([_key(draft.source, slot) for slot in theirs])
    target = _key(draft.target, ours)
    copied = not doubt and bool(draft.copied) and draft.copied.issuperset(step.sources)
    is_taken = not copied and not draft.used.isdisjoint(sources)
    if target in draft.steps or is_taken or not draft.dropped.keys().isdisjoint(sources):
        return
    wanted = draft.target.specs[target]
    evidence = f"slot `{ours.kind}` of `{draft.target.say_key(step.target)}` follows it"
    moves: tuple[Op, ...] | None = ()
    specs: Sequence[TensorSpec] = tuple([draft.source.specs[key] for key in sources])
    if step.ops or specs != (wanted,):
        moves, specs = _fitting(draft, Lead(step.target, step.sources, step.ops), ours.kind, Lead(target, sources))
    if moves is None:
        why = f"it has a shape of its own, {specs[0]}, and the operations do not speak of it"
        _start_anew(draft, sources, ours, step, why, doubt=doubt)
        return
    if specs != (wanted,):
        got = ", ".join(map(str, specs))
        reason = f"slot `{ours.kind}` has another shape: {got} (source), {wanted} (target)"
        draft.target_reasons[target] = reason
        draft.source_reasons.update(dict.fromkeys(sources, reason))
        return
    draft.used.update(sources)
    if doubt:
        caveat = weakest(step.caveat, _caveat_of(doubt))
        draft.steps[target] = Step.proposed(target, sources, moves, caveat, (evidence, doubt))
    else:
        draft.steps[target] = Step(target, sources, moves, step.status, step.confidence, (evidence,), step.caveat)


def _caveat_of(doubt: str) -> Caveat:
    return "slot-order" if doubt == _ORDER_EVIDENCE else "slot-kind"


def moved_slot(draft: Draft, lead: Lead, kind: str, slot: Lead) -> Lead | None:
    """What a slot is made of, with its operations, where its variable is made of what `lead` says.

    Args:
        draft: What is known.
        lead: The variable's.
        kind: What the slot holds of it.
        slot: The slot, and those of the variables that the variable would be made of.

    Returns:
        The slot's lead; None where nothing is known of what becomes of its values.
    """
    moves, specs = _fitting(draft, lead, kind, slot)
    if moves is None or specs != (draft.target.specs[slot.target],) or _unknown_moments(lead.ops, kind):
        return None
    return replace(slot, ops=moves)


def _fitting(draft: Draft, lead: Lead, kind: str, slot: Lead) -> tuple[tuple[Op, ...] | None, Sequence[TensorSpec]]:
    """The operations that a slot goes through and what they lead to; None of them if they do not speak of it."""
    wanted = draft.target.specs[slot.target]
    specs = tuple(draft.source.specs[key] for key in slot.sources)
    moves = _moves(lead.ops, kind)
    if any(spec.shape != draft.source.specs[key].shape for spec, key in zip(specs, lead.sources, strict=True)):
        # Adafactor's rows and columns: what a transpose makes of them is not what it makes of the variable.
        if moves and any(spec.shape for spec in specs):
            return None, specs
        moves = ()
    with contextlib.suppress(OperationError):
        specs = infer_chain(moves, specs)
    if len(specs) == 1 and specs[0].shape == wanted.shape and specs[0].dtype != wanted.dtype:
        # Before what is filled with the target's values, which have the target's dtype.
        at = len(moves) - isinstance(moves[-1] if moves else None, Resize | Vocab)
        moves, specs = (*moves[:at], Cast(wanted.dtype), *moves[at:]), (wanted,)
    return moves, specs


def _unknown_moments(operations: Sequence[Op], kind: str) -> str:
    """Why there is no right answer to what a variable's operations make of its slots; empty if there is one."""
    for operation in operations:
        match operation:
            case Average() if kind != "average":
                return "the moments of an average are not known"
            case FoldKernel() | FoldBias():
                return "with a batch normalization folded in, its gradients are others"
            case Custom():
                return "what a function of one's own makes of moments is not known"
    return ""


def _moves(operations: Sequence[Op], kind: str) -> tuple[Op, ...]:
    """What a variable's operations make of a slot, where there is a right answer.

    What only moves values moves the slot's. A shift leaves gradients as they are. A scale goes into a first
    moment once and into a second moment twice. What
    is new along an axis starts as a new variable's slots do: with the template's values, or else with zeros.
    """
    if kind == "average":  # of the variable's own values: what is done to those is done to it
        return tuple(operations)
    moves: list[Op] = []
    for operation in operations:
        match operation:
            case Cast() | Add():
                pass
            case Scale(factor):
                moves.append(Scale(factor * factor if kind in _SECOND_MOMENTS else factor))
            case Gates():
                moves.append(replace(operation, forget_bias=None))
            case Resize() | Vocab():
                moves.append(replace(operation, fill=0))
            case _:
                moves.append(operation)
    if moves and isinstance(moves[-1], Resize | Vocab):
        moves[-1] = replace(moves[-1], fill="template")
    return tuple(moves)


def _start_anew(draft: Draft, sources: Sequence[Key], ours: Slot, step: Step, why: str, *, doubt: str) -> None:
    """Let a slot have the template's values, and drop those it would have been made of."""
    target = _key(draft.target, ours)
    if target in draft.steps:
        return
    variable = draft.target.say_key(step.target)
    evidence = f"slot `{ours.kind}` of `{variable}` starts anew: {why}"
    free = [key for key in sources if key not in draft.used]
    if doubt:
        draft.steps[target] = Step.proposed(target, (), (Fill("template"),), _caveat_of(doubt), (evidence, doubt))
        reason = f"likely slot `{ours.kind}` of what becomes {variable}: {why}"
        draft.source_reasons.update(dict.fromkeys(free, reason))
        return
    draft.steps[target] = Step(target, (), (Fill("template"),), "initial", 1.0, (evidence,))
    draft.dropped.update((key, Drop(key, f"slot of what becomes {variable}: {why}")) for key in free)


def _nothing_moved(draft: Draft) -> bool:
    """Whether all variables but slots are where they were, so that no list can have changed its order."""
    save_counter = draft.target.child(ROOT, "save_counter")
    return (
        len(draft.source.slot_nodes) == len(draft.target.slot_nodes)
        and _same_order(draft)
        and all(
            node.tensors[VARIABLE_ROLE] in draft.used
            for number, node in enumerate(draft.source.nodes)
            if VARIABLE_ROLE in node.tensors and number not in draft.source.slot_nodes
        )
        and all(
            (step := draft.step_of(number)) is not None and step.status == "exact"
            for number, node in enumerate(draft.target.nodes)
            if VARIABLE_ROLE in node.tensors and number not in draft.target.slot_nodes and number != save_counter
        )
    )


def _same_order(draft: Draft) -> bool:
    """Whether the variables were made in the same order, which is that of an optimizer's flat lists."""
    old, new = variables_in_order(draft.source), variables_in_order(draft.target)
    return len(old) == len(new) and all(
        draft.objects.get(t) == s for s, t in zip(old, new, strict=True) if draft.target.has_named_path(t)
    )


def _follow_positions(draft: Draft, theirs: Optimizer, ours: Optimizer) -> None:
    """Slots whose variable is not known keep their place if nothing moved, and other slots do not contradict it.

    Another set of layers may be frozen, and no variable moved: equal places are then of other variables.
    """
    old, new = ({slot.node: slot for slot in optimizer.slots} for optimizer in (theirs, ours))
    pairs: list[tuple[Slot, Slot, str]] = []
    for label in sorted(theirs.bookkeeping & ours.bookkeeping):
        source_items = draft.source.nodes[draft.source.nodes[theirs.node].children[label]].children
        target_items = draft.target.nodes[draft.target.nodes[ours.node].children[label]].children
        if source_items.keys() == target_items.keys():
            where = f"{draft.target.say(ours.node)}/{label}"
            pairs.extend(
                (old[s], new[target_items[index]], f"{where}/{index}")
                for index, s in source_items.items()
                if s in old and target_items[index] in new
            )
    if _contradict(draft, theirs.slots, ours.slots, [(s, t) for s, t, _ in pairs]):
        return
    for s, t, path in pairs:
        if not (_is_known(s) and _is_known(t)):
            evidence = f"same path `{path}`, and no variable moved"
            draft.equal(_key(draft.source, s), _key(draft.target, t), evidence)


def _is_known(slot: Slot) -> bool:
    """Whether the checkpoint says whose the slot is: it then follows its variable, and nothing else."""
    return slot.variable is not None and slot.certain


def _contradict(draft: Draft, theirs: Iterable[Slot], ours: Iterable[Slot], pairs: Iterable[tuple[Slot, Slot]]) -> bool:
    """Whether any two slots are of two variables, as far as it is known whose the slots of both sides are.

    Args:
        draft: What is known.
        theirs: The slots of the source: one of a known variable is no other's.
        ours: The same of the target.
        pairs: A slot of the source each, and one of the target.
    """

    def origins(slot: Slot) -> tuple[str, tuple[int, ...]]:
        step = draft.step_of(slot.variable)
        return slot.kind, () if step is None else tuple([draft.source.node_of[key] for key in step.sources])

    old = {slot.node: (slot.kind, (slot.variable,)) for slot in theirs if slot.variable is not None}
    new = {slot.node: origins(slot) for slot in ours if slot.variable is not None}
    known = {*old.values()}, {*new.values()}
    for s, t in pairs:
        if s.node in old and t.node in new:
            is_another = old[s.node] != new[t.node]
        else:
            is_another = old.get(s.node) in known[1] or new.get(t.node) in known[0]
        if is_another:
            return True
    return False


def _start_with_variable(draft: Draft, slot: Slot) -> None:
    """A slot of a variable that starts anew starts anew."""
    step = draft.step_of(slot.variable)
    key = _key(draft.target, slot)
    if key in draft.steps or step is None or step.status != "initial":
        return
    evidence = f"slot `{slot.kind}` of `{draft.target.say_key(step.target)}`, which starts anew"
    if slot.certain:
        draft.steps[key] = Step(key, (), (Fill("template"),), "initial", 1.0, (evidence,))
    else:
        evidences = (evidence, _ORDER_EVIDENCE)
        draft.steps[key] = Step.proposed(key, (), (Fill("template"),), "slot-order", evidences)


def _drop_with_variable(draft: Draft, slot: Slot) -> None:
    """A slot of a variable that is dropped is dropped."""
    key = _key(draft.source, slot)
    if slot.variable is None or key in draft.used or key in draft.dropped:
        return
    owner = draft.source.nodes[slot.variable].tensors.get(VARIABLE_ROLE)
    if owner in draft.dropped and not slot.certain:
        draft.source_reasons[key] = f"likely slot `{slot.kind}` of what is dropped; {_ORDER_EVIDENCE}"
    elif owner in draft.dropped:
        draft.dropped[key] = Drop(key, draft.dropped[owner].rule)


def _key(graph: ObjectGraph, slot: Slot) -> Key:
    return graph.nodes[slot.node].tensors[VARIABLE_ROLE]
