"""What an apply leaves behind for those who ask later: ``PREFIX.ckptmigrate.json``."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Literal

import msgspec

from ckptmigrate import __version__
from ckptmigrate.bundle import Entry, unmask_crc
from ckptmigrate.errors import PlanError
from ckptmigrate.plan import Endpoint, Plan

SCHEMA = "ckptmigrate.receipt/1"


class ShardReceipt(msgspec.Struct, frozen=True):
    """One data file of the new bundle: its name, its size, and how it came to be."""

    name: str
    size_bytes: int
    how: Literal["reflink", "hard link", "copy", "new"]


class End(msgspec.Struct, frozen=True):
    """A prefix and the fingerprint that it had."""

    prefix: str
    fingerprint: str


class NotFinite(msgspec.Struct, frozen=True):
    """How many elements of a tensor that was computed are no finite numbers."""

    nan: int
    inf: int


class Work(msgspec.Struct, frozen=True):
    """How much a run has moved, in bytes.

    Attributes:
        read_bytes: What was read of data files.
        written_bytes: What was written to data files.
        linked_bytes: The data files that were linked.
        kept_bytes: What an earlier run, which was killed, had written and was found to be there.
    """

    read_bytes: int = 0
    written_bytes: int = 0
    linked_bytes: int = 0
    kept_bytes: int = 0


class Receipt(msgspec.Struct, frozen=True):
    """What was written, from what, by which plan.

    Attributes:
        tool_version: The version of ckptmigrate.
        plan_digest: ``sha256:...`` of the plan's JSON.
        source: The source, with its fingerprint when it was read.
        target: The target, likewise.
        written_at: When, in UTC, to the second, as ISO 8601.
        shards: The data files, in order.
        tensors: ``crc32c:...`` of each tensor's stored bytes, by key.
        not_finite: Of the tensors that were computed, those with NaN or infinity, by key.
        work: How much was moved.
        schema: The receipt's format.
    """

    tool_version: str
    plan_digest: str
    source: End
    target: End
    written_at: str
    shards: tuple[ShardReceipt, ...]
    tensors: dict[str, str]
    not_finite: dict[str, NotFinite] = {}
    work: Work = Work()
    schema: str = SCHEMA

    def to_data(self) -> dict[str, object]:
        """The receipt as plain values."""
        return msgspec.structs.asdict(self)

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def make_receipt(  # noqa: PLR0917  # the fields of a receipt, in their order
    plan: Plan,
    digest: str,
    shards: tuple[ShardReceipt, ...],
    entries: list[Entry],
    not_finite: dict[str, NotFinite],
    work: Work,
) -> Receipt:
    """The receipt of a bundle that is about to be put in place."""
    return Receipt(
        __version__,
        digest,
        _end(plan.source),
        _end(plan.target),
        dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        shards,
        {entry.key: f"crc32c:{unmask_crc(entry.crc32c):08x}" for entry in entries if not entry.slices},
        not_finite,
        work,
    )


def receipt_path(prefix: str) -> str:
    """Where the receipt of a checkpoint is."""
    return f"{prefix}.ckptmigrate.json"


def read_receipt(prefix: str) -> Receipt | None:
    """The receipt beside a checkpoint; None if there is none.

    Raises:
        PlanError: The file there is no receipt.
    """
    path = Path(receipt_path(prefix))
    try:
        return msgspec.json.decode(path.read_bytes(), type=Receipt)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise PlanError("not a receipt", str(path), expected=f"JSON as `{SCHEMA}`", got=str(error)) from error


def _end(end: Endpoint) -> End:
    return End(end.prefix, end.fingerprint)
