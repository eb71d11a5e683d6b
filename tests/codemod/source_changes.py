"""Seeded changes of the source of models, with the truth by construction.

`case(seed)` draws a small project, real Keras 3, Keras 2 or `tf.Module` source over several files, and changes it as
people do, one to four changes on top of each other and edits around them that change no model. Each thing that a
model holds keeps its identity through all of it, so for every way to a thing before it is known which way leads to it
after. Nothing here looks at how the inference works.

**What cannot be decided** is a property of the two versions: a target is undecidable if another history of the same
kinds of changes leads to the same two texts and gives it another origin. So it is with an item that went into a run of
equal items of a list, or out of one, and with all items of that run.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

from source_projects import Author, Design, Kind, Slot, Thing, Way, layers_of, render


@dataclass(frozen=True)
class Case:
    """Two versions of a project, and what is true of them.

    Attributes:
        seed: What it was drawn from.
        framework: What the models are made with.
        changes: What was done.
        old: The files before, by their names.
        new: The files after.
        truth: The ways to things before, each with the way to the same thing after.
        undecidable: Those ways before of which nothing shows which way after is the same.
        classes: The classes before, each with what it is called after.
        factory: The model's class or function before and after, as ``module.name``.
        layers: The path of each layer in the object graph before, from the model, with its path after; of those that
            can be known.
    """

    seed: int
    framework: str
    changes: tuple[str, ...]
    old: dict[str, str]
    new: dict[str, str]
    truth: dict[Way, Way]
    undecidable: frozenset[Way]
    classes: dict[str, str]
    factory: tuple[str, str]
    layers: dict[tuple[str, ...], tuple[str, ...]]

    @property
    def moved(self) -> dict[Way, Way]:
        """What has another way to it after, or another class that holds it, and can be known."""
        return {
            old: new
            for old, new in self.truth.items()
            if (old[1] != new[1] or self.classes.get(old[0]) != new[0]) and old not in self.undecidable
        }


def case(seed: int) -> Case:
    """The case of a seed; equal on every machine."""
    rng = random.Random(f"source {seed}")  # noqa: S311  # nothing is to be kept secret
    old = Author(rng).project()
    draft = _Draft(old, deepcopy(old), rng)
    wanted = rng.choice((1, 1, 2, 2, 3, 4))
    applied: list[str] = []
    for change in _drawn(rng):
        if len(applied) == wanted:
            break
        if change(draft):
            applied.append(change.__name__)
    for edit in rng.sample(_EDITS, rng.choice((0, 1, 2, 3))):
        edit(draft)
    new = draft.new
    olds, news = (
        {thing.number: (design.owner(kind), way) for kind in design.kinds for way, thing in kind.ways()}
        for design in (old, new)
    )
    truth = {olds[number]: news[number] for number in olds if number in news}
    owners = [{kind.number: design.owner(kind) for kind in design.kinds} for design in (old, new)]
    classes = {owners[0][number]: owners[1][number] for number in owners[0] if number in owners[1]}
    hidden = frozenset(olds[number] for number in draft.undecidable if number in olds)
    return Case(
        seed, old.framework, tuple(applied), render(old), render(new), truth, hidden, classes,
        (old.owner(old.root), new.owner(new.root)), _layers_of_both(old, new, draft.undecidable),
    )  # fmt: skip


def _layers_of_both(old: Design, new: Design, undecidable: set[int]) -> dict[tuple[str, ...], tuple[str, ...]]:
    paths = [dict(layers_of(design, design.root)) for design in (old, new)]
    numbers = [{number for chain in found for number in chain} for found in paths]
    # What wraps something in one version only is no part of its identity.
    by_chain = [
        {
            tuple(number for number in chain if number in numbers[1 - side]): path
            for chain, path in found.items()
            if next(number for number in reversed(chain) if number > 0) in numbers[1 - side]
        }
        for side, found in enumerate(paths)
    ]
    return {
        path: by_chain[1][chain]
        for chain, path in by_chain[0].items()
        if chain in by_chain[1] and not undecidable.intersection(chain)
    }


def _drawn(rng: random.Random) -> list[Callable[[_Draft], bool]]:
    return sorted(_CHANGES, key=lambda change: rng.random() ** (1 / _CHANGES[change]), reverse=True)


# Changes.


@dataclass
class _Draft:
    old: Design
    new: Design
    rng: random.Random
    undecidable: set[int] = field(default_factory=set)
    settled: set[int] = field(default_factory=set)
    words: list[str] = field(default_factory=lambda: list(_WORDS))
    count: int = 10_000

    def word(self) -> str:
        return self.words.pop(self.rng.randrange(len(self.words)))

    def next(self) -> int:
        self.count += 1
        return self.count

    def slots(self, *forms: str) -> list[tuple[Kind, Slot]]:
        """The attributes that no other change has been at."""
        return [
            (kind, slot)
            for kind in self.new.kinds
            for slot in kind.slots
            if (not forms or slot.form in forms) and not self.settled.intersection(t.number for t in slot.things)
        ]

    def settle(self, *things: Thing) -> None:
        self.settled.update(thing.number for thing in things)


_WORDS = """
    acorn amber anvil apple arrow aspen badger banjo basil beacon birch bison bolt bramble breeze brick bronze cactus
    candle canyon cedar cherry clover cobalt comet copper coral cricket crystal daisy dune eagle ember falcon fern
    fjord flint forest fossil garnet ginger glacier granite harbor hazel heron indigo iris island ivory jade jasper
""".split()  # noqa: SIM905  # a list of this many strings is no easier to read

_SAID_OTHERWISE = {
    line.split()[0]: tuple(line.split()[1:])
    for line in """
    query q_dense query_proj _query
    key k_dense key_proj _key
    value v_dense value_proj
    q query wq
    k key wk
    v value wv
    o output_proj wo
    combine output_proj _combine
    q_proj query_proj query
    k_proj key_proj key
    v_proj value_proj value
    out_proj output_proj o_proj
    fc1 dense1 fc_1 linear1
    fc2 dense2 fc_2 linear2
    up up_proj
    down down_proj
    intermediate intermediate_dense _intermediate
    output_dense _output_dense dense_output
    wi w_in wi_0
    wo w_out wo_0
    norm1 layer_norm1 ln1 norm_1
    norm2 layer_norm2 ln2 norm_2
    attention_norm attn_norm attention_layer_norm
    ffn_norm mlp_norm ffn_layer_norm
    ln_1 layer_norm_1 norm_1
    ln_2 layer_norm_2 norm_2
    pre_norm pre_layer_norm _pre_norm
    post_norm post_layer_norm _post_norm
    attn attention self_attn
    attention attn self_attention
    self_attention _self_attention attention
    mlp feed_forward ffn
    ffn mlp feedforward
    feed_forward ffn _feed_forward
    expand expansion expand_dense
    contract contraction contract_dense
    dropout _dropout drop
    embed embedding _embed embedder
    final_norm norm_f final_layer_norm _final_norm
    head head_dense _head lm_head
    blocks block_list _blocks transformer_blocks
    layer_stack _layer_stack stack
    encoder_layers _encoder_layers enc_layers
    heads head_dict _heads
    classifier classifier_head _classifier
    project projection proj
    norm layer_norm _norm
    user user_tower
    item item_tower
    query_tower query_encoder
    doc_tower doc_encoder document_tower
    left left_tower _left
    right right_tower _right
    scorer score _scorer
    stem _stem stem_dense
    body _body body_layers
    trunk _trunk trunk_layers
    layers_ layer_list my_layers
    """.strip().splitlines()
}
"""Attributes, each with what else people call it."""


def _akin(draft: _Draft, label: str) -> str:
    stem = re.sub(r"_\d+$", "", label)
    number = label[len(stem) :]
    options = _SAID_OTHERWISE.get(label) or (f"_{stem}{number}", f"{stem}_layer{number}", f"my_{stem}{number}")
    return draft.rng.choice(options)


def _rename_slots(draft: _Draft, kind: Kind, slots: list[Slot], names: list[str]) -> bool:
    taken = {slot.label for slot in kind.slots} | {*kind.hyper}
    if taken.intersection(names) or len(set(names)) < len(names):
        return False
    for slot, name in zip(slots, names, strict=True):
        slot.label = name
        draft.settle(*slot.things)
    return True


def rename(draft: _Draft) -> bool:
    """An attribute is said otherwise."""
    options = draft.slots()
    if not options:
        return False
    kind, slot = draft.rng.choice(options)
    return _rename_slots(draft, kind, [slot], [_akin(draft, slot.label)])


def obscure(draft: _Draft) -> bool:
    """An attribute gets a name that has nothing to do with the old one."""
    options = draft.slots()
    if not options:
        return False
    kind, slot = draft.rng.choice(options)
    return _rename_slots(draft, kind, [slot], [draft.word()])


def rename_all(draft: _Draft) -> bool:
    """All attributes of a class are said otherwise."""
    kind = draft.rng.choice(draft.new.kinds)
    slots = [slot for each, slot in draft.slots() if each is kind]
    return len(slots) > 1 and _rename_slots(draft, kind, slots, [_akin(draft, slot.label) for slot in slots])


def obscure_all(draft: _Draft) -> bool:
    """All attributes of a class get names that have nothing to do with the old ones."""
    kind = draft.rng.choice(draft.new.kinds)
    slots = [slot for each, slot in draft.slots() if each is kind]
    return len(slots) > 1 and _rename_slots(draft, kind, slots, [draft.word() for _ in slots])


_CLASSES = {
    "Attention": ("Attn", "SelfAttention"),
    "SelfAttention": ("AttentionLayer",),
    "FeedForward": ("MLP", "Ffn"),
    "Mlp": ("FeedForward",),
    "Block": ("EncoderBlock", "Unit"),
    "EncoderLayer": ("EncoderBlock", "Layer1"),
    "TransformerBlock": ("Block",),
    "Tower": ("Branch", "SideEncoder"),
}


def rename_class(draft: _Draft) -> bool:
    """A class is called otherwise."""
    kind = draft.rng.choice(draft.new.kinds)
    names = _CLASSES.get(kind.name, (f"{kind.name}V2", draft.word().title()))
    if kind.flow is not None:
        names = (f"{kind.name}_v2",)
    name = draft.rng.choice(names)
    if kind.number in draft.settled or any(each.name == name for each in draft.new.kinds):
        return False
    kind.name = name
    draft.settled.add(kind.number)
    return True


def move_class(draft: _Draft) -> bool:
    """A class goes into another file."""
    kinds = draft.new.kinds[:-1]
    if not kinds:
        return False
    draft.rng.choice(kinds).module = draft.rng.choice(("common", "nn", "modules"))
    return _is_importable(draft.new) or _undo_modules(draft)


def merge_files(draft: _Draft) -> bool:
    """All classes go into one file."""
    if len({kind.module for kind in draft.new.kinds}) < 2:
        return False
    for kind in draft.new.kinds:
        kind.module = "model"
    return True


def _undo_modules(draft: _Draft) -> bool:
    for kind in draft.new.kinds:
        kind.module = "model"
    return True


def _is_importable(design: Design) -> bool:
    """Whether no two files import each other."""
    edges: dict[str, set[str]] = {}
    for kind in design.kinds:
        for slot in kind.slots:
            for thing in slot.things:
                if isinstance(thing.maker, Kind) and thing.maker.module != kind.module:
                    edges.setdefault(kind.module, set()).add(thing.maker.module)
    seen: set[tuple[str, ...]] = set()
    stack = [(module,) for module in edges]
    while stack:
        way = stack.pop()
        for other in edges.get(way[-1], ()):
            if other in way:
                return False
            if (*way, other) not in seen:
                seen.add((*way, other))
                stack.append((*way, other))
    return True


def wrap(draft: _Draft) -> bool:
    """Attributes that the call uses one after the other go into a class of their own."""
    options = [
        (kind, step)
        for kind in draft.new.kinds
        for step in kind.steps
        if step[0] == "chain" and len([slot for slot in step[1] if slot.form == "one"]) > 2
    ]
    if not options:
        return False
    kind, (_, slots) = draft.rng.choice(options)
    singles = [slot for slot in slots if slot.form == "one"]
    start = draft.rng.randrange(len(singles) - 1)
    chosen = singles[start : start + draft.rng.choice((2, 3))]
    at = slots.index(chosen[0])
    if (
        slots[at : at + len(chosen)] != chosen
        or len(chosen) == len(kind.slots)
        or draft.settled.intersection(thing.number for slot in chosen for thing in slot.things)
    ):
        return False
    name, label = draft.word().title(), draft.rng.choice(("inner", "group", "stage", draft.word()))
    if any(slot.label == label for slot in kind.slots):
        return False
    made = Kind(draft.next(), name, kind.module, list(chosen), [("chain", list(chosen))])
    holder = Slot(label, "one", [Thing(draft.next(), made)])
    for row in (slots, kind.slots):
        place = row.index(chosen[0])
        row[:] = [slot for slot in row if slot not in chosen]
        row.insert(place, holder)
    draft.new.kinds.insert(draft.new.kinds.index(kind), made)
    draft.settle(*(thing for slot in chosen for thing in slot.things), *holder.things)
    return True


def unwrap(draft: _Draft) -> bool:
    """What a class holds that is used once goes into the class that uses it."""
    options = []
    for kind in draft.new.kinds[:-1]:
        users = draft.new.users(kind)
        if len(users) == 1 and users[0][1].form == "one" and all(how == "chain" for how, _ in kind.steps):
            options.append((kind, *users[0]))
    if not options:
        return False
    kind, user, slot, _ = draft.rng.choice(options)
    labels = {each.label for each in user.slots}
    step = next((step for step in user.steps if slot in step[1]), None)
    if step is None or step[0] == "mix" or any(each.label in labels for each in kind.slots):
        return False
    if draft.settled.intersection(thing.number for each in [slot, *kind.slots] for thing in each.things):
        return False
    for row in (step[1], user.slots):
        place = row.index(slot)
        row[place : place + 1] = kind.slots
    draft.new.kinds.remove(kind)
    draft.settle(*(thing for each in kind.slots for thing in each.things))
    return True


def _rows(draft: _Draft) -> list[list[Thing]]:
    rows = [slot.things for _, slot in draft.slots("list", "sequential")]
    return rows + [
        kind.flow
        for kind in draft.new.kinds
        if kind.flow is not None and not draft.settled.intersection(thing.number for thing in kind.flow)
    ]


def _run(row: list[Thing], at: int) -> list[Thing]:
    """The items that are equal to one and stand beside it without another between."""
    first, last = at, at
    key = _key(row[at])
    while first > 0 and _key(row[first - 1]) == key:
        first -= 1
    while last + 1 < len(row) and _key(row[last + 1]) == key:
        last += 1
    return row[first : last + 1]


def _key(thing: Thing) -> str:
    return f"{thing.text} {thing.name}"


def insert_item(draft: _Draft) -> bool:
    """Something goes into a list, a Sequential, or a functional model."""
    rows = _rows(draft)
    if not rows:
        return False
    row = draft.rng.choice(rows)
    like = draft.rng.choice(row)
    is_equal = draft.rng.random() < 0.5
    new = Thing(draft.next(), like.maker, list(like.arguments))
    if isinstance(like.maker, str) and not is_equal:
        new.arguments = (
            [*like.arguments[:1], "activation='softplus'"]
            if like.maker in ("Dense", "Linear")
            else list(like.arguments)
        )
    if like.name:
        new.name = draft.word()
    at = draft.rng.randrange(len(row) + 1)
    row.insert(at, new)
    run = _run(row, at)
    if len(run) > 1:
        draft.undecidable.update(thing.number for thing in run)
    elif len([thing for thing in row if _key(thing) == _key(new)]) > 1:
        _doubt_row(draft, row, new)
    draft.settle(*row)
    return True


def _doubt_row(draft: _Draft, row: list[Thing], new: Thing) -> None:
    """Doubt what an equal item elsewhere in the row may be: all of them that another alignment could pair."""
    keys = [_key(thing) for thing in row]
    old = [thing for thing in row if thing is not new]
    without = [_key(thing) for thing in old]
    # Every way to take one item out that leaves the old row.
    ways = [at for at in range(len(keys)) if keys[:at] + keys[at + 1 :] == without]
    for at, thing in enumerate(old):
        places = {at if at < way else at + 1 for way in ways}
        if len(places) > 1:
            draft.undecidable.add(thing.number)


def delete_item(draft: _Draft) -> bool:
    """Something goes out of a list, a Sequential, or a functional model."""
    rows = [row for row in _rows(draft) if len(row) > 2]
    if not rows:
        return False
    row = draft.rng.choice(rows)
    at = draft.rng.randrange(len(row))
    run = _run(row, at)
    if len(run) > 1:
        draft.undecidable.update(thing.number for thing in run)
    gone = row.pop(at)
    keys = [_key(thing) for thing in row]
    before = [*keys[:at], _key(gone), *keys[at:]]
    ways = [way for way in range(len(before)) if before[:way] + before[way + 1 :] == keys]
    for place, thing in enumerate(row):
        if len({place if place < way else place + 1 for way in ways}) > 1:
            draft.undecidable.add(thing.number)
    draft.settle(*row)
    return True


def reorder_items(draft: _Draft) -> bool:
    """Two neighbours in a list change places."""
    rows = [row for row in _rows(draft) if len({_key(thing) for thing in row}) > 2]
    if not rows:
        return False
    row = draft.rng.choice(rows)
    at = draft.rng.randrange(len(row) - 1)
    if _key(row[at]) == _key(row[at + 1]):
        return False
    old = list(row)
    row[at], row[at + 1] = row[at + 1], row[at]
    # Every item that could be taken out and put in elsewhere, with the same outcome.
    keys = [_key(thing) for thing in row]
    places: dict[int, set[int]] = {}
    for taken in range(len(old)):
        for put in range(len(old)):
            made = [thing for thing in old if thing is not old[taken]]
            made.insert(put, old[taken])
            if [_key(thing) for thing in made] == keys:
                for place, thing in enumerate(made):
                    places.setdefault(thing.number, set()).add(place)
    draft.undecidable.update(number for number, found in places.items() if len(found) > 1)
    draft.settle(*row)
    return True


def add_attribute(draft: _Draft) -> bool:
    """A new layer, in an attribute of its own."""
    options = [(kind, step) for kind in draft.new.kinds for step in kind.steps if step[0] == "chain"]
    if not options:
        return False
    kind, step = draft.rng.choice(options)
    maker = (
        "Linear" if draft.new.framework == "module" else draft.rng.choice(("Dense", "LayerNormalization", "Dropout"))
    )
    arguments = {"Dropout": ["0.3"], "LayerNormalization": ["epsilon=0.01"]}.get(maker, ["4", "activation='elu'"])
    slot = Slot(draft.word(), "one", [Thing(draft.next(), maker, arguments)])
    step[1].insert(draft.rng.randrange(len(step[1]) + 1), slot)
    kind.slots.insert(draft.rng.randrange(len(kind.slots) + 1), slot)
    draft.settle(*slot.things)
    return True


def drop_attribute(draft: _Draft) -> bool:
    """A layer goes, and its attribute."""
    options = [
        (kind, step, slot)
        for kind in draft.new.kinds
        for step in kind.steps
        if step[0] == "chain" and len(step[1]) > 1
        for slot in step[1]
        if slot.form == "one" and isinstance(slot.things[0].maker, str)
    ]
    if not options:
        return False
    kind, step, slot = draft.rng.choice(options)
    if draft.settled.intersection(thing.number for thing in slot.things):
        return False
    step[1].remove(slot)
    kind.slots.remove(slot)
    return True


def reorder_attributes(draft: _Draft) -> bool:
    """The lines that make two attributes change places."""
    kinds = [kind for kind in draft.new.kinds if len(kind.slots) > 2]
    if not kinds:
        return False
    kind = draft.rng.choice(kinds)
    slot = kind.slots.pop(draft.rng.randrange(len(kind.slots)))
    kind.slots.insert(draft.rng.randrange(len(kind.slots) + 1), slot)
    return True


def change_form(draft: _Draft) -> bool:
    """A loop that fills a list sets numbered attributes, or the other way round."""
    options = draft.slots("loop", "set")
    if not options or draft.new.framework == "keras":
        return False
    _, slot = draft.rng.choice(options)
    slot.form = "set" if slot.form == "loop" else "loop"
    draft.settle(*slot.things)
    return True


def spread_list(draft: _Draft) -> bool:
    """The items of a list go to numbered attributes."""
    options = [(kind, slot) for kind, slot in draft.slots("list") if any(slot in step[1] for step in kind.steps)]
    if not options:
        return False
    kind, slot = draft.rng.choice(options)
    stem = slot.label.rstrip("s_")
    singles = [Slot(f"{stem}_{at}", "one", [thing]) for at, thing in enumerate(slot.things)]
    if any(each.label.startswith(f"{stem}_") for each in kind.slots):
        return False
    for row in (kind.slots, next(step[1] for step in kind.steps if slot in step[1])):
        at = row.index(slot)
        row[at : at + 1] = singles
    draft.settle(*slot.things)
    return True


def gather_list(draft: _Draft) -> bool:
    """Numbered attributes become a list."""
    if draft.new.framework == "keras":
        return False
    for kind in draft.new.kinds:
        for how, slots in kind.steps:
            members = [slot for slot in slots if re.fullmatch(r".*_\d+", slot.label) and slot.form == "one"]
            stems = {slot.label.rpartition("_")[0] for slot in members}
            things = [thing for slot in members for thing in slot.things]
            if (
                how != "chain"
                or len(members) < 2
                or len(stems) > 1
                or draft.settled.intersection(t.number for t in things)
            ):
                continue
            (stem,) = stems
            made = Slot(f"{stem}s", "list", things)
            for row in (slots, kind.slots):
                at = row.index(members[0])
                row[:] = [slot for slot in row if slot not in members]
                row.insert(at, made)
            draft.settle(*things)
            return True
    return False


def renumber(draft: _Draft) -> bool:
    """Numbered attributes begin at one instead of zero."""
    for kind in draft.new.kinds:
        members = [slot for slot in kind.slots if re.fullmatch(r".*_\d+", slot.label) and slot.form == "one"]
        stems = {slot.label.rpartition("_")[0] for slot in members}
        things = [thing for slot in members for thing in slot.things]
        if (
            len(members) < 2
            or len(stems) > 1
            or members[0].label[-1] != "0"
            or draft.settled.intersection(t.number for t in things)
        ):
            continue
        for at, slot in enumerate(members, 1):
            slot.label = f"{next(iter(stems))}_{at}"
        draft.settle(*things)
        return True
    return False


def rename_key(draft: _Draft) -> bool:
    """A key of a dict of layers is another."""
    options = draft.slots("dict")
    if not options:
        return False
    _, slot = draft.rng.choice(options)
    slot.keys[draft.rng.randrange(len(slot.keys))] = draft.word()
    draft.settle(*slot.things)
    return True


def rename_layer(draft: _Draft) -> bool:
    """A layer is called otherwise by `name=`."""
    things = [
        thing
        for kind in draft.new.kinds
        for _, thing in kind.ways()
        if thing.name and thing.number not in draft.settled
    ]
    if not things:
        return False
    thing = draft.rng.choice(things)
    thing.name = draft.word()
    return True


_CHANGES: dict[Callable[[_Draft], bool], float] = {
    rename: 6,
    obscure: 3,
    rename_all: 3,
    obscure_all: 2,
    rename_class: 3,
    move_class: 2,
    merge_files: 2,
    wrap: 10,
    unwrap: 8,
    insert_item: 20,
    delete_item: 14,
    reorder_items: 14,
    add_attribute: 4,
    drop_attribute: 3,
    reorder_attributes: 3,
    change_form: 30,
    spread_list: 30,
    gather_list: 25,
    renumber: 25,
    rename_key: 25,
    rename_layer: 8,
}


# Edits that change no model.


def _add_docs(draft: _Draft) -> None:
    draft.new.style["docs"] = True
    for kind in draft.new.kinds:
        kind.comment = "Says more of what it is for, and who uses it."


def _import_otherwise(draft: _Draft) -> None:
    draft.new.style["import"] = "layers" if draft.new.style["import"] == "keras" else "keras"


def _break_lines(draft: _Draft) -> None:
    draft.new.style["lines"] = True


def _super_otherwise(draft: _Draft) -> None:
    draft.new.style["super"] = not draft.new.style["super"]


def _add_helper(draft: _Draft) -> None:
    draft.new.style["extras"] = [
        "def count_parameters(model):\n    return sum(int(tf.size(v)) for v in model.variables)"
    ]


def _rename_hyper(draft: _Draft) -> None:
    for kind in draft.new.kinds:
        kind.hyper = [{"width": "hidden_width", "rate": "dropout_rate"}.get(name, name) for name in kind.hyper]


def _change_arguments(draft: _Draft) -> None:
    """Another rate, or another epsilon: the layer is the same."""
    for kind in draft.new.kinds:
        for _, thing in kind.ways():
            if thing.number not in draft.undecidable:
                thing.arguments = [
                    {"0.1": "0.2", "epsilon=1e-06": "epsilon=1e-05"}.get(text, text) for text in thing.arguments
                ]


_EDITS = [_add_docs, _import_otherwise, _break_lines, _super_otherwise, _add_helper, _rename_hyper, _change_arguments]
