"""The files of a worker that does not share the driver's folders: it asks for them, and receives pieces.

The worker keeps the driver's files below a folder of its own, under their whole paths. A sealed folder
that the worker would build is asked for first. The driver sends pieces of files by calls of the
functions at the end of this module, which run beside the job that waits.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from typing import Literal, NamedTuple

from harness.config import StudyConfig
from harness.errors import StorageError
from harness.storage.folders import MANIFEST, replacement, supplied

SILENCE_SECONDS = 300.0
"""Seconds without a piece after which a worker gives up."""


class FilesRequest(NamedTuple):
    """What a job needs of the driver's files, and the worker's folder that they should come to.

    `folder` is a sealed folder relative to `--out`. None asks for the files outside `--out` that the
    job's task is read from, each under its whole path.
    """

    number: str
    worker: str
    folder: str | None
    target: str


Message = Literal["piece", "end", "nothing"] | StorageError
"""A piece has come, all pieces have come, the driver has no such folder, or why it cannot send it."""

_open_requests: dict[str, Queue[Message]] = {}
"""The requests of this process that wait, by number."""


class RemoteFiles:
    """The driver's files on a worker, below the folder `root`."""

    def __init__(self, root: Path, worker: str, ask: Callable[[FilesRequest], object]) -> None:
        """`ask` sends a request to the driver."""
        self.root = root
        self.worker = worker
        self.ask = ask

    def place(self, path: str | Path) -> Path:
        """The worker's path of a path of the driver."""
        path = Path(path)
        return self.root / path.relative_to(path.anchor)

    def relocated(self, config: StudyConfig) -> StudyConfig:
        """The driver's configuration, with the worker's folders."""
        source, teacher = config.source, config.teacher
        return replace(
            config,
            out=str(self.place(config.out)),
            task_files={task: str(self.place(file)) for task, file in config.task_files.items()},
            source=replace(source, folder=source.folder and self._moved(source.folder)),
            teacher=replace(
                teacher,
                checkpoint=teacher.checkpoint and self._moved(teacher.checkpoint),
                pretrained=self._moved(teacher.pretrained),
            ),
        )

    def _moved(self, name: str) -> str:
        """The worker's path of a folder. Names that are no absolute path stay the same."""
        return str(self.place(name)) if Path(name).is_absolute() else name

    @contextmanager
    def supply(self, config: StudyConfig) -> Iterator[None]:
        """Ask for the files of the task, and in the block for each sealed folder that is not there.

        `config` is relocated.

        Raises:
            StorageError: the driver cannot send a file.
        """
        out = Path(config.out)
        self._request(None, self.root)
        with supplied(lambda folder: self._fetch(out, folder)):
            yield

    def _fetch(self, out: Path, folder: Path) -> bool:
        """Get a sealed folder of `out` from the driver. False where the driver has none."""
        if not folder.is_relative_to(out):
            return False
        try:
            with replacement(folder) as new_folder:
                if not self._request(str(folder.relative_to(out)), new_folder):
                    raise FileNotFoundError(folder)
        except FileNotFoundError:
            return False
        return True

    def _request(self, folder: str | None, target: Path) -> bool:
        """Ask for files and wait until they have come. False where the driver has no such folder."""
        messages: Queue[Message] = Queue()
        number = str(uuid.uuid4())
        _open_requests[number] = messages
        try:
            self.ask(FilesRequest(number, self.worker, folder, str(target)))
            while (message := messages.get(timeout=SILENCE_SECONDS)) == "piece":
                pass
        except Empty as error:
            raise StorageError(
                f"worker {self.worker}: the driver sends no files ({SILENCE_SECONDS:.0f} s of silence)"
            ) from error
        finally:
            del _open_requests[number]
        if isinstance(message, StorageError):
            raise message
        return message == "end"


def receive_piece(number: str, file: str, offset: int, piece: bytes) -> bool:
    """Write a piece of a file that a job of this process waits for. False if none waits any more."""
    if number not in _open_requests:
        return False
    path = Path(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if offset else "wb") as stream:
            stream.seek(offset)
            stream.write(piece)
    except OSError as error:
        reason = f"{path}: cannot be written ({error.strerror})"
        _open_requests[number].put(StorageError(reason))
        return False
    _open_requests[number].put("piece")
    return True


def end_request(number: str, message: Message) -> None:
    """End the wait of a job of this process."""
    if number in _open_requests:
        _open_requests[number].put(message)


def file_sizes(folder: str) -> dict[str, int]:
    """The sizes in bytes of a folder's files by name, of the manifest last. Empty without a folder."""
    path = Path(folder)
    if not path.is_dir():
        return {}
    files = sorted(path.iterdir(), key=lambda file: (file.name == MANIFEST, file.name))
    return {file.name: file.stat().st_size for file in files if file.is_file()}


def read_piece(file: str, offset: int, size: int) -> bytes:
    """At most `size` bytes of a file."""
    with Path(file).open("rb") as stream:
        stream.seek(offset)
        return stream.read(size)
