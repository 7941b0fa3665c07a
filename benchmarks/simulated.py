"""Scores and answers of simulated runs, of which the true difference is known.

Differences are drawn in units of `UNIT`, about the spread that two seeds of one method have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from harness.stats.arrays import Floats

Answers = npt.NDArray[np.bool_]
Shape = tuple[int, int]

UNIT = 0.01
EXAMPLES = 277
"""As RTE's validation split."""
FEW, SOME, MANY = 0.06, 0.5, 1e6
"""Concentrations of `answers`: two models disagree on 7, 41 and 123 of the 277 examples on average."""
BLOCK = 2**24
"""Answers held at once: bounds the memory."""

DIFFERENCES: dict[str, Callable[[np.random.Generator, Shape], Floats]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "t, 2 df": lambda rng, shape: rng.standard_t(2, size=shape),
    "Laplace": lambda rng, shape: rng.laplace(size=shape),
    "unequal spread": lambda rng, shape: rng.normal(size=shape) * np.geomspace(1, 10, shape[1]),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    "lognormal": lambda rng, shape: rng.lognormal(size=shape) - math.exp(0.5),
}
"""Differences (simulations, seeds) with mean zero where there is one, by the name of their law."""
ACCURACIES = "accuracies"
"""Of models on 277 examples, most of which all of them answer alike: few values, many ties."""
SYMMETRIC = ("normal", "t, 2 df", "Laplace", ACCURACIES, "unequal spread")
"""Both methods are exchangeable: the differences are symmetric about zero."""
SKEWED = ("exponential", "lognormal")
"""Mean zero, but not symmetric: what the sign-flip test assumes does not hold."""
WINS = {"exponential": math.exp(-1), "lognormal": float(norm.sf(0.5))}
"""The chance of a positive difference, where it is not one half (a tie counting half)."""

STANDARD_DEVIATIONS = {"normal": 1.0, "Laplace": math.sqrt(2), "exponential": 1.0}


class Scores(NamedTuple):
    """Scores of two methods, paired by seed, with a true difference of zero."""

    method: Floats
    """(simulations, seeds)."""
    baseline: Floats
    """(simulations, seeds)."""


def paired_scores(law: str, simulations: int, seeds: int, rng: np.random.Generator) -> Scores:
    """Scores whose differences have a law of `DIFFERENCES`, or accuracies of exchangeable models."""
    if law == ACCURACIES:
        return Scores(*accuracies(simulations, 2, seeds, rng).swapaxes(0, 1))
    differences = UNIT * DIFFERENCES[law](rng, (simulations, seeds))
    baseline = rng.normal(0.7, UNIT, size=(simulations, seeds))
    return Scores(baseline + differences, baseline)


def standardised(law: str, simulations: int, seeds: int, rng: np.random.Generator) -> Floats:
    """Draws (simulations, seeds) with mean 0 and variance 1, of a law in `STANDARD_DEVIATIONS`."""
    return DIFFERENCES[law](rng, (simulations, seeds)) / STANDARD_DEVIATIONS[law]


def family_scores(
    law: str, simulations: int, methods: int, seeds: int, rng: np.random.Generator
) -> Floats:
    """Scores (simulations, methods, seeds) of methods that are all alike."""
    if law == ACCURACIES:
        return accuracies(simulations, methods, seeds, rng)
    noise = DIFFERENCES[law](rng, (simulations * methods, seeds))
    return 0.7 + UNIT * noise.reshape(simulations, methods, seeds)


def accuracies(simulations: int, methods: int, seeds: int, rng: np.random.Generator) -> Floats:
    """Accuracies (simulations, methods, seeds) on 277 examples, most of which all models share."""
    right = np.empty((simulations, methods, seeds), dtype=np.int64)
    rows = max(1, BLOCK // (methods * seeds * EXAMPLES))
    for start in range(0, simulations, rows):
        block = right[start : start + rows]
        answered = answers(len(block), methods * seeds, FEW, rng)
        block[:] = answered.sum(axis=2).reshape(block.shape)
    return right / EXAMPLES


def answers(
    simulations: int, models: int, concentration: float, rng: np.random.Generator
) -> Answers:
    """Which of 277 examples models have right: (simulations, models, examples).

    Each example has a chance of its own, the same for all models: two thirds on average, from a
    beta distribution. The lower its concentration, the nearer to 0 and 1 the chances lie, and the
    fewer examples two models disagree on.
    """
    parameters = (2 * concentration / 3, concentration / 3)
    chances = rng.beta(*parameters, size=(simulations, 1, EXAMPLES)).astype(np.float32)
    drawn = rng.random(size=(simulations, models, EXAMPLES), dtype=np.float32)
    right: Answers = drawn < chances
    return right


class Variances(NamedTuple):
    """Of the hidden quality of an answer, by what it depends on; they sum to one."""

    difficulty: float
    """The example, alike for both methods."""
    example: float
    """The example and the method."""
    seed: float
    """The seed and the method."""
    luck: float
    """The answer alone."""


MIXTURES = {
    "all effects": Variances(0.5, 0.05, 0.003, 0.447),
    "examples dominate": Variances(0.5, 0.45, 0.0, 0.05),
    "seeds dominate": Variances(0.9, 0.0, 0.05, 0.05),
    "luck dominates": Variances(0.2, 0.0, 0.0, 0.8),
}
METHOD_ACCURACY, BASELINE_ACCURACY = 0.70, 0.67
"""Over all seeds and examples, whatever the variances."""
CROSSED_DIFFERENCE = METHOD_ACCURACY - BASELINE_ACCURACY


def crossed_answers(
    variances: Variances, seeds: int, rng: np.random.Generator
) -> tuple[Answers, Answers]:
    """Which examples the method and the baseline have right, (seeds, examples) each.

    An answer is right if its hidden quality, a standard normal sum of the effects, is below the
    threshold of its method.
    """
    difficulty = math.sqrt(variances.difficulty) * rng.normal(size=EXAMPLES)

    def right(accuracy: float) -> Answers:
        quality = difficulty + math.sqrt(variances.example) * rng.normal(size=EXAMPLES)
        quality = quality + math.sqrt(variances.seed) * rng.normal(size=(seeds, 1))
        quality = quality + math.sqrt(variances.luck) * rng.normal(size=(seeds, EXAMPLES))
        below: npt.NDArray[Any] = quality < norm.ppf(accuracy)
        return below

    return right(METHOD_ACCURACY), right(BASELINE_ACCURACY)
