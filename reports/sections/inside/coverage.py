"""The records of a task, and the examples and seeds that they cover, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from harness.analysis.inspections import Coverage, Key, Likeness
from harness.pooling_table import pooling_row
from reports.evidence import Evidence
from reports.kit.blocks import Block
from reports.kit.palette import Styles

T = TypeVar("T")

NOT_RECORDED = "Not recorded: looking inside these runs failed. The command printed the reason."


def of_task(records: Mapping[Key, T], task: str, styles: Styles) -> dict[str, T]:
    """A task's records by method, in the order of the page."""
    return {method: records[task, method] for method in styles if (task, method) in records}


def not_recorded(evidence: Evidence, task: str) -> Block:
    """A block with the text `NOT_RECORDED`; empty before the first report run."""
    has_runs = any(name == task for name, _ in evidence.internals.finished_keys)
    return Block(evidence.task_label(task), (NOT_RECORDED,)) if has_runs else Block("")


def first_method(evidence: Evidence, methods: Iterable[str]) -> str:
    """The method that a figure shows first: the first method after the baseline."""
    others = [method for method in methods if method != evidence.manifest.baseline]
    return (others or list(methods))[0]


def pooled_states_text(likeness: Mapping[str, Likeness]) -> str:
    """The pooling, the examples and the seeds of some methods' records."""
    pooling = next(iter(likeness.values())).pooling
    coverage = coverage_text(*(record.coverage for record in likeness.values()))
    return f"{pooling_row(pooling).words} of {coverage}"


def coverage_text(*coverages: Coverage) -> str:
    """The examples and the seeds of records, as ranges if records differ."""
    examples = _range_text([record.examples for record in coverages])
    seeds = _range_text([record.seeds for record in coverages])
    return f"{examples} examples of {coverages[0].split}, {seeds} run{'' if seeds == '1' else 's'}"


def _range_text(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"
