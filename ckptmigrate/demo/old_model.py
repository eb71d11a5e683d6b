"""The model that the checkpoint was trained with. Run it to train a little and save a checkpoint."""

import sys

import keras
import tensorflow as tf


class Classifier(tf.Module):
    """Two dense layers and a projection, all side by side."""

    def __init__(self) -> None:
        super().__init__()
        random = tf.random.Generator.from_seed(7)
        self.w1 = tf.Variable(random.normal([8, 16]), name="w1")
        self.b1 = tf.Variable(tf.zeros([16]), name="b1")
        self.w2 = tf.Variable(random.normal([16, 4]), name="w2")
        self.b2 = tf.Variable(tf.zeros([4]), name="b2")
        self.proj = tf.Variable(random.normal([4, 2]), name="proj")

    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32)])
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        hidden = tf.nn.relu(x @ self.w1 + self.b1)
        return (hidden @ self.w2 + self.b2) @ self.proj


def build() -> tf.train.Checkpoint:
    """The model and its optimizer, as they are saved, and how they are trained."""
    model = Classifier()
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)

    def train_step(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    checkpoint.train_step = train_step
    return checkpoint


if __name__ == "__main__":
    checkpoint = build()
    x, y = tf.random.stateless_normal([32, 8], (1, 2)), tf.random.stateless_normal([32, 2], (3, 4))
    for _ in range(10):
        loss = checkpoint.train_step(x, y)
    steps = int(checkpoint.optimizer.iterations)
    print(f"saved {checkpoint.save(sys.argv[1])} after {steps} steps, loss {float(loss):.4f}")  # noqa: T201
