"""Clusters: workers on this machine, jobs of a scheduler such as SLURM, or a Dask cluster that runs.

This module is imported fast, so a command starts its workers before it imports what it trains with.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import import_module
from inspect import signature
from shutil import which
from typing import Any

import dask
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.deploy.spec import ProcessInterface
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

from harness.config import StudyConfig
from harness.errors import ConfigError, UserError, first_line
from harness.workers.machine import machine_workers

LOOPBACK = "127.0.0.1"
ATTEMPTS, ATTEMPT_SECONDS = 3, 5.0
"""Attempts to submit a job, and the seconds between two: a scheduler may be busy."""
MOST_DEATHS = 3
"""The workers of this machine that may die with a job. Other clusters have Dask's setting."""
PRELOAD = "harness.workers.first_imports"
"""The module that a worker of this machine imports while it starts."""
ARENAS = "MALLOC_ARENA_MAX"
"""glibc's variable, 1 for workers: a thread's own arena gives its memory back at every training step."""
SETTINGS = {
    "distributed.deploy.lost-worker-timeout": "10 minutes",
    f"distributed.nanny.pre-spawn-environ.{ARENAS}": "1",
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
}
"""Dask's settings for workers of this machine. A dead worker comes back after its imports, and Dask
gives it up after 15 seconds by default. These workers have no dashboard and no log, which the profiler
(100 samples a second) and the ticks (50 a second, in each process) are for; both interrupt training."""


class Cluster:
    """A Dask client, and the workers that it sees or will see."""

    def __init__(
        self,
        client: Client,
        expected: int,
        close: Callable[[], object],
        refusals: Sequence[str] = (),
    ) -> None:
        """`expected` is the number of workers that were asked for. `close` ends what was started.

        `refusals` gets the reasons why jobs that should bring workers are refused.
        """
        self.client = client
        self.expected = expected
        self.refusals = refusals
        self._open = ExitStack()
        self._open.callback(close)

    def close(self) -> None:
        """End the client, and the workers that were started. A second time it does nothing."""
        self._open.close()


def open_cluster(config: StudyConfig) -> Cluster:
    """The cluster that a configuration asks for, where it asks for more than this process.

    Its workers may still be starting.

    Raises:
        UserError: a package is missing, an option is unknown, or the cluster does not answer.
    """
    for name in ("distributed", "distributed.client", "distributed.core"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    kind = config.cluster.kind
    if kind == "machine":
        return _machine_workers(config)
    if kind == "dask":
        return _running_workers(str(config.cluster.address))
    return _job_workers(config)


def _machine_workers(config: StudyConfig) -> Cluster:
    """Workers on this machine: one for each GPU, which sees no other; else they share the cores."""
    machine = machine_workers(config)
    workers = {
        position: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                # torch needs more memory than Dask allows by default. Populations fit by their size.
                "memory_limit": 0,
                "host": LOOPBACK,
                "env": machine.environment(position),
                "dashboard": False,
                "preload": [PRELOAD],
                "silence_logs": logging.CRITICAL,
            },
        }
        for position in range(machine.count)
    }
    options = {"host": LOOPBACK, "dashboard": False, "dashboard_address": ":0"}
    scheduler = {"cls": Scheduler, "options": {**options, "allowed_failures": MOST_DEATHS - 1}}
    dask.config.set(SETTINGS)
    cluster = SpecCluster(scheduler=scheduler, silence_logs=logging.CRITICAL)
    cluster.worker_spec |= workers
    cluster.scale(machine.count)  # does not wait until they are there
    return _workers_of(cluster, machine.count)


def _running_workers(address: str) -> Cluster:
    """The workers of a Dask cluster that runs at an address."""
    try:
        client = Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(f"--cluster {address}: {first_line(error)}") from error
    return Cluster(client, 0, client.close)


def _job_workers(config: StudyConfig) -> Cluster:
    """Workers in jobs of a scheduler, one a job. A job that ends early is replaced."""
    kind, number = config.cluster.kind, config.cluster.workers
    cluster_class = getattr(import_module("dask_jobqueue"), f"{kind.upper()}Cluster")
    program = str(cluster_class.job_cls.submit_command).split()[0]
    if which(program) is None:
        raise UserError(
            f"--cluster {kind}: this machine has no command {program} to start jobs with"
        )
    options = dict(config.cluster.options)
    if unknown := sorted(set(options) - _option_names(cluster_class)):
        raise ConfigError(f"cluster.options.{unknown[0]}: unknown to {cluster_class.__name__}")
    if lacking := sorted({"cores", "memory"} - set(options)):
        raise ConfigError(f"cluster.options.{lacking[0]}: {cluster_class.__name__} needs it")
    prologue, extra = (options.pop(key, []) for key in ("job_script_prologue", "worker_extra_args"))
    refusals: list[str] = []
    try:
        cluster = cluster_class(
            job_cls=_telling_jobs(cluster_class.job_cls, refusals),
            **{"python": sys.executable, "processes": 1, **options},
            # The last --nthreads counts: one population at a time takes all cores.
            worker_extra_args=["--nthreads", "1", *extra],
            job_script_prologue=[
                f"export OMP_NUM_THREADS={options['cores']}",
                f"export {ARENAS}=1",
                *prologue,
            ],
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise UserError(f"--cluster {kind}: {first_line(error)}") from error
    cluster.adapt(minimum_jobs=number, maximum_jobs=number)
    return _workers_of(cluster, number, refusals)


def _telling_jobs(job_class: Any, refusals: list[str]) -> type:
    """Jobs that put into `refusals` why the scheduler takes none of them, after some attempts.

    Without this the cluster prints a traceback, asks again, and so on for ever.
    """

    class TellingJob(job_class):  # type: ignore[misc]
        @retry(
            retry=retry_if_exception_type(RuntimeError),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_fixed(ATTEMPT_SECONDS),
            reraise=True,
        )
        async def _submit_job(self, script: str) -> str:
            return str(await super()._submit_job(script))

        async def start(self) -> None:
            try:
                await super().start()
            except RuntimeError as error:  # the submitting program's words are at the end
                refusals.append(str(error).strip().splitlines()[-1].strip())
                await ProcessInterface.start(self)

        async def close(self) -> None:
            await super().close()
            await ProcessInterface.close(self)

    return TellingJob


def _option_names(cluster_class: type) -> set[str]:
    """The arguments of a `dask_jobqueue` cluster, and of its jobs."""
    classes = (*cluster_class.__mro__, *cluster_class.job_cls.__mro__)  # type: ignore[attr-defined]
    return {name for one in classes for name in signature(one.__init__).parameters}


def _workers_of(cluster: Any, number: int, refusals: Sequence[str] = ()) -> Cluster:
    # A client of the cluster itself would wait until its workers are there.
    client = Client(cluster.scheduler_address, security=cluster.security, set_as_default=False)

    def close() -> None:
        client.close()
        cluster.close()

    return Cluster(client, number, close, refusals)
