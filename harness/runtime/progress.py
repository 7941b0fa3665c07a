"""Progress of long work on stderr: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_sink: Callable[[str], object] | None = None

PLAIN_SECONDS = 10.0
"""Seconds between two lines outside of a terminal."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF}
"""The system's errors of a stream that takes no more text."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that a terminal obeys and does not show; line ends and tabs are not among them."""


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the label, the number of steps done and the time left. Yields a function `advance(steps)`.

    Several blocks may be open at the same time. A terminal shows a bar for each of them.
    """
    if _sink is None and Console(stderr=True).is_terminal:
        with _BARS.bar(label, total) as advance:
            yield advance
        return
    lines = _PlainProgress(label, total)
    yield lines.advance
    lines.end()


def say(text: str) -> None:
    """Print one line on stderr, or give it to the sink of `redirected`. A full stderr loses lines.

    Control characters, which a method's error may have, are spelled: `\\x00`.
    """
    text = CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    if _sink is not None:
        _sink(text)
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError as error:
        if error.errno not in FULL:
            raise
        # The work goes on without its lines: the results lie in the ledger.
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Lead a stream nowhere. Python would complain of the text that the stream holds when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


@contextmanager
def redirected(sink: Callable[[str], object]) -> Iterator[None]:
    """Give this process's lines to `sink` in the block. Progress then comes in plain lines."""
    global _sink
    outer_sink, _sink = _sink, sink
    try:
        yield
    finally:
        _sink = outer_sink


class _Bars:
    """The bars of this process. They share one live display, since a terminal has room for one."""

    def __init__(self) -> None:
        self.display: Progress | None = None

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar of the display, which begins with its first bar and ends with its last one."""
        display = self.display or self._begin()
        task = display.add_task(label, total=total)
        try:
            yield lambda steps: display.advance(task, steps)
        finally:
            if display.task_ids == [task]:
                display.stop()
                self.display = None
            else:
                display.remove_task(task)

    def _begin(self) -> Progress:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        console = Console(stderr=True)
        self.display = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)
        self.display.start()
        return self.display


_BARS = _Bars()


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
