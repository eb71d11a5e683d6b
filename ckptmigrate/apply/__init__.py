"""Carrying out a plan: what is linked, what is copied, what is computed, and the receipt of it."""

from ckptmigrate.apply.layout import Layout, lay_out
from ckptmigrate.apply.receipt import Receipt, ShardReceipt, read_receipt, receipt_path
from ckptmigrate.apply.write import apply_plan

__all__ = ["Layout", "Receipt", "ShardReceipt", "apply_plan", "lay_out", "read_receipt", "receipt_path"]
