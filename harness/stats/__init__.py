"""Statistics as pure functions: arrays in, frozen dataclasses out, generators passed in."""

from harness.stats.bootstrap import (
    CrossedBootstrap,
    crossed_bootstraps,
)
from harness.stats.effects import PairedEffects, paired_effects
from harness.stats.equivalence import PairedEquivalence, paired_equivalence
from harness.stats.family import holm, least_seeds
from harness.stats.paired import Interval, PairedDifference, paired_difference
from harness.stats.stopping import Stopping, first_look, least_most, repeated_interval, stopping
from harness.stats.verdict import Verdict, sequential_verdict, verdict

__all__ = [
    "CrossedBootstrap",
    "Interval",
    "PairedDifference",
    "PairedEffects",
    "PairedEquivalence",
    "Stopping",
    "Verdict",
    "crossed_bootstraps",
    "first_look",
    "holm",
    "least_most",
    "least_seeds",
    "paired_difference",
    "paired_effects",
    "paired_equivalence",
    "repeated_interval",
    "sequential_verdict",
    "stopping",
    "verdict",
]
