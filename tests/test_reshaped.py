"""What is each other though a shape or a dtype changed: proposed with its evidence, or asked; never decided."""

import numpy as np
import pytest
from builders import BFLOAT16, adam, floats, graph_of

from ckptmigrate import match_graphs
from ckptmigrate.matching.conversions import grown_axis, transposition
from ckptmigrate.ops import Cast, Resize, Transpose


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
    assert kernel.confidence == pytest.approx(0.9)
    assert any("transposed" in each for each in kernel.evidence)


def test_names_tell_a_transposed_matrix_that_moved():
    def tree(holder, rows, columns, *, turned):
        kernel = floats(columns, rows) if turned else floats(rows, columns)
        return {"m": {holder: {"proj": {"kernel": kernel}, "head": {"kernel": floats(7, 3)}}}}

    found = match(tree("a", 2, 4, turned=False), tree("body", 2, 4, turned=True))
    assert proposed(found)["m/body/proj/kernel"] == ("m/a/proj/kernel", (Transpose((1, 0)),))


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
