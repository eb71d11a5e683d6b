"""Plans: made, written, read again, and refused once they no longer fit."""

import json

import numpy as np
import pytest
from builders import adam, ckptmigrate, files_in, floats, key_of, plan_between, write_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptmigrate import Bundle, Plan
from ckptmigrate.errors import CkptMigrateError, Problems
from ckptmigrate.matching import Question
from ckptmigrate.plan import check_plan
from ckptmigrate.spec import OBJECT_GRAPH_KEY

W, B, GONE, NEW = map(key_of, ("m/w", "m/b", "m/gone", "m/new"))


@pytest.fixture
def ends(tmp_path):
    """A source and a target that share two variables, one of them transposed; each has one of its own."""
    source = write_tree(tmp_path / "source", {"m": {"w": floats(2, 3), "b": floats(3), "gone": floats(1)}})
    target = write_tree(tmp_path / "target", {"m": {"w": floats(3, 2), "b": floats(3), "new": floats(4)}})
    return source, target


@pytest.fixture
def apart(tmp_path):
    """The same, where no operation leads from one of them to the other."""
    source = write_tree(tmp_path / "wide", {"m": {"w": floats(2, 3), "b": floats(3), "gone": floats(1)}})
    target = write_tree(tmp_path / "long", {"m": {"w": floats(4, 5), "b": floats(3), "new": floats(4)}})
    return source, target


RULES = "  - transpose: {from: m/w, perm: [1, 0]}\n  - drop: {from: m/gone}\n  - init: {to: m/new, with: zeros}\n"


@pytest.fixture
def complete(ends):
    return plan_between(*ends, RULES)


def check(plan, ends):
    specs = []
    for prefix in ends:
        with Bundle.open(prefix) as bundle:
            specs.append({key: entry.spec for key, entry in bundle.entries.items() if key != OBJECT_GRAPH_KEY})
    check_plan(plan, *specs, where="p")


def edited(plan, edit):
    """A plan after its JSON was edited by hand."""
    data = json.loads(plan.to_json())
    edit(data)
    return Plan.from_json(json.dumps(data).encode(), where="p")


def refused(plan, edit, ends):
    with pytest.raises((CkptMigrateError, Problems)) as raised:
        check(edited(plan, edit), ends)
    found = raised.value.problems if isinstance(raised.value, Problems) else (raised.value,)
    return [(problem.what, problem.where) for problem in found]


def step(data, key):
    return next(item for item in data["steps"] if item["target"] == key)


def test_a_plan_survives_being_written_and_read(complete):
    again = Plan.from_json(complete.to_json(), where="p")
    assert again == complete
    assert again.to_json() == complete.to_json()
    assert again.digest == complete.digest


def test_an_open_plan_survives_it_too(tmp_path):
    source = write_tree(tmp_path / "s", {"l": [floats(2), floats(2)], "w": floats(2, 3)})
    target = write_tree(tmp_path / "t", {"l": [floats(2)], "w": floats(4, 5)})
    plan = plan_between(source, target)
    assert plan.ambiguous
    assert plan.unmatched_target[0].reason
    assert Plan.from_json(plan.to_json(), where="p") == plan


def test_the_plan_has_the_fields_that_programs_rely_on(complete, ends):
    data = json.loads(complete.to_json())
    assert data["schema"] == "ckptmigrate.plan/1"
    assert data["source"]["prefix"] == ends[0]
    assert data["source"]["fingerprint"].startswith("sha256:")
    assert step(data, W) == {
        "target": W,
        "sources": [W],
        "ops": [{"transpose": {"perm": [1, 0]}}],
        "status": "rule",
        "confidence": 1.0,
        "evidence": ["rule rules:2:16: m/w -> m/w, transpose [1, 0]"],
    }
    assert step(data, NEW)["ops"] == [{"init": {"with": "zeros"}}]
    assert step(data, B)["status"] == "exact"
    assert data["dropped"] == [{"source": GONE, "rule": "drop m/gone"}]
    assert data["ambiguous"] == data["unmatched_source"] == data["unmatched_target"] == []
    assert [item["target"] for item in data["steps"]] == sorted(item["target"] for item in data["steps"])


def test_a_complete_plan_fits(complete, ends):
    assert complete.is_complete
    assert complete.counts() == {"exact": 1, "rule": 1, "certain": 0, "proposed": 0, "initial": 1}
    check(complete, ends)


def test_without_rules_only_what_is_exact_is_decided(apart):
    plan = plan_between(*apart)
    assert not plan.is_complete
    assert [item.target for item in plan.steps] == [B]
    assert {item.key for item in plan.unmatched_source} == {W, GONE}
    assert {item.key for item in plan.unmatched_target} == {W, NEW}


def test_what_is_new_can_keep_the_templates_value(apart):
    plan = plan_between(*apart, init_new=True)
    assert {item.target for item in plan.steps if item.status == "initial"} == {W, NEW}
    assert plan.unmatched_target == ()
    assert plan.unmatched_source


def test_what_is_unused_can_be_dropped_each_listed(apart):
    plan = plan_between(*apart, drop_unused=True)
    assert {drop.source for drop in plan.dropped} == {W, GONE}
    assert {drop.rule for drop in plan.dropped} == {"--drop-unused"}
    assert plan.unmatched_source == ()
    assert plan.unmatched_target


def test_no_option_answers_a_question(tmp_path):
    source = write_tree(tmp_path / "s", {"l": [floats(2), floats(2)]})
    target = write_tree(tmp_path / "t", {"l": [floats(2), floats(2), floats(2)]})
    plan = plan_between(source, target, init_new=True, drop_unused=True, yes_proposed=True)
    assert len(plan.ambiguous) == 1
    assert not plan.steps
    assert not plan.dropped


# Plans that were edited by hand.


def drop_step(data):
    data["steps"].remove(step(data, B))


def double_step(data):
    data["steps"].append(dict(step(data, B)))


def wrong_op(data):
    step(data, W)["ops"] = [{"reshape": {"shape": [2, 3]}}]


def impossible_op(data):
    step(data, W)["ops"] = [{"transpose": {"perm": [2, 0]}}]


def unknown_target(data):
    step(data, B)["target"] = "nope"


def unknown_source(data):
    step(data, B)["sources"] = ["nope"]


def no_origin(data):
    step(data, B)["sources"] = []


def two_origins(data):
    step(data, B)["ops"] = [{"init": {"with": "zeros"}}]


def two_sources(data):
    step(data, B)["sources"] = [B, GONE]


def used_twice(data):
    step(data, NEW).update(sources=[B], ops=[{"reshape": {"shape": [3]}}])


def used_and_dropped(data):
    data["dropped"].append({"source": B, "rule": "by hand"})


def forgotten_source(data):
    data["dropped"] = []


def unknown_drop(data):
    data["dropped"].append({"source": "nope", "rule": "by hand"})


@pytest.mark.parametrize(
    ("edit", "what", "where"),
    [
        (drop_step, "target without a step", f"p `{B}`"),
        (double_step, "target made twice", f"p `{B}`"),
        (wrong_op, "the step does not come out", "p steps[2]"),
        (impossible_op, None, "p steps[2]"),
        (unknown_target, "no such target", "p steps[0]"),
        (unknown_source, "no such source", "p steps[0]"),
        (no_origin, "step without an origin", "p steps[0]"),
        (two_origins, "step with two origins", "p steps[0]"),
        (two_sources, None, "p steps[0]"),
        (used_twice, "source used twice", f"p `{B}`"),
        (used_and_dropped, "source used and dropped", f"p `{B}`"),
        (forgotten_source, "source neither used nor dropped", f"p `{GONE}`"),
        (unknown_drop, "dropped source is not there", "p `nope`"),
    ],
)
def test_a_plan_edited_so_that_it_does_not_fit_is_refused(complete, ends, edit, what, where):
    found = refused(complete, edit, ends)
    assert (what, where) in found or (what is None and where in [place for _, place in found])


@pytest.mark.parametrize("value", [0.5, 1e300, "zeros"])
def test_an_initial_value_that_the_target_cannot_hold_is_refused(tmp_path, value):
    target = {"n": np.array([b"text"], object) if value == "zeros" else np.zeros(2, np.int32)}
    ends = write_tree(tmp_path / "s", {"x": floats(1)}), write_tree(tmp_path / "t", target)
    plan = plan_between(*ends, init_new=True, drop_unused=True)

    def edit(data):
        data["steps"][0]["ops"] = [{"init": {"with": value}}]

    assert refused(plan, edit, ends) == [("the dtype does not hold the initial value", "p steps[0]")]


def test_everything_that_does_not_fit_is_told_at_once(complete, ends):
    def edit(data):
        drop_step(data)
        wrong_op(data)
        unknown_drop(data)

    whats = [what for what, _ in refused(complete, edit, ends)]
    assert whats[:3] == ["the step does not come out", "target without a step", "dropped source is not there"]


def test_a_proposed_step_waits_for_a_yes(complete, ends):
    def propose(data):
        step(data, B)["status"] = "proposed"

    with pytest.raises(CkptMigrateError, match="proposed steps wait for a yes") as raised:
        check(edited(complete, propose), ends)
    assert raised.value.exit_status == 1


def test_each_kind_of_open_end_is_told(apart, complete):
    plan = plan_between(*apart)
    with pytest.raises(Problems) as raised:
        check(plan, apart)
    assert [problem.what for problem in raised.value.problems] == ["targets have no origin", "sources lead nowhere"]
    assert raised.value.exit_status == 1
    asked = Plan(complete.source, complete.target, complete.steps[1:], (Question((B,), (B,), "why"),), (), (), ())
    assert not asked.is_complete


# Files that are no plan.


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda data: data.update(schema="ckptmigrate.plan/9"), "unknown schema @ p: expected `ckptmigrate.plan/1`"),
        (lambda data: data.pop("schema"), "missing required field `schema`"),
        (lambda data: data.pop("steps"), "missing required field `steps`"),
        (lambda data: data.update(extra=1), "unknown field `extra`"),
        (lambda data: data["steps"][0].update(source="x"), "not a plan @ p .steps[0]: expected JSON"),
        (lambda data: data["steps"][0].update(status="sure"), "Invalid enum value 'sure'"),
        (lambda data: data["steps"][0].update(sources="x"), "Expected `array`, got `str`"),
        (lambda data: data["steps"][0].update(ops=[{"crop": {}}]), "unknown operation @ p steps[0].ops"),
        (lambda data: data["steps"][0].update(ops=[{"reshape": {"shape": "x"}}]), "`shape` cannot be read"),
        (lambda data: data["steps"][0].update(ops=["cast"]), "an operation cannot be read @ p steps[0].ops"),
        (lambda data: data["source"].pop("fingerprint"), "p .source: expected JSON"),
    ],
)
def test_what_does_not_follow_the_schema_is_told_with_its_place(complete, edit, told):
    with pytest.raises((CkptMigrateError, Problems)) as raised:
        edited(complete, edit)
    assert told in str(raised.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"not json", b"null", b"\xff\xfe", b'{"schema": "\xff"}'])
def test_what_is_not_json_is_no_plan(text):
    with pytest.raises(CkptMigrateError, match="not a plan @ p"):
        Plan.from_json(text, where="p")


def test_json_that_is_nested_without_end_is_no_plan():
    with pytest.raises(CkptMigrateError, match="not a plan @ p"):
        Plan.from_json(b'{"x":' + b"[" * 100_000, where="p")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_plan_is_read_or_refused_as_ours(data):
    text = EXAMPLE
    start = data.draw(st.integers(0, len(text) - 1))
    damage = data.draw(st.binary(max_size=3))
    removed = data.draw(st.integers(0, 5))
    try:
        plan = Plan.from_json(text[:start] + damage + text[start + removed :], where="p")
    except (CkptMigrateError, Problems):
        return
    assert isinstance(plan, Plan)
    assert Plan.from_json(plan.to_json(), where="p") == plan


EXAMPLE = b"""{"schema": "ckptmigrate.plan/1", "source": {"prefix": "a", "fingerprint": "sha256:0"},
"target": {"prefix": "b", "fingerprint": "sha256:1"}, "steps": [
{"target": "x", "sources": ["y"], "ops": [{"cast": {"dtype": "half"}}], "status": "rule", "confidence": 1.0,
 "evidence": ["because"]},
{"target": "z", "sources": [], "ops": [{"init": {"with": 0.5}}], "status": "initial", "confidence": 1,
 "evidence": []}], "ambiguous": [{"targets": ["t"], "sources": ["s"], "reason": "r", "hypotheses": [
 {"text": "h", "leads": [{"target": "t", "sources": ["s"], "ops": [{"cast": {"dtype": "half"}}]}], "new": ["t"],
  "gone": ["s"], "evidence": ["e"]}], "ways": 6, "missing": "m"}],
"unmatched_source": ["u"], "unmatched_target": ["v"], "dropped": [{"source": "d", "rule": "e"}]}
"""


# The command.


def test_an_open_plan_is_written_and_ends_with_1(apart, tmp_path):
    ran = ckptmigrate("plan", apart[0], "--target", apart[1], "--out", tmp_path / "plan.json")
    assert ran.status == 1
    assert "targets without an origin (2):" in ran.out
    assert "m/w  float32[4, 5]: same path, other shape: float32[2, 3] (source), float32[4, 5] (target)" in ran.out
    assert "--init-new" in ran.out
    assert "--drop-unused" in ran.out
    assert not Plan.from_json((tmp_path / "plan.json").read_bytes(), where="p").is_complete


def test_a_complete_plan_ends_with_0_and_shows_a_tree(ends, tmp_path):
    (tmp_path / "rules.yaml").write_text("rules:\n" + RULES)
    ran = ckptmigrate(
        *("plan", ends[0], "--target", ends[1], "--rules", tmp_path / "rules.yaml", "--out", tmp_path / "plan.json")
    )
    assert ran.status == 0
    assert "w  float32[3, 2], transpose [1, 0]  rule" in ran.out
    assert "new  float32[4], initial value: zeros  initial" in ran.out
    assert "3 steps: 1 exact, 1 rule, 1 initial, 1 sources dropped" in ran.out


def test_the_options_complete_a_plan(apart, tmp_path):
    ran = ckptmigrate(
        *("plan", apart[0], "--target", apart[1], "--init-new", "--drop-unused", "--json", "--out", tmp_path / "p.json")
    )
    assert ran.status == 0
    assert ran.out.encode().strip() == (tmp_path / "p.json").read_bytes().strip()


def test_without_out_nothing_is_written(ends, tmp_path):
    before = files_in(tmp_path)
    assert ckptmigrate("plan", ends[0], "--target", ends[1]).status == 1
    assert files_in(tmp_path) == before


def test_the_tree_folds_layers_and_names_slots_with_their_variable(tmp_path):
    layers = [{"kernel": floats(2, 2), "bias": floats(2)} for _ in range(12)]
    variables = [item[name] for item in layers for name in ("kernel", "bias")]
    prefix = write_tree(tmp_path / "s", {"m": {"layers": layers}, "optimizer": adam(variables)})
    ran = ckptmigrate("plan", prefix, "--target", prefix)
    assert "kernel  float32[2, 2] + momentum, velocity  exact (12 times)" in ran.out
    assert len(ran.out.splitlines()) < 12
