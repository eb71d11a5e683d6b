"""`plan --interactive` at a real terminal, and without one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from builders import ckptmigrate, floats, write_tree
from terminals import END, INTERRUPT, at_terminal


@pytest.fixture
def folder(tmp_path):
    """Three layers that lost their names in twelve blocks, one variable that went, and one that came."""

    def tree(names, **more):
        blocks = [{name: {"kernel": floats(4, 4), "bias": floats(4)} for name in names} for _ in range(12)]
        return {"model": {"h": blocks, **more}}

    write_tree(tmp_path / "source", tree("qkv", old=floats(3)))
    write_tree(tmp_path / "target", tree(("foo", "bar", "baz"), fresh=floats(7)))
    return tmp_path


PLAN = ("plan", "source", "--target", "target", "--interactive", "--out", "plan.json")


def statuses(folder, name="plan.json"):
    return {step["status"] for step in json.loads((folder / name).read_text())["steps"]}


def test_what_is_answered_becomes_rules_a_plan_and_no_question_the_next_time(folder):
    first = at_terminal(PLAN, ["3", "y", "y"], cwd=folder)
    assert first.status == 0
    assert statuses(folder) == {"rule", "initial"}
    plan, answers = ((folder / name).read_bytes() for name in ("plan.json", "plan.answers.yaml"))
    assert b"- rename: {from: 'model/h/{i:int}/q/**', to: 'model/h/{i}/bar/**'}" in answers
    again = at_terminal(PLAN, [], cwd=folder)
    assert (again.status, again.turns) == (0, ())
    assert (folder / "plan.json").read_bytes() == plan
    assert (folder / "plan.answers.yaml").read_bytes() == answers
    with_rules = at_terminal((*PLAN[:4], "--rules", "plan.answers.yaml", "--out", "plan.json"), [], cwd=folder)
    assert with_rules.status == 0
    assert (folder / "plan.json").read_bytes() == plan


def test_what_is_asked_says_what_hangs_on_it_and_each_answer(folder):
    session = at_terminal(PLAN, ["skip", "s", "q"], cwd=folder)
    first, new, unused = session.turns
    assert "question: these have one shape and role" in first
    assert "(2 more to ask)" in first
    assert "6 ways; one answer decides 72 variables" in first
    assert "what is missing: a word" in first
    assert "  6  `model/h/{0..11}/q` -> `model/h/{0..11}/baz`" in first
    assert "they keep their order" in first
    assert "model/fresh  float32[7]" in new
    assert "model/old  float32[3]" in unused
    assert session.status == 1
    assert not (folder / "plan.answers.yaml").exists()


def test_why_shows_both_sides_with_neighbours_and_values(folder):
    session = at_terminal(PLAN, ["why", "q"], cwd=folder)
    told = session.turns[1]
    assert "model/h/0/q/kernel  float32[4, 4] and 11 more like it" in told
    assert "`kernel` is beside bias; `q` is beside k, v" in told
    assert "mean 7.5 std 4.61 min 0 max 15" in told
    assert "model/h/0/foo/kernel" in told


def test_values_are_not_read_where_that_is_not_cheap(tmp_path):
    for name, label in (("source", "ab"), ("target", "xy")):
        write_tree(tmp_path / name, {"m": {each: floats(1100, 1000) for each in label}})
    session = at_terminal(PLAN, ["w", "q"], cwd=tmp_path)
    assert "values not read: 4.2 MiB" in session.turns[1]
    assert "mean" not in session.turns[1]


def test_a_wrong_answer_is_explained_and_asked_again(folder):
    session = at_terminal(PLAN, ["7", "[red]", "y", "?", "", "q"], cwd=folder)
    _, seven, markup, yes, asked_for_help, nothing = session.turns
    assert "'7' is no answer. Answer 1 to 6, n, s, w, m or q; ? explains them" in seven
    assert "'[red]' is no answer" in markup
    assert "There are 6 answers: give the number of one" in yes
    assert "it stays open" in asked_for_help
    assert nothing.startswith("[1-6/")


def test_no_lists_what_else_it_could_be(folder):
    session = at_terminal(PLAN, ["n", "s", "q"], cwd=folder)
    assert "none of these answers: what is it made of instead?" in session.turns[1]
    assert "all of these keep the values of the new model's template" in session.turns[1]


def test_the_end_of_input_keeps_the_answers_and_writes_the_plan_with_what_is_open(folder):
    session = at_terminal(PLAN, ["1", END], cwd=folder)
    assert session.status == 1
    assert statuses(folder) == {"rule"}
    assert (folder / "plan.answers.yaml").read_text().count("- rename") == 3


def test_an_interrupt_keeps_the_answers_and_writes_no_plan(folder):
    session = at_terminal(PLAN, ["1", INTERRUPT], cwd=folder)
    assert session.status == 130
    assert "what was answered is kept in plan.answers.yaml" in session.seen
    assert not (folder / "plan.json").exists()
    goes_on = at_terminal(PLAN, ["y", "y"], cwd=folder)
    assert goes_on.status == 0
    assert "model/fresh" in goes_on.turns[0]


def test_json_is_alone_on_stdout(folder):
    session = at_terminal((*PLAN[:5], "--json"), ["2", "y", "y"], cwd=folder)
    assert json.loads(session.out)["ambiguous"] == []
    assert (folder / "plan.answers.yaml").exists()


def test_what_options_take_is_not_asked(folder):
    session = at_terminal((*PLAN, "--init-new", "--drop-unused", "--answers", "mine.yaml"), ["1"], cwd=folder)
    assert (session.status, len(session.turns)) == (0, 1)
    assert (folder / "mine.yaml").exists()


def test_answers_that_are_given_as_rules_too_are_read_once(folder):
    at_terminal(PLAN, ["1", "q"], cwd=folder)
    session = at_terminal((*PLAN, "--rules", "./plan.answers.yaml"), ["y", "y"], cwd=folder)
    assert session.status == 0


@pytest.mark.parametrize("stdin", [subprocess.DEVNULL, subprocess.PIPE])
def test_without_a_terminal_nothing_is_asked_and_nothing_waits(folder, stdin):
    run = subprocess.run(
        [sys.executable, "-m", "ckptmigrate", *PLAN],
        stdin=stdin if stdin == subprocess.DEVNULL else None,
        input=None if stdin == subprocess.DEVNULL else "1\n" * 9,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "there is no terminal to ask at, so nothing is asked" in run.stderr
    assert (folder / "plan.json").exists()
    assert not (folder / "plan.answers.yaml").exists()


def test_without_a_terminal_answers_that_are_there_are_read(folder):
    at_terminal(PLAN, ["1", "y", "y"], cwd=folder)
    plan = (folder / "plan.json").read_bytes()
    command = [sys.executable, "-m", "ckptmigrate", *PLAN]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, cwd=folder, capture_output=True, timeout=60, check=False)
    assert run.returncode == 0
    assert (folder / "plan.json").read_bytes() == plan


@pytest.mark.parametrize(
    "more", [("--reverse", "plan.json", "--interactive"), ("--target", "target", "--answers", "x.yaml")]
)
def test_what_makes_no_sense_together_is_refused(folder, more, monkeypatch):
    monkeypatch.chdir(folder)
    ran = ckptmigrate(
        "plan", "source", *more, *(["--interactive"] if more[0] == "--reverse" else ["--target", "target"])
    )
    assert ran.status == 2
    assert "Usage:" in ran.err


def test_a_file_that_is_no_rulebook_is_not_written_to(folder, monkeypatch):
    monkeypatch.chdir(folder)
    Path("notes.yaml").write_text("dear diary")
    ran = ckptmigrate(*PLAN, "--answers", "notes.yaml")
    assert ran.status == 2
    assert Path("notes.yaml").read_text() == "dear diary"
