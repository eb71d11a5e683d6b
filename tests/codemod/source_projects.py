"""Small projects whose source makes models: drawn, and written as real Keras 3, Keras 2 or `tf.Module` source."""

from __future__ import annotations

import random
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field

WIDTH = 4

Way = tuple[str, tuple[str, ...]]
"""A class and the labels from its object to a thing."""


@dataclass(eq=False)
class Thing:
    """What a model holds: a layer of a library, or an object of a class of the project.

    Attributes:
        number: Its identity.
        maker: The layer's class, or the project's.
        arguments: Its arguments as text.
        name: What it is called by `name=`.
    """

    number: int
    maker: str | Kind
    arguments: list[str] = field(default_factory=list)
    name: str = ""

    @property
    def text(self) -> str:
        maker = self.maker if isinstance(self.maker, str) else f"class {self.maker.number}"
        return f"{maker}({', '.join(self.arguments)})"


@dataclass(eq=False)
class Slot:
    """An attribute: one thing, or a list, dict, loop or Sequential of things.

    Attributes:
        label: Its name.
        form: ``one``, ``list``, ``dict``, ``loop`` (a comprehension), ``set`` (`setattr` in a loop), ``sequential``.
        things: What it holds.
        keys: The keys of a dict.
    """

    label: str
    form: str
    things: list[Thing]
    keys: list[str] = field(default_factory=list)

    def ways(self) -> Iterator[tuple[tuple[str, ...], Thing]]:
        """The ways to all that it holds."""
        match self.form:
            case "one":
                yield (self.label,), self.things[0]
            case "list":
                yield from (((self.label, str(at)), thing) for at, thing in enumerate(self.things))
            case "sequential":
                yield from (((self.label, f"#{at}"), thing) for at, thing in enumerate(self.things))
            case "dict":
                yield from (((self.label, key), thing) for key, thing in zip(self.keys, self.things, strict=True))
            case "loop":
                yield (self.label, "{i}"), self.things[0]
            case "set":
                yield (f"{self.label}_{{i}}",), self.things[0]


@dataclass(eq=False)
class Kind:
    """A class of the project.

    Attributes:
        number: Its identity.
        name: Its name.
        module: The file it is in.
        slots: Its attributes, in the order in which they are made.
        steps: How the call uses them: groups of slots, each with what is done.
        flow: The layers of a functional model, where the class is a function that makes one.
        hyper: Attributes that are no layers.
    """

    number: int
    name: str
    module: str
    slots: list[Slot] = field(default_factory=list)
    steps: list[tuple[str, list[Slot]]] = field(default_factory=list)
    flow: list[Thing] | None = None
    hyper: list[str] = field(default_factory=list)
    comment: str = ""

    def ways(self) -> Iterator[tuple[tuple[str, ...], Thing]]:
        """The ways from an object of it to what it holds."""
        for slot in self.slots:
            yield from slot.ways()
        # The first layer of a functional model is its input.
        yield from (((f"#{at}",), thing) for at, thing in enumerate(self.flow or (), 1))


@dataclass(eq=False)
class Design:
    """A project.

    Attributes:
        framework: ``keras``, ``tf_keras`` or ``module``.
        kinds: Its classes; the last one is the model.
        style: How it is written.
    """

    framework: str
    kinds: list[Kind]
    style: dict[str, object]

    @property
    def root(self) -> Kind:
        return self.kinds[-1]

    def users(self, kind: Kind) -> list[tuple[Kind, Slot, Thing]]:
        return [
            (each, slot, thing)
            for each in self.kinds
            for slot in each.slots
            for thing in slot.things
            if thing.maker is kind
        ]

    def owner(self, kind: Kind) -> str:
        return f"{kind.module}.{kind.name}"


_TURNS = 3
"""So many turns a loop has; each is told by a number below zero."""


def layers_of(design: Design, kind: Kind) -> Iterator[tuple[tuple[int, ...], tuple[str, ...]]]:
    """The layers of a library in an object, as the numbers of the things on the way, with their paths."""
    for way, thing in kind.ways():
        turns = range(_TURNS) if "{i}" in way[-1] else (None,)
        for turn in turns:
            path = tuple(label for part in way for label in _labels(design, part, turn, is_row=len(way) > 1))
            chain = (thing.number, *(() if turn is None else (-1 - turn,)))
            if isinstance(thing.maker, str):
                yield chain, path
            else:
                yield from (((*chain, *inner), (*path, *below)) for inner, below in layers_of(design, thing.maker))


def _labels(design: Design, label: str, turn: int | None, *, is_row: bool) -> list[str]:
    """The edges of the object graph that a label stands for."""
    if not label.startswith("#"):
        return [label if turn is None else label.replace("{i}", str(turn))]
    if design.framework == "tf_keras":
        return [f"layer-{label[1:]}"]
    return ["_functional", "_operations", str(int(label[1:]) + 1)] if is_row else ["_operations", label[1:]]


# Projects.

_ACTIVATIONS = ("relu", "gelu", "tanh", "swish")


class Author:
    """Draws a project."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.count = 0

    def next(self) -> int:
        self.count += 1
        return self.count

    def project(self) -> Design:
        rng = self.rng
        framework = rng.choice(("keras", "keras", "tf_keras", "tf_keras", "module"))
        self.framework = framework
        self.named = framework != "module" and rng.random() < 0.35
        style = {
            "import": rng.choice(("keras", "layers")),
            "super": rng.choice((True, False)),
            "lines": False,
            "docs": rng.random() < 0.5,
            "extras": [],
        }
        shape = rng.choice(("transformer", "transformer", "mlp", "towers", "row", "functional"))
        if shape == "functional" and framework == "module":
            shape = "mlp"
        kinds = getattr(self, f"_{shape}")()
        for kind in kinds:
            kind.hyper = rng.sample(["width", "rate", "num_heads", "use_cache"], rng.choice((0, 1, 2)))
        return Design(framework, kinds, style)

    def layer(self, label: str = "", maker: str = "Dense", **arguments: object) -> Thing:
        texts = [f"{key}={value!r}" for key, value in arguments.items()]
        positional = {"Dense": [str(WIDTH)], "Dropout": ["0.1"], "Linear": [str(WIDTH)]}
        if self.framework == "module":
            maker = {"Dense": "Linear", "LayerNormalization": "Norm", "Dropout": "Linear"}.get(maker, maker)
            texts = [text for text in texts if maker == "Linear" and text.startswith("activation")]
        name = label if self.named and label and not label[-1].isdigit() else ""
        return Thing(self.next(), maker, [*positional.get(maker, []), *texts], name)

    def one(self, label: str, maker: str = "Dense", **arguments: object) -> Slot:
        return Slot(label, "one", [self.layer(label, maker, **arguments)])

    def own(self, label: str, kind: Kind) -> Slot:
        return Slot(label, "one", [Thing(self.next(), kind)])

    def kind(self, name: str, module: str, slots: list[Slot], steps: list[tuple[str, list[Slot]]]) -> Kind:
        return Kind(self.next(), name, module, list(slots), [(how, list(used)) for how, used in steps])

    def _attention(self, module: str) -> Kind:
        names = self.rng.choice(
            (("query", "key", "value", "combine"), ("q", "k", "v", "o"), ("q_proj", "k_proj", "v_proj", "out_proj"))
        )
        slots = [self.one(name) for name in names]
        name = self.rng.choice(("Attention", "SelfAttention", "MultiHeadAttention2"))
        return self.kind(name, module, slots, [("mix", slots[:3]), ("chain", slots[3:])])

    def _feed_forward(self, module: str) -> Kind:
        names = self.rng.choice((("fc1", "fc2"), ("up", "down"), ("intermediate", "output_dense"), ("wi", "wo")))
        slots = [self.one(names[0], activation=self.rng.choice(_ACTIVATIONS)), self.one(names[1])]
        return self.kind(self.rng.choice(("FeedForward", "Mlp", "PositionwiseFFN")), module, slots, [("chain", slots)])

    def _block(self, module: str) -> tuple[list[Kind], Kind]:
        rng = self.rng
        attention, inner = self._attention(module), self._feed_forward(module)
        norms = rng.choice(
            (("norm1", "norm2"), ("attention_norm", "ffn_norm"), ("ln_1", "ln_2"), ("pre_norm", "post_norm"))
        )
        attn, first = (
            self.own(rng.choice(("attn", "attention", "self_attention")), attention),
            self.one(norms[0], "LayerNormalization", epsilon=1e-6),
        )
        second = self.one(norms[1], "LayerNormalization", epsilon=1e-6)
        if rng.random() < 0.6:
            ffn = [self.own(rng.choice(("mlp", "ffn", "feed_forward")), inner)]
            used = [attention, inner]
        else:
            ffn = [self.one("expand", activation="gelu"), self.one("contract")]
            used = [attention]
        drop = [self.one("dropout", "Dropout")] if rng.random() < 0.5 else []
        slots = [first, attn, second, *ffn, *drop]
        steps = [("residual", [first, attn]), ("residual", [second, *ffn]), ("chain", drop)]
        return used, self.kind(rng.choice(("Block", "EncoderLayer", "TransformerBlock")), module, slots, steps)

    def _transformer(self) -> list[Kind]:
        rng = self.rng
        used, block = self._block("blocks")
        depth = rng.choice((2, 3, 4))
        label = rng.choice(("blocks", "layer_stack", "encoder_layers"))
        form = (
            rng.choice(("list", "loop", "set", "numbered", "numbered"))
            if self.framework != "keras"
            else rng.choice(("set", "numbered"))
        )
        if form == "list":
            rows = [Slot(label, "list", [Thing(self.next(), block) for _ in range(depth)])]
        elif form == "numbered":
            rows = [self.own(f"{label.rstrip('s')}_{at}", block) for at in range(depth)]
        else:
            rows = [Slot(label, form, [Thing(self.next(), block, [])])]
        embed, norm = self.one("embed", activation="tanh"), self.one("final_norm", "LayerNormalization")
        head = self.one("head", use_bias=False)
        slots = [embed, *rows, norm, head]
        return [
            *used,
            block,
            self.kind(rng.choice(("Encoder", "Net", "Transformer")), "model", slots, [("chain", slots)]),
        ]

    def _mlp(self) -> list[Kind]:
        rng = self.rng
        slots: list[Slot] = []
        for label in rng.sample(["stem", "trunk", "bottleneck", "mixer", "expander", "reducer"], rng.choice((2, 3, 4))):
            slots.append(
                self.one(label, activation=rng.choice(_ACTIVATIONS)) if rng.random() < 0.7 else self.one(label)
            )
            if rng.random() < 0.4:
                slots.append(self.one(f"{label}_norm", "LayerNormalization"))
        if rng.random() < 0.5 and self.framework != "keras":
            heads = Slot(
                "heads",
                "dict",
                [self.layer() for _ in range(3)],
                rng.sample(["left", "right", "depth", "pose", "text"], 3),
            )
            slots.append(heads)
        slots.append(self.one("classifier", use_bias=False))
        return [self.kind(rng.choice(("Classifier", "Model1", "Regressor")), "model", slots, [("chain", slots)])]

    def _towers(self) -> list[Kind]:
        rng = self.rng
        inner = self._feed_forward("towers")
        slots = [self.one("project"), self.own("mlp", inner), self.one("norm", "LayerNormalization")]
        tower = self.kind("Tower", "towers", slots, [("chain", slots)])
        roots = [
            self.own(label, tower)
            for label in rng.choice((("user", "item"), ("query_tower", "doc_tower"), ("left", "right")))
        ]
        roots.append(self.one("scorer", activation="tanh"))
        return [inner, tower, self.kind("TwoTower", "model", roots, [("mix", roots[:2]), ("chain", roots[2:])])]

    def _row_things(self) -> list[Thing]:
        rng = self.rng
        things = []
        for at in range(rng.choice((3, 4, 5, 6))):
            maker = rng.choice(("Dense", "Dense", "Dense", "LayerNormalization", "Dropout"))
            arguments = {"activation": rng.choice(_ACTIVATIONS)} if maker == "Dense" and rng.random() < 0.6 else {}
            if maker == "Dense" and rng.random() < 0.3:
                arguments["use_bias"] = False
            label = rng.choice(("stem", "body", "neck", "fuse", "lift")) + f"_{'abcdefgh'[at]}"
            things.append(self.layer(label, maker, **arguments))
        return things

    def _row(self) -> list[Kind]:
        forms = {"keras": ("sequential",), "tf_keras": ("list", "sequential"), "module": ("list",)}[self.framework]
        row = Slot(self.rng.choice(("body", "trunk", "layers_")), self.rng.choice(forms), self._row_things())
        slots = [self.one("stem", activation="relu"), row, self.one("head", use_bias=False)]
        return [self.kind("Stack", "model", slots, [("chain", slots)])]

    def _functional(self) -> list[Kind]:
        return [Kind(self.next(), self.rng.choice(("build_model", "make_net")), "model", flow=self._row_things())]


# Source.


def render(design: Design) -> dict[str, str]:
    """The files of a project."""
    files: dict[str, list[str]] = {}
    for kind in design.kinds:
        files.setdefault(kind.module, []).append(_source(design, kind))
    found = {}
    for module, parts in files.items():
        text = [_imports(design, module), *design.style["extras"], *parts]  # type: ignore[misc]
        found[f"{module}.py"] = "\n\n\n".join(text) + "\n"
    if design.framework == "module":
        found["parts.py"] = _PARTS
    return found


_PARTS = """import tensorflow as tf


class Linear(tf.Module):
    def __init__(self, size, activation=None):
        super().__init__()
        self.w = tf.Variable(tf.eye(4, size))
        self.b = tf.Variable(tf.zeros((size,)))
        self.activation = getattr(tf.nn, activation) if activation else None

    def __call__(self, x):
        x = tf.matmul(x, self.w) + self.b
        return self.activation(x) if self.activation else x


class Norm(tf.Module):
    def __init__(self):
        super().__init__()
        self.scale = tf.Variable(tf.ones((4,)))

    def __call__(self, x):
        return x * self.scale
"""


def _imports(design: Design, module: str) -> str:
    lines = ["import tensorflow as tf"]
    if design.framework == "module":
        lines.append("from parts import Linear, Norm")
    elif design.style["import"] == "layers":
        lines += [f"import {design.framework} as keras", f"from {design.framework} import layers"]
    else:
        lines.append(f"import {design.framework} as keras")
    names: dict[str, list[str]] = {}
    for kind in design.kinds:
        if kind.module == module:
            for slot in kind.slots:
                for thing in slot.things:
                    if isinstance(thing.maker, Kind) and thing.maker.module != module:
                        names.setdefault(thing.maker.module, []).append(thing.maker.name)
    lines += [f"from {other} import {', '.join(sorted(set(found)))}" for other, found in sorted(names.items())]
    return "\n".join(lines)


def _call(design: Design, thing: Thing) -> str:
    if isinstance(thing.maker, Kind):
        maker = thing.maker.name
    elif design.framework == "module":
        maker = thing.maker
    else:
        maker = f"{'layers' if design.style['import'] == 'layers' else 'keras.layers'}.{thing.maker}"
    arguments = [*thing.arguments, *([f'name="{thing.name}"'] if thing.name else [])]
    if design.style["lines"] and arguments:
        inner = textwrap.indent(",\n".join(arguments) + ",", "    ")
        return f"{maker}(\n{inner}\n)"
    return f"{maker}({', '.join(arguments)})"


def _source(design: Design, kind: Kind) -> str:
    if kind.flow is not None:
        lines = [f"def {kind.name}():", f"    inputs = keras.Input(({WIDTH},))", "    x = inputs"]
        lines += [textwrap.indent(f"x = {_call(design, thing)}(x)", "    ") for thing in kind.flow]
        return "\n".join([*lines, "    return keras.Model(inputs, x)"])
    is_root = kind is design.root
    base = "tf.Module" if design.framework == "module" else "keras.Model" if is_root else "keras.layers.Layer"
    lines = [f"class {kind.name}({base}):"]
    if design.style["docs"]:
        lines.append(f'    """{kind.comment or "A part of the model."}"""\n')
    hypers = "".join(f", {name}=1" for name in kind.hyper)
    lines.append(f"    def __init__(self{hypers}):")
    lines.append(
        "        super().__init__()" if design.style["super"] else f"        super({kind.name}, self).__init__()"
    )
    lines += [f"        self.{name} = {name}" for name in kind.hyper]
    for slot in kind.slots:
        lines.append(textwrap.indent(_made(design, slot), "        "))
    call = "__call__" if design.framework == "module" else "call"
    lines += ["", f"    def {call}(self, x):", *(f"        {line}" for step in kind.steps for line in _used(*step))]
    return "\n".join([*lines, "        return x"])


def _made(design: Design, slot: Slot) -> str:
    calls = [_call(design, thing) for thing in slot.things]
    match slot.form:
        case "one":
            return f"self.{slot.label} = {calls[0]}"
        case "list" | "sequential":
            inner = textwrap.indent(",\n".join(calls) + ",", "    ")
            row = f"[\n{inner}\n]"
            return f"self.{slot.label} = " + (f"keras.Sequential({row})" if slot.form == "sequential" else row)
        case "dict":
            inner = "\n".join(f'    "{key}": {call},' for key, call in zip(slot.keys, calls, strict=True))
            return f"self.{slot.label} = {{\n{inner}\n}}"
        case "loop":
            return f"self.{slot.label} = [{calls[0]} for _ in range(3)]"
        case _:
            return f'for i in range(3):\n    setattr(self, f"{slot.label}_{{i}}", {calls[0]})'


def _used(how: str, slots: list[Slot]) -> Iterator[str]:
    if how == "mix":
        names = "abc"[: len(slots)]
        for name, slot in zip(names, slots, strict=True):
            yield f"{name} = self.{slot.label}(x)"
        yield "x = a * b + c" if len(slots) == 3 else f"x = {' - '.join(names)}"
    elif how == "residual":
        inner = "x"
        for slot in slots:
            inner = f"self.{slot.label}({inner})"
        yield f"x = x + {inner}"
    else:
        for slot in slots:
            match slot.form:
                case "list" | "loop":
                    yield f"for layer in self.{slot.label}:"
                    yield "    x = layer(x)"
                case "dict":
                    yield from (f'x = self.{slot.label}["{key}"](x)' for key in slot.keys)
                case "set":
                    yield "for i in range(3):"
                    yield f'    x = getattr(self, f"{slot.label}_{{i}}")(x)'
                case _:
                    yield f"x = self.{slot.label}(x)"
