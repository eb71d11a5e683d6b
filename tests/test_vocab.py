"""Vocabularies: how files are read, which row goes where, and what is wrong with them."""

import hashlib

import numpy as np
import pytest
from builders import floats, key_of, plan_between, read_all, write_tree
from chains import FLOAT, INT, error_of, run, source, vocab, vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

import ckptmigrate.vocabulary as vocabulary_module
from ckptmigrate import apply_plan, parse_rulebook, read_rulebook
from ckptmigrate.errors import IrreversibleError, OperationError, Problems, RuleError, VocabularyError
from ckptmigrate.ops import Mean, Vocab, close_chain
from ckptmigrate.rules import format_rulebook
from ckptmigrate.spec import DType, TensorSpec
from ckptmigrate.verify import verify_checkpoint
from ckptmigrate.vocabulary import compare_vocabularies, rows_by_token


@pytest.fixture
def files(tmp_path):
    """Writes a pair of vocabulary files."""

    def write(old, new):
        for name, content in (("old.txt", old), ("new.txt", new)):
            data = content if isinstance(content, bytes) else "".join(f"{token}\n" for token in content).encode()
            (tmp_path / name).write_bytes(data)
        return tmp_path / "old.txt", tmp_path / "new.txt"

    return write


# Files.

tokens = st.lists(
    st.text(st.characters(exclude_characters="\n\r\ufeff", codec="utf-8"), min_size=1, max_size=20),
    min_size=1,
    unique=True,
)


@settings(max_examples=200, deadline=None)
@given(tokens, tokens, st.data())
def test_each_token_finds_its_row(tmp_path_factory, old, new, data):
    new += data.draw(st.lists(st.sampled_from([token for token in old if token not in new] or [""]), unique=True))
    new = [token for token in new if token]
    folder = tmp_path_factory.mktemp("files")
    for name, listed in (("old", old), ("new", new)):
        (folder / name).write_bytes("\n".join(listed).encode())
    if not {*old} & {*new}:
        message = error_of(VocabularyError, compare_vocabularies, folder / "old", folder / "new")
        assert "no token in common" in message
        return
    source, target, kept = compare_vocabularies(folder / "old", folder / "new")
    assert (source.count, target.count, kept) == (len(old), len(new), len({*old} & {*new}))
    expected = [old.index(token) if token in old else -1 for token in new]
    assert rows_by_token(source, target).tolist() == expected


def test_tokens_with_equal_hashes_are_told_apart(files, monkeypatch):
    """All hashes are equal at first; then only some are."""
    hashes = vocabulary_module._hashes

    def weak(tokens, salt, chunk):
        return hashes(tokens, salt, chunk) % np.uint64(1 + salt * 7)

    monkeypatch.setattr(vocabulary_module, "_hashes", weak)
    old, new = files("abcdefgh", "hgxfeydcba")
    source, target, kept = compare_vocabularies(old, new)
    assert kept == 8
    assert rows_by_token(source, target).tolist() == [7, 6, -1, 5, 4, -1, 3, 2, 1, 0]
    monkeypatch.setattr(vocabulary_module, "_hashes", lambda tokens, salt, chunk: 0 * hashes(tokens, salt, chunk))
    old, new = files("a", "xya")
    monkeypatch.setattr(vocabulary_module, "_mistakes", lambda *_: ())
    monkeypatch.setattr(vocabulary_module._Index, "of", staticmethod(weak_index))
    assert compare_vocabularies(old, new)[2] == 1


def weak_index(tokens):
    return vocabulary_module._Index(0, np.zeros(tokens.vocabulary.count, np.uint64), np.arange(tokens.vocabulary.count))


def test_long_and_short_tokens_are_compared_whole(files):
    old = ["a", "a" * 8, "a" * 9, "b" * 70_000, "a" * 7, "é", "e"]
    source, target, kept = compare_vocabularies(*files(old, [*reversed(old), "b" * 69_999]))
    assert kept == 7
    assert rows_by_token(source, target).tolist() == [6, 5, 4, 3, 2, 1, 0, -1]


def test_more_tokens_than_are_looked_at_at_once(files, monkeypatch):
    monkeypatch.setattr(vocabulary_module, "_CHUNK_TOKENS", 7)
    monkeypatch.setattr(vocabulary_module, "_CHUNK_BYTES", 5)
    old = [f"wört{number}" for number in range(100)]
    source, target, kept = compare_vocabularies(*files(old, old[::-2]))
    assert kept == 50
    assert rows_by_token(source, target).tolist() == [*range(99, -1, -2)]


def test_line_ends_and_a_byte_order_mark_belong_to_no_token(files):
    old, new = files(b"\xef\xbb\xbfone\r\n two \r\nthree", b"three\none\n two \n")
    source, target, kept = compare_vocabularies(old, new)
    assert kept == source.count == target.count == 3
    assert rows_by_token(source, target).tolist() == [2, 0, 1]
    assert source.sha256 == hashlib.sha256(old.read_bytes()).hexdigest()


def told(old, new):
    with pytest.raises((VocabularyError, Problems)) as caught:
        compare_vocabularies(old, new)
    problems = caught.value.problems if isinstance(caught.value, Problems) else (caught.value,)
    return [(problem.what, problem.where.rpartition("/")[2], problem.got) for problem in problems]


@pytest.mark.parametrize(
    ("content", "what", "where", "got"),
    [
        (b"a\nb\na\n", "a token twice", "old.txt:3", "`a` in the lines 1 and 3"),
        (b"a\nb\nb\na\nc\nb", "a token twice", "old.txt:3", "`b` in the lines 2 and 3, and 2 more are there again"),
        (b"a\n\nb\n\n", "empty lines in a vocabulary", "old.txt:2", "2 without one"),
        (b"a\r\n\r\n", "empty lines in a vocabulary", "old.txt:2", "1 without one"),
        (b"\n", "empty lines in a vocabulary", "old.txt:1", "1 without one"),
        (b"", "an empty vocabulary", "old.txt", ""),
        (b"a\nb\n\xff\n", "not text", "old.txt:3", "the byte 0xff"),
        (b"a\nb\nc\xc3", "not text", "old.txt:3", "the byte 0xc3"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_told_with_its_line(files, content, what, where, got):
    assert told(*files(content, "ab")) == [(what, where, got)]


def test_a_character_that_is_cut_between_two_looks_is_whole(files, monkeypatch):
    monkeypatch.setattr(vocabulary_module, "_CHUNK_BYTES", 3)
    assert compare_vocabularies(*files("aéüß", "aéüß"))[2] == 4
    assert told(*files("aé".encode() + b"\xc3\nb", "a")) == [("not text", "old.txt:1", "the byte 0xc3")]


def test_all_that_is_wrong_with_both_is_told_at_once(files):
    old, new = files(b"a\n\na\n", b"\xff")
    assert [what for what, *_ in told(old, new)] == ["empty lines in a vocabulary", "a token twice", "not text"]
    new.unlink()
    assert told(old, new)[-1] == ("cannot read the vocabulary", "new.txt", "No such file or directory")


# Operations.


def test_rows_go_with_their_tokens():
    tensor = source([[9, 9], [0, 1], [2, 3], [4, 5]], FLOAT)
    moved = vocab(0, "abc", "cxa", -1, offset=1)
    assert run([moved], tensor, block_bytes=4)[0].tolist() == [[9, 9], [4, 5], [-1, -1], [0, 1]]
    assert run([vocab(0, "pabc", "cpa", 0)], tensor)[0].tolist() == [[4, 5], [9, 9], [0, 1]]
    assert run([vocab(-1, "ab", "bac", Mean())], tensor)[0][1].tolist() == [1, 0, 0.5]
    assert run([vocab(-1, "ab", "bca")], tensor)[0][2].tolist() == [3, 1, 2]


def test_a_vocabulary_that_does_not_fit_names_both_numbers_and_what_may_be_meant():
    spec = TensorSpec(FLOAT, (5, 2))
    message = error_of(OperationError, vocab(0, "abc", "cba").infer, (spec,))
    assert "does not fit the source @ rows by token along axis 0: 3 of 3 kept: expected 3 tokens along" in message
    assert "got 5 rows (source float32[5, 2])" in message
    assert "say `offset: 2`" in message
    message = error_of(OperationError, vocab(0, "abcdef", "abcdef").infer, (spec,))
    assert "expected 6 tokens" in message
    assert "offset" not in message
    assert "3 tokens after 1 rows" in error_of(OperationError, vocab(0, "abc", "a", 0, 1).infer, (spec,))
    moved = vocab(0, "abcde", "abcdefg", 0)
    message = error_of(OperationError, close_chain, [moved], (spec,), TensorSpec(FLOAT, (8, 2)))
    assert "does not fit the target" in message
    assert "expected 7 tokens" in message
    assert "got 8 rows (target float32[8, 2])" in message
    wrong = Vocab(0, vocabulary("abcde"), vocabulary("abc"), 4)
    assert "expected at most 3, got 4 (kept)" in error_of(OperationError, wrong.infer, (spec,))
    assert "no mean" in error_of(OperationError, vocab(0, "ab", "abc", Mean()).infer, (TensorSpec(INT, (2,)),))
    assert "a value of string" in error_of(
        OperationError, vocab(0, "a", "b", 0).infer, (TensorSpec(DType.STRING, (1,)),)
    )


def test_the_way_back_is_there_if_no_token_is_lost():
    specs = (TensorSpec(FLOAT, (4, 2)),)
    assert vocab(0, "abc", "cxab", Mean(), 1).inverse(specs) == vocab(0, "cxab", "abc", 0, 1)
    message = error_of(IrreversibleError, vocab(0, "abcd", "ax").inverse, specs)
    assert "3 of 4 tokens are not in the new vocabulary" in message


def test_a_vocabulary_that_changed_is_refused(files):
    moved = Vocab(0, *compare_vocabularies(*files("ab", "ba")))
    (files("ab", "bac")[1]).touch()
    message = error_of(VocabularyError, run, [moved], source([1, 2], FLOAT))
    assert message.startswith("the vocabulary has changed since the plan was made @ ")
    assert "with 2 tokens (plan)" in message
    assert message.count("new.txt") == 1


def test_a_plan_that_was_edited_to_keep_more_or_fewer_is_refused(files):
    source_file, target_file, _ = compare_vocabularies(*files("ab", "bc"))
    for kept in (0, 2):
        message = error_of(OperationError, run, [Vocab(0, source_file, target_file, kept, 0)], source([1, 2], FLOAT))
        assert f"expected {kept} (plan), got 1 (files)" in message


# Rules.

RULE = """rules:
  - vocab:
      source: old.txt
      target: new.txt
      fill: mean
      at:
        - {from: m/embedding, axis: 0}
        - {from: m/kernel, to: m/out, axis: -1}
        - {from: "m/{n}/bias", to: ["m/{n}/b", "m/{n}/c"], axis: 0}
"""


@pytest.fixture
def rule_file(tmp_path, files):
    files("abc", "cabd")
    (tmp_path / "rules.yaml").write_text(RULE)
    return tmp_path / "rules.yaml"


def test_a_rule_speaks_of_every_variable_that_has_the_vocabulary(rule_file):
    rules = read_rulebook(rule_file)
    assert [(str(rule.sources[0]), str(rule.target), rule.operations[0].axis) for rule in rules] == [
        ("m/embedding", "m/embedding", 0),
        ("m/kernel", "m/out", -1),
        ("m/{n}/bias", "m/{n}/b", 0),
        ("m/{n}/bias", "m/{n}/c", 0),
    ]
    (operation,) = {rule.operations[0] for rule in rules[:1]}
    assert (operation.fill, operation.offset, operation.kept) == (Mean(), 0, 3)
    assert operation.source.path == str(rule_file.parent / "old.txt")


def test_it_survives_being_written_and_read(rule_file):
    rules = read_rulebook(rule_file)
    again = parse_rulebook(format_rulebook(rules))
    assert [rule.to_data() for rule in again] == [rule.to_data() for rule in rules]


def test_it_is_an_operation_of_a_chain_too(rule_file):
    rule_file.write_text(
        "rules: [map: {from: a, ops: [{transpose: }, {vocab: {axis: 0, source: old.txt, target: new.txt}}]}]\n"
    )
    (rule,) = read_rulebook(rule_file)
    assert rule.describe().endswith("3 of 3 kept, 1 new filled with the template's values")


@pytest.mark.parametrize(
    ("rule", "where", "words"),
    [
        ("vocab: {source: old.txt, target: new.txt}", "2:12", ["`vocab` without `at`"]),
        ("vocab: {source: old.txt, target: new.txt, at: []}", "2:51", ["an empty list"]),
        ("vocab: {source: old.txt, at: [{from: a, axis: 0}]}", "2:12", ["vocab: no `target`", "one token a line"]),
        ("vocab: {source: 3, target: new.txt, at: [{from: a, axis: 0}]}", "2:12", ["vocab: no `source`"]),
        ("vocab: {source: old.txt, target: new.txt, at: [{from: a}]}", "2:52", ["no axis", "got nothing"]),
        ("vocab: {source: old.txt, target: new.txt, at: [{from: a, axis: x}]}", "2:68", ["no axis", "got 'x'"]),
        ("vocab: {source: old.txt, target: new.txt, at: [{axis: 0}]}", "2:52", ["`vocab` without `from`"]),
        ("vocab: {source: old.txt, target: new.txt, at: [{from: a, axis: 0, x: 1}]}", "2:71", ["unknown word in `at`"]),
        ("vocab: {sources: old.txt, at: [{from: a, axis: 0}]}", "2:13", ["unknown word in `vocab`"]),
        ("vocab: {source: old.txt, target: new.txt, fill: x, at: [{from: a, axis: 0}]}", "2:12", ["`fill` cannot"]),
        ("vocab: {source: no.txt, target: new.txt, at: [{from: a, axis: 0}]}", "2:12", ["cannot read", "no.txt"]),
        ("map: {from: a, ops: [{vocab: {axis: 0, source: no.txt, target: new.txt}}]}", "2:26", ["cannot read"]),
        ("map: {from: a, ops: [{vocab: {axis: 0, source: {}, target: new.txt}}]}", "2:26", ["vocab: no `source`"]),
    ],
)
def test_a_mistake_in_a_rule_has_its_place(rule_file, rule, where, words):
    rule_file.write_text(f"rules:\n  - {rule}\n")
    with pytest.raises((RuleError, Problems)) as caught:
        read_rulebook(rule_file)
    message = str(caught.value)
    for word in [f"@ {rule_file}:{where}", *words]:
        assert word in message


def test_what_is_wrong_with_the_files_is_told_at_the_rule_all_at_once(rule_file, files):
    files("aba", b"c\n\n")
    with pytest.raises(Problems) as caught:
        read_rulebook(rule_file)
    assert [(problem.what, problem.where) for problem in caught.value.problems] == [
        ("a token twice", f"{rule_file}:3:7, {rule_file.parent}/old.txt:3"),
        ("empty lines in a vocabulary", f"{rule_file}:3:7, {rule_file.parent}/new.txt:2"),
    ]


def test_a_plan_applies_and_is_proven_as_long_as_the_files_are_what_they_were(rule_file, tmp_path):
    rule_file.write_text(RULE.replace('        - {from: "m/{n}/bias", to: ["m/{n}/b", "m/{n}/c"], axis: 0}\n', ""))
    old, new = floats(3, 2), floats(4, 2)
    source = write_tree(tmp_path / "source", {"m": {"embedding": old, "kernel": old.T}})
    target = write_tree(tmp_path / "target", {"m": {"embedding": new, "out": new.T}})
    plan = plan_between(source, target, read_rulebook(rule_file))
    apply_plan(plan, str(tmp_path / "out"))
    expected = np.concatenate([old[[2, 0, 1]], [[2, 3]]])
    found = read_all(str(tmp_path / "out"))
    assert found[key_of("m/embedding")].tolist() == expected.tolist()
    assert found[key_of("m/out")].tolist() == expected.T.tolist()
    assert verify_checkpoint(str(tmp_path / "out"), target, plan=plan).passed
    (tmp_path / "new.txt").write_text("a\nb\nc\nd\n")
    with pytest.raises(VocabularyError, match="changed since"):
        apply_plan(plan, str(tmp_path / "other"))
    report = verify_checkpoint(str(tmp_path / "out"), target, plan=plan)
    assert "the vocabulary has changed" in str(report)
