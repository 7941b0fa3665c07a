"""The files of a worker that does not share the driver's folders: it asks for them, and receives pieces.

The worker keeps the driver's files below a folder of its own, under their whole paths. A sealed folder
that the worker would build is asked for first. The driver sends pieces of files by calls of the
functions at the end of this module, which run beside the job that waits.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from typing import Literal, NamedTuple

from harness.config import StudyConfig
from harness.errors import StorageError
from harness.storage.folders import MANIFEST, replacement, supplied

SILENCE_SECONDS = 600.0
"""Seconds without a message after which a worker gives up."""
PART = ".part"
"""The end of the name of a file that is not whole yet."""


class FilesRequest(NamedTuple):
    """What a job needs of the driver's files, and the worker's folder that they should come to.

    `folder` is a sealed folder relative to `--out`, which the worker makes if the driver answers that
    there is none. None asks for the files outside `--out` that the job's task is read from, each under
    its whole path.
    """

    number: str
    worker: str
    root: str
    folder: str | None
    target: str


Message = Literal["wait", "end", "nothing"] | StorageError
"""More is to come, all has come, the worker is to make the folder, or why the driver cannot send it."""

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
        source, teacher, student = config.source, config.teacher, config.student
        transfer = config.transfer
        return replace(
            config,
            out=str(self.place(config.out)),
            task_files={task: str(self.place(file)) for task, file in config.task_files.items()},
            source=replace(source, folder=source.folder and self._moved(source.folder)),
            transfer=replace(transfer, file=transfer.file and self._moved(transfer.file)),
            teacher=replace(
                teacher,
                checkpoint=teacher.checkpoint and self._moved(teacher.checkpoint),
                pretrained=self._moved(teacher.pretrained),
            ),
            student=replace(
                student, checkpoint=student.checkpoint and self._moved(student.checkpoint)
            ),
        )

    def told(self, text: str) -> str:
        """A text with the driver's paths in place of the worker's."""
        return text.replace(f"{self.root}/", "/")

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
            self.ask(FilesRequest(number, self.worker, str(self.root), folder, str(target)))
            while (message := messages.get(timeout=SILENCE_SECONDS)) == "wait":
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


def receive_piece(number: str, file: str, offset: int, piece: bytes, is_last: bool) -> bool:
    """Write a piece of a file that a job of this process waits for. False if none waits any more.

    A file that a model maps into memory is not written: the whole file takes its name at the end.
    """
    if number not in _open_requests:
        return False
    path, part = Path(file), Path(f"{file}{PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("r+b" if offset else "wb") as stream:
            stream.seek(offset)
            stream.write(piece)
        if is_last:
            part.replace(path)
    except OSError as error:
        reason = f"{path}: cannot be written ({error.strerror})"
        _open_requests[number].put(StorageError(reason))
        return False
    _open_requests[number].put("wait")
    return True


def tell_request(number: str, message: Message) -> bool:
    """Give a message to a job of this process that waits. False if none waits any more."""
    if number not in _open_requests:
        return False
    _open_requests[number].put(message)
    return True


def present_files(target: str, files: Mapping[str, int]) -> list[str]:
    """The files below a folder that are there with the given size in bytes."""
    return [
        name
        for name, size in files.items()
        if (path := Path(target) / name).is_file() and path.stat().st_size == size
    ]


def remove_files(root: str) -> None:
    """Remove the files that a worker has of a driver."""
    shutil.rmtree(root, ignore_errors=True)


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
