"""How sure a proposal is: how many of its kind were right where the truth was known.

What keeps a step from being certain is one of a few kinds, its *caveat*. For each, `tests/benchmarks/calibrate.py`
counts on synthetic refactorings how many templates are right (the equal layers of all blocks, and their slots, are
one), for each family of models. The confidence is a cautious one: the 95% lower bound of the share that is right in
a family, of which each counts alike, or that of all cases if it is less; rounded down. A step that has several
caveats has the confidence of the weakest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Caveat = Literal[
    "shape-alone",
    "shape-of-blocks",
    "shape-and-a-word",
    "names-unclear",
    "list-order",
    "namesake",
    "strangers",
    "values-differ",
    "place-of-another",
    "square",
    "square-turned",
    "slot-order",
    "slot-kind",
    "counted-name",
    "scoped-name",
    "name-as-path",
    "transposed",
    "grown",
    "cast",
    "converted-by-shape",
]
"""What keeps a step from being certain.

- ``shape-alone``: the only layer of its shape and role on both sides, and no name speaks for it;
  ``shape-of-blocks``: so in each of several blocks; ``shape-and-a-word``: and a word speaks for it that others have.
- ``names-unclear``: its names agree more than those of any other, but not by much; or it has none, and beside it in
  its list is one like it of another size.
- ``list-order``: it stands the other way round than others of its list.
- ``namesake``: something else is called as it was.
- ``strangers``: the objects that hold the two have no word in common.
- ``values-differ``: its values differ where those of others are equal on both sides.
- ``place-of-another``: its values are equal, and at the path or name of something that is gone.
- ``square``: as it was, where only some of the others were transposed; ``square-turned``: transposed, as all others.
- ``slot-order``: whose slot it is, only the order of the optimizer's variables says.
- ``slot-kind``: which optimizer it is, no checkpoint says, and so what its slots mean.
- ``counted-name``: a framework gave the name, or counted it; ``scoped-name``: the names of one side begin with a scope
  that the other has not; ``name-as-path``: the name on one side is the path on the other.
- ``transposed``, ``grown``, ``cast``: by place or names it is what the operation makes of it;
  ``converted-by-shape``: by nothing but its shape.
"""

CONFIDENCE: Mapping[Caveat, float] = {
    "shape-alone": 0.83,
    "shape-of-blocks": 0.97,
    "shape-and-a-word": 0.98,
    "names-unclear": 0.54,
    "list-order": 0.15,
    "namesake": 0.91,
    "strangers": 0.83,
    "values-differ": 0.5,
    "place-of-another": 0.5,
    "square": 0.76,
    "square-turned": 0.93,
    "slot-order": 0.99,
    "slot-kind": 0.99,
    "counted-name": 0.96,
    "scoped-name": 0.95,
    "name-as-path": 0.98,
    "transposed": 0.99,
    "grown": 0.99,
    "cast": 0.98,
    "converted-by-shape": 0.94,
}
"""For each caveat, how many of its kind are right at least, in a family of models that the others know nothing of."""

UNMEASURED: frozenset[Caveat] = frozenset({"values-differ", "place-of-another"})
"""Those that need trained values on both sides. Synthetic cases have none, so these have a confidence by judgement."""


def confidence_of(caveat: Caveat | None) -> float:
    """The confidence of a step with a caveat; 1 without one."""
    return 1.0 if caveat is None else CONFIDENCE[caveat]


def weakest(*caveats: Caveat | None) -> Caveat:
    """The one of several caveats that a step has its confidence of; at least one is not None."""
    return min((caveat for caveat in caveats if caveat is not None), key=CONFIDENCE.__getitem__)
