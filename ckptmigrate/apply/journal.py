"""What a run has done so far, on disk, so that one that is killed can be gone on with.

A line for each thing that was done, with its checksum. A line that was cut short, and all behind it, count for
nothing. That something is in the journal is not proof that it reached the disk: what it says was written is compared
with what is there before it is believed.
"""

from __future__ import annotations

import msgspec

from ckptmigrate.apply.worker import Done
from ckptmigrate.bundle import extend_crc
from ckptmigrate.bundle.writer import append_file, write_file


class Begun(msgspec.Struct, frozen=True, tag=True):
    """What a run is to do.

    Attributes:
        identity: A digest of the plan, its two ends, and the options: equal ones lead to the same output.
        tasks: A digest of the tasks.
    """

    identity: str
    tasks: str


class Placing(msgspec.Struct, frozen=True, tag=True):
    """That all is written, and files are given their names now.

    Attributes:
        replaced: Which files of the output are set aside: what follows the prefix in their names.
        placed: Which files become the output's, likewise, each with its inode. The index is the last.
    """

    replaced: tuple[str, ...]
    placed: tuple[tuple[str, int], ...]


_DECODER = msgspec.json.Decoder(Begun | Placing | Done)


class Journal:
    """The journal of a run, or of one before it.

    Attributes:
        begun: What the run is to do; None if there is no journal.
        done: The tasks that are done, by number.
        placing: Which files are given their names, if it came so far.
    """

    __slots__ = ("_path", "_size_bytes", "begun", "done", "placing")

    def __init__(self, path: str) -> None:
        """Read what there is.

        Args:
            path: The journal's file.
        """
        self._path = path
        self._size_bytes = 0
        self.begun: Begun | None = None
        self.done: dict[int, Done] = {}
        self.placing: Placing | None = None
        try:
            with open(path, "rb") as file:  # noqa: PTH123  # prefixes are strings throughout
                data = file.read()
        except FileNotFoundError:
            return
        for line in data.splitlines(keepends=True):
            record = _read_line(line)
            if record is None:
                break
            self._size_bytes += len(line)
            match record:
                case Begun():
                    self.begun = record
                case Placing():
                    self.placing = record if record.placed else None
                case Done():
                    self.done[record.task] = record

    @property
    def written_bytes(self) -> int:
        """How much was written by the tasks that are done."""
        return sum(done.written_bytes for done in self.done.values())

    def begin(self, begun: Begun) -> None:
        """Start anew.

        Raises:
            OutputError: The journal cannot be written.
        """
        self.begun, self.done, self.placing, self._size_bytes = begun, {}, None, 0
        line = _line(begun)
        write_file(self._path, [line])
        self._size_bytes = len(line)

    def add(self, done: Done) -> None:
        """Take note that a task is done.

        Raises:
            OutputError: The journal cannot be written.
        """
        self.done[done.task] = done
        self._append(done)

    def place(self, placing: Placing | None) -> None:
        """Take note that files are given their names, or that they are not after all; it reaches the disk.

        Raises:
            OutputError: The journal cannot be written.
        """
        self.placing = placing
        self._append(placing or Placing((), ()), sync=True)

    def _append(self, record: msgspec.Struct, *, sync: bool = False) -> None:
        line = _line(record)
        append_file(self._path, self._size_bytes, line, sync=sync)
        self._size_bytes += len(line)


def _line(record: msgspec.Struct) -> bytes:
    data = msgspec.json.encode(record)
    return b"%08x %b\n" % (extend_crc(0, data), data)


def _read_line(line: bytes) -> Begun | Placing | Done | None:
    """A line's record; None if it is not whole."""
    crc, _, data = line.removesuffix(b"\n").partition(b" ")
    if not line.endswith(b"\n") or crc != b"%08x" % extend_crc(0, data):
        return None
    try:
        record: Begun | Placing | Done = _DECODER.decode(data)
    except msgspec.DecodeError:
        return None
    return record
