"""What of the source leads to what of the target: by rule, or because it is exact; the rest is asked."""

from ckptmigrate.matching.match import match
from ckptmigrate.matching.result import Drop, Matching, Question, Status, Step, Unmatched
from ckptmigrate.matching.walk import nodes_matching

__all__ = ["Drop", "Matching", "Question", "Status", "Step", "Unmatched", "match", "nodes_matching"]
