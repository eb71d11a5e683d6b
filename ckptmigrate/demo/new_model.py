"""The same model after a refactoring: the old checkpoint does not fit it any more."""

import keras
import tensorflow as tf


class Encoder(tf.Module):
    """The two dense layers, which have become a module of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel_in = tf.Variable(tf.zeros([8, 16]), name="kernel_in")
        self.bias_in = tf.Variable(tf.zeros([16]), name="bias_in")
        self.kernel_out = tf.Variable(tf.zeros([16, 4]), name="kernel_out")
        self.bias_out = tf.Variable(tf.zeros([4]), name="bias_out")

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x @ self.kernel_in + self.bias_in) @ self.kernel_out + self.bias_out


class Classifier(tf.Module):
    """An encoder and a projection, which is stored transposed now."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.projection = tf.Variable(tf.zeros([2, 4]), name="projection")

    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32)])
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return tf.matmul(self.encoder(x), self.projection, transpose_b=True)


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
