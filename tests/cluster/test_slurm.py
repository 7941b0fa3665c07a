"""A real SLURM on loopback: one job is cancelled and one requeued, and the study ends as undisturbed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import small_pools
from tests.killing import Study, contents, result

SCRIPT = Path(__file__).with_name("slurm_here.sh")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "runuser")
OPTIONS = (
    *("--cluster", "slurm", "--workers", "2", "cluster.options.cores=1"),
    *("cluster.options.memory=2GB", "cluster.options.interface=lo"),
    "cluster.options.scheduler_options={interface: lo}",
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(
        os.getuid() != 0 or any(shutil.which(name) is None for name in PROGRAMS),
        reason="needs root and Debian's packages slurm-wlm and munge",
    ),
]


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:  # munge wants no path that others can write
        Path(folder).chmod(0o755)
        subprocess.run([SCRIPT, "start", folder], check=True)
        monkeypatch.setenv("SLURM_CONF", f"{folder}/slurm.conf")
        try:
            yield
        finally:
            subprocess.run(["scancel", "--user", "root"], check=False)
            subprocess.run([SCRIPT, "stop", folder], check=True)


def running_jobs() -> list[str]:
    listing = subprocess.run(
        ["squeue", "--noheader", "--states=RUNNING", "--format=%i"],
        check=True,
        capture_output=True,
        text=True,
    )
    return listing.stdout.split()


@pytest.mark.usefixtures("slurm")
def test_a_study_in_jobs_that_are_cancelled_and_requeued(
    tmp_path: Path, tiny_encoder: Path
) -> None:
    more = ("--trials", "24", "training.epochs=12")
    out = tmp_path / "slurm"
    words = [*OPTIONS, f"cluster.options.log_directory={tmp_path}/logs"]
    driver = Study([*small_pools(out, tiny_encoder, *more), *words], out, tmp_path / "notes")
    disturbances = [["scancel"], ["scontrol", "requeue"]]
    disturbed: set[str] = set()
    while disturbances and not driver.join(0.5):
        jobs = sorted(set(running_jobs()) - disturbed)
        if (out / "cache" / "teacher-outputs").is_dir() and jobs:
            subprocess.run([*disturbances.pop(0), jobs[0]], check=True)
            disturbed.add(jobs[0])
    driver.join()
    assert driver.answer()["code"] == 0, (tmp_path / "notes.err").read_text()
    assert not disturbances
    local = Study(small_pools(tmp_path / "a", tiny_encoder, *more), tmp_path / "a", tmp_path / "na")
    local.join()
    assert result(driver.answer()["printed"]) == result(local.answer()["printed"])
    assert contents(out) == contents(tmp_path / "a")
    assert sorted(driver.writes()) == sorted(local.writes())
