"""The workers that a plan counts with, and the plan of the whole command on them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from harness.cli.connection import connect
from harness.cli.division import Division, divide
from harness.cli.dry_run import TaskPlan, duration
from harness.config import StudyConfig
from harness.workers.machine import machine_workers

ASSUMPTIONS = (
    "every worker is as fast as this process",
    "workers start, read a task that another worker has prepared, and measure memory in no time",
)


@dataclass(frozen=True)
class PlannedWorkers:
    """`count` workers with `threads` threads each, of which `at_once` do not slow each other.

    `words` describe them. `threads` is 0 where the plan's own process decides.
    """

    count: int
    at_once: int
    threads: int
    words: str


def planned_workers(config: StudyConfig) -> PlannedWorkers:
    """The workers that a command with this configuration would have. A cluster that runs is asked.

    Raises:
        UserError: the workers cannot be had.
    """
    cluster = config.cluster
    if cluster.kind == "local":
        return PlannedWorkers(1, 1, config.threads, "this process")
    if cluster.kind == "dask":
        with closing(connect(config)) as dask_cluster:
            count = max(1, len(dask_cluster.client.nthreads()))
        return PlannedWorkers(
            count, count, config.threads, f"{count} worker(s) at {cluster.address}"
        )
    if cluster.kind != "machine":
        words = f"{cluster.workers} job(s) of {cluster.kind}, one worker each"
        return PlannedWorkers(cluster.workers, cluster.workers, config.threads, words)
    machine = machine_workers(config)
    words = f"{machine.count} worker(s) on {len(machine.devices)} GPU(s)"
    if not machine.devices:
        words = (
            f"{machine.count} worker(s) with {machine.threads} thread(s) on {machine.cores} core(s)"
        )
    return PlannedWorkers(machine.count, machine.at_once, machine.threads, words)


@dataclass(frozen=True)
class WorkersPlan:
    """The plan of a command on several workers: `alone_seconds` are those of one worker."""

    words: str
    division: Division
    alone_seconds: float
    memory_bytes: int
    assumptions: tuple[str, ...] = ASSUMPTIONS

    def line(self) -> str:
        """The plan in one line, with what it assumes."""
        division = self.division
        at_once = "" if division.at_once == division.workers else f", {division.at_once} at once"
        return (
            f"{self.words}{at_once}: about {duration(division.seconds)}, where one worker takes "
            f"{duration(self.alone_seconds)}; the first runs begin after "
            f"{duration(division.first_runs)}; {division.populations} populations of at most "
            f"{division.largest_population} runs; idle {100 * division.idle_share:.0f} % of the time; "
            f"at most {self.memory_bytes / 2**30:.1f} GiB memory a worker. "
            f"Assumed: {'; '.join(self.assumptions)}"
        )

    def plain(self) -> dict[str, Any]:
        """The plan as plain values."""
        return asdict(self)


def plan_workers(
    plans: Sequence[TaskPlan], config: StudyConfig, workers: PlannedWorkers
) -> WorkersPlan:
    """The plan of all tasks on these workers, from the plan of each task."""
    division = divide([plan.work for plan in plans], config, workers.count, workers.at_once)
    return WorkersPlan(
        words=workers.words,
        division=division,
        alone_seconds=sum(plan.seconds for plan in plans),
        memory_bytes=max(plan.memory_bytes for plan in plans),
    )
