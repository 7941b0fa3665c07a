"""GLUE's submission zip, from ledgers made by hand: names, words, sizes, and what is refused."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from sqlalchemy import update

from harness.data.tasks import load_task, task_names
from harness.storage.record import Predictions, Result
from harness.storage.schema import PREDICTIONS
from reports import submission
from reports.export import glue
from tests.manifests import STUDY, manifest
from tests.records import record

YES_NO, NLI = ["0", "1"], ["entailment", "neutral", "contradiction"]
OFFICIAL: dict[str, tuple[str, str, int, list[str]]] = {
    "CoLA.tsv": ("cola", "test", 1063, YES_NO),
    "SST-2.tsv": ("sst2", "test", 1821, YES_NO),
    "MRPC.tsv": ("mrpc", "test", 1725, YES_NO),
    "STS-B.tsv": ("stsb", "test", 1379, []),
    "QQP.tsv": ("qqp", "test", 390965, YES_NO),
    "MNLI-m.tsv": ("mnli", "test_matched", 9796, NLI),
    "MNLI-mm.tsv": ("mnli", "test_mismatched", 9847, NLI),
    "QNLI.tsv": ("qnli", "test", 5463, ["entailment", "not_entailment"]),
    "RTE.tsv": ("rte", "test", 3000, ["entailment", "not_entailment"]),
    "WNLI.tsv": ("wnli", "test", 146, YES_NO),
    "AX.tsv": ("mnli", "diagnostic", 1104, NLI),
}
"""Files by name: task, split, examples and what the outputs are called, in their order."""
WITHOUT_TORCH = """
import runpy, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "optuna"}:
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
sys.argv = ["reports.submission", *sys.argv[1:]]
runpy.run_module("reports.submission", run_name="__main__")
"""


def saying(labels: Any, outputs: int, ids: Any = None) -> Predictions:
    """Predictions of those labels, without true ones."""
    labels = np.asarray(labels)
    logits = np.eye(outputs, dtype=np.float32)[labels]
    numbered = np.arange(len(labels)) if ids is None else np.asarray(ids)
    return Predictions(logits, np.full(len(labels), np.nan), numbered)


def scoring(scores: Any) -> Predictions:
    logits = np.asarray(scores, dtype=np.float32)[:, None]
    return Predictions(logits, np.full(len(logits), np.nan), np.arange(len(logits)))


def wnli(first: int = 0) -> dict[str, Predictions]:
    """Its whole test split; the first answer tells whose it is."""
    return {"test": saying([first, *[1] * 145], 2)}


class Shelf:
    """Ablations of real data in a ledger."""

    def __init__(self, scribe: Any) -> None:
        self.ledger = scribe.ledger
        self.base = scribe.manifest | {
            **{"source": {"kind": "folder", "folder": "/data"}, "tasks": {}, "studies": {}},
            **{"family": [], "teachers": {}, "trials": 1, "report_seeds": list(range(1, 3001))},
        }

    def ablation(self, name: str, tasks: list[str], method: str = "alp", **changes: Any) -> None:
        values = self.base | {"name": name, **changes}
        values["studies"] = {task: {method: f"{name}-{task}-{method}"} for task in tasks}
        self.ledger.write_ablation(manifest(**values))
        for task in tasks:
            self.ledger.write_study(f"{name}-{task}-{method}", STUDY)
            self.run(name, task, 0, 0.5, {}, method, role="search")

    def run(
        self,
        ablation: str,
        task: str,
        seed: int,
        score: float | None,
        predictions: Mapping[str, Predictions],
        method: str = "alp",
        role: Any = "report",
    ) -> None:
        """A run with that score; one that failed without."""
        study = f"{ablation}-{task}-{method}"
        split = "validation_matched" if task == "mnli" else "validation"
        made = record(f"{study}-{role}-{seed}", score, inputs={"evaluation": [[split, "sha"]]})
        self.ledger.write_runs([Result(made, predictions, {})])
        self.ledger.use_run(study, role, 0, seed, made.fingerprint)


@pytest.fixture
def shelf(scribe: Any) -> Shelf:
    return Shelf(scribe)


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command; gives the zip's files as lines, and what was said."""

    def run(*more: str, method: str = "alp") -> tuple[dict[str, list[str]], str]:
        assert submission.main([str(tmp_path), "--method", method, *more]) == 0
        said = capsys.readouterr()
        with ZipFile(said.out.removesuffix("\n")) as archive:
            assert archive.testzip() is None
            files = {name: archive.read(name).decode() for name in archive.namelist()}
        assert all(text.endswith("\n") for text in files.values())
        return {name: text[:-1].split("\n") for name, text in files.items()}, said.err

    return run


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command, which must refuse in one line; gives the line."""

    def run(*more: str, method: str = "alp") -> str:
        assert submission.main([str(tmp_path), "--method", method, *more]) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert not list(tmp_path.glob("**/*.zip"))
        return said.err

    return run


def test_a_whole_submission(shelf, command, tmp_path):
    shelf.ablation("glue", task_names())
    for task in task_names():
        predictions = {
            split: saying(np.arange(rows) % len(words), len(words))
            if words
            else scoring(np.arange(rows) / 250)
            for own, split, rows, words in OFFICIAL.values()
            if own == task
        }
        shelf.run("glue", task, 1, 0.75, predictions)
    files, said = command()
    assert set(files) == set(OFFICIAL)
    for name, (_, _, rows, words) in OFFICIAL.items():
        expected = [
            words[i % len(words)] if words else f"{min(i / 250, 5):.3f}" for i in range(rows)
        ]
        assert files[name] == ["index\tprediction", *(f"{i}\t{x}" for i, x in enumerate(expected))]
    assert (tmp_path / "alp-glue.zip").is_file()
    assert "left out" not in said
    assert "warning" not in said
    assert (
        "mnli: seed 1, accuracy 75.00 on validation_matched, the highest of 1 report runs" in said
    )


def test_the_official_words_are_those_of_the_tasks_outputs():
    for file in glue.FILES:
        task = load_task(file.task)
        words = {label: word for word, label in task.folder.words.items()}
        assert file.words == tuple(words.get(label, label) for label in task.labels)
        assert task.scores in (None, glue.SCORES)
    predicted = {(file.task, file.split) for file in glue.FILES}
    assert predicted == {(name, split) for name in task_names() for split in load_task(name).test}
    assert len(predicted) == len(glue.FILES) == 11


def test_scores_are_held_to_the_range_and_rounded(shelf, command):
    shelf.ablation("glue", ["stsb"])
    scores = [-0.3, 5.2, 2.71828, 1.9996, 0.0, *[3.0] * 1374]
    shelf.run("glue", "stsb", 1, 0.8, {"test": scoring(scores)})
    files, _ = command()
    assert files["STS-B.tsv"][:6] == [
        *("index\tprediction", "0\t0.000", "1\t5.000", "2\t2.718", "3\t2.000", "4\t0.000"),
    ]


def answer_of(files: dict[str, list[str]]) -> str:
    return files["WNLI.tsv"][1]


def test_the_best_report_run_is_taken_and_another_on_request(shelf, command, refused):
    shelf.ablation("glue", ["wnli"])
    shelf.run("glue", "wnli", 1, 0.6, wnli(1))
    for seed, first in ((3, 1), (2, 0)):
        shelf.run("glue", "wnli", seed, 0.8, wnli(first))
    shelf.run("glue", "wnli", 4, None, {})
    assert "no report run with seed 4 is complete" in refused("--seed", "4")
    assert "no report run with seed 9 is complete" in refused("--seed", "9")
    files, said = command()
    assert answer_of(files) == "0\t0"
    assert "wnli: seed 2, accuracy 80.00 on validation, the highest of 3 report runs\n" in said
    assert "flatter" in said
    files, said = command("--seed", "1")
    assert answer_of(files) == "0\t1"
    assert "wnli: seed 1, accuracy 60.00 on validation\n" in said
    assert "highest" not in said
    assert "flatter" not in said


def test_what_is_missing_is_named(shelf, command, refused):
    shelf.ablation("glue", ["wnli", "mnli", "rte"])
    assert "WNLI.tsv, AX.tsv: no report run is complete" in refused()
    matched = saying(np.zeros(9796, int), 3)
    shelf.run("glue", "mnli", 1, 0.6, {"test_matched": matched})
    shelf.run("glue", "wnli", 1, 0.6, wnli())
    shelf.run("glue", "rte", 1, 0.6, {"test": saying(np.zeros(3000, int), 2)})
    shelf.run("glue", "rte", 2, 0.7, {})
    files, said = command()
    assert set(files) == {"WNLI.tsv", "MNLI-m.tsv"}
    left = [line for line in said.splitlines() if line.startswith("left out: ")]
    hint = "a run makes the predictions when it is trained"
    without = "has no predictions of split"
    trained = "CoLA.tsv, SST-2.tsv, MRPC.tsv, STS-B.tsv, QQP.tsv, QNLI.tsv"
    for line, start in zip(
        left,
        (
            f"left out: {trained}: alp was not trained on the task",
            f"left out: MNLI-mm.tsv: the run with seed 1 {without} test_mismatched: {hint}",
            f"left out: RTE.tsv: the run with seed 2 {without} test: {hint}",
            f"left out: AX.tsv: the run with seed 1 {without} diagnostic: {hint}",
        ),
        strict=True,
    ):
        assert line.startswith(start)
    assert "GLUE's server wants all 11 files: add the missing 9" in said
    assert "rte: seed" not in said
    assert set(command("--seed", "1")[0]) == {"WNLI.tsv", "MNLI-m.tsv", "RTE.tsv"}


def test_damaged_predictions_can_be_repaired(shelf, command):
    shelf.ablation("glue", ["wnli", "rte"])
    shelf.run("glue", "rte", 1, 0.6, {"test": saying(np.zeros(3000, int), 2)})
    shelf.run("glue", "wnli", 1, 0.6, wnli())
    with shelf.ledger.engine.begin() as connection:
        wnlis = PREDICTIONS.c.fingerprint.contains("wnli")
        connection.execute(update(PREDICTIONS).where(wnlis).values(logits=b"changed"))
    files, said = command()
    assert set(files) == {"RTE.tsv"}
    assert "left out: WNLI.tsv: harness_predictions, run " in said
    assert "; --repair trains it again" in said


NOT_FINITE = saying([0] * 146, 2)
NOT_FINITE.logits[7, 1] = np.nan


@pytest.mark.parametrize(
    ("predicted", "reason"),
    [
        (
            saying([0] * 145, 2),
            "145 examples of split test with 2 outputs; the official split has 146",
        ),
        (saying([0] * 147, 2), "147 examples"),
        (saying([0] * 146, 3), "with 3 outputs; the official split has 146 with 2"),
        (scoring([0.5] * 146), "with 1 outputs; the official split has 146 with 2"),
        (saying([0] * 146, 2, np.arange(1, 147)), "not numbered from 0 to 145 in order"),
        (saying([0] * 146, 2, [1, 0, *range(2, 146)]), "not numbered from 0 to 145 in order"),
        (saying([0] * 146, 2, [0, 0, *range(2, 146)]), "not numbered from 0 to 145 in order"),
        (NOT_FINITE, "the logits are not all finite numbers"),
    ],
)
def test_what_the_server_would_refuse_is_not_written(shelf, refused, predicted, reason):
    shelf.ablation("glue", ["wnli"])
    shelf.run("glue", "wnli", 1, 0.6, {"test": predicted})
    line = refused()
    assert line.startswith("error: --method alp: nothing to submit: ")
    assert reason in line.partition("WNLI.tsv: ")[2]


def test_tasks_of_several_ablations_come_together_unless_one_is_in_two(shelf, command, refused):
    shelf.ablation("small", ["wnli"])
    shelf.ablation("big", ["rte"])
    shelf.ablation("jobs", ["jobs"])
    shelf.run("small", "wnli", 1, 0.6, wnli(0))
    shelf.run("big", "rte", 1, 0.6, {"test": saying(np.zeros(3000, int), 2)})
    assert "nothing to submit" in refused("--ablation", "jobs")
    assert set(command()[0]) == {"WNLI.tsv", "RTE.tsv"}
    shelf.ablation("again", ["wnli", "jobs"])
    shelf.run("again", "wnli", 1, 0.6, wnli(1))
    files, _ = command("--ablation", "again", "--ablation", "big")
    assert (set(files), answer_of(files)) == ({"WNLI.tsv", "RTE.tsv"}, "0\t1")
    assert set(command("--ablation", "again", "--ablation", "jobs")[0]) == {"WNLI.tsv"}
    files, _ = command("--ablation", "small", "--ablation", "small")
    assert (set(files), answer_of(files)) == ({"WNLI.tsv"}, "0\t0")


def test_a_task_in_two_ablations_is_refused(shelf, refused):
    shelf.ablation("small", ["wnli"])
    shelf.ablation("again", ["wnli"])
    shelf.ablation("other", ["wnli"], method="kd")
    assert (
        "--method alp: small and again both have the method on wnli; choose with --ablation"
        in refused()
    )


def test_of_repeats_the_best_run_of_all_is_taken(shelf, command):
    for part, score in (("x-r0", 0.6), ("x-r1", 0.7)):
        shelf.ablation(part, ["wnli"])
        shelf.run(part, "wnli", 1 if part == "x-r0" else 1001, score, wnli(score > 0.65))
    shelf.ablation("x-x3", ["wnli"], repeats=["x-r0", None, "x-r1"])
    files, said = command()
    assert answer_of(files) == "0\t1"
    assert "wnli: seed 1001, accuracy 70.00 on validation, the highest of 2 report runs" in said
    assert answer_of(command("--ablation", "x-r0")[0]) == "0\t0"


def test_of_pools_the_best_trial_by_selection_of_the_first_repeat_is_taken(shelf, command):
    """The reported scores choose nothing, neither among trials nor among repeats."""
    config = {"protocol": {"budget": 1}}
    pools = {"p-r0": ((0.9, 0.5), (0.6, 0.9)), "p-r1": ((0.5, 0.95), (0.6, 0.7))}
    for part, trials in pools.items():
        shelf.ablation(part, ["wnli"], trials=2, unit="methods", config=config)
        study = f"{part}-wnli-alp"
        for trial, (selection, score) in enumerate(trials):
            inputs = {"evaluation": [["validation", "sha"]], "selection": "sha of selection"}
            made = record(f"{study}-{trial}", score, inputs=inputs)
            made = replace(made, selection={"accuracy": selection, "label_loss": 0.0})
            shelf.ledger.write_runs([Result(made, wnli(score > 0.8), {})])
            shelf.ledger.use_run(study, "report", trial, trial + 1, made.fingerprint)
    repeats = {"repeats": ["p-r0", "p-r1"], "report_seeds": [0, 1]}
    shelf.ablation("p-x2", ["wnli"], trials=2, unit="methods", config=config, **repeats)
    files, said = command("--ablation", "p-x2")
    assert answer_of(files) == "0\t0"
    chosen = "wnli: seed 1, accuracy 50.00 on validation, the best selection score of 2 trials"
    assert chosen in said
    assert "flatters" not in said
    assert "seed 2, accuracy 70.00" in command("--ablation", "p-r1")[1]
    assert answer_of(command("--ablation", "p-r0", "--seed", "2")[0]) == "0\t1"


def test_the_demo_is_never_submitted(shelf, refused):
    shelf.ablation("glue", ["wnli"], source={"kind": "demo", "folder": None})
    shelf.run("glue", "wnli", 1, 0.6, wnli())
    assert "WNLI.tsv: the demo's data are made up" in refused()


def test_the_same_predictions_are_the_same_bytes_elsewhere_too(shelf, command, tmp_path):
    shelf.ablation("glue", ["wnli"])
    shelf.run("glue", "wnli", 1, 0.6, wnli())
    out = tmp_path / "new" / "one.zip"
    command("--out", str(out))
    command()
    assert [path.name for path in out.parent.iterdir()] == ["one.zip"]
    assert out.read_bytes() == (tmp_path / "alp-glue.zip").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ablation", "no\nne"], "--ablation no ne: not in the ledger, which has glue"),
        (["--storage", "nonsense"], "not a database URL"),
        (["--out", "{0}/ledger.db/one.zip"], "cannot be written"),
        (["--out", "{0}"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(shelf, refused, tmp_path, arguments, message):
    shelf.ablation("glue", ["wnli"])
    shelf.run("glue", "wnli", 1, 0.6, wnli())
    assert message in refused(*(argument.format(tmp_path) for argument in arguments))


def test_unknown_methods_and_empty_ledgers_are_named(shelf, refused):
    assert "the ledger has no ablation yet" in refused()
    shelf.ablation("glue", ["wnli"])
    assert "--method alq: not in the ledger, which has alp" in refused(method="alq")


def test_a_method_of_any_name_stays_in_the_folder(shelf, refused, command, tmp_path):
    name = "../<script>alert(1)</script>"
    shelf.ablation("glue", ["wnli"], method=name)
    shelf.run("glue", "wnli", 1, 0.6, wnli(), method=name)
    assert "cannot name a file; give --out" in refused(method=name)
    files, _ = command("--out", str(tmp_path / "one.zip"), method=name)
    assert set(files) == {"WNLI.tsv"}


def test_the_command_runs_without_torch(shelf, tmp_path):
    shelf.ablation("glue", ["wnli"])
    shelf.run("glue", "wnli", 1, 0.6, wnli())
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, str(tmp_path), "--method", "alp"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(submission.__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'alp-glue.zip'}\n"
