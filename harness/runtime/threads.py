"""The number of threads of products, and the libraries' pools of threads, all of that size.

The number comes from the first of these sources that there is:

1. `threads=N` of the configuration, because it is about this command and the environment is often about
   the whole machine;
2. the environment variable OMP_NUM_THREADS; the first number of "4,2", which is the outermost level;
3. the physical cores that the process may use, by its affinity, its CPU quota (cgroup v1 and v2) and
   joblib's variable LOKY_MAX_CPU_COUNT.

The number does not depend on other commands that run at the same time. Sums over other numbers of
threads round otherwise, so a run would depend on its neighbours. `limit_spinning` lets commands share
cores.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from threadpoolctl import threadpool_limits

from harness.errors import UserError

CGROUPS, MEMBERSHIPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
PROCESSORS = Path("/sys/devices/system/cpu")
POOL_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
"""Variables that BLAS libraries and the tokenizers (Rust) read when they start their pools."""
WAITING_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SPINS = 1000
"""Turns of the loop in which an idle OpenMP thread waits for work, before it sleeps."""

TURN = 1e-4
"""Seconds for which a thread of pure Python keeps Python's lock while others wait."""

_pool_threads = 0
"""The number of the last `limit_pools`; 0 before the first."""
_users_texts: dict[str | None, str | None] = {}
"""The user's OMP_NUM_THREADS, by the text that the last `limit_pools` put in its place."""


def limit_spinning() -> None:
    """Let idle OpenMP threads sleep soon. A user's OMP_WAIT_POLICY or GOMP_SPINCOUNT stays.

    By default GNU's OpenMP, which torch brings on Linux, waits in a loop of 300,000 turns. Where more
    threads run than cores, a waiting thread then keeps the thread it waits for from running. So any
    other work on the cores makes a command many times slower (docs/performance.md). The library reads
    the variable when it is loaded: this function has an effect before the first import of torch only.
    """
    if not any(variable in os.environ for variable in WAITING_VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = str(SPINS)


def count_threads(threads: int = 0) -> int:
    """The number of threads of products; `threads` is the configuration's, 0 where it has none.

    Raises `UserError` if OMP_NUM_THREADS or LOKY_MAX_CPU_COUNT is read and is no number.
    """
    if threads:
        return threads
    if (text := _users_openmp_threads()) is None:
        return usable_cores()
    levels = [_read_number("OMP_NUM_THREADS", text, level) for level in text.split(",")]
    return levels[0]


def usable_cores() -> int:
    """The number of physical cores that this process may use; a quota of one and a half is two cores.

    joblib's count is not enough: it counts both hardware threads of a core in an affinity, and it misses
    the quota of an inner control group (of systemd or a batch system).
    """
    limits = [psutil.cpu_count(logical=False) or os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):
        limits.append(_physical_cores(os.sched_getaffinity(0)))
    limits += [max(1, math.ceil(quota)) for quota in _quotas()]
    if (text := os.environ.get("LOKY_MAX_CPU_COUNT")) is not None:
        limits.append(_read_number("LOKY_MAX_CPU_COUNT", text, text))
    return min(limits)


def limit_pools(threads: int) -> None:
    """Give the pools of BLAS, OpenMP and the tokenizers this number of threads, for the whole process.

    Loaded libraries change at once. The environment tells libraries that are loaded later, and processes
    that this one starts.
    """
    global _pool_threads, _users_texts
    _pool_threads, text = threads, str(threads)
    _users_texts = {text: _users_openmp_threads()}
    threadpool_limits(limits=threads)
    os.environ.update(dict.fromkeys((*POOL_VARIABLES, "OMP_NUM_THREADS"), text))


def pool_threads() -> int:
    """The number of threads of the process's pools."""
    return _pool_threads or count_threads()


@contextmanager
def short_turns() -> Iterator[None]:
    """Let Python's threads take turns of `TURN` seconds.

    A thread of array operations needs Python's lock for microseconds between two operations. Beside a
    thread of pure Python it waits for a whole turn each time, which is 5 ms by default.
    """
    turn = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(turn)


def threads_in_words(threads: int) -> str:
    """The number with its noun: "1 thread", "2 threads"."""
    return f"{threads} thread" if threads == 1 else f"{threads} threads"


def _read_number(variable: str, text: str, part: str) -> int:
    """The number that a part of a variable's text is. Raises `UserError` with the whole text."""
    if re.fullmatch("[0-9]{1,4}", part.strip()) is None or int(part) == 0:
        raise UserError(f"{variable}='{text}': is not a whole number from 1 to 9999")
    return int(part)


def _users_openmp_threads() -> str | None:
    text = os.environ.get("OMP_NUM_THREADS")
    return _users_texts.get(text, text)


def _physical_cores(processors: Iterable[int]) -> int:
    """The number of cores that logical processors belong to. The siblings of a core share one list."""
    cores = set()
    for processor in processors:
        siblings = PROCESSORS / f"cpu{processor}" / "topology" / "thread_siblings_list"
        cores.add(siblings.read_text() if siblings.is_file() else str(processor))
    return len(cores)


def _quotas() -> Iterator[float]:
    """The CPU quotas, in cores, of this process's control groups and of the groups around them."""
    if not MEMBERSHIPS.is_file():
        return
    for line in MEMBERSHIPS.read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUPS / "cpu" if controllers else CGROUPS  # version 2 names no controllers
        folder = root / group.lstrip("/")
        for level in (folder, *folder.parents):
            yield from _quota(level)
            if level == root:
                break


def _quota(folder: Path) -> Iterator[float]:
    """The quota of one group, in cores, if it has one: cgroup v2, or v1, where -1 is no quota."""
    if (limit := folder / "cpu.max").is_file():
        quota, period = limit.read_text().split()
    elif (limit := folder / "cpu.cfs_quota_us").is_file():
        quota, period = limit.read_text(), (folder / "cpu.cfs_period_us").read_text()
    else:
        return
    if quota != "max" and int(quota) > 0:
        yield int(quota) / int(period)
