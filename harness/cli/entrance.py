"""The way into a command: arguments, workers, and only then the imports of what trains.

The imports take seconds. Workers start in that time, and a fault of the arguments is told before it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from harness.cli.arguments import parser, read_request
from harness.cli.choices import named_methods
from harness.cli.connection import connected
from harness.cli.listing import show_list
from harness.cli.method_check import show_checks
from harness.errors import UserError, one_line
from harness.own_packages import take_names
from harness.runtime import interrupt
from harness.runtime.imports import import_at_once
from harness.runtime.output import printing
from harness.runtime.progress import say

BAD_INPUT = 2


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command of `harness.study`; returns its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_intermixed_args(words)
    if options.debug:
        logging.basicConfig()
        logging.getLogger("harness").setLevel(logging.INFO)
    try:
        for line in take_names():
            say(line)
        if options.list is not None:
            with printing():
                show_list(options.list, options.json)
            return 0
        if options.check_method is not None:
            with printing():
                is_kept = show_checks(named_methods(options.check_method), options.json)
            return 0 if is_kept else BAD_INPUT
        return _run(options, words)
    except UserError as error:
        if options.debug:
            raise
        say(f"error: {one_line(error)}")
        return BAD_INPUT


def _run(options: argparse.Namespace, words: Sequence[str]) -> int:
    if options.replay is not None:
        from harness.cli.command import replay_run

        interrupt.check()
        return replay_run(options)
    request = read_request(options)
    with connected(request) as cluster:
        import_at_once("harness.cli.command")
        from harness.cli.command import run_study

        interrupt.check()
        return run_study(request, words, cluster)
