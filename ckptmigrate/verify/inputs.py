"""What both models of a comparison are given: arrays of a file, or random ones of the model's input signature."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ckptmigrate.errors import InputsError
from ckptmigrate.graph.live import is_variable
from ckptmigrate.verify.running import Side, called, is_keras, parameters_of, recorded, repeatable

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional arguments, and those by keyword."""

_BATCH = 4
"""The first axis where a signature leaves it open: more than one, so that it is no axis that broadcasts."""

_LENGTH = 8
_IMAGE = 32
"""Every other axis that is left open: of sequences, and of images, which layers make smaller."""

TARGETS = "y"
"""The array of a file that a training step takes as what the outputs should be."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One input of a model.

    Attributes:
        name: Its name.
        shape: Its axes; None where any size will do.
        dtype: Its dtype, e.g. ``float32``; empty where the model does not say it.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = ""

    def __str__(self) -> str:
        return f"{self.dtype or 'numbers'}[{', '.join('?' if size is None else str(size) for size in self.shape)}]"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model is called with.

    Attributes:
        args: Its positional arguments, each an input or a nest of them.
        inputs: The inputs in the order of the nest.
    """

    args: tuple[Any, ...]
    inputs: tuple[Wanted, ...]

    @classmethod
    def of(cls, args: Sequence[Any]) -> Signature:
        """The signature of nests with a `Wanted` at each leaf."""
        import tensorflow as tf

        return cls(tuple(args), tuple(tf.nest.flatten(list(args))))

    def pack(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        """Positional arguments from tensors in the order of `inputs`."""
        import tensorflow as tf

        return tuple(tf.nest.pack_sequence_as(list(self.args), list(tensors)))


@dataclass(frozen=True, slots=True)
class Batch:
    """The arrays that both models are given.

    Attributes:
        arrays: The inputs by name.
        targets: What outputs should be, for a training step, by name; of random ones none.
        origin: The file, or how they were made, in words.
    """

    arrays: Mapping[str, Array]
    targets: Mapping[str, Array]
    origin: str

    def __str__(self) -> str:
        shown = ", ".join(f"`{name}` {array.dtype}{list(array.shape)}" for name, array in self.arrays.items())
        return f"{self.origin}: {shown}"


def read_batch(path: str, sides: Sequence[Side]) -> Batch:
    """The arrays of an ``.npz`` file.

    Args:
        path: The file: inputs under the names that a model gives them, or in their order as ``numpy.savez`` names
            them (``arr_0``); targets of a training step as ``y``, or under the names of outputs with ``y_`` before.
        sides: Who is given them, for their names.

    Raises:
        InputsError: It is no such file.
    """
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise InputsError("the inputs cannot be read", path, got=str(error.strerror or error), hint=_SAVEZ) from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputsError(
            "not an npz file", path, expected="arrays of numbers or text by name", got=str(error), hint=_SAVEZ
        ) from error
    if isinstance(loaded, np.ndarray):
        raise InputsError("not an npz file", path, expected="arrays by name", got="one array", hint=_SAVEZ)
    names = {wanted.name for side in sides for wanted in (signature_of(side) or Signature((), ())).inputs}
    targets = {
        name: array
        for name, array in arrays.items()
        if name not in names and (name == TARGETS or name.startswith("y_"))
    }
    inputs = {name: array for name, array in arrays.items() if name not in targets}
    if not inputs:
        raise InputsError(
            "no inputs", path, expected="at least one array", got=", ".join(arrays) or "none", hint=_SAVEZ
        )
    return Batch(inputs, targets, path)


_SAVEZ = "Write it with numpy.savez(path, name=array)"


def random_batch(sides: Sequence[Side], seed: int) -> Batch:
    """Random inputs of the signature that the models have: floats from a normal distribution, ids of rows, booleans.

    An id that is not in its table is an error on a CPU. What reaches an Embedding as it is, in either model, stays
    below the number of its rows, and is an id whatever the signature says: many have floats there. Other integers stay
    below the smallest table that there is.

    Raises:
        InputsError: No model says what it takes, or what it takes is text.
        RunError: A model raised.
    """
    import numpy as np

    signatures = [signature for signature in map(signature_of, sides) if signature is not None]
    if not signatures:
        raise InputsError(
            "what the model takes is not known",
            " and ".join(dict.fromkeys(side.said for side in sides)),
            expected="a Keras model that is built, or a tf.function with an input_signature",
            got=", ".join(dict.fromkeys(type(side.forward).__name__ for side in sides)),
            hint="Give inputs with --inputs FILE.npz",
        )
    # What one leaves open the other may say.
    wanted = list(signatures[-1].inputs)
    for other in signatures[:-1]:
        if len(other.inputs) == len(wanted):
            wanted = [_narrowed(ours, theirs) for ours, theirs in zip(wanted, other.inputs, strict=True)]
    generator = np.random.default_rng(seed)
    bounds = _id_bounds(wanted, sides, seed)
    arrays = {each.name: _random_array(each, bounds, generator, sides) for each in wanted}
    ids = [f"`{name}` ids from 0 to {bounds[name] - 1}" for name, array in arrays.items() if array.dtype.kind in "iu"]
    return Batch(arrays, {}, f"random inputs of seed {seed}{', ' if ids else ''}{', '.join(ids)}")


def _random_array(wanted: Wanted, bounds: Mapping[str, int], generator: Any, sides: Sequence[Side]) -> Array:
    shape = tuple(_size(wanted.shape, axis) for axis in range(len(wanted.shape)))
    kind = _kind(wanted.dtype)
    if wanted.name in bounds and kind in "iuf":
        return _array(generator.integers(0, bounds[wanted.name], shape), wanted.dtype if kind in "iu" else "int32")
    match kind:
        case "b":
            return _array(generator.integers(0, 2, shape), "bool")
        case "f" | "c":
            return _array(
                generator.standard_normal(shape), "float32" if wanted.dtype in ("", "bfloat16") else wanted.dtype
            )
        case _:
            raise InputsError(
                "there are no random values of this kind",
                " and ".join(dict.fromkeys(side.said for side in sides)),
                got=f"`{wanted.name}` {wanted}",
                hint="Give inputs with --inputs FILE.npz",
            )


def _array(values: Any, dtype: str) -> Array:
    made: Array = values.astype(dtype)
    return made


def _kind(dtype: str) -> str:
    """A dtype's kind as numpy has it: ``f``, ``i``, ``u``, ``b``, ``c``; a float where a model does not say it."""
    import numpy as np

    if dtype in ("", "bfloat16"):
        return "f"
    return np.dtype(dtype).kind if dtype in np.sctypeDict else "O"


def _id_bounds(wanted: Sequence[Wanted], sides: Sequence[Side], seed: int) -> dict[str, int]:
    """What the inputs that are integers, or ids of rows, stay below."""
    import numpy as np

    tables = [{number: thing for number, thing in enumerate(side.live.objects) if _is_table(thing)} for side in sides]
    sizes = [thing.input_dim for each in tables for thing in each.values()]
    sizes = sizes or [
        int(thing.shape[0])
        for side in sides
        for thing in side.live.objects
        if is_variable(thing) and len(thing.shape) == 2
    ]
    bounds = {each.name: min(sizes, default=2) for each in wanted if _kind(each.dtype) in "iu"}
    if not any(tables):
        return bounds
    # Ids are numbers that every model takes: a run shows which of them come to a table.
    generator = np.random.default_rng(seed)
    everywhere = dict.fromkeys((each.name for each in wanted), min(sizes))
    probe = Batch({each.name: _random_array(each, everywhere, generator, sides) for each in wanted}, {}, "")
    reached: dict[str, list[int]] = {}
    for side, own in zip(sides, tables, strict=True):
        with repeatable(seed, sides), recorded(own) as calls:
            side.infer(*bind(probe, side))
        for number, made in calls.items():
            for name, array in probe.arrays.items():
                if any(np.array_equal(array, given) for call in made for given in call.inputs):
                    reached.setdefault(name, []).append(own[number].input_dim)
    return {**bounds, **{name: min(found) for name, found in reached.items()}}


def _is_table(thing: Any) -> bool:
    return isinstance(getattr(thing, "input_dim", None), int) and any(
        "Embedding" in kind.__name__ for kind in type(thing).__mro__
    )


def bind(batch: Batch, side: Side) -> Arguments:
    """The arguments with which a model is called for a batch.

    Raises:
        InputsError: The model takes other inputs.
    """
    import tensorflow as tf

    signature = signature_of(side)
    if signature is None:
        return _bind_by_parameters(batch, side)
    names = [wanted.name for wanted in signature.inputs]
    arrays = list(batch.arrays.values())
    if set(names) == batch.arrays.keys():
        arrays = [batch.arrays[name] for name in names]
    elif len(names) != len(arrays) or not _may_go_by_order(batch, names):
        raise InputsError(
            f"not the inputs of the {side.role} model",
            batch.origin,
            expected=f"{', '.join(f'`{each.name}` {each}' for each in signature.inputs)} ({side.said})",
            got=", ".join(f"`{name}`" for name in batch.arrays),
            hint="Name the arrays as the inputs, or give as many in their order (numpy.savez(path, first, second))",
        )
    for wanted, array in zip(signature.inputs, arrays, strict=True):
        _check_fits(wanted, array, batch, side)
    tensors = [
        tf.cast(array, wanted.dtype) if wanted.dtype and array.dtype.kind not in "UOS" else tf.convert_to_tensor(array)
        for wanted, array in zip(signature.inputs, arrays, strict=True)
    ]
    return signature.pack(tensors), {}


def _may_go_by_order(batch: Batch, names: Sequence[str]) -> bool:
    """Whether arrays whose names are not those of the inputs are taken in order: none of them is another input's."""
    return len(names) == 1 or not set(names) & batch.arrays.keys()


_ORDER = "bifc"
"""Kinds of numbers: each may be made of those before it."""


def _check_fits(wanted: Wanted, array: Array, batch: Batch, side: Side) -> None:
    fits = len(array.shape) == len(wanted.shape) and all(
        size in (None, got) for size, got in zip(wanted.shape, array.shape, strict=True)
    )
    if fits and wanted.dtype:
        # numpy makes float64 and int64 of what a person writes: only the kind has to be right, and ids may be floats.
        ours, theirs = (
            _ORDER.find(_kind(wanted.dtype).replace("u", "i")),
            _ORDER.find(array.dtype.kind.replace("u", "i")),
        )
        fits = ours >= theirs if ours >= 0 <= theirs else ours == theirs
    if not fits:
        raise InputsError(
            f"an input that the {side.role} model does not take",
            f"{batch.origin} `{wanted.name}`",
            expected=f"{wanted} ({side.said})",
            got=f"{array.dtype}{list(array.shape)}",
            hint="Give inputs of that shape and dtype",
        )


def _bind_by_parameters(batch: Batch, side: Side) -> Arguments:
    """What is called with tensors as a person wrote it: by the names of its parameters, else in order."""
    import tensorflow as tf

    tensors = {name: tf.convert_to_tensor(array) for name, array in batch.arrays.items()}
    parameters = parameters_of(side.forward)
    if len(tensors) > 1 and tensors.keys() <= parameters.keys():
        return (), tensors
    if len(tensors) == 1 or all(name.startswith("arr_") for name in tensors):
        return tuple(tensors.values()), {}
    raise InputsError(
        f"not the inputs of the {side.role} model",
        batch.origin,
        expected=f"{', '.join(f'`{name}`' for name in parameters)} ({side.said})",
        got=", ".join(f"`{name}`" for name in tensors),
        hint="Name the arrays as its parameters, or give them in their order (numpy.savez(path, first, second))",
    )


def signature_of(side: Side) -> Signature | None:
    """What the model says that it takes; None where it does not.

    Source: ``input_signature`` of tf.function; ``inputs`` of functional and Sequential models of both Keras;
    ``save_spec`` of Keras 2 (tf_keras/src/engine/training.py); ``_build_shapes_dict`` of Keras 3
    (keras/src/layers/layer.py), which are the shapes that a model was built with, without their dtypes; Keras leaves
    the first axis of them open as well (keras/src/export/export_utils.py).
    """
    forward = side.forward
    declared = getattr(called(forward), "input_signature", None)
    if declared:
        names = list(parameters_of(forward))
        return _of_specs(declared, names)
    if not is_keras(forward):
        return None
    symbolic = getattr(forward, "inputs", None)
    if symbolic:
        return _of_specs([_structure(forward, symbolic)], [])
    if hasattr(forward, "save_spec"):
        spec = forward.save_spec()
        return None if spec is None else _of_specs([spec[0][0]], [])
    shapes = getattr(forward, "_build_shapes_dict", None)
    if not shapes:
        return None
    arguments = [_of_shapes(name.removesuffix("_shape"), value) for name, value in shapes.items()]
    return None if None in arguments else Signature.of(arguments)


def _structure(model: Any, symbolic: Sequence[Any]) -> Any:
    """The inputs in the nest in which a functional model takes them."""
    import tensorflow as tf

    try:
        nest = model.input
    except (AttributeError, ValueError, RuntimeError):
        nest = symbolic
    if len(tf.nest.flatten(nest)) != len(symbolic):
        nest = symbolic
    return nest[0] if isinstance(nest, list) and len(nest) == 1 else nest


def _of_specs(args: Sequence[Any], names: Sequence[str]) -> Signature:
    import tensorflow as tf

    count = 0

    def wanted(spec: Any) -> Wanted:
        nonlocal count
        name = getattr(spec, "name", None) or (names[count] if count < len(names) else f"input_{count}")
        count += 1
        shape = getattr(spec, "shape", None)
        known = () if shape is None or getattr(shape, "rank", 0) is None else tuple(shape)
        dtype = getattr(spec, "dtype", "")
        return Wanted(str(name), known, str(getattr(dtype, "name", dtype)))

    return Signature.of([tf.nest.map_structure(wanted, arg) for arg in args])


def _of_shapes(name: str, shapes: Any) -> Any:
    """The shape of one argument, or a nest of shapes; None for what is neither."""
    if isinstance(shapes, dict):
        found = {key: _of_shapes(key, value) for key, value in shapes.items()}
        return None if None in found.values() else found
    if isinstance(shapes, tuple | list):
        if all(size is None or isinstance(size, int) for size in shapes):
            # The first axis is the batch that the model happened to be built with.
            return Wanted(name, (None, *shapes[1:]) if shapes else ())
        listed = [_of_shapes(f"{name}_{index}", value) for index, value in enumerate(shapes)]
        return None if None in listed else listed
    return None


def _narrowed(ours: Wanted, theirs: Wanted) -> Wanted:
    if len(ours.shape) != len(theirs.shape):
        return ours
    shape = tuple(size if size is not None else other for size, other in zip(ours.shape, theirs.shape, strict=True))
    return replace(ours, shape=shape, dtype=ours.dtype or theirs.dtype)


def _size(shape: tuple[int | None, ...], axis: int) -> int:
    size = shape[axis]
    if size is not None:
        return size
    if axis == 0:
        return _BATCH
    return _IMAGE if len(shape) > 3 else _LENGTH
