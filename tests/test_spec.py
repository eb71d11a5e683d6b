"""Patterns over paths: what they match, what they capture, and what they are filled with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptmigrate.errors import PathError
from ckptmigrate.spec import DType, Pattern, TensorSpec, escape_segment, format_path, unescape_segment

# Whatever a model may call its attributes and dict keys, the characters of escapes and patterns among them.
labels = st.text(st.sampled_from("ab0./S_ -é"), min_size=1, max_size=8)
words = st.text("abc0123456789_", min_size=1, max_size=5)


def match_segment(text, label, captures=()):
    ((segment,),) = Pattern.parse(text).chunks
    return segment.match(label, dict(captures))


def fill_segment(text, captures):
    ((segment,),) = Pattern.parse(text).chunks
    return segment.fill(captures)


@given(labels)
def test_unescaping_undoes_escaping(label):
    assert unescape_segment(escape_segment(label)) == label
    assert "/" not in escape_segment(label)


@given(st.lists(labels, min_size=1, max_size=4).map(tuple))
def test_a_path_as_text_is_the_pattern_of_that_path(path):
    assert Pattern.parse(format_path(path)).literal == path


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("a/b", ("a", "b")),
        ("a.Sb", ("a/b",)),
        ("a..b", ("a.b",)),
        ("a.b", ("a.b",)),
        ("a..Sb", ("a.Sb",)),
        (r"\*/\{n\}", ("*", "{n}")),
        (r"a\\b", ("a\\b",)),
        (".", ()),
        ("", ()),
    ],
)
def test_literal_patterns_are_the_labels_they_spell(text, literal):
    assert Pattern.parse(text).literal == literal


@pytest.mark.parametrize("text", ["*", "**", "a/*", "a/**", "{n}", "a{n:int}"])
def test_a_pattern_with_a_hole_is_no_single_path(text):
    assert Pattern.parse(text).literal is None


def test_full_names_are_asked_for_by_name():
    pattern = Pattern.parse("name:hidden/kernel")
    assert pattern.by_name
    assert pattern.literal == ("hidden", "kernel")
    assert not Pattern.parse("hidden/kernel").by_name


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a//b", "empty segment"),
        ("/a", "empty segment"),
        ("a/", "empty segment"),
        ("a**", "unreadable segment"),
        ("{n", "unreadable segment"),
        ("n}", "unreadable segment"),
        ("{}", "unreadable segment"),
        ("{1n}", "unreadable segment"),
        ("{n:float}", "unreadable segment"),
        ("{n+}", "unreadable segment"),
        ("name:", "empty pattern"),
    ],
)
def test_what_is_no_pattern_is_refused(text, what):
    with pytest.raises(PathError) as raised:
        Pattern.parse(text)
    assert raised.value.what == what
    assert raised.value.where == text


@given(st.text(st.sampled_from("ab*{}n:int+-1\\/.S"), max_size=12))
def test_any_text_is_a_pattern_or_a_path_error(text):
    try:
        assert Pattern.parse(text).text == text
    except PathError as error:
        assert str(error)  # noqa: PT017  # what is raised is one of the two answers


@pytest.mark.parametrize(
    ("text", "label", "captured"),
    [
        ("a", "a", {}),
        ("a", "ab", None),
        ("a.c", "abc", None),
        ("*", "anything/at all", {"*0": "anything/at all"}),
        ("layer_*", "layer_12", {"*0": "12"}),
        ("layer_*", "layer_", None),
        ("{n}", "x", {"n": "x"}),
        ("{n:int}", "12", {"n": "12"}),
        ("{n:int}", "0", {"n": "0"}),
        ("{n:int}", "012", None),
        ("{n:int}", "-1", None),
        ("{n:int}", "x", None),
        ("{n:int}", "²", None),
        ("{n:int}", "٣", None),
        ("conv{a:int}_{b:int}", "conv2_10", {"a": "2", "b": "10"}),
        ("{a}_{a}", "x_x", {"a": "x"}),
        ("{a}_{a}", "x_y", None),
        ("{a}", "line\nbreak", {"a": "line\nbreak"}),
    ],
)
def test_a_segment_matches_a_whole_label(text, label, captured):
    assert match_segment(text, label) == captured


def test_a_name_captured_before_has_to_be_captured_again_with_the_same_text():
    assert match_segment("{n}", "1", {"n": "1"}) == {"n": "1"}
    assert match_segment("{n}", "2", {"n": "1"}) is None


@pytest.mark.parametrize(
    ("text", "captures", "label"),
    [
        ("{n+1}", {"n": "9"}, "10"),
        ("{n-1}", {"n": "10"}, "9"),
        ("{n-1}", {"n": "0"}, None),
        ("{n+1}", {"n": "x"}, None),
        ("{n+1}", {"n": "01"}, None),
        ("layer_{n+12}", {"n": "0"}, "layer_12"),
        ("{n}", {"n": "x"}, "x"),
        ("*", {"*0": "x"}, "x"),
    ],
)
def test_holes_are_filled_with_what_was_captured(text, captures, label):
    assert fill_segment(text, captures) == label


@given(st.lists(st.one_of(words, st.just(None)), min_size=1, max_size=5), st.data())
def test_filling_with_what_a_label_captured_gives_the_label(parts, data):
    holes = iter("vwxyz")
    text = "".join(f"{{{next(holes)}}}" if part is None else part for part in parts)
    label = "".join(data.draw(words) if part is None else part for part in parts)
    captured = match_segment(text, label)
    assert captured is not None
    assert fill_segment(text, captured) == label


@given(st.integers(0, 10**6), st.integers(1, 100))
def test_shifts_add_and_take_away(number, by):
    assert fill_segment(f"{{n+{by}}}", {"n": str(number)}) == str(number + by)
    assert fill_segment(f"{{n-{by}}}", {"n": str(number + by)}) == str(number)


def test_stars_are_numbered_across_segments():
    assert [hole.name for hole in Pattern.parse("*/a*/**/{n}/*").holes] == ["*0", "*1", "n", "*2"]


@pytest.mark.parametrize(("text", "chunks"), [("**", 2), ("a/**", 2), ("**/a/**", 3), ("a/**/**/b", 3), ("a", 1)])
def test_double_stars_cut_a_pattern_into_chunks(text, chunks):
    assert len(Pattern.parse(text).chunks) == chunks


@pytest.mark.parametrize(
    ("label", "dtype"), [("float32", DType.FLOAT32), ("half", DType.FLOAT16), ("BFLOAT16", DType.BFLOAT16)]
)
def test_dtypes_go_by_the_names_people_use(label, dtype):
    assert DType.from_label(label) is dtype


def test_an_unknown_dtype_names_those_there_are():
    with pytest.raises(PathError, match="unknown dtype @ float9: expected one of float32"):
        DType.from_label("float9")


def test_a_spec_says_its_size():
    assert TensorSpec(DType.FLOAT32, (2, 3)).size_bytes == 24
    assert TensorSpec(DType.FLOAT32, ()).size_bytes == 4
    assert TensorSpec(DType.STRING, (2,)).size_bytes is None
    assert str(TensorSpec(DType.BFLOAT16, (2, 3))) == "bfloat16[2, 3]"
