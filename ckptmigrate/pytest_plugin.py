"""What pytest loads wherever ckptmigrate is installed: one fixture, and nothing imported until a test asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ckptmigrate.verify import Report


@pytest.fixture(scope="session")
def assert_restores() -> Callable[..., Report]:
    """Assert that a model restores a checkpoint, all of it: ``assert_restores(model_factory, prefix)``."""
    from ckptmigrate import testing

    return testing.assert_restores
