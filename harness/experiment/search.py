"""Optuna's ask and tell in fixed rounds that a later command can resume. Each trial has its own seed.

A command always asks whole rounds of `ROUND` trials, even where it trains fewer trials or where fewer
fit in memory. So the settings never depend on the machine. A trial whose runs did not finish keeps its
stored parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Engine, column, select, table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from harness.config import ROUND, START_UP
from harness.errors import StorageError
from harness.method import Value
from harness.runtime.randomness import derive
from harness.storage.claims import Claims
from harness.storage.database import make_immediate, masked_url, plain_engine
from harness.storage.outages import outage_of, raise_outages

T = TypeVar("T")


STUDIES = table("studies", column("study_name"))
"""Optuna's table."""


@contextmanager
def _storage_errors(url: str) -> Iterator[None]:
    """Optuna's errors of the database as `StorageError`, and outages as `Outage`."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        database = f"storage {masked_url(url)}"
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        outage = outage_of(cause, database) if isinstance(cause, DBAPIError) else None
        if outage is not None:
            raise outage from error
        reason = getattr(cause, "orig", None) or cause or error
        raise StorageError(f"{database}: {reason}") from error


def open_optuna(url: str, claims: Claims) -> optuna.storages.RDBStorage:
    """Optuna's storage at the ledger's URL, with the ledger's transactions. Raises `StorageError`.

    Optuna makes its tables under nested connections, which IMMEDIATE would block: so one worker at a
    time opens it, and its transactions change afterwards.
    """

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with claims.hold("optuna-tables"):
        try:
            storage, engine = claims.ledger.outages.survive(lambda: _make_storage(url))
        except RuntimeError as error:  # tables of another Optuna
            raise StorageError(f"storage {masked_url(url)}: {error}") from error
        make_immediate(storage.engine, pool_engine=engine)
        raise_outages(storage.engine, f"storage {masked_url(url)}")
    return storage


def _make_storage(url: str) -> tuple[optuna.storages.RDBStorage, Engine]:
    """Optuna's storage, and the engine whose pool the storage uses."""
    engine = plain_engine(url)
    try:
        with _storage_errors(url):
            return optuna.storages.RDBStorage(url, {"pool": engine.pool}), engine
    except StorageError:
        engine.dispose()
        raise


TrialScore = float | Literal["pruned"] | None
"""A trial's selection score; "pruned" for a pruned trial, None for a failed trial."""


@dataclass(frozen=True)
class Trial:
    """A trial that Optuna has asked: its number, from 0, and its parameters."""

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
        seed_name: str | None = None,
    ) -> None:
        """`seed_name` seeds the sampler; by default the study's name does."""
        self.name = name
        self.distributions = dict(distributions)
        self.sampler = sampler
        self.claims = claims
        self.seed_name = name if seed_name is None else seed_name
        self.ledger = claims.ledger
        self.study = self._survive(
            lambda: optuna.create_study(
                storage=storage, study_name=name, direction="maximize", load_if_exists=True
            )
        )
        self._trials: list[FrozenTrial] = []
        """The trials when they were read last. Parameters and finished trials never change."""

    def round(self, number: int) -> list[Trial]:
        """The trials of a round (from 0), asked now or read back. Earlier rounds must have been told."""
        self._complete(number)
        return _asked(self._trials[number * ROUND : (number + 1) * ROUND])

    def first_trials(self, trials: int) -> list[Trial]:
        """The first `trials` trials, asked now or read back. For samplers that read no scores."""
        self._complete(-(-trials // ROUND) - 1)
        return _asked(self._trials[:trials])

    def tell(self, number: int, score: TrialScore) -> None:
        """Report the score of a trial. A trial that has been told before stays as it is."""
        if number >= len(self._trials):
            self._read()
        if not self._trials[number].state.is_finished():
            self._survive(lambda: self._tell(number, score))

    def _tell(self, number: int, score: TrialScore) -> None:
        # Another worker may tell the same score between Optuna's look and its write.
        with suppress(UpdateFinishedTrialError):
            if score is None or score == "pruned":
                state = TrialState.FAIL if score is None else TrialState.PRUNED
                self.study.tell(number, state=state, skip_if_finished=True)
            else:
                self.study.tell(number, score, skip_if_finished=True)

    def _complete(self, number: int) -> None:
        """Have all trials of the rounds up to `number` (from 0)."""
        end = (number + 1) * ROUND
        if len(self._trials) < end and len(self._read()) < end:
            with self.claims.hold(f"ask:{self.name}"):
                self._ask(number)
            self._read()

    def _ask(self, number: int) -> None:
        """Ask the trials that the rounds up to `number` still lack, each from a seed of its own.

        The sampler works on a copy of the study in memory, and each trial is added to the shared storage
        whole, in one transaction. `study.ask` would write the trial first and then every parameter for
        itself. Another worker could then read a trial with half its parameters, and a killed process
        would leave one behind for good. In the copy, the round's earlier trials count as running for the
        sampler, as they do in the storage, so a round asked in two parts equals a round asked at once.
        A random sampler reads no trials, and its copy has none.
        """
        outages = self.ledger.outages.count
        trials = self._read()
        copy = optuna.create_study(direction="maximize")
        if self.sampler != "random":
            copy.add_trials(trials)
        for position in range(len(trials), (number + 1) * ROUND):
            copy.sampler = self._sampler(derive(self.seed_name, position) % 2**32)
            params = copy.ask(fixed_distributions=self.distributions).params
            trial = optuna.trial.create_trial(
                state=TrialState.RUNNING, params=params, distributions=self.distributions
            )
            self._survive(partial(self._add, trial, position, outages))

    def _add(self, trial: FrozenTrial, position: int, outages: int) -> None:
        """Add the trial of that position (from 0), unless it was added since that number of outages.

        After an outage the answer to a commit may be lost, or another worker may have taken over.
        """
        if self.ledger.outages.count == outages or not self._holds(position):
            self.study.add_trial(trial)

    def _holds(self, position: int) -> bool:
        """Whether the shared storage has a trial at that position."""
        # The server may still commit the lost transaction, which has locked the study's row.
        row = select(STUDIES.c.study_name).where(STUDIES.c.study_name == self.name)
        with self.ledger.engine.begin() as connection:
            connection.execute(row.with_for_update())
        return len(self.study.get_trials(deepcopy=False)) > position

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        if self.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=START_UP, constant_liar=True, multivariate=True
        )

    def _read(self) -> list[FrozenTrial]:
        self._trials = self._survive(lambda: self.study.get_trials(deepcopy=False))
        return self._trials

    def _survive(self, operation: Callable[[], T]) -> T:
        """The result of an operation of Optuna, which must leave the same rows when it runs twice."""
        with _storage_errors(self.ledger.url):
            return self.ledger.outages.survive(operation)


def _asked(trials: Sequence[FrozenTrial]) -> list[Trial]:
    return [Trial(trial.number, dict(trial.params)) for trial in trials]


def ask_round(
    searches: Mapping[str, Search], number: int, trials: int
) -> dict[str, list[Trial]] | None:
    """The trials of a round (from 0) of each study, of `trials` in all; None after the last round."""
    if number * ROUND >= trials:
        return None
    return {
        name: [trial for trial in search.round(number) if trial.number < trials]
        for name, search in searches.items()
    }


def tell_scores(
    searches: Mapping[str, Search], scores: Mapping[str, Mapping[int, TrialScore]]
) -> None:
    """Tell each study the scores of a round, by the number of the trial."""
    for name, search in searches.items():
        for trial, score in sorted(scores[name].items()):
            search.tell(trial, score)
