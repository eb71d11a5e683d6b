"""What is imported when: slow packages only by the commands that need them, and our own one way only."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import plan_between, write_tree

import ckptmigrate

PACKAGE = Path(ckptmigrate.__file__).parent

# What builds and proves models, rewrites source, and works on matrices: none of it is needed between checkpoints.
SLOW = {"tensorflow", "keras", "tf_keras", "sonnet", "scipy", "libcst", "networkx"}
# Numbers are needed where values are computed, YAML where rules are read, rich where trees are drawn.
ONLY_FOR_SOME = {"numpy", "ml_dtypes", "yaml", "rich"}

RULE = "- rename: {from: model/w1, to: model/kernel}"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    value = np.ones((2, 3), np.float32)
    source = write_tree(str(folder / "source"), {"model": {"w1": value}})
    target = write_tree(str(folder / "target"), {"model": {"kernel": 0 * value}})
    (folder / "rules.yaml").write_text(f"rules:\n{RULE}")
    (folder / "plan.json").write_bytes(plan_between(source, target, RULE).to_json())
    return folder


def imported(*arguments, cwd):
    """The modules that a run of the command line imports."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ckptmigrate", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (line.split("|") for line in run.stderr.splitlines() if line.startswith("import time:"))
    return {columns[2].strip() for columns in lines}


def packages(modules):
    return {module.partition(".")[0] for module in modules}


def test_a_rename_is_applied_without_any_slow_package(checkpoints):
    modules = imported("apply", "plan.json", "--out", "out/ckpt", cwd=checkpoints)
    assert "ckptmigrate.apply.write" in modules
    assert not packages(modules) & (SLOW | ONLY_FOR_SOME)


@pytest.mark.parametrize(
    ("needed", "arguments"),
    [
        ("ckptmigrate.report.text", ("inspect", "source")),
        ("ckptmigrate.matching.difference", ("diff", "source", "target")),
        ("ckptmigrate.matching.match", ("plan", "source", "--target", "target", "--rules", "rules.yaml")),
        ("ckptmigrate.verify.doctor.causes", ("doctor", "source", "--target", "source", "--call", "read")),
    ],
)
def test_nothing_between_checkpoints_imports_a_slow_package(checkpoints, needed, arguments):
    modules = imported(*arguments, cwd=checkpoints)
    assert needed in modules
    assert not packages(modules) & SLOW


def test_help_imports_nothing_but_the_command_line(checkpoints):
    modules = imported("--help", cwd=checkpoints)
    ours = {module for module in modules if module.startswith("ckptmigrate.")}
    assert {module for module in ours if not module.startswith("ckptmigrate.cli.")} == {
        "ckptmigrate.cli",
        "ckptmigrate.errors",
    }
    assert not packages(modules) & (SLOW | ONLY_FOR_SOME)


# Each may import what stands before it, and nothing that stands beside or behind it. Imports inside functions and for
# type checking count as well. The package's own `__init__` names the public interface and imports it when it is used.
ORDER = (
    {"errors", "schemas"},
    {"spec", "fold"},
    {"dtypes", "noise", "vocabulary", "bundle"},
    {"graph", "ops"},
    {"health", "notation"},
    {"rules"},
    {"matching"},
    {"plan", "packs", "questioner"},
    {"apply", "codemod", "reverse"},
    {"verify"},
    {"report", "demo", "testing"},
    {"cli", "pytest_plugin"},
    {"__main__"},
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def part_of(file):
    """The module or package directly below ours that a file belongs to."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(file):
    """The parts of ours that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "ckptmigrate":
            yield from (alias.name for alias in node.names if alias.name != "__version__")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative imports hide where they lead"
            if node.module.startswith("ckptmigrate."):
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("ckptmigrate."))


FILES = sorted(file for file in PACKAGE.rglob("*.py") if part_of(file) != "__init__")


def test_every_part_has_a_place_in_the_order():
    assert {part_of(file) for file in FILES} <= RANK.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_lead_one_way(file):
    own = part_of(file)
    backward = {name for name in imports_of(file) if name != own and RANK[name] >= RANK[own]}
    assert not backward, f"{own} comes before {', '.join(sorted(backward))}"
