"""Runs: a method with one setting and one seed, trained once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.method import Method, Value
from harness.storage.record import Role, RunInputs

SEARCH_SEED = 1_000_000
"""Search seeds start here, report seeds at 1: they never meet."""
REPEAT_SEEDS = 1_000
"""The distance between the seeds of one repeat and those of the next."""


@dataclass(frozen=True)
class Run:
    """A method, a setting and a seed, in one role. A run's result depends on `inputs` alone."""

    method: type[Method]
    study: str
    trial: int
    seed: int
    role: Role
    setting: Mapping[str, Value]
    inputs: RunInputs

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the inputs, which hold no counts of trials or seeds."""
        return self.inputs.fingerprint


def report_seeds(count: int, repeat: int = 0) -> list[int]:
    """The seeds of report runs, the same for every method; each repeat has its own."""
    start = 1 + repeat * REPEAT_SEEDS
    return list(range(start, start + count))


def search_seeds(count: int, repeat: int = 0) -> list[int]:
    """The seeds of search runs, the same for every method and trial; each repeat has its own."""
    start = SEARCH_SEED + repeat * REPEAT_SEEDS
    return list(range(start, start + count))
