"""Small models of every framework, in two layouts: as they were trained, and as they are now called.

Each factory takes the names of the attributes (or of the checkpoint's keyword) and gives a `Live` model, so one
function makes the old model and the new one. What is compared between two of them goes by the names in
`Live.variables`, which stay the same whatever the attributes are called.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import sonnet as snt
import tensorflow as tf
import tf_keras

WIDTH = 3
"""Every layer maps this many features to as many: only paths tell one kernel from another."""

_SEEDS = itertools.count(1)

Value = np.ndarray[Any, Any]


@dataclass
class Live:
    """A model with its optimizer, its checkpoint, and what its variables stand for.

    Attributes:
        checkpoint: What is saved and restored.
        call: The forward pass.
        variables: The trained variables by what they are, in the order in which the optimizer gets them.
        optimizer: The optimizer; None where the model is only saved.
    """

    checkpoint: tf.train.Checkpoint
    call: Callable[[tf.Tensor], tf.Tensor]
    variables: Mapping[str, Any]
    optimizer: Any = None

    def train(self, steps: int = 1) -> None:
        """Steps on fixed data, eager, so that equal state gives equal bits."""
        data = tf.reshape(tf.range(4.0 * WIDTH) / 10.0 - 0.4, (4, WIDTH))
        for _ in range(steps):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self.call(data) - 0.3) ** 2)
            variables = list(self.variables.values())
            tensors = [v.value if isinstance(v, keras.Variable) else v for v in variables]
            gradients = tape.gradient(loss, tensors)
            if isinstance(self.optimizer, snt.Optimizer):
                self.optimizer.apply(gradients, variables)
            else:
                self.optimizer.apply_gradients(zip(gradients, variables, strict=True))

    def values(self) -> dict[str, Value]:
        """Every variable, and every slot of every variable as ``variable <kind>``."""
        found = {name: variable.numpy() for name, variable in self.variables.items()}
        for name, variable in self.variables.items():
            found.update({f"{name} <{kind}>": value for kind, value in self._slots(variable).items()})
        return found

    def _slots(self, variable: Any) -> dict[str, Value]:
        optimizer = self.optimizer
        if optimizer is None:
            return {}
        if isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer):
            return {kind: optimizer.get_slot(variable, kind).numpy() for kind in optimizer.get_slot_names()}
        if isinstance(optimizer, snt.Optimizer):
            # Sonnet pairs slots and variables by position, the same in each call of `apply`.
            index = next(index for index, other in enumerate(self.variables.values()) if other is variable)
            return {"m": optimizer.m[index].numpy(), "v": optimizer.v[index].numpy()}
        if isinstance(optimizer, tf_keras.optimizers.Optimizer):
            index = optimizer._index_dict[optimizer._var_key(variable)]
        else:
            index = optimizer._get_variable_index(variable)
        return {"m": optimizer._momentums[index].numpy(), "v": optimizer._velocities[index].numpy()}


def keras3_adam() -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(0.01)


def new_adam() -> tf_keras.optimizers.Optimizer:
    return tf_keras.optimizers.Adam(0.01)


def legacy_adam() -> tf_keras.optimizers.legacy.Optimizer:
    return tf_keras.optimizers.legacy.Adam(0.01)


def sonnet_adam() -> snt.Optimizer:
    return snt.optimizers.Adam(0.01)


def start(optimizer: Any, variables: Mapping[str, Any]) -> Any:
    """Make an optimizer's slots without a step; all zeros, as they are before training."""
    listed = list(variables.values())
    if isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer):
        optimizer._create_all_weights(listed)
    elif isinstance(optimizer, snt.Optimizer):
        optimizer._initialize(listed)
    elif optimizer is not None:
        optimizer.build(listed)
    return optimizer


def weight(*shape: int, trainable: bool = True) -> tf.Variable:
    """A variable with values like no other's."""
    return tf.Variable(tf.random.stateless_normal(shape or (WIDTH, WIDTH), (next(_SEEDS), 7)) / 2, trainable)


# tf.Module


class Weights(tf.Module):
    """A module with a square kernel at each of some attributes; the product of all is its output."""

    def __init__(self, kernels: Mapping[str, tf.Variable]) -> None:
        super().__init__()
        for attribute, kernel in kernels.items():
            setattr(self, attribute, kernel)


def module(
    attributes: Mapping[str, str],
    adam: Callable[[], Any],
    *,
    shapes: Mapping[str, tuple[int, int]] | None = None,
    frozen: tuple[str, ...] = (),
) -> Live:
    """A tf.Module without names of its own: all variables are called ``Variable``.

    Args:
        attributes: The attribute of each variable, by what it stands for, in the order of the computation.
        adam: Makes the optimizer, which gets `trainable_variables`: in the alphabetical order of attributes.
        shapes: Of those variables that are not square.
        frozen: The variables that are not trained, and not among `Live.variables`.
    """
    kernels = {role: weight(*(shapes or {}).get(role, ()), trainable=role not in frozen) for role in attributes}
    model = Weights({attribute: kernels[role] for role, attribute in attributes.items()})
    roles = {id(kernel): role for role, kernel in kernels.items()}
    variables = {roles[id(variable)]: variable for variable in model.trainable_variables}
    optimizer = start(adam(), variables)

    def call(inputs: tf.Tensor) -> tf.Tensor:
        for kernel in kernels.values():
            inputs = tf.tanh(inputs @ kernel)
        return inputs

    return Live(tf.train.Checkpoint(model=model, optimizer=optimizer), call, variables, optimizer)


def attention(adam: Callable[[], Any], *, fused: bool) -> Live:
    """Query, key and value kernels: side by side in one variable, or each in its own."""
    roles = ("qkv",) if fused else ("key", "query", "value")
    # With names of their own, so that every optimizer's checkpoint says whose slots are whose.
    kernels = {role: tf.Variable(weight(WIDTH, 3 * WIDTH if fused else WIDTH), name=role) for role in roles}
    model = Weights(kernels)
    optimizer = start(adam(), kernels)

    def call(inputs: tf.Tensor) -> tf.Tensor:
        if fused:
            query, key, value = tf.split(inputs @ kernels["qkv"], 3, axis=-1)
        else:
            query, key, value = (inputs @ kernels[role] for role in ("query", "key", "value"))
        return tf.nn.softmax(query @ tf.transpose(key)) @ value

    return Live(tf.train.Checkpoint(model=model, optimizer=optimizer), call, kernels, optimizer)


def module_list(length: int, adam: Callable[[], Any] = keras3_adam, *, first: int = 0) -> Live:
    """A tf.Module with a list of equal layers, which stand for ``layer <first>``, ``layer <first + 1>``, ..."""
    model = tf.Module()
    model.layers = [Weights({"b": weight(WIDTH), "w": weight()}) for _ in range(length)]
    variables = {
        f"layer {number} {attribute}": getattr(layer, attribute)
        for number, layer in enumerate(model.layers, first)
        for attribute in ("b", "w")
    }
    optimizer = start(adam(), variables)

    def call(inputs: tf.Tensor) -> tf.Tensor:
        for layer in model.layers:
            inputs = tf.tanh(inputs @ layer.w + layer.b)
        return inputs

    return Live(tf.train.Checkpoint(model=model, optimizer=optimizer), call, variables, optimizer)


def pair(keywords: Mapping[str, str], adam: Callable[[], Any]) -> Live:
    """Two equal modules that one optimizer trains: the first's variables, then the second's.

    Args:
        keywords: The checkpoint's keyword for each module, by what it stands for, in that order. The checkpoint
            sorts them; the optimizer does not.
        adam: Makes the optimizer.
    """
    modules = {role: Weights({"w": weight()}) for role in keywords}
    variables = {f"{role} w": made.w for role, made in modules.items()}
    optimizer = start(adam(), variables)

    def call(inputs: tf.Tensor) -> tf.Tensor:
        for made in modules.values():
            inputs = tf.tanh(inputs @ made.w)
        return inputs

    saved = {keyword: modules[role] for role, keyword in keywords.items()}
    return Live(tf.train.Checkpoint(**saved, optimizer=optimizer), call, variables, optimizer)


# Keras, both: `framework` is keras or tf_keras.


def _dense(framework: Any, name: str | None = None) -> Any:
    return framework.layers.Dense(WIDTH, activation="tanh", name=name, bias_initializer="random_normal")


def _layered(model: Any, layers: Mapping[str, Any], adam: Callable[[], Any] | None, checkpoint: str) -> Live:
    """A built model; its variables stand for the kernel and the bias of each of `layers`."""
    roles = {
        id(variable): f"{name} {role}"
        for name, layer in layers.items()
        for role, variable in (("kernel", layer.kernel), ("bias", layer.bias))
    }
    variables = {roles[id(variable)]: variable for variable in model.trainable_variables}
    optimizer = start(adam() if adam else None, variables)
    if not checkpoint:
        return Live(tf.train.Checkpoint(model), model, variables)
    saved = {checkpoint: model} if optimizer is None else {checkpoint: model, "optimizer": optimizer}
    return Live(tf.train.Checkpoint(**saved), model, variables, optimizer)


def sequential(
    framework: Any,
    adam: Callable[[], Any] | None = None,
    *,
    layers: Mapping[str, str | None] | None = None,
    checkpoint: str = "model",
) -> Live:
    """A Sequential.

    Args:
        framework: keras or tf_keras.
        adam: Makes the optimizer; None for none.
        layers: The name of each layer by what it stands for, in order; None for an automatic name.
        checkpoint: The checkpoint's keyword for the model; empty if the model is its root.
    """
    made = {role: _dense(framework, name) for role, name in (layers or {"first": None, "second": None}).items()}
    model = framework.Sequential([framework.Input((WIDTH,)), *made.values()])
    return _layered(model, made, adam, checkpoint)


def functional(
    framework: Any,
    adam: Callable[[], Any] | None = None,
    *,
    layers: Mapping[str, str | None] | None = None,
    checkpoint: str = "model",
) -> Live:
    """A functional model: its layers in a row, the second around a skip connection. Arguments as in `sequential`."""
    made = {role: _dense(framework, name) for role, name in (layers or {"first": None, "second": None}).items()}
    inputs = outputs = framework.Input((WIDTH,))
    for layer in made.values():
        outputs = framework.layers.Add()([outputs, layer(outputs)])
    return _layered(framework.Model(inputs, outputs), made, adam, checkpoint)


def subclassed(
    framework: Any,
    attributes: Mapping[str, str],
    adam: Callable[[], Any] | None = None,
    *,
    checkpoint: str = "model",
) -> Live:
    """A subclassed model that holds each layer at an attribute. `attributes`: by what they stand for, in order."""

    class Net(framework.Model):
        def __init__(self) -> None:
            super().__init__()
            for attribute in attributes.values():
                setattr(self, attribute, _dense(framework))

        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            for attribute in attributes.values():
                inputs = getattr(self, attribute)(inputs)
            return inputs

    model = Net()
    model(tf.zeros((1, WIDTH)))
    return _layered(
        model, {role: getattr(model, attribute) for role, attribute in attributes.items()}, adam, checkpoint
    )


def wrapped(framework: Any, attributes: Mapping[str, str], adam: Callable[[], Any]) -> Live:
    """Layers in a submodule `body`, then a projection by `proj_t` transposed and `proj_b`, named ``third``."""

    class Body(framework.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            for attribute in attributes.values():
                setattr(self, attribute, _dense(framework))

        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            for attribute in attributes.values():
                inputs = getattr(self, attribute)(inputs)
            return inputs

    class Net(framework.Model):
        def __init__(self) -> None:
            super().__init__()
            self.body = Body()
            self.proj_t = self.add_weight(shape=(WIDTH, WIDTH), initializer="random_normal", name="proj_t")
            self.proj_b = self.add_weight(shape=(WIDTH,), initializer="random_normal", name="proj_b")

        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return tf.tanh(tf.matmul(self.body(inputs), self.proj_t, transpose_b=True) + self.proj_b)

    model = Net()
    model(tf.zeros((1, WIDTH)))
    layers = {role: getattr(model.body, attribute) for role, attribute in attributes.items()}
    roles = {
        id(variable): f"{name} {role}"
        for name, layer in layers.items()
        for role, variable in (("kernel", layer.kernel), ("bias", layer.bias))
    }
    roles |= {id(model.proj_t): "third kernel", id(model.proj_b): "third bias"}
    variables = {roles[id(variable)]: variable for variable in model.trainable_variables}
    optimizer = start(adam(), variables)
    return Live(tf.train.Checkpoint(model=model, optimizer=optimizer), model, variables, optimizer)


def hidden_list() -> Live:
    """A Keras 3 model with a layer that holds layers in a list, which TensorFlow's checkpoint does not follow."""

    class Stack(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.steps = [_dense(keras, f"hidden_{number}") for number in (1, 2)]

        def build(self, shape: Any) -> None:
            for step in self.steps:
                step.build(shape)

        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            for step in self.steps:
                inputs = step(inputs)
            return inputs

    model = keras.Sequential([keras.Input((WIDTH,)), Stack(), _dense(keras, "shown")])
    return Live(tf.train.Checkpoint(model=model), model, {})


# Sonnet 2


def sonnet(attributes: Mapping[str, str], *, checkpoint: str = "model") -> Live:
    """A Sonnet module with a Linear at each attribute. All are called ``linear``: Sonnet numbers no names."""
    linears = {role: snt.Linear(WIDTH, b_init=snt.initializers.RandomNormal()) for role in attributes}

    class Net(snt.Module):
        def __init__(self) -> None:
            super().__init__()
            for role, attribute in attributes.items():
                setattr(self, attribute, linears[role])

        def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
            for linear in linears.values():
                inputs = tf.tanh(linear(inputs))
            return inputs

    model = Net()
    model(tf.zeros((1, WIDTH)))
    roles = {id(getattr(linear, name)): f"{role} {name}" for role, linear in linears.items() for name in ("w", "b")}
    variables = {roles[id(variable)]: variable for variable in model.trainable_variables}
    optimizer = start(sonnet_adam(), variables)
    return Live(tf.train.Checkpoint(**{checkpoint: model, "optimizer": optimizer}), model, variables, optimizer)
