"""Claims: held by one owner, and outliving no process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.errors import StorageError
from harness.storage.claims import EXPIRY_SECONDS, Claims, ClaimTable
from harness.storage.ledger import Ledger
from harness.storage.outages import Outage


def test_a_claim_is_held_by_one_and_given_back(ledger: Ledger) -> None:
    ours, theirs = Claims(ledger), Claims(ledger)
    theirs.owner = ours.owner.replace(":", ":1", 1) + "1"
    living = ours.owner
    with ours.claim("run") as mine:
        assert mine
        assert list(ClaimTable(ledger).owners()) == [living]
        assert not ClaimTable(ledger).take("run", "elsewhere:1:1.00", {})
        with theirs.claim("run") as too:
            assert not too
    assert ClaimTable(ledger).take("run", "elsewhere:1:1.00", {})


def test_a_dead_process_loses_its_claim_at_once(ledger: Ledger) -> None:
    code = (
        "import os, sys\n"
        "from harness.storage.claims import Claims\n"
        "from harness.storage.ledger import Ledger\n"
        "held = Claims(Ledger(sys.argv[1])).claim('run'); assert held.__enter__(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, ledger.url], check=True)
    assert len(ClaimTable(ledger).owners()) == 1
    with Claims(ledger).claim("run") as mine:
        assert mine


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="needs waitid")
def test_a_killed_process_that_nobody_waited_for_loses_its_claim(ledger: Ledger) -> None:
    code = (
        "import os, sys\n"
        "from harness.storage.claims import Claims\n"
        "from harness.storage.ledger import Ledger\n"
        "held = Claims(Ledger(sys.argv[1])).claim('run'); assert held.__enter__()\n"
        "print(flush=True); os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen([sys.executable, "-c", code, ledger.url], stdout=subprocess.PIPE) as died:
        assert died.stdout is not None
        assert died.stdout.read() == b"\n"
        os.waitid(os.P_PID, died.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        with Claims(ledger).claim("run") as mine:
            assert mine


def test_entering_removes_the_claims_of_those_that_are_gone_and_no_others(ledger: Ledger) -> None:
    code = (
        "import os, sys\n"
        "from harness.storage.claims import Claims\n"
        "from harness.storage.ledger import Ledger\n"
        "held = Claims(Ledger(sys.argv[1])).claim('run'); assert held.__enter__(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, ledger.url], check=True)
    assert ClaimTable(ledger).take("other", "elsewhere:1:1.00", {})
    with Claims(ledger):
        assert list(ClaimTable(ledger).owners()) == ["elsewhere:1:1.00"]


def test_an_owner_elsewhere_loses_its_claim_when_its_heartbeat_stands_still(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By our own clock alone: the owner's is an hour behind, and alive all the same."""
    now, elsewhere, ours = 1000.0, "elsewhere:1:1.00", Claims(ledger)
    monkeypatch.setattr("harness.storage.claims.time.monotonic", lambda: now)
    monkeypatch.setattr("harness.storage.claims.time.time", lambda: now - 3600)
    assert ClaimTable(ledger).take("run", elsewhere, {})
    for _ in range(20):
        now += EXPIRY_SECONDS / 2
        ClaimTable(ledger).refresh(elsewhere)
        with ours.claim("run") as mine:
            assert not mine
    now += EXPIRY_SECONDS + 1
    with ours.claim("run") as mine:
        assert mine


def test_an_owner_that_gave_a_sign_meanwhile_keeps_its_claim(ledger: Ledger) -> None:
    assert ClaimTable(ledger).take("run", "elsewhere:1:1.00", {})
    gone = ClaimTable(ledger).owners()
    ClaimTable(ledger).refresh("elsewhere:1:1.00")
    assert not ClaimTable(ledger).take("run", "here:1:1.00", gone)
    assert ClaimTable(ledger).take("run", "here:1:1.00", ClaimTable(ledger).owners())


def test_another_process_with_the_owners_number_is_not_the_owner(ledger: Ledger) -> None:
    ours = Claims(ledger)
    home_and_pid = ours.owner.rpartition(":")[0]
    assert ClaimTable(ledger).take("run", f"{home_and_pid}:1", {})
    with ours.claim("run") as mine:
        assert mine


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs Linux's /proc")
def test_a_step_of_the_clock_makes_nobody_dead(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psutil reckons dates of creation from the wall clock: after a step all of them have moved."""
    ours = Claims(ledger)
    with ours.claim("run") as mine:
        assert mine
        created = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + 3600)
        theirs = Claims(ledger)
        assert theirs.owner == ours.owner
        theirs.owner = "elsewhere:1:1"
        with theirs.claim("run") as too:
            assert not too


def test_the_heartbeats_of_others_are_counted_anew_after_an_outage(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could write during the outage: an owner elsewhere gets the whole time again."""
    now, ours = 1000.0, Claims(ledger)
    monkeypatch.setattr("harness.storage.claims.time.monotonic", lambda: now)
    assert ClaimTable(ledger).take("run", "elsewhere:1:1", {})
    with ours.claim("run") as mine:
        assert not mine
    now += EXPIRY_SECONDS + 1
    ledger.outages.count += 1
    with ours.claim("run") as mine:
        assert not mine
    now += EXPIRY_SECONDS + 1
    with ours.claim("run") as mine:
        assert mine


def test_a_beat_that_an_outage_swallows_is_not_told(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beats: list[str] = []

    def refresh(owner: str) -> None:
        beats.append(owner)
        raise Outage("no answer") if len(beats) < 3 else StorageError("the disk is full")

    claims = Claims(ledger)
    monkeypatch.setattr(claims.table, "refresh", refresh)
    monkeypatch.setattr("harness.storage.claims.BEAT_SECONDS", 0.01)
    with claims:
        deadline = time.monotonic() + 10
        while len(beats) < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
    (line,) = capsys.readouterr().err.splitlines()  # once, whatever the number of beats
    assert line.endswith("could not be renewed: the disk is full")


def test_the_heartbeat_outlives_a_failed_write(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beats: list[str] = []

    def refresh(owner: str) -> None:
        beats.append(owner)
        if len(beats) == 1:
            raise StorageError("the disk is full")

    claims = Claims(ledger)
    monkeypatch.setattr(claims.table, "refresh", refresh)
    monkeypatch.setattr("harness.storage.claims.BEAT_SECONDS", 0.01)
    with claims:
        deadline = time.monotonic() + 10
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(beats) >= 3
    assert "could not be renewed: the disk is full" in capsys.readouterr().err
