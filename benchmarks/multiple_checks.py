"""Checks of multiple testing: families of comparisons, and looks while seeds are added."""

from __future__ import annotations

import numpy as np

from benchmarks import simulated
from benchmarks.rates import ALPHA, Rate, Size, check_p, coverage, covers, false_positives
from harness.stats import first_look, holm, paired_difference, repeated_interval, stopping
from harness.stats.family import minimum_seeds
from harness.stats.paired import ROUNDING
from harness.stats.sequential import sequential_sign_flip
from harness.stats.signflip import exact_p_values

COMPARISONS = 15
REAL_DIFFERENCE = 5 * simulated.UNIT
MARGIN = 20 / simulated.EXAMPLES
FAMILY = "any false positive of 15"
LOOKS = "any false positive of all looks"


def family_rates(
    law: str, n: int, true_effects: int, shared_baseline: bool, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """Rates of any false rejection in a family of `COMPARISONS`, `true_effects` with a true difference.

    All methods have one baseline if `shared_baseline`, otherwise each has its own.
    """
    methods = COMPARISONS + (1 if shared_baseline else COMPARISONS)
    scores = simulated.family_scores(law, size.simulations, methods, n, rng)
    scores[:, :true_effects] += REAL_DIFFERENCE
    method, baseline = scores[:, :COMPARISONS], scores[:, COMPARISONS:]
    p_values = exact_p_values((method - baseline).reshape(-1, n), ROUNDING)
    p_values = p_values.reshape(-1, COMPARISONS)
    for i in range(size.through_functions(n) // COMPARISONS):
        for k in range(COMPARISONS):
            test = paired_difference(method[i, k], baseline[i, 0 if shared_baseline else k])
            check_p(test, p_values[i, k])
    adjusted_p_values = np.array([holm(family) for family in p_values])
    data = f"{law}, {'one baseline' if shared_baseline else 'own baselines'}"
    name = f"Holm, {COMPARISONS - true_effects} of {COMPARISONS} equal"
    families = [(name, adjusted_p_values, True)]
    if not true_effects:
        families.append(("unadjusted", p_values, False))
    return [
        false_positives(
            FAMILY, name, data, n, np.any(p[:, true_effects:] < ALPHA, axis=1), is_claimed
        )
        for name, p, is_claimed in families
    ]


def sequential_rates(
    law: str, max_pairs: int, first: int, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """Rate of any rejection by the sequential test, with a look after every pair from `first` on."""
    scores = simulated.paired_scores(law, size.sequential_simulations, max_pairs, rng)
    tests = [
        sequential_sign_flip(path, max_pairs, ALPHA, first=first, generator=rng)
        for path in scores.method - scores.baseline
    ]
    rejections = np.array([test.rejected_at is not None for test in tests])
    name = f"sequential, looks from pair {first}"
    return [false_positives(LOOKS, name, law, max_pairs, rejections, True)]


def repeated_rates(law: str, max_pairs: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """Rate of any rejection by the test for a fixed number of seeds, repeated after every pair."""
    scores = simulated.paired_scores(law, size.sequential_simulations, max_pairs, rng)
    differences = scores.method - scores.baseline
    rejections = np.zeros(len(differences), dtype=np.bool_)
    for pairs in range(minimum_seeds(1, ALPHA), max_pairs + 1):
        rejections[~rejections] = exact_p_values(differences[~rejections, :pairs], ROUNDING) < ALPHA
    return [
        false_positives(
            LOOKS, "fixed-n test, repeated", law, max_pairs, rejections, is_claimed=False
        )
    ]


def one_sided_rates(law: str, max_pairs: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """Rate of rejection by the sequential test against a margin that is the true difference."""
    scores = simulated.paired_scores(law, size.sequential_simulations, max_pairs, rng)
    tests = [
        sequential_sign_flip(
            path, max_pairs, ALPHA, theta=MARGIN, alternative="less", generator=rng
        )
        for path in scores.method + MARGIN - scores.baseline
    ]
    rejections = np.array([test.rejected_at is not None for test in tests])
    name = "sequential, below the margin"
    return [false_positives(LOOKS, name, law, max_pairs, rejections, is_claimed=True)]


def stopping_rates(law: str, max_pairs: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """Rates of false decisions if seeds are added until a decision, as by `--seeds auto`.

    A "better" or "worse" is false if methods are equal; here the margin is too small for
    "equivalent". An "equivalent" is false if the true difference is the margin; here one point,
    about the spread.
    """
    scores = simulated.paired_scores(law, size.sequential_simulations, max_pairs, rng)
    differences = scores.method - scores.baseline
    null_decisions = [
        stopping(path, max_pairs, ALPHA, simulated.UNIT / 1e6).decision for path in differences
    ]
    margin_differences = differences + simulated.UNIT
    margin_decisions = [
        stopping(path, max_pairs, ALPHA, simulated.UNIT).decision for path in margin_differences
    ]
    errors_by_name = {
        "until decided: better or worse": [decision is not None for decision in null_decisions],
        "until decided: equivalent": [decision == "equivalent" for decision in margin_decisions],
    }
    return [
        false_positives(LOOKS, name, law, max_pairs, np.array(errors), is_claimed=True)
        for name, errors in errors_by_name.items()
    ]


def repeated_interval_rates(
    law: str, max_pairs: int, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """Coverage of the repeated interval at all looks together."""
    scores = simulated.paired_scores(law, size.sequential_simulations, max_pairs, rng)
    looks = range(first_look(max_pairs, ALPHA), max_pairs + 1)
    hits = [
        all(covers(repeated_interval(path[:pairs], max_pairs, ALPHA), MARGIN) for pairs in looks)
        for path in scores.method + MARGIN - scores.baseline
    ]
    return [coverage("repeated, at all looks", law, max_pairs, np.array(hits), is_claimed=True)]
