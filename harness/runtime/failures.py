"""What a run may raise: most of it is recorded as that run's failure, and the study goes on."""

from __future__ import annotations

import errno
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch

from harness.errors import DeviceError, StorageError, UserError, first_line
from harness.runtime import interrupt

LONGEST = 300
"""Characters of a message that are kept."""
OUT_OF_MEMORY = "out of memory"
LIBRARIES = ("torch", "transformers", "numpy")
SYSTEM = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT),
    *(errno.EIO, errno.EROFS, errno.EPIPE, errno.ENOMEM),
}
"""Errors that say something of the machine, and nothing of the run."""

logger = logging.getLogger(__name__)


class RunFailed(Exception):
    """One run cannot be trained or evaluated; the message is the reason, in one line."""


def is_out_of_memory(reason: str | None) -> bool:
    """Whether a recorded failure is one of memory, which is worth another try."""
    return reason is not None and reason.startswith(OUT_OF_MEMORY)


@contextmanager
def recorded() -> Iterator[None]:
    """Turn what the block raises into `RunFailed`; `--debug` shows the traceback.

    Raises:
        StorageError: of the ledger, or the machine's own: nothing is to be recorded of the run.
        DeviceError: the device can do nothing more in this process (CUDA's sticky errors).
    """
    try:
        yield
    except (RunFailed, StorageError, DeviceError):
        raise
    except Exception as error:
        interrupt.check(error)
        logger.info("a run failed", exc_info=error)
        reason = _reason(error)
        if isinstance(error, OSError) and error.errno in SYSTEM:
            raise StorageError(f"{error.filename or 'the machine'}: {error.strerror}") from error
        if _is_of_the_device(error) and not is_out_of_memory(reason):
            raise DeviceError(f"the device failed: {first_line(error)}") from error
        raise RunFailed(reason) from error


def _is_of_the_device(error: Exception) -> bool:
    return isinstance(error, torch.AcceleratorError) or (
        isinstance(error, RuntimeError) and first_line(error).startswith("CUDA error")
    )


def _reason(error: Exception) -> str:
    """Kind, message and place; the place is the last one outside of the libraries."""
    text = first_line(error)[:LONGEST]
    if isinstance(error, UserError):
        return text
    told = "can't allocate memory" in text or "CUBLAS_STATUS_ALLOC_FAILED" in text
    if told or isinstance(error, MemoryError | torch.OutOfMemoryError):
        return f"{OUT_OF_MEMORY}: {text}"
    frames = traceback.extract_tb(error.__traceback__)
    place = ([frame for frame in frames if not _is_library(frame.filename)] or frames)[-1]
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}, line {place.lineno})"


def _is_library(file: str) -> bool:
    parts = Path(file).parts
    return any(
        folder in ("site-packages", "dist-packages") and package in LIBRARIES
        for folder, package in pairwise(parts)
    )
