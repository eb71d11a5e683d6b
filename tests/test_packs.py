"""Rule packs: that they hold what they say, that they fit or say why not, and that they never guess."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from bench import Pair, has_pair
from builders import ckptmigrate, floats, graph_of, read_all, write_tree

from ckptmigrate import CkptMigrateError, Problems, match_graphs, parse_rulebook
from ckptmigrate.packs import fit_packs, pack_names, read_pack, run_examples
from ckptmigrate.packs.fit import _Fit

ROOT = Path(__file__).parents[1]

SMALL = """\
pack:
  for: A move. Of no meaning.
  facts: [made up for a test]
rules:
  - rename: {from: "model/{n:int}/w", to: "model/{n}/kernel"}
optional:
  - transpose: {from: model/head, to: model/out, perm: [1, 0]}
examples:
  - says: one layer
    before: {paths: {model/0/w: "float32[2]"}}
    after: {paths: {model/0/kernel: "float32[2]"}}
    moved: {model/0/kernel: model/0/w}
"""


@pytest.fixture
def small(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    return str(file)


def model(**attributes):
    return graph_of({"model": attributes})


def moved(source, target, *packs, rules=""):
    """What the packs and rules lead where, by paths; and the notes."""
    rulebook = parse_rulebook("rules:\n" + rules) if rules else ()
    fitted = fit_packs(map(read_pack, packs), source, target, rulebook)
    matching = match_graphs(source, target, (*rulebook, *fitted.rules))
    steps = {
        target.say_key(step.target): ", ".join(map(source.say_key, step.sources))
        for step in matching.steps
        if step.status == "rule"
    }
    return steps, fitted.notes


# The packs that are shipped.


@pytest.mark.parametrize("name", pack_names())
def test_a_packs_examples_come_out_as_it_says(name):
    pack = read_pack(name)
    assert pack.examples
    assert [outcome for outcome in run_examples(pack) if outcome.problems] == []


@pytest.mark.parametrize("name", pack_names())
def test_a_pack_says_what_it_is_for_and_where_its_facts_come_from(name):
    pack = read_pack(name)
    first = pack.purpose.partition(". ")[0]
    assert first
    assert len(first) < 100
    assert pack.facts


def test_the_packs_are_those_of_the_top_level_folder():
    assert set(pack_names()) == {file.stem for file in (ROOT / "rules").glob("*.yaml")}
    assert {name for name in pack_names() if not name.startswith("hf-tf-")} == {
        "cudnn-lstm-to-keras",
        "estimator-canned-to-keras",
        "keras2-to-keras3",
        "legacy-to-new-optimizer",
        "mixed-precision",
        "reroot",
        "tf-slim-batchnorm",
        "tf1-bert-to-model-garden",
        "tf1-ema-to-weights",
    }
    kin = {name.removeprefix("hf-tf-").removesuffix("-to-keras-hub") for name in pack_names() if "keras-hub" in name}
    assert kin == {"albert", "bart", "bert", "distilbert", "gpt2", "roberta"}


# The commands.


def test_packs_are_listed_one_a_line():
    lines = ckptmigrate("rules", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == list(pack_names())
    assert [each["name"] for each in json.loads(ckptmigrate("rules", "list", "--json").out)] == list(pack_names())


def test_a_pack_is_shown_as_it_is_written():
    assert ckptmigrate("rules", "show", "reroot").out == (ROOT / "rules" / "reroot.yaml").read_text()


def test_all_packs_are_tested_if_none_is_named():
    ran = ckptmigrate("rules", "test", "--json")
    assert ran.status == 0
    assert {outcome["pack"] for outcome in json.loads(ran.out)} == set(pack_names())


def test_an_example_that_does_not_come_out_fails_and_says_why(tmp_path):
    file = tmp_path / "wrong.yaml"
    file.write_text(SMALL.replace("moved: {model/0/kernel: model/0/w}", "moved: {}\n    open: [model/1/kernel]"))
    ran = ckptmigrate("rules", "test", file)
    assert ran.status == 1
    assert "failed  wrong: one layer" in ran.out
    assert "expected nothing (the example), got `model/0/kernel` <- `model/0/w` (the rules)" in ran.out
    assert "open: expected `model/1/kernel` (the example), got nothing (the rules)" in ran.out


def test_a_pack_that_is_not_there_is_told_with_the_nearest():
    ran = ckptmigrate("plan", "a", "--target", "b", "--pack", "tf1-bert")
    assert ran.status == 2
    assert ran.err.startswith("ckptmigrate: no such pack @ tf1-bert: ")
    assert "tf1-bert-to-model-garden" in ran.err
    assert "`ckptmigrate rules list` lists them" in ran.err


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("rules: []", "not a pack"),
        (SMALL.replace("facts:", "facets:"), "not a pack"),
        (SMALL.replace("rename", "renames"), ":5:5"),
        (SMALL.replace("moved:", "move:"), "examples"),
        (SMALL.replace("pack:", "pack:\t"), ":1:"),
        ("- a\n- b", "not a pack"),
        ("", "not a pack"),
    ],
)
def test_a_file_that_is_no_pack_is_told_with_the_place(text, where, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    ran = ckptmigrate("rules", "test", file)
    assert ran.status == 2
    assert str(file) in ran.err
    assert where in ran.err


def test_an_example_that_cannot_be_built_is_a_failure(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(SMALL.replace("float32[2]", "float32(2)"))
    ran = ckptmigrate("rules", "test", file)
    assert ran.status == 1
    assert "not a tensor @ own, `one layer`" in ran.out


def test_a_plan_by_a_pack_is_applied_and_verified(tmp_path, small):
    source = write_tree(tmp_path / "source", {"model": {"0": {"w": floats(2)}, "head": floats(2, 3)}})
    target = write_tree(tmp_path / "target", {"model": {"0": {"kernel": floats(2)}, "out": floats(3, 2)}})
    plan, out = tmp_path / "plan.json", tmp_path / "out" / "ckpt"
    planned = ckptmigrate("plan", source, "--target", target, "--pack", small, "--out", plan)
    assert (planned.status, planned.err) == (0, "")
    assert ckptmigrate("apply", plan, "--out", out).status == 0
    values = {key.partition("/.")[0]: value for key, value in read_all(str(out)).items()}
    np.testing.assert_array_equal(values["model/out"], floats(2, 3).T)
    evidence = [step["evidence"] for step in json.loads(plan.read_text())["steps"]]
    assert any(f"rule {small}:5:13: model/{{n:int}}/w -> model/{{n}}/kernel" in text for (text,) in evidence)


# What a pack says of two checkpoints.


def test_rules_of_a_pack_that_lead_nowhere_are_told_and_no_mistake(small):
    target = model(**{"0": {"kernel": floats(2)}})
    assert moved(model(**{"0": {"w": floats(2)}}), target, small) == ({"model/0/kernel": "model/0/w"}, ())
    steps, notes = moved(model(**{"0": {"w": floats(2)}, "head": floats(2, 2)}), target, small)
    assert steps == {"model/0/kernel": "model/0/w"}
    assert notes == ("pack small: the target has no place for `model/head`",)


def test_a_pack_that_does_not_fit_says_what_it_missed_and_which_fits_better(small):
    source = graph_of({"model": {"dense": floats(2)}})
    target = graph_of({"dense": floats(2)})
    with pytest.raises(CkptMigrateError) as error:
        moved(source, target, small)
    assert "the pack does not fit @ small: expected each of its 1 rules to lead somewhere" in str(error.value)
    assert "no variable of the source at `model/{n:int}/w`" in error.value.got
    assert error.value.hint == "`--pack reroot` fits: it speaks of 1 tensors of the target"


def test_the_command_line_refuses_a_pack_that_does_not_fit(tmp_path, small):
    source = write_tree(tmp_path / "source", {"model": {"dense": floats(2)}})
    target = write_tree(tmp_path / "target", {"dense": floats(2)})
    ran = ckptmigrate("plan", source, "--target", target, "--pack", small, "--out", tmp_path / "plan.json")
    assert (ran.status, ran.out) == (2, "")
    assert "the pack does not fit @ small" in ran.err
    assert "`--pack reroot` fits" in ran.err
    assert not (tmp_path / "plan.json").exists()


def test_a_pack_whose_target_is_another_model_says_so(small):
    source, target = model(**{"0": {"w": floats(2)}}), graph_of({"other": {"kernel": floats(2)}})
    with pytest.raises(CkptMigrateError) as error:
        moved(source, target, small)
    assert "no variable of the target at `model/{n}/kernel`" in error.value.got
    assert "No other pack that is shipped fits either" in error.value.hint


def test_a_pack_of_optional_rules_fits_if_one_leads_somewhere():
    with pytest.raises(CkptMigrateError, match="the pack does not fit @ reroot"):
        moved(graph_of({"a": floats(2)}), graph_of({"b": floats(2)}), "reroot")


def test_several_packs_are_told_together(small):
    source, target = graph_of({"a": floats(2)}), graph_of({"b": floats(2)})
    with pytest.raises(Problems) as errors:
        moved(source, target, small, "reroot")
    assert [problem.where for problem in errors.value.problems] == ["small", "reroot"]


def test_what_a_persons_rules_say_no_pack_says(small):
    source = model(**{"0": {"w": floats(2)}, "1": {"w": floats(2)}, "head": floats(2, 2)})
    target = model(**{"0": {"kernel": floats(2)}, "1": {"kernel": floats(2)}, "out": floats(2, 2)})
    own = "- rename: {from: model/0/w, to: model/1/kernel}\n- rename: {from: model/1/w, to: model/0/kernel}"
    steps, _ = moved(source, target, small, rules=own)
    assert steps == {"model/0/kernel": "model/1/w", "model/1/kernel": "model/0/w", "model/out": "model/head"}


def test_two_packs_that_contradict_each_other_are_a_contradiction(small, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(SMALL.replace("model/{n:int}/w", "model/{n:int}/v"))
    source = model(**{"0": {"w": floats(2), "v": floats(2)}})
    target = model(**{"0": {"kernel": floats(2)}})
    with pytest.raises(CkptMigrateError, match="two rules for one target"):
        moved(source, target, small, str(other))


def test_half_a_split_is_no_split(tmp_path):
    file = tmp_path / "halves.yaml"
    rule = "  - split: {from: model/qk, to: [model/q, model/k], axis: 0, sizes: target}"
    file.write_text(SMALL.replace('  - rename: {from: "model/{n:int}/w", to: "model/{n}/kernel"}', rule))
    source = model(qk=floats(4))
    assert moved(source, model(q=floats(1), k=floats(3)), str(file))[0] == {
        "model/q": "model/qk",
        "model/k": "model/qk",
    }
    with pytest.raises(CkptMigrateError, match="no variable of the target at `model/k`"):
        moved(source, model(q=floats(1), v=floats(3)), str(file))


def test_positions_in_a_list_that_changed_are_left_open():
    layers = [{"w": floats(2, start=n)} for n in range(3)]
    source, target = (
        graph_of({"layers": layers[:2], "b": floats(1)}),
        graph_of({"model": {"layers": layers, "b": floats(1)}}),
    )
    steps, notes = moved(source, target, "reroot")
    assert steps == {"model/b": "b"}
    assert any("`model/layers/N` changed length, from 2 to 3" in note for note in notes)


# TensorFlow 1's BERT.


@pytest.mark.skipif(not has_pair("tf1_encoder"), reason="the graph pairs are not there")
def test_a_bert_of_tensorflow_1_becomes_the_encoder_of_the_model_garden(tmp_path):
    """Made with tf.compat.v1, each variable filled with its own number; every pair of the truth holds."""
    import tensorflow as tf

    pair = Pair.load("tf1_encoder")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for number, (name, shape) in enumerate(pair.side("old").items(), 1):
            tf.compat.v1.get_variable(name, shape, initializer=tf.compat.v1.constant_initializer(number))
        session.run(tf.compat.v1.global_variables_initializer())
        source = tf.compat.v1.train.Saver().save(session, str(tmp_path / "bert_model.ckpt"), write_meta_graph=False)
    number_of = {name: number for number, name in enumerate(pair.side("old"), 1)}
    target = pair.write(tmp_path / "target", "new")
    plan, out = tmp_path / "plan.json", str(tmp_path / "out")
    pack = ("--pack", "tf1-bert-to-model-garden", "--drop-unused")
    planned = ckptmigrate("plan", source, "--target", target, *pack, "--out", plan)
    assert planned.status == 0, planned.out + planned.err
    assert ckptmigrate("apply", plan, "--out", out).status == 0
    assert ckptmigrate("verify", out, "--target", target, "--plan", plan).status == 0
    values = read_all(out)
    assert len(pair.truth) == 199
    for key, name in pair.truth.items():
        assert values[key].shape == pair.side("new")[key]
        assert (values[key] == number_of[name]).all(), key


BENCH = {
    "tf1_encoder": ("tf1-bert-to-model-garden", 199),
    "hf_bert": ("hf-tf-bert-to-keras-hub", 199),
    "hf_albert": ("hf-tf-albert-to-keras-hub", 25),
    "hf_distilbert": ("hf-tf-distilbert-to-keras-hub", 100),
    "app_VGG16": ("keras2-to-keras3", 32),
    "app_MobileNetV2": ("keras2-to-keras3", 262),
    "app_ResNet50": ("keras2-to-keras3", 320),
    "app_InceptionV3": ("keras2-to-keras3", 378),
    "app_DenseNet121": ("keras2-to-keras3", 606),
}


@pytest.mark.parametrize("name", BENCH)
def test_a_pack_decides_a_real_pair_as_the_truth_has_it(name):
    if not has_pair(name):
        pytest.skip("the graph pairs are not there")
    pack, right = BENCH[name]
    pair = Pair.load(name)
    matching, _ = pair.matched(pack)
    assert pair.right_and_wrong(matching) == (right, 0)


@pytest.mark.parametrize("name", [*BENCH, "enc_v1v2", "hf_mistral"])
def test_no_pack_fits_what_it_is_not_for(name):
    if not has_pair(name):
        pytest.skip("the graph pairs are not there")
    pair = Pair.load(name)
    source, target = pair.graph("old"), pair.graph("new")
    fitting = [pack for pack in pack_names() if _Fit.of(read_pack(pack), source, target).fits]
    assert fitting == ([BENCH[name][0]] if name in BENCH else [])


# The wheel.


def test_an_installed_wheel_lists_and_tests_its_packs(tmp_path):
    """In an environment of its own, whose packages are this one's but for the wheel."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    (site,) = (tmp_path / "venv").glob("lib/*/site-packages")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (site / "others.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    command = [str(tmp_path / "venv" / "bin" / "python"), "-m", "ckptmigrate", "rules"]
    clean = {"PATH": "/usr/bin:/bin"}
    listed = subprocess.run([*command, "list"], cwd=tmp_path, capture_output=True, text=True, check=True, env=clean)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(pack_names())
    tested = subprocess.run([*command, "test"], cwd=tmp_path, capture_output=True, text=True, check=True, env=clean)
    assert tested.stdout.count("passed") >= len(pack_names())
    found = [*command[:-3], "-c", "import ckptmigrate; print(ckptmigrate.__file__)"]
    where = subprocess.run(found, cwd=tmp_path, capture_output=True, text=True, check=True, env=clean)
    assert where.stdout.startswith(str(site))
