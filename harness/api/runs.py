"""A runs folder with its ledger. Never imports torch."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from harness.api.ablation import Ablation
from harness.errors import UserError
from harness.storage.database import existing_url
from harness.storage.ledger import Ledger


class Runs:
    """The ablations of a runs folder. A context that ends the connection to the ledger."""

    def __init__(self, folder: Path, storage: str | None = None) -> None:
        """Open the ledger of a runs folder, or the database `storage`. Raises `UserError`."""
        self.folder = folder
        self._ledger = Ledger(existing_url(folder, storage))

    def ablations(self) -> list[Ablation]:
        """All ablations, oldest first."""
        return [self.ablation(name) for name in self._ledger.ablations()]

    def ablation(self, name: str) -> Ablation:
        """The ablation of that name.

        Raises:
            UserError: there is none.
        """
        if name not in (names := self._ledger.ablations()):
            raise UserError(f"{self.folder} has no ablation '{name}': it has {', '.join(names)}")
        return Ablation(self._ledger, name, self.folder)

    def close(self) -> None:
        """End the connection to the ledger."""
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Runs {self.folder}: {len(self._ledger.ablations())} ablation(s)>"


def open(runs: str | Path, storage: str | None = None) -> Runs:
    """Open a runs folder, where `--out` of a command puts its results.

    `storage` is the URL of the ledger's database, if that is not `ledger.db` in the folder.

    Raises:
        UserError: the folder has no ledger, or the database cannot be opened.
    """
    return Runs(Path(runs).expanduser(), storage)
