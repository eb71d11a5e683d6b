"""A rename in a project in git: source and checkpoint change in one command, and the model still says the same.

python examples/rename_in_git.py [FOLDER]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

MODEL = """\
import keras
import tensorflow as tf


class Block(keras.layers.Layer):
    def __init__(self, units):
        super().__init__()
        self.ln = keras.layers.LayerNormalization()  # before the projection
        self.proj = keras.layers.Dense(units, activation="relu")

    def build(self, shape):
        self.ln.build(shape)
        self.proj.build(shape)

    def call(self, x):
        return x + self.proj(self.ln(x))


class Model(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = Block(4)
        self.second = Block(4)
        self.ln = keras.layers.LayerNormalization()  # another one of this name

    def build(self, shape):
        for layer in (self.first, self.second, self.ln):
            layer.build(shape)

    def call(self, x):
        return self.ln(self.second(self.first(x)))


def build():
    model = Model()
    model.build((None, 4))
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    return tf.train.Checkpoint(model=model, optimizer=optimizer)
"""

TRAIN = """\
import keras
import numpy as np
from model import build

checkpoint = build()
x = keras.utils.set_random_seed(1) or np.random.rand(32, 4)
checkpoint.model.compile(checkpoint.optimizer, "mse")
checkpoint.model.fit(x, np.roll(x, 1, axis=1), epochs=3, verbose=0)
print(checkpoint.write("ckpts/run"))
np.save("outputs.npy", checkpoint.model(x[:8]))
"""

COMPARE = """\
import keras
import numpy as np
from model import build

import ckptmigrate

checkpoint = build()
ckptmigrate.restore(checkpoint, "migrated/run")
x = keras.utils.set_random_seed(1) or np.random.rand(32, 4)
same = np.array_equal(checkpoint.model(x[:8]), np.load("outputs.npy"))
print("the outputs are equal, bit for bit" if same else "the outputs differ")
print("steps that the optimizer made:", int(checkpoint.optimizer.iterations))
raise SystemExit(0 if same else 1)
"""


def run(folder, *command):
    """Run a command in the project, and show what it says."""
    print("$", *command)
    words = {"python": (sys.executable,), "ckptmigrate": (sys.executable, "-m", "ckptmigrate")}
    ran = [*words.get(command[0], command[:1]), *command[1:]]
    done = subprocess.run(ran, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    print(done.stdout, end="")
    assert done.returncode == 0, done.stderr


def main(folder):
    project = Path(folder, "project")
    project.mkdir()
    for name, text in (("model.py", MODEL), ("train.py", TRAIN), ("compare.py", COMPARE)):
        (project / name).write_text(text)
    (project / ".gitignore").write_text("ckpts/\nmigrated/\n*.npy\n__pycache__/\n")
    run(project, "git", "init", "-q")
    run(project, "git", "add", ".")
    git = ("git", "-c", "user.name=A Person", "-c", "user.email=person@example.org")
    run(project, *git, "commit", "-q", "-m", "a model")
    run(project, "python", "train.py")

    # The normalization of a block gets a name that says what it is for; the model's own, of the same name, keeps its.
    rename = ("codemod", "rename", "Block.ln", "pre_norm", ".", "--target", "model.py:build")
    run(project, "ckptmigrate", *rename)
    run(project, "ckptmigrate", *rename, "--write", "--checkpoint", "ckpts/run", "--out", "migrated/run")
    run(project, "git", "diff", "--stat")
    run(project, "python", "compare.py")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(scratch)
