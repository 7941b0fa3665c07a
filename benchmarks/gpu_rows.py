"""The rows of `benchmarks.gpu`, measured in this process. `python -m benchmarks.gpu` starts it."""

from __future__ import annotations

import argparse
import copy
import gc
import importlib.util
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks import doubles, gpu_grid, gpu_steps, loops, scale, textbrewer_loop
from benchmarks.gpu import parser, row_names
from benchmarks.gpu_record import Record
from benchmarks.gpu_steps import Skip
from benchmarks.workload import MAX_LENGTH, Workload, make_workload
from harness.config import Precision
from harness.errors import UserError
from harness.models.teacher_outputs import TeacherOutputs
from harness.runtime.cpu import hold_memory, set_threads
from harness.runtime.device import choose_arithmetic, clock_seconds
from harness.runtime.memory import free_memory, lacks_memory

LARGE_PRODUCT = (8192, 8192, 8192)
COPIED_NUMBERS = (1 << 26, 1 << 29)
LAUNCHES = 2000
DOUBLE_BATCH, DOUBLE_STEPS = 8, 3


def main() -> int:
    """Measure the rows that the record lacks. Returns 1 if an error left the device unusable."""
    options = parser().parse_args()
    set_threads(options.threads)
    hold_memory()
    record = Record.read(options.out)
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows = Rows(options, record, Path(folder))
        except UserError as error:
            raise SystemExit(f"error: {error}") from error
        record.set_machine(rows.machine())
        return _measure_missing(rows)


def _measure_missing(rows: Rows) -> int:
    options, record = rows.options, rows.record
    for name in record.missing(row_names(options)):
        if time.time() >= options.end:
            return 0  # the other rows are skipped
        record.begin_row(name)
        start = time.perf_counter()
        values = _values(partial(rows.measure, name))
        record.end_row({**values, "row_seconds": time.perf_counter() - start})
        free_memory()
        if values["status"] == "failed" and not _device_works(rows.device):
            return 1
    return 0


def _values(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A row's values and status, also when the measurement fails."""
    try:
        return {"status": "done", **measure()}
    except Skip as reason:
        return {"status": "skipped", "reason": str(reason)}
    except Exception as error:
        if lacks_memory(error):
            return {"status": "skipped", "reason": f"memory: {str(error).splitlines()[0]}"}
        traceback.print_exc()
        text = f"{type(error).__name__}: {error}"
        return {"status": "failed", "error": text, "traceback": traceback.format_exc().splitlines()}


def _device_works(device: torch.device) -> bool:
    """Whether the device still computes: after some errors of a kernel a process has no device."""
    try:
        return float(torch.ones(2, device=device).sum()) >= 0.0
    except RuntimeError:
        return False


class Rows:
    """The measurements by name, and what several of them need."""

    def __init__(self, options: argparse.Namespace, record: Record, folder: Path) -> None:
        """`folder` is for the teacher's outputs."""
        self.options = options
        self.record = record
        self.folder = folder
        self.device = choose_arithmetic(options.device, "auto").device

    def machine(self) -> dict[str, Any]:
        """Names and versions."""
        values = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "threads": torch.get_num_threads(),
            "device": "cpu",
        }
        if self.device.type == "cuda":
            properties = torch.cuda.get_device_properties(self.device)
            values |= {
                "device": properties.name,
                "capability": f"{properties.major}.{properties.minor}",
                "memory_gib": properties.total_memory / 2**30,
                "processors": properties.multi_processor_count,
                "cuda": torch.version.cuda,
            }
        return values

    def measure(self, name: str) -> dict[str, Any]:
        """The values of one row. Raises `Skip` with a reason."""
        kind, *words = name.split()
        function: Callable[..., dict[str, Any]] = getattr(self, f"measure_{kind}")
        return function(*words)

    def measure_products(self, precision: Precision) -> dict[str, Any]:
        """Operations a second of matrix products, by size, and the highest rate."""
        arithmetic = self._work(precision).arithmetic
        sizes = [*scale.PRODUCT_SIZES, LARGE_PRODUCT]
        if self.device.type == "cpu":  # where the rows check this program, and products take long
            sizes = sizes[:1]
        rates = {"x".join(map(str, s)): scale.product_rate(arithmetic, [s]) for s in sizes}
        highest_rate = max(rates.values())
        return {
            "operations_per_second": highest_rate,
            "teraflops": highest_rate / 1e12,
            "by_size": rates,
        }

    def measure_copies(self) -> dict[str, Any]:
        """Bytes a second, read and written, of copies on the device and, pinned, from the host."""
        arithmetic = self._work("auto").arithmetic
        numbers = COPIED_NUMBERS if self.device.type == "cuda" else COPIED_NUMBERS[:1]
        rates = {f"{4 * n >> 20} MiB": scale.copy_rate(arithmetic, n) for n in numbers}
        values = {"terabytes_per_second": max(rates.values()) / 1e12, "by_size": rates}
        if self.device.type == "cuda":
            source = torch.ones(COPIED_NUMBERS[0], pin_memory=True)
            target = torch.empty_like(source, device=self.device)
            seconds = gpu_steps.median_seconds(
                self.device, lambda: target.copy_(source, non_blocking=True)
            )
            values["from_host_gigabytes_per_second"] = source.nbytes / seconds / 1e9
        return values

    def measure_launches(self) -> dict[str, Any]:
        """Microseconds of the host, and of host and device together, for a kernel of one number."""
        number = torch.zeros(1, device=self.device)
        number.add_(1)
        start = clock_seconds(self.device)
        for _ in range(LAUNCHES):
            number.add_(1)
        host_seconds = time.perf_counter() - start
        seconds = clock_seconds(self.device) - start
        return {
            "host_microseconds": 1e6 * host_seconds / LAUNCHES,
            "microseconds": 1e6 * seconds / LAUNCHES,
        }

    def measure_float64(self, precision: Precision) -> dict[str, Any]:
        """Differences from float64 on the CPU, of a student alone and of the first of a pair."""
        work = replace(self._doubles_work, arithmetic=self._work(precision).arithmetic)
        alone, first = (
            doubles.differences(
                doubles.trained(work, self.outputs, DOUBLE_STEPS, members), self._reference
            )
            for members in (1, 2)
        )
        return alone | {f"pair_{name}": value for name, value in first.items()}

    def measure_members(self, count: str) -> dict[str, Any]:
        """Steps of a population."""
        work = self._work("auto")
        gpu_steps.check_fit(int(count), self.record, self.device)
        values = gpu_steps.measure(work, self.outputs, int(count), self.options.steps)
        values["teacher_outputs_on"] = self.outputs.states.device.type
        return values | self._share(work, values["operations_per_second"])

    def measure_graphs(self, count: str) -> dict[str, Any]:
        """Steps of a population as CUDA graphs, and without them."""
        gpu_steps.check_fit(int(count), self.record, self.device)
        work = self._work("auto")
        return gpu_steps.measure_graphs(work, self.outputs, int(count), self.options.steps)

    def measure_plain(self, precision: Precision) -> dict[str, Any]:
        """Examples a second of the plain loop, padded to 128 tokens and padded by batch."""
        work = self._work(precision)
        run = partial(loops.plain_loop, arithmetic=work.arithmetic)
        return self._loop_rates(work, run)

    def measure_textbrewer(self) -> dict[str, Any]:
        """Examples a second of TextBrewer in fp32."""
        if importlib.util.find_spec("textbrewer") is None:
            raise Skip("TextBrewer is not installed")
        return self._loop_rates(self._work("fp32"), textbrewer_loop.textbrewer)

    def measure_grid(self) -> dict[str, Any]:
        """The phases of PKD's grid."""
        values = gpu_grid.measure(self._work("auto"), self.outputs, self.options)
        return values | self._share(self._work("auto"), values["operations_per_second"])

    def _loop_rates(self, work: Workload, loop: Callable[..., None]) -> dict[str, Any]:
        values: dict[str, Any] = {"precision": work.arithmetic.name}
        # A loop changes the teacher's kind of attention.
        work = replace(work, teacher=copy.deepcopy(work.teacher))
        for name, pad_to in (("padded", MAX_LENGTH), ("padded_by_batch", None)):
            gpu_steps.reset_peaks(self.device)
            clock = loops.Clock(self.device)
            with tempfile.TemporaryDirectory() as folder:
                loop(work, Path(folder), clock, self.options.steps, pad_to=pad_to)
            result = clock.result()
            values[f"{name}_examples_per_second"] = result["examples"] / result["seconds"]
            gc.collect()
        return values | gpu_steps.peaks(self.device)

    def _share(self, work: Workload, operations_per_second: float) -> dict[str, float]:
        """The share of the highest measured rate of products in the same precision."""
        products = self.record.done(f"products {work.arithmetic.name}")
        if products is None:
            return {}
        return {"share_of_products": operations_per_second / products["operations_per_second"]}

    def _work(self, precision: Precision) -> Workload:
        """The work in a precision, which this sets for the process."""
        try:
            arithmetic = choose_arithmetic(self.options.device, precision)
        except UserError as error:
            raise Skip(str(error)) from error
        return replace(self._auto_work, arithmetic=arithmetic)

    @cached_property
    def _auto_work(self) -> Workload:
        options = self.options
        return make_workload(
            options.shape, options.examples, options.batch_size, device=options.device
        )

    @cached_property
    def outputs(self) -> TeacherOutputs:
        """The teacher's outputs where the harness has them: on a GPU, if there is room."""
        return self._work("auto").outputs(self.folder).to_device(self.device)

    @cached_property
    def _doubles_work(self) -> Workload:
        return replace(doubles.without_dropout(self._auto_work), batch_size=DOUBLE_BATCH)

    @cached_property
    def _reference(self) -> doubles.Trained:
        return doubles.reference(self._doubles_work, self.outputs, DOUBLE_STEPS)


if __name__ == "__main__":
    sys.exit(main())
