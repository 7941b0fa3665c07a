"""Which records there are of a task, and in words how much they cover."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from harness.analysis.inside import Key, Likeness, Seen
from harness.pooling_table import pooling_row
from reports.evidence import Evidence
from reports.kit.blocks import Block
from reports.kit.palette import Styles

T = TypeVar("T")

NOT_RECORDED = "Not recorded: looking inside these runs failed, and the command said why."


def of_task(records: Mapping[Key, T], task: str, styles: Styles) -> dict[str, T]:
    """A task's records by method, in the order of the page."""
    return {method: records[task, method] for method in styles if (task, method) in records}


def not_recorded(evidence: Evidence, task: str) -> Block:
    """A block that says that nothing was recorded; empty before the first report run."""
    finished = any(name == task for name, _ in evidence.internals.looked)
    return Block(evidence.task_label(task), (NOT_RECORDED,)) if finished else Block("")


def first_method(evidence: Evidence, methods: Iterable[str]) -> str:
    """The method that a figure shows first: the first one that is not the baseline."""
    others = [method for method in methods if method != evidence.manifest.baseline]
    return (others or list(methods))[0]


def pooled_states_text(likeness: Mapping[str, Likeness]) -> str:
    """The pooling, the examples and the seeds of some methods' records."""
    pooling = next(iter(likeness.values())).pooling
    return (
        f"{pooling_row(pooling).words} of {coverage_text(*(one.seen for one in likeness.values()))}"
    )


def coverage_text(*coverages: Seen) -> str:
    """The examples and the seeds of records, as ranges where records differ."""
    examples = _range_text([one.examples for one in coverages])
    seeds = _range_text([one.seeds for one in coverages])
    return f"{examples} examples of {coverages[0].split}, {seeds} seed{'' if seeds == '1' else 's'}"


def _range_text(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"
