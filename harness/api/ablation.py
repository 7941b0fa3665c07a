"""One ablation of a ledger, read as pandas DataFrames. Never imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from harness.analysis.compare import AblationResult, summarise
from harness.analysis.comparison import Comparison
from harness.analysis.repeats import numbered, read_parts
from harness.analysis.results import MethodResult
from harness.errors import UserError
from harness.metric_table import metric_of
from harness.own_packages import refuse_shadows
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest
from harness.storage.record import LABEL_LOSS, StudyRun
from harness.storage.students import student_name, students_folder

SCORE_COLUMNS = (
    "task", "method", "is_baseline", "metric", "split", "unit", "number", "score", "weight",
)  # fmt: skip
VERDICT_COLUMNS = (
    "task", "method", "baseline", "metric", "verdict", "difference", "low", "high", "p",
    "equivalence_p", "margin", "detectable", "pairs", "scope", "sentence",
)  # fmt: skip
RUN_COLUMNS = ("repeat", "task", "method", "trial", "seed")
TRIAL_COLUMNS = (*RUN_COLUMNS, "status", "metric", "score", "label_loss")
CURVE_COLUMNS = (*RUN_COLUMNS, "role", "epoch", "term", "loss")
STUDENT_COLUMNS = (*RUN_COLUMNS, "score", "folder")


class Ablation:
    """One ablation: what one command compared.

    Scores and differences are in the metric's unit: 0.01 is a point. A value that does not apply is
    NaN or None. The results are read once; `harness.open` gives a new view of a study that goes on.
    """

    def __init__(self, ledger: Ledger, name: str, folder: Path) -> None:
        """The ablation of that name in the ledger of a runs folder. Raises `StorageError`."""
        self.name = name
        self.folder = folder
        self._ledger = ledger
        self.manifest: Manifest = ledger.manifest(name)
        """The tasks, methods, teachers and protocol, and the comparisons that were planned."""

    @cached_property
    def result(self) -> AblationResult:
        """The results and comparisons that all tables are made of."""
        return summarise(self._ledger, self.name)

    def scores(self) -> pd.DataFrame:
        """The scores that are compared, one row for each unit of replication.

        `unit` is "trial", "seed" or "repeat", and `number` is its seed or number. `weight` is the
        score's share in the method's score. Shares of trials are those of the tuned score.
        """
        rows = []
        for result in self.result.results:
            weights = result.trial_weights
            for number, score in zip(result.seeds, result.scores, strict=True):
                rows.append(
                    {
                        **self._names(result),
                        "is_baseline": result.method == self.manifest.baseline,
                        "metric": result.metric,
                        "split": result.split,
                        "unit": self.manifest.unit,
                        "number": number,
                        "score": score,
                        "weight": weights.get(number, 1 / len(result.scores)),
                    }
                )
        return pd.DataFrame(rows, columns=pd.Index(SCORE_COLUMNS))

    def verdicts(self) -> pd.DataFrame:
        """The planned comparisons, one row each.

        `low` and `high` are the ends of the interval that the verdict uses. `p` and `equivalence_p` are
        adjusted in their families, and empty where runs were added until the decision. `detectable` is
        the least true difference that this number of `pairs` finds with power 0.8.
        """
        rows = [_verdict_row(comparison) for comparison in self.result.comparisons]
        return pd.DataFrame(rows, columns=pd.Index(VERDICT_COLUMNS))

    def along_axes(self) -> pd.DataFrame:
        """The comparisons along the axes as `verdicts`: each method with two values of an axis."""
        rows = [_verdict_row(comparison) for comparison in self.result.along_axes]
        return pd.DataFrame(rows, columns=pd.Index(VERDICT_COLUMNS))

    def trials(self) -> pd.DataFrame:
        """The trials of all searches and pools, one row a run, with a column `setting.NAME` for each
        hyper-parameter. `score` and `label_loss` are those on the selection split."""
        rows = []
        for repeat, result in self._results():
            for run in result.search:
                record = run.record
                rows.append(
                    {
                        **self._run_names(repeat, result, run),
                        "status": record.status,
                        "metric": result.metric,
                        "score": record.selection.get(result.metric),
                        "label_loss": record.selection.get(LABEL_LOSS),
                        **{
                            f"setting.{name}": value
                            for name, value in record.inputs.setting.items()
                        },
                    }
                )
        settings = sorted({name for row in rows for name in row} - set(TRIAL_COLUMNS))
        return pd.DataFrame(rows, columns=pd.Index([*TRIAL_COLUMNS, *settings]))

    def predictions(self, task: str) -> pd.DataFrame:
        """The stored answers of all report runs on a task, one row a run and example.

        `label` and `prediction` are classes as numbers, or a regression's values. `logit.N` are the
        outputs.

        Raises:
            UserError: the ablation has no such task.
        """
        self._check_task(task)
        parts = []
        for repeat, result in self._results():
            if result.task == task:
                parts += list(self._predictions(repeat, result))
        if parts:
            return pd.concat(parts, ignore_index=True)
        return pd.DataFrame(
            columns=pd.Index([*RUN_COLUMNS, "split", "example", "label", "prediction"])
        )

    def texts(self, task: str) -> dict[int, tuple[str, ...]]:
        """The texts of a task's examples on the split that report runs are scored on, by example.

        Raises:
            UserError: the ablation has no such task, or the task has no report run yet.
        """
        self._check_task(task)
        for _, result in self._results():
            if result.task == task and result.report:
                return self._ledger.texts(result.report[0].record.inputs.split.sha256)
        raise UserError(f"{self.name} has no report run on {task} yet")

    def curves(self) -> pd.DataFrame:
        """The mean of each loss term by epoch, from 1, one row a run, epoch and term."""
        rows = [
            {
                **self._run_names(repeat, result, run),
                "role": run.role,
                "epoch": epoch,
                "term": term,
                "loss": loss,
            }
            for repeat, result in self._results()
            for run in result.runs
            for epoch, terms in enumerate(run.record.curves, start=1)
            for term, loss in terms.items()
        ]
        return pd.DataFrame(rows, columns=pd.Index(CURVE_COLUMNS))

    def students(self) -> pd.DataFrame:
        """The kept students that are there, one row each; `folder` is for `harness.load_student`."""
        rows = [
            {
                **self._run_names(repeat, result, run),
                "score": run.record.metrics.get(result.metric),
                "folder": folder,
            }
            for repeat, result in self._results()
            for run in result.report
            for folder in [
                students_folder(self.folder, result.study) / student_name(run.record.fingerprint)
            ]
            if folder.is_dir()
        ]
        return pd.DataFrame(rows, columns=pd.Index(STUDENT_COLUMNS))

    def report(self, path: str | Path | None = None) -> Path:
        """Write the HTML report and its tables, and return its path; default: in the runs folder.

        Raises:
            StorageError: a file cannot be written.
            UserError: another package of the program is named as one of the harness's.
        """
        refuse_shadows()
        from reports.report import build_report  # only reports need plotly

        target = self.folder / self.name / "report.html" if path is None else Path(path)
        build_report(self._ledger, self.name, target)
        return target

    def __repr__(self) -> str:
        return (
            f"<Ablation {self.name}: {', '.join(self.manifest.methods)} on "
            f"{', '.join(self.manifest.studies)}>"
        )

    def _repr_html_(self) -> str:
        """The scores and verdicts as a table, for notebooks."""
        table = self._overview().to_html(index=False, border=0, na_rep="", escape=True)
        sentences = "".join(
            f"<li>{escape(text)}</li>"
            for text in (
                *(comparison.verdict.sentence for comparison in self.result.comparisons),
                *self.result.gaps,
            )
        )
        banners = "".join(f"<p><b>{escape(text)}</b></p>" for text in self.result.banners)
        return f"<p>{escape(self.name)}</p>{banners}{table}<ul>{sentences}</ul>"

    def _overview(self) -> pd.DataFrame:
        """The verdict table of the command in points, by task and method."""
        comparisons = {(c.task, c.method): c for c in self.result.comparisons}
        rows = []
        for result in self.result.results:
            row: dict[str, Any] = {
                **self._names(result),
                "metric": result.metric,
                "score": result.score_text,
                f"{self.manifest.unit}s": len(result.seeds),
                "difference": "",
                "verdict": "baseline" if result.method == self.manifest.baseline else "",
            }
            if (comparison := comparisons.get((result.task, result.method))) is not None:
                row["difference"] = comparison.difference_text
                row["verdict"] = comparison.verdict.outcome
            rows.append(row)
        return pd.DataFrame(rows)

    def _results(self) -> Iterator[tuple[int | None, MethodResult]]:
        """The results with runs: those of each repeat with its number, or all with None."""
        if not self.manifest.is_joint:
            yield from ((None, result) for result in self.result.results)
        parts = read_parts(self._ledger, self.manifest)
        for repeat, results in numbered(self.manifest, parts).items():
            yield from ((repeat, result) for result in results)

    def _names(self, result: MethodResult) -> dict[str, Any]:
        return {"task": result.task, "method": result.method}

    def _run_names(self, repeat: int | None, result: MethodResult, run: StudyRun) -> dict[str, Any]:
        return {
            "repeat": repeat,
            **self._names(result),
            "trial": run.trial,
            "seed": run.seed,
        }

    def _predictions(self, repeat: int | None, result: MethodResult) -> Iterator[pd.DataFrame]:
        """The answers of each complete report run, on every split that has them."""
        runs = [run for run in result.report if run.record.status == "complete"]
        of_scores = metric_of(result.metric).of_scores
        splits = dict.fromkeys(split for run in runs for split, _ in run.record.inputs.evaluation)
        for split in splits:
            stored = self._ledger.predictions_of([run.record.fingerprint for run in runs], split)
            for run in runs:
                if (answers := stored.get(run.record.fingerprint)) is None:
                    continue
                logits = answers.logits
                yield pd.DataFrame(
                    {
                        **self._run_names(repeat, result, run),
                        "split": split,
                        "example": answers.ids,
                        "label": answers.labels,
                        "prediction": logits[:, 0] if of_scores else logits.argmax(axis=1),
                        **{f"logit.{n}": logits[:, n] for n in range(logits.shape[1])},
                    }
                )

    def _check_task(self, task: str) -> None:
        if task not in self.manifest.studies:
            tasks = ", ".join(self.manifest.studies)
            raise UserError(f"{self.name} has no task '{task}': it has {tasks}")


def _verdict_row(comparison: Comparison) -> dict[str, Any]:
    low, high = comparison.decided_by.interval
    return {
        "task": comparison.task,
        "method": comparison.method,
        "baseline": comparison.baseline,
        "metric": comparison.metric,
        "verdict": comparison.verdict.outcome,
        "difference": comparison.difference.mean,
        "low": low,
        "high": high,
        "p": comparison.adjusted_p,
        "equivalence_p": None if comparison.equivalence is None else comparison.equivalence_p,
        "margin": comparison.margin,
        "detectable": comparison.detectable_difference,
        "pairs": comparison.difference.n,
        "scope": comparison.verdict.scope,
        "sentence": comparison.verdict.sentence,
    }
