"""A restore that was tried, what of it no cause is known of yet, and a cause that was found."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ckptmigrate.errors import CkptMigrateError, Problems
from ckptmigrate.fold import fold
from ckptmigrate.graph import ROOT, ObjectGraph
from ckptmigrate.graph.live import LiveGraph
from ckptmigrate.matching import Matching, Step, match_graphs
from ckptmigrate.packs import does_fit, fit_packs, pack_names, read_pack
from ckptmigrate.rules import Rulebook
from ckptmigrate.spec import Key
from ckptmigrate.verify.restoration import LADDER, Call, Restoration

Said = Mapping[str, str]
"""What each of TensorFlow's assertions said, empty where it passed; or what the call itself raised, under its name."""


@dataclass(frozen=True)
class Attempt:
    """A restore that was tried in TensorFlow, or of which only the two object graphs are known.

    Attributes:
        prefix: The checkpoint.
        into: What it is restored into, as a person names it.
        call: The method that the person calls.
        restoration: What goes where by TensorFlow's rule.
        live: The live checkpoint, where there is one.
        said: TensorFlow's words; None where it was not run.
    """

    prefix: str
    into: str
    call: Call
    restoration: Restoration
    live: LiveGraph | None = None
    said: Said | None = None

    @property
    def source(self) -> ObjectGraph:
        return self.restoration.source

    @property
    def target(self) -> ObjectGraph:
        return self.restoration.target

    @cached_property
    def matching(self) -> Matching:
        """What leads where, as far as the two graphs show."""
        return match_graphs(self.source, self.target)

    @cached_property
    def leads(self) -> Mapping[Key, Step]:
        """The step to each target tensor that comes from the source."""
        return {step.target: step for step in self.matching.steps if step.sources}

    def rules_of(self, pack: str) -> Rulebook:
        """The rules of a shipped pack that lead from the source to the target; none if it does not fit."""
        wanted = read_pack(pack)
        if not does_fit(wanted, self.source, self.target):
            return ()
        try:
            return fit_packs([wanted], self.source, self.target).rules
        except (CkptMigrateError, Problems):  # its rules contradict each other here
            return ()

    def led_by(self, pack: str) -> Mapping[Key, tuple[Key, ...]]:
        """What a shipped pack leads where: the sources of each target."""
        rules = self.rules_of(pack)
        try:
            steps = match_graphs(self.source, self.target, rules).steps if rules else ()
        except (CkptMigrateError, Problems):  # it fits by its paths, and not by shapes
            return {}
        return {step.target: step.sources for step in steps if step.status == "rule" and step.sources}

    @cached_property
    def best_pack(self) -> str | None:
        """The shipped pack that leads to most of the target's tensors; None if none leads to a half of what is open."""
        counted = {name: len(self.led_by(name)) for name in pack_names()}
        best = max(counted, key=lambda name: counted[name])
        return best if counted[best] and 2 * counted[best] >= len(self.restoration.missing) else None

    def words(self, taken: Taken) -> str:
        """What TensorFlow says of the tensors of one cause, or that it says nothing."""
        if self.said is None:
            why = "was not asked" if self.live else f"was not run, since {self.into} is a checkpoint"
            return f"{why}; {_expected(taken)}"
        if self.call in self.said:
            return f"`{self.call}` raises {self.said[self.call]}"
        heard = LADDER if taken.missing or taken.misfits else LADDER[-1:] if taken.unused else ()
        failed: dict[str, list[str]] = {}
        for rung in heard:
            if self.said.get(rung):
                failed.setdefault(self.said[rung], []).append(f"`{rung}`")
        passed = [f"`{rung}`" for rung in LADDER if rung not in heard or not self.said.get(rung)]
        of_this = "" if failed or not any(self.said.values()) else " in this"
        parts = ["says nothing of values that went by a position"] if taken.displaced or taken.doubled else []
        parts += (
            [f"{', '.join(passed)} {'see' if len(passed) > 1 else 'sees'} nothing wrong{of_this}"] if passed else []
        )
        parts += [f"{', '.join(rungs)}: {text}" for text, rungs in failed.items()]
        logs = taken.unused and self.source.kind == "object"
        parts.append(f"without an assertion it {'only logs a warning, at the end' if logs else 'says nothing'}")
        return "; ".join(parts)


def _expected(taken: Taken) -> str:
    if taken.misfits:
        return "by its rule the call raises"
    if taken.missing:
        return "by its rule `assert_existing_objects_matched` fails"
    if taken.unused:
        return "by its rule only `assert_consumed` fails"
    return "by its rule every assertion passes"


_LIKELY = 0.9
"""From here on 99 in 100 proposals were right; see `ckptmigrate.matching.confidence`."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The tensors that one cause is the cause of.

    Attributes:
        missing: The target's that get no value.
        unused: The source's that go nowhere.
        misfits: The target's that would get a value of another dtype or shape, with the source's.
        displaced: The target's that get the value of another variable, with the source's. No assertion sees them.
        doubled: What two tensors of the source are restored into: both, and the target's. One of them is lost.
    """

    missing: tuple[Key, ...] = ()
    unused: tuple[Key, ...] = ()
    misfits: Mapping[Key, Key] = field(default_factory=dict)
    displaced: Mapping[Key, Key] = field(default_factory=dict)
    doubled: tuple[tuple[Key, Key, Key], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unused or self.misfits or self.displaced or self.doubled)


class Open:
    """What went wrong, as far as no cause of it is known yet."""

    def __init__(self, restoration: Restoration) -> None:
        self.source, self.target = restoration.source, restoration.target
        self.missing = dict.fromkeys(restoration.missing)
        self.unused = dict.fromkeys(restoration.unused)
        self.misfits = dict(restoration.misfits)
        self.displaced = {**restoration.astray, **restoration.positional, **restoration.crossed}
        self.doubled = list(restoration.doubled)
        self._positional = restoration.positional

    def __bool__(self) -> bool:
        return bool(self.missing or self.unused or self.misfits or self.displaced or self.doubled)

    def take(self, sources: Iterable[Key] = (), targets: Iterable[Key] = ()) -> Taken:
        """Whatever is open of these tensors, and of the slots of these variables; it is open no more."""
        ours, theirs = (_with_slots(*each) for each in ((self.source, sources), (self.target, targets)))
        taken = Taken(
            tuple(key for key in self.missing if key in theirs),
            tuple(key for key in self.unused if key in ours),
            {into: key for into, key in self.misfits.items() if into in theirs or key in ours},
            {into: key for into, key in self.displaced.items() if into in theirs or key in ours},
            tuple(both for both in self.doubled if both[2] in theirs or ours.intersection(both)),
        )
        for each in (taken.missing, taken.misfits, taken.displaced):
            for key in each:
                self.missing.pop(key, None)
                self.misfits.pop(key, None)
                self.displaced.pop(key, None)
        for key in taken.unused:
            del self.unused[key]
        self.doubled = [both for both in self.doubled if both not in taken.doubled]
        return taken

    def trust(self, leads: Mapping[Key, Step]) -> None:
        """Leave out what a position put where structure and names, by themselves, lead as well.

        A position and a proposal that is nearly always right are two witnesses, and neither has heard the other. A path
        that contradicts them is heard.
        """
        for into, key in self._positional.items():
            step = leads.get(into)
            if step is not None and step.sources == (key,) and step.confidence >= _LIKELY:
                self.displaced.pop(into, None)

    def trust_positions(self, targets: Iterable[Key]) -> None:
        """Leave out what a position put into these, which it is known to do rightly."""
        for into in self._positional.keys() & set(targets):
            self.displaced.pop(into, None)

    def take_all(self) -> Taken:
        """All that is open."""
        return self.take(self.source.specs, self.target.specs)


def _with_slots(graph: ObjectGraph, keys: Iterable[Key]) -> set[Key]:
    given = set(keys)
    return given | {slot for slot, (variable, _) in graph.slot_owner.items() if variable in given}


@dataclass(frozen=True)
class Cause:
    """A cause that was found.

    Attributes:
        kind: Its name.
        what: The fact, in one sentence without its full stop.
        rows: The tensors that it is about, folded.
        tensorflow: What TensorFlow says of it.
        reason: The likely reason, in one sentence without its full stop.
        code: Lines of the person's program that mend it.
        packs: The rule packs that lead from the source to the target.
        is_planned: Whether a plan mends it.
        rules: What a rule file would have to say for it.
    """

    kind: str
    what: str
    rows: tuple[str, ...]
    tensorflow: str
    reason: str
    code: tuple[str, ...] = ()
    packs: tuple[str, ...] = ()
    is_planned: bool = False
    rules: tuple[str, ...] = ()


# Tensors in words.


def say_tensor(graph: ObjectGraph, key: Key) -> str:
    """A tensor as people name it; a slot by its variable, as rules do: ``model/w/<momentum>``."""
    owner = graph.slot_owner.get(key)
    return graph.say_key(key) if owner is None else f"{graph.say_key(owner[0])}/<{owner[1]}>"


def rows_of(attempt: Attempt, taken: Taken) -> tuple[str, ...]:
    """A row for each tensor that one cause is about, those that hold a wrong value first, folded."""
    source, target = attempt.source, attempt.target
    rows = [
        (f"`{say_tensor(target, into)}` gets the value of `{say_tensor(source, key)}`", "")
        for into, key in taken.displaced.items()
    ]
    for key, other, into in taken.doubled:
        names = say_tensor(target, into), say_tensor(source, key), say_tensor(source, other)
        rows.append(("`{}` gets the values of both `{}` and `{}`".format(*names), ": one is lost"))
    rows += [
        (
            f"`{say_tensor(target, into)}`",
            f" is {target.specs[into]}, the checkpoint's"
            + ("" if say_tensor(source, key) == say_tensor(target, into) else f" `{say_tensor(source, key)}`")
            + f" {source.specs[key]}",
        )
        for into, key in taken.misfits.items()
    ]
    rows += [(f"`{say_tensor(target, key)}`", f" {target.specs[key]} gets no value") for key in taken.missing]
    rows += [
        (f"`{say_tensor(source, key)}`", f" {source.specs[key]} of the checkpoint goes nowhere") for key in taken.unused
    ]
    return folded(rows)


def rows_with_leads(attempt: Attempt, taken: Taken) -> tuple[str, ...]:
    """As `rows_of`, but each tensor of which structure, names and order tell where it belongs is told with that."""
    source, target = attempt.source, attempt.target
    theirs = {*taken.missing, *taken.misfits, *taken.displaced}
    leads = {into: step.sources[0] for into, step in attempt.leads.items() if into in theirs and len(step.sources) == 1}
    rows = []
    for into, key in leads.items():
        names = say_tensor(source, key), say_tensor(target, into)
        said = f"`{names[0]}` is kept elsewhere" if names[0] == names[1] else f"`{names[0]}` is likely `{names[1]}`"
        rows.append((said, ""))
    rest = Taken(
        tuple(key for key in taken.missing if key not in leads),
        tuple(key for key in taken.unused if key not in leads.values()),
        {into: key for into, key in taken.misfits.items() if into not in leads},
        {into: key for into, key in taken.displaced.items() if into not in leads},
        tuple(both for both in taken.doubled if both[2] not in leads),
    )
    return (*folded(rows), *rows_of(attempt, rest))


def folded(rows: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Rows of which the first column may differ in numbers, as one text each."""
    return tuple(
        "".join(row.columns) + (f" ({row.count} times)" if row.count > 1 else "")
        for row in fold(list(rows), numbered=1)
    )


def count(number: int, thing: str) -> str:
    """So many of a thing: ``1 variable``, ``3 variables``."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def be(number: int) -> str:
    """The verb: one is, several are."""
    return "is" if number == 1 else "are"


def quoted(text: str) -> str:
    """A text as a string of Python's."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def shell(*arguments: str) -> str:
    """A command line."""
    return shlex.join(arguments)


def is_root_counter(graph: ObjectGraph) -> bool:
    """Whether a checkpoint has the counter that `save` makes."""
    return graph.child(ROOT, "save_counter") is not None
