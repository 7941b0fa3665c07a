"""The command: `python -m harness.study --method alp --task rte`."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from harness.runtime import interrupt
from harness.runtime.imports import import_at_once
from harness.runtime.output import exit_code, leave
from harness.runtime.progress import say, silence
from harness.runtime.threads import limit_spinning

BY_SIGNAL = 128
"""The exit code of a command that a signal ended is this plus the signal's number, as in shells."""
SIGNAL_SECONDS = 0.5
"""Seconds in which the signal of a closed terminal comes."""
INTERRUPTED = BY_SIGNAL + signal.SIGINT
GO_ON = "interrupted: the same command goes on where this one stopped"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    The code is 0; 1 if runs failed or a repeated run differs; 2 for bad input; 130 for Ctrl-C, 143 for
    SIGTERM and 129 for SIGHUP (a closed terminal); 141 for a closed pipe; 4 if stdout is full.
    """
    limit_spinning()  # before torch is imported
    run = _import_command()
    code, is_interrupted = 0, False
    with interrupt.listen():
        try:
            code = exit_code(lambda: run(arguments))
        except KeyboardInterrupt:
            is_interrupted = True
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EIO:
                # A write to a terminal that closes may fail just before SIGHUP comes.
                with suppress(KeyboardInterrupt):
                    time.sleep(SIGNAL_SECONDS)
            if interrupt.first_signal() is None:
                raise
            is_interrupted = True
    number = interrupt.first_signal()
    if is_interrupted or (code and number is not None):
        _say_go_on()
        return INTERRUPTED if number is None else BY_SIGNAL + number
    return code


def _import_command() -> Callable[[Sequence[str] | None], int]:
    """Import the way into the command. A library may swallow a signal while it is imported."""
    with interrupt.handle_signals(_leave):
        import_at_once("harness.cli.entrance")
        from harness.cli.entrance import run
    return run


def _leave(number: int, frame: FrameType | None) -> None:
    _say_go_on()
    os._exit(BY_SIGNAL + number)


def _say_go_on() -> None:
    try:
        say(GO_ON)
    except OSError:
        # The terminal is closed. Python would try the line once more when it ends, and change the code.
        silence(sys.stdout)
        silence(sys.stderr)


def entry() -> None:
    """The console script."""
    leave(main())


if __name__ == "__main__":
    entry()
