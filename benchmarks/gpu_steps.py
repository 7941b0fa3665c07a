"""Steps of one population on a device: rate, launches, the host's time, and memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_record import Record
from benchmarks.loops import harness_member
from benchmarks.workload import Workload, batches_of_all_lengths
from harness.data.batches import Batch
from harness.models.teacher_outputs import TeacherOutputs
from harness.runtime.device import clock_seconds
from harness.runtime.memory import free_memory
from harness.training.population import Population
from harness.training.step_graphs import StepGraphs, can_capture

PASSES = 5
FIRST_RUNS = 2
"""Runs before time is taken: the first step of a shape is as it is, and the second makes a graph."""
LONGEST_KERNELS = 15
MOVES = ("Memcpy", "Memset")
WAITS = ("Context Sync", "Event Sync", "Stream Sync", "Stream Wait Event")
"""First words of what the profiler reports of a device beside kernels."""


class Skip(Exception):
    """The reason why a row is not measured."""


def measure(work: Workload, outputs: TeacherOutputs, count: int, steps: int) -> dict[str, Any]:
    """The values of `count` students that train together, over batches of all lengths."""
    reset_peaks(work.arithmetic.device)
    population, batches, step = _begin(work, outputs, count, steps)

    def run() -> None:
        for batch in batches:
            step(batch)

    graphs, population.graphs = population.graphs, None
    with FlopCounterMode(display=False) as counter:  # the run also warms up
        run()
    population.graphs = graphs
    for _ in range(FIRST_RUNS):
        run()
    seconds = median_seconds(work.arithmetic.device, run)
    examples = sum(len(batch.rows) for batch in batches) * count
    operations = counter.get_total_flops()
    return {
        "members": count,
        "precision": work.arithmetic.name,
        "graphs": 0 if population.graphs is None else len(population.graphs.graphs),
        "examples_per_second": examples / seconds,
        "milliseconds": 1e3 * seconds / len(batches),
        "host_milliseconds": _host_milliseconds(work.arithmetic.device, step, batches),
        **(_launches(run, len(batches)) if work.arithmetic.device.type == "cuda" else {}),
        **peaks(work.arithmetic.device),
        "operations_per_second": operations / seconds,
        "operations": operations / len(batches),
    }


def measure_graphs(
    work: Workload, outputs: TeacherOutputs, count: int, steps: int
) -> dict[str, Any]:
    """Milliseconds of a step, launched operation by operation (eager) and as a CUDA graph (captured)."""
    device = work.arithmetic.device
    reset_peaks(device)
    population, batches, step = _begin(work, outputs, count, steps)
    if not can_capture(population.recipe, [member.method for member in population.members]):
        raise Skip("no graph without a GPU, kernels, and the teacher's outputs on the device")

    def run() -> None:
        for batch in batches:
            step(batch)

    values: dict[str, Any] = {"members": count, "precision": work.arithmetic.name}
    for name, graphs in (("eager", None), ("captured", StepGraphs(device))):
        population.graphs = graphs
        for _ in range(FIRST_RUNS):
            run()
        values[f"{name}_milliseconds"] = 1e3 * median_seconds(device, run) / len(batches)
        values[f"{name}_host_milliseconds"] = _host_milliseconds(device, step, batches)
    return {**values, "graphs": len(graphs.graphs) if graphs else 0, **peaks(device)}


def _begin(
    work: Workload, outputs: TeacherOutputs, count: int, steps: int
) -> tuple[Population, list[Batch], Callable[[Batch], None]]:
    """A population, `steps` batches of all lengths, and its step on a batch."""
    members = [harness_member(work, seed) for seed in range(count)]
    population = Population(members, work.recipe(outputs, epochs=3))

    def step(batch: Batch) -> None:
        rows = torch.from_numpy(np.stack([batch.rows] * count))
        population.train_batch(rows, batch.width, 0)

    return population, batches_of_all_lengths(population, steps), step


def median_seconds(device: torch.device, work: Callable[[], object]) -> float:
    """The median of some runs, after one more run. The clock waits for a GPU before and after each."""
    work()
    runs = []
    for _ in range(PASSES):
        start = clock_seconds(device)
        work()
        runs.append(clock_seconds(device) - start)
    return median(runs)


def _host_milliseconds(
    device: torch.device, step: Callable[[Batch], None], batches: list[Batch]
) -> float:
    """The host's time for a step: until the step is in the queue of an idle GPU."""
    times = []
    for batch in batches:
        start = clock_seconds(device)
        step(batch)
        times.append(time.perf_counter() - start)
    return 1e3 * median(times)


def _launches(run: Callable[[], None], steps: int) -> dict[str, Any]:
    """Kernels, copies and the device's busy time for a step, and the kernels that take longest."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        torch.cuda.synchronize()
    calls: Counter[str] = Counter()
    moves: Counter[str] = Counter()
    kernels: Counter[str] = Counter()
    microseconds: Counter[str] = Counter()
    for event in profiler.events() or []:
        if event.device_type == DeviceType.CPU:
            calls[event.name] += 1
        elif not event.name.startswith(WAITS) and not event.is_user_annotation:
            (moves if event.name.startswith(MOVES) else kernels)[event.name] += 1
            microseconds[event.name] += event.time_range.elapsed_us()
    if not kernels:
        return {"launches": None, "why_no_launches": "the profiler saw no kernel"}
    return {
        "launches": kernels.total() / steps,
        "launch_calls": sum(n for name, n in calls.items() if "Launch" in name) / steps,
        "copies": moves.total() / steps,
        "waits": (calls["cudaStreamSynchronize"] + calls["cudaEventSynchronize"]) / steps,
        "busy_milliseconds": microseconds.total() / 1e3 / steps,
        "longest": [
            {
                "name": name,
                "launches": (kernels + moves)[name] / steps,
                "milliseconds": time_taken / 1e3 / steps,
            }
            for name, time_taken in microseconds.most_common(LONGEST_KERNELS)
        ],
    }


def check_fit(count: int, record: Record, device: torch.device) -> None:
    """Raise `Skip` if a population does not fit, by the peaks of the two largest that were measured."""
    rows = [row for row in record.rows if row["row"].startswith("members ")]
    rows = [row for row in rows if row["status"] == "done" and "allocated_gib" in row][-2:]
    if len(rows) < 2 or rows[0]["members"] >= rows[1]["members"]:
        return
    (first, first_peak), (second, second_peak) = (
        (row["members"], row["allocated_gib"]) for row in rows
    )
    estimate = second_peak + (count - second) * (second_peak - first_peak) / (second - first)
    free_memory()
    free_bytes, _ = torch.cuda.mem_get_info(device)
    if estimate * 2**30 > free_bytes + torch.cuda.memory_allocated(device):
        raise Skip(f"memory: about {estimate:.0f} GiB, {free_bytes / 2**30:.0f} GiB are free")


def reset_peaks(device: torch.device) -> None:
    """Give free memory back, and begin to measure the most memory."""
    free_memory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peaks(device: torch.device) -> dict[str, float]:
    """The most memory since `reset_peaks`, reserved and allocated by torch."""
    if device.type == "cpu":
        return {}
    return {
        "reserved_gib": torch.cuda.max_memory_reserved(device) / 2**30,
        "allocated_gib": torch.cuda.max_memory_allocated(device) / 2**30,
    }
