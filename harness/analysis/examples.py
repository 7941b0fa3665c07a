"""Tests over examples: each seed's two models on the very same examples. Never imports torch.

Every number is for one seed of one setting; pools of trials with settings of their own have none. The
seeds answer the same examples, so their p values are not independent
and are never pooled; the number of small p values is a description, not a test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from harness.analysis.answers import Answers, StoredAnswers
from harness.analysis.compare import AblationResult
from harness.analysis.comparison import BOOTSTRAP_SEED, Comparison
from harness.stats.bootstrap import ExamplesBootstrap, examples_bootstraps_per_seed
from harness.stats.examples import CochranQ, McNemar, cochran_q, mcnemar_per_seed

LEAST_METHODS = 3
"""The fewest methods for Cochran's Q: with two methods it is McNemar's test without correction."""


@dataclass(frozen=True)
class PairTests:
    """The tests of one comparison, one for each seed, in the order of `seeds`.

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
    """Bootstraps of the difference in the metric, method minus baseline."""


@dataclass(frozen=True)
class MethodTests:
    """Cochran's Q over all methods with finished runs on a task, for each seed that all of them have."""

    task: str
    methods: tuple[str, ...]
    examples: int
    seeds: tuple[int, ...]
    cochran: tuple[CochranQ, ...]


@dataclass(frozen=True)
class ExampleTests:
    """The tests of an ablation over examples."""

    pairs: tuple[PairTests, ...]
    methods: tuple[MethodTests, ...]
    problems: Mapping[str, tuple[str, ...]]
    """By task, the methods whose runs are left out, and why."""


def example_tests(stored_answers: StoredAnswers, result: AblationResult) -> ExampleTests:
    """Test an ablation's report runs over the examples, from the stored predictions."""
    pairs: list[PairTests] = []
    methods: list[MethodTests] = []
    problems: dict[str, tuple[str, ...]] = {}
    for task in result.manifest.studies:
        answers, task_problems = answers_on(stored_answers, result, task)
        if not any(r.tuned is not None for r in result.results if r.task == task):
            pairs += _pairs(result, task, answers)
            if (tests := _method_tests(task, answers)) is not None:
                methods.append(tests)
        if task_problems:
            problems[task] = tuple(task_problems)
    return ExampleTests(tuple(pairs), tuple(methods), problems)


def answers_on(
    stored_answers: StoredAnswers, result: AblationResult, task: str
) -> tuple[dict[str, Answers], list[str]]:
    """Answers by method with finished runs, all on the same examples; and why others are left out."""
    answers: dict[str, Answers] = {}
    problems = []
    ids = None
    for method_result in result.results:
        if method_result.task != task or not method_result.seeds:
            continue
        method = method_result.method
        if result.manifest.is_joint:
            problems.append(f"{method}: see the report of each repeat")
            continue
        method_answers = stored_answers.answers_of(method_result)
        if method_answers is None or not method_answers.has(method_result.seeds):
            problems.append(f"{method}: not all runs have stored predictions")
            continue
        ids = method_answers.ids[method_result.seeds[0]] if ids is None else ids
        if any(not np.array_equal(run_ids, ids) for run_ids in method_answers.ids.values()):
            problems.append(f"{method}: evaluated on other examples than the methods before")
            continue
        answers[method] = method_answers
    return answers, problems


def _pairs(result: AblationResult, task: str, answers: Mapping[str, Answers]) -> list[PairTests]:
    comparisons = [
        c for c in result.comparisons if c.task == task and {c.method, c.baseline} <= set(answers)
    ]
    groups: dict[tuple[int, ...], list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        groups[comparison.seeds].append(comparison)
    confidence = 1 - result.manifest.alpha
    bootstraps = {
        (comparison.method, comparison.baseline): seed_bootstraps
        for group in groups.values()
        for comparison, seed_bootstraps in zip(
            group, _bootstraps(group, answers, confidence), strict=True
        )
    }
    return [_pair(c, answers, bootstraps[c.method, c.baseline]) for c in comparisons]


def _bootstraps(
    comparisons: Sequence[Comparison], answers: Mapping[str, Answers], confidence: float
) -> tuple[tuple[ExamplesBootstrap, ...], ...]:
    """Bootstraps of comparisons on the same task and seeds, which share their draws."""
    sides = dict.fromkeys(side for c in comparisons for side in (c.method, c.baseline))
    order = {method: position for position, method in enumerate(sides)}
    # The library's own threads take longer to wake than products of this size do.
    with threadpool_limits(limits=1, user_api="blas"):
        return examples_bootstraps_per_seed(
            comparisons[0].metric,
            [answers[method].stack(comparisons[0].seeds) for method in sides],
            [(order[c.method], order[c.baseline]) for c in comparisons],
            answers[comparisons[0].method].labels,
            np.random.default_rng(BOOTSTRAP_SEED),
            confidence=confidence,
        )


def _pair(
    comparison: Comparison,
    answers: Mapping[str, Answers],
    bootstraps: tuple[ExamplesBootstrap, ...],
) -> PairTests:
    sides = answers[comparison.method], answers[comparison.baseline]
    labels = sides[0].labels
    hits, baseline_hits = (side.stack(comparison.seeds) == labels for side in sides)
    return PairTests(
        task=comparison.task,
        method=comparison.method,
        baseline=comparison.baseline,
        metric=comparison.metric,
        examples=len(labels),
        seeds=comparison.seeds,
        mcnemar=() if sides[0].is_regression else mcnemar_per_seed(hits, baseline_hits),
        bootstraps=bootstraps,
    )


def _method_tests(task: str, answers: Mapping[str, Answers]) -> MethodTests | None:
    """None below three methods, without a seed that all methods have, and for regression."""
    sides = list(answers.values())
    if len(sides) < LEAST_METHODS or sides[0].is_regression:
        return None
    seeds = sorted(set.intersection(*(set(side.by_seed) for side in sides)))
    if not seeds:
        return None
    labels = sides[0].labels
    tables = [np.stack([side.by_seed[seed] == labels for side in sides]) for seed in seeds]
    return MethodTests(
        task=task,
        methods=tuple(answers),
        examples=len(labels),
        seeds=tuple(seeds),
        cochran=tuple(cochran_q(table) for table in tables),
    )
