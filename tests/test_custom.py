"""Functions of one's own, from rule to checkpoint."""

import numpy as np
import pytest
from builders import adam, ckptmigrate, floats, key_of, plan_between, read_all, write_tree

from ckptmigrate import Bundle, apply_plan, verify_checkpoint
from ckptmigrate.errors import CkptMigrateError, OperationError, RuleError
from ckptmigrate.ops import Custom
from ckptmigrate.reverse import reverse_plan
from ckptmigrate.rules import format_rulebook, parse_rulebook
from ckptmigrate.spec import DType, TensorSpec

CODE = """
import numpy as np

def double(values):
    values *= 2  # its own copy
    return values

def halve(values):
    return values / 2

def interleave(left, right):
    return np.stack([left, right], 1).reshape(-1)

def wrong(values):
    return values[:1]

def failing(values):
    raise ValueError("no such layout")

constant = 3
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    name = f"layouts_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def model(**variables):
    return {"m": variables, "optimizer": adam(list(variables.values()))}


def migrated(tmp_path, before, after, rule):
    source, target = write_tree(tmp_path / "s", before), write_tree(tmp_path / "t", after)
    plan = plan_between(source, target, f"  - {rule}\n")
    out = str(tmp_path / "out")
    apply_plan(plan, out)
    assert verify_checkpoint(out, target, plan=plan).passed
    return plan, read_all(out)


def test_a_function_makes_the_target_and_slots_start_anew(tmp_path, code):
    before, after = model(a=floats(3)), model(b=floats(3, start=50))
    plan, found = migrated(tmp_path, before, after, f"custom: {{from: m/a, to: m/b, function: '{code}:double'}}")
    np.testing.assert_array_equal(found[key_of("m/b")], floats(3) * 2)
    np.testing.assert_array_equal(read_all(str(tmp_path / "s"))[key_of("m/a")], floats(3))
    anew = [step.evidence[0] for step in plan.steps if step.status == "initial"]
    assert len(anew) == 2
    assert all("what a function of one's own makes of moments is not known" in text for text in anew)


def test_a_function_may_take_several_sources(tmp_path, code):
    rule = f"custom: {{from: [a, b], to: c, function: '{code}:interleave', shape: [4], dtype: float32}}"
    _, found = migrated(tmp_path, {"a": floats(2), "b": floats(2, start=5)}, {"c": floats(4)}, rule)
    np.testing.assert_array_equal(found[key_of("c")], [0, 5, 1, 6])


def test_a_function_is_undone_by_the_one_that_is_named(tmp_path, code):
    rule = f"custom: {{from: a, to: b, function: '{code}:double', inverse: '{code}:halve'}}"
    plan, _ = migrated(tmp_path, {"a": floats(2)}, {"b": floats(2)}, rule)
    with Bundle.open(str(tmp_path / "out")) as theirs, Bundle.open(str(tmp_path / "s")) as ours:
        back = reverse_plan(plan, theirs, ours, where="plan")
    apply_plan(back, str(tmp_path / "back"))
    np.testing.assert_array_equal(read_all(str(tmp_path / "back"))[key_of("a")], floats(2))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("wrong", "returned something else than declared"),
        ("failing", "ValueError: no such layout"),
        ("missing", "cannot be loaded"),
        ("constant", "not a function"),
    ],
)
def test_what_is_wrong_with_a_function_is_told_as_its_owners_and_nothing_is_written(tmp_path, code, function, said):
    source, target = write_tree(tmp_path / "s", {"a": floats(2)}), write_tree(tmp_path / "t", {"b": floats(2)})
    plan = plan_between(source, target, f"  - custom: {{from: a, to: b, function: '{code}:{function}'}}\n")
    with pytest.raises(CkptMigrateError) as raised:
        apply_plan(plan, str(tmp_path / "out"))
    assert said in str(raised.value)
    assert not list(tmp_path.glob("out*"))


def test_a_function_that_raises_is_told_with_its_line(tmp_path, code):
    source, target = write_tree(tmp_path / "s", {"a": floats(2)}), write_tree(tmp_path / "t", {"b": floats(2)})
    plan = plan_between(source, target, f"  - custom: {{from: a, to: b, function: '{code}:failing'}}\n")
    (tmp_path / "plan.json").write_bytes(plan.to_json())
    ran = ckptmigrate("apply", tmp_path / "plan.json", "--out", tmp_path / "out")
    assert ran.status == 2
    assert f"{code}.py:18" in ran.err
    assert "Traceback" not in ran.err


def test_what_a_function_returns_is_declared():
    spec = TensorSpec(DType.FLOAT32, (2,))
    assert Custom("a:b", (3,), DType.INT32).infer((spec,)) == (TensorSpec(DType.INT32, (3,)),)
    with pytest.raises(OperationError, match="not declared"):
        Custom("a:b").infer((spec,))
    with pytest.raises(RuleError, match="cannot be read"):
        parse_rulebook("rules:\n  - custom: {from: a, to: b, function: no_module}")


def test_a_rule_with_a_function_is_written_as_it_is_read():
    (rule,) = parse_rulebook("rules:\n  - custom: {from: [a, b], to: c, function: 'm:f', shape: [4], inverse: 'm:g'}")
    (again,) = parse_rulebook(format_rulebook([rule]))
    assert (again.sources, again.target, again.operations) == (rule.sources, rule.target, rule.operations)
