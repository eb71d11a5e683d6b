"""What objects hold, as it is paired: things, and rows of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ckptmigrate.codemod.inference.alike import name_likeness, stem_of
from ckptmigrate.codemod.inference.facts import Facts
from ckptmigrate.codemod.inference.made import Made
from ckptmigrate.codemod.inference.moves import Labels


@dataclass(frozen=True, slots=True)
class Unit:
    """What is paired as a whole: one thing, or a row of them.

    Attributes:
        label: What it is called, or what those of a row are called without their numbers.
        made: The thing, or the list.
        row: The ways to the items of a row; empty for one thing.
        items: The items.
        at: Its place in the order in which things are made.
    """

    label: str
    made: Made
    at: int
    row: tuple[Labels, ...] = ()
    items: tuple[Made, ...] = ()

    @property
    def label_in_call(self) -> str:
        """What the call calls it."""
        return self.made.label

    @property
    def way(self) -> Labels:
        return (self.made.label,)


def flow_unit(facts: Facts) -> Unit:
    """The layers of a functional or Sequential model as a row."""
    ways = tuple((flow_label(item.label),) for item in facts.flow)
    return Unit("", Made("", "flow", facts.place, items=facts.flow), 0, ways, facts.flow)


def flow_label(label: str) -> str:
    """The label of a layer of a model that is a row of layers: ``#3``, whatever Keras makes of it."""
    return f"#{label}"


def units_of(olds: Sequence[Made], news: Sequence[Made]) -> tuple[list[Unit], list[Unit]]:
    """What two objects hold, as units: numbered attributes are a row where they were numbered anew."""
    families = [_families(items) for items in (olds, news)]
    rows = [{item.label for item in items if _is_row(item)} for items in (olds, news)]
    loops = [{stem_of(item.label) for item in items if item.is_loop} for items in (olds, news)]
    sides = []
    for own, items in enumerate((olds, news)):
        other = 1 - own
        together = set()
        for stem, members in families[own].items():
            theirs = families[other].get(stem)
            if theirs is None:
                # Spread from a list, or gathered into one.
                lists = (*rows[other] - rows[own], *loops[other])
                if any(name_likeness(stem.strip("_"), label.strip("_")) > 0 for label in lists):
                    together.add(stem)
            elif members.keys() != theirs.keys() and _have_no_gap(members) and _have_no_gap(theirs):
                together.add(stem)
        sides.append(list(_each_unit(items, together)))
    return sides[0], sides[1]


def _each_unit(items: Sequence[Made], together: set[str]) -> Iterator[Unit]:
    done: set[str] = set()
    for at, item in enumerate(items):
        stem = stem_of(item.label)
        if item.is_loop:
            yield Unit(stem.strip("_"), Made(item.label, "list", item.place), at, ((item.label,),), (item,))
        elif stem != item.label and stem in together:
            if stem not in done:
                done.add(stem)
                members = sorted((each for each in items if stem_of(each.label) == stem), key=_number)
                ways: tuple[Labels, ...] = tuple((each.label,) for each in members)
                yield Unit(stem.strip("_"), Made(item.label, "list", item.place), at, ways, tuple(members))
        elif _is_row(item):
            sign = "#" if item.kind == "flow" else ""
            ways = tuple((item.label, f"{sign}{inner.label}") for inner in item.items)
            yield Unit(item.label, item, at, ways, item.items)
        else:
            yield Unit(item.label, item, at)


def _is_row(item: Made) -> bool:
    return item.kind in ("list", "flow") and not item.is_loop


def _number(item: Made) -> int:
    return int(item.label[len(stem_of(item.label)) :].strip("_"))


def _families(items: Sequence[Made]) -> dict[str, dict[int, Made]]:
    found: dict[str, dict[int, Made]] = {}
    for item in items:
        stem = stem_of(item.label)
        if stem and stem != item.label and not item.is_loop:
            found.setdefault(stem, {})[_number(item)] = item
    return {stem: members for stem, members in found.items() if len(members) > 1}


def _have_no_gap(members: Mapping[int, Made]) -> bool:
    return sorted(members) in (list(range(len(members))), list(range(1, len(members) + 1)))
