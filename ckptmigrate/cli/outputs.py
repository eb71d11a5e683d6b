"""What commands print and write, and how they show that they go on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ckptmigrate.errors import NotACheckpointError, OutputError

if TYPE_CHECKING:
    from ckptmigrate.bundle import Bundle

_PATIENCE_S = 2.0
"""What takes longer shows that it goes on."""

_LINES_S = 0.5
"""How often a program is told how far it is."""


def print_json(data: object) -> None:
    """Print a value for programs."""
    import msgspec

    try:
        text = msgspec.json.format(msgspec.json.encode(data), indent=1).decode()
    except UnicodeEncodeError as error:
        raise NotACheckpointError(
            "a key is not UTF-8 text, and JSON holds no other", repr(error.object), hint="Leave out --json"
        ) from error
    click.echo(text)


def print_lines(items: Iterable[object]) -> None:
    """Print lines of rich markup, trees and tables for people."""
    from rich.console import Console

    # A pipe has no width: what reads it wants whole lines.
    console = Console(highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else 10_000)
    for item in items:
        console.print(item)


def warn(warnings: Iterable[str]) -> None:
    """Say on stderr what is not an error."""
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


def tell(notes: Iterable[str], told: set[str]) -> None:
    """Say notes on stderr, each once."""
    for note in notes:
        if note not in told:
            click.echo(note, err=True)
            told.add(note)


def write_file(path: str, data: bytes) -> None:
    """Write a file as a whole: a reader finds the old one or the new one."""
    place = Path(path)
    partial = place.parent / f".{place.name}.{os.getpid()}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(place)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError("cannot be written", path, got=str(error.strerror), hint="Choose another place") from error


def refuse_to_replace_file(path: str) -> None:
    """A plan replaces an earlier plan, and no other file: not the rules, a program, or a checkpoint's."""
    place = Path(path)
    # Of a place that cannot even be looked at, writing tells what is wrong. pathlib would raise here.
    if os.path.isdir(place):  # noqa: PTH112
        raise OutputError("a directory, not a file", path, hint=f"Write for example `{place / 'plan.json'}`")
    if not os.path.exists(place):  # noqa: PTH110
        return
    head = b""
    if place.is_file():
        with suppress(OSError), place.open("rb") as file:
            head = file.read(100)
    if not (b'"schema"' in head and b"ckptmigrate.plan" in head):
        raise OutputError("the file exists and is not a plan", path, hint="Name another place for the plan")


def check_output(path: str, is_ours: Callable[[bytes], bool], what: str, sources: Iterable[Path] = ()) -> None:
    """Refuse a place whose file is no earlier one of ours, or is source that is read; write nothing.

    Args:
        path: The place.
        is_ours: Whether the bytes of a file are such that it may be replaced.
        what: What is written there, for messages.
        sources: Files that are never replaced.
    """
    hint = f"Name another place for {what}"
    # pathlib would raise of a place that cannot even be looked at.
    if os.path.isdir(path):  # noqa: PTH112
        raise OutputError("a directory, not a file", path, hint=hint)
    if not os.path.isdir(os.path.dirname(path) or "."):  # noqa: PTH112, PTH120
        raise OutputError("no such directory", os.path.dirname(path), hint=f"Make it, or {hint[0].lower()}{hint[1:]}")  # noqa: PTH120
    if not os.path.lexists(path):
        return
    if os.path.realpath(path) in {os.path.realpath(each) for each in sources}:
        raise OutputError("a file of the source that is read", path, hint=hint)
    data = b""
    if os.path.isfile(path):  # noqa: PTH113
        with suppress(OSError):
            data = Path(path).read_bytes()
    if not is_ours(data):
        raise OutputError(f"the file exists and is not one of {what}", path, hint=hint)


def refuse_to_replace_bundle(prefix: str, bundle: Bundle) -> None:
    """A checkpoint that is read is never written to, not even by a template that comes to have its name."""
    from ckptmigrate.bundle import index_path

    if os.path.realpath(index_path(prefix)) == os.path.realpath(index_path(bundle.prefix)):
        raise OutputError("the template would replace the source", prefix, hint="Name another place for the plan")


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Keep what a model's code prints, or what it runs, apart from results, which a program may read."""
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def patience(what: str) -> Iterator[None]:
    """Say what is going on where the amount of work is not known, on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True, emoji=False).status(what):
        yield


@contextmanager
def progress(what: str, shows: Literal["auto", "json", "none"] = "auto") -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes on a terminal, for what takes longer than people wait in silence; or lines for a program."""
    if shows == "json":
        yield _progress_lines(what)
        return
    if shows == "none":
        yield lambda _done, _total: None
        return

    def columns() -> list[Any]:
        from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

        return [BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn()]

    with _bar(what, columns) as on_progress:
        yield on_progress


def _progress_lines(what: str) -> Callable[[int, int], None]:
    """Write on stderr how far it is, as a line of JSON, now and then and at the end."""
    import msgspec

    started = last = time.monotonic()

    def on_progress(done_bytes: int, total_bytes: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _LINES_S and done_bytes < total_bytes:
            return
        last = now
        rate = done_bytes / max(now - started, 1e-6)
        left_s = (total_bytes - done_bytes) / rate if rate else None
        facts = {
            "doing": what,
            "done_bytes": done_bytes,
            "total_bytes": total_bytes,
            "bytes_per_s": round(rate),
            "left_s": None if left_s is None else round(left_s, 1),
        }
        click.echo(msgspec.json.encode(facts).decode(), err=True)

    return on_progress


@contextmanager
def count_progress(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of things that are counted, as `progress` is of bytes."""

    def columns() -> list[Any]:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

        return [BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn()]

    with _bar(what, columns) as on_progress:
        yield on_progress


@contextmanager
def _bar(what: str, columns: Callable[[], list[Any]]) -> Iterator[Callable[[int, int], None]]:
    started = time.monotonic()
    bar: Any = None
    task: Any = None

    def on_progress(done: int, total: int) -> None:
        nonlocal bar, task
        if bar is None:
            if time.monotonic() - started < _PATIENCE_S or not sys.stderr.isatty():
                return
            from rich.console import Console
            from rich.progress import Progress

            bar = Progress(what, *columns(), console=Console(stderr=True, emoji=False), transient=True)
            bar.start()
            task = bar.add_task(what, total=total)
        bar.update(task, completed=done, total=total)

    try:
        yield on_progress
    finally:
        if bar is not None:
            bar.stop()
