"""Folders: sealed, found damaged, built by one process while the others wait."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import StorageError
from harness.storage.folders import MANIFEST, build_once, replacement, seal, unseal


@pytest.mark.parametrize("damage", ["changed", "missing", "manifest"])
def test_a_damaged_folder_has_no_facts(tmp_path: Path, damage: str) -> None:
    (tmp_path / "data").write_text("whole")
    seal(tmp_path, {"examples": 3})
    assert unseal(tmp_path) == {"examples": 3}
    if damage == "changed":
        (tmp_path / "data").write_text("hole")
    elif damage == "missing":
        (tmp_path / "data").unlink()
    else:
        (tmp_path / MANIFEST).write_text('{"facts"')
    assert unseal(tmp_path) is None


def test_a_failed_replacement_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with replacement(folder) as fresh:
        (fresh / "data").write_text("old")
    with pytest.raises(ZeroDivisionError), replacement(folder) as fresh:
        (fresh / "data").write_text(str(1 / 0))
    assert (folder / "data").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    for name in (".made-abc", ".made-def", ".other-abc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("")
    build_once(tmp_path / "made", lambda folder: {})
    (tmp_path / ".made.lock").unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other-abc", "made"]


BUILDER = """
import sys, time
from pathlib import Path
from harness.storage.folders import build_once

def build(folder):
    with (Path(sys.argv[1]) / "builders").open("a") as stream:
        stream.write("one\\n")
    time.sleep(0.5)
    (folder / "data").write_text("whole")
    return {"examples": 3}

assert build_once(Path(sys.argv[1]) / "made", build) == {"examples": 3}
"""


def test_of_four_processes_one_builds_and_the_others_wait(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILDER, str(tmp_path)]
    workers = [subprocess.Popen(command) for _ in range(4)]
    assert [worker.wait(timeout=120) for worker in workers] == [0] * 4
    assert (tmp_path / "builders").read_text() == "one\n"


def test_the_lock_of_a_killed_builder_is_free(tmp_path: Path) -> None:
    code = BUILDER.replace("time.sleep(0.5)", "import os; os.kill(os.getpid(), 9)")
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert len(list(tmp_path.glob(".made-*"))) == 1
    subprocess.run([sys.executable, "-c", BUILDER, str(tmp_path)], check=True, timeout=60)
    assert not list(tmp_path.glob(".made-*"))
    assert (tmp_path / "builders").read_text() == "one\none\n"


def test_a_full_disk_is_a_storage_error_and_a_librarys_own_error_is_not(tmp_path: Path) -> None:
    full = pytest.raises(StorageError, match=r"made: cannot be written \(No space left")
    with full, replacement(tmp_path / "made"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match="no such model"), replacement(tmp_path / "made"):
        raise OSError("no such model")
    assert not list(tmp_path.iterdir())


def test_an_unreadable_folder_is_not_taken_for_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    seal(tmp_path, {})
    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(StorageError, match=r"cannot be read \(Permission denied"):
        unseal(tmp_path)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        build_once(tmp_path / "file" / "made", lambda folder: {})


def write_more(folder: Path) -> None:
    with replacement(folder) as fresh:
        (fresh / "weights").write_bytes(bytes(10_000))


def test_a_limit_on_the_size_of_files_is_told(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="this system has no limits on files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    folder = tmp_path / "weights"
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError) as caught:
            write_more(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == f"{folder}: cannot be written (File too large)"
    assert list(tmp_path.iterdir()) == []
