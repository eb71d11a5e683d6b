"""One plan for every checkpoint of a training run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec

from ckptmigrate.apply.place import existing_files
from ckptmigrate.apply.receipt import Receipt, read_receipt
from ckptmigrate.apply.write import apply_plan
from ckptmigrate.bundle import Bundle, find_prefixes, index_path
from ckptmigrate.bundle.state import CheckpointState, read_state, write_state
from ckptmigrate.errors import CkptMigrateError, OutputError, PlanError, Problems
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.plan import Endpoint, Plan
from ckptmigrate.spec import OBJECT_GRAPH_KEY

# A prefix is text and not a path: pathlib would take a slash off its end and the dot off `./`.
# ruff: noqa: PTH113, PTH118, PTH119

Kind = Literal["done", "there", "left", "failed"]


class Outcome(msgspec.Struct, frozen=True):
    """What became of one checkpoint.

    Attributes:
        source: Its prefix.
        out: The prefix of the new one.
        kind: ``done``; ``there``, if an earlier run had done it; ``left``, if its graph is not the plan's source's;
            ``failed``.
        why: Why it was left, or failed.
        receipt: The receipt, if it is there now.
    """

    source: str
    out: str
    kind: Kind
    why: str = ""
    receipt: Receipt | None = None


def apply_all(
    plan: Plan, directory: str, out: str, *, where: str = "plan", keep_going: bool = False, **how: Any
) -> Iterator[Outcome]:
    """Apply a plan to every checkpoint in a directory whose graph is that of the plan's source.

    They keep their names, and the new directory gets a state file like the old one's, if that has one. What an
    earlier run has done is not done again.

    Args:
        plan: The plan, made for one of them.
        directory: Where they are.
        out: The directory of the new ones.
        where: The plan's name, for messages.
        keep_going: Go on with the others if one fails.
        **how: As for `ckptmigrate.apply.apply_plan`.

    Yields:
        What became of each, in the order of their numbers; the state file is written after the last.

    Raises:
        PlanError: The plan's source is not what it was.
        OutputError: The new directory is the old one.
    """
    if os.path.realpath(directory) == os.path.realpath(out):
        raise OutputError("the output is the source", out, hint="Name another directory")
    outcomes: list[Outcome] = []
    with Bundle.open(plan.source.prefix) as first:
        if first.fingerprint != plan.source.fingerprint:
            raise PlanError("the source has changed since the plan was made", plan.source.prefix, hint="Make it again")
        for prefix in find_prefixes(directory):
            new = os.path.join(out, os.path.basename(prefix))
            try:
                outcome = _apply_one(plan, first, prefix, new, where=where, **how)
            except (CkptMigrateError, Problems) as error:
                if not keep_going:
                    raise
                outcome = Outcome(prefix, new, "failed", str(error))
            outcomes.append(outcome)
            yield outcome
    _write_state(directory, out, outcomes)


def _apply_one(plan: Plan, first: Bundle, prefix: str, out: str, *, where: str, **how: Any) -> Outcome:
    with Bundle.open(prefix) as bundle:
        why = _difference(first, bundle)
        if why:
            return Outcome(prefix, out, "left", why)
        its = replace(plan, source=Endpoint.of(bundle, plan.source.factory))
    if existing_files(out) and os.path.isfile(index_path(out)):
        receipt = read_receipt(out)
        if receipt is not None and receipt.plan_digest == its.digest and not how.get("overwrite"):
            return Outcome(prefix, out, "there", receipt=receipt)
    return Outcome(prefix, out, "done", receipt=apply_plan(its, out, where=where, **how))


def _difference(first: Bundle, bundle: Bundle) -> str:
    """In what a checkpoint differs from that which a plan was made for, but for its values; empty if in nothing."""
    specs, wanted = (
        {key: entry.spec for key, entry in each.entries.items() if key != OBJECT_GRAPH_KEY} for each in (bundle, first)
    )
    if specs != wanted:
        more, fewer = len(specs.keys() - wanted.keys()), len(wanted.keys() - specs.keys())
        others = sum(specs[key] != wanted[key] for key in specs.keys() & wanted.keys())
        counts = ((more, "more"), (fewer, "fewer"), (others, "of another shape or dtype"))
        return "tensors: " + ", ".join(f"{count} {what}" for count, what in counts if count)
    same = bundle.object_graph_bytes() == first.object_graph_bytes()
    if not same and ObjectGraph.from_bundle(bundle) != ObjectGraph.from_bundle(first):
        return "the same tensors in another graph"
    return ""


def _write_state(directory: str, out: str, outcomes: Sequence[Outcome]) -> None:
    """Write what the source's state file says of those that are there now."""
    state = read_state(directory)
    names = [os.path.basename(outcome.out) for outcome in outcomes if outcome.receipt is not None]
    if state is None or not names:
        return
    has_times = len(state.timestamps) == len(state.prefixes)
    listed = [number for number, prefix in enumerate(state.prefixes) if os.path.basename(prefix) in names]
    latest = os.path.basename(state.latest)
    new = CheckpointState(
        latest if latest in names else names[-1],
        tuple(os.path.basename(state.prefixes[number]) for number in listed),
        tuple(state.timestamps[number] for number in listed) if has_times else (),
        state.last_preserved,
    )
    write_state(out, new)
