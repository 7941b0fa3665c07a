"""The way into a command: arguments, workers, and only then the imports of what trains.

The imports take seconds. Workers start in that time, and a fault of the arguments is told before it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from contextlib import ExitStack, closing

from harness.cli.arguments import parser, read_request
from harness.cli.connection import connect
from harness.cli.listing import show_list
from harness.errors import UserError, one_line
from harness.runtime import interrupt
from harness.runtime.progress import say

BAD_INPUT = 2


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command of `harness.study`; returns its exit code."""
    options = parser().parse_intermixed_args(arguments)
    if options.debug:
        logging.basicConfig()
        logging.getLogger("harness").setLevel(logging.INFO)
    try:
        if options.list is not None:
            show_list(options.list, options.json)
            return 0
        return _run(options)
    except UserError as error:
        if options.debug:
            raise
        say(f"error: {one_line(error)}")
        return BAD_INPUT


def _run(options: argparse.Namespace) -> int:
    request = None if options.replay is not None else read_request(options)
    with ExitStack() as stack:
        cluster = None
        if request is not None and not request.dry_run and request.config.cluster.kind != "local":
            cluster = stack.enter_context(closing(connect(request.config)))
        from harness.cli import command

        interrupt.check()
        if request is None:
            return command.replay_run(options)
        return command.run_study(request, cluster)
