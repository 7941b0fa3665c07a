"""The command: `python -m harness.study --method alp --task rte`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.progress import say

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 when runs failed, 2 for bad input, 130 for Ctrl-C."""
    try:
        from harness.command import run  # torch takes seconds, in which Ctrl-C is met too

        return run(arguments)
    except KeyboardInterrupt:
        say("interrupted: the same command goes on where this one stopped")
        return INTERRUPTED


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
