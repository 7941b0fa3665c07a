"""Workers that share no folder with the driver: what they ask for, what comes, and what is fetched."""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from harness.config import StudyConfig
from harness.data.tasks import load_task
from harness.data.transfer import transfer_file
from harness.demo.examples import generate
from harness.errors import DataError, StorageError
from harness.storage import folders
from harness.storage.database import storage_url
from harness.storage.folders import build_once, opened_folders, seal, supplied, unseal
from harness.storage.ledger import Ledger
from harness.workers import courier, remote_files
from harness.workers.courier import Courier, task_files
from harness.workers.local import WorkerDiedError
from harness.workers.remote_files import FilesRequest, RemoteFiles
from harness.workers.workshop import portable
from tests.conftest import small_pools
from tests.killing import Study, result
from tests.prepared import demo_config

WORKER = "tcp://worker:1"


class HereClient:
    """A client whose only worker is this process, until it is lost."""

    def __init__(self) -> None:
        self.calls: list[Callable[..., Any]] = []
        self.lost_after: int | None = None

    def run(self, function: Callable[..., Any], *arguments: Any, workers: list[str]) -> Any:
        assert workers == [WORKER]
        self.calls.append(function)
        if self.lost_after is not None and len(self.calls) > self.lost_after:
            raise OSError("Timed out trying to connect")
        return {WORKER: function(*arguments)}


class Pair:
    """A driver with the folder `driver/out`, and the files of a worker below `worker`."""

    def __init__(self, folder: Path, task: str = "rte", **changes: Any) -> None:
        self.client = HereClient()
        self.courier = Courier(self.client)  # type: ignore[arg-type]
        self.out = folder / "driver" / "out"
        self.out.mkdir(parents=True)
        self.config = demo_config(out=str(self.out), tasks=[task], **changes)
        self.threads: list[threading.Thread] = []
        self.job = 1

        def ask(request: FilesRequest) -> None:
            arguments = (request, self.job, self.config, task)
            send = threading.Thread(target=self.courier.send, args=arguments)
            self.threads.append(send)
            send.start()

        self.files = RemoteFiles(folder / "worker", WORKER, ask)

    @property
    def worker_config(self) -> StudyConfig:
        return self.files.relocated(self.config)

    @contextmanager
    def supply(self) -> Iterator[None]:
        with self.files.supply(self.worker_config):
            yield
        for thread in self.threads:
            thread.join(60)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    monkeypatch.setattr(courier, "PIECE_BYTES", 10)
    monkeypatch.setattr(remote_files, "SILENCE_SECONDS", 30.0)
    return Pair(tmp_path)


def fill(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    seal(folder, {"made": "by the driver"})
    return folder


def never(folder: Path) -> Any:
    raise AssertionError(f"{folder} was built")


def test_a_sealed_folder_comes_in_pieces_and_is_not_built(pair: Pair) -> None:
    contents = {"empty": b"", "small": b"123456789", "exact": b"0" * 20, "large": bytes(range(95))}
    fill(pair.out / "cache" / "tokens" / "a", **contents)
    folder = Path(pair.worker_config.out) / "cache" / "tokens" / "a"
    with pair.supply():
        assert build_once(folder, never) == {"made": "by the driver"}
    assert {name: (folder / name).read_bytes() for name in contents} == contents
    pieces = pair.client.calls.count(remote_files.receive_piece)
    manifest = (folder / "manifest.json").stat().st_size
    assert pieces == 1 + 1 + 2 + 10 + -(-manifest // 10)


def test_a_folder_that_the_driver_has_not_is_built(pair: Pair) -> None:
    folder = Path(pair.worker_config.out) / "teachers" / "b"
    with pair.supply():
        assert build_once(folder, lambda new: {"made": "here"}) == {"made": "here"}


def test_one_of_several_jobs_makes_a_folder_and_the_others_wait(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(courier, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(remote_files, "SILENCE_SECONDS", 5.0)
    folder = Path(pair.worker_config.out) / "teachers" / "b"
    with pair.supply():
        assert build_once(folder, lambda new: {"made": "by job 1"}) == {"made": "by job 1"}
    other = Pair(folder.parents[5] / "other")
    other.courier, other.job, other.config = pair.courier, 2, pair.config
    seen: list[dict[str, Any]] = []

    def second() -> None:
        with other.supply():
            seen.append(build_once(Path(other.worker_config.out) / "teachers" / "b", never))

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()  # it has been told to wait some times
    pair.courier.fetch(WORKER, ["teachers/b"], str(folder.parents[1]), pair.out)
    pair.courier.release(1)
    thread.join(60)
    assert seen == [{"made": "by job 1"}]


def test_a_job_that_has_ended_lets_another_make_its_folder(pair: Pair) -> None:
    """A job that is begun again after its worker's death goes on as the maker."""
    folder = Path(pair.worker_config.out) / "teachers" / "b"
    for job in (1, 1, 2):
        pair.job = job
        with pair.supply():
            assert build_once(folder, lambda new: {"made": "here"}) == {"made": "here"}
        shutil.rmtree(folder)
        if pair.client.calls.count(remote_files.tell_request) == 4:  # job 1 has ended
            pair.courier.release(1)


def test_files_outside_are_sent_once_and_replaced_whole(pair: Pair, tmp_path: Path) -> None:
    checkpoint = tmp_path / "driver" / "teacher"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}" * 20)
    pair.config = demo_config(out=str(pair.out), teacher={"checkpoint": str(checkpoint)})
    for _ in range(3):
        with pair.supply():
            pass
    assert pair.client.calls.count(remote_files.receive_piece) == 4
    place = pair.files.place(checkpoint / "config.json")
    with place.open() as mapped:  # as a model maps its weights
        (checkpoint / "config.json").write_text("{}" * 30)
        with pair.supply():
            pass
        assert mapped.read() == "{}" * 20
    assert place.read_text() == "{}" * 30
    assert [file.name for file in place.parent.iterdir()] == ["config.json"]


def test_a_damaged_folder_of_the_driver_is_built_anew(pair: Pair) -> None:
    damaged = fill(pair.out / "teachers" / "b", weights=b"right")
    (damaged / "weights").write_bytes(b"wrong")
    folder = Path(pair.worker_config.out) / "teachers" / "b"
    with pair.supply():
        assert build_once(folder, lambda new: {"made": "here"}) == {"made": "here"}


def test_other_folders_are_not_asked_for(pair: Pair, tmp_path: Path) -> None:
    with pair.supply():
        build_once(tmp_path / "elsewhere", lambda new: {})
    # of the task's own files
    assert pair.client.calls == [remote_files.present_files, remote_files.tell_request]


def test_outside_the_block_nothing_is_asked_for(tmp_path: Path) -> None:
    asked: list[Path] = []
    with supplied(lambda folder: bool(asked.append(folder))):
        build_once(tmp_path / "a", lambda new: {})
    build_once(tmp_path / "b", lambda new: {})
    assert asked == [tmp_path / "a"]


def test_a_supplied_folder_that_is_damaged_is_built(tmp_path: Path) -> None:
    def supply(folder: Path) -> bool:
        folder.mkdir()
        return True

    with supplied(supply):
        assert build_once(tmp_path / "a", lambda new: {"made": "here"}) == {"made": "here"}


def test_a_file_that_the_driver_cannot_read_is_named(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        raise PermissionError(13, "Permission denied", "driver/weights")

    monkeypatch.setattr(courier, "task_files", fail)
    with (
        pytest.raises(
            StorageError, match=r"^driver/weights: cannot be read \(Permission denied\)$"
        ),
        pair.supply(),
    ):
        pass


def test_every_other_error_of_the_driver_reaches_the_worker(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        raise DataError("mine.yaml: not YAML")

    monkeypatch.setattr(courier, "task_files", fail)
    with pytest.raises(StorageError, match=r"^mine\.yaml: not YAML$"), pair.supply():
        pass


def test_a_text_of_the_worker_names_the_drivers_paths() -> None:
    files = RemoteFiles(Path("/scratch/files-1"), WORKER, print)
    path = files.place("/home/me/teacher")
    assert files.told(f"--teacher {path}: 2 outputs") == "--teacher /home/me/teacher: 2 outputs"


def test_a_full_disk_of_the_worker_is_named(pair: Pair) -> None:
    pair.files.root.mkdir()
    (pair.files.root / pair.out.relative_to("/").parts[0]).write_text("a file, and no folder")
    checkpoint = pair.out / "teacher"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    pair.config = demo_config(out=str(pair.out), teacher={"checkpoint": str(checkpoint)})
    with pytest.raises(StorageError, match=r"config\.json: cannot be written \(.*"), pair.supply():
        pass


def test_a_silent_driver_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "SILENCE_SECONDS", 0.05)
    files = RemoteFiles(tmp_path / "worker", WORKER, lambda request: None)
    with (
        pytest.raises(StorageError, match="the driver sends no files"),
        files.supply(demo_config(out=str(tmp_path))),
    ):
        pass


def test_pieces_for_nobody_are_not_written(tmp_path: Path) -> None:
    assert not remote_files.receive_piece("none waits", str(tmp_path / "file"), 0, b"piece", True)
    assert not (tmp_path / "file").exists()


TASK = """
title: My task
labels: [entailment, not_entailment]
metrics: [accuracy]
evaluation: {validation: dev.tsv}
test: {test: test.tsv}
folder: {path: mine, columns: [one, two], label: label}
"""


def test_the_files_of_a_task_are_its_description_data_and_checkpoints(tmp_path: Path) -> None:
    description = tmp_path / "mine.yaml"
    description.write_text(TASK)
    for name in (
        "data/mine/train.tsv",
        "data/mine/dev.tsv",
        "data/other/train.tsv",
        "more/mine.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in (
        "t-mine/config.json",
        "t-mine/model.safetensors",
        "t-mine/notes",
        "t-rte/config.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    config = demo_config(
        tasks=["mine"],
        task_files={"mine": str(description)},
        source={"kind": "folder", "folder": str(tmp_path / "data")},
        teacher={"pretrained": "minilm", "checkpoint": str(tmp_path / "t-{task}")},
        transfer={"file": str(tmp_path / "more" / "{task}.txt")},
    )
    found = {str(file.relative_to(tmp_path)) for file in task_files(config, "mine")}
    assert found == {
        *("mine.yaml", "data/mine/train.tsv", "data/mine/dev.tsv"),
        *("t-mine/config.json", "t-mine/model.safetensors", "more/mine.txt"),
    }
    moved = RemoteFiles(Path("/w"), WORKER, print).relocated(config)
    assert moved.teacher.checkpoint == f"/w{tmp_path}/t-{{task}}"
    assert (moved.teacher.pretrained, moved.source.folder) == ("minilm", f"/w{tmp_path}/data")
    assert moved.transfer.file == f"/w{tmp_path}/more/{{task}}.txt"


def test_unlabelled_texts_of_a_description_are_among_its_files(tmp_path: Path) -> None:
    description = tmp_path / "mine.yaml"
    description.write_text(f"{TASK}\ntransfer: {{file: more.tsv}}\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "more.tsv").touch()
    config = demo_config(
        tasks=["mine"],
        task_files={"mine": str(description)},
        source={"kind": "folder", "folder": str(tmp_path / "data")},
    )
    assert task_files(config, "mine") == [description, tmp_path / "data" / "more.tsv"]


@pytest.mark.parametrize("name", ["more.tsv", "/elsewhere/more.tsv", "~/more.tsv"])
def test_a_worker_reads_the_described_texts_that_have_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A description may name them by an absolute path, which is the driver's."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    name = name.replace("/elsewhere", str(tmp_path / "elsewhere"))
    texts = Path(name.replace("~", str(tmp_path / "home")))
    texts = tmp_path / "data" / texts  # an absolute path stays as it is
    texts.parent.mkdir()
    texts.write_text("sentence\nx\n")
    description = tmp_path / "mine.yaml"
    description.write_text(f"{TASK}\ntransfer: {{file: {name}}}\n")
    source = {"kind": "folder", "folder": str(tmp_path / "data")}
    pair = Pair(tmp_path, "mine", task_files={"mine": str(description)}, source=source)
    pair.config = portable(pair.config, load_task("mine", pair.config.task_files))
    with pair.supply():
        monkeypatch.setenv("HOME", "/home/worker")
        config = pair.worker_config
        file = transfer_file(load_task("mine", config.task_files), config.source, config.transfer)
    assert file == tmp_path / "worker" / texts.relative_to(texts.anchor)
    assert file.read_bytes() == texts.read_bytes()


def test_folders_are_fetched_once_and_checked(pair: Pair) -> None:
    source = Path(pair.worker_config.out)
    contents = {"empty": b"", "large": bytes(range(95))}
    fill(source / "teachers" / "a", **contents)
    (source / "students" / "b").mkdir(parents=True)
    (source / "students" / "b" / "model").write_bytes(b"weights")
    pair.courier.fetch(WORKER, ["teachers/a", "students/b"], str(source), pair.out)
    assert unseal(pair.out / "teachers" / "a") == {"made": "by the driver"}
    assert (pair.out / "teachers" / "a" / "large").read_bytes() == contents["large"]
    assert (pair.out / "students" / "b" / "model").read_bytes() == b"weights"
    pair.client.calls.clear()
    pair.courier.fetch(WORKER, ["teachers/a"], str(source), pair.out)
    assert pair.client.calls == [remote_files.file_sizes]


def test_a_folder_that_the_worker_has_lost_counts_as_its_death(pair: Pair) -> None:
    source = Path(pair.worker_config.out)
    with pytest.raises(WorkerDiedError, match=r"has lost students/gone$"):
        pair.courier.fetch(WORKER, ["students/gone"], str(source), pair.out)
    (source / "students" / "short").mkdir(parents=True)
    (source / "students" / "short" / "model").write_bytes(b"weights")
    read_piece = remote_files.read_piece

    def shorter(file: str, offset: int, size: int) -> bytes:
        return read_piece(file, offset, size) if not offset else b""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(courier, "PIECE_BYTES", 3)
        patch.setattr(remote_files, "read_piece", shorter)
        with pytest.raises(WorkerDiedError, match=r"has lost .*short/model$"):
            pair.courier.fetch(WORKER, ["students/short"], str(source), pair.out)
    assert not (pair.out / "students" / "short").exists()


def test_a_folder_that_comes_damaged_is_refused(pair: Pair) -> None:
    source = Path(pair.worker_config.out)
    (fill(source / "teachers" / "a", weights=b"right") / "weights").write_bytes(b"wrong")
    with pytest.raises(StorageError, match=r"teachers/a: came damaged from worker tcp"):
        pair.courier.fetch(WORKER, ["teachers/a"], str(source), pair.out)


def test_a_worker_that_is_lost_leaves_no_half_folder(pair: Pair) -> None:
    source = Path(pair.worker_config.out)
    fill(source / "teachers" / "a", weights=b"0" * 95)
    pair.client.lost_after = 4
    with pytest.raises(WorkerDiedError, match=r"^worker tcp://worker:1: Timed out"):
        pair.courier.fetch(WORKER, ["teachers/a"], str(source), pair.out)
    assert [path.name for path in (pair.out / "teachers").iterdir()] == [".a.lock"]


def test_opened_folders_are_noted(tmp_path: Path) -> None:
    with opened_folders() as opened:
        build_once(tmp_path / "a", lambda new: {})
        build_once(tmp_path / "a", never)
    build_once(tmp_path / "b", lambda new: {})
    assert opened == [tmp_path / "a"] * 2
    assert folders._opened.get() is None


@contextmanager
def cluster(folder: Path, hidden: Path, number: int) -> Iterator[str]:
    """A Dask cluster whose workers see an empty folder in place of `hidden`; yields its address."""
    started: list[subprocess.Popen[str]] = []
    try:
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"]
        command += ["--port", "0", "--no-dashboard"]
        scheduler = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        started.append(scheduler)
        assert scheduler.stderr is not None
        line = next(line for line in scheduler.stderr if "Scheduler at:" in line)
        address = line.split()[-1]
        for position in range(number):
            place = folder / f"worker{position}"
            place.mkdir()
            worker = [sys.executable, "-m", "distributed.cli.dask_worker", address]
            worker += ["--nthreads", "1"]
            worker += ["--memory-limit", "0", "--no-dashboard", "--local-directory", str(place)]
            script = f"mount -t tmpfs none {hidden} && exec {' '.join(worker)}"
            with (folder / f"worker{position}.log").open("w") as log:
                started.append(
                    subprocess.Popen(["unshare", "-rm", "sh", "-c", script], stderr=log, text=True)
                )
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
        if started and started[0].stderr is not None:
            started[0].stderr.close()


def can_hide_folders() -> bool:
    unshare = shutil.which("unshare")
    return bool(unshare) and not subprocess.run([str(unshare), "-rm", "true"]).returncode


@pytest.mark.slow
@pytest.mark.skipif(not can_hide_folders(), reason="this system has no mount namespaces for users")
def test_workers_without_a_shared_folder_give_the_local_table(
    tmp_path: Path, tiny_encoder: Path
) -> None:
    """Data, encoder and `--out` are hidden from the workers. They get files, and give them back."""
    local = tmp_path / "local"
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    data = tmp_path / "data"
    write_rte(data)
    more = ("source.kind=folder", "--trials", "4", "--keep", "report")

    def arguments(out: Path, data: Path, encoder: Path, *flags: str) -> list[str]:
        return [*small_pools(out, encoder, *more, f"source.folder={data}"), *flags]

    undisturbed = Study(arguments(local, data, tiny_encoder), local, tmp_path / "na")
    undisturbed.join()
    hidden_data, encoder = hidden / "data", hidden / "encoder"
    shutil.copytree(data, hidden_data)
    shutil.copytree(tiny_encoder, encoder)
    out = hidden / "out"
    with cluster(tmp_path, hidden, 2) as address:
        driver = Study(
            arguments(out, hidden_data, encoder, "--cluster", address), out, tmp_path / "nb"
        )
        driver.join()
        # Both workers had files of their own, and have them no more.
        assert (tmp_path / "nb.err").read_text().count("does not see --out: the driver sends") == 2
        assert not list(tmp_path.glob("worker*/**/files-*"))
    assert driver.answer()["code"] == undisturbed.answer()["code"] == 0
    results = [result(one.answer()["printed"]) for one in (driver, undisturbed)]
    assert [one.pop("source")["folder"] for one in results] == [str(hidden_data), str(data)]
    assert results[0] == results[1]
    students = [sorted((one / "students").glob("*/*/model.safetensors")) for one in (local, out)]
    assert [file.relative_to(local) for file in students[0]] == [
        file.relative_to(out) for file in students[1]
    ]
    assert len(students[0]) == 8
    for here, there in zip(*students, strict=True):
        first, second = load_file(here), load_file(there)
        assert all((first[name] == second[name]).all() for name in first)
    assert not list(out.glob(".driver-*"))
    with closing(Ledger(storage_url(out, None))) as ledger:
        manifest = ledger.manifest(ledger.ablations()[0])
    assert manifest.teachers["rte"].name == str(encoder)


def write_rte(data: Path) -> None:
    (data / "RTE").mkdir(parents=True)
    made = generate("rte", train_size=240, validation_size=60)
    for name, split in (("train", made["train"]), ("dev", made["validation"])):
        lines = ["index\tsentence1\tsentence2\tlabel"]
        for row, (texts, label) in enumerate(zip(split.texts, split.labels, strict=True)):
            lines.append("\t".join([str(row), *texts, load_task("rte").labels[int(label)]]))
        (data / "RTE" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
