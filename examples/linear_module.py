"""Is my checkpoint restored? A linear model is saved, restored, and asked for by a name that is not there.

python examples/linear_module.py [FOLDER]
"""

import sys
import tempfile

import keras
import tensorflow as tf

import ckptmigrate as cm


class Linear(tf.Module):
    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(5.0)
        self.bias = tf.Variable(0.0)

    def __call__(self, x):
        return self.weight * x + self.bias


def train(model, steps):
    """Towards 3 x + 2."""
    sgd, variables = keras.optimizers.SGD(0.1), [model.weight, model.bias]
    x = tf.linspace(-1.0, 1.0, 50)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - (3.0 * x + 2.0)) ** 2)
        sgd.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))


def main(folder):
    trained = Linear()
    train(trained, steps=10)
    saved = tf.train.Checkpoint(model=trained).save(f"{folder}/my_checkpoint")
    print(f"trained: weight {trained.weight.numpy():.4f}, bias {trained.bias.numpy():.4f}")
    print(f"saved as {saved}")

    restored = Linear()
    tf.train.Checkpoint(model=restored).restore(saved).assert_consumed()
    x = tf.constant([-2.0, 0.5, 3.0])
    difference = float(tf.reduce_max(tf.abs(restored(x) - trained(x))))
    assert difference < 1e-6
    print(f"restored into a new instance: the outputs differ by {difference}")

    # `save` has added a number to the name, and without it there is no checkpoint.
    asked = f"{folder}/my_checkpoint"
    print(f"\nasked for {asked}")
    print(f"TensorFlow:\n  {refusal(tf.train.Checkpoint(model=Linear()).restore, asked)}")
    message = refusal(cm.find_prefix, asked)
    print(f"ckptmigrate:\n  {message}")
    assert saved in message


def refusal(read, prefix):
    """What is said of a checkpoint that is not there."""
    try:
        read(prefix)
    except (tf.errors.NotFoundError, cm.CkptMigrateError) as error:
        return str(error)
    raise AssertionError(f"{prefix} was found")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
