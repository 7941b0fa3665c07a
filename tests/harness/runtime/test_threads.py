"""The sources of the number of threads, each by itself and against the next one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.runtime import threads
from harness.runtime.threads import (
    count_threads,
    limit_spinning,
    short_turns,
    threads_in_words,
    usable_cores,
)

Group = Callable[..., None]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Group:
    """Eight cores with two hardware threads each, without quotas; returns a writer of control groups."""
    for processor in range(16):
        topology = tmp_path / "processors" / f"cpu{processor}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{processor % 8},{processor % 8 + 8}\n")
    for name in ("OMP_NUM_THREADS", "LOKY_MAX_CPU_COUNT", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_users_texts", {})
    monkeypatch.setattr(threads, "PROCESSORS", tmp_path / "processors")
    monkeypatch.setattr(threads, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(threads, "MEMBERSHIPS", tmp_path / "memberships")
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 16 if logical else 8)
    _set_affinity(monkeypatch, range(16))

    def write(group: str, memberships: str, **files: str) -> None:
        folder = tmp_path / "groups" / group
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")
        (tmp_path / "memberships").write_text(memberships)

    return write


def _set_affinity(monkeypatch: pytest.MonkeyPatch, processors: range | set[int]) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(processors), raising=False)


def test_without_limits_the_number_is_of_the_physical_cores() -> None:
    assert count_threads() == 8


@pytest.mark.parametrize(
    ("processors", "cores"), [({3}, 1), ({0, 1, 2}, 3), ({2, 10}, 1), ({2, 10, 3}, 2)]
)
def test_hardware_threads_of_one_core_in_the_affinity_count_once(
    processors: set[int], cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_affinity(monkeypatch, processors)
    assert count_threads() == cores


def test_without_an_affinity_the_machines_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows."""
    monkeypatch.delattr("os.sched_getaffinity")
    assert usable_cores() == 8


def test_without_a_topology_every_processor_is_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "PROCESSORS", tmp_path / "nothing")
    _set_affinity(monkeypatch, {2, 10})
    assert usable_cores() == 2


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", 8), ("300000 100000", 3), ("150000 100000", 2), ("5000 100000", 1)],
)
def test_the_quota_of_the_processs_own_group(limit: str, cores: int, machine: Group) -> None:
    machine("system/job", "0::/system/job\n", cpu_max=limit)
    assert count_threads() == cores


def test_a_group_around_the_processs_own_limits_too(machine: Group) -> None:
    machine("system", "", cpu_max="200000 100000")
    machine("system/job", "0::/system/job\n", cpu_max="400000 100000")
    assert usable_cores() == 2


def test_a_group_that_is_not_mounted_leaves_the_outermost(machine: Group) -> None:
    """In a container the path may be the host's."""
    machine("", "0::/docker/1234\n", cpu_max="200000 100000")
    assert usable_cores() == 2


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("250000", 3)])
def test_a_quota_of_version_1(quota: str, cores: int, machine: Group) -> None:
    machine("memory/job", "", cpu_max="100000 100000")
    machine(
        "cpu/job",
        "4:memory:/job\n3:cpuset:/job\n2:cpu,cpuacct:/job\n0::/\n",
        cpu_cfs_quota_us=quota,
        cpu_cfs_period_us="100000",
    )
    assert usable_cores() == cores


def test_lokys_variable_limits_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "5")
    assert count_threads() == 5
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "five")
    with pytest.raises(UserError, match="LOKY_MAX_CPU_COUNT='five': is not a whole number from"):
        count_threads()


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("12", 12), ("4,2", 4), (" 3 , 2 ", 3), ("0010", 10)]
)
def test_openmps_variable_goes_before_the_cores(
    text: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_affinity(monkeypatch, {0, 1})
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert count_threads() == number


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "2.0", "two", "4,", "4,0", "4,x", "1e2", "٣", "99999"]
)
def test_openmps_variable_must_be_a_number(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    with pytest.raises(UserError, match=f"^OMP_NUM_THREADS='{text}': is not a whole number from 1"):
        count_threads()


@pytest.mark.parametrize("text", ["5", "two"])
def test_the_configuration_goes_before_the_environment(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert count_threads(3) == 3


def test_the_pools_take_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first limit they take the automatic number."""
    monkeypatch.setattr(threads, "_pool_threads", 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads.pool_threads() == 4
    monkeypatch.setattr(threads, "_pool_threads", 2)
    assert threads.pool_threads() == 2


@pytest.mark.parametrize("text", [None, "4,2"])
def test_a_limit_does_not_become_the_users_number(
    text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later libraries read the limit; the next command of the process reads what the user set."""
    for variable in (*threads.POOL_VARIABLES, "OMP_NUM_THREADS"):
        monkeypatch.setenv(variable, "9")
    monkeypatch.setattr(threads, "_pool_threads", 0)
    monkeypatch.setattr(threads, "threadpool_limits", lambda limits: None)
    if text is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
    for limit in (3, 5):
        threads.limit_pools(limit)
        assert {os.environ[name] for name in threads.POOL_VARIABLES} == {str(limit)}
        assert os.environ["OMP_NUM_THREADS"] == str(limit)
        assert threads.pool_threads() == limit
        assert count_threads() == (8 if text is None else 4)


def test_a_users_way_of_waiting_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    limit_spinning()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    limit_spinning()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_the_number_with_its_noun() -> None:
    assert [threads_in_words(number) for number in (1, 2)] == ["1 thread", "2 threads"]


QUOTA = """
import os
from pathlib import Path
(Path(r"{group}") / "cgroup.procs").write_text(str(os.getpid()))
from harness.runtime.threads import usable_cores
print(usable_cores())
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core has nothing to limit")
def test_a_real_quota_of_an_inner_group() -> None:
    """Where this user may make control groups."""
    root = Path("/sys/fs/cgroup/cpu" if Path("/sys/fs/cgroup/cpu").is_dir() else "/sys/fs/cgroup")
    group = root / f"harness-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no control groups can be made here")
    try:
        version_1 = group / "cpu.cfs_quota_us"
        if version_1.exists():
            version_1.write_text("100000")
        elif (group / "cpu.max").exists():
            (group / "cpu.max").write_text("100000 100000")
        else:
            pytest.skip("no control group for processors here")
        done = subprocess.run(
            [sys.executable, "-c", QUOTA.format(group=group)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    finally:
        group.rmdir()
    assert done.stdout.split() == ["1"]


def test_turns_are_short_in_the_block_only() -> None:
    before = sys.getswitchinterval()

    def fail() -> None:
        with short_turns():
            assert sys.getswitchinterval() == pytest.approx(threads.TURN, rel=0.01)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert sys.getswitchinterval() == before > threads.TURN
