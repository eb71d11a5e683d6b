"""The way out: an operation that a person wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ckptmigrate.errors import IrreversibleError, OperationError
from ckptmigrate.ops.fitting import KEEP, Shape, Specs
from ckptmigrate.spec import DType, TensorSpec


@dataclass(frozen=True, slots=True)
class Custom:
    """A function of whole tensors. It comes first in a chain, and it is the only operation that needs them whole.

    The function takes one numpy array for each source and returns one. It is loaded where a plan is applied or
    verified, never while planning, so shape and dtype are declared; what it returns is held against them. As a
    plan names code, apply only plans that you would run.

    Attributes:
        function: Where it is: ``package.module:function``, from the working directory or installed.
        shape: The result's; None as the target has it.
        dtype: The result's; None as the target has it.
        inverse_function: The function that leads back from the result to the one source; None if there is none.
    """

    function: str
    shape: Shape | None = None
    dtype: DType | None = None
    inverse_function: str | None = None
    name: ClassVar[str] = "custom"

    def infer(self, specs: Specs) -> Specs:
        """The declared spec. Raises OperationError if there is no source, or something is not declared."""
        if not specs:
            raise OperationError("wrong number of tensors", self.describe(), expected="at least 1", got="0 (none)")
        if self.shape is None or self.dtype is None or min(self.shape, default=0) < 0:
            raise OperationError(
                "the result is not declared",
                self.describe(),
                expected="its shape and its dtype",
                got=f"{self.shape} (shape), {self.dtype} (dtype)",
            )
        return (TensorSpec(self.dtype, self.shape),)

    def inverse(self, specs: Specs) -> Custom:
        """The function that leads back, if it is named. Raises IrreversibleError if not."""
        self.infer(specs)
        if self.inverse_function is None or len(specs) > 1:
            raise IrreversibleError(
                "nothing says how a function of one's own is undone",
                self.describe(),
                hint=f"Name the function that leads back: `inverse: module:function`. {KEEP}",
            )
        return Custom(self.inverse_function, specs[0].shape, specs[0].dtype, self.function)

    def describe(self) -> str:
        """In words, e.g. ``custom my.layouts:interleave``."""
        return f"custom {self.function}"
