"""Statistics as pure functions: they take arrays and generators, and return frozen dataclasses."""

from harness.stats.bootstrap import (
    CrossedBootstrap,
    crossed_bootstraps,
    with_least_width,
)
from harness.stats.effects import PairedEffects, paired_effects, paired_effects_of_each
from harness.stats.equivalence import PairedEquivalence, paired_equivalence
from harness.stats.family import holm, holm_levels, minimum_seeds
from harness.stats.paired import Interval, PairedDifference, paired_difference
from harness.stats.stopping import (
    Stopping,
    first_look,
    minimum_pairs,
    repeated_equivalence,
    repeated_interval,
    stopping,
)
from harness.stats.verdict import OverExamples, Verdict, sequential_verdict, verdict

__all__ = [
    "CrossedBootstrap",
    "Interval",
    "OverExamples",
    "PairedDifference",
    "PairedEffects",
    "PairedEquivalence",
    "Stopping",
    "Verdict",
    "crossed_bootstraps",
    "first_look",
    "holm",
    "holm_levels",
    "minimum_pairs",
    "minimum_seeds",
    "paired_difference",
    "paired_effects",
    "paired_effects_of_each",
    "paired_equivalence",
    "repeated_equivalence",
    "repeated_interval",
    "sequential_verdict",
    "stopping",
    "verdict",
    "with_least_width",
]
