"""How operations are written, in rule files as in plans: ``{transpose: {perm: [1, 0]}}``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from difflib import get_close_matches
from typing import Any, Literal

from ckptmigrate.dtypes import is_finite, is_number
from ckptmigrate.errors import PathError, RuleError, raise_all
from ckptmigrate.ops import (
    GATE_ORDERS,
    Add,
    Average,
    Cast,
    Concat,
    Custom,
    ExpandDims,
    Fill,
    Filling,
    FoldBias,
    FoldKernel,
    Gates,
    Gather,
    Mean,
    Op,
    Pad,
    Part,
    Repeat,
    Reshape,
    Resize,
    Scale,
    Slice,
    Squeeze,
    Stack,
    Tile,
    Transpose,
    Vocab,
    say_initial,
)
from ckptmigrate.spec import DType
from ckptmigrate.vocabulary import Vocabulary


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


def _read_dtype_or_none(value: object) -> DType | None:
    if value is None:
        return None
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


def _read_filling(value: object) -> Filling:
    if value == "mean":
        return Mean()
    if isinstance(value, Mapping) and [*value] == ["mean"]:
        noise = value["mean"]
        if isinstance(noise, Mapping) and "stddev" in noise and noise.keys() <= {"stddev", "seed"}:
            stddev, seed = noise["stddev"], noise.get("seed", 0)
            with suppress(_UnreadableError):
                if _read_number(stddev) > 0 and 0 <= _read_int(seed) < _SEEDS:
                    return Mean(stddev, seed)
        raise _UnreadableError("{mean: {stddev: a positive number, seed: an integer from 0 to 2**64 - 1}}")
    try:
        return _read_initial(value)
    except _UnreadableError as error:
        raise _UnreadableError(f"mean, {{mean: {{stddev: ..., seed: ...}}}}, {error}") from None


def _read_vocabulary(value: object) -> Vocabulary:
    match value:
        case {"path": str(path), "sha256": str(digest), "count": int(count), **rest} if not rest:
            return Vocabulary(path, digest, count)
    raise _UnreadableError("{path: ..., sha256: ..., count: how many tokens}")


def _read_bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise _UnreadableError("true or false")
    return value


def _read_order(value: object) -> str:
    if not isinstance(value, str) or not (value in GATE_ORDERS or (value.isalpha() and value.islower())):
        raise _UnreadableError(f"a letter for each gate, such as ifco, or one of {', '.join(GATE_ORDERS)}")
    return GATE_ORDERS.get(value, value)


def _read_number_or_none(value: object) -> float | None:
    return None if value is None else _read_number(value)


def _read_number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not is_finite(value):
        raise _UnreadableError("a finite number")
    return value


def _read_numbers_or_none(value: object) -> tuple[float, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise _UnreadableError("a list of finite numbers")
    try:
        return tuple(map(_read_number, value))
    except _UnreadableError:
        raise _UnreadableError("a list of finite numbers") from None


def _read_int_or_none(value: object) -> int | None:
    return None if value is None else _read_int(value)


def _read_sizes(value: object) -> tuple[int, ...] | Literal["target"]:
    if value == "target":
        return "target"
    try:
        return _read_ints(value)
    except _UnreadableError:
        raise _UnreadableError("a list of integers, or `target`") from None


def _make_part(
    *, axis: int, index: int, parts: int | None = None, sizes: tuple[int, ...] | Literal["target"] | None = None
) -> Part:
    whole = sizes if parts is None else parts
    if whole is None or (parts is not None and sizes is not None):
        raise _UnreadableError("either `parts`, how many equal ones, or `sizes`, those of all")
    return Part(axis, index, None if whole == "target" else whole)


_SEEDS = 2**64


def _read_function(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
        return value
    raise _UnreadableError("`package.module:function`")


def _make_custom(*, function: str, inverse: str | None = None, **declared: Any) -> Custom:
    return Custom(function, inverse_function=inverse, **declared)


_AXIS = {"axis": (_read_int, False)}
# Of each operation: its class, and of each argument how it is read and whether it may be left out.
_FORMS: Mapping[str, tuple[Callable[..., Op], Mapping[str, tuple[Callable[[object], object], bool]]]] = {
    Transpose.name: (Transpose, {"perm": (_read_ints_or_none, True)}),
    Reshape.name: (Reshape, {"shape": (_read_ints_or_none, True)}),
    Cast.name: (Cast, {"dtype": (_read_dtype_or_none, True)}),
    Squeeze.name: (Squeeze, {"axis": (_read_int_or_ints, False)}),
    ExpandDims.name: (ExpandDims, {"axis": (_read_int, False)}),
    Fill.name: (lambda **arguments: Fill(arguments["with"]), {"with": (_read_initial, False)}),
    Part.name: (
        _make_part,
        {**_AXIS, "index": (_read_int, False), "parts": (_read_int_or_none, True), "sizes": (_read_sizes, True)},
    ),
    Concat.name: (Concat, _AXIS),
    Stack.name: (Stack, _AXIS),
    Slice.name: (Slice, {**_AXIS, "start": (_read_int, True), "stop": (_read_int_or_none, True)}),
    Pad.name: (
        Pad,
        {**_AXIS, "before": (_read_int, True), "after": (_read_int, True), "value": (_read_number, True)},
    ),
    Gather.name: (Gather, {**_AXIS, "indices": (_read_ints, False)}),
    Tile.name: (Tile, {**_AXIS, "times": (_read_int, False)}),
    Repeat.name: (Repeat, {**_AXIS, "times": (_read_int, False)}),
    Resize.name: (Resize, {**_AXIS, "size": (_read_int_or_none, True), "fill": (_read_filling, True)}),
    Vocab.name: (
        Vocab,
        {
            **_AXIS,
            "source": (_read_vocabulary, False),
            "target": (_read_vocabulary, False),
            "kept": (_read_int, False),
            "fill": (_read_filling, True),
            "offset": (_read_int, True),
        },
    ),
    Gates.name: (
        Gates,
        {
            **_AXIS,
            "source": (_read_order, False),
            "target": (_read_order, False),
            "forget_bias": (_read_number_or_none, True),
        },
    ),
    FoldKernel.name: (
        FoldKernel,
        {"epsilon": (_read_number, False), "gamma": (_read_bool, True), "axis": (_read_int_or_ints, True)},
    ),
    FoldBias.name: (
        FoldBias,
        {"epsilon": (_read_number, False), **dict.fromkeys(("bias", "gamma", "beta"), (_read_bool, True))},
    ),
    Custom.name: (
        _make_custom,
        {
            "function": (_read_function, False),
            "shape": (_read_ints_or_none, True),
            "dtype": (_read_dtype_or_none, True),
            "inverse": (_read_function, True),
        },
    ),
    Scale.name: (Scale, {"factor": (_read_number, False)}),
    Add.name: (Add, {"value": (_read_number, False)}),
    Average.name: (Average, {"weights": (_read_numbers_or_none, True)}),
}


def to_data(op: Op) -> dict[str, dict[str, Any]]:
    """An operation as rule files and plans write it, e.g. ``{"transpose": {"perm": [1, 0]}}``."""
    arguments: dict[str, Any]
    match op:
        case Fill(value):
            arguments = {"with": say_initial(value)}
        case Custom(function, shape, dtype, inverse):
            arguments = {"function": function, "shape": shape, "dtype": dtype, "inverse": inverse}
        case Part(axis, index, sizes):
            whole = "target" if sizes is None else sizes
            arguments = {"axis": axis, "index": index, "parts" if isinstance(sizes, int) else "sizes": whole}
        case _:
            arguments = {field.name: getattr(op, field.name) for field in fields(op)}
    if isinstance(op, Resize | Vocab) and not isinstance(op.fill, Mean):
        arguments["fill"] = say_initial(op.fill)
    arguments = {name: _plain(argument) for name, argument in arguments.items() if argument is not None}
    return {op.name: arguments}


def _plain(argument: object) -> object:
    if isinstance(argument, DType):
        return argument.label
    if isinstance(argument, Mean):
        return {"mean": {"stddev": argument.stddev, "seed": argument.seed}} if argument.stddev else "mean"
    if isinstance(argument, Vocabulary):
        return asdict(argument)
    return list(argument) if isinstance(argument, tuple) else argument


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
    try:
        return make(**arguments)
    except _UnreadableError as error:
        raise RuleError(
            f"{name}: the arguments cannot be read", where, expected=str(error), got=_listed(given)
        ) from error


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _names(name: object, known: Mapping[str, object]) -> dict[str, str]:
    near = get_close_matches(str(name), known, n=1)
    hint = f"Perhaps `{near[0]}` is meant" if near else ""
    return {"expected": f"one of {_listed(known)}", "got": f"`{name}`", "hint": hint}
