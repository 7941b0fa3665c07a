"""Mixtures of teacher layers: their weights and entropy by epoch, as frames and figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.inspections import Mixture
from harness.stats.arrays import Floats
from reports.kit.canvas import blank_figure, fill_colour, line, marker, safe
from reports.kit.choices import State, add_states
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles
from reports.sections.inside.matrices import HEAT_MAP, cells, colour_bar, matrix_frame, matrix_rows

ALL_LAYERS = "all"
"""Stands for the mean over the student layers."""


@dataclass(frozen=True)
class Spread:
    """Values over seeds: mean, standard deviation (n − 1; NaN for one seed), least and greatest."""

    mean: Floats
    sd: Floats
    low: Floats
    high: Floats


def spread(values: Floats) -> Spread:
    """The spread over seeds of values (seeds, ...); each result has shape (...)."""
    sd = values.std(axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)
    return Spread(values.mean(axis=0), sd, values.min(axis=0), values.max(axis=0))


def weights_frame(mixture: Mixture) -> pd.DataFrame:
    """One row per epoch, statistic and student layer, a column per teacher layer.

    Every epoch has the mean over seeds. The last epoch also has `sd`, `lowest` and `highest` seed.
    """
    last_place = len(mixture.epochs) - 1
    rows: list[tuple[Any, ...]] = []
    for place, epoch in enumerate(mixture.epochs):
        over_seeds = spread(mixture.weights[:, place])
        statistics = {"mean": over_seeds.mean}
        if place == last_place:
            statistics |= {
                "sd": over_seeds.sd,
                "lowest": over_seeds.low,
                "highest": over_seeds.high,
            }
        for name, values in statistics.items():
            rows += matrix_rows(values, epoch, name)
    return matrix_frame(rows, ("epoch", "statistic"))


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
            over_seeds = spread(values)
            columns = (over_seeds.mean, over_seeds.sd, over_seeds.low, over_seeds.high)
            for place, epoch in enumerate(mixture.epochs):
                numbers = (round(float(column[place]), 1) for column in columns)
                rows.append((method, layer, epoch, *numbers, mixture.coverage.seeds))
    names = ["method", "student_layer", "epoch", "mean", "sd", "low", "high", "seeds"]
    return pd.DataFrame(rows, columns=pd.Index(names))


def largest_weight(mixtures: Iterable[Mixture]) -> float:
    """The largest mean weight of all epochs: the end of the scale that all heat maps share."""
    return max(float(mixture.weights.mean(axis=0).max()) for mixture in mixtures)


def mixture_figure(mixture: Mixture, largest: float) -> Drawing:
    """Heat map of mean weights up to `largest`, a state per epoch; the last epoch is shown first."""
    weights = mixture.weights.mean(axis=0)
    figure = blank_figure(height=150 + 44 * weights.shape[1], y_title="student layer")
    trace = HEAT_MAP | {
        "zmin": 0, "zmax": largest, "colorscale": "Cividis",
        "colorbar": colour_bar("weight"),
    }  # fmt: skip
    figure.update_xaxes(title_text="teacher layer", dtick=1, showgrid=False)
    figure.update_yaxes(dtick=1, autorange="reversed", showgrid=False)
    states = [[{"z": cells(means)}] for means in weights]
    return add_states(figure, [trace], states, len(states) - 1)


def entropy_layers(entropy: pd.DataFrame) -> list[str]:
    """The states of `entropy_figure`: all student layers, then each."""
    return list(dict.fromkeys(entropy["student_layer"]))


def entropy_figure(entropy: pd.DataFrame, styles: Styles) -> Drawing:
    """Entropy by epoch, a line and a band per method. From `entropy_frame`."""
    figure = blank_figure(height=300, y_title="entropy, % of its maximum")
    figure.update_layout(hoverlabel={"namelength": -1})
    traces: list[dict[str, Any]] = []
    for method in dict.fromkeys(entropy["method"]):
        style = styles[method]
        traces += [
            {
                "type": "scatter", "mode": "lines", "fill": "toself", "line": {"width": 0},
                "fillcolor": fill_colour(style.colour), "hoverinfo": "skip", "meta": safe(method),
            },
            {
                "type": "scatter", "mode": "lines+markers", "line": line(style, 2),
                "marker": marker(style, 7), "name": safe(method), "hoverinfo": "x+y+name",
                "meta": safe(method),
            },
        ]  # fmt: skip
    figure.update_xaxes(title_text="epoch", dtick=max(1, int(entropy["epoch"].max()) // 8))
    figure.update_yaxes(range=[-3, 103])
    states = [_entropy_state(by_method) for by_method in _by_layer(entropy)]
    return add_states(figure, traces, states, 0)


def _by_layer(entropy: pd.DataFrame) -> Iterator[list[pd.DataFrame]]:
    """Each student layer's rows, by method; no rows for a method that has no such layer."""
    groups = dict(iter(entropy.groupby(["student_layer", "method"], sort=False)))
    methods = dict.fromkeys(entropy["method"])
    for layer in entropy_layers(entropy):
        yield [groups.get((layer, method), entropy.iloc[:0]) for method in methods]


def _entropy_state(by_method: Sequence[pd.DataFrame]) -> State:
    state: list[dict[str, Any]] = []
    for rows in by_method:
        epochs, ends = rows["epoch"].tolist(), rows["high"].tolist() + rows["low"].tolist()[::-1]
        state += [
            {"x": epochs + epochs[::-1], "y": ends},
            {"x": epochs, "y": rows["mean"].tolist()},
        ]
    return state
