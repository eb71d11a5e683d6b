"""Rule files: what they say, and every mistake in them with its line and column."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptmigrate import ops
from ckptmigrate.errors import CkptMigrateError, Problems, RuleError
from ckptmigrate.rules import format_rulebook, parse_rulebook, read_rulebook
from ckptmigrate.spec import DType


def mistakes(text):
    """What is wrong with a rule file, as (line:column, what)."""
    with pytest.raises((RuleError, Problems)) as raised:
        parse_rulebook(text, name="f")
    problems = raised.value.problems if isinstance(raised.value, Problems) else (raised.value,)
    return [(problem.where.removeprefix("f").removeprefix(":"), problem.what) for problem in problems]


def mistake(text):
    """The one mistake of a rule file."""
    with pytest.raises(RuleError) as raised:
        parse_rulebook(text, name="f")
    return raised.value


def test_every_kind_of_rule():
    rules = parse_rulebook(
        """
        rules:
          - rename: {from: "model/w1", to: "model/dense/kernel"}
          - transpose: {from: "model/w", to: "model/kernel", perm: [1, 0]}
          - reshape: {from: "model/q", shape: [48, 12, 4]}
          - cast: {from: a, dtype: half}
          - squeeze: {from: b, axis: 0}
          - expand_dims: {from: c, axis: -1}
          - map: {from: e, to: emb, ops: [{transpose: {perm: [1, 0]}}, {cast: {dtype: bfloat16}}]}
          - drop: {from: "model/old/**", why: "replaced"}
          - init: {to: "model/new/**", with: template}
          - init: {to: "model/scale", with: 0.5}
        """
    )
    assert [(rule.kind, *map(str, rule.sources), str(rule.target), rule.operations, rule.why) for rule in rules] == [
        ("map", "model/w1", "model/dense/kernel", (), ""),
        ("map", "model/w", "model/kernel", (ops.Transpose((1, 0)),), ""),
        ("map", "model/q", "model/q", (ops.Reshape((48, 12, 4)),), ""),
        ("map", "a", "a", (ops.Cast(DType.FLOAT16),), ""),
        ("map", "b", "b", (ops.Squeeze((0,)),), ""),
        ("map", "c", "c", (ops.ExpandDims(-1),), ""),
        ("map", "e", "emb", (ops.Transpose((1, 0)), ops.Cast(DType.BFLOAT16)), ""),
        ("drop", "model/old/**", "None", (), "replaced"),
        ("init", "model/new/**", (ops.Fill("template"),), ""),
        ("init", "model/scale", (ops.Fill(0.5),), ""),
    ]


def test_a_rule_says_where_it_stands():
    (_, second) = parse_rulebook("rules:\n  - rename: {from: a, to: b}\n  - drop: {from: c}\n", name="r.yaml")
    assert second.where == "r.yaml:3:11"


def test_a_list_in_to_is_a_copy_to_each():
    rules = parse_rulebook("rules:\n  - rename: {from: a, to: [b, c]}\n")
    assert [str(rule.target) for rule in rules] == ["b", "c"]
    assert len({rule.where for rule in rules}) == 1


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "", "empty rule file"),
        ("[]\n", "1:1", "wrong type"),
        ("rulez: []\n", "1:1", "unknown word"),
        ("rules:\n", "1:7", "wrong type"),
        ("rules: {a: b}\n", "1:8", "wrong type"),
        ("rules:\n  - rename\n", "2:5", "wrong type"),
        ("rules:\n  - rename:\n", "2:12", "wrong type"),
        ("rules:\n  - rename: {}\n", "2:13", "`rename` without arguments"),
        ("rules:\n  - renam: {from: a, to: b}\n", "2:5", "unknown word"),
        ("rules:\n  - rename: {from: a, too: b}\n", "2:23", "unknown word in `rename`"),
        ("rules:\n  - rename: {from: a, to: b, perm: [0]}\n", "2:30", "unknown word in `rename`"),
        ("rules:\n  - rename: {from: a, from: b}\n", "2:23", "said twice"),
        ("rules:\n  - {rename: {from: a, to: b}, drop: {from: c}}\n", "2:5", "several words in one rule"),
        ("rules:\n  - rename:\n    from: a\n    to: b\n", "2:5", "several words in one rule"),
        ("rules:\n  - rename: {to: b}\n", "2:13", "`rename` without `from`"),
        ("rules:\n  - drop: {why: old}\n", "2:11", "`drop` without `from`"),
        ("rules:\n  - drop: {from: a, to: b}\n", "2:21", "unknown word in `drop`"),
        ("rules:\n  - init: {with: zeros}\n", "2:11", "`init` without `to`"),
        ("rules:\n  - init: {to: a}\n", "2:11", "init: missing argument"),
        ("rules:\n  - init: {to: a, with: many}\n", "2:11", "init: `with` cannot be read"),
        ("rules:\n  - transpose: {from: a, perm: ten}\n", "2:16", "transpose: `perm` cannot be read"),
        ("rules:\n  - cast: {from: a, dtype: float9}\n", "2:11", "cast: `dtype` cannot be read"),
        ("rules:\n  - map: {from: a}\n", "2:10", "`map` without `ops`"),
        ("rules:\n  - fold_batch_norm: {from: {kernel: a}}\n", "2:22", "`fold_batch_norm` without `to`"),
        ("rules:\n  - fold_batch_norm: {from: {kernel: a}}\n", "2:22", "`fold_batch_norm` without `epsilon`"),
        ("rules:\n  - fold_batch_norm: {from: {kernel: a}}\n", "2:29", "`from` without `mean`"),
        ("rules:\n  - fold_batch_norm: {from: {kernels: a}}\n", "2:30", "unknown word in `from`"),
        ("rules:\n  - fold_batch_norm: {to: {kernel: a, gamma: b}}\n", "2:39", "unknown word in `to`"),
        (
            "rules: [fold_batch_norm: {epsilon: 1, from: {kernel: a, mean: m, variance: v}, to: {kernel: '{j}'}}]\n",
            "1:93",
            "nothing to put in",
        ),
        ("rules:\n  - map: {from: a, ops: cast}\n", "2:25", "wrong type"),
        ("rules:\n  - map: {from: a, ops: [{crop: {}}]}\n", "2:26", "unknown operation"),
        ("rules:\n  - rename: {from: [a, b], to: c}\n", "2:20", "wrong type"),
        ("rules:\n  - rename: {from: '', to: c}\n", "2:20", "wrong type"),
        ("rules:\n  - rename: {from: a, to: []}\n", "2:27", "an empty list"),
        ("rules:\n  - rename: {from: a, to: [b, c, b]}\n", "2:34", "said twice"),
        ("rules:\n  - rename: {from: a, to: [[b]]}\n", "2:28", "wrong type"),
        ("rules:\n  - rename: {from: a//b, to: c}\n", "2:20", "empty segment"),
        ("rules:\n  - rename: {from: a//b}\n", "2:20", "empty segment"),
        ("rules:\n  - rename: {from: a, to: 'b{'}\n", "2:27", "unreadable segment"),
        ("rules:\n  - rename: {from: 'a/**', to: b}\n", "2:32", "`**` on one side only"),
        ("rules:\n  - rename: {from: a, to: 'b/**'}\n", "2:27", "`**` on one side only"),
        ("rules:\n  - rename: {from: 'a/{m}', to: 'b/{n}'}\n", "2:33", "nothing to put in"),
        ("rules:\n  - rename: {from: a, to: 'b/*'}\n", "2:27", "nothing to put in"),
        ("rules:\n  - rename: {from: 'a/**/{n}', to: 'b/{n}/**'}\n", "2:36", "nothing to put in"),
        ("rules:\n  - rename: {from: 'a/{n+1}', to: 'b/{n}'}\n", "2:20", "a shift in `from`"),
        ("rules:\n  - drop: {from: 'a/{n+1}'}\n", "2:18", "a shift in `from`"),
        ("rules:\n  - init: {to: 'a/{n-1}', with: zeros}\n", "2:16", "a shift in `to`"),
    ],
)
def test_a_mistake_has_its_line_and_column(text, where, what):
    assert (where, what) in mistakes(text)
    assert all(line for line, _ in mistakes(text)) or not text


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("rules:\n\t- rename: {from: a, to: b}\n", "f:2:1", "a tab in YAML"),
        ("rules:\n  - rename:\n\t  from: a\n", "f:3:1", "a tab in YAML"),
        ("rules:\n  -\trename: {from: a, to: b}\n", "f:2:4", "a tab in YAML"),
        ("rules:\n  - init: {to: a\0}\n", "f:2:17", "a character that YAML does not allow"),
        ("rules:\n  - init: {to: a, with: 2020-13-45}\n", "f:2:25", "unreadable value (month must be in 1..12)"),
        ("rules:\n  - init: {to: a, with: &x [*x]}\n", "f:2:25", "unreadable value (found unconstructable rec"),
        ("rules:\n  - init: {to: a, with: !!python/name:os.system x}\n", "f:2:25", "unreadable value (could not"),
        ("rules:\n  - map: {from: a, ops: [{[1]: 2}]}\n", "f:2:26", "unreadable value (found unhashable key)"),
        ("rules: []\n---\nrules: []\n", "f:2:1", "not YAML (expected a single document"),
        ("rules: [\n", "f:2:1", "not YAML"),
        ("[" * 5000, "f", "nested too deeply"),
    ],
)
def test_what_yaml_cannot_read_is_a_mistake_like_others(text, where, what):
    found = mistake(text)
    assert found.where == where
    assert found.what.startswith(what)


def test_a_pattern_that_yaml_takes_for_something_else_is_told_to_be_quoted():
    for text in ("rules:\n  - drop: {from: *}\n", "rules:\n  - drop: {from: {n}/a}\n"):
        assert mistake(text).hint == "A path that begins with `*` or `{` needs quotes"


def test_the_nearest_word_is_suggested():
    assert "`rename`" in mistake("rules:\n  - renam: {from: a, to: b}\n").hint
    assert mistake("rules:\n  - fuse: {from: a, to: b}\n").hint == ""


def test_all_mistakes_are_told_at_once():
    text = """rules:
  - rename: {to: b}
  - renam: {from: a, to: b}
  - drop: {from: "a//b"}
  - map: {from: a, ops: [{crop: {}}, {cast: {dtype: x}}]}
  - rename: {from: fine, to: fine2}
"""
    assert [where for where, _ in mistakes(text)] == ["2:13", "3:5", "4:18", "5:26", "5:38"]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(RuleError, match=r"missing\.yaml: got No such file"):
        read_rulebook(tmp_path / "missing.yaml")
    with pytest.raises(RuleError, match="Is a directory"):
        read_rulebook(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"rules: [] # caf\xe9\n")
    with pytest.raises(RuleError, match="UTF-8"):
        read_rulebook(tmp_path / "latin.yaml")


@pytest.mark.parametrize(
    "item",
    [
        "rename: {from: a, to: b}",
        "rename: {from: a, to: [b, c]}",
        "rename: {from: 'name:hidden/kernel', to: 'model/x', why: 'a: b, {c}'}",
        "map: {from: a, to: [b, c], ops: [{transpose: {perm: [1, 0]}}, {cast: {dtype: bfloat16}}]}",
        "drop: {from: '**/{n:int}/*', why: 'é'}",
        "init: {to: '{n}', with: template}",
        "init: {to: a, with: 1.0e-7}",
        "init: {to: 'yes', with: zeros}",
        r"rename: {from: '\*/a.Sb', to: '1'}",
    ],
)
def test_a_rulebook_survives_being_written_and_read(item):
    # Twice the same item: rules of their own stay so, and are not taken for a copy.
    rules = parse_rulebook(f"rules:\n  - {item}\n  - {item}\n")
    again = parse_rulebook(format_rulebook(rules))
    assert [rule.to_data() for rule in again] == [rule.to_data() for rule in rules]
    places = [[rule.where for rule in book] for book in (rules, again)]
    assert [places[0].index(where) for where in places[0]] == [places[1].index(where) for where in places[1]]


def test_a_rule_says_what_it_does():
    rules = parse_rulebook(
        """
        rules:
          - transpose: {from: a, to: b, perm: [1, 0]}
          - drop: {from: c, why: old}
          - init: {to: d, with: zeros}
        """
    )
    assert [rule.describe() for rule in rules] == [
        "a -> b, transpose [1, 0]",
        "drop c (old)",
        "init d, initial value: zeros",
    ]


SOUND = """rules:
  - map: {from: "a/{n:int}/**", to: ["b/{n+1}/**"], ops: [{cast: {dtype: half}}]}
  - drop: {from: c}
"""


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_rule_file_is_read_or_refused_as_ours(data):
    start = data.draw(st.integers(0, len(SOUND)))
    end = data.draw(st.integers(start, min(start + 4, len(SOUND))))
    damage = data.draw(st.text(st.sampled_from("ab{}[]:,-*&!|>'\"#%@`\t\n \0?~1"), max_size=4))
    try:
        parse_rulebook(SOUND[:start] + damage + SOUND[end:])
    except (CkptMigrateError, Problems) as error:
        assert "rules" in str(error)  # noqa: PT017  # what is raised is one of the two answers


def test_a_split_is_a_part_for_each_target():
    split = parse_rulebook("rules: [split: {from: qkv, to: [q, k, v], axis: -1}]")
    assert [str(rule.target) for rule in split] == ["q", "k", "v"]
    assert [rule.operations for rule in split] == [(ops.Part(-1, index, 3),) for index in range(3)]
    unstacked = parse_rulebook("rules: [unstack: {from: both, to: [a, b], axis: 0}]")
    assert unstacked[1].operations == (ops.Part(0, 1, 2), ops.Squeeze((0,)))
    (joined,) = parse_rulebook("rules: [concat: {from: [a, b], to: c, axis: 0}]")
    assert [str(source) for source in joined.sources] == ["a", "b"]
    assert joined.operations == (ops.Concat(0),)


def test_a_split_among_operations_gives_each_target_its_part():
    rules = parse_rulebook(
        "rules: [map: {from: [a, b], to: [c, d], ops: [{concat: {axis: 1}}, {split: {axis: 0, sizes: [2, 3]}}]}]"
    )
    assert [rule.operations for rule in rules] == [(ops.Concat(1), ops.Part(0, at, (2, 3))) for at in (0, 1)]
    needs = "a split needs a list in `to`, and there is one for each part"
    for wrong in (
        "map: {from: a, to: b, ops: [{split: {axis: 0}}]}",
        "map: {from: a, to: [b, c], ops: [{split: {axis: 0}}, {split: {axis: 1}}]}",
    ):
        assert mistake(f"rules: [{wrong}]").what == needs


def test_splits_joins_and_copies_survive_a_round_trip():
    text = """
rules:
  - split: {from: qkv, to: [q, k, v], axis: -1}
  - split: {from: two, to: [a, b], axis: 0, sizes: [1, 2], why: uneven}
  - split: {from: three, to: [l, m, n], axis: 0, sizes: target}
  - reshape: {from: o, to: p}
  - cast: {from: r}
  - resize: {from: s, axis: 0}
  - resize: {from: t, axis: 0, size: 12, fill: {mean: {stddev: 0.5, seed: 3}}}
  - unstack: {from: both, to: [c, d], axis: 0}
  - map: {from: [a1, a2], to: [b1, b2], ops: [{concat: {axis: 0}}, {split: {axis: 1, sizes: target}}, {cast: }]}
  - map: {from: a3, to: [b3, b4], ops: [{squeeze: {axis: 0}}, {split: {axis: 0}}]}
  - gates: {from: a4, axis: -1, source: tf1_lstm, target: keras_lstm}
  - fold_batch_norm: {from: {kernel: k, mean: m, variance: v}, to: {kernel: k2, bias: b6}, epsilon: 0.001}
  - fold_batch_norm:
      from: {kernel: 'a/{i}/k', bias: 'a/{i}/b', gamma: 'n/{i}/g', beta: 'n/{i}/c', mean: 'm/{i}', variance: 'v/{i}'}
      to: {kernel: 'a/{i}/k', bias: 'a/{i}/b'}
      epsilon: 1.0e-5
      axis: [-2, -1]
      why: folded
  - concat: {from: [e, f], to: g, axis: 1}
  - average: {from: [h, i], to: j, weights: [1, 3]}
  - rename: {from: x, to: [y, z]}
  - gather: {from: rows, axis: 0, indices: [1, 0]}
"""
    rules = parse_rulebook(text, name="r")
    again = parse_rulebook(format_rulebook(rules), name="r")
    assert [replace(rule, where="") for rule in again] == [replace(rule, where="") for rule in rules]
    assert len({rule.where for rule in again}) == 17
