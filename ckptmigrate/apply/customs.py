"""Functions that people wrote, called on whole tensors."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckptmigrate.apply.boxes import Box, Shape, Source
from ckptmigrate.apply.elements import element_dtype
from ckptmigrate.errors import OperationError
from ckptmigrate.ops import Custom
from ckptmigrate.spec import TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt


def call_custom(op: Custom, arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """What a function makes of whole tensors.

    Args:
        op: The operation, with its result declared.
        arrays: The sources. The function gets copies, so that it cannot change them.

    Returns:
        An array of the declared shape and dtype.

    Raises:
        OperationError: The function is not there, raises, or returns something else than declared.
    """
    import numpy as np

    function = _load(op)
    try:
        result = np.asarray(function(*(array.copy() for array in arrays)))
    except Exception as error:
        raise OperationError(
            "the function raised",
            op.describe(),
            expected="an array",
            got=f"{type(error).__name__}: {' '.join(str(error).split())}{_place(error)}",
            hint="Call it in Python on the source's arrays to see more",
        ) from error
    assert op.shape is not None  # noqa: S101  # a plan holds nothing open
    assert op.dtype is not None  # noqa: S101
    spec = TensorSpec(op.dtype, op.shape)
    if result.shape != spec.shape or result.dtype != element_dtype(spec.dtype):
        raise OperationError(
            "the function returned something else than declared",
            op.describe(),
            expected=f"{spec} (declared)",
            got=f"{result.dtype}{list(result.shape)} (returned)",
            hint="Mend the function, or what the rule declares",
        )
    return np.ascontiguousarray(result).reshape(spec.shape)


def _load(op: Custom) -> Callable[..., Any]:
    module_name, _, name = op.function.rpartition(":")
    # What a person runs from a directory is importable from it, as with `python -m`.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        raise OperationError(
            "the function cannot be loaded",
            op.describe(),
            expected=f"`{name}` in the module `{module_name}`",
            got=f"{type(error).__name__}: {error}",
            hint="Run from the directory that has it, or install it",
        ) from error
    if not callable(function):
        raise OperationError("not a function", op.describe(), expected="a function", got=type(function).__name__)
    return function  # type: ignore[no-any-return]  # callable() says it


def _place(error: BaseException) -> str:
    """The last line of the user's own code in a traceback, in parentheses."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120  # only compared
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((ours, "<frozen")) and "site-packages" not in frame.filename
    ]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


class Whole:
    """What a function makes of sources, read whole and kept: the first read calls it."""

    __slots__ = ("_made", "op", "sources", "spec")

    def __init__(self, op: Custom, sources: Sequence[Source]) -> None:
        self.op, self.sources = op, sources
        (self.spec,) = op.infer(tuple(source.spec for source in sources))
        self._made: npt.NDArray[Any] | None = None

    def read_box(self, box: Box, shape: Shape) -> npt.NDArray[Any]:
        if self._made is None:
            self._made = call_custom(self.op, [_read_whole(source) for source in self.sources])
        return self._made.reshape(shape)[tuple(slice(start, stop) for start, stop in box)]


def _read_whole(source: Source) -> npt.NDArray[Any]:
    shape = source.spec.shape
    return source.read_box(tuple((0, size) for size in shape), shape)
