"""What people do to models, one function each: it changes the target of a draft, or says that it cannot.

A change that takes evidence away says so in the draft; `refactorings` works out from that, at the end, what
cannot be decided any more.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from architectures import Part, Weight, dense, embedding, listed, look_of, parts_below, weights_below
from drafts import (
    Draft,
    Thing,
    akin,
    concept_of,
    edges,
    first_number,
    free_in,
    fresh,
    is_container,
    is_flow,
    is_layer,
    is_part,
    objects,
    own_parts,
    pick,
    put_instead,
    relabel,
    shows_labels,
    spread_list,
    taken,
)
from layouts import State
from rows import (
    delete_equal,
    delete_other,
    gather,
    insert_equal,
    insert_other,
    pad_flow,
    rebase,
    reorder,
    reorder_attributes,
    spread,
)

from ckptmigrate.ops import Concat, Reshape, Resize, Transpose
from ckptmigrate.ops import Part as Cut

# Names.


def rename(draft: Draft) -> bool:
    """An attribute gets a name that says the same."""
    places = pick(draft, edges(draft, is_part))
    if places is None:
        return False
    label = places[0][1]
    others = {concept_of(other) for holder, _, _ in places for other in taken(holder) - {label}}
    options = [
        name for name in akin(label) if free_in(places, name) and concept_of(name) not in others and name != label
    ]
    new = pick(draft, options)
    if new is None:
        return False
    follows = draft.names_are_labels or draft.rng.random() < 0.5
    for holder, _, child in places:
        relabel(holder, {label: new})
        if follows and child.given == label:
            child.given = new
    return True


def obscure(draft: Draft) -> bool:
    """An attribute gets a name that has nothing to do with its old one."""
    places = pick(draft, edges(draft, lambda thing: isinstance(thing, Weight) or thing.form == "object"))
    if places is None or not shows_labels(draft):
        return False
    return _obscure(draft, {places[0][1]: draft.word()}, places)


def obscure_twins(draft: Draft) -> bool:
    """Things that look alike get such names together."""
    groups: dict[tuple, list] = {}
    for places in edges(draft, lambda thing: isinstance(thing, Weight) or thing.form == "object"):
        holder, _, child = places[0]
        groups.setdefault((holder.kind, look_of(child)), []).append(places)
    chosen = pick(draft, [group for group in groups.values() if len(group) > 1])
    if chosen is None or not shows_labels(draft):
        return False
    names = {places[0][1]: draft.word() for places in chosen}
    return _obscure(draft, names, [place for places in chosen for place in places], kept=0.2)


def obscure_all(draft: Draft) -> bool:
    """All that an object holds gets such names, and stands in another order."""
    holder = pick(draft, [part for part in objects(draft) if 1 < len(part.children) < 12])
    if holder is None or not shows_labels(draft):
        return False
    places = [
        place
        for found in edges(draft, lambda thing: isinstance(thing, Weight) or thing.form == "object")
        for place in found
        if place[0].kind == holder.kind
    ]
    names = {label: draft.word() for label in dict.fromkeys(label for _, label, _ in places)}
    if len(names) < 2:
        return False
    order = draft.rng.sample(range(100), 100)
    _obscure(draft, names, places, kept=0.2)
    for part in {place[0]: None for place in places}:
        items = list(part.children.items())
        part.children = dict(sorted(items, key=lambda item: order[items.index(item) % 100]))
    return True


def _obscure(draft: Draft, names: Mapping[str, str], places, kept: float = 0.4) -> bool:
    keeps_names = not draft.names_are_labels and draft.rng.random() < kept
    for label, new in names.items():
        edge = {holder.home: child for holder, old, child in places if old == label}
        for child in edge.values():
            if isinstance(child, Part) and not keeps_names and child.given:
                child.given = new
        draft.opaque.append(edge)
        draft.settled.update(edge.values())
    for holder, label, _ in places:
        relabel(holder, {label: names[label]})
    return True


def wrap(draft: Draft) -> bool:
    """Some of what an object holds, side by side, moves into an object of its own."""
    if not shows_labels(draft):
        return _wrap_in_flow(draft)
    holder = pick(draft, [part for part in objects(draft) if part.children])
    if holder is None:
        return False
    labels = list(holder.children)
    first = draft.rng.randrange(len(labels))
    chosen = labels[first : first + draft.rng.randint(1, max(1, len(labels) - 1))]
    same = [part for part in objects(draft) if part.kind == holder.kind and set(chosen) <= part.children.keys()]
    new = pick(
        draft,
        [
            name
            for name in ("body", "backbone", "inner", "core", "main", "wrapped")
            if all(name not in taken(p) for p in same)
        ],
    )
    if new is None:
        return False
    kind = f"{new}_of_{holder.kind}"
    for part in same:
        inner = Part(kind, {label: part.children[label] for label in chosen}, carved=part.origin or part.carved)
        if draft.target.tells_names and (draft.names_are_labels or draft.rng.random() < 0.5):
            inner.given = new
        children = {}
        for label, child in part.children.items():
            if label == chosen[0]:
                children[new] = inner
            if label not in chosen:
                children[label] = child
        part.children = children
    return True


def _wrap_in_flow(draft: Draft) -> bool:
    model = pick(draft, [part for part in draft.target.root.children.values() if part not in draft.settled])
    if model is None or len(model.children) < 3:
        return False
    items = list(model.children.values())
    first = draft.rng.randrange(len(items) - 2)
    last = first + draft.rng.randint(2, len(items) - 1 - first)
    inner = listed(draft.rng.choice(("sequential", "functional")), items[first:last], "flow")
    model.children = listed("", [*items[:first], inner, *items[last:]]).children
    draft.settled.update((model, inner))
    return True


def unwrap(draft: Draft) -> bool:
    """What an object holds moves up to its holder; the object goes."""
    places = pick(draft, edges(draft, lambda thing: is_container(thing) and bool(thing.children)))
    if places is None or not shows_labels(draft) or places[0][0] is draft.target.root:
        return False
    label = places[0][1]
    if len({child for _, _, child in places}) != len(places):
        return False
    names: dict[str, str] = {}
    for holder, _, child in places:
        for inner in child.children:
            names[inner] = f"{label}_{inner}" if inner in taken(holder) else names.get(inner, inner)
    if any(not free_in([place], name) for place in places for name in names.values()):
        return False
    for holder, _, child in places:
        put_instead(holder, child, {names[inner]: thing for inner, thing in child.children.items()})
        for inner, thing in child.children.items():
            if draft.names_are_labels and isinstance(thing, Part) and thing.given == inner:
                thing.given = names[inner]
    return True


def decoy(draft: Draft) -> bool:
    """A layer of each type is built before: the numbers in automatic names shift."""
    if draft.target.naming != "auto":
        return False
    draft.target.offset = 1 + draft.rng.randrange(3) if not draft.target.offset else 0
    return True


def drop_names(draft: Draft) -> bool:
    """Layers are not named any more, and Keras numbers them."""
    if draft.target.naming != "given" or draft.target.framework == "tf1":
        return False
    draft.target.naming = "auto"
    return True


# Layers that come and go.


def add_layer(draft: Draft) -> bool:
    """An object gets one more layer, with a name of its own; it may look like another."""
    holder = pick(draft, [part for part in objects(draft) if part.home is not part])
    if holder is None or not shows_labels(draft):
        return False
    layers = [child for child in holder.children.values() if is_layer(child)]
    model = pick(draft, layers) if draft.rng.random() < 0.5 else None
    label = draft.word()
    edge: dict[Part, Thing] = {}
    for part in objects(draft):
        if part.kind == holder.kind:
            made = fresh(model) if model is not None else draft.rng.choice((dense(13, 13), embedding(41, 13)))
            made.given = label if draft.target.tells_names else ""
            items = list(part.children.items())
            items.insert(draft.rng.randint(0, len(items)), (label, made))
            part.children = dict(items)
            edge[part.home] = made
    draft.new.append(edge)
    draft.settled.update(edge.values())
    return True


def drop_layer(draft: Draft) -> bool:
    """An object loses a layer."""
    places = pick(draft, edges(draft, is_layer))
    if places is None or not shows_labels(draft) or any(len(holder.children) < 2 for holder, _, _ in places):
        return False
    for holder, label, _ in places:
        holder.children = {name: held for name, held in holder.children.items() if name != label}
    draft.gone.append({holder.home: child.origin for holder, _, child in places if child.origin is not None})
    return True


def replace_layer(draft: Draft) -> bool:
    """A layer goes, and one of the same shape comes, under another name."""
    places = pick(draft, edges(draft, lambda thing: is_layer(thing) and thing.origin is not None))
    if places is None or not shows_labels(draft):
        return False
    new = draft.word()
    edge: dict[Part, Thing] = {}
    for holder, _, child in places:
        edge[holder.home] = made = fresh(child)
        made.given = new if draft.target.tells_names else ""
        put_instead(holder, child, {new: made})
    draft.gone.append({holder.home: child.origin for holder, _, child in places})
    draft.new.append(edge)
    draft.settled.update(edge.values())
    return True


# Values that change on the way.


def split_qkv(draft: Draft) -> bool:
    """A fused projection becomes three: one after the other in the kernel, or head by head."""
    places = pick(draft, [p for p in edges(draft, is_layer) if p[0][1] in ("c_attn", "qkv")])
    if places is None or is_flow(draft.target):
        return False
    names = draft.rng.choice((("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("q", "k", "v")))
    if not all(free_in(places, name) for name in names):
        return False
    by_head = draft.rng.random() < 0.25
    for holder, _, child in places:
        width = next(iter(child.children.values())).shape[-1] // 3
        made = {}
        for number, name in enumerate(names):
            part = made[name] = Part("dense", given=name if draft.target.tells_names else "")
            for role, weight in child.children.items():
                cut = _cut_by_head(weight, number) if by_head else (Cut(-1, number, 3),)
                shape = (*weight.shape[:-1], width)
                part.children[role] = replace(weight, shape=shape, ops=(*weight.ops, *(cut if weight.origin else ())))
                if weight.origin:
                    draft.undecidable[part.children[role]] = "layout"
            draft.settled.add(part)
        put_instead(holder, child, made)
    return True


def _cut_by_head(weight: Weight, number: int):
    *before, width = weight.shape
    each = width // 6
    return (
        Reshape((*before, 2, 3, each)),
        Cut(-2, number, 3),
        Reshape((*before, 2 * each)),
    )


_TRIPLES = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("q", "k", "v"))


def merge_qkv(draft: Draft) -> bool:
    """Three projections become one."""
    if is_flow(draft.target):
        return False
    holders: dict[tuple, list[Part]] = {}
    for part in objects(draft):
        for triple in _TRIPLES:
            if all(is_layer(part.children.get(name)) and part.children[name] not in draft.settled for name in triple):
                holders.setdefault((part.kind, triple), []).append(part)
    chosen = pick(draft, list(holders.items()))
    if chosen is None:
        return False
    (_, triple), parts = chosen
    label = draft.rng.choice(("qkv", "c_attn", "qkv_proj"))
    weights = [w for part in parts for name in triple for w in part.children[name].children.values()]
    if any(label in taken(part) for part in parts) or any(w.ops or len(w.origin) != 1 for w in weights):
        return False
    for part in parts:
        each = [part.children.pop(name) if name != triple[0] else part.children[name] for name in triple]
        fused = _fused(each)
        fused.given = label if draft.target.tells_names else ""
        put_instead(part, each[0], {label: fused})
        draft.undecidable.update(dict.fromkeys(fused.children.values(), "layout"))
        draft.settled.add(fused)
    return True


def _fused(layers: Sequence[Part]) -> Part:
    """One layer with the weights of several side by side."""
    made = Part("dense")
    for role, weight in layers[0].children.items():
        made.children[role] = replace(
            weight,
            shape=(*weight.shape[:-1], len(layers) * weight.shape[-1]),
            origin=tuple(layer.children[role].origin[0] for layer in layers),
            ops=(Concat(-1),),
        )
    return made


def transpose(draft: Draft) -> bool:
    """A layer's kernel, which is not square, is stored the other way round."""
    options = [
        places
        for places in edges(draft, is_layer)
        if all(_turns(child) and _kernel(child).shape[0] != _kernel(child).shape[1] for _, _, child in places)
    ]
    places = pick(draft, options)
    if places is None or _is_turned(draft):
        return False
    for _, _, child in places:
        _turn(child)
    return True


def _is_turned(draft: Draft) -> bool:
    """Whether kernels were transposed before: twice is not at all, and would leave no sign of the square ones."""
    return any(isinstance(op, Transpose) for weight in weights_below(draft.target.root) for op in weight.ops)


def transpose_all(draft: Draft) -> bool:
    """All dense kernels are stored the other way round, the square ones too."""
    layers = {child: None for _, _, child in own_parts(draft.target.root) if is_layer(child) and _turns(child)}
    if all(_kernel(layer).shape[0] == _kernel(layer).shape[1] for layer in layers) or _is_turned(draft):
        return False
    new = draft.rng.choice(("kernel", "weight", "weight"))
    for layer in layers:
        kernel = _kernel(layer)
        if kernel.shape[0] == kernel.shape[1] and kernel.origin:
            draft.undecidable[kernel] = "square"
        _turn(layer)
        relabel(layer, {"kernel": new})
    return True


def _turns(layer: Part) -> bool:
    return layer.kind == "dense" and "kernel" in layer.children


def _kernel(layer: Part) -> Weight:
    return layer.children["kernel"]


def _turn(layer: Part) -> None:
    kernel = _kernel(layer)
    kernel.shape = kernel.shape[::-1]
    if kernel.origin:
        kernel.ops = (*kernel.ops, Transpose((1, 0)))


def grow(draft: Draft) -> bool:
    """A table gets more rows, at its end."""
    tables = {
        child.children["embeddings"]: None
        for _, _, child in parts_below(draft.target.root)
        if child.kind == "embedding" and not child.children["embeddings"].ops
    }
    table = pick(draft, list(tables))
    if table is None:
        return False
    rows = table.shape[0] + draft.rng.choice((1, 3, 8))
    table.shape = (rows, *table.shape[1:])
    if table.origin:
        table.ops = (*table.ops, Resize(0, rows, 0.0))
    return True


def untie(draft: Draft) -> bool:
    """A variable that two parts had becomes two with its values."""
    places = pick(
        draft, [(h, c) for _, _, h in parts_below(draft.target.root) if h.kind == "tied_head" for c in h.children]
    )
    if places is None:
        return False
    head, label = places
    head.children[label] = replace(head.children[label])
    return True


def tie(draft: Draft) -> bool:
    """Two tables of one shape become one variable: the first's."""
    if is_flow(draft.target) or draft.names_are_labels:
        # Where a variable has one place only, the other just went.
        return False
    holders: dict[tuple, list[Part]] = {}
    for _, _, part in parts_below(draft.target.root):
        if part.kind == "embedding" and part not in draft.settled:
            holders.setdefault(part.children["embeddings"].shape, []).append(part)
    pairs = [parts for parts in holders.values() if len({*map(id, parts)}) > 1]
    chosen = pick(draft, pairs)
    if chosen is None:
        return False
    first, second = draft.rng.sample(chosen, 2)
    if first is second or first.children["embeddings"] is second.children["embeddings"]:
        return False
    second.children["embeddings"] = first.children["embeddings"]
    draft.undecidable[first.children["embeddings"]] = "tied"
    draft.settled.update((first, second))
    return True


# What is around the model.


def swap_optimizer(draft: Draft) -> bool:
    """Another optimizer, or another version of it, or none, or the first."""
    design = draft.target
    generations = {
        "module": ("keras-3", "keras-2.11", "legacy"),
        "keras2": ("keras-2.11", "legacy"),
        "keras3": ("keras-3",),
        "tf1": ("tf1",),
    }[design.framework]
    if not design.states:
        design.states = (
            State("optimizer", tuple(range(len(design.root.children))), draft.rng.choice(generations), "adam"),
        )
        return True
    if draft.rng.random() < 0.2:
        design.states, design.compiled = (), False
        return True
    options = [
        (g, a)
        for g in generations
        for a in ("adam", "sgd")
        if (g, a) != (design.states[0].generation, design.states[0].algorithm)
    ]
    generation, algorithm = draft.rng.choice(options)
    design.states = tuple(replace(state, generation=generation, algorithm=algorithm) for state in design.states)
    return True


def refreeze(draft: Draft) -> bool:
    """One of two layers of a shape was frozen while the model was trained; now it is the other."""
    if (
        not draft.source.states
        or not draft.target.states
        or any(
            design.framework == "module" and state.generation == "keras-2.11"
            for design in (draft.source, draft.target)
            for state in design.states
        )
    ):
        # Where names alone tell whose slots are whose, variables without names of their own hide it.
        return False
    alike: dict[object, list[Part]] = {}
    for part in dict.fromkeys(part for _, _, part in parts_below(draft.target.root) if is_layer(part)):
        weights = weights_below(part)
        if weights and all(w.trainable and not w.ops and len(w.origin) == 1 for w in weights):
            alike.setdefault(look_of(part), []).append(part)
    layers = pick(draft, [parts for parts in alike.values() if len(parts) > 1])
    if layers is None:
        return False
    before, now = draft.rng.sample(layers, 2)
    if not {*weights_below(before)}.isdisjoint(weights_below(now)):
        return False
    for weight in weights_below(before):
        weight.origin[0].trainable = False
    for weight in weights_below(now):
        weight.trainable = False
    return True


def compile_model(draft: Draft) -> bool:
    """The model is compiled, or not any more."""
    if not draft.target.states or draft.target.framework not in ("keras2", "keras3"):
        return False
    draft.target.compiled = not draft.target.compiled
    return True


def count_saves(draft: Draft) -> bool:
    """The checkpoint has a save counter, or not any more."""
    if draft.target.framework == "tf1":
        return False
    draft.target.counted = not draft.target.counted
    return True


def bare(draft: Draft) -> bool:
    """The model is the checkpoint's root, or has a keyword in it."""
    design = draft.target
    if len(design.root.children) != 1 or design.framework not in ("keras2", "keras3"):
        return False
    design.bare = not design.bare
    return True


def rename_roles(draft: Draft) -> bool:
    """Variables of layers of one's own have the short names, or the long ones."""
    if draft.target.framework != "module":
        return False
    draft.target.roles = "short" if draft.target.roles == "keras" else "keras"
    return True


def to_keras_3(draft: Draft) -> bool:
    """From Keras 2, or from a tf.Module."""
    design = draft.target
    if design.framework not in ("module", "keras2") or any(
        isinstance(child, Weight)
        for _, _, part in parts_below(design.root)
        if part.form == "list"
        for child in part.children.values()
    ):
        return False
    for part in [part for _, _, part in parts_below(design.root) if part.form == "object"]:
        lists = [label for label, child in part.children.items() if isinstance(child, Part) and child.form == "list"]
        for label in lists:
            stem = f"{re.sub(r'(_list|s)$', '', label) or label}_"
            if any(other.startswith(stem) for other in part.children):
                stem = f"{label}_item_"
            number = first_number(draft, list(part.children[label].children.values()))
            spread_list(part, label, stem, number or 0)
    was_flow = is_flow(design)
    design.naming = design.naming if was_flow else draft.rng.choice(("auto", "none"))
    design.framework, design.roles = "keras3", "keras"
    design.states = tuple(replace(state, generation="keras-3") for state in design.states)
    return True


CHANGES: dict[str, tuple[Callable[[Draft], bool], float]] = {
    change.__name__: (change, weight)
    for change, weight in (
        (rename, 8),
        (obscure, 3),
        (obscure_twins, 3),
        (obscure_all, 2),
        (wrap, 4),
        (unwrap, 4),
        (decoy, 4),
        (drop_names, 1),
        (insert_equal, 4),
        (delete_equal, 4),
        (insert_other, 4),
        (delete_other, 2),
        (reorder, 3),
        (reorder_attributes, 3),
        (rebase, 2),
        (spread, 3),
        (gather, 8),
        (pad_flow, 3),
        (add_layer, 3),
        (drop_layer, 3),
        (replace_layer, 2),
        (split_qkv, 30),
        (merge_qkv, 12),
        (transpose, 3),
        (transpose_all, 2),
        (grow, 3),
        (untie, 25),
        (tie, 8),
        (swap_optimizer, 3),
        (compile_model, 3),
        (count_saves, 1),
        (bare, 1),
        (rename_roles, 4),
        (to_keras_3, 3),
        (refreeze, 6),
    )
}
"""Every change by its name, with how often it is tried."""
