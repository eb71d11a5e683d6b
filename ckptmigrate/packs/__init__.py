"""Rule packs: rules for moves that many people make, with their facts, and examples that are their tests."""

from ckptmigrate.packs.example import Outcome, run_examples
from ckptmigrate.packs.fit import Fitted, does_fit, fit_packs
from ckptmigrate.packs.pack import Example, Pack, pack_names, read_pack

__all__ = ["Example", "Fitted", "Outcome", "Pack", "does_fit", "fit_packs", "pack_names", "read_pack", "run_examples"]
