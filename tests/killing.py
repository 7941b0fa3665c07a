"""Studies in processes of their own that can be killed at a chosen moment, and what they leave.

A server process imports everything once and forks for each study, so that a study costs no start.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import signal
import sqlite3
import sys
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["tests.killing", "harness.cli.entrance", "harness.cli.command", "reports.report", "torch"]
)
IN_TRAINING = -1
SECONDS = 300
"""No study here takes longer: one that does waits for something that will not come."""
WRITES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}


@dataclass
class Moments:
    """Counts what changes the runs folder and dies at a chosen count; 0 never dies.

    At IN_TRAINING it dies when a run is trained and not yet written.
    """

    out: str
    deadly: int
    passed: int = 0

    def watch(self) -> None:
        """Count file operations on the folder, and transactions as they begin and as they commit."""
        from sqlalchemy import Engine, event

        sys.addaudithook(self._audit)
        for name in ("begin", "commit"):
            event.listen(Engine, name, self._pass)

    def _audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        writes = name in WRITES or (name == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if writes and str(arguments[0]).startswith(self.out):
            self._pass()

    def _pass(self, *unused: Any) -> None:
        self.passed += 1
        if self.passed == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)


def _study(arguments: list[str], notes: Path, moments: Moments) -> None:
    """Run the command; its output, exit code and what it wrote lie in `notes` afterwards."""
    import torch

    from harness.storage.ledger import Ledger
    from harness.study import main

    torch.set_num_threads(1)
    write_runs = Ledger.write_runs

    def noted(self: Ledger, results: Any) -> list[bool]:
        if moments.deadly == IN_TRAINING:
            os.kill(os.getpid(), signal.SIGKILL)
        inserted = write_runs(self, results)
        with notes.with_suffix(".runs").open("a") as stream:
            for result, new in zip(results, inserted, strict=True):
                stream.write(f"{result.record.fingerprint} {new}\n")
        return inserted

    Ledger.write_runs = noted  # type: ignore[method-assign]
    moments.watch()
    printed = io.StringIO()
    with (
        notes.with_suffix(".err").open("a") as errors,
        contextlib.redirect_stderr(errors),
        contextlib.redirect_stdout(printed),
    ):
        code = main([*arguments, "threads=1"])
    answer = {"code": code, "printed": printed.getvalue(), "moments": moments.passed}
    notes.with_suffix(".json").write_text(json.dumps(answer))


class Study:
    """One command in a process of its own. `notes` is a path whose suffix is replaced."""

    def __init__(self, arguments: list[str], out: Path, notes: Path, deadly: int = 0) -> None:
        self.notes = notes
        notes.with_suffix(".json").unlink(missing_ok=True)
        self.process: ForkServerProcess = CONTEXT.Process(
            target=_study, args=(arguments, notes, Moments(str(out), deadly))
        )
        self.process.start()

    def join(self, seconds: float | None = None) -> bool:
        """Wait, for some seconds or for the end; returns whether the process has ended."""
        self.process.join(SECONDS if seconds is None else seconds)
        ended = self.process.exitcode is not None
        if seconds is None and not ended:
            self.kill()
            raise TimeoutError(self.notes.with_suffix(".err").read_text())
        return ended

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self.process.join()

    @property
    def killed(self) -> bool:
        """Whether it ended by SIGKILL."""
        return self.process.exitcode == -signal.SIGKILL

    def answer(self) -> dict[str, Any]:
        """`code`, `printed` and `moments` of a command that came to its end."""
        assert self.process.exitcode == 0, self.notes.with_suffix(".err").read_text()
        return dict(json.loads(self.notes.with_suffix(".json").read_text()))

    def writes(self) -> list[str]:
        """Fingerprints of the runs written by all commands with these notes; none is doubled."""
        notes = self.notes.with_suffix(".runs")
        pairs = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
        assert all(inserted == "True" for _, inserted in pairs), "a run was trained a second time"
        return [fingerprint for fingerprint, _ in pairs]


def result(printed: str) -> dict[str, Any]:
    """A JSON summary without what differs between places and moments."""
    summary = json.loads(printed)
    return {key: value for key, value in summary.items() if key not in ("seconds", "report")}


QUERIES = {
    "runs": "SELECT fingerprint, inputs, status, reason, metrics, curves FROM harness_runs",
    "uses": "SELECT * FROM harness_study_runs",
    "studies": "SELECT name, manifest FROM harness_studies",
    "predictions": "SELECT * FROM harness_predictions",
    "inspections": "SELECT * FROM harness_inspections",
    "texts": "SELECT * FROM harness_texts",
    "trials": "SELECT study_name, number, state FROM trials JOIN studies USING (study_id)",
    "values": "SELECT study_name, number, value FROM trial_values JOIN trials USING (trial_id) "
    "JOIN studies USING (study_id)",
    "params": "SELECT study_name, number, param_name, param_value FROM trial_params "
    "JOIN trials USING (trial_id) JOIN studies USING (study_id)",
    "claims": "SELECT key FROM harness_claims",
}


def contents(folder: Path) -> dict[str, Any]:
    """Everything a study measured and asked, without times and places."""
    with sqlite3.connect(folder / "ledger.db") as database:
        found = {name: sorted(map(repr, database.execute(q))) for name, q in QUERIES.items()}
    database.close()
    return found


def rows(url: str) -> dict[str, Any]:
    """The same for a database of any kind."""
    from sqlalchemy import create_engine

    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            name: sorted(repr(tuple(row)) for row in connection.exec_driver_sql(query))
            for name, query in QUERIES.items()
        }
    engine.dispose()
    return found


def files(folder: Path) -> set[str]:
    """All paths below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
