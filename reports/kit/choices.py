"""Figures that show one of several states, which the reader chooses: an epoch, a method, a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.kit.drawing import Drawing

State = Sequence[Mapping[str, Any]]
"""What sets a state apart: attributes of each trace, in the order of the traces."""


@dataclass(frozen=True)
class Choice:
    """A list of states under a label, of which `first` is shown first; an `ordered` one is a slider."""

    label: str
    options: tuple[str, ...]
    first: int = 0
    ordered: bool = False


def choice_of(
    label: str, options: Sequence[str], first: int, *, ordered: bool = False
) -> Choice | None:
    """A choice where there is more than one state."""
    return Choice(label, tuple(options), first, ordered) if len(options) > 1 else None


def add_states(
    figure: Drawing,
    traces: Sequence[Mapping[str, Any]],
    states: Sequence[State],
    first: int,
    **places: Sequence[int],
) -> Drawing:
    """Add traces, as the first shown state has them, and a frame for each state.

    `traces` say what the states have in common, `places` their `rows` and `cols` among subplots. A frame
    says only what differs. All states name the same attributes; values are plain lists and texts, with
    None where there is no number.
    """
    shown = states[first]
    figure.add_traces(
        [{**trace, **values} for trace, values in zip(traces, shown, strict=True)], **places
    )
    if len(states) > 1:
        types = [str(trace["type"]) for trace in traces]
        figure.frames = [{"data": _differing(state, shown, types)} for state in states]
    return figure


def _differing(state: State, shown: State, types: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"type": kind, **{name: value for name, value in own.items() if value != base[name]}}
        for own, base, kind in zip(state, shown, types, strict=True)
    ]
