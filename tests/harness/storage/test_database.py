"""URLs of storages, their files, and the file systems under them."""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import StorageError
from harness.experiment.search import open_optuna
from harness.storage.claims import Claims
from harness.storage.database import (
    check_storage,
    existing_url,
    plain_engine,
    sqlite_file,
    storage_url,
)
from harness.storage.ledger import Ledger
from tests.storage_worker import TRIALS, work

ODD_NAMES = [
    *("what?", "what?x=1", "a#b", "50%41", "per%20cent", "feature%2Flogin", "{x}", "a b", "ü&=+;"),
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_folder_of_any_name_holds_the_ledger_and_optunas_tables(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    with closing(Ledger(storage_url(folder, None))) as ledger, Claims(ledger) as claims:
        open_optuna(ledger.url, claims).engine.dispose()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert [path.name for path in folder.iterdir()] == ["ledger.db"]
    monkeypatch.chdir(folder)
    assert sqlite_file(existing_url(Path(), None)) == folder / "ledger.db"
    with closing(Ledger(existing_url(folder, None))) as ledger:
        assert ledger.ablations() == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///file:runs.db?mode=memory&uri=true", "names no file"),
        ("sqlite:///what?x=1/ledger.db", r"has no options; write the \? of a name as %3F"),
        ("mysql+pymysql://u:secret@h/d", r"storage mysql\+pymysql://u:\*\*\*@h/d: mysql is not"),
        ("postgresql://u:open@secret@h/d", "storage: write the @ of"),
    ],
)
def test_a_url_that_cannot_hold_the_ledger_is_refused_at_once(
    tmp_path: Path, url: str, words: str
) -> None:
    with pytest.raises(StorageError, match=words) as caught:
        storage_url(tmp_path / "runs", url)
    assert "secret" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def mount(monkeypatch: pytest.MonkeyPatch, folder: Path, kind: str) -> None:
    mounts = {"/": "ext4", str(folder.resolve()): kind}
    parts = [SimpleNamespace(mountpoint=path, fstype=name) for path, name in mounts.items()]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: parts)


@pytest.mark.parametrize(
    "kind",
    [
        "nfs4",
        "cifs",
        "gpfs",
        "beegfs",
        "ceph",
        "lustre",
        "virtiofs",
        "fuse",
        "fuse.sshfs",
        "fuse.glusterfs",
    ],
)
def test_a_network_file_system_is_recognised_behind_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mount(monkeypatch, tmp_path / "far", kind)
    with pytest.raises(StorageError, match=f"near/runs: SQLite's WAL is unsafe on {kind};"):
        storage_url(tmp_path / "near" / "runs", None)
    with pytest.raises(StorageError, match=f"storage sqlite:.*: SQLite's WAL is unsafe on {kind};"):
        storage_url(tmp_path, f"sqlite:///{tmp_path}/near/other.db")
    storage_url(tmp_path / "here", None)
    (tmp_path / "here" / "ledger.db").symlink_to(tmp_path / "far" / "ledger.db")
    with pytest.raises(StorageError, match=f"here: SQLite's WAL is unsafe on {kind};"):
        storage_url(tmp_path / "here", None)
    with pytest.raises(StorageError, match=f"storage sqlite:.*: SQLite's WAL is unsafe on {kind};"):
        storage_url(tmp_path, f"sqlite:///{tmp_path}/here/ledger.db")


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "tmpfs", "overlay", "fuseblk", "fuse.fuse-overlayfs"]
)
def test_a_local_file_system_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mount(monkeypatch, tmp_path, kind)
    storage_url(tmp_path / "runs", None)


def _replace(folder: Path) -> None:
    copy = folder.with_name("copy.db")
    shutil.copy(folder / "ledger.db", copy)
    copy.replace(folder / "ledger.db")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "ledger.db").unlink(),
        lambda folder: folder.rename(folder.with_name("elsewhere")),
        shutil.rmtree,
        _replace,
    ],
    ids=["deleted", "renamed", "removed", "replaced"],
)
def test_a_ledger_that_disappears_is_noticed_at_the_next_transaction(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    folder = tmp_path / "runs"
    message = r"runs/ledger\.db: was deleted, moved or replaced while the command ran$"
    with closing(Ledger(storage_url(folder, None))) as ledger:
        claims = Claims(ledger)
        told = pytest.raises(StorageError, match=message)
        with told, claims.claim("run"):
            change(folder)
            work(ledger, claims)
        ledger.engine.dispose()  # a new connection would make an empty file
        with pytest.raises(StorageError, match=message):
            ledger.ablations()
    assert (folder / "ledger.db").exists() is (change is _replace)


def test_optunas_transactions_notice_it_too(tmp_path: Path) -> None:
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        storage = open_optuna(ledger.url, Claims(ledger))
        assert storage.get_all_studies() == []
        (tmp_path / "ledger.db").unlink()
        with pytest.raises(StorageError, match="was deleted"):
            storage.get_all_studies()
        storage.engine.dispose()  # a new connection would make an empty file
        with pytest.raises(StorageError, match="was deleted"):
            storage.get_all_studies()
        assert not (tmp_path / "ledger.db").exists()
        storage.engine.dispose()


def test_a_folder_that_moved_behind_a_link_is_the_same(tmp_path: Path) -> None:
    with closing(Ledger(storage_url(tmp_path / "runs", None))) as ledger, Claims(ledger) as claims:
        (tmp_path / "runs").rename(tmp_path / "elsewhere")
        (tmp_path / "runs").symlink_to(tmp_path / "elsewhere")
        assert len(work(ledger, claims, seconds=0)) == TRIALS


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg"])
def test_a_connection_to_a_server_has_limits_that_the_url_may_change(
    driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg", reason="needs the extra 'postgres'")
    given: dict[str, object] = {}

    def connect(**options: object) -> None:
        given.update(options)
        raise ConnectionError

    monkeypatch.setattr("psycopg.connect", connect)
    with pytest.raises(ConnectionError):
        plain_engine(f"{driver}://u@h/d?keepalives_idle=7").connect()
    assert given["keepalives_idle"] == "7"
    assert (given["connect_timeout"], given["tcp_user_timeout"]) == (10, 60_000)


@pytest.mark.parametrize("name", ["file", "file/runs", "n" * 300, "n" * 300 + "/runs"])
def test_a_plan_is_refused_for_the_folders_that_a_command_refuses(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be made") as command:
        storage_url(tmp_path / name, None)
    for url in (None, f"sqlite:///{tmp_path}/elsewhere.db"):
        with pytest.raises(StorageError) as plan:
            check_storage(tmp_path / name, url)
        assert str(plan.value) == str(command.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_plan_makes_no_folder(tmp_path: Path) -> None:
    check_storage(tmp_path / "new" / "runs", None)
    check_storage(tmp_path / "new" / ("n" * 255), None)
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_a_plan_is_refused_where_only_the_attempt_tells() -> None:
    """The superuser may write everywhere, says the system, but nobody makes folders in /proc."""
    with pytest.raises(StorageError, match="--out /proc/x: cannot be made"):
        check_storage(Path("/proc/x"), None)


def test_a_plan_is_refused_for_a_storage_that_a_command_refuses(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="mysql is not supported"):
        check_storage(tmp_path, "mysql://host/db")
