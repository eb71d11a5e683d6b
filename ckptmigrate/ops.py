"""Tensor operations as values: what they make of a spec, how they are undone, and how they are written.

An operation is data. It proves shapes and dtypes without values (`infer_chain`), and has one external
form, in rule files as in plans (`to_data`, `from_data`). The union is closed: what an operation does to
values is said where it runs, by blocks, and once more where it is verified, on whole tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, Literal, TypeAlias

from ckptmigrate.dtypes import holds, is_finite, is_lossless, is_number
from ckptmigrate.errors import IrreversibleError, OperationError, PathError, RuleError, raise_all
from ckptmigrate.spec import DType, TensorSpec

Specs: TypeAlias = tuple[TensorSpec, ...]
Shape: TypeAlias = tuple[int, ...]


# ---------------------------------------------------------------- the operations


@dataclass(frozen=True, slots=True)
class Transpose:
    """Reorder the axes: axis i of the result is axis ``perm[i]`` of the source.

    Attributes:
        perm: Every axis once (negative ones count from the end); None reverses them.
    """

    perm: tuple[int, ...] | None = None
    name: ClassVar[str] = "transpose"

    def order(self, rank: int) -> tuple[int, ...]:
        """The permutation for a tensor of this rank, without negative axes.

        Raises:
            OperationError: It does not name every axis once.
        """
        if self.perm is None:
            return tuple(reversed(range(rank)))
        order = tuple(axis + rank if axis < 0 else axis for axis in self.perm)
        if sorted(order) != list(range(rank)):
            raise OperationError(
                "the permutation does not fit the tensor",
                self.describe(),
                expected=f"each of the axes {list(range(rank))} once (the source has rank {rank})",
                got=f"{list(self.perm)} (perm)",
            )
        return order

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if `perm` does not fit the source."""
        source = _one(self, specs)
        return (TensorSpec(source.dtype, tuple(source.shape[axis] for axis in self.order(len(source.shape)))),)

    def inverse(self, specs: Specs) -> Op:
        """The transpose that leads back."""
        order = self.order(len(_one(self, specs).shape))
        return Transpose() if self.perm is None else Transpose(inverted_order(order))

    def describe(self) -> str:
        """In words, e.g. ``transpose [1, 0]``."""
        return "transpose, axes reversed" if self.perm is None else f"transpose {list(self.perm)}"


@dataclass(frozen=True, slots=True)
class Reshape:
    """Give the values another shape, in row-major order.

    Attributes:
        shape: The sizes; one may be -1 and follows from the others.
    """

    shape: tuple[int, ...]
    name: ClassVar[str] = "reshape"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if the numbers of elements differ."""
        source = _one(self, specs)
        known = math.prod(size for size in self.shape if size != -1)
        missing = self.shape.count(-1)
        if missing == 1 and known > 0 and source.num_elements % known == 0:
            rest = source.num_elements // known
            return (TensorSpec(source.dtype, tuple(rest if size == -1 else size for size in self.shape)),)
        if missing or min(self.shape, default=0) < 0 or known != source.num_elements:
            raise OperationError(
                "the shape does not hold the values",
                self.describe(),
                expected=f"sizes, at most one of them -1, for {source.num_elements} elements (source {source})",
                got=f"{list(self.shape)} (shape)",
            )
        return (TensorSpec(source.dtype, self.shape),)

    def inverse(self, specs: Specs) -> Op:
        """The reshape back to the source's shape."""
        self.infer(specs)
        return Reshape(specs[0].shape)

    def describe(self) -> str:
        """In words, e.g. ``reshape to [48, 12, 4]``."""
        return f"reshape to {list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Cast:
    """Convert every element to another dtype; a float is rounded, but no value is destroyed.

    See `compute` for what counts as destroyed. Strings, resources, variants and quantized types have
    no conversion.
    """

    dtype: DType
    name: ClassVar[str] = "cast"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if there is no conversion between the dtypes."""
        source = _one(self, specs)
        for dtype, origin in ((source.dtype, f"source {source}"), (self.dtype, "dtype")):
            if not is_number(dtype):
                raise OperationError(
                    "no conversion between these dtypes",
                    self.describe(),
                    expected="bool, integer, float or complex on both sides",
                    got=f"{dtype.label} ({origin})",
                )
        return (TensorSpec(self.dtype, source.shape),)

    def inverse(self, specs: Specs) -> Op:
        """The cast back, if this one keeps every value. Raises IrreversibleError if it does not."""
        self.infer(specs)
        source = specs[0].dtype
        if not is_lossless(source, self.dtype):
            raise IrreversibleError(
                f"{self.dtype.label} does not hold every {source.label} value, so the source cannot be had back",
                self.describe(),
                hint="Keep the source checkpoint: it is the only way back",
            )
        return Cast(source)

    def describe(self) -> str:
        """In words, e.g. ``cast to bfloat16``."""
        return f"cast to {self.dtype.label}"


@dataclass(frozen=True, slots=True)
class Squeeze:
    """Remove axes of size 1.

    Attributes:
        axis: The axes, as the source counts them; negative ones count from the end.
    """

    axis: tuple[int, ...]
    name: ClassVar[str] = "squeeze"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if an axis is not there or not of size 1."""
        source = _one(self, specs)
        rank = len(source.shape)
        axes = [axis + rank if axis < 0 else axis for axis in self.axis]
        if len(set(axes)) != len(axes) or any(not 0 <= axis < rank or source.shape[axis] != 1 for axis in axes):
            ones = [axis for axis, size in enumerate(source.shape) if size == 1]
            raise OperationError(
                "an axis to squeeze is not of size 1",
                self.describe(),
                expected=f"different axes among {ones} (those of size 1 in source {source})",
                got=f"{list(self.axis)} (axis)",
            )
        return (TensorSpec(source.dtype, tuple(size for i, size in enumerate(source.shape) if i not in axes)),)

    def inverse(self, specs: Specs) -> Op:
        """The operation that puts the axes back."""
        self.infer(specs)
        source = specs[0]
        if len(self.axis) == 1:
            return ExpandDims(self.axis[0] % len(source.shape))
        return Reshape(source.shape)

    def describe(self) -> str:
        """In words, e.g. ``squeeze axes [0, 2]``."""
        return f"squeeze axis {self.axis[0]}" if len(self.axis) == 1 else f"squeeze axes {list(self.axis)}"


@dataclass(frozen=True, slots=True)
class ExpandDims:
    """Insert an axis of size 1.

    Attributes:
        axis: Where it is in the result; a negative one counts from the result's end.
    """

    axis: int
    name: ClassVar[str] = "expand_dims"

    def infer(self, specs: Specs) -> Specs:
        """The result's spec. Raises OperationError if the result has no such axis."""
        source = _one(self, specs)
        rank = len(source.shape) + 1
        if not -rank <= self.axis < rank:
            raise OperationError(
                "the new axis is out of range",
                self.describe(),
                expected=f"an axis from {-rank} to {rank - 1} (source {source})",
                got=f"{self.axis} (axis)",
            )
        at = self.axis % rank
        return (TensorSpec(source.dtype, (*source.shape[:at], 1, *source.shape[at:])),)

    def inverse(self, specs: Specs) -> Op:
        """The squeeze of the new axis."""
        (result,) = self.infer(specs)
        return Squeeze((self.axis % len(result.shape),))

    def describe(self) -> str:
        """In words, e.g. ``insert axis 0``."""
        return f"insert axis {self.axis}"


@dataclass(frozen=True, slots=True)
class Fill:
    """The initial value of a tensor that nothing leads to. It comes first in a chain.

    Nothing of the source checkpoint goes in: the one spec (and for ``"template"`` the one source) that
    it takes is the template's tensor.

    Attributes:
        value: ``"template"`` for the template's own values, or a finite number for every element.
    """

    value: Literal["template"] | float
    name: ClassVar[str] = "init"

    def infer(self, specs: Specs) -> Specs:
        """The template's spec. Raises OperationError if its dtype does not hold the number."""
        template = _one(self, specs)
        if self.value != "template" and not holds(template.dtype, self.value):
            raise OperationError(
                "the dtype does not hold the initial value",
                self.describe(),
                expected=f"a value of {template.dtype.label} (template {template})",
                got=f"{self.value} (with)",
            )
        return (template,)

    def inverse(self, specs: Specs) -> Op:
        """Never succeeds. Raises IrreversibleError: an initial value has no source."""
        self.infer(specs)
        raise IrreversibleError(
            "an initial value has no source to lead back to",
            self.describe(),
            hint="Drop the tensor on the way back",
        )

    def describe(self) -> str:
        """In words, e.g. ``initial value: zeros``."""
        return f"initial value: {_initial_to_data(self.value)}"


Op: TypeAlias = Transpose | Reshape | Cast | Squeeze | ExpandDims | Fill
"""Every operation there is. The union is closed: code that tells them apart is a ``match``."""


def infer_chain(ops: Sequence[Op], specs: Specs) -> Specs:
    """The specs that a chain of operations leads to; `specs` itself for an empty chain.

    Raises:
        OperationError: An operation does not fit what it is given.
    """
    for position, op in enumerate(ops):
        if isinstance(op, Fill) and position:
            raise OperationError(
                "an initial value replaces what comes before it",
                op.describe(),
                expected="it to be the first operation",
                got=f"it after {ops[position - 1].describe()}",
            )
        specs = op.infer(specs)
    return specs


def inverse_chain(ops: Sequence[Op], specs: Specs) -> tuple[Op, ...]:
    """The chain that leads from the result of `ops` on `specs` back to the source.

    Raises:
        OperationError: An operation does not fit what it is given.
        IrreversibleError: An operation loses what its inverse would need.
    """
    inverted: list[Op] = []
    infer_chain(ops, specs)
    for op in ops:
        inverted.append(op.inverse(specs))
        specs = op.infer(specs)
    return tuple(reversed(inverted))


def _one(op: Op, specs: Specs) -> TensorSpec:
    if len(specs) != 1:
        shown = ", ".join(map(str, specs)) or "none"
        raise OperationError("wrong number of tensors", op.describe(), expected="1", got=f"{len(specs)} ({shown})")
    return specs[0]


def inverted_order(perm: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes one."""
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


# ---------------------------------------------------------------- the external form


class _UnreadableError(ValueError):
    """An argument that is not of its type; the text is what it should be."""


def _read_int(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _UnreadableError("an integer")
    return value


def _read_ints(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or any(type(item) is not int for item in value):
        raise _UnreadableError("a list of integers")
    return tuple(value)


def _read_ints_or_none(value: object) -> tuple[int, ...] | None:
    return None if value is None else _read_ints(value)


def _read_int_or_ints(value: object) -> tuple[int, ...]:
    return (value,) if type(value) is int else _read_ints(value)


def _read_dtype(value: object) -> DType:
    if isinstance(value, str):
        try:
            return DType.from_label(value)
        except PathError:
            pass
    raise _UnreadableError(f"one of {', '.join(dtype.label for dtype in DType if is_number(dtype))}")


def _read_initial(value: object) -> Literal["template"] | float:
    if value == "template":
        return "template"
    if value in ("zeros", "ones"):
        return 0.0 if value == "zeros" else 1.0
    if isinstance(value, int | float) and not isinstance(value, bool) and is_finite(value):
        return value
    raise _UnreadableError("template, zeros, ones, or a finite number")


def _initial_to_data(value: Literal["template"] | float) -> str | float:
    if isinstance(value, str) or value not in (0, 1) or str(value).startswith("-"):
        return value
    return "ones" if value else "zeros"


# Of each operation: its class, and of each argument how it is read and whether it may be left out.
_FORMS: Mapping[str, tuple[Callable[..., Op], Mapping[str, tuple[Callable[[object], object], bool]]]] = {
    Transpose.name: (Transpose, {"perm": (_read_ints_or_none, True)}),
    Reshape.name: (Reshape, {"shape": (_read_ints, False)}),
    Cast.name: (Cast, {"dtype": (_read_dtype, False)}),
    Squeeze.name: (Squeeze, {"axis": (_read_int_or_ints, False)}),
    ExpandDims.name: (ExpandDims, {"axis": (_read_int, False)}),
    Fill.name: (lambda **arguments: Fill(arguments["with"]), {"with": (_read_initial, False)}),
}


def to_data(op: Op) -> dict[str, dict[str, Any]]:
    """An operation as rule files and plans write it, e.g. ``{"transpose": {"perm": [1, 0]}}``."""
    arguments: dict[str, Any]
    match op:
        case Transpose(None):
            arguments = {}
        case Transpose(perm):
            arguments = {"perm": list(perm or ())}
        case Reshape(shape):
            arguments = {"shape": list(shape)}
        case Cast(dtype):
            arguments = {"dtype": dtype.label}
        case Squeeze(axis):
            arguments = {"axis": list(axis)}
        case ExpandDims(at):
            arguments = {"axis": at}
        case Fill(value):
            arguments = {"with": _initial_to_data(value)}
    return {op.name: arguments}


def from_data(data: object, where: str) -> Op:
    """Read an operation as rule files and plans write it.

    Args:
        data: A mapping of one operation's name to a mapping of its arguments (None for no arguments).
        where: The place in the file, e.g. ``rules.yaml:3:5``, for messages.

    Raises:
        RuleError: One thing is wrong: the operation or an argument is unknown, missing, or not of its type.
        Problems: Several things are.
    """
    if not isinstance(data, Mapping) or len(data) != 1:
        raise RuleError(
            "an operation cannot be read",
            where,
            expected="one name with its arguments, such as {transpose: {perm: [1, 0]}}",
            got=repr(data),
        )
    ((name, given),) = data.items()
    if name not in _FORMS:
        raise RuleError("unknown operation", where, **_names(name, _FORMS))
    make, form = _FORMS[name]
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise RuleError(
            f"{name}: the arguments cannot be read", where, expected=f"a mapping with {_listed(form)}", got=repr(given)
        )
    problems = [
        RuleError(f"{name}: unknown argument", where, **_names(argument, form))
        for argument in given
        if argument not in form
    ]
    arguments: dict[str, object] = {}
    for argument, (read, optional) in form.items():
        if argument not in given:
            if not optional:
                problems.append(RuleError(f"{name}: missing argument", where, expected=f"`{argument}`"))
            continue
        try:
            arguments[argument] = read(given[argument])
        except _UnreadableError as error:
            value = repr(given[argument])
            problems.append(RuleError(f"{name}: `{argument}` cannot be read", where, expected=str(error), got=value))
    raise_all(f"the operation {name} cannot be read", problems)
    return make(**arguments)


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _names(name: object, known: Mapping[str, object]) -> dict[str, str]:
    near = get_close_matches(str(name), known, n=1)
    hint = f"Perhaps `{near[0]}` is meant" if near else ""
    return {"expected": f"one of {_listed(known)}", "got": f"`{name}`", "hint": hint}
