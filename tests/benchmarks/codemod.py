"""How fast a rename is found in a large project, and how much memory it takes; the oracle on the labelled projects.

PYTHONPATH=. python tests/benchmarks/codemod.py [FOLDER CLASS.ATTRIBUTE]
PYTHONPATH=. python tests/benchmarks/codemod.py --oracle

Without arguments the source is Keras 3's own, as it is installed. Each figure is of a process of its own. The oracle
builds the models of those labelled projects that have some, before and after their rename.
"""

import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ckptmigrate.codemod.code_rules import CodeRename
from ckptmigrate.codemod.renaming.change import change_source
from ckptmigrate.codemod.renaming.oracle import prove
from ckptmigrate.codemod.renaming.rename import find_rename
from ckptmigrate.codemod.source.project import Project

LINES_A_FIGURE = 100_000


def measure(folder, what):
    started = time.perf_counter()
    project = Project.read([folder])
    read_s = time.perf_counter() - started
    scope, _, old = what.rpartition(".")
    found = find_rename(project, CodeRename("attribute", scope, old, f"{old}_renamed"))
    return {
        "lines": sum(module.source.count("\n") for module in project.modules),
        "files": len(project.modules),
        "read_s": read_s,
        "total_s": time.perf_counter() - started,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "edits": len(found.edits),
        "unsafe": len(found.unsafe),
    }


def prove_all():
    sys.path.insert(0, str(Path(__file__).parents[1] / "codemod"))
    from traps import TRAPS

    for trap in TRAPS:
        if "factory.py" not in trap.files:
            continue
        with tempfile.TemporaryDirectory() as folder:
            trap.write(Path(folder))
            changed = change_source(Project.read([folder]), [trap.rename])
            with prove(changed, f"{folder}/factory.py:build") as proof:
                rules = "; ".join(rule.describe() for rule in proof.rules)
                print(f"{trap.name}: {proof.moved} tensors move, {proof.kept} stay: {rules}")  # noqa: T201


def main():
    if sys.argv[1:2] == ["--oracle"]:
        prove_all()
        return
    if sys.argv[1:2] == ["--one"]:
        sys.stdout.write(json.dumps(measure(*sys.argv[2:])))
        return
    keras = Path(importlib.util.find_spec("keras").origin).parent / "src"
    cases = [tuple(sys.argv[1:])] if len(sys.argv) > 2 else [
        (keras / "layers", "MultiHeadAttention._query_dense"),
        (keras / "layers", "BatchNormalization.gamma"),
        (keras / "layers", "Dropout.rate"),
        (keras, "MultiHeadAttention._query_dense"),
        (keras, "Dense.units"),
    ]  # fmt: skip
    for folder, what in cases:
        run = [sys.executable, __file__, "--one", str(folder), what]
        row = json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
        per = row["total_s"] * LINES_A_FIGURE / row["lines"]
        print(  # noqa: T201
            f"{what}: {row['lines']:,} lines in {row['files']} files: {row['total_s']:.1f} s, "
            f"{per:.1f} s for 100,000 lines, {row['peak_mb']:.0f} MB; "
            f"{row['edits']} edits, {row['unsafe']} unsafe sites"
        )


if __name__ == "__main__":
    main()
