"""The published JSON Schemas accept what the tool accepts, and refuse what it refuses."""

import json
from importlib.resources import files

import jsonschema
import pytest
import yaml
from chains import vocab

from ckptmigrate.errors import CkptMigrateError, Problems
from ckptmigrate.matching import Answers, Drop, Hypothesis, Lead, Question, Step, Unmatched
from ckptmigrate.ops import Cast, Fill, FoldBias, FoldKernel, Gates, Mean, Part, Reshape, Resize, Transpose
from ckptmigrate.packs import pack_names, read_pack
from ckptmigrate.plan import Endpoint, Plan
from ckptmigrate.rules import parse_rulebook
from ckptmigrate.rules.reading import _RULE_ARGUMENTS
from ckptmigrate.schemas import read_schema
from ckptmigrate.spec import DType, Key

GOOD_RULES = [
    "rename: {from: a/b, to: c}",
    "rename: {from: 'blocks/{i:int}/**', to: 'layers/{i+1}/**', why: moved}",
    "rename: {from: a, to: [b, c]}",
    "transpose: {from: a, to: b, perm: [1, 0]}",
    "reshape: {from: a, shape: [48, 12, 4]}",
    "reshape: {from: a, to: b}",
    "cast: {from: '**', dtype: bfloat16}",
    "cast: {from: a}",
    "squeeze: {from: a, axis: 0}",
    "squeeze: {from: a, axis: [0, 1]}",
    "expand_dims: {from: a, axis: 0}",
    "map: {from: a, to: b, ops: [{transpose: {perm: [1, 0]}}, {cast: {dtype: half}}]}",
    "slice: {from: a, axis: 0, start: 1}",
    "slice: {from: a, axis: 0, start: 1, stop: -1}",
    "pad: {from: a, axis: 0, after: 2, value: 0.5}",
    "gather: {from: a, axis: 1, indices: [2, 0, 1]}",
    "tile: {from: a, axis: 0, times: 2}",
    "repeat: {from: a, axis: 0, times: 2}",
    "resize: {from: a, to: b, axis: 0}",
    "resize: {from: a, axis: -1, size: 1200, fill: zeros}",
    "resize: {from: a, axis: 0, fill: mean}",
    "map: {from: a, ops: [{resize: {axis: 0, size: 3, fill: {mean: {stddev: 0.02, seed: 7}}}}]}",
    "fold_batch_norm: {from: {kernel: a, mean: b, variance: c}, to: {kernel: a, bias: d}, epsilon: 0.001}",
    "fold_batch_norm: {from: {kernel: a, bias: e, mean: b, variance: c}, to: {kernel: a, bias: d}, epsilon: 1}",
    "fold_batch_norm: {from: {kernel: a, beta: g, mean: b, variance: c}, to: {kernel: a, bias: g}, axis: 0,epsilon: 1}",
    "gates: {from: a, axis: -1, source: tf1_lstm, target: ifco, forget_bias: 1}",
    "map: {from: a, ops: [{gates: {axis: 0, source: rzh, target: keras_gru}}]}",
    "map: {from: [a, b], to: [c, d], ops: [{concat: {axis: 1}}, {split: {axis: 0, sizes: target}}, {cast: }]}",
    "map: {from: a, to: [c, d], ops: [{split: {axis: 0}}]}",
    "scale: {from: a, factor: 0.5}",
    "add: {from: a, value: -1}",
    "split: {from: 'b/{i}/qkv', to: ['b/{i}/q', 'b/{i}/k', 'b/{i}/v'], axis: -1}",
    "split: {from: a, to: [b, c], axis: 0, sizes: [2, 3]}",
    "split: {from: a, to: [b, c], axis: 0, sizes: target}",
    "unstack: {from: a, to: [b, c], axis: 0}",
    "concat: {from: [a, b], to: c, axis: 0}",
    "stack: {from: [a, b], to: c, axis: 0, why: fused}",
    "average: {from: [a, b], to: c}",
    "average: {from: [a, b], to: c, weights: [1, 3]}",
    "map: {from: [a, b], to: c, ops: [{concat: {axis: 0}}, {part: {axis: 0, index: 1, parts: 2}}]}",
    "map: {from: a, to: b, ops: [{reshape: {}}, {cast: null}]}",
    "map: {from: a, to: [b], ops: [{part: {axis: 0, index: 0, sizes: target}}]}",
    "drop: {from: 'old/**', why: replaced}",
    "init: {to: 'new/**', with: template}",
    "init: {to: a, with: 0.5}",
]

PINNED = "{path: /a/old.txt, sha256: " + "a" * 64 + ", count: 3}"

# These name files: what is in them is not the schema's.
RULES_WITH_FILES = [
    "vocab: {source: old.txt, target: new.txt, at: [{from: a, axis: 0}, {from: b, to: [c, d], axis: -1}]}",
    "vocab: {source: old.txt, target: new.txt, fill: {mean: {stddev: 1}}, offset: 2, at: [{from: a, axis: 0}]}",
    "map: {from: a, ops: [{vocab: {source: old.txt, target: new.txt, axis: 0, fill: ones}}]}",
    f"map: {{from: a, ops: [{{vocab: {{source: {PINNED}, target: {PINNED}, kept: 2, axis: 0}}}}]}}",
]

BAD_RULES = [
    "renam: {from: a, to: b}",
    "rename: {from: a, to: b, perm: [1, 0]}",
    "rename: {to: b}",
    "reshape: {from: a, shape: target}",
    "cast: {from: a, dtype: float31}",
    "drop: {from: a, to: b}",
    "init: {with: zeros}",
    "init: {to: a, with: twos}",
    "map: {from: a, to: b}",
    "split: {from: a, to: b, axis: 0}",
    "split: {from: a, to: [b, c], axis: 0, sizes: even}",
    "split: {from: [a, b], to: [c, d], axis: 0}",
    "concat: {from: a, to: b, axis: 0}",
    "concat: {from: [a, b], to: [c, d], axis: 0}",
    "stack: {from: [a, b], to: c}",
    "average: {from: [a, b], to: c, axis: 0}",
    "tile: {from: a, axis: 0}",
    "resize: {from: a}",
    "gates: {from: a, axis: -1, source: keras}",
    "fold_batch_norm: {from: {kernel: a, mean: b, variance: c}, to: {kernel: a, bias: d}}",
    "fold_batch_norm: {from: {kernel: a, mean: b, variance: c}, to: {kernel: a}, epsilon: 1}",
    "fold_batch_norm: {from: {kernel: a, mean: b}, to: {kernel: a, bias: d}, epsilon: 1}",
    "fold_batch_norm: {from: {kernel: a, mean: b, variance: c, scale: d}, to: {kernel: a, bias: d}, epsilon: 1}",
    "fold_batch_norm: {from: a, to: {kernel: a, bias: d}, epsilon: 1}",
    "gates: {from: a, axis: -1, source: IFCO, target: ifco}",
    "map: {from: a, to: [c, d], ops: [{split: {sizes: [1, 2]}}]}",
    "vocab: {source: old.txt, target: new.txt}",
    "vocab: {source: old.txt, target: new.txt, at: []}",
    "vocab: {source: old.txt, target: new.txt, at: [{from: a}]}",
    "vocab: {source: old.txt, at: [{from: a, axis: 0}]}",
    "vocab: {from: a, source: old.txt, target: new.txt, at: [{from: a, axis: 0}]}",
    f"map: {{from: a, ops: [{{vocab: {{source: {PINNED}, target: 3, axis: 0}}}}]}}",
    "resize: {from: a, axis: 0, fill: median}",
    "resize: {from: a, axis: 0, fill: {mean: {seed: 1}}}",
    "resize: {from: a, axis: 0, fill: {mean: {stddev: 0}}}",
]


def schema(name):
    return json.loads(files("ckptmigrate.schemas").joinpath(name).read_text(encoding="utf-8"))


def rule_file(rule):
    return f"rules:\n  - {rule}\n"


@pytest.mark.parametrize("rule", GOOD_RULES)
def test_a_rule_that_is_read_fits_the_schema(rule):
    assert parse_rulebook(rule_file(rule))
    jsonschema.validate(yaml.safe_load(rule_file(rule)), schema("rules-1.json"))


@pytest.mark.parametrize("rule", RULES_WITH_FILES)
def test_a_rule_that_names_files_fits_the_schema(rule, tmp_path):
    (tmp_path / "old.txt").write_text("a\nb\nc\n")
    (tmp_path / "new.txt").write_text("b\nc\nd\n")
    assert parse_rulebook(rule_file(rule), name=str(tmp_path / "rules.yaml"))
    jsonschema.validate(yaml.safe_load(rule_file(rule)), schema("rules-1.json"))


@pytest.mark.parametrize("rule", BAD_RULES)
def test_a_rule_that_is_refused_does_not_fit_the_schema(rule):
    with pytest.raises((CkptMigrateError, Problems)):
        parse_rulebook(rule_file(rule))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(rule_file(rule)), schema("rules-1.json"))


@pytest.mark.parametrize("op", [Reshape(), Cast(), Part(0, 0, None), Resize(0)])
def test_a_plan_with_an_open_operation_does_not_fit_the_schema(op):
    step = Step(Key("a"), (Key("a"),), (op,), "rule", 1.0, ())
    end = Endpoint("x/ckpt", "sha256:" + "0" * 64)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(Plan(end, end, (step,)).to_json()), schema("plan-1.json"))


def test_the_schema_knows_every_word_of_a_rule_file():
    words = {
        word for rule in schema("rules-1.json")["properties"]["rules"]["items"]["oneOf"] for word in rule["required"]
    }
    assert words == set(_RULE_ARGUMENTS)


def test_a_plan_with_everything_in_it_fits_the_schema():
    a, b, c = Key("a"), Key("b"), Key("c")
    end = Endpoint("x/ckpt", "sha256:" + "0" * 64)
    plan = Plan(
        end,
        Endpoint("x/template", "sha256:" + "1" * 64, "models:build"),
        (
            Step(a, (b,), (Transpose((1, 0)), Reshape((2, -1)), Cast(DType.BFLOAT16)), "rule", 1.0, ("said so",)),
            Step(b, (), (Fill("template"),), "initial", 1.0, ()),
            Step(b, (b,) * 3, (FoldKernel(1e-3, axis=(-2, -1)),), "rule", 1.0, ()),
            Step(b, (b,) * 4, (FoldBias(1, beta=False),), "rule", 1.0, ()),
            Step(b, (b,), (Gates(0, "ab", "ba"), Gates(0, "ifco", "icfo", 1.0)), "rule", 1.0, ()),
            Step(b, (b,), (vocab(0, "ab", "bc", 0, 1), vocab(0, "ab", "ba")), "rule", 1.0, ()),
            Step(b, (b,), (Resize(0, 3, 0.5), Resize(0, 4, Mean(0.1, 2)), Resize(0, 5)), "rule", 1.0, ()),
            Step(c, (), (Fill(0.5),), "initial", 1.0, ()),
        ),
        (
            Question((a,), (b,), "which one?"),
            Question((a, c), (b,), "which one?", Answers((Hypothesis("a is b", (Lead(a, (b,)),)),), 2, "a name")),
            Question(
                (a, c),
                (b,),
                "which one?",
                Answers((Hypothesis("reshaped", (Lead(a, (b,), (Reshape((2,)),)),), (c,), (b,), ("so it is",)),)),
            ),
        ),
        (Unmatched(a, "no such path"),),
        (Unmatched(b),),
        (Drop(c, "--drop-unused"),),
    )
    jsonschema.validate(json.loads(plan.to_json()), schema("plan-1.json"))


PACK = """
pack: {for: A move., facts: [a book]}
rules: [{rename: {from: a, to: b}}]
examples:
  - says: all
    before: {names: {a: "float32[2]"}}
    after: {paths: {b: "float32[2]"}, slots: [[o, m, b, "float32[2]"]]}
    moved: {b: a}
"""


@pytest.mark.parametrize("name", pack_names())
def test_a_pack_that_is_shipped_fits_the_schema(name):
    jsonschema.validate(yaml.safe_load(read_pack(name).text), json.loads(read_schema("packs")))


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        ("for: A move.,", ""),
        ("facts: [a book]", "facts: a book"),
        ("rename", "renam"),
        ("rules:", "rule:"),
        ("says: all", "name: all"),
        ("before:", "source:"),
        ("moved: {b: a}", "moved: [b, a]"),
        ("[o, m, b, ", "[o, m, "),
        ("names: {a: ", "name: {a: "),
    ],
)
def test_a_file_that_is_no_pack_does_not_fit_the_schema(said, instead, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(PACK)
    assert read_pack(str(own)).examples
    schema = json.loads(read_schema("packs"))
    jsonschema.validate(yaml.safe_load(PACK), schema)
    assert said in PACK
    wrong = PACK.replace(said, instead)
    own.write_text(wrong)
    with pytest.raises((CkptMigrateError, Problems)):
        read_pack(str(own))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(wrong), schema)
