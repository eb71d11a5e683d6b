"""The order in which Keras lists the layers of a functional model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckptmigrate.codemod.inference.made import Made


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A symbolic tensor: the layer that made it, and what that layer was called on."""

    made: Made
    inputs: tuple[Tensor, ...]


def order_of_layers(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Made]:
    """The layers that lead from inputs to outputs, each once.

    A layer's depth is its longest way to an output. The deepest come first; of one depth, those that a walk from the
    outputs, inputs of a layer in their order, meets first.

    Source: ``map_graph`` in Keras 3 ``src/ops/function.py``; ``_map_graph_network`` in tf_keras
    ``engine/functional.py``.
    """
    met: dict[int, int] = {}
    ordered: list[Tensor] = []
    is_input = {id(tensor) for tensor in inputs}
    seen: set[int] = set()
    # A walk without recursion: models are deeper than Python's stack.
    stack: list[tuple[Tensor, bool]] = [(tensor, False) for tensor in reversed(outputs)]
    while stack:
        tensor, is_done = stack.pop()
        if is_done:
            ordered.append(tensor)
            continue
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        met.setdefault(id(tensor.made), len(met))
        stack.append((tensor, True))
        if id(tensor) not in is_input:
            stack.extend((each, False) for each in reversed(tensor.inputs))
    depth_of: dict[int, int] = {}
    depth_of_layer: dict[int, int] = {}
    layers: dict[int, Made] = {}
    for tensor in reversed(ordered):
        depth = max(depth_of.get(id(tensor), 0), depth_of_layer.get(id(tensor.made), 0))
        depth_of_layer[id(tensor.made)] = depth
        layers[id(tensor.made)] = tensor.made
        for each in tensor.inputs if id(tensor) not in is_input else ():
            depth_of[id(each)] = max(depth + 1, depth_of.get(id(each), 0))
    for tensor in inputs:
        if id(tensor.made) not in depth_of_layer:
            depth_of_layer[id(tensor.made)], layers[id(tensor.made)] = 0, tensor.made
            met.setdefault(id(tensor.made), len(met))
    return sorted(layers.values(), key=lambda made: (-depth_of_layer[id(made)], met[id(made)]))
