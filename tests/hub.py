"""A small hub on 127.0.0.1 with the parts of Hugging Face's HTTP interface that its clients need."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

KINDS = ("models", "datasets")


@dataclass
class Hub:
    """The hub's repositories are the folders `root/models/<id>` and `root/datasets/<id>`.

    gated: ids that answer 401; cut: names of files whose connection ends halfway; renamed: old ids
    that redirect to new ones. `requests` lists what was asked, as "METHOD /path".
    """

    root: Path
    url: str = ""
    gated: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def repository(self, kind: str, name: str) -> Path:
        """Folder of a repository; made by the tests."""
        return self.root / kind / name

    def environment(self, home: Path, *, offline: bool = False) -> dict[str, str]:
        """Environment variables that send the clients here."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "HF_HUB_OFFLINE": "1" if offline else "0",
        }


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serves the hub from a thread until the block ends; sets its `url`."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Silent: `hub.requests` is the log."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {self.path}")
        path = unquote(parts.path).strip("/")
        if path.startswith("api/"):
            self._api(path.removeprefix("api/"), parse_qs(parts.query))
        elif "/resolve/" in path:
            repository, _, rest = path.partition("/resolve/")
            kind, name = (
                ("datasets", repository.removeprefix("datasets/"))
                if repository.startswith("datasets/")
                else ("models", repository)
            )
            self._file(kind, name, rest.partition("/")[2])
        else:
            self._refuse(404, "EntryNotFound")

    def _api(self, path: str, query: dict[str, list[str]]) -> None:
        kind, _, rest = path.partition("/")
        if kind not in KINDS:
            self._refuse(404, "EntryNotFound")
            return
        name, action, tail = rest, "revision", ""
        for known in ("revision", "tree", "paths-info"):
            if f"/{known}/" in rest:
                name, _, after = rest.partition(f"/{known}/")
                action, tail = known, after.partition("/")[2]
        folder = self._folder(kind, name)
        if folder is None:
            return
        if action == "revision":
            files = [{"rfilename": path} for path in _files(folder)]
            facts = {"_id": "0" * 24, "id": name, "sha": _sha(folder), "siblings": files}
            self._json({**facts, "private": False, "gated": False, "tags": [], "downloads": 0})
        else:
            self._json(_tree(folder, tail, "recursive" in query))

    def _file(self, kind: str, name: str, file: str) -> None:
        folder = self._folder(kind, name)
        if folder is None:
            return
        path = folder / file
        if not path.is_file():
            self._refuse(404, "EntryNotFound")
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", _sha(folder))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if path.name in self.hub.cut:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self.wfile.write(content)

    def _folder(self, kind: str, name: str) -> Path | None:
        """The repository's folder; None when the request has been refused or sent elsewhere."""
        if name in self.hub.renamed:
            self.send_response(307)
            self.send_header("Location", self.path.replace(name, self.hub.renamed[name], 1))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        folder = self.hub.repository(kind, name)
        if name in self.hub.gated:
            self._refuse(401, "GatedRepo")
        elif not folder.is_dir():
            self._refuse(404, "RepoNotFound")
        else:
            return folder
        return None

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _json(self, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _sha(folder: Path) -> str:
    """A commit of 40 hex digits that changes with the content."""
    digest = hashlib.sha1()
    for name in _files(folder):
        digest.update(name.encode() + (folder / name).read_bytes())
    return digest.hexdigest()


def _tree(folder: Path, below: str, recursive: bool) -> list[dict[str, Any]]:
    start = folder / below
    paths = sorted(start.rglob("*") if recursive else start.iterdir())
    return [
        {
            "type": "directory" if path.is_dir() else "file",
            "oid": hashlib.sha1(str(path).encode()).hexdigest(),
            "size": 0 if path.is_dir() else path.stat().st_size,
            "path": str(path.relative_to(folder)),
        }
        for path in paths
    ]
