"""One model as two frameworks write it: what is numbered, named and kept otherwise, and is the same all the same."""

from builders import Var, floats, graph_of, key_of, spec_of

from ckptmigrate import ObjectGraph, match_graphs
from ckptmigrate.fold import fold
from ckptmigrate.matching.balance import balanced_groups
from ckptmigrate.spec import Key


def match(source, target):
    return match_graphs(graph_of(source), graph_of(target))


def statuses(matching):
    """The source path and the status of each target path."""
    tail = key_of("").removeprefix("/")
    return {
        step.target.removesuffix(f"/{tail}"): (step.sources[0].removesuffix(f"/{tail}"), step.status)
        for step in matching.steps
        if step.sources
    }


def row_of(label, names, *shape, own="kernel"):
    """A model whose layers have these names, in the order of their indices."""
    return {"model": {label.format(at): {own: Var(floats(*shape, start=at), f"{n}/kernel")} for at, n in names}}


def test_a_digit_of_a_frameworks_name_is_no_number_that_a_person_gave():
    # One convolution was built before the model, so that Keras 2 counts on from there.
    old = row_of("layer_with_weights-{}", [(at, f"conv2d_{at + 1}") for at in range(4)], 3, 3, 2, 2)
    new = row_of("{}", [(at, f"conv2d_{at}" if at else "conv2d") for at in range(4)], 3, 3, 2, 2, own="_kernel")
    new["model"] = {"_operations": new["model"]}
    assert statuses(match(old, new)) == {
        f"model/_operations/{at}/_kernel": (f"model/layer_with_weights-{at}/kernel", "certain") for at in range(4)
    }


def test_what_a_frameworks_names_say_of_another_order_is_asked():
    old = row_of("layer_with_weights-{}", [(at, f"conv2d_{at + 1}") for at in range(4)], 3, 3, 2, 2)
    new = row_of("{}", [(0, "conv2d_3"), (1, "conv2d"), (2, "conv2d_1"), (3, "conv2d_2")], 3, 3, 2, 2)
    new["model"] = {"_operations": new["model"]}
    matching = match(old, new)
    assert not matching.steps
    assert len(matching.questions) == 1


def test_the_statistics_of_a_normalization_are_called_otherwise_in_keras_3():
    old = {"model": {"scaled": {"mean": floats(3), "variance": floats(3, start=9)}}}
    new = {"model": {"scaling": {"adapt_mean": floats(3), "adapt_variance": floats(3)}}}
    found = {target: source for target, (source, _) in statuses(match(old, new)).items()}
    assert found == {
        "model/scaling/adapt_mean": "model/scaled/mean",
        "model/scaling/adapt_variance": "model/scaled/variance",
    }


def attention(names, start):
    return {name: {"kernel": Var(floats(4, 4, start=start + 16 * at), "")} for at, name in enumerate(names)}


def test_two_words_together_tell_what_neither_tells_alone():
    old, new = (
        {"model": {f"{side}{tail}": attention(names, 64 * at) for at, side in enumerate(("encoder", "decoder"))}}
        for tail, names in (("", ("q", "k", "v")), ("_layer", ("value_dense", "key_dense", "query_dense")))
    )
    found = statuses(match(old, new))
    assert found == {
        f"model/{side}_layer/{new}_dense/kernel": (f"model/{side}/{old}/kernel", "certain")
        for side in ("encoder", "decoder")
        for old, new in (("q", "query"), ("k", "key"), ("v", "value"))
    }


def test_words_that_as_many_have_and_that_contradict_each_other_tell_nothing():
    a, b, c = frozenset({"encoder"}), frozenset({"query"}), frozenset({"encoder", "query"})
    assert balanced_groups([c, frozenset()], [a, b]) == [((0, 1), (0, 1))]
    assert balanced_groups([c, frozenset()], [frozenset(), c]) == [((0,), (1,)), ((1,), (0,))]


def test_a_word_of_more_on_one_side_tells_nothing():
    a, none = frozenset({"encoder"}), frozenset()
    assert balanced_groups([a, a, none], [a, none, none]) == [((0, 1, 2), (0, 1, 2))]
    assert balanced_groups([a, none], [a, none, none]) == [((0, 1), (0, 1, 2))]


def test_slots_in_a_tree_of_names_are_no_part_of_what_is_aligned():
    sizes = {"layers/0": 2, "layers/1": 3, "layers/2": 4}
    kernels = {Key(f"{name}/kernel"): spec_of(floats(size)) for name, size in sizes.items()}
    slots = {Key(f"{key}/Adam{tail}"): spec for key, spec in kernels.items() for tail in ("", "_1")}
    more = {Key("layers/3/kernel"): spec_of(floats(5))}
    matching = match_graphs(ObjectGraph.from_names(kernels | slots), ObjectGraph.from_names(kernels | more))
    assert {step.target: step.sources for step in matching.steps} == {key: (key,) for key in kernels}


def separable(names, holder, label, start=0):
    return {
        label.format(at): {
            "depthwise_kernel": Var(
                floats(3, 3, 2, 1, start=start + at), f"{holder.format(at)}{name}/depthwise_kernel"
            ),
            "pointwise_kernel": Var(
                floats(1, 1, 2, 9, start=start + at), f"{holder.format(at)}{name}/pointwise_kernel"
            ),
        }
        for at, name in enumerate(names)
    }


def test_a_name_that_begins_with_what_holds_the_layer_on_one_side_only_is_the_same_name():
    # The numbers of the holders and the layers' own would stand in another order, the names do not.
    names = ["conv_1_right1", "conv_2_right1", "conv_1_right2", "conv_2_right2"]
    old = {"model": separable(names, "", "layer_with_weights-{}")}
    new = {"model": {"_operations": separable(names, "stem/block_{}/", "{}")}}
    found = statuses(match(old, new))
    assert found == {
        f"model/_operations/{at}/{kernel}": (f"model/layer_with_weights-{at}/{kernel}", "certain")
        for at in range(4)
        for kernel in ("depthwise_kernel", "pointwise_kernel")
    }


def test_equal_names_in_other_objects_are_not_the_same_names():
    old = {"model": {f"a{at}": separable([name], "left/", "b{}") for at, name in enumerate(("x", "y"))}}
    new = {"model": {f"c{at}": separable([name], "right/", "d{}") for at, name in enumerate(("y", "x"))}}
    assert not any(status == "certain" for _, status in statuses(match(old, new)).values())


def test_a_layer_named_on_one_side_only_is_what_stands_in_its_place_where_most_of_the_list_is_known():
    def model(label, own, names):
        return {label.format(at): {own: Var(floats(3, at + 1), f"{name}/kernel")} for at, name in enumerate(names)}

    named = ["stem", "middle", "deep", "last"]
    old = {"model": model("layer_with_weights-{}", "kernel", ["Conv", *named])}
    new = {"model": {"_operations": model("{}", "_kernel", ["first", *named])}}
    found = statuses(match(old, new))
    assert found == {
        f"model/_operations/{at}/_kernel": (f"model/layer_with_weights-{at}/kernel", "certain") for at in range(5)
    }
    few = {"model": model("layer_with_weights-{}", "kernel", ["Conv", "Conv_1", "stem"])}
    other = {"model": {"_operations": model("{}", "_kernel", ["first", "second", "stem"])}}
    assert [status for _, status in statuses(match(few, other)).values()] == ["proposed", "proposed", "certain"]


def test_equal_rows_without_a_number_are_not_folded():
    assert [row.count for row in fold([("a", "x"), ("a", "x")], numbered=1)] == [1, 1]


def test_one_list_of_a_functional_model_holds_an_encoders_blocks_and_a_decoders():
    def block(side, at, labels, start):
        named = {label: f"{side}_layer_{at}/{name}/kernel" for label, name in labels.items()}
        return {label: {"kernel": Var(floats(4, 4, start=start), name)} for label, name in named.items()}

    old_labels = {side: {"q": "q", "k": "k"} for side in ("encoder", "decoder")}
    new_labels = {side: {"_query_dense": "query", "_key_dense": "key"} for side in ("encoder", "decoder")}
    old_labels["decoder"]["cross"], new_labels["decoder"]["_cross"] = "cross", "cross"
    old = {
        "model": {
            side: {"layers": [block(side, at, labels, 9 * at) for at in range(2)]}
            for side, labels in old_labels.items()
        }
    }
    rows = [block(side, at, labels, 0) for side, labels in new_labels.items() for at in range(2)]
    new = {"model": {"_operations": dict(zip("2357", rows, strict=True))}}
    found = statuses(match(old, new))
    assert found["model/_operations/3/_query_dense/kernel"] == ("model/encoder/layers/1/q/kernel", "certain")
    assert found["model/_operations/5/_query_dense/kernel"] == ("model/decoder/layers/0/q/kernel", "certain")
    assert len(found) == 10
    assert {status for _, status in found.values()} == {"certain"}
