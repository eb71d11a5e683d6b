"""The words of paths and names, and how much two of them say the same."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

Tokens = frozenset[str]

_WORDS = re.compile(r"(?:[A-Z]+(?![a-z])|[A-Z]?[a-z]+)(?:\d+[a-z])?|\d+")

_SAME = {
    "q": ("query",),
    "wq": ("query",),
    "k": ("key",),
    "wk": ("key",),
    "v": ("value",),
    "wv": ("value",),
    "o": ("output",),
    "wo": ("output",),
    "out": ("output",),
    "attn": ("attention",),
    "att": ("attention",),
    "sa": ("self", "attention"),
    "ca": ("cross", "attention"),
    "mha": ("attention",),
    "ffn": ("feedforward",),
    "ff": ("feedforward",),
    "mlp": ("feedforward",),
    "ln": ("norm",),
    "layernorm": ("norm",),
    "rmsnorm": ("norm",),
    "normalization": ("norm",),
    "bn": ("norm",),
    "batchnorm": ("norm",),
    "wte": ("token", "embedding"),
    "wpe": ("position", "embedding"),
    "emb": ("embedding",),
    "embed": ("embedding",),
    "embeddings": ("embedding",),
    "tokens": ("token",),
    "word": ("token",),
    "words": ("token",),
    "segment": ("type",),
    "pos": ("position",),
    "positional": ("position",),
    "positions": ("position",),
    "proj": ("projection",),
    "project": ("projection",),
    "enc": ("encoder",),
    "dec": ("decoder",),
    "fc": ("dense",),
    "linear": ("dense",),
    "lin": ("dense",),
    "conv2d": ("conv",),
    "convolution": ("conv",),
    "pool": ("pooler",),
    "pooled": ("pooler",),
    "cls": ("classifier",),
    "classification": ("classifier",),
    "logits": ("classifier",),
}
"""Abbreviations, and words that people use for one thing."""

_EMPTY = frozenset({"model", "layer", "layers", "operations", "with", "weights", "tf", "variable"})
"""Words that tell nothing apart."""


_KINDS = frozenset(
    """
    activation add attention batch bidirectional block cell conv dense depthwise dropout embedding flatten gru input
    kernel linear lstm mlp net norm output rnn separable sequential stack unit
    """.split()  # noqa: SIM905  # a list of this many strings is no easier to read
)
"""Words that say what kind of thing something is: many are of one kind, so each says half as much as another."""


def weight_of(words: Iterable[str]) -> float:
    """How much it says that two things share these words."""
    return sum(0.5 if word in _KINDS else 1.0 for word in words)


def tokens_of(labels: Iterable[str]) -> Tokens:
    """The words of some labels, lower case, abbreviations spelled out; numbers are none.

    What follows ``post`` or ``pre`` says where something is and not what it is: ``post_attention_norm`` is no
    norm of attention, so both together are one word.
    """
    return frozenset().union(*map(_tokens_of_label, labels))


@lru_cache(maxsize=100_000)
def _tokens_of_label(label: str) -> Tokens:
    found: set[str] = set()
    words = [word.lower() for word in _WORDS.findall(label.replace("feed_forward", "feedforward"))]
    place = ""
    for word in words:
        if word in ("post", "pre", "after", "before"):
            place = word
            continue
        if place:
            found.add(f"{place} {word}")
            place = ""
            continue
        if word.isdecimal() or word in _EMPTY:
            continue
        found.update(_SAME.get(word, (word,)))
    return frozenset(found)
