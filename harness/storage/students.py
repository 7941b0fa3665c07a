"""Where a study's kept students lie."""

from __future__ import annotations

from pathlib import Path


def students_folder(runs_folder: Path, study: str) -> Path:
    """The folder of a study's kept students."""
    return runs_folder / "students" / study


def student_name(fingerprint: str) -> str:
    """The name of a kept student's folder: the first 16 digits of the run's fingerprint."""
    return fingerprint[:16]
