"""The JSON file of `benchmarks.gpu`: the machine, the options and the rows so far."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class Record:
    """The file's contents. Every change replaces the file as a whole.

    `open_row` is the name of the row that is being measured.
    """

    def __init__(self, path: Path, contents: dict[str, Any]) -> None:
        self.path = path
        self.contents = contents

    @classmethod
    def begin(cls, path: Path, options: Mapping[str, Any]) -> Record:
        """A new file, without rows."""
        values = {name: str(v) if isinstance(v, Path) else v for name, v in options.items()}
        record = cls(path, {"options": values, "machine": {}, "open_row": None, "rows": []})
        record._write()
        return record

    @classmethod
    def read(cls, path: Path) -> Record:
        """The file as another process left it."""
        return cls(path, json.loads(path.read_text(encoding="utf-8")))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows that have ended, with their `row` (name) and `status`: done, skipped or failed."""
        rows: list[dict[str, Any]] = self.contents["rows"]
        return rows

    @property
    def open_row(self) -> str | None:
        """The name of the row that is being measured."""
        name: str | None = self.contents["open_row"]
        return name

    def missing(self, names: Sequence[str]) -> list[str]:
        """The names whose rows have not ended."""
        ended_names = {row["row"] for row in self.rows}
        return [name for name in names if name not in ended_names]

    def done(self, name: str) -> dict[str, Any] | None:
        """A row's values; None if the row has not ended, was skipped or failed."""
        rows = (row for row in self.rows if row["row"] == name and row["status"] == "done")
        return next(rows, None)

    def set_machine(self, machine: Mapping[str, Any]) -> None:
        """Note what the rows were measured on."""
        self.contents["machine"] = dict(machine)
        self._write()

    def begin_row(self, name: str) -> None:
        """Note that a row is being measured."""
        self.contents["open_row"] = name
        self._write()

    def end_row(self, values: Mapping[str, Any]) -> None:
        """Add the open row, with its `status` and its values, and print it."""
        row = {"row": self.open_row, **values}
        self.rows.append(row)
        self.contents["open_row"] = None
        self._write()
        print(_line(row), flush=True)

    def end_all(self, names: Sequence[str], values: Mapping[str, Any]) -> None:
        """Add the same values for every row that has not ended."""
        for name in self.missing(names):
            self.begin_row(name)
            self.end_row(values)

    def _write(self) -> None:
        new_path = self.path.with_name(f"{self.path.name}.new")
        new_path.write_text(json.dumps(self.contents, indent=1), encoding="utf-8")
        new_path.replace(self.path)


def _line(row: Mapping[str, Any]) -> str:
    """A row as one line; values in lists and mappings are in the file alone."""
    head = f"{row['row']}: " if row["status"] == "done" else f"{row['row']}: {row['status']}: "
    values = {
        name: value
        for name, value in row.items()
        if name not in ("row", "status") and not isinstance(value, dict | list)
    }
    return head + ", ".join(
        str(value) if name in ("reason", "error") else f"{name} {_text(value)}"
        for name, value in values.items()
    )


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
