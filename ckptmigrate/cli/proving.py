"""The command that says why a restore fails."""

from __future__ import annotations

from typing import Any

import click

from ckptmigrate.cli.options import JSON, examples
from ckptmigrate.cli.outputs import patience, print_json, print_lines, stdout_to_stderr


@click.command(
    epilog=examples(
        "ckptmigrate doctor ckpts/my_checkpoint --target my.models:build",
        "ckptmigrate doctor ckpts/ckpt --target my.models:build --call read",
        "ckptmigrate doctor ckpts/ckpt-12 --target templates/v2 --json",
    )
)
@click.argument("prefix")
@click.option("--target", required=True, help="What it is restored into: the model, or a checkpoint of it.")
@click.option(
    "--call",
    type=click.Choice(["restore", "read"]),
    default="restore",
    show_default=True,
    help="The method of tf.train.Checkpoint that your program calls.",
)
@JSON
def doctor(prefix: str, target: str, *, call: Any, as_json: bool) -> None:
    """Say why a restore fails, or only seems to succeed, and what mends it.

    PREFIX is what your program restores, right or wrong, and needs no plan. Where TARGET is a model,
    TensorFlow restores; where it is a checkpoint, only its rule is followed. Exit status 0 if
    everything is restored, 1 if something is wrong.
    """
    from ckptmigrate.report.text import diagnosis_lines
    from ckptmigrate.verify import diagnose

    with patience("restoring"), stdout_to_stderr():
        report = diagnose(prefix, target, call=call)
    if as_json:
        print_json(report.to_data())
    else:
        print_lines(diagnosis_lines(report))
    raise click.exceptions.Exit(0 if report.passed else 1)
