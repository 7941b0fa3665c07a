"""The workers of this machine: their number, threads and GPUs."""

import pytest
import torch

from harness.errors import UserError
from harness.workers.machine import MachineWorkers, machine_workers, visible_devices
from tests.prepared import demo_config


@pytest.fixture(autouse=True)
def six_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.workers.machine.usable_cores", lambda: 6)


def devices(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr("harness.workers.machine.visible_devices", lambda: names)


@pytest.mark.parametrize(
    ("workers", "threads", "expected", "at_once"),
    [(0, 0, (6, 1), 6), (0, 4, (1, 4), 1), (2, 0, (2, 3), 2), (8, 0, (8, 1), 6), (4, 3, (4, 3), 2)],
)
def test_workers_share_the_cores(
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    threads: int,
    expected: tuple[int, int],
    at_once: int,
) -> None:
    devices(monkeypatch)
    cluster = {"kind": "machine", "workers": workers}
    found = machine_workers(demo_config(cluster=cluster, threads=threads))
    assert (found.count, found.threads) == expected
    assert found.at_once == at_once
    assert found.environment(3) == {"OMP_NUM_THREADS": str(expected[1])}


def test_workers_take_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    devices(monkeypatch, "4", "7")
    found = machine_workers(demo_config(cluster={"kind": "machine", "workers": 3}))
    gpus = [found.environment(position)["CUDA_VISIBLE_DEVICES"] for position in range(3)]
    assert gpus == ["4", "7", "4"]
    assert (found.count, found.at_once) == (3, 2)
    assert machine_workers(demo_config(cluster={"kind": "machine"})).count == 2
    on_cpu = machine_workers(demo_config(cluster={"kind": "machine"}, device="cpu"))
    assert (on_cpu.count, on_cpu.devices) == (6, ())


def test_a_gpu_that_is_not_there_is_refused_before_workers_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    devices(monkeypatch)
    with pytest.raises(UserError, match=r"^device=cuda: torch sees no CUDA device$"):
        machine_workers(demo_config(cluster={"kind": "machine"}, device="cuda"))


@pytest.mark.parametrize(
    ("variable", "count", "expected"),
    [
        (None, 2, ("0", "1")),
        ("3,1", 2, ("3", "1")),
        ("GPU-a, GPU-b", 2, ("GPU-a", "GPU-b")),
        ("1,-1,2", 1, ("1",)),  # CUDA stops at the first number that is no device
    ],
)
def test_devices_have_the_names_of_the_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, count: int, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_devices() == expected


def test_a_machine_without_gpus_has_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert visible_devices() == ()
    assert MachineWorkers(1, 8, (), 4).at_once == 1
