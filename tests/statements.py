"""The SQL statements that a piece of the program executes: its work, whatever the machine's load."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event


@contextmanager
def statements() -> Iterator[list[str]]:
    """The statements of this thread on all engines in the block; many rows of one kind are one."""
    executed: list[str] = []
    thread = threading.get_ident()

    def note(connection: Any, cursor: Any, statement: str, *details: Any) -> None:
        if threading.get_ident() == thread:  # claims are renewed in another thread
            executed.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield executed
    finally:
        event.remove(Engine, "before_cursor_execute", note)
