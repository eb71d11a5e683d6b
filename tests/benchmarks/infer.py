"""How right and how fast inference from source is: `python tests/benchmarks/infer.py [CASES]`.

Precision and recall over many generated source changes, by kind of change; the findings between two releases of
KerasNLP, where their wheels are unpacked (`$CKPTMIGRATE_KERAS_NLP`, with `keras_nlp-0.5.2` and `keras_nlp-0.8.2`);
and time and memory on 100,000 lines, half of them on each side, in a process of its own.
"""

# ruff: noqa: E402, T201  # it is a program, which finds the tests beside it
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "codemod"), str(HERE.parent)]

from inferring import Score, infer_case, write
from source_changes import case

from ckptmigrate.codemod.inference.facts import Source
from ckptmigrate.codemod.inference.infer import infer
from ckptmigrate.codemod.source.project import Project

FIRST = 700_000
"""Other seeds than those that inference was made with."""


def measure_cases(count: int) -> None:
    score, kinds, wrong, missed = Score(), Counter(), Counter(), Counter()
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(FIRST, FIRST + count):
            drawn = case(seed)
            one = Score()
            inferred = infer_case(drawn, Path(scratch) / str(seed))
            one.add(drawn, inferred)
            score.add(drawn, inferred)
            for change in set(drawn.changes):
                kinds[change] += 1
                wrong[change] += bool(one.wrong)
                missed[change] += bool(one.missed)
    print(f"{count} cases, {score.changes} changes, {score.right + len(score.missed)} moved things that can be known")
    print(f"precision {score.precision:.4f} ({len(score.wrong)} wrong), recall {score.recall:.4f}")
    print(f"{'change':20} {'cases':>6} {'with something wrong':>21} {'missed':>7}")
    for change, number in kinds.most_common():
        print(f"{change:20} {number:6} {wrong[change]:21} {missed[change]:7}")
    for each in score.wrong:
        print("wrong:", *each)


def measure_keras_nlp(folder: Path) -> None:
    old, new = (Source.read(Project.read([folder / f"keras_nlp-{version}"])) for version in ("0.5.2", "0.8.2"))
    inferred = infer(old, new)
    print(f"KerasNLP 0.5.2 -> 0.8.2: {len(inferred.classes)} classes paired, {len(inferred.changes)} attributes moved")
    for move in inferred.changes:
        print(f"  {move.new_owner.rpartition('.')[2]:28} {'.'.join(move.old)} -> {'.'.join(move.new)}")


def measure_speed() -> None:
    """100,000 lines, half of them on each side, of generated projects: nothing but models."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, lines, seed = Path(scratch), 0, FIRST
        while lines < 50_000:
            drawn = case(seed)
            for side, files in (("old", drawn.old), ("new", drawn.new)):
                write(files, folder / side / f"package_{seed}")
            lines += sum(text.count("\n") for text in drawn.old.values())
            seed += 1
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "ckptmigrate", "codemod", "infer", "old", "new"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        elapsed_s, memory_mb = time.perf_counter() - started, used.ru_maxrss / 1024
        print(f"{2 * lines} lines: {elapsed_s:.1f} s ({used.ru_utime:.1f} s of one core), {memory_mb:.0f} MB")


if __name__ == "__main__":
    measure_cases(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
    if "CKPTMIGRATE_KERAS_NLP" in os.environ:
        measure_keras_nlp(Path(os.environ["CKPTMIGRATE_KERAS_NLP"]))
    measure_speed()
