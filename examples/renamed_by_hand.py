"""Someone renamed attributes by hand and committed it: what they did is inferred from git, and the checkpoint follows.

python examples/renamed_by_hand.py [FOLDER]
"""

# ruff: noqa: S603, S607  # git and this program's own command line, with arguments of its own
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import tensorflow as tf

import ckptmigrate as cm

OLD = """
import tensorflow as tf
import keras


class Block(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.a = keras.layers.Dense(8, activation="gelu")
        self.b = keras.layers.Dense(8)
        self.ln = keras.layers.LayerNormalization()

    def call(self, x):
        return self.ln(x + self.b(self.a(x)))


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.blk1 = Block()
        self.blk2 = Block()
        self.out = keras.layers.Dense(3)

    def call(self, x):
        return self.out(self.blk2(self.blk1(x)))


def build():
    net = Net()
    net(tf.zeros((1, 8)))
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(net.trainable_variables)
    return tf.train.Checkpoint(model=net, optimizer=optimizer)
"""

# The same model. Its layers have one shape, and their new names have nothing to do with the old ones.
NEW = '''
import tensorflow as tf
import keras


class FeedForward(keras.layers.Layer):
    """Two layers, the wider part of a block."""

    def __init__(self):
        super().__init__()
        self.expand = keras.layers.Dense(8, activation="gelu")
        self.contract = keras.layers.Dense(8)
        self.norm = keras.layers.LayerNormalization()

    def call(self, x):
        return self.norm(x + self.contract(self.expand(x)))


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.lower = FeedForward()
        self.upper = FeedForward()
        self.classifier = keras.layers.Dense(3)

    def call(self, x):
        return self.classifier(self.upper(self.lower(x)))


def build():
    net = Net()
    net(tf.zeros((1, 8)))
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(net.trainable_variables)
    return tf.train.Checkpoint(model=net, optimizer=optimizer)
'''


def run(*command, cwd):
    print(
        f"$ {' '.join(command[1:] if command[0] == sys.executable else command)}".replace(
            "-m ckptmigrate", "ckptmigrate"
        )
    )
    print(subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout)


def git(*arguments, cwd):
    author = ["-c", "user.name=someone", "-c", "user.email=someone@example.com"]
    return subprocess.run(["git", *author, *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


def load(name, source, folder):
    """A function `build` from source, as a module of its own."""
    file = Path(folder, f"{name}.py")
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build


def train(checkpoint, steps):
    x = tf.reshape(tf.linspace(-1.0, 1.0, 32), [4, 8])
    variables = checkpoint.model.trainable_variables
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((checkpoint.model(x) - 1.0) ** 2)
        checkpoint.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))


def main(folder):
    project = Path(folder, "project")
    project.mkdir(parents=True)
    git("init", "--quiet", cwd=project)
    for message, source in (("a model", OLD), ("better names", NEW)):
        (project / "nets.py").write_text(source)
        git("add", "nets.py", cwd=project)
        git("commit", "--quiet", "-m", message, cwd=project)

    # The checkpoint is of the commit before.
    build_old = load("old_nets", git("show", "HEAD~1:nets.py", cwd=project), folder)
    old = build_old()
    train(old, steps=3)
    old.write(f"{folder}/old/ckpt")

    ours = (sys.executable, "-m", "ckptmigrate")
    run(*ours, "codemod", "infer", "--git", "HEAD~1..HEAD", "nets.py", "--out", "rules.yaml", cwd=project)
    run(
        *ours, "plan", f"{folder}/old/ckpt", "--target", "nets.py:build", "--rules", "rules.yaml", "--out", "plan.json",
        cwd=project,
    )  # fmt: skip
    plan = cm.Plan.from_json((project / "plan.json").read_bytes(), where="plan.json")
    cm.apply_plan(plan, f"{folder}/new/ckpt")

    build_new = load("new_nets", NEW, folder)
    report = cm.verify_checkpoint(
        f"{folder}/new/ckpt", build_new, plan=plan, level="outputs", source=cm.Comparison(build_old)
    )
    print(report)
    assert report.passed


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
