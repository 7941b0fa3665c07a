"""PostgreSQL goes away under workers: nothing is lost, nothing is written twice."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StorageError
from harness.storage.claims import Claims
from harness.storage.ledger import Ledger
from tests.conftest import small_pools
from tests.killing import Study, result, rows
from tests.postgres import LossyProxy, Server, running_server
from tests.storage_worker import READY, TRIALS, work

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(server: Server) -> dict[str, Any]:
    """The tables that one undisturbed worker leaves."""
    url = server.new_database("undisturbed")
    with closing(Ledger(url)) as ledger, Claims(ledger) as claims:
        assert work(ledger, claims, seconds=0) == list(range(TRIALS))
    left = rows(url)
    assert [len(left[name]) for name in ("runs", "trials", "values", "uses")] == [TRIALS] * 4
    assert left["claims"] == []
    return left


def test_workers_outlive_restarts_and_ended_sessions(
    server: Server, undisturbed: dict[str, Any]
) -> None:
    url = server.new_database("restarted")
    command = [sys.executable, "-m", "tests.storage_worker", url]
    workers = [
        subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for worker in workers:  # a database that never answered is taken for a wrong URL
        assert worker.stdout is not None
        assert worker.stdout.readline() == f"{READY}\n"
    with closing(Ledger(url)) as ledger:
        while not ledger.records([f"{1:064d}"]):
            time.sleep(0.05)
    for mode, seconds in (("fast", 0.0), ("immediate", 1.0), ("fast", 4.0)):
        server.restart(mode, seconds)
        time.sleep(0.5)
        server.terminate_sessions()
    answers = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], answers
    written = [int(number) for printed, _ in answers for number in printed.split()]
    assert sorted(written) == list(range(TRIALS))
    assert rows(url) == undisturbed
    for _, told in answers:
        waits = [line for line in told.splitlines() if line.startswith("waiting for the database:")]
        assert 1 <= len(waits) <= 6, told  # one line for an outage, whatever the number of attempts
        assert "Traceback" not in told


def test_a_commit_whose_answer_is_lost_is_applied_once(
    server: Server, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.storage.outages.FIRST_PAUSE", 0.02)
    direct = server.new_database("lossy")
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        proxy = LossyProxy(server, Path(folder))
        url = direct.replace(str(server.folder), folder)
        with closing(Ledger(url)) as ledger, Claims(ledger) as claims:
            proxy.loses = True
            assert work(ledger, claims, seconds=0) == list(range(TRIALS))
            proxy.loses = False
        proxy.close()
    assert proxy.lost > TRIALS / 2
    assert rows(direct) == undisturbed


def test_a_wrong_server_password_or_database_is_refused_at_once(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    start = time.monotonic()
    for url in (server.url("missing"), "postgresql+psycopg://harness@127.0.0.1:9/postgres"):
        with pytest.raises(StorageError, match="ledger postgresql"):
            Ledger(url)
    assert time.monotonic() - start < 3
    assert "waiting" not in capsys.readouterr().err


def test_an_outage_that_lasts_ends_in_one_line(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.storage.outages.WAIT_SECONDS", 1.0)
    with closing(Ledger(server.new_database("gone"))) as ledger, Claims(ledger) as claims:
        start = time.monotonic()
        told = pytest.raises(StorageError, match=r"\(the command waited 1 s\)$")
        with told, claims.claim("run"):
            server.stop("fast")
            ledger.ablations()
        assert time.monotonic() - start < 10
        server.start()
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("waiting for the database: ledger postgresql+psycopg://harness@")
    assert last.startswith("the database is back after ")


@pytest.mark.parametrize(
    ("drivers", "trials", "gap"), [(1, 4, 0.5), pytest.param(8, 40, 8.0, marks=pytest.mark.proof)]
)
def test_drivers_go_on_after_restarts(
    server: Server, tmp_path: Path, tiny_encoder: Path, drivers: int, trials: int, gap: float
) -> None:
    answers = []
    notes = [tmp_path / f"notes-{number}" for number in range(drivers + 1)]
    for name, its_notes in (("still", notes[:1]), ("shaken", notes[1:])):
        url, out = server.new_database(f"{name}{drivers}"), tmp_path / name
        given = small_pools(out, tiny_encoder, f"storage='{url}'", "--trials", str(trials))
        studies = [Study(given, out, one) for one in its_notes]
        if name == "shaken":
            with closing(
                Ledger(url)
            ) as ledger:  # a database that never answered is taken for a wrong URL
                while not ledger.study_names() and not studies[0].join(0.05):
                    pass
            for mode in ("fast", "immediate", "fast"):
                studies[0].join(gap)
                server.restart(mode, 4.0 if drivers > 1 else 1.0)
        for study in studies:
            study.join()
        answers += [study.answer() for study in studies]
    assert [answer["code"] for answer in answers] == [0] * len(answers)
    undisturbed, *others = (result(answer["printed"]) for answer in answers)
    assert all(other == undisturbed for other in others)
    names = ("runs", "uses", "trials", "values", "params", "claims", "predictions")
    still, shaken = (rows(server.url(f"{name}{drivers}")) for name in ("still", "shaken"))
    assert all(still[name] == shaken[name] for name in names)
    written = list(chain(*(study.writes() for study in studies)))
    assert len(written) == len(set(written)) == 2 * trials
    waiting = [one.with_suffix(".err").read_text() for one in notes[1:]]
    assert sum("waiting for the database" in text for text in waiting) == drivers
