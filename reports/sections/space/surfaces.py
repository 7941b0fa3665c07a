"""A method's selection scores over temperature and weight, from its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.interpolate import LinearNDInterpolator

from harness.stats.arrays import Floats
from reports.sections.space.trials import KD_WEIGHT, LAYER_SHARE, Scale, Searched

TEMPERATURE = "temperature"
GRID = 20
"""Points of a surface along each side."""
LEAST_SURFACE = 20
"""Trials of a surface: ten for each of its dimensions (Loeppky, Sacks and Welch, "Choosing the sample
size of a computer experiment", Technometrics 51, 2009), which is a rule for scores without noise."""


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
    """The weight of a method's own term that was searched, else of the distilled logits, if any."""
    weights = [
        name
        for name, scale in scales.items()
        if (name.endswith("_weight") or name == LAYER_SHARE) and not scale.choices
    ]
    return next((name for name in weights if name != KD_WEIGHT), next(iter(weights), None))


def no_surface(searched: Searched, method: str) -> str | None:
    """Why a method has no surface over temperature and weight; None if it has one."""
    scales = searched.scales[method]
    y_name = weight_name(scales)
    if TEMPERATURE not in scales or scales[TEMPERATURE].choices or y_name is None:
        return "no range of both was searched"
    if len(searched.of(method)) < LEAST_SURFACE:
        return "too few trials"
    known, places = _placed(searched, method, y_name)
    if len(known) < LEAST_SURFACE or np.linalg.matrix_rank(places - places.mean(axis=0), 1e-6) < 2:
        return "too few different trials"
    return None


def surface(searched: Searched, method: str) -> Surface:
    """A method's scores over temperature and weight; only where `no_surface` finds no reason."""
    y_name = weight_name(searched.scales[method])
    assert y_name is not None
    known, places = _placed(searched, method, y_name)
    x, y = (np.linspace(own.min(), own.max(), GRID) for own in places.T)
    between = LinearNDInterpolator(places, known["points"].to_numpy(dtype=np.float64))
    scales = searched.scales[method]
    return Surface(
        method,
        TEMPERATURE,
        y_name,
        scales[TEMPERATURE].value(x),
        scales[y_name].value(y),
        between(*np.meshgrid(x, y)),
        known[[f"setting.{TEMPERATURE}", f"setting.{y_name}", "points"]],
    )


def _placed(searched: Searched, method: str, y_name: str) -> tuple[pd.DataFrame, Floats]:
    """The trials with both values, and where these lie, (trials, 2), from 0 to 1."""
    names, scales = (TEMPERATURE, y_name), searched.scales[method]
    known = searched.of(method).dropna(subset=[f"setting.{name}" for name in names])
    columns = [[scales[name].position(v) for v in known[f"setting.{name}"]] for name in names]
    return known, np.array(columns).T
