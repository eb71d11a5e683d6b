"""The commands that rewrite source code: `codemod rename` and `codemod apply`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ckptmigrate.cli.inputs import open_bundle
from ckptmigrate.cli.options import JSON, examples
from ckptmigrate.cli.outputs import check_output, count_progress, patience, print_json, warn, write_file
from ckptmigrate.errors import SourceError

if TYPE_CHECKING:
    from ckptmigrate.codemod.code_rules import CodeRename
    from ckptmigrate.codemod.renaming.change import Changed
    from ckptmigrate.codemod.renaming.oracle import Proof
    from ckptmigrate.codemod.renaming.sites import Site

_TITLE = "# Renamed in source"
"""What a rule file of ours begins with: one that a person wrote is not replaced."""

_SHOWN = 40
"""So many sites are listed for a person; `--json` has all."""


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    """The options that both commands have."""
    for option in reversed(
        [
            click.option("--write", is_flag=True, help="Write all files, or none; without it a diff is shown."),
            click.option(
                "--accept-unsafe",
                is_flag=True,
                help="Write what is proven though there are unsafe sites; they are listed.",
            ),
            click.option(
                "--target",
                metavar="MODULE:FACTORY",
                help="What builds the model: it is built before and after the change, and what differs has to be "
                "exactly the rules.",
            ),
            click.option(
                "--checkpoint", metavar="PREFIX", help="A checkpoint to migrate as well, with --out and --target."
            ),
            click.option("--out", metavar="PREFIX", help="Where the migrated checkpoint goes."),
            JSON,
        ]
    ):
        command = option(command)
    return command


@click.command(
    epilog=examples(
        "ckptmigrate codemod rename Encoder.enc encoder src/",
        "ckptmigrate codemod rename Encoder.enc encoder src/ --write --rules-out rules.yaml --target nets.py:build",
        "ckptmigrate codemod rename Encoder.enc encoder src/ --write --target nets.py:build "
        "--checkpoint ckpts/run-12 --out migrated/ckpt",
        "ckptmigrate codemod rename --class Encoder TextEncoder src/",
        "ckptmigrate codemod rename --name Encoder.hidden inner src/",
        "ckptmigrate codemod rename --keyword model net src/",
    )
)
@click.argument("what")
@click.argument("new_name")
@click.argument("paths", nargs=-1, required=True)
@click.option("--class", "is_class", is_flag=True, help="WHAT is a class.")
@click.option(
    "--name",
    "is_layer",
    is_flag=True,
    help='WHAT is the name of layers, as in name="hidden"; SCOPE.hidden: in a class or function. Full names and .h5 '
    "paths move with it, and object paths do not.",
)
@click.option(
    "--keyword",
    "is_keyword",
    is_flag=True,
    help="WHAT is a keyword of tf.train.Checkpoint, with its reads; SCOPE.keyword: in a class or function.",
)
@click.option(
    "--rules-out", metavar="FILE", help="Write what the rename means for a checkpoint, and the rename itself."
)
@_shared
def rename(
    what: str,
    new_name: str,
    paths: tuple[str, ...],
    *,
    is_class: bool,
    is_layer: bool,
    is_keyword: bool,
    rules_out: str | None,
    **options: Any,
) -> None:
    """Rename CLASS.ATTRIBUTE in source code, and a checkpoint with it.

    Only what is proven is edited. What may be meant and is not proven is listed with the reason and
    what to do, and --write then needs --accept-unsafe.

    Exit status 1 if there are unsafe sites, or a file cannot be parsed; with --write --accept-unsafe
    unsafe sites are status 0.
    """
    said = {"class": is_class, "layer": is_layer, "keyword": is_keyword}
    kinds = [kind for kind, is_said in said.items() if is_said] or ["attribute"]
    if len(kinds) > 1:
        raise click.UsageError("--class, --name and --keyword each say what WHAT is: give one of them")
    _run([_read_request(what, new_name, kinds[0])], paths, rules_out=rules_out, **options)


@click.command(
    epilog=examples(
        "ckptmigrate codemod apply rules.yaml src/",
        "ckptmigrate codemod apply rules.yaml src/ --write",
    )
)
@click.argument("rule_file", metavar="RULES")
@click.argument("paths", nargs=-1, required=True)
@_shared
def apply(rule_file: str, paths: tuple[str, ...], **options: Any) -> None:
    """Make the renames of a rule file's part `code` in source code, in their order.

    What is so already is left as it is.
    """
    from ckptmigrate.codemod.code_rules import read_code

    _run(list(read_code(rule_file)), paths, rules_out=None, **options)


def _read_request(what: str, new_name: str, kind: Any) -> CodeRename:
    from ckptmigrate.codemod.code_rules import CodeRename

    scope, _, old = what.rpartition(".")
    if kind == "class":
        return CodeRename("class", what, old, new_name)
    if kind == "attribute" and not scope:
        raise SourceError(
            "no class", what, expected="CLASS.ATTRIBUTE", hint="Say --class, --name or --keyword for other things"
        )
    return CodeRename(kind, scope, old, new_name)


def _run(
    renames: list[CodeRename],
    paths: tuple[str, ...],
    *,
    rules_out: str | None,
    write: bool,
    accept_unsafe: bool,
    target: str | None,
    checkpoint: str | None,
    out: str | None,
    as_json: bool,
) -> None:
    from ckptmigrate.codemod.renaming.change import change_source
    from ckptmigrate.codemod.source.project import Project
    from ckptmigrate.codemod.source.rewrite import check_writable

    _check_options(write=write, target=target, checkpoint=checkpoint, out=out)
    with patience("reading the source"):
        project = Project.read(paths, names=[each.old for each in renames])
    if rules_out is not None:
        check_output(
            rules_out, lambda data: data.startswith(_TITLE.encode()), "the rules of a rename", project.sources_read
        )
    with count_progress("finding sites", "lines") as on_progress:
        changed = change_source(project, renames, on_progress)
    refused = write and bool(changed.unsafe) and not accept_unsafe
    if write:
        check_writable(file.path for file in changed.files)
    with _proven(changed, target) as proof:
        rules = _rules(changed, proof, rules_out)
        if write and not refused:
            _write(changed, proof, target, checkpoint, out)
        if rules is not None and rules_out is not None and not refused:
            write_file(rules_out, rules.encode())
        if as_json:
            print_json({**changed.to_data(is_written=write and not refused), **_proof_data(proof)})
        else:
            _show(changed, proof, is_written=write and not refused, is_refused=refused)
            if rules_out is not None and not refused:
                click.echo(f"{rules_out}: the rules")
            if checkpoint is not None and not refused:
                click.echo(f"{out}: the migrated checkpoint")
    for problem in changed.problems:
        click.echo(f"ckptmigrate: {problem}", err=True)
    if refused:
        click.echo(
            f"ckptmigrate: nothing was written: {_count(len(changed.unsafe), 'unsafe site')}. Look at them, then say "
            "--accept-unsafe to edit what is proven.",
            err=True,
        )
    is_open = bool(changed.unsafe) and not (write and accept_unsafe)
    raise click.exceptions.Exit(1 if is_open or changed.problems else 0)


def _check_options(*, write: bool, target: str | None, checkpoint: str | None, out: str | None) -> None:
    if (checkpoint is None) != (out is None):
        raise click.UsageError("--checkpoint PREFIX and --out PREFIX belong together")
    if checkpoint is not None and target is None:
        raise click.UsageError(
            "--checkpoint needs --target MODULE:FACTORY: the new model says what the checkpoint becomes"
        )
    if checkpoint is not None and not write:
        raise click.UsageError("--checkpoint goes with --write: source and checkpoint change together, or neither")


@contextmanager
def _proven(changed: Changed, target: str | None) -> Iterator[Proof | None]:
    if target is None:
        yield None
        return
    from ckptmigrate.codemod.renaming.oracle import prove

    with ExitStack() as stack:
        with patience("building the model before and after"):
            proof = stack.enter_context(prove(changed, target))
        warn(proof.warnings)
        yield proof


def _rules(changed: Changed, proof: Proof | None, rules_out: str | None) -> str | None:
    """The rule file's text."""
    if rules_out is None:
        return None
    from ckptmigrate.codemod.code_rules import format_code
    from ckptmigrate.codemod.renaming.pattern_rules import pattern_rules
    from ckptmigrate.rules import format_rulebook

    rules = proof.rules if proof is not None else pattern_rules(changed)
    if any(step.rename.kind == "layer" for step in changed.steps):
        warn(["the names of layers are in no object path; a checkpoint of names (TF1, .h5) needs rules with `name:`"])
    head = format_rulebook(rules) if rules else "rules: []\n"
    return f"{_TITLE}\n{head}" + format_code(step.rename for step in changed.steps)


def _write(changed: Changed, proof: Proof | None, target: str | None, checkpoint: str | None, out: str | None) -> None:
    """Write the checkpoint, then the source; if that fails, take the checkpoint away again."""
    from ckptmigrate.codemod.source.rewrite import write_all

    if checkpoint is None or out is None or proof is None:
        write_all(changed.files)
        return
    from ckptmigrate.apply import apply_plan
    from ckptmigrate.errors import raise_all
    from ckptmigrate.graph import ObjectGraph
    from ckptmigrate.matching import Contents, match_graphs
    from ckptmigrate.plan import Endpoint, make_plan, open_ends

    with open_bundle(checkpoint) as theirs, open_bundle(proof.target) as ours:
        source, graph = ObjectGraph.from_bundle(theirs), ObjectGraph.from_bundle(ours)
        matching = match_graphs(source, graph, proof.rules, Contents.of(theirs, ours))
        plan = make_plan(Endpoint.of(theirs), Endpoint.of(ours, target or ""), matching)
        raise_all(
            "nothing was written: the rename is not all that is between the checkpoint and the new model",
            list(open_ends(plan, checkpoint)),
        )
        written = set(_files_of(out))
        apply_plan(plan, out)
    try:
        write_all(changed.files)
    except Exception:
        for path in set(_files_of(out)) - written:
            with suppress(OSError):
                path.unlink()
        raise


def _files_of(prefix: str) -> list[Path]:
    place = Path(prefix)
    return [file for file in place.parent.glob(f"{place.name}.*") if file.is_file()] if place.parent.is_dir() else []


def _show(changed: Changed, proof: Proof | None, *, is_written: bool, is_refused: bool) -> None:
    """The diff, if nothing is written, what is not edited, and the sum of it."""
    if not is_refused and not is_written:
        for line in changed.diff():
            click.echo(_coloured(line))
    unsafe = changed.unsafe
    notes = [each for each in changed.sites if not each.is_unsafe]
    for sites, title in ((unsafe, "not edited, and unsafe"), (notes, "to look at")):
        if sites:
            click.echo(click.style(f"{title}:", bold=sys.stdout.isatty()))
        for each in sites[:_SHOWN]:
            click.echo(f"  {_say(each)}")
        if len(sites) > _SHOWN:
            click.echo(f"  and {len(sites) - _SHOWN} more (--json has all)")
    said = "edited" if is_written else "would be edited"
    edits = f"{_count(changed.edits, 'place')} in {_count(len(changed.files), 'file')} {said}"
    click.echo(f"{edits}; {_count(len(unsafe), 'unsafe site')}")
    if proof is not None:
        moved = f"{proof.moved} tensors move, {proof.kept} stay"
        click.echo(f"proven: built before and after, the model differs in what the rules say ({moved})")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _say(each: Site) -> str:
    return f"{each.place}: {each.kind}: {each.why}; {each.what_to_do}\n    {each.text}"


def _coloured(line: str) -> str:
    if not sys.stdout.isatty():
        return line
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=colour, bold=line.startswith(("+++", "---"))) if colour else line


def _proof_data(proof: Proof | None) -> dict[str, Any]:
    if proof is None:
        return {}
    return {"rules": [rule.to_data() for rule in proof.rules], "moved": proof.moved, "kept": proof.kept}
