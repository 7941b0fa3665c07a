"""Clusters: workers on this machine, jobs of a scheduler such as SLURM, or a Dask cluster that runs."""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from typing import Any

import torch
from distributed import Client, Nanny, Scheduler, SpecCluster

from harness.config import StudyConfig
from harness.errors import ConfigError, UserError, first_line
from harness.runtime.threads import usable_cores
from harness.workers.dask_workers import DaskWorkers

LOOPBACK = "127.0.0.1"
PATIENCE_SECONDS = 60
"""Seconds to wait for the workers of this machine."""


def open_cluster(config: StudyConfig) -> DaskWorkers:
    """The workers that a configuration asks for, where it asks for more than this process.

    Raises:
        UserError: a package is missing, an option is unknown, or the cluster does not answer.
    """
    kind = config.cluster.kind
    if kind == "machine":
        return _machine_workers(config)
    if kind == "dask":
        return _running_workers(str(config.cluster.address))
    return _job_workers(config)


def _machine_workers(config: StudyConfig) -> DaskWorkers:
    """Workers on this machine: one for each GPU, which sees no other; else they share the cores."""
    devices = [] if config.device == "cpu" else _visible_devices()
    cores = usable_cores()
    number = config.cluster.workers or len(devices) or max(1, cores // max(config.threads, 1))
    threads = config.threads or max(1, cores // number)
    workers = {}
    for position in range(number):
        environment = {"OMP_NUM_THREADS": str(threads)}
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = devices[position % len(devices)]
        # torch needs more memory than Dask allows by default, and its populations fit by their size.
        options = {"nthreads": 1, "memory_limit": 0, "host": LOOPBACK, "env": environment}
        options |= {"dashboard": False, "silence_logs": logging.CRITICAL}
        workers[position] = {"cls": Nanny, "options": options}
    scheduler = {"cls": Scheduler, "options": {"host": LOOPBACK, "dashboard": False}}
    cluster = SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.CRITICAL)
    started = _workers_of(cluster, number)
    started.client.wait_for_workers(number, timeout=PATIENCE_SECONDS)
    return started


def _running_workers(address: str) -> DaskWorkers:
    """The workers of a Dask cluster that runs at an address."""
    try:
        client = Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(f"--cluster {address}: {first_line(error)}") from error
    threads = client.nthreads()
    if any(number != 1 for number in threads.values()):
        client.close()
        raise UserError(
            f"--cluster {address}: a worker has {max(threads.values())} threads; start the workers "
            "with --nthreads 1, since each trains one population at a time"
        )
    return DaskWorkers(client, 0, client.close)


def _job_workers(config: StudyConfig) -> DaskWorkers:
    """Workers in jobs of a scheduler, one a job. A job that ends early is replaced."""
    kind, number = config.cluster.kind, max(1, config.cluster.workers)
    options = dict(config.cluster.options)
    prologue, extra = (options.pop(key, []) for key in ("job_script_prologue", "worker_extra_args"))
    cores = options.get("cores", 1)
    try:
        cluster_class = getattr(import_module("dask_jobqueue"), f"{kind.upper()}Cluster")
        cluster = cluster_class(
            **{"python": sys.executable, "processes": 1, **options},
            # The last --nthreads counts: one population at a time takes all cores.
            worker_extra_args=["--nthreads", "1", *extra],
            job_script_prologue=[f"export OMP_NUM_THREADS={cores}", *prologue],
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"cluster.options ({kind}): {first_line(error)}") from error
    cluster.adapt(minimum_jobs=number, maximum_jobs=number)
    return _workers_of(cluster, number)


def _workers_of(cluster: Any, number: int) -> DaskWorkers:
    client = Client(cluster, set_as_default=False)

    def close() -> None:
        client.close()
        cluster.close()

    return DaskWorkers(client, number, close)


def _visible_devices() -> list[str]:
    """The CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if not torch.cuda.is_available():
        return []
    numbers = [str(number) for number in range(torch.cuda.device_count())]
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return numbers if names is None else names.split(",")[: len(numbers)]
