"""What people do to rows: lists, functional models, and attributes that are numbered."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from architectures import Part, dense, layer_norm, listed, look_of, parts_below, weights_below
from drafts import Draft, edges, first_number, fresh, objects, own_parts, pick, shows_labels, spread_list, taken


@dataclass
class Row:
    """A list, a functional model, or attributes ``stem1``, ``stem2``, ..."""

    holder: Part
    items: list[Part]
    stem: str = ""
    base: int = 0

    def put(self, items: Sequence[Part]) -> None:
        """Hold these items instead, numbered from the first on."""
        if self.stem:
            labels = {id(item): f"{self.stem}{self.base + n}" for n, item in enumerate(items)}
            children, done = {}, False
            for label, child in self.holder.children.items():
                if not any(child is item for item in self.items):
                    children[label] = child
                elif not done:
                    done = True
                    children.update((labels[id(item)], item) for item in items)
            self.holder.children = children
        else:
            self.holder.children = listed("", items).children
        self.items = list(items)


def rows(draft: Draft) -> list[Row]:
    """The rows of a target of which nothing is settled. Those whose items several holders share are left out."""
    found = []
    seen = set()
    for holder, _, child in [(None, "", draft.target.root), *own_parts(draft.target.root)]:
        if not isinstance(child, Part) or child in seen or child.is_atomic:
            continue
        seen.add(child)
        items = list(child.children.values())
        if child.form != "object" and len(items) > 1 and all(isinstance(item, Part) for item in items):
            found.append(Row(child, items))
        elif child.form == "object" and holder is not None:
            found.extend(_numbered(child))
    return [
        row
        for row in found
        if row.holder not in draft.settled
        and not draft.settled.intersection(row.items)
        and row.holder.origin is not None
        and all(item.origin is not None for item in row.items)
        and _is_single(draft, row)
        and _is_whole(row)
    ]


def _is_single(draft: Draft, row: Row) -> bool:
    """Whether the row's code makes only this row."""
    kinds = [part for _, _, part in parts_below(draft.target.root) if part.kind == row.holder.kind]
    return row.holder.form != "object" or len({*map(id, kinds)}) == 1


def _is_whole(row: Row) -> bool:
    """Whether nothing went out of the row before: what comes in its place would hide that."""
    before = row.holder.origin.children
    labels = {label for label, child in before.items() if any(child is item.origin for item in row.items)}
    stems = {re.sub(r"\d+$", "", label) for label in labels}
    return {label for label in before if re.sub(r"\d+$", "", label) in stems and label not in stems} == labels


def _numbered(holder: Part) -> list[Row]:
    families: dict[str, list[tuple[int, Part]]] = {}
    for label, child in holder.children.items():
        found = re.fullmatch(r"(.*?)(\d+)", label)
        if found and isinstance(child, Part) and child.form == "object":
            families.setdefault(found[1], []).append((int(found[2]), child))
    rows = []
    for stem, items in families.items():
        numbers = [number for number, _ in items]
        if len(items) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            rows.append(Row(holder, [item for _, item in items], stem, numbers[0]))
    return rows


def insert_equal(draft: Draft) -> bool:
    """A row gets one more item, like one that it has."""
    row = pick(draft, rows(draft))
    if row is None:
        return False
    at = draft.rng.randrange(len(row.items))
    model = row.items[at]
    if not draft.settled.isdisjoint(item for _, _, item in parts_below(model)):
        return False
    made = fresh(model)
    draft.alike[made] = model.origin
    old = [item.origin for item in row.items]
    items = [*row.items]
    items.insert(at + draft.rng.randint(0, 1), made)
    row.put(items)
    _rename_row(draft, row, made)
    draft.sequences.append((old, items, _what_places(draft, row)))
    draft.settled.update((row.holder, *items))
    return True


def _what_places(draft: Draft, row: Row) -> str:
    return "number" if row.stem or draft.names_are_labels else "position"


def _rename_row(draft: Draft, row: Row, made: Part | None) -> None:
    """The names of a row's items after it changed: numbered anew, or as they were and a new one for what is new."""
    if not draft.target.tells_names:
        return
    numbered = [item for item in row.items if re.search(r"\d+$", item.given)]
    if draft.target.framework == "tf1" or draft.rng.random() < 0.5:
        givens = [item.given for item in row.items if item is not made]
        stems = {re.sub(r"\d+$", "", given) for given in givens}
        if len(numbered) == len(row.items) and len(stems) == 1:
            first = min(int(re.search(r"\d+$", given)[0]) for given in givens)
            for number, item in enumerate(row.items):
                item.given = f"{next(iter(stems))}{first + number}"
            return
    if made is not None:
        made.given = draft.word()


def delete_equal(draft: Draft) -> bool:
    """A row loses an item that stands beside another like it."""
    options = [
        (row, at)
        for row in rows(draft)
        for at in range(len(row.items))
        if len(row.items) > 2
        and any(
            look_of(row.items[at].origin) == look_of(row.items[other].origin)
            for other in (at - 1, at + 1)
            if 0 <= other < len(row.items)
        )
    ]
    return _delete(draft, pick(draft, options))


def delete_other(draft: Draft) -> bool:
    """A row loses an item that is like none beside it."""
    options = [
        (row, at)
        for row in rows(draft)
        for at in range(len(row.items))
        if len(row.items) > 2
        and not any(
            look_of(row.items[at].origin) == look_of(row.items[other].origin)
            for other in (at - 1, at + 1)
            if 0 <= other < len(row.items)
        )
    ]
    return _delete(draft, pick(draft, options))


def _delete(draft: Draft, chosen: tuple[Row, int] | None) -> bool:
    if chosen is None:
        return False
    row, at = chosen
    old = [item.origin for item in row.items]
    draft.gone.append({row.holder.home: old[at]})
    items = [item for number, item in enumerate(row.items) if number != at]
    row.put(items)
    _rename_row(draft, row, None)
    draft.sequences.append((old, items, _what_places(draft, row)))
    draft.settled.update((row.holder, *items))
    return True


def insert_other(draft: Draft) -> bool:
    """A row gets an item like none that it has."""
    row = pick(draft, rows(draft))
    if row is None:
        return False
    # No width of any model is one of these.
    width = draft.rng.choice((13, 17, 19, 23))
    made = draft.rng.choice((layer_norm(width), dense(width, width)))
    made.after = draft.rng.choice((0, 1))
    old = [item.origin for item in row.items]
    items = [*row.items]
    items.insert(draft.rng.randint(0, len(items)), made)
    row.put(items)
    _rename_row(draft, row, made)
    draft.sequences.append((old, items, _what_places(draft, row)))
    draft.settled.update((row.holder, *items))
    return True


def reorder(draft: Draft) -> bool:
    """The items of a row change places."""
    options = []
    for row in rows(draft):
        looks = [look_of(item.origin) for item in row.items]
        told = draft.source.tells_names and draft.target.tells_names and len({i.given for i in row.items}) == len(looks)
        # Names that are positions would be numbered anew, and say nothing.
        told = told and not any(re.search(r"\d+$", item.given) for item in row.items) and not draft.names_are_labels
        if told or (len(set(looks)) == len(looks) and not row.stem):
            options.append(row)
    row = pick(draft, options)
    if row is None:
        return False
    old = [item.origin for item in row.items]
    items = draft.rng.sample(row.items, len(row.items))
    if items == row.items:
        items = items[::-1]
    row.put(items)
    draft.shuffled.append((old, items))
    draft.settled.update((row.holder, *items))
    return True


def reorder_attributes(draft: Draft) -> bool:
    """An object makes what it holds in another order; every attribute keeps its name."""
    holder = pick(draft, [part for part in objects(draft) if len(part.children) > 1])
    if holder is None or not shows_labels(draft):
        return False
    order = draft.rng.sample(list(holder.children), len(holder.children))
    for part in objects(draft):
        if part.kind == holder.kind:
            labels = [*(label for label in order if label in part.children), *part.children]
            part.children = {label: part.children[label] for label in dict.fromkeys(labels)}
    return True


def rebase(draft: Draft) -> bool:
    """Numbered attributes begin at another number."""
    row = pick(draft, [row for row in rows(draft) if row.stem])
    if row is None or row.base > 1 or draft.names_are_labels:
        return False
    row.base = 1 - row.base
    old = [item.origin for item in row.items]
    row.put(row.items)
    draft.settled.update((row.holder, *row.items))
    if first_number(draft, row.items) is None:
        return True  # a list's items are numbered from either number on
    # As if the one at the end had gone and one at the start had come, or the other way round.
    looks = [look_of(item) for item in old]
    named = draft.source.tells_names and draft.target.tells_names
    for item, look in zip(row.items, looks, strict=True):
        if looks.count(look) > 1 and not (named and item.given == item.origin.given):
            draft.undecidable.update(dict.fromkeys(weights_below(item), "number"))
    return True


def spread(draft: Draft) -> bool:
    """A list becomes numbered attributes."""
    places = pick(draft, edges(draft, lambda thing: isinstance(thing, Part) and thing.form == "list"))
    if places is None or not all(isinstance(i, Part) for _, _, c in places for i in c.children.values()):
        return False
    label = places[0][1]
    stem, base = draft.rng.choice(("{}", "{}_")).format(re.sub(r"s$", "", label)), draft.rng.choice((0, 1))
    number = first_number(draft, list(places[0][2].children.values()))
    base = base if number is None else number
    for holder, _, child in places:
        if any(f"{stem}{base + n}" in taken(holder) for n in range(len(child.children))):
            return False
    for holder, _, _ in places:
        spread_list(holder, label, stem, base)
    return True


def gather(draft: Draft) -> bool:
    """Numbered attributes become a list."""
    if draft.target.framework == "keras3" or draft.names_are_labels:
        return False
    row = pick(draft, [row for row in rows(draft) if row.stem])
    if row is None:
        return False
    label = re.sub(r"[_\d]*$", "", row.stem) + draft.rng.choice(("s", "_list"))
    if label in taken(row.holder) or label.startswith("_"):
        return False
    first = next(name for name, child in row.holder.children.items() if child is row.items[0])
    children = {}
    for name, child in row.holder.children.items():
        if name == first:
            children[label] = listed(label, row.items)
        elif child not in row.items:
            children[name] = child
    row.holder.children = children
    draft.settled.add(children[label])
    return True


def pad_flow(draft: Draft) -> bool:
    """Layers without weights come and go between the others."""
    # Where items come and go, these are what tells which: both at once is more than anyone could follow.
    model = pick(draft, [row.holder for row in rows(draft) if row.holder.form == "flow"])
    if model is None:
        return False
    draft.settled.add(model)
    for layer in model.children.values():
        if draft.rng.random() < 0.3:
            layer.after = draft.rng.choice((0, 1, 2))
    return True
