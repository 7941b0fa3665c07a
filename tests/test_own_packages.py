"""Packages of a user that are named as the harness's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.own_packages import NAMES, ROOT, refuse_shadows, shadow_of, take_names

CODE = {
    "command": "from harness.study import main; code = main(['--list', 'methods'])",
    "worker": "import harness.workers.jobs; import harness.registry.discovery as d; d.registry()",
    "program": "import harness; harness.run(methods=['alp'], tasks=['rte'])",
    "imported": "import reports; from harness.study import main; sys.exit(main(['--list', 'tasks']))",
}
SHOW = "; import reports.build, methods, studies; print('own:', reports.build.__file__)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with packages of the three names, one of them a module."""
    for name in ("methods", "studies"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "reports.py").write_text("", encoding="utf-8")
    return tmp_path


def process(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Python code in a process that looks into the folder first, as `python -m` does."""
    return subprocess.run(
        [sys.executable, "-c", f"import sys; {code}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_harness_finds_its_own_here() -> None:
    assert [shadow_of(name) for name in NAMES] == [None, None, None]
    assert take_names() == []
    refuse_shadows()


@pytest.mark.parametrize("kind", ["command", "worker"])
def test_a_process_of_the_harness_finds_its_own_packages(folder: Path, kind: str) -> None:
    done = process(folder, CODE[kind] + SHOW)
    assert done.returncode == 0, done.stderr
    assert f"own: {ROOT / 'reports' / 'build.py'}" in done.stdout
    if kind == "command":
        assert "alp" in done.stdout
        places = {"methods": "methods", "studies": "studies", "reports": "reports.py"}
        assert done.stderr.splitlines() == [
            f"warning: {folder / place} has the name of the harness's package '{name}': not used"
            for name, place in places.items()
        ]


def test_a_program_keeps_its_packages_and_is_told(folder: Path) -> None:
    done = process(folder, CODE["program"])
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"harness.errors.UserError: {folder / 'methods'}: has the name of the harness's package"
    )


def test_a_package_that_is_imported_already_is_refused(folder: Path) -> None:
    done = process(folder, CODE["imported"])
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {folder / 'reports.py'}: has the name of the harness's package")
    assert line.endswith("rename it, or start from another folder")
    assert done.stdout == ""


def test_a_plain_folder_without_a_package_shadows_nothing(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).mkdir()
    done = process(tmp_path, CODE["command"] + SHOW)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
