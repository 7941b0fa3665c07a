"""Drawings, against Plotly's own figure made by the same calls."""

import json
import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from reports.kit.canvas import blank_figure
from reports.kit.drawing import Drawing


def plot(figure: Any) -> None:
    figure.add_scatter(x=[1, 2], y=[3.0, None], mode="lines", line={"width": 2})
    figure.add_bar(x=[1], y=[2], marker={"color": "#0072B2"})
    figure.add_traces([{"type": "heatmap", "z": [[1, 2], [3, 4]], "zmin": 0}])
    figure.add_traces([{"type": "scatter", "x": [1], "y": [1]}])
    figure.add_vline(x=1, line_width=1, line_dash="dash", line_color="#888888")
    figure.add_hline(y=2, line_width=2, line_dash="dot", line_color="#D55E00")
    figure.add_shape(type="line", x0=0, x1=1, y0=0, y1=1)
    figure.update_annotations(font_size=12)
    figure.update_layout(margin={"t": 30}, barmode="overlay")
    figure.update_xaxes(title_text="x", range=[0, 1])
    figure.update_yaxes(title_text="y", tickvals=[1, 2], ticktext=["a", "b"])


def grid(figure: Any) -> None:
    figure.set_subplots(
        2, 2, subplot_titles=list("abcd"), shared_xaxes="all", shared_yaxes="rows",
        vertical_spacing=0.2,
    )  # fmt: skip
    traces = [{"type": "scatter", "x": [1], "y": [place]} for place in range(4)]
    figure.add_traces(traces, rows=[1, 1, 2, 2], cols=[1, 2, 1, 2])
    figure.update_annotations(font_size=12)
    figure.update_xaxes(dtick=2, automargin=True)
    figure.update_xaxes(title_text="below", row=2)
    figure.update_yaxes(title_text="left", row=2, col=1)
    figure.update_yaxes(showgrid=False, col=2)


@pytest.mark.parametrize("draw", [plot, grid])
def test_it_says_what_plotlys_own_figure_says(draw: Any) -> None:
    ours, theirs = blank_figure(300, "score"), blank_figure(300, "score").to_figure()
    draw(ours)
    draw(theirs)
    assert json.loads(ours.to_json()) == json.loads(theirs.to_json())
    assert ours.height == 300


def test_numbers_become_those_of_json() -> None:
    figure = Drawing({"height": 100})
    figure.add_scatter(x=np.array([1.5, math.nan]), y=[np.float64(2.5), math.inf])
    (trace,) = json.loads(figure.to_json())["data"]
    assert (trace["x"], trace["y"]) == ([1.5, None], [2.5, None])


def test_frames_are_there_only_with_states() -> None:
    figure = Drawing({"height": 100})
    figure.add_scatter(x=[1], y=[1])
    assert "frames" not in json.loads(figure.to_json())
    figure.frames = [{"data": [{"type": "scatter", "y": [2]}]}]
    assert figure.to_figure().frames[0].data[0].y == (2,)


def test_what_plotly_does_not_know_is_found_when_it_is_checked() -> None:
    figure = Drawing({"height": 100})
    figure.add_scatter(x=[1], y=[1], colour="red")
    with pytest.raises(ValueError, match="colour"):
        figure.to_figure()


def test_two_figures_share_nothing() -> None:
    first, second = blank_figure(100, None), blank_figure(100, None)
    first.update_xaxes(range=[0, 1])
    first.add_shape(type="line")
    assert json.loads(second.to_json()) == json.loads(blank_figure(100, None).to_json())
    assert isinstance(second.to_figure(), go.Figure)


def test_negative_numbers_of_hover_texts_have_a_minus_sign():
    figure = Drawing({"height": 1})
    figure.add_scatter(
        x=[1], y=[2], hovertext=["ckd-no-2, -1.5 (-3 to +1), 2026-11-30, --trials 4"]
    )
    figure.frames = [{"data": [{"hovertext": ["-2"]}]}]
    values = json.loads(figure.to_json())
    assert values["data"][0]["hovertext"] == ["ckd-no-2, −1.5 (−3 to +1), 2026-11-30, --trials 4"]
    assert values["frames"] == [{"data": [{"hovertext": ["−2"]}]}]
