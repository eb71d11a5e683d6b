"""Vocabulary files: one token a line, and which row of an old one is which row of a new one.

A file may have tens of millions of tokens, so they are never Python objects. They are found by hashes of 64
bits, and what has equal hashes is compared byte by byte: the answer is exact whatever the hashes are.
"""

from __future__ import annotations

import codecs
import functools
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ckptmigrate.errors import CkptMigrateError, VocabularyError, raise_all

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]

_CHUNK_BYTES = 1 << 24
_CHUNK_TOKENS = 1 << 20
_WORD_BYTES = 8
_WORD = 2**32
_NEW_LINE, _CARRIAGE_RETURN = b"\n\r"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    r"""A vocabulary file, as it was when it was read.

    Tokens are its lines, in UTF-8, each once and none empty. Lines end with ``\n`` or ``\r\n``; what else is in a
    line belongs to the token, spaces too. A byte order mark at the beginning does not.

    Attributes:
        path: Where it is; absolute.
        sha256: The digest of its bytes, in hexadecimal digits.
        count: How many tokens it has.
    """

    path: str
    sha256: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The tokens of a file: where in its bytes each begins, and how many bytes it has."""

    vocabulary: Vocabulary
    data: Array
    starts: Array
    lengths: Array


def compare_vocabularies(source: str | Path, target: str | Path) -> tuple[Vocabulary, Vocabulary, int]:
    """Read two vocabularies.

    Returns:
        Both, and how many tokens they have in common.

    Raises:
        VocabularyError: A file is no vocabulary, or they have nothing in common; `Problems` if several things are
            wrong.
    """
    problems: list[CkptMigrateError] = []
    old, index = _read_indexed(source, problems)
    new, _ = _read_indexed(target, problems)
    raise_all("the vocabularies cannot be used", problems)
    assert old is not None  # noqa: S101  # or there are problems
    assert new is not None  # noqa: S101  # likewise
    assert index is not None  # noqa: S101  # likewise
    kept = sum(int((rows >= 0).sum()) for rows in _rows(index, old, new))
    if not kept:
        raise VocabularyError(
            "the vocabularies have no token in common",
            f"{old.vocabulary.path}, {new.vocabulary.path}",
            expected="one token a line in both",
            hint="Look at the files: other columns, quotes or spaces make tokens differ",
        )
    return old.vocabulary, new.vocabulary, kept


def _read_indexed(path: str | Path, problems: list[CkptMigrateError]) -> tuple[_Tokens | None, _Index | None]:
    tokens = _read(str(Path(path).absolute()), problems)
    if tokens is None:
        return None, None
    index = _Index.of(tokens)
    problems.extend(_mistakes(tokens, index))
    return tokens, index


@functools.lru_cache(maxsize=1)  # the variables of one model have the same vocabulary
def rows_by_token(source: Vocabulary, target: Vocabulary) -> Array:
    """For each token of `target` its row in `source`, or -1.

    Returns:
        int64, of shape (target.count,). It is not written to.

    Raises:
        VocabularyError: A file is not what it was; `Problems` if both are not.
    """
    import numpy as np

    problems: list[CkptMigrateError] = []
    read = [_read(vocabulary.path, problems) for vocabulary in (source, target)]
    for tokens, vocabulary in zip(read, (source, target), strict=True):
        if tokens is not None and tokens.vocabulary != vocabulary:
            problems.append(_changed(vocabulary, tokens.vocabulary.sha256))
    raise_all("the vocabularies cannot be used", problems)
    (old, new) = (tokens for tokens in read if tokens is not None)
    rows = np.concatenate(list(_rows(_Index.of(old), old, new)))
    rows.flags.writeable = False
    return rows


def check_unchanged(vocabulary: Vocabulary) -> None:
    """Refuse a file that is not what it was.

    Raises:
        VocabularyError: Its bytes are others.
    """
    found = hashlib.sha256(_bytes_of(vocabulary.path)).hexdigest()
    if found != vocabulary.sha256:
        raise _changed(vocabulary, found)


def _changed(vocabulary: Vocabulary, found: str) -> VocabularyError:
    return VocabularyError(
        "the vocabulary has changed since the plan was made",
        vocabulary.path,
        expected=f"sha256 {vocabulary.sha256[:16]}... with {vocabulary.count} tokens (plan)",
        got=f"{found[:16]}... (the file)",
        hint="Make the plan again",
    )


def _bytes_of(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise VocabularyError(
            "cannot read the vocabulary", path, got=str(error.strerror), hint="Check the path"
        ) from error


def _read(path: str, problems: list[CkptMigrateError]) -> _Tokens | None:
    import numpy as np

    try:
        content = _bytes_of(path)
        _check_text(content, path)
    except VocabularyError as error:
        problems.append(error)
        return None
    data = np.frombuffer(content, np.uint8)
    places = [start + np.flatnonzero(data[start : start + _CHUNK_BYTES] == _NEW_LINE) for start in _starts(content)]
    if len(data) and data[-1] != _NEW_LINE:
        places.append(np.array([len(data)]))
    # Four bytes for a position, where that is enough.
    ends = np.concatenate(
        [np.empty(0, np.int64), *places], dtype=np.uint32 if len(data) < _WORD else np.int64, casting="unsafe"
    )
    del places
    starts = np.concatenate([np.zeros(1, ends.dtype), ends[:-1] + 1])[: len(ends)]
    if content.startswith(codecs.BOM_UTF8) and len(starts):
        starts[0] = len(codecs.BOM_UTF8)
    lengths = ends - starts
    lengths -= (lengths > 0) & (data[starts + lengths - (lengths > 0)] == _CARRIAGE_RETURN)
    return _Tokens(Vocabulary(path, hashlib.sha256(content).hexdigest(), len(ends)), data, starts, lengths)


def _starts(content: bytes) -> range:
    return range(0, max(len(content), 1), _CHUNK_BYTES)


def _check_text(content: bytes, path: str) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in _starts(content):
        chunk = content[start : start + _CHUNK_BYTES]
        try:
            decoder.decode(chunk, final=start + len(chunk) == len(content))
        except UnicodeDecodeError as error:
            # What the decoder kept of the chunk before comes before this one.
            at = start + error.start - (len(error.object) - len(chunk))
            raise VocabularyError(
                "not text",
                f"{path}:{content.count(_NEW_LINE, 0, at) + 1}",
                expected="UTF-8",
                got=f"the byte {content[at]:#04x}",
                hint="Save the file as UTF-8",
            ) from error


def _mistakes(tokens: _Tokens, index: _Index) -> Iterator[CkptMigrateError]:
    import numpy as np

    path = tokens.vocabulary.path
    if not tokens.vocabulary.count:
        yield VocabularyError("an empty vocabulary", path, expected="one token a line")
    (empty,) = np.nonzero(tokens.lengths == 0)
    if len(empty):
        yield VocabularyError(
            "empty lines in a vocabulary",
            f"{path}:{empty[0] + 1}",
            expected="one token a line",
            got=f"{len(empty)} without one",
            hint="Rows before the first token, such as padding, are counted by `offset`",
        )
    repeated = np.flatnonzero(index.hashes[1:] == index.hashes[:-1])
    repeated = repeated[tokens.lengths[index.lines[repeated]] > 0]
    if len(repeated):
        again = index.lines[repeated + 1]
        first, later = int(index.lines[repeated[again.argmin()]]), int(again.min())
        start = tokens.starts[first]
        token = bytes(tokens.data[start : start + tokens.lengths[first]]).decode()
        more = f", and {len(repeated) - 1} more are there again" if len(repeated) > 1 else ""
        yield VocabularyError(
            "a token twice",
            f"{path}:{later + 1}",
            expected="each token once",
            got=f"`{token}` in the lines {first + 1} and {later + 1}{more}",
            hint="Remove one of them, and say which row is meant",
        )


@dataclass(frozen=True, slots=True)
class _Index:
    """The hashes of a file's tokens in order, and the line of each; equal tokens, and no others, have equal hashes."""

    salt: int
    hashes: Array
    lines: Array

    @classmethod
    def of(cls, tokens: _Tokens) -> _Index:
        """Hash with one salt after another, until no two different tokens have one hash: nearly always at once."""
        import numpy as np

        for salt in itertools.count():
            chunks = _chunks(tokens.vocabulary.count)
            hashes = np.concatenate([np.empty(0, np.uint64), *(_hashes(tokens, salt, chunk) for chunk in chunks)])
            lines = np.argsort(hashes, kind="stable")
            hashes = hashes[lines]
            alike = np.flatnonzero(hashes[1:] == hashes[:-1])
            if _are_equal(tokens, lines[alike], tokens, lines[alike + 1]).all():
                return cls(salt, hashes, lines)
        raise AssertionError


def _rows(index: _Index, source: _Tokens, target: _Tokens) -> Iterator[Array]:
    """For each token of the target its line in the source, or -1; some at a time."""
    import numpy as np

    for chunk in _chunks(target.vocabulary.count):
        hashes = _hashes(target, index.salt, chunk)
        order = np.argsort(hashes)  # what is looked up in order is near what was looked up before
        places = np.searchsorted(index.hashes, hashes[order])
        places[places == len(index.hashes)] = 0
        hits = index.hashes[places] == hashes[order]
        found, origins = order[hits], index.lines[places[hits]]
        # The source has one token with this hash: the target's is this one, or not there.
        equal = _are_equal(source, origins, target, chunk.start + found)
        rows = np.full(len(hashes), -1, np.int64)
        rows[found[equal]] = origins[equal]
        yield rows


def _hashes(tokens: _Tokens, salt: int, chunk: slice) -> Array:
    """64 bits of each token, as uint64: its length and its words, mixed as splitmix64 mixes its state."""
    import numpy as np

    hashes = np.zeros(chunk.stop - chunk.start, np.uint64)
    for length, places in _by_length(tokens.lengths[chunk]):
        mixed = np.full(len(places), length + (salt << 32), np.uint64)
        for word in _words(tokens, length, chunk.start + places).T:
            mixed ^= word
            for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
                mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        hashes[places] = mixed
    return hashes


def _are_equal(one: _Tokens, lines: Array, other: _Tokens, other_lines: Array) -> Array:
    """Whether tokens have the same bytes, pair by pair."""
    import numpy as np

    equal: Array = one.lengths[lines] == other.lengths[other_lines]
    for chunk in _chunks(len(lines)):
        places = chunk.start + np.flatnonzero(equal[chunk])
        for length, group in _by_length(one.lengths[lines[places]]):
            at = places[group]
            equal[at] = (_words(one, length, lines[at]) == _words(other, length, other_lines[at])).all(1)
    return equal


def _by_length(lengths: Array) -> Iterator[tuple[int, Array]]:
    """Each length that there is, and where it is."""
    import numpy as np

    order = np.argsort(lengths, kind="stable")
    found, firsts = np.unique(lengths[order], return_index=True)
    yield from zip(found.tolist(), np.split(order, firsts[1:]), strict=True)


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK_TOKENS, count)) for start in range(0, count, _CHUNK_TOKENS))


def _words(tokens: _Tokens, length: int, lines: Array) -> Array:
    """Tokens of one length as words of 8 bytes, the last one filled up with zeros: uint64, a row for each token."""
    import numpy as np

    matrix = np.zeros((len(lines), max(1, -(-length // _WORD_BYTES)) * _WORD_BYTES), np.uint8)
    starts = tokens.starts[lines]
    if len(lines) > length:
        for column in range(length):
            matrix[:, column] = tokens.data[starts + column]
    else:
        for row, start in zip(matrix, starts.tolist(), strict=True):
            row[:length] = tokens.data[start : start + length]
    return matrix.view(np.uint64)
