"""The page of a study while its command runs: when it is written, and what it knows of the training."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.analysis.compare import read_ablation
from harness.analysis.repeats import read_parts
from harness.analysis.results import MethodResult
from harness.errors import StorageError
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest
from reports.kit.files import write_whole
from reports.page.index import REPORT
from reports.page.running import render_running
from reports.page.status import Progress, progress
from reports.report import build_index


class RunningPage:
    """The page of a study while its command runs, at the place of the report.

    It is written again after runs have ended, and while they train. Its time stays below `SHARE` of the
    command's.
    """

    SHARE = 0.05

    def __init__(self, ledger: Ledger, runs: Path, warn: Callable[[str], object]) -> None:
        """`warn` is told when a page cannot be written."""
        self.warn = warn
        self.ledger = ledger
        self.runs = runs
        self._view: tuple[Manifest, Sequence[MethodResult], Progress] | None = None
        """What the last page showed."""
        self._start: tuple[float, int] | None = None
        """When the first page was made, and how many runs had ended then."""
        self._trained = 0.0
        """The runs that this command has trained, with the parts of those that train."""
        self._next = 0.0
        self._lock = threading.Lock()

    def update(self, ablation: str) -> None:
        """Write the page if it is time for it."""
        if time.monotonic() >= self._next:
            self._write(ablation, is_running=True)

    def stop(self, ablation: str) -> None:
        """Write the page of a study that is stopped."""
        self._write(ablation, is_running=False)

    def advance(self, runs: float) -> None:
        """Note a part of a run that has been trained. The page says so, without a look at the ledger."""
        self._trained += runs
        is_time = self._view is not None and time.monotonic() >= self._next
        if is_time and self._lock.acquire(blocking=False):
            try:
                self._show(is_running=True)
            finally:
                self._lock.release()

    def _write(self, ablation: str, *, is_running: bool) -> None:
        """Write the page with what the ledger has, unless all runs have ended, when the report follows.

        A page that cannot be written stops no training.
        """
        begin = time.monotonic()
        with self._lock:
            manifest = self.ledger.manifest(ablation)
            results = [row for part in read_parts(self.ledger, manifest).values() for row in part]
            results = results or list(read_ablation(self.ledger, ablation).results)
            state = progress(manifest, results)
            first, self._view = self._start is None, None
            self._start = self._start or (begin, state.ended)
            if state.is_finished:
                return
            self._view = manifest, results, state
            self._show(is_running=is_running)
            if first or not is_running:
                try:
                    build_index(self.ledger, self.runs)
                except StorageError as error:
                    self.warn(f"warning: the index is not written: {error}")
            self._wait(begin)

    def _show(self, *, is_running: bool) -> None:
        assert self._view is not None
        assert self._start is not None
        begin = time.monotonic()
        manifest, results, state = self._view
        start, ended = self._start
        trained = min(max(ended + self._trained, state.ended), state.planned)
        left = None
        if trained > ended:
            left = (begin - start) / (trained - ended) * (state.planned - trained)
        text = render_running(
            manifest, results, is_running=is_running, trained=trained, seconds_left=left
        )
        try:
            write_whole(self.runs / manifest.name / REPORT, text)
        except StorageError as error:
            self.warn(f"warning: the page of the running study is not written: {error}")
        self._wait(begin)

    def _wait(self, begin: float) -> None:
        """Let time pass before the next page, in proportion to the time since `begin`."""
        end = time.monotonic()
        self._next = end + (end - begin) / self.SHARE
