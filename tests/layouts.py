"""What frameworks make of a tree of parts: edges, full names, slots, and the object graph of it all.

The layouts are those of real checkpoints; `test_refactorings` holds them against some.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
from architectures import Part, Weight
from builders import Legacy, Var, serialize, spec_of, value_of

from ckptmigrate import ObjectGraph
from ckptmigrate.spec import Key, TensorSpec

KINDS = {"adam": ("first moment", "second moment"), "sgd": ("sum of gradients",), "none": ()}
"""What each algorithm keeps for a variable."""

_LISTS = {"first moment": "_momentums", "second moment": "_velocities", "sum of gradients": "momentums"}
_TAILS = {"first moment": "momentum", "second moment": "velocity", "sum of gradients": "momentum"}
_SHORT = {"first moment": "m", "second moment": "v", "sum of gradients": "m"}
_RECORDS = {"first moment": "m", "second moment": "v", "sum of gradients": "momentum"}
_TF1 = {"first moment": "Adam", "second moment": "Adam_1", "sum of gradients": "Momentum"}

_EMPTY_OF_KERAS_3 = (
    "_tracked",
    "_inbound_nodes",
    "_outbound_nodes",
    "_losses",
    "_losses_override",
    "call_signature_parameters",
    "_call_has_context_arg",
)
_EMPTY_OF_KERAS_2 = {
    "batch_normalization": ("axis",),
    "layer_normalization": ("axis",),
    "lstm": ("state_spec",),
    "gru": ("state_spec",),
    "lstm_cell": ("state_size",),
    "gru_cell": ("state_size",),
    "einsum_dense": ("partial_output_shape", "full_output_shape"),
}
_UNDERSCORED = {("dense", "kernel"), ("conv2d", "kernel"), ("einsum_dense", "kernel"), ("embedding", "embeddings")}
_SHORT_ROLES = {"kernel": "w", "bias": "b", "gamma": "scale", "beta": "offset"}


@dataclass(frozen=True)
class State:
    """An optimizer: its keyword in the checkpoint, the numbers of the models that it trains, and how it is stored."""

    keyword: str
    models: tuple[int, ...]
    generation: str
    algorithm: str
    fitted: bool = True


@dataclass
class Design:
    """A checkpoint before it is one.

    Attributes:
        root: The parts under the checkpoint's keywords.
        framework: ``module`` (tf.Module), ``keras2``, ``keras3``, ``tf1``.
        naming: ``given`` where people named the layers, ``auto`` where Keras did, ``none`` where variables have
            no names (tf.Module) or the same ones (Keras 3 where layers are built by their model's call), ``role``
            where they are called as their attribute, ``scoped`` where their module's type comes before that (Sonnet).
        roles: ``keras`` (kernel, bias), or ``short`` (w, b) where people hold the variables themselves.
        states: The optimizers.
        compiled: Whether models have their optimizer too.
        offset: How many layers of each type were built before.
        bare: Whether the model is the checkpoint's root.
        counted: Whether it has a save counter.
        hides_lists: Whether layers are in lists that Keras 3 does not follow, so that only the optimizer tells of them.
    """

    root: Part
    framework: str
    naming: str
    roles: str = "keras"
    states: tuple[State, ...] = ()
    compiled: bool = False
    offset: int = 0
    bare: bool = False
    counted: bool = False
    hides_lists: bool = False

    @property
    def tells_names(self) -> bool:
        """Whether the names that people gave are in the checkpoint."""
        return self.naming == "given"


@dataclass(frozen=True)
class Laid:
    """A checkpoint's graph, and what each of its keys is."""

    graph: ObjectGraph
    keys: dict[Weight, Key]
    slots: dict[tuple[int, str, Weight], Key] = field(default_factory=dict)
    scalars: dict[tuple[int, str], Key] = field(default_factory=dict)


def lay(design: Design) -> Laid:
    """The object graph that the design's framework would store."""
    return _lay_names(design) if design.framework == "tf1" else _lay_objects(design)


def zeros(shape, dtype="float32"):
    """An array of any shape that takes no memory."""
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    return np.broadcast_to(np.zeros((), kind), shape)


# Names.


def names_of(design: Design) -> dict[Weight, str]:
    """The full name of every variable."""
    names = _Names(design)
    found = names.found
    if design.naming == "scoped":
        return names.scoped
    if design.naming == "role":
        return {weight: name.rpartition("/")[2] for weight, name in names.scoped.items()}
    if design.naming != "none":
        return found
    if design.framework == "module":
        return dict.fromkeys(found, "Variable")
    first = next(iter(design.root.children.values())).kind
    return {weight: f"{first}/{name.rpartition('/')[2]}" for weight, name in found.items()}


class _Names:
    """Names as they are given while a model is built."""

    def __init__(self, design: Design) -> None:
        self.design = design
        self.counts: Counter[str] = Counter()
        self.found: dict[Weight, str] = {}
        self.scoped: dict[Weight, str] = {}
        for keyword, model in design.root.children.items():
            if design.framework == "tf1":
                # One graph holds all models, each in a scope of its own if there are several.
                self.visit(model, (keyword,) if len(design.root.children) > 1 else ())
            else:
                is_flat = model.form == "flow" and model.kind != "sequential"
                self.visit(model, () if is_flat else (self.segment(model),))

    def visit(self, part: Part, before: tuple[str, ...]) -> None:
        for label, child in part.children.items():
            if isinstance(child, Weight):
                self.found.setdefault(child, "/".join((*before, label)))
                self.scoped.setdefault(child, f"{part.kind}/{_role(self.design, part, label)}")
        for child in part.children.values():
            if isinstance(child, Weight):
                continue
            if child.form == "list":
                self.visit(child, before)
            elif child.form == "flow" and self.design.framework == "keras2":
                # A functional model says nothing of itself in its layers' names.
                self.visit(child, ())
            else:
                self.visit(child, (*before, self.segment(child)))

    def segment(self, part: Part) -> str:
        if part.given and (self.design.naming == "given" or part.kind == "einsum_dense"):
            return part.given
        if part.kind.endswith("_cell") and self.design.framework == "keras3":
            return part.kind
        number = self.counts[part.kind] + self.design.offset
        self.counts[part.kind] += 1
        return f"{part.kind}_{number}" if number else part.kind


# Objects.


def _lay_objects(design: Design) -> Laid:
    stored = store(design)
    return Laid(
        ObjectGraph.from_bytes(stored.graph, stored.specs, where="synthetic"), stored.keys, stored.slots, stored.scalars
    )


@dataclass(frozen=True)
class Stored:
    """What a checkpoint with objects has on disk, and what each of its keys is."""

    graph: bytes
    specs: dict[Key, TensorSpec]
    keys: dict[Weight, Key]
    slots: dict[tuple[int, str, Weight], Key]
    scalars: dict[tuple[int, str], Key]


def store(design: Design) -> Stored:
    """The object graph as bytes, and the specs of the index."""
    names = names_of(design)
    variables = {weight: Var(zeros(weight.shape, weight.dtype), name) for weight, name in names.items()}
    optimizers = []
    slots: dict[tuple[int, str, Weight], Var] = {}
    scalars: dict[tuple[int, str], Var] = {}
    for number, state in enumerate(design.states):
        optimizer, of_variables, own = _optimizer(design, state, variables)
        optimizers.append(optimizer)
        slots |= {(number, kind, weight): slot for (kind, weight), slot in of_variables.items()}
        scalars |= {(number, name): scalar for name, scalar in own.items()}
    tree = _checkpoint(design, variables, optimizers)
    if design.counted:
        tree["save_counter"] = scalars[-1, "save_counter"] = Var(zeros((), "int64"), "save_counter")
    serialized, tensors = serialize(tree)
    key_of = {id(thing): Key(key) for key, thing in tensors.items()}
    return Stored(
        serialized,
        {Key(key): spec_of(value_of(value)) for key, value in sorted(tensors.items())},
        {weight: key_of[id(variable)] for weight, variable in variables.items() if id(variable) in key_of},
        {which: key_of[id(slot)] for which, slot in slots.items()},
        {which: key_of[id(scalar)] for which, scalar in scalars.items()},
    )


def _checkpoint(design: Design, variables, optimizers) -> dict:
    parts: dict[Part, dict | list] = {}
    tree: dict = {}
    for at, (keyword, model) in enumerate(design.root.children.items()):
        node = tree[keyword] = _object(design, model, variables, parts)
        for state, optimizer in zip(design.states, optimizers, strict=True):
            if design.compiled and at in state.models:
                node["optimizer"] = optimizer
                node["_compiled_trainable_state" if design.framework == "keras3" else "train_function"] = {}
    if design.bare:
        (tree,) = tree.values()
        tree["root"] = tree
    tree.update((state.keyword, optimizer) for state, optimizer in zip(design.states, optimizers, strict=True))
    return tree


def _object(design: Design, part: Part, variables, parts):
    if part in parts:
        return parts[part]
    made = {}
    for label, child in part.children.items():
        if isinstance(child, Weight):
            made[_role(design, part, label)] = variables[child]
        elif child.form != "list" or not design.hides_lists:
            made[label] = _object(design, child, variables, parts)
    if part.form == "list":
        parts[part] = list(made.values())
    elif part.form == "flow":
        parts[part] = _flow(design, part, list(made.values()))
    else:
        empty = _EMPTY_OF_KERAS_2.get(part.kind, ()) if design.framework == "keras2" else ()
        parts[part] = {**{label: [] for label in empty}, **made}
    return parts[part]


def _flow(design: Design, part: Part, layers):
    """A functional model: every layer by its position, those without weights too."""
    steps = [{}]
    with_weights = {}
    for number, (child, layer) in enumerate(zip(part.children.values(), layers, strict=True)):
        with_weights[len(steps)] = number
        steps.append(layer)
        steps.extend({} for _ in range(child.after))
    if design.framework == "keras3":
        model = {**{label: [] for label in _EMPTY_OF_KERAS_3}, "_operations": steps}
        return {"_functional": model} if part.kind == "sequential" else model
    edges = {}
    for number, step in enumerate(steps):
        if number in with_weights:
            edges[f"layer_with_weights-{with_weights[number]}"] = step
        edges[f"layer-{number}"] = step
    return edges


def _role(design: Design, part: Part, label: str) -> str:
    if design.framework == "keras3" and (part.kind, label) in _UNDERSCORED:
        return f"_{label}"
    if design.roles == "short" and part.is_atomic:
        return _SHORT_ROLES.get(label, label)
    return label


# Optimizers.


def trained_by(design: Design, state: State) -> list[Weight]:
    """The variables that an optimizer gets, in the order in which it does."""
    found = {}
    models = list(design.root.children.values())
    for number in state.models:
        order = _alphabetical if design.framework == "module" else _in_order
        found |= dict.fromkeys(order(models[number]))
    return [weight for weight in found if weight.trainable]


def _in_order(part: Part) -> Iterator[Weight]:
    yield from (child for child in part.children.values() if isinstance(child, Weight))
    for child in part.children.values():
        if isinstance(child, Part):
            yield from _in_order(child)


def _alphabetical(part: Part) -> Iterator[Weight]:
    """As ``tf.Module.trainable_variables`` has it: an object's own, then those of what it holds."""
    labels = list(part.children) if part.form != "object" else sorted(part.children)
    yield from (part.children[label] for label in labels if isinstance(part.children[label], Weight))
    for label in labels:
        if isinstance(part.children[label], Part):
            yield from _alphabetical(part.children[label])


def _optimizer(design: Design, state: State, variables):
    """An optimizer, its slots by what they hold of which weight, and its own variables by what they are."""
    trained = trained_by(design, state)
    kinds = KINDS[state.algorithm]
    # Keras 3 calls a slot by its variable's whole path, also where the variable's own name has lost it.
    names = _Names(design).found if design.framework == "keras3" else {w: v.name for w, v in variables.items()}
    slots = {
        (kind, weight): Var(zeros(weight.shape, weight.dtype), _slot_name(design, state, kind, names[weight]))
        for weight in trained
        for kind in kinds
    }
    if state.generation == "legacy":
        own = {"iter": Var(zeros((), "int64"), "iter")}
        hyper = (
            ("beta_1", "beta_2", "decay", "learning_rate") if state.algorithm == "adam" else ("decay", "learning_rate")
        )
        own |= {name: Var(zeros(()), name) for name in (*hyper, *(("momentum",) if state.algorithm == "sgd" else ()))}
        records = [(_RECORDS[kind], variables[weight], slot) for (kind, weight), slot in slots.items()]
        records.sort(key=lambda record: record[0])
        scalars = {("iterations" if name == "iter" else name): variable for name, variable in own.items()}
        return Legacy(dict(own), records), slots, scalars
    prefix = f"{state.algorithm}/" if state.generation == "keras-3" else ""
    iterations = Var(zeros((), "int64"), f"{prefix}iteration")
    rate = Var(zeros(()), f"{prefix}learning_rate")
    scalars = {"iterations": iterations, "learning_rate": rate}
    lists = {_LISTS[kind]: [slots[kind, weight] for weight in trained] for kind in kinds}
    flat = [slots[kind, weight] for weight in trained for kind in kinds]
    if state.generation == "keras-3":
        made = {
            "_variables": [iterations, rate, *flat],
            "_trainable_variables": [variables[weight] for weight in trained],
            "_trainable_variables_indices": {},
            "_iterations": iterations,
            "_learning_rate": rate,
        }
    else:
        made = {
            "_variables": [iterations, *flat],
            "_iterations": iterations,
            "_learning_rate": rate,
            "_index_dict": {},
        }
    return {**made, **lists}, slots, scalars


def _slot_name(design: Design, state: State, kind: str, name: str) -> str:
    if state.generation == "legacy":
        return f"{'Adam/' if state.fitted else ''}{name}/{_RECORDS[kind]}"
    if state.generation == "keras-2.11":
        before = f"{state.algorithm.title()}/" if state.fitted else ""
        return f"{before}{_SHORT[kind]}/{name}"
    whole = name.replace("/", "_") + ("_0" if design.framework in ("module", "keras2") else "")
    return f"{state.algorithm}/{whole}_{_TAILS[kind]}"


# Names without objects.


def _lay_names(design: Design) -> Laid:
    names = names_of(design)
    keys = {weight: Key(name) for weight, name in names.items()}
    assert len({*keys.values()}) == len(keys), "TensorFlow 1 would have numbered equal names"
    slots, scalars = {}, {}
    specs = {keys[weight]: spec_of(zeros(weight.shape, weight.dtype)) for weight in names}
    for number, state in enumerate(design.states):
        for weight in trained_by(design, state):
            for kind in KINDS[state.algorithm]:
                slots[number, kind, weight] = key = Key(f"{keys[weight]}/{_TF1[kind]}")
                specs[key] = specs[keys[weight]]
        if state.algorithm == "adam":
            specs |= {Key(f"beta{n}_power"): spec_of(zeros(())) for n in (1, 2)}
        scalars[number, "iterations"] = Key("global_step")
        specs[Key("global_step")] = spec_of(zeros((), "int64"))
    return Laid(ObjectGraph.from_names(dict(sorted(specs.items()))), keys, slots, scalars)
