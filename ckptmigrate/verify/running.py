"""Running a model that was restored: which thing it is, how it is called, and how a run is made to repeat.

Both models of a comparison run here, one after the other, in one process: eagerly, so that no compiler joins
operations in one model that stay apart in the other; with equal seeds; and with deterministic operations.
"""

from __future__ import annotations

import contextlib
import inspect
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from ckptmigrate.bundle import Bundle
from ckptmigrate.errors import RunError
from ckptmigrate.graph import ROOT, VARIABLE_ROLE, ObjectGraph
from ckptmigrate.graph.live import LiveGraph, is_optimizer, is_variable
from ckptmigrate.graph.template import say_raised
from ckptmigrate.spec import Key
from ckptmigrate.verify.restoration import find_restored

_FLAGS = ("training", "is_training")
"""What Keras and Sonnet call the argument that tells training from inference."""

_HEAP_TYPE = 1 << 9
"""The flag of classes that were made by Python code. Source: Include/object.h of CPython."""


@dataclass(frozen=True)
class Side:
    """One of the two models of a comparison, with its checkpoint restored.

    What is cached is the state at first use: `again` gives the same side without it, after training.

    Attributes:
        role: Which of the two.
        said: Its factory, as a person named it.
        checkpoint: The live ``tf.train.Checkpoint``.
        bundle: What was restored.
        factory: The function that built it, for what it carries.
    """

    role: Literal["source", "target"]
    said: str
    checkpoint: Any
    bundle: Bundle
    factory: Callable[[], object] | None = None

    def again(self) -> Side:
        """The same side, to be looked at anew: an optimizer may make its slots with its first step."""
        return replace(self)

    @cached_property
    def live(self) -> LiveGraph:
        """The graph of the live checkpoint, and its objects."""
        return LiveGraph.read(self.checkpoint)

    @property
    def graph(self) -> ObjectGraph:
        """The graph of the live checkpoint: of one of names too, which says nothing of layers."""
        return self.live.graph

    @cached_property
    def key_at(self) -> dict[int, Key]:
        """The bundle's key of each variable, by its node in the live graph."""
        restored = find_restored(ObjectGraph.from_bundle(self.bundle), self.graph).restored
        return {
            self.graph.node_of[into]: key
            for into, key in restored.items()
            if is_variable(self.live.objects[self.graph.node_of[into]])
        }

    @cached_property
    def node_at(self) -> dict[Key, int]:
        """The node of each of the bundle's keys."""
        return {key: number for number, key in self.key_at.items()}

    def say(self, key: Key) -> str:
        """A tensor of the bundle as people name it; a slot by its variable, as rules do: ``model/w/<momentum>``."""
        number = self.node_at.get(key)
        if number is None:
            return key
        owner, kind = self.graph.slot_owner.get(self.graph.nodes[number].tensors[VARIABLE_ROLE], (None, ""))
        return self.graph.say(number) if owner is None else f"{self.graph.say_key(owner)}/<{kind}>"

    @cached_property
    def slots(self) -> frozenset[Key]:
        """The keys of an optimizer's slots."""
        return frozenset(self.key_at[number] for number in self.graph.slot_nodes if number in self.key_at)

    @cached_property
    def scalars(self) -> frozenset[Key]:
        """The keys of what else belongs to no model: steps, rates, the count of saves."""
        return frozenset(self.key_at[number] for number in self.graph.scalars if number in self.key_at)

    def variables(self) -> dict[Key, Any]:
        """The live variables, by the keys that they were restored from."""
        return {key: self.live.objects[number] for number, key in self.key_at.items()}

    def nodes_below(self, number: int) -> set[int]:
        """A node and all that it holds, without optimizers."""
        seen, stack = {number}, [number]
        optimizers = {optimizer.node for optimizer in self.graph.optimizers}
        while stack:
            for child in self.graph.named_children(stack.pop()).values():
                if child not in seen and child not in optimizers:
                    seen.add(child)
                    stack.append(child)
        return seen

    @property
    def model_variables(self) -> list[int]:
        """The nodes of the variables that a forward pass may read: all but an optimizer's and the count of saves."""
        others = self.graph.slot_nodes | self.graph.scalars
        return sorted(
            number
            for number in self.nodes_below(ROOT)
            if number not in others and is_variable(self.live.objects[number])
        )

    @cached_property
    def model(self) -> Any:
        """The model: the root, its child `model`, or its only child that can be called and holds variables.

        Raises:
            RunError: There is none, or there are several.
        """
        root, children = self.live.objects[ROOT], self._children
        if _is_model(root):
            return root
        models = {label: child for label, child in children.items() if _is_model(child)}
        if "model" in models:
            return models["model"]
        if len(models) == 1:
            return next(iter(models.values()))
        raise RunError(
            f"which thing is the {self.role} model cannot be told"
            if models
            else f"the {self.role} has no model to call",
            self.said,
            expected="one thing with variables that can be called, or one that is called `model`",
            got=", ".join(f"`{label}`" for label in models or children),
            hint="Let the factory give what it returns, or itself, a function `forward` that is called with the inputs",
        )

    @property
    def _children(self) -> dict[str, Any]:
        """What the root holds, by name."""
        return {label: self.live.objects[number] for label, number in self.graph.nodes[ROOT].children.items()}

    def carried(self, name: str) -> Callable[..., Any] | None:
        """A function that the factory's result carries: the checkpoint, its root or model; or the factory itself."""
        holders = [self.checkpoint, self.live.objects[ROOT], self.factory]
        with contextlib.suppress(RunError):
            holders.insert(2, self.model)
        for holder in holders:
            function = getattr(holder, name, None)
            # Keras's own `train_step` takes what `fit` gives it, and is called by that.
            if callable(function) and not is_keras(holder):
                found: Callable[..., Any] = function
                return found
        return None

    @cached_property
    def forward(self) -> Callable[..., Any]:
        """What gives the outputs: the function `forward` that the factory carries, else the model.

        Raises:
            RunError: Neither is there.
        """
        return self.carried("forward") or self.model

    def infer(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The outputs, in inference.

        Raises:
            RunError: The model raised.
        """
        flags = {flag: False for flag in _FLAGS if flag in parameters_of(self.forward)}
        return self.run(self.forward, args, {**kwargs, **flags}, "with these inputs")

    def run(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], how: str) -> Any:
        """Call a function of the user's.

        Raises:
            RunError: It raised.
        """
        try:
            return function(*args, **kwargs)
        except (Exception, SystemExit) as error:
            raise RunError(
                f"the {self.role} model raised {how}",
                self.said,
                got=say_raised(error),
                hint="Give inputs that it takes with --inputs FILE.npz, or call it in Python to see the traceback",
            ) from error


def is_keras(thing: Any) -> bool:
    """Whether it is a model or layer of Keras 2 or 3."""
    return any(
        kind.__name__ == "Layer" and kind.__module__.partition(".")[0] in ("keras", "tf_keras")
        for kind in type(thing).__mro__
    )


def called(thing: Any) -> Any:
    """What runs when a thing is called, as a person wrote it: a function, or a tf.function; of Keras ``call``."""
    if is_keras(thing):
        return thing.call
    if inspect.isroutine(thing) or hasattr(thing, "python_function"):
        return thing
    return thing.__call__


def parameters_of(thing: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of what a person wrote, without ``self``."""
    function = called(thing)
    try:
        found = inspect.signature(getattr(function, "python_function", function)).parameters
    except (TypeError, ValueError):
        return {}
    return {name: parameter for name, parameter in found.items() if name != "self"}


def _is_model(thing: Any) -> bool:
    # A tf.function knows the variables that it uses, and a metric has its own: neither is a model.
    if not callable(thing) or is_optimizer(thing) or hasattr(thing, "python_function"):
        return False
    if any(kind.__name__ == "Metric" for kind in type(thing).__mro__):
        return False
    try:
        return bool(getattr(thing, "variables", None) or getattr(thing, "weights", None))
    except (TypeError, ValueError, AttributeError):
        return False


@contextlib.contextmanager
def repeatable(seed: int, sides: Sequence[Side]) -> Iterator[Callable[[], None]]:
    """Run eagerly and deterministically; yields what sets all seeds again, to be called before each run.

    Whoever calls finds the settings of TensorFlow, and the generators of Python and numpy, as they were.
    """
    import numpy as np
    import tensorflow as tf
    from tensorflow.python.eager import context
    from tensorflow.python.framework import config

    eager, deterministic = tf.config.functions_run_eagerly(), config.is_op_determinism_enabled()
    state, numpy_state, tensorflow_seed = random.getstate(), np.random.get_state(), context.global_seed()  # noqa: NPY002
    tf.config.run_functions_eagerly(run_eagerly=True)
    config.enable_op_determinism()
    try:
        yield lambda: _set_seeds(seed, sides)
    finally:
        tf.config.run_functions_eagerly(eager)
        if not deterministic:
            config.disable_op_determinism()
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        tf.random.set_seed(tensorflow_seed) if tensorflow_seed is not None else context.set_global_seed(None)


def _set_seeds(seed: int, sides: Sequence[Side]) -> None:
    import numpy as np
    import tensorflow as tf

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # what models draw from
    tf.random.set_seed(seed)
    for name in ("keras", "tf_keras"):
        if name in sys.modules:
            sys.modules[name].utils.set_random_seed(seed)
    # Keras 3 gives each random layer a generator with a seed of its own, which is in no checkpoint and depends on
    # the order in which layers were made. With one seed for all, layers of one shape drop out the same.
    for side in sides:
        for layer in side.live.objects:
            for generator in getattr(layer, "_seed_generators", None) or ():
                generator.state.assign([seed, 0])


@dataclass(frozen=True)
class Call:
    """One call of a layer: what it was given and what it gave, as the tensors in them."""

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


@contextlib.contextmanager
def recorded(things: Mapping[int, Any]) -> Iterator[dict[int, list[Call]]]:
    """Record the calls of layers, by number, in the order in which each first ends.

    The classes are wrapped and not the objects, because Python looks ``__call__`` up there. They are as they were
    when this ends.
    """
    calls: dict[int, list[Call]] = {}
    numbers = {id(thing): number for number, thing in things.items() if callable(thing)}
    active: set[int] = set()
    originals: dict[type, Any] = {}
    for thing in things.values():
        # A class that is written in C cannot be changed.
        kind = next((each for each in type(thing).__mro__ if "__call__" in vars(each)), None)
        if kind is not None and kind.__flags__ & _HEAP_TYPE:
            originals[kind] = vars(kind)["__call__"]
    try:
        for kind, original in originals.items():
            setattr(kind, "__call__", _recording(original, numbers, active, calls))  # noqa: B010  # mypy knows it
        yield calls
    finally:
        for kind, original in originals.items():
            setattr(kind, "__call__", original)  # noqa: B010


def _recording(original: Any, numbers: Mapping[int, int], active: set[int], calls: dict[int, list[Call]]) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        # As attribute access does: a tf.function binds itself in its own way.
        bound = original.__get__(self, type(self)) if hasattr(original, "__get__") else original
        number = numbers.get(id(self))
        # A class may call that of its parent, for the same object.
        if number is None or number in active:
            return bound(*args, **kwargs)
        active.add(number)
        try:
            result = bound(*args, **kwargs)
        finally:
            active.discard(number)
        calls.setdefault(number, []).append(Call(_tensors((args, kwargs)), _tensors(result)))
        return result

    return call


def _tensors(nest: Any) -> tuple[Any, ...]:
    import tensorflow as tf

    return tuple(
        each.numpy() if hasattr(each, "numpy") else each
        for each in tf.nest.flatten(nest, expand_composites=True)
        if (tf.is_tensor(each) and hasattr(each, "numpy")) or type(each).__module__ == "numpy"
    )
