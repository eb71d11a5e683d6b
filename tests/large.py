"""Large checkpoints that are hard in one way each: what is done once for each pair of things takes hours on them.

Each is a pair of trees for `builders.serialize`, or of arrays by name for a TensorFlow 1 checkpoint. The number of
variables is given, slots not counted.
"""

import numpy as np
from builders import Var, serialize, spec_of, value_of

from ckptmigrate import ObjectGraph
from ckptmigrate.spec import Key, TensorSpec


def word(number):
    """A word for a number: names with numbers would be positions."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters[number % 26] + (word(number // 26 - 1) if number >= 26 else "")


def stored(tree):
    """The object graph as bytes, None for names, and the specs of the index: what a process can hand to another."""
    if any(isinstance(value, np.ndarray) for value in tree.values()):
        return None, _specs(tree)
    serialized, tensors = serialize(tree)
    return serialized, _specs(tensors)


def read(serialized, specs, *, where="large"):
    return (
        ObjectGraph.from_names(specs) if serialized is None else ObjectGraph.from_bytes(serialized, specs, where=where)
    )


def _specs(tensors) -> dict[Key, TensorSpec]:
    return {Key(key): spec_of(value_of(value)) for key, value in sorted(tensors.items())}


def _variable(*shape, name=""):
    return Var(np.broadcast_to(np.float32(0), shape), name)


def _adam(variables):
    """Keras 3's, with slots that have names."""
    iterations, rate = Var(np.zeros((), np.int64), "adam/iteration"), _variable(name="adam/learning_rate")
    kinds = [
        [Var(variable.value, f"adam/{variable.name.replace('/', '_')}_{kind}") for variable in variables]
        for kind in ("momentum", "velocity")
    ]
    return {
        "_variables": [iterations, rate, *(slot for pair in zip(*kinds, strict=True) for slot in pair)],
        "_trainable_variables": list(variables),
        "_iterations": iterations,
        "_learning_rate": rate,
        "_momentums": kinds[0],
        "_velocities": kinds[1],
    }


def _trained(model, *, inside=False):
    held = {"layer": model} if inside else model
    variables = list(model.values()) if isinstance(model, dict) else model
    return {"model": held, "optimizer": _adam(variables)}


def _attributes(count):
    """One object with all variables, of one shape; it was wrapped."""
    models = [{word(n): _variable(4, name=f"m/{word(n)}") for n in range(count)} for _ in range(2)]
    return _trained(models[0]), _trained(models[1], inside=True)


def _strangers(count):
    """The same, and no name has anything to do with an old one: nobody can know."""
    return tuple({"model": {f"{head}{word(7 * n)}": _variable(4) for n in range(count)}} for head in ("old_x", "new_y"))


def _equal_tokens(count):
    """Names that differ in their numbers only, and are in no order that is kept."""
    models = [{f"{n}x": _variable(4) for n in range(count)} for _ in range(2)]
    return {"model": models[0]}, {"model": {"inner": dict(reversed(models[1].items()))}}


def _inserted(count):
    """A long list of layers of three kinds, one more in its middle."""
    olds, news = (
        [{"w": _variable(8, 8 + n % 3), "b": _variable(8 + n % 3)} for n in range(count // 2)] for _ in range(2)
    )
    news.insert(len(news) // 2, {"w": _variable(9, 9)})
    return {"model": olds}, {"model": news}


def _repeated(count):
    """A long list of equal layers, one more of them."""
    olds, news = ([{"w": _variable(8, 8), "b": _variable(8)} for _ in range(count // 2 + more)] for more in (0, 1))
    return {"model": olds}, {"model": news}


def _numbered(count):
    """Numbered attributes, numbered from another number on."""
    return tuple({"model": {f"w{n + first}": _variable(4) for n in range(count)}} for first in (0, 1))


def _lists(count):
    """Many lists, each of them longer by one."""
    return tuple(
        {"model": {word(n): [{"w": _variable(4, 4 + n)} for _ in range(10 + more)] for n in range(count // 10)}}
        for more in (0, 1)
    )


def _tied(count):
    """A target in which every variable has several paths."""
    olds, news = ({word(n): {"kernel": _variable(4 + n % 50)} for n in range(count)} for _ in range(2))
    again = {f"x_{label}": layer for label, layer in news.items()}
    return {"model": {"a": olds}}, {"model": {"a": news, "b": again, "c": list(news.values())}}


def _hidden(count):
    """Variables that only the optimizer's list leads to, with one more."""
    olds, news = ([_variable(4 + n % 9, name=f"m/{word(n)}/kernel") for n in range(count)] for _ in range(2))
    news.insert(count // 2, _variable(5, name="m/new/kernel"))
    return ({"model": {}, "optimizer": _adam(variables)} for variables in (olds, news))


def _deep(count):
    """Objects within objects, 900 deep if there are as many variables; the outermost has another name."""
    depth = min(count, 900)

    def model(label):
        inner = {}
        for level in range(depth):
            inner = {"down": inner, **{word(n): _variable(level + 1) for n in range(count // depth)}}
        return {"model": {label: inner}}

    return model("before"), model("behind")


def _names(count):
    """From TensorFlow 1, with Adam, to objects."""
    labels = [word(n) for n in range(count)]
    names = {
        f"enc/{label}/kernel{slot}": np.zeros(4, np.float32) for label in labels for slot in ("", "/Adam", "/Adam_1")
    }
    kernels = {label: _variable(4, name=f"enc/{label}/kernel") for label in labels}
    layers = {label: {"kernel": kernel} for label, kernel in kernels.items()}
    return names, {"model": layers, "optimizer": _adam(list(kernels.values()))}


SHAPES = {
    "attributes": _attributes,
    "strangers": _strangers,
    "equal-tokens": _equal_tokens,
    "inserted": _inserted,
    "repeated": _repeated,
    "numbered": _numbered,
    "lists": _lists,
    "tied": _tied,
    "hidden": _hidden,
    "deep": _deep,
    "tf1": _names,
}


def ends(shape, count):
    """Source and target, each as `stored` gives it."""
    source, target = SHAPES[shape](count)
    return stored(source), stored(target)
