"""Migrations for TensorFlow and Keras checkpoints.

The names below are the public interface. They are imported when they are used: nothing here costs time
that is not asked for, and only what builds or restores a model imports tensorflow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "ckptmigrate.bundle",
    "find_prefix": "ckptmigrate.bundle",
    "ObjectGraph": "ckptmigrate.graph",
    "build_checkpoint": "ckptmigrate.graph.template",
    "write_template": "ckptmigrate.graph.template",
    "Rule": "ckptmigrate.rules",
    "parse_rulebook": "ckptmigrate.rules",
    "read_rulebook": "ckptmigrate.rules",
    "Matching": "ckptmigrate.matching",
    "match_graphs": "ckptmigrate.matching",
    "fit_packs": "ckptmigrate.packs",
    "read_pack": "ckptmigrate.packs",
    "Endpoint": "ckptmigrate.plan",
    "Plan": "ckptmigrate.plan",
    "make_plan": "ckptmigrate.plan",
    "plan_bundles": "ckptmigrate.plan",
    "reverse_plan": "ckptmigrate.reverse",
    "Receipt": "ckptmigrate.apply",
    "apply_plan": "ckptmigrate.apply",
    "Comparison": "ckptmigrate.verify",
    "Report": "ckptmigrate.verify",
    "RestoreError": "ckptmigrate.verify",
    "check": "ckptmigrate.verify",
    "restore": "ckptmigrate.verify",
    "verify_checkpoint": "ckptmigrate.verify",
    "CkptMigrateError": "ckptmigrate.errors",
    "Problems": "ckptmigrate.errors",
}

__all__ = [
    "Bundle",
    "CkptMigrateError",
    "Comparison",
    "Endpoint",
    "Matching",
    "ObjectGraph",
    "Plan",
    "Problems",
    "Receipt",
    "Report",
    "RestoreError",
    "Rule",
    "__version__",
    "apply_plan",
    "build_checkpoint",
    "check",
    "find_prefix",
    "fit_packs",
    "make_plan",
    "match_graphs",
    "parse_rulebook",
    "plan_bundles",
    "read_pack",
    "read_rulebook",
    "restore",
    "reverse_plan",
    "verify_checkpoint",
    "write_template",
]

if TYPE_CHECKING:
    from ckptmigrate.apply import Receipt, apply_plan
    from ckptmigrate.bundle import Bundle, find_prefix
    from ckptmigrate.errors import CkptMigrateError, Problems
    from ckptmigrate.graph import ObjectGraph
    from ckptmigrate.graph.template import build_checkpoint, write_template
    from ckptmigrate.matching import Matching, match_graphs
    from ckptmigrate.packs import fit_packs, read_pack
    from ckptmigrate.plan import Endpoint, Plan, make_plan, plan_bundles
    from ckptmigrate.reverse import reverse_plan
    from ckptmigrate.rules import Rule, parse_rulebook, read_rulebook
    from ckptmigrate.verify import Comparison, Report, RestoreError, check, restore, verify_checkpoint


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
