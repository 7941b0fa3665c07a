"""Checks of one comparison: rejections of true hypotheses, and coverage of intervals.

`paired_difference` and the other functions of the verdict are slow. So many simulations use
`exact_p_values`, and some of them also use these functions; both must agree.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.stats import t as student

from benchmarks import simulated
from benchmarks.rates import (
    ALPHA,
    Booleans,
    Rate,
    Size,
    check_p,
    check_same,
    coverage,
    covers,
    false_positives,
)
from harness.stats import (
    Interval,
    crossed_bootstraps,
    paired_difference,
    paired_effects,
    paired_equivalence,
)
from harness.stats.arrays import Floats
from harness.stats.examples import mcnemar
from harness.stats.paired import ROUNDING
from harness.stats.signflip import exact_p_values
from harness.stats.spread import sd_interval

MARGIN = 20 / simulated.EXAMPLES
"""A margin so wide that the test against the other end always rejects: the worst case for
equivalence."""
NORMAL_LAW = "normal"
BCA_COVERAGE = {6: 0.86, 10: 0.90}
"""Coverage of 95% intervals on normal differences, as `PairedEffects` claims."""
CROSSED_COVERAGE = {
    ("examples dominate", 6): 0.95,
    ("examples dominate", 10): 0.95,
    ("luck dominates", 6): 0.95,
    ("luck dominates", 10): 0.95,
    ("seeds dominate", 6): 0.88,
    ("seeds dominate", 10): 0.92,
}
"""Coverage of 95% intervals, as `CrossedBootstrap` claims; there is no other claim."""


def reachable_level(n: int, sides: int, alpha: float = ALPHA) -> float:
    """The largest p value below alpha of a sign-flip test with one or two sides and n seeds."""
    patterns = math.ceil(math.ldexp(alpha, n) / sides) - 1
    return math.ldexp(sides * patterns, -n)


def paired_rates(law: str, n: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """Rates of the sign-flip test, the test of equivalence at the margin, and their intervals."""
    scores = simulated.paired_scores(law, size.simulations, n, rng)
    differences = scores.method + MARGIN - scores.baseline
    p_values = exact_p_values(scores.method - scores.baseline, ROUNDING)
    at_margin = exact_p_values(differences - MARGIN, ROUNDING)
    at_other_end = exact_p_values(differences + MARGIN, ROUNDING)
    within_margin = abs(differences.mean(axis=1)) < MARGIN - ROUNDING
    equivalences = within_margin & (np.maximum(at_margin, at_other_end) / 2 < ALPHA)
    hits, equivalence_hits = at_margin >= ALPHA, at_margin >= 2 * ALPHA
    t_hits = _t_hits(differences, MARGIN)
    for i in range(size.through_functions(n)):
        test = paired_difference(scores.method[i], scores.baseline[i])
        shifted_test = paired_difference(scores.method[i] + MARGIN, scores.baseline[i])
        equivalence = paired_equivalence(differences[i], MARGIN)
        check_p(test, p_values[i])
        check_same("sign-flip interval", covers(shifted_test.interval, MARGIN), hits[i])
        check_same("t interval", covers(shifted_test.t_interval, MARGIN), t_hits[i])
        check_same("equivalence", equivalence.p_value < ALPHA, equivalences[i])
        check_same(
            "interval of equivalence", covers(equivalence.interval, MARGIN), equivalence_hits[i]
        )
    is_symmetric, is_normal = law in simulated.SYMMETRIC_LAWS, law == NORMAL_LAW
    is_smooth = is_symmetric and law != simulated.ACCURACIES
    two_sided_level, one_sided_level = (
        reachable_level(n, sides) if is_smooth else None for sides in (2, 1)
    )
    part, end = "false positives", "equivalence, at the margin"
    return [
        false_positives(part, "sign-flip", law, n, p_values < ALPHA, is_symmetric, two_sided_level),
        false_positives(part, end, law, n, equivalences, is_symmetric, one_sided_level),
        coverage("sign-flip, 95 %", law, n, hits, is_symmetric),
        coverage("sign-flip, 90 %", law, n, equivalence_hits, is_symmetric, 1 - 2 * ALPHA),
        coverage("t", law, n, t_hits, is_normal),
    ]


def effect_rates(law: str, n: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """Rates of the numbers beside the verdict: t test, signed ranks, BCa, the chance of a win."""
    scores = simulated.paired_scores(law, size.effect_simulations, n, rng)
    wins = simulated.WINS.get(law, 0.5)
    effects = [paired_effects(d, 1 - ALPHA, rng) for d in scores.method - scores.baseline]
    # If all differences are equal, t and BCa have no result: neither a rejection nor a cover.
    t = [effect.t_p_value is not None and effect.t_p_value < ALPHA for effect in effects]
    bca = [
        effect.bca_interval is not None and covers(effect.bca_interval, 0.0) for effect in effects
    ]
    ranks = [effect.wilcoxon_p_value < ALPHA for effect in effects]
    win_hits = [covers(effect.superiority_interval, wins) for effect in effects]
    part, is_symmetric, is_normal = (
        "false positives",
        law in simulated.SYMMETRIC_LAWS,
        law == NORMAL_LAW,
    )
    return [
        false_positives(part, "signed ranks", law, n, np.array(ranks), is_symmetric),
        false_positives(part, "t", law, n, np.array(t), is_normal),
        _bca_rate(law, n, np.array(bca)),
        coverage("chance to win", law, n, np.array(win_hits), is_claimed=True),
    ]


def _bca_rate(law: str, n: int, hits: Booleans) -> Rate:
    rate = coverage("BCa", law, n, hits, is_claimed=False)
    if law == NORMAL_LAW and n in BCA_COVERAGE:
        return replace(rate, claim=BCA_COVERAGE[n], bound="about", slack=0.01, is_claimed=True)
    return rate


def spread_rates(law: str, n: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """Coverage of the interval of the standard deviation, from which seeds are planned."""
    sds = simulated.standard_draws(law, size.effect_simulations, n, rng).std(axis=1, ddof=1)
    hits = np.array([covers(sd_interval(sd, n), 1.0) for sd in sds])
    return [coverage("spread", law, n, hits, law == NORMAL_LAW)]


def mcnemar_rates(concentration: float, size: Size, rng: np.random.Generator) -> list[Rate]:
    """Rates of McNemar's test for one pair of models that are right equally often."""
    pairs = simulated.answers(size.simulations, 2, concentration, rng)
    tests = [mcnemar(method, baseline) for method, baseline in pairs]
    discordant_mean = np.mean([test.method_only + test.baseline_only for test in tests])
    p_values = {
        "McNemar, exact": [test.p_value for test in tests],
        "McNemar, mid-p": [test.mid_p_value for test in tests],
    }
    return [
        false_positives(
            "false positives over examples",
            name,
            f"{discordant_mean:.0f} discordant",
            simulated.EXAMPLES,
            np.array(values) < ALPHA,
            is_claimed=True,
        )
        for name, values in p_values.items()
    ]


def crossed_rates(mixture: str, n: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """Coverage of the crossed bootstrap, with effects of seeds and of examples."""
    variances, labels = simulated.MIXTURES[mixture], np.ones(simulated.EXAMPLES)
    hits = np.empty(size.crossed_simulations, dtype=np.bool_)
    for i in range(size.crossed_simulations):
        method, baseline = simulated.crossed_answers(variances, n, rng)
        (bootstrap,) = crossed_bootstraps("accuracy", [method, baseline], [(0, 1)], labels, rng)
        hits[i] = covers(Interval(bootstrap.low, bootstrap.high), simulated.CROSSED_DIFFERENCE)
    claim = CROSSED_COVERAGE.get((mixture, n))
    name, is_claimed = "crossed bootstrap", claim is not None
    return [coverage(name, mixture, n, hits, is_claimed, claim or 1 - ALPHA)]


def _t_hits(samples: Floats, truth: float) -> Booleans:
    n = samples.shape[1]
    half = student.ppf(1 - ALPHA / 2, n - 1) * samples.std(axis=1, ddof=1) / math.sqrt(n)
    hits: Booleans = abs(samples.mean(axis=1) - truth) <= half + ROUNDING
    return hits
