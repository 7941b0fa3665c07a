"""The scheduler with simulated workers: what is trained when, once each, and what becomes of deaths."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest

from benchmarks.simulated_workers import SimulatedWorkers
from harness.data.tasks import load_task
from harness.errors import DataError, DeviceError, StorageError, TeacherError
from harness.experiment import scheduler as scheduler_module
from harness.experiment.flows import Flow, PreparationRequest, RunRequest, WaitRequest
from harness.experiment.scheduler import Scheduler
from harness.registry.discovery import registry
from harness.storage.claims import Claims
from harness.storage.ledger import Ledger
from harness.storage.record import Record, Result
from harness.training.run import Run
from harness.workers.jobs import Job, Preparation, RunSpec, Sizing, Training
from harness.workers.local import WorkerDiedError
from harness.workers.populations import PopulationResults
from harness.workers.prepared_task import PreparedTask
from tests.prepared import demo_config, prepared_task
from tests.records import record
from tests.statements import statements

SIZE = 4


def prepared(task: str = "rte") -> PreparedTask:
    config = demo_config(tasks=[task], methods=["alp", "kd"], keep="none")
    return prepared_task(config, load_task(task), task=task, fingerprint=task.ljust(64, "t"))


def runs_of(
    prepared: PreparedTask, seeds: Sequence[int], method: str = "alp", trial: int = 0
) -> list[Run]:
    kind = registry().methods[method]
    study = f"study-of-{method}-{prepared.task.name}"
    return [prepared.run(kind, study, {"trial": trial}, trial, s, "report") for s in seeds]


def result(spec: RunSpec) -> Result:
    return Result(record(spec.fingerprint, 0.5 + spec.seed / 1000), {}, {})


def perform(job: Job[Any]) -> Any:
    if isinstance(job, Sizing):
        return SIZE
    assert isinstance(job, Training)
    return PopulationResults(tuple(map(result, job.runs)), None)


def trained(workers: SimulatedWorkers) -> list[list[int]]:
    """The seeds of each population that was trained, in order."""
    jobs = (shift.job for shift in workers.shifts)
    return [[spec.seed for spec in job.runs] for job in jobs if isinstance(job, Training)]


class Driver:
    """A scheduler with simulated workers, whose flows note their answers."""

    def __init__(
        self,
        ledger: Ledger,
        number: int = 1,
        perform: Callable[[Job[Any]], Any] = perform,
        seconds: Callable[[Job[Any]], float] = lambda job: 1.0,
    ) -> None:
        self.ledger = ledger
        self.claims = Claims(ledger)
        self.workers = SimulatedWorkers(number, seconds, perform)
        self.scheduler = Scheduler(ledger, self.claims, self.workers)
        self.answers: list[Mapping[str, Record]] = []

    def flow(self, prepared: PreparedTask, *rounds: Sequence[Run], order: int = 0) -> Flow:
        for runs in rounds:
            records = yield RunRequest(prepared, runs, "label", (order,))
            self.answers.append(records)
            assert set(records) == {run.fingerprint for run in runs}

    def finish(self, *flows: Flow) -> None:
        for flow in flows:
            self.scheduler.start(flow)
        self.scheduler.finish()
        assert self.claims.table.claimed_keys() == set()


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, [4, 4, 4]), (2, [4, 4, 4]), (4, [3, 3, 3, 3]), (12, [1] * 12), (50, [1] * 12)],
)
def test_all_workers_get_a_part_of_at_most_the_size_that_fits(
    ledger: Ledger, number: int, expected: list[int]
) -> None:
    driver, task = Driver(ledger, number), prepared()
    driver.finish(driver.flow(task, runs_of(task, range(12))))
    assert [len(seeds) for seeds in trained(driver.workers)] == expected
    assert sorted(chain(*trained(driver.workers))) == list(range(12))
    assert [r.metrics["accuracy"] for r in driver.answers[0].values()] == [
        pytest.approx(0.5 + seed / 1000) for seed in range(12)
    ]
    sizings = [shift.job for shift in driver.workers.shifts if isinstance(shift.job, Sizing)]
    assert len(sizings) == 1


def test_requests_of_one_moment_share_the_workers_and_one_measurement(ledger: Ledger) -> None:
    """Three searches of four runs on three workers: four runs each, and not one."""
    driver, task = Driver(ledger, 3), prepared()
    runs = runs_of(task, range(12))
    driver.finish(*(driver.flow(task, runs[start : start + 4]) for start in (0, 4, 8)))
    assert trained(driver.workers) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert sum(isinstance(shift.job, Sizing) for shift in driver.workers.shifts) == 1


def test_no_flow_waits_for_another(ledger: Ledger) -> None:
    """Two tasks of two rounds on two workers: each worker is busy until the end."""
    driver = Driver(ledger, 2)
    slow, fast = prepared("rte"), prepared("mrpc")
    driver.workers.seconds = lambda job: (
        0.0 if isinstance(job, Sizing) else 10.0 if job.task == "rte" else 1.0
    )
    driver.finish(
        driver.flow(slow, runs_of(slow, [1])),
        driver.flow(fast, *([run] for run in runs_of(fast, range(10))), order=1),
    )
    assert driver.workers.clock == 10.0
    assert driver.workers.idle_share() == 0


def test_lower_orders_come_first(ledger: Ledger) -> None:
    driver, early, late = Driver(ledger), prepared("rte"), prepared("mrpc")
    driver.finish(
        driver.flow(late, runs_of(late, range(8)), order=1),
        driver.flow(early, runs_of(early, range(8)), runs_of(early, range(8, 12)), order=0),
    )
    tasks = [shift.job.task for shift in driver.workers.shifts if isinstance(shift.job, Training)]
    # The second request of `early` comes when a job of `late` has been submitted ahead.
    assert tasks == ["rte", "rte", "mrpc", "rte", "mrpc"]


def test_recorded_runs_are_not_trained_and_populations_stay_those_of_all_runs(
    ledger: Ledger,
) -> None:
    task = prepared()
    runs = runs_of(task, range(12))
    first = Driver(ledger)
    first.finish(first.flow(task, [runs[1], runs[2], runs[11]]))
    driver = Driver(ledger)
    driver.finish(driver.flow(task, runs))
    assert trained(driver.workers) == [[0, 3], [4, 5, 6, 7], [8, 9, 10]]
    again = Driver(ledger)
    again.finish(again.flow(task, runs))
    assert again.workers.shifts == []
    assert again.answers == driver.answers


def test_runs_that_are_recorded_are_found_by_few_statements_whatever_their_number(
    ledger: Ledger,
) -> None:
    task = prepared()
    counts = []
    for number in (4, 40):
        runs = runs_of(task, range(number))
        first = Driver(ledger)
        first.finish(first.flow(task, runs))
        again = Driver(ledger)
        with statements() as executed:
            again.scheduler.start(again.flow(task, runs))
            again.scheduler.finish()
        assert again.workers.shifts == []
        assert again.answers == [ledger.records([run.fingerprint for run in runs])]
        counts.append(len(executed))
    assert 0 < counts[0] == counts[1]


def test_two_flows_that_want_the_same_run_have_it_trained_once(ledger: Ledger) -> None:
    driver, task = Driver(ledger, 4), prepared()
    runs = runs_of(task, range(4))
    driver.finish(driver.flow(task, runs), driver.flow(task, runs[2:]))
    assert sorted(chain(*trained(driver.workers))) == [0, 1, 2, 3]


def test_the_population_of_a_dead_worker_is_divided_down_to_the_run_that_kills(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    def deadly(job: Job[Any]) -> Any:
        if isinstance(job, Training) and 2 in [spec.seed for spec in job.runs]:
            raise WorkerDiedError("killed")
        return perform(job)

    driver, task = Driver(ledger, perform=deadly), prepared()
    runs = runs_of(task, range(4))
    driver.finish(driver.flow(task, runs))
    assert trained(driver.workers) == [[0, 1, 2, 3], [0, 1], [2, 3], [2], [3]]
    records = ledger.records([run.fingerprint for run in runs])
    reasons = [records[run.fingerprint].reason for run in runs]
    assert reasons == [None, None, "out of memory, or killed: killed", None]
    assert "warning: workers died with 4 runs (killed); going on with 2" in capsys.readouterr().err
    # A later command tries the run again.
    healthy = Driver(ledger)
    healthy.finish(healthy.flow(task, runs))
    assert trained(healthy.workers) == [[2]]
    assert ledger.records([runs[2].fingerprint])[runs[2].fingerprint].status == "complete"


def test_runs_that_another_driver_trains_are_awaited_and_not_trained(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = prepared()
    runs = runs_of(task, range(8))
    other = Claims(ledger)
    other.owner = f"elsewhere:1:{2.0}"
    specs = [run.fingerprint for run in runs[:4]]
    for key in specs:
        assert other.table.take(key, other.owner, {})
    driver = Driver(ledger)

    def end_of_the_other(seconds: float) -> None:
        ledger.write_runs([Result(record(key), {}, {}) for key in specs])
        for key in specs:
            other.table.release(key, other.owner)

    monkeypatch.setattr(scheduler_module.time, "sleep", end_of_the_other)
    driver.finish(driver.flow(task, runs))
    assert trained(driver.workers) == [[4, 5, 6, 7]]
    assert len(driver.answers[0]) == 8


def test_an_error_of_a_job_ends_all_and_frees_the_claims(ledger: Ledger) -> None:
    def full(job: Job[Any]) -> Any:
        if isinstance(job, Training):
            raise StorageError("disk full")
        return perform(job)

    driver, task = Driver(ledger, 3, perform=full), prepared()
    errors: list[BaseException] = []
    claim = driver.claims.claim

    @contextmanager
    def noted(key: str) -> Iterator[bool]:
        with claim(key) as is_owner:
            try:
                yield is_owner
            except StorageError as error:
                errors.append(error)
                raise

    driver.claims.claim = noted  # type: ignore[method-assign]
    driver.scheduler.start(driver.flow(task, runs_of(task, range(12))))
    with pytest.raises(StorageError, match="disk full"):
        driver.scheduler.finish()
    assert driver.claims.table.claimed_keys() == set()
    # Each claim hears of the error, and so does not wait for a database that is away.
    assert len(errors) == 12


def test_results_are_written_before_the_error_of_another_job_ends_the_driver(
    ledger: Ledger,
) -> None:
    class Together(SimulatedWorkers):
        """Ends all jobs at the same time."""

        def wait(self, futures: Any, timeout: float | None) -> set[Future[Any]]:
            return set().union(*(super(Together, self).wait(futures, timeout) for _ in futures))

    def failing(job: Job[Any]) -> Any:
        if isinstance(job, Training) and job.runs[0].seed == 0:
            raise DeviceError("the device failed")
        return perform(job)

    driver, task = Driver(ledger, 3), prepared()
    driver.scheduler.workers = Together(3, lambda job: 1.0, failing)
    driver.scheduler.populations.workers = driver.scheduler.workers
    runs = runs_of(task, range(12))
    driver.scheduler.start(driver.flow(task, runs))
    with pytest.raises(DeviceError):
        driver.scheduler.finish()
    assert len(ledger.records([run.fingerprint for run in runs])) == 8


def test_trials_with_one_setting_and_seed_are_one_run(ledger: Ledger) -> None:
    driver, task = Driver(ledger), prepared()
    first, second = runs_of(task, [1, 2])
    twin = replace(first, trial=7)
    driver.finish(driver.flow(task, [first, second, twin]))
    assert trained(driver.workers) == [[1, 2]]
    uses = [(run.trial, run.seed) for run in ledger.study_runs(first.study)]
    assert uses == [(0, 1), (0, 2), (7, 1)]


def test_the_work_that_is_left_is_shared_by_all_workers(ledger: Ledger) -> None:
    task = prepared()
    first = Driver(ledger)
    first.finish(first.flow(task, runs_of(task, range(40))))
    driver = Driver(ledger, 8)
    driver.finish(driver.flow(task, runs_of(task, range(48))))
    assert [len(seeds) for seeds in trained(driver.workers)] == [1] * 8


def test_workers_that_die_in_a_preparation_or_a_measurement_end_no_other_work(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    def deadly(job: Job[Any]) -> Any:
        if isinstance(job, Preparation | Sizing):
            raise WorkerDiedError("killed")
        return perform(job)

    driver, task = Driver(ledger, perform=deadly), prepared()
    answers: list[Any] = []

    def preparation() -> Iterator[Any]:
        answers.append((yield PreparationRequest(task.config, task.task, (0,))))

    driver.finish(preparation(), driver.flow(task, runs_of(task, range(2))))
    assert isinstance(answers[0], TeacherError)
    assert str(answers[0]) == "rte: workers died while it was prepared (killed)"
    assert trained(driver.workers) == [[0], [1]]
    assert "runs are trained singly" in capsys.readouterr().err


def test_a_locked_ledger_hides_no_error(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.storage.database.BUSY_SECONDS", 0.05)
    monkeypatch.setattr("harness.storage.outages.WAIT_SECONDS", 1.0)
    ledger.engine.dispose()
    file = str(ledger.engine.url.database)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:

        def fail(job: Job[Any]) -> Any:
            if isinstance(job, Training):
                other.execute("BEGIN IMMEDIATE")
                raise DeviceError("the device failed")
            return perform(job)

        driver, task = Driver(ledger, 3, perform=fail), prepared()
        flow = driver.flow(task, runs_of(task, range(12)))
        with pytest.raises(DeviceError, match=r"^the device failed$"):
            driver.finish(flow)  # who waits for the lock raises StorageError in the end


def test_a_lack_of_memory_makes_later_populations_smaller(ledger: Ledger) -> None:
    def short(job: Job[Any]) -> Any:
        answer = perform(job)
        return replace(answer, size=2) if isinstance(job, Training) else answer

    driver, task = Driver(ledger, perform=short), prepared()
    driver.finish(driver.flow(task, runs_of(task, range(4)), runs_of(task, range(4, 8))))
    assert [len(seeds) for seeds in trained(driver.workers)] == [4, 2, 2]


def test_methods_of_other_views_are_trained_apart(ledger: Ledger) -> None:
    driver, task = Driver(ledger), prepared()
    kinds = registry().methods
    needy = next(name for name, kind in kinds.items() if kind.view("cls").needs)
    runs = runs_of(task, [1, 2]) + runs_of(task, [3, 4], needy) + runs_of(task, [5, 6], "kd")
    driver.finish(driver.flow(task, runs))
    jobs = [shift.job for shift in driver.workers.shifts if isinstance(shift.job, Training)]
    views = [{kinds[spec.method].view("cls") for spec in job.runs} for job in jobs]
    assert [len(view) for view in views] == [1, 1]
    assert Counter(spec.seed for job in jobs for spec in job.runs) == Counter(range(1, 7))


def test_preparations_answer_with_outcomes_and_refusals(ledger: Ledger) -> None:
    outcome = prepared().outcome

    def prepare(job: Job[Any]) -> Any:
        assert isinstance(job, Preparation)
        if job.task == "cola":
            raise DataError("cola: no such file")
        return outcome

    driver = Driver(ledger, 2, perform=prepare)
    config = demo_config(tasks=["rte", "cola"])
    answers: dict[str, Any] = {}

    def flow(task: str) -> Iterator[Any]:
        answers[task] = yield PreparationRequest(config, load_task(task, {}), (0,))

    driver.finish(flow("rte"), flow("cola"))
    assert answers["rte"] == outcome
    assert str(answers["cola"]) == "cola: no such file"
    assert [shift.start for shift in driver.workers.shifts] == [0.0, 0.0]


def test_flows_wait_for_a_manifest_and_for_nothing_else(ledger: Ledger) -> None:
    driver, task = Driver(ledger), prepared()
    written: Future[Any] = Future()
    seen: list[Any] = []

    def reader() -> Iterator[Any]:
        seen.append((yield WaitRequest(written)).result())

    def writer() -> Iterator[Any]:
        yield RunRequest(task, runs_of(task, [1]), "label", (0,))
        assert not seen
        written.set_result("manifest")

    driver.finish(reader(), reader(), writer())
    assert seen == ["manifest", "manifest"]


def test_a_wait_that_ends_with_the_last_word_of_a_flow_keeps_no_worker_idle(ledger: Ledger) -> None:
    driver, task = Driver(ledger, 2), prepared()
    driver.workers.seconds = lambda job: (
        0.0 if isinstance(job, Sizing) else 1000.0 if job.runs[0].seed == 1 else 5.0
    )
    written: Future[Any] = Future()

    def reader() -> Iterator[Any]:
        yield WaitRequest(written)
        yield RunRequest(task, runs_of(task, [3]), "label", (0,))

    def writer() -> Iterator[Any]:
        yield RunRequest(task, runs_of(task, [2]), "label", (0,))
        written.set_result("manifest")

    driver.finish(reader(), driver.flow(task, runs_of(task, [1])), writer())
    starts = {
        shift.job.runs[0].seed: shift.start
        for shift in driver.workers.shifts
        if isinstance(shift.job, Training)
    }
    assert starts == {1: 0.0, 2: 0.0, 3: 5.0}


def test_a_flow_may_begin_others(ledger: Ledger) -> None:
    driver, task = Driver(ledger), prepared()

    def parent() -> Iterator[Any]:
        driver.scheduler.start(driver.flow(task, runs_of(task, [1])))
        yield RunRequest(task, runs_of(task, [2]), "label", (0,))

    driver.finish(parent())
    assert sorted(chain(*trained(driver.workers))) == [1, 2]
