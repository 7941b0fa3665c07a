"""Scores and answers of simulated runs with a known true difference.

The unit of the differences is `UNIT`, about the spread between two seeds of one method.
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
"""The size of RTE's validation split."""
CONCENTRATIONS = (0.06, 0.5, 1e6)
"""Concentrations of `answers`: two models disagree on 7, 41 and 123 of the 277 examples on average."""
BLOCK = 2**24
"""Answers in memory at once."""

DIFFERENCES: dict[str, Callable[[np.random.Generator, Shape], Floats]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "t, 2 df": lambda rng, shape: rng.standard_t(2, size=shape),
    "Laplace": lambda rng, shape: rng.laplace(size=shape),
    "unequal spread": lambda rng, shape: rng.normal(size=shape) * np.geomspace(1, 10, shape[1]),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    "lognormal": lambda rng, shape: rng.lognormal(size=shape) - math.exp(0.5),
}
"""Differences (simulations, seeds) by the name of their law; the mean is zero if it exists."""
ACCURACIES = "accuracies"
"""The law of accuracies on 277 examples. Most examples all models answer alike: many ties."""
SYMMETRIC_LAWS = ("normal", "t, 2 df", "Laplace", ACCURACIES, "unequal spread")
"""Laws of exchangeable methods: the differences are symmetric about zero."""
SKEWED_LAWS = ("exponential", "lognormal")
"""Laws with mean zero that are not symmetric: they break the assumption of the sign-flip test."""
WINS = {"exponential": math.exp(-1), "lognormal": float(norm.sf(0.5))}
"""The chance of a positive difference, for laws where the chance is not one half (a tie counts half)."""

STANDARD_DEVIATIONS = {"normal": 1.0, "Laplace": math.sqrt(2), "exponential": 1.0}


class Scores(NamedTuple):
    """Scores of two methods, paired by seed, with a true difference of zero."""

    method: Floats
    """(simulations, seeds)."""
    baseline: Floats
    """(simulations, seeds)."""


def paired_scores(law: str, simulations: int, seeds: int, rng: np.random.Generator) -> Scores:
    """Scores whose differences have the law, or accuracies of exchangeable models."""
    if law == ACCURACIES:
        return Scores(*accuracies(simulations, 2, seeds, rng).swapaxes(0, 1))
    differences = UNIT * DIFFERENCES[law](rng, (simulations, seeds))
    baseline = rng.normal(0.7, UNIT, size=(simulations, seeds))
    return Scores(baseline + differences, baseline)


def standard_draws(law: str, simulations: int, seeds: int, rng: np.random.Generator) -> Floats:
    """Draws (simulations, seeds) with mean 0 and variance 1, of a law in `STANDARD_DEVIATIONS`."""
    return DIFFERENCES[law](rng, (simulations, seeds)) / STANDARD_DEVIATIONS[law]


def family_scores(
    law: str, simulations: int, methods: int, seeds: int, rng: np.random.Generator
) -> Floats:
    """Scores (simulations, methods, seeds) of equal methods."""
    if law == ACCURACIES:
        return accuracies(simulations, methods, seeds, rng)
    noise = DIFFERENCES[law](rng, (simulations * methods, seeds))
    return 0.7 + UNIT * noise.reshape(simulations, methods, seeds)


def accuracies(simulations: int, methods: int, seeds: int, rng: np.random.Generator) -> Floats:
    """Accuracies (simulations, methods, seeds) on 277 examples with the law `ACCURACIES`."""
    right_counts = np.empty((simulations, methods, seeds), dtype=np.int64)
    rows = max(1, BLOCK // (methods * seeds * EXAMPLES))
    for start in range(0, simulations, rows):
        block = right_counts[start : start + rows]
        block_answers = answers(len(block), methods * seeds, CONCENTRATIONS[0], rng)
        block[:] = block_answers.sum(axis=2).reshape(block.shape)
    return right_counts / EXAMPLES


def answers(
    simulations: int, models: int, concentration: float, rng: np.random.Generator
) -> Answers:
    """Answers of models to 277 examples (simulations, models, examples), true if right.

    Each example has one chance of a right answer for all models, drawn from a beta distribution
    with mean two thirds. A lower concentration moves the chances towards 0 and 1, and two models
    then disagree on fewer examples.
    """
    parameters = (2 * concentration / 3, concentration / 3)
    chances = rng.beta(*parameters, size=(simulations, 1, EXAMPLES)).astype(np.float32)
    uniforms = rng.random(size=(simulations, models, EXAMPLES), dtype=np.float32)
    right_answers: Answers = uniforms < chances
    return right_answers


class Variances(NamedTuple):
    """Variances of the effects that make the latent quality of an answer; the sum is one."""

    difficulty: float
    """Effect of the example, equal for both methods."""
    example: float
    """Effect of the example for one method."""
    seed: float
    """Effect of the seed for one method."""
    luck: float
    """Effect of the single answer."""


MIXTURES = {
    "all effects": Variances(0.5, 0.05, 0.003, 0.447),
    "examples dominate": Variances(0.5, 0.45, 0.0, 0.05),
    "seeds dominate": Variances(0.9, 0.0, 0.05, 0.05),
    "luck dominates": Variances(0.2, 0.0, 0.0, 0.8),
}
METHOD_ACCURACY, BASELINE_ACCURACY = 0.70, 0.67
"""Expected accuracies over all seeds and examples, for all variances."""
CROSSED_DIFFERENCE = METHOD_ACCURACY - BASELINE_ACCURACY


def crossed_answers(
    variances: Variances, seeds: int, rng: np.random.Generator
) -> tuple[Answers, Answers]:
    """Answers of method and baseline, each (seeds, examples), true if right.

    An answer is right if its latent quality, a standard normal sum of the effects, is below the
    threshold of the method.
    """
    difficulty = math.sqrt(variances.difficulty) * rng.normal(size=EXAMPLES)

    def draw(accuracy: float) -> Answers:
        quality = difficulty + math.sqrt(variances.example) * rng.normal(size=EXAMPLES)
        quality = quality + math.sqrt(variances.seed) * rng.normal(size=(seeds, 1))
        quality = quality + math.sqrt(variances.luck) * rng.normal(size=(seeds, EXAMPLES))
        right_answers: npt.NDArray[Any] = quality < norm.ppf(accuracy)
        return right_answers

    return draw(METHOD_ACCURACY), draw(BASELINE_ACCURACY)
