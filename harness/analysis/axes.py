"""Comparisons along axes: a method in one cell against the same method in another. Never imports torch.

They become the comparisons of an ablation whose methods are, for example, `alp at layers=2` and
`alp at layers=6`, so that tests, intervals and verdicts are those of any other comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.analysis.interim import pool_interims, pool_plan
from harness.analysis.pools import trial_scores
from harness.analysis.results import MethodResult
from harness.axis_names import short_names, task_in_cell, value_text, values_in_words
from harness.stats import Interval
from harness.stats.paired import t_interval
from harness.stats.tuned_score import pseudo_scores
from harness.storage.manifest import AxisContrast, Contrast, Grid, Manifest


def axis_names(grid: Grid, contrast: AxisContrast) -> Contrast:
    """The names of a comparison along an axis.

    The task has the values of the other axes, and the two methods have the two values of the axis.
    """
    values, reference = grid.values_of(contrast.subject), grid.values_of(contrast.reference)
    others = {key: value for key, value in values.items() if key != contrast.axis}
    short = dict(zip(grid.axes, short_names(list(grid.axes)), strict=True))[contrast.axis]
    task = task_in_cell(grid.places[contrast.subject].task, values_in_words(others))
    names = (
        f"{contrast.method} at {short}={value_text(side[contrast.axis])}"
        for side in (values, reference)
    )
    return Contrast(task, *names)


def along_axes(
    manifest: Manifest, results: Sequence[MethodResult]
) -> tuple[Manifest, tuple[MethodResult, ...]]:
    """The manifest of the comparisons along the axes, and the results that they compare.

    The family of the manifest has these comparisons, and no other.
    """
    grid = manifest.grid
    assert grid is not None
    family: list[Contrast] = []
    studies: dict[str, dict[str, str]] = {}
    subjects: dict[str, str] = {}
    methods = dict(manifest.methods)
    by_key = {(result.task, result.method): result for result in results}
    renamed: dict[tuple[str, str], MethodResult] = {}
    for contrast in grid.family:
        names = axis_names(grid, contrast)
        family.append(names)
        subjects.setdefault(names.task, contrast.subject)
        sides = ((names.method, contrast.subject), (names.baseline, contrast.reference))
        for name, subject in sides:
            result = by_key[subject, contrast.method]
            methods[name] = manifest.methods[contrast.method]
            studies.setdefault(names.task, {})[name] = result.study
            renamed[names.task, name] = replace(result, task=names.task, method=name, interims={})
    view = replace(
        manifest,
        tasks={name: manifest.tasks[subject] for name, subject in subjects.items()},
        teachers={name: manifest.teachers[subject] for name, subject in subjects.items()},
        methods=methods,
        studies=studies,
        family=tuple(family),
        grid=None,
    )
    if view.sequential and view.config.protocol.unit == "methods":
        _add_interims(view, manifest, renamed)
    return view, tuple(renamed.values())


def _add_interims(
    view: Manifest, manifest: Manifest, results: dict[tuple[str, str], MethodResult]
) -> None:
    """Add the states of the sequential tests, at the looks that both sides have reached.

    Other comparisons decide how many trials there are. The test's level holds for any such number.
    """
    grid = manifest.grid
    assert grid is not None
    for contrast in grid.family:
        names = axis_names(grid, contrast)
        plan = pool_plan(view, names.task)
        assert plan is not None
        trials = {
            name: {
                run.trial: trial_scores(run.record, manifest.view_of(subject), subject)
                for run in results[names.task, name].report
            }
            for name, subject in (
                (names.method, contrast.subject),
                (names.baseline, contrast.reference),
            )
        }
        pair = (names.method, names.baseline)
        for (_, baseline), state in pool_interims(trials, [pair], plan).items():
            key = names.task, names.method
            interims = {**results[key].interims, baseline: state}
            results[key] = replace(results[key], interims=interims)


def score_interval(result: MethodResult, confidence: float) -> Interval | None:
    """Student's t interval of a method's score: of its mean over seeds, or of its tuned score.

    A tuned score has the jackknife's pseudo-scores. The interval is about new seeds or searches, for
    this method alone; None without a score.
    """
    if result.is_pool:
        if result.tuned is None:
            return None
        budget = result.tuned.budget
        values = np.concatenate([pseudo_scores(pool, budget) for pool in result.tuned.pools])
    else:
        values = np.asarray(result.scores, dtype=np.float64)
    return t_interval(values, confidence) if len(values) else None
