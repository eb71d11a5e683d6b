"""The command line: arguments in, messages and exit statuses out. Nothing else prints.

Exit statuses: 0 done, 1 a check failed or a plan has open ends, 2 bad input. Errors of ours become
messages; anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ckptmigrate import __version__
from ckptmigrate.errors import CkptMigrateError, NotACheckpointError, OutputError, PlanError, Problems

if TYPE_CHECKING:
    from ckptmigrate.bundle import Bundle
    from ckptmigrate.graph import ObjectGraph
    from ckptmigrate.packs import Pack
    from ckptmigrate.plan import Endpoint, Plan
    from ckptmigrate.rules import Rulebook

_PATIENCE_S = 2.0
"""What takes longer shows that it goes on."""


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
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except (CkptMigrateError, Problems) as error:
        click.echo(f"ckptmigrate: {error}", err=True)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _examples(*lines: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace what is there.")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_examples(
        "ckptmigrate demo",
        "ckptmigrate inspect ckpts/run-12",
        "ckptmigrate plan ckpts/run-12 --target my.models:build --rules rules.yaml --out plan.json",
        "ckptmigrate apply plan.json --out migrated/ckpt",
        "ckptmigrate verify migrated/ckpt --target my.models:build --plan plan.json",
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


@cli.command(epilog=_examples("ckptmigrate inspect ckpts/run-12", "ckptmigrate inspect saved_model/ --json"))
@click.argument("prefix")
@_JSON
def inspect(prefix: str, *, as_json: bool) -> None:
    """Show what a checkpoint holds: variables, shapes, optimizer state, data files."""
    from ckptmigrate.report.text import bundle_lines, inspect_tree

    with _open(prefix) as bundle:
        graph = _graph(bundle)
        if as_json:
            from ckptmigrate.report.data import inspect_data

            _print_json(inspect_data(bundle, graph))
            return
        _print([inspect_tree(bundle, graph)])
        _print(bundle_lines(bundle, graph))


@cli.command(epilog=_examples("ckptmigrate diff ckpts/run-12 migrated/ckpt"))
@click.argument("source")
@click.argument("target")
@_JSON
def diff(source: str, target: str, *, as_json: bool) -> None:
    """Show what two checkpoints do not share: only here, only there, moved, reshaped."""
    from ckptmigrate.matching import find_difference
    from ckptmigrate.report.text import difference_lines

    with _open(source) as theirs, _open(target) as ours:
        source_graph, target_graph = _graph(theirs), _graph(ours)
        found = find_difference(
            source_graph,
            target_graph,
            {key: entry.crc32c for key, entry in theirs.entries.items()},
            {key: entry.crc32c for key, entry in ours.entries.items()},
        )
        if as_json:
            _print_json(found)
        else:
            _print(difference_lines(found, source_graph, target_graph))


@cli.command(
    epilog=_examples(
        "ckptmigrate template my.models:build --out templates/v2",
        "ckptmigrate template src/model.py:make --out templates/v2",
    )
)
@click.argument("factory", metavar="MODULE:FACTORY")
@click.option("--out", required=True, metavar="PREFIX", help="Where the template is written.")
@_OVERWRITE
@_JSON
def template(factory: str, out: str, *, overwrite: bool, as_json: bool) -> None:
    """Build a model and write its fresh checkpoint: the layout that a plan leads to."""
    from ckptmigrate.graph.template import is_factory, write_template

    if not is_factory(factory):
        raise click.UsageError(f"{factory}: not MODULE:FACTORY, e.g. my.models:build or src/model.py:build")
    with _patience("building the model"), _stdout_to_stderr():
        written = write_template(factory, out, overwrite=overwrite)
    _warn(written.warnings)
    with _open(out) as bundle:
        count = len(_graph(bundle).specs)
    if as_json:
        _print_json({"prefix": out, "tensors": count, "warnings": written.warnings})
    else:
        _print([f"{out}: {count} tensors"])


@cli.command(
    epilog=_examples(
        "ckptmigrate plan ckpts/run-12 --target my.models:build --out plan.json",
        "ckptmigrate plan ckpts/run-12 --target templates/v2 --rules rules.yaml --init-new --out plan.json",
        "ckptmigrate plan bert_model.ckpt --target my.models:encoder --pack tf1-bert-to-model-garden --drop-unused",
        "ckptmigrate plan migrated/ckpt --reverse plan.json --out back.json",
    )
)
@click.argument("source", required=False)
@click.option("--target", help="The new model, or a checkpoint of it.")
@click.option(
    "--reverse",
    "reversed_file",
    metavar="PLAN",
    help="The way back of a plan, from SOURCE: what `apply` wrote, or what was trained on from it. Left out, SOURCE "
    "is the plan's own target.",
)
@click.option("--rules", "rule_files", multiple=True, metavar="FILE", help="A rule file; may be given several times.")
@click.option("--pack", "pack_names", multiple=True, metavar="NAME", help="A rule pack (`rules list`), or its file.")
@click.option("--out", metavar="PLAN", help="Where the plan is written, e.g. plan.json.")
@click.option("--init-new", is_flag=True, help="Targets that nothing leads to keep the template's values.")
@click.option("--drop-unused", is_flag=True, help="Sources that lead nowhere are dropped, each listed.")
@click.option(
    "--yes-proposed",
    is_flag=True,
    help="Take what is proposed: steps that something speaks for but that are not certain, e.g. those of an "
    "optimizer's slots whose variable only the usual order of variables tells.",
)
@_JSON
def plan(
    source: str | None,
    target: str | None,
    *,
    reversed_file: str | None,
    rule_files: tuple[str, ...],
    pack_names: tuple[str, ...],
    out: str | None,
    init_new: bool,
    drop_unused: bool,
    yes_proposed: bool,
    as_json: bool,
) -> None:
    """Find what leads from a checkpoint to a new model, and write it down.

    Without rules, only what is exact is decided. Exit status 1 if anything is left open. The template
    of a model given as a factory is kept beside the plan, as PLAN without its ending plus `.template`.
    """
    from ckptmigrate.matching import match_graphs
    from ckptmigrate.plan import Endpoint, make_plan
    from ckptmigrate.rules import read_rulebooks

    if out is not None:
        _refuse_to_replace_file(out)
    if reversed_file is not None:
        if target is not None or rule_files or pack_names or init_new or drop_unused or yes_proposed:
            raise click.UsageError("--reverse says it all: give SOURCE, --out and --json with it, and nothing else")
        _plan_back(source, reversed_file, out, as_json=as_json)
        return
    if source is None or target is None:
        raise click.UsageError("SOURCE and --target are needed (or --reverse PLAN)")
    rulebook = read_rulebooks(rule_files)
    packs = _read_packs(pack_names)
    with _open(source) as theirs, _target(target, out) as (ours, end):
        if out is not None and end.factory:
            _refuse_to_replace_bundle(end.prefix, theirs)
        source_graph, target_graph = _graph(theirs), _graph(ours)
        rulebook = (*rulebook, *_pack_rules(packs, source_graph, target_graph, rulebook))
        made = make_plan(
            Endpoint.of(theirs),
            end,
            match_graphs(source_graph, target_graph, rulebook),
            init_new=init_new,
            drop_unused=drop_unused,
            yes_proposed=yes_proposed,
        )
        _put_out(made, source_graph, target_graph, out, as_json=as_json)
    raise click.exceptions.Exit(0 if made.is_complete else 1)


def _plan_back(source: str | None, plan_file: str, out: str | None, *, as_json: bool) -> None:
    """Make the plan that undoes another."""
    from ckptmigrate.reverse import reverse_plan

    there = _read_plan(plan_file)
    with _open(there.target.prefix if source is None else source) as theirs, _open(there.source.prefix) as ours:
        back = reverse_plan(there, theirs, ours, where=plan_file)
        _put_out(back, _graph(theirs), _graph(ours), out, as_json=as_json)


def _put_out(made: Plan, source: ObjectGraph, target: ObjectGraph, out: str | None, *, as_json: bool) -> None:
    """Write a plan where it shall be, and show it."""
    from ckptmigrate.report.text import plan_summary, plan_tree

    text = made.to_json()
    if out is not None:
        _write_file(out, text)
    if as_json:
        click.echo(text.decode())
        return
    _print([plan_tree(made, source, target), *plan_summary(made, source, target)])
    if out is not None:
        click.echo(f"written to {out}")


@cli.command(
    epilog=_examples(
        "ckptmigrate apply plan.json --out migrated/ckpt",
        "ckptmigrate apply plan.json --out /other/disk/ckpt --link copy",
    )
)
@click.argument("plan_file", metavar="PLAN")
@click.option("--out", required=True, metavar="PREFIX", help="The new checkpoint.")
@click.option(
    "--link",
    type=click.Choice(["auto", "reflink", "hard", "copy"]),
    default="auto",
    show_default=True,
    help="How unchanged data files become the new checkpoint's; auto takes the first that works here.",
)
@click.option(
    "--layout",
    type=click.Choice(["auto", "link", "compact"]),
    default="auto",
    show_default=True,
    help="Link data files whole, or copy what is used of them; auto links if at least half is used.",
)
@_OVERWRITE
@_JSON
def apply(plan_file: str, out: str, *, link: Any, layout: Any, overwrite: bool, as_json: bool) -> None:
    """Write the checkpoint that a plan describes. Never imports tensorflow, never touches the source."""
    from ckptmigrate.apply import apply_plan

    made = _read_plan(plan_file)
    with _progress("writing") as on_progress:
        receipt = apply_plan(
            made, out, where=plan_file, link=link, layout=layout, overwrite=overwrite, on_progress=on_progress
        )
    if as_json:
        click.echo(receipt.to_json().decode())
    else:
        how = ", ".join(dict.fromkeys(shard.how for shard in receipt.shards))
        click.echo(f"{out}: {len(made.steps)} tensors in {len(receipt.shards)} data files ({how})")
        click.echo(f"{out}.ckptmigrate.json: the receipt")


@cli.command(
    epilog=_examples(
        "ckptmigrate verify migrated/ckpt --target my.models:build --plan plan.json",
        "ckptmigrate verify migrated/ckpt --target templates/v2",
    )
)
@click.argument("prefix")
@click.option("--target", required=True, help="The new model, or a checkpoint of it.")
@click.option("--plan", "plan_file", metavar="PLAN", help="The plan that it was made by: checks every tensor's origin.")
@_JSON
def verify(prefix: str, target: str, *, plan_file: str | None, as_json: bool) -> None:
    """Prove that a checkpoint is what a model asks for: structure, checksums, restore in TensorFlow."""
    from ckptmigrate.bundle import find_prefix
    from ckptmigrate.graph.template import is_factory
    from ckptmigrate.report.text import report_lines
    from ckptmigrate.verify import verify_checkpoint

    made = None if plan_file is None else _read_plan(plan_file)
    with _patience("verifying"), _stdout_to_stderr():
        report = verify_checkpoint(
            find_prefix(prefix), target if is_factory(target) else find_prefix(target), plan=made
        )
    if as_json:
        _print_json(report.to_data())
    else:
        _print(report_lines(report))
    raise click.exceptions.Exit(0 if report.passed else 1)


@cli.group(
    epilog=_examples(
        "ckptmigrate rules list",
        "ckptmigrate rules show reroot",
        "ckptmigrate rules test",
        "ckptmigrate rules test our/pack.yaml",
    )
)
def rules() -> None:
    """Show and test rule packs: rules for moves that many people make (`plan --pack NAME`)."""


@rules.command("list", epilog=_examples("ckptmigrate rules list"))
@_JSON
def rules_list(*, as_json: bool) -> None:
    """List the packs that are shipped."""
    from ckptmigrate.packs import pack_names
    from ckptmigrate.report.text import pack_lines

    packs = _read_packs(pack_names())
    if as_json:
        _print_json([{"name": pack.name, "for": pack.purpose, "facts": pack.facts} for pack in packs])
    else:
        _print(pack_lines(packs))


@rules.command("show", epilog=_examples("ckptmigrate rules show reroot", "ckptmigrate rules show reroot > our.yaml"))
@click.argument("name")
def rules_show(name: str) -> None:
    """Print a pack: what it is for, where its facts come from, its rules and examples."""
    (pack,) = _read_packs([name])
    click.echo(pack.text, nl=False)


@rules.command("test", epilog=_examples("ckptmigrate rules test", "ckptmigrate rules test reroot our/pack.yaml"))
@click.argument("names", nargs=-1)
@_JSON
def rules_test(names: tuple[str, ...], *, as_json: bool) -> None:
    """Run the examples of packs, all that are shipped if none is named. Exit status 1 if one does not come out."""
    from ckptmigrate.packs import pack_names, run_examples
    from ckptmigrate.report.text import outcome_lines

    outcomes = [outcome for pack in _read_packs(names or pack_names()) for outcome in run_examples(pack)]
    if as_json:
        _print_json(outcomes)
    else:
        _print(outcome_lines(outcomes))
    raise click.exceptions.Exit(1 if any(outcome.problems for outcome in outcomes) else 0)


@cli.command(epilog=_examples("ckptmigrate schema rules > rules.schema.json"))
@click.argument("name", type=click.Choice(["plan", "rules"]))
def schema(name: str) -> None:
    """Print the JSON Schema of rule files or plans, for editors and programs."""
    from importlib.resources import files

    click.echo(files("ckptmigrate.schemas").joinpath(f"{name}-1.json").read_text(encoding="utf-8"), nl=False)


@cli.command(epilog=_examples("ckptmigrate demo", "ckptmigrate demo --folder /tmp/demo"))
@click.option("--folder", metavar="DIR", help="Where the files are left; a new temporary folder if not given.")
def demo(folder: str | None) -> None:
    """Migrate a real checkpoint, step by step: save, plan, apply, verify."""
    from ckptmigrate.demo import run_demo

    raise click.exceptions.Exit(run_demo(folder, click.echo))


# What the commands share.


def _open(path: str) -> Bundle:
    from ckptmigrate.bundle import Bundle, find_prefix

    return Bundle.open(find_prefix(path))


def _graph(bundle: Bundle) -> ObjectGraph:
    from ckptmigrate.graph import ObjectGraph

    return ObjectGraph.from_bundle(bundle)


@contextmanager
def _target(target: str, plan_out: str | None) -> Iterator[tuple[Bundle, Endpoint]]:
    """The target: the bundle that is named, or the template of the model that is.

    A template is kept beside the plan once that is made; a plan that cannot be made leaves none behind, and does
    not take the one of an earlier plan away.
    """
    from ckptmigrate.graph.template import is_factory, write_template
    from ckptmigrate.plan import Endpoint

    if not is_factory(target):
        with _open(target) as bundle:
            yield bundle, Endpoint.of(bundle)
        return
    import tempfile

    beside = None if plan_out is None else Path(plan_out).absolute().parent
    with tempfile.TemporaryDirectory(
        prefix=".ckptmigrate-", dir=beside if beside is not None and os.access(beside, os.W_OK) else None
    ) as scratch:
        with _patience("building the model"), _stdout_to_stderr():
            written = write_template(target, str(Path(scratch) / "template"))
        _warn(written.warnings)
        with _open(written.prefix) as bundle:
            end = Endpoint.of(bundle, target)
            if plan_out is None:
                yield bundle, end
                return
            kept = str(Path(plan_out).absolute().with_suffix(".template"))
            yield bundle, replace(end, prefix=kept)
            _keep(bundle, kept)


def _keep(bundle: Bundle, prefix: str) -> None:
    """Move a bundle out of its scratch directory, its index last."""
    import shutil

    from ckptmigrate.bundle import index_path

    try:
        for path in (*bundle.shard_paths, index_path(bundle.prefix)):
            shutil.move(path, prefix + path.removeprefix(bundle.prefix))
    except OSError as error:
        raise OutputError(
            "the template cannot be kept", prefix, got=str(error.strerror), hint="Choose another place for the plan"
        ) from error


def _read_packs(names: Iterable[str]) -> list[Pack]:
    """Packs by name; nothing is imported for none."""
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return []
    from ckptmigrate.errors import raise_all
    from ckptmigrate.packs import read_pack

    read, problems = [], []
    for name in wanted:
        try:
            read.append(read_pack(name))
        except CkptMigrateError as error:
            problems.append(error)
        except Problems as group:
            problems.extend(group.problems)
    raise_all("the packs cannot be used", problems)
    return read


def _pack_rules(packs: list[Pack], source: ObjectGraph, target: ObjectGraph, rulebook: Rulebook) -> Rulebook:
    """What packs say of a source and a target, beside a person's rules; what they do not say is told."""
    if not packs:
        return ()
    from ckptmigrate.packs import fit_packs

    fitted = fit_packs(packs, source, target, rulebook)
    for note in fitted.notes:
        click.echo(note, err=True)
    return fitted.rules


def _read_plan(path: str) -> Plan:
    from ckptmigrate.plan import Plan

    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise PlanError(
            "cannot read the plan",
            path,
            got=str(error.strerror),
            hint="Make one with `ckptmigrate plan ... --out PLAN`",
        ) from error
    return Plan.from_json(text, where=path)


def _refuse_to_replace_file(path: str) -> None:
    """A plan replaces an earlier plan, and no other file: not the rules, a program, or a checkpoint's."""
    place = Path(path)
    # Of a place that cannot even be looked at, writing tells what is wrong. pathlib would raise here.
    if os.path.isdir(place):  # noqa: PTH112
        raise OutputError("a directory, not a file", path, hint=f"Write for example `{place / 'plan.json'}`")
    if not os.path.exists(place):  # noqa: PTH110
        return
    head = b""
    if place.is_file():
        with suppress(OSError), place.open("rb") as file:
            head = file.read(100)
    if not (b'"schema"' in head and b"ckptmigrate.plan" in head):
        raise OutputError("the file exists and is not a plan", path, hint="Name another place for the plan")


def _refuse_to_replace_bundle(prefix: str, bundle: Bundle) -> None:
    """A checkpoint that is read is never written to, not even by a template that comes to have its name."""
    from ckptmigrate.bundle import index_path

    if os.path.realpath(index_path(prefix)) == os.path.realpath(index_path(bundle.prefix)):
        raise OutputError("the template would replace the source", prefix, hint="Name another place for the plan")


def _write_file(path: str, data: bytes) -> None:
    place = Path(path)
    partial = place.parent / f".{place.name}.{os.getpid()}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(place)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise OutputError("cannot be written", path, got=str(error.strerror), hint="Choose another place") from error


def _print_json(data: object) -> None:
    import msgspec

    try:
        text = msgspec.json.format(msgspec.json.encode(data), indent=1).decode()
    except UnicodeEncodeError as error:
        raise NotACheckpointError(
            "a key is not UTF-8 text, and JSON holds no other", repr(error.object), hint="Leave out --json"
        ) from error
    click.echo(text)


def _print(items: Iterable[object]) -> None:
    from rich.console import Console

    # A pipe has no width: what reads it wants whole lines.
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 10_000)
    for item in items:
        console.print(item)


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Keep what a model's code prints, or what it runs, apart from results, which a program may read."""
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def _patience(what: str) -> Iterator[None]:
    """Say what is going on where the amount of work is not known, on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes on a terminal, for what takes longer than people wait in silence."""
    started = time.monotonic()
    bar: Any = None
    task: Any = None

    def on_progress(done_bytes: int, total_bytes: int) -> None:
        nonlocal bar, task
        if bar is None:
            if time.monotonic() - started < _PATIENCE_S or not sys.stderr.isatty():
                return
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

            bar = Progress(
                what,
                BarColumn(),
                DownloadColumn(binary_units=True),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            bar.start()
            task = bar.add_task(what, total=total_bytes)
        bar.update(task, completed=done_bytes)

    try:
        yield on_progress
    finally:
        if bar is not None:
            bar.stop()
