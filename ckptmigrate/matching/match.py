"""From two graphs and a rulebook to what leads where: rules first, then what is exact, then the slots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from ckptmigrate.errors import CkptMigrateError, OperationError, RuleError, raise_all
from ckptmigrate.graph import ROOT, VARIABLE_ROLE, ObjectGraph, Optimizer, Slot
from ckptmigrate.matching.exact import Doubt, ExactPairs, Settled, exact_pairs
from ckptmigrate.matching.result import Drop, Matching, Question, Status, Step, Unmatched
from ckptmigrate.matching.walk import nodes_matching, pairs_matching
from ckptmigrate.ops import Cast, Fill, Op
from ckptmigrate.rules import Rule, Rulebook
from ckptmigrate.spec import Key, Pattern, TensorSpec, format_path

_ORDER_CONFIDENCE = 0.9
_ORDER_EVIDENCE = (
    "several variables have the name that the slot has, and it is taken for its variable's because the optimizer was "
    "given them in the order of `trainable_variables`, as is usual"
)
"""Why a slot's variable is likely and not certain. The order is not in the checkpoint."""

_SHOWN = 3
"""So many problems of one rule are told one by one; the rest are counted."""


def match_graphs(source: ObjectGraph, target: ObjectGraph, rulebook: Rulebook = ()) -> Matching:
    """Say for every tensor of both sides where it goes or comes from, or that it is open.

    Args:
        source: The graph of the checkpoint that values are taken from.
        target: The graph of the new model's checkpoint.
        rulebook: Rules, all of which apply at once: none sees the result of another.

    Returns:
        Steps by rules and by what is exact, questions where positions are doubtful, and the rest.

    Raises:
        RuleError: A rule matches nothing, or contradicts another or the shapes; `Problems` if several do.
    """
    matcher = _Matcher(source, target)
    matcher.take_rules(rulebook)
    matcher.take_exact()
    matcher.take_slots()
    return matcher.result()


@dataclass(slots=True)
class _Matcher:
    """What is known so far. It lives for one call of `match_graphs`."""

    source: ObjectGraph
    target: ObjectGraph
    steps: dict[Key, Step] = field(default_factory=dict)
    dropped: dict[Key, Drop] = field(default_factory=dict)
    used: set[Key] = field(default_factory=set)
    copied: set[Key] = field(default_factory=set)
    """Those used that a rule leads to several targets: their slots go with them to each."""
    objects: dict[int, int] = field(default_factory=dict)
    """Source node by target node, objects as well as variables."""
    source_reasons: dict[Key, str] = field(default_factory=dict)
    target_reasons: dict[Key, str] = field(default_factory=dict)
    questions: list[Question] = field(default_factory=list)
    asked: set[Key] = field(default_factory=set)
    """The targets of the questions so far."""

    # Rules.

    def take_rules(self, rulebook: Rulebook) -> None:
        problems: list[CkptMigrateError] = []
        claims: list[tuple[Rule, Key | None, Key | None]] = []
        for rule in rulebook:
            found = list(self.claims_of(rule, problems))
            claims.extend((rule, *ends) for ends in found)
        problems.extend(self.contradictions(claims))
        raise_all("the rules do not fit the source and the target", problems)
        for rule, source_key, target_key in claims:
            if target_key is None and source_key is not None:
                self.dropped[source_key] = Drop(source_key, rule.describe())
            elif target_key is not None:
                sources = () if source_key is None else (source_key,)
                self.copied.update(self.used.intersection(sources))
                self.used.update(sources)
                evidence = f"rule {rule.where}: {rule.describe()}" if rule.where else f"rule: {rule.describe()}"
                status: Status = "initial" if rule.kind == "init" else "rule"
                self.steps[target_key] = Step(target_key, sources, rule.operations, status, 1.0, (evidence,))

    def claims_of(self, rule: Rule, problems: list[CkptMigrateError]) -> Iterator[tuple[Key | None, Key | None]]:
        """The tensors that a rule speaks of, as pairs of source and target."""
        match rule.kind:
            case "map":
                assert rule.source is not None  # noqa: S101  # `Rule` says so; mypy cannot
                assert rule.target is not None  # noqa: S101
                yield from self.mapped(rule, rule.source, rule.target, problems)
            case "drop":
                assert rule.source is not None  # noqa: S101
                keys = _keys_of(self.source, nodes_matching(self.source, rule.source))
                if not keys:
                    problems.append(_matches_nothing(rule, rule.source, self.source, "source"))
                yield from ((key, None) for key in keys)
            case "init":
                assert rule.target is not None  # noqa: S101
                keys = _keys_of(self.target, nodes_matching(self.target, rule.target))
                if not keys:
                    problems.append(_matches_nothing(rule, rule.target, self.target, "target"))
                problems.extend(_folded([e for key in keys for e in self.unfillable(rule, key)], rule.where))
                yield from ((None, key) for key in keys)

    def unfillable(self, rule: Rule, key: Key) -> Iterator[CkptMigrateError]:
        """Why the target cannot hold the rule's initial value, if so."""
        try:
            _result(rule.operations, self.target.specs[key])
        except OperationError as error:
            where = f"{rule.where}, {self.target.say_key(key)}"
            yield RuleError(error.what, where, expected=error.expected, got=error.got, hint=error.hint)

    def mapped(
        self, rule: Rule, source_pattern: Pattern, target_pattern: Pattern, problems: list[CkptMigrateError]
    ) -> Iterator[tuple[Key, Key]]:
        pairs = pairs_matching(self.source, source_pattern, self.target, target_pattern)
        led = set()
        found = False
        misfits: list[CkptMigrateError] = []
        for s, t in sorted(pairs):
            self.objects.setdefault(t, s)
            for role, source_key in self.source.nodes[s].tensors.items():
                target_key = self.target.nodes[t].tensors.get(role)
                if target_key is None:
                    continue
                found = True
                led.add(s)
                misfit = self.misfit(rule, source_key, target_key)
                if misfit:
                    misfits.append(misfit)
                else:
                    yield source_key, target_key
        problems.extend(_folded(misfits, rule.where))
        matching = [s for s in nodes_matching(self.source, source_pattern) if self.source.nodes[s].tensors]
        if not matching:
            problems.append(_matches_nothing(rule, source_pattern, self.source, "source"))
        elif not found:
            example = self.source.say(min(matching))
            problems.append(
                RuleError(
                    "the rule leads nowhere",
                    rule.where,
                    expected=f"a variable of the target at `{target_pattern}`",
                    got=f"none for `{example}` (source){_and_more(len(matching) - 1)}",
                    hint=_nearest(self.target, target_pattern),
                )
            )
        for s in matching:
            if s not in led:
                for key in self.source.nodes[s].tensors.values():
                    self.source_reasons[key] = f"rule {rule.where} matches it, but the target has no such path"

    def misfit(self, rule: Rule, source_key: Key, target_key: Key) -> CkptMigrateError | None:
        """Why the values do not have the target's shape and dtype after the rule's operations, if so."""
        spec, wanted = self.source.specs[source_key], self.target.specs[target_key]
        try:
            result = _result(rule.operations, spec)
        except OperationError as error:
            return RuleError(
                error.what,
                f"{rule.where}, {self.source.say_key(source_key)}",
                expected=error.expected,
                got=error.got,
                hint=error.hint,
            )
        if result == wanted:
            return None
        after = " after the rule's operations" if rule.operations else ""
        return RuleError(
            "the shape does not come out" if result.shape != wanted.shape else "the dtype does not come out",
            rule.where,
            expected=f"{wanted} (target {self.target.say_key(target_key)})",
            got=f"{result} (source {self.source.say_key(source_key)}{after})",
            hint="Add the operation that leads from one to the other, or mend the pattern",
        )

    def contradictions(self, claims: Iterable[tuple[Rule, Key | None, Key | None]]) -> Iterator[CkptMigrateError]:
        by_target: dict[Key, list[tuple[Rule, Key | None]]] = {}
        by_source: dict[Key, list[tuple[Rule, Key | None]]] = {}
        for rule, source_key, target_key in claims:
            if target_key is not None:
                by_target.setdefault(target_key, []).append((rule, source_key))
            if source_key is not None:
                by_source.setdefault(source_key, []).append((rule, target_key))
        seen: set[tuple[str, ...]] = set()

        def once(*rules: Rule) -> bool:
            places = tuple(rule.where + rule.describe() for rule in rules)
            known = places in seen
            seen.add(places)
            return not known

        for target_key, origins in by_target.items():
            if len(origins) > 1 and once(*(rule for rule, _ in origins)):
                same_rule = len({rule for rule, _ in origins}) == 1
                yield RuleError(
                    "two sources on one target" if same_rule else "two rules for one target",
                    ", ".join(dict.fromkeys(rule.where for rule, _ in origins)),
                    expected=f"one origin of `{self.target.say_key(target_key)}` (target)",
                    got=" and ".join(
                        f"`{self.source.say_key(key)}`" if same_rule and key else f"`{rule.describe()}`"
                        for rule, key in origins[:_SHOWN]
                    ),
                    hint="Make the patterns narrower",
                )
        for source_key, uses in by_source.items():
            # A list in `to` says that the copy is meant; its rules share one place in the file.
            copied = len({rule for rule, _ in uses}) == len(uses) and len({rule.where for rule, _ in uses}) == 1
            if len(uses) > 1 and not copied and once(*(rule for rule, _ in uses)):
                dropped = any(key is None for _, key in uses)
                yield RuleError(
                    "a source used and dropped" if dropped else "a source used twice",
                    ", ".join(dict.fromkeys(rule.where for rule, _ in uses)),
                    expected=f"one use of `{self.source.say_key(source_key)}` (source)",
                    got=" and ".join(
                        f"`{self.target.say_key(key)}`" if key else f"`{rule.describe()}`"
                        for rule, key in uses[:_SHOWN]
                    ),
                    hint="Make the patterns narrower"
                    if dropped
                    else "If the copy is meant, say so with a list: `rename: {from: a, to: [b, c]}`",
                )

    # What is exact.

    def take_exact(self) -> None:
        settled = Settled(frozenset(self.used | self.dropped.keys()), frozenset(self.steps))
        exact = exact_pairs(self.source, self.target, settled)
        for s, t in exact.pairs.items():
            self.objects.setdefault(t, s)
            if t in self.target.slot_nodes or s in self.source.slot_nodes:
                continue
            for role, source_key in self.source.nodes[s].tensors.items():
                target_key = self.target.nodes[t].tensors.get(role)
                if target_key is not None:
                    self.equal(source_key, target_key, f"same path `{self.target.say(t)}`")
        shared_keys = set(self.source.unowned) & set(self.target.unowned)
        for key in sorted(shared_keys):
            self.equal(key, key, "same key; no object of the graph holds it")
        self.ask_about(exact)

    def equal(self, source_key: Key, target_key: Key, evidence: str) -> None:
        """Take a pair as exact if both are free and their specs are equal."""
        if target_key in self.steps or source_key in self.used or source_key in self.dropped:
            return
        spec, wanted = self.source.specs[source_key], self.target.specs[target_key]
        if spec != wanted:
            word = "shape" if spec.shape != wanted.shape else "dtype"
            reason = f"same path, other {word}: {spec} (source), {wanted} (target)"
            self.target_reasons[target_key] = self.source_reasons[source_key] = reason
            return
        self.used.add(source_key)
        self.steps[target_key] = Step(target_key, (source_key,), (), "exact", 1.0, (evidence,))

    def ask_about(self, exact: ExactPairs) -> None:
        """Turn what could not be decided into questions, where both sides have tensors that wait."""
        for doubt in exact.doubts:
            self.ask(
                _keys_in(self.source, doubt.source, doubt), _keys_in(self.target, doubt.target, doubt), doubt.reason
            )
        for sources, targets in exact.tied:
            self.ask(
                [key for s in sorted(sources) for key in self.source.nodes[s].tensors.values()],
                [key for t in sorted(targets) for key in self.target.nodes[t].tensors.values()],
                "equal paths lead to one variable on one side and to several on the other (tied or untied weights)",
            )

    def ask(self, sources: Iterable[Key], targets: Iterable[Key], reason: str) -> None:
        waiting_targets = tuple(
            key for key in dict.fromkeys(targets) if key not in self.steps and key not in self.asked
        )
        waiting_sources = tuple(
            key for key in dict.fromkeys(sources) if key not in self.used and key not in self.dropped
        )
        if waiting_sources and waiting_targets:
            self.questions.append(Question(waiting_targets, waiting_sources, reason))
            self.asked.update(waiting_targets)

    # Slots.

    def take_slots(self) -> None:
        for optimizer in self.target.optimizers:
            for slot in optimizer.slots:
                self.start_with_variable(slot)
        for optimizer in self.source.optimizers:
            for slot in optimizer.slots:
                self.drop_with_variable(slot)
        for theirs, ours in self.optimizer_pairs():
            self.follow_variables(theirs, ours)

    def optimizer_pairs(self) -> Iterator[tuple[Optimizer, Optimizer]]:
        """Optimizers that a rule or equal paths join; the only one of each side, where there is one."""
        theirs = {optimizer.node: optimizer for optimizer in self.source.optimizers}
        ours = {optimizer.node: optimizer for optimizer in self.target.optimizers}
        pairs = {t: s for t, s in self.objects.items() if t in ours and s in theirs}
        if not pairs and len(theirs) == len(ours) == 1:
            pairs = {next(iter(ours)): next(iter(theirs))}
        for t, s in pairs.items():
            yield theirs[s], ours[t]

    def follow_variables(self, theirs: Optimizer, ours: Optimizer) -> None:
        """A slot goes where its variable goes, through the same operations."""
        # What is certain comes first: it may show that what is only likely is wrong.
        self.follow_links(theirs, ours, certain=True)
        if self.nothing_moved():
            self.follow_positions(theirs, ours)
        self.follow_links(theirs, ours, certain=False)
        if not all(slot.variable is not None for slot in (*theirs.slots, *ours.slots)):
            self.ask(
                [
                    self.key(self.source, slot)
                    for slot in theirs.slots
                    if slot.variable is None or self.source.nodes[slot.variable].tensors[VARIABLE_ROLE] in self.used
                ],
                [
                    self.key(self.target, slot)
                    for slot in ours.slots
                    if slot.variable is None or self.step_of(slot.variable) is not None
                ],
                "the checkpoint does not say which variables these slots belong to: several variables share a name",
            )

    def follow_links(self, theirs: Optimizer, ours: Optimizer, *, certain: bool) -> None:
        slots = {(slot.kind, slot.variable): slot for slot in theirs.slots if slot.variable is not None}
        for slot in ours.slots:
            step = self.step_of(slot.variable)
            if step is None or not step.sources:
                continue
            owner = self.source.node_of[step.sources[0]]
            found = slots.get((slot.kind, owner))
            if found is not None:
                if certain == (slot.certain and found.certain):
                    self.follow(found, slot, step, certain=certain)
            elif all(other.variable is not None for other in theirs.slots):
                self.target_reasons[self.key(self.target, slot)] = (
                    f"the source has no slot `{slot.kind}` of `{self.source.say(owner)}`"
                )

    def follow(self, theirs: Slot, ours: Slot, step: Step, *, certain: bool) -> None:
        source_key, target_key = self.key(self.source, theirs), self.key(self.target, ours)
        taken = source_key in self.used and not (certain and step.sources[0] in self.copied)
        if target_key in self.steps or source_key in self.dropped or taken:
            return
        spec, wanted = self.source.specs[source_key], self.target.specs[target_key]
        moves: tuple[Op, ...] = tuple(operation for operation in step.ops if not isinstance(operation, Cast))
        try:
            result = _result(moves, spec)
        except OperationError:
            moves, result = (), spec
        if result.shape == wanted.shape and result.dtype != wanted.dtype:
            moves, result = (*moves, Cast(wanted.dtype)), wanted
        if result != wanted:
            reason = f"slot `{ours.kind}` has another shape: {result} (source), {wanted} (target)"
            self.target_reasons[target_key] = self.source_reasons[source_key] = reason
            return
        self.used.add(source_key)
        variable = self.target.say_key(step.target)
        evidence = f"slot `{ours.kind}` of `{variable}` follows it"
        if certain:
            self.steps[target_key] = Step(target_key, (source_key,), moves, step.status, step.confidence, (evidence,))
        else:
            confidence = min(step.confidence, _ORDER_CONFIDENCE)
            evidences = (evidence, _ORDER_EVIDENCE)
            self.steps[target_key] = Step(target_key, (source_key,), moves, "proposed", confidence, evidences)

    def nothing_moved(self) -> bool:
        """Whether all variables but slots are where they were, so that no list can have changed its order."""
        save_counter = self.target.child(ROOT, "save_counter")
        return (
            len(self.source.slot_nodes) == len(self.target.slot_nodes)
            and all(
                node.tensors[VARIABLE_ROLE] in self.used
                for number, node in enumerate(self.source.nodes)
                if VARIABLE_ROLE in node.tensors and number not in self.source.slot_nodes
            )
            and all(
                (step := self.step_of(number)) is not None and step.status == "exact"
                for number, node in enumerate(self.target.nodes)
                if VARIABLE_ROLE in node.tensors and number not in self.target.slot_nodes and number != save_counter
            )
        )

    def follow_positions(self, theirs: Optimizer, ours: Optimizer) -> None:
        """Slots whose variable is not known keep their place if nothing moved."""
        for label in sorted(theirs.bookkeeping & ours.bookkeeping):
            source_items = self.source.nodes[self.source.nodes[theirs.node].children[label]].children
            target_items = self.target.nodes[self.target.nodes[ours.node].children[label]].children
            if source_items.keys() != target_items.keys():
                continue
            for index, s in source_items.items():
                t = target_items[index]
                if s in self.source.slot_nodes and t in self.target.slot_nodes:
                    path = f"{self.target.say(ours.node)}/{label}/{index}"
                    self.equal(
                        self.source.nodes[s].tensors[VARIABLE_ROLE],
                        self.target.nodes[t].tensors[VARIABLE_ROLE],
                        f"same path `{path}`, and no variable moved",
                    )

    def start_with_variable(self, slot: Slot) -> None:
        """A slot of a variable that starts anew starts anew."""
        step = self.step_of(slot.variable)
        key = self.key(self.target, slot)
        if key in self.steps or step is None or step.status != "initial":
            return
        evidence = f"slot `{slot.kind}` of `{self.target.say_key(step.target)}`, which starts anew"
        if slot.certain:
            self.steps[key] = Step(key, (), (Fill("template"),), "initial", 1.0, (evidence,))
        else:
            evidences = (evidence, _ORDER_EVIDENCE)
            self.steps[key] = Step(key, (), (Fill("template"),), "proposed", _ORDER_CONFIDENCE, evidences)

    def drop_with_variable(self, slot: Slot) -> None:
        """A slot of a variable that is dropped is dropped."""
        key = self.key(self.source, slot)
        if slot.variable is None or key in self.used or key in self.dropped:
            return
        owner = self.source.nodes[slot.variable].tensors.get(VARIABLE_ROLE)
        if owner in self.dropped and not slot.certain:
            self.source_reasons[key] = f"likely slot `{slot.kind}` of what is dropped; {_ORDER_EVIDENCE}"
        elif owner in self.dropped:
            self.dropped[key] = Drop(key, self.dropped[owner].rule)

    def step_of(self, number: int | None) -> Step | None:
        key = None if number is None else self.target.nodes[number].tensors.get(VARIABLE_ROLE)
        return None if key is None else self.steps.get(key)

    @staticmethod
    def key(graph: ObjectGraph, slot: Slot) -> Key:
        return graph.nodes[slot.node].tensors[VARIABLE_ROLE]

    # What is left.

    def result(self) -> Matching:
        self.start_save_counter()
        self.extend_questions_to_slots()
        asked_targets = {key for question in self.questions for key in question.targets}
        asked_sources = {key for question in self.questions for key in question.sources}
        return Matching(
            steps=tuple(self.steps[key] for key in self.target.specs if key in self.steps),
            questions=tuple(self.questions),
            unmatched_source=tuple(
                Unmatched(key, self.source_reasons.get(key, ""))
                for key in self.source.specs
                if key not in self.used and key not in self.dropped and key not in asked_sources
            ),
            unmatched_target=tuple(
                Unmatched(key, self.target_reasons.get(key, ""))
                for key in self.target.specs
                if key not in self.steps and key not in asked_targets
            ),
            dropped=tuple(self.dropped[key] for key in self.source.specs if key in self.dropped),
        )

    def start_save_counter(self) -> None:
        """``Checkpoint.save`` counts its calls, ``Checkpoint.write`` does not; a new count starts at the template's.

        Source: ``Checkpoint._maybe_create_save_counter`` in tensorflow/python/checkpoint/checkpoint.py.
        """
        counter = self.target.child(ROOT, "save_counter")
        if counter is None or self.source.child(ROOT, "save_counter") is not None:
            return
        for key in self.target.nodes[counter].tensors.values():
            if key not in self.steps:
                evidence = "the source was written without a save counter"
                self.steps[key] = Step(key, (), (Fill("template"),), "initial", 1.0, (evidence,))

    def extend_questions_to_slots(self) -> None:
        """The answer for a variable is the answer for its slots."""
        if not self.questions:
            return
        targets = _slots_by_variable(self.target, lambda key: key not in self.steps)
        sources = _slots_by_variable(self.source, lambda key: key not in self.used and key not in self.dropped)
        self.questions = [
            Question(
                _with_slots(question.targets, targets),
                _with_slots(question.sources, sources),
                question.reason,
                question.hypotheses,
            )
            for question in self.questions
        ]


def _with_slots(keys: tuple[Key, ...], slots: dict[Key, list[Key]]) -> tuple[Key, ...]:
    return tuple(dict.fromkeys((*keys, *(slot for key in keys for slot in slots.get(key, ())))))


def _slots_by_variable(graph: ObjectGraph, is_open: Callable[[Key], bool]) -> dict[Key, list[Key]]:
    slots: dict[Key, list[Key]] = {}
    for optimizer in graph.optimizers:
        for slot in optimizer.slots:
            owner = None if slot.variable is None else graph.nodes[slot.variable].tensors.get(VARIABLE_ROLE)
            key = graph.nodes[slot.node].tensors[VARIABLE_ROLE]
            if owner is not None and is_open(key):
                slots.setdefault(owner, []).append(key)
    return slots


def _result(operations: tuple[Op, ...], spec: TensorSpec) -> TensorSpec:
    specs: tuple[TensorSpec, ...] = (spec,)
    for operation in operations:
        specs = operation.infer(specs)
    return specs[0]


def _keys_of(graph: ObjectGraph, nodes: Iterable[int]) -> list[Key]:
    """The tensors of nodes; for an optimizer, its slots too: whoever speaks of all of it means them."""
    slots = {optimizer.node: [slot.node for slot in optimizer.slots] for optimizer in graph.optimizers}
    numbers = dict.fromkeys(number for node in sorted(nodes) for number in (node, *slots.get(node, ())))
    return [key for number in numbers for key in graph.nodes[number].tensors.values()]


def _keys_in(graph: ObjectGraph, number: int, doubt: Doubt) -> list[Key]:
    children = graph.nodes[number].children
    return [
        key
        for label in doubt.labels
        if label in children and children[label] not in graph.slot_nodes
        for key in graph.keys_below(children[label])
    ]


def _folded(problems: list[CkptMigrateError], where: str) -> Iterator[CkptMigrateError]:
    yield from problems[:_SHOWN]
    if len(problems) > _SHOWN:
        yield RuleError(f"{len(problems) - _SHOWN} more of this rule do not come out", where)


def _and_more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def _matches_nothing(rule: Rule, pattern: Pattern, graph: ObjectGraph, side: str) -> RuleError:
    objects = nodes_matching(graph, pattern)
    return RuleError(
        "the rule matches nothing",
        rule.where,
        expected=f"a variable of the {side} at `{pattern}`",
        got="an object without a value of its own" if objects else f"none among {len(graph.specs)}",
        hint=f"For all below it write `{pattern}/**`" if objects else _nearest(graph, pattern),
    )


def _nearest(graph: ObjectGraph, pattern: Pattern) -> str:
    """The paths nearest to a pattern, as a hint."""
    import difflib

    if pattern.by_name:
        said = {node.full_name for node in graph.nodes if node.full_name}
        near = difflib.get_close_matches(pattern.text.removeprefix("name:"), sorted(said), 2, 0.5)
        return "Nearest: " + ", ".join(f"`name:{text}`" for text in near) if near else ""
    said = {format_path(graph.paths[number]) for number, node in enumerate(graph.nodes) if node.tensors}
    near = difflib.get_close_matches(pattern.text, sorted(said), 2, 0.5)
    return "Nearest: " + ", ".join(f"`{text}`" for text in near) if near else ""
