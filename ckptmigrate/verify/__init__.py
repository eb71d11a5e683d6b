"""Proof that a checkpoint is what its model asks for."""

from ckptmigrate.verify.levels import verify_checkpoint
from ckptmigrate.verify.report import LEVELS, Check, Finding, Level, Report, RestoreError

__all__ = ["LEVELS", "Check", "Finding", "Level", "Report", "RestoreError", "verify_checkpoint"]
