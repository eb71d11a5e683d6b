"""The command line: arguments in, messages and exit statuses out. Nothing else prints.

Exit statuses: 0 done, 1 a check failed or a plan has open ends, 2 bad input, 130 stopped with Ctrl-C. Errors of
ours become messages; anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import gc
import os
import sys

import click

from ckptmigrate import __version__
from ckptmigrate.cli.applying import apply
from ckptmigrate.cli.checkpoints import demo, diff, inspect, schema, template, verify
from ckptmigrate.cli.codemod import codemod
from ckptmigrate.cli.options import examples
from ckptmigrate.cli.packs import rules
from ckptmigrate.cli.planning import plan
from ckptmigrate.cli.proving import doctor
from ckptmigrate.errors import CkptMigrateError, Problems

__all__ = ["cli", "main"]


def main() -> None:
    """Run the command line."""
    # A run builds a few large tables that live until its end. To look through them for garbage again and again
    # took a fifth of the time for a checkpoint of many variables.
    gc.set_threshold(100_000, 50, 10)
    try:
        # Without its standalone mode, click returns the status that a command exits with.
        sys.exit(cli.main(prog_name="ckptmigrate", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt) as error:
        # Click makes an error of its own of the other one, which knows what was kept.
        notes = [note for note in getattr(error.__cause__ or error, "__notes__", ()) if note]
        click.echo("\n".join(["stopped", *notes]), err=True)
        sys.exit(130)
    except (CkptMigrateError, Problems) as error:
        click.echo(f"ckptmigrate: {error}", err=True)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "ckptmigrate demo",
        "ckptmigrate inspect ckpts/run-12",
        "ckptmigrate plan ckpts/run-12 --target my.models:build --rules rules.yaml --out plan.json",
        "ckptmigrate apply plan.json --out migrated/ckpt",
        "ckptmigrate verify migrated/ckpt --target my.models:build --plan plan.json",
        "ckptmigrate doctor ckpts/run-12 --target my.models:build",
    ),
)
@click.version_option(__version__, prog_name="ckptmigrate")
def cli() -> None:
    """Migrate TensorFlow and Keras checkpoints when their model has changed.

    A PREFIX is a checkpoint's prefix, or a directory: its latest checkpoint, or a SavedModel's
    variables. A TARGET is the same, or a model: `package.module:factory` or `path/to/file.py:factory`,
    where the factory takes no arguments and returns a tf.train.Checkpoint, a trackable, or a dict of
    trackables.
    """


for _command in (inspect, diff, template, plan, apply, verify, doctor, rules, codemod, schema, demo):
    cli.add_command(_command)
