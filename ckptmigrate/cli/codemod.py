"""The commands on source code."""

from __future__ import annotations

import click

from ckptmigrate.cli.lint import lint
from ckptmigrate.cli.options import examples


@click.group(
    epilog=examples(
        "ckptmigrate codemod rename Encoder.enc encoder src/",
        "ckptmigrate codemod lint src/",
    )
)
def codemod() -> None:
    """Read and rewrite the source of models, together with their checkpoints."""


codemod.add_command(lint)
