"""The courier of a driver: sends files to workers that share no folder with it, and fetches theirs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from distributed import Client

from harness.config import StudyConfig
from harness.data.tasks import load_task
from harness.errors import StorageError, first_line
from harness.models.checkpoints import IDENTITY_FILES
from harness.storage.folders import MANIFEST, folder_lock, replacement, unseal
from harness.workers import remote_files
from harness.workers.local import WorkerDiedError
from harness.workers.remote_files import FilesRequest, Message

T = TypeVar("T")
PIECE_BYTES = 8 * 2**20
"""The size of a message with a piece of a file."""


class SharedMark:
    """A file in `--out` with a name of its own. A worker that sees the file shares the folder."""

    def __init__(self, out: Path) -> None:
        """Make the file. Raises `StorageError`."""
        self.file = out / f".driver-{uuid.uuid4()}"
        try:
            self.file.touch()
        except OSError as error:
            raise StorageError(f"{out}: cannot be written ({error.strerror})") from error

    def remove(self) -> None:
        """Remove the file."""
        with suppress(OSError):  # the folder is lost, or can no longer be written
            self.file.unlink()


class Courier:
    """Sends files of the driver to workers, and fetches folders from workers."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def send(self, request: FilesRequest, config: StudyConfig, task: str) -> None:
        """Send the files that a worker's job asks for.

        `config` is the driver's. A worker that dies takes its request along.
        """
        message: Message = "end"
        with suppress(WorkerDiedError):
            try:
                files = requested_files(request, config, task)
                if not files:
                    message = "nothing"
                for target, file in files.items():
                    self._send_file(request, file, f"{request.target}/{target}")
            except OSError as error:
                reason = f"{error.filename}: cannot be read ({error.strerror})"
                message = StorageError(reason)
            self._call(request.worker, remote_files.end_request, request.number, message)

    def fetch(self, worker: str, folders: Sequence[str], source: str, out: Path) -> None:
        """Fetch folders of a worker's `--out`, which is `source`, that the driver's `out` lacks.

        Raises:
            WorkerDiedError: the worker is lost.
            StorageError: a folder cannot be written, or has come damaged.
        """
        for name in folders:
            sizes = self._call(worker, remote_files.file_sizes, f"{source}/{name}")
            is_sealed = MANIFEST in sizes
            with folder_lock(out / name):
                if not sizes or (is_sealed and unseal(out / name) is not None):
                    continue
                with replacement(out / name) as new_folder:
                    for file, size in sizes.items():
                        place = f"{source}/{name}/{file}"
                        self._fetch_file(worker, place, size, new_folder / file)
                if is_sealed and unseal(out / name) is None:
                    raise StorageError(f"{out / name}: came damaged from worker {worker}")

    def _send_file(self, request: FilesRequest, file: Path, target: str) -> None:
        with file.open("rb") as stream:
            offset = 0
            while (piece := stream.read(PIECE_BYTES)) or not offset:
                arguments = (request.number, target, offset, piece)
                if not self._call(request.worker, remote_files.receive_piece, *arguments):
                    raise WorkerDiedError(request.worker)
                offset += len(piece)
                if not piece:
                    return

    def _fetch_file(self, worker: str, place: str, size: int, target: Path) -> None:
        with target.open("wb") as stream:
            while stream.tell() < size:
                stream.write(
                    self._call(worker, remote_files.read_piece, place, stream.tell(), PIECE_BYTES)
                )

    def _call(self, worker: str, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in the worker's process, beside its job. Raises `WorkerDiedError`."""
        try:
            answers: Mapping[str, T] = self.client.run(function, *arguments, workers=[worker])
        except OSError as error:
            raise WorkerDiedError(f"worker {worker}: {first_line(error)}") from error
        return answers[worker]


def requested_files(request: FilesRequest, config: StudyConfig, task: str) -> dict[str, Path]:
    """The driver's files that a request names, by their path below the request's target."""
    if request.folder is None:
        files = task_files(config, task)
        return {str(file.relative_to(file.anchor)): file for file in files}
    folder = Path(config.out) / request.folder
    if unseal(folder) is None:
        return {}
    return {name: folder / name for name in remote_files.file_sizes(str(folder))}


def task_files(config: StudyConfig, task: str) -> list[Path]:
    """The files outside `--out` that a task is read from: its description, data and checkpoints."""
    files = [Path(config.task_files[task])] if task in config.task_files else []
    layout = load_task(task, config.task_files).folder
    if config.source.folder is not None and layout is not None:
        folder = Path(config.source.folder) / layout.path
        described = load_task(task, config.task_files)
        names = [layout.train, *described.evaluation.values(), *described.test.values()]
        files += [folder / name for name in names]
    for checkpoint in (config.teacher.checkpoint, config.teacher.pretrained):
        folder = Path((checkpoint or "").replace("{task}", task))
        if folder.is_absolute():
            files += sorted({file for pattern in IDENTITY_FILES for file in folder.glob(pattern)})
    return [file for file in dict.fromkeys(files) if file.is_file()]
