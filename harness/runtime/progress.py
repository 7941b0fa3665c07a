"""Progress of long work on stderr: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Gives `advance(steps)`; shows the label, the share done and the time left."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as live:
            task = live.add_task(label, total=total)
            yield lambda steps: live.advance(task, steps)
        return
    plain = _PlainProgress(label, total)
    yield plain.advance
    plain.end()


def say(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)


class _PlainProgress:
    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done = label, total, 0
        self.started = self.shown = time.monotonic()

    def advance(self, steps: int) -> None:
        self.done += steps
        now = time.monotonic()
        if now - self.shown >= PLAIN_SECONDS and self.done < self.total:
            self.shown = now
            left = (now - self.started) / self.done * (self.total - self.done)
            say(f"{self.label}: {self.done}/{self.total} steps, {left:.0f} s left")

    def end(self) -> None:
        say(f"{self.label}: {self.done} steps in {time.monotonic() - self.started:.1f} s")
