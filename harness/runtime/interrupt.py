"""A memory for Ctrl-C: some libraries turn its `KeyboardInterrupt` into an error of their own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_interruption = False


@contextmanager
def listen() -> Iterator[None]:
    """Remember Ctrl-C in the block. A handler that another program has set stays in place."""
    global _interruption
    _interruption = False
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def was_pressed() -> bool:
    """Whether Ctrl-C was pressed since the last `listen` began."""
    return _interruption


def _remember(number: int, frame: FrameType | None) -> None:
    global _interruption
    _interruption = True
    raise KeyboardInterrupt


def check(error: Exception) -> None:
    """Stop a caller that would go on after an error, where Ctrl-C may have caused the error.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    if _interruption:
        raise KeyboardInterrupt from error
