"""A method's selection scores over temperature and weight, from its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.interpolate import LinearNDInterpolator

from harness.stats.arrays import Floats
from reports.sections.space.trials import KD_WEIGHT, LAYER_SHARE, Scale, SearchSpace

TEMPERATURE = "temperature"
GRID = 20
"""Points of a surface along each side."""
LEAST_SURFACE = 20
"""The fewest trials of a surface: ten for each dimension. The rule is for scores without noise (Loeppky,
Sacks and Welch, "Choosing the sample size of a computer experiment", Technometrics 51, 2009)."""


@dataclass(frozen=True)
class Surface:
    """A method's scores over two hyper-parameters, linear between its trials.

    `points` (GRID of `y`, GRID of `x`) are in score points, NaN outside the trials' convex hull.
    """

    method: str
    x_name: str
    y_name: str
    x: Floats
    y: Floats
    points: Floats
    trials: pd.DataFrame
    """One row per trial: the two values and the selection score."""


def weight_name(scales: Mapping[str, Scale]) -> str | None:
    """The searched weight of a method's own term, else of the logits' term; None without a weight."""
    weights = [
        name
        for name, scale in scales.items()
        if (name.endswith("_weight") or name == LAYER_SHARE) and not scale.choices
    ]
    return next((name for name in weights if name != KD_WEIGHT), next(iter(weights), None))


def no_surface(space: SearchSpace, method: str) -> str | None:
    """The reason why a method has no surface over temperature and weight; None if it has a surface."""
    scales = space.scales[method]
    y_name = weight_name(scales)
    if TEMPERATURE not in scales or scales[TEMPERATURE].choices or y_name is None:
        return "no ranges of both were searched"
    if len(space.method_trials(method)) < LEAST_SURFACE:
        return "too few trials"
    trials, places = _places(space, method, y_name)
    if len(trials) < LEAST_SURFACE or np.linalg.matrix_rank(places - places.mean(axis=0), 1e-6) < 2:
        return "too few different trials"
    return None


def surface(space: SearchSpace, method: str) -> Surface:
    """A method's scores over temperature and weight; only for methods without a `no_surface` reason."""
    y_name = weight_name(space.scales[method])
    assert y_name is not None
    trials, places = _places(space, method, y_name)
    x, y = (np.linspace(column.min(), column.max(), GRID) for column in places.T)
    interpolate = LinearNDInterpolator(places, trials["points"].to_numpy(dtype=np.float64))
    scales = space.scales[method]
    return Surface(
        method,
        TEMPERATURE,
        y_name,
        scales[TEMPERATURE].value(x),
        scales[y_name].value(y),
        interpolate(*np.meshgrid(x, y)),
        trials[[f"setting.{TEMPERATURE}", f"setting.{y_name}", "points"]],
    )


def _places(space: SearchSpace, method: str, y_name: str) -> tuple[pd.DataFrame, Floats]:
    """The trials with both values, and the places of the two values, (trials, 2), from 0 to 1."""
    names, scales = (TEMPERATURE, y_name), space.scales[method]
    trials = space.method_trials(method).dropna(subset=[f"setting.{name}" for name in names])
    columns = [[scales[name].position(v) for v in trials[f"setting.{name}"]] for name in names]
    return trials, np.array(columns).T
