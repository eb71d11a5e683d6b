"""Rules: what a person (or a pack, or a code-mod) states about how a source becomes a target.

A rule is a pattern over source paths, a pattern over target paths, and operations. A rulebook is read
from YAML; every mistake in it is reported with its line and column, all of them at once. Nothing here
looks at a checkpoint: which variables a rule means is found by matching.
"""

from ckptmigrate.rules.document import compose_yaml
from ckptmigrate.rules.reading import parse_rulebook, parse_rules, read_rulebook, read_rulebooks
from ckptmigrate.rules.rule import Kind, Rule, Rulebook
from ckptmigrate.rules.writing import format_rulebook

__all__ = [
    "Kind",
    "Rule",
    "Rulebook",
    "compose_yaml",
    "format_rulebook",
    "parse_rulebook",
    "parse_rules",
    "read_rulebook",
    "read_rulebooks",
]
