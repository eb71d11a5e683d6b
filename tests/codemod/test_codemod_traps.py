"""What a rename edits, reports and leaves alone, in small projects full of traps."""

import ast
from collections import Counter
from pathlib import Path

import pytest
from traps import TRAPS

from ckptmigrate.codemod.renaming.rename import find_rename
from ckptmigrate.codemod.source.project import Project
from ckptmigrate.codemod.source.rewrite import undo_all, write_all


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The result of each trap, with its folder."""
    found = {}
    for trap in TRAPS:
        folder = trap.write(tmp_path_factory.mktemp(trap.name))
        found[trap.name] = folder, find_rename(Project.read([folder]), trap.rename)
    return found


def edits(folder, result):
    return Counter((str(each.path.relative_to(folder)), each.edit.line) for each in result.edits)


def reports(folder, result):
    return Counter(
        (str(Path(each.place.file).relative_to(folder)), each.place.line, each.kind) for each in result.unsafe
    )


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_every_site_is_what_its_label_says(trap, results):
    folder, result = results[trap.name]
    assert edits(folder, result) == trap.edits
    assert reports(folder, result) == trap.reports


def test_all_edits_are_right_and_nearly_all_sites_found(results, capsys):
    made = right = true = unsafe = told = kept = 0
    for trap in TRAPS:
        folder, result = results[trap.name]
        changed, reported = edits(folder, result), reports(folder, result)
        made += changed.total()
        right += (changed & trap.edits).total()
        true += trap.edits.total()
        unsafe += trap.reports.total()
        told += (reported & trap.reports).total()
        kept += len(trap.kept)
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{true} true sites, {unsafe} unsafe, {kept} to be left alone: {right}/{made} edits right, "
            f"{right / true:.1%} of the true sites edited, {told / unsafe:.1%} of the unsafe ones reported"
        )
    assert true + unsafe + kept >= 200
    assert right == made
    assert right >= 0.98 * true
    assert told >= 0.95 * unsafe


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_what_is_written_parses_and_is_done_once_and_can_be_taken_back(trap, tmp_path):
    folder = trap.write(tmp_path)
    once = find_rename(Project.read([folder]), trap.rename)
    write_all(once.files)
    for file in once.files:
        ast.parse(file.path.read_bytes())
    if not leaves_the_old_name(once):
        assert not find_rename(Project.read([folder]), trap.rename).files
    if not leaves_the_old_name(once) and once.rename.kind != "class":
        # An old name of a class may belong to other things as well, and is not free then.
        back = find_rename(Project.read([folder]), once.rename.reversed())
        assert {file.path: file.after for file in back.files} == {file.path: file.before for file in once.files}
    undo_all(once.files)
    assert all((folder / name).read_text(encoding="utf-8") == text for name, text in trap.files.items())


def leaves_the_old_name(result):
    """Whether a class still speaks of the old name where a person has to change it."""
    return any(each.kind in ("unplaced", "loop") or f"self.{result.rename.old}" in each.text for each in result.unsafe)
