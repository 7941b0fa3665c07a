"""The courier of a driver: sends files to workers that share no folder with it, and fetches theirs."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from distributed import Client

from harness.config import StudyConfig
from harness.data.tasks import load_task
from harness.data.transfer import transfer_file
from harness.errors import StorageError, first_line
from harness.models.checkpoints import IDENTITY_FILES
from harness.storage.folders import MANIFEST, folder_lock, replacement, unseal
from harness.workers import remote_files
from harness.workers.local import WorkerDiedError
from harness.workers.remote_files import FilesRequest, Message

T = TypeVar("T")
PIECE_BYTES = 8 * 2**20
"""The size of a message with a piece of a file."""
POLL_SECONDS = 0.5
"""Seconds between two looks whether another worker's folder is there."""
BEAT_SECONDS = 30.0
"""Seconds between two messages to a worker that waits for another."""


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
    """Sends files of the driver to workers, and fetches folders from workers.

    Of several jobs that would make the same folder one makes it. The others wait until the driver has
    what it made.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._makers: dict[str, int] = {}
        """The job that makes a folder, by the folder's name below `--out`."""
        self._lock = threading.Lock()

    def send(self, request: FilesRequest, job: int, config: StudyConfig, task: str) -> None:
        """Send the files that a worker's job asks for.

        `config` is the driver's. A worker that dies takes its request along.
        """
        with suppress(WorkerDiedError):
            try:
                message = self._send(request, job, config, task)
            except WorkerDiedError:
                raise
            except OSError as error:
                reason = f"{error.filename}: cannot be read ({error.strerror})"
                message = StorageError(reason)
            except Exception as error:  # whatever it is, the worker's job tells it
                message = StorageError(str(error) or repr(error))
            self._call(request.worker, remote_files.tell_request, request.number, message)

    def release(self, job: int) -> None:
        """Note that a job has ended: others may make the folders that it has not made."""
        with self._lock:
            self._makers = {name: maker for name, maker in self._makers.items() if maker != job}

    def fetch(self, worker: str, folders: Sequence[str], source: str, out: Path) -> None:
        """Fetch folders of a worker's `--out`, which is `source`, that the driver's `out` lacks.

        Raises:
            WorkerDiedError: the worker, or one of the folders, is lost.
            StorageError: a folder cannot be written, or has come damaged.
        """
        for name in folders:
            sizes = self._call(worker, remote_files.file_sizes, f"{source}/{name}")
            if not sizes:
                raise WorkerDiedError(f"worker {worker} has lost {name}")
            if MANIFEST not in sizes:
                self._fetch_folder(worker, f"{source}/{name}", sizes, out / name)
                continue
            with folder_lock(out / name):
                if unseal(out / name) is None:
                    self._fetch_folder(worker, f"{source}/{name}", sizes, out / name)
                    if unseal(out / name) is None:
                        raise StorageError(f"{out / name}: came damaged from worker {worker}")

    def _send(self, request: FilesRequest, job: int, config: StudyConfig, task: str) -> Message:
        """Send the files that are not there; returns the last message."""
        if request.folder is None:
            files = {str(f.relative_to(f.anchor)): f for f in task_files(config, task)}
        else:
            folder = Path(config.out) / request.folder
            if not self._wait_for(request, job, folder):
                return "nothing"
            files = {name: folder / name for name in remote_files.file_sizes(str(folder))}
        sizes = {name: file.stat().st_size for name, file in files.items()}
        present = self._call(request.worker, remote_files.present_files, request.target, sizes)
        for name, file in files.items():
            if name not in present:
                self._send_file(request, file, sizes[name], f"{request.target}/{name}")
        return "end"

    def _wait_for(self, request: FilesRequest, job: int, folder: Path) -> bool:
        """Wait while another job makes a folder. False where this job is to make it."""
        beat = time.monotonic()
        while not (folder / MANIFEST).is_file():
            with self._lock:
                if self._makers.setdefault(str(request.folder), job) == job:
                    return False
            if time.monotonic() - beat >= BEAT_SECONDS:
                beat = time.monotonic()
                self._tell(request, "wait")
            time.sleep(POLL_SECONDS)
        return True

    def _tell(self, request: FilesRequest, message: Message) -> None:
        """Give a message to a job that waits. Raises `WorkerDiedError` where none waits."""
        if not self._call(request.worker, remote_files.tell_request, request.number, message):
            raise WorkerDiedError(request.worker)

    def _send_file(self, request: FilesRequest, file: Path, size: int, target: str) -> None:
        with file.open("rb") as stream:
            for offset in range(0, max(size, 1), PIECE_BYTES):
                piece = stream.read(PIECE_BYTES)
                is_last = offset + PIECE_BYTES >= size
                arguments = (request.number, target, offset, piece, is_last)
                if not self._call(request.worker, remote_files.receive_piece, *arguments):
                    raise WorkerDiedError(request.worker)

    def _fetch_folder(
        self, worker: str, source: str, sizes: Mapping[str, int], folder: Path
    ) -> None:
        with replacement(folder) as new_folder:
            for file, size in sizes.items():
                with (new_folder / file).open("wb") as stream:
                    while stream.tell() < size:
                        arguments = (f"{source}/{file}", stream.tell(), PIECE_BYTES)
                        piece = self._call(worker, remote_files.read_piece, *arguments)
                        if not piece:
                            raise WorkerDiedError(f"worker {worker} has lost {source}/{file}")
                        stream.write(piece)

    def _call(self, worker: str, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in the worker's process, beside its job. Raises `WorkerDiedError`."""
        try:
            answers: Mapping[str, T] = self.client.run(function, *arguments, workers=[worker])
        except OSError as error:
            raise WorkerDiedError(f"worker {worker}: {first_line(error)}") from error
        return answers[worker]


def task_files(config: StudyConfig, task: str) -> list[Path]:
    """The files outside `--out` that a task is read from: its description, data and checkpoints."""
    files = [Path(config.task_files[task])] if task in config.task_files else []
    described = load_task(task, config.task_files)
    layout = described.folder
    if config.source.folder is not None and layout is not None:
        folder = Path(config.source.folder) / layout.path
        names = [layout.train, *described.evaluation.values(), *described.test.values()]
        files += [folder / name for name in names]
    if (unlabelled := transfer_file(described, config.source, config.transfer)) is not None:
        files.append(unlabelled)
    student = config.student.checkpoint
    for checkpoint in (config.teacher.checkpoint, config.teacher.pretrained, student):
        folder = Path((checkpoint or "").replace("{task}", task))
        if folder.is_absolute():
            files += sorted({file for pattern in IDENTITY_FILES for file in folder.glob(pattern)})
    return [file for file in dict.fromkeys(files) if file.is_file()]
