"""The vocabulary: dtypes, tensor specs, keys, paths, and patterns over paths.

Nothing here reads a file or knows a model. Everything is frozen and hashable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NewType

from ckptmigrate.errors import PathError

Key = NewType("Key", str)
"""A tensor's name in a bundle, e.g. ``model/w/.ATTRIBUTES/VARIABLE_VALUE``.

Keys are bytes on disk. They are decoded as UTF-8 with ``surrogateescape``, so any bytes survive.
"""

OBJECT_GRAPH_KEY = Key("_CHECKPOINTABLE_OBJECT_GRAPH")
"""The key of the serialized ``TrackableObjectGraph``.

Source: ``OBJECT_GRAPH_PROTO_KEY`` in tensorflow/python/trackable/base.py.
"""


class DType(IntEnum):
    """TensorFlow's element types, by their number in ``DataType``.

    Source: tensorflow/core/framework/types.proto.
    """

    FLOAT32 = 1
    FLOAT64 = 2
    INT32 = 3
    UINT8 = 4
    INT16 = 5
    INT8 = 6
    STRING = 7
    COMPLEX64 = 8
    INT64 = 9
    BOOL = 10
    QINT8 = 11
    QUINT8 = 12
    QINT32 = 13
    BFLOAT16 = 14
    QINT16 = 15
    QUINT16 = 16
    UINT16 = 17
    COMPLEX128 = 18
    FLOAT16 = 19
    RESOURCE = 20
    VARIANT = 21
    UINT32 = 22
    UINT64 = 23
    FLOAT8_E5M2 = 24
    FLOAT8_E4M3FN = 25
    FLOAT8_E4M3FNUZ = 26
    FLOAT8_E4M3B11FNUZ = 27
    FLOAT8_E5M2FNUZ = 28
    INT4 = 29
    UINT4 = 30
    INT2 = 31
    UINT2 = 32
    FLOAT4_E2M1FN = 33

    # That of an enum is its name's, and computed anew each time; specs are looked up a million times.
    __hash__ = int.__hash__

    @property
    def label(self) -> str:
        """The name that people and TensorFlow use, e.g. ``float32``."""
        return self.name.lower()

    @property
    def itemsize_bytes(self) -> int | None:
        """Bytes of one element on disk; None where elements have no fixed size.

        Types narrower than a byte (int4, uint4, int2, uint2, float4) take one byte each.
        Source: ``DataTypeSize`` in tensorflow/core/framework/types.cc.
        """
        return _ITEMSIZE_BYTES.get(self)

    @property
    def numpy_name(self) -> str | None:
        """The name of the numpy (or ml_dtypes) type with the same bytes; None if there is none.

        Quantized types have the bytes of the integer type they are stored in.
        """
        if self.itemsize_bytes is None:
            return None
        return self.label.removeprefix("q") if self.name.startswith("Q") else self.label

    @classmethod
    def from_label(cls, label: str) -> DType:
        """The dtype that a person names: ``float32``, ``half``, ``bfloat16``.

        Raises:
            PathError: No dtype has this name.
        """
        name = _ALIASES.get(label.lower(), label).upper()
        try:
            return cls[name]
        except KeyError:
            known = ", ".join(dtype.label for dtype in cls)
            raise PathError("unknown dtype", label, expected=f"one of {known}") from None


_ALIASES = {"half": "float16", "float": "float32", "double": "float64"}

_ITEMSIZE_BYTES = {
    **dict.fromkeys((DType.UINT8, DType.INT8, DType.BOOL, DType.QINT8, DType.QUINT8), 1),
    **dict.fromkeys((DType.INT4, DType.UINT4, DType.INT2, DType.UINT2, DType.FLOAT4_E2M1FN), 1),
    **dict.fromkeys((DType.FLOAT8_E5M2, DType.FLOAT8_E4M3FN, DType.FLOAT8_E4M3FNUZ), 1),
    **dict.fromkeys((DType.FLOAT8_E4M3B11FNUZ, DType.FLOAT8_E5M2FNUZ), 1),
    **dict.fromkeys((DType.INT16, DType.UINT16, DType.QINT16, DType.QUINT16), 2),
    **dict.fromkeys((DType.FLOAT16, DType.BFLOAT16), 2),
    **dict.fromkeys((DType.FLOAT32, DType.INT32, DType.UINT32, DType.QINT32), 4),
    **dict.fromkeys((DType.FLOAT64, DType.INT64, DType.UINT64, DType.COMPLEX64), 8),
    DType.COMPLEX128: 16,
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What is known of a tensor without its values: its dtype and its shape (sizes in elements)."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int | None:
        """Bytes of the values; None where elements have no fixed size."""
        itemsize = self.dtype.itemsize_bytes
        return None if itemsize is None else itemsize * self.num_elements

    def __str__(self) -> str:
        return f"{self.dtype.label}[{', '.join(map(str, self.shape))}]"


_GROWING = ("-keys", "-values", "_STATE")
"""How the keys of tensors end that are as long as what they hold: those of lookup tables and iterators.

Source: ``_serialize_to_tensors`` in tensorflow/python/ops/lookup_ops.py and data/ops/iterator_ops.py.
"""


def fits(key: Key, spec: TensorSpec, wanted: TensorSpec) -> bool:
    """Whether a tensor can be stored under a target's key as it is.

    It has to be what the template has. Only a lookup table and an iterator's state may be longer or shorter: they
    are as long as what they hold, and fresh ones are empty.

    Args:
        key: The target's key.
        spec: What the tensor is.
        wanted: What the template has under the key.
    """
    if spec == wanted:
        return True
    grows = key.endswith(_GROWING) and ".ATTRIBUTES/" in key and 0 < len(spec.shape) == len(wanted.shape)
    return grows and (spec.dtype, spec.shape[1:]) == (wanted.dtype, wanted.shape[1:])


def escape_segment(label: str) -> str:
    """An edge's label as one segment of a path: ``a/b`` becomes ``a.Sb``, ``.`` becomes ``..``.

    Source: ``_escape_local_name`` in tensorflow/python/checkpoint/graph_view.py.
    """
    return label.replace(".", "..").replace("/", ".S")


def unescape_segment(segment: str) -> str:
    """The inverse of `escape_segment`; an unpaired ``.`` stands for itself."""
    return re.sub(r"\.(\.|S)", lambda match: "." if match[1] == "." else "/", segment)


Path = tuple[str, ...]
"""A walk of edge labels from the root to a node. Labels are as in the graph, not escaped."""


_ESCAPED = re.compile(r"[*{}.\\]")
"""What is written otherwise in a path than in a label, but for ``/``."""


def format_path(path: Path) -> str:
    """A path as people write it, in a rule too, e.g. ``model/encoder/w``; the root is ``.``."""
    text = "/".join(path)
    if path and text.count("/") == len(path) - 1 and not _ESCAPED.search(text):  # most
        return text
    return "/".join(re.sub(r"[*{}\\]", r"\\\g<0>", escape_segment(label)) for label in path) or "."


# A hole in a segment: * or {name} or {name:int} on the left, {name} or {name+1} on the right.
_HOLE = re.compile(r"(?P<star>\*)|\{(?P<name>[A-Za-z_]\w*)(?P<type>:int)?(?P<shift>[+-]\d+)?\}")
_NUMBER = "0|[1-9][0-9]*"


@dataclass(frozen=True, slots=True)
class Hole:
    """The part of a segment that is not literal.

    Attributes:
        name: What the captured text is called; ``*0``, ``*1``, ... for the stars of a pattern, in order.
        is_int: The text is a number in decimal digits.
        shift: What is added to the number when the text is put back.
    """

    name: str
    is_int: bool = False
    shift: int = 0


Captures = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Segment:
    """One step of a pattern: literal text and holes, matched against a whole edge label."""

    text: str
    parts: tuple[str | Hole, ...]

    @property
    def literal(self) -> str | None:
        """The label, if the segment has no holes."""
        return "".join(part for part in self.parts if isinstance(part, str)) if not self.holes else None

    @property
    def holes(self) -> tuple[Hole, ...]:
        return tuple(part for part in self.parts if isinstance(part, Hole))

    def match(self, label: str, captures: Captures) -> dict[str, str] | None:
        """The captures that this label adds, or None if it does not match.

        A name that is captured already has to be captured again with the same text.
        """
        expression = "".join(
            re.escape(part) if isinstance(part, str) else f"({_NUMBER if part.is_int else '.+'})" for part in self.parts
        )
        found = re.fullmatch(expression, label, re.DOTALL)
        if found is None:
            return None
        added: dict[str, str] = {}
        for hole, value in zip(self.holes, found.groups(), strict=True):
            if added.get(hole.name, captures.get(hole.name, value)) != value:
                return None
            added[hole.name] = value
        return added

    def fill(self, captures: Captures) -> str | None:
        """The label with its holes filled; None if a shift leads below zero or off the numbers."""
        filled: list[str] = []
        for part in self.parts:
            if isinstance(part, str):
                filled.append(part)
            elif not part.shift:
                filled.append(captures[part.name])
            elif re.fullmatch(_NUMBER, captures[part.name]) and int(captures[part.name]) + part.shift >= 0:
                filled.append(str(int(captures[part.name]) + part.shift))
            else:
                return None
        return "".join(filled)


@dataclass(frozen=True, slots=True)
class Pattern:
    r"""A set of paths, anchored at the root.

    ``*`` is one segment (or part of one), ``**`` any number of them, ``{name}`` captures a segment
    (or part of one), ``{n:int}`` a number. A pattern that begins with ``name:`` is matched against
    variables' full names instead of their paths. A literal ``*``, ``{`` or ``\`` is written with a
    ``\`` before it.

    Attributes:
        text: The pattern as written.
        chunks: The segments between the ``**``; n times ``**`` makes n + 1 chunks.
        by_name: Whether full names are matched and not paths.
    """

    text: str
    chunks: tuple[tuple[Segment, ...], ...]
    by_name: bool = False

    @property
    def holes(self) -> tuple[Hole, ...]:
        return tuple(hole for chunk in self.chunks for segment in chunk for hole in segment.holes)

    @property
    def literal(self) -> Path | None:
        """The one path that matches, if the pattern has no holes."""
        if len(self.chunks) > 1:
            return None
        labels = [segment.literal for segment in self.chunks[0]]
        return None if None in labels else tuple(label for label in labels if label is not None)

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a pattern.

        Raises:
            PathError: An empty segment, a brace that does not close, or ``**`` beside other text.
        """
        by_name = text.startswith("name:")
        body = text.removeprefix("name:")
        if body in ("", "."):
            if by_name:
                raise PathError("empty pattern", text, hint="Write a full name after `name:`")
            return cls(text, ((),))
        chunks: list[list[Segment]] = [[]]
        stars = 0
        for piece in body.split("/"):
            if piece == "**":
                chunks.append([])
                continue
            if not piece:
                raise PathError(
                    "empty segment", text, hint="Remove the extra `/`; a `/` inside a label is written `.S`"
                )
            segment, stars = _parse_segment(piece, text, stars)
            chunks[-1].append(segment)
        return cls(text, tuple(map(tuple, chunks)), by_name)


def _parse_segment(piece: str, pattern: str, stars: int) -> tuple[Segment, int]:
    parts: list[str | Hole] = []
    literal = ""
    position = 0
    while position < len(piece):
        character = piece[position]
        if character == "\\" and position + 1 < len(piece):
            literal += piece[position + 1]
            position += 2
            continue
        if character not in "*{}":
            literal += character
            position += 1
            continue
        hole = _HOLE.match(piece, position)
        if hole is None or piece.startswith("**", position):
            raise PathError(
                "unreadable segment",
                pattern,
                expected="`*`, `**` alone, `{name}`, `{name:int}` or `{name+1}`",
                got=f"`{piece}`",
                hint="Write a literal brace or star with a backslash before it",
            )
        if literal:
            parts.append(unescape_segment(literal))
            literal = ""
        if hole["star"]:
            parts.append(Hole(f"*{stars}"))
            stars += 1
        else:
            parts.append(Hole(hole["name"], bool(hole["type"]), int(hole["shift"] or 0)))
        position = hole.end()
    if literal:
        parts.append(unescape_segment(literal))
    return Segment(piece, tuple(parts)), stars
