"""The cluster of a command that asks for more workers than its own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from harness.cli.arguments import Request
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


@contextmanager
def connected(request: Request) -> Iterator[Cluster | None]:
    """The cluster of a study that asks for one and is not only planned, which ends with the block.

    Raises:
        UserError: the cluster cannot be had.
    """
    if request.dry_run or request.config.cluster.kind == "local":
        yield None
    else:
        with closing(connect(request.config)) as cluster:
            yield cluster
