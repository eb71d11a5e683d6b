"""Options and texts that several commands share."""

from __future__ import annotations

import click

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace what is there.")


def examples(*lines: str) -> str:
    """The examples at the end of a command's help, one a line."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
