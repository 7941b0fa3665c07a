"""The search: rounds, seeding, and that an interrupted study asks what an undisturbed one would."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from sqlalchemy.orm import Session

from harness.config import START_UP
from harness.experiment.search import Search, Trial, ask_round, open_optuna, tell_scores
from harness.runtime.randomness import derive
from harness.storage.claims import Claims
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from tests.statements import statements

SPACE = {"x": FloatDistribution(0.0, 1.0), "rate": FloatDistribution(1e-4, 1e-1, log=True)}


class Interrupted(Exception):
    pass


def score(asked: Trial) -> float:
    return -((float(asked.params["x"]) - 0.3) ** 2)


def evaluate(asked: list[Trial]) -> Mapping[int, float | None]:
    return {trial.number: score(trial) for trial in asked}


def run_searches(
    searches: Mapping[str, Search],
    trials: int,
    evaluate: Callable[[Mapping[str, list[Trial]]], Mapping[str, Mapping[int, float | None]]],
) -> None:
    """Searches in step, with scores at once."""
    number = 0
    while (asked := ask_round(searches, number, trials)) is not None:
        tell_scores(searches, evaluate(asked))
        number += 1


def run_search(
    search: Search, trials: int, own: Callable[[list[Trial]], Mapping[int, float | None]]
) -> None:
    """A search of one study."""
    run_searches({search.name: search}, trials, lambda asked: {k: own(v) for k, v in asked.items()})


def open_search(ledger: Ledger, sampler: str = "tpe", name: str = "study") -> Search:
    claims = Claims(ledger)
    return Search(open_optuna(ledger.url, claims), name, SPACE, sampler, claims)


def parameters(search: Search) -> list[dict[str, float]]:
    return [trial.params for trial in search.study.get_trials()]


def fresh(folder: Path) -> Ledger:
    return Ledger(storage_url(folder, None))


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_interrupted_search_equals_an_undisturbed_one(tmp_path: Path, sampler: str) -> None:
    undisturbed = open_search(fresh(tmp_path / "a"), sampler)
    run_search(undisturbed, 12, evaluate)

    def fails_in_the_second_round(asked: list[Trial]) -> Mapping[int, float | None]:
        if asked[0].number >= 4:
            raise Interrupted
        return evaluate(asked)

    ledger = fresh(tmp_path / "b")
    with pytest.raises(Interrupted):
        run_search(open_search(ledger, sampler), 12, fails_in_the_second_round)
    resumed = open_search(ledger, sampler)
    run_search(resumed, 12, evaluate)
    assert parameters(resumed) == parameters(undisturbed)
    assert len({trial["x"] for trial in parameters(resumed)}) == 12


def test_more_trials_continue_as_if_asked_for_at_once(tmp_path: Path) -> None:
    at_once, grown = open_search(fresh(tmp_path / "a")), open_search(fresh(tmp_path / "b"))
    run_search(at_once, 12, evaluate)
    run_search(grown, 6, evaluate)
    run_search(grown, 12, evaluate)
    assert parameters(grown) == parameters(at_once)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("commits", [0, 1, 2, 3])
def test_asking_killed_at_any_commit_is_completed_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, commits: int
) -> None:
    """The command that goes on, and any other worker, see only trials with all their parameters."""
    whole, ledger = open_search(fresh(tmp_path / "a")), fresh(tmp_path / "b")
    killed = open_search(ledger)
    run_search(whole, 4 * number, evaluate)
    run_search(killed, 4 * number, evaluate)
    left = commits
    real = Session.commit

    def commit(session: Session) -> None:
        nonlocal left
        if left == 0:
            raise Interrupted
        left -= 1
        real(session)

    with monkeypatch.context() as patched:
        patched.setattr(Session, "commit", commit)
        with pytest.raises(Interrupted):
            killed._ask(number)
    heir = open_search(ledger)
    assert all(trial.params.keys() == SPACE.keys() for trial in heir.study.get_trials())
    assert heir.round(number) == whole.round(number)


def test_studies_differ_and_each_repeats(tmp_path: Path) -> None:
    ledger = fresh(tmp_path)
    first, second = open_search(ledger, name="s1").round(0), open_search(ledger, name="s2").round(0)
    assert first != second
    assert open_search(ledger, name="s1").round(0) == first


def test_the_first_trials_are_drawn_at_random_whatever_the_sampler(tmp_path: Path) -> None:
    """As many as the configuration says, and no more: what tuning curves stand on."""
    learning = open_search(fresh(tmp_path / "a"))
    random = open_search(fresh(tmp_path / "b"), "random")
    for search in (learning, random):
        run_search(search, 3 * START_UP, evaluate)
    alike = [a == b for a, b in zip(parameters(learning), parameters(random), strict=True)]
    assert alike == [True] * START_UP + [False] * 2 * START_UP


def test_only_the_trials_asked_for_are_trained(ledger: Ledger) -> None:
    seen: list[int] = []

    def remember(asked: list[Trial]) -> Mapping[int, float | None]:
        seen.extend(trial.number for trial in asked)
        return evaluate(asked)

    run_search(open_search(ledger), 6, remember)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_a_failed_trial_is_told_and_the_search_goes_on(ledger: Ledger) -> None:
    search = open_search(ledger)
    run_search(
        search, 8, lambda asked: {t.number: None if t.number == 2 else score(t) for t in asked}
    )
    states = [trial.state.name for trial in search.study.get_trials()]
    assert states == ["COMPLETE"] * 2 + ["FAIL"] + ["COMPLETE"] * 5


@pytest.mark.parametrize("value", [0.5, None])
def test_two_workers_may_tell_the_same_trial_at_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, value: float | None
) -> None:
    """The leader's value is written between the follower's look and its write."""
    leader, follower = open_search(ledger), open_search(ledger)
    leader.round(0)
    storage = follower.study._storage
    write = storage.set_trial_state_values

    def late(*given: Any, **named: Any) -> bool:
        leader.tell(0, value)
        return write(*given, **named)

    monkeypatch.setattr(storage, "set_trial_state_values", late)
    follower.tell(0, value)
    assert leader.study.get_trials()[0].values == ([value] if value is not None else None)


def test_the_search_learns(ledger: Ledger) -> None:
    search = open_search(ledger)
    run_search(search, 32, evaluate)
    values = [trial.value for trial in search.study.get_trials()]
    assert sum(values[-8:]) > sum(values[:8])


def test_studies_are_asked_together_and_each_as_if_alone(tmp_path: Path) -> None:
    ledger = fresh(tmp_path / "a")
    both = {name: open_search(ledger, name=name) for name in ("s1", "s2")}
    rounds = []

    def together(asked: Mapping[str, list[Trial]]) -> dict[str, Mapping[int, float | None]]:
        rounds.append({name: len(own) for name, own in asked.items()})
        return {name: evaluate(own) for name, own in asked.items()}

    run_searches(both, 6, together)
    assert rounds == [{"s1": 4, "s2": 4}, {"s1": 2, "s2": 2}]
    for name, search in both.items():
        alone = open_search(fresh(tmp_path / name), name=name)
        run_search(alone, 6, evaluate)
        assert parameters(search) == parameters(alone)


def reread(ledger: Ledger, trials: int, sampler: str) -> list[str]:
    """The statements of a search that finds all its trials, after it has been opened."""
    run_search(open_search(ledger, sampler), trials, evaluate)
    search = open_search(ledger, sampler)
    with statements() as executed:
        run_search(search, trials, evaluate)
        search.first_trials(trials)
    return executed


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_that_is_there_is_read_once_whatever_its_length(
    tmp_path: Path, sampler: str
) -> None:
    short = reread(fresh(tmp_path / "short"), 4, sampler)
    long = reread(fresh(tmp_path / "long"), 32, sampler)
    assert 0 < len(long) == len(short)


def test_many_first_trials_are_those_of_single_rounds_and_of_their_seeds(tmp_path: Path) -> None:
    at_once = open_search(fresh(tmp_path / "a"), "random")
    by_rounds = open_search(fresh(tmp_path / "b"), "random")
    rounds = [trial for number in range(3) for trial in by_rounds.round(number)]
    assert at_once.first_trials(10) == rounds[:10]
    assert at_once.first_trials(12) == rounds
    for trial in rounds:
        seed = derive("study", trial.number) % 2**32
        alone = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        assert trial.params == alone.ask(fixed_distributions=SPACE).params


def test_a_search_sees_the_trials_that_another_driver_has_asked_and_told(ledger: Ledger) -> None:
    first, second = open_search(ledger), open_search(ledger)
    assert second.round(0) == first.round(0)
    tell_scores({"study": first}, {"study": evaluate(first.round(0))})
    assert second.round(1) == first.round(1)
    tell_scores({"study": second}, {"study": evaluate(second.round(1))})
    tell_scores({"study": first}, {"study": dict.fromkeys(range(8), 0.25)})
    values = [trial.value for trial in first.study.get_trials()]
    assert values == [score(trial) for number in (0, 1) for trial in first.round(number)]
