"""What `codemod lint` found as SARIF, which code-review tools show.

Source: Static Analysis Results Interchange Format (SARIF) Version 2.1.0, OASIS Standard.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ckptmigrate import __version__
from ckptmigrate.codemod.linting.lint import Finding, Linted
from ckptmigrate.codemod.linting.lint_rules import LINT_RULES, LintRule, Severity
from ckptmigrate.codemod.source.project import Project
from ckptmigrate.errors import CkptMigrateError

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

_LEVELS: dict[Severity, str] = {"error": "error", "warning": "warning", "info": "note"}


def sarif_data(linted: Linted, project: Project) -> dict[str, Any]:
    """A SARIF log with one run."""
    order = {name: index for index, name in enumerate(LINT_RULES)}
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "ckptmigrate",
                        "semanticVersion": __version__,
                        "rules": [_rule(each) for each in LINT_RULES.values()],
                    }
                },
                # Columns are characters here; SARIF's own are units of UTF-16.
                "columnKind": "unicodeCodePoints",
                "invocations": [
                    {
                        "executionSuccessful": not project.problems,
                        "toolExecutionNotifications": [_notification(each) for each in project.problems],
                    }
                ],
                "results": [
                    *(_result(each, linted, order) for each in linted.findings),
                    *(
                        {**_result(each, linted, order), "suppressions": [{"kind": "inSource"}]}
                        for each in linted.suppressed
                    ),
                ],
            }
        ],
    }


def _rule(rule: LintRule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.name.split("-")),
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.explanation},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _notification(error: CkptMigrateError) -> dict[str, Any]:
    file, _, line = error.where.rpartition(":")
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(file if line.isdigit() else error.where)}}
    if line.isdigit():
        place["region"] = {"startLine": int(line)}
    return {"level": "error", "message": {"text": str(error)}, "locations": [{"physicalLocation": place}]}


def _result(finding: Finding, linted: Linted, order: dict[str, int]) -> dict[str, Any]:
    file = {"uri": _uri(finding.place.file)}
    data = {
        "ruleId": finding.rule.id,
        "ruleIndex": order[finding.rule.id],
        "level": _LEVELS[finding.severity],
        "message": {"text": finding.message},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": file,
                    "region": _region(
                        (finding.place.line, finding.place.column), (finding.end.line, finding.end.column)
                    ),
                }
            }
        ],
    }
    if finding.fix.edits:
        text = linted.texts[finding.place.file]
        data["fixes"] = [
            {
                "description": {"text": finding.fix.says},
                "artifactChanges": [
                    {
                        "artifactLocation": file,
                        "replacements": [
                            {
                                "deletedRegion": _region(text.position(edit.start), text.position(edit.end)),
                                "insertedContent": {"text": edit.text},
                            }
                            for edit in sorted(finding.fix.edits)
                        ],
                    }
                ],
            }
        ]
    return data


def _region(start: tuple[int, int], end: tuple[int, int]) -> dict[str, int]:
    return {"startLine": start[0], "startColumn": start[1], "endLine": end[0], "endColumn": end[1]}


def _uri(file: str) -> str:
    """A file's address: relative to where we run if it is below, which is where a checkout is."""
    path = Path(os.path.abspath(file))  # noqa: PTH100 # a link stays what it is called
    try:
        return quote(path.relative_to(Path.cwd()).as_posix())
    except ValueError:
        return path.as_uri()
