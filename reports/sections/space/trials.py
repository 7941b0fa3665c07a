"""The numbers behind the search space's figures: trials, scales of settings, and importances."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from harness.analysis.results import MethodResult
from harness.errors import StorageError
from harness.stats.arrays import Floats
from harness.stats.importance import MINIMUM_TRIALS, importances
from reports.evidence import Evidence
from reports.kit.trials import search_history

ALL_METHODS = "all methods"
LAYER_SHARE, KD_WEIGHT = "layer_share", "kd_weight"


@dataclass(frozen=True)
class Scale:
    """The range that a hyper-parameter was searched in, or its `choices` as texts."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[str, ...] = ()

    def position(self, value: Any) -> float:
        """The place of a value, from 0 to 1; NaN if the value is missing."""
        if self.choices:
            places = len(self.choices)
            # A column with missing values has its whole numbers as floats.
            is_whole = isinstance(value, float) and value.is_integer()
            text = str(value) if str(value) in self.choices or not is_whole else str(int(value))
            return (self.choices.index(text) + 0.5) / places if text in self.choices else math.nan
        if value is None or math.isnan(value):
            return math.nan
        low, high, number = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return min(max((number - low) / (high - low), 0.0), 1.0) if high > low else 0.5

    def value(self, position: Floats) -> Floats:
        """The numbers at places from 0 to 1."""
        if self.log:
            return np.asarray(self.low * (self.high / self.low) ** position)
        return np.asarray(self.low + (self.high - self.low) * position)


@dataclass(frozen=True)
class SearchSpace:
    """One task's complete trials, and the scales that were searched.

    `trials` has one row per method and trial: `points`, and `rank`, the share of the method's other
    trials that score lower (ties count half). A column `setting.NAME` for each hyper-parameter is empty
    for methods that do not search the hyper-parameter. `scales` are by method and hyper-parameter.
    `warnings` names the methods that are left out because their space cannot be read.
    """

    trials: pd.DataFrame
    scales: Mapping[str, Mapping[str, Scale]]
    warnings: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The hyper-parameters; the ones that most methods search come first."""
        counts: dict[str, int] = {}
        for scales in self.scales.values():
            for name in scales:
                counts[name] = counts.get(name, 0) + 1
        return sorted(counts, key=lambda name: -counts[name])

    def method_trials(self, method: str) -> pd.DataFrame:
        """One method's trials."""
        return self._by_method.get(method, self.trials.iloc[:0])

    @cached_property
    def _by_method(self) -> dict[str, pd.DataFrame]:
        return {str(method): rows for method, rows in self.trials.groupby("method", sort=False)}


@cache
def read_scale(text: str) -> Scale:
    """Read a distribution as Optuna prints it.

    For example `FloatDistribution(high=1.0, log=False, low=0.1, step=None)`. Raises StorageError for any
    other text.
    """
    try:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        keywords = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
        if "choices" in keywords:
            return Scale(choices=tuple(str(choice) for choice in keywords["choices"]))
        return Scale(float(keywords["low"]), float(keywords["high"]), bool(keywords["log"]))
    except (AssertionError, KeyError, SyntaxError, TypeError, ValueError) as error:
        raise StorageError(f"the ledger's search space '{text}' is not a distribution") from error


def read_space(evidence: Evidence, task: str) -> SearchSpace:
    """A task's complete trials; a method whose space cannot be read has a warning instead."""
    results = evidence.results(task)
    scales: dict[str, Mapping[str, Scale]] = {}
    warnings = []
    for method in (result.method for result in results if result.search):
        texts = evidence.spaces[task, method]
        try:
            scales[method] = {name: read_scale(text) for name, text in texts.items()}
        except StorageError as error:
            warnings.append(f"{method} is left out: {error}.")
    history = search_history(results)
    complete_rows = history[
        (history["status"] == "complete") & history["method"].isin(list(scales))
    ]
    trials = complete_rows[["method", "trial", "points"]].reset_index(drop=True)
    ranks = trials.groupby("method", sort=False)["points"].transform(_ranks)
    space = SearchSpace(trials.assign(rank=ranks.astype(float)), scales, tuple(warnings))
    settings = {result.method: _settings(result) for result in results}
    for name in space.names:
        space.trials[f"setting.{name}"] = [
            _parameter(settings[method][trial], name) if name in scales[method] else None
            for method, trial in zip(trials["method"], trials["trial"], strict=True)
        ]
    return space


def _settings(result: MethodResult) -> dict[int, Mapping[str, Any]]:
    return {run.trial: run.record.inputs.setting for run in result.search}


def _ranks(points: pd.Series[float]) -> Floats:
    if len(points) == 1:
        return np.array([0.5])
    return np.asarray((rankdata(points) - 1) / (len(points) - 1))


def _parameter(setting: Mapping[str, Any], name: str) -> Any:
    """The searched value. A setting has the weight that `layer_share` gives, not the share itself."""
    if name != LAYER_SHARE or name in setting:
        return setting.get(name)
    left = 1 - float(setting.get(KD_WEIGHT, 1.0))
    return float(setting["layer_weight"]) / left if left > 0 and "layer_weight" in setting else None


def joint_scales(space: SearchSpace) -> dict[str, Scale]:
    """A scale for each hyper-parameter, over the ranges of all methods.

    A hyper-parameter that is a number in one method and a choice in another has no scale.
    """
    merged_scales: dict[str, Scale] = {}
    for name in space.names:
        method_scales = [scales[name] for scales in space.scales.values() if name in scales]
        choices = tuple(
            dict.fromkeys(choice for scale in method_scales for choice in scale.choices)
        )
        if not choices:
            low, high = (
                min(scale.low for scale in method_scales),
                max(scale.high for scale in method_scales),
            )
            merged_scales[name] = Scale(low, high, all(scale.log for scale in method_scales))
        elif all(scale.choices for scale in method_scales):
            merged_scales[name] = Scale(choices=choices)
    return merged_scales


def importance_frame(space: SearchSpace) -> pd.DataFrame:
    """One row per method and hyper-parameter: its share of the importance in percent, and `p`.

    `ALL_METHODS` comes first: methods together, over the hyper-parameters that they search in the same
    range; there a trial's score is its rank in its method. Left out are methods with too few trials,
    methods with one hyper-parameter, which has all the importance, and methods with too many equal
    scores. Raises ImportError without Optuna.
    """
    rows = []
    members, common = _in_common(space)
    member_trials = space.trials[space.trials["method"].isin(members)]
    if len(members) > 1:
        rows += _shares(
            ALL_METHODS, member_trials, {name: space.scales[members[0]][name] for name in common}
        )
    for method, scales in space.scales.items():
        rows += _shares(method, space.method_trials(method), scales)
    columns = ["method", "hyper_parameter", "percent", "p", "trials"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def _shares(
    method: str, trials: pd.DataFrame, scales: Mapping[str, Scale]
) -> list[tuple[str, str, float, float, int]]:
    if len(trials) < MINIMUM_TRIALS or len(scales) < 2:
        return []
    rows = trials.dropna(subset=[f"setting.{name}" for name in scales])
    if len(rows) < MINIMUM_TRIALS:
        return []
    values = {name: _values(rows[f"setting.{name}"], scale) for name, scale in scales.items()}
    results = importances(values, rows["rank"].to_numpy(dtype=np.float64))
    shares = {} if results is None else results
    return [
        (method, name, 100 * importance.share, importance.p_value, len(rows))
        for name, importance in shares.items()
    ]


def _values(column: pd.Series[Any], scale: Scale) -> Sequence[float] | Sequence[str]:
    if scale.choices:
        return [str(value) for value in column]
    return [scale.position(value) for value in column]


def _in_common(space: SearchSpace) -> tuple[list[str], list[str]]:
    """The methods that search all of the common hyper-parameters, and these hyper-parameters.

    A hyper-parameter is common if several methods search it, all in the same range.
    """
    common = []
    for name in space.names:
        name_scales = [scales[name] for scales in space.scales.values() if name in scales]
        if len(name_scales) > 1 and len(set(name_scales)) == 1:
            common.append(name)
    members = [method for method, scales in space.scales.items() if set(common) <= set(scales)]
    return members, common
