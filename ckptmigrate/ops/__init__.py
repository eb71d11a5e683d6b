"""Tensor operations as values: what they make of a spec, how they are undone, and how they are written.

An operation is data. It proves shapes and dtypes without values (`infer_chain`), and has one external
form, in rule files as in plans (`to_data`, `from_data`). The union is closed: what an operation does to
values is said where it runs, by blocks, and once more where it is verified, on whole tensors.

In a rule an operation may leave a parameter open (None): "as the target has it". `close_chain` fills it
in once the target is known. Nothing else takes an open operation; a plan holds none.
"""

from ckptmigrate.ops.along import Gather, Pad, Part, Repeat, Slice, Tile
from ckptmigrate.ops.chain import Op, close_chain, infer_chain, inverse_chain, needs_template
from ckptmigrate.ops.custom import Custom
from ckptmigrate.ops.elementwise import Add, Cast, Elementwise, Scale
from ckptmigrate.ops.filling import Fill, Filling, Mean, Resize, say_initial
from ckptmigrate.ops.fitting import Shape, Specs
from ckptmigrate.ops.folds import FoldBias, FoldKernel
from ckptmigrate.ops.gates import GATE_ORDERS, Gates
from ckptmigrate.ops.joins import Average, Concat, Stack
from ckptmigrate.ops.shapes import ExpandDims, Reshape, Squeeze, Transpose, inverted_order
from ckptmigrate.ops.vocab import Vocab

__all__ = [
    "GATE_ORDERS",
    "Add",
    "Average",
    "Cast",
    "Concat",
    "Custom",
    "Elementwise",
    "ExpandDims",
    "Fill",
    "Filling",
    "FoldBias",
    "FoldKernel",
    "Gates",
    "Gather",
    "Mean",
    "Op",
    "Pad",
    "Part",
    "Repeat",
    "Reshape",
    "Resize",
    "Scale",
    "Shape",
    "Slice",
    "Specs",
    "Squeeze",
    "Stack",
    "Tile",
    "Transpose",
    "Vocab",
    "close_chain",
    "infer_chain",
    "inverse_chain",
    "inverted_order",
    "needs_template",
    "say_initial",
]
