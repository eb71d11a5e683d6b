"""An attribute is renamed in the middle of a training, and the training goes on as if it had not been.

python examples/training_goes_on.py [FOLDER]
"""

import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

import ckptmigrate as cm

RULES = """
rules:
  - rename: {from: model/w1, to: model/kernel}
  - rename: {from: model/w2, to: model/head}
"""


class Old(tf.Module):
    def __init__(self):
        super().__init__()
        self.w1 = tf.Variable(tf.random.normal([8, 8]))
        self.w2 = tf.Variable(tf.random.normal([8, 8]))

    def __call__(self, x):
        return tf.tanh(x @ self.w1) @ self.w2


class New(tf.Module):
    """The same model with better names. In the alphabet, and so in the optimizer, the two change places."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(tf.random.normal([8, 8]))
        self.head = tf.Variable(tf.random.normal([8, 8]))

    def __call__(self, x):
        return tf.tanh(x @ self.kernel) @ self.head


def checkpoint_of(model):
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    return tf.train.Checkpoint(model=model, optimizer=optimizer)


def build_new():
    return checkpoint_of(New())


def train(checkpoint, steps):
    x = tf.reshape(tf.linspace(-1.0, 1.0, 32), [4, 8])
    variables = checkpoint.model.trainable_variables
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((checkpoint.model(x) - x) ** 2)
        checkpoint.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    return float(loss)


def main(folder):
    old = checkpoint_of(Old())
    for epoch in range(1, 4):
        print(f"epoch {epoch}: loss {train(old, steps=5):.5f}, saved as {old.save(f'{folder}/epochs/ckpt')}")

    # A directory stands for its latest checkpoint.
    template = cm.write_template(build_new, f"{folder}/template").prefix
    with cm.Bundle.open(cm.find_prefix(f"{folder}/epochs")) as source, cm.Bundle.open(template) as target:
        plan = cm.plan_bundles(source, target, cm.parse_rulebook(RULES))
    print(f"\nplan: {', '.join(f'{count} {status}' for status, count in plan.counts().items() if count)}")
    cm.apply_plan(plan, f"{folder}/migrated")
    assert cm.verify_checkpoint(f"{folder}/migrated", build_new, plan=plan).passed

    new = build_new()
    new.restore(f"{folder}/migrated").assert_consumed()
    print(f"\none step more: loss {train(old, steps=1):.9f} in the old model, {train(new, steps=1):.9f} in the new one")
    for before, after in (("w1", "kernel"), ("w2", "head")):
        assert np.array_equal(getattr(old.model, before), getattr(new.model, after))
        print(f"  {before} and {after} have the same bits")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
