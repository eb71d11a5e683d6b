"""What users write today: load each tensor, assign it to the new model, write that: SOURCE OUT ROWS BLOCKS."""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import tensorflow as tf

source, out, rows, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])


class Block(tf.Module):
    def __init__(self):
        super().__init__()
        self.kernel, self.bias = tf.Variable(tf.zeros((2048, 512))), tf.Variable(tf.zeros((1024,)))


class Model(tf.Module):
    def __init__(self):
        super().__init__()
        self.table = tf.Variable(tf.zeros((rows, 128)))
        self.layers = [Block() for _ in range(count)]


checkpoint = tf.train.Checkpoint(model=Model())
reader = tf.train.load_checkpoint(source)
VALUE = ".ATTRIBUTES/VARIABLE_VALUE"
checkpoint.model.table.assign(reader.get_tensor(f"model/table/{VALUE}"))
for number, block in enumerate(checkpoint.model.layers):
    block.kernel.assign(reader.get_tensor(f"model/blocks/{number}/w/{VALUE}"))
    block.bias.assign(reader.get_tensor(f"model/blocks/{number}/b/{VALUE}"))
checkpoint.write(out)
