"""This process's stdout and stderr: characters that they lack, and streams that are full or closed."""

from __future__ import annotations

import argparse
import errno
import gc
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from rich.console import Console

from harness.errors import without_passwords
from harness.runtime.progress import FULL, say, silence

CLOSED = 141
"""The exit code of a command whose output nobody reads any more, as in shells."""
LEFT_OUT = 3
"""The exit code of a command that leaves a part out, and does the others."""
UNPRINTED = 4
"""The exit code of a command that is done and cannot print its answer."""

STRICT_HANDLERS = {"strict", "surrogateescape"}
"""How Python opens stdout. A user's PYTHONIOENCODING may name another handler, which stays."""


class OutputError(Exception):
    """stdout takes no text. The message says what is done nevertheless."""


class CommandParser(argparse.ArgumentParser):
    """argparse's parser, whose messages quote arguments without their passwords."""

    def error(self, message: str) -> NoReturn:
        """End the process with the usage and a message."""
        super().error(without_passwords(message))


class AnswerConsole(Console):
    """rich's console, but for its exit with code 1 when the reader has closed the pipe."""

    def on_broken_pipe(self) -> None:
        """Raise `BrokenPipeError`, as `print` does."""
        self.quiet = True
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def leave(code: int) -> NoReturn:
    """End the process with an exit code.

    Python's last garbage collection would walk through every object that lives, half a second after a
    large report.
    """
    gc.freeze()
    sys.exit(code)


def settle_streams() -> None:
    """Let stdout and stderr print every text: characters that an encoding lacks are escaped.

    A stream that the caller has closed leads nowhere. Python has None for it, and its number would go
    to the next file that is opened.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper) and stream.errors in STRICT_HANDLERS:
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def printing(done: str = "") -> Iterator[None]:
    """Print the block's text to its end. `done` is what the message of a failure adds.

    Raises:
        OutputError: stdout is full.
        BrokenPipeError: the reader of stdout has closed the pipe.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in FULL:
            raise
        silence(sys.stdout)
        more = f"; {done}" if done else ""
        raise OutputError(f"stdout cannot be written ({error.strerror}){more}") from error


def exit_code(command: Callable[[], int]) -> int:
    """The exit code of a command, also where its output is full or closed."""
    settle_streams()
    try:
        return command()
    except BrokenPipeError:
        silence(sys.stdout)
        return CLOSED
    except OutputError as error:
        say(f"error: {error}")
        return UNPRINTED
