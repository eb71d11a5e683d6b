"""A training step: whether training goes on from the new checkpoint as it does from the old one.

Both models take one step on the same batch. Then the source's variables and slots, put through the plan's steps as
the checkpoint was, have to be the target's. What proves it is that equality, and not that weights changed: they do
so in a model that restored nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckptmigrate.errors import RunError
from ckptmigrate.graph import VARIABLE_ROLE
from ckptmigrate.matching import Step
from ckptmigrate.ops import Average, Custom, Fill, FoldBias, FoldKernel, Resize, Vocab
from ckptmigrate.plan import Plan
from ckptmigrate.spec import Key
from ckptmigrate.verify.inputs import TARGETS, Batch, bind
from ckptmigrate.verify.layers import expected_of
from ckptmigrate.verify.outputs import named_outputs
from ckptmigrate.verify.report import Check
from ckptmigrate.verify.rounding import Difference, Operations, Tolerance, difference_of, tolerance_of, watched
from ckptmigrate.verify.running import Side, is_keras, parameters_of, recorded, repeatable
from ckptmigrate.verify.telling import silent_values, unproven

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_OTHER_TRAINING = (Average, Custom, FoldBias, FoldKernel, Resize, Vocab)
"""Operations after which a step of the new model is another one than that of the old."""

_DECAY = 2**-25 / (1 - 0.999)
"""What slots of optimizers that are written differently may differ by, beside all else: some round 0.999 to float32
before they subtract it from 1, as legacy Keras does, and some after."""


_MOMENTS = 2**-20
"""What variances of a batch may differ by, beside all else: the two ways to compute one add up in another order."""

_BESSEL = (
    "the fused BatchNormalization of Keras 2 multiplies the variance of a batch of n by n / (n - 1) before it averages "
    "it, Keras 3 does not; with that, they agree"
)
"""Source: ``_fused_batch_norm`` of tf_keras/src/layers/normalization/batch_normalization.py, ``call`` of
keras/src/layers/normalization/batch_normalization.py."""


@dataclass(frozen=True)
class _Stepped:
    """A model after one step.

    Attributes:
        side: The model, as it is now.
        losses: What the step gave, by name.
        before: The values that the checkpoint has.
        after: The values now, of the same keys.
        frozen: What is not trained.
        operations: What ran.
        sizes: Of each BatchNormalization, by its node: how many elements each of its variances is of.
    """

    side: Side
    losses: Mapping[str, Array]
    before: Mapping[Key, Array]
    after: Mapping[Key, Array]
    frozen: frozenset[Key]
    operations: Operations
    sizes: Mapping[int, int]


def check_training_step(source: Side, target: Side, batch: Batch, *, plan: Plan | None = None, seed: int = 0) -> Check:
    """Take one training step with both models, and compare losses, weights, slots and counters.

    The models are changed by it.

    Args:
        source: The old model, restored from the old checkpoint.
        target: The new model, restored from the new one.
        batch: The inputs, and targets if it has some; else targets are random, of the outputs' shapes.
        plan: What leads from one checkpoint to the other; without one, equal keys are compared.
        seed: For random targets, and for operations that draw numbers.

    Raises:
        RunError: A model has no training step, or raised in it.
        InputsError: A model does not take the inputs.
    """
    with repeatable(seed, (source, target)) as set_seeds:
        set_seeds()
        targets = _targets(source, batch, seed)
        ours, theirs = (_step(side, batch, targets, set_seeds) for side in (source, target))
    steps = _steps(source, target, plan)
    specs = {key: entry.spec for key, entry in source.bundle.entries.items()}
    tolerance = tolerance_of(ours.operations, theirs.operations, [] if plan is None else steps, specs)
    problems, differences, skipped = _loss_problems(ours, theirs, tolerance), {}, []
    otherwise: dict[str, Difference] = {}
    differing: list[Key] = []
    lost_loss = bool(problems)
    for step in steps:
        if step.target not in theirs.after or any(key not in ours.after for key in step.sources):
            skipped.append(step.target)
            continue
        expected = expected_of(step, source, target, [ours.after[key] for key in step.sources])
        corrected = _corrected(step, ours, theirs, expected)
        allowed = tolerance.wider(_DECAY) if step.target in theirs.side.slots else tolerance
        differences[step.target] = found = difference_of(expected, theirs.after[step.target], allowed)
        if found.beyond and corrected is not None:
            allowed = tolerance.wider(_MOMENTS)
            if not difference_of(corrected, theirs.after[step.target], allowed).beyond:
                otherwise[target.say(step.target)] = found
                continue
        if found.beyond:
            problems.append(f"`{target.say(step.target)}` differs after the step by up to {found}")
            differing.append(step.target)
    problems += [*_count_problems(ours), *_count_problems(theirs)]
    still = [*_still_problems(ours), *_still_problems(theirs)]
    problems += [line for line, is_problem in still if is_problem]
    slots, counters = (len(differences.keys() & keys) for keys in (theirs.side.slots, theirs.side.scalars))
    variables = len(differences) - slots - counters
    moved = sum(theirs.before[key].tobytes() != theirs.after[key].tobytes() for key in differences)
    largest = max((each.absolute for each in differences.values()), default=0)
    random = sorted(ours.operations.random | theirs.operations.random)
    check = Check.of(
        "training-step",
        f"one step of both models on the same batch: the loss, {variables} variables, {slots} slots and {counters} "
        f"counters and rates compared, {moved} of them changed; largest difference {largest:.3g}, "
        f"tolerance {tolerance}; {batch}"
        + (f"; {len(skipped)} are not in both models" if skipped else "")
        + "".join(f"; {line}" for line, is_problem in still if not is_problem)
        + "".join(
            f"; `{name}` differs by up to {each.absolute:.3g}, as it has to: {_BESSEL}"
            for name, each in otherwise.items()
        )
        + (f"; numbers were drawn, with equal seeds ({', '.join(random)})" if random else ""),
        problems,
        _repeated(theirs.side, differing, lost_loss=lost_loss) or _hint(target, plan, random),
        {
            "tolerance": tolerance.relative,
            "inputs": str(batch),
            "losses": {
                side: {name: value.tolist() for name, value in each.losses.items()}
                for side, each in (("source", ours), ("target", theirs))
            },
            "variables": variables,
            "slots": slots,
            "counters": counters,
            "changed": moved,
            "skipped": skipped,
            "trained_otherwise": {name: each.to_data() for name, each in otherwise.items()},
            "differences": {key: each.to_data() for key, each in differences.items() if each.absolute},
        },
    )
    check = unproven(check, silent_values(theirs.losses, batch, "loss") if theirs.losses else "")
    return unproven(check, _lost(theirs, batch))


def _steps(source: Side, target: Side, plan: Plan | None) -> list[Step]:
    """What is compared: all that comes from the source; without a plan, equal keys."""
    if plan is not None:
        return [step for step in plan.steps if step.sources]
    return [Step(key, (key,), (), "exact", 1, ()) for key in target.variables() if key in source.bundle.entries]


def _step(side: Side, batch: Batch, targets: Any, set_seeds: Any) -> _Stepped:
    args, kwargs = bind(batch, side)
    own = side.carried("train_step")
    norms = {number: thing for number, thing in enumerate(side.live.objects) if _is_batch_norm(thing)}
    set_seeds()
    with watched() as operations, recorded(norms) as calls:
        if own is not None:
            result = _own_step(side, own, args, kwargs, targets)
        elif is_keras(side.model) and _is_compiled(side.model):
            inputs = args[0] if len(args) == 1 and not kwargs else kwargs or list(args)
            result = side.run(
                side.model.train_on_batch, (inputs, targets), {"return_dict": True}, "in its training step"
            )
        else:
            raise RunError(
                f"the {side.role} model has no training step",
                side.said,
                expected="a function `train_step` of the factory or of what it returns, or a compiled Keras model",
                got=f"{type(side.model).__name__} without either",
                hint="Compile the model in the factory, or give what it returns a function `train_step(batch)`",
            )
    side = side.again()
    variables = side.variables()
    # A slot is a variable too, and no optimizer trains it.
    kept = side.slots | side.scalars
    return _Stepped(
        side,
        named_outputs(side, result) if result is not None else {},
        {key: side.bundle.read(key) for key in variables},
        {key: _value(variable) for key, variable in variables.items()},
        frozenset(
            key for key, variable in variables.items() if key in kept or not getattr(variable, "trainable", True)
        ),
        operations,
        {
            number: made[0].inputs[0].size // norms[number].moving_variance.shape[0]
            for number, made in calls.items()
            if len(made) == 1 and made[0].inputs
        },
    )


def _is_batch_norm(thing: Any) -> bool:
    return is_keras(thing) and any(kind.__name__ == "BatchNormalization" for kind in type(thing).__mro__)


def _corrected(step: Step, ours: _Stepped, theirs: _Stepped, expected: Array) -> Array | None:
    """What a variance that is averaged has to be where only one of the two models corrects that of a batch."""
    if step.ops or len(step.sources) != 1:
        return None
    found = [_norm_of(each, key) for each, key in ((ours, step.sources[0]), (theirs, step.target))]
    if found[0] is None or found[1] is None:
        return None
    (our_layer, our_size), (layer, size) = found[0], found[1]
    corrects = [bool(getattr(each, "fused", False)) for each in (our_layer, layer)]
    if corrects[0] == corrects[1] or our_size != size or size < 2 or our_layer.momentum != layer.momentum:
        return None
    kept = layer.momentum * theirs.before[step.target].astype(float)
    factor = (size - 1) / size if corrects[0] else size / (size - 1)
    made: Array = (kept + (expected.astype(float) - kept) * factor).astype(expected.dtype)
    return made


def _norm_of(stepped: _Stepped, key: Key) -> tuple[Any, int] | None:
    """The BatchNormalization whose averaged variance a variable is, and of how many elements a variance is."""
    side = stepped.side
    for number, size in stepped.sizes.items():
        if side.graph.nodes[number].children.get("moving_variance") == side.node_at[key]:
            return side.live.objects[number], size
    return None


def _repeated(side: Side, differing: Sequence[Key], *, lost_loss: bool) -> str:
    """What to do where tables and their slots alone differ after the step.

    Source: ``_deduplicate_sparse_grad`` of tf_keras/src/optimizers/optimizer.py; ``update_step`` of
    keras/src/optimizers/adam.py, whose ``square`` takes slices as they are (keras/src/backend/tensorflow/sparse.py).
    """
    tables = {
        child
        for number, thing in enumerate(side.live.objects)
        if is_keras(thing) and any(kind.__name__ == "Embedding" for kind in type(thing).__mro__)
        for child in side.graph.nodes[number].children.values()
    }
    nodes = [side.node_at[key] for key in differing]
    owners = [side.graph.slot_owner.get(side.graph.nodes[node].tensors[VARIABLE_ROLE], (None, ""))[0] for node in nodes]
    own = [node if owner is None else side.graph.node_of[owner] for node, owner in zip(nodes, owners, strict=True)]
    if lost_loss or not own or not tables.issuperset(own):
        return ""
    return (
        "Only tables differ, and their slots: Keras 2 adds up the gradients of a row whose id comes more than once "
        "before it squares them, Keras 3 squares each, so they train such rows differently. To tell this from a fault, "
        "give ids that do not repeat in the batch: --inputs FILE.npz"
    )


def _value(variable: Any) -> Array:
    import numpy as np

    return np.asarray(variable.numpy())


def _own_step(side: Side, own: Any, args: Sequence[Any], kwargs: Mapping[str, Any], targets: Any) -> Any:
    """A train step that a person wrote takes a batch as they wrote it: inputs alone, or with targets, or by name."""
    parameters = [name for name, each in parameters_of(own).items() if each.default is each.empty]
    inputs = args[0] if len(args) == 1 and not kwargs else kwargs or tuple(args)
    taken = (inputs, targets)[: max(1, len(parameters))]
    return side.run(own, taken, {}, "in its `train_step`")


def _is_compiled(model: Any) -> bool:
    """Source: ``compiled`` in keras/src/trainers/trainer.py, ``_is_compiled`` in tf_keras/src/engine/training.py."""
    return bool(getattr(model, "compiled", False) or getattr(model, "_is_compiled", False))


def _targets(side: Side, batch: Batch, seed: int) -> Any:
    """What the outputs should be: the file's, or random ones that the loss can take."""
    import numpy as np
    import tensorflow as tf

    if TARGETS in batch.targets:
        return tf.convert_to_tensor(batch.targets[TARGETS])
    if batch.targets:
        return {name.removeprefix(f"{TARGETS}_"): tf.convert_to_tensor(array) for name, array in batch.targets.items()}
    try:
        forward = side.forward
    except RunError:
        return None  # a train step of its own may not need a model that can be called
    del forward
    result = side.infer(*bind(batch, side))
    losses = getattr(side.forward, "loss", None)
    generator = np.random.default_rng(seed)
    flat = tf.nest.flatten(result)
    listed = tf.nest.flatten(losses) if isinstance(losses, dict | list | tuple) else [losses] * len(flat)
    made = [
        tf.convert_to_tensor(
            _random_target(output, str(getattr(loss, "name", None) or getattr(loss, "__name__", loss)), generator)
        )
        for output, loss in zip(flat, listed if len(listed) == len(flat) else [None] * len(flat), strict=True)
    ]
    return tf.nest.pack_sequence_as(result, made)


def _random_target(output: Any, loss: str, generator: Any) -> Any:
    import numpy as np

    shape = tuple(output.shape)
    if "sparse" in loss.lower():
        return generator.integers(0, shape[-1], shape[:-1]).astype(np.int32)
    if "crossentropy" in loss.lower().replace("_", ""):
        if "binary" in loss.lower() or not shape or shape[-1] == 1:
            return generator.integers(0, 2, shape).astype(np.float32)
        return np.eye(shape[-1], dtype=np.float32)[generator.integers(0, shape[-1], shape[:-1])]
    return generator.standard_normal(shape).astype(np.float32)


def _loss_problems(ours: _Stepped, theirs: _Stepped, tolerance: Tolerance) -> list[str]:
    """Losses are compared by name, else in order."""
    if len(ours.losses) != len(theirs.losses):
        return [f"the source's step gives {len(ours.losses)} losses, the target's {len(theirs.losses)}"]
    by_name = ours.losses.keys() == theirs.losses.keys()
    problems = []
    for position, (name, got) in enumerate(theirs.losses.items()):
        expected = ours.losses[name] if by_name else list(ours.losses.values())[position]
        if expected.shape != got.shape:
            problems.append(
                f"{_say_loss(name)}: expected {list(expected.shape)} (source), got {list(got.shape)} (target)"
            )
        elif (found := difference_of(expected, got, tolerance)).beyond:
            problems.append(f"{_say_loss(name)} differs by up to {found}")
    return problems


def _say_loss(name: str) -> str:
    """What a step gives, by its name; a single tensor has none."""
    return "the loss" if name in ("output", "loss") else f"`{name}` of the step"


def _count_problems(stepped: _Stepped) -> Iterator[str]:
    """An optimizer counts its steps: one more."""
    side = stepped.side
    for optimizer in side.graph.optimizers:
        key = side.key_at.get(optimizer.scalars.get("iterations", -1))
        if key is not None and stepped.after[key] != stepped.before[key] + 1:
            yield (
                f"`{side.say(key)}` of the {side.role}: expected {int(stepped.before[key]) + 1} after the "
                f"step, got {int(stepped.after[key])}"
            )


def _still_problems(stepped: _Stepped) -> Iterator[tuple[str, bool]]:
    """Variables that are trained and did not move, and whether that contradicts a step: if none did."""
    side = stepped.side
    trained = [key for key in stepped.after if key not in stepped.frozen]
    still = [key for key in trained if stepped.before[key].tobytes() == stepped.after[key].tobytes()]
    if len(still) == len(trained):
        yield f"no variable of the {side.role} that is trained changed in the step", True
    elif still:
        shown = ", ".join(f"`{side.say(key)}`" for key in still[:5]) + (", ..." if len(still) > 5 else "")
        yield f"{len(still)} of the {side.role} that are trained did not move: {shown}", False


def _lost(stepped: _Stepped, batch: Batch) -> str:
    """What a step made of values that were finite: where nothing finite is left, there is nothing to compare."""
    import numpy as np

    for key in sorted(stepped.after.keys() - stepped.frozen):
        before, after = stepped.before[key], stepped.after[key]
        if after.size and not np.isfinite(after.astype(complex)).any() and np.isfinite(before.astype(complex)).any():
            return f"the step leaves no finite number in `{stepped.side.say(key)}` in either model on {batch.origin}"
    return ""


def _hint(target: Side, plan: Plan | None, random: Sequence[str]) -> str:
    other = (
        [] if plan is None else [step for step in plan.steps if any(isinstance(op, _OTHER_TRAINING) for op in step.ops)]
    )
    if other:
        names = ", ".join(
            dict.fromkeys(op.describe() for step in other for op in step.ops if isinstance(op, _OTHER_TRAINING))
        )
        return (
            f"After these operations the new model trains in another way, so its step cannot be the old one's: {names}"
        )
    initial = [] if plan is None else [step for step in plan.steps if step.ops and isinstance(step.ops[0], Fill)]
    if initial:
        return (
            f"{len(initial)} tensors start with initial values (first `{target.say(initial[0].target)}`): a "
            "step that depends on them cannot be the source's"
        )
    if random:
        return "Layers that draw numbers may draw others in the new model: set their rates to 0 in both factories"
    return (
        "Do not train on from this checkpoint: look at the steps of what is named, decide them with rules, plan again"
    )
