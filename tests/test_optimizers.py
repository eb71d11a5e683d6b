"""Optimizer state: read in every generation, and carried so that training goes on as if nothing had happened.

Each model has three layers. In its new form one is renamed, two have changed places, and a new one has come in
front of them, so that every index of an optimizer's flat lists means something else. The new layer takes part
in the model but adds nothing to what it computes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from ckptmigrate import Bundle, Endpoint, ObjectGraph, Plan, apply_plan, make_plan, match_graphs, parse_rulebook
from ckptmigrate.graph.template import write_checkpoint

LEGACY, NEW, KERAS3 = tf_keras.optimizers.legacy, tf_keras.optimizers, keras.optimizers
WIDTH, BATCHES = 3, 5

# Of each optimizer, in each framework that has it: how it is made, and what is read of each variable.
RATE = 1e-3
OPTIMIZERS: dict[str, tuple[Mapping[str, Any], set[str]]] = {
    "SGD": ({"momentum": 0.9}, {"momentum"}),
    "RMSprop": ({"momentum": 0.9, "centered": True}, {"rms", "momentum", "average_gradient"}),
    "Adagrad": ({}, {"accumulator"}),
    "Adadelta": ({}, {"accumulated_grad", "accumulated_delta_var"}),
    "Adam": ({"amsgrad": True}, {"momentum", "velocity", "velocity_hat"}),
    "AdamW": ({}, {"momentum", "velocity"}),
    "Adamax": ({}, {"momentum", "norm"}),
    "Nadam": ({}, {"momentum", "velocity"}),
    "Ftrl": ({}, {"accumulator", "linear"}),
    "Lion": ({}, {"momentum"}),
    "Adafactor": ({}, {"row", "column", "velocity"}),
}
NOT_IN_LEGACY = ("AdamW", "Lion", "Adafactor")
# The same in all: Keras 3 and 2.11 have no other schedule of Nadam's momentum.
LEGACY_ONLY = {"Nadam": {"schedule_decay": 1.0}}


def make(module: Any, name: str, **more: Any) -> Any:
    own = LEGACY_ONLY.get(name, {}) if module is LEGACY else {}
    return getattr(module, name)(RATE, **OPTIMIZERS[name][0], **own, **more)


EVERY = [
    pytest.param(module, name, id=f"{label}-{name}")
    for label, module in (("legacy", LEGACY), ("keras-2.11", NEW), ("keras-3", KERAS3))
    for name in OPTIMIZERS
    if not (module is LEGACY and name in NOT_IN_LEGACY)
]
ACROSS = [
    pytest.param(old, new, name, id=f"{label}-{name}")
    for label, old, new in (
        ("legacy-to-2.11", LEGACY, NEW),
        ("2.11-to-3", NEW, KERAS3),
        ("legacy-to-3", LEGACY, KERAS3),
        ("3-to-2.11", KERAS3, NEW),
        ("2.11-to-legacy", NEW, LEGACY),
    )
    for name in OPTIMIZERS
    if not (LEGACY in (old, new) and name in NOT_IN_LEGACY)
]


NAMELESS = {("SGD", NEW), ("Lion", NEW), ("Adam", LEGACY), ("Adamax", LEGACY)}
"""Optimizers of which only the names that the first step gives say which one they are: SGD and Lion have the
same lists in Keras 2.11, Adam and Adamax the same slots in legacy Keras."""


class Model:
    """A model of three layers at attributes of any names, in any order, perhaps with an idle one before them."""

    def __init__(self, optimizer: Any, attributes: Mapping[str, str], *, idle: str = "") -> None:
        framework = keras if isinstance(optimizer, KERAS3.Optimizer) else tf_keras
        names = (["idle"] if idle else []) + list(attributes)
        layers = {role: framework.layers.Dense(WIDTH, name=f"layer_{role}") for role in names}

        class Net(framework.Model):
            def __init__(self) -> None:
                super().__init__()
                for role, layer in layers.items():
                    setattr(self, attributes.get(role, idle), layer)

            def call(self, inputs: tf.Tensor) -> tf.Tensor:
                found = inputs
                for role in ("a", "b", "c"):
                    found = tf.tanh(layers[role](found))
                return found + 0.0 * layers["idle"](inputs) if idle else found

        self.net = Net()
        self.net(tf.zeros((1, WIDTH)))
        rng = np.random.default_rng(4)
        for role in ("a", "b", "c"):
            layers[role].set_weights([rng.normal(size=v.shape).astype("f4") for v in layers[role].weights])
        self.optimizer = optimizer
        self.variables = {
            f"{role} {part}": getattr(layer, part) for role, layer in layers.items() for part in ("kernel", "bias")
        }
        self.checkpoint = tf.train.Checkpoint(model=self.net, optimizer=optimizer)

    def build(self) -> None:
        """Make the slots, as a training script does that restores."""
        variables = self.net.trainable_variables
        inner = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        if isinstance(inner, LEGACY.Optimizer):
            inner._create_all_weights(variables)
        elif isinstance(self.optimizer, KERAS3.Optimizer):
            self.optimizer.build(variables)
        else:
            inner.build(variables)

    def train(self, first: int = 0, steps: int = BATCHES) -> list[float]:
        """The losses of so many steps, each on its own batch."""
        losses = []
        for step in range(first, first + steps):
            data = tf.constant(np.random.default_rng(step).normal(size=(4, WIDTH)).astype("f4"))
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self.net(data) - 0.3) ** 2)
                scaled = self.optimizer.get_scaled_loss(loss) if hasattr(self.optimizer, "get_scaled_loss") else loss
                scaled = self.optimizer.scale_loss(scaled) if hasattr(self.optimizer, "scale_loss") else scaled
            variables = self.net.trainable_variables
            tensors = [v.value if isinstance(v, keras.Variable) else v for v in variables]
            gradients = tape.gradient(scaled, tensors)
            if hasattr(self.optimizer, "get_unscaled_gradients"):
                gradients = self.optimizer.get_unscaled_gradients(gradients)
            self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            losses.append(float(loss))
        return losses

    def values(self) -> dict[str, np.ndarray[Any, Any]]:
        return {name: variable.numpy() for name, variable in self.variables.items() if not name.startswith("idle")}


def old_form(optimizer: Any) -> Model:
    return Model(optimizer, {"a": "first", "b": "second", "c": "third"})


def new_form(optimizer: Any) -> Model:
    return Model(optimizer, {"c": "third", "a": "renamed", "b": "second"}, idle="before")


def rules(old: Any, new: Any) -> str:
    """What changed, in the words of each framework: Keras 3 has its kernels at `_kernel`."""
    before, after = ("_kernel" if module is KERAS3 else "kernel" for module in (old, new))
    moved = "".join(
        f"  - rename: {{from: model/{source}/{before}, to: model/{target}/{after}}}\n"
        for source, target in (("first", "renamed"), ("second", "second"), ("third", "third"))
        if source != target or before != after
    )
    return (
        f"rules:\n{moved}  - rename: {{from: model/first/bias, to: model/renamed/bias}}\n"
        "  - init: {to: model/before/**, with: template}\n"
    )


def plan(folder: Path, old: Model, new: Model, text: str, **allowed: bool) -> Plan:
    source = old.checkpoint.save(str(folder / "old"))
    template = write_checkpoint(new.checkpoint, str(folder / "template"), where="new").prefix
    return plan_between(source, template, text, **allowed)


def plan_between(source: str, target: str, text: str, **allowed: bool) -> Plan:
    with Bundle.open(source) as theirs, Bundle.open(target) as ours:
        matching = match_graphs(ObjectGraph.from_bundle(theirs), ObjectGraph.from_bundle(ours), parse_rulebook(text))
        return make_plan(Endpoint.of(theirs), Endpoint.of(ours), matching, **allowed)


def migrate(folder: Path, old: Model, new: Model, text: str, **allowed: bool) -> Plan:
    made = plan(folder, old, new, text, **allowed)
    assert made.is_complete, [*made.unmatched_source, *made.unmatched_target, *made.ambiguous]
    apply_plan(made, str(folder / "migrated"))
    new.checkpoint.restore(str(folder / "migrated")).assert_existing_objects_matched().assert_consumed()
    mend_nadam(new)
    return made


def mend_nadam(model: Model) -> None:
    """tf_keras' Nadam counts its variables in an attribute that no checkpoint has; it restarts at 1.

    Without this, its first step after any restore multiplies the cache once for each variable, in an unchanged
    model too.
    """
    if isinstance(model.optimizer, NEW.Nadam):
        model.optimizer._u_product_counter = int(model.optimizer.iterations) + 1


@functools.cache
def graph_of(module: Any, name: str, folder: Path) -> ObjectGraph:
    model = old_form(make(module, name))
    model.train(steps=1)
    with Bundle.open(model.checkpoint.write(str(folder / f"{id(module)}-{name}"))) as bundle:
        return ObjectGraph.from_bundle(bundle)


# One reading.


@pytest.mark.parametrize(("module", "name"), EVERY)
def test_every_slot_is_read_as_what_it_is_of_which_variable(module, name, tmp_path):
    graph = graph_of(module, name, tmp_path)
    (optimizer,) = graph.optimizers
    kernel = "_kernel" if module is KERAS3 else "kernel"
    variables = {f"model/{layer}/{part}" for layer in ("first", "second", "third") for part in (kernel, "bias")}
    assert {(slot.kind, graph.say(slot.variable)) for slot in optimizer.slots} == {
        (kind, variable) for kind in OPTIMIZERS[name][1] for variable in variables
    }
    assert all(slot.certain for slot in optimizer.slots)
    assert {"iterations", "learning_rate"} <= optimizer.scalars.keys()
    assert optimizer.algorithm == name.lower() or name == "AdamW"


# Training goes on.


@pytest.mark.parametrize(("module", "name"), EVERY)
def test_training_goes_on_in_a_model_with_layers_renamed_reordered_and_inserted(module, name, tmp_path):
    old, new = old_form(make(module, name)), new_form(make(module, name))
    old.train()
    new.build()
    migrate(tmp_path, old, new, rules(module, module))
    mend_nadam(old)
    assert old.train(BATCHES) == new.train(BATCHES)
    for variable, value in old.values().items():
        assert new.values()[variable].tobytes() == value.tobytes(), variable


@pytest.mark.parametrize(("before", "after", "name"), ACROSS)
def test_training_goes_on_in_another_generation(before, after, name, tmp_path):
    old, new = old_form(make(before, name)), new_form(make(after, name))
    old.train()
    new.build()
    made = plan(tmp_path, old, new, rules(before, after))
    # An optimizer that has not made a step yet does not always say what it is.
    assert made.is_complete or (name, after) in NAMELESS
    migrate(tmp_path, old, new, rules(before, after), yes_proposed=True)
    mend_nadam(old)
    np.testing.assert_allclose(new.train(BATCHES), old.train(BATCHES), rtol=0, atol=1e-6)
    for variable, value in old.values().items():
        np.testing.assert_allclose(new.values()[variable], value, rtol=0, atol=1e-6, err_msg=variable)


# Wrappers, averages, and other optimizers.


def loss_scaled(module: Any) -> Any:
    if module is KERAS3:
        return KERAS3.LossScaleOptimizer(KERAS3.Adam(RATE), initial_scale=2.0**10)
    return tf_keras.mixed_precision.LossScaleOptimizer(module.Adam(RATE), initial_scale=2.0**10)


@pytest.mark.parametrize("before", [LEGACY, NEW, KERAS3], ids=["legacy", "2.11", "3"])
@pytest.mark.parametrize("after", [LEGACY, NEW, KERAS3], ids=["legacy", "2.11", "3"])
def test_the_loss_scale_goes_along_in_every_generation(before, after, tmp_path):
    old, new = old_form(loss_scaled(before)), new_form(loss_scaled(after))
    old.train()
    new.build()
    migrate(tmp_path, old, new, rules(before, after), yes_proposed=after is LEGACY)
    np.testing.assert_allclose(new.train(BATCHES), old.train(BATCHES), rtol=0, atol=1e-6)
    scale, steps = scale_of(new.optimizer)
    assert (scale, steps) == scale_of(old.optimizer) == (2.0**10, 2 * BATCHES)


def scale_of(optimizer: Any) -> tuple[float, int]:
    if isinstance(optimizer, KERAS3.LossScaleOptimizer):
        return float(optimizer.dynamic_scale), int(optimizer.step_counter)
    return float(optimizer.loss_scale), int(optimizer.dynamic_counter)


@pytest.mark.parametrize("module", [LEGACY, NEW, KERAS3], ids=["legacy", "2.11", "3"])
@pytest.mark.parametrize("is_wrapped", [True, False], ids=["unwrapped", "wrapped"])
def test_an_optimizer_that_is_wrapped_in_a_loss_scale_keeps_its_steps_and_slots(module, is_wrapped, tmp_path):
    makers = [functools.partial(loss_scaled, module), functools.partial(module.Adam, RATE)]
    before, after = makers if is_wrapped else reversed(makers)
    old, new = old_form(before()), new_form(after())
    old.train()
    new.build()
    made = migrate(tmp_path, old, new, rules(module, module))
    np.testing.assert_allclose(new.train(BATCHES), old.train(BATCHES), rtol=0, atol=1e-6)
    said = [drop.rule for drop in made.dropped] if is_wrapped else [text for s in made.steps for text in s.evidence]
    assert any("does not store" in text and "loss_scale" in text for text in said)


@pytest.mark.parametrize(
    ("before", "after"), [(NEW, NEW), (KERAS3, KERAS3), (NEW, KERAS3), (KERAS3, NEW)], ids=["2.11", "3", "up", "down"]
)
def test_the_moving_averages_of_variables_go_along(before, after, tmp_path):
    average = {"use_ema": True, "ema_momentum": 0.9}
    old, new = old_form(before.Adam(RATE, **average)), new_form(after.Adam(RATE, **average))
    old.train()
    new.build()
    migrate(tmp_path, old, new, rules(before, after))
    old.train(BATCHES)
    new.train(BATCHES)
    for model in (old, new):
        model.optimizer.finalize_variable_values(model.net.trainable_variables)
    for variable, value in old.values().items():
        np.testing.assert_allclose(new.values()[variable], value, rtol=0, atol=1e-6, err_msg=variable)


def test_gradients_that_wait_for_more_go_along(tmp_path):
    def adam() -> Any:
        return KERAS3.Adam(RATE, gradient_accumulation_steps=3)

    old, new = old_form(adam()), new_form(adam())
    old.train()  # 5 steps: two gradients wait for a third
    new.build()
    migrate(tmp_path, old, new, rules(KERAS3, KERAS3))
    assert old.train(BATCHES) == new.train(BATCHES)
    for variable, value in old.values().items():
        assert new.values()[variable].tobytes() == value.tobytes(), variable


SWAPS = [
    (KERAS3.RMSprop, KERAS3.Adam),
    (KERAS3.Adam, KERAS3.Lion),
    (NEW.Adam, NEW.RMSprop),
    (NEW.Adam, KERAS3.SGD),
    (LEGACY.Adagrad, LEGACY.Ftrl),
    (LEGACY.Adam, KERAS3.Adamax),
]


@pytest.mark.parametrize(("before", "after"), SWAPS, ids=lambda it: it.__name__)
def test_another_optimizer_starts_anew_and_the_plan_says_so(before, after, tmp_path):
    old, new = old_form(before(RATE, **({"momentum": 0.9} if before is KERAS3.RMSprop else {}))), new_form(after(0.5))
    old.train()
    new.build()
    fresh = {v.path if hasattr(v, "path") else v.name: v.numpy() for v in states_of(new.optimizer)}
    made = migrate(
        tmp_path,
        old,
        new,
        rules(KERAS3 if before.__module__.startswith("keras") else NEW, KERAS3)
        if after.__module__.startswith("keras")
        else rules(NEW, NEW),
    )
    assert {
        v.path if hasattr(v, "path") else v.name: v.numpy() for v in states_of(new.optimizer)
    }.keys() == fresh.keys()
    for variable in states_of(new.optimizer):
        name = variable.path if hasattr(variable, "path") else variable.name
        assert variable.numpy().tobytes() == fresh[name].tobytes(), name
    for variable, value in old.values().items():
        assert new.values()[variable].tobytes() == value.tobytes()
    swap = f"another optimizer: {before.__name__.lower()} (source), {after.__name__.lower()} (target)"
    assert any(swap in text for step in made.steps for text in step.evidence)
    assert any(drop.rule == swap for drop in made.dropped)


def states_of(optimizer: Any) -> list[Any]:
    found = optimizer.variables
    return list(found() if callable(found) else found)


@pytest.mark.parametrize(("before", "after"), [(KERAS3.Adam, KERAS3.AdamW), (LEGACY.Adam, NEW.AdamW)])
def test_an_optimizer_whose_slots_mean_the_same_takes_them(before, after, tmp_path):
    old, new = old_form(before(RATE)), new_form(after(RATE, weight_decay=0.0))
    old.train()
    new.build()
    migrate(tmp_path, old, new, rules(*([KERAS3] * 2 if after is KERAS3.AdamW else [NEW] * 2)))
    np.testing.assert_allclose(new.train(BATCHES), old.train(BATCHES), rtol=0, atol=1e-6)


# Other layers frozen.


def frozen_dense(framework: Any, optimizer: Any, frozen: str) -> Any:
    """Three equal layers of which one is not trained, compiled, with an optimizer for the others."""
    layers = [framework.layers.Dense(WIDTH, name=name) for name in ("d1", "d2", "d3")]
    model = framework.Sequential([framework.Input((WIDTH,)), *layers])
    model.get_layer(frozen).trainable = False
    model.compile(optimizer, "mse")
    if isinstance(optimizer, LEGACY.Optimizer):
        optimizer._create_all_weights(model.trainable_variables)
    else:
        optimizer.build(model.trainable_variables)
    return model


def slots_by_variable(model: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Every slot as ``layer role kind``, as the optimizer itself finds it."""
    found = {}
    optimizer = model.optimizer
    for layer in model.layers:
        for role, variable in (("kernel", layer.kernel), ("bias", layer.bias)) if layer.trainable else ():
            if isinstance(optimizer, LEGACY.Optimizer):
                slots = [optimizer.get_slot(variable, kind) for kind in ("m", "v")]
            else:
                index = (
                    optimizer._get_variable_index(variable)
                    if isinstance(optimizer, KERAS3.Optimizer)
                    else optimizer._index_dict[optimizer._var_key(variable)]
                )
                slots = [optimizer._momentums[index], optimizer._velocities[index]]
            found.update(
                {f"{layer.name} {role} {kind}": slot.numpy() for kind, slot in zip(("m", "v"), slots, strict=True)}
            )
    return found


@pytest.mark.parametrize(
    ("framework", "module"), [(tf_keras, LEGACY), (tf_keras, NEW), (keras, KERAS3)], ids=["legacy", "2.11", "3"]
)
def test_where_another_layer_is_frozen_its_slots_go_nowhere_and_those_of_the_thawed_one_are_new(
    framework, module, tmp_path
):
    """Nothing moved, and the optimizer's lists are as long as they were: only whose the slots are tells."""
    old, new = (frozen_dense(framework, module.Adam(RATE), frozen) for frozen in ("d1", "d2"))
    data = np.random.default_rng(0).normal(size=(8, WIDTH)).astype("f4")
    old.fit(data, data + 1, epochs=2, verbose=0)
    source = tf.train.Checkpoint(model=old).save(str(tmp_path / "old"))
    checkpoint = tf.train.Checkpoint(model=new)
    template = write_checkpoint(checkpoint, str(tmp_path / "template"), where="new").prefix
    made = plan_between(source, template, "rules: []\n")
    assert len(made.unmatched_source) == len(made.unmatched_target) == 4
    made = plan_between(source, template, "rules: []\n", init_new=True, drop_unused=True)
    assert (len(made.dropped), [step.status for step in made.steps].count("initial")) == (4, 4)
    apply_plan(made, str(tmp_path / "migrated"))
    checkpoint.restore(str(tmp_path / "migrated")).assert_existing_objects_matched().assert_consumed()
    before, after = slots_by_variable(old), slots_by_variable(new)
    assert {name[:2] for name in before} == {"d2", "d3"}
    assert {name[:2] for name in after} == {"d1", "d3"}
    for name, value in after.items():
        assert np.all(value == (before[name] if name.startswith("d3") else 0)), name
    with Bundle.open(str(tmp_path / "migrated")) as bundle:
        written = [bundle.read(key).tobytes() for key, entry in bundle.entries.items() if entry.spec.shape]
    assert not {value.tobytes() for name, value in before.items() if name.startswith("d2")}.intersection(written)
    for layer in old.layers:
        for theirs, ours in zip(layer.get_weights(), new.get_layer(layer.name).get_weights(), strict=True):
            assert theirs.tobytes() == ours.tobytes()
    # Training goes on: of what both train, a step from the moments that it had changes the same.
    for model in (old, new):
        layer = model.get_layer("d3")
        gradients = [tf.constant(value) / 3 for value in layer.get_weights()]
        model.optimizer.apply_gradients(zip(gradients, [layer.kernel, layer.bias], strict=True))
    for theirs, ours in zip(old.get_layer("d3").get_weights(), new.get_layer("d3").get_weights(), strict=True):
        assert theirs.tobytes() == ours.tobytes()
