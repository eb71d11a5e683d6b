"""The blocks of an LSTM's or a GRU's gates in another order.

A recurrent layer keeps the weights of all its gates in one kernel (and one bias), a block for each, and
implementations differ in the order of the blocks. A letter stands for each: ``i`` input, ``f`` forget, ``c``
candidate (also called cell, ``j`` or ``g``) and ``o`` output of an LSTM; ``z`` update (also called ``u``), ``r``
reset and ``h`` candidate of a GRU.

Source: keras/src/layers/rnn/lstm.py and gru.py; ``BasicLSTMCell``, ``LSTMCell`` and ``GRUCell`` in
tf_keras/src/layers/rnn/legacy_cells.py; the kernels of ``LSTMBlockCell`` and ``BlockLSTM``, which compute
``icfo`` (their documentation in TensorFlow 2.21 says otherwise); ``gpu_gru`` in tf_keras/src/layers/rnn/gru.py
and the order of linear layers in the documentation of ``cudnnGetRNNWeightParams``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ckptmigrate.dtypes import FLOATS, arithmetic_dtype, holds
from ckptmigrate.errors import IrreversibleError, OperationError
from ckptmigrate.ops.fitting import KEEP, Specs, axis_of, only
from ckptmigrate.spec import TensorSpec

GATE_ORDERS = {
    "keras_lstm": "ifco",
    "cudnn_lstm": "ifco",
    "tf1_lstm": "icfo",
    "keras_gru": "zrh",
    "cudnn_gru": "rzh",
    "tf1_gru": "rz",
}
"""The orders that have a name. The last is that of ``GRUCell``'s `gates`, whose candidate is a variable of its own."""

_FORGET = "f"


@dataclass(frozen=True, slots=True)
class Gates:
    """Put the blocks of gates along an axis into another order.

    Attributes:
        axis: The axis; a negative one counts from the end.
        source: The order that there is: a different letter for each block, all of one size.
        target: The order that is wanted, with the same letters.
        forget_bias: What is added to the block ``f`` of a bias. The cells of TensorFlow 1 add it to the gate
            each time they run (1.0 if nothing else was said, and 0 where they stand in for cuDNN), Keras never.
            None for nothing. The optimizer's slots do not get it.
    """

    axis: int
    source: str
    target: str
    forget_bias: float | None = None
    name: ClassVar[str] = "gates"

    def infer(self, specs: Specs) -> Specs:
        """The source's spec. Raises OperationError if the orders do not fit each other or the axis."""
        source = only(self, specs)
        axis = axis_of(self, source, self.axis)
        if len({*self.source}) < len(self.source) or sorted(self.source) != sorted(self.target) or not self.source:
            raise OperationError(
                "no two orders of the same gates",
                self.describe(),
                expected="the same letters on both sides, each once",
                got=f"{self.source} (source), {self.target} (target)",
            )
        if source.shape[axis] % len(self.source):
            raise OperationError(
                "the axis does not split into gates",
                self.describe(),
                expected=f"a multiple of {len(self.source)} ({self.source})",
                got=f"{source.shape[axis]} (axis {self.axis} of source {source})",
            )
        if self.forget_bias is not None:
            self._check_forget_bias(source, self.forget_bias)
        return (source,)

    def _check_forget_bias(self, source: TensorSpec, value: float) -> None:
        if _FORGET not in self.source or len(source.shape) != 1:
            raise OperationError(
                "no bias of a forget gate",
                self.describe(),
                expected=f"a vector with a block `{_FORGET}`",
                got=f"{source} (source), {self.source}",
                hint="Kernels get no `forget_bias`: write a rule for each",
            )
        if source.dtype not in FLOATS or not holds(arithmetic_dtype(source.dtype), value):
            raise OperationError(
                "the forget bias does not fit the dtype",
                self.describe(),
                expected=f"a number that {source.dtype.label} holds (source {source})",
                got=f"{value} (forget_bias)",
            )

    @property
    def is_identity(self) -> bool:
        """Whether it leaves all as it is."""
        return self.source == self.target and not self.forget_bias

    def inverse(self, specs: Specs) -> Gates:
        """The order that there was. Raises IrreversibleError if something was added."""
        (source,) = self.infer(specs)
        if self.forget_bias:
            raise IrreversibleError(
                f"{source.dtype.label} rounds the sum with the forget bias, so subtracting does not give it back",
                self.describe(),
                hint=KEEP,
            )
        return Gates(self.axis, self.target, self.source)

    def describe(self) -> str:
        """In words, e.g. ``gates icfo to ifco along axis -1``."""
        added = f", forget bias {self.forget_bias} added" if self.forget_bias else ""
        return f"gates {self.source} to {self.target} along axis {self.axis}{added}"
