"""The same study on PostgreSQL, by several commands at once, one of them killed."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import small_study
from tests.killing import Study, result

pytest.importorskip("psycopg", reason="needs the extra 'postgres'")


def binary(name: str) -> str:
    """A server program: on the path, or where Debian puts it."""
    found = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), ""
    )
    if not found:
        pytest.skip("no PostgreSQL server is installed")
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a fresh cluster on a socket in a folder of its own."""
    user: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        known = subprocess.run(["id", "postgres"], capture_output=True, check=False)
        if shutil.which("runuser") is None or known.returncode:
            pytest.skip("PostgreSQL does not run as root, and there is no user for it")
        user = ["runuser", "-u", "postgres", "--"]
    with tempfile.TemporaryDirectory(prefix="harness-") as name:  # sockets' paths must be short
        folder = Path(name)
        if user:
            shutil.chown(folder, "postgres")
        data, log = folder / "data", folder / "log"
        initdb = [binary("initdb"), "-D", data, "-U", "harness", "--auth=trust", "--no-sync"]
        subprocess.run([*user, *initdb], cwd=folder, check=True, capture_output=True)
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        control = [*user, binary("pg_ctl"), "-D", data, "-w"]
        start = [*control, "-o", options, "-l", log, "start"]
        subprocess.run(start, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        yield f"postgresql+psycopg://harness@/postgres?host={folder}"
        stop = [*control, "-m", "immediate", "stop"]
        subprocess.run(stop, cwd=folder, check=True, capture_output=True)


@pytest.mark.slow
def test_commands_share_a_database_and_outlive_a_killed_one(
    server: str, tmp_path: Path, tiny_encoder: Path
) -> None:
    more = ("--trials", "5", "--seeds", "3")
    alone = Study(small_study(tmp_path / "alone", tiny_encoder, *more), tmp_path, tmp_path / "one")
    alone.join()
    moments = alone.answer()["moments"]
    out = tmp_path / "runs"
    given = small_study(out, tiny_encoder, *more, f"storage='{server}'")
    killed = Study(given, out, tmp_path / "killed", moments // 3)
    others = [Study(given, out, tmp_path / f"other-{number}") for number in range(2)]
    for study in (killed, *others):
        study.join()
    assert killed.killed
    expected = result(alone.answer()["printed"])
    for study in others:
        answer = study.answer()
        assert answer["code"] == 0
        assert result(answer["printed"]) == expected
    written = [run for study in (killed, *others) for run in study.writes()]
    assert len(set(written)) == len(written)
    assert set(written) <= set(alone.writes())
    assert not (out / "ledger.db").exists()
