"""Failures of runs: most exceptions become the failure of one run, and the study goes on."""

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
from harness.runtime.memory import lacks_memory

MESSAGE_LENGTH = 300
"""Characters of a message that a record keeps."""
OUT_OF_MEMORY = "out of memory"
LIBRARIES = ("torch", "transformers", "numpy")
SYSTEM_ERRORS = {
    *(errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT),
    *(errno.EIO, errno.EROFS, errno.EPIPE, errno.ENOMEM, errno.EFBIG),
}
"""Numbers of errors that the machine causes, not the run."""

logger = logging.getLogger(__name__)


class RunFailed(Exception):
    """One run cannot be trained or evaluated; the message is the reason, in one line."""


def is_out_of_memory(reason: str | None) -> bool:
    """Whether the reason of a failure is a lack of memory, which is worth another try."""
    return reason is not None and reason.startswith(OUT_OF_MEMORY)


@contextmanager
def convert_failures() -> Iterator[None]:
    """Turn the block's exceptions into `RunFailed`; `--debug` shows the traceback.

    Raises:
        RunFailed: the run has failed, and the failure is to be recorded.
        StorageError: the ledger or the machine has failed: a failure of the run must not be recorded.
        DeviceError: the device can do nothing more in this process (CUDA's sticky errors).
    """
    try:
        yield
    except (RunFailed, StorageError, DeviceError):
        raise
    except (Exception, SystemExit) as error:  # a method may call sys.exit
        interrupt.check(error)
        logger.info("a run failed", exc_info=error)
        reason = _reason(error)
        if isinstance(error, OSError) and error.errno in SYSTEM_ERRORS:
            raise StorageError(f"{error.filename or 'the machine'}: {error.strerror}") from error
        if _is_device_error(error) and not is_out_of_memory(reason):
            raise DeviceError(f"the device failed: {first_line(error)}") from error
        raise RunFailed(reason) from error


def _is_device_error(error: BaseException) -> bool:
    return isinstance(error, torch.AcceleratorError) or (
        isinstance(error, RuntimeError) and first_line(error).startswith("CUDA error")
    )


def _reason(error: Exception | SystemExit) -> str:
    """The exception's kind, message and last line of code outside of the libraries."""
    text = first_line(error)[:MESSAGE_LENGTH]
    if isinstance(error, UserError):
        return text
    if lacks_memory(error):
        return f"{OUT_OF_MEMORY}: {text}"
    frames = traceback.extract_tb(error.__traceback__)
    frame = ([frame for frame in frames if not _is_library(frame.filename)] or frames)[-1]
    return f"{type(error).__name__}: {text} ({Path(frame.filename).name}, line {frame.lineno})"


def _is_library(file: str) -> bool:
    parts = Path(file).parts
    return any(
        folder in ("site-packages", "dist-packages") and package in LIBRARIES
        for folder, package in pairwise(parts)
    )
