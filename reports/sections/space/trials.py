"""The numbers behind the search space's figures: the trials, and what mattered in them."""

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

ALL = "all methods"
LAYER_SHARE, KD_WEIGHT = "layer_share", "kd_weight"


@dataclass(frozen=True)
class Scale:
    """The range that a hyper-parameter was searched in, or its `choices` as texts."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[str, ...] = ()

    def position(self, value: Any) -> float:
        """The place of a value, from 0 to 1; NaN where it is missing."""
        if self.choices:
            places = len(self.choices)
            # Whole numbers come as floats from a column where some are missing.
            whole = isinstance(value, float) and value.is_integer()
            text = str(value) if str(value) in self.choices or not whole else str(int(value))
            return (self.choices.index(text) + 0.5) / places if text in self.choices else math.nan
        if value is None or math.isnan(value):
            return math.nan
        low, high, at = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return min(max((at - low) / (high - low), 0.0), 1.0) if high > low else 0.5

    def value(self, position: Floats) -> Floats:
        """The numbers at places from 0 to 1."""
        if self.log:
            return np.asarray(self.low * (self.high / self.low) ** position)
        return np.asarray(self.low + (self.high - self.low) * position)


@dataclass(frozen=True)
class Searched:
    """One task's complete trials.

    `trials` has one row per method and trial: `points`, and `rank`, the share of the method's other
    trials that score lower (ties count half); a column `setting.NAME` per searched hyper-parameter is
    empty for methods that do not search it. `scales` are by method and name. `unread` says which methods
    are left out, since their space cannot be read.
    """

    trials: pd.DataFrame
    scales: Mapping[str, Mapping[str, Scale]]
    unread: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The hyper-parameters, those that most methods search first."""
        counts: dict[str, int] = {}
        for own in self.scales.values():
            for name in own:
                counts[name] = counts.get(name, 0) + 1
        return sorted(counts, key=lambda name: -counts[name])

    def of(self, method: str) -> pd.DataFrame:
        """One method's trials."""
        return self._by_method.get(method, self.trials.iloc[:0])

    @cached_property
    def _by_method(self) -> dict[str, pd.DataFrame]:
        return {str(method): own for method, own in self.trials.groupby("method", sort=False)}


@cache
def read_scale(text: str) -> Scale:
    """A distribution as Optuna prints it, `FloatDistribution(high=1.0, log=False, low=0.1, step=None)`.

    Raises StorageError for anything else.
    """
    try:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        given = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
        if "choices" in given:
            return Scale(choices=tuple(str(choice) for choice in given["choices"]))
        return Scale(float(given["low"]), float(given["high"]), bool(given["log"]))
    except (AssertionError, KeyError, SyntaxError, TypeError, ValueError) as error:
        raise StorageError(f"the ledger's search space '{text}' is not a distribution") from error


def read_searched(evidence: Evidence, task: str) -> Searched:
    """A task's complete trials; methods whose space cannot be read are in `unread` instead."""
    results = evidence.results(task)
    scales: dict[str, Mapping[str, Scale]] = {}
    unread = []
    for method in (result.method for result in results if result.search):
        texts = evidence.spaces[task, method]
        try:
            scales[method] = {name: read_scale(text) for name, text in texts.items()}
        except StorageError as error:
            unread.append(f"{method} is left out: {error}.")
    history = search_history(results)
    complete = history[(history["status"] == "complete") & history["method"].isin(list(scales))]
    trials = complete[["method", "trial", "points"]].reset_index(drop=True)
    ranks = trials.groupby("method", sort=False)["points"].transform(_ranks)
    found = Searched(trials.assign(rank=ranks.astype(float)), scales, tuple(unread))
    settings = {result.method: _settings(result) for result in results}
    for name in found.names:
        found.trials[f"setting.{name}"] = [
            _parameter(settings[method][trial], name) if name in scales[method] else None
            for method, trial in zip(trials["method"], trials["trial"], strict=True)
        ]
    return found


def _settings(result: MethodResult) -> dict[int, Mapping[str, Any]]:
    return {run.trial: run.record.inputs.setting for run in result.search}


def _ranks(points: pd.Series[float]) -> Floats:
    if len(points) == 1:
        return np.array([0.5])
    return np.asarray((rankdata(points) - 1) / (len(points) - 1))


def _parameter(setting: Mapping[str, Any], name: str) -> Any:
    """The value that was searched; of `layer_share` a setting holds the weight that it gives."""
    if name != LAYER_SHARE or name in setting:
        return setting.get(name)
    left = 1 - float(setting.get(KD_WEIGHT, 1.0))
    return float(setting["layer_weight"]) / left if left > 0 and "layer_weight" in setting else None


def joint_scales(searched: Searched) -> dict[str, Scale]:
    """A scale for each hyper-parameter that holds the ranges of all methods.

    Without those that are a number in one method and a choice in another.
    """
    found: dict[str, Scale] = {}
    for name in searched.names:
        own = [scales[name] for scales in searched.scales.values() if name in scales]
        choices = tuple(dict.fromkeys(choice for scale in own for choice in scale.choices))
        if not choices:
            low, high = min(scale.low for scale in own), max(scale.high for scale in own)
            found[name] = Scale(low, high, all(scale.log for scale in own))
        elif all(scale.choices for scale in own):
            found[name] = Scale(choices=choices)
    return found


def importance_frame(searched: Searched) -> pd.DataFrame:
    """One row per method and hyper-parameter: its share of the importance in percent, and `p`.

    First of all methods together, over what several search in one and the same range: there a trial's
    score is its rank in its method. Methods with too few trials are left out, and so are those with one
    hyper-parameter, which has all the importance, and those of which too many trials score alike.
    Raises ImportError without Optuna.
    """
    rows = []
    members, common = _in_common(searched)
    together = searched.trials[searched.trials["method"].isin(members)]
    if len(members) > 1:
        rows += _shares(ALL, together, {name: searched.scales[members[0]][name] for name in common})
    for method, scales in searched.scales.items():
        rows += _shares(method, searched.of(method), scales)
    columns = ["method", "hyper_parameter", "percent", "p", "trials"]
    return pd.DataFrame(rows, columns=pd.Index(columns))


def _shares(
    method: str, trials: pd.DataFrame, scales: Mapping[str, Scale]
) -> list[tuple[str, str, float, float, int]]:
    if len(trials) < MINIMUM_TRIALS or len(scales) < 2:
        return []
    known = trials.dropna(subset=[f"setting.{name}" for name in scales])
    if len(known) < MINIMUM_TRIALS:
        return []
    values = {name: _values(known[f"setting.{name}"], scale) for name, scale in scales.items()}
    found = importances(values, known["rank"].to_numpy(dtype=np.float64))
    shares = {} if found is None else found
    return [
        (method, name, 100 * one.share, one.p_value, len(known)) for name, one in shares.items()
    ]


def _values(column: pd.Series[Any], scale: Scale) -> Sequence[float] | Sequence[str]:
    if scale.choices:
        return [str(value) for value in column]
    return [scale.position(value) for value in column]


def _in_common(searched: Searched) -> tuple[list[str], list[str]]:
    """What several methods search in one range, and the methods that search all of it."""
    common = []
    for name in searched.names:
        own = [scales[name] for scales in searched.scales.values() if name in scales]
        if len(own) > 1 and len(set(own)) == 1:
            common.append(name)
    members = [method for method, own in searched.scales.items() if set(common) <= set(own)]
    return members, common
