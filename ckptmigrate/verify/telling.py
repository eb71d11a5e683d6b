"""What a batch can tell: equal results are a proof of a variable only if they would be others with another value of it.

Of inputs that a person gave, two gradients say it: the derivative of the outputs by each variable on these inputs, and
on such inputs with noise of their own size. A variable whose derivative is nothing on the first, and something on the
second, is one that these inputs hide: so are kernels by zeros, and queries and keys by rows that are all equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ckptmigrate.errors import CkptMigrateError, RunError
from ckptmigrate.spec import DType
from ckptmigrate.verify.inputs import Batch, bind
from ckptmigrate.verify.report import Check
from ckptmigrate.verify.rounding import eps_of
from ckptmigrate.verify.running import Side, repeatable

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_SHOWN = 5

_NOTHING = 100 * eps_of(DType.FLOAT32)
"""What a derivative is that rounding makes, as a part of one that is something."""


def silence_of(batch: Batch, target: Side, seed: int) -> str:
    """Why a person's inputs prove nothing, as the start of a sentence; empty if they do or if that is not known.

    Args:
        batch: The inputs.
        target: The new model, restored.
        seed: Of the noise.
    """
    empty = [name for name, array in {**batch.arrays, **batch.targets}.items() if not array.size]
    if empty:
        return f"{_listed(empty)} of {batch.origin} has no elements"
    hidden = _hidden(batch, target, seed)
    return f"the outputs do not depend on {_listed(hidden)} on the inputs of {batch.origin}" if hidden else ""


def silent_values(values: Mapping[str, Array], batch: Batch, what: str) -> str:
    """Why results prove nothing by themselves, as `silence_of` says it: one of them is empty, or has no finite number.

    Args:
        values: The results by name.
        batch: What they were made from.
        what: What they are called.
    """
    import numpy as np

    if not values:
        return f"the models give no {what}"
    for name, value in values.items():
        if not value.size:
            return f"{what} `{name}` has no elements on {batch.origin}"
        if value.dtype.kind in "fcV" and not np.isfinite(value.astype(complex)).any():
            return f"{what} `{name}` has no finite number in either model on {batch.origin}"
    return ""


def unproven(check: Check, reason: str) -> Check:
    """A check that found nothing wrong, as one that was not run if its inputs prove nothing."""
    if not reason or check.outcome != "passed":
        return check
    return replace(check, outcome="not run", hint=f"No proof, and no failure: {reason}. {GIVE}")


GIVE = "Give inputs like those that the model is for: --inputs FILE.npz"


def _hidden(batch: Batch, side: Side, seed: int) -> list[str]:
    """The variables of a model that its outputs do not depend on with a batch, and do with noise on it."""
    import numpy as np

    try:
        _ = side.forward
    except RunError:
        return []  # a train step of its own may not need a model that can be called
    try:
        given, contrast = (_derivatives(side, each, seed) for each in (batch, _noisy(batch, seed)))
    except CkptMigrateError:
        return []  # what the model does not take is told where both are run; noise is no mask, say
    least = _NOTHING * max((size for size in contrast.values() if np.isfinite(size)), default=0)
    return sorted(
        side.graph.say(number)
        for number, size in contrast.items()
        if number in given and np.isfinite(size) and size > least and given[number] <= _NOTHING * size
    )


def _noisy(batch: Batch, seed: int) -> Batch:
    """The batch with noise of its own size; of integers others that are no larger: they may be rows."""
    import numpy as np

    generator = np.random.default_rng(seed)

    def noisy(array: Array) -> Array:
        if array.dtype.kind in "iu":
            return generator.integers(min(array.min(), 0), max(array.max(), 1) + 1, array.shape).astype(array.dtype)
        if array.dtype.kind not in "fc":
            return array
        finite = np.where(np.isfinite(array), array, 0)
        size = np.abs(finite).max() or 1
        noise: Array = (finite + size * generator.standard_normal(array.shape)).astype(array.dtype)
        return noise

    return replace(batch, arrays={name: noisy(array) for name, array in batch.arrays.items()})


def _derivatives(side: Side, batch: Batch, seed: int) -> dict[int, float]:
    """The largest absolute derivative of the outputs, in a random direction, by each of the model's variables.

    Not of those that TensorFlow knows none of: integers, what is behind an argmax, what the outputs have no part in.
    """
    import numpy as np
    import tensorflow as tf

    variables = {
        number: variable
        for number in side.model_variables
        if tf.as_dtype((variable := _plain(side.live.objects[number])).dtype).is_floating
    }
    args, kwargs = bind(batch, side)
    with repeatable(seed, (side,)) as set_seeds:
        set_seeds()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(variables.values()))
            result = side.infer(args, kwargs)
        outputs = [
            each
            for each in tf.nest.flatten(result, expand_composites=True)
            if tf.is_tensor(each) and each.dtype.is_floating
        ]
        directions = [
            tf.cast(np.random.default_rng(seed).standard_normal(tuple(each.shape)), each.dtype) for each in outputs
        ]
        try:
            found = tape.gradient(outputs, list(variables.values()), directions)
        except (LookupError, ValueError, TypeError, NotImplementedError, tf.errors.OpError):
            return {}  # an operation has no gradient, or none that repeats
    return {
        number: float(np.abs(np.asarray(getattr(each, "values", each)).astype(np.float64)).max(initial=0))
        for number, each in zip(variables, found, strict=True)
        if each is not None
    }


def _plain(variable: Any) -> Any:
    """TensorFlow's own variable: of Keras 3 the one inside."""
    return variable.value if type(variable).__module__.startswith("keras.") else variable


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(f"`{each}`" for each in listed[:_SHOWN]) + more
