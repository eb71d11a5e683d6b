"""What of the source leads to what of the target: by rule, or because it is exact; the rest is asked."""

from ckptmigrate.matching.anchors import Anchor
from ckptmigrate.matching.contents import Contents
from ckptmigrate.matching.difference import Difference, find_difference
from ckptmigrate.matching.match import match_graphs
from ckptmigrate.matching.result import Answers, Drop, Hypothesis, Lead, Matching, Question, Status, Step, Unmatched

__all__ = [
    "Anchor",
    "Answers",
    "Contents",
    "Difference",
    "Drop",
    "Hypothesis",
    "Lead",
    "Matching",
    "Question",
    "Status",
    "Step",
    "Unmatched",
    "find_difference",
    "match_graphs",
]
