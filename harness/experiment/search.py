"""Optuna's ask and tell in fixed rounds, seeded per round, resumable to the same settings.

A round of `ROUND` settings is asked whole, however many of them are wanted or fit in memory, so what
is asked never depends on the machine. A trial whose run did not finish keeps its stored parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from harness.config import ROUND, START_UP
from harness.errors import StorageError
from harness.method import Value
from harness.runtime.randomness import derive
from harness.storage.claims import Claims
from harness.storage.database import make_immediate, shown_url


@contextmanager
def _storage_errors(url: str) -> Iterator[None]:
    """Optuna's errors of the database as `StorageError`."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        reason = getattr(cause, "orig", None) or cause or error
        raise StorageError(f"storage {shown_url(url)}: {reason}") from error


def open_optuna(url: str, claims: Claims) -> optuna.storages.RDBStorage:
    """Optuna's storage at the ledger's URL, with the ledger's transactions. Raises `StorageError`.

    Optuna makes its tables under nested connections, which IMMEDIATE would block: so one worker at a
    time opens it, and its transactions change afterwards.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with claims.held("optuna-tables"):
        try:
            with _storage_errors(url):
                storage = optuna.storages.RDBStorage(url)
        except (ImportError, RuntimeError) as error:  # no driver; tables of another Optuna
            raise StorageError(f"storage {shown_url(url)}: {error}") from error
        make_immediate(storage.engine)
    return storage


Told = float | Literal["pruned"] | None
"""A trial's selection score, `pruned`, or None for a failed one."""


@dataclass(frozen=True)
class Asked:
    """One trial: its number and parameters."""

    number: int
    params: Mapping[str, Value]


class Search:
    """The trials of one study in the shared storage."""

    def __init__(
        self,
        storage: optuna.storages.BaseStorage,
        name: str,
        distributions: Mapping[str, BaseDistribution],
        sampler: str,
        claims: Claims,
    ) -> None:
        self.name = name
        self.distributions = dict(distributions)
        self.sampler = sampler
        self.claims = claims
        self.url = claims.ledger.url
        with _storage_errors(self.url):
            self.study = optuna.create_study(
                storage=storage, study_name=name, direction="maximize", load_if_exists=True
            )

    def round(self, number: int) -> list[Asked]:
        """The settings of a round, asked now or read back. Earlier rounds must have been told."""
        first = number * ROUND
        if len(self._trials()) < first + ROUND:
            with self.claims.held(f"ask:{self.name}:{number}"):
                self._ask(number)
        trials = self._trials()
        return [Asked(trial.number, dict(trial.params)) for trial in trials[first : first + ROUND]]

    def tell(self, number: int, value: Told) -> None:
        """Report a trial's selection score, or how it ended without; a told trial stays as it is."""
        trial = self._trials()[number]
        if trial.state.is_finished():
            return
        # Another worker may tell the same value between Optuna's look and its write.
        with _storage_errors(self.url), suppress(UpdateFinishedTrialError):
            if value is None or value == "pruned":
                state = TrialState.FAIL if value is None else TrialState.PRUNED
                self.study.tell(number, state=state, skip_if_finished=True)
            else:
                self.study.tell(number, value, skip_if_finished=True)

    def _ask(self, number: int) -> None:
        """Ask what a killed process left of a round, each trial from a seed of its own.

        The sampler works on a copy in memory: in the shared storage `ask` would show others, and leave
        to a killed process's heirs, a trial whose parameters are not all there yet.
        """
        copy = optuna.create_study(direction="maximize")
        copy.add_trials(self._trials())
        for position in range(len(copy.trials), (number + 1) * ROUND):
            copy.sampler = self._seeded(derive(self.name, position) % 2**32)
            params = copy.ask(fixed_distributions=self.distributions).params
            trial = optuna.trial.create_trial(
                state=TrialState.RUNNING, params=params, distributions=self.distributions
            )
            with _storage_errors(self.url):
                self.study.add_trial(trial)

    def _seeded(self, seed: int) -> optuna.samplers.BaseSampler:
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=START_UP, constant_liar=True, multivariate=True
        )

    def _trials(self) -> list[FrozenTrial]:
        with _storage_errors(self.url):
            return self.study.get_trials(deepcopy=False)


def run_search(
    searches: Mapping[str, Search],
    trials: int,
    evaluate: Callable[[Mapping[str, list[Asked]]], Mapping[str, Mapping[int, Told]]],
) -> None:
    """Ask, train and tell round by round, all studies together, until `trials` settings have a score.

    `evaluate` returns, by study, each trial's selection score, or how it ended without.
    """
    for number in range(-(-trials // ROUND)):
        asked = {
            name: [one for one in search.round(number) if one.number < trials]
            for name, search in searches.items()
        }
        values = evaluate(asked)
        for name, search in searches.items():
            for trial, value in sorted(values[name].items()):
                search.tell(trial, value)
