"""Kept students: with `keep`, the weights of students stay in folders of `<out>/students/<study>/`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.config import Keep
from harness.errors import StorageError
from harness.runtime.progress import say
from harness.storage.claims import Claims
from harness.storage.ledger import Ledger
from harness.storage.students import student_name, students_folder
from harness.training.run import Run

CARD = "README.md"


def write_card(runs_folder: Path, run: Run, card: str) -> None:
    """Write the model card into the folder of a student that a worker has saved.

    Raises:
        StorageError: the system refuses the write.
    """
    file = students_folder(runs_folder, run.study) / student_name(run.fingerprint) / CARD
    try:
        file.write_text(card, encoding="utf-8", errors="replace")
    except OSError as error:
        raise StorageError(f"{file}: cannot be written ({error.strerror})") from error


def add_to_card(folder: Path, title: str, section: str) -> None:
    """Add a section to the end of a student's card, unless its `title` is there.

    Raises:
        StorageError: the system refuses the read or the write.
    """
    file, new_file = folder / CARD, folder / f".{CARD}"
    try:
        card = file.read_text(encoding="utf-8")
        if f"\n{title}\n" not in card:
            new_file.write_text(f"{card}\n{section}", encoding="utf-8")
            new_file.replace(file)
    except OSError as error:
        raise StorageError(f"{file}: cannot be written ({error.strerror})") from error


class KeptStudents:
    """The kept students of one study. A folder's name is the first 16 digits of a run's fingerprint."""

    def __init__(
        self, runs_folder: Path, study: str, keep: Keep, ledger: Ledger, claims: Claims
    ) -> None:
        self.folder = students_folder(runs_folder, study)
        self.study = study
        self.keep = keep
        self.ledger = ledger
        self.claims = claims

    def clean_up(self, scores: Mapping[str, float | None], trial: int | None = None) -> None:
        """With `keep=best`, remove all students of these report runs but the one of the best score.

        `scores` are by fingerprint, None for runs that are not complete. If `trial` is given, students
        of other trials go too. Students of other seeds stay. A line warns of students that should be
        there and are not, since an earlier command finished their runs without keeping them.
        """
        complete_scores = {key: score for key, score in scores.items() if score is not None}
        keepers = set(complete_scores if self.keep == "report" else ())
        if self.keep == "best" and complete_scores:
            keepers = {max(complete_scores, key=lambda key: (complete_scores[key], key))}
        if self.keep == "best":
            other_trials = {
                run.record.fingerprint
                for run in self.ledger.study_runs(self.study)
                if run.role == "report" and trial is not None and run.trial != trial
            }
            self._remove((other_trials | set(scores)) - keepers)
        self._clear_leftovers()
        missing_keys = [key for key in keepers if not self._folder_of(key).is_dir()]
        if missing_keys:
            say(
                f"warning: {len(missing_keys)} of {len(keepers)} students to keep are not there: their "
                "runs were finished earlier, without keeping them; another --out trains them again"
            )

    def _folder_of(self, fingerprint: str) -> Path:
        return self.folder / student_name(fingerprint)

    def _remove(self, fingerprints: Iterable[str]) -> None:
        with self.claims.hold(f"students:{self.study}"):
            for folder in map(self._folder_of, fingerprints):
                try:
                    if folder.is_dir():
                        shutil.rmtree(folder)
                except OSError as error:
                    raise StorageError(f"{folder}: cannot be removed ({error.strerror})") from error

    def _clear_leftovers(self) -> None:
        """Remove folders that killed processes left half-written.

        The folders are listed before the claims are read: whoever writes a student has claimed its run
        before the folder begins. So a listed folder without a claim has no living writer.
        """
        folders = [(path, path.name[1:17]) for path in self.folder.glob(".*")]
        self.claims.drop_dead_owners()
        claimed_names = {key[:16] for key in self.claims.table.claimed_keys()}
        for path, name in folders:
            if name not in claimed_names:
                shutil.rmtree(path, ignore_errors=True)
