"""A person at a real terminal: a pseudo terminal for stdin and stderr, and answers that are typed when asked for."""

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from dataclasses import dataclass

PROMPT = re.compile(r"/why/quit/\?\] $")
"""What a person sees when it is their turn."""

END, INTERRUPT = "\x04", "\x03"
"""Ctrl-D and Ctrl-C."""


_AT_ITS_TERMINAL = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
from ckptmigrate.cli import main
main()
"""


@dataclass(frozen=True)
class Session:
    """What happened: the exit status, the result on stdout, all that was seen, and what was seen before each answer."""

    status: int
    out: str
    seen: str
    turns: tuple[str, ...]


def at_terminal(arguments, answer, *, cwd, timeout_s=120):
    """Run the command line at a terminal.

    Args:
        arguments: The command's.
        answer: Called with what was seen since the last answer; what to type. Or a list of answers.
        cwd: Where it runs.
        timeout_s: How long it may take.
    """
    if not callable(answer):
        typed = iter(answer)
        answer = lambda _: next(typed)  # noqa: E731
    ours, theirs = pty.openpty()
    settings = termios.tcgetattr(theirs)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(theirs, termios.TCSANOW, settings)
    process = subprocess.Popen(
        # A session of its own takes the first terminal that it opens for its own: where Ctrl-C interrupts it.
        [sys.executable, "-c", _AT_ITS_TERMINAL, *map(str, arguments)],
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        cwd=cwd,
        start_new_session=True,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )
    os.close(theirs)
    seen, since, turns = "", "", []
    end = time.monotonic() + timeout_s
    try:
        while time.monotonic() < end:
            ready, _, _ = select.select([ours], [], [], 0.05)
            if ready:
                try:
                    text = os.read(ours, 65536).decode()
                except OSError:  # how Linux says that nobody holds the other end any more
                    break
                if not text:
                    break
                seen, since = seen + text, since + text
            elif PROMPT.search(since):
                turns.append(since.replace("\r\n", "\n"))
                since = ""
                typed_now = answer(turns[-1])
                os.write(ours, (typed_now if typed_now in (END, INTERRUPT) else f"{typed_now}\n").encode())
        else:
            raise TimeoutError(seen)
        out, _ = process.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        os.close(ours)
    return Session(process.returncode, out.decode(), seen.replace("\r\n", "\n"), tuple(turns))
