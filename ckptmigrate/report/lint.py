"""What `codemod lint` found, as a person and as a program reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.markup import escape

from ckptmigrate.codemod.linting.lint import Finding, Linted
from ckptmigrate.codemod.linting.lint_rules import LintRule, Severity
from ckptmigrate.codemod.source.project import Project

_STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def finding_lines(linted: Linted, project: Project) -> Iterator[str]:
    """Each finding in a line, and all of them in numbers."""
    for each in linted.findings:
        style = _STYLES[each.severity]
        mended = " [dim](--fix)[/]" if each.fix.edits else ""
        place = escape(f"{each.place}:{each.place.column}")
        yield f"{place}: [{style}]{each.rule.id}[/] {escape(each.message)}{mended}"
    yield summary(linted, project)


def summary(linted: Linted, project: Project) -> str:
    """All findings in numbers."""
    found = linted.findings
    count = len(project.modules)
    files = f"{count} file{'s' * (count != 1)}"
    ignored = f"; {len(linted.suppressed)} ignored by comments" if linted.suppressed else ""
    if not found:
        return f"{files}: nothing found{ignored}"
    by_severity = Counter(each.severity for each in found)
    said = ", ".join(
        f"{by_severity[each]} {each}{'s' * (by_severity[each] != 1 and each != 'info')}"
        for each in _STYLES
        if by_severity[each]
    )
    mended = sum(bool(each.fix.edits) for each in found)
    hint = f"; --fix mends {mended}, --diff shows how" if mended else ""
    return f"{files}, {len({each.place.file for each in found})} with findings: {said}{hint}{ignored}"


def lint_data(linted: Linted, project: Project) -> dict[str, Any]:
    """What `codemod lint --json` prints."""
    return {
        "files": len(project.modules),
        "findings": [_finding_data(each, linted) for each in linted.findings],
        "suppressed": [_finding_data(each, linted) for each in linted.suppressed],
        "unreadable": [{"file": each.where, "message": str(each)} for each in project.problems],
    }


def _finding_data(finding: Finding, linted: Linted) -> dict[str, Any]:
    text = linted.texts[finding.place.file]
    edits = []
    for edit in sorted(finding.fix.edits):
        (line, column), (end_line, end_column) = text.position(edit.start), text.position(edit.end)
        edits.append(
            {"line": line, "column": column, "end_line": end_line, "end_column": end_column, "text": edit.text}
        )
    return {
        "file": finding.place.file,
        "line": finding.place.line,
        "column": finding.place.column,
        "end_line": finding.end.line,
        "end_column": finding.end.column,
        "rule": finding.rule.id,
        "name": finding.rule.name,
        "severity": finding.severity,
        "message": finding.message,
        "fix": {"says": finding.fix.says, "edits": edits} if edits else None,
        "not_fixed": "" if edits else finding.fix.says,
    }


def explanation_lines(rule: LintRule) -> Iterator[str]:
    """A rule at length, with its examples."""
    style = _STYLES[rule.severity]
    yield f"[bold]{rule.id}[/] {rule.name} ([{style}]{rule.severity}[/]): {rule.summary}"
    yield ""
    yield escape(rule.explanation)
    for bad in rule.bad:
        yield "\n[bold]found[/]:"
        yield _indented(bad.source)
        if bad.fixed is not None:
            yield "[bold]after --fix[/]:"
            yield _indented(bad.fixed)
    for good in rule.good:
        yield "\n[bold]not found[/]:"
        yield _indented(good)
    yield f"\nOn a line with `# ckptmigrate: ignore\\[{rule.id}]` it says nothing."


def _indented(source: str) -> str:
    return escape("\n".join(f"    {line}".rstrip() for line in source.splitlines()))
