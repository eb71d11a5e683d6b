"""A batch normalization folded into the layer before it.

With its moving statistics, a batch normalization multiplies and shifts each channel by numbers that do not depend
on its input: ``(x - mean) * scale + beta`` where ``scale = gamma / sqrt(variance + epsilon)``. After a layer
that is linear they go into that layer's kernel and bias. This holds for inference only: in training the statistics
are those of the batch.

All is computed in float64 and rounded once.

Source: ``BatchNormalization.call`` in keras/src/layers/normalization/batch_normalization.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NoReturn

from ckptmigrate.dtypes import FLOATS, is_finite
from ckptmigrate.errors import IrreversibleError, OperationError
from ckptmigrate.ops.fitting import KEEP, Described, Shape, Specs
from ckptmigrate.spec import TensorSpec


@dataclass(frozen=True, slots=True)
class FoldKernel:
    """The kernel with each output channel times the batch normalization's scale. It comes first in a chain.

    Its sources are, in this order: the kernel; gamma, if there is one; the moving variance.

    Attributes:
        epsilon: What the batch normalization adds to the variance.
        gamma: Whether there is a gamma.
        axis: The kernel's axes of output channels, which follow each other: (-1,) of a dense layer or a
            convolution, (-2,) of a transposed convolution, (-2, -1) of a depthwise one.
    """

    epsilon: float
    gamma: bool = True
    axis: tuple[int, ...] = (-1,)
    name: ClassVar[str] = "fold_kernel"

    def infer(self, specs: Specs) -> Specs:
        """The kernel's spec. Raises OperationError if the sources do not fit each other."""
        _check(self, specs, ("kernel", *(("gamma",) if self.gamma else ()), "variance"), self.epsilon)
        kernel = specs[0]
        start, stop = self.axes(kernel)
        _check_channels(self, specs[1:], (math.prod(kernel.shape[start:stop]),), f"kernel {kernel}")
        return (kernel,)

    def axes(self, kernel: TensorSpec) -> tuple[int, int]:
        """The first of the axes of output channels, and the one after the last.

        Raises:
            OperationError: The kernel has no such axes, or they do not follow each other.
        """
        rank = len(kernel.shape)
        axes = [axis + rank if axis < 0 else axis for axis in self.axis]
        if not axes or axes != list(range(axes[0], axes[0] + len(axes))) or not 0 <= axes[0] <= axes[-1] < rank:
            raise OperationError(
                "no such axes",
                self.describe(),
                expected=f"axes that follow each other, from {-rank} to {rank - 1} (kernel {kernel})",
                got=f"{list(self.axis)} (axis)",
            )
        return axes[0], axes[-1] + 1

    def inverse(self, specs: Specs) -> NoReturn:
        """Never succeeds. Raises IrreversibleError: what was folded in cannot be told from the rest."""
        self.infer(specs)
        raise _folded_in(self)

    def describe(self) -> str:
        """In words, e.g. ``batch normalization folded into the kernel, epsilon 0.001``."""
        return f"batch normalization folded into the kernel, epsilon {self.epsilon}"


@dataclass(frozen=True, slots=True)
class FoldBias:
    """The bias that a layer has with a batch normalization folded into it. It comes first in a chain.

    Its sources are, in this order: the layer's bias, gamma and beta, as far as there are any; the moving mean;
    the moving variance.

    Attributes:
        epsilon: What the batch normalization adds to the variance.
        bias: Whether the layer had a bias.
        gamma: Whether there is a gamma.
        beta: Whether there is a beta.
    """

    epsilon: float
    bias: bool = True
    gamma: bool = True
    beta: bool = True
    name: ClassVar[str] = "fold_bias"

    def infer(self, specs: Specs) -> Specs:
        """The first source's spec. Raises OperationError if the sources do not fit each other."""
        given = {"bias": self.bias, "gamma": self.gamma, "beta": self.beta, "mean": True, "variance": True}
        _check(self, specs, tuple(role for role, there in given.items() if there), self.epsilon)
        _check_channels(self, specs, specs[-1].shape, f"variance {specs[-1]}")
        return (specs[0],)

    def inverse(self, specs: Specs) -> NoReturn:
        """Never succeeds. Raises IrreversibleError: what was folded in cannot be told from the rest."""
        self.infer(specs)
        raise _folded_in(self)

    def describe(self) -> str:
        """In words, e.g. ``batch normalization folded into the bias, epsilon 0.001``."""
        return f"batch normalization folded into the bias, epsilon {self.epsilon}"


def _check(op: Described, specs: Specs, roles: tuple[str, ...], epsilon: float) -> None:
    shown = ", ".join(map(str, specs)) or "none"
    if len(specs) != len(roles):
        raise OperationError("wrong number of tensors", op.describe(), expected=", ".join(roles), got=shown)
    if any(spec.dtype not in FLOATS for spec in specs):
        raise OperationError("only floats can be folded", op.describe(), expected="floats", got=shown)
    if not is_finite(epsilon) or epsilon < 0:
        raise OperationError("no epsilon", op.describe(), expected="a finite number from 0", got=f"{epsilon} (epsilon)")


def _check_channels(op: Described, vectors: Specs, shape: Shape, origin: str) -> None:
    for vector in vectors:
        if vector.shape != shape or len(shape) != 1:
            raise OperationError(
                "the channels differ",
                op.describe(),
                expected=f"vectors of {math.prod(shape)} ({origin})",
                got=str(vector),
                hint="Is `axis` the kernel's axis of output channels?",
            )


def _folded_in(op: Described) -> IrreversibleError:
    return IrreversibleError("what was folded in cannot be told from the rest", op.describe(), hint=KEEP)
