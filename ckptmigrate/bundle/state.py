"""A directory's state file, ``checkpoint``: which of its checkpoints is the latest, and which others there are.

It is a ``CheckpointState`` in protobuf's text form.

Source: tensorflow/python/training/checkpoint_state.proto; ``generate_checkpoint_state_proto`` and
``update_checkpoint_state_internal`` in tensorflow/python/checkpoint/checkpoint_management.py.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ckptmigrate.bundle.writer import sync, write_file

# ruff: noqa: PTH105, PTH118, PTH123  # prefixes and what names them are strings throughout

STATE_FILE = "checkpoint"

_FIELD = re.compile(r'^\s*(\w+)\s*:\s*(?:"((?:[^"\\\n]|\\.)*)"|([^\s"]+))', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """What a state file says.

    Attributes:
        latest: The latest checkpoint's prefix; as all prefixes here, relative to the directory unless it is absolute.
        prefixes: All that are kept, from the oldest to the latest.
        timestamps: When each was written, in seconds since 1970; empty if it does not say.
        last_preserved: When the last one was written that is never deleted; None if it does not say.
    """

    latest: str
    prefixes: tuple[str, ...] = ()
    timestamps: tuple[float, ...] = ()
    last_preserved: float | None = None

    def with_latest(self, prefix: str, now: float) -> CheckpointState:
        """The state after one more checkpoint was written.

        Args:
            prefix: Its prefix.
            now: The time, in seconds since 1970.
        """
        has_times = len(self.timestamps) == len(self.prefixes)
        others = [number for number, other in enumerate(self.prefixes) if other != prefix]
        return CheckpointState(
            prefix,
            (*(self.prefixes[number] for number in others), prefix),
            # TensorFlow refuses a state with fewer times than prefixes.
            (*(self.timestamps[number] for number in others), now) if has_times else (),
            self.last_preserved,
        )

    def to_bytes(self) -> bytes:
        """The file."""
        lines = [f"model_checkpoint_path: {_quoted(self.latest)}"]
        lines += [f"all_model_checkpoint_paths: {_quoted(prefix)}" for prefix in self.prefixes]
        lines += [f"all_model_checkpoint_timestamps: {time!r}" for time in self.timestamps]
        if self.last_preserved is not None:
            lines.append(f"last_preserved_timestamp: {self.last_preserved!r}")
        return "".join(f"{line}\n" for line in lines).encode("ascii")


def read_state(directory: str) -> CheckpointState | None:
    """What the state file of a directory says; None if there is none that can be read."""
    try:
        with open(os.path.join(directory, STATE_FILE), encoding="utf-8") as file:
            fields = _FIELD.findall(file.read())
    except (OSError, UnicodeDecodeError):
        return None
    latest = [_unescaped(text) for name, text, _ in fields if name == "model_checkpoint_path" and text]
    if not latest:
        return None
    times = {
        wanted: tuple(_number(text) for name, _, text in fields if name == wanted)
        for wanted in ("all_model_checkpoint_timestamps", "last_preserved_timestamp")
    }
    return CheckpointState(
        latest[-1],
        tuple(_unescaped(text) for name, text, _ in fields if name == "all_model_checkpoint_paths"),
        times["all_model_checkpoint_timestamps"],
        (*times["last_preserved_timestamp"], None)[0],
    )


def write_state(directory: str, state: CheckpointState) -> None:
    """Write the state file of a directory: a reader finds the old one or the new one.

    Raises:
        OutputError: It cannot be written.
        OSError: It cannot be renamed.
    """
    path = os.path.join(directory, STATE_FILE)
    partial = os.path.join(directory, f".{STATE_FILE}.{os.getpid()}")
    write_file(partial, [state.to_bytes()])
    os.replace(partial, path)
    sync(directory or ".")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


_ESCAPE = re.compile(r"""\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))""")
_SHORT_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def _unescaped(text: str) -> str:
    """A string as protobuf's text form has it, where other bytes than ASCII may be octal escapes."""
    out = bytearray()
    end = 0
    for match in _ESCAPE.finditer(text):
        out += text[end : match.start()].encode()
        octal, hexadecimal, character = match.groups()
        if character:
            out += _SHORT_ESCAPES.get(character, character).encode()
        else:
            out.append((int(octal, 8) if octal else int(hexadecimal, 16)) & 0xFF)
        end = match.end()
    out += text[end:].encode()
    return os.fsdecode(bytes(out))


def _quoted(text: str) -> str:
    """The inverse of `_unescaped`, with its quotation marks."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in os.fsencode(text))
    return f'"{"".join(plain)}"'
