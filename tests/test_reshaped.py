"""What is each other though a shape or a dtype changed: proposed with its evidence, or asked; never decided."""

import time

import numpy as np
import pytest
from builders import BFLOAT16, Var, adam, floats, graph_of
from hypothesis import given
from hypothesis import strategies as st

from ckptmigrate import match_graphs, parse_rulebook
from ckptmigrate.matching.confidence import confidence_of
from ckptmigrate.matching.conversions import fusions, grown_axis, transposition
from ckptmigrate.ops import Cast, Concat, Part, Resize, Transpose
from ckptmigrate.spec import DType
from ckptmigrate.verify.reference import apply_reference


def match(source, target):
    return match_graphs(graph_of(source), graph_of(target))


def path_of(key):
    return key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")


def proposed(matching):
    """What is proposed: source path and operations by target path; slots left out."""
    return {
        path_of(step.target): (path_of(step.sources[0]), step.ops)
        for step in matching.steps
        if step.status == "proposed" and "optimizer" not in step.target
    }


def decided(matching):
    return {path_of(step.target) for step in matching.steps if step.status in ("exact", "certain")}


def dense(rows, columns):
    return {"kernel": floats(rows, columns), "bias": floats(columns)}


# Transposed.


def test_a_matrix_at_its_path_with_the_axes_the_other_way_round_is_proposed_as_transposed():
    found = match({"m": {"proj": dense(2, 4)}}, {"m": {"proj": {"kernel": floats(4, 2), "bias": floats(4)}}})
    assert proposed(found) == {"m/proj/kernel": ("m/proj/kernel", (Transpose((1, 0)),))}
    assert decided(found) == {"m/proj/bias"}
    (kernel,) = (step for step in found.steps if step.status == "proposed")
    assert kernel.confidence == confidence_of("transposed")
    assert any("transposed" in each for each in kernel.evidence)


def test_names_tell_a_transposed_matrix_that_moved():
    def tree(holder, rows, columns, *, turned):
        kernel = floats(columns, rows) if turned else floats(rows, columns)
        return {"m": {holder: {"proj": {"kernel": kernel}, "head": {"kernel": floats(7, 3)}}}}

    found = match(tree("a", 2, 4, turned=False), tree("body", 2, 4, turned=True))
    assert proposed(found)["m/body/proj/kernel"] == ("m/a/proj/kernel", (Transpose((1, 0)),))


def test_a_name_that_a_person_gave_tells_a_transposed_kernel_whatever_became_of_its_path():
    def tree(first, second, *, turned):
        shapes = {"inner": (8, 32), "outer": (32, 8)}
        layers = {
            place: {"kernel": Var(floats(*(shape[::-1] if turned else shape)), f"{name}/kernel")}
            for place, (name, shape) in zip((first, second), shapes.items(), strict=True)
        }
        return {"m": layers}

    found = match(tree("a", "b", turned=False), tree("c", "d", turned=True))
    turn = (Transpose((1, 0)),)
    assert proposed(found) == {"m/c/kernel": ("m/a/kernel", turn), "m/d/kernel": ("m/b/kernel", turn)}


def test_two_kernels_that_have_each_others_shape_now_were_both_transposed():
    def block(*, turned):
        up, down = (8, 32), (32, 8)
        return {
            name: {"kernel": floats(*(shape[::-1] if turned else shape))}
            for name, shape in (("up", up), ("down", down))
        }

    found = match(
        {"m": {"h": [block(turned=False) for _ in range(3)]}}, {"m": {"h": [block(turned=True) for _ in range(3)]}}
    )
    turn = (Transpose((1, 0)),)
    assert proposed(found) == {
        f"m/h/{n}/{name}/kernel": (f"m/h/{n}/{name}/kernel", turn) for n in range(3) for name in ("up", "down")
    }
    # One nod is for all of them.
    assert len(found.proposals) == 1


def test_slots_go_through_the_transpose():
    old, new = floats(2, 4), floats(4, 2)
    found = match({"m": {"w": old}, "optimizer": adam([old])}, {"m": {"w": new}, "optimizer": adam([new])})
    turned = [path_of(step.target) for step in found.steps if Transpose((1, 0)) in step.ops]
    assert turned == ["m/w", "optimizer/_variables/2", "optimizer/_variables/3"]
    assert {step.status for step in found.steps if step.ops} == {"proposed"}
    assert len(found.proposals) == 1


@pytest.mark.parametrize(
    ("source", "target", "order"),
    [
        ((2, 4), (4, 2), (1, 0)),
        ((3, 3, 8, 16), (16, 8, 3, 3), (3, 2, 0, 1)),
        ((2, 3, 4), (4, 2, 3), (2, 0, 1)),
        ((4, 4), (4, 4), None),
        ((4,), (4,), None),
        ((2, 4), (4, 3), None),
        ((2, 4), (8,), None),
    ],
)
def test_the_order_of_axes_is_what_the_shapes_say(source, target, order):
    assert transposition(source, target) == order
    if order:
        assert np.zeros(source).transpose(order).shape == target


# Square ones.


def gated(rows, columns):
    return {"m": {"proj": {"kernel": floats(rows, columns)}, "gate": {"kernel": floats(3, 3)}}}


def test_where_all_others_were_transposed_it_is_asked_whether_the_square_ones_were():
    assert {step.status for step in match(gated(2, 4), gated(2, 4)).steps} == {"exact"}
    found = match(gated(2, 4), gated(4, 2))
    assert proposed(found).keys() == {"m/proj/kernel"}
    (question,) = found.questions
    assert [path_of(key) for key in question.targets] == ["m/gate/kernel"]
    transposed, kept = question.hypotheses
    assert [lead.ops for lead in transposed.leads] == [(Transpose((1, 0)),)]
    assert [lead.ops for lead in kept.leads] == [()]


def test_all_square_ones_are_one_question_with_their_slots():
    def tree(*, turned):
        shapes = [(4, 4)] * 3 + [(2, 4)]
        variables = [floats(*(shape[::-1] if turned else shape), start=20 * n) for n, shape in enumerate(shapes)]
        return {"m": {f"w{n}": {"kernel": v} for n, v in enumerate(variables)}, "optimizer": adam(variables)}

    (question,) = match(tree(turned=False), tree(turned=True)).questions
    assert len(question.decides) == len(question.targets) == 9
    assert {lead.ops for lead in question.hypotheses[0].leads} == {(Transpose((1, 0)),)}
    assert {lead.ops for lead in question.hypotheses[1].leads} == {()}


def test_where_another_matrix_was_not_transposed_a_square_one_is_proposed_as_it_is():
    def tree(rows, columns):
        tree = gated(rows, columns)
        tree["m"]["head"] = {"kernel": floats(3, 5)}
        return tree

    found = match(tree(2, 4), tree(4, 2))
    assert proposed(found)["m/gate/kernel"] == ("m/gate/kernel", ())
    assert not found.questions


# Grown.


def test_a_table_with_more_rows_is_proposed_as_grown():
    found = match({"m": {"token_embedding": floats(10, 4)}}, {"m": {"token_embedding": floats(12, 4)}})
    assert proposed(found) == {"m/token_embedding": ("m/token_embedding", (Resize(0, 12, "template"),))}
    (step,) = found.steps
    assert any("`vocab` rule" in each for each in step.evidence)


def test_the_slots_of_new_rows_start_anew():
    old, new = floats(3, 4), floats(5, 4)
    found = match(
        {"m": {"embeddings": old}, "optimizer": adam([old])}, {"m": {"embeddings": new}, "optimizer": adam([new])}
    )
    assert [step.ops for step in found.steps if step.ops] == [(Resize(0, 5, "template"),)] * 3


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ((12, 4), (10, 4), "token_embedding"),  # rows would be lost
        ((10, 4), (12, 6), "token_embedding"),  # two axes
        ((4, 10), (4, 12), "head"),  # a head for other classes is another head
    ],
)
def test_what_may_as_well_be_another_is_not_proposed(old, new, name):
    found = match({"m": {name: {"kernel": floats(*old)}}}, {"m": {name: {"kernel": floats(*new)}}})
    assert not found.steps
    assert found.unmatched_target[0].reason


def test_the_axis_that_grew_is_the_only_one_that_differs():
    assert grown_axis((10, 4), (12, 4)) == 0
    assert grown_axis((1, 10, 4), (1, 12, 4)) == 1
    assert grown_axis((12, 4), (10, 4)) is None
    assert grown_axis((10, 4), (12, 5)) is None
    assert grown_axis((10,), (10, 4)) is None


# Of another dtype.


def test_another_precision_is_proposed_as_a_cast_with_one_nod_for_all():
    def tree(dtype):
        return {"m": {f"w{n}": {"kernel": floats(2, 3).astype(dtype)} for n in range(3)}}

    found = match(tree(np.float32), tree(BFLOAT16))
    (step, *_) = found.steps
    assert [type(op) for op in step.ops] == [Cast]
    assert proposed(found).keys() == {f"m/w{n}/kernel" for n in range(3)}
    assert len(found.proposals) == 1


def test_words_and_numbers_are_nothing_that_a_cast_leads_from_one_to_the_other():
    assert not match({"m": {"w": np.array([True, False])}}, {"m": {"w": floats(2)}}).steps
    assert not match({"m": {"w": np.arange(2)}}, {"m": {"w": floats(2)}}).steps


# Cut and joined.

WIDTH = 4


def fused_attention(layers=3, *, factor=3, bias=True):
    wide = factor * WIDTH
    return [
        {"attn": {"c_attn": {"kernel": floats(WIDTH, wide), **({"bias": floats(wide)} if bias else {})}}}
        for _ in range(layers)
    ]


def separate_attention(names=("query", "key", "value"), layers=3, *, shape=(WIDTH, WIDTH)):
    return [
        {"attn": {name: {"kernel": floats(*shape), "bias": floats(*shape[1:])} for name in names}}
        for _ in range(layers)
    ]


def only_question(source, target):
    (question,) = match(source, target).questions
    return question


def ops_by_target(hypothesis):
    return {path_of(lead.target): lead.ops for lead in hypothesis.leads}


def sources_by_target(hypothesis):
    return {path_of(lead.target): [path_of(key) for key in lead.sources] for lead in hypothesis.leads}


def test_a_fused_projection_in_all_layers_is_one_question():
    question = only_question({"m": {"h": fused_attention(12)}}, {"m": {"h": separate_attention(layers=12)}})
    assert len(question.decides) == len(question.targets) == 12 * 3 * 2
    (answer,) = question.hypotheses
    for n in range(12):
        for number, name in enumerate(("query", "key", "value")):
            for role in ("kernel", "bias"):
                assert ops_by_target(answer)[f"m/h/{n}/attn/{name}/{role}"] == (Part(-1, number, 3),)
                assert sources_by_target(answer)[f"m/h/{n}/attn/{name}/{role}"] == [f"m/h/{n}/attn/c_attn/{role}"]
    # Heads first has the same shapes, and no checkpoint says how many there are.
    assert question.answers.ways == 0
    assert "HEADS" in question.answers.missing


def test_projections_that_became_one_are_joined_in_the_usual_order_whatever_they_are_called():
    question = only_question(
        {"m": {"h": separate_attention(("k_proj", "q_proj", "v_proj"))}}, {"m": {"h": fused_attention()}}
    )
    (answer,) = question.hypotheses
    assert ops_by_target(answer)["m/h/0/attn/c_attn/kernel"] == (Concat(-1),)
    assert sources_by_target(answer)["m/h/0/attn/c_attn/kernel"] == [f"m/h/0/attn/{name}_proj/kernel" for name in "qkv"]


def test_the_output_projection_beside_them_is_no_part():
    def with_output(blocks):
        for block in blocks:
            block["attn"]["o_proj"] = dense(WIDTH, WIDTH)
        return {"m": {"h": blocks}}

    found = match(with_output(fused_attention()), with_output(separate_attention()))
    assert {path for path in decided(found) if "o_proj" in path} == {
        f"m/h/{n}/attn/o_proj/{role}" for n in range(3) for role in ("kernel", "bias")
    }
    assert len(found.questions[0].targets) == 3 * 3 * 2


def test_where_shapes_show_the_heads_both_ways_are_listed():
    heads, each = 2, 2
    question = only_question(
        {"m": {"h": fused_attention()}}, {"m": {"h": separate_attention(shape=(WIDTH, heads, each))}}
    )
    assert question.answers.ways == 2
    value = np.arange(WIDTH * 3 * WIDTH).reshape(WIDTH, 3 * WIDTH)
    made = [apply_reference(ops_by_target(answer)["m/h/0/attn/key/kernel"], [value]) for answer in question.hypotheses]
    np.testing.assert_array_equal(made[0], value[:, WIDTH : 2 * WIDTH].reshape(WIDTH, heads, each))
    np.testing.assert_array_equal(made[1], value.reshape(WIDTH, heads, 3, each)[:, :, 1])


def test_keys_and_values_of_fewer_heads_add_up_too():
    old = {"attn": {"qkv": {"kernel": floats(8, 16)}}}
    new = {"attn": {name: {"kernel": floats(8, size)} for name, size in (("q", 8), ("k", 4), ("v", 4))}}
    (answer,) = only_question({"m": old}, {"m": new}).hypotheses
    assert ops_by_target(answer) == {
        f"m/attn/{name}/kernel": (Part(-1, number, (8, 4, 4)),) for number, name in enumerate("qkv")
    }


def test_two_that_are_fused_may_lie_element_by_element():
    old = {"mlp": {name: {"kernel": floats(4, 6)} for name in ("gate_proj", "up_proj")}}
    question = only_question({"m": old}, {"m": {"mlp": {"gate_up_proj": {"kernel": floats(4, 12)}}}})
    one, other = question.hypotheses
    values = [floats(4, 6), floats(4, 6, start=100)]
    np.testing.assert_array_equal(
        apply_reference(ops_by_target(one)["m/mlp/gate_up_proj/kernel"], values), np.concatenate(values, -1)
    )
    np.testing.assert_array_equal(
        apply_reference(ops_by_target(other)["m/mlp/gate_up_proj/kernel"], values)[:, :2],
        np.stack([values[0][:, 0], values[1][:, 0]], -1),
    )


def test_where_no_name_tells_an_order_all_are_listed():
    old = {"mix": {"wide": {"kernel": floats(4, 12)}}}
    new = {"mix": {name: {"kernel": floats(4, 6)} for name in ("alpha", "beta")}}
    question = only_question({"m": old}, {"m": new})
    assert question.answers.ways == len(question.hypotheses) == 4
    assert len({frozenset(ops_by_target(answer).items()) for answer in question.hypotheses}) == 4


def test_a_kernel_with_its_outputs_first_is_cut_along_them():
    old = {"attn": {"in_proj": {"kernel": floats(12, 4), "bias": floats(12)}}}
    new = {"attn": {name: {"kernel": floats(4, 4), "bias": floats(4)} for name in ("q", "k", "v")}}
    (answer,) = only_question({"m": old}, {"m": new}).hypotheses
    assert ops_by_target(answer)["m/attn/k/kernel"] == (Part(-2, 1, 3),)
    assert ops_by_target(answer)["m/attn/k/bias"] == (Part(-1, 1, 3),)


def test_encoder_and_decoder_keep_their_own_projections_in_one_question():
    def fresh(make):
        return {"m": {"encoder": {"layer": make()}, "decoder": {"layer": make()}}}

    (answer,) = only_question(fresh(fused_attention), fresh(separate_attention)).hypotheses
    for target, (source,) in sources_by_target(answer).items():
        assert source.split("/")[:4] == target.split("/")[:4]


def test_sizes_that_add_up_among_strangers_are_no_evidence():
    old = {"a": {"x": {"kernel": floats(4, 12)}}}
    new = {"b": {"y": {"kernel": floats(4, 6)}, "z": {"kernel": floats(4, 6)}}}
    assert not match(old, new).questions


@pytest.mark.parametrize("is_split", [True, False])
def test_slots_are_cut_and_joined_with_their_variables(is_split):
    wide, narrow = [floats(4, 12)], [floats(4, 4, start=20 * n) for n in range(3)]
    one = {"m": {"attn": {"qkv": {"kernel": wide[0]}}}, "optimizer": adam(wide)}
    other = {
        "m": {"attn": {name: {"kernel": value} for name, value in zip("qkv", narrow, strict=True)}},
        "optimizer": adam(narrow),
    }
    question = only_question(one, other) if is_split else only_question(other, one)
    assert len(question.decides) == len(question.targets) == (9 if is_split else 3)
    kinds = {type(op) for lead in question.hypotheses[0].leads for op in lead.ops}
    assert kinds == {Part if is_split else Concat}


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(2, 3),
    st.integers(0, 3),
)
def test_what_is_cut_is_joined_by_the_same_fusion(shape, count, axis):
    axis %= len(shape) + 1
    stacked = (*shape[:axis], count, *shape[axis:])
    whole = stacked if axis == len(shape) else (*shape[:axis], count * shape[axis], *shape[axis + 1 :])
    found = fusions(whole, [tuple(shape)] * count)
    assert found
    value = np.arange(np.prod(whole)).reshape(whole)
    for fusion in found:
        parts = [apply_reference(ops, [value]) for ops in fusion.splits]
        assert {part.shape for part in parts} == {tuple(shape)}
        np.testing.assert_array_equal(apply_reference(fusion.joins, parts), value)


def test_many_layers_that_are_fused_are_found_in_little_time():
    def tree(make):
        # Each has a name of its own, so none of them is a block.
        return {"m": {f"{a}{b}{c}": make(1)[0] for a in LETTERS for b in LETTERS for c in LETTERS}}

    source, target = graph_of(tree(fused_attention)), graph_of(tree(lambda n: separate_attention(layers=n)))
    started = time.perf_counter()
    (question,) = match_graphs(source, target).questions
    assert len(question.targets) == len(LETTERS) ** 3 * 6
    assert time.perf_counter() - started < 20


LETTERS = "abcdefgh"


# What is left open says which rule decides it.


@pytest.mark.parametrize(("old", "new"), [("int32", "float32"), ("float32", "int64"), ("bool", "int64")])
def test_a_variable_of_another_kind_of_number_is_left_open_with_the_rule_that_casts_it(old, new):
    source = graph_of({"m": {"seen": np.ones((), old), "w": floats(2)}})
    target = graph_of({"m": {"seen": np.zeros((), new), "w": floats(2)}})
    (left,) = match_graphs(source, target).unmatched_target
    reason, _, rule = left.reason.partition("; if it is the same, a rule says so: ")
    assert reason == f"same path, other dtype: {old}[] (source), {new}[] (target)"
    decided = match_graphs(source, target, parse_rulebook(f"rules:\n  - {rule}"))
    assert not decided.unmatched_target
    assert not decided.unmatched_source
    assert [step.ops for step in decided.steps if step.status == "rule"] == [(Cast(DType.from_label(new)),)]


def test_what_no_cast_leads_to_has_no_such_hint():
    words = np.array([b"a", b"b"], object)
    (left,) = match({"m": {"x": words}}, {"m": {"x": floats(2)}}).unmatched_target
    assert left.reason == "same path, other dtype: string[2] (source), float32[2] (target)"
    (left,) = match({"m": {"x": floats(2)}}, {"m": {"x": floats(2, 2)}}).unmatched_target
    assert left.reason == "same path, other shape: float32[2] (source), float32[2, 2] (target)"
