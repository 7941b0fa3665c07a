"""Loss terms over training: each term's mean over report seeds by epoch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pandas as pd

from harness.analysis.results import MethodResult
from reports.evidence import Evidence
from reports.kit.blocks import Block, Panel, Section, by_task, method_key, panel
from reports.kit.canvas import band, blank_figure, by_method, line, marker, safe
from reports.kit.drawing import Drawing
from reports.kit.palette import Styles

COLUMNS = ["method", "term", "epoch", "mean", "low", "high", "seeds"]
LINEAR_REACH = 10
"""The scale is linear if the largest mean is at most so many times the median of the means."""


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

    The scale is logarithmic if methods lie so far apart that most lines would lie on zero.
    """
    bottom, top = float(terms["low"].min()), float(terms["mean"].max())
    log_scale = bottom > 0 and top > LINEAR_REACH * float(terms["mean"].median())
    figure = blank_figure(height=280, y_title="logarithmic scale" if log_scale else None)
    if log_scale:
        figure.update_yaxes(type="log")
    for method, rows in by_method(terms):
        style = styles[method]
        columns = [rows[name].tolist() for name in ("epoch", "mean", "low", "high", "seeds")]
        epochs, means, lows, highs, _ = columns
        figure.add_traces([band(method, style, epochs, lows, highs)])
        hover = [
            f"{safe(method)}, epoch {epoch}: {mean:.4g} ({low:.4g} to {high:.4g}, {seeds} runs)"
            for epoch, mean, low, high, seeds in zip(*columns, strict=True)
        ]
        figure.add_scatter(
            x=epochs, y=means, mode="lines+markers",
            line=line(style, 2), marker=marker(style, 7), hoverinfo="text", hovertext=hover,
            meta=safe(method),
        )  # fmt: skip
    figure.update_xaxes(title_text="epoch", dtick=max(1, int(terms["epoch"].max()) // 8))
    return figure


def losses_block(evidence: Evidence, task: str, styles: Styles) -> Block:
    """A panel per loss term."""
    terms = loss_terms(evidence.results(task)).groupby("term", sort=True)
    panels = tuple(_panel(str(term), rows, styles) for term, rows in terms)
    return Block(evidence.task_label(task), panels=panels)


def _panel(term: str, rows: pd.DataFrame, styles: Styles) -> Panel:
    last_rows = rows.groupby("method", sort=False).tail(1)
    alt = "; ".join(
        f"{method} ends at {mean:.4g}"
        for method, mean in zip(last_rows["method"], last_rows["mean"], strict=True)
    )
    key = method_key(styles, rows["method"])
    return panel(f"Term: {term}", alt, loss_figure(rows, styles), rows, key)


SECTION = Section(
    anchor="losses",
    title="Loss terms over training",
    reading=(
        "Each figure is one term of the training loss, before its weight is applied; total is the "
        "weighted sum that training minimises. Line: mean over report runs. Band: lowest to highest "
        "run."
    ),
    details="If methods lie far apart, the scale is logarithmic, and its axis says so.",
    maker=by_task(losses_block),
    reads_verdicts=False,
)
