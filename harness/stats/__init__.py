"""Statistics as pure functions: arrays in, frozen dataclasses out, generators passed in."""

from harness.stats.bootstrap import CrossedBootstrap, Metric, crossed_bootstrap
from harness.stats.effects import PairedEffects, paired_effects
from harness.stats.equivalence import PairedEquivalence, paired_equivalence
from harness.stats.family import holm, least_seeds
from harness.stats.paired import Interval, PairedDifference, paired_difference
from harness.stats.verdict import Verdict, verdict

__all__ = [
    "CrossedBootstrap",
    "Interval",
    "Metric",
    "PairedDifference",
    "PairedEffects",
    "PairedEquivalence",
    "Verdict",
    "crossed_bootstrap",
    "holm",
    "least_seeds",
    "paired_difference",
    "paired_effects",
    "paired_equivalence",
    "verdict",
]
