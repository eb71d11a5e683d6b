"""Proof that a checkpoint is what its model asks for."""

from ckptmigrate.verify.levels import verify_checkpoint
from ckptmigrate.verify.report import LEVELS, Check, Report

__all__ = ["LEVELS", "Check", "Report", "verify_checkpoint"]
