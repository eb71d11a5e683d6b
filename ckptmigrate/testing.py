"""For the tests of a project that has checkpoints: this model still restores that checkpoint.

Nothing here needs pytest. With pytest, `assert_restores` is a fixture too, without any import.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ckptmigrate.graph.template import Factory
    from ckptmigrate.verify import Report

_PACKAGE = str(Path(__file__).parent)


def assert_restores(
    model_factory: Factory,
    prefix: str | os.PathLike[str],
    *,
    level: Literal["structure", "restore", "coverage"] = "coverage",
    expect_partial: bool = False,
) -> Report:
    """Build a model, restore a checkpoint into it, and prove that all of it was restored.

    Args:
        model_factory: A function without arguments that returns a ``tf.train.Checkpoint``, a model, or a dict of
            them, as the code that saved the checkpoint had it; or where one is: ``package.module:function``.
        prefix: The checkpoint's prefix, or a directory: its latest checkpoint.
        level: How far the proof goes, as for `ckptmigrate.restore`.
        expect_partial: The checkpoint may hold more than the model asks for.

    Returns:
        What was proven.

    Raises:
        AssertionError: Something was not restored, there is no checkpoint, or the model cannot be built. The message
            says what, why, and what to do.
    """
    __tracebackhide__ = True
    from ckptmigrate.errors import CkptMigrateError, NotACheckpointError, Problems
    from ckptmigrate.graph.template import build_checkpoint
    from ckptmigrate.verify import RestoreError, restore

    if not (callable(model_factory) and not hasattr(model_factory, "weights")) and not isinstance(model_factory, str):
        raise AssertionError(
            f"assert_restores builds the model itself: pass the function that makes it (`build`, not `build()`), "
            f"not a {type(model_factory).__name__}"
        )
    try:
        return restore(build_checkpoint(model_factory), prefix, level=level, expect_partial=expect_partial)
    except RestoreError as error:
        raise AssertionError(str(error)) from None
    except NotACheckpointError as error:
        raise AssertionError(f"{error}\n{_how_to_skip(prefix)}") from None
    except (CkptMigrateError, Problems) as error:
        # What the factory raised is worth its traceback: the mistake is there.
        raise AssertionError(str(error)) from _from_outside(error.__cause__)


def _how_to_skip(prefix: object) -> str:
    if not isinstance(prefix, str | os.PathLike):
        return "A checkpoint that is not there proves nothing."
    return (
        "A checkpoint that is not there proves nothing. Where it may be missing, skip the test by name: "
        f'@pytest.mark.skipif(not os.path.exists("{os.fspath(prefix)}.index"), reason="no checkpoint here")'
    )


def _from_outside(error: BaseException | None) -> BaseException | None:
    """An exception without what of its traceback is in this package."""
    if error is None:
        return None
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        trace = trace.tb_next
    return error.with_traceback(trace) if trace is not None else None
