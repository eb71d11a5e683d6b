"""What full names say of the order of variables: much where people gave them, little where Keras numbered them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile

from ckptmigrate.graph import VARIABLE_ROLE, ObjectGraph

Name = tuple[str, ...]
"""The segments of a full name."""

_AUTOMATIC = frozenset(
    """
    activation add additive_attention attention average batch_norm batch_normalization bidirectional concatenate
    conv1d conv1d_transpose conv2d conv2d_transpose conv3d conv3d_transpose conv_lstm1d conv_lstm2d conv_lstm3d
    dense depthwise_conv1d depthwise_conv2d dropout einsum_dense embedding flatten functional group_normalization
    group_query_attention gru gru_cell input input_layer layer_norm layer_normalization linear locally_connected1d
    locally_connected2d lstm lstm_cell mlp model multi_head_attention normalization p_re_lu prelu re_lu reshape
    rms_normalization rnn separable_conv1d separable_conv2d sequential simple_rnn simple_rnn_cell
    spectral_normalization stacked_rnn_cells time_distributed unit_normalization variable Variable ShardedVariable
    BatchNorm Conv Conv2d_transpose GroupNorm InstanceNorm LayerNorm SeparableConv2d basic_lstm_cell basic_rnn_cell
    fully_connected
    """.split()  # noqa: SIM905  # a list of this many strings is no easier to read
)
"""Names that nobody gave: those of the layers of Keras, Sonnet and TF-Slim, and TensorFlow's of a variable.

Behind them ``_7`` says only that six others were built before, in the same process.
"""


INNER = frozenset(
    """
    _query_dense _key_dense _value_dense _output_dense query key value attention_output cell forward_layer
    backward_layer layer
    """.split()  # noqa: SIM905  # a list of this many strings is no easier to read
)
"""What Keras' own layers call the layers that they hold: the same in all of them, so they name nothing.

Source: ``MultiHeadAttention``, ``RNN``, ``Bidirectional`` and ``Wrapper`` in keras/src/layers.
"""


_NUMBER_BEHIND = re.compile(r"_\d+$")


def is_automatic(segment: str) -> bool:
    """Whether a segment is a framework's name for something nobody named."""
    return _stem(segment) in _AUTOMATIC


def is_given(name: Name) -> bool:
    """Whether somebody gave a part of a name: a framework's names and indices are nobody's."""
    return not all(is_automatic(segment) or segment.isdecimal() for segment in name)


def are_given(names: Collection[str]) -> bool:
    """Whether people gave the names of several layers."""
    return len(given_among(names)) == len(names)


def given_among(names: Iterable[str]) -> list[str]:
    """Those names of layers that people gave: what Keras' own layers call those that they hold is nobody's."""
    return [
        name
        for name in names
        if not is_automatic(next((part for part in reversed(name.split("/")) if part not in INNER), ""))
    ]


def counted_names(names: Iterable[str]) -> frozenset[str]:
    """The names that differ in nothing but numbers that nobody gave.

    Keras counts classes of one's own as it counts its: where there is a `tower` and a `tower_1`, both are nobody's.
    """
    split = [name.split("/") for name in dict.fromkeys(names)]
    scopes = {tuple(segments[:end]) for segments in split for end in range(1, len(segments) + 1)}
    plain: dict[tuple[str, ...], list[str]] = {}
    for segments in split:
        shared = tuple(
            _stem(segment) if is_automatic(segment) or (*segments[:at], _stem(segment)) in scopes else segment
            for at, segment in enumerate(segments)
        )
        plain.setdefault(shared, []).append("/".join(segments))
    return frozenset(name for several in plain.values() if len(several) > 1 for name in several)


def counted_segments(graph: ObjectGraph) -> frozenset[str]:
    """The segments of full names that may be positions: with a number in them, and those that others have with one."""
    segments = {segment for node in graph.nodes if node.full_name for segment in node.full_name.split("/")}
    counted = {segment for segment in segments if is_automatic(segment) or any(map(str.isdigit, segment))}
    return frozenset(counted | {re.sub(r"_?\d+", "", segment) for segment in counted})


def _stem(segment: str) -> str:
    return _NUMBER_BEHIND.sub("", segment) if segment[-1:].isdecimal() else segment


def item_names(graph: ObjectGraph, items: Sequence[int]) -> list[Name]:
    """For each item of a list, what its first variable's full name says beyond what all of them say.

    A variable's own last segment is its role in the item (``kernel``), unless the item is the variable.
    """
    names = []
    for item in items:
        segments = tuple(_first_name(graph, item).split("/"))
        names.append(segments if VARIABLE_ROLE in graph.nodes[item].tensors else segments[:-1])
    shared = _shared(names)
    return [name[shared:] for name in names]


def scope_names(graph: ObjectGraph, items: Sequence[int]) -> list[Name]:
    """For each item of a list, what all its variables' full names begin with, beyond what those of all items do.

    An item's first variable may be another one now; what it was called as a whole is still what it is called.
    """
    names = []
    for item in items:
        below = {
            graph.nodes[graph.node_of[key]].full_name for key in graph.keys_below(item) if key not in graph.slot_owner
        }
        first, last = (tuple(name.split("/")[:-1]) for name in (min(below, default=""), max(below, default="")))
        names.append(first[: _shared([first, last])])
    shared = _shared(names)
    return [name[shared:] for name in names]


def _shared(texts: Sequence[str] | Sequence[Name]) -> int:
    """How many segments, or characters, all of several begin with."""
    if len(texts) < 2:  # one is not several
        return 0
    # What the first and the last in order begin with, all between them begin with.
    first, last = min(texts), max(texts)
    columns = zip(first, last, strict=False)
    return sum(1 for _ in takewhile(lambda column: column[0] == column[1], columns))


def _first_name(graph: ObjectGraph, number: int) -> str:
    """The full name of the first variable at or below a node."""
    stack = [number]
    while stack:
        current = stack.pop()
        node = graph.nodes[current]
        if VARIABLE_ROLE in node.tensors:
            return node.full_name
        stack.extend(reversed([*graph.tree_children(current).values()]))
    return ""


def moved(left: Sequence[Name], right: Sequence[Name]) -> tuple[int, int] | None:
    """The first item whose name stands elsewhere on the other side: its position here and there.

    Numbers that a framework gave shift as a whole when a model is built after another; they count only if
    the very same names stand in another order.
    """
    left_counts, right_counts = Counter(left), Counter(right)
    right_at = {name: number for number, name in enumerate(right)}
    permuted = left_counts == right_counts
    for number, name in enumerate(left):
        if not name or left_counts[name] != 1 or right_counts[name] != 1 or right_at[name] == number:
            continue
        if permuted or not all(map(is_automatic, name)):
            return number, right_at[name]
    return None


def are_renamed(old: Name, new: Name) -> bool:
    """Whether two names differ in more than their numbers."""
    return bool(old and new) and tuple(map(_stem, old)) != tuple(map(_stem, new))


def same_layer(old: str, new: str) -> bool:
    """Whether two variables' full names may be those of one layer, in two frameworks.

    Numbers that a framework gave do not count, and ``a/b`` for a name is ``a_b`` where no ``/`` is allowed in one.
    One of them may begin with what holds the layer, or end with what the layer holds, and the other not.
    """
    left, right = (
        "_".join(_stem(part) if is_automatic(part) else part for part in name.split("/")[:-1]) for name in (old, new)
    )
    shorter, longer = sorted((f"_{left}_", f"_{right}_"), key=len)
    return longer.startswith(shorter) or longer.endswith(shorter)


def crossed(source: ObjectGraph, target: ObjectGraph, pairs: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """The pairs of variables whose names say that each is another one's: names that people gave, and swapped."""
    renamed = [
        (s, t, old, new)
        for s, t in pairs.items()
        if (old := source.nodes[s].full_name) != (new := target.nodes[t].full_name) and "/" in old and "/" in new
    ]
    ours, theirs = (_given(target), _given(source)) if renamed else ({}, {})
    for s, t, old, new in renamed:
        if old in ours and new in theirs and theirs.get(old) == s and ours.get(new) == t:
            yield s, t


def _given(graph: ObjectGraph) -> dict[str, int]:
    """The variables by full name, where people gave it and no other has it."""
    held = [
        (node.full_name, number)
        for number, node in enumerate(graph.nodes)
        if VARIABLE_ROLE in node.tensors and "/" in node.full_name and number not in graph.slot_nodes
    ]
    counts = Counter(name for name, _ in held)
    stems = Counter(_stem(segment) for segment in {segment for name, _ in held for segment in name.split("/")[:-1]})
    return {
        name: number
        for name, number in held
        if counts[name] == 1
        and not any(is_automatic(segment) or stems[_stem(segment)] > 1 for segment in name.split("/")[:-1])
    }


def slot_tails(graph: ObjectGraph) -> dict[int, tuple[str, ...]]:
    """What the slots of each variable are called, beyond what all slots of their optimizer are called.

    Keras 3 names a slot after its variable's whole path (``adam/model_enc_kernel_momentum``), where the
    variable itself may only be called ``model/kernel``.
    """
    tails: dict[int, tuple[str, ...]] = {}
    for optimizer in graph.optimizers:
        named = [
            (slot.variable, graph.nodes[slot.node].full_name.partition("/")[2])
            for slot in optimizer.slots
            if slot.variable is not None
        ]
        shared = _shared([name for _, name in named])
        for variable, name in named:
            tails[variable] = (*tails.get(variable, ()), name[shared:])
    return tails
