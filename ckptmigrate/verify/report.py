"""What verifying says: one check a level, each with its proof or with what contradicts it, and why it failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, get_args

from ckptmigrate.errors import CkptMigrateError
from ckptmigrate.fold import fold

Outcome = Literal["passed", "failed", "not run"]

Level = Literal["structure", "checksums", "restore", "coverage", "outputs", "training-step"]
"""A level of proof; each proves what those before it cannot."""

LEVELS: tuple[Level, ...] = get_args(Level)
"""The levels of proof, from cheap to dear."""

_SHOWN = 10
"""So many rows of one table are shown to a person; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Check:
    """One level of proof.

    Attributes:
        level: Its name.
        outcome: How it ended.
        proof: What was compared, and how much of it.
        problems: What contradicts it, one fact each, folded; empty if it passed.
        hint: What to do if it failed or was not run.
        evidence: The figures behind it, for programs: counts, tolerances, differences, names.
    """

    level: Level
    outcome: Outcome
    proof: str
    problems: tuple[str, ...] = ()
    hint: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        level: Level,
        proof: str,
        problems: Iterable[str],
        hint: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> Check:
        """A check that ran: it failed if there are problems. Equal problems of numbered names become one row."""
        folded = fold([(problem,) for problem in problems], numbered=1)
        rows = tuple(row.columns[0] + (f" ({row.count} times)" if row.count > 1 else "") for row in folded)
        return cls(level, "failed" if rows else "passed", proof, rows, hint if rows else "", evidence or {})


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause of a failed or half restore, and what to do.

    Attributes:
        kind: Its name, the same in every run, e.g. ``renamed-attribute``.
        what: The fact, in one sentence without its full stop.
        rows: The tensors, variables or files that it is about, folded.
        tensorflow: What TensorFlow says of it, or that it says nothing.
        cause: The likely reason, in one sentence without its full stop.
        mend: Commands or lines of code that mend it, in order.
    """

    kind: str
    what: str
    rows: tuple[str, ...]
    tensorflow: str
    cause: str
    mend: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one checkpoint, in the order in which they ran, and the causes of what failed.

    Attributes:
        prefix: The checkpoint.
        target: What it was compared with, as a person named it.
        checks: One for each level.
        findings: Why it failed, and the mend, where that is known.
    """

    prefix: str
    target: str
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong. A check that was not run is no failure, and no proof either."""
        return not self.findings and all(check.outcome != "failed" for check in self.checks)

    def to_data(self) -> dict[str, Any]:
        """The report for programs."""
        return {
            "schema": "ckptmigrate.report/1",
            "prefix": self.prefix,
            "target": self.target,
            "passed": self.passed,
            "checks": [
                {
                    "level": check.level,
                    "outcome": check.outcome,
                    "proof": check.proof,
                    "problems": check.problems,
                    "hint": check.hint,
                    "evidence": dict(check.evidence),
                }
                for check in self.checks
            ],
            "findings": [finding_data(finding) for finding in self.findings],
        }

    def __str__(self) -> str:
        lines = [f"{self.prefix} for {self.target}: {'passed' if self.passed else 'failed'}"]
        for check in self.checks:
            lines.append(f"{check.outcome:>7}  {check.level}: {check.proof}")
            lines += [f"           {line}" for line in (*shown(check.problems), *([check.hint] if check.hint else []))]
        for finding in self.findings:
            lines += finding_lines(finding)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The report as notebooks show it."""
        colors = {"passed": "green", "failed": "#c00", "not run": "#b80"}
        rows = [
            f"<tr><td style='color:{colors[check.outcome]}'><b>{check.outcome}</b></td><td>{check.level}</td>"
            f"<td style='text-align:left'>{_html([check.proof, *shown(check.problems), check.hint])}</td></tr>"
            for check in self.checks
        ]
        causes = "".join(f"<li>{_html(finding_lines(finding))}</li>" for finding in self.findings)
        return (
            f"<div><b>{escape(self.prefix)}</b> for <b>{escape(self.target)}</b>"
            f"<table>{''.join(rows)}</table><ul>{causes}</ul></div>"
        )


class RestoreError(CkptMigrateError):
    """A restore that did not do what it should have.

    Attributes:
        report: All checks, with what contradicts them, the causes and the mend.
    """

    exit_status = 1

    def __init__(self, report: Report) -> None:
        failed = [check.level for check in report.checks if check.outcome == "failed"]
        got = ", ".join(failed or [finding.kind for finding in report.findings])
        super().__init__("the restore is not proven", report.prefix, expected="every level to pass", got=got)
        self.report = report

    def __str__(self) -> str:
        return str(self.report)


def shown(rows: Iterable[str]) -> Iterator[str]:
    """Rows of a table as a person sees them: so many, and how many more there are."""
    listed = list(rows)
    yield from listed[:_SHOWN]
    if len(listed) > _SHOWN:
        yield f"and {len(listed) - _SHOWN} more"


def finding_data(finding: Finding) -> dict[str, Any]:
    """A finding for programs."""
    return {
        "kind": finding.kind,
        "what": finding.what,
        "rows": finding.rows,
        "tensorflow": finding.tensorflow,
        "cause": finding.cause,
        "mend": finding.mend,
    }


def finding_lines(finding: Finding) -> list[str]:
    """A finding as plain text."""
    return [
        f"{finding.kind}: {finding.what}",
        *(f"    {row}" for row in shown(finding.rows)),
        f"  TensorFlow: {finding.tensorflow}",
        f"  cause: {finding.cause}",
        *(f"  mend: {line}" for line in finding.mend),
    ]


def _html(lines: Iterable[str]) -> str:
    return "<br>".join(escape(line) for line in lines if line)
