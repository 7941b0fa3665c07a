"""Populations that raise are trained again by halves, down to runs that cannot be separated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.runtime.failures import RunFailed, convert_failures, is_out_of_memory
from harness.runtime.memory import free_memory
from harness.runtime.progress import say
from harness.storage.record import Result
from harness.training.halving import round_of
from harness.training.run import Run
from harness.workers.outcomes import failed_result
from harness.workers.trainer import Keep, Trainer


@dataclass(frozen=True)
class PopulationResults:
    """The results of a population's runs, and the size that fits where memory was short, else None."""

    results: tuple[Result, ...]
    size: int | None


def inseparable_groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Groups that must be trained whole: with rungs a method's round, else each run by itself."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = run.fingerprint if run.inputs.halving is None else round_of(run)
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def halves_of(runs: Sequence[Run]) -> tuple[list[Run], ...]:
    """The two halves of a population; nothing where the population cannot be divided."""
    groups = inseparable_groups(runs)
    if len(groups) == 1:
        return ()
    half = (len(groups) + 1) // 2
    return tuple(
        [run for group in part for run in group] for part in (groups[:half], groups[half:])
    )


def train_by_halves(
    trainer: Trainer, runs: Sequence[Run], advance: Callable[[int], None], keep: Keep | None
) -> PopulationResults:
    """Train runs together. Where that raises, train each half by itself, down to inseparable groups."""
    results: list[Result] = []
    size = None
    parts = [runs]
    while parts:
        part = parts.pop(0)
        part_results, reason = train_together(trainer, part, advance, keep)
        results += part_results
        if reason is None:
            continue
        halves = halves_of(part)
        if not halves:
            results += [failed_result(run, reason) for run in part]
            continue
        parts[:0] = halves
        if is_out_of_memory(reason):
            size = len(halves[0])
        say(f"warning: {len(part)} runs together: {reason}; going on with {len(halves[0])}")
        free_memory()
    return PopulationResults(tuple(results), size)


def train_together(
    trainer: Trainer,
    runs: Sequence[Run],
    advance: Callable[[int], None],
    keep: Keep | None = None,
) -> tuple[list[Result], str | None]:
    """Results of runs, or the reason where they cannot be trained together.

    The exception itself would keep the population alive, and with it the population's memory.
    """
    try:
        with convert_failures():
            return [entry.result for entry in trainer.train(runs, advance, keep)], None
    except RunFailed as error:
        return [], str(error)
