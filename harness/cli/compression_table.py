"""The table of what the compression bought: sizes and speeds of teachers and students."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from harness.storage.compression import Compression, Timing
from harness.storage.manifest import Manifest


def compression_table(manifest: Manifest) -> Table:
    """A row for the teacher and one for the students of each task, in each cell."""
    timings = [sizes.timing for sizes in manifest.compression.values() if sizes.timing is not None]
    table = Table(title=f"teacher and students{_place(timings)}")
    for column in ("task", "model", "parameters", "no embeddings", "MiB", "MFLOPs (tokens)"):
        table.add_column(column)
    for column in ("latency, ms", "examples/s", "speed-up") if timings else ():
        table.add_column(column)
    for task, sizes in manifest.compression.items():
        for row in _rows(sizes, has_speeds=bool(timings)):
            table.add_row(escape(task), *row)
    return table


def _place(timings: list[Timing]) -> str:
    """The devices on which speeds were measured."""
    places = dict.fromkeys(f"{timing.device}, {timing.threads} thread(s)" for timing in timings)
    return f" (on {'; '.join(places)})" if places else ""


def _rows(sizes: Compression, *, has_speeds: bool) -> list[list[str]]:
    rows = []
    for name, size, speed in sizes.models:
        row = [
            name,
            f"{size.parameters:,}",
            f"{size.body_parameters:,}",
            f"{size.weight_bytes / 2**20:.1f}",
            f"{size.flops / 1e6:,.1f} ({size.length})",
        ]
        if speed is not None and sizes.timing is not None:
            speed_up = sizes.timing.speed_up if name == "student" else 1.0
            row += [f"{1000 * speed.latency:.2f}", f"{speed.throughput:,.0f}", f"{speed_up:.1f}x"]
        elif has_speeds:
            row += ["", "", ""]
        rows.append(row)
    return rows
