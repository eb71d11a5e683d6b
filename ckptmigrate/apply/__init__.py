"""Carrying out a plan: what is linked, what is copied, what is computed, and the receipt of it."""

from ckptmigrate.apply.engine import Budget, Engine, Threads, peak_bytes
from ckptmigrate.apply.estimate import Estimate, estimate_plan
from ckptmigrate.apply.layout import Layout, lay_out
from ckptmigrate.apply.many import Outcome, apply_all
from ckptmigrate.apply.receipt import Receipt, ShardReceipt, read_receipt, receipt_path
from ckptmigrate.apply.write import apply_plan

__all__ = [
    "Budget",
    "Engine",
    "Estimate",
    "Layout",
    "Outcome",
    "Receipt",
    "ShardReceipt",
    "Threads",
    "apply_all",
    "apply_plan",
    "estimate_plan",
    "lay_out",
    "peak_bytes",
    "read_receipt",
    "receipt_path",
]
