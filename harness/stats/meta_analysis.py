"""One effect across several tasks, from differences of runs that are paired by seed.

A fixed effect holds for these tasks. A random effect and the mixed model hold for a population of
tasks, of which these tasks are a sample. The second claim is larger, and its interval is wide with
the three to nine tasks of a benchmark.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.stats
from statsmodels.regression.mixed_linear_model import MixedLM, MixedLMResults, VCSpec
from statsmodels.stats.meta_analysis import combine_effects

from harness.stats.arrays import Floats, finite_array
from harness.stats.paired import ROUNDING, Interval, t_quantile

Indices = npt.NDArray[np.int64]
Result = TypeVar("Result")

UNIT = 100.0
"""The mixed model is fitted to differences with this standard deviation, because statsmodels takes
a component for zero by the absolute bound `BOUNDARY`: here a 1e-6 of the whole variance."""
BOUNDARY = 0.01
"""The variance below which statsmodels takes a component for zero."""


@dataclass(frozen=True)
class Attempt(Generic[Result]):
    """A result, or the reason why there is no result."""

    result: Result | None
    reason: str
    """Empty if there is a result."""


@dataclass(frozen=True)
class Effect:
    """A mean difference across tasks, method minus baseline."""

    mean: float
    standard_error: float
    df: int
    """Degrees of freedom of the interval's Student's t."""
    interval: Interval


@dataclass(frozen=True)
class MetaAnalysis:
    """One effect from each task's mean paired difference and the variance of the mean."""

    tasks: tuple[Any, ...]
    """(tasks,): names, sorted."""
    seeds: tuple[int, ...]
    """(tasks,): number of pairs."""
    effects: tuple[float, ...]
    """(tasks,): mean differences."""
    variances: tuple[float, ...]
    """(tasks,): variances of the mean differences."""
    fixed_effect: Effect
    """The inverse-variance mean of these tasks. The usual normal interval ignores that the weights
    are estimates: a 95% interval covers 80 to 89% with six seeds and 87 to 90% with ten. So the
    standard error is Meier's (Biometrics 9, 1953), and t has the smallest task's number of seeds
    minus one as degrees of freedom: the interval covers 94 to 96% from six seeds on, 90 to 92% with
    three or four (simulated, normal differences, 2 to 8 tasks)."""
    random_effect: Effect
    """The mean of the population of tasks, by Paule and Mandel's variance, with tasks - 1 degrees
    of freedom. The standard error is the larger one of Hartung and Knapp's and the usual one."""
    q: float
    """Cochran's Q of heterogeneity."""
    q_p_value: float
    """Chi-square p value. The test ignores that the variances are estimates, so the p value is too
    small with few seeds: at the level .05 the test rejects equal effects of four tasks with a
    chance of .14 with six seeds and .09 with ten."""
    i_squared: float
    """Share of the effects' variance that lies between tasks, max(0, 1 - (tasks - 1) / Q)."""
    tau_squared: float
    """Paule and Mandel's variance of the effect between tasks."""
    confidence: float


@dataclass(frozen=True)
class MixedEffect:
    """The effect across tasks by a mixed linear model of the paired differences.

    difference = effect + task + seed + residual; the last three are random and normal, and REML
    estimates their variances. The model omits a component whose variance REML puts at zero: the
    estimate stays the same, and the standard error is that of the smaller, regular model. Without any
    component that model is the mean of all pairs, with Student's t interval.
    """

    effect: Effect
    """The degrees of freedom are the levels of the model's random effect with the fewest levels,
    minus one: exact for balanced data with one random effect, cautious with two. Without a random
    effect they are the number of pairs minus one."""
    pairs: int


def meta_analysis(
    method_scores: npt.ArrayLike,
    baseline_scores: npt.ArrayLike,
    tasks: Sequence[Any],
    confidence: float = 0.95,
) -> Attempt[MetaAnalysis]:
    """Combine the tasks' mean differences, from scores (pairs,) of runs paired by task and seed.

    `tasks` names the task of each pair; tasks may have different numbers of pairs. statsmodels'
    `combine_effects` combines fixed and random effects. Its DerSimonian-Laird estimate of tau
    squared can be negative; Paule and Mandel's estimate cannot, and is less biased (Veroniki et
    al., Research Synthesis Methods 7, 2016). Hartung and Knapp's factor can be near zero for
    effects that happen to agree, so the random effect's standard error is never smaller than
    without the factor (Knapp and Hartung, Statistics in Medicine 22, 2003). The analysis assumes
    that pairs of different tasks are independent. A seed that favours one method on all tasks
    breaks the assumption; `mixed_effect` allows for such a seed.

    There is no result, but a reason, with one task, and if a task has a single pair or differences
    that are all equal, and so no variance.

    Raises ValueError if a score is NaN or infinite, shapes differ, are not (pairs,) or are empty,
    or `confidence` is not between 0 and 1.
    """
    differences, tolerance = _paired_differences(method_scores, baseline_scores, confidence)
    names, position = _levels(tasks, "tasks", len(differences))
    if len(names) == 1:
        return Attempt(None, f"one task, {names[0]}: nothing to combine")
    groups = [differences[position == task] for task in range(len(names))]
    for name, group in zip(names, groups, strict=True):
        if len(group) == 1:
            return Attempt(None, f"one pair on the task {name}: its variance is unknown")
        if np.ptp(group) <= tolerance:
            return Attempt(None, f"all differences on the task {name} are equal: no variance")
    effects = np.array([group.mean() for group in groups])
    seeds = np.array([len(group) for group in groups])
    variances = np.array([group.var(ddof=1) for group in groups]) / seeds
    # The unit is the smallest standard error, so that squares do not underflow. Q may be 0.
    unit = math.sqrt(variances.min())
    with np.errstate(divide="ignore", invalid="ignore"):
        combination = combine_effects(
            effects / unit, variances / unit**2, method_re="pm", maxiter=1000
        )
    df = len(names) - 1
    weights = combination.weights_rel_fe
    meier = 1 + 4 * float((weights * (1 - weights) / (seeds - 1)).sum())
    # statsmodels' Q is a difference of two sums and can be below zero.
    q = float(combination.scale_hksj_fe) * df
    return Attempt(
        MetaAnalysis(
            tasks=names,
            seeds=tuple(seeds.tolist()),
            effects=tuple(effects.tolist()),
            variances=tuple(variances.tolist()),
            fixed_effect=_effect(
                unit * float(combination.mean_effect_fe),
                unit * float(combination.sd_eff_w_fe) * math.sqrt(meier),
                int(seeds.min()) - 1,
                confidence,
            ),
            random_effect=_effect(
                unit * float(combination.mean_effect_re),
                unit * max(float(combination.sd_eff_w_re), float(combination.sd_eff_w_re_hksj)),
                df,
                confidence,
            ),
            q=q,
            q_p_value=float(scipy.stats.chi2.sf(q, df)),
            i_squared=max(0.0, 1 - df / q) if q else 0.0,
            tau_squared=unit**2 * float(combination.tau2),
            confidence=confidence,
        ),
        "",
    )


def mixed_effect(
    method_scores: npt.ArrayLike,
    baseline_scores: npt.ArrayLike,
    tasks: Sequence[Any],
    seeds: Sequence[Any],
    confidence: float = 0.95,
) -> Attempt[MixedEffect]:
    """Fit difference = effect + task + seed + residual to scores (pairs,) of paired runs.

    `tasks` and `seeds` name the task and seed of each pair. Pairs may be missing, but no pair may
    come twice. statsmodels' MixedLM fits the model with REML and Nelder and Mead's search: gradient
    searches failed on one simulated data set in six, or reported convergence at a point without
    convergence.

    There is no result, but a reason, with fewer than two tasks or seeds; if the differences do not
    vary beyond tasks and seeds; and if the last fit did not converge or gave a warning.

    Raises ValueError as `meta_analysis`, or if a pair of task and seed comes twice.
    """
    differences, tolerance = _paired_differences(method_scores, baseline_scores, confidence)
    names, task = _levels(tasks, "tasks", len(differences))
    seed_names, seed = _levels(seeds, "seeds", len(differences))
    cells, first, copies = np.unique(
        task * len(seed_names) + seed, return_index=True, return_counts=True
    )
    if len(cells) < len(differences):
        pair_index = first[copies.argmax()]
        raise ValueError(f"task {tasks[pair_index]}, seed {seeds[pair_index]} comes twice")
    if min(len(names), len(seed_names)) < 2:
        return Attempt(
            None,
            f"{len(names)} task(s) and {len(seed_names)} seed(s): at least two of each are needed",
        )
    designs = {"task": np.eye(len(names))[task], "seed": np.eye(len(seed_names))[seed]}
    design = np.hstack(list(designs.values()))
    residuals = differences - design @ np.linalg.lstsq(design, differences)[0]
    if abs(residuals).max() <= max(tolerance, ROUNDING * abs(differences).max()):
        return Attempt(None, "the differences do not vary beyond tasks and seeds")
    unit = float(differences.std(ddof=1)) / UNIT
    effects = list(designs)
    while True:
        model, problem = _fit(differences / unit, [designs[name] for name in effects])
        if model is None:
            return Attempt(None, problem)
        component = int(model.vcomp.argmin())
        if model.vcomp[component] >= BOUNDARY:
            break
        effects.pop(component)
        if not effects:
            return Attempt(_pooled_effect(differences, confidence), "")
    if problem:
        return Attempt(None, problem)
    return Attempt(
        MixedEffect(
            effect=_effect(
                unit * float(model.fe_params[0]),
                unit * float(model.bse_fe[0]),
                min(designs[name].shape[1] for name in effects) - 1,
                confidence,
            ),
            pairs=len(differences),
        ),
        "",
    )


def _pooled_effect(differences: Floats, confidence: float) -> MixedEffect:
    """The mean of all pairs: the model without random effects."""
    pairs = len(differences)
    error = float(differences.std(ddof=1)) / math.sqrt(pairs)
    return MixedEffect(_effect(float(differences.mean()), error, pairs - 1, confidence), pairs)


def _fit(differences: Floats, designs: list[Floats]) -> tuple[MixedLMResults | None, str]:
    """The mixed model with one random effect for each design (pairs, levels), and a problem in words.

    The model is None if the fit did not converge. A problem beside a model is statsmodels' warning.
    """
    columns = [[[str(level) for level in range(design.shape[1])]] for design in designs]
    components = VCSpec(
        [str(effect) for effect in range(len(designs))], columns, [[design] for design in designs]
    )
    constant, one_group = np.ones((len(differences), 1)), np.zeros(len(differences), dtype=int)
    with warnings.catch_warnings(record=True) as records:
        warnings.simplefilter("always")
        try:
            results = MixedLM(differences, constant, one_group, exog_vc=components).fit(method="nm")
        except np.linalg.LinAlgError as error:
            return None, f"the mixed model could not be fitted: {error}"
    messages = "; ".join(str(warning.message) for warning in records)
    if not results.converged:
        return None, f"the mixed model did not converge: {messages}"
    return results, messages and f"the mixed model is not to be trusted: {messages}"


def _effect(mean: float, standard_error: float, df: int, confidence: float) -> Effect:
    half = t_quantile(confidence, df) * standard_error
    return Effect(mean, standard_error, df, Interval(mean - half, mean + half))


def _paired_differences(
    method_scores: npt.ArrayLike, baseline_scores: npt.ArrayLike, confidence: float
) -> tuple[Floats, float]:
    """Differences (pairs,), and the distance up to which two differences count as equal."""
    method = finite_array(method_scores, "method_scores", "pairs")
    baseline = finite_array(baseline_scores, "baseline_scores", "pairs")
    if len(method) != len(baseline):
        raise ValueError(
            f"method_scores has {len(method)} pairs, baseline_scores has {len(baseline)}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    return method - baseline, ROUNDING * float(max(abs(method).max(), abs(baseline).max()))


def _levels(names: Sequence[Any], argument: str, pairs: int) -> tuple[tuple[Any, ...], Indices]:
    """The distinct names, sorted, and the position of each pair's name among them (pairs,)."""
    name_array = np.asarray(names)
    if name_array.shape != (pairs,):
        raise ValueError(f"{argument} must name each of the {pairs} pairs, got {name_array.shape}")
    levels, position = np.unique(name_array, return_inverse=True)
    return tuple(levels.tolist()), position
