"""What is wrong with a checkpoint's values: NaN, infinity, damage, and what was never initialized or trained."""

from ckptmigrate.health.judge import FAILING, KINDS, Kind, Suspicion, find_suspicions
from ckptmigrate.health.measure import Health, count_not_finite, read_health

__all__ = ["FAILING", "KINDS", "Health", "Kind", "Suspicion", "count_not_finite", "find_suspicions", "read_health"]
