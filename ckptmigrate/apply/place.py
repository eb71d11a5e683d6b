"""The place of an output: who may write there, what is left of runs that were killed, and how files get their names.

A run writes in a scratch directory beside its output, on the same file system. Its name follows from the output's, so
that the next run to the same output finds it. The files are given their names when all of them are on the disk, the
index last: without its index a bundle does not exist.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import time
from types import TracebackType
from typing import Self

import msgspec

from ckptmigrate.apply.journal import Journal, Placing
from ckptmigrate.apply.receipt import receipt_path
from ckptmigrate.bundle import data_path, index_path, sync
from ckptmigrate.errors import OutputError

# A prefix is text and not a path: pathlib would take a slash off its end and the dot off `./`.
# ruff: noqa: PTH100, PTH102, PTH104, PTH106, PTH108, PTH110, PTH112, PTH116, PTH118, PTH119, PTH120
# ruff: noqa: PTH208

_NEW = "new"
"""The name of the new bundle in its scratch directory."""

_REPLACED = "replaced"
"""The name that a bundle that is replaced has there."""

_LOCK = "lock"
_JOURNAL = "journal"

_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
"""The errors with which a file system says that it has no locks. Two runs to one output are told apart later then."""


class Holder(msgspec.Struct, frozen=True):
    """Who writes to an output."""

    pid: int
    host: str
    since: str


def existing_files(out: str) -> list[str]:
    """The files of a checkpoint that are there, even if it is not whole."""
    directory, name = os.path.split(out)
    own = re.compile(re.escape(name) + r"\.(index|data-\d{5}-of-\d{5}|ckptmigrate\.json)")
    try:
        return sorted(os.path.join(directory, found) for found in os.listdir(directory or ".") if own.fullmatch(found))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError("cannot be read", directory, got=str(error.strerror)) from error


def exists_error(out: str) -> OutputError:
    """What to say of an output that is there."""
    existing = existing_files(out)
    return OutputError(
        "the output exists",
        out,
        expected="a prefix that is free",
        got=", ".join(os.path.basename(name) for name in existing[:3]) + (", ..." if len(existing) > 3 else ""),
        hint="Name another prefix, or say --overwrite",
    )


def scratch_path(out: str) -> str:
    """The scratch directory of an output."""
    directory, name = os.path.split(os.path.abspath(out))
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    return os.path.join(directory, f".{name[:32]}.ckptmigrate-{digest}")


class Scratch:
    """The scratch directory of an output, held by one run at a time.

    Used in a ``with`` statement. It is removed at the end, and the directories that were made for it if they are
    empty, unless `keep` was called.

    Attributes:
        out: The output's prefix.
        path: The directory.
        prefix: The prefix of the new bundle in it.
        was_there: Whether another run has left it.
        journal: What was done so far.
    """

    def __init__(self, out: str) -> None:
        """Make the directory, or find it, and hold it.

        Raises:
            OutputError: Another run holds it, or nothing can be written here.
        """
        self.out, self.path = out, scratch_path(out)
        self.prefix = self.file(_NEW)
        self._made: list[str] = []
        self._lock = -1
        self._is_ours = False
        directory = os.path.dirname(self.path)
        try:
            self._make_parents(directory)
            self._hold()
            self.journal = Journal(self.file(_JOURNAL))
        except OSError as error:
            self.__exit__(None, None, None)
            raise OutputError(
                "cannot write here", directory, got=str(error.strerror), hint="Choose another place"
            ) from error
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _make_parents(self, directory: str) -> None:
        missing: list[str] = []
        while not os.path.exists(directory):
            missing.append(directory)
            directory = os.path.dirname(directory)
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another run may make the same directory
                os.mkdir(path)
                self._made.append(path)

    def _remove_parents(self) -> None:
        """Remove what was made for nothing; a directory with the output in it is not empty and stays."""
        for path in reversed(self._made):
            with contextlib.suppress(OSError):
                os.rmdir(path)

    def _hold(self) -> None:
        import fcntl

        lock = self.file(_LOCK)
        while True:
            self.was_there = os.path.isdir(self.path)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.path)
            try:
                self._lock = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # another run has just ended
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._held_error() from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            with contextlib.suppress(FileNotFoundError):
                # Another run may have ended, and removed the lock that is held now.
                if os.path.samestat(os.fstat(self._lock), os.stat(lock)):
                    break
            os.close(self._lock)
        self._is_ours = True
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        holder = msgspec.json.encode(Holder(os.getpid(), os.uname().nodename, since))
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, holder, 0)

    def _held_error(self) -> OutputError:
        who = "another process"
        with contextlib.suppress(msgspec.DecodeError):
            holder = msgspec.json.decode(os.pread(self._lock, 1000, 0), type=Holder)
            who = f"process {holder.pid} on {holder.host}, since {holder.since}"
        return OutputError(
            "another run is writing this output",
            self.out,
            got=f"{who} (lock in {self.path})",
            hint="Wait until it has ended, or end it: this run goes on with what it has done then",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_ours:
            self.clear()
            # The journal after what it speaks of, the lock after all.
            for name in (_JOURNAL, _LOCK):
                with contextlib.suppress(OSError):
                    os.unlink(self.file(name))
        if self._lock >= 0:
            os.close(self._lock)
        if self._is_ours or self._lock < 0:
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
            self._remove_parents()

    def keep(self) -> None:
        """Leave the directory where it is: the next run goes on with what is in it."""
        self._is_ours = False

    def clear(self, keeping: str = "") -> None:
        """Remove what was written so far, but for names that begin in a certain way."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self.path):
                if name not in (_LOCK, _JOURNAL) and not (keeping and name.startswith(keeping)):
                    with contextlib.suppress(OSError):
                        os.unlink(self.file(name))

    def file(self, name: str) -> str:
        """The path of a file in it."""
        return os.path.join(self.path, name)

    # Names.

    def place(self, num_shards: int, *, overwrite: bool) -> None:
        """Give the files of the new bundle their names.

        What is to be replaced is set aside before, its index first. No name that is taken is taken over, so of two
        runs to one prefix the later one fails. Everything is undone if anything fails.

        Raises:
            OutputError: The output exists.
            OSError: A file cannot be renamed.
        """
        names = [*(data_path("", number, num_shards) for number in range(num_shards)), receipt_path(""), index_path("")]
        replaced = existing_files(self.out) if overwrite else []
        replaced.sort(key=lambda path: path != index_path(self.out))
        placing = Placing(
            tuple(path.removeprefix(self.out) for path in replaced),
            tuple((name, os.stat(self.prefix + name).st_ino) for name in names),
        )
        sync(self.path)
        self.journal.place(placing)
        try:
            self._go_on(placing)
        except BaseException as error:
            try:
                self._undo(placing)
                self.journal.place(None)
            except (OSError, OutputError):
                self.keep()  # with what was set aside; the next run takes it from there
                raise
            if isinstance(error, FileExistsError):
                raise exists_error(self.out) from error
            raise

    def settle(self, *, finish: bool) -> bool:
        """Deal with a run that was killed while it gave files their names.

        Args:
            finish: Give the rest of them their names, as that run would have; else take the names back.

        Returns:
            Whether the output is whole now.

        Raises:
            OutputError: The output exists: another run has written it in the meantime.
            OSError: A file cannot be renamed.
        """
        placing = self.journal.placing
        if placing is None:
            return False
        if all(self._is_placed(name, inode) for name, inode in placing.placed):
            return finish  # it was killed while it cleaned up
        if finish and all(inode in self._inodes(name) for name, inode in placing.placed):
            try:
                self._go_on(placing)
            except FileExistsError as error:
                raise exists_error(self.out) from error
            return True
        self._undo(placing)
        self.journal.place(None)
        return False

    def _is_placed(self, name: str, inode: int) -> bool:
        """Whether one of our files has its name, and only that."""
        return self._inodes(name) == (0, inode)

    def _inodes(self, name: str) -> tuple[int, int]:
        """Of one of our files, what is where it was written, and what is where it belongs."""
        return _inode(self.prefix + name), _inode(self.out + name)

    def _go_on(self, placing: Placing) -> None:
        directory = os.path.dirname(self.path)
        for name in placing.replaced:
            if not _inode(self.file(_REPLACED) + name):
                os.rename(self.out + name, self.file(_REPLACED) + name)
        for name, inode in placing.placed:
            if name == index_path(""):
                # Names reach the disk in this order, too.
                sync(directory)
            written, placed = self._inodes(name)
            if placed != inode:
                rename_to_free(self.prefix + name, self.out + name)
            elif written == inode:
                os.unlink(self.prefix + name)  # a move that is a link was killed half-way
        sync(directory)
        self._made.clear()

    def _undo(self, placing: Placing) -> None:
        aside = [name for name in placing.replaced if _inode(self.file(_REPLACED) + name)]
        # Before all that is replaced is out of the way, no file of ours gets its name. What another run has put
        # there stays.
        for name, inode in reversed(placing.placed if len(aside) == len(placing.replaced) else ()):
            written, placed = self._inodes(name)
            if placed == inode and not written:
                os.rename(self.out + name, self.prefix + name)
            elif placed == inode:
                os.unlink(self.out + name)
        for name in reversed(aside):
            if not _inode(self.out + name):
                os.rename(self.file(_REPLACED) + name, self.out + name)


def _inode(path: str) -> int:
    """A file's inode; 0 if there is none."""
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return 0


def rename_to_free(old: str, new: str) -> None:
    """Rename a file, unless the new name is taken.

    Raises:
        FileExistsError: It is.
    """
    try:
        # A rename replaces what is there, even if it came to be a moment ago; a link does not.
        os.link(old, new, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        # No links here. Whatever else is wrong, renaming tells.
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new) from None
        os.rename(old, new)
    else:
        os.unlink(old)
