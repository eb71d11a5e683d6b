"""What verifying says: one check a level, each with its proof or with what contradicts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["passed", "failed", "not run"]

LEVELS = ("structure", "checksums", "restore")
"""The levels of proof, from cheap to dear."""


@dataclass(frozen=True, slots=True)
class Check:
    """One level of proof.

    Attributes:
        level: Its name, one of `LEVELS`.
        outcome: How it ended.
        proof: What was compared, and how much of it.
        problems: What contradicts it, one fact each; empty if it passed.
        hint: What to do if it failed or was not run.
    """

    level: str
    outcome: Outcome
    proof: str
    problems: tuple[str, ...] = ()
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of one checkpoint, in the order in which they ran."""

    prefix: str
    target: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing failed. A check that was not run is no failure, and no proof either."""
        return all(check.outcome != "failed" for check in self.checks)

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
                }
                for check in self.checks
            ],
        }
