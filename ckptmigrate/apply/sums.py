"""What the tasks of a plan say, added up: the checksums of what was written and of what was read, and how much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ckptmigrate.apply.layout import Kept, Side
from ckptmigrate.apply.receipt import NotFinite
from ckptmigrate.apply.tasks import Cut, Placed, specs_of
from ckptmigrate.apply.worker import Done
from ckptmigrate.bundle import Bundle, Entry, mask_crc, unmask_crc
from ckptmigrate.errors import CorruptBundleError
from ckptmigrate.matching import Step
from ckptmigrate.ops import needs_template

_Bundles = Mapping[Side, Bundle]


class Sums:
    """What was said so far.

    Attributes:
        read_bytes: How much was read.
        written_bytes: How much was written.
        kept_bytes: How much an earlier run had written.
    """

    __slots__ = ("_cut", "_not_finite", "_reads", "_written", "kept_bytes", "read_bytes", "written_bytes")

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._written: dict[int, int] = {}
        self._reads: dict[tuple[Side, int, int], int | None] = {}
        self._not_finite: dict[int, tuple[int, int]] = {}
        self.read_bytes = self.written_bytes = self.kept_bytes = 0

    def add(self, done: Done) -> None:
        """Add what was said of a task."""
        parts = self._cut.tasks[done.task].parts
        for part, crc in zip(parts, done.crcs, strict=True):
            self._written[part.tensor] = self._written.get(part.tensor, 0) ^ crc
        for number, (nan, inf) in done.not_finite.items():
            tensor = parts[number].tensor
            before = self._not_finite.get(tensor, (0, 0))
            self._not_finite[tensor] = before[0] + nan, before[1] + inf
        for side, shard, offset, share in done.reads:
            known = self._reads.get((side, shard, offset), 0)
            both = None if share is None or known is None else known ^ share
            self._reads[side, shard, offset] = both
        if done.is_kept:
            self.kept_bytes += done.written_bytes
        else:
            self.read_bytes += done.read_bytes
            self.written_bytes += done.written_bytes

    def entries(self) -> Iterator[tuple[Placed, Entry]]:
        """The tensors in the data files that were written, each with its entry."""
        for number, placed in enumerate(self._cut.tensors):
            crc = mask_crc(self._written.get(number, 0)) if placed.crc32c is None else placed.crc32c
            entry = Entry(placed.key, placed.spec, placed.shard, placed.offset, placed.size_bytes, crc, placed.slices)
            yield placed, entry

    def not_finite(self) -> dict[str, NotFinite]:
        """Of the tensors that were computed, those with NaN or infinity, by key."""
        found: dict[str, NotFinite] = {}
        for number, (nan, inf) in self._not_finite.items():
            key = self._cut.tensors[number].key
            before = found.get(key, NotFinite(0, 0))
            found[key] = NotFinite(before.nan + nan, before.inf + inf)
        return dict(sorted(found.items()))

    def check(self, made: Iterable[Step], bundles: _Bundles) -> None:
        """Check that all that was read is sound. What the checksums of what was read do not tell is read once more.

        Args:
            made: The steps whose values were computed.
            bundles: The bundles.

        Raises:
            CorruptBundleError: Something is damaged.
        """
        for number, crc in self._written.items():
            placed = self._cut.tensors[number] if number >= 0 else None
            if placed is not None and placed.origin is not None:
                self._check_copied(placed.origin, crc, bundles)
        computed: dict[tuple[Side, Entry], None] = {}
        for step in made:
            for key in step.sources:
                computed["source", bundles["source"].entries[key]] = None
            if needs_template(step.ops, specs_of(step, bundles)):
                computed["target", bundles["target"].entries[step.target]] = None
        for side, whole in computed:
            for entry in (whole, *(bundles[side].slice_entries[whole.key, piece] for piece in whole.slices)):
                read = self._reads.get((side, entry.shard, entry.offset))
                if entry.size_bytes and read != unmask_crc(entry.crc32c):
                    bundles[side].verify_crc(entry)

    @staticmethod
    def _check_copied(kept: Kept, crc: int, bundles: _Bundles) -> None:
        entry, bundle = kept.entry, bundles[kept.side]
        if entry.spec.size_bytes is None:
            # The checksum of strings is not that of their bytes.
            bundle.verify_crc(entry)
        elif crc != unmask_crc(entry.crc32c):
            bundle.verify_crc(entry)
            raise CorruptBundleError(
                "what was read of a tensor is not what is there now",
                f"{bundle.prefix}, key {entry.key!r}",
                expected=f"{entry.crc32c:#010x} (index)",
                got=f"{mask_crc(crc):#010x} (read)",
                hint="Apply the plan again when nothing writes there",
            )
