"""Progress of long work on stderr: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_SECONDS = 10.0
"""Seconds between two lines outside of a terminal."""


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the label, the number of steps done and the time left. Yields a function `advance(steps)`."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda steps: bar.advance(task, steps)
        return
    lines = _PlainProgress(label, total)
    yield lines.advance
    lines.end()


def say(text: str) -> None:
    """Print one line on stderr."""
    print(text, file=sys.stderr, flush=True)


class _PlainProgress:
    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.steps = label, total, 0
        self.start = self.last_line = time.monotonic()

    def advance(self, steps: int) -> None:
        self.steps += steps
        moment = time.monotonic()
        if moment - self.last_line >= PLAIN_SECONDS and self.steps < self.total:
            self.last_line = moment
            seconds = (moment - self.start) / self.steps * (self.total - self.steps)
            say(f"{self.label}: {self.steps}/{self.total} steps, {seconds:.0f} s left")

    def end(self) -> None:
        say(f"{self.label}: {self.steps} steps in {time.monotonic() - self.start:.1f} s")
