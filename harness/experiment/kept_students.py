"""The students whose weights stay on disk (`keep`), one folder each in `<out>/students/<study>/`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor
from transformers import PretrainedConfig

from harness.config import Keep
from harness.errors import StorageError
from harness.method import Method
from harness.models.student import build_classifier, save_student
from harness.runtime.progress import say
from harness.storage.claims import Claims
from harness.storage.folders import replacing
from harness.storage.ledger import Ledger, Record

CARD = "README.md"


class KeptStudents:
    """The kept students of one study, in folders named by the first digits of their fingerprints."""

    def __init__(self, out: Path, study: str, keep: Keep, ledger: Ledger, claims: Claims) -> None:
        self.folder = out / "students" / study
        self.study = study
        self.keep = keep
        self.ledger = ledger
        self.claims = claims

    def save(
        self,
        fingerprint: str,
        config: PretrainedConfig,
        weights: Mapping[str, Tensor],
        method: Method | None,
        teacher: Path,
        card: str,
    ) -> None:
        """Write a report run's student with the tokenizer of the teacher's folder and its model card."""
        if self.keep != "none":
            with replacing(self._student(fingerprint)) as folder:
                save_student(build_classifier(config, weights), method, teacher, folder)
                (folder / CARD).write_text(card, encoding="utf-8", errors="replace")

    def tidy(self, trial: int, records: Mapping[str, Record], metric: str) -> None:
        """With `keep=best`, leave the best student of these report runs and none of their others.

        Those of settings that are no longer the best `trial` go too; those of other seeds stay. Says
        which students should be there and are not: their runs were finished by a command that did
        not keep them.
        """
        complete = [key for key, record in records.items() if record.status == "complete"]
        wanted = set(complete if self.keep == "report" else [])
        if self.keep == "best" and complete:
            wanted = {max(complete, key=lambda key: (records[key].metrics[metric], key))}
        if self.keep == "best":
            outdated = {
                run.record.fingerprint
                for run in self.ledger.study_runs(self.study)
                if run.role == "report" and run.trial != trial
            }
            self._remove((outdated | set(records)) - wanted)
        self._clear_leftovers()
        absent = [key for key in wanted if not self._student(key).is_dir()]
        if absent:
            say(
                f"warning: {len(absent)} of {len(wanted)} students to keep are not there: their runs "
                "were finished earlier, without keeping them; another --out trains them again"
            )

    def _student(self, fingerprint: str) -> Path:
        return self.folder / fingerprint[:16]

    def _remove(self, fingerprints: Iterable[str]) -> None:
        with self.claims.held(f"students:{self.study}"):
            for folder in map(self._student, fingerprints):
                try:
                    if folder.is_dir():
                        shutil.rmtree(folder)
                except OSError as error:
                    raise StorageError(f"{folder}: cannot be removed ({error.strerror})") from error

    def _clear_leftovers(self) -> None:
        """Remove what killed processes left of students; one being written has a claim by then."""
        left = [(path, path.name[1:17]) for path in self.folder.glob(".*")]
        self.claims.drop_gone()
        taken = {key[:16] for key in self.claims.table.claimed_keys()}
        for path, name in left:
            if name not in taken:
                shutil.rmtree(path, ignore_errors=True)
