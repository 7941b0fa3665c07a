"""One comparison: how often its tests reject what is true, and how often its intervals hold the truth.

Users get `paired_difference` and its like. Where these are slow, many simulations go through
`exact_p_values`, and some of them through the functions as well: both must agree on those.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.stats import t as student

from benchmarks import simulated
from benchmarks.rates import (
    ALPHA,
    Found,
    Rate,
    Size,
    check_p,
    check_same,
    coverage,
    covers,
    false_positives,
)
from benchmarks.simulated import Floats
from harness.stats import (
    Interval,
    crossed_bootstraps,
    paired_difference,
    paired_effects,
    paired_equivalence,
)
from harness.stats.examples import mcnemar
from harness.stats.paired import ROUNDING
from harness.stats.signflip import exact_p_values
from harness.stats.spread import sd_interval

MARGIN = 20 / simulated.EXAMPLES
"""So wide that the test against the other end always rejects: the worst case for equivalence."""
NORMAL = "normal"
BCA_COVERAGE = {6: 0.86, 10: 0.90}
"""Of 95% intervals on normal differences, as `PairedEffects` says."""
CROSSED_COVERAGE = {
    ("examples dominate", 6): 0.95,
    ("examples dominate", 10): 0.95,
    ("luck dominates", 6): 0.95,
    ("luck dominates", 10): 0.95,
    ("seeds dominate", 6): 0.88,
    ("seeds dominate", 10): 0.92,
}
"""Of 95% intervals, as `CrossedBootstrap` says; of others it claims nothing."""


def reachable_level(n: int, sides: int, alpha: float = ALPHA) -> float:
    """The largest p value below alpha of a sign-flip test with one side or two, of n seeds."""
    patterns = math.ceil(math.ldexp(alpha, n) / sides) - 1
    return math.ldexp(sides * patterns, -n)


def paired_rates(law: str, n: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """The sign-flip test, the test of equivalence at the margin, and their intervals."""
    scores = simulated.paired_scores(law, size.simulations, n, rng)
    moved = scores.method + MARGIN - scores.baseline
    p_values = exact_p_values(scores.method - scores.baseline, ROUNDING)
    at_margin = exact_p_values(moved - MARGIN, ROUNDING)
    at_other_end = exact_p_values(moved + MARGIN, ROUNDING)
    inside = abs(moved.mean(axis=1)) < MARGIN - ROUNDING
    equivalent = inside & (np.maximum(at_margin, at_other_end) / 2 < ALPHA)
    covered, close_covered = at_margin >= ALPHA, at_margin >= 2 * ALPHA
    t_covered = _t_covered(moved, MARGIN)
    for i in range(size.through_functions(n)):
        tested = paired_difference(scores.method[i], scores.baseline[i])
        apart = paired_difference(scores.method[i] + MARGIN, scores.baseline[i])
        close = paired_equivalence(moved[i], MARGIN)
        check_p(tested, p_values[i])
        check_same("sign-flip interval", covers(apart.interval, MARGIN), covered[i])
        check_same("t interval", covers(apart.t_interval, MARGIN), t_covered[i])
        check_same("equivalence", close.p_value < ALPHA, equivalent[i])
        check_same("interval of equivalence", covers(close.interval, MARGIN), close_covered[i])
    symmetric, normal = law in simulated.SYMMETRIC, law == NORMAL
    smooth = symmetric and law != simulated.ACCURACIES
    both, one = (reachable_level(n, sides) if smooth else None for sides in (2, 1))
    part, end = "false positives", "equivalence, at the margin"
    return [
        false_positives(part, "sign-flip", law, n, p_values < ALPHA, symmetric, both),
        false_positives(part, end, law, n, equivalent, symmetric, one),
        coverage("sign-flip, 95 %", law, n, covered, symmetric),
        coverage("sign-flip, 90 %", law, n, close_covered, symmetric, 1 - 2 * ALPHA),
        coverage("t", law, n, t_covered, normal),
    ]


def effect_rates(law: str, n: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """What is shown beside the verdict: t test, signed ranks, BCa, the chance of a win."""
    scores = simulated.paired_scores(law, size.effects, n, rng)
    wins = simulated.WINS.get(law, 0.5)
    found = [paired_effects(d, 1 - ALPHA, rng) for d in scores.method - scores.baseline]
    # Where all differences are equal, t and BCa say nothing: neither a rejection nor a cover.
    t = [one.t_p_value is not None and one.t_p_value < ALPHA for one in found]
    bca = [one.bca_interval is not None and covers(one.bca_interval, 0.0) for one in found]
    ranks = [one.wilcoxon_p_value < ALPHA for one in found]
    won = [covers(one.superiority_interval, wins) for one in found]
    part, symmetric, normal = "false positives", law in simulated.SYMMETRIC, law == NORMAL
    return [
        false_positives(part, "signed ranks", law, n, np.array(ranks), symmetric),
        false_positives(part, "t", law, n, np.array(t), normal),
        _bca_rate(law, n, np.array(bca)),
        coverage("chance to win", law, n, np.array(won), promised=True),
    ]


def _bca_rate(law: str, n: int, covered: Found) -> Rate:
    rate = coverage("BCa", law, n, covered, promised=False)
    if law == NORMAL and n in BCA_COVERAGE:
        return replace(rate, claim=BCA_COVERAGE[n], bound="about", slack=0.01, promised=True)
    return rate


def spread_rates(law: str, n: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """The interval of the standard deviation, from which seeds are planned."""
    sds = simulated.standardised(law, size.effects, n, rng).std(axis=1, ddof=1)
    covered = np.array([covers(sd_interval(sd, n), 1.0) for sd in sds])
    return [coverage("spread", law, n, covered, law == NORMAL)]


def mcnemar_rates(concentration: float, size: Size, rng: np.random.Generator) -> list[Rate]:
    """McNemar's test of one pair of models that are right equally often."""
    pairs = simulated.answers(size.simulations, 2, concentration, rng)
    found = [mcnemar(method, baseline) for method, baseline in pairs]
    discordant = np.mean([one.method_only + one.baseline_only for one in found])
    p_values = {
        "McNemar, exact": [one.p_value for one in found],
        "McNemar, mid-p": [one.mid_p_value for one in found],
    }
    return [
        false_positives(
            "false positives over examples",
            name,
            f"{discordant:.0f} discordant",
            simulated.EXAMPLES,
            np.array(values) < ALPHA,
            promised=True,
        )
        for name, values in p_values.items()
    ]


def crossed_rates(mixture: str, n: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """The crossed bootstrap of seeds and examples, where both have effects of their own."""
    variances, labels = simulated.MIXTURES[mixture], np.ones(simulated.EXAMPLES)
    covered = np.empty(size.crossed, dtype=np.bool_)
    for i in range(size.crossed):
        method, baseline = simulated.crossed_answers(variances, n, rng)
        (found,) = crossed_bootstraps("accuracy", [method, baseline], [(0, 1)], labels, rng)
        covered[i] = covers(Interval(found.low, found.high), simulated.CROSSED_DIFFERENCE)
    claim = CROSSED_COVERAGE.get((mixture, n))
    name, promised = "crossed bootstrap", claim is not None
    return [coverage(name, mixture, n, covered, promised, claim or 1 - ALPHA)]


def _t_covered(samples: Floats, truth: float) -> Found:
    n = samples.shape[1]
    half = student.ppf(1 - ALPHA / 2, n - 1) * samples.std(axis=1, ddof=1) / math.sqrt(n)
    covered: Found = abs(samples.mean(axis=1) - truth) <= half + ROUNDING
    return covered
