"""What is asked as a person reads it: what, how much hangs on it, the answers, and on request both sides in full.

Every function returns lines of rich markup; nothing here prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from ckptmigrate.bundle import Bundle
from ckptmigrate.errors import CkptMigrateError
from ckptmigrate.fold import fold, split_numbers
from ckptmigrate.graph import ObjectGraph
from ckptmigrate.questioner import Asked
from ckptmigrate.report.sizes import format_bytes
from ckptmigrate.report.text import listed_tensors, question_lines, said_count
from ckptmigrate.spec import DType, Key

if TYPE_CHECKING:
    import numpy.typing as npt

MOST_BYTES = 4 * 2**20
"""A tensor whose values take more is not read only to be looked at."""

_ROWS = 8
"""Of so many kinds of tensors of one side the values are told."""

_NAMED = 4
"""So many names of tensors that differ in numbers only are told."""

_NEIGHBOURS = 6
"""So many siblings of a tensor are named."""


def asked_lines(asked: Asked, source: ObjectGraph, target: ObjectGraph, *, left: int, shown: int) -> Iterator[str]:
    """What is asked, and its answers by number.

    Args:
        asked: What is asked.
        source: The graph of the source.
        target: The graph of the target.
        left: How many more there are to ask.
        shown: So many of the answers are listed.
    """
    question = asked.question
    more = f" [dim]({left} more to ask)[/dim]" if left else ""
    yield f"[yellow]{asked.kind}[/]: {escape(question.reason)}{more}"
    if asked.kind in ("new", "unused"):
        yield from _left_over(asked, source, target)
    else:
        yield from question_lines(question, source, target)
    several = len({len(hypothesis.decides) for hypothesis in question.hypotheses}) > 1
    for number, hypothesis in enumerate(question.hypotheses[:shown], 1):
        decides = f" [dim](decides {said_count(hypothesis.decides, target)})[/dim]" if several else ""
        yield f"  [bold]{number}[/bold]  {escape(hypothesis.text)}{decides}"
        yield from (f"       [dim]{escape(evidence)}[/dim]" for evidence in hypothesis.evidence)
    if len(question.hypotheses) > shown:
        yield f"  [dim]and {len(question.hypotheses) - shown} more answers: `more` lists them[/dim]"


def _left_over(asked: Asked, source: ObjectGraph, target: ObjectGraph) -> Iterator[str]:
    graph = target if asked.kind == "new" else source
    reasons: dict[str, list[Key]] = {}
    for item in asked.notes:
        reasons.setdefault(item.reason, []).append(item.key)
    for reason, keys in reasons.items():
        if reason:
            yield f"  [dim]{escape(reason)}[/dim]"
        yield from listed_tensors("  targets" if asked.kind == "new" else "  sources", graph, keys)


def why_lines(
    asked: Asked, source: tuple[Bundle, ObjectGraph], target: tuple[Bundle, ObjectGraph], *, is_template: bool
) -> Iterator[str]:
    """Both sides of what is asked: each kind of tensor with its name, neighbours, and what its values are like.

    Args:
        asked: What is asked.
        source: The source, and its graph.
        target: The target, and its graph.
        is_template: Whether the target's values are only initial ones, which say nothing.
    """
    yield from _side("source", asked.question.sources, *source, values=True)
    yield from _side("target", asked.question.targets, *target, values=not is_template)


def _side(title: str, keys: Sequence[Key], bundle: Bundle, graph: ObjectGraph, *, values: bool) -> Iterator[str]:
    if not keys:
        return
    yield f"[bold]{title}[/bold]"
    kinds: dict[object, list[Key]] = {}
    for key in keys:
        if graph.slot_owner.get(key, ("", ""))[0] in keys:  # follows its variable, which is told
            continue
        kinds.setdefault((split_numbers(graph.say_key(key))[0], graph.specs[key]), []).append(key)
    for alike in list(kinds.values())[:_ROWS]:
        yield from _tensor_lines(alike, bundle, graph, values=values)
    if len(kinds) > _ROWS:
        yield f"  [dim]and {sum(map(len, list(kinds.values())[_ROWS:]))} more[/dim]"


def _tensor_lines(alike: Sequence[Key], bundle: Bundle, graph: ObjectGraph, *, values: bool) -> Iterator[str]:
    """The first of tensors that differ in numbers only."""
    key = alike[0]
    more = f" and {len(alike) - 1} more like it" if len(alike) > 1 else ""
    owner = graph.slot_owner.get(key)
    slot = f", the {owner[1]} of {graph.say_key(owner[0])}" if owner else ""
    names = [graph.nodes[number].full_name for each in alike if (number := graph.node_of.get(each)) is not None]
    told = [row.columns[0] for row in fold([(name,) for name in names if name], numbered=1)]
    rest = f" and {len(told) - _NAMED} more names" if len(told) > _NAMED else ""
    named = f", named {', '.join(told[:_NAMED])}{rest}" if told else ""
    yield f"  {escape(graph.say_key(key) + slot)}  {escape(str(graph.specs[key]))}{escape(named)}{more}"
    beside = "; ".join(_neighbours(key, graph))
    if beside:
        yield f"    [dim]{escape(beside)}[/dim]"
    if values:
        yield f"    [dim]{escape(value_summary(bundle, key))}[/dim]"


def _neighbours(key: Key, graph: ObjectGraph) -> Iterator[str]:
    """What else is in the object that holds a tensor's variable, and what is beside that object."""
    number = graph.node_of.get(key)
    if number is None or graph.say_key(key) == "." or number in graph.slot_nodes:
        return
    path = graph.paths[number]
    for depth in (1, 2):
        holder, here = graph.find(path[: len(path) - depth]), path[len(path) - depth :][:1]
        beside = [] if holder is None else [label for label in graph.named_children(holder) if (label,) != here]
        if len(path) >= depth and beside:
            rest = f" and {len(beside) - _NEIGHBOURS} more" if len(beside) > _NEIGHBOURS else ""
            yield f"`{here[0]}` is beside {', '.join(beside[:_NEIGHBOURS])}{rest}"


def value_summary(bundle: Bundle, key: Key) -> str:
    """What a tensor's values are like, in words; read only if that is cheap."""
    spec = bundle.entries[key].spec
    if spec.dtype is DType.STRING or spec.dtype.numpy_name is None:
        return f"{spec.dtype.label} has no mean"
    size = bundle.stored_bytes(key)
    if size > MOST_BYTES:
        return f"values not read: {format_bytes(size)}"
    if not spec.num_elements:
        return "no values"
    try:
        return _summary(bundle.read(key))
    except CkptMigrateError as error:
        return f"values cannot be read: {error}"


def _summary(values: npt.NDArray[Any]) -> str:
    import numpy as np

    if np.iscomplexobj(values):
        values = np.abs(values)
    flat = np.asarray(values).reshape(-1).astype(np.float64)
    if len(flat) == 1:
        return f"value {flat[0]:.4g}"
    finite = flat[np.isfinite(flat)]
    odd = f", {len(flat) - len(finite)} not finite" if len(finite) < len(flat) else ""
    if not len(finite):
        return f"no finite value{odd}"
    said = (("mean", finite.mean()), ("std", finite.std()), ("min", finite.min()), ("max", finite.max()))
    return " ".join(f"{word} {number:.4g}" for word, number in said) + odd
