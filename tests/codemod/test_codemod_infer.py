"""What two versions of source say of a model: each statement on source that a person can read."""

import json
import subprocess

import pytest
import yaml
from click.testing import CliRunner

from ckptmigrate.cli import cli
from ckptmigrate.codemod.code_rules import CodeRename, parse_code
from ckptmigrate.codemod.inference.facts import Source
from ckptmigrate.codemod.inference.infer import infer
from ckptmigrate.codemod.inference.inferred_rules import code_renames, format_inferred, statements
from ckptmigrate.codemod.source.project import Project
from ckptmigrate.errors import Problems, RuleError, SourceError
from ckptmigrate.rules import parse_rulebook

LAYER = """import keras
class Net(keras.layers.Layer):
    def __init__(self, size=4):
        super().__init__()
{made}
    def call(self, x):
{call}
        return x
"""


def layer(made, call="x = x"):
    """A class that makes something and uses it."""
    inside = ["".join(f"        {line}\n" for line in text.strip().splitlines()) for text in (made, call)]
    return LAYER.format(made=inside[0].rstrip("\n"), call=inside[1].rstrip("\n"))


def project(folder, text):
    if isinstance(text, str):
        text = {"nets.py": text}
    for name, content in text.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def inferred(tmp_path, old, new):
    sides = (project(tmp_path / "old", old), project(tmp_path / "new", new))
    return infer(*(Source.read(Project.read([side])) for side in sides))


def moves(found):
    """What changed, as text: `enc -> encoder`."""
    return {f"{'.'.join(move.old)} -> {'.'.join(move.new)}" for move in found.changes}


# Names.


def test_a_renamed_attribute_is_found_with_its_places(tmp_path):
    found = inferred(
        tmp_path,
        layer("self._self_attention_layernorm = keras.layers.LayerNormalization()\nself.head = keras.layers.Dense(4)"),
        layer("self.head = keras.layers.Dense(4)\nself._self_attention_layer_norm = keras.layers.LayerNormalization()"),
    )
    (move,) = found.changes
    assert (move.old, move.new) == (("_self_attention_layernorm",), ("_self_attention_layer_norm",))
    assert (move.before.place.line, move.after.place.line) == (5, 6)
    assert move.evidence == f"source: {tmp_path}/old/nets.py:5 -> {tmp_path}/new/nets.py:6"


def test_the_call_tells_things_apart_that_are_made_alike(tmp_path):
    found = inferred(
        tmp_path,
        layer("self.a = keras.layers.Dense(4)\nself.b = keras.layers.Dense(4)", "x = self.b(self.a(x))"),
        layer(
            "self.acorn = keras.layers.Dense(4)\nself.birch = keras.layers.Dense(4)", "x = self.birch(self.acorn(x))"
        ),
    )
    assert moves(found) == {"a -> acorn", "b -> birch"}


def test_what_is_made_alike_and_used_nowhere_is_left_open_and_said(tmp_path):
    found = inferred(
        tmp_path,
        layer("self.a = keras.layers.Dense(4)"),
        layer("self.acorn = keras.layers.Dense(4)\nself.birch = keras.layers.Dense(4)"),
    )
    assert not moves(found)
    (undecided,) = found.undecided
    assert [label for label, _ in undecided.old] == ["a"]
    assert [label for label, _ in undecided.new] == ["acorn", "birch"]


def test_what_went_and_what_came_are_not_one(tmp_path):
    found = inferred(
        tmp_path,
        layer("self.a = keras.layers.Dense(4)\nself.gone = keras.layers.Dense(8)", "x = self.gone(self.a(x))"),
        layer("self.a = keras.layers.Dense(4)\nself.fresh = keras.layers.Dropout(0.1)", "x = self.fresh(self.a(x))"),
    )
    assert not moves(found)


def dense(*labels, units=8):
    return "\n".join(f"self.{label} = keras.layers.Dense({units})" for label in labels)


def undecided(found):
    return {(*(label for label, _ in each.old), "->", *(label for label, _ in each.new)) for each in found.undecided}


def test_one_that_went_and_one_that_came_elsewhere_in_the_call_are_not_one(tmp_path):
    found = inferred(
        tmp_path,
        layer(dense("a", "dropped", "c"), "x = self.c(self.dropped(self.a(x)))"),
        layer(dense("a", "c", "fresh"), "x = self.fresh(self.c(self.a(x)))"),
    )
    assert not moves(found)
    assert undecided(found) == {("dropped", "c", "->", "c", "fresh")}


def test_nor_are_they_where_the_kept_one_is_known_by_its_text(tmp_path):
    found = inferred(
        tmp_path,
        layer(f"{dense('a', 'dropped')}\n{dense('c', units=4)}", "x = self.c(self.dropped(self.a(x)))"),
        layer(f"{dense('a')}\n{dense('c', units=4)}\n{dense('fresh')}", "x = self.fresh(self.c(self.a(x)))"),
    )
    assert not moves(found)
    assert undecided(found) == {("dropped", "->", "fresh")}


def test_a_kept_name_is_open_where_definition_and_call_say_otherwise(tmp_path):
    found = inferred(
        tmp_path,
        layer(dense("a", "b"), "x = self.a(x) + self.b(self.a(x))"),
        layer(dense("b", "c"), "x = self.b(x) + self.c(self.b(x))"),
    )
    assert not found.moves
    assert undecided(found) == {("a", "b", "->", "b", "c")}


def test_names_that_may_be_swapped_are_said(tmp_path):
    found = inferred(
        tmp_path,
        layer(dense("a", "b"), "x = self.b(self.a(x))"),
        layer(dense("b", "a"), "x = self.a(self.b(x))"),
    )
    assert not found.moves
    (each,) = found.undecided
    assert each.reason == "a and b may have swapped their names: definition and call agree"


def test_names_are_swapped_where_the_text_says_so_too(tmp_path):
    found = inferred(
        tmp_path,
        layer(f"{dense('a')}\n{dense('b', units=4)}", "x = self.b(self.a(x))"),
        layer(f"{dense('b')}\n{dense('a', units=4)}", "x = self.a(self.b(x))"),
    )
    assert moves(found) == {"a -> b", "b -> a"}


def test_a_call_in_another_order_is_no_swap_of_names(tmp_path):
    found = inferred(
        tmp_path,
        layer(dense("a", "b"), "x = self.b(self.a(x))"),
        layer(dense("a", "b"), "x = self.a(self.b(x))"),
    )
    assert not moves(found)
    assert not found.undecided


def test_hyperparameters_are_no_part_of_the_model(tmp_path):
    found = inferred(
        tmp_path,
        layer("self.size = size\nself.a = keras.layers.Dense(size)"),
        layer("self.width = size\nself.a = keras.layers.Dense(size)"),
    )
    assert not moves(found)


def test_lists_of_nothing_are_not_each_other(tmp_path):
    found = inferred(tmp_path, layer("self.losses = []\nself.rows = []"), layer("self.nodes = []\nself._rows = []"))
    assert moves(found) == {"rows -> _rows"}


def test_a_submodule_that_was_handed_over_is_known_by_its_use(tmp_path):
    made = "self.{0} = encoder\nself.size = size"
    found = inferred(
        tmp_path,
        layer(made.format("enc"), "x = self.enc(x)").replace("size=4", "size, encoder"),
        layer(made.format("encoder"), "x = self.encoder(x)").replace("size=4", "size, encoder"),
    )
    assert moves(found) == {"enc -> encoder"}


# Lists.


def rows(*items):
    return layer("self.row = [\n" + "\n".join(f"    keras.layers.{item}," for item in items) + "\n]")


def test_an_equal_layer_inserted_between_others_moves_those_after_it(tmp_path):
    old = ["Dense(4)", "ReLU()", "Dense(8)", "Dropout(0.1)", "Dense(4)", "Softmax()"]
    found = inferred(tmp_path, rows(*old), rows(*old[:5], "Dense(4)", *old[5:]))
    assert "row.5 -> row.6" in moves(found)
    # The last two are equal now: which of them is the new one, nobody knows.
    assert not any(move.startswith("row.4") for move in moves(found))
    kept = {move.old: move.new for move in found.moves}
    assert ("row", "4") not in kept
    assert kept["row", "3"] == ("row", "3")


def test_an_equal_layer_inserted_elsewhere_is_told_by_its_surroundings(tmp_path):
    old = ["Dense(4)", "ReLU()", "Dense(8)", "Dropout(0.1)", "Dense(16)", "Softmax()"]
    found = inferred(tmp_path, rows(*old), rows(*old[:5], "Dense(8)", *old[5:]))
    assert moves(found) == {"row.5 -> row.6"}


def test_of_a_run_of_equal_layers_nobody_knows_which_is_new(tmp_path):
    found = inferred(tmp_path, rows(*["Dense(4)"] * 12), rows(*["Dense(4)"] * 13))
    assert not moves(found)
    assert found.undecided


def test_names_that_people_gave_are_identity_in_a_list(tmp_path):
    old = ['Dense(4, name="stem")', 'Dense(4, name="body")', 'Dense(4, name="head")']
    found = inferred(tmp_path, rows(*old), rows(old[0], 'Dense(4, name="neck")', *old[1:]))
    assert moves(found) == {"row.1 -> row.2", "row.2 -> row.3"}


def test_a_loop_with_more_turns_says_nothing_of_which_are_new(tmp_path):
    made = "self.blocks = [keras.layers.Dense(4) for _ in range({})]"
    assert not inferred(tmp_path, layer(made.format(3)), layer(made.format(4))).moves


def test_a_list_becomes_numbered_attributes(tmp_path):
    found = inferred(
        tmp_path,
        layer("self.blocks = [keras.layers.Dense(4) for _ in range(size)]"),
        layer('for i in range(size):\n    setattr(self, f"block_{i + 1}", keras.layers.Dense(4))'),
    )
    assert moves(found) == {"blocks.{i} -> block_{i+1}"}
    (statement,) = statements(found)
    assert (statement.source, statement.target) == ("**/blocks/{i:int}/**", "**/block_{i+1}/**")


def test_constants_that_name_attributes_are_read(tmp_path):
    found = inferred(
        tmp_path,
        layer('for name in ("query", "key"):\n    setattr(self, name + "_dense", keras.layers.Dense(4))'),
        layer("self.query_proj = keras.layers.Dense(4)\nself.key_proj = keras.layers.Dense(4)"),
    )
    assert moves(found) == {"query_dense -> query_proj", "key_dense -> key_proj"}


def test_keys_of_dicts_are_labels(tmp_path):
    made = 'self.heads = {{"left": keras.layers.Dense(4), "{}": keras.layers.Dense(8)}}'
    found = inferred(tmp_path, layer(made.format("rite")), layer(made.format("right")))
    assert moves(found) == {"heads.rite -> heads.right"}


# Classes.


def test_what_is_wrapped_is_followed_into_its_class(tmp_path):
    wrapped = LAYER.replace("Net", "Mlp").format(
        made="        self.up = keras.layers.Dense(8)\n        self.down = keras.layers.Dense(4)",
        call="        x = self.down(self.up(x))",
    )
    old = layer("self.up = keras.layers.Dense(8)\nself.down = keras.layers.Dense(4)", "x = self.down(self.up(x))")
    new = layer("self.mlp = Mlp()", "x = self.mlp(x)")
    new = f"from parts import Mlp\n{new}"
    there, back = (
        inferred(tmp_path / "there", old, {"nets.py": new, "parts.py": wrapped}),
        inferred(tmp_path / "back", {"nets.py": new, "parts.py": wrapped}, old),
    )
    assert moves(there) == {"up -> mlp.up", "down -> mlp.down"}
    assert moves(back) == {"mlp.up -> up", "mlp.down -> down"}


def test_classes_that_moved_and_are_called_otherwise_are_themselves(tmp_path):
    inner = "import keras\nclass {}(keras.Model):\n    def __init__(self):\n        self.{} = keras.layers.Dense(4)\n"
    outer = (
        "import keras\nfrom {} import {}\nclass Net(keras.Model):\n    def __init__(self):\n        self.enc = {}()\n"
    )
    found = inferred(
        tmp_path,
        {"a.py": inner.format("Enc", "d"), "nets.py": outer.format("a", "Enc", "Enc")},
        {"b.py": inner.format("TextEncoder", "proj"), "nets.py": outer.format("b", "TextEncoder", "TextEncoder")},
    )
    assert [(pair.old, pair.new) for pair in found.renamed_classes] == [("a.Enc", "b.TextEncoder")]
    assert moves(found) == {"d -> proj"}
    assert CodeRename("class", "a.Enc", "Enc", "TextEncoder") in code_renames(found)
    assert [(each.source, each.target) for each in statements(found)] == [("**/enc/d/**", "**/enc/proj/**")]


def test_what_a_base_class_makes_is_told_once(tmp_path):
    text = (
        "import keras\nclass Base(keras.Model):\n    def __init__(self):\n        self.{} = keras.layers.Dense(4)\n"
        "class One(Base):\n    pass\nclass Two(Base):\n    pass\n"
    )
    found = inferred(tmp_path, text.format("d"), text.format("dense"))
    assert [(move.new_owner, move.old, move.new) for move in found.changes] == [("nets.Base", ("d",), ("dense",))]


def test_keywords_of_checkpoints_are_where_paths_begin(tmp_path):
    text = layer("self.{} = keras.layers.Dense(4)") + "import tensorflow as tf\nsaved = tf.train.Checkpoint({}=Net())\n"
    found = inferred(tmp_path, text.format("d", "model"), text.format("dense", "net"))
    assert [(each.source, each.target) for each in statements(found)] == [
        ("model/d/**", "net/dense/**"),
        ("model/**", "net/**"),
    ]
    assert CodeRename("keyword", "", "model", "net") in code_renames(found)


# Functional models.

BRANCHED = """
import {keras} as keras

def tail(x, size):
    y = keras.layers.Dense(size, name="tail_dense")(x)
    return keras.layers.LayerNormalization(name="tail_norm")(y)

def build():
    first, second = keras.Input((4,), name="first"), keras.Input((4,), name="second")
    a = keras.layers.Dense(4, name="a")(first)
    b = keras.layers.Dense(4, name="b")(second)
    c = keras.layers.Dense(4, name="c")(b)
    shared = keras.layers.Dense(4, name="shared")
    joined = keras.layers.Add(name="add")([shared(c), shared(a)])
    for i in range(3):
        joined = keras.layers.Dense(4, name=f"deep_{{i}}")(joined)
    return keras.Model([first, second], [tail(joined, 2), keras.layers.Dense(1, name="out")(b)])
"""


@pytest.mark.parametrize("name", ["keras", "tf_keras"])
def test_layers_of_a_functional_model_are_in_kerass_order(name, tmp_path):
    text = BRANCHED.format(keras=name)
    source = Source.read(Project.read([project(tmp_path, text)]))
    space = {}
    exec(text, space)  # noqa: S102  # the test's own text
    assert [made.name for made in source.facts["nets.build"].flow] == [layer.name for layer in space["build"]().layers]


# Rule files.


def test_the_rule_file_has_the_evidence_and_is_read_again(tmp_path):
    found = inferred(
        tmp_path,
        layer('self.d = keras.layers.Dense(4, name="d")'),
        layer('self.dense = keras.layers.Dense(4, name="dense")'),
    )
    text = format_inferred(found, "Inferred")
    (rule,) = parse_rulebook(text)
    assert rule.inferred
    assert rule.why == f"source: {tmp_path}/old/nets.py:5 -> {tmp_path}/new/nets.py:5"
    assert "# nets.Net: d -> dense: " in text
    assert parse_code(text) == (
        CodeRename("attribute", "nets.Net", "d", "dense"),
        CodeRename("layer", "nets.Net", "d", "dense"),
    )


def test_an_inferred_rule_only_renames():
    with pytest.raises((RuleError, Problems), match="an inferred rule that is no rename"):
        parse_rulebook("inferred:\n  - drop: {from: a}\n")


def test_nothing_found_makes_an_empty_rule_file(tmp_path):
    found = inferred(tmp_path, layer("self.d = keras.layers.Dense(4)"), layer("self.d = keras.layers.Dense(4)"))
    text = format_inferred(found, "Inferred")
    assert yaml.safe_load(text) == {"inferred": []}
    assert parse_rulebook(text) == ()


# The command.


def run(*arguments):
    return CliRunner().invoke(cli, ["codemod", "infer", *map(str, arguments)])


def test_a_missing_path_is_bad_input(tmp_path):
    error = run(tmp_path / "none", tmp_path).exception
    assert isinstance(error, SourceError)
    assert error.exit_status == 2
    assert "no such file or directory" in str(error)


def test_a_file_that_cannot_be_parsed_is_named_and_the_others_are_read(tmp_path):
    project(tmp_path / "old", {"nets.py": layer("self.d = keras.layers.Dense(4)"), "bad.py": "def (\n"})
    project(tmp_path / "new", layer("self.dense = keras.layers.Dense(4)"))
    outcome = run(tmp_path / "old", tmp_path / "new")
    assert outcome.exit_code == 1
    assert "bad.py:1" in outcome.stderr
    assert "d -> dense" in outcome.stdout


def test_nothing_found_is_said(tmp_path):
    project(tmp_path, layer("self.d = keras.layers.Dense(4)"))
    outcome = run(tmp_path, tmp_path)
    assert outcome.exit_code == 0
    assert outcome.stdout == "nothing changed in what the objects of 1 class hold\n"


def test_a_rule_file_that_a_person_wrote_is_not_replaced(tmp_path):
    project(tmp_path / "old", layer("self.d = keras.layers.Dense(4)"))
    (tmp_path / "rules.yaml").write_text("rules: []\n")
    outcome = run(tmp_path / "old", tmp_path / "old", "--out", tmp_path / "rules.yaml")
    assert "was not inferred" in str(outcome.exception)
    assert (tmp_path / "rules.yaml").read_text() == "rules: []\n"


def test_a_program_reads_all_of_it_as_json(tmp_path):
    project(tmp_path / "old", layer("self.d = keras.layers.Dense(4)"))
    project(tmp_path / "new", layer("self.dense = keras.layers.Dense(4)"))
    said = json.loads(run(tmp_path / "old", tmp_path / "new", "--json").stdout)
    (change,) = said["changes"]
    assert (change["class"], change["old"], change["new"]) == ("nets.Net", ["d"], ["dense"])
    assert change["before"] == {"file": f"{tmp_path}/old/nets.py", "line": 5}
    assert said["rules"][0]["from"] == "**/d/**"
    assert said["code"] == [{"rename_attribute": {"class": "nets.Net", "from": "d", "to": "dense"}}]


# Revisions in git.


@pytest.fixture
def repository(tmp_path):
    """A repository with a rename in its last commit, and something else in its work tree."""

    def git(*arguments):
        subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
            check=True,
            capture_output=True,
        )

    git("init", "--quiet")
    project(tmp_path / "src", layer("self.d = keras.layers.Dense(4)"))
    git("add", ".")
    git("commit", "--quiet", "-m", "one")
    project(tmp_path / "src", layer("self.dense = keras.layers.Dense(4)"))
    git("commit", "--quiet", "-a", "-m", "two")
    project(tmp_path / "src", layer("self.other = keras.layers.Dense(4)"))
    return tmp_path


def test_two_revisions_are_compared_and_the_work_tree_is_not_touched(repository):
    outcome = run("--git", "HEAD~1..HEAD", repository / "src", "--out", repository / "rules.yaml")
    assert outcome.exit_code == 0, outcome.output
    assert "d -> dense" in outcome.stdout
    assert "src/nets.py:5 -> src/nets.py:5" in (repository / "rules.yaml").read_text()
    assert "self.other" in (repository / "src" / "nets.py").read_text()
    status = subprocess.run(["git", "-C", str(repository), "status", "--short"], check=True, capture_output=True)
    assert status.stdout.decode().splitlines() == [" M src/nets.py", "?? rules.yaml"]


@pytest.mark.parametrize(
    ("revisions", "path", "message"),
    [
        ("HEAD~1..none", "src", "no such revision @ none"),
        ("HEAD~1..--help", "src", "no such revision @ --help"),
        ("HEAD", "src", "not two revisions @ HEAD"),
        ("HEAD~1..HEAD", "none", "not in this revision"),
    ],
)
def test_what_is_no_revision_or_no_path_in_it_is_said(repository, revisions, path, message):
    outcome = run(f"--git={revisions}", repository / path)
    assert message in str(outcome.exception)


def test_a_path_in_no_repository_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    outcome = run("--git", "HEAD~1..HEAD", tmp_path)
    assert "git cannot read it" in str(outcome.exception)


def test_a_missing_git_is_said(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    outcome = run("--git", "HEAD~1..HEAD", repository)
    assert "git is not installed" in str(outcome.exception)
