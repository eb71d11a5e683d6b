"""The commands on source code."""

from __future__ import annotations

import click

from ckptmigrate.cli.inferring import infer
from ckptmigrate.cli.lint import lint
from ckptmigrate.cli.options import examples
from ckptmigrate.cli.rewriting import apply, rename


@click.group(
    epilog=examples(
        "ckptmigrate codemod infer --git v1.0..HEAD src --out rules.yaml",
        "ckptmigrate codemod rename Encoder.enc encoder src/",
        "ckptmigrate codemod lint src/",
    )
)
def codemod() -> None:
    """Read and rewrite the source of models, together with their checkpoints."""


for _command in (infer, rename, apply, lint):
    codemod.add_command(_command)
