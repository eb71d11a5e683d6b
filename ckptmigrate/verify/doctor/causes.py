"""All causes of one restore, the most important first, each with what mends it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ckptmigrate.errors import CkptMigrateError, Problems
from ckptmigrate.matching import Matching, match_graphs
from ckptmigrate.rules import parse_rulebook
from ckptmigrate.spec import Key
from ckptmigrate.verify.doctor import objects
from ckptmigrate.verify.doctor.attempt import Attempt, Cause, Open, shell
from ckptmigrate.verify.doctor.optimizers import find_optimizer_causes
from ckptmigrate.verify.report import Finding

# What explains most is looked for first, and what it explains is no one else's.
_DETECTORS = (
    objects.find_other_model,
    objects.find_names,
    objects.find_other_root,
    objects.find_keras_generation,
    find_optimizer_causes,
    objects.find_changed_lists,
    objects.find_not_built,
    objects.find_other_style,
    objects.find_renamed,
    objects.find_shapes,
    objects.find_tied,
    objects.find_untracked,
    objects.find_counter,
    objects.find_rest,
)

_ORDER = (
    *("another-model", "name-based", "saved-model", "other-root", "keras-2-to-3", "functional-or-subclassed"),
    *("untracked", "list-changed", "trained-weights-changed", "renamed-attribute", "tied-weights"),
    *("other-shape", "other-precision", "model-not-built", "not-in-checkpoint", "not-in-model"),
    *("legacy-optimizer", "mixed-precision", "other-optimizer", "optimizer-not-built", "optimizer-left-out"),
    *("optimizer-not-saved", "saved-not-written", "written-not-saved"),
)
"""The most important first: the model before its optimizer, and what nobody hears of before what fails aloud."""


_UNEXPLAINED = {
    *("not-in-checkpoint", "not-in-model", "optimizer-left-out", "optimizer-not-saved", "other-optimizer"),
    *("saved-not-written", "written-not-saved"),
}
"""What is left to say of two models that have nothing in common."""

_MOVED = {"renamed-attribute", "functional-or-subclassed", "not-in-checkpoint"}
"""What a shipped pack may know more of than matching does."""

_SAVE_COUNTER = Key("save_counter/.ATTRIBUTES/VARIABLE_VALUE")
"""The target's template has it too, where a live graph has not."""


def find_causes(attempt: Attempt) -> tuple[Finding, ...]:
    """Why a restore failed, or only seems to have succeeded.

    Args:
        attempt: What is known of it.

    Returns:
        The causes, the most important first; none if everything was restored.
    """
    left = Open(attempt.restoration)
    if left.displaced:
        left.trust(attempt.leads)
    causes: list[Cause] = []
    for detect in _DETECTORS:
        causes += detect(attempt, left)
        if causes and causes[0].kind == "another-model":
            break
    kinds = {cause.kind for cause in causes}
    placed = set(objects.weights_of(attempt.target)) & attempt.restoration.restored.keys()
    if {"not-in-checkpoint", "not-in-model"} <= kinds <= _UNEXPLAINED and not placed:
        causes = [objects.other_model(attempt, Open(attempt.restoration).take_all())]
    causes.sort(key=lambda cause: _ORDER.index(cause.kind))
    packs = tuple(dict.fromkeys(pack for cause in causes for pack in cause.packs))
    if not packs and any(cause.kind in _MOVED for cause in causes) and _is_open(attempt.matching):
        packs = (attempt.best_pack,) if attempt.best_pack else ()
    rules = tuple(rule for cause in causes for rule in cause.rules)
    planned = tuple(migration(attempt, packs, rules)) if any(cause.is_planned for cause in causes) else ()
    return tuple(_finding(cause, planned if cause.is_planned else ()) for cause in causes)


def _is_open(matching: Matching) -> bool:
    """Whether a person would be asked."""
    return bool(matching.questions or matching.unmatched_target or matching.proposals)


def _finding(cause: Cause, planned: tuple[str, ...]) -> Finding:
    return Finding(cause.kind, cause.what, cause.rows, cause.tensorflow, cause.reason, (*cause.code, *planned))


def migration(attempt: Attempt, packs: tuple[str, ...], statements: tuple[str, ...]) -> Iterator[str]:
    """The commands that make a checkpoint that fits, with the options that this one needs."""
    source, target = attempt.source, attempt.target
    stated = parse_rulebook("\n".join(["rules:", *(f"- {each}" for each in statements)])) if statements else ()
    rules = (*stated, *(rule for pack in packs for rule in attempt.rules_of(pack)))
    try:
        matching = match_graphs(source, target, rules) if rules else attempt.matching
    except (CkptMigrateError, Problems):  # packs that contradict each other
        matching, packs, statements = attempt.matching, (), ()
    ours = {item.key for item in matching.unmatched_source} - {_SAVE_COUNTER}
    theirs = {item.key for item in matching.unmatched_target}
    is_proposed = any(step.status == "proposed" for step in matching.steps)
    # What could be each other is not dropped and made anew: a person is asked.
    could_fit = {source.specs[key] for key in ours} & {target.specs[key] for key in theirs}
    if matching.questions or is_proposed or could_fit:
        options = ["--interactive"]
    else:
        weights = objects.weights_of(source)
        if 2 * len(ours.intersection(weights)) > len(weights):  # what is left would be no model
            return
        options = ["--init-new"] * bool(theirs) + ["--drop-unused"] * bool(ours)
    chosen = [part for pack in packs for part in ("--pack", pack)]
    if statements:
        lines = shell("printf", "%s\\n", "rules:", *(f"- {statement}" for statement in statements))
        yield f"{lines} > rules.yaml"
        chosen += ["--rules", "rules.yaml"]
    into = "MODULE:FACTORY" if "<" in attempt.into else attempt.into
    directory, name = os.path.split(attempt.prefix)
    out = os.path.join(directory, "migrated", name)  # noqa: PTH118
    plan = shell("ckptmigrate", "plan", attempt.prefix, "--target", into, *chosen, *options, "--out", "plan.json")
    yield f"{plan} && {shell('ckptmigrate', 'apply', 'plan.json', '--out', out)}"
