"""What is inferred of a real history: KerasNLP 0.5.2 and 0.8.2, checked by hand against their sources.

`$CKPTMIGRATE_KERAS_NLP` names a directory with both wheels unpacked (``keras_nlp-0.5.2``, ``keras_nlp-0.8.2``);
the test is skipped without it. None of their source is here.
"""

import os
from pathlib import Path

import pytest

from ckptmigrate.codemod.inference.facts import Source
from ckptmigrate.codemod.inference.infer import infer
from ckptmigrate.codemod.source.project import Project

# Every attribute that holds a layer and has another name in 0.8.2.
RENAMED = {
    ("MaskedLMHead", "_dense", "_intermediate_dense"),
    ("MaskedLMHead", "_layer_norm", "_intermediate_layer_norm"),
    ("TransformerEncoder", "_self_attention_layernorm", "_self_attention_layer_norm"),
    ("TransformerEncoder", "_feedforward_layernorm", "_feedforward_layer_norm"),
    ("TransformerDecoder", "_self_attention_layernorm", "_self_attention_layer_norm"),
    ("TransformerDecoder", "_cross_attention_layernorm", "_cross_attention_layer_norm"),
    ("TransformerDecoder", "_feedforward_layernorm", "_feedforward_layer_norm"),
    ("DisentangledAttentionEncoder", "_self_attention_layernorm", "_self_attention_layer_norm"),
    ("DisentangledAttentionEncoder", "_feedforward_layernorm", "_feedforward_layer_norm"),
    ("T5TransformerLayer", "self_attention_layernorm", "self_attention_layer_norm"),
    ("T5TransformerLayer", "cross_attention_layernorm", "cross_attention_layer_norm"),
    # In 0.5.2 the base class makes them, in 0.8.2 the class itself.
    ("WhisperEncoder", "_self_attention_layernorm", "_self_attention_layer_norm"),
    ("WhisperEncoder", "_feedforward_layernorm", "_feedforward_layer_norm"),
    ("WhisperDecoder", "_self_attention_layernorm", "_self_attention_layer_norm"),
    ("WhisperDecoder", "_cross_attention_layernorm", "_cross_attention_layer_norm"),
    ("WhisperDecoder", "_feedforward_layernorm", "_feedforward_layer_norm"),
}

# Classes that went from `layers` to `layers.modeling` or `layers.preprocessing`.
MOVED = {
    "FNetEncoder",
    "MaskedLMHead",
    "MaskedLMMaskGenerator",
    "PositionEmbedding",
    "RandomDeletion",
    "RandomSwap",
    "TokenAndPositionEmbedding",
    "TransformerDecoder",
    "TransformerEncoder",
}


@pytest.fixture(scope="module")
def inferred():
    named = os.environ.get("CKPTMIGRATE_KERAS_NLP")
    folders = [Path(named or ".", f"keras_nlp-{version}") for version in ("0.5.2", "0.8.2")]
    if named is None or not all(folder.is_dir() for folder in folders):
        pytest.skip("no unpacked wheels of KerasNLP")
    return infer(*(Source.read(Project.read([folder])) for folder in folders))


def test_every_renamed_layer_is_found_and_nothing_else(inferred):
    assert {
        (move.new_owner.rpartition(".")[2], ".".join(move.old), ".".join(move.new)) for move in inferred.changes
    } == RENAMED


def test_classes_that_moved_are_themselves(inferred):
    assert {pair.new.rpartition(".")[2] for pair in inferred.renamed_classes} == MOVED


def test_every_attribute_of_the_old_release_has_a_place_in_the_new_one(inferred):
    said = {(move.old_owner, move.old[0]) for move in inferred.moves}
    for pair in inferred.classes:
        held = inferred.old.facts[pair.old].items
        assert not [item.label for item in held if (pair.old, item.label) not in said], pair.old
