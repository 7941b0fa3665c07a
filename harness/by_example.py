"""The second layer of uncertainty: what two seeds' models say of the very same examples. Never imports
torch.

Everything is per seed. The seeds answer the same examples, so their p values are not independent and
are never pooled; how many of them are small is a description, not a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.compare import BOOTSTRAP_SEED, REGRESSION_METRICS, AblationResult
from harness.ledger import Ledger, Predictions
from harness.results import MethodResult
from harness.stats.examples import (
    CochranQ,
    ExamplesBootstrap,
    McNemar,
    cochran_q,
    examples_bootstrap_per_seed,
    mcnemar_per_seed,
)

Values = npt.NDArray[np.float64]

LEAST_METHODS = 3
"""The fewest methods for Cochran's Q: of two it is McNemar's test without correction."""


@dataclass(frozen=True)
class PairByExample:
    """One comparison, each of its seeds on its own: what is per seed has the order of `seeds`.

    The claims are about these trained models and new examples, at the level of one test.
    """

    task: str
    method: str
    baseline: str
    metric: str
    examples: int
    seeds: tuple[int, ...]
    mcnemar: tuple[McNemar, ...]
    """Empty for regression, whose predictions are neither right nor wrong."""
    bootstraps: tuple[ExamplesBootstrap, ...]
    """Of the difference in the metric, method minus baseline."""


@dataclass(frozen=True)
class MethodsByExample:
    """Cochran's Q over all methods with finished runs on a task, by seed that all of them have."""

    task: str
    methods: tuple[str, ...]
    examples: int
    seeds: tuple[int, ...]
    cochran: tuple[CochranQ, ...]


@dataclass(frozen=True)
class ByExample:
    """An ablation's report runs by example; `missing` says by task whose runs are left out, and why."""

    pairs: tuple[PairByExample, ...]
    methods: tuple[MethodsByExample, ...]
    missing: Mapping[str, tuple[str, ...]]


def by_example(ledger: Ledger, result: AblationResult) -> ByExample:
    """Test an ablation's report runs over the examples, from the stored predictions."""
    pairs: list[PairByExample] = []
    methods: list[MethodsByExample] = []
    missing: dict[str, tuple[str, ...]] = {}
    for task in result.manifest["studies"]:
        answers, problems = _task_answers(ledger, result, task)
        pairs += _pairs(result, task, answers)
        if (found := _all_methods(task, answers)) is not None:
            methods.append(found)
        if problems:
            missing[task] = tuple(problems)
    return ByExample(tuple(pairs), tuple(methods), missing)


@dataclass(frozen=True)
class _Answers:
    """A method's predictions (examples,) on a task by seed: classes, or a regression's scores."""

    metric: str
    labels: Values
    by_seed: Mapping[int, Values]

    @property
    def scored(self) -> bool:
        return self.metric in REGRESSION_METRICS

    def predictions(self, seeds: Sequence[int]) -> Values:
        """(seeds, examples)."""
        return np.stack([self.by_seed[seed] for seed in seeds])


def _task_answers(
    ledger: Ledger, result: AblationResult, task: str
) -> tuple[dict[str, _Answers], list[str]]:
    """By method with finished runs, all on the same examples; else what is the matter."""
    answers: dict[str, _Answers] = {}
    problems = []
    ids = None
    for found in result.results:
        if found.task != task or not found.seeds:
            continue
        if "repeats" in result.manifest:
            problems.append(f"{found.method}: it is in the report of each repeat")
            continue
        stored = _stored(ledger, found)
        if stored is None:
            problems.append(f"{found.method}: not all runs have stored predictions")
            continue
        ids = next(iter(stored.values())).ids if ids is None else ids
        if any(not np.array_equal(predicted.ids, ids) for predicted in stored.values()):
            problems.append(f"{found.method}: evaluated on other examples than the methods before")
            continue
        answers[found.method] = _answers(found, stored)
    return answers, problems


def _stored(ledger: Ledger, result: MethodResult) -> dict[int, Predictions] | None:
    """By seed, on the split that scores are of; None when some are missing."""
    runs = {run.seed: run.record for run in result.report}
    found = {
        seed: ledger.predictions(runs[seed].fingerprint, runs[seed].inputs["evaluation"][0][0])
        for seed in result.seeds
    }
    stored = {seed: predicted for seed, predicted in found.items() if predicted is not None}
    return stored if len(stored) == len(found) else None


def _answers(result: MethodResult, stored: Mapping[int, Predictions]) -> _Answers:
    scored = result.metric in REGRESSION_METRICS
    by_seed = {
        seed: (p.logits[:, 0] if scored else p.logits.argmax(axis=1)).astype(np.float64)
        for seed, p in stored.items()
    }
    return _Answers(result.metric, next(iter(stored.values())).labels, by_seed)


def _pairs(
    result: AblationResult, task: str, answers: Mapping[str, _Answers]
) -> list[PairByExample]:
    confidence = 1 - float(result.manifest["alpha"])
    found = []
    for comparison in result.comparisons:
        if comparison.task != task or not {comparison.method, comparison.baseline} <= set(answers):
            continue
        ours, theirs = answers[comparison.method], answers[comparison.baseline]
        method, baseline = (side.predictions(comparison.seeds) for side in (ours, theirs))
        labels = ours.labels
        found.append(
            PairByExample(
                task=task,
                method=comparison.method,
                baseline=comparison.baseline,
                metric=comparison.metric,
                examples=len(labels),
                seeds=comparison.seeds,
                mcnemar=()
                if ours.scored
                else mcnemar_per_seed(method == labels, baseline == labels),
                bootstraps=examples_bootstrap_per_seed(
                    comparison.metric,
                    method,
                    baseline,
                    labels,
                    np.random.default_rng(BOOTSTRAP_SEED),
                    confidence=confidence,
                ),
            )
        )
    return found


def _all_methods(task: str, answers: Mapping[str, _Answers]) -> MethodsByExample | None:
    """None below three methods, without a seed that all have, and for regression."""
    sides = list(answers.values())
    if len(sides) < LEAST_METHODS or sides[0].scored:
        return None
    seeds = sorted(set.intersection(*(set(side.by_seed) for side in sides)))
    if not seeds:
        return None
    labels = sides[0].labels
    tables = [np.stack([side.by_seed[seed] == labels for side in sides]) for seed in seeds]
    return MethodsByExample(
        task=task,
        methods=tuple(answers),
        examples=len(labels),
        seeds=tuple(seeds),
        cochran=tuple(cochran_q(table) for table in tables),
    )
