"""The division of a plan's work: by hand, and beside the driver with simulated workers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.simulated_workers import SimulatedWorkers
from harness.cli.division import Division, RunGroup, TaskWork, _stages, divide
from harness.config import ROUND, StudyConfig
from harness.data.tasks import load_task
from harness.experiment.flows import Flow, PreparationRequest, RunRequest
from harness.experiment.population_queue import SizeKey
from harness.experiment.scheduler import Scheduler
from harness.registry.discovery import registry
from harness.stats.stopping import look_seeds
from harness.storage.claims import Claims
from harness.storage.ledger import Ledger
from harness.storage.record import Result
from harness.training.run import Run
from harness.workers.jobs import Job, Preparation, Training
from harness.workers.populations import PopulationResults
from harness.workers.prepared_task import PreparedTask
from tests.prepared import demo_config, prepared_task
from tests.records import record

METHODS = ("alp", "kd", "tinybert")
SECONDS = {"alp": 1.5, "kd": 1.0, "tinybert": 4.0}
"""Seconds of a run. `tinybert` has a view of its own."""
PREPARATIONS = {"rte": 11.0, "mrpc": 2.0, "cola": 5.0}
STEPS = {"rte": 10, "mrpc": 70, "cola": 30}
MOST = 8


def config_of(unit: str, **changes: Any) -> StudyConfig:
    protocol = {"unit": unit} | ({"seeds": 5} if unit == "settings" else {})
    return demo_config(
        methods=list(METHODS),
        tasks=list(PREPARATIONS),
        keep="none",
        **{"search": {"trials": 10}, "protocol": protocol, **changes},
    )


def work(repeats: int = 1) -> list[TaskWork]:
    cached = RunGroup({"alp": SECONDS["alp"], "kd": SECONDS["kd"]}, MOST)
    groups = (cached, RunGroup({"tinybert": SECONDS["tinybert"]}, MOST))
    return [
        TaskWork((seconds,) * repeats, groups, STEPS[task])
        for task, seconds in PREPARATIONS.items()
    ]


class RealDriver:
    """The scheduler, with flows of the runs that `config` asks for, and a virtual clock."""

    def __init__(self, config: StudyConfig, ledger: Ledger, workers: int) -> None:
        self.config = config
        self.workers = SimulatedWorkers(workers, self.seconds, self.perform)
        self.scheduler = Scheduler(ledger, Claims(ledger), self.workers)
        self.tasks = {
            task: prepared_task(config, load_task(task), task=task, fingerprint=task.ljust(64, "t"))
            for task in PREPARATIONS
        }
        for task, prepared in self.tasks.items():
            outcome = replace(prepared.outcome, steps=STEPS[task])
            self.tasks[task] = replace(prepared, outcome=outcome)
        for prepared in self.tasks.values():  # so that no measurement of memory is in the queue
            for method in METHODS:
                view = registry().methods[method].view(config.pooling)
                teacher = prepared.outcome.teacher.fingerprint
                key = SizeKey(prepared.task.name, teacher, view, config.student, config.training)
                self.scheduler.populations.sizes[key] = MOST
        for number, prepared in enumerate(self.tasks.values()):
            self.scheduler.start(self.command(prepared, number))
        self.scheduler.finish()

    def seconds(self, job: Job[Any]) -> float:
        if isinstance(job, Preparation):
            return PREPARATIONS[job.task]
        return sum(SECONDS[run.method] for run in job.runs) if isinstance(job, Training) else 0.0

    def perform(self, job: Job[Any]) -> Any:
        if isinstance(job, Preparation):
            return self.tasks[job.task].outcome
        assert isinstance(job, Training)
        results = [Result(record(run.fingerprint, 0.5), {}, {}) for run in job.runs]
        return PopulationResults(tuple(results), None)

    def command(self, prepared: PreparedTask, number: int) -> Flow:
        yield PreparationRequest(self.config, prepared.task, (0,))
        together = self.config.protocol.unit == "methods" or self.workers.count == 1
        for methods in [METHODS] if together else [[method] for method in METHODS]:
            self.scheduler.start(self.flow(prepared, methods, number))

    def flow(self, prepared: PreparedTask, methods: Sequence[str], number: int) -> Flow:
        for stage in self.stages():
            runs = [self.run(prepared, method, run) for method in methods for run in stage]
            yield RunRequest(prepared, runs, "", (0, number))

    def stages(self) -> Iterator[range]:
        trials = self.config.search.trials
        if self.config.protocol.unit == "methods":
            yield range(trials)
            return
        for start in range(0, trials, ROUND):
            yield range(start, min(start + ROUND, trials))
        yield range(trials, trials + self.config.protocol.seeds)

    def run(self, prepared: PreparedTask, method: str, number: int) -> Run:
        kind = registry().methods[method]
        name = f"{prepared.task.name} {method}"
        return prepared.run(kind, name, {"t": number}, number, number, "report")

    def result(self) -> Mapping[str, float]:
        populations = [shift for shift in self.workers.shifts if isinstance(shift.job, Training)]
        sizes = [len(shift.job.runs) for shift in populations if isinstance(shift.job, Training)]
        return {
            "seconds": self.workers.clock,
            "first_runs": min(shift.start for shift in populations),
            "populations": len(populations),
            "largest_population": max(sizes),
            "idle_share": self.workers.idle_share(),
        }


def numbers(division: Division) -> dict[str, float]:
    return {k: v for k, v in vars(division).items() if k not in ("workers", "at_once")}


@pytest.mark.parametrize("unit", ["methods", "settings"])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_the_plan_is_what_the_driver_does(ledger: Ledger, unit: str, workers: int) -> None:
    config = config_of(unit)
    planned = divide(work(), config, workers, workers)
    assert numbers(planned) == pytest.approx(RealDriver(config, ledger, workers).result())


def test_what_cannot_be_divided_is_not() -> None:
    """With workers for all, the longest teacher is made ready by one of them, and then comes a run."""
    config = config_of("methods", search={"trials": 8})
    many = divide(work(), config, 1000, 1000)
    assert many.first_runs == min(PREPARATIONS.values())
    assert many.seconds == max(PREPARATIONS.values()) + max(SECONDS.values())
    assert (many.populations, many.largest_population) == (3 * 3 * 8, 1)
    settings = divide(work(), config_of("settings"), 1000, 1000)
    stages = 3 + 1  # rounds of 4, 4 and 2 settings, then report seeds
    assert settings.seconds == max(PREPARATIONS.values()) + stages * max(SECONDS.values())


def test_one_workers_seconds_are_the_sum() -> None:
    for repeats in (1, 2):
        config = config_of("methods", protocol={"repeats": repeats})
        alone = divide(work(repeats), config, 1, 1)
        runs = repeats * 3 * 10 * sum(SECONDS.values())
        assert alone.seconds == repeats * sum(PREPARATIONS.values()) + runs
        assert alone.idle_share == pytest.approx(0)


def test_workers_that_share_a_device_take_turns() -> None:
    """Four workers on two devices cut populations by four, and two of them are trained at a time."""
    config = config_of("methods")
    turns, four = (divide(work(), config, 4, at_once) for at_once in (2, 4))
    assert turns.largest_population == four.largest_population
    total = sum(PREPARATIONS.values()) + 30 * sum(SECONDS.values())
    assert total / 4 <= four.seconds < total / 2 <= turns.seconds < total


def test_trials_that_may_be_added_come_after_each_look() -> None:
    """Looks at 20, 30 and 40 trials: three stages, however many workers there are."""
    search = {"trials": 40}
    sequential = config_of(
        "methods", search=search, baseline="kd", protocol={"stopping": "sequential"}
    )
    at_once = config_of("methods", search=search)
    first, fixed = (divide(work(), config, 1000, 1000) for config in (sequential, at_once))
    assert first.populations == fixed.populations
    assert first.seconds - fixed.seconds == 2 * max(SECONDS.values())


def test_seeds_that_may_be_added_come_two_at_a_time() -> None:
    """A family of six at .05 looks at seeds 10, 12, 14, 16, 18 and 20, as the driver does."""
    protocol = {"unit": "settings", "seeds": 20, "stopping": "sequential"}
    config = config_of("settings", baseline="kd", protocol=protocol)
    stages = list(_stages(config))
    looks = [runs for runs, _, is_look in stages if is_look]
    assert looks == [look_seeds(20, 0.05 / 6)[0], *[2] * (len(looks) - 2), looks[-1]]
    assert sum(looks) == 20


def test_looks_wait_for_the_slowest_teacher() -> None:
    """The fast tasks have the trials of the first look long before, and go on when it is there."""
    config = config_of(
        "methods", search={"trials": 30}, baseline="kd", protocol={"stopping": "sequential"}
    )
    slow, *fast = work()
    slow = replace(slow, preparations=(500.0,))
    planned = divide([slow, *fast], config, 3, 3)
    fixed = divide([slow, *fast], config_of("methods", search={"trials": 30}), 3, 3)
    assert planned.first_runs == fixed.first_runs == min(PREPARATIONS.values())
    # After 500 s the slow task has 30 trials of each method to train, and each fast task its last 10.
    after = (30 + 2 * 10) * sum(SECONDS.values()) / 3
    assert fixed.seconds < 500 + after <= planned.seconds


def test_a_round_with_rungs_is_not_divided() -> None:
    config = config_of("settings", search={"trials": 8, "rungs": [1]}, training={"epochs": 3})
    divided = divide(work(), config, 1000, 1000)
    assert divided.largest_population == ROUND
