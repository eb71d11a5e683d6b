"""Options and texts that several commands share."""

from __future__ import annotations

import re

import click

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace what is there.")


_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class Size(click.ParamType[int]):
    """A number of bytes, as people write it: 500000, 64MiB, 2 GB."""

    name = "size"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]?)(i?)B?", value.strip(), re.IGNORECASE)
        if found is None:
            self.fail(f"{value!r} is not a size, such as 256MiB or 2GB", param, ctx)
        number, unit, is_binary = found.groups()
        return int(float(number) * (1024 if is_binary else 1000) ** _UNITS[unit.upper()])


def examples(*lines: str) -> str:
    """The examples at the end of a command's help, one a line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
