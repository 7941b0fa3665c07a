"""The threads of all pools, and freed memory that goes back to the system."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.runtime import cpu as processor
from harness.runtime.threads import SPINS, WAITING_VARIABLES

FREED = """
import psutil
from harness.runtime.cpu import hold_memory, release_memory

resident = lambda: psutil.Process().memory_info().rss / 2**20
hold_memory()
blocks = [bytearray(b"x" * 2**20) for _ in range(200)]
full = resident()
del blocks[:-1]  # the last one lies above the others
held = resident()
release_memory()
print(full - held, held - resident())
"""

THREADS = """
import psutil, torch
from harness.runtime.cpu import set_threads

process = psutil.Process()
process.cpu_affinity(process.cpu_affinity()[:1])
for asked in (0, 3):
    set_threads(asked)
    print(torch.get_num_threads())
"""

SET_BEFORE = """
import torch
from harness.runtime.cpu import set_threads

torch.set_num_interop_threads({number})
set_threads(1)
set_threads(2)
print(torch.get_num_interop_threads(), torch.get_num_threads())
"""

POOLS = """
import json, os
import numpy, scipy.linalg, torch
from threadpoolctl import threadpool_info
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from harness.runtime.cpu import set_threads

def started(work):
    count = lambda: len(os.listdir("/proc/self/task"))
    before = count()
    work()
    return count() - before

set_threads(3)
tokenizer = Tokenizer(WordLevel({"a": 0}, unk_token="a"))
import sklearn.metrics  # loaded after the number was set
print(json.dumps({
    "libraries": [(row["user_api"], row["num_threads"]) for row in threadpool_info()],
    "tokenizers": started(lambda: tokenizer.encode_batch(["a"] * 1000)),
    "intra-op": torch.get_num_threads(),
    "inter-op": torch.get_num_interop_threads(),
}))
"""


@pytest.mark.skipif(processor._glibc() is None, reason="the C library is not glibc")
def test_freed_memory_is_held_until_it_is_released() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FREED], capture_output=True, text=True, check=True, timeout=120
    )
    freed, released = map(float, done.stdout.split())
    assert freed < 20
    assert released > 150


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="no affinity here")
def test_the_automatic_number_of_threads_is_of_the_processors_share() -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREADS], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["1", "3"]


@pytest.mark.parametrize("number", [1, 3])
def test_a_process_that_has_set_its_pool_before_keeps_it(number: int) -> None:
    code = SET_BEFORE.format(number=number)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == [str(number), "2"]


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_all_pools_follow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", POOLS], capture_output=True, text=True, check=True, timeout=120
    )
    pools = json.loads(done.stdout)
    assert {api for api, _ in pools["libraries"]} == {"blas", "openmp"}
    assert {number for _, number in pools["libraries"]} == {3}
    assert (pools["tokenizers"], pools["intra-op"], pools["inter-op"]) == (3, 3, 1)


def _dry_run(folder: Path, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.study", "--method", "alp", "--task", "rte"]
    root = Path(sys.modules["harness"].__path__[0]).parent
    return subprocess.run(
        [*command, "--dry-run", "--out", str(folder), *flags],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(root), **variables},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "flags", "words"), [("1", [], "1 thread"), ("1", ["threads=2"], "2 threads")]
)
def test_the_command_takes_openmps_variable_and_says_so(
    number: str, flags: list[str], words: str, tmp_path: Path
) -> None:
    done = _dry_run(tmp_path, *flags, OMP_NUM_THREADS=number)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0].endswith(f" on cpu, {words}")


@pytest.mark.slow
def test_the_command_refuses_a_bad_variable_in_one_line(tmp_path: Path) -> None:
    done = _dry_run(tmp_path, OMP_NUM_THREADS="many")
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("libgomp", "OMP:"))]
    assert [line for line in lines if line] == [
        "error: OMP_NUM_THREADS='many': is not a whole number from 1 to 9999"
    ]


WAITING = """
import os, sys
os.environ["OMP_DISPLAY_ENV"] = "VERBOSE"
from harness.study import main
main(["--list", "tasks"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings GNU's OpenMP on Linux")
def test_idle_threads_of_the_command_sleep_soon() -> None:
    """OpenMP itself says what it read."""
    variables = {key: value for key, value in os.environ.items() if key not in WAITING_VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", WAITING],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=variables,
    )
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in done.stderr
