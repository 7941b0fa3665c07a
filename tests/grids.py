"""Ledgers of ablations with axes, made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from harness.analysis.pools import TrialScores
from harness.axis_names import task_in_cell, values_in_words
from harness.storage.ledger import Ledger
from harness.storage.record import Result
from tests.harness.analysis.test_compare import predictions
from tests.manifests import STUDY, manifest
from tests.records import record

Values = Mapping[str, Any]
Key = tuple[str, int, str]
"""A task, the number of a cell, and a method."""


def write_grid(
    ledger: Ledger,
    cells: Sequence[Values],
    keys: Sequence[Key],
    config: Mapping[str, Any],
    cell_configs: Sequence[Mapping[str, Any]] | None = None,
    teachers: Mapping[int, float] | None = None,
    **given: Any,
) -> dict[Key, str]:
    """Write the manifest of a grid with baseline `kd`, and its studies; returns their names.

    `cell_configs` are the configurations of the cells where they differ from `config`. `teachers` are
    teachers' scores by the number of the cell.
    """
    names = [values_in_words(cell) for cell in cells]
    studies: dict[str, dict[str, str]] = {}
    places = {}
    for task, number, method in keys:
        subject = task_in_cell(task, names[number])
        studies.setdefault(subject, {})[method] = f"s-{task}-{number}-{method}"
        places[subject] = {"task": task, "cell": names[number]}
    family = [
        [subject, method, "kd"]
        for subject, methods in studies.items()
        for method in methods
        if method != "kd"
    ]
    by_name = dict(zip(names, cells, strict=True))
    along = [
        [axis, method, second, first]
        for axis in cells[0]
        for first, second in combinations(studies, 2)
        if places[first]["task"] == places[second]["task"]
        and [
            key
            for key in cells[0]
            if by_name[places[first]["cell"]][key] != by_name[places[second]["cell"]][key]
        ]
        == [axis]
        for method in studies[second]
        if method in studies[first]
    ]
    titles = {subject: {"title": place["task"]} for subject, place in places.items()}
    plain: dict[str, Any] = {
        "studies": studies,
        "family": family,
        "config": dict(config),
        "tasks": titles,
        **given,
    }
    if teachers is not None:
        plain["teachers"] = {
            subject: {"metrics": {"validation": {"accuracy": teachers[names.index(place["cell"])]}}}
            for subject, place in places.items()
        }
    made = manifest(**plain)
    configs = [
        manifest(**{**plain, "config": own}).config for own in cell_configs or [config] * len(cells)
    ]
    values = {
        "axes": {key: tuple(dict.fromkeys(cell[key] for cell in cells)) for key in cells[0]},
        "cells": {
            name: {"values": cell, "config": own}
            for name, cell, own in zip(names, cells, configs, strict=True)
        },
        "places": places,
        "family": along,
    }
    ledger.write_ablation(replace(made, grid=values))  # type: ignore[arg-type]
    found = {}
    for task, number, method in keys:
        name = studies[task_in_cell(task, names[number])][method]
        ledger.write_study(name, STUDY)
        found[task, number, method] = name
    return found


def write_seeds(ledger: Ledger, study: str, scores: Mapping[int, float | None]) -> None:
    """Write a search trial of a study, and the report runs of its setting by seed."""
    runs: list[tuple[Any, int, float | None]] = [("search", 0, 0.5)]
    runs += [("report", seed, score) for seed, score in scores.items()]
    for role, seed, score in runs:
        name = f"{study}-{role}-{seed}"
        kept = {} if role == "search" or score is None else {"validation": predictions(score)}
        ledger.write_runs([Result(record(name, score), kept, {})])
        ledger.use_run(study, role, 0, seed, name)


def write_trials(ledger: Ledger, study: str, trials: Mapping[int, TrialScores]) -> None:
    """Write the trials of a study's pool, by number."""
    for number, (selection, reported) in trials.items():
        name = f"{study}-{number}"
        score = None if selection is None else reported
        run = record(name, score, inputs={"selection": "sha of selection"})
        if selection is not None:
            loss = -selection[1] if len(selection) > 1 else 0.0
            run = replace(run, selection={"accuracy": selection[0], "label_loss": loss})
        ledger.write_runs([Result(run, {}, {})])
        ledger.use_run(study, "report", number, number + 1, name)
