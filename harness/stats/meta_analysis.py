"""One effect across several tasks, from differences of runs that are paired by seed.

A fixed effect is about these tasks; a random effect, and the mixed model, about tasks of which these
are a sample. That is the larger claim, and with the three to nine tasks of a benchmark its interval is
wide.
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

from harness.stats.arrays import Floats, finite
from harness.stats.paired import ROUNDING, Interval

Indices = npt.NDArray[np.int64]
Result = TypeVar("Result")

UNIT = 100.0
"""The mixed model is fitted to differences with this standard deviation. statsmodels takes a
component for zero by an absolute bound, a variance of 0.01: here, a 1e-6 of the whole variance."""
BOUNDARY = 0.01
"""That bound."""


@dataclass(frozen=True)
class Attempt(Generic[Result]):
    """A result, or why there is none."""

    result: Result | None
    reason: str
    """Empty where there is a result."""


@dataclass(frozen=True)
class Effect:
    """A mean difference across tasks, method minus baseline."""

    mean: float
    standard_error: float
    df: int
    """Degrees of freedom of Student's t for the interval."""
    interval: Interval


@dataclass(frozen=True)
class MetaAnalysis:
    """One effect from the mean paired difference of each task and its variance."""

    tasks: tuple[Any, ...]
    """The names of the tasks, sorted; what is per task has this order."""
    seeds: tuple[int, ...]
    """(tasks,): pairs of runs."""
    effects: tuple[float, ...]
    """(tasks,): mean differences."""
    variances: tuple[float, ...]
    """(tasks,): of those means."""
    fixed: Effect
    """The inverse-variance mean of these tasks. The weights are estimated, which the usual normal
    interval ignores: for 95% it covers 80 to 89% with six seeds, 87 to 90% with ten. So the
    standard error is Meier's (Biometrics 9, 1953), and t has the seeds of the smallest task less
    one: 94 to 96% from six seeds on, 90 to 92% with three or four (simulated, normal differences,
    2 to 8 tasks)."""
    random: Effect
    """The mean of tasks like these, by Paule and Mandel's variance, with the standard error of
    Hartung and Knapp where that is not the smaller one, and tasks - 1 degrees of freedom."""
    q: float
    """Cochran's Q of heterogeneity."""
    q_p_value: float
    """Chi-square. It takes the variances for known and so is too small with few seeds: at the level
    .05 it rejects equal effects of four tasks with chance .14 with six seeds, .09 with ten."""
    i_squared: float
    """Share of the variance of the effects that is between tasks, max(0, 1 - (tasks - 1) / Q)."""
    tau_squared: float
    """Variance of the effect between tasks, Paule and Mandel's."""
    confidence: float


@dataclass(frozen=True)
class MixedEffect:
    """The effect across tasks by a mixed linear model of the paired differences.

    difference = effect + task + seed + residual, the last three random and normal with variances
    estimated by REML. A component that REML puts at zero is left out, which leaves the estimate as
    it is and makes its standard error that of the regular, smaller model.
    """

    effect: Effect
    """With the levels of the rarest random effect that is in the model, less one, as degrees of
    freedom: exact for balanced data with one random effect, cautious with two."""
    pairs: int


def meta_analysis(
    method_scores: npt.ArrayLike,
    baseline_scores: npt.ArrayLike,
    tasks: Sequence[Any],
    confidence: float = 0.95,
) -> Attempt[MetaAnalysis]:
    """Combine the tasks' mean differences, from scores (pairs,) of runs paired by task and seed.

    `tasks` names the task of each pair; tasks may have different numbers of pairs. Fixed and random
    effects are combined by statsmodels' `combine_effects`; its DerSimonian-Laird estimate of tau
    squared is not cut off at zero, so Paule and Mandel's is used, which is also less biased
    (Veroniki et al., Research Synthesis Methods 7, 2016). The random effect's standard error is
    never smaller than without Hartung and Knapp's factor, which can be near zero for effects that
    happen to agree (Knapp and Hartung, Statistics in Medicine 22, 2003). The pairs of different
    tasks are taken for independent; a seed that favours one method on all tasks breaks that, and
    `mixed_effect` allows for it.

    No result, but the reason, with one task, or where a task has one pair or differences that are
    all equal, and so no variance.

    Raises ValueError if a score is NaN or infinite, shapes differ, are not (pairs,) or are empty, or
    `confidence` is not between 0 and 1.
    """
    differences, tolerance = _paired(method_scores, baseline_scores, confidence)
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
    # In units of the smallest variance, so that its squares do not underflow. Q may be 0.
    unit = math.sqrt(variances.min())
    with np.errstate(divide="ignore", invalid="ignore"):
        found = combine_effects(effects / unit, variances / unit**2, method_re="pm", maxiter=1000)
    df = len(names) - 1
    weights = found.weights_rel_fe
    meier = 1 + 4 * float((weights * (1 - weights) / (seeds - 1)).sum())
    # statsmodels' own Q is a difference of two sums and can come out below zero.
    q = float(found.scale_hksj_fe) * df
    return Attempt(
        MetaAnalysis(
            tasks=names,
            seeds=tuple(seeds.tolist()),
            effects=tuple(effects.tolist()),
            variances=tuple(variances.tolist()),
            fixed=_effect(
                unit * float(found.mean_effect_fe),
                unit * float(found.sd_eff_w_fe) * math.sqrt(meier),
                int(seeds.min()) - 1,
                confidence,
            ),
            random=_effect(
                unit * float(found.mean_effect_re),
                unit * max(float(found.sd_eff_w_re), float(found.sd_eff_w_re_hksj)),
                df,
                confidence,
            ),
            q=q,
            q_p_value=float(scipy.stats.chi2.sf(q, df)),
            i_squared=max(0.0, 1 - df / q) if q else 0.0,
            tau_squared=unit**2 * float(found.tau2),
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

    `tasks` and `seeds` name the task and seed of each pair; pairs may be missing, none may come
    twice. Fitted by statsmodels' MixedLM with REML and Nelder and Mead's search: the gradient
    searches failed on one simulated data set in six, or called a point converged that was not.

    No result, but the reason, if there are fewer than two tasks or seeds, nothing varies beyond
    tasks and seeds, neither of them varies, or the last fit did not converge or warned of anything.

    Raises ValueError as `meta_analysis`, or if a pair of task and seed comes twice.
    """
    differences, tolerance = _paired(method_scores, baseline_scores, confidence)
    names, task = _levels(tasks, "tasks", len(differences))
    seed_names, seed = _levels(seeds, "seeds", len(differences))
    cells, first, copies = np.unique(
        task * len(seed_names) + seed, return_index=True, return_counts=True
    )
    if len(cells) < len(differences):
        twice = first[copies.argmax()]
        raise ValueError(f"task {tasks[twice]}, seed {seeds[twice]} comes twice")
    if min(len(names), len(seed_names)) < 2:
        return Attempt(
            None,
            f"{len(names)} task(s) and {len(seed_names)} seed(s): at least two of each are needed",
        )
    designs = {"task": np.eye(len(names))[task], "seed": np.eye(len(seed_names))[seed]}
    additive = np.hstack(list(designs.values()))
    rest = differences - additive @ np.linalg.lstsq(additive, differences)[0]
    if abs(rest).max() <= max(tolerance, ROUNDING * abs(differences).max()):
        return Attempt(None, "the differences do not vary beyond tasks and seeds")
    unit = float(differences.std(ddof=1)) / UNIT
    kept = list(designs)
    while True:
        fitted, problem = _fit(differences / unit, [designs[name] for name in kept])
        if fitted is None:
            return Attempt(None, problem)
        least = int(fitted.vcomp.argmin())
        if fitted.vcomp[least] >= BOUNDARY:
            break
        kept.pop(least)
        if not kept:
            return Attempt(None, "the differences vary between neither tasks nor seeds")
    if problem:
        return Attempt(None, problem)
    return Attempt(
        MixedEffect(
            effect=_effect(
                unit * float(fitted.fe_params[0]),
                unit * float(fitted.bse_fe[0]),
                min(designs[name].shape[1] for name in kept) - 1,
                confidence,
            ),
            pairs=len(differences),
        ),
        "",
    )


def _fit(differences: Floats, designs: list[Floats]) -> tuple[MixedLMResults | None, str]:
    """The mixed model with one random effect for each design (pairs, levels), and its problem.

    None if it did not converge; a problem beside a result is what statsmodels warned of.
    """
    columns = [[[str(level) for level in range(design.shape[1])]] for design in designs]
    components = VCSpec(
        [str(effect) for effect in range(len(designs))], columns, [[design] for design in designs]
    )
    constant, one_group = np.ones((len(differences), 1)), np.zeros(len(differences), dtype=int)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted = MixedLM(differences, constant, one_group, exog_vc=components).fit(method="nm")
        except np.linalg.LinAlgError as error:
            return None, f"the mixed model could not be fitted: {error}"
    warned = "; ".join(str(warning.message) for warning in caught)
    if not fitted.converged:
        return None, f"the mixed model did not converge: {warned}"
    return fitted, warned and f"the mixed model is not to be trusted: {warned}"


def _effect(mean: float, standard_error: float, df: int, confidence: float) -> Effect:
    half = float(scipy.stats.t.ppf((1 + confidence) / 2, df)) * standard_error
    return Effect(mean, standard_error, df, Interval(mean - half, mean + half))


def _paired(
    method_scores: npt.ArrayLike, baseline_scores: npt.ArrayLike, confidence: float
) -> tuple[Floats, float]:
    """Differences (pairs,), and up to which distance two of them are equal."""
    method = finite(method_scores, "method_scores", "pairs")
    baseline = finite(baseline_scores, "baseline_scores", "pairs")
    if len(method) != len(baseline):
        raise ValueError(
            f"method_scores has {len(method)} pairs, baseline_scores has {len(baseline)}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    return method - baseline, ROUNDING * float(max(abs(method).max(), abs(baseline).max()))


def _levels(names: Sequence[Any], argument: str, pairs: int) -> tuple[tuple[Any, ...], Indices]:
    """The distinct names, sorted, and which of them each pair has."""
    given = np.asarray(names)
    if given.shape != (pairs,):
        raise ValueError(f"{argument} must name each of the {pairs} pairs, got {given.shape}")
    levels, position = np.unique(given, return_inverse=True)
    return tuple(levels.tolist()), position
