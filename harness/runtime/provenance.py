"""The provenance of records: versions, machine and revision of the code."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import psutil

LIBRARIES = ("torch", "transformers", "datasets", "optuna", "numpy", "scipy", "statsmodels")


@dataclass(frozen=True)
class Provenance:
    """Versions, machine and code revision. `revision` is None outside git, `cores` where unknown."""

    python: str
    libraries: Mapping[str, str]
    machine: str
    processor: str
    cores: int | None
    memory_bytes: int
    system: str
    revision: str | None


@cache
def provenance() -> Provenance:
    """The provenance of this process's records."""
    return Provenance(
        python=platform.python_version(),
        libraries={name: version(name) for name in LIBRARIES},
        machine=platform.machine(),
        processor=_processor(),
        cores=psutil.cpu_count(logical=False) or psutil.cpu_count(),
        memory_bytes=psutil.virtual_memory().total,
        system=platform.platform(),
        revision=_revision(),
    )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _revision() -> str | None:
    """The git commit of the code, with `+` when it has uncommitted changes; None outside git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
