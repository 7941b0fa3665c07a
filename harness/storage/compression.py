"""What a compression bought: sizes and speeds of teacher and student. Never imports torch."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

_EXACT_KEYS = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_EXACT_KEYS)
class ModelSize:
    """The size of one classifier."""

    parameters: int
    embedding_parameters: int
    """Parameters of the embeddings: looked up, and never multiplied."""
    weight_bytes: int
    """Bytes of the weights in fp32, as a kept student has them on disk."""
    length: int
    """Tokens of one example, the mean of the task's first evaluation split."""
    flops: int
    """Floating-point operations for one example of that length: two for each multiplication and addition
    of a matrix product."""

    @property
    def body_parameters(self) -> int:
        """Parameters without the embeddings."""
        return self.parameters - self.embedding_parameters


@dataclass(frozen=True, config=_EXACT_KEYS)
class Speed:
    """The measured speed of one classifier on examples of the mean length, in fp32."""

    latency: float
    """Seconds for one example, the median of the repeats."""
    throughput: float
    """Examples a second in batches of 32, from the median of the repeats."""


@dataclass(frozen=True, config=_EXACT_KEYS)
class Timing:
    """Speeds of teacher and student, measured in turns on one device."""

    device: str
    """The name of the processor or GPU."""
    threads: int
    """Threads of a processor."""
    repeats: int
    teacher: Speed
    student: Speed

    @property
    def speed_up(self) -> float:
        """How many times faster the student answers one example."""
        return self.teacher.latency / self.student.latency


@dataclass(frozen=True, config=_EXACT_KEYS)
class Compression:
    """Teacher and student of one task."""

    teacher: ModelSize
    student: ModelSize
    timing: Timing | None = None
    """None where no command has measured speeds (`--latency`)."""

    @property
    def models(self) -> tuple[tuple[str, ModelSize, Speed | None], ...]:
        """Teacher and student: name, size, and speed where it is measured."""
        timing = self.timing
        return (
            ("teacher", self.teacher, None if timing is None else timing.teacher),
            ("student", self.student, None if timing is None else timing.student),
        )

    def plain(self) -> dict[str, Any]:
        """Sizes and speeds as plain values, by model; None where no speed is measured."""
        values: dict[str, Any] = {
            name: {
                "parameters": size.parameters,
                "parameters_without_embeddings": size.body_parameters,
                "weight_bytes": size.weight_bytes,
                "length": size.length,
                "flops": size.flops,
                "latency_seconds": speed and speed.latency,
                "examples_per_second": speed and speed.throughput,
            }
            for name, size, speed in self.models
        }
        timing = self.timing
        return values | {
            "device": timing and timing.device,
            "threads": timing and timing.threads,
            "repeats": timing and timing.repeats,
            "speed_up": timing and timing.speed_up,
        }

    def has_shapes_of(self, other: Compression) -> bool:
        """Whether both have the same models, so that the timing of one holds for the other."""
        return (self.teacher, self.student) == (other.teacher, other.student)
