"""Ablations with simulated workers: no task or repeat waits for another's teacher."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from transformers import BertConfig

from benchmarks.simulated_workers import SimulatedWorkers
from harness.config import StudyConfig
from harness.data.tasks import load_task
from harness.errors import DeviceError, NothingLeftError, TeacherError
from harness.experiment.ablation import Ablation
from harness.experiment.repeats import JointAblation
from harness.experiment.scheduler import Scheduler
from harness.experiment.search import open_optuna
from harness.method import Shapes
from harness.storage.claims import Claims
from harness.storage.ledger import Ledger
from harness.storage.manifest import SeedRequest
from harness.storage.record import Result
from harness.workers.jobs import Job, Preparation, RunSpec, Sizing, Training
from harness.workers.populations import PopulationResults
from harness.workers.prepared_task import TaskOutcome
from tests.prepared import demo_config, prepared_task
from tests.records import record

SECONDS = {"rte": 1.0, "mrpc": 100.0}
"""How long a teacher takes. A population takes a second, and the measurement of memory no time."""


class Command:
    """An ablation of `kd` and `alp` with simulated workers."""

    def __init__(self, ledger: Ledger, workers: int = 2, **changes: Any) -> None:
        self.ledger = ledger
        self.config = demo_config(
            tasks=["rte", "mrpc"], methods=["alp", "kd"], baseline="kd", keep="none", **changes
        )
        self.data = {
            task: prepared_task(self.config, load_task(task)).data for task in self.config.tasks
        }
        self.workers = SimulatedWorkers(workers, self.seconds, self.perform)
        self.refusals: dict[str, str] = {}
        self.refused: set[str] = set()
        self.training_seconds = 1.0
        self.fails = False

    def seconds(self, job: Job[Any]) -> float:
        if isinstance(job, Preparation):
            return SECONDS[job.task]
        return 0.0 if isinstance(job, Sizing) else self.training_seconds

    def perform(self, job: Job[Any]) -> Any:
        if isinstance(job, Preparation):
            if job.task in self.refused:
                raise TeacherError(f"{job.task}: weak")
            return outcome(job)
        if isinstance(job, Sizing):
            return 4
        assert isinstance(job, Training)
        if self.fails:
            raise DeviceError("the device failed")
        return PopulationResults(
            tuple(Result(record(spec.fingerprint, score_of(spec)), {}, {}) for spec in job.runs),
            None,
        )

    def run(self, flow: Callable[[Callable[..., Ablation], Scheduler], Any]) -> None:
        with Claims(self.ledger) as claims:
            optuna = open_optuna(self.ledger.url, claims)
            scheduler = Scheduler(self.ledger, claims, self.workers)

            def ablation(config: StudyConfig, repeat: int | None) -> Ablation:
                return Ablation(config, self.ledger, claims, optuna, "command", repeat)

            scheduler.start(flow(ablation, scheduler))
            scheduler.finish()
            optuna.engine.dispose()

    def single(self) -> Ablation:
        made: list[Ablation] = []

        def flow(ablation: Callable[..., Ablation], scheduler: Scheduler) -> Any:
            made.append(ablation(self.config, None))
            return made[0].flow(self.data, self.refusals, scheduler)

        self.run(flow)
        return made[0]

    def shifts(self, kind: type[Job[Any]], task: str) -> list[tuple[float, float]]:
        return [
            (shift.start, shift.end)
            for shift in self.workers.shifts
            if isinstance(shift.job, kind) and shift.job.task == task
        ]


def score_of(spec: RunSpec) -> float:
    """A score so noisy that no comparison is decided early."""
    return 0.5 + int(spec.fingerprint[:2], 16) / 1000


def outcome(job: Job[Any]) -> TaskOutcome:
    prepared = prepared_task(job.config, load_task(job.task))
    encoder = BertConfig(hidden_size=64, num_hidden_layers=12, num_attention_heads=4)
    return replace(
        prepared.outcome,
        teacher=replace(
            prepared.outcome.teacher,
            task=job.task,
            fingerprint=f"{job.task}{job.config.teacher.seed}".ljust(64, "t"),
        ),
        shapes=Shapes(12, 64, 4, 64, 2, 4, 4),
        teacher_encoder=encoder,
        student_encoder=encoder,
    )


def test_runs_of_a_task_do_not_wait_for_the_teacher_of_another(ledger: Ledger) -> None:
    command = Command(ledger, search={"trials": 12})
    ablation = command.single()
    assert command.shifts(Preparation, "mrpc") == [(0.0, 100.0)]
    rte = command.shifts(Training, "rte")
    assert len(rte) == 6  # 24 trials, 4 together
    assert max(end for _, end in rte) == 7.0
    assert list(ledger.manifest(ablation.name).tasks) == ["rte", "mrpc"]
    assert list(ledger.manifest(ablation.name).studies) == ["rte", "mrpc"]


def test_looks_wait_for_the_manifest_and_the_first_trials_do_not(ledger: Ledger) -> None:
    command = Command(ledger, search={"trials": 40}, protocol={"stopping": "sequential"})
    command.single()
    starts = sorted(start for start, _ in command.shifts(Training, "rte"))
    assert len(starts) > 10
    assert starts[:10] == [float(second) for second in range(1, 11)]  # 2 x 20 trials
    assert all(start >= 100.0 for start in starts[10:])


def test_searches_do_not_wait_for_the_teacher_of_another_task(ledger: Ledger) -> None:
    command = Command(
        ledger, search={"trials": 8}, protocol={"unit": "settings", "stopping": "sequential"}
    )
    command.single()
    searches = [
        shift.start
        for shift in command.workers.shifts
        if isinstance(shift.job, Training)
        and shift.job.task == "rte"
        and shift.job.runs[0].role == "search"
    ]
    assert searches
    assert max(searches) < 100.0


def test_repeats_do_not_wait_for_the_teachers_of_others(ledger: Ledger) -> None:
    command = Command(ledger, 4, search={"trials": 8}, protocol={"repeats": 2})

    def flow(ablation: Callable[..., Ablation], scheduler: Scheduler) -> Any:
        joint = JointAblation(command.config, ledger, "command", {})
        return joint.flow(ablation, command.data, scheduler)

    command.run(flow)
    assert command.shifts(Preparation, "mrpc") == [(0.0, 100.0)] * 2
    assert max(end for _, end in command.shifts(Training, "rte")) < 100.0
    names = ledger.ablations()
    joint = next(ledger.manifest(name) for name in names if ledger.manifest(name).is_joint)
    assert [name[-3:] for name in names if name != joint.name] == ["-r0", "-r1"]  # in this order
    assert [str(name)[-3:] for name in joint.repeats] == ["-r0", "-r1"]
    assert set(joint.repeats) == set(names) - {joint.name}


def test_a_refused_task_leaves_a_manifest_of_the_others(ledger: Ledger) -> None:
    command = Command(ledger, search={"trials": 8})
    command.refused = {"mrpc"}
    ablation = command.single()
    manifest = ledger.manifest(ablation.name)
    assert list(manifest.tasks) == ["rte"]
    assert manifest.refused == {"mrpc": "mrpc: weak"}


def test_an_ablation_of_refused_tasks_ends(ledger: Ledger) -> None:
    command = Command(ledger, search={"trials": 8})
    command.refused = {"mrpc", "rte"}
    with pytest.raises(NothingLeftError, match=r"^rte: weak; mrpc: weak$"):
        command.single()
    assert ledger.ablations() == []


def killed_before_its_manifest(ledger: Ledger, **changes: Any) -> None:
    """A command that has trained rte's runs, and ends while the teacher of mrpc is made."""
    command = Command(ledger, **changes)
    ready = command.perform

    def perform(job: Job[Any]) -> Any:
        if isinstance(job, Preparation) and job.task == "mrpc":
            raise DeviceError("the device failed")
        return ready(job)

    command.workers.perform = perform
    with pytest.raises(DeviceError):
        command.single()
    assert ledger.ablations() == []


def test_what_a_killed_command_asked_for_is_known_without_its_manifest(ledger: Ledger) -> None:
    killed_before_its_manifest(ledger, search={"trials": 8}, protocol={"budget": 2})
    other = Command(ledger, search={"trials": 12}).single()
    manifest = ledger.manifest(other.name)
    assert manifest.seed_requests == (SeedRequest("fixed", 8), SeedRequest("fixed", 12))
    assert [text.split(":")[0] for text in manifest.banners] == ["DEMO DATA", "TRIALS", "BUDGET"]


def test_a_command_that_goes_on_after_a_kill_has_no_banner(ledger: Ledger) -> None:
    killed_before_its_manifest(ledger, search={"trials": 8})
    same = Command(ledger, search={"trials": 8}).single()
    manifest = ledger.manifest(same.name)
    assert manifest.seed_requests == (SeedRequest("fixed", 8),)
    assert [text.split(":")[0] for text in manifest.banners] == ["DEMO DATA"]


def test_runs_of_this_command_are_no_earlier_results(ledger: Ledger) -> None:
    """An earlier command left its manifest and no run. The trials that it asked for do not count."""
    earlier = Command(ledger, search={"trials": 8})
    earlier.training_seconds, earlier.fails = 1000.0, True
    with pytest.raises(DeviceError):
        earlier.single()
    assert len(ledger.ablations()) == 1
    command = Command(ledger, search={"trials": 12})
    ablation = command.single()
    assert ledger.manifest(ablation.name).seed_requests == (SeedRequest("fixed", 12),)
    again = Command(ledger, search={"trials": 16}).single()
    assert ledger.manifest(again.name).seed_requests == (
        SeedRequest("fixed", 12),
        SeedRequest("fixed", 16),
    )
