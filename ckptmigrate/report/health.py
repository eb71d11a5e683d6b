"""What a checkpoint's values are like as a person reads it: what to look at first, and all the rest, folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from ckptmigrate.bundle import Bundle
from ckptmigrate.fold import fold
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.health import FAILING, KINDS, Health, Kind, Suspicion
from ckptmigrate.report.sizes import format_bytes
from ckptmigrate.spec import Key

_SAID: Mapping[Kind, str] = {
    "damaged": "damaged",
    "not finite": "with NaN or infinity",
    "constant kernel": "of one value, as no trained kernel is",
    "left behind": "of one value where most like it are not",
    "subnormal": "of which many elements are subnormal",
}


def health_table(graph: ObjectGraph, found: Mapping[Key, Health], suspicions: Sequence[Suspicion]) -> Table:
    """Each tensor with what its values are like, folded; what is suspicious comes first, the worst before all."""
    kinds: dict[Key, list[Kind]] = {}
    for suspicion in suspicions:
        kinds.setdefault(suspicion.key, []).append(suspicion.kind)
    keys = [*kinds, *(key for key in found if key not in kinds)]
    rows = [
        (_name(graph, key), str(graph.specs[key]), "\n".join(kinds.get(key, ())), _value(found[key])) for key in keys
    ]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("tensor", "", "norm", "min", "max", ""):
        table.add_column(title, overflow="fold")
    for item in fold(rows, numbered=1):
        alike = [keys[row] for row in item.rows]
        healths = [found[key] for key in alike]
        many = f" [dim]({item.count} times)[/dim]" if item.count > 1 else ""
        said = "; ".join(_said(kind, item.columns[3], healths) for kind in kinds.get(alike[0], ()))
        style = "" if not said else "[bold red]" if FAILING & {*kinds[alike[0]]} else "[yellow]"
        table.add_row(
            f"[bold]{escape(item.columns[0])}[/bold]",
            escape(item.columns[1]) + many,
            _span(health.norm for health in healths),
            _number(min, (health.minimum for health in healths)),
            _number(max, (health.maximum for health in healths)),
            f"{style}{escape(said)}[/]" if said else f"[dim]{escape(_note(item.columns[3], healths))}[/dim]",
        )
    return table


def health_summary(
    bundle: Bundle, graph: ObjectGraph, found: Mapping[Key, Health], suspicions: Sequence[Suspicion]
) -> Iterator[str]:
    """What is damaged and how, then all in numbers; lines of rich markup."""
    for health in found.values():
        if health.problem:
            yield f"[bold red]damaged[/]: {escape(health.problem)}"
    counts = Counter(suspicion.kind for suspicion in suspicions)
    for kind in KINDS:
        if counts[kind]:
            yield f"[{'bold red' if kind in FAILING else 'yellow'}]{counts[kind]} {_SAID[kind]}[/]"
    suspected = {suspicion.key for suspicion in suspicions}
    usual = [health for key, health in found.items() if key not in suspected]
    notes = {
        "all zero": sum(health.is_zero and health.elements > 1 for health in usual),
        "of one other value": sum(health.is_constant and not health.is_zero for health in usual),
        "with a few subnormals": sum(health.subnormals > 0 for health in usual),
        "not numbers": sum(health.norm is None for health in usual),
    }
    rest = ", ".join(f"{count} {said}" for said, count in notes.items() if count)
    total = format_bytes(sum(bundle.stored_bytes(key) for key in graph.specs))
    yield f"{len(found)} tensors, {total}: {len(suspected) or 'none'} suspicious" + (
        f"; as is usual: {rest}" if rest else ""
    )


def _name(graph: ObjectGraph, key: Key) -> str:
    """A tensor as rules say it: what an optimizer holds of a variable is below that, wherever it is stored."""
    owner = graph.slot_owner.get(key)
    return graph.say_key(key) if owner is None else f"{graph.say_key(owner[0])}/<{owner[1]}>"


def _value(health: Health) -> str:
    """The one value that a tensor has, in words; empty if it has others, or none."""
    if not health.is_constant:
        return ""
    return "zero" if health.is_zero else "equal" if health.minimum is None else f"{health.minimum:g}"


def _said(kind: Kind, value: str, healths: Sequence[Health]) -> str:
    """A suspicion about tensors that are alike."""
    match kind:
        case "damaged":
            return "damaged"
        case "not finite":
            counts = (("NaN", [health.nan for health in healths]), ("infinite", [health.inf for health in healths]))
            return ", ".join(f"{_span(found)} {word}" for word, found in counts if any(found))
        case "constant kernel":
            return f"all {value}"
        case "left behind":
            return f"all {value}, most like it are not"
        case "subnormal":
            return f"{_span(100 * health.subnormal_share for health in healths)}% subnormal"


def _note(value: str, healths: Sequence[Health]) -> str:
    """What is worth a word of tensors that are as they often are."""
    if healths[0].norm is None:
        return "not numbers"
    if value:
        return f"all {value}"
    if any(health.subnormals for health in healths):
        return f"{_span(100 * health.subnormal_share for health in healths)}% subnormal"
    return ""


def _span(numbers: Iterable[float | None]) -> str:
    """The least and the greatest of some numbers; one of them where they look the same."""
    known = [number for number in numbers if number is not None]
    return "..".join(dict.fromkeys(f"{number:.3g}" for number in (min(known), max(known)))) if known else ""


def _number(choose: Callable[[list[float]], float], numbers: Iterable[float | None]) -> str:
    known = [number for number in numbers if number is not None]
    return f"{choose(known):.3g}" if known else ""
