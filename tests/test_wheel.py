"""The wheel has everything: built, installed in an environment of its own, run from an empty folder."""

import json
import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import small_study, text_without_links

ROOT = Path(__file__).parents[1]


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("the sources are no git checkout")
    tracked = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True
    )
    for name in filter(lambda name: (ROOT / name).is_file(), tracked.stdout.split("\0")[:-1]):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    build = [
        *("wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        "-w",
        folder,
        source,
    ]
    pip(*build)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; its dependencies are this environment's."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file: the editable installation behind it is not followed.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    install = ["--python", folder / "bin" / "python", "install", "--quiet", "--no-deps"]
    pip(*install, wheel)
    return folder / "bin"


def run(command: list[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)


def test_the_wheel_has_the_data_files_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = [
        path.relative_to(ROOT).as_posix()
        for folder, pattern in (("studies", "**/*.yaml"), ("reports/page/templates", "*"))
        for path in (ROOT / folder).glob(pattern)
    ]
    assert len(data) > 12
    assert set(data) <= names
    tops = {name.split("/")[0] for name in names}
    assert {"harness", "methods", "studies", "reports"} == {t for t in tops if "." not in t}


@pytest.mark.slow
def test_a_study_and_a_report_from_an_empty_folder(
    environment: Path, tmp_path: Path, tiny_encoder: Path
) -> None:
    done = run([environment / "harness-study", *small_study(Path("runs"), tiny_encoder)], tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert [len(result["scores"]) for result in summary["results"]] == [2, 2]
    assert Path(summary["report"]).is_relative_to(tmp_path)
    again = run([environment / "harness-report", "runs", "--out", "again.html"], tmp_path)
    assert again.returncode == 0, again.stderr
    pages = tmp_path / "again.html", Path(summary["report"])
    assert len({text_without_links(page) for page in pages}) == 1


@pytest.mark.slow
def test_the_modules_are_the_wheels(environment: Path, tmp_path: Path) -> None:
    """Else the two tests above would show nothing."""
    code = "import harness, methods, studies, reports; print(harness.__file__, reports.__path__[0])"
    done = run([environment / "python", "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(str(environment.parent) in place for place in done.stdout.split())


@pytest.mark.slow
def test_the_lists_need_no_extra(environment: Path, tmp_path: Path) -> None:
    for what in ("methods", "tasks", "presets"):
        done = run([environment / "python", "-m", "harness.study", "--list", what], tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout
    assert not list(tmp_path.iterdir())
