"""The command: `python -m harness.study --method alp --task rte`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from harness.runtime import interrupt
from harness.runtime.progress import say
from harness.runtime.threads import limit_spinning

INTERRUPTED, CLOSED = 130, 141
GO_ON = "interrupted: the same command goes on where this one stopped"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    The code is 0; 1 if runs failed or a repeated run differs; 2 for bad input; 130 for Ctrl-C; 141 for a
    closed pipe.
    """
    limit_spinning()  # before torch is imported
    run = _import_command()
    code = INTERRUPTED
    with interrupt.listen():
        try:
            code = run(arguments)
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:
            # The reader of stdout has closed the pipe. Python would complain when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = CLOSED
        except Exception:
            if not interrupt.was_pressed():
                raise
    if code == INTERRUPTED or (code and interrupt.was_pressed()):
        say(GO_ON)
        return INTERRUPTED
    return code


def _import_command() -> Callable[[Sequence[str] | None], int]:
    """Import the command. The import takes seconds, and a library may swallow Ctrl-C meanwhile."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, _leave)
    try:
        from harness.cli.command import run
    finally:
        if is_default:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    return run


def _leave(number: int, frame: FrameType | None) -> None:
    say(GO_ON)
    os._exit(INTERRUPTED)


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
