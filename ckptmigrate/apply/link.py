"""One file under a second name, in the cheapest way that the file system allows."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Literal

from ckptmigrate.errors import OutputError

LinkChoice = Literal["auto", "reflink", "hard", "copy"]
How = Literal["reflink", "hard link", "copy"]

_FICLONE = 0x40049409
"""The request that shares a file's blocks. Source: linux/fs.h (``_IOW(0x94, 9, int)``)."""

_CANNOT = frozenset(
    {
        errno.EXDEV,  # another device
        errno.EPERM,  # another owner (fs.protected_hardlinks), or a file system without hard links
        errno.EACCES,
        errno.EMLINK,  # too many links
        errno.ENOTSUP,
        errno.ENOTTY,  # the file system does not know the request
        errno.EINVAL,
        errno.ENOSYS,
    }
)
"""The errors that say "not here"; all others (no space, read-only, ...) are told to the user."""


def link_file(existing: str, new: str, choice: LinkChoice) -> How:
    """Make `new` a file with the bytes of `existing`, which is not changed; or say that it has to be copied.

    A reflink is independent of the original; a hard link is the same file under another name, which is safe
    because TensorFlow never writes into an existing data file.

    Args:
        existing: The file.
        new: Its second name, not taken yet.
        choice: ``auto`` takes the first that works of reflink, hard link, and copy.

    Returns:
        What was done; ``copy`` if nothing was.

    Raises:
        OutputError: The chosen way does not work here, or the disk is full, read-only, ...
    """
    if choice in ("auto", "reflink") and _try(_reflink, existing, new, choice):
        return "reflink"
    if choice in ("auto", "hard") and _try(_hard_link, existing, new, choice):
        return "hard link"
    return "copy"


def _try(link: Callable[[str, str], None], existing: str, new: str, choice: LinkChoice) -> bool:
    """Whether it could be linked; only `auto` has another way left."""
    try:
        link(existing, new)
    except OSError as error:
        if choice == "auto" and error.errno in _CANNOT:
            return False
        raise OutputError(
            "cannot link a data file",
            new,
            expected=f"a link to {existing}" + (f" (--link {choice})" if choice != "auto" else ""),
            got=str(error.strerror),
            hint="Use --link auto, or another place for the output",
        ) from error
    return True


def _hard_link(existing: str, new: str) -> None:
    # The file itself: a second name of a symbolic link would lead elsewhere from here.
    os.link(os.path.realpath(existing), new)


def _reflink(existing: str, new: str) -> None:
    import fcntl

    source = os.open(existing, os.O_RDONLY)
    try:
        copy = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.ioctl(copy, _FICLONE, source)
        except OSError:
            os.unlink(new)  # noqa: PTH108  # prefixes are strings throughout
            raise
        finally:
            os.close(copy)
    finally:
        os.close(source)
