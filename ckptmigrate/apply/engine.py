"""Who carries tasks out, and how much memory and how many workers there are to do it.

An engine is given tasks and says of each that it is done, in any order. What a task does is the same everywhere:
`ckptmigrate.apply.worker.Worker`, which needs the job, the two bundles, and a place to write to, and nothing of who
runs it. So the bytes are the same, whatever the engine, the number of workers, and the order.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

from ckptmigrate.apply.layout import Side
from ckptmigrate.apply.tasks import Task
from ckptmigrate.apply.worker import Done, Job, Worker
from ckptmigrate.bundle import Bundle
from ckptmigrate.errors import OutputError

DEFAULT_MEMORY_BYTES = 1 << 28

_LEAST_WORKER_BYTES = 1 << 22
"""With less than this, a worker would do nothing but start and end blocks."""

BLOCKS = 6
"""So many blocks may be in memory at a time: what was read, moved, computed, and what becomes of it."""

_BLOCK_BYTES = 1 << 20
"""Blocks of this size stay in the processor's cache, and their memory is used again and again."""

_TILE_BYTES = 1 << 26
"""The largest tile. It is read and written in runs of a few KiB, and larger ones are no faster."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How many workers there are, and how much each may hold in memory.

    Attributes:
        jobs: How many workers.
        block_bytes: How much each computes at a time.
        tile_bytes: How much of a tensor that is transposed each holds at a time.
    """

    jobs: int
    block_bytes: int
    tile_bytes: int

    @classmethod
    def of(cls, memory_bytes: int = DEFAULT_MEMORY_BYTES, jobs: int | None = None) -> Budget:
        """Divide memory among workers.

        Args:
            memory_bytes: What all workers together may hold, beside the program and the two indices.
            jobs: How many workers; if None, one for each core, or as many as the memory is enough for.

        Raises:
            OutputError: It is not enough to work with.
        """
        if jobs is not None and jobs < 1:
            raise OutputError("impossible number of workers", "--jobs", expected="1 or more", got=str(jobs))
        wanted = jobs or 1
        if memory_bytes < wanted * _LEAST_WORKER_BYTES:
            raise OutputError(
                "too little memory to work with",
                "--memory",
                expected=f"{_mebibytes(wanted * _LEAST_WORKER_BYTES)} or more"
                + (f" ({_mebibytes(_LEAST_WORKER_BYTES)} for each of {jobs} workers)" if wanted > 1 else ""),
                got=f"{memory_bytes} bytes",
            )
        if jobs is None:
            jobs = max(1, min(_cores(), memory_bytes // _LEAST_WORKER_BYTES))
        # A power of two: the cut of tiles is the same for budgets that are much the same.
        tile_bytes = min(_TILE_BYTES, 1 << (memory_bytes // jobs // BLOCKS).bit_length() - 1)
        return cls(jobs, min(_BLOCK_BYTES, tile_bytes), tile_bytes)

    @property
    def peak_bytes(self) -> int:
        """What all workers together hold at most."""
        return self.jobs * self.tile_bytes * BLOCKS


def peak_bytes() -> int:
    """The most memory that this process has had, as the system counts it (the peak of its resident set)."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123
            line = next(line for line in file if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        import resource

        # Not on Linux. What the parent had when it started this process counts here, too.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _mebibytes(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MiB"


class Engine(Protocol):
    """Carries tasks out."""

    def run(
        self, job: Job, bundles: Mapping[Side, Bundle], tasks: Sequence[tuple[Task, Done | None]]
    ) -> Iterator[Done]:
        """Carry tasks out, in any order and anywhere.

        Args:
            job: What they have in common.
            bundles: The source and the target, open here. Workers elsewhere open them themselves.
            tasks: The tasks, each with what was said of it if it was done before: what a worker finds to be there
                still it does not do again.

        Yields:
            What was done, as soon as it is.

        Raises:
            CkptMigrateError: A task failed. Those that had begun have ended then.
        """


@dataclass(frozen=True, slots=True)
class Threads:
    """Threads of this process.

    Attributes:
        jobs: How many.
    """

    jobs: int

    def run(
        self, job: Job, bundles: Mapping[Side, Bundle], tasks: Sequence[tuple[Task, Done | None]]
    ) -> Iterator[Done]:
        """Carry tasks out, each by the next thread that is free."""
        jobs = min(self.jobs, len(tasks))
        if jobs <= 1:
            worker = Worker(job, bundles)
            for task in tasks:
                yield worker.run(*task)
            return
        yield from _Pool(tasks).run([Worker(job, bundles) for _ in range(jobs)])


class _Pool:
    """Workers in threads, and what they say."""

    def __init__(self, tasks: Sequence[tuple[Task, Done | None]]) -> None:
        self.left = iter(tasks)
        self.lock = threading.Lock()
        self.said: SimpleQueue[Done | BaseException | None] = SimpleQueue()
        self.stopped = threading.Event()

    def run(self, workers: Sequence[Worker]) -> Iterator[Done]:
        threads = [threading.Thread(target=self.work, args=(worker,)) for worker in workers]
        for thread in threads:
            thread.start()
        working = len(threads)
        errors: list[BaseException] = []
        try:
            while working:
                said = self.said.get()
                if isinstance(said, Done):
                    yield said
                elif said is None:
                    working -= 1
                else:
                    errors.append(said)
        finally:
            self.stopped.set()
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]

    def work(self, worker: Worker) -> None:
        """What a thread does: one task after the other, until none is left or one has failed."""
        try:
            while not self.stopped.is_set():
                with self.lock:
                    task = next(self.left, None)
                if task is None:
                    break
                self.said.put(worker.run(*task))
        except BaseException as error:  # noqa: BLE001  # it is raised where the tasks were asked for
            self.stopped.set()
            self.said.put(error)
        self.said.put(None)
