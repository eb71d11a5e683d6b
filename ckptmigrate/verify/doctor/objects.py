"""What goes wrong with the objects of a model: another root, other names, another length, not built, not tracked."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from ckptmigrate.dtypes import FLOATS
from ckptmigrate.graph import ROOT, VARIABLE_ROLE, ObjectGraph
from ckptmigrate.matching import Step
from ckptmigrate.matching.exact import Doubt, doubts_between, keys_in
from ckptmigrate.matching.names import item_names, moved, scope_names
from ckptmigrate.spec import Key, Path, format_path
from ckptmigrate.verify.doctor.attempt import (
    Attempt,
    Cause,
    Open,
    Taken,
    be,
    count,
    folded,
    is_root_counter,
    quoted,
    rows_of,
    rows_with_leads,
    say_tensor,
    shell,
)
from ckptmigrate.verify.doctor.optimizers import state_of
from ckptmigrate.verify.restoration import bind_from

_LITTLE = 0.25
"""Of two models that are another altogether, less than this share of variables finds its place."""

_KERAS3_LABELS = {"_functional", "_operations", "_kernel", "_embeddings"}
"""Edges that only objects of Keras 3 have. Source: keras src/models, src/layers; measured on Keras 3.15."""

_KERAS2_LABEL = re.compile(r"layer(_with_weights)?-\d+")
"""Edges of a functional model of Keras 2. Source: ``_trackable_children`` in tf_keras src/engine/functional.py."""


def weights_of(graph: ObjectGraph) -> list[Key]:
    """The variables that are a model's: no slots, steps or rates of an optimizer."""
    own = graph.slot_nodes | graph.scalars
    return [
        key
        for number, node in enumerate(graph.nodes)
        if number not in own and (key := node.tensors.get(VARIABLE_ROLE)) is not None
    ]


def find_other_model(attempt: Attempt, left: Open) -> Iterator[Cause]:
    """Whether the checkpoint is one of another model altogether: one cause, with all that follows from it."""
    source, target = attempt.source, attempt.target
    ours, theirs = weights_of(source), weights_of(target)
    fewer = min(len(ours), len(theirs))
    placed = set(theirs) & attempt.restoration.restored.keys()
    if not fewer or len(placed) >= _LITTLE * fewer or _likeness(attempt, ours, theirs) >= 2 * _LITTLE:
        return
    if len(attempt.leads.keys() & set(theirs)) >= _LITTLE * fewer:
        return
    yield other_model(attempt, left.take_all())


def other_model(attempt: Attempt, taken: Taken) -> Cause:
    """That the checkpoint is of another model: what each of both has."""
    source, target = attempt.source, attempt.target
    ours, theirs = weights_of(source), weights_of(target)
    placed = len(set(theirs) & attempt.restoration.restored.keys())
    rows = [(f"`{say_tensor(source, key)}`", f" {source.specs[key]} in the checkpoint") for key in ours]
    rows += [(f"`{say_tensor(target, key)}`", f" {target.specs[key]} in the model") for key in theirs]
    return Cause(
        "another-model",
        f"the checkpoint has {count(len(ours), 'variable')}, the model {len(theirs)}, and {placed or 'none'} of them "
        "fit: neither paths nor names nor shapes agree",
        folded(rows),
        attempt.words(taken),
        "it is likely the checkpoint of another model, or the model is built with another configuration",
        (
            f"{shell('ckptmigrate', 'inspect', attempt.prefix)}  # what the checkpoint holds",
            "restore a checkpoint of this model, or build the model that was saved",
        ),
    )


def _likeness(attempt: Attempt, ours: Iterable[Key], theirs: Iterable[Key]) -> float:
    """How much of the shapes of one side the other has; what has two axes or more counts, where there is any."""
    sides = [[graph.specs[key] for key in keys] for graph, keys in ((attempt.source, ours), (attempt.target, theirs))]
    if all(any(len(spec.shape) > 1 for spec in specs) for specs in sides):
        sides = [[spec for spec in specs if len(spec.shape) > 1] for specs in sides]
    shared = (Counter(sides[0]) & Counter(sides[1])).total()
    return shared / max(1, min(map(len, sides)))


def find_names(attempt: Attempt, left: Open) -> Iterator[Cause]:
    """A checkpoint of names, as TensorFlow 1 wrote them, for a model of objects."""
    if attempt.source.kind != "name" or attempt.target.kind == "name" or not left:
        return
    taken = left.take_all()
    placed = len(attempt.restoration.restored)
    yield Cause(
        "name-based",
        f"the checkpoint has names and no objects, and {placed or 'none'} of the model's "
        f"{count(len(weights_of(attempt.target)), 'variable')} {be(placed)} called as one of them",
        rows_with_leads(attempt, taken),
        attempt.words(taken),
        "it was written by TensorFlow 1, a `Saver` or an Estimator; TensorFlow restores it by the full names of "
        "variables, which are others in this model",
        packs=(attempt.best_pack,) if attempt.best_pack else (),
        is_planned=True,
    )


def find_other_root(attempt: Attempt, left: Open) -> Iterator[Cause]:
    """Whether what is the root on one side is an attribute of the root on the other; a SavedModel's is the model."""
    source, target = attempt.source, attempt.target
    if not (left.missing or left.misfits) or source.kind == "name":
        return
    ends = [(ROOT, child, label, "root") for label, child in target.named_children(ROOT).items()]
    ends += [(child, ROOT, label, "attribute") for label, child in source.named_children(ROOT).items()]
    found = []
    for s, t, label, was in ends:
        bound = bind_from(source, target, s, t)
        pairs = {
            target.nodes[twin].tensors[VARIABLE_ROLE]: source.nodes[number].tensors[VARIABLE_ROLE]
            for number, twin in bound.items()
            if VARIABLE_ROLE in source.nodes[number].tensors and VARIABLE_ROLE in target.nodes[twin].tensors
        }
        fit = {
            into: key
            for into, key in pairs.items()
            if source.specs[key] == target.specs[into] and (into in left.missing or into in left.misfits)
        }
        found.append((len(fit), label, was, fit))
    size, label, was, fit = max(found, key=lambda each: each[0], default=(0, "", "", {}))
    if size == 0 or 2 * size < len(set(weights_of(target)) & (left.missing.keys() | left.misfits.keys())):
        return
    directory = saved_model_of(attempt.prefix)
    waits = set(fit) & state_keys(target)
    unused = [key for key in left.unused if directory and _is_of_saved_model(source, key)]
    taken = left.take([*fit.values(), *unused], fit.keys())
    rows = folded(
        (f"`{say_tensor(source, key)}` is `{say_tensor(target, into)}`", "")
        for into, key in fit.items()
        if into not in waits
    )
    if directory:
        yield Cause(
            "saved-model",
            f"the path is a SavedModel, whose root is the model itself, and here the model is `{label}`",
            rows,
            attempt.words(taken),
            "TensorFlow reads the variables of a SavedModel, for a `Checkpoint` that has the model as its root",
            (f"tf.train.Checkpoint({label}).read({quoted(attempt.prefix)}).assert_existing_objects_matched()",),
            packs=("reroot",) if attempt.led_by("reroot") else (),
            is_planned=True,
        )
        return
    call = "restore" if is_root_counter(source) else "read"
    saved, restored = ("Checkpoint(model)", f"Checkpoint({label}=model)")[:: 1 if was == "root" else -1]
    yield Cause(
        "other-root",
        f"the checkpoint was saved as `{saved}`, and is restored by `{restored}`",
        rows,
        attempt.words(taken),
        "a keyword is an edge of the root, so that every path has one segment more or less",
        (f"tf.train.{saved}.{call}({quoted(attempt.prefix)}).assert_consumed()  # if the rest is as it was",),
        packs=("reroot",) if attempt.led_by("reroot") else (),
        is_planned=True,
    )


def state_keys(graph: ObjectGraph) -> set[Key]:
    """The tensors of all optimizers."""
    return {key for optimizer in graph.optimizers for key in state_of(graph, optimizer)}


def saved_model_of(prefix: str) -> str | None:
    """The directory of the SavedModel that a prefix is the variables of."""
    directory, name = os.path.split(os.path.dirname(prefix))  # noqa: PTH120
    has_program = any(os.path.isfile(os.path.join(directory, f"saved_model.{end}")) for end in ("pb", "pbtxt"))  # noqa: PTH113, PTH118
    return directory if name == "variables" and has_program else None


def _is_of_saved_model(graph: ObjectGraph, key: Key) -> bool:
    """Whether a tensor is held by what only a SavedModel has beside the model."""
    path = graph.paths[graph.node_of[key]] if key in graph.node_of else ()
    return bool(path) and path[0] in ("keras_api", "signatures", "_all_variables", "variables", "trainable_variables")


def find_keras_generation(attempt: Attempt, left: Open) -> Iterator[Cause]:
    """A checkpoint of Keras 2 for a model of Keras 3."""
    source, target = attempt.source, attempt.target
    if not left or _labels(source) & _KERAS3_LABELS or not _labels(target) & _KERAS3_LABELS:
        return
    open_targets = left.missing.keys() | left.misfits.keys() | left.displaced.keys()
    led = attempt.led_by("keras2-to-keras3")
    generations = [
        {optimizer.generation for optimizer in graph.optimizers if optimizer.slots} for graph in (source, target)
    ]
    crosses = "keras-3" in generations[1] and not generations[0] <= {"keras-3"}
    if not led.keys() & open_targets and not any(map(_KERAS2_LABEL.fullmatch, _labels(source))):
        return
    sources = {key for keys in led.values() for key in keys}
    below = _below_functional(attempt, left)
    taken = left.take(
        sources | below[0] | (state_keys(source) if crosses else set()),
        led.keys() | below[1] | (state_keys(target) if crosses else set()),
    )
    if taken:
        yield Cause(
            "keras-2-to-3",
            "the checkpoint was saved by Keras 2, and the model is one of Keras 3",
            rows_with_leads(attempt, taken),
            attempt.words(taken),
            "Keras 3 holds the layers of a model, a layer's kernel and an optimizer's slots under other names",
            packs=("keras2-to-keras3",) if led else (),
            is_planned=True,
        )


def _labels(graph: ObjectGraph) -> set[str]:
    return {label for node in graph.nodes for label in node.children}


def find_changed_lists(attempt: Attempt, left: Open) -> Iterator[Cause]:
    """Lists of which an index may mean another item now: what fits by its index may be another layer's value."""
    source, target, restoration = attempt.source, attempt.target, attempt.restoration
    if source.kind == "name":
        return
    # An optimizer's lists are long as it has variables, and have a cause of their own.
    nodes = {number for each in source.optimizers for number in (each.node, each.wrapper) if number is not None}
    lists = {child for number in nodes for child in source.nodes[number].children.values()}
    pairs = [(number, twin) for number, twin in restoration.bound.items() if number not in nodes | lists]
    told: set[Key] = set()
    for doubt in doubts_between(source, target, pairs):
        ours, theirs = (
            keys_in(graph, number, doubt) for graph, number in ((source, doubt.source), (target, doubt.target))
        )
        if _is_in_step(attempt, doubt):
            left.trust_positions(theirs)
            continue
        within = set(theirs) - told - left.displaced.keys()
        silent = [
            into
            for into, key in restoration.restored.items()
            if into in within and not _is_sure(attempt.leads.get(into), key)
        ]
        if not silent:
            continue
        told.update(silent)
        taken = left.take(ours, theirs)
        rows = []
        for into in silent:
            lead = attempt.leads.get(into)
            owner = f"and is likely `{say_tensor(source, lead.sources[0])}`" if lead else "which may be another item's"
            rows.append((f"`{say_tensor(target, into)}` gets the value at the same index, {owner}", ""))
        yield Cause(
            "list-changed",
            f"{doubt.reason}; {count(len(silent), 'value')} may be restored into the wrong place",
            (*folded(rows), *rows_of(attempt, taken)),
            f"says nothing of the {count(len(silent), 'value')} that it put somewhere; {attempt.words(taken)}",
            "an item was inserted, removed or moved; TensorFlow goes by the index, and the shapes are equal",
            is_planned=True,
        )


def _is_in_step(attempt: Attempt, doubt: Doubt) -> bool:
    """Whether the items that have variables are restored into each other one after the other.

    Items without any (an activation, a dropout) come and go, and move the indices of the others.
    """
    sides = (attempt.source, doubt.source), (attempt.target, doubt.target)
    below = [
        {item: keys for item in doubt.items(graph, number) if (keys := set(graph.keys_below(item)))}
        for graph, number in sides
    ]
    if len(below[0]) != len(below[1]):
        return False
    names = [
        [named(graph, list(held)) for named in (item_names, scope_names)]
        for (graph, _), held in zip(sides, below, strict=True)
    ]
    if any(moved(*both) for both in zip(*names, strict=True)):
        return False
    restored = attempt.restoration.restored
    pairs = zip(below[0].values(), below[1].values(), strict=True)
    return all({restored.get(into) for into in theirs} == ours for ours, theirs in pairs)


def _is_sure(lead: Step | None, key: Key) -> bool:
    """Whether more than an index says that a tensor is what it is restored from."""
    return lead is not None and lead.status != "proposed" and lead.sources == (key,)


def find_not_built(attempt: Attempt, left: Open) -> Iterator[Cause]:
    """Objects that are there and have no variables yet, where the checkpoint has some: a deferred restore."""
    source, target = attempt.source, attempt.target
    waiting: list[Key] = []
    named: list[str] = []
    optimizers = {optimizer.node for optimizer in source.optimizers}
    # An optimizer that is compiled into a model has its steps and rates before the model has anything.
    states = state_keys(source), state_keys(target)
    for number, twin in attempt.restoration.bound.items():
        if number in optimizers or source.nodes[number].tensors or not _may_wait(attempt, twin):
            continue
        keys = [key for key in source.keys_below(number) if key in left.unused and key not in states[0]]
        if keys and states[1].issuperset(target.keys_below(twin)) and not set(keys) <= set(waiting):
            waiting += keys
            named.append(target.say(twin))
    # A Sequential that is not built has not even its layers: then it is the model whose layers go nowhere.
    taken = left.take(waiting)
    if taken:
        where = ", ".join(folded((f"`{name}`", "") for name in named)[:4])
        yield Cause(
            "model-not-built",
            f"{where} {'have' if len(named) > 1 else 'has'} no variables yet: {count(len(taken.unused), 'value')} of "
            "the checkpoint wait for them",
            rows_of(attempt, taken),
            attempt.words(taken),
            "a layer makes its variables when it is first called, and the restore came before; Keras 2 fills them in "
            "then, a subclassed model of Keras 3 does not and keeps its initial values",
            ("model(inputs)  # once, before the restore; or `model.build(input_shape)`",),
        )


def _may_wait(attempt: Attempt, number: int) -> bool:
    """Whether an object may be one whose variables are not made yet; of a checkpoint's nobody knows more."""
    built = getattr(attempt.live.objects[number], "built", None) if attempt.live else None
    return built is False if number == ROOT else built is not True


def find_other_style(attempt: Attempt, left: Open) -> Iterator[Cause]:
    """A functional model or a Sequential on one side, and a class with attributes on the other."""
    ours, theirs = _below_functional(attempt, left)
    if not ours or not theirs or _likeness(attempt, ours, theirs) < 2 * _LITTLE:
        return
    was = any(_is_functional(attempt.source, number) for number in attempt.restoration.bound)
    taken = left.take(ours, theirs)
    styles = ("a functional model or a Sequential", "a class with attributes")
    before, after = styles if was else styles[::-1]
    layers = dict(_layers_by_name(attempt, taken))
    yield Cause(
        "functional-or-subclassed",
        f"the checkpoint is of {before}, and the model is {after}",
        (*folded((f"`{old}` is likely `{new}`, by its name", "") for old, new in layers.items()),)
        or rows_with_leads(attempt, taken),
        attempt.words(taken),
        "a functional model holds its layers by their numbers, a class by the names of its attributes",
        is_planned=True,
        rules=tuple(
            f"rename: {{from: {quoted(f'{old}/**')}, to: {quoted(f'{new}/**')}}}" for old, new in layers.items()
        ),
    )


def _layers_by_name(attempt: Attempt, taken: Taken) -> Iterator[tuple[str, str]]:
    """The layers of which one is at the attribute that the other has for its name; none if not all are told so."""
    source, target = attempt.source, attempt.target
    if len(attempt.leads.keys() & set(taken.missing)) == len(taken.missing):
        return  # matching knows better
    sides = [
        {holder: keys for holder, keys in _held(graph, keys).items() if holder}
        for graph, keys in ((source, taken.unused), (target, taken.missing))
    ]
    called = [
        {
            path: {path[-1], *(graph.nodes[graph.node_of[key]].full_name.split("/")[-2:-1] or [""])[:1]}
            for path, (key, *_) in held.items()
        }
        for graph, held in zip((source, target), sides, strict=True)
    ]
    pairs = []
    for old, keys in sides[0].items():
        specs = sorted(str(source.specs[key]) for key in keys)
        fits = [
            new
            for new, others in sides[1].items()
            if called[0][old] & called[1][new] and specs == sorted(str(target.specs[key]) for key in others)
        ]
        if len(fits) != 1:
            return
        pairs.append((format_path(old), format_path(fits[0])))
    if len({new for _, new in pairs}) == len(pairs):
        yield from pairs


def _held(graph: ObjectGraph, keys: Iterable[Key]) -> dict[Path, list[Key]]:
    """Variables by the path of the object that holds them."""
    held: dict[Path, list[Key]] = {}
    for key in keys:
        held.setdefault(graph.paths[graph.node_of[key]][:-1], []).append(key)
    return held


def _below_functional(attempt: Attempt, left: Open) -> tuple[set[Key], set[Key]]:
    """What is open below objects of which one is functional and the other is not: the source's, and the target's."""
    source, target = attempt.source, attempt.target
    ours: set[Key] = set()
    theirs: set[Key] = set()
    for number, twin in attempt.restoration.bound.items():
        if _is_functional(source, number) != _is_functional(target, twin):
            ours.update(key for key in source.keys_below(number) if key in left.unused)
            theirs.update(key for key in target.keys_below(twin) if key in left.missing)
    return ours, theirs


def _is_functional(graph: ObjectGraph, number: int) -> bool:
    labels = graph.nodes[number].children.keys()
    return not labels.isdisjoint({"_operations", "_functional"}) or any(map(_KERAS2_LABEL.fullmatch, labels))


def find_renamed(attempt: Attempt, left: Open) -> Iterator[Cause]:
    """What has another path now, and is likely the same: by structure, names and order."""
    source, target = attempt.source, attempt.target
    open_targets = left.missing.keys() | left.displaced.keys()
    if not open_targets:
        return
    leads = {
        into: step.sources[0]
        for into, step in attempt.leads.items()
        if into in open_targets and len(step.sources) == 1 and source.say_key(step.sources[0]) != target.say_key(into)
    }
    pairs = {into: key for into, key in leads.items() if key in left.unused or into in left.displaced}
    asked = [
        question
        for question in attempt.matching.questions
        if open_targets & set(question.targets)
        and (left.unused.keys() | set(left.displaced.values())) & set(question.sources)
    ]
    if not pairs and not asked:
        return
    silent = {
        into: key
        for into, key in left.displaced.items()
        if into in pairs or any(into in each.targets for each in asked)
    }
    targets = {*pairs, *(key for each in asked for key in each.targets), *silent}
    sources = {*pairs.values(), *(key for each in asked for key in each.sources), *silent.values()}
    taken = left.take(sources, targets)
    rows = folded(
        (f"`{say_tensor(source, key)}` is likely `{say_tensor(target, into)}`", "") for into, key in pairs.items()
    )
    rest = Taken(
        tuple(key for key in taken.missing if key not in pairs),
        tuple(key for key in taken.unused if key not in pairs.values()),
        displaced=taken.displaced,
        doubled=taken.doubled,
    )
    segments = _renamed_segments(source, target, pairs)
    said = f"{', '.join(segments[:3])}: " if segments else ""
    what = (
        f"{said}{count(len(pairs), 'variable')} of the checkpoint {be(len(pairs))} likely at another path in the model"
    )
    if not pairs:
        what = (
            f"{count(len(targets), 'variable')} of the model {be(len(targets))} at other paths, and it is open at which"
        )
        if silent and silent.keys() >= targets - target.slot_owner.keys():
            what = (
                f"{count(len(silent), 'variable')} of the model {be(len(silent))} at other paths, and got values by "
                "their places in the optimizer's lists: nothing else tells whether they are the right ones"
            )
    yield Cause(
        "renamed-attribute",
        what,
        (*rows, *rows_of(attempt, rest)),
        attempt.words(taken),
        "an attribute was renamed, or a layer was moved into another; TensorFlow goes by the names of attributes",
        is_planned=True,
    )


def _renamed_segments(source: ObjectGraph, target: ObjectGraph, pairs: Mapping[Key, Key]) -> list[str]:
    """The parts of paths that changed: ``w`` is ``kernel``."""
    found: dict[str, None] = {}
    for into, key in pairs.items():
        old, new = list(source.paths[source.node_of[key]]), list(target.paths[target.node_of[into]])
        while old and new and old[0] == new[0]:
            old, new = old[1:], new[1:]
        while old and new and old[-1] == new[-1]:
            old, new = old[:-1], new[:-1]
        found[f"`{format_path(tuple(old))}` is `{format_path(tuple(new))}`"] = None
    return list(found)


def find_shapes(attempt: Attempt, left: Open) -> Iterator[Cause]:
    """The same variable with another shape or dtype."""
    source, target = attempt.source, attempt.target
    casts = {
        into
        for into, key in left.misfits.items()
        if source.specs[key].shape == target.specs[into].shape
        and {source.specs[key].dtype, target.specs[into].dtype} <= set(FLOATS)
    }
    if casts:
        taken = left.take(targets=casts)
        yield Cause(
            "other-precision",
            f"{count(len(taken.misfits), 'variable')} of the model {be(len(taken.misfits))} of another precision than "
            "in the checkpoint",
            rows_of(attempt, taken),
            attempt.words(taken),
            "the model has another dtype or policy; TensorFlow does not cast what it restores",
            packs=("mixed-precision",) if attempt.led_by("mixed-precision") else (),
            is_planned=True,
        )
    taken = left.take(targets=list(left.misfits))
    if taken:
        yield Cause(
            "other-shape",
            f"{count(len(taken.misfits), 'variable')} of the model {be(len(taken.misfits))} of another shape or dtype "
            "than in the checkpoint",
            rows_of(attempt, taken),
            attempt.words(taken),
            "the model is built with another configuration, or a layer was transposed, split or grown",
            is_planned=True,
        )


def find_untracked(attempt: Attempt, _: Open) -> Iterator[Cause]:
    """Variables of the model that no checkpoint of it holds."""
    live = attempt.live
    if live is None or not live.untracked:
        return
    said = attempt.said or {}
    held = len(weights_of(live.graph))
    passes = attempt.call not in said and not any(said.values())
    number = len(live.untracked)
    yield Cause(
        "untracked",
        f"{count(number, 'variable')} of the model {be(number)} in no checkpoint of it, so that {held} of "
        f"{held + number} are saved and restored, and the others start anew",
        folded((str(found), "") for found in live.untracked),
        f"says nothing{': every assertion passes' if passes else ' of them'}, and `save` left them out without a word",
        "a layer of Keras 3 has them in a plain list or dict, which TensorFlow does not follow; their values are not "
        "in this checkpoint, and nothing brings them back from it",
        ('setattr(self, f"layer_{i}", layer)  # for each layer of the list, in `__init__`; then train and save again',),
    )


def find_tied(attempt: Attempt, left: Open) -> Iterator[Cause]:
    """Two variables of the checkpoint that are one in the model: one value is lost."""
    taken = left.take(targets=[into for _, _, into in left.doubled])
    if not taken:
        return
    yield Cause(
        "tied-weights",
        f"{count(len(taken.doubled), 'variable')} of the model {be(len(taken.doubled))} several in the checkpoint",
        rows_of(attempt, taken),
        "logs a warning of inconsistent references; every assertion passes",
        "weights are shared in the model that were not when it was saved",
        is_planned=True,
    )


def find_counter(attempt: Attempt, _: Open) -> Iterator[Cause]:
    """`restore` where `read` was right, and the other way round: the counter that only `save` writes."""
    if attempt.source.kind == "name" or saved_model_of(attempt.prefix):
        return
    has = is_root_counter(attempt.source)
    if has == (attempt.call == "restore"):
        return
    right: Literal["read", "restore"] = "restore" if has else "read"
    counter = Key("save_counter")
    is_all = attempt.restoration.is_whole and not (attempt.live and attempt.live.untracked)
    wrote, other = ("save", "write") if has else ("write", "save")
    where = "in the checkpoint, and `read` does not ask for it"
    yield Cause(
        "saved-not-written" if has else "written-not-saved",
        f"the checkpoint was written by `{wrote}`, and `{attempt.call}` is for what `{other}` wrote"
        f"{'; everything else is restored' if is_all else ''}",
        (f"`save_counter` is {where if has else 'not in the checkpoint, and `restore` asks for it'}",),
        attempt.words(Taken(unused=(counter,)) if has else Taken(missing=(counter,))),
        "`save` counts how often it was called, in a variable of the checkpoint; `write` does not",
        (f"checkpoint.{right}({quoted(attempt.prefix)}).assert_consumed()",),
    )


def find_rest(attempt: Attempt, left: Open) -> Iterator[Cause]:
    """What the model has and the checkpoint has not, and the other way round."""
    taken = left.take(targets=list(left.missing))
    if taken:
        yield Cause(
            "not-in-checkpoint",
            f"{count(len(taken.missing), 'variable')} of the model {be(len(taken.missing))} not in the checkpoint, and "
            "would start anew; with `expect_partial` nobody hears of it",
            rows_of(attempt, taken),
            attempt.words(taken),
            "they are likely new in the model; nothing that is left of the checkpoint fits them",
            is_planned=True,
        )
    taken = left.take(targets=list(left.displaced))
    if taken:
        yield Cause(
            "list-changed",
            f"{count(len(taken.displaced), 'variable')} of the model {be(len(taken.displaced))} restored by a position "
            "in a list, and by their own paths from elsewhere",
            rows_of(attempt, taken),
            attempt.words(taken),
            "the shortest walk to a variable decides, and that is by a list which has another order now",
            is_planned=True,
        )
    taken = left.take(list(left.unused))
    if taken:
        yield Cause(
            "not-in-model",
            f"{count(len(taken.unused), 'value')} of the checkpoint {be(len(taken.unused))} of no use in the model",
            rows_of(attempt, taken),
            attempt.words(taken),
            "the model has likely lost them, or has not made them yet",
            ("ckptmigrate.restore(checkpoint, path, expect_partial=True)  # if they are not wanted",),
            is_planned=True,
        )
