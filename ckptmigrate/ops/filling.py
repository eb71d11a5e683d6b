"""Values that come from nowhere in the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NoReturn

from ckptmigrate.dtypes import holds
from ckptmigrate.errors import IrreversibleError, OperationError
from ckptmigrate.ops.fitting import Specs, only


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
        template = only(self, specs)
        if self.value != "template" and not holds(template.dtype, self.value):
            raise OperationError(
                "the dtype does not hold the initial value",
                self.describe(),
                expected=f"a value of {template.dtype.label} (template {template})",
                got=f"{self.value} (with)",
            )
        return (template,)

    def inverse(self, specs: Specs) -> NoReturn:
        """Never succeeds. Raises IrreversibleError: an initial value has no source."""
        self.infer(specs)
        raise IrreversibleError(
            "an initial value has no source to lead back to",
            self.describe(),
            hint="Drop the tensor on the way back",
        )

    def describe(self) -> str:
        """In words, e.g. ``initial value: zeros``."""
        return f"initial value: {say_initial(self.value)}"


def say_initial(value: Literal["template"] | float) -> str | float:
    if isinstance(value, str) or value not in (0, 1) or str(value).startswith("-"):
        return value
    return "ones" if value else "zeros"
