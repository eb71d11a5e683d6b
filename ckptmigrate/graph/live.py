"""The object graph of a live checkpoint: as it would be stored, without a value being written.

With `template` this is one of the places that import tensorflow.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ckptmigrate.bundle import Bundle
from ckptmigrate.errors import TemplateError
from ckptmigrate.graph.object_graph import ROOT, ObjectGraph
from ckptmigrate.spec import DType, Key, TensorSpec

_OPTIMIZERS = {"BaseOptimizer", "Optimizer", "OptimizerV2", "_BaseOptimizer"}
"""The classes of optimizers: of Keras 3, of tf_keras (new and legacy)."""


@dataclass(frozen=True, slots=True)
class ModelVariable:
    """A variable that a model, module or optimizer says it has.

    Attributes:
        variable: The live variable.
        owner: Who says so.
    """

    variable: Any
    owner: Any

    def __str__(self) -> str:
        variable = self.variable
        return f"{say_trackable(variable)} {_spec(variable)} of {say_trackable(self.owner)}"


@dataclass(frozen=True)
class LiveGraph:
    """What a live ``tf.train.Checkpoint`` would store, and which object each node is.

    Attributes:
        graph: The object graph, with the specs of its tensors.
        objects: The trackable of each node.
        checkpoint: The checkpoint itself.
    """

    graph: ObjectGraph
    objects: tuple[Any, ...]
    checkpoint: Any

    @classmethod
    def read(cls, checkpoint: Any) -> LiveGraph:
        """The graph of a checkpoint as it is now; variables that are not made yet are not in it.

        The counter of saves is one of those: the first call of ``save`` or ``restore`` makes it.

        Raises:
            TemplateError: TensorFlow cannot save one of its objects.
        """
        view = _view(checkpoint)
        try:
            saveables, message, _ = view.serialize_object_graph()
        except (ValueError, NotImplementedError) as error:  # an object that cannot be in a checkpoint
            raise TemplateError(
                "the model cannot be saved", say_checkpoint(checkpoint), got=say_error(error)
            ) from error
        objects = list(view.descendants())
        if any(node.HasField("registered_saver") for node in message.nodes):
            graph = _written_graph(checkpoint)
        else:
            graph = ObjectGraph.from_bytes(
                message.SerializeToString(), dict(_specs(saveables)), where=say_checkpoint(checkpoint)
            )
        # Slot variables come after all others, in no other place than their records.
        objects += [None] * (len(graph.nodes) - len(objects))
        for number, node in enumerate(graph.nodes):
            for record in node.slot_records:
                objects[record.slot] = objects[number].get_slot(objects[record.variable], record.name)
        return cls(graph, tuple(objects), checkpoint)

    def refuse_empty(self, where: str) -> None:
        """Raise a `TemplateError` if the model has no variables; `where` is what people call it."""
        if not any(map(is_variable, self.objects)):
            raise TemplateError(
                "the model has no variables", where, hint="Build it in the factory: call it on an input"
            )

    def classes_in(self, stored: ObjectGraph) -> dict[int, str]:
        """The class of each node of a graph that was stored of this checkpoint, with its module.

        The numbers of the nodes may be others there: the counter of saves is made as it is stored.
        """
        classes: dict[int, str] = {}
        stack = [(ROOT, ROOT)]
        while stack:
            own, theirs = stack.pop()
            if theirs in classes:
                continue
            kind = type(self.objects[own])
            classes[theirs] = f"{kind.__module__}.{kind.__qualname__}"
            children = stored.nodes[theirs].children
            stack.extend(
                (child, children[label]) for label, child in self.graph.nodes[own].children.items() if label in children
            )
        return classes

    @cached_property
    def untracked(self) -> tuple[ModelVariable, ...]:
        """The variables of the model that its checkpoint leaves out."""
        held = set(map(id, self.objects))
        return tuple(found for found in model_variables(self.objects) if id(found.variable) not in held)

    @cached_property
    def unsaved_state(self) -> int:
        """How many variables are no weights and in no checkpoint: seeds and metrics of Keras."""
        known = set(map(id, self.objects)) | {id(found.variable) for found in self.untracked}
        return len({id(each) for owner in _speakers(self.objects) for each in _listed(owner, "variables")} - known)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What is not built yet, so that its variables are not in the graph."""
        return tuple(_warnings(self.objects))


def model_variables(trackables: Iterable[Any]) -> Iterator[ModelVariable]:
    """Each variable that a model, module or optimizer says it has, once."""
    seen: set[int] = set()
    for owner in _speakers(trackables):
        # Keras: `weights` leaves out metrics and seeds, which no checkpoint is expected to hold.
        for variable in _listed(owner, "weights" if hasattr(type(owner), "weights") else "variables"):
            if id(variable) not in seen and is_variable(variable):
                seen.add(id(variable))
                yield ModelVariable(variable, owner)


def is_variable(thing: Any) -> bool:
    """Whether a trackable holds one tensor that can be read and assigned."""
    return hasattr(thing, "assign") and hasattr(thing, "shape") and hasattr(thing, "dtype")


def is_optimizer(thing: Any) -> bool:
    """Whether a trackable is an optimizer of Keras."""
    return not _OPTIMIZERS.isdisjoint(kind.__name__ for kind in type(thing).__mro__)


def is_model(thing: Any) -> bool:
    """Whether a trackable is a model of Keras."""
    return any(kind.__name__ == "Model" for kind in type(thing).__mro__)


def say_trackable(thing: Any) -> str:
    """A trackable as people know it: by its name, else by its class."""
    name = getattr(thing, "path", None) or getattr(thing, "name", None)
    return f"`{name}`" if isinstance(name, str) else type(thing).__name__


def say_checkpoint(checkpoint: Any) -> str:
    """A live checkpoint as its code makes it: ``Checkpoint(model, optimizer)``."""
    labels = [label for label in _keywords(checkpoint) if label != "save_counter"]
    return f"{type(checkpoint).__name__}({', '.join(labels)})"


def say_error(error: BaseException) -> str:
    """An error in one line and without a full stop; those of Keras have many lines."""
    return f"{type(error).__name__}: {' '.join(str(error).split()).removesuffix('.')}"


def _view(checkpoint: Any) -> Any:
    """What TensorFlow walks to save a checkpoint: its root, and what is attached to it by keyword.

    Source: ``Checkpoint.__init__`` in tensorflow/python/checkpoint/checkpoint.py: with a root, the root's node is the
    graph's, and the keywords and the counter, the root itself among them, are edges of it.
    """
    import tensorflow as tf

    tracking = tf.__internal__.tracking
    children = _keywords(checkpoint)
    root = children.get("root")
    if root is None:
        return tracking.ObjectGraphView(checkpoint)
    own = tf.train.TrackableView.children(root)
    attached = [tracking.TrackableReference(label, child) for label, child in children.items() if label not in own]
    return tracking.ObjectGraphView(root, attached_dependencies=attached)


def _keywords(checkpoint: Any) -> dict[str, Any]:
    """What a checkpoint was made of, and its counter."""
    import tensorflow as tf

    return {label: child for label, child in tf.train.TrackableView.children(checkpoint).items() if label != "_root"}


def _specs(saveables: Sequence[Any]) -> Iterator[tuple[Key, TensorSpec]]:
    for saveable in saveables:
        shape = getattr(getattr(saveable, "op", None), "shape", None)
        for spec in saveable.specs:
            dtype = DType(spec.dtype.base_dtype.as_datatype_enum)
            if spec.slice_spec:
                # A part of a variable: the whole's shape comes first, e.g. ``100 32 0,50:0,32``.
                # Source: ``spec`` of SaveSliceInfo in tensorflow/python/ops/variables.py.
                yield Key(spec.name), TensorSpec(dtype, tuple(map(int, spec.slice_spec.split(" ")[:-1])))
                continue
            if shape is None or len(saveable.specs) > 1 or not shape.is_fully_defined():
                shape = spec.tensor.shape
            yield Key(spec.name), TensorSpec(dtype, tuple(shape.as_list()))


def _written_graph(checkpoint: Any) -> ObjectGraph:
    """The graph of a checkpoint with registered savers, which alone know what they write."""
    with tempfile.TemporaryDirectory(prefix="ckptmigrate-") as scratch:
        prefix = str(checkpoint.write(os.path.join(scratch, "live")))  # noqa: PTH118
        with Bundle.open(prefix) as bundle:
            return ObjectGraph.from_bundle(bundle)


def _speakers(trackables: Iterable[Any]) -> Iterator[Any]:
    """The objects whose word on their variables counts.

    A list or dict says what its items hold, and of Keras 3's layers their seeds too; they speak for themselves.
    """
    for owner in trackables:
        if not any(kind.__name__ == "TrackableDataStructure" for kind in type(owner).__mro__):
            yield owner


def _listed(owner: Any, attribute: str) -> list[Any]:
    """The variables that an object lists; none where the attribute is something else, or the model is not built."""
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        return list(getattr(owner, attribute, None) or ())
    return []


def _spec(variable: Any) -> TensorSpec:
    import tensorflow as tf

    return TensorSpec(DType(tf.as_dtype(variable.dtype).as_datatype_enum), tuple(variable.shape))


def _warnings(trackables: Iterable[Any]) -> Iterator[str]:
    for trackable in trackables:
        if is_optimizer(trackable):
            if not is_built(trackable):
                yield (
                    f"optimizer {say_trackable(trackable)} is not built: its slots are not in the checkpoint; "
                    "call `optimizer.build(model.trainable_variables)` in the factory"
                )
        elif any(kind.__name__ == "Model" for kind in type(trackable).__mro__) and not getattr(
            trackable, "built", True
        ):
            yield f"model {say_trackable(trackable)} is not built: call it on an input in the factory"


def is_built(optimizer: Any) -> bool:
    """Whether an optimizer has made its slots."""
    if any(kind.__name__ == "OptimizerV2" for kind in type(optimizer).__mro__):
        # A legacy optimizer has no flag; it makes its slots with its first step.
        return bool(optimizer.weights)
    built = getattr(optimizer, "built", None)
    return bool(getattr(optimizer, "_built", True) if built is None else built)


def _tensorflow_variable(variable: Any) -> Any:
    """The variable of TensorFlow. Keras 3 has it in a property, where TensorFlow's own have a method."""
    value = getattr(variable, "value", None)
    return variable if value is None or callable(value) else value


def live_array(variable: Any) -> Any:
    """A variable's value as an array that shares its memory where TensorFlow can give it; None if it has none yet."""
    import numpy as np
    import tensorflow as tf

    held = _tensorflow_variable(variable)
    try:
        copies = _copies(held)
        if copies:
            arrays = [np.asarray(each.read_value()) for each in copies]
            if all(each.tobytes() == arrays[0].tobytes() for each in arrays[1:]):
                return arrays[0]
        return np.asarray(held.read_value())
    except (tf.errors.FailedPreconditionError, tf.errors.NotFoundError):
        return None


def _copies(held: Any) -> Sequence[Any]:
    """The copies of a variable that each replica is to hold alike; none where they are parts of a sum.

    To read such a variable takes the mean of its copies, which may not be the value that all of them have.

    Source: ``SyncOnReadVariable`` in tensorflow/python/distribute/values.py.
    """
    import tensorflow as tf

    if not isinstance(held, tf.distribute.DistributedValues) or held.aggregation == tf.VariableAggregation.SUM:
        return ()
    return tuple(held.distribute_strategy.experimental_local_results(held))


def live_crc(variable: Any) -> int | None:
    """The CRC32C of a variable's bytes, not masked; None where it has no value or no bytes (strings)."""
    import numpy as np

    from ckptmigrate.bundle import extend_crc

    array = live_array(variable)
    if array is None or array.dtype.hasobject:
        return None
    stored: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return extend_crc(0, stored)


def live_crcs(variables: Iterable[Any]) -> Mapping[int, int | None]:
    """The CRC32C of each variable by its id, each computed once."""
    return {id(variable): live_crc(variable) for variable in variables}


def release_values(variables: Iterable[Any]) -> None:
    """Let variables share memory in place of their values, which are lost: no more than the largest of them takes.

    TensorFlow reads all values of a restore before it assigns one, so that a model with values is held twice.

    Source: ``AssignVariableOp`` in tensorflow/core/kernels/resource_variable_ops.cc adopts the tensor it is given;
    slices from the start and reshapes share their tensor's memory.
    """
    import tensorflow as tf

    held = [_tensorflow_variable(variable) for variable in variables if is_variable(variable)]
    # What a distribution strategy keeps in several places stays as it is.
    distributed = tf.distribute.DistributedValues
    plain = [each for each in held if isinstance(each, tf.Variable) and not isinstance(each, distributed)]
    by_dtype: dict[Any, list[Any]] = {}
    for each in plain:
        if each.dtype.is_numpy_compatible and each.dtype != tf.string and each.shape.is_fully_defined():
            by_dtype.setdefault(each.dtype, []).append(each)
    for dtype, alike in by_dtype.items():
        largest = max(each.shape.num_elements() for each in alike)
        shared = tf.raw_ops.Empty(shape=[largest], dtype=dtype, init=False)
        for each in alike:
            each.assign(tf.reshape(shared[: each.shape.num_elements()], each.shape))
