"""What leads where: patterns on graphs, rules against checkpoints, and what is exact without any."""

import os
import subprocess
import sys

import numpy as np
import pytest
from builders import Legacy, Table, Var, adam, floats, graph_of, key_of, spec_of, write_tree
from chains import vocab
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptmigrate import Rule, match_graphs, parse_rulebook
from ckptmigrate.errors import Problems, RuleError
from ckptmigrate.graph import Node, ObjectGraph
from ckptmigrate.matching.walk import nodes_matching, pairs_matching
from ckptmigrate.ops import Cast, Concat, Fill, FoldBias, FoldKernel, Gates, Part, Reshape, Resize, Scale, Transpose
from ckptmigrate.spec import DType, Key, Pattern


def match(source, target, rules=""):
    return match_graphs(graph_of(source), graph_of(target), parse_rulebook("rules:\n" + rules) if rules else ())


def told(source, target, rules):
    """The problems of rules, as (what, where)."""
    with pytest.raises((RuleError, Problems)) as raised:
        match(source, target, rules)
    found = raised.value.problems if isinstance(raised.value, Problems) else (raised.value,)
    return [(problem.what, problem.where) for problem in found]


def only(source, target, rules):
    with pytest.raises(RuleError) as raised:
        match(source, target, rules)
    return raised.value


def path_of(key):
    return key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")


def steps_of(matching):
    """Source path by target path; None for what starts anew."""
    return {path_of(step.target): path_of(step.sources[0]) if step.sources else None for step in matching.steps}


def ops_of(matching):
    """Operations by target path."""
    return {path_of(step.target): step.ops for step in matching.steps}


# Patterns on graphs, against every path there is.

EDGE_LABELS = ("a", "b", "0", "1")
PIECES = ("a", "b", "0", "*", "{x}", "{n:int}", "**")


@st.composite
def graphs(draw, *, cycles):
    count = draw(st.integers(1, 4))
    edges = draw(
        st.dictionaries(
            st.tuples(st.integers(0, count - 1), st.sampled_from(EDGE_LABELS)),
            st.integers(0, count - 1),
            max_size=6,
        )
    )
    children = [{} for _ in range(count)]
    for (parent, label), child in edges.items():
        if cycles or parent < child:
            children[parent][label] = child
    return ObjectGraph(tuple(Node(held, {}) for held in children), {})


def walks(graph, longest):
    """Every walk from the root: its labels, whether a wildcard may take each step, and where it ends."""
    found = [((), (), 0)]
    for labels, open_to_wildcards, number in found:
        if len(labels) < longest:
            named = dict(graph.named_children(number))
            for label, child in graph.nodes[number].children.items():
                free = label in named and not graph.climbs(number, child)
                found.append(((*labels, label), (*open_to_wildcards, free), child))
    return found


def readings(pieces, labels, free, captured=(), taken=()):
    """Every way to read labels as a pattern: captures, and what each ``**`` stands for."""
    if not pieces:
        if not labels:
            yield dict(captured), taken
        return
    first, *rest = pieces
    if first == "**":
        for count in range(len(labels) + 1):
            if all(free[:count]):
                yield from readings(rest, labels[count:], free[count:], captured, (*taken, labels[:count]))
        return
    if not labels:
        return
    label, known = labels[0], dict(captured)
    if first in ("a", "b", "0"):
        fits, added = label == first, {}
    else:
        name = first.strip("{}").removesuffix(":int")
        fits = free[0] and (label.isdecimal() or ":int" not in first) and known.get(name, label) == label
        added = {} if first == "*" else {name: label}
    if fits:
        yield from readings(rest, labels[1:], free[1:], tuple({**known, **added}.items()), taken)


@settings(max_examples=300, deadline=None)
@given(graphs(cycles=True), st.lists(st.sampled_from(PIECES), min_size=1, max_size=3))
def test_a_pattern_matches_the_nodes_that_any_of_their_paths_match(graph, pieces):
    by_hand = {number for labels, free, number in walks(graph, 6) if any(readings(pieces, labels, free))}
    assert nodes_matching(graph, Pattern.parse("/".join(pieces))) == by_hand


@settings(max_examples=300, deadline=None)
@given(graphs(cycles=False), graphs(cycles=False), st.lists(st.sampled_from(PIECES), min_size=1, max_size=3), st.data())
def test_a_rule_joins_the_pairs_whose_paths_match_both_sides(source, target, pieces, data):
    names = [piece.strip("{}").removesuffix(":int") for piece in pieces if piece[0] == "{"]
    fixed = st.lists(st.sampled_from(["a", "b", "0", *(f"{{{name}}}" for name in names)]), max_size=1)
    # The target has the same number of `**`; before each only what was captured before it.
    right = [*(piece for piece in pieces if piece == "**"), *data.draw(fixed)] or ["a"]

    def lead(captured, taken):
        spans = iter(taken)
        for piece in right:
            if piece == "**":
                yield from ((label, True) for label in next(spans))
            else:
                yield captured[piece.strip("{}")] if piece[0] == "{" else piece, False

    ends = {(labels, tuple(free)): number for labels, free, number in walks(target, 4)}
    by_hand = set()
    for labels, free, s in walks(source, 4):
        for captured, taken in readings(pieces, labels, free):
            wanted = list(lead(captured, taken))
            for (target_labels, target_free), t in ends.items():
                if target_labels == tuple(label for label, _ in wanted) and all(
                    is_free or not in_span for is_free, (_, in_span) in zip(target_free, wanted, strict=True)
                ):
                    by_hand.add((s, t))
    found = pairs_matching(source, Pattern.parse("/".join(pieces)), target, Pattern.parse("/".join(right)))
    assert found == by_hand


@settings(max_examples=100, deadline=None)
@given(graphs(cycles=True), graphs(cycles=True))
def test_double_stars_on_both_sides_join_what_equal_walks_lead_to(source, target):
    """Joint walks can be as long as there are pairs of nodes, so here those up to a length are looked at."""
    in_target = {labels: number for labels, free, number in walks(target, 6) if all(free)}
    by_hand = {(s, in_target[labels]) for labels, free, s in walks(source, 6) if all(free) and labels in in_target}
    everything = Pattern.parse("**")
    assert pairs_matching(source, everything, target, everything) >= by_hand


def test_full_names_are_matched_by_name():
    graph = graph_of({"x": [Var(floats(1), "dense/kernel"), Var(floats(1), "dense/bias"), floats(1)]})
    kernel, bias = graph.find(("x", "0")), graph.find(("x", "1"))
    assert nodes_matching(graph, Pattern.parse("name:dense/kernel")) == {kernel}
    assert nodes_matching(graph, Pattern.parse("name:*/{what}")) == {kernel, bias}
    assert nodes_matching(graph, Pattern.parse("name:**/bias")) == {bias}


def test_a_rule_may_lead_from_names_to_paths():
    source = {"0": Var(floats(2), "dense_7/kernel"), "1": Var(floats(2), "dense_8/kernel")}
    target = {"layers": [{"kernel": floats(2)} for _ in range(9)]}
    found = match(source, target, "  - rename: {from: 'name:dense_{n:int}/kernel', to: 'layers/{n-7}/kernel'}\n")
    assert steps_of(found) == {"layers/0/kernel": "0", "layers/1/kernel": "1"}


def test_a_literal_label_leads_where_a_wildcard_does_not():
    w = floats(2)
    graph = graph_of({"m": {"w": w}, "optimizer": adam([w])})
    number = graph.find(("m", "w"))
    assert nodes_matching(graph, Pattern.parse("optimizer/_trainable_variables/0")) == {number}
    assert number not in nodes_matching(graph, Pattern.parse("optimizer/*/0"))


# Rules that move.


def test_a_swap_and_a_rotation_see_only_the_source():
    source = {name: floats(2, start=n) for n, name in enumerate("abxyz")}
    found = match(
        source,
        source,
        "".join(f"  - rename: {{from: {a}, to: {b}}}\n" for a, b in [*zip("ab", "ba"), *zip("xyz", "yzx")]),  # noqa: B905
    )
    assert steps_of(found) == {"a": "b", "b": "a", "x": "z", "y": "x", "z": "y"}


def test_a_shift_moves_every_layer_by_one():
    layers = [{"k": floats(2), "b": floats(1)} for _ in range(12)]
    target = {"layers": [{"k": floats(2), "b": floats(1)} for _ in range(13)]}
    found = match(
        {"layers": layers},
        target,
        "  - rename: {from: 'layers/{n:int}/**', to: 'layers/{n+1}/**'}\n"
        "  - init: {to: 'layers/0/**', with: template}\n",
    )
    assert steps_of(found) == {
        **{f"layers/{n + 1}/{v}": f"layers/{n}/{v}" for n in range(12) for v in "kb"},
        "layers/0/k": None,
        "layers/0/b": None,
    }
    assert not found.questions


def test_a_table_moves_with_both_its_tensors():
    table = {"table": Table(np.array([b"x"], object), np.array([1]))}
    found = match({"old": table}, {"new": table}, "  - rename: {from: 'old/**', to: 'new/**'}\n")
    assert [(step.sources[0], step.target) for step in found.steps] == [
        (f"old/table/.ATTRIBUTES/table-{part}", f"new/table/.ATTRIBUTES/table-{part}") for part in ("keys", "values")
    ]


# What a rule says of a variable holds for its slots.


def with_adam(**variables):
    return {"m": variables, "optimizer": adam(list(variables.values()))}


def known_slots_of(tree):
    """The variable of each slot of which the checkpoint says it, by the key of the slot."""
    return {key: owner for key, (owner, _) in graph_of(tree).slot_owner.items()}


def slots_of(tree):
    """Where each slot's values are: (kind, variable) by the key of the slot."""
    graph = graph_of(tree)
    return {
        graph.nodes[slot.node].tensors["VARIABLE_VALUE"]: (slot.kind, graph.say(slot.variable))
        for optimizer in graph.optimizers
        for slot in optimizer.slots
    }


def test_slots_follow_their_variable_through_a_rename():
    source, target = with_adam(a=floats(2), b=floats(2)), with_adam(b=floats(2), c=floats(2))
    found = match(source, target, "  - rename: {from: m/a, to: m/c}\n")
    of_source, of_target = slots_of(source), slots_of(target)
    moves = {of_target[s.target]: of_source[s.sources[0]] for s in found.steps if s.target in of_target}
    was = {"m/c": "m/a", "m/b": "m/b"}
    assert moves == {(kind, new): (kind, old) for kind in ("momentum", "velocity") for new, old in was.items()}
    assert not found.unmatched_source
    assert not found.unmatched_target


def test_slots_are_moved_like_their_variable_and_keep_their_dtype():
    found = match(
        with_adam(w=floats(2, 3)),
        with_adam(w=np.zeros((3, 2), np.float16)),
        "  - map: {from: m/w, ops: [{transpose: {perm: [1, 0]}}, {cast: {dtype: float16}}]}\n",
    )
    by_path = {path_of(step.target): step.ops for step in found.steps if step.ops}
    assert by_path == {
        "m/w": (Transpose((1, 0)), Cast(DType.FLOAT16)),
        "optimizer/_variables/2": (Transpose((1, 0)),),
        "optimizer/_variables/3": (Transpose((1, 0)),),
    }


def test_slots_of_a_new_variable_start_anew_with_it():
    target = with_adam(a=floats(2), b=floats(3))
    found = match(with_adam(a=floats(2)), target, "  - init: {to: m/b, with: zeros}\n")
    initial = {step.target: step.ops for step in found.steps if step.status == "initial"}
    of_b = [key for key, (_, variable) in slots_of(target).items() if variable == "m/b"]
    assert len(of_b) == 2
    assert all(initial[key] == (Fill("template"),) for key in of_b)
    assert not found.unmatched_target


def test_slots_of_a_dropped_variable_are_dropped_with_it():
    found = match(with_adam(a=floats(2), b=floats(3)), with_adam(a=floats(2)), "  - drop: {from: m/b, why: unused}\n")
    assert len(found.dropped) == 3
    assert {drop.rule for drop in found.dropped} == {"drop m/b (unused)"}
    assert not found.unmatched_source


def test_slots_of_a_copied_variable_are_copied_with_it():
    found = match(
        with_adam(a=floats(2)), with_adam(b=floats(2), c=floats(2)), "  - rename: {from: m/a, to: [m/b, m/c]}\n"
    )
    assert not found.unmatched_target
    assert not found.questions
    assert len([step for step in found.steps if step.status == "rule"]) == 6


def test_legacy_slots_follow_their_variable_too():
    def tree(name):
        w = floats(2)
        return {"m": {name: w}, "optimizer": Legacy({"iter": np.array(1)}, [("m", w, floats(2, start=5))])}

    found = match(tree("a"), tree("b"), "  - rename: {from: m/a, to: m/b}\n")
    assert steps_of(found) == {
        "m/b": "m/a",
        "m/b/.OPTIMIZER_SLOT/optimizer/m": "m/a/.OPTIMIZER_SLOT/optimizer/m",
        "optimizer/iter": "optimizer/iter",
    }


def test_optimizers_at_other_paths_are_told_by_the_variables_they_train():
    def tree(first, second):
        a, b = floats(2), floats(3)
        return {
            "m": {"a": a, "b": b},
            first: Legacy({"iter": np.array(1)}, [("m", a, floats(2, start=5))]),
            second: Legacy({"iter": np.array(2)}, [("m", b, floats(3, start=7))]),
        }

    found = steps_of(match(tree("one", "two"), tree("x", "y")))
    assert found["m/a/.OPTIMIZER_SLOT/x/m"] == "m/a/.OPTIMIZER_SLOT/one/m"
    assert found["m/b/.OPTIMIZER_SLOT/y/m"] == "m/b/.OPTIMIZER_SLOT/two/m"
    assert (found["x/iter"], found["y/iter"]) == ("one/iter", "two/iter")


def test_a_slot_with_a_shape_of_its_own_starts_anew_after_a_transpose():
    def tree(name):
        w = floats(3, 3)
        slots = [("r", w, floats(3, start=5)), ("c", w, floats(3, start=9)), ("scale", w, floats())]
        return {"m": {name: w}, "optimizer": Legacy({"iter": np.array(1)}, slots)}

    found = match(tree("a"), tree("b"), "  - transpose: {from: m/a, to: m/b, perm: [1, 0]}\n")
    slots = {path_of(step.target).rpartition("/")[2]: step for step in found.steps if "OPTIMIZER_SLOT" in step.target}
    assert {name for name, step in slots.items() if step.sources} == {"scale"}
    assert all("a shape of its own" in slots[name].evidence[0] for name in "rc")
    assert not found.unmatched_target
    assert len(found.dropped) == 2
    renamed = match(tree("a"), tree("b"), "  - rename: {from: m/a, to: m/b}\n")
    assert all(step.sources for step in renamed.steps)


# Rules that do not fit, all told at once.

PLAIN = {"m": {"w1": floats(2, 3), "b1": floats(3), "sub": {"x": floats(1)}}}


def test_a_rule_that_matches_nothing_names_the_nearest_path():
    error = only(PLAIN, PLAIN, "  - rename: {from: m/w2, to: m/w1}\n")
    assert (error.what, error.where) == ("the rule matches nothing", "rules:2:13")
    assert error.hint == "Nearest: `m/w1`, `m/b1`"


def test_a_rule_on_an_object_says_how_to_mean_all_below_it():
    error = only(PLAIN, PLAIN, "  - drop: {from: m/sub}\n")
    assert error.got == "an object without a value of its own"
    assert error.hint == "For all below it write `m/sub/**`"


def test_a_name_that_matches_nothing_has_its_nearest_name():
    tree = {"x": Var(floats(1), "dense/kernel")}
    assert only(tree, tree, "  - drop: {from: 'name:dense/kernal'}\n").hint == "Nearest: `name:dense/kernel`"


def test_a_rule_that_leads_nowhere_says_from_what():
    error = only(PLAIN, PLAIN, "  - rename: {from: m/w1, to: m/w9}\n")
    assert error.what == "the rule leads nowhere"
    assert error.got == "none for `m/w1` (source)"
    assert "`m/w1`" in error.hint


def test_an_initial_value_for_what_the_target_has_not():
    error = only(PLAIN, PLAIN, "  - init: {to: m/new, with: zeros}\n")
    assert error.expected == "a variable of the target at `m/new`"


def test_a_shape_that_does_not_come_out():
    error = only(PLAIN, {"m": {"w": floats(3, 2)}}, "  - rename: {from: m/w1, to: m/w}\n")
    assert error.what == "the shape does not come out"
    assert error.expected == "float32[3, 2] (target m/w)"
    assert error.got == "float32[2, 3] (source m/w1)"


def test_a_dtype_that_does_not_come_out():
    target = {"m": {"w": np.zeros((2, 3), np.float16)}}
    assert only(PLAIN, target, "  - rename: {from: m/w1, to: m/w}\n").what == "the dtype does not come out"


def test_an_operation_that_cannot_be_done():
    error = only(PLAIN, PLAIN, "  - transpose: {from: m/b1, perm: [1, 0]}\n")
    assert error.where == "rules:2:16, m/b1"


@pytest.mark.parametrize("value", ["0.5", "300", "zeros"])
def test_an_initial_value_that_the_dtype_does_not_hold(value):
    target = {"m": {"w": np.zeros(2, np.int8) if value != "zeros" else np.array([b"a"], object)}}
    error = only({"m": {}}, target, f"  - init: {{to: m/w, with: {value}}}\n")
    assert error.what == "the dtype does not hold the initial value"
    assert "rules:2:11" in error.where


def test_two_rules_for_one_target():
    error = only(PLAIN, PLAIN, "  - reshape: {from: m/w1, shape: [2, 3]}\n  - init: {to: m/w1, with: zeros}\n")
    assert (error.what, error.where) == ("two rules for one target", "rules:2:14, rules:3:11")
    assert error.got == "`m/w1 -> m/w1, reshape to [2, 3]` and `init m/w1, initial value: zeros`"


def test_two_sources_on_one_target():
    source = {"a": floats(2), "b": floats(2)}
    error = only(source, {"c": floats(2)}, "  - rename: {from: '*', to: c}\n")
    assert error.what == "two sources on one target"
    assert error.got == "`a` and `b`"


def test_a_source_used_twice():
    target = {"b": floats(2), "c": floats(2)}
    error = only({"a": floats(2)}, target, "  - rename: {from: a, to: b}\n  - rename: {from: a, to: c}\n")
    assert (error.what, error.where) == ("a source used twice", "rules:2:13, rules:3:13")
    assert "to: [b, c]" in error.hint


def part(index, to, *, parts=2):
    ops = f"[{{part: {{axis: -1, index: {index}, parts: {parts}}}}}, {{reshape: {{shape: [1, 2]}}}}]"
    return f"  - map: {{from: a, to: {to}, ops: {ops}}}\n"


def test_rules_that_take_a_source_apart_use_it_once():
    target = {"b": floats(1, 2), "c": floats(1, 2)}
    found = match({"a": floats(4)}, target, part(0, "b") + part(1, "c"))
    assert [step.status for step in found.steps] == ["rule", "rule"]
    assert only({"a": floats(4)}, target, part(0, "b") + part(0, "c")).what == "a source used twice"


def test_a_source_both_used_and_dropped():
    error = only({"a": floats(2)}, {"b": floats(2)}, "  - rename: {from: a, to: b}\n  - drop: {from: '**'}\n")
    assert error.what == "a source used and dropped"
    assert "list" not in error.hint


def test_a_copy_that_is_meant_is_no_mistake():
    target = {"b": floats(2), "c": floats(2)}
    assert steps_of(match({"a": floats(2)}, target, "  - rename: {from: a, to: [b, c]}\n")) == {"b": "a", "c": "a"}


def test_all_mistakes_of_all_rules_are_told_at_once():
    assert told(
        PLAIN,
        {"m": {"w": floats(3, 2), "b": floats(3)}},
        "  - rename: {from: m/nope, to: m/w}\n"
        "  - rename: {from: m/w1, to: m/w}\n"
        "  - rename: {from: m/b1, to: m/b}\n"
        "  - init: {to: m/b, with: ones}\n",
    ) == [
        ("the rule matches nothing", "rules:2:13"),
        ("the shape does not come out", "rules:3:13"),
        ("two rules for one target", "rules:4:13, rules:5:11"),
    ]


def test_many_mistakes_of_one_rule_are_folded():
    source = {"l": [{"k": floats(2)} for _ in range(50)]}
    target = {"l": [{"k": floats(3)} for _ in range(50)]}
    found = told(source, target, "  - rename: {from: 'l/**', to: 'l/**'}\n")
    assert len(found) == 4
    assert found[-1][0] == "47 more of this rule do not come out"


# What is exact, and what is not.


def test_equal_paths_with_equal_specs_are_exact():
    found = match(PLAIN, PLAIN)
    assert {step.status for step in found.steps} == {"exact"}
    assert steps_of(found) == {path: path for path in ("m/w1", "m/b1", "m/sub/x")}
    assert (found.questions, found.unmatched_source, found.unmatched_target) == ((), (), ())


def test_an_equal_path_with_another_shape_is_open_on_both_sides():
    found = match({"w": floats(2, 3)}, {"w": floats(2, 4)})
    assert not found.steps
    reason = "same path, other shape: float32[2, 3] (source), float32[2, 4] (target)"
    assert [item.reason for item in (*found.unmatched_source, *found.unmatched_target)] == [reason, reason]


def test_the_only_two_of_a_shape_are_proposed_and_others_are_open():
    found = match({"a": floats(2), "c": floats(3)}, {"b": floats(2), "d": floats(4)})
    assert steps_of(found) == {"b": "a"}
    assert found.steps[0].status == "proposed"
    assert [item.key for item in found.unmatched_source] == [key_of("c")]
    assert [item.key for item in found.unmatched_target] == [key_of("d")]


def layer(*sizes):
    return {f"v{n}": floats(size) for n, size in enumerate(sizes)}


def test_a_list_that_changed_length_is_asked_about():
    found = match({"l": [layer(2)] * 0 + [layer(2) for _ in range(3)]}, {"l": [layer(2) for _ in range(4)]})
    assert not found.steps
    (question,) = found.questions
    assert len(question.sources) == 3
    assert len(question.targets) == 4
    assert "changed length, from 3 to 4" in question.reason


def test_items_of_a_list_that_changed_length_are_certain_if_every_best_alignment_pairs_them():
    found = match({"l": [layer(2), layer(3)]}, {"l": [layer(2), layer(4), layer(3)]})
    assert steps_of(found) == {"l/0/v0": "l/0/v0", "l/2/v0": "l/1/v0"}
    assert {step.status for step in found.steps} == {"certain"}
    assert [item.key for item in found.unmatched_target] == [key_of("l/1/v0")]


def test_equal_items_of_a_list_that_changed_length_are_asked_about_and_others_are_not():
    found = match({"l": [layer(2), layer(2), layer(3)]}, {"l": [layer(2), layer(2), layer(2), layer(3)]})
    assert steps_of(found) == {"l/3/v0": "l/2/v0"}
    (question,) = found.questions
    assert (len(question.sources), len(question.targets)) == (2, 3)


def test_an_item_whose_name_stands_elsewhere_is_not_taken_by_its_place():
    def tree(*names):
        return {"l": [{"k": Var(floats(5), f"model/{name}/k")} for name in names]}

    longer = {"l": [*tree("two", "one")["l"], {"other": Var(floats(9), "model/three/k")}]}
    assert not match(tree("one", "two"), longer).steps


def test_attributes_that_people_number_are_asked_about_where_they_may_have_been_numbered_anew():
    def tree(*numbers):
        return {"m": {f"conv{number}": {"k": floats(2)} for number in numbers}}

    assert match(tree(1, 2), tree(1, 2, 3)).questions
    assert match(tree(1, 2), tree(0, 1)).questions
    assert not match(tree(1, 2, 5), tree(1, 2)).questions  # a gap: numbers are names here
    distinct = match(
        {"m": {"w1": floats(2), "w2": floats(3)}}, {"m": {"w1": floats(2), "w2": floats(3), "w3": floats(4)}}
    )
    assert {step.status for step in distinct.steps} == {"exact"}


def test_a_question_about_one_layer_of_each_side_is_asked_and_no_order_is_made_of_it():
    def tree(name, *kinds):
        return {"model": {name: {kind: {"kernel": floats(2, 2)} for kind in kinds}}}

    found = match(tree("a", "x", "y"), tree("b", "z", "u"))
    assert not found.steps
    assert found.questions[0].hypotheses


def test_a_layer_of_the_same_shape_and_another_name_is_only_proposed():
    def tree(name):
        return {"model": {"stem": {name: {"kernel": floats(2, 3)}, "norm": {"gamma": floats(3)}}}}

    found = match(tree("conv"), tree("heron"))
    assert {path_of(step.target): step.status for step in found.steps} == {
        "model/stem/heron/kernel": "proposed",
        "model/stem/norm/gamma": "exact",
    }


def test_rules_for_the_new_item_and_the_shift_leave_no_question():
    found = match(
        {"l": [layer(2) for _ in range(3)]},
        {"l": [layer(2) for _ in range(4)]},
        "  - rename: {from: 'l/2/**', to: 'l/3/**'}\n  - init: {to: 'l/2/**', with: template}\n",
    )
    assert not found.questions
    assert steps_of(found) == {"l/0/v0": "l/0/v0", "l/1/v0": "l/1/v0", "l/2/v0": None, "l/3/v0": "l/2/v0"}


def test_names_that_changed_places_are_asked_about():
    def named(*names):
        return {"l": [{"k": Var(floats(2), f"model/{name}/k")} for name in names]}

    assert not match(named("enc", "mid", "dec"), named("enc", "mid", "dec")).questions
    found = match(named("enc", "mid", "dec"), named("mid", "enc", "dec"))
    assert not found.steps
    assert "changed order" in found.questions[0].reason


def test_numbers_that_keras_gave_are_no_names():
    def named(first):
        return {"l": [{"k": Var(floats(2), f"dense_{first + n}/k")} for n in range(3)]}

    assert len(match(named(1), named(2)).steps) == 3


def test_equal_items_around_a_changed_one_are_asked_about():
    # The second 2 may still be the second, or be the third now; the first is the first whichever it is.
    found = match({"l": [layer(2), layer(2), layer(3)]}, {"l": [layer(2), layer(4), layer(2)]})
    assert steps_of(found) == {"l/0/v0": "l/0/v0"}
    (question,) = found.questions
    assert len(question.targets) == 2
    assert "equal items on both sides of the change" in question.reason


def test_one_changed_item_among_different_ones_is_no_doubt_for_the_others():
    found = match({"l": [layer(2), layer(3), layer(5)]}, {"l": [layer(2), layer(4), layer(5)]})
    assert steps_of(found) == {"l/0/v0": "l/0/v0", "l/2/v0": "l/2/v0"}
    assert not found.questions
    assert len(found.unmatched_target) == 1


def test_weights_that_were_untied_are_asked_about():
    tied = floats(2)
    found = match({"a": tied, "b": tied}, {"a": floats(2), "b": floats(2)})
    assert not found.steps
    (question,) = found.questions
    assert (len(question.sources), len(question.targets)) == (1, 2)
    assert "tied or untied" in question.reason


def test_weights_that_were_tied_are_asked_about():
    tied = floats(2)
    found = match({"a": floats(2), "b": floats(2, start=5)}, {"a": tied, "b": tied})
    assert not found.steps
    (question,) = found.questions
    assert (len(question.sources), len(question.targets)) == (2, 1)


def test_a_question_takes_the_slots_with_it():
    def model(count):
        layers = [{"k": floats(2, start=n)} for n in range(count)]
        return {"l": layers, "optimizer": adam([item["k"] for item in layers])}

    found = match(model(2), model(3))
    (question,) = found.questions
    assert len(question.sources) == 6
    assert len(question.targets) == 9
    assert not found.unmatched_target


def test_slots_stay_with_their_variable_when_the_flat_lists_shift():
    source, target = with_adam(b=floats(2), c=floats(2)), with_adam(a=floats(2), b=floats(2), c=floats(2))
    found = match(source, target)
    of_source, of_target = slots_of(source), slots_of(target)
    for step in found.steps:
        if step.target in of_target:
            assert of_target[step.target] == of_source[step.sources[0]]
    assert sum(step.target in of_target for step in found.steps) == 4
    assert {of_target[item.key][1] for item in found.unmatched_target if item.key in of_target} == {"m/a"}


@pytest.mark.parametrize("names", [("a", "b", "c"), ("", "", "")])
def test_where_other_variables_are_trained_no_slot_takes_the_place_of_anothers(names):
    """The optimizer's lists are as long as they were, and no variable moved."""

    def tree(frozen):
        variables = {
            label: Var(floats(2, start=n), name) for n, (label, name) in enumerate(zip("abc", names, strict=True))
        }
        trained = [variable for label, variable in variables.items() if label != frozen]
        return {"m": variables, "optimizer": adam(trained), "save_counter": np.int64(1).reshape(())}

    source, target = tree("a"), tree("b")
    of_source, of_target = slots_of(source), slots_of(target)
    found = match(source, target)
    followed = {of_target[step.target]: of_source[step.sources[0]] for step in found.steps if step.target in of_target}
    assert followed == {(kind, "m/c"): (kind, "m/c") for kind in ("momentum", "velocity")}
    assert {of_target[item.key][1] for item in found.unmatched_target} == {"m/a"}
    assert {of_source[item.key][1] for item in found.unmatched_source} == {"m/b"}
    assert not found.questions
    assert not found.dropped


@pytest.mark.parametrize(("old", "new"), [("abc", "abc"), ("bc", "ac"), ("bc", "??"), ("??", "ac"), ("b?", "a?")])
def test_slots_keep_their_places_only_if_none_that_is_known_contradicts_it(old, new):
    """Keras 2.11: a slot's variable is known by its name, which has to be a variable's; `?` is no variable's."""

    def tree(trained):
        iterations = Var(np.int64(3).reshape(()), "iteration")
        momentums = [Var(floats(2, start=10 + n), f"SGD/m/{name}") for n, name in enumerate(trained)]
        optimizer = {"_iterations": iterations, "_variables": [iterations, *momentums], "_momentums": momentums}
        variables = {name: Var(floats(2, start=n), name) for n, name in enumerate("abc")}
        return {"m": variables, "optimizer": optimizer, "save_counter": np.int64(1).reshape(())}

    trees = tree(old), tree(new)
    of_source, of_target = (known_slots_of(each) for each in trees)
    found = match(*trees)
    for step in found.steps:
        if step.target in of_target and step.sources[0] in of_source:
            assert of_target[step.target] == of_source[step.sources[0]]
    slots = sum("/_variables/" in step.target for step in found.steps)
    assert slots == {("abc", "abc"): 3, ("bc", "ac"): 1, ("bc", "??"): 2, ("??", "ac"): 2, ("b?", "a?"): 0}[old, new]


def test_a_cycle_is_matched_like_anything_else():
    def tree():
        child = {"w": floats(2)}
        root = {"m": child}
        child["parent"] = root
        return root

    assert steps_of(match(tree(), tree())) == {"m/w": "m/w"}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 3), max_size=6), st.lists(st.integers(1, 3), max_size=6))
def test_each_tensor_is_in_one_place_of_the_answer(source_sizes, target_sizes):
    source, target = ({"l": [layer(size) for size in sizes], "w": floats(1)} for sizes in (source_sizes, target_sizes))
    found = match(source, target)
    targets = [
        *(step.target for step in found.steps),
        *(item.key for item in found.unmatched_target),
        *(key for question in found.questions for key in question.targets),
    ]
    sources = [
        *(key for step in found.steps for key in step.sources),
        *(item.key for item in found.unmatched_source),
        *{key for question in found.questions for key in question.sources},
    ]
    assert sorted(targets) == sorted(graph_of(target).specs)
    assert sorted(sources) == sorted(graph_of(source).specs)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 2), min_size=1, max_size=7), st.integers(0, 6), st.integers(0, 6))
def test_one_item_gone_and_another_come_never_puts_a_value_into_another_variable(sizes, gone, come):
    """The list keeps its length, so only what the items are tells that they moved."""
    origins = [number for number in range(len(sizes)) if number != gone % len(sizes)]
    origins.insert(come % len(sizes), -1)
    target = [layer(9 if origin < 0 else sizes[origin]) for origin in origins]
    for step in match({"l": [layer(size) for size in sizes]}, {"l": target}).steps:
        index = int(step.target.split("/")[1])
        assert origins[index] == index


def test_a_reshaped_target_takes_what_the_rule_makes_of_it():
    (step,) = match({"q": floats(6, 2)}, {"q": floats(3, 4)}, "  - reshape: {from: q, shape: [3, 4]}\n").steps
    assert step.ops == (Reshape((3, 4)),)
    assert step.status == "rule"
    assert step.evidence == ("rule rules:2:14: q -> q, reshape to [3, 4]",)


def test_the_same_plan_whatever_the_order_of_sets(tmp_path):
    variables = {f"v{n}": floats(2, start=n) for n in range(12)}
    tied = floats(3)
    source = {"m": {**variables, "t1": tied, "t2": tied, "l": [layer(2) for _ in range(3)]}}
    source["optimizer"] = adam(list(variables.values()))
    target = {"m": {**variables, "t1": floats(3), "t2": floats(3), "l": [layer(2) for _ in range(4)], "new": floats(1)}}
    target["optimizer"] = adam(list(variables.values())[::-1])
    prefixes = write_tree(tmp_path / "a", source), write_tree(tmp_path / "b", target)
    plans = []
    for seed in ("1", "2"):
        out = tmp_path / f"plan{seed}.json"
        command = [sys.executable, "-m", "ckptmigrate", "plan", prefixes[0], "--target", prefixes[1], "--out", str(out)]
        ran = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=False)
        assert ran.returncode == 1, ran.stderr
        plans.append(out.read_bytes())
    assert plans[0] == plans[1]


# What names and rules say against positions.


def named_list(*names):
    return {"m": [{"w": Var(floats(2), f"s/{name}/w")} for name in names]}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("block_1", "block_2", "block_3"), ("block_2", "block_1", "block_3")),
        (("block_1", "block_2", "block_3"), ("block_2", "block_3", "block_4")),
        (("dense", "dense_1"), ("dense_1", "dense")),
        (("enc", "dec"), ("left", "right")),
    ],
)
def test_a_list_whose_names_do_not_stand_where_they_stood_is_asked_about(old, new):
    assert match(named_list(*old), named_list(*new)).questions


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("block_1", "block_2"), ("block_1", "block_2")),
        (("block", "block_1"), ("block_5", "block_6")),
        (("dense_1", "dense_2", "dense_3"), ("dense_2", "dense_3", "dense_4")),
        (("enc", "dec"), ("enc", "decoder")),
    ],
)
def test_a_list_of_which_names_say_nothing_against_its_positions_is_exact(old, new):
    found = match(named_list(*old), named_list(*new))
    assert not found.questions
    assert len(found.steps) == len(old)


def test_a_list_of_variables_is_told_by_their_own_names():
    def tree(*names):
        return {"m": [Var(floats(2), name) for name in names]}

    assert match(tree("alpha", "beta"), tree("beta", "alpha")).questions
    assert not match(tree("alpha", "beta"), tree("alpha", "beta")).questions
    assert not match(tree("Variable", "Variable"), tree("Variable", "Variable")).questions


def test_attributes_that_exchanged_the_names_people_gave_are_asked_about():
    def tree(first, second):
        return {"m": {"a": {"w": Var(floats(2), f"{first}/w")}, "b": {"w": Var(floats(2), f"{second}/w")}}}

    assert match(tree("alpha", "beta"), tree("beta", "alpha")).questions
    assert not match(tree("dense", "dense_1"), tree("dense_1", "dense")).questions
    assert not match(tree("alpha", "beta"), tree("gamma", "beta")).questions


def test_a_list_that_rules_tear_is_asked_about():
    def tree():
        return {"m": [{"w": floats(2), "b": floats(2)}, {"w": floats(2), "b": floats(2)}]}

    swap = "  - rename: {from: m/0/w, to: m/1/w}\n  - rename: {from: m/1/w, to: m/0/w}\n"
    (question,) = match(tree(), tree(), swap).questions
    assert {path_of(key) for key in question.targets} == {"m/0/b", "m/1/b"}
    whole = "  - rename: {from: m/0/**, to: m/1/**}\n  - rename: {from: m/1/**, to: m/0/**}\n"
    assert not match(tree(), tree(), whole).questions


def with_nameless(*names):
    """Variables that only the optimizer's list leads to, as Keras 3 saves those of layers in a plain list."""
    variables = [Var(floats(2), "model/kernel") for _ in names]
    optimizer = adam(variables)
    for kind in ("momentum", "velocity"):
        slots = optimizer["_momentums" if kind == "momentum" else "_velocities"]
        for number, name in enumerate(names):
            slot = Var(slots[number], f"adam/model_{name}_kernel_{kind}")
            slots[number] = slot
            optimizer["_variables"][2 + 2 * number + (kind == "velocity")] = slot
    return {"optimizer": optimizer}


def test_what_only_the_optimizer_leads_to_is_told_by_the_names_of_its_slots():
    assert not match(with_nameless("enc", "dec"), with_nameless("enc", "dec")).questions
    assert match(with_nameless("enc", "dec"), with_nameless("dec", "enc")).questions


def factored(*names):
    """Adafactor under Keras 3: slots that are in no list but the flat one of all variables."""
    model = {name: floats(3, 3) for name in names}
    optimizer = adam(list(model.values()))
    rows = [floats(3, start=50 + number) for number in range(len(model))]
    return {
        "m": model,
        "optimizer": {
            **{key: optimizer[key] for key in ("_iterations", "_learning_rate", "_trainable_variables")},
            "_variables": [*optimizer["_variables"][:2], *rows],
        },
    }


def test_slots_in_no_list_of_a_kind_are_exact_only_if_nothing_moved():
    assert not match(factored("a", "b"), factored("a", "b")).questions
    reordered = match(factored("a", "b"), factored("b", "a"))
    assert {path_of(key) for key in reordered.questions[0].targets} == {
        "optimizer/_variables/2",
        "optimizer/_variables/3",
    }
    assert match(factored("a", "b"), factored("a", "c"), "  - rename: {from: m/b, to: m/c}\n").questions


def test_numbers_that_tf1_gave_are_positions():
    def names(count):
        numbers = ["", *(f"_{number}" for number in range(1, count))]
        return ObjectGraph.from_names({Key(f"dense{number}/kernel"): spec_of(floats(2)) for number in numbers})

    assert not match_graphs(names(3), names(3)).questions
    assert match_graphs(names(3), names(4)).questions


# Rules that split one variable or join several, and their slots.


def slot_steps(found, target):
    """The steps of the target's slots, by kind and variable."""
    of_target = slots_of(target)
    return {of_target[step.target]: step for step in found.steps if step.target in of_target}


def test_a_split_goes_through_the_slots_as_well():
    source, target = with_adam(qkv=floats(2, 6)), with_adam(q=floats(2, 2), k=floats(2, 2), v=floats(2, 2))
    found = match(source, target, "  - split: {from: m/qkv, to: [m/q, m/k, m/v], axis: -1}\n")
    assert not [*found.questions, *found.unmatched_source, *found.unmatched_target]
    for (kind, variable), step in slot_steps(found, target).items():
        assert step.ops == (Part(-1, "qkv".index(variable[-1]), 3),)
        assert slots_of(source)[step.sources[0]] == (kind, "m/qkv")


def test_what_is_joined_takes_the_slots_of_all():
    source = {"m": [{"q": floats(2, 2), "k": floats(2, 2)} for _ in range(2)]}
    source["optimizer"] = adam([block[name] for block in source["m"] for name in ("q", "k")])
    target = {"m": [{"qk": floats(2, 4)} for _ in range(2)]}
    target["optimizer"] = adam([block["qk"] for block in target["m"]])
    found = match(source, target, "  - concat: {from: ['m/{i}/q', 'm/{i}/k'], to: 'm/{i}/qk', axis: 1}\n")
    assert not [*found.questions, *found.unmatched_source, *found.unmatched_target]
    for (kind, variable), step in slot_steps(found, target).items():
        block = variable.removesuffix("/qk")
        assert step.ops == (Concat(1),)
        assert [slots_of(source)[key] for key in step.sources] == [(kind, f"{block}/q"), (kind, f"{block}/k")]


def test_what_cannot_be_joined_is_told():
    source, target = (
        {"m": [{"q": floats(2)}, {"q": floats(2), "k": floats(2)}]},
        {"m": [{"qk": floats(4)} for _ in "ab"]},
    )
    error = only(source, target, "  - concat: {from: ['m/{i}/q', 'm/{i}/k'], to: 'm/{i}/qk', axis: 0}\n")
    assert error.what == "sources that cannot be joined"
    assert "1 at `m/{i}/q`, 0 at `m/{i}/k`" in error.got
    both = {"m": {"q": floats(2), "k": floats(2)}}
    error = only(both, {"m": {"qk": floats(4)}}, "  - map: {from: [m/q, m/k], to: m/qk, ops: []}\n")
    assert error.what == "several sources and nothing that joins them"


def test_a_split_that_does_not_divide_is_told():
    error = only(
        {"m": {"w": floats(2, 5)}},
        {"m": {"a": floats(2, 2), "b": floats(2, 3)}},
        "  - split: {from: m/w, to: [m/a, m/b], axis: 1}\n",
    )
    assert "5" in str(error)
    assert "2" in str(error)


def test_a_split_takes_the_sizes_of_its_targets_in_each_block():
    sizes = [(1, 2), (3, 4)]
    source = {"m": [{"qk": floats(2, q + k)} for q, k in sizes]}
    target = {"m": [{"q": floats(2, q), "k": floats(2, k)} for q, k in sizes]}
    rule = "  - split: {from: 'm/{i}/qk', to: ['m/{i}/q', 'm/{i}/k'], axis: 1, sizes: target}\n"
    assert ops_of(match(source, target, rule)) == {
        f"m/{block}/{name}": (Part(1, index, sizes[block]),) for block in (0, 1) for index, name in enumerate("qk")
    }
    del target["m"][1]["q"]
    error = only(source, target, rule)
    assert error.what == "the sizes do not follow from the targets"
    assert error.got == "none for part 0"


def test_what_a_rule_leaves_open_is_as_the_target_and_its_slots_have_it():
    source = {"m": {"a": floats(2, 6), "b": floats(2)}}
    target = {"m": {"a": floats(3, 4), "b": floats(2).astype(np.float64)}}
    found = match(source, target, "  - reshape: {from: m/a}\n  - cast: {from: m/b}\n")
    assert ops_of(found) == {"m/a": (Reshape((3, 4)),), "m/b": (Cast(DType.FLOAT64),)}
    target = with_adam(a=floats(3, 4))
    found = match(with_adam(a=floats(2, 6)), target, "  - reshape: {from: m/a}\n")
    assert all(step.ops == (Reshape((3, 4)),) for step in slot_steps(found, target).values())


def test_a_scale_goes_into_second_moments_twice():
    target = with_adam(b=floats(2))
    steps = slot_steps(match(with_adam(a=floats(2)), target, "  - scale: {from: m/a, to: m/b, factor: 3}\n"), target)
    assert steps["momentum", "m/b"].ops == (Scale(3),)
    assert steps["velocity", "m/b"].ops == (Scale(9),)


def test_what_is_new_in_a_variable_has_new_slots():
    source, target = with_adam(a=floats(2, 3)), with_adam(b=floats(4, 3))
    fill = "{mean: {stddev: 1, seed: 1}}"
    steps = slot_steps(match(source, target, f"  - resize: {{from: m/a, to: m/b, axis: 0, fill: {fill}}}\n"), target)
    assert {step.ops for step in steps.values()} == {(Resize(0, 4, "template"),)}
    target = with_adam(b=floats(3, 4))
    ops = f"[{{resize: {{axis: 0, size: 4, fill: {fill}}}}}, {{transpose: }}]"
    steps = slot_steps(match(source, target, f"  - map: {{from: m/a, to: m/b, ops: {ops}}}\n"), target)
    assert {step.ops for step in steps.values()} == {(Resize(0, 4, 0), Transpose())}


def test_rows_of_slots_go_with_their_tokens_and_new_ones_start_anew():
    source, target = with_adam(a=floats(2)), with_adam(b=floats(3))
    rule = Rule("map", (Pattern.parse("m/a"),), Pattern.parse("m/b"), (vocab(0, "ab", "bca", 7),))
    found = match_graphs(graph_of(source), graph_of(target), (rule,))
    assert {step.ops for step in slot_steps(found, target).values()} == {(vocab(0, "ab", "bca", "template"),)}


def test_slots_of_another_dtype_are_cast_before_the_new_ones_fill_them():
    source, new = with_adam(a=floats(2)), floats(3).astype(np.float64)
    target = {"m": {"b": new}, "optimizer": adam([new], dtype=np.float64)}
    steps = slot_steps(
        match(source, target, "  - map: {from: m/a, to: m/b, ops: [{cast: }, {resize: {axis: 0}}]}\n"), target
    )
    assert {step.ops for step in steps.values()} == {(Cast(DType.FLOAT64), Resize(0, 3, "template"))}


def test_the_forget_bias_is_not_for_slots():
    target = with_adam(b=floats(8))
    rule = "  - gates: {from: m/a, to: m/b, axis: 0, source: icfo, target: ifco, forget_bias: 1}\n"
    steps = slot_steps(match(with_adam(a=floats(8)), target, rule), target)
    assert {step.ops for step in steps.values()} == {(Gates(0, "icfo", "ifco"),)}


FOLD = """
  - fold_batch_norm:
      from: {kernel: m/k, gamma: m/g, beta: m/c, mean: m/mean, variance: m/var}
      to: {kernel: m/kernel, bias: m/bias}
      epsilon: 0.001
"""


def test_slots_start_anew_where_a_batch_normalization_is_folded_in_and_its_own_are_dropped():
    kernel, gamma, beta = floats(3, 2), floats(2), floats(2)
    source = {"m": {"k": kernel, "g": gamma, "c": beta, "mean": floats(2), "var": floats(2)}}
    source["optimizer"] = adam([kernel, gamma, beta])
    target = with_adam(kernel=floats(3, 2), bias=floats(2))
    found = match(source, target, FOLD)
    assert not [*found.questions, *found.unmatched_source, *found.unmatched_target]
    assert {path: ops for path, ops in ops_of(found).items() if path.startswith("m/")} == {
        "m/kernel": (FoldKernel(0.001),),
        "m/bias": (FoldBias(0.001, bias=False),),
    }
    for step in slot_steps(found, target).values():
        assert step.ops == (Fill("template"),)
        assert step.evidence[0].endswith("with a batch normalization folded in, its gradients are others")
    assert len(found.dropped) == 6
    assert all("with a batch normalization folded in" in drop.rule for drop in found.dropped)


def test_slots_of_an_average_start_anew_and_say_so():
    target = with_adam(c=floats(2))
    found = match(with_adam(a=floats(2), b=floats(2)), target, "  - average: {from: [m/a, m/b], to: m/c}\n")
    assert not [*found.unmatched_source, *found.unmatched_target]
    assert all(step.ops == (Fill("template"),) for step in slot_steps(found, target).values())
    assert all("the moments of an average are not known" in s.evidence[0] for s in slot_steps(found, target).values())
    assert len(found.dropped) == 4


def test_a_name_that_two_variables_have_is_no_identity():
    # Keras 3 calls the kernels of all layers of a model that is not functional by the model's name alone.
    def tree(first, second):
        return {"model": {at: {"kernel": Var(floats(4, 4), "net/kernel")} for at in (first, second)}}

    found = match(tree("alpha", "beta"), tree("gamma", "delta"))
    assert not found.steps
    (question,) = found.questions
    assert len(question.targets) == 2
