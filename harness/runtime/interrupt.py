"""A memory for the signals that end a command: Ctrl-C, SIGTERM and SIGHUP.

All of them raise `KeyboardInterrupt`. Some libraries turn it into an error of their own. After the first
signal only Ctrl-C interrupts once more. A shell sends SIGHUP twice when its terminal closes, and the
second must not break off what the command does to end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

DEFAULTS: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
}
"""The handlers that Python sets, by signal. A closed terminal sends SIGHUP, which Windows lacks."""
if hasattr(signal, "SIGHUP"):
    DEFAULTS[signal.SIGHUP] = signal.SIG_DFL

_first_signal: int | None = None


@contextmanager
def handle_signals(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Handle the signals in the block. A handler that another program has set stays in place.

    `nohup` sets one too: the system's, which ignores SIGHUP. Only the main thread may set handlers.
    """
    former = {}
    if threading.current_thread() is threading.main_thread():
        former = {
            number: default
            for number, default in DEFAULTS.items()
            if signal.getsignal(number) is default
        }
    for number in former:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, default in former.items():
            signal.signal(number, default)


@contextmanager
def listen() -> Iterator[None]:
    """Remember the signals in the block."""
    global _first_signal
    _first_signal = None
    with handle_signals(_remember):
        yield


def first_signal() -> int | None:
    """The number of the first signal since the last `listen` began, or None."""
    return _first_signal


def _remember(number: int, frame: FrameType | None) -> None:
    global _first_signal
    if _first_signal is None:
        _first_signal = number
    elif number != signal.SIGINT:
        return
    raise KeyboardInterrupt


def check(error: BaseException | None = None) -> None:
    """Stop a caller that would go on, where a library may have swallowed a signal.

    `error` is what the library made of it. Some libraries say nothing, as while they are imported.

    Raises:
        KeyboardInterrupt: a signal has arrived.
    """
    if _first_signal is not None:
        raise KeyboardInterrupt from error
