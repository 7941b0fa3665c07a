"""Many chances to be wrong: families of comparisons, and looks while seeds are added."""

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
    law: str, n: int, real: int, shared: bool, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """Any false rejection in a family of `COMPARISONS`, of which `real` are of true differences.

    All are against one baseline if `shared`, else each against one of its own.
    """
    methods = COMPARISONS + (1 if shared else COMPARISONS)
    scores = simulated.family_scores(law, size.simulations, methods, n, rng)
    scores[:, :real] += REAL_DIFFERENCE
    method, baseline = scores[:, :COMPARISONS], scores[:, COMPARISONS:]
    p_values = exact_p_values((method - baseline).reshape(-1, n), ROUNDING)
    p_values = p_values.reshape(-1, COMPARISONS)
    for i in range(size.through_functions(n) // COMPARISONS):
        for k in range(COMPARISONS):
            tested = paired_difference(method[i, k], baseline[i, 0 if shared else k])
            check_p(tested, p_values[i, k])
    adjusted = np.array([holm(family) for family in p_values])
    data = f"{law}, {'one baseline' if shared else 'own baselines'}"
    name = f"Holm, {COMPARISONS - real} of {COMPARISONS} equal"
    found = [(name, adjusted, True)]
    if not real:
        found.append(("unadjusted", p_values, False))
    return [
        false_positives(FAMILY, name, data, n, np.any(p[:, real:] < ALPHA, axis=1), promised)
        for name, p, promised in found
    ]


def sequential_rates(
    law: str, most: int, first: int, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """The sequential test: any rejection in looks after every pair from the first one on."""
    scores = simulated.paired_scores(law, size.sequential, most, rng)
    tests = [
        sequential_sign_flip(path, most, ALPHA, first=first, generator=rng)
        for path in scores.method - scores.baseline
    ]
    rejected = np.array([test.rejected_at is not None for test in tests])
    name = f"sequential, looks from pair {first}"
    return [false_positives(LOOKS, name, law, most, rejected, True)]


def repeated_rates(law: str, most: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """The test for a fixed number of seeds, repeated after every pair until it rejects."""
    scores = simulated.paired_scores(law, size.sequential, most, rng)
    differences = scores.method - scores.baseline
    rejected = np.zeros(len(differences), dtype=np.bool_)
    for pairs in range(minimum_seeds(1, ALPHA), most + 1):
        rejected[~rejected] = exact_p_values(differences[~rejected, :pairs], ROUNDING) < ALPHA
    return [false_positives(LOOKS, "fixed-n test, repeated", law, most, rejected, promised=False)]


def one_sided_rates(law: str, most: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """The sequential test against one margin, on which "equivalent" rests, where that is the truth."""
    scores = simulated.paired_scores(law, size.sequential, most, rng)
    tests = [
        sequential_sign_flip(path, most, ALPHA, theta=MARGIN, alternative="less", generator=rng)
        for path in scores.method + MARGIN - scores.baseline
    ]
    rejected = np.array([test.rejected_at is not None for test in tests])
    name = "sequential, below the margin"
    return [false_positives(LOOKS, name, law, most, rejected, promised=True)]


def stopping_rates(law: str, most: int, size: Size, rng: np.random.Generator) -> list[Rate]:
    """Seeds added until a comparison is decided, as `--seeds auto` does it.

    A false "better" or "worse" where the margin is so small that nothing is equivalent, and a false
    "equivalent" where the true difference is a margin of one point, about the spread.
    """
    scores = simulated.paired_scores(law, size.sequential, most, rng)
    differences = scores.method - scores.baseline
    alike = [stopping(path, most, ALPHA, simulated.UNIT / 1e6).decision for path in differences]
    moved = differences + simulated.UNIT
    apart = [stopping(path, most, ALPHA, simulated.UNIT).decision for path in moved]
    found = {
        "until decided: better or worse": [decision is not None for decision in alike],
        "until decided: equivalent": [decision == "equivalent" for decision in apart],
    }
    return [
        false_positives(LOOKS, name, law, most, np.array(wrong), promised=True)
        for name, wrong in found.items()
    ]


def repeated_interval_rates(
    law: str, most: int, size: Size, rng: np.random.Generator
) -> list[Rate]:
    """The interval that is shown while seeds are added: whether it holds the truth at every look."""
    scores = simulated.paired_scores(law, size.sequential, most, rng)
    looks = range(first_look(most, ALPHA), most + 1)
    covered = [
        all(covers(repeated_interval(path[:pairs], most, ALPHA), MARGIN) for pairs in looks)
        for path in scores.method + MARGIN - scores.baseline
    ]
    return [coverage("repeated, at all looks", law, most, np.array(covered), promised=True)]
