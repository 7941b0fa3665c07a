"""The workers of this machine: their number, and the GPU or the share of the cores that each gets."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from harness.config import StudyConfig
from harness.errors import UserError
from harness.runtime.threads import usable_cores


@dataclass(frozen=True)
class MachineWorkers:
    """`count` workers with `threads` threads each, which take the CUDA `devices` in turn.

    `devices` is empty where the workers train on the CPU. `cores` are the usable ones of this machine.
    """

    count: int
    threads: int
    devices: tuple[str, ...]
    cores: int

    @property
    def at_once(self) -> int:
        """The number of workers that have a GPU, or their threads' cores, for themselves; at least 1."""
        places = len(self.devices) or self.cores // self.threads
        return max(1, min(self.count, places))

    def environment(self, position: int) -> dict[str, str]:
        """The environment variables of the worker at a position, counted from 0."""
        environment = {"OMP_NUM_THREADS": str(self.threads)}
        if self.devices:
            environment["CUDA_VISIBLE_DEVICES"] = self.devices[position % len(self.devices)]
        return environment


def machine_workers(config: StudyConfig) -> MachineWorkers:
    """The workers that `--workers` asks for; `auto` is one a GPU, or one a share of the cores.

    Raises:
        UserError: `device=cuda`, and torch sees no CUDA device.
    """
    devices = () if config.device == "cpu" else visible_devices()
    if config.device == "cuda" and not devices:
        raise UserError("device=cuda: torch sees no CUDA device")
    cores = usable_cores()
    count = config.cluster.workers or len(devices) or max(1, cores // max(config.threads, 1))
    threads = config.threads or max(1, cores // count)
    return MachineWorkers(count, threads, devices, cores)


def visible_devices() -> tuple[str, ...]:
    """The CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if not torch.cuda.is_available():
        return ()
    numbers = [str(number) for number in range(torch.cuda.device_count())]
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    return tuple(numbers if names is None else map(str.strip, names.split(",")[: len(numbers)]))
