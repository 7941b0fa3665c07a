"""Versions that the driver and its workers must share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from harness.errors import UserError
from harness.runtime.provenance import provenance


class VersionError(UserError):
    """A worker with other versions than the driver's."""


@cache
def versions() -> Mapping[str, str]:
    """The versions of Python and of libraries, and a digest of this project's source, by name."""
    here = provenance()
    return {"python": here.python, **here.libraries, "the harness": _source_digest()}


def check_versions(driver_versions: Mapping[str, str], worker: str) -> None:
    """Compare the driver's versions with those of this process, the worker of that name.

    Raises:
        VersionError: they differ; the message names what differs.
    """
    differences = [
        f"{name} {versions().get(name, 'none')} (the driver has {version})"
        for name, version in driver_versions.items()
        if versions().get(name) != version
    ]
    if differences:
        raise VersionError(f"worker {worker} has {', '.join(differences)}")


def _source_digest() -> str:
    """Twelve digits of the hash of harness/. A run's identity covers its method's source."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
