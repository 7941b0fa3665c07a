"""Loss terms over training: each term's mean over report seeds by epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pandas as pd

from harness.analysis.results import MethodResult
from reports.evidence import Evidence
from reports.kit.blocks import Block, Panel, Section, by_task, method_key, panel
from reports.kit.canvas import blank_figure, by_method, fill_colour, line, marker, safe
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles

COLUMNS = ["method", "term", "epoch", "mean", "low", "high", "seeds"]
LINEAR = 10
"""Up to so many times the median, the greatest value leaves the others room on a linear scale."""


def loss_terms(results: Iterable[MethodResult]) -> pd.DataFrame:
    """One row per method, term and epoch (from 1): mean, least and greatest over report seeds."""
    rows = []
    for result in results:
        values: dict[tuple[str, int], list[float]] = defaultdict(list)
        for run in result.report:
            if run.record.status != "complete":
                continue
            for epoch, terms in enumerate(run.record.curves, start=1):
                for term, value in terms.items():
                    values[term, epoch].append(value)
        for (term, epoch), by_seed in sorted(values.items()):
            mean = float(np.mean(by_seed))
            ends = (min(by_seed), max(by_seed))
            rows.append((result.method, term, epoch, mean, *ends, len(by_seed)))
    return pd.DataFrame(rows, columns=pd.Index(COLUMNS))


def loss_figure(terms: pd.DataFrame, styles: Styles) -> Drawing:
    """One term over epochs: a line and a band per method. From rows of `loss_terms`.

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
            fill="toself", fillcolor=fill_colour(style.colour), line={"width": 0},
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


def losses_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """A panel per loss term."""
    terms = loss_terms(evidence.results(task)).groupby("term", sort=True)
    panels = tuple(_panel(str(term), rows, styles) for term, rows in terms)
    return Block(evidence.task_label(task), panels=panels)


def _panel(term: str, rows: pd.DataFrame, styles: Styles) -> Panel:
    last = rows.groupby("method", sort=False).tail(1)
    alt = "; ".join(
        f"{method} ends at {mean:.4g}"
        for method, mean in zip(last["method"], last["mean"], strict=True)
    )
    key = method_key(styles, rows["method"])
    return panel(f"Term: {term}", alt, loss_figure(rows, styles), rows, key)


SECTION = Section(
    anchor="losses",
    title="Loss terms over training",
    reading=(
        "Terms are unweighted, their total is weighted as trained. Line: mean over report "
        "seeds; band: least to greatest."
    ),
    details="The scale is logarithmic, and says so, where methods lie far apart.",
    maker=by_task(losses_block),
)
