"""Which database URLs can hold a ledger."""

from __future__ import annotations

from sqlalchemy import URL

from harness.errors import StorageError


def check_url(parts: URL, words: str) -> None:
    """Refuse a URL that names no lasting database that the ledger knows, or another one than it seems.

    `words` are the URL without its passwords.

    Raises:
        StorageError: the database is of another kind or in memory, an option would be ignored, or a
            part of a password stands where the host is.
    """
    if "@" in (parts.host or ""):  # the words would show a part of the password
        raise StorageError("storage: write the @ of a user's name or password as %40")
    kind = parts.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise StorageError(
            f"storage {words}: {kind} is not supported; use postgresql+psycopg://... or "
            "sqlite:///FILE"
        )
    if kind == "postgresql":
        return
    name = parts.database or ""
    if name in ("", ":memory:") or name.startswith("file:"):
        raise StorageError(f"storage {words}: names no file, as in sqlite:///runs/ledger.db")
    if parts.query:
        raise StorageError(
            f"storage {words}: an SQLite file has no options; write the ? of a name as %3F"
        )
