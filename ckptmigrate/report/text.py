"""Plans, bundles, differences and proofs as a person reads them in a terminal.

Every function takes values and returns something that rich can print; nothing here prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.tree import Tree

from ckptmigrate.bundle import Bundle, writer_version
from ckptmigrate.fold import fold
from ckptmigrate.graph import ROOT, VARIABLE_ROLE, ObjectGraph, Optimizer
from ckptmigrate.matching import Difference, Question, Step
from ckptmigrate.packs import Outcome, Pack
from ckptmigrate.plan import Plan
from ckptmigrate.report.sizes import format_bytes
from ckptmigrate.spec import Key
from ckptmigrate.verify import Report
from ckptmigrate.verify.report import finding_lines, shown

_STYLES = {
    "exact": "green",
    "rule": "cyan",
    "certain": "green",
    "proposed": "yellow",
    "initial": "magenta",
    "passed": "green",
    "failed": "bold red",
    "not run": "yellow",
}

_SHOWN = 12
"""So many folded rows of one list are shown."""

_ANSWERS = 6
"""So many answers to one question are shown."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A variable with what is said of it, and the kinds of its slots."""

    path: tuple[str, ...]
    text: str


def bundle_lines(bundle: Bundle, graph: ObjectGraph) -> Iterator[str]:
    """A bundle in numbers: tensors, bytes, slots, nodes, data files, and what wrote it."""
    total = sum(bundle.stored_bytes(key) for key in graph.specs)
    slots = sum(len(optimizer.slots) for optimizer in graph.optimizers)
    kinds = ", ".join(_said_optimizer(each, graph) for each in graph.optimizers)
    yield f"{len(graph.specs)} tensors, {format_bytes(total)}" + (f", {slots} of them slots ({kinds})" if kinds else "")
    stored = f"object graph of {len(graph.nodes)} nodes" if graph.kind == "object" else "name-based, no object graph"
    sizes = ", ".join(map(format_bytes, bundle.shard_sizes[:_SHOWN])) + (", ..." if bundle.num_shards > _SHOWN else "")
    files = "1 data file" if bundle.num_shards == 1 else f"{bundle.num_shards} data files"
    version = writer_version(bundle.prefix)
    writer = f"written by TensorFlow {version}" if version else "the TensorFlow that wrote it is not recorded"
    yield f"{stored}; {files} ({sizes}); {writer}"
    missing = [(key, "named by the graph, not in the index") for key in graph.missing]
    yield from _listed("[yellow]missing tensors[/]", missing)


def _said_optimizer(optimizer: Optimizer, graph: ObjectGraph) -> str:
    place = f" at {graph.say(optimizer.node)}" if optimizer.node != ROOT else ""
    return " ".join(filter(None, (optimizer.generation, optimizer.algorithm, "optimizer"))) + place


def inspect_tree(bundle: Bundle, graph: ObjectGraph) -> Tree:
    """A bundle's variables, folded, with the optimizer's state under each."""
    slots: dict[int, list[str]] = {}
    folded_away: set[int] = set()
    for optimizer in graph.optimizers:
        for slot in optimizer.slots:
            if slot.variable is not None:
                slots.setdefault(slot.variable, []).append(slot.kind)
                folded_away.add(slot.node)
    rows = []
    for number, node in enumerate(graph.nodes):
        if number in folded_away:
            continue
        for role, key in node.tensors.items():
            path = graph.paths[number] or ((".",) if number == ROOT else tuple(key.split("/")))
            kept = f" + {', '.join(slots[number])}" if number in slots and role == VARIABLE_ROLE else ""
            what = "" if role == VARIABLE_ROLE else f" {role}"
            slices = bundle.entries[key].slices
            size = format_bytes(bundle.stored_bytes(key)) + (f" in {len(slices)} slices" if slices else "")
            rows.append(_Row(path, f"{graph.specs[key]} {size}{what}{kept}"))
    rows.extend(_Row(tuple(key.split("/")), f"{graph.specs[key]} (held by no object)") for key in graph.unowned)
    return _tree(bundle.prefix, rows)


def plan_tree(plan: Plan, source: ObjectGraph, target: ObjectGraph) -> Tree:
    """A plan's steps by their place in the target, folded; the slots that follow a variable are named with it."""
    slot_steps: dict[Key, list[str]] = {}
    steps = {step.target: step for step in plan.steps}
    apart = []
    for step in plan.steps:
        owner, kind = target.slot_owner.get(step.target, (None, ""))
        variable = steps.get(owner) if owner is not None else None
        if owner is not None and variable is not None and _is_said_with(step, variable):
            slot_steps.setdefault(owner, []).append(kind)
        else:
            apart.append(step)
    rows = [_step_row(step, source, target, slot_steps.get(step.target, ())) for step in apart]
    return _tree("plan", rows)


def _is_said_with(slot: Step, variable: Step) -> bool:
    return (slot.status, slot.confidence) == (variable.status, variable.confidence)


def _step_row(step: Step, source: ObjectGraph, target: ObjectGraph, slots: Sequence[str]) -> _Row:
    number = target.node_of.get(step.target)
    path = (".",) if number == ROOT else (number is not None and target.paths[number]) or tuple(step.target.split("/"))
    origins = [source.say_key(key) for key in step.sources]
    same = origins == [target.say_key(step.target)]
    text = str(target.specs[step.target])
    if number is not None and step.target != target.nodes[number].tensors.get(VARIABLE_ROLE):
        text += "".join(f" {role}" for role, key in target.nodes[number].tensors.items() if key == step.target)
    if origins and not same:
        text += f" <- {', '.join(origins)}"
    if step.ops:
        text += f", {', '.join(operation.describe() for operation in step.ops)}"
    if slots:
        text += f" + {', '.join(slots)}"
    sure = f" {step.confidence:.2f}" if step.status == "proposed" else ""
    return _Row(path, f"{text} \x01{step.status}{sure}")


def _tree(title: str, rows: Iterable[_Row]) -> Tree:
    """Rows as a tree of their paths. Folding is done on whole rows, so a branch is shown once for its twins."""
    table = [("/".join(segment.replace("/", "\x02") for segment in row.path), *_split(row.text)) for row in rows]
    tree = Tree(escape(title), guide_style="dim")
    branches: dict[tuple[str, ...], Tree] = {(): tree}
    for item in fold(table, numbered=2):
        path_text, text, status = item.columns
        path = tuple(segment.replace("\x02", ".S") for segment in path_text.split("/"))
        for depth in range(1, len(path)):
            if path[:depth] not in branches:
                branches[path[:depth]] = branches[path[: depth - 1]].add(f"[bold]{escape(path[depth - 1])}[/bold]")
        many = f" [dim]({item.count} times)[/dim]" if item.count > 1 else ""
        said = f"  [{_STYLES[status.split()[0]]}]{status}[/]" if status else ""
        leaf = branches[path[:-1]].add(f"[bold]{escape(path[-1])}[/bold]  {escape(text)}{said}{many}")
        branches.setdefault(path, leaf)
    return tree


def _split(text: str) -> tuple[str, str]:
    body, _, status = text.partition("\x01")
    return body.rstrip(), status


def plan_summary(plan: Plan, source: ObjectGraph, target: ObjectGraph) -> Iterator[str]:
    """What a plan does in numbers, then what is still open, with reasons and what to do; lines of rich markup."""
    counts = ", ".join(f"[{_STYLES[status]}]{count} {status}[/]" for status, count in plan.counts().items() if count)
    dropped = f", {len(plan.dropped)} sources dropped" if plan.dropped else ""
    yield f"{len(plan.steps)} steps: {counts or 'none'}{dropped}"
    yield from _listed("dropped", [(source.say_key(drop.source), f"by {drop.rule}") for drop in plan.dropped])
    for number, question in enumerate(plan.ambiguous, 1):
        yield f"[yellow]question {number}[/]: {escape(question.reason)}"
        yield from question_lines(question, source, target)
        for hypothesis in question.hypotheses[:_ANSWERS]:
            yield f"    - {escape(hypothesis.text)}"
        if len(question.hypotheses) > _ANSWERS:
            yield f"    [dim]and {len(question.hypotheses) - _ANSWERS} more answers[/dim]"
    left_targets = {item.key: item.reason for item in plan.unmatched_target}
    left_sources = {item.key: item.reason for item in plan.unmatched_source}
    yield from _listed("[yellow]targets without an origin[/]", _tensor_rows(target, left_targets))
    yield from _listed("[yellow]sources that lead nowhere[/]", _tensor_rows(source, left_sources))
    if plan.is_complete:
        return
    yield "This plan cannot be applied yet:"
    if plan.ambiguous:
        yield "  answer the questions: --interactive asks them, and rules answer them (--rules FILE), "
        yield "  e.g. [bold]rename: {from: SOURCE, to: TARGET}[/]"
    if any(step.status == "proposed" for step in plan.steps):
        yield "  take what is proposed with --interactive, one group after the other, or all of it with --yes-proposed"
    if plan.unmatched_target:
        yield "  give the targets an origin with rules, or keep the template's values with --init-new"
    if plan.unmatched_source:
        yield "  use or drop the sources with rules, or drop all of them with --drop-unused"


def question_lines(question: Question, source: ObjectGraph, target: ObjectGraph) -> Iterator[str]:
    """What one answer would decide, in how many ways, what would decide it, and both sides; lines of rich markup."""
    answers = question.answers
    ways = f"{answers.ways:,} ways; " if answers.ways > 1 else ""
    yield f"  {ways}one answer decides {said_count(question.decides, target)}"
    if answers.missing:
        yield f"  what is missing: {escape(answers.missing)}"
    yield from listed_tensors("  targets", target, question.targets)
    yield from listed_tensors("  sources", source, question.sources)


def said_count(keys: Iterable[Key], graph: ObjectGraph) -> str:
    """How many variables these are, and how many of their slots: ``72 variables and 144 slots``."""
    given = set(keys)
    slots = sum((owner := graph.slot_owner.get(key)) is not None and owner[0] in given for key in given)
    rest = len(given) - slots
    variables = f"{rest} variable{'' if rest == 1 else 's'}"
    return f"{variables} and {slots} slot{'' if slots == 1 else 's'}" if slots else variables


def listed_tensors(title: str, graph: ObjectGraph, keys: Iterable[Key]) -> Iterator[str]:
    """Tensors of one side, folded, each variable with its slots; lines of rich markup."""
    yield from _listed(title, _tensor_rows(graph, dict.fromkeys(keys, "")))


def _tensor_rows(graph: ObjectGraph, reasons: Mapping[Key, str]) -> list[tuple[str, str]]:
    """Tensors by path, with spec and reason; the slots of a variable that is among them are named with it."""
    kinds: dict[Key, list[str]] = {}
    for key in reasons:
        owner = graph.slot_owner.get(key)
        if owner is not None and owner[0] in reasons:
            kinds.setdefault(owner[0], []).append(owner[1])
    rows = []
    for key, reason in reasons.items():
        owner = graph.slot_owner.get(key)
        if owner is not None and owner[0] in reasons:
            continue
        name = (
            graph.say_key(key)
            if owner is None
            else f"{graph.say_key(key)}, the {owner[1]} of {graph.say_key(owner[0])}"
        )
        slots = f" + {', '.join(kinds[key])}" if key in kinds else ""
        rows.append((name, f"{graph.specs[key]}{slots}" + (f": {reason}" if reason else "")))
    return rows


def _listed(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"{title} ({len(rows)}):"
    indent = "    " if title.startswith(" ") else "  "
    folded = fold(rows, numbered=2)
    for item in folded[:_SHOWN]:
        many = f" ({item.count} times)" if item.count > 1 else ""
        yield f"{indent}{escape(item.columns[0])}  [dim]{escape(item.columns[1])}{many}[/dim]"
    if len(folded) > _SHOWN:
        yield f"{indent}[dim]and {sum(item.count for item in folded[_SHOWN:])} more[/dim]"


def pack_lines(packs: Sequence[Pack]) -> Iterator[str]:
    """Packs with the first sentence of what each is for, as lines of rich markup."""
    width = max((len(pack.name) for pack in packs), default=0)
    for pack in packs:
        yield f"[bold]{escape(pack.name):<{width}}[/bold]  {escape(pack.purpose.partition('. ')[0].rstrip('.'))}"


def outcome_lines(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """The examples of packs, one after the other, as lines of rich markup."""
    for outcome in outcomes:
        word = "failed" if outcome.problems else "passed"
        yield f"[{_STYLES[word]}]{word:>7}[/]  [bold]{escape(outcome.pack)}[/]: {escape(outcome.says)}"
        for problem in outcome.problems:
            yield f"           {escape(problem)}"


def report_lines(report: Report) -> Iterator[str]:
    """A proof, one level after the other, as lines of rich markup."""
    for check in report.checks:
        yield f"[{_STYLES[check.outcome]}]{check.outcome:>7}[/]  [bold]{check.level}[/]: {escape(check.proof)}"
        for line in (*shown(check.problems), *([check.hint] if check.hint else [])):
            yield f"           {escape(line)}"
    for finding in report.findings:
        yield from map(escape, finding_lines(finding))


def diagnosis_lines(report: Report) -> Iterator[str]:
    """What is wrong with a restore, the most important first, as lines of rich markup; one line if nothing is."""
    where = f"{escape(report.prefix)} for {escape(report.target)}"
    proofs = "; ".join(check.proof for check in report.checks if check.outcome == "passed")
    if report.passed:
        yield f"[{_STYLES['passed']}]healthy[/]  {where}: {escape(proofs)}"
        return
    causes = len(report.findings)
    yield f"{where}: [{_STYLES['failed']}]{causes or 'no'} cause{'' if causes == 1 else 's'}[/] found"
    for number, finding in enumerate(report.findings, 1):
        yield f"[bold]{number}  {finding.kind}[/]: {escape(finding.what)}"
        yield from (f"     {escape(row)}" for row in shown(finding.rows))
        yield f"   [dim]TensorFlow:[/] {escape(finding.tensorflow)}"
        yield f"   [dim]cause:[/] {escape(finding.cause)}"
        yield from (f"   [dim]mend:[/] [bold]{escape(line)}[/]" for line in finding.mend)
    for check in report.checks:
        yield f"[{_STYLES[check.outcome]}]{check.outcome:>7}[/]  [bold]{check.level}[/]: {escape(check.proof)}"
        if not causes:  # what is wrong without a cause that is known is told as it is
            yield from (f"           {escape(line)}" for line in shown(check.problems))


def difference_lines(difference: Difference, source: ObjectGraph, target: ObjectGraph) -> Iterator[str]:
    """What two bundles do not share, as lines of rich markup."""

    def both(pairs: Iterable[tuple[Key, Key]]) -> list[tuple[str, str]]:
        return [(f"{source.say_key(s)} -> {target.say_key(t)}", str(target.specs[t])) for s, t in pairs]

    yield from _listed(
        "[red]only in the source[/]", [(source.say_key(key), str(source.specs[key])) for key in difference.only_source]
    )
    yield from _listed(
        "[green]only in the target[/]",
        [(target.say_key(key), str(target.specs[key])) for key in difference.only_target],
    )
    yield from _listed("[cyan]moved (equal bytes at another path)[/]", both(difference.moved))
    yield from _listed(
        "[yellow]other shape or dtype[/]",
        [(target.say_key(t), f"{source.specs[s]} -> {target.specs[t]}") for s, t in difference.respecified],
    )
    yield f"{len(difference.same)} at one path with one shape, {difference.equal_values} of them with equal bytes"
