"""A project's own test: the model of today restores the checkpoint of yesterday. It fails when an attribute is renamed.

pytest examples/test_restores.py, or python examples/test_restores.py [FOLDER]
"""

import sys
import tempfile

import keras
import tensorflow as tf

from ckptmigrate.testing import assert_restores


class Model(tf.Module):
    def __init__(self, name_of_the_kernel="kernel"):
        super().__init__()
        setattr(self, name_of_the_kernel, tf.Variable(tf.random.normal([8, 4])))
        self.bias = tf.Variable(tf.random.normal([4]))


def build():
    """As the training script makes what it saves: the model and its optimizer, built."""
    model = Model()
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    return tf.train.Checkpoint(model=model, optimizer=optimizer)


def test_the_model_restores_its_checkpoint(tmp_path):
    # In your project this is a small checkpoint that you keep beside the tests.
    prefix = build().save(f"{tmp_path}/ckpt")
    assert_restores(build, prefix)


def main(folder):
    prefix = build().save(f"{folder}/ckpt")
    print(assert_restores(build, prefix))
    try:
        assert_restores(lambda: {"model": Model("weights")}, prefix, expect_partial=True)
    except AssertionError as error:
        print(f"\nand with the kernel renamed:\n\n{error}")
    else:
        raise SystemExit("the renamed kernel was not noticed")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
