"""An old model, its checkpoint, and the new model with the checkpoint that a plan made of it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import keras
import tensorflow as tf
import tf_keras
from builders import plan_between
from models import keras3_adam, new_adam

from ckptmigrate import Comparison, apply_plan, build_checkpoint, verify_checkpoint, write_template

FRAMEWORKS = {"keras3": keras, "keras2": tf_keras}
ADAMS = {"keras3": keras3_adam, "keras2": new_adam}
KERNELS = {"keras3": "_kernel", "keras2": "kernel"}
"""What a Dense calls its kernel in a checkpoint."""


@dataclass
class Twins:
    """Both sides of a migration, on disk.

    Attributes:
        old: The factory of the old model.
        new: The factory of the new one.
        source: The old checkpoint.
        plan: What leads to the new one.
        out: The new checkpoint.
    """

    old: object
    new: object
    source: str
    plan: object
    out: str

    @classmethod
    def make(cls, directory, old, new, rules="", *, prepare=None):
        """Save the old model, after `prepare` did something with it, and migrate it."""
        directory = Path(directory)
        built = build_checkpoint(old)
        if prepare is not None:
            prepare(built)
        source = built.save(str(directory / "source"))
        template = write_template(new, str(directory / "template")).prefix
        plan = plan_between(source, template, rules, yes_proposed=True)
        (directory / "plan.json").write_bytes(plan.to_json())
        out = str(directory / "out")
        apply_plan(plan, out)
        return cls(old, new, source, plan, out)

    def verify(self, level="outputs", *, with_plan=True, **comparison):
        """The report of a proof."""
        source = Comparison(self.old, "" if with_plan else self.source, **comparison)
        return verify_checkpoint(self.out, self.new, plan=self.plan if with_plan else None, level=level, source=source)

    @cached_property
    def outputs(self):
        """The check of the outputs, on random inputs."""
        return self.verify().checks[-1]


def outcomes(report):
    """How each level ended."""
    return {check.level: check.outcome for check in report.checks}


def problems(report, level):
    """What contradicts a level."""
    return next(check.problems for check in report.checks if check.level == level)


def trained(steps=3):
    """What trains a model that carries a train step, before it is saved."""

    def prepare(checkpoint):
        for _ in range(steps):
            checkpoint.train_step(tf.random.normal((4, 3), seed=1))

    return prepare


def with_step(make):
    """A factory of a `Live` model's checkpoint, with a `forward` where the model cannot be called, and a train step."""

    def build():
        live = make()

        def train_step(batch):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((live.call(batch) - 0.3) ** 2)
            variables = list(live.variables.values())
            tensors = [each.value if isinstance(each, keras.Variable) else each for each in variables]
            gradients = tape.gradient(loss, tensors)
            if hasattr(live.optimizer, "apply_gradients"):
                live.optimizer.apply_gradients(zip(gradients, variables, strict=True))
            else:
                live.optimizer.apply(gradients, variables)
            return loss

        live.checkpoint.train_step = train_step
        if not isinstance(live.call, tf.Module | keras.Layer):
            live.checkpoint.forward = live.call
        return live.checkpoint

    return build


def renamed(framework, kernels):
    """Rules from layers `a` and `b` to `c` and `d`, each with the kernel that is said: ``ab`` or, swapped, ``ba``."""
    kernel = KERNELS[framework]
    first, second = kernels
    return f"""
  - rename: {{from: model/{first}/{kernel}, to: model/c/{kernel}}}
  - rename: {{from: model/{second}/{kernel}, to: model/d/{kernel}}}
  - rename: {{from: model/a/bias, to: model/c/bias}}
  - rename: {{from: model/b/bias, to: model/d/bias}}
"""
