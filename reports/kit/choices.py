"""Figures that show one of several states, which the reader chooses: an epoch, a method, a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.kit.drawing import Drawing

State = Sequence[Mapping[str, Any]]
"""The attributes that differ between states, for each trace in order."""


@dataclass(frozen=True)
class Choice:
    """A list of states under a label; `first` is the index of the state that the page begins with.

    A `slider` stands for a list whose states have an order.
    """

    label: str
    options: tuple[str, ...]
    first: int = 0
    slider: bool = False


def choice_of(
    label: str, options: Sequence[str], first: int, *, slider: bool = False
) -> Choice | None:
    """A choice of states; None for fewer than two states."""
    return Choice(label, tuple(options), first, slider) if len(options) > 1 else None


def add_states(
    figure: Drawing,
    traces: Sequence[Mapping[str, Any]],
    states: Sequence[State],
    first: int,
    **places: Sequence[int],
) -> Drawing:
    """Add traces in the state of index `first`, and a frame for each state.

    `traces` have the attributes that all states share; `places` are their `rows` and `cols` among
    subplots. A frame has only the attributes that differ from the first state. All states name the same
    attributes; values are plain lists and texts, with None for a missing number.
    """
    first_state = states[first]
    figure.add_traces(
        [{**trace, **values} for trace, values in zip(traces, first_state, strict=True)], **places
    )
    if len(states) > 1:
        types = [str(trace["type"]) for trace in traces]
        figure.frames = [{"data": _changes(state, first_state, types)} for state in states]
    return figure


def _changes(state: State, first_state: State, types: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "type": kind,
            **{name: value for name, value in values.items() if value != first_values[name]},
        }
        for values, first_values, kind in zip(state, first_state, types, strict=True)
    ]
