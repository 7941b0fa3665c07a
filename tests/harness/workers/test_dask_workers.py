"""Workers in processes of their own, which Dask drives: results, lines, deaths, and a whole study."""

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import dask
import psutil
import pytest
import torch
from distributed import get_worker

from harness.compose import compose_config
from harness.config import ClusterConfig, StudyConfig
from harness.errors import ConfigError, DataError, DeviceError, StorageError, UserError
from harness.runtime.progress import say
from harness.workers import clusters, dask_workers
from harness.workers.clusters import open_cluster
from harness.workers.dask_workers import DaskWorkers
from harness.workers.jobs import Advance, Job
from harness.workers.local import WorkerDiedError
from harness.workers.versions import check_versions, versions
from harness.workers.workshop import Workshop
from tests.conftest import small_pools
from tests.killing import Study, contents, result
from tests.prepared import demo_config

SECONDS = 120.0


@dataclass(frozen=True)
class Square(Job[int]):
    number: int

    def perform(self, workshop: Workshop, advance: Advance) -> int:
        advance(self.number)
        say(f"squaring {self.number}")
        return self.number**2


@dataclass(frozen=True)
class Refused(Job[int]):
    def perform(self, workshop: Workshop, advance: Advance) -> int:
        raise DataError("rte: no such file")


@dataclass(frozen=True)
class Deadly(Job[int]):
    def perform(self, workshop: Workshop, advance: Advance) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


@dataclass(frozen=True)
class FailingDevice(Job[int]):
    """The device fails in the first process that takes the job."""

    marker: str

    def perform(self, workshop: Workshop, advance: Advance) -> int:
        if not Path(self.marker).exists():
            Path(self.marker).touch()
            raise DeviceError("the device failed: CUDA error: an illegal memory access")
        return os.getpid()


@dataclass(frozen=True)
class Environment(Job[tuple[str, str, int]]):
    """The worker's own threads and GPU."""

    def perform(self, workshop: Workshop, advance: Advance) -> tuple[str, str, int]:
        time.sleep(0.2)
        variables = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
        threads, devices = (os.environ.get(name, "") for name in variables)
        return threads, devices, os.getpid()


@dataclass(frozen=True)
class Faults(Job[list[int]]):
    """The pages that come anew each time the job's thread makes and drops 64 MiB."""

    def perform(self, workshop: Workshop, advance: Advance) -> list[int]:
        counts = []
        for _ in range(12):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.zeros(2**24).fill_(1.0)
            counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        return counts[2:]


@dataclass(frozen=True)
class Interruptions(Job[dict[str, float]]):
    """The milliseconds between two calls of what the process's loop does again and again."""

    def perform(self, workshop: Workshop, advance: Advance) -> dict[str, float]:
        callbacks = get_worker().periodic_callbacks
        return {name: callback.callback_time for name, callback in callbacks.items()}


CONFIG = demo_config(out=tempfile.gettempdir())
"""A configuration of jobs here, with a folder that is there."""


def machine(number: int, **changes: Any) -> StudyConfig:
    return demo_config(cluster={"kind": "machine", "workers": number}, **changes)


@pytest.fixture(scope="module")
def workers() -> Iterator[DaskWorkers]:
    with DaskWorkers(open_cluster(machine(2))) as opened:
        yield opened


def ended(*futures: Future[Any]) -> None:
    assert not wait(futures, SECONDS).not_done


def test_jobs_have_results_steps_and_lines(
    workers: DaskWorkers, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[int] = []
    futures = [workers.submit(Square(CONFIG, "rte", n), steps.append) for n in (3, 4)]
    ended(*futures)
    assert [future.result() for future in futures] == [9, 16]
    limit = time.monotonic() + SECONDS
    said = ""
    while len(steps) < 2 or said.count("squaring") < 2:
        assert time.monotonic() < limit
        time.sleep(0.05)
        said += capsys.readouterr().err
    assert sorted(steps) == [3, 4]
    assert (workers.count, workers.capacity) == (2, 4)


def test_refusals_keep_their_kind_and_words(workers: DaskWorkers) -> None:
    future = workers.submit(Refused(CONFIG, "rte"), lambda steps: None)
    ended(future)
    with pytest.raises(DataError, match="rte: no such file"):
        future.result()


@pytest.mark.slow
def test_a_job_that_kills_its_workers_is_given_up_and_the_workers_come_back(
    workers: DaskWorkers,
) -> None:
    future = workers.submit(Deadly(CONFIG, "rte"), lambda steps: None)
    ended(future)
    with pytest.raises(WorkerDiedError):
        future.result()
    healthy = workers.submit(Square(CONFIG, "rte", 5), lambda steps: None)
    ended(healthy)
    assert healthy.result() == 25


def test_after_a_failure_of_the_device_another_process_does_the_job(
    workers: DaskWorkers, tmp_path: Path
) -> None:
    job = FailingDevice(CONFIG, "rte", str(tmp_path / "marker"))
    future = workers.submit(job, lambda steps: None)
    ended(future)
    assert psutil.pid_exists(future.result())


def test_workers_share_cores_and_see_one_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.workers.machine.usable_cores", lambda: 6)
    monkeypatch.setattr("harness.workers.machine.visible_devices", lambda: ("5", "7"))
    with DaskWorkers(open_cluster(machine(0, threads=0))) as workers:
        assert workers.count == 2
        found = set()
        while len(found) < 2:
            future = workers.submit(Environment(CONFIG, "rte"), lambda steps: None)
            ended(future)
            found.add(future.result())
        assert {(threads, devices) for threads, devices, _ in found} == {("3", "5"), ("3", "7")}


def test_the_command_goes_on_while_its_workers_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The worker imports what waits for a file. The test makes the file when the cluster is open."""
    gate, imports = tmp_path / "gate", tmp_path / "imports.py"
    imports.write_text(
        "import time\nfrom pathlib import Path\n"
        f"while not Path({str(gate)!r}).exists():\n    time.sleep(0.05)\n"
    )
    monkeypatch.setattr(clusters, "PRELOAD", str(imports))
    timer = threading.Timer(SECONDS, gate.touch)
    timer.start()
    with DaskWorkers(open_cluster(machine(1))) as workers:
        assert not gate.exists()
        timer.cancel()
        gate.touch()
        future = workers.submit(Square(CONFIG, "rte", 6), lambda steps: None)
        ended(future)
        assert future.result() == 36


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_workers_memory_stays_with_it(workers: DaskWorkers) -> None:
    """A block of 64 MiB has 16,384 pages. A thread's own arena faults them in every time."""
    future = workers.submit(Faults(CONFIG, "rte"), lambda steps: None)
    ended(future)
    assert min(future.result()) < 1_000


def test_a_workers_loop_seldom_interrupts_training(workers: DaskWorkers) -> None:
    """Dask's defaults are a sample of the stack in 10 ms, and a tick in 20 ms."""
    future = workers.submit(Interruptions(CONFIG, "rte"), lambda steps: None)
    ended(future)
    assert {"heartbeat", "tick"} <= set(future.result())
    assert min(future.result().values()) >= 500


def test_other_versions_are_refused_by_name() -> None:
    check_versions(versions(), "w")
    with pytest.raises(UserError, match=r"^worker w has torch .* \(the driver has 1\.0\)$"):
        check_versions({**versions(), "torch": "1.0"}, "w")
    with pytest.raises(UserError, match=r"the harness [0-9a-f]{12} \(the driver has old\)"):
        check_versions({"the harness": "old"}, "w")


def test_a_cluster_that_is_not_there_is_one_line() -> None:
    config = demo_config(cluster={"kind": "dask", "address": "tcp://127.0.0.1:9"})
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(UserError, match=r"^--cluster tcp://127\.0\.0\.1:9: "),
    ):
        open_cluster(config)


@pytest.mark.parametrize("kind", ["slurm", "pbs", "lsf", "sge"])
def test_each_scheduler_has_its_options_in_a_file(kind: str) -> None:
    config = compose_config(
        [f"cluster={kind}", "cluster.options.cores=8"], {"methods": ["alp"], "tasks": ["rte"]}
    )
    assert config.cluster == ClusterConfig(
        kind, 1, None, {"cores": 8, "memory": "16GB", "walltime": "04:00:00"}
    )


def pbs(**options: Any) -> StudyConfig:
    return demo_config(cluster={"kind": "pbs", "workers": 1, "options": options})


def test_a_scheduler_that_cannot_start_jobs_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.workers.clusters.which", lambda program: None)
    with pytest.raises(UserError, match=r"^--cluster pbs: this machine has no command qsub to "):
        open_cluster(pbs(cores=1, memory="1GB"))
    monkeypatch.setattr("harness.workers.clusters.which", lambda program: program)
    with pytest.raises(ConfigError, match=r"^cluster\.options\.memory: PBSCluster needs it$"):
        open_cluster(pbs(cores=1))
    with pytest.raises(ConfigError, match=r"^cluster\.options\.wall: unknown to PBSCluster$"):
        open_cluster(pbs(cores=1, memory="1GB", wall=1))


def test_jobs_that_a_scheduler_refuses_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`qsub` refuses twice and then a third time: after that the command says why."""
    qsub = tmp_path / "qsub"
    qsub.write_text(
        f"#!/bin/sh\ncp $1 {tmp_path}/script\n"
        f"echo asked >> {tmp_path}/asked\necho 'qsub: Invalid account' >&2\nexit 1\n"
    )
    qsub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(clusters, "ATTEMPT_SECONDS", 0.01)
    monkeypatch.setattr(dask_workers, "PATIENCE_SECONDS", 0.1)
    with DaskWorkers(open_cluster(pbs(cores=1, memory="1GB", interface="lo"))) as workers:
        future = workers.submit(Square(CONFIG, "rte", 1), lambda steps: None)
        with pytest.raises(
            UserError, match=r"^--cluster: the jobs are refused: qsub: Invalid account$"
        ):
            workers.wait([future], None)
    assert (tmp_path / "asked").read_text().splitlines() == ["asked"] * clusters.ATTEMPTS
    exports = {"export OMP_NUM_THREADS=1", "export MALLOC_ARENA_MAX=1"}
    assert exports <= set((tmp_path / "script").read_text().splitlines())
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_scheduler_that_dies_is_one_line_and_the_same_command_goes_on(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
    scheduler = subprocess.Popen(
        [*command, "--port", "0", "--no-dashboard"], stderr=subprocess.PIPE, text=True
    )
    assert scheduler.stderr is not None
    line = next(line for line in scheduler.stderr if "Scheduler at:" in line)
    address = line.split()[-1]
    config = demo_config(cluster={"kind": "dask", "address": address})
    with DaskWorkers(open_cluster(config)) as workers:
        future = workers.submit(Square(CONFIG, "rte", 1), lambda steps: None)
        monkey = pytest.MonkeyPatch()
        monkey.setattr(dask_workers, "PATIENCE_SECONDS", 0.2)
        assert workers.wait([future], 0.5) == set()
        assert "waiting for workers" in capsys.readouterr().err
        monkey.undo()
        scheduler.kill()
        scheduler.wait()
        ended(future)
        with pytest.raises(StorageError, match=rf"^the Dask scheduler {address} is lost: the same"):
            future.result()
    scheduler.stderr.close()


def start_scheduler(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """A Dask scheduler."""
    return start("scheduler", ["--host", "127.0.0.1", "--port", str(port)], folder)


def start_workers(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Four workers, in a program that starts them again. It ends if one dies while it starts."""
    options = ["--nthreads", "1", "--memory-limit", "0", "--nworkers", "4"]
    address = f"tcp://127.0.0.1:{port}"
    return start("worker", [address, *options, "--local-directory", str(folder)], folder)


def start(name: str, arguments: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-m", f"distributed.cli.dask_{name}", "--no-dashboard"]
    with (folder / "cluster.log").open("ab") as log:
        return subprocess.Popen([*program, *arguments], stderr=log)


def stop(program: subprocess.Popen[bytes]) -> None:
    """Kill a program and what it has started. Dask's workers would end only with a scheduler."""
    if program.poll() is None:
        for process in (*psutil.Process(program.pid).children(recursive=True), program):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    program.wait()


def worker_processes(parent: int) -> list[psutil.Process]:
    """The workers among a process's descendants. A dead one may wait to be noticed by its parent."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
    return found


@pytest.mark.proof
def test_a_study_whose_workers_and_scheduler_are_killed_at_random(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four workers. One dies after every four runs; the scheduler dies once, and the command goes on."""
    more = ("--trials", "40", "--keep", "report", "training.epochs=4")
    local = Study(small_pools(tmp_path / "a", tiny_encoder, *more), tmp_path / "a", tmp_path / "na")
    local.join()
    out, random = tmp_path / "b", Random(0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    arguments = [
        *small_pools(out, tiny_encoder, *more),
        *("--cluster", f"tcp://127.0.0.1:{port}"),
    ]
    killed, next_kill, codes = 0, 0, []
    for number in range(2):
        scheduler, nanny = start_scheduler(port, tmp_path), start_workers(port, tmp_path)
        driver = Study(arguments, out, tmp_path / "nb")
        while not driver.join(1.0):
            if number == 0 and killed == 4:
                scheduler.kill()
                driver.join()
                break
            if nanny.poll() is not None:
                nanny = start_workers(port, tmp_path)
            elif (
                (out / "teachers").is_dir()
                and len(driver.writes()) >= next_kill
                and (found := worker_processes(nanny.pid))
            ):
                random.choice(found).kill()
                killed, next_kill = killed + 1, len(driver.writes()) + 4
        stop(nanny)
        stop(scheduler)
        codes.append(driver.answer()["code"])
    assert codes == [2, 0]
    assert killed > 4
    assert result(driver.answer()["printed"]) == result(local.answer()["printed"])
    assert contents(out) == contents(tmp_path / "a")
    assert sorted(driver.writes()) == sorted(local.writes())
    with capsys.disabled():
        print(
            f"\n{killed} workers and one scheduler killed; {len(driver.writes())} runs, each once"
        )


@pytest.mark.slow
def test_a_study_whose_workers_are_killed_ends_as_an_undisturbed_one(
    tmp_path: Path, tiny_encoder: Path
) -> None:
    more = ("--trials", "12", "--keep", "report", "training.epochs=3")
    local = Study(small_pools(tmp_path / "a", tiny_encoder, *more), tmp_path / "a", tmp_path / "na")
    local.join()
    out = tmp_path / "b"
    driver = Study([*small_pools(out, tiny_encoder, *more), "--workers", "2"], out, tmp_path / "nb")
    killed = 0
    while killed < 3 and not driver.join(0.5):
        if (out / "teachers").is_dir():
            found = worker_processes(driver.process.pid)
            if len(found) == 2:
                found[killed % 2].kill()
                killed += 1
                driver.join(3.0)
    driver.join()
    assert driver.answer()["code"] == local.answer()["code"] == 0
    assert killed >= 1
    assert result(driver.answer()["printed"]) == result(local.answer()["printed"])
    assert contents(out) == contents(tmp_path / "a")
    assert sorted(driver.writes()) == sorted(local.writes())
