"""The cluster of a command that asks for more workers than its own process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.config import StudyConfig
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.workers.clusters import Cluster


def connect(config: StudyConfig) -> Cluster:
    """The cluster that a configuration asks for. Raises `UserError` if it cannot be had."""
    try:
        from harness.workers.clusters import open_cluster  # only clusters need Dask
    except ImportError as error:
        raise UserError(
            f"--workers and --cluster need the extra: pip install -e '.[cluster]' ({error})"
        ) from error
    return open_cluster(config)
