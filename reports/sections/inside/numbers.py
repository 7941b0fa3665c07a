"""The numbers behind "Looking inside", as data frames, rounded to what can be read of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.inside import Change, Likeness, Mixture, Targets
from harness.stats.arrays import Floats

DECIMALS = 3
"""Of weights, similarities and their spread."""
ALL_LAYERS = "all"
"""Stands for the mean over the student layers."""
WHEN = ("before", "after")
RIGHT = 90.0
"""Degrees: a smaller angle is acute."""


@dataclass(frozen=True)
class Spread:
    """Over seeds, the first axis of what it was made of: mean, sd (n − 1; NaN for one), ends."""

    mean: Floats
    sd: Floats
    low: Floats
    high: Floats


def spread(values: Floats) -> Spread:
    """The spread of values (seeds, ...), each result (...)."""
    several = len(values) > 1
    sd = values.std(axis=0, ddof=1) if several else np.full(values.shape[1:], np.nan)
    return Spread(values.mean(axis=0), sd, values.min(axis=0), values.max(axis=0))


def weights_frame(mixture: Mixture) -> pd.DataFrame:
    """One row per epoch, statistic and student layer, a column per teacher layer.

    Means over seeds of every epoch; `sd`, `lowest` and `highest` seed of the last one.
    """
    last = len(mixture.epochs) - 1
    rows: list[tuple[Any, ...]] = []
    for place, epoch in enumerate(mixture.epochs):
        found = spread(mixture.weights[:, place])
        statistics = {"mean": found.mean}
        if place == last:
            statistics |= {"sd": found.sd, "lowest": found.low, "highest": found.high}
        for name, values in statistics.items():
            rows += _matrix_rows(values, epoch, name)
    return _matrix_frame(rows, ("epoch", "statistic"))


def entropy_frame(mixtures: Mapping[str, Mixture]) -> pd.DataFrame:
    """One row per method, student layer and epoch: entropy in % of its maximum, over seeds.

    `ALL_LAYERS` stands for the mean over each run's student layers.
    """
    rows = []
    for method, mixture in mixtures.items():
        percent = 100 * mixture.entropy
        layers = {ALL_LAYERS: percent.mean(axis=2)}
        layers |= {str(layer + 1): percent[:, :, layer] for layer in range(percent.shape[2])}
        for layer, values in layers.items():
            found = spread(values)
            columns = (found.mean, found.sd, found.low, found.high)
            for place, epoch in enumerate(mixture.epochs):
                shown = (round(float(column[place]), 1) for column in columns)
                rows.append((method, layer, epoch, *shown, mixture.seen.seeds))
    names = ["method", "student_layer", "epoch", "mean", "sd", "low", "high", "seeds"]
    return pd.DataFrame(rows, columns=pd.Index(names))


def targets_frame(targets: Mapping[str, Targets]) -> pd.DataFrame:
    """One row per method and student layer (from 1): what it was matched to after training.

    Entropy and its spread between seeds (NaN where nothing is mixed) and the variance share in percent,
    and of how many examples and seeds all this is.
    """
    parts = []
    for method, found in targets.items():
        layers = len(found.target_length)
        entropy = np.full((found.seen.seeds, layers), np.nan)
        if found.mixture is not None:
            entropy = 100 * found.mixture.entropy[:, -1]
        over_seeds = spread(entropy)
        parts.append(
            pd.DataFrame(
                {
                    "method": method,
                    "student_layer": np.arange(1, layers + 1),
                    "entropy": over_seeds.mean,
                    "entropy_sd": over_seeds.sd,
                    "entropy_low": over_seeds.low,
                    "entropy_high": over_seeds.high,
                    "target_length": found.target_length,
                    "variance_percent": 100 * found.target_variance_share,
                    "examples": found.seen.examples,
                    "seeds": found.seen.seeds,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def likeness_frame(likeness: Mapping[str, Likeness]) -> pd.DataFrame:
    """One row per method, measure, time and student layer, a column per teacher layer."""
    rows = [
        row
        for method, found in likeness.items()
        for measure, change in _measures(found).items()
        for when in WHEN
        for row in _matrix_rows(getattr(change, when), method, measure, when)
    ]
    return _matrix_frame(rows, ("method", "measure", "when"))


def likeness_summary(likeness: Mapping[str, Likeness]) -> pd.DataFrame:
    """One row per method: how like the most similar teacher layer its student layers are.

    `cka_before`, `cka_after`, `cosine_before` and `cosine_after` are means over student layers of the
    greatest value over teacher layers; NaN where there is none. `nearest`: for each student layer, the
    teacher layer (from 1) with the greatest CKA after training.
    """
    rows = []
    for method, found in likeness.items():
        row: dict[str, object] = {"method": method}
        for measure, change in (("cka", found.cka), ("cosine", found.cosine)):
            for when in WHEN:
                values = np.nan if change is None else getattr(change, when).max(axis=1).mean()
                row[f"{measure}_{when}"] = values
        row["nearest"] = ", ".join(map(_nearest, found.cka.after))
        rows.append(row)
    return pd.DataFrame(rows)


def angle_frame(likeness: Mapping[str, Likeness]) -> pd.DataFrame:
    """One row per method, student layer and time: the angles between pairs of teacher layers.

    `lowest`, `median`, `highest` in degrees and `acute` in percent of the `pairs`; NaN where any pair
    has no angle. Methods without angles are left out.
    """
    rows = []
    for method, found in likeness.items():
        if found.angles is None:
            continue
        for when in WHEN:
            for layer, angles in enumerate(getattr(found.angles, when), start=1):
                pairs = angles[np.triu_indices(len(angles), k=1)]
                if not len(pairs):
                    continue
                acute = np.nan if np.isnan(pairs).any() else 100 * (pairs < RIGHT).mean()
                ends = (float(f(pairs)) for f in (np.min, np.median, np.max))
                shown = [round(value, 1) for value in (*ends, float(acute))]
                rows.append((method, layer, when, len(pairs), *shown))
    names = ["method", "student_layer", "when", "pairs", "lowest", "median", "highest", "acute"]
    return pd.DataFrame(rows, columns=pd.Index(names))


def change_of(change: Change) -> Floats:
    """After training less before."""
    return change.after - change.before


def rounded(values: Floats) -> Floats:
    """To `DECIMALS`, without negative zeros."""
    return np.asarray(values.round(DECIMALS) + 0.0)


def _matrix_rows(values: Floats, *named: str | int) -> list[tuple[Any, ...]]:
    """A row per student layer: what it is of, its number, and its values by teacher layer."""
    return [(*named, layer, *row) for layer, row in enumerate(rounded(values).tolist(), start=1)]


def _matrix_frame(rows: Sequence[tuple[Any, ...]], named: Sequence[str]) -> pd.DataFrame:
    """Rows of `_matrix_rows`, of which the longest have all teacher layers."""
    teachers = max(map(len, rows)) - len(named) - 1
    columns = (*named, "student_layer", *(f"teacher {k}" for k in range(1, teachers + 1)))
    return pd.DataFrame(rows, columns=pd.Index(columns))


def _measures(likeness: Likeness) -> dict[str, Change]:
    found = {"CKA": likeness.cka, "cosine": likeness.cosine}
    return {name: change for name, change in found.items() if change is not None}


def _nearest(row: Floats) -> str:
    return "?" if np.isnan(row).any() else str(int(row.argmax()) + 1)
