"""Proof that a checkpoint is what its model asks for, and that a restore did what it should."""

from ckptmigrate.verify.comparing import Comparison
from ckptmigrate.verify.doctor.diagnosis import diagnose
from ckptmigrate.verify.levels import verify_checkpoint
from ckptmigrate.verify.report import LEVELS, Check, Finding, Level, Report, RestoreError
from ckptmigrate.verify.restoring import check, restore

__all__ = [
    "LEVELS",
    "Check",
    "Comparison",
    "Finding",
    "Level",
    "Report",
    "RestoreError",
    "check",
    "diagnose",
    "restore",
    "verify_checkpoint",
]
