"""A program that applies a plan again and again, and each time kills itself, or is refused a call of the system.

    python tests/killing.py calls PLAN OUT [--overwrite]    # killed at each call that writes, renames, links, syncs
    python tests/killing.py errors PLAN OUT                  # ENOSPC or EIO at each of them
    python tests/killing.py instants PLAN OUT --count 200    # killed at seeded instants

After each, either there is no output or a complete one, the source is what it was, and the same command completes.
It prints, as JSON, how often each happened; and what did not hold, which is nothing.
"""

import argparse
import contextlib
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from ckptmigrate import Plan, apply_plan
from ckptmigrate.apply import read_receipt, tasks, write
from ckptmigrate.errors import CkptMigrateError

CALLS = ("open", "write", "pwrite", "fsync", "ftruncate", "rename", "replace", "link", "unlink", "mkdir", "rmdir")
TASK_BYTES = 1 << 12
KILLED, FAILED, WRONG = -signal.SIGKILL, 3, 4


class Calls:
    """The calls of the system that change something, counted; at one of them something happens."""

    def __init__(self, at=-1, happen=None):
        self.count, self.at, self.happen = 0, at, happen

    def __enter__(self):
        for name in CALLS:
            setattr(os, name, self.counted(name, getattr(os, name)))
        return self

    def __exit__(self, *_):
        for name in CALLS:
            setattr(os, name, getattr(os, name).__wrapped__)

    def counted(self, name, real):
        def call(*arguments, **options):
            if name != "open" or arguments[1] & os.O_CREAT:
                number, self.count = self.count, self.count + 1
                if number == self.at:
                    self.happen()
            return real(*arguments, **options)

        call.__wrapped__ = real
        return call


def kill():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def fail_with(number):
    def fail():
        raise OSError(number, os.strerror(number))

    return fail


class Trial:
    """A plan, its output, and what has to be true of it afterwards."""

    def __init__(self, plan, out, *, overwrite, keep):
        self.plan, self.out, self.overwrite, self.keep = plan, Path(out), overwrite, keep
        write._WORTH_KEEPING_BYTES = 0 if keep else 1 << 30
        tasks.TASK_BYTES = TASK_BYTES
        self.source = self.digest(plan.source.prefix)
        self.clear()
        self.apply()
        self.whole = self.digest(out)
        self.old = {}
        if overwrite:
            self.clear()
            self.prepare()
            self.old = self.digest(out)
        self.seen = Counter()
        self.problems = []

    def apply(self):
        apply_plan(self.plan, str(self.out), layout="auto", link="hard", jobs=2, overwrite=self.overwrite)

    def clear(self):
        shutil.rmtree(self.out.parent, ignore_errors=True)

    def prepare(self):
        """Put another checkpoint where the output will be: the source under another name."""
        if self.overwrite:
            self.out.parent.mkdir(parents=True)
            source = Path(self.plan.source.prefix)
            for file in source.parent.glob(f"{source.name}.*"):
                # Hard links: the new output may have the same files again.
                os.link(file, self.out.parent / file.name.replace(source.name, self.out.name, 1))

    @staticmethod
    def digest(prefix):
        """The files of a checkpoint, but for the receipt, which has a time in it."""
        folder, name = Path(prefix).parent, Path(prefix).name
        return {
            file.name.removeprefix(name): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in folder.glob(f"{name}.*")
            if file.suffix != ".json"
        }

    def child(self, at=-1, happen=None, after_s=None):
        """Apply in another process, which something happens to; its exit status."""
        process = os.fork()
        if not process:
            status = 0
            try:
                with Calls(at, happen):
                    self.apply()
            except CkptMigrateError as error:
                sys.stderr.write(f"{error}\n")
                status = FAILED
            except BaseException as error:  # noqa: BLE001  # a child says by its status how it ended
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
                status = WRONG
            os._exit(status)
        if after_s is not None:
            time.sleep(after_s)
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        return os.waitstatus_to_exitcode(status)

    def check(self, what, status):
        """See what is there after a run, and go on with it."""
        found = self.digest(self.out)
        kind = "whole" if found == self.whole else "old" if self.old and found == self.old else "none"
        if kind == "none" and ".index" in found:
            self.problems.append(f"{what}: half of an output")
        if status == WRONG:
            self.problems.append(f"{what}: a traceback")
        if status == FAILED and not (self.overwrite or self.keep) and (found or [*self.out.parent.glob(".*")]):
            self.problems.append(f"{what}: something is left behind")
        if self.digest(self.plan.source.prefix) != self.source:
            self.problems.append(f"{what}: another source")
        if kind != "whole" or [*self.out.parent.glob(".*")]:
            again = self.child()
            if again or self.digest(self.out) != self.whole:
                self.problems.append(f"{what}: not completed ({again})")
            else:
                self.seen["went on"] += read_receipt(str(self.out)).work.kept_bytes > 0
        if left := [file.name for file in self.out.parent.glob(".*")]:
            self.problems.append(f"{what}: left {left}")
        ended = {0: "ended", KILLED: "killed", FAILED: "failed"}.get(status, str(status))
        self.seen[f"{ended}, {kind}"] += 1

    def seconds(self):
        """How long a run takes."""
        self.reset()
        started = time.monotonic()
        self.child()
        return time.monotonic() - started

    def reset(self):
        self.clear()
        self.prepare()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["calls", "errors", "instants"])
    parser.add_argument("plan")
    parser.add_argument("out")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep what was done even if it is little")
    parser.add_argument("--both", action="store_true", help="both errors at each call, and not one or the other")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    plan = Plan.from_json(Path(arguments.plan).read_bytes(), where=arguments.plan)
    trial = Trial(plan, arguments.out, overwrite=arguments.overwrite, keep=arguments.keep)
    trial.reset()
    with Calls() as calls:
        trial.apply()
    if arguments.how == "calls":
        for at in range(calls.count):
            trial.reset()
            trial.check(f"killed at call {at}", trial.child(at, kill))
    elif arguments.how == "errors":
        for at in range(calls.count):
            numbers = (errno.ENOSPC, errno.EIO)
            for number in numbers if arguments.both else numbers[at % 2 :][:1]:
                trial.reset()
                trial.check(f"{errno.errorcode[number]} at call {at}", trial.child(at, fail_with(number)))
    else:
        chance = random.Random(arguments.seed)  # noqa: S311
        longest_s = min(trial.seconds() for _ in range(3))
        for _ in range(arguments.count):
            trial.reset()
            after_s = chance.uniform(0, longest_s)
            with contextlib.suppress(ProcessLookupError):
                trial.check(f"killed after {after_s:.4f} s", trial.child(after_s=after_s))
    print(json.dumps({"calls": calls.count, "seen": trial.seen, "problems": trial.problems}))  # noqa: T201


if __name__ == "__main__":
    main()
