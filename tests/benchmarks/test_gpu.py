"""`benchmarks.gpu`: on a CPU to its end, where only a bare GPU machine's packages can be imported."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from torch.autograd import DeviceType

from benchmarks import doubles, gpu, gpu_grid, gpu_rows, gpu_steps
from benchmarks.gpu_record import Record
from benchmarks.workload import make_workload
from tests.requirements import ROOT, brought_by, listed

BARE = ("torch", "transformers", "psutil", "pyarrow", "rich", "threadpoolctl")
"""The packages of a bare GPU machine, with those that they bring."""
BLOCKED = {
    "optuna",
    "hydra",
    "omegaconf",
    "pydantic",
    "datasets",
    "plotly",
    "opda",
    "ot",
    "sqlalchemy",
}
BLOCKER = """
import json, os, sys
from importlib.machinery import PathFinder

ALLOWED = set(json.loads(os.environ["ALLOWED_MODULES"]))
CARRIED = [os.environ["CARRIED"]]

class Bare:
    find_distributions = PathFinder.find_distributions

    @staticmethod
    def find_spec(name, path=None, target=None):
        top = name.partition(".")[0]
        if path is None and top not in ALLOWED and not top.startswith("_sysconfigdata"):
            return PathFinder.find_spec(name, CARRIED)
        return PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
"""
SMALL = "--shape tiny --examples 64 --epochs 1 --runs 3 --batch-size 8 --steps 2"
QUICK = [*SMALL.split(), "--device", "cpu", "--threads", "1"]


def copy_distributions(names: list[str], folder: Path) -> None:
    """Copy installed packages, as an installation from their wheels would place them."""
    for name in names:
        for file in distribution(name).files or []:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)


@pytest.fixture
def bare_machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that can import a bare machine's packages and the carried ones."""
    carried = [line.name for line in listed("benchmarks/carried.txt")]
    copy_distributions(carried, tmp_path / "carried")
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    brought = brought_by([Requirement(name) for name in BARE]) - {*carried}
    allowed = {
        module
        for module, distributions in packages_distributions().items()
        if not brought.isdisjoint(canonicalize_name(name) for name in distributions)
    }
    assert allowed & BLOCKED == set()
    own = {"benchmarks", "harness", "methods", "studies", "sitecustomize"}
    return {
        **os.environ,
        "ALLOWED_MODULES": json.dumps(sorted(allowed | own | sys.stdlib_module_names)),
        "CARRIED": str(tmp_path / "carried"),
        "PYTHONPATH": str(tmp_path),
    }


@pytest.mark.slow
def test_all_rows_on_a_bare_machine(bare_machine: dict[str, str], tmp_path: Path) -> None:
    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env=bare_machine,
        )

    for name in BLOCKED & {"optuna", "pydantic"}:  # carried
        assert str(tmp_path) in run("-c", f"import {name}; print({name}.__file__)").stdout
    for name in BLOCKED & {"datasets", "ot", "sqlalchemy"}:
        assert f"No module named '{name}'" in run("-c", f"import {name}").stderr
    out = tmp_path / "gpu.json"
    # No population has 0 members: this row fails, and the rows after it are measured.
    done = run("-m", "benchmarks.gpu", *QUICK, "--members", "0,1,2", "--out", str(out))
    assert done.returncode == 1, done.stderr
    rows = {row["row"]: row for row in json.loads(out.read_text())["rows"]}
    assert list(rows) == [line.partition(":")[0] for line in done.stdout.splitlines()]
    assert {name for name, row in rows.items() if row["status"] == "failed"} == {"members 0"}
    skipped = {name for name, row in rows.items() if row["status"] == "skipped"}
    expected = {f"{kind} tf32" for kind in ("products", "float64", "plain")}
    assert skipped == expected | {"textbrewer", "graphs 1", "graphs 8"}
    assert rows["textbrewer"]["reason"] == "TextBrewer is not installed"
    assert rows["float64 fp32"]["gradient"] < 1e-4 < rows["float64 bf16"]["gradient"] < 0.1
    assert rows["float64 fp32"]["update"] < 1e-3
    assert rows["float64 fp32"]["loss"] < 1e-5
    assert rows["float64 fp32"]["pair_gradient"] < 1e-4
    assert rows["members 2"]["operations"] == 2 * rows["members 1"]["operations"] > 0
    assert rows["grid"]["runs"] == 3
    assert rows["grid"]["trained_share"] == 1.0
    assert sum(rows["grid"]["phases"].values()) == pytest.approx(rows["grid"]["seconds"])
    assert rows["members 1"]["share_of_products"] > 0


def test_versions_of_what_is_carried() -> None:
    versions = {line.name: str(line.specifier) for line in listed("constraints.txt")}
    carried = {line.name: str(line.specifier) for line in listed("benchmarks/carried.txt")}
    assert {name: versions[name] for name in carried if name in versions}.items() <= carried.items()
    (core,) = (
        Requirement(line)
        for line in distribution("pydantic").requires or []
        if re.match(r"pydantic[-_]core\b", line)
    )
    assert str(core.specifier) == carried["pydantic-core"]


def test_names_of_rows() -> None:
    assert len(gpu.row_names(gpu.parser().parse_args([]))) == 22
    some = gpu.parser().parse_args(["--rows", "members,grid", "--members", "4,8"])
    assert gpu.row_names(some) == ["members 4", "members 8", "grid"]
    with pytest.raises(SystemExit, match="nonsense is none of products, copies"):
        gpu.row_names(gpu.parser().parse_args(["--rows", "nonsense"]))
    kinds = {name.split()[0] for name in gpu.row_names(gpu.parser().parse_args([]))}
    assert kinds == set(gpu.KINDS)
    assert all(hasattr(gpu_rows.Rows, f"measure_{kind}") for kind in kinds)


def test_without_time_all_rows_are_skipped(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    assert gpu.main([*QUICK, "--minutes", "0", "--out", str(out)]) == 0
    rows = Record.read(out).rows
    assert {(row["status"], row["reason"]) for row in rows} == {("skipped", "time")}
    assert len(rows) == 22


def test_a_process_that_dies_loses_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    code = f"""
import os
from pathlib import Path
from benchmarks.gpu_record import Record
record = Record.read(Path({str(out)!r}))
for name in record.missing(["copies", "launches", "textbrewer"]):
    record.begin_row(name)
    if name == "launches":
        os._exit(9)
    record.end_row({{"status": "done", "value": 1.0}})
"""
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _: real([sys.executable, "-c", code], cwd=ROOT))
    flags = ["--rows", "copies,launches,textbrewer", "--out", str(out)]
    assert gpu.main(flags) == 1
    assert [row["status"] for row in Record.read(out).rows] == ["done", "failed", "done"]
    assert "launches: failed: its process ended with code 9" in capsys.readouterr().out
    monkeypatch.setattr(subprocess, "Popen", lambda _: real([sys.executable, "-c", "exit(5)"]))
    assert gpu.main(flags) == 1
    assert "no row was begun: the process ended with code 5" in capsys.readouterr().err


def test_the_status_of_errors(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(error: Exception) -> dict[str, object]:
        def measure() -> dict[str, object]:
            raise error

        return gpu_rows._values(measure)

    assert gpu_rows._values(lambda: {"x": 1}) == {"status": "done", "x": 1}
    memory = fail(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore"))
    assert memory == {
        "status": "skipped",
        "reason": "memory: CUDA out of memory. Tried to allocate",
    }
    assert fail(gpu_steps.Skip("why")) == {"status": "skipped", "reason": "why"}
    failed = fail(ValueError("wrong"))
    assert (failed["status"], failed["error"]) == ("failed", "ValueError: wrong")
    assert "ValueError: wrong" in capsys.readouterr().err


def test_a_population_above_the_free_memory_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record.begin(tmp_path / "gpu.json", {})
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (20 * 2**30, 40 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    device = torch.device("cuda")
    for members, gibibytes in ((1, 3.0), (2, 5.0)):
        gpu_steps.check_fit(64, record, device)  # no estimate yet
        record.begin_row(f"members {members}")
        values = {"status": "done", "members": members, "allocated_gib": gibibytes}
        record.end_row(values)
    gpu_steps.check_fit(9, record, device)
    with pytest.raises(gpu_steps.Skip, match=r"memory: about 21 GiB, 20 GiB are free"):
        gpu_steps.check_fit(10, record, device)


def test_launches_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def event(
        name: str, device: DeviceType, microseconds: float = 0.0, note: bool = False
    ) -> object:
        taken = SimpleNamespace(elapsed_us=lambda: microseconds)
        return SimpleNamespace(
            name=name, device_type=device, time_range=taken, is_user_annotation=note
        )

    gpu_side, host_side = DeviceType.CUDA, DeviceType.CPU
    events = [
        *[event("gemm", gpu_side, 300.0)] * 4,
        *[event("add", gpu_side, 1000.0)] * 2,
        *[event("Memcpy HtoD (Pinned -> Device)", gpu_side, 400.0)] * 2,
        event("Stream Sync", gpu_side, 9000.0),
        event("Optimizer.step#AdamW.step", gpu_side, 9000.0, note=True),
        *[event("cudaLaunchKernel", host_side)] * 5,
        event("cuLaunchKernelEx", host_side),
        *[event("cudaStreamSynchronize", host_side)] * 2,
        event("cudaDeviceSynchronize", host_side),
    ]
    profiler = SimpleNamespace(events=lambda: events)
    monkeypatch.setattr(gpu_steps, "profile", lambda activities: nullcontext(profiler))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    found = gpu_steps._launches(lambda: None, 2)
    longest = found.pop("longest")
    assert found == {
        "launches": 3.0,
        "launch_calls": 3.0,
        "copies": 1.0,
        "waits": 1.0,
        "busy_milliseconds": 2.0,
    }
    assert longest[0] == {"name": "add", "launches": 1.0, "milliseconds": 1.0}
    events.clear()
    assert gpu_steps._launches(lambda: None, 2)["launches"] is None


def test_the_grid_stops_in_time(tmp_path: Path) -> None:
    """After the first step, with the seconds scaled to all steps."""
    flags = [*QUICK, "--end", "0"]
    options = gpu.parser().parse_args(flags)
    work = make_workload("tiny", 64, 8)
    assert len(gpu_grid.grid_members(work)) == 216
    row = gpu_rows.Rows(options, Record(Path(), {"rows": []}), tmp_path).measure_grid()
    assert row["trained_share"] == 1 / 8
    assert set(row["phases"]) == {
        "initial weights",
        "population's size",
        "populations' making",
        "training",
        "evaluation",
    }


def test_a_wrong_gradient_is_seen(tmp_path: Path) -> None:
    work = doubles.without_dropout(make_workload("tiny", 32, 8, precision="fp32"))
    outputs = work.outputs(tmp_path / "outputs")
    exact = doubles.reference(work, outputs, 2)
    assert doubles.differences(doubles.trained(work, outputs, 2), exact)["gradient"] < 1e-4
    name = "classifier.weight"
    side = doubles.trained(work, outputs, 2)
    wrong = {**side.gradients, name: 1.1 * side.gradients[name]}
    found = doubles.differences(doubles.Trained(side.terms, wrong, side.weights, side.start), exact)
    assert found["at"] == name
    assert found["largest_gradient"] == pytest.approx(0.1, rel=1e-3)
