"""What commands open and read: checkpoints, models, plans, and packs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ckptmigrate.cli.outputs import patience, stdout_to_stderr, tell, warn
from ckptmigrate.errors import CkptMigrateError, OutputError, PlanError, Problems

if TYPE_CHECKING:
    from ckptmigrate.bundle import Bundle
    from ckptmigrate.graph import ObjectGraph
    from ckptmigrate.packs import Pack
    from ckptmigrate.plan import Endpoint, Plan
    from ckptmigrate.rules import Rulebook


def open_bundle(path: str) -> Bundle:
    """The checkpoint at a prefix, or the latest of a directory."""
    from ckptmigrate.bundle import Bundle, find_prefix

    return Bundle.open(find_prefix(path))


def read_graph(bundle: Bundle) -> ObjectGraph:
    """A checkpoint's object graph."""
    from ckptmigrate.graph import ObjectGraph

    return ObjectGraph.from_bundle(bundle)


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a plan.

    Attributes:
        bundle: Its checkpoint.
        end: The end of the plan that it is.
        classes: The class of each node of its graph, where it is a live model and that was asked for.
    """

    bundle: Bundle
    end: Endpoint
    classes: Mapping[int, str]


@contextmanager
def open_target(target: str, plan_out: str | None, *, with_classes: bool = False) -> Iterator[Target]:
    """The target: the bundle that is named, or the template of the model that is.

    A template is kept beside the plan once that is made; a plan that cannot be made leaves none behind, and does
    not take the one of an earlier plan away.
    """
    from ckptmigrate.graph.live import LiveGraph
    from ckptmigrate.graph.template import is_factory, write_template
    from ckptmigrate.plan import Endpoint

    if not is_factory(target):
        with open_bundle(target) as bundle:
            yield Target(bundle, Endpoint.of(bundle), {})
        return
    import tempfile

    beside = None if plan_out is None else Path(plan_out).absolute().parent
    with tempfile.TemporaryDirectory(
        prefix=".ckptmigrate-", dir=beside if beside is not None and os.access(beside, os.W_OK) else None
    ) as scratch:
        with patience("building the model"), stdout_to_stderr():
            written = write_template(target, str(Path(scratch) / "template"))
            live = LiveGraph.read(written.checkpoint) if with_classes else None
        warn(written.warnings)
        with open_bundle(written.prefix) as bundle:
            end = Endpoint.of(bundle, target)
            classes = {} if live is None else live.classes_in(read_graph(bundle))
            if plan_out is None:
                yield Target(bundle, end, classes)
                return
            kept = str(Path(plan_out).absolute().with_suffix(".template"))
            yield Target(bundle, replace(end, prefix=kept), classes)
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


def read_plan(path: str) -> Plan:
    """A plan from its file."""
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


def read_packs(names: Iterable[str]) -> list[Pack]:
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


def pack_rules(
    packs: list[Pack], source: ObjectGraph, target: ObjectGraph, rulebook: Rulebook, told: set[str]
) -> Rulebook:
    """What packs say of a source and a target, beside a person's rules; what they do not say is told, once each."""
    if not packs:
        return ()
    from ckptmigrate.packs import fit_packs

    fitted = fit_packs(packs, source, target, rulebook)
    tell(fitted.notes, told)
    return fitted.rules
