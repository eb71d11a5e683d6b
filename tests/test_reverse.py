"""The way back of a plan."""

import numpy as np
import pytest
from builders import adam, ckptmigrate, floats, plan_between, write_tree

from ckptmigrate import Bundle, Plan, apply_plan
from ckptmigrate.errors import CkptMigrateError, Problems
from ckptmigrate.reverse import reverse_plan


def there_and_back(folder, before, after, rules, **allowed):
    """What a bundle holds after a migration and its reverse, and the two plans."""
    source = write_tree(folder / "source", before)
    there = plan_between(source, write_tree(folder / "target", after), rules, **allowed)
    migrated, returned = str(folder / "migrated"), str(folder / "returned")
    apply_plan(there, migrated)
    back = back_of(there, migrated)
    apply_plan(back, returned)
    return tensors_of(source), tensors_of(returned), there, back


def back_of(there, migrated):
    with Bundle.open(migrated) as theirs, Bundle.open(there.source.prefix) as ours:
        return reverse_plan(there, theirs, ours, where="plan.json")


def tensors_of(prefix):
    with Bundle.open(prefix) as bundle:
        return {key: bundle.read_raw(key) for key in bundle.entries}


def model(**variables):
    return {"m": variables, "optimizer": adam(list(variables.values()))}


CHAINS = {
    "rename": ("rename: {from: m/a, to: m/b}", {"a": (4, 6)}, {"b": (4, 6)}),
    "transpose": ("transpose: {from: m/a, to: m/b, perm: [1, 0]}", {"a": (4, 6)}, {"b": (6, 4)}),
    "reshape": ("reshape: {from: m/a, to: m/b, shape: [2, 12]}", {"a": (4, 6)}, {"b": (2, 12)}),
    "pad": ("pad: {from: m/a, to: m/b, axis: 0, after: 2}", {"a": (4, 6)}, {"b": (6, 6)}),
    "gather": ("gather: {from: m/a, to: m/b, axis: 0, indices: [2, 0, 1, 3]}", {"a": (4, 6)}, {"b": (4, 6)}),
    "split": ("split: {from: m/a, to: [m/b, m/c], axis: 1, sizes: [2, 4]}", {"a": (4, 6)}, {"b": (4, 2), "c": (4, 4)}),
    "unstack": ("unstack: {from: m/a, to: [m/b, m/c], axis: -1}", {"a": (4, 2)}, {"b": (4,), "c": (4,)}),
    "concat": ("concat: {from: [m/a, m/b], to: m/c, axis: -1}", {"a": (4, 2), "b": (4, 3)}, {"c": (4, 5)}),
    "stack": ("stack: {from: [m/a, m/b], to: m/c, axis: 1}", {"a": (4, 2), "b": (4, 2)}, {"c": (4, 2, 2)}),
    "join and move": (
        "map: {from: [m/a, m/b], to: m/c, ops: [{concat: {axis: 0}}, {transpose: {}}]}",
        {"a": (4, 2), "b": (3, 2)},
        {"c": (2, 7)},
    ),
}


@pytest.mark.parametrize(("rule", "before", "after"), CHAINS.values(), ids=CHAINS)
def test_there_and_back_every_tensor_has_its_bytes(tmp_path, rule, before, after):
    was, returned, _, back = there_and_back(
        tmp_path,
        model(**{name: floats(*shape, start=number) for number, (name, shape) in enumerate(before.items())}),
        model(**{name: floats(*shape, start=99) for name, shape in after.items()}),
        f"  - {rule}\n",
    )
    assert back.is_complete
    assert returned == was


def test_what_was_dropped_keeps_its_value_and_what_was_new_is_dropped(tmp_path):
    was, returned, _, back = there_and_back(
        tmp_path,
        model(a=floats(3), old=floats(2, start=7)),
        model(a=floats(3), new=floats(4, start=50)),
        "  - drop: {from: m/old}\n  - init: {to: m/new, with: template}\n",
    )
    assert returned == was
    assert len(back.dropped) == 3  # the variable and its two slots


LOSSES = {
    "a slice": ("slice: {from: m/a, to: m/b, axis: 0, stop: 2}", (4, 6), {"b": (2, 6)}),
    "a copy": ("rename: {from: m/a, to: [m/b, m/c]}", (4, 6), {"b": (4, 6), "c": (4, 6)}),
    "a sum of floats": ("add: {from: m/a, to: m/b, value: 0.1}", (4, 6), {"b": (4, 6)}),
    "a part that leads nowhere": (
        "map: {from: m/a, to: m/b, ops: [{part: {axis: 0, index: 0, parts: 2}}]}",
        (4, 6),
        {"b": (2, 6)},
    ),
}


@pytest.mark.parametrize(("rule", "shape", "after"), LOSSES.values(), ids=LOSSES)
def test_what_cannot_be_undone_is_refused_by_name(tmp_path, rule, shape, after):
    with pytest.raises((CkptMigrateError, Problems)) as refused:
        there_and_back(
            tmp_path,
            {"m": {"a": floats(*shape), "kept": floats(1)}},
            {"m": {name: floats(*of) for name, of in after.items()} | {"kept": floats(1)}},
            f"  - {rule}\n",
        )
    assert "cannot be undone" in str(refused.value)
    assert "m/a/.ATTRIBUTES/VARIABLE_VALUE" in str(refused.value)
    assert "m/kept" not in str(refused.value)


def test_an_average_is_refused(tmp_path):
    with pytest.raises((CkptMigrateError, Problems)) as refused:
        there_and_back(
            tmp_path,
            {"m": {"a": floats(2), "b": floats(2)}},
            {"m": {"c": floats(2)}},
            "  - average: {from: [m/a, m/b], to: m/c}\n",
        )
    assert str(refused.value).count("an average does not give its sources back") == 2


# On the command line.


@pytest.fixture
def renamed(tmp_path):
    source = write_tree(tmp_path / "source", model(a=floats(3)))
    target = write_tree(tmp_path / "target", model(b=floats(3, start=20)))
    there = plan_between(source, target, "  - rename: {from: m/a, to: m/b}\n")
    (tmp_path / "plan.json").write_bytes(there.to_json())
    apply_plan(there, str(tmp_path / "migrated"))
    return tmp_path


def test_the_command_line_plans_back(renamed):
    ran = ckptmigrate("plan", renamed / "migrated", "--reverse", renamed / "plan.json", "--out", renamed / "back.json")
    assert ran.status == 0, ran.err
    assert "a  float32[3] <- m/b" in ran.out
    assert ckptmigrate("apply", renamed / "back.json", "--out", renamed / "returned").status == 0
    assert tensors_of(str(renamed / "returned")) == tensors_of(str(renamed / "source"))


def test_without_a_source_the_way_back_begins_at_the_plans_target(renamed):
    ran = ckptmigrate("plan", "--reverse", renamed / "plan.json", "--json")
    assert ran.status == 0, ran.err
    back = Plan.from_json(ran.out.encode(), where="back")
    assert back.source.prefix == str(renamed / "target")
    assert back.target.prefix == str(renamed / "source")


def test_a_checkpoint_of_another_layout_is_refused(renamed):
    other = write_tree(renamed / "other", {"m": {"z": floats(1)}})
    ran = ckptmigrate("plan", other, "--reverse", renamed / "plan.json")
    assert ran.status == 2
    assert "not laid out as the plan's target" in ran.err
    assert "no `m/b/.ATTRIBUTES/VARIABLE_VALUE`" in ran.err


def test_a_source_that_changed_is_refused(renamed):
    write_tree(renamed / "source", model(a=floats(3, start=1)))
    ran = ckptmigrate("plan", renamed / "migrated", "--reverse", renamed / "plan.json")
    assert ran.status == 2
    assert "the source has changed since the plan was made" in ran.err


def test_an_open_plan_has_no_way_back(tmp_path):
    source = write_tree(tmp_path / "source", model(a=floats(3)))
    target = write_tree(tmp_path / "target", model(b=np.float32([1, 2, 3, 4])))
    (tmp_path / "plan.json").write_bytes(plan_between(source, target).to_json())
    ran = ckptmigrate("plan", "--reverse", tmp_path / "plan.json")
    assert ran.status == 1
    assert "targets have no origin" in ran.err


def test_reverse_takes_no_rules(renamed):
    ran = ckptmigrate("plan", renamed / "migrated", "--reverse", renamed / "plan.json", "--init-new")
    assert ran.status == 2
    assert "--reverse says it all" in ran.err


def test_a_plan_needs_a_source_and_a_target(tmp_path):
    ran = ckptmigrate("plan", tmp_path)
    assert ran.status == 2
    assert "SOURCE and --target are needed" in ran.err
