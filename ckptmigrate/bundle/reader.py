"""A bundle that is read: its entries, verified when it is opened, and its values, by ranges when they are asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from ckptmigrate.bundle.assemble import assemble, read_as
from ckptmigrate.bundle.checksum import extend_crc, mask_crc
from ckptmigrate.bundle.entry import HEADER_KEY, Entry, EntryDecoder, decode_header, decode_key
from ckptmigrate.bundle.locate import (
    data_path,
    explain_missing_index,
    index_path,
    refuse_missing_shards,
    refuse_pointer,
)
from ckptmigrate.bundle.ranges import PIECE_BYTES, DataFile, Reads, read_box
from ckptmigrate.bundle.slices import (
    SLICE_KEY_PREFIX,
    Box,
    SliceSpec,
    decode_slice_key,
    format_slice,
    slice_box,
)
from ckptmigrate.bundle.strings import StringLayout, decode_strings, string_crc, variant_crc
from ckptmigrate.bundle.table import read_table
from ckptmigrate.errors import CkptMigrateError, CorruptBundleError, NotACheckpointError, OperationError, raise_all
from ckptmigrate.spec import OBJECT_GRAPH_KEY, DType, Key, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MAX_PROBLEMS = 20

SliceKey = tuple[Key, SliceSpec]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A checkpoint on disk, open for reading.

    Its index is read and verified whole by `open`; data files are opened when a value is first asked for. It can
    be used in a ``with`` statement to close them early.

    Attributes:
        prefix: The checkpoint's prefix: its files are ``PREFIX.index`` and ``PREFIX.data-?????-of-?????``.
        num_shards: How many data files there are.
        producer_version: The version of the format that its writer had.
        entries: Every tensor, in the order of its key's bytes, which is that of the file.
        slice_entries: The stored slices of the partitioned tensors, by tensor and slice.
        shard_paths: The data files.
        shard_sizes: Their sizes in bytes.
    """

    prefix: str
    num_shards: int
    producer_version: int
    entries: Mapping[Key, Entry]
    slice_entries: Mapping[SliceKey, Entry]
    shard_paths: tuple[str, ...]
    shard_sizes: tuple[int, ...]
    _index_digest: bytes = field(repr=False)
    _shards: dict[int, DataFile] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, prefix: str | os.PathLike[str]) -> Bundle:
        """Read and verify a bundle's index, and that its data files have the sizes that it needs.

        Values are not read; their checksums are verified when they are.

        Args:
            prefix: The checkpoint's prefix; see `ckptmigrate.bundle.find_prefix` for what else people name.

        Raises:
            NotACheckpointError: There is no index, or it or a data file is missing or a stand-in for the real one.
            CorruptBundleError: The files contradict each other, their checksums, or the format.
            Problems: Several of the above, found in one pass.
        """
        prefix = os.fspath(prefix)
        path = index_path(prefix)
        try:
            with Path(path).open("rb") as file:
                data = file.read()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise explain_missing_index(prefix) from None
        except ValueError as error:  # a null byte, which only a file that names a checkpoint can have in it
            raise NotACheckpointError(f"not a path ({error})", repr(prefix)) from error
        except OSError as error:
            raise NotACheckpointError(f"unreadable index ({error.strerror})", path) from error
        refuse_pointer(path, data)
        return cls._from_index(prefix, path, data)

    @classmethod
    def _from_index(cls, prefix: str, path: str, data: bytes) -> Bundle:
        records = read_table(data, path)
        first = next(records, None)
        if first is None or first[0] != HEADER_KEY:
            raise CorruptBundleError(
                "no header",
                path,
                expected="a first record with an empty key",
                got="an empty table" if first is None else f"{first[0]!r}",
            )
        header = decode_header(first[1], f"{path}, header")
        problems: list[CkptMigrateError] = []
        entries, slice_entries = _decode_all(records, path, problems)
        _raise_gathered(path, problems)
        paths = tuple(data_path(prefix, shard, header.num_shards) for shard in range(header.num_shards))
        sizes = refuse_missing_shards(prefix, paths)
        problems += _find_misplaced(path, entries, slice_entries, sizes)
        problems += _find_wrong_slices(path, entries, slice_entries)
        _raise_gathered(path, problems)
        return cls(
            prefix=prefix,
            num_shards=header.num_shards,
            producer_version=header.producer_version,
            entries=MappingProxyType(entries),
            slice_entries=MappingProxyType(slice_entries),
            shard_paths=paths,
            shard_sizes=sizes,
            _index_digest=hashlib.sha256(data).digest(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the data files; asking for a value opens them again."""
        self._shards.clear()

    def stored_bytes(self, key: Key | Entry) -> int:
        """How many bytes a tensor takes in the data files, which for a partitioned one are those of its slices."""
        entry = self._entry(key)
        return entry.size_bytes + sum(self.slice_entries[entry.key, piece].size_bytes for piece in entry.slices)

    def raw(self, key: Key | Entry) -> memoryview:
        """A tensor's bytes as stored, all of them in memory. Their checksum is not verified.

        Args:
            key: A tensor's key, or an entry of this bundle (of a slice, for example).

        Raises:
            KeyError: There is no such tensor.
            OperationError: The tensor is partitioned: only its slices have bytes.
        """
        return memoryview(b"".join(self.pieces(key, PIECE_BYTES)))

    def pieces(self, key: Key | Entry, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
        """A tensor's bytes as stored, a piece at a time. Their checksum is not verified.

        Args:
            key: A tensor's key, or an entry of this bundle (of a slice, for example).
            piece_bytes: How many bytes a piece has at most.

        Raises:
            KeyError: There is no such tensor.
            OperationError: The tensor is partitioned: only its slices have bytes.
        """
        entry = self._entry(key)
        if entry.slices:
            raise OperationError(
                "partitioned tensor has no bytes of its own",
                self._where(entry),
                hint="Take its slices from `slice_entries`, or its values with `read`",
            )
        if not entry.size_bytes:
            return iter(())
        return self.data_file(entry.shard).pieces(entry.offset, entry.size_bytes, piece_bytes)

    def read_raw(self, key: Key | Entry) -> memoryview:
        """A tensor's bytes as stored, as `raw` gives them, after their checksum is verified.

        Raises:
            CorruptBundleError: The checksum does not match.
        """
        entry = self._entry(key)
        view = self.raw(entry)
        self._check_crc(entry, self._crc_of(entry, [view]))
        return view

    def verify_crc(self, key: Key | Entry) -> None:
        """Verify a tensor's checksum (that of each of its slices, if it is partitioned).

        Args:
            key: A tensor's key, or an entry of this bundle.

        Raises:
            KeyError: There is no such tensor.
            CorruptBundleError: The checksum does not match.
        """
        entry = self._entry(key)
        if entry.slices:
            for piece in entry.slices:
                self.verify_crc(self.slice_entries[entry.key, piece])
            return
        is_plain = entry.spec.dtype.itemsize_bytes is not None
        self._check_crc(entry, self._crc_of(entry, self.pieces(entry) if is_plain else [self.raw(entry)]))

    def _crc_of(self, entry: Entry, pieces: Iterable[bytes | memoryview]) -> int:
        """The CRC32C (not masked) of a tensor as its entry has it. The bytes of strings and variants come at once."""
        crc = 0
        for piece in pieces:
            # A reader leaves an empty tensor alone, so one without even a checksum of no lengths is sound.
            if not len(piece):
                continue
            if entry.spec.dtype is DType.STRING:
                return string_crc(memoryview(piece), entry.spec.num_elements, self._where(entry))
            if entry.spec.dtype is DType.VARIANT:
                return variant_crc(memoryview(piece), entry.spec.num_elements, self._where(entry))
            crc = extend_crc(crc, piece)
        return crc

    def _check_crc(self, entry: Entry, crc: int) -> None:
        if mask_crc(crc) != entry.crc32c:
            raise CorruptBundleError(
                "checksum mismatch",
                self._where(entry),
                expected=f"{entry.crc32c:#010x} (index)",
                got=f"{mask_crc(crc):#010x} ({self.shard_paths[entry.shard]} from byte {entry.offset})",
                hint="Copy the checkpoint again from where it was written, or use an earlier one",
            )

    def read(self, key: Key | Entry) -> npt.NDArray[Any]:
        """A tensor's values, after their checksum is verified.

        Returns:
            A new array of the tensor's shape. Strings are objects of type ``bytes``; quantized types are the integers
            that they are stored in; bfloat16, float8, int4 and their like are types of ``ml_dtypes``.

        Raises:
            KeyError: There is no such tensor.
            CorruptBundleError: The checksum does not match, or slices do not cover a partitioned tensor.
            OperationError: A variant or a resource has no values: it can only be moved, as the bytes of `read_raw`.
        """
        entry = self._entry(key)
        self._refuse_opaque(entry)
        self.verify_crc(entry)
        return self.read_box(entry, tuple((0, size) for size in entry.spec.shape))

    def read_box(
        self, key: Key | Entry, box: Box, shape: tuple[int, ...] | None = None, reads: Reads | None = None
    ) -> npt.NDArray[Any]:
        """The values of a box of a tensor. Only what is needed is read, and no checksum is verified.

        Args:
            key: A tensor's key, or an entry of this bundle.
            box: Per axis the first index, and the index after the last.
            shape: Another shape of as many elements, that the values in row-major order are seen in and the box is
                of. Of a partitioned tensor, too, no more is put together than holds the box.
            reads: Takes note of what was read, if given, but not of strings.

        Returns:
            A new array of the box's shape; for the types, see `read`.

        Raises:
            KeyError: There is no such tensor.
            CorruptBundleError: The strings do not fit their lengths, or slices do not cover a partitioned tensor.
            OperationError: The box is not in the shape, the shape does not fit the tensor, or there are no values.
        """
        import numpy as np

        entry = self._entry(key)
        self._refuse_opaque(entry)
        seen = TensorSpec(entry.spec.dtype, entry.spec.shape if shape is None else tuple(shape))
        if seen.num_elements != entry.spec.num_elements or min(seen.shape, default=0) < 0:
            raise OperationError(
                "shape of another size",
                self._where(entry),
                expected=f"{entry.spec.num_elements} elements ({entry.spec})",
                got=f"{list(seen.shape)} (asked for)",
            )
        if len(box) != len(seen.shape) or not all(
            0 <= start <= stop <= size for (start, stop), size in zip(box, seen.shape, strict=True)
        ):
            raise OperationError(
                "box out of the tensor", self._where(entry), expected=f"one in {seen}", got=f"{list(box)} (asked for)"
            )
        if entry.slices:
            return self._read_sliced(entry, box, seen.shape, reads)
        if entry.spec.dtype is not DType.STRING:
            values = np.empty(tuple(stop - start for start, stop in box), numpy_dtype(entry.spec.dtype))
            if values.size:
                runs = read_box(self.data_file(entry.shard), entry.offset, box, seen.shape, values)
                if reads is not None:
                    reads.note((entry.shard, entry.offset), values, runs)
            return values
        view = self.raw(entry)
        index = tuple(slice(start, stop) for start, stop in box)
        starts = StringLayout(view, seen.num_elements, self._where(entry)).starts
        numbers = np.arange(seen.num_elements).reshape(seen.shape)[index]
        strings = np.empty(numbers.shape, object)
        # Not by assigning a list: numpy would turn a list of bytes into its own fixed-width type first.
        strings.reshape(-1)[:] = [bytes(view[starts[i] : starts[i + 1]]) for i in numbers.reshape(-1).tolist()] or None
        return strings

    def object_graph_bytes(self) -> bytes | None:
        """The serialized ``TrackableObjectGraph``, after its checksum is verified; None if the bundle has none.

        Raises:
            CorruptBundleError: The graph's checksum does not match, or it is not one string.
        """
        entry = self.entries.get(OBJECT_GRAPH_KEY)
        if entry is None:
            return None
        if entry.spec != TensorSpec(DType.STRING, ()) or entry.slices:
            raise CorruptBundleError(
                "object graph is not one string", self._where(entry), expected="string[]", got=f"{entry.spec} (entry)"
            )
        return decode_strings(self.read_raw(entry), 1, self._where(entry))[0]

    @cached_property
    def fingerprint(self) -> str:
        """``sha256:`` and a digest of the index, the data files' sizes, and the object graph.

        The index has the checksum of every tensor, so a bundle with other values has another fingerprint.
        """
        digest = hashlib.sha256(self._index_digest)
        for size in self.shard_sizes:
            digest.update(size.to_bytes(8, "little"))
        digest.update(self.object_graph_bytes() or b"")
        return f"sha256:{digest.hexdigest()}"

    def fingerprint_now(self) -> str:
        """The fingerprint that the files have now: another one, if they were changed since the bundle was opened.

        Raises:
            CkptMigrateError: What is there now cannot be read.
            OSError: A file is missing.
        """
        digest = hashlib.sha256(Path(index_path(self.prefix)).read_bytes()).digest()
        sizes = tuple(Path(path).stat().st_size for path in self.shard_paths)
        return replace(self, shard_sizes=sizes, _index_digest=digest, _shards={}).fingerprint

    def _entry(self, key: Key | Entry) -> Entry:
        return key if isinstance(key, Entry) else self.entries[key]

    def _where(self, entry: Entry) -> str:
        return f"{self.prefix}, key {entry.key!r}"

    def _refuse_opaque(self, entry: Entry) -> None:
        if entry.spec.dtype in (DType.RESOURCE, DType.VARIANT):
            raise OperationError(
                f"a {entry.spec.dtype.label} has no values to read",
                self._where(entry),
                hint="It can be moved and renamed, which keeps its bytes, but no operation can change it",
            )

    def data_file(self, number: int) -> DataFile:
        """A data file, to read ranges of.

        Raises:
            NotACheckpointError: It cannot be read.
            CorruptBundleError: It has become shorter since the bundle was opened.
        """
        file = self._shards.get(number)
        if file is None:
            # Two threads may both get here; either's will do.
            file = self._shards.setdefault(number, DataFile(self.shard_paths[number], self.shard_sizes[number]))
        return file

    def _read_sliced(self, entry: Entry, box: Box, shape: tuple[int, ...], reads: Reads | None) -> npt.NDArray[Any]:
        import numpy as np

        dtype = np.dtype(object) if entry.spec.dtype is DType.STRING else numpy_dtype(entry.spec.dtype)

        def read(own: Box) -> npt.NDArray[Any]:
            return assemble(entry.spec, entry.slices, own, dtype=dtype, read=read_slice, where=self._where(entry))

        def read_slice(piece: SliceSpec, inner: Box) -> npt.NDArray[Any]:
            return self.read_box(self.slice_entries[entry.key, piece], inner, reads=reads)

        return read_as(box, shape, entry.spec.shape, read)


def numpy_dtype(dtype: DType) -> np.dtype[Any]:
    """The numpy or ``ml_dtypes`` type with the bytes of a dtype.

    Raises:
        OperationError: The dtype has no elements of a fixed size.
    """
    import numpy as np

    name = dtype.numpy_name
    if name is None:
        raise OperationError("dtype without elements of a fixed size", dtype.label)
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

    if not hasattr(ml_dtypes, name):
        raise OperationError("dtype unknown to this ml_dtypes", dtype.label, hint="Install a newer ml_dtypes")
    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
    return found


def _decode_all(
    records: Iterator[tuple[bytes, bytes]], path: str, problems: list[CkptMigrateError]
) -> tuple[dict[Key, Entry], dict[SliceKey, Entry]]:
    entries: dict[Key, Entry] = {}
    slice_entries: dict[SliceKey, Entry] = {}
    decode = EntryDecoder().decode
    for raw_key, value in records:
        try:
            if raw_key.startswith(SLICE_KEY_PREFIX):
                try:
                    name, spec = decode_slice_key(raw_key)
                except ValueError as error:
                    raise CorruptBundleError(f"unreadable slice key: {error}", f"{path}, key {raw_key!r}") from None
                key = decode_key(name)
                slice_entries[key, spec] = decode(key, value, path, spec)
            else:
                key = decode_key(raw_key)
                entries[key] = decode(key, value, path)
        except CorruptBundleError as problem:
            problems.append(problem)
    return entries, slice_entries


def _raise_gathered(path: str, problems: list[CkptMigrateError]) -> None:
    if len(problems) > _MAX_PROBLEMS:
        more = len(problems) - _MAX_PROBLEMS
        problems = [*problems[:_MAX_PROBLEMS], CorruptBundleError(f"and {more} more problems like these", path)]
    raise_all(f"{path} is not a sound index", problems)


def _find_misplaced(
    path: str, entries: Mapping[Key, Entry], slice_entries: Mapping[SliceKey, Entry], sizes: tuple[int, ...]
) -> Iterator[CkptMigrateError]:
    """Entries whose bytes are not in their data file, or partly those of another entry."""
    by_shard: list[list[Entry]] = [[] for _ in sizes]
    for group in (entries.values(), slice_entries.values()):
        for entry in group:
            if entry.slices:
                continue
            if entry.shard >= len(sizes):
                yield CorruptBundleError(
                    "shard out of range",
                    f"{path}, key {entry.key!r}",
                    expected=f"0 to {len(sizes) - 1} (header)",
                    got=f"{entry.shard} (entry)",
                )
            elif entry.offset + entry.size_bytes > sizes[entry.shard]:
                yield CorruptBundleError(
                    "bytes past the end of the data file",
                    f"{path}, key {entry.key!r}",
                    expected=f"an end at {sizes[entry.shard]} or before (size of shard {entry.shard})",
                    got=f"{entry.offset + entry.size_bytes} (entry)",
                    hint="The data file is cut short, or of another checkpoint: copy both again",
                )
            elif entry.size_bytes:
                by_shard[entry.shard].append(entry)
    for shard_entries in by_shard:
        yield from _find_overlaps(path, shard_entries)


def _find_overlaps(path: str, entries: list[Entry]) -> Iterator[CkptMigrateError]:
    entries.sort(key=lambda entry: (entry.offset, entry.size_bytes))
    end = 0
    last: Entry | None = None
    for entry in entries:
        if entry.offset < end and last is not None:
            # Two keys may share one tensor's bytes; half of another's nobody has use for.
            is_shared = (entry.offset, entry.size_bytes, entry.spec) == (last.offset, last.size_bytes, last.spec)
            if not is_shared:
                yield CorruptBundleError(
                    "tensors overlap in the data file",
                    f"{path}, key {entry.key!r}",
                    expected=f"a start at {end} or later (end of {last.key!r})",
                    got=f"{entry.offset} (entry)",
                )
        if entry.offset + entry.size_bytes > end:
            end = entry.offset + entry.size_bytes
            last = entry


def _find_wrong_slices(
    path: str, entries: Mapping[Key, Entry], slice_entries: Mapping[SliceKey, Entry]
) -> Iterator[CkptMigrateError]:
    """Slices that are listed but not stored, stored but not listed, or not what their tensor says."""
    listed: set[SliceKey] = set()
    for key, entry in entries.items():
        for piece in entry.slices:
            where = f"{path}, key {key!r}, slice {format_slice(piece)}"
            try:
                box = slice_box(piece, entry.spec.shape)
            except ValueError as error:
                yield CorruptBundleError(f"slice out of its tensor: {error}", where)
                continue
            if (key, piece) in listed:
                yield CorruptBundleError("slice listed twice", where)
            listed.add((key, piece))
            stored = slice_entries.get((key, piece))
            if stored is None:
                yield CorruptBundleError("slice listed but not stored", where)
                continue
            expected = TensorSpec(entry.spec.dtype, tuple(stop - start for start, stop in box))
            if stored.spec != expected or stored.slices:
                yield CorruptBundleError(
                    "slice does not fit its tensor",
                    where,
                    expected=f"{expected} (from {entry.spec})",
                    got=f"{stored.spec} (the slice's entry)",
                )
    for key, piece in slice_entries:
        if (key, piece) not in listed:
            yield CorruptBundleError("slice stored but not listed", f"{path}, key {key!r}, slice {format_slice(piece)}")
