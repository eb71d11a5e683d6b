"""What is inferred of generated source changes is right, and of what changed little is missed."""

import pytest
from inferring import Score, built, infer_case
from source_changes import case

from ckptmigrate.codemod.inference.bind import bind
from ckptmigrate.codemod.inference.inferred_rules import format_inferred
from ckptmigrate.graph import VARIABLE_ROLE
from ckptmigrate.graph.live import LiveGraph
from ckptmigrate.matching.anchors import inferred_anchors
from ckptmigrate.rules import parse_rulebook

SEEDS = range(250)


@pytest.fixture(scope="module")
def score(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    found = Score()
    for seed in SEEDS:
        drawn = case(seed)
        found.add(drawn, infer_case(drawn, folder / str(seed)))
    return found


def test_there_are_three_hundred_changes(score):
    assert score.changes >= 300
    assert score.right >= 300


def test_what_is_said_is_so(score):
    assert score.precision >= 0.99, score.wrong


def test_what_changed_is_found(score):
    assert score.recall >= 0.9, score.missed


def test_cases_are_the_same_on_every_run():
    assert case(7) == case(7)


def live_seeds(framework, count):
    """The first cases of a framework in which layers move."""
    found = []
    for seed in range(5000, 6000):
        drawn = case(seed)
        if drawn.framework == framework and any(old != new for old, new in drawn.layers.items()):
            found.append(seed)
        if len(found) == count:
            return found
    raise AssertionError(framework)


LIVE = [seed for framework in ("keras", "tf_keras", "module") for seed in live_seeds(framework, 5)]


@pytest.mark.parametrize("seed", LIVE)
def test_it_is_bound_to_the_nodes_of_real_models(seed, tmp_path):
    drawn = case(seed)
    inferred = infer_case(drawn, tmp_path / "read")
    before = built(drawn.old, drawn.factory[0], tmp_path / "before")
    after = built(drawn.new, drawn.factory[1], tmp_path / "after")
    source, live = LiveGraph.read(before), LiveGraph.read(after)
    old, new = source.graph, live.graph
    layers = {old.find(("model", *path)): new.find(("model", *other)) for path, other in drawn.layers.items()}
    assert None not in layers
    assert None not in layers.values()
    told = [
        bind(inferred, old, new, live.classes_in(new)).anchors,
        bind(inferred, old, new).anchors,
        tuple(inferred_anchors(old, new, parse_rulebook(format_inferred(inferred, "Inferred")))),
    ]
    # With the classes of the live model, without them, and as a rule file: what is said of layers is right.
    for anchors in told:
        pairs = {anchor.source: anchor.target for anchor in anchors}
        assert {s: pairs[s] for s in layers if s in pairs} == {s: t for s, t in layers.items() if s in pairs}
    found = {anchor.source for anchors in told[:2] for anchor in anchors}
    moved = [s for (path, other), s in zip(drawn.layers.items(), layers, strict=True) if path != other]
    weighty = [s for s in moved if any(VARIABLE_ROLE in old.nodes[n].tensors for n in old.nodes[s].children.values())]
    missed = [old.say(s) for s in weighty if s not in found]
    assert len(missed) <= 0.1 * len(weighty), missed
