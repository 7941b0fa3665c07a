"""The second layer of uncertainty: what two seeds' models say of the very same examples. Never imports
torch.

Everything is per seed. The seeds answer the same examples, so their p values are not independent and
are never pooled; how many of them are small is a description, not a test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from harness.analysis.answers import Answers, StoredAnswers
from harness.analysis.compare import BOOTSTRAP_SEED, AblationResult, Comparison
from harness.stats.bootstrap import ExamplesBootstrap, examples_bootstraps_per_seed
from harness.stats.examples import CochranQ, McNemar, cochran_q, mcnemar_per_seed

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


def by_example(stored: StoredAnswers, result: AblationResult) -> ByExample:
    """Test an ablation's report runs over the examples, from the stored predictions."""
    pairs: list[PairByExample] = []
    methods: list[MethodsByExample] = []
    missing: dict[str, tuple[str, ...]] = {}
    for task in result.manifest.studies:
        answers, problems = answers_on(stored, result, task)
        pairs += _pairs(result, task, answers)
        if (found := _all_methods(task, answers)) is not None:
            methods.append(found)
        if problems:
            missing[task] = tuple(problems)
    return ByExample(tuple(pairs), tuple(methods), missing)


def answers_on(
    stored: StoredAnswers, result: AblationResult, task: str
) -> tuple[dict[str, Answers], list[str]]:
    """By method with finished runs, all on the same examples; else what is the matter."""
    found: dict[str, Answers] = {}
    problems = []
    ids = None
    for own in result.results:
        if own.task != task or not own.seeds:
            continue
        if result.manifest.joint:
            problems.append(f"{own.method}: it is in the report of each repeat")
            continue
        answers = stored.of(own)
        if answers is None or not answers.has(own.seeds):
            problems.append(f"{own.method}: not all runs have stored predictions")
            continue
        ids = answers.ids[own.seeds[0]] if ids is None else ids
        if any(not np.array_equal(others, ids) for others in answers.ids.values()):
            problems.append(f"{own.method}: evaluated on other examples than the methods before")
            continue
        found[own.method] = answers
    return found, problems


def _pairs(
    result: AblationResult, task: str, answers: Mapping[str, Answers]
) -> list[PairByExample]:
    compared = [
        c for c in result.comparisons if c.task == task and {c.method, c.baseline} <= set(answers)
    ]
    groups: dict[tuple[int, ...], list[Comparison]] = defaultdict(list)
    for comparison in compared:
        groups[comparison.seeds].append(comparison)
    confidence = 1 - result.manifest.alpha
    drawn = {
        (comparison.method, comparison.baseline): bootstraps
        for group in groups.values()
        for comparison, bootstraps in zip(
            group, _bootstraps(group, answers, confidence), strict=True
        )
    }
    return [_pair(c, answers, drawn[c.method, c.baseline]) for c in compared]


def _bootstraps(
    compared: Sequence[Comparison], answers: Mapping[str, Answers], confidence: float
) -> tuple[tuple[ExamplesBootstrap, ...], ...]:
    """Of comparisons on the same task and seeds, which share their draws."""
    sides = dict.fromkeys(side for c in compared for side in (c.method, c.baseline))
    order = {method: position for position, method in enumerate(sides)}
    # The library's own threads take longer to wake than products of this size do.
    with threadpool_limits(limits=1, user_api="blas"):
        return examples_bootstraps_per_seed(
            compared[0].metric,
            [answers[method].of(compared[0].seeds) for method in sides],
            [(order[c.method], order[c.baseline]) for c in compared],
            answers[compared[0].method].labels,
            np.random.default_rng(BOOTSTRAP_SEED),
            confidence=confidence,
        )


def _pair(
    comparison: Comparison,
    answers: Mapping[str, Answers],
    bootstraps: tuple[ExamplesBootstrap, ...],
) -> PairByExample:
    ours, theirs = answers[comparison.method], answers[comparison.baseline]
    method, baseline = (side.of(comparison.seeds) == ours.labels for side in (ours, theirs))
    return PairByExample(
        task=comparison.task,
        method=comparison.method,
        baseline=comparison.baseline,
        metric=comparison.metric,
        examples=len(ours.labels),
        seeds=comparison.seeds,
        mcnemar=() if ours.scored else mcnemar_per_seed(method, baseline),
        bootstraps=bootstraps,
    )


def _all_methods(task: str, answers: Mapping[str, Answers]) -> MethodsByExample | None:
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
