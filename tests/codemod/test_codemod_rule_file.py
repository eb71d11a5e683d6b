"""The part `code` of a rule file: renames in source code beside the rules for the checkpoint."""

import json
from importlib.resources import files

import jsonschema
import pytest
import yaml

from ckptmigrate.codemod.code_rules import CodeRename, format_code, parse_code
from ckptmigrate.errors import Problems, RuleError
from ckptmigrate.rules import format_rulebook, parse_rulebook

RENAMES = (
    CodeRename("attribute", "nets.Encoder", "enc", "encoder"),
    CodeRename("layer", "nets.Encoder", "hidden", "inner/hidden"),
    CodeRename("layer", "", "on", "off"),
    CodeRename("keyword", "", "model", "net"),
    CodeRename("class", "nets.Encoder", "Encoder", "TextEncoder"),
)
SCHEMA = json.loads(files("ckptmigrate.schemas").joinpath("rules-1.json").read_text(encoding="utf-8"))


def test_what_is_written_is_read_again_and_fits_the_schema():
    text = format_code(RENAMES)
    assert parse_code(text) == RENAMES
    jsonschema.validate(yaml.safe_load(text), SCHEMA)


def test_rules_and_renames_stand_in_one_file_and_each_reader_takes_its_own():
    rules = parse_rulebook("rules: [{rename: {from: a, to: b}}]")
    text = format_rulebook(rules) + format_code(RENAMES)
    assert [rule.describe() for rule in parse_rulebook(text)] == ["a -> b"]
    assert parse_code(text) == RENAMES
    assert parse_rulebook(format_code(RENAMES)) == ()


def test_the_reverse_of_a_reverse_is_the_rename():
    assert all(rename.reversed() != rename == rename.reversed().reversed() for rename in RENAMES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: []", "no renames of code"),
        ("", "no renames of code"),
        ("code: 3", "expected a list of renames"),
        ("code: [{rename_attribut: {from: a, to: b}}]", "expected one of rename_attribute"),
        ("code: [{rename_attribute: {from: a, to: b}}]", "expected `class`"),
        ("code: [{rename_keyword: {from: a, to: b, klass: c}}]", "got `klass`"),
        ("code: [{rename_keyword: {from: [a], to: b}}]", "expected a name"),
    ],
)
def test_what_is_no_rename_is_told_with_its_place(text, said):
    with pytest.raises((RuleError, Problems), match=said):
        parse_code(text)
    if "code" in text:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(text), SCHEMA)
