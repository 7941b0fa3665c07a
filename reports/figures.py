"""Plotly figures, each drawn from a frame of `reports.numbers`.

Colours of text and grid are set by the page, which knows whether it is light or dark. Names from
the ledger are escaped, because Plotly reads markup in texts, and hover texts are never templates.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.kit.canvas import blank_figure, by_method, by_pair, line, marker, safe, transparent
from reports.kit.drawing import Drawing
from reports.kit.palette import Style

Styles = Mapping[str, Style]

PAIR_GAP = 2.2
"""Distance on the x axis between neighbouring comparisons; their own two columns are 1 apart."""
LINEAR = 10
"""Up to so many times the median, the greatest value leaves the others room on a linear scale."""


def pairs_figure(pairs: pd.DataFrame, styles: Styles, metric: str) -> Drawing:
    """Two columns per comparison, a line for each seed. From `numbers.seed_pairs`."""
    figure = blank_figure(height=380, y_title=f"{metric}, points")
    ticks: dict[float, str] = {}
    for index, ((method, baseline), rows) in enumerate(by_pair(pairs)):
        left = PAIR_GAP * index
        ticks |= {left: baseline, left + 1: method}
        lines_x = [x for _ in range(len(rows)) for x in (left, left + 1, None)]
        ends = zip(rows["baseline_points"], rows["method_points"], strict=True)
        lines_y = [y for pair in ends for y in (*pair, None)]
        figure.add_scatter(
            x=lines_x, y=lines_y, mode="lines", line=line(styles[method], 1), opacity=0.7,
            hoverinfo="skip",
        )  # fmt: skip
        for x, name, column in (
            (left, baseline, "baseline_points"),
            (left + 1, method, "method_points"),
        ):
            figure.add_scatter(
                x=[x] * len(rows), y=rows[column].tolist(), mode="markers",
                marker=marker(styles[name], 9), hoverinfo="text",
                hovertext=[
                    f"{safe(name)}, seed {seed}: {value:.2f}"
                    for seed, value in zip(rows["seed"], rows[column], strict=True)
                ],
            )  # fmt: skip
    figure.update_xaxes(tickvals=list(ticks), ticktext=[safe(name) for name in ticks.values()])
    return figure


def seeds_figure(scores: pd.DataFrame, styles: Styles, metric: str) -> Drawing:
    """One column of points per method. From `numbers.seed_scores`."""
    figure = blank_figure(height=380, y_title=f"{metric}, points")
    methods = list(dict.fromkeys(scores["method"]))
    for x, (method, rows) in enumerate(by_method(scores)):
        hover = [
            f"{safe(method)}, seed {seed}: {points:.2f}"
            for seed, points in zip(rows["seed"], rows["points"], strict=True)
        ]
        figure.add_scatter(
            x=[x] * len(rows), y=rows["points"].tolist(), mode="markers",
            marker=marker(styles[method], 9), hoverinfo="text", hovertext=hover,
        )  # fmt: skip
    figure.update_xaxes(
        tickvals=list(range(len(methods))),
        ticktext=[safe(method) for method in methods],
        range=[-0.6, len(methods) - 0.4],
    )
    return figure


def forest_figure(differences: pd.DataFrame, styles: Styles) -> Drawing:
    """Mean differences, each with its two intervals. From `numbers.differences`."""
    figure = blank_figure(height=110 + 70 * len(differences), y_title=None)
    labels = []
    for y, row in enumerate(differences.to_dict("records")):
        style = styles[row["method"]]
        labels.append(f"{safe(row['method'])}<br>vs {safe(row['baseline'])}")
        for low, high, offset, width, dash in (
            (row["low"], row["high"], 0.0, 5, "solid"),
            (row["crossed_low"], row["crossed_high"], 0.25, 2, "dot"),
        ):
            if np.isfinite([low, high]).all():
                figure.add_scatter(
                    x=[low, high], y=[y + offset] * 2, mode="lines", hoverinfo="skip",
                    line={"color": style.colour, "width": width, "dash": dash},
                )  # fmt: skip
        figure.add_scatter(
            x=[row["mean"]], y=[y], mode="markers", marker=marker(style, 13), hoverinfo="text",
            hovertext=[_difference_text(row)],
        )  # fmt: skip
    figure.add_vline(x=0, line_width=1, line_dash="dash", line_color="#888888")
    figure.update_yaxes(
        tickvals=list(range(len(labels))), ticktext=labels, range=[len(labels) - 0.4, -0.6]
    )
    ends = differences[["mean", "low", "high", "crossed_low", "crossed_high"]].to_numpy()
    shown = np.append(ends[np.isfinite(ends)], 0.0)
    margin = 0.05 * float(np.ptp(shown)) or 1.0
    figure.update_xaxes(
        title_text="difference, points",
        range=[float(shown.min()) - margin, float(shown.max()) + margin],
    )
    return figure


def search_figure(history: pd.DataFrame, styles: Styles, metric: str) -> Drawing:
    """Selection score by trial; the best is ringed. From `numbers.search_history`."""
    figure = blank_figure(height=360, y_title=f"selection {metric}, points")
    for method, rows in by_method(history):
        style = styles[method]
        finished = rows[rows["status"] == "complete"]
        hover = [
            f"{safe(method)}, trial {trial}: {points:.2f}<br>"
            + "<br>".join(safe(part) for part in setting.split(", "))
            for trial, points, setting in zip(
                finished["trial"], finished["points"], finished["setting"], strict=True
            )
        ]
        figure.add_scatter(
            x=finished["trial"].tolist(), y=finished["points"].tolist(),
            mode="lines+markers", line=line(style, 1),
            marker=marker(style, 8), hoverinfo="text", hovertext=hover,
        )  # fmt: skip
        best = finished[finished["best"]]
        figure.add_scatter(
            x=best["trial"].tolist(), y=best["points"].tolist(), mode="markers",
            marker={
                "color": style.colour,
                "symbol": f"{style.symbol}-open",
                "size": 18,
                "line": {"width": 2},
            },
            hoverinfo="skip",
        )  # fmt: skip
    figure.update_xaxes(title_text="trial", dtick=1 + int(history["trial"].max()) // 10)
    return figure


def loss_figure(terms: pd.DataFrame, styles: Styles) -> Drawing:
    """One term over epochs: a line and a band per method. From rows of `numbers.loss_terms`.

    On a logarithmic scale where methods lie so far apart that most would lie on zero.
    """
    least, most = float(terms["low"].min()), float(terms["mean"].max())
    apart = least > 0 and most > LINEAR * float(terms["mean"].median())
    figure = blank_figure(height=280, y_title="logarithmic scale" if apart else None)
    if apart:
        figure.update_yaxes(type="log")
    for method, rows in by_method(terms):
        style = styles[method]
        columns = [rows[name].tolist() for name in ("epoch", "mean", "low", "high", "seeds")]
        epochs, means, lows, highs, _ = columns
        figure.add_scatter(
            x=epochs + epochs[::-1], y=highs + lows[::-1],
            fill="toself", fillcolor=transparent(style.colour), line={"width": 0},
            mode="lines", hoverinfo="skip",
        )  # fmt: skip
        hover = [
            f"{safe(method)}, epoch {epoch}: {mean:.4g} ({low:.4g} to {high:.4g}, {seeds} seeds)"
            for epoch, mean, low, high, seeds in zip(*columns, strict=True)
        ]
        figure.add_scatter(
            x=epochs, y=means, mode="lines+markers",
            line=line(style, 2), marker=marker(style, 7), hoverinfo="text", hovertext=hover,
        )  # fmt: skip
    figure.update_xaxes(title_text="epoch", dtick=max(1, int(terms["epoch"].max()) // 8))
    return figure


def variance_figure(shares: pd.DataFrame, warn_below: float) -> Drawing:
    """Bars of percent per teacher layer, with the warning line. From `numbers.variance_shares`."""
    figure = blank_figure(height=260, y_title="share, %")
    figure.add_bar(
        x=shares["layer"].tolist(), y=shares["percent"].tolist(), marker={"color": "#0072B2"},
        hoverinfo="text", hovertext=[f"{percent:.2f} %" for percent in shares["percent"]],
    )  # fmt: skip
    figure.add_hline(y=warn_below, line_width=1, line_dash="dash", line_color="#D55E00")
    figure.update_xaxes(title_text="teacher layer", dtick=1)
    figure.update_yaxes(rangemode="tozero")
    return figure


def _difference_text(row: Mapping[Hashable, Any]) -> str:
    lines = [f"{safe(row['method'])} vs {safe(row['baseline'])}: {row['mean']:+.2f} points"]
    for name, ends in (
        ("over seeds", (row["low"], row["high"])),
        ("over seeds and examples", (row["crossed_low"], row["crossed_high"])),
    ):
        lines.append(f"{name}: {_ends_text(ends)}")
    p = "" if np.isnan(row["adjusted_p"]) else f", adjusted p = {row['adjusted_p']:.3g}"
    return "<br>".join([*lines, f"n = {row['seeds']} seeds{p}"])


def _ends_text(ends: Sequence[float]) -> str:
    if np.isnan(ends).any():
        return "no predictions stored"
    if np.isinf(ends).any():
        return "unbounded"
    return f"{ends[0]:+.2f} to {ends[1]:+.2f}"
