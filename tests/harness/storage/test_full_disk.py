"""A disk that fills up, and a folder that cannot be written: a clear stop, and on from there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SIZES = (100, 200, 300, 500, 1000, 1800, 2400, 2900)
"""KiB at which ledger, tokens, outputs, a student's run, the paper's files or the report do not fit."""
AMPLE = 32_000


def can_mount() -> bool:
    """Whether this user may mount a tmpfs in a namespace of his own (Linux)."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def found(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not can_mount():
        pytest.skip("a small disk needs the right to mount one in a namespace (unshare -rm)")
    place = tmp_path_factory.mktemp("disk")
    sizes = [str(size) for size in (AMPLE, *SIZES)]
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-m", "tests.full_disk", place, tiny_encoder, *sizes],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error:")]


@pytest.mark.slow
def test_a_full_disk_stops_with_one_line_and_goes_on_when_there_is_room(
    found: dict[str, Any],
) -> None:
    ample, *small = found["full"]
    assert (ample["code"], ample["again"]) == (0, 0)
    places = set()
    for cut in small:
        assert cut["code"] == 2, cut
        (line,) = errors(cut["errors"])
        assert "No space left on device" in line or "database or disk is full" in line
        assert "Traceback" not in cut["errors"]
        assert cut["left"] == []
        assert cut["again"] == 0
        for name in ("result", "contents", "files"):
            assert cut[name] == ample[name], (cut["size"], name)
        places |= {word for word in ("ledger", "outputs", "paper-", "report.html") if word in line}
    assert places == {"ledger", "outputs", "paper-", "report.html"}


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_one_line(found: dict[str, Any]) -> None:
    refused = found["read only"]
    assert refused["code"] == 2
    (line,) = errors(refused["errors"])
    assert line.endswith("runs: cannot be written")
