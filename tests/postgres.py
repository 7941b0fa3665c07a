"""A PostgreSQL server of a test's own, which can be restarted, and a proxy that loses its answers."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine

PORT_FILE = ".s.PGSQL.5432"


def binary(name: str) -> str:
    """A server program: on the path, or where Debian puts it."""
    found = shutil.which(name) or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), ""
    )
    if not found:
        pytest.skip("no PostgreSQL server is installed")
    return found


@dataclass(frozen=True)
class Server:
    """A cluster on a socket in a folder of its own; `user` is the command that runs as another user."""

    folder: Path
    user: tuple[str, ...]

    def url(self, database: str = "postgres") -> str:
        """The URL of a database, which may not exist yet."""
        return f"postgresql+psycopg://harness@/{database}?host={self.folder}"

    def make(self) -> None:
        """Make the cluster."""
        initdb = [binary("initdb"), "-D", str(self.folder / "data"), "-U", "harness"]
        self._run(*initdb, "--auth=trust", "--no-sync")

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        self._control("-o", options, "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str) -> None:
        """Stop the server: `fast` ends all sessions, `immediate` is a crash."""
        self._control("-m", mode, "stop")

    def restart(self, mode: str, seconds: float) -> None:
        """Stop the server, and start it after some seconds."""
        self.stop(mode)
        time.sleep(seconds)
        self.start()

    def execute(self, statement: str) -> None:
        """Run a statement outside of transactions."""
        engine = create_engine(self.url(), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()

    def new_database(self, name: str) -> str:
        """Make a database; returns its URL."""
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def terminate_sessions(self) -> None:
        """End every other session with `pg_terminate_backend`."""
        sessions = "FROM pg_stat_activity WHERE backend_type = 'client backend'"
        self.execute(f"SELECT pg_terminate_backend(pid) {sessions} AND pid <> pg_backend_pid()")

    def _control(self, *arguments: str) -> None:
        self._run(binary("pg_ctl"), "-D", str(self.folder / "data"), "-w", *arguments)

    def _run(self, *command: str) -> None:
        # The server would keep a pipe open, so its output goes nowhere.
        subprocess.run(
            [*self.user, *command], cwd=self.folder, check=True, stdout=subprocess.DEVNULL
        )


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """A fresh cluster that runs; skips where there is no PostgreSQL."""
    pytest.importorskip("psycopg", reason="needs the extra 'postgres'")
    user: tuple[str, ...] = ()
    if os.geteuid() == 0:  # the server refuses to run as root
        known = subprocess.run(["id", "postgres"], capture_output=True, check=False)
        if shutil.which("runuser") is None or known.returncode:
            pytest.skip("PostgreSQL does not run as root, and there is no user for it")
        user = ("runuser", "-u", "postgres", "--")
    with tempfile.TemporaryDirectory(prefix="harness-") as name:  # sockets' paths must be short
        folder = Path(name)
        if user:
            shutil.chown(folder, "postgres")
        server = Server(folder, user)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


class LossyProxy:
    """A way to a server's socket that loses the answer to every seventh commit, and the connection."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.target = str(server.folder / PORT_FILE)
        self.loses = False
        self.lost = 0
        self._commits = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / PORT_FILE))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.target)
            threading.Thread(target=self._carry, args=(client, server), daemon=True).start()
            threading.Thread(target=_copy, args=(server, client), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        while data := _receive(client):
            is_commit = self.loses and b"COMMIT" in data
            self._commits += is_commit
            if is_commit and self._commits % 7 == 0:
                self.lost += 1
                client.shutdown(socket.SHUT_RDWR)  # the answer finds nobody
                server.sendall(data)
                time.sleep(0.05)  # the server commits, and then sees that the client has gone
                break
            server.sendall(data)
        server.close()
        client.close()


def _receive(source: socket.socket) -> bytes:
    with contextlib.suppress(OSError):
        return source.recv(65536)
    return b""


def _copy(source: socket.socket, target: socket.socket) -> None:
    while data := _receive(source):
        with contextlib.suppress(OSError):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
