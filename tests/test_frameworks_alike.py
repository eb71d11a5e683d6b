"""One model as two frameworks write it: what is numbered, named and kept otherwise, and is the same all the same."""

from builders import Var, floats, graph_of, key_of

from ckptmigrate import match_graphs


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
