"""Seeded refactorings of synthetic models, with the truth by construction.

`case` draws a model of one of many families as one of the frameworks would store it, changes it as people do, one
to five changes on top of each other, and knows for every tensor of the result where its values have to come from.
Nothing here looks at how the matcher works.

**What cannot be decided** is a property of the two checkpoints and not of how they came about. A target is
undecidable if another history of the same kinds of changes leads to the same two checkpoints and gives it other
values, and neither names, nor structure, nor shapes make one of the two more than a guess:

- ``twins``: things that look alike lost their names at the same time, so that nothing says which is which;
- ``position``: an equal item went into a run of equal items of a list, or out of it;
- ``number``: the same where the items are numbered attributes, or numbered names;
- ``replaced``: one layer took the place of another of the same shape under a name that has nothing to do with the
  old one; a layer that was renamed like that looks the same;
- ``layout``: a fused kernel was cut or made; whether heads or projections come first is not in a checkpoint;
- ``square``: kernels were transposed, and this one is square;
- ``tied``: two variables became one, and only one of them can give the values.

What a history hides completely (two equal items swapped, a path that was given to something else) is not made:
there the two checkpoints are those of no change at all, and nobody can know better.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from architectures import FAMILIES, Part, Weight, listed, look_of, model_of, parts_below, weights_below
from changes import CHANGES
from drafts import Draft, Thing, spread_list
from layouts import Design, Laid, State, lay

from ckptmigrate import ObjectGraph
from ckptmigrate.ops import Op, Transpose
from ckptmigrate.spec import Key


@dataclass(frozen=True)
class Origin:
    """Where a target's values come from, in the order of the operation; no sources for what is new."""

    sources: tuple[Key, ...] = ()
    ops: tuple[Op, ...] = ()


@dataclass(frozen=True)
class Case:
    """A source, a target, and the truth.

    Attributes:
        seed: What it was drawn from: `case(seed)` makes it again.
        family: The model's.
        styles: How source and target are stored.
        refactorings: What was done, in order.
        source: The graph of the source.
        target: The graph of the target.
        truth: Where each target tensor's values come from. What has no right answer (the hyperparameters of
            another optimizer) is not in it.
        undecidable: The targets for which there is no evidence on both sides, with the reason.
    """

    seed: int
    family: str
    styles: tuple[str, str]
    refactorings: tuple[str, ...]
    source: ObjectGraph
    target: ObjectGraph
    truth: Mapping[Key, Origin]
    undecidable: Mapping[Key, str]


def case(seed: int, only: Sequence[str] | None = None) -> Case:
    """The case of a seed.

    Args:
        seed: Any number. Equal seeds make equal cases, on every machine and in every process.
        only: The refactorings to apply, instead of those that the seed draws: to make a case smaller.
    """
    rng = random.Random(f"case {seed}")  # noqa: S311  # nothing is to be kept secret
    family = rng.choice(list(FAMILIES))
    source = _source(family, rng)
    _vary(source, random.Random(f"style {seed}"))  # noqa: S311  # as above
    draft = Draft(source, copied(source), rng)
    wanted = rng.choice((1, 1, 2, 2, 3, 4, 5)) if only is None else len(only)
    applied: list[str] = []
    for name in _drawn(rng) if only is None else only:
        # Each has random numbers of its own, so that a case with fewer of them is much the same.
        draft.rng = random.Random(f"{name} {seed}")  # noqa: S311  # as above
        followed = not source.hides_lists or name in _WHERE_LISTS_ARE_HIDDEN
        if len(applied) < wanted and followed and CHANGES[name][0](draft):
            applied.append(name)
    hidden = {name for name, is_hidden in _HIDDEN.items() if name in applied and is_hidden(draft)}
    if hidden:
        return case(seed, [name for name in applied if name not in hidden])
    undecidable = {**_undecidable(draft), **draft.undecidable}
    truth, hopeless = _truth(draft, lay(source), lay(draft.target), undecidable)
    return Case(
        seed,
        family,
        (_style(source), _style(draft.target)),
        tuple(applied),
        *(lay(design).graph for design in (source, draft.target)),
        truth,
        hopeless,
    )


def _drawn(rng: random.Random) -> list[str]:
    """All changes in an order in which those that are common come early: the first that are possible are made."""
    return sorted(CHANGES, key=lambda name: rng.random() ** (1 / CHANGES[name][1]), reverse=True)


def _style(design: Design) -> str:
    flow = any(model.form == "flow" for model in design.root.children.values())
    lists = " hidden lists" if design.hides_lists else ""
    return f"{design.framework}{' functional' if flow else ''}{lists}, {design.naming} names"


# A source.


def _source(family: str, rng: random.Random) -> Design:
    root = model_of(family, rng)
    styles = ("module", "keras2", "keras3", "functional2", "functional3", "tf1")
    style = rng.choice(("module", "keras2") if family == "plain" else styles)
    framework = {"functional2": "keras2", "functional3": "keras3"}.get(style, style)
    naming = {
        "module": ("none",),
        "keras2": ("given", "auto"),
        "keras3": ("auto", "none"),
        "functional2": ("given", "auto"),
        "functional3": ("given", "auto"),
        "tf1": ("given",),
    }[style]
    design = Design(root, framework, rng.choice(naming), counted=framework != "tf1" and rng.random() < 0.3)
    if style.startswith("functional"):
        for keyword, model in root.children.items():
            root.children[keyword] = _functional(model, rng, named=design.naming == "given")
    elif style == "keras3":
        _without_lists(root, rng)
    elif design.naming == "given":
        _name(root)
    if style == "module" and rng.random() < 0.5:
        design.roles = "short"
    design.states = _states(design, rng)
    if framework in ("keras2", "keras3"):
        design.compiled = bool(design.states) and rng.random() < 0.4
        design.bare = len(root.children) == 1 and rng.random() < 0.3
    return design


def _vary(design: Design, rng: random.Random) -> None:
    """Styles that are less common."""
    if design.framework == "module" and rng.random() < 0.4:
        design.naming = rng.choice(("role", "scoped"))
    numbered = [
        (part, stem)
        for _, _, part in parts_below(design.root)
        for stem, items in _stems(part).items()
        if part.form == "object" and not part.is_atomic and len(items) > 1
    ]
    is_object = design.framework == "keras3" and all(part.form == "object" for _, _, part in parts_below(design.root))
    if is_object and design.states and numbered and rng.random() < 0.25:
        design.hides_lists = True
        for part, stem in numbered:
            items = _stems(part)[stem]
            rest = {label: child for label, child in part.children.items() if child not in items}
            part.children = {**rest, f"{stem.strip('_')}s": listed(f"{stem}s", items)}


def _stems(part: Part) -> dict[str, list[Part]]:
    """The numbered attributes of a part, by what is before the number."""
    found: dict[str, list[Part]] = {}
    for label, child in part.children.items():
        if isinstance(child, Part) and label[-1].isdigit():
            found.setdefault(re.sub(r"\d+$", "", label), []).append(child)
    return found


_WHERE_LISTS_ARE_HIDDEN = frozenset(
    """
    insert_equal insert_other delete_equal delete_other swap_optimizer compile_model count_saves bare decoy
    """.split()  # noqa: SIM905  # a list of this many strings is no easier to read
)
"""The changes whose outcome can be told where only the optimizer knows of variables, and in which order."""


def _functional(model: Part, rng: random.Random, *, named: bool) -> Part:
    """A model as one row of layers, as a functional model is stored."""
    layers: list[Part] = []

    def visit(part, path):
        for label, child in part.children.items():
            if isinstance(child, Weight):
                continue
            # A layer of the user's own holds variables itself.
            if child.is_atomic or any(isinstance(inner, Weight) for inner in child.children.values()):
                child.given = "_".join((*path, label)) if named else ""
                child.after = rng.choice((0, 0, 1, 2))
                layers.append(child)
            else:
                visit(child, (*path, label))

    visit(model, ())
    return listed("sequential" if rng.random() < 0.3 else "functional", layers, "flow")


def _name(root: Part) -> None:
    """Give every part the name of its attribute, and an item of a list its list's with its number."""
    attributes = {part: label for _, label, part in parts_below(root)}
    for holder, label, part in parts_below(root):
        if holder is not None and holder is not root and part.form == "object" and part.kind != "einsum_dense":
            part.given = f"{attributes[holder]}_._{label}" if holder.form == "list" else label


def _without_lists(root: Part, rng: random.Random) -> None:
    """Lists as numbered attributes: Keras 3 leaves lists of layers out of TensorFlow's checkpoints."""
    base = rng.choice((0, 1))
    for part in [part for _, _, part in parts_below(root) if part.form == "object"]:
        for label in [
            name for name, child in part.children.items() if isinstance(child, Part) and child.form == "list"
        ]:
            spread_list(part, label, f"{re.sub(r'(_list|s)$', '', label) or label}_", base)


def _states(design: Design, rng: random.Random) -> tuple[State, ...]:
    if rng.random() < 0.3:
        return ()
    generations = {
        "module": ("keras-3", "keras-2.11", "legacy"),
        "keras2": ("keras-2.11", "legacy"),
        "keras3": ("keras-3",),
        "tf1": ("tf1",),
    }[design.framework]
    generation, algorithm = rng.choice(generations), rng.choice(("adam", "adam", "sgd"))
    keywords = list(design.root.children)
    fitted = rng.random() < 0.5
    if len(keywords) > 1 and design.framework != "tf1":
        return tuple(
            State(f"{name}_optimizer", (number,), generation, algorithm, fitted) for number, name in enumerate(keywords)
        )
    return (State("optimizer", tuple(range(len(keywords))), generation, algorithm, fitted),)


def copied(source: Design) -> Design:
    """A target that is the source yet: every part and weight knows its origin."""
    copies: dict[Thing, Thing] = {}

    def copy(thing):
        if thing not in copies:
            if isinstance(thing, Weight):
                copies[thing] = replace(thing, origin=(thing,), ops=())
            else:
                copies[thing] = made = replace(thing, children={}, origin=thing)
                made.children.update((label, copy(child)) for label, child in thing.children.items())
        return copies[thing]

    return replace(source, root=copy(source.root))


# What cannot be decided.


def _undecidable(draft: Draft) -> dict[Weight, str]:
    found: dict[Weight, str] = {}
    for old, items, why in draft.sequences:
        for item in _unplaced(draft, old, items):
            found.update(dict.fromkeys(weights_below(item), why))
    for old, items in draft.shuffled:
        looks, now = ([look_of(item) for item in row] for row in (old, items))
        for item in items:
            is_one_of_several = looks.count(look_of(item.origin)) > 1 or now.count(look_of(item)) > 1
            if is_one_of_several and not _is_named(draft, item):
                found.update(dict.fromkeys(weights_below(item), "position"))
    for thing, why in _unrecognized(draft):
        weights = [thing] if isinstance(thing, Weight) else weights_below(thing)
        found.update((weight, why) for weight in weights if not _is_held_elsewhere(draft, weight))
    return found


def _hides_order(draft: Draft) -> bool:
    """Whether items changed places that nothing tells apart any more: two checkpoints of no change at all."""
    for old, items in draft.shuffled:
        before = sorted(items, key=lambda item: [part is item.origin for part in old].index(True))
        if [look_of(item) for item in before] == [look_of(item) for item in items]:
            return not all(_is_named(draft, item) for item in items)
    return False


def _hides_turns(draft: Draft) -> bool:
    """Whether kernels were transposed, and of those that show it none is left."""
    return not any(
        isinstance(op, Transpose) and weight.shape != weight.shape[::-1]
        for weight in weights_below(draft.target.root)
        for op in weight.ops
    )


_HIDDEN: Mapping[str, Callable[[Draft], bool]] = {"reorder": _hides_order, "transpose_all": _hides_turns}
"""Changes that others may have hidden, so that the two checkpoints are those of a case without them."""


def _is_named(draft: Draft, part: Thing) -> bool:
    """Whether a name that a person gave, and that is on both sides, says which part this is."""
    return (
        isinstance(part, Part)
        and part.origin is not None
        and draft.source.tells_names
        and draft.target.tells_names
        and bool(part.given)
        and part.given == part.origin.given
    )


def _unplaced(draft: Draft, old: Sequence[Part], items: Sequence[Part]) -> list[Part]:
    """The items of a row of which several could be the one that came or went."""
    if _keeps_names(draft, items):
        return []
    left = [token for item in old for token in _tokens(look_of(item), item)]
    right = [token for item in items for token in _tokens(look_of(item.origin or draft.alike.get(item) or item), item)]
    partners, at = _partners(left, right), 0
    found = []
    for item in items:
        if len(partners[at]) > 1:
            found.append(item)
        at += len(_tokens(None, item))
    return found


def _tokens(look: object, item: Part) -> list[object]:
    """What an item of a row is in a checkpoint: itself, and in a flow the layers without weights that follow it."""
    return [look, *["no weights"] * item.after]


def _keeps_names(draft: Draft, items: Sequence[Part]) -> bool:
    """Whether every item that stayed has a name of its own still, so that names are no positions."""
    stayed = [item for item in items if item.origin is not None]
    return len({item.given for item in items}) == len(items) and all(_is_named(draft, item) for item in stayed)


def _partners(left: Sequence[object], right: Sequence[object]) -> list[set[int | None]]:
    """For each item on the right, what it is in any of the longest alignments; None where it may be new."""
    rows, columns = len(left), len(right)
    before = [[0] * (columns + 1) for _ in range(rows + 1)]
    after = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows):
        for j in range(columns):
            grown = before[i][j] + (left[i] == right[j])
            before[i + 1][j + 1] = max(grown, before[i][j + 1], before[i + 1][j])
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            grown = after[i + 1][j + 1] + (left[i] == right[j])
            after[i][j] = max(grown, after[i + 1][j], after[i][j + 1])
    best = before[rows][columns]
    found: list[set[int | None]] = []
    for j in range(columns):
        partners: set[int | None] = {
            i for i in range(rows) if left[i] == right[j] and before[i][j] + 1 + after[i + 1][j + 1] == best
        }
        if any(before[i][j] + after[i][j + 1] == best for i in range(rows + 1)):
            partners.add(None)
        found.append(partners)
    return found


def _unrecognized(draft: Draft) -> Iterator[tuple[Thing, str]]:
    """What lost its name, or is new, where nothing else says which it is.

    An attribute is the same in all objects of its class, so two of them can be told apart if anywhere they differ.
    """
    homes = {part for _, _, part in parts_below(draft.source.root)}
    renamed = [
        edge
        for edge in draft.opaque
        if not all(_is_named(draft, thing) or _is_wrapper(thing) for thing in edge.values())
        and not _have_optimizers(draft, edge)
    ]
    before = [_looks(edge, _look_before, homes) for edge in renamed]
    came, went = ([_looks(edge, look_of, homes) for edge in edges] for edges in (draft.new, draft.gone))
    for edge, looks in zip(renamed, before, strict=True):
        beside = sum(not looks.keys().isdisjoint(other) for other in before)
        if before.count(looks) > 1:
            yield from ((thing, "twins") for thing in edge.values())
        elif looks in came or looks in went or (beside < _MANY and all(map(_is_small, edge.values()))):
            yield from ((thing, "replaced") for thing in edge.values())
    for edge, looks in zip(draft.new, came, strict=True):
        if looks in before or looks in went:
            yield from ((thing, "replaced") for thing in edge.values())


def _is_wrapper(thing: Thing) -> bool:
    """Whether it holds what something else held before: whatever it is called, it hides nothing."""
    return isinstance(thing, Part) and thing.origin is None and thing.carved is not None


def _is_held_elsewhere(draft: Draft, weight: Weight) -> bool:
    """Whether something holds a variable under a name that it kept: what else lost its name is no matter."""
    opaque = {(home, thing) for edge in draft.opaque for home, thing in edge.items()}

    def keeps(part: Part, seen: frozenset[Part]) -> bool:
        return any(
            child is weight if isinstance(child, Weight) else child not in seen and keeps(child, seen | {child})
            for child in part.children.values()
            if (part.home, child) not in opaque
        )

    return keeps(draft.target.root, frozenset())


def _have_optimizers(draft: Draft, edge: Mapping[Part, Thing]) -> bool:
    """Whether what lost its name are models of which each has an optimizer with a name of its own."""
    return draft.source.root in edge and len(draft.source.states) > 1 and len(draft.target.states) > 1


def _looks(edge: Mapping[Part, Thing], look: Callable[[Thing], object], homes: set[Part]) -> dict[Part, object]:
    return {home: look(thing) for home, thing in edge.items() if home in homes}


_MANY = 2
"""So many layers of one object are not all thrown away, and others of their very shapes made."""


def _look_before(thing: Thing) -> object:
    if isinstance(thing, Weight):
        return tuple(map(look_of, thing.origin))
    return look_of(thing.origin or thing)


def _is_small(thing: Thing) -> bool:
    """Whether it is one layer or one variable: what is easily thrown away and made anew."""
    return isinstance(thing, Weight) or thing.is_atomic or len(weights_below(thing)) < 3


# The truth.


def _truth(
    draft: Draft, source: Laid, target: Laid, undecidable: Mapping[Weight, str]
) -> tuple[dict[Key, Origin], dict[Key, str]]:
    truth: dict[Key, Origin] = {}
    hopeless: dict[Key, str] = {}
    for weight, key in target.keys.items():
        truth[key] = Origin(tuple(source.keys[origin] for origin in weight.origin), weight.ops)
        if weight in undecidable:
            hopeless[key] = undecidable[weight]
    old = {state.keyword: number for number, state in enumerate(draft.source.states)}
    for (number, kind, weight), key in target.slots.items():
        state = draft.target.states[number]
        same = old.get(state.keyword)
        sources = () if same is None else tuple(source.slots.get((same, kind, w)) for w in weight.origin)
        known = same is not None and draft.source.states[same].algorithm == state.algorithm
        truth[key] = Origin(sources, weight.ops) if known and all(sources) else Origin()
        # Another optimizer's slots start anew, whatever the variable is.
        if weight in undecidable and known:
            hopeless[key] = undecidable[weight]
    for (number, name), key in target.scalars.items():
        state = draft.target.states[number] if number >= 0 else None
        same = number if state is None else old.get(state.keyword)
        if same is None or (same, name) not in source.scalars:
            if name == "save_counter":
                truth[key] = Origin()
            continue
        if state is None or draft.source.states[same].algorithm == state.algorithm:
            truth[key] = Origin((source.scalars[same, name],))
    return dict(sorted(truth.items())), dict(sorted(hopeless.items()))
