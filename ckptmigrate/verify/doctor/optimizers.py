"""What goes wrong with an optimizer: left out, not built, of another generation, wrapped, with other variables."""

from __future__ import annotations

from collections.abc import Iterator

from ckptmigrate.graph import ObjectGraph, Optimizer
from ckptmigrate.spec import Key
from ckptmigrate.verify.doctor.attempt import (
    Attempt,
    Cause,
    Open,
    count,
    folded,
    rows_of,
    rows_with_leads,
)

_STEP = "optimizer.build(model.trainable_variables)  # before the restore"


def find_optimizer_causes(attempt: Attempt, left: Open) -> Iterator[Cause]:
    """The causes that are an optimizer's, each with all of its tensors."""
    restoration = attempt.restoration
    ours, theirs = (_optimizers(graph) for graph in (attempt.source, attempt.target))
    for optimizer in ours:
        twin = _twin(attempt, optimizer, theirs)
        if twin is not None:
            theirs.remove(twin)
            yield from _compared(attempt, left, optimizer, twin)
            continue
        keys = state_of(attempt.source, optimizer)
        if not left.unused.keys() & set(keys):
            continue
        bound = restoration.bound.get(optimizer.node)
        waits = bound is not None and not any(True for _ in attempt.target.keys_below(bound))
        yield (_not_built if waits else _left_out)(attempt, left, optimizer)
    for optimizer in theirs:
        taken = left.take(targets=state_of(attempt.target, optimizer))
        if taken:
            yield Cause(
                "optimizer-not-saved",
                f"the checkpoint has no state of the optimizer `{attempt.target.say(optimizer.node)}`: it starts anew",
                rows_of(attempt, taken),
                attempt.words(taken),
                "the program that saved had another `Checkpoint`, without the optimizer, or had not trained yet",
                ("tf.train.Checkpoint(model=model).restore(...)  # if the optimizer shall start anew",),
                is_planned=True,
            )


def _optimizers(graph: ObjectGraph) -> list[Optimizer]:
    """The optimizers of a graph; a wrapper is told with the one in it."""
    wrappers = {optimizer.wrapper for optimizer in graph.optimizers}
    return [optimizer for optimizer in graph.optimizers if optimizer.node not in wrappers]


def _twin(attempt: Attempt, optimizer: Optimizer, others: list[Optimizer]) -> Optimizer | None:
    """The target's optimizer that the source's is, or is in: that at its place, or the only one."""
    bound = {attempt.restoration.bound.get(number) for number in (optimizer.node, optimizer.wrapper) if number}
    for other in others:
        if bound & {other.node, other.wrapper} - {None}:
            return other
    alone = len(others) == 1 and len(_optimizers(attempt.source)) == 1
    return others[0] if alone else None


def state_of(graph: ObjectGraph, optimizer: Optimizer) -> list[Key]:
    """The tensors that are an optimizer's own: slots, steps, rates."""
    numbers = [*(slot.node for slot in optimizer.slots), *optimizer.scalars.values()]
    return [key for number in dict.fromkeys(numbers) for key in graph.nodes[number].tensors.values()]


def _trained(graph: ObjectGraph, optimizer: Optimizer) -> Iterator[Key]:
    """The variables that an optimizer has slots for."""
    for number in dict.fromkeys(slot.variable for slot in optimizer.slots if slot.variable is not None):
        yield from graph.nodes[number].tensors.values()


def _left_out(attempt: Attempt, left: Open, optimizer: Optimizer) -> Cause:
    taken = left.take(state_of(attempt.source, optimizer))
    return Cause(
        "optimizer-left-out",
        f"the checkpoint has the state of an optimizer, `{attempt.source.say(optimizer.node)}`, and nothing takes it",
        rows_of(attempt, taken),
        attempt.words(taken),
        "the new program's `Checkpoint` does not have the optimizer, so that training would start with fresh slots",
        (
            "tf.train.Checkpoint(model=model, optimizer=optimizer)  # to go on training",
            "ckptmigrate.restore(checkpoint, path, expect_partial=True)  # if only the model is wanted",
        ),
        is_planned=True,
    )


def _not_built(attempt: Attempt, left: Open, optimizer: Optimizer) -> Cause:
    taken = left.take(state_of(attempt.source, optimizer))
    return Cause(
        "optimizer-not-built",
        f"the optimizer `{attempt.source.say(optimizer.node)}` has no slots yet: {len(taken.unused)} values wait",
        rows_of(attempt, taken),
        attempt.words(taken),
        "an optimizer makes its slots when it is built or with its first step, and the restore came before; they are "
        "filled when they are made, and nothing can be asserted until then",
        (_legacy_step() if optimizer.generation == "legacy" else _STEP,),
    )


def _legacy_step() -> str:
    return "optimizer.apply_gradients([(tf.zeros_like(v), v) for v in model.trainable_variables])  # before the restore"


def _compared(attempt: Attempt, left: Open, ours: Optimizer, theirs: Optimizer) -> Iterator[Cause]:
    source, target = attempt.source, attempt.target
    keys = state_of(source, ours), state_of(target, theirs)
    open_keys = left.unused.keys() | left.missing.keys() | left.misfits.keys() | left.displaced.keys()
    open_keys |= {*left.misfits.values(), *left.displaced.values()}
    astray = attempt.restoration.astray.keys() & left.displaced.keys() & set(_trained(target, theirs))
    if open_keys.isdisjoint(keys[0] + keys[1]) and not astray:
        return
    where = f"`{target.say(theirs.node)}`"
    if ours.slots and not theirs.slots:
        yield _not_built(attempt, left, ours)
    elif (ours.generation == "legacy") != (theirs.generation == "legacy"):
        taken = left.take(*keys)
        names = {
            True: "a legacy optimizer (`tf_keras.optimizers.legacy`)",
            False: "an optimizer of Keras 2.11 or later",
        }
        yield Cause(
            "legacy-optimizer",
            f"the checkpoint has the state of {names[ours.generation == 'legacy']}, and {where} is "
            f"{names[theirs.generation == 'legacy']}",
            rows_with_leads(attempt, taken),
            attempt.words(taken),
            "`optimizers.Adam` and the like mean the new ones since Keras 2.11, which lay out their state otherwise",
            packs=("legacy-to-new-optimizer",),
            is_planned=True,
        )
    elif ours.is_other_than(theirs):
        taken = left.take(*keys)
        yield Cause(
            "other-optimizer",
            f"the checkpoint has the state of {ours.algorithm or 'another optimizer'}, and {where} is "
            f"{theirs.algorithm or 'another one'}",
            rows_with_leads(attempt, taken),
            attempt.words(taken),
            "the new program trains with another algorithm, whose state means something else",
            is_planned=True,
        )
    elif ("loss_scale" in ours.scalars) != ("loss_scale" in theirs.scalars):
        taken = left.take(*keys)
        side = "the new program" if "loss_scale" in theirs.scalars else "the program that saved"
        yield Cause(
            "mixed-precision",
            f"only {side} has its optimizer in a `LossScaleOptimizer`, so that its state is at another place",
            rows_with_leads(attempt, taken),
            attempt.words(taken),
            f"{side} trains with the policy `mixed_float16`, which wraps the optimizer when the model is compiled",
            is_planned=True,
        )
    elif ours.generation == theirs.generation:
        yield from _other_variables(attempt, left, ours, theirs)


def _other_variables(attempt: Attempt, left: Open, ours: Optimizer, theirs: Optimizer) -> Iterator[Cause]:
    """Whether both train the same variables, in the same order: their lists go by it."""
    source, target = attempt.source, attempt.target
    trained = [
        {graph.paths[slot.variable] for slot in optimizer.slots if slot.variable is not None}
        for graph, optimizer in ((source, ours), (target, theirs))
    ]
    frozen = [path for path in trained[0] - trained[1] if target.find(path) is not None]
    thawed = [path for path in trained[1] - trained[0] if source.find(path) is not None]
    crossed = (attempt.restoration.crossed.keys() | attempt.restoration.astray.keys()) & left.displaced.keys()
    if not (frozen or thawed or crossed):
        return
    bound = attempt.restoration.bound
    # What had no value is what another variable's took the place of.
    pushed = [
        key
        for key in left.missing
        if (number := source.find(target.paths[target.node_of[key]])) is not None
        and bound.get(number, target.node_of[key]) != target.node_of[key]
    ]
    given = [*left.displaced, *(into for _, _, into in left.doubled)]
    shifted = [into for into in given if source.find(target.paths[target.node_of[into]]) is not None]
    taken = left.take(state_of(source, ours), [*state_of(target, theirs), *pushed, *shifted, *crossed])
    said = [
        (f"`{'/'.join(path)}`", f" is trained {when}")
        for paths, when in ((frozen, "in the checkpoint only"), (thawed, "in the new program only"))
        for path in sorted(paths)
    ]
    number = len(taken.displaced) + len(taken.doubled)
    wrong = f", and {count(number, 'tensor')} of the model may hold another variable's value" if number else ""
    yield Cause(
        "trained-weights-changed",
        (
            f"the optimizer trained {count(len(trained[0]), 'variable')} and trains {len(trained[1])} now{wrong}"
            if frozen or thawed
            else f"the optimizer has its variables in another order{wrong}"
        ),
        (*folded(said), *rows_of(attempt, taken)),
        attempt.words(taken),
        "an optimizer's lists go by the position of each trained variable; a layer that was frozen, thawed or renamed "
        "shifts all after it, and TensorFlow binds variables by these lists too",
        is_planned=True,
    )
