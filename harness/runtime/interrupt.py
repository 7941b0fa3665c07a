"""Ctrl-C, remembered: some libraries turn its `KeyboardInterrupt` into an error of their own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked = False


@contextmanager
def listening() -> Iterator[None]:
    """Remember Ctrl-C in the block; a handler that someone else has set is left alone."""
    global _asked
    _asked = False
    usual = signal.getsignal(signal.SIGINT)
    if usual is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def asked() -> bool:
    """Whether Ctrl-C was pressed since the last `listening` began."""
    return _asked


def _remember(number: int, frame: FrameType | None) -> None:
    global _asked
    _asked = True
    raise KeyboardInterrupt


def check(error: Exception) -> None:
    """For who would take an error as the failure of one part and go on.

    Raises:
        KeyboardInterrupt: it may be Ctrl-C in another shape.
    """
    if _asked:
        raise KeyboardInterrupt from error
