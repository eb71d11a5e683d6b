"""What is asked: which answers there are, how much one of them decides, and that each of them is possible."""

from itertools import combinations

import numpy as np
import pytest
from builders import Var, adam, floats, graph_of, key_of
from hypothesis import given, settings
from hypothesis import strategies as st
from refactorings import case

from ckptmigrate import ObjectGraph, match_graphs
from ckptmigrate.matching.alignment import longest_alignments, sure_pairs
from ckptmigrate.ops import infer_chain
from ckptmigrate.spec import DType, Key, TensorSpec, fits


def asked(source, target):
    (question,) = match_graphs(graph_of(source), graph_of(target)).questions
    return question


def path_of(key):
    return key.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")


def moves_of(hypothesis):
    """Source path by target path; None for what is new."""
    return {path_of(lead.target): path_of(lead.sources[0]) for lead in hypothesis.leads} | {
        path_of(key): None for key in hypothesis.new
    }


# Alignments, against all that there are.


def all_longest(left, right):
    """Every longest alignment, by trying all."""
    found = []
    for size in range(min(len(left), len(right)), -1, -1):
        for olds in combinations(range(len(left)), size):
            for news in combinations(range(len(right)), size):
                pairs = tuple(zip(olds, news, strict=True))
                found += [pairs] if all(left[i] == right[j] for i, j in pairs) else []
        if found:
            return found
    return found


ITEMS = st.lists(st.integers(0, 2), max_size=6)


@given(ITEMS, ITEMS)
def test_the_longest_alignments_are_all_found_and_counted(left, right):
    found, count = longest_alignments(left, right, limit=10_000)
    assert sorted(found) == sorted(all_longest(left, right))
    assert count == len(found)


@given(ITEMS, ITEMS, st.integers(1, 3))
def test_a_limit_cuts_the_list_and_not_the_count(left, right, limit):
    found, count = longest_alignments(left, right, limit=limit)
    everything, total = longest_alignments(left, right, limit=10_000)
    assert (found, count) == (everything[:limit], total)


@given(ITEMS, ITEMS)
def test_what_is_sure_is_in_every_alignment(left, right):
    everything = all_longest(left, right)
    assert set(sure_pairs(left, right)) == set.intersection(*map(set, everything))


# Groups.


def attention(names, *, layers=12, optimizer=False):
    blocks = [{name: {"kernel": floats(4, 4), "bias": floats(4)} for name in names} for _ in range(layers)]
    variables = [variable for block in blocks for layer in block.values() for variable in layer.values()]
    return {"model": {"h": blocks}, **({"optimizer": adam(variables)} if optimizer else {})}


def test_three_layers_in_twelve_blocks_are_one_question_of_six_ways():
    question = asked(attention(("q", "k", "v")), attention(("foo", "bar", "baz")))
    assert question.answers.ways == len(question.hypotheses) == 6
    assert len(question.decides) == len(question.targets) == 72
    assert len({frozenset(moves_of(each).items()) for each in question.hypotheses}) == 6
    assert "word" in question.answers.missing


def test_the_answer_that_keeps_the_order_comes_first():
    question = asked(attention(("q", "k")), attention(("foo", "bar")))
    first, second = map(moves_of, question.hypotheses)
    assert first["model/h/7/foo/kernel"] == "model/h/7/q/kernel"
    assert second["model/h/7/foo/kernel"] == "model/h/7/k/kernel"
    assert question.hypotheses[0].text == (
        "`model/h/{0..11}/q` -> `model/h/{0..11}/foo`, `model/h/{0..11}/k` -> `model/h/{0..11}/bar`"
    )
    assert question.hypotheses[1].evidence[-1] == "against it: 1 of them change their order"


def test_slots_are_part_of_the_answer():
    question = asked(attention(("q", "k"), optimizer=True), attention(("foo", "bar"), optimizer=True))
    assert len(question.decides) == len(question.targets) == 48 * 3
    moves = moves_of(question.hypotheses[0])
    assert sum("optimizer/_variables" in path for path in moves) == 96


def test_of_many_ways_the_likeliest_is_listed_and_then_one_part_after_the_other():
    question = asked(attention("abcd", layers=3), attention(("foo", "bar", "baz", "qux"), layers=3))
    assert question.answers.ways == 24
    whole, *parts = question.hypotheses
    assert len(whole.leads) == 24
    assert [len(part.leads) for part in parts] == [6, 6, 6, 6]
    assert {path for part in parts for path in moves_of(part)} == {
        f"model/h/{n}/foo/{role}" for n in range(3) for role in ("kernel", "bias")
    }
    assert len({moves_of(part)["model/h/0/foo/kernel"] for part in parts}) == 4


def test_one_source_too_many_is_among_the_candidates():
    def tree(names):
        return {"m": {name: floats(4, 4) for name in names}}

    question = asked(tree("abc"), tree(("foo", "bar")))
    assert {path_of(key) for key in question.sources} == {"m/a", "m/b", "m/c"}
    assert question.answers.ways == len(question.hypotheses) == 6


# Lists.


def layers(*sizes, names=None):
    names = names or [""] * len(sizes)
    return {
        "model": {
            "layers": [
                {"w": Var(floats(size, size), f"{name}/w" if name else "")}
                for size, name in zip(sizes, names, strict=True)
            ]
        }
    }


def test_an_item_that_came_may_have_come_at_each_index():
    question = asked(layers(*[3] * 3), layers(*[3] * 4))
    assert question.answers.ways == 4
    assert {path_of(key) for each in question.hypotheses for key in each.new} == {
        f"model/layers/{n}/w" for n in range(4)
    }
    inserted = next(each for each in question.hypotheses if path_of(each.new[0]) == "model/layers/1/w")
    assert inserted.text == "`model/layers/1` is new, all others keep their order"
    assert moves_of(inserted) == {
        "model/layers/0/w": "model/layers/0/w",
        "model/layers/1/w": None,
        "model/layers/2/w": "model/layers/1/w",
        "model/layers/3/w": "model/layers/2/w",
    }


def test_what_is_sure_leaves_fewer_answers():
    question = asked(layers(3, 3, 5, 3), layers(3, 3, 5, 3, 3))
    assert [path_of(each.new[0]) for each in question.hypotheses] == ["model/layers/4/w", "model/layers/3/w"]
    assert question.answers.ways == 2


def test_an_item_that_went_may_have_been_each():
    question = asked(layers(3, 3, 5), layers(3, 5))
    assert {path_of(key) for each in question.hypotheses for key in each.gone} == {
        "model/layers/0/w",
        "model/layers/1/w",
    }


def test_of_many_runs_the_contiguous_ones_are_listed_and_the_rest_can_be_said_item_by_item():
    question = asked(layers(*[3] * 6), layers(*[3] * 9))
    assert question.answers.ways == 84
    runs = [each for each in question.hypotheses if len(each.new) == 3]
    assert len(runs) == 7
    parts = question.hypotheses[7:]
    assert [moves_of(part) for part in parts] == [
        {"model/layers/0/w": "model/layers/0/w"},
        {"model/layers/0/w": None},
    ]


def test_names_that_people_gave_are_the_first_answer():
    question = asked(
        layers(3, 3, 3, names=["enc", "mid", "dec"]), layers(3, 3, 3, 3, names=["dec", "new", "enc", "mid"])
    )
    assert moves_of(question.hypotheses[0]) == {
        "model/layers/0/w": "model/layers/2/w",
        "model/layers/2/w": "model/layers/0/w",
        "model/layers/3/w": "model/layers/1/w",
    }
    assert "one name on both sides" in question.hypotheses[0].evidence[0]


def test_a_list_whose_names_changed_places_is_read_by_names_or_by_places():
    question = asked(layers(3, 3, names=["enc", "dec"]), layers(3, 3, names=["dec", "enc"]))
    swapped, same = map(moves_of, question.hypotheses)
    assert swapped == {"model/layers/0/w": "model/layers/1/w", "model/layers/1/w": "model/layers/0/w"}
    assert same == {"model/layers/0/w": "model/layers/0/w", "model/layers/1/w": "model/layers/1/w"}
    assert question.answers.ways == 2


def test_items_whose_names_all_changed_may_have_changed_places_in_every_way():
    question = asked(layers(3, 3, 3, names=["a", "b", "c"]), layers(3, 3, 3, names=["x", "y", "z"]))
    assert question.answers.ways == len(question.hypotheses) == 6
    assert moves_of(question.hypotheses[0])["model/layers/2/w"] == "model/layers/2/w"


def test_tensorflow_1_lists_are_in_the_order_of_their_numbers():
    """Ten comes after nine, and not after one: else the item of this size would be taken for another."""

    def names(sizes):
        specs = {f"net/layers/{n}/w": TensorSpec(DType.FLOAT32, (size,)) for n, size in enumerate(sizes)}
        return ObjectGraph.from_names({Key(key): specs[key] for key in sorted(specs)})

    old = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2, 11]
    new = [1, *old[2:]]
    found = match_graphs(names(old), names(new))
    moved = {path_of(step.target): path_of(step.sources[0]) for step in found.steps}
    assert moved == {f"net/layers/{n - 1 if n else 0}/w": f"net/layers/{n}/w" for n in range(12) if n != 1}


# Weights.


def test_weights_that_were_untied_go_to_both_or_to_one():
    shared = floats(4, 3)
    question = asked({"emb": shared, "head": {"w": shared}}, {"emb": floats(4, 3), "head": {"w": floats(4, 3)}})
    assert list(map(moves_of, question.hypotheses)) == [
        {"emb": "emb", "head/w": "emb"},
        {"emb": "emb", "head/w": None},
        {"head/w": "emb", "emb": None},
    ]


def test_weights_that_were_tied_come_from_one_of_them():
    shared = floats(4, 3)
    question = asked({"emb": floats(4, 3), "head": {"w": floats(4, 3)}}, {"emb": shared, "head": {"w": shared}})
    assert list(map(moves_of, question.hypotheses)) == [{"emb": "emb"}, {"emb": "head/w"}]
    assert [[path_of(key) for key in each.gone] for each in question.hypotheses] == [["head/w"], ["emb"]]


def test_names_at_each_others_paths_are_followed_or_not():
    def tree(first, second):
        return {"m": {"a": Var(floats(2, 2), f"{first}/w"), "b": Var(floats(2, 2), f"{second}/w")}}

    question = asked(tree("alpha", "beta"), tree("beta", "alpha"))
    assert list(map(moves_of, question.hypotheses)) == [{"m/a": "m/b", "m/b": "m/a"}, {"m/a": "m/a", "m/b": "m/b"}]


# Laws, on models that people may have changed like this.


@pytest.mark.parametrize("start", range(0, 200, 50))
def test_every_answer_is_possible_and_speaks_of_what_is_asked(start):
    asked_questions = 0
    for seed in range(start, start + 50):
        one = case(seed)
        for question in match_graphs(one.source, one.target).questions:
            asked_questions += 1
            seen = set()
            for answer in question.hypotheses:
                assert answer.text
                assert answer.leads or answer.new or answer.gone
                said = (frozenset(answer.leads), frozenset(answer.new), frozenset(answer.gone))
                assert said not in seen
                seen.add(said)
                assert len(answer.decides) == len(set(answer.decides))
                assert {*question.targets} >= {*answer.decides}
                assert {*question.sources} >= {key for lead in answer.leads for key in lead.sources} | {*answer.gone}
                assert not {key for lead in answer.leads for key in lead.sources} & {*answer.gone}
                for lead in answer.leads:
                    (spec,) = infer_chain(lead.ops, tuple(one.source.specs[key] for key in lead.sources))
                    assert fits(lead.target, spec, one.target.specs[lead.target])
    assert asked_questions


@settings(deadline=None)
@given(st.lists(st.integers(2, 3), min_size=1, max_size=5), st.lists(st.integers(2, 3), min_size=1, max_size=5))
def test_whole_answers_on_a_list_are_its_best_alignments(old, new):
    questions = match_graphs(graph_of(layers(*old)), graph_of(layers(*new))).questions
    alignments = {frozenset(pairs) for pairs in all_longest(old, new)}
    for question in questions:
        if len(old) == len(new) or not 0 < question.answers.ways <= 6:
            continue
        known = set(sure_pairs(old, new))
        for answer in question.hypotheses:
            pairs = {(int(s.split("/")[2]), int(t.split("/")[2])) for t, s in moves_of(answer).items() if s}
            assert frozenset(known | pairs) in alignments


def test_an_answer_of_a_big_list_does_not_fill_the_plan():
    wide = [{f"w{n}": np.zeros((2, 2), np.float32) for n in range(40)} for _ in range(40)]
    more = [{f"w{n}": np.zeros((2, 2), np.float32) for n in range(40)} for _ in range(41)]
    question = asked({"m": {"layers": wide}}, {"m": {"layers": more}})
    assert sum(len(each.leads) for each in question.hypotheses) <= 60_000
    assert key_of("m/layers/0/w0") in question.targets
