"""A command with two axes: every cell is what a command of its own gives, in one family."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

import harness
from harness.analysis.compare import AblationResult, summarise
from harness.axis_names import values_in_words
from harness.experiment.population_queue import PopulationQueue
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.manifest import MANIFEST, AxisContrast
from harness.study import main
from harness.training import teacher
from harness.workers.trainer import Trainer
from tests.killing import Study, contents, result

AXES = ("--student-layers", "2,1", "--vary", "search.weights=convex,simplex")
CELLS = [(layers, weights) for layers in (2, 1) for weights in ("convex", "simplex")]


class Dice(Exception):
    """Stands for a kill at a chosen moment."""


def small(out: Path, encoder: Path, *more: str) -> list[str]:
    """Arguments of a demo study with pools of four trials, without a depth."""
    return [
        *("--preset", "demo", "--method", "alp", "--task", "stsb", "--trials", "6"),
        *("--out", str(out), "--json", "--allow-weak-teacher", f"teacher.pretrained={encoder}"),
        *("teacher.epochs=1", "training.epochs=1", "training.batch_size=64", "threads=1"),
        *("search.learning_rate=[1e-3,3e-2]", "protocol.budget=2", *more),
    ]


def answer(
    arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 0
) -> dict[str, Any]:
    capsys.readouterr()
    assert main(arguments) == code
    return dict(json.loads(capsys.readouterr().out))


def read(out: Path, ablation: str) -> AblationResult:
    ledger = Ledger(storage_url(out, None))
    result = summarise(ledger, ablation)
    ledger.close()
    return result


@dataclasses.dataclass(frozen=True)
class Studies:
    """The grid's folder, printed answer and result, and those of a command for each cell."""

    out: Path
    printed: dict[str, Any]
    grid: AblationResult
    separate_out: Path
    separate: dict[tuple[int, str], AblationResult]
    fine_tunings: int


@pytest.fixture(scope="module")
def studies(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Studies:
    folder = tmp_path_factory.mktemp("axes")
    answers = folder / "answers"
    with pytest.MonkeyPatch.context() as patch:
        count = 0
        fine_tune = teacher._fine_tune

        def counting(*parts: Any) -> None:
            nonlocal count
            count += 1
            fine_tune(*parts)

        def printed(arguments: list[str]) -> dict[str, Any]:
            with answers.open("w") as stream, pytest.MonkeyPatch.context() as stdout:
                stdout.setattr("sys.stdout", stream)
                assert main(arguments) == 0
            return dict(json.loads(answers.read_text()))

        patch.setattr(teacher, "_fine_tune", counting)
        found = printed(small(folder / "grid", tiny_encoder, *AXES))
        fine_tunings = count
        separate = {}
        for layers, weights in CELLS:
            words = ("--student-layers", str(layers), f"search.weights={weights}")
            own = printed(small(folder / "separate", tiny_encoder, *words))
            separate[layers, weights] = read(folder / "separate", own["ablation"])
    grid = read(folder / "grid", found["ablation"])
    return Studies(folder / "grid", found, grid, folder / "separate", separate, fine_tunings)


def test_each_cell_has_the_runs_and_scores_of_its_own_command_to_the_last_bit(
    studies: Studies,
) -> None:
    ours, theirs = contents(studies.out), contents(studies.separate_out)
    for part in ("runs", "predictions"):
        assert ours[part] == theirs[part]
    for (layers, weights), own in studies.separate.items():
        subject = f"stsb (layers={layers}, weights={weights})"
        for method in ("alp", "kd"):
            cell, separate = studies.grid.result(subject, method), own.result("stsb", method)
            assert cell is not None
            assert separate is not None
            assert len(set(cell.scores)) > 1  # or equal scores would prove nothing
            for part in ("scores", "seeds", "metrics", "setting", "tuned", "study"):
                assert getattr(cell, part) == getattr(separate, part)
        (comparison,) = (c for c in studies.grid.comparisons if c.task == subject)
        (alone,) = own.comparisons
        assert comparison.difference == alone.difference
        assert comparison.interval == alone.interval


@pytest.mark.slow
def test_a_grid_on_two_workers_has_the_table_of_the_commands_own_process(
    studies: Studies, tiny_encoder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    words = small(out, tiny_encoder, *AXES, "--workers", "2")
    driver = Study(words, out, tmp_path / "notes")
    driver.join()
    answer = driver.answer()
    assert answer["code"] == 0
    assert result(answer["printed"]) == result(json.dumps(studies.printed))
    ours, theirs = contents(out), contents(studies.out)
    for part in ("runs", "uses", "predictions", "params", "values"):
        assert ours[part] == theirs[part]


def test_teacher_and_its_outputs_are_made_once(studies: Studies) -> None:
    assert studies.fine_tunings == 1
    assert len(list((studies.out / "teachers").glob("stsb-*"))) == 1
    outputs = studies.out / "cache" / "teacher-outputs"
    assert len(list(outputs.glob("[!.]*"))) == 3  # its splits


def test_all_cells_are_one_family_and_the_axes_another(studies: Studies) -> None:
    grid = studies.grid
    subjects = [f"stsb (layers={layers}, weights={weights})" for layers, weights in CELLS]
    assert list(grid.manifest.family) == [(subject, "alp", "kd") for subject in subjects]
    assert grid.manifest.grid is not None
    layers, weights = "student.layers", "search.weights"
    assert grid.manifest.grid.family == tuple(
        AxisContrast(axis, method, subjects[subject], subjects[reference])
        for axis, pairs in ((layers, [(2, 0), (3, 1)]), (weights, [(1, 0), (3, 2)]))
        for subject, reference in pairs
        for method in ("alp", "kd")
    )
    for comparisons, count in ((grid.comparisons, 4), (grid.along_axes, 8)):
        assert len(comparisons) == count
        p_values = [comparison.difference.p_value for comparison in comparisons]
        expected = multipletests(p_values, method="holm")[1]
        found = [comparison.adjusted_p for comparison in comparisons]
        assert len(set(found)) > 1
        assert found == pytest.approx(expected.tolist())
        shares = [c.over_examples.confidence for c in comparisons if c.over_examples is not None]
        assert shares == pytest.approx([1 - 0.05 / count] * count)


def test_differences_along_an_axis_are_those_of_the_tuned_scores(studies: Studies) -> None:
    scores = {
        (method, *cell): result.mean
        for cell, own in studies.separate.items()
        for method in ("alp", "kd")
        if (result := own.result("stsb", method)) is not None
    }
    for row in studies.printed["along_axes"]:
        method = row["method"]
        cell, reference = (tuple(row[side].values()) for side in ("cell", "reference"))
        assert row["difference"] == pytest.approx(
            scores[(method, *cell)] - scores[(method, *reference)]
        )
    sentence = studies.printed["along_axes"][0]["sentence"]
    assert "alp at layers=1, tuned with 2 trials" in sentence
    assert "alp at layers=2 on stsb (weights=convex)" in sentence


def test_python_reads_cells_and_axes(studies: Studies) -> None:
    with harness.open(studies.out) as runs:
        ablation = runs.ablation(studies.grid.manifest.name)
        verdicts, along = ablation.verdicts(), ablation.along_axes()
        scores = ablation.scores()
    assert list(verdicts["task"]) == [task for task, _, _ in studies.grid.manifest.family]
    printed = studies.printed["along_axes"]
    assert along["difference"].tolist() == [row["difference"] for row in printed]
    assert along["p"].tolist() == [row["adjusted_p"] for row in printed]
    for row in studies.printed["results"]:
        task = f"stsb ({values_in_words(row['cell'])})"
        own = scores[(scores["task"] == task) & (scores["method"] == row["method"])]
        assert own["score"].tolist() == row["scores"]


def test_tables_have_the_axes(studies: Studies) -> None:
    cells = [row["cell"] for row in studies.printed["results"]]
    assert cells[::2] == [
        {"student.layers": layers, "search.weights": weights} for layers, weights in CELLS
    ]
    table = pd.read_csv(Path(studies.printed["report"]).with_name("results.csv"))
    columns = ["axis.student.layers", "axis.search.weights", "method"]
    assert (table.groupby(columns).size() == 6).all()
    assert set(table["task"]) == {"stsb"}
    for record in studies.printed["results"]:
        cell = record["cell"]
        rows = table[
            (table["axis.student.layers"] == cell["student.layers"])
            & (table["axis.search.weights"] == cell["search.weights"])
            & (table["method"] == record["method"])
        ]
        np.testing.assert_array_equal(rows["score"], record["scores"])
        assert list(rows["fingerprint"]) == record["runs"]


def test_the_page_shows_cells_and_no_section_that_joins_them(studies: Studies) -> None:
    page = Path(studies.printed["report"]).read_text()
    assert 'id="axes"' in page
    assert "Score by student.layers, weights=convex" in page
    assert 'id="across"' not in page
    assert "Means by task" not in page
    assert "STS-B (sentence similarity) (stsb), layers=1, weights=simplex" in page


def test_the_same_command_trains_nothing_and_a_further_value_its_own_cells(
    studies: Studies,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained: list[int] = []
    train = Trainer.train

    def counting(self: Trainer, runs: Any, *rest: Any, **options: Any) -> Any:
        trained.extend(self.config.student.layers for _ in runs)
        return train(self, runs, *rest, **options)

    monkeypatch.setattr(Trainer, "train", counting)
    again = answer(small(studies.out, tiny_encoder, *AXES), capsys)
    assert trained == []
    for part in ("results", "comparisons", "along_axes"):
        assert again[part] == studies.printed[part]
    more = ("--student-layers", "3,2,1", *AXES[2:])
    wider = answer(small(studies.out, tiny_encoder, *more), capsys)
    assert trained == [3] * 24
    assert [row for row in wider["results"] if row["cell"]["student.layers"] != 3] == again[
        "results"
    ]
    assert len(wider["comparisons"]) == 6
    assert len(wider["along_axes"]) == 2 * (2 * 3 + 3)


@pytest.mark.parametrize("moment", [1, 2])
def test_a_grid_cut_short_goes_on_to_the_same_end(
    studies: Studies,
    tiny_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    moment: int,
) -> None:
    write, count = PopulationQueue.write, 0

    def dying(self: PopulationQueue, *parts: Any) -> None:
        nonlocal count
        count += 1
        if count == moment:
            raise Dice
        write(self, *parts)

    arguments = small(tmp_path, tiny_encoder, "--student-layers", "2,1")
    with monkeypatch.context() as patch:
        patch.setattr(PopulationQueue, "write", dying)
        with pytest.raises(Dice):
            main(arguments)
    found = answer(arguments, capsys)
    convex = [
        row for row in studies.printed["results"] if row["cell"]["search.weights"] == "convex"
    ]
    keys = ("method", "scores", "runs")
    assert [[row[key] for key in keys] for row in found["results"]] == [
        [row[key] for key in keys] for row in convex
    ]


def test_looks_in_cells_wait_for_the_one_manifest(
    tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a margin of 90 points every comparison is equivalent at the first look."""
    words = ("--student-layers", "2,1", "--trials", "auto", "--max-trials", "30")
    arguments = small(tmp_path, tiny_encoder, *words, "protocol.margins.pearson=0.9")
    found = answer(arguments, capsys)
    shown = [(c["cell"]["student.layers"], c["pairs"], c["verdict"]) for c in found["comparisons"]]
    assert shown == [(2, 20, "equivalent"), (1, 20, "equivalent")]
    assert len(contents(tmp_path)["runs"]) == 2 * 2 * 20
    assert [(c["pairs"], c["most_pairs"], c["adjusted_p"]) for c in found["along_axes"]] == [
        (20, 30, None)
    ] * 2


def test_a_cell_that_cannot_be_is_left_out_and_settings_have_cells_too(
    tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The encoder has four layers, so no student of nine starts from it."""
    arguments = small(tmp_path, tiny_encoder, "--student-layers", "9,2,1", "--seeds", "2")
    words = [text for text in arguments if text != "protocol.budget=2"]
    found = answer([*words, "--trials", "2", "protocol.unit=settings"], capsys, code=3)
    assert list(found["refused"]) == ["stsb (layers=9)"]
    cells = [row["cell"]["student.layers"] for row in found["results"]]
    assert cells == [2, 2, 1, 1]
    assert [len(row["scores"]) for row in found["results"]] == [2] * 4
    assert [(c["cell"], c["reference"]) for c in found["along_axes"]] == [
        ({"student.layers": 1}, {"student.layers": 2})
    ] * 2
    assert len(contents(tmp_path)["runs"]) == 2 * 2 * (2 + 2)


def test_a_plan_has_each_cell_and_the_whole_and_counts_the_teacher_once(
    tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    plan = answer([*small(out, tiny_encoder, *AXES), "--dry-run"], capsys)
    (alone,) = answer([*small(out, tiny_encoder, "--student-layers", "2"), "--dry-run"], capsys)[
        "plan"
    ]
    assert [task["task"] for task in plan["plan"]] == [
        f"stsb (layers={layers}, weights={weights})" for layers, weights in CELLS
    ]
    assert [task["teacher_steps"] for task in plan["plan"]] == [alone["teacher_steps"], 0, 0, 0]
    assert [task["student_steps"] for task in plan["plan"]] == [alone["student_steps"]] * 4
    whole = plan["total"]
    assert (whole["cells"], whole["runs"]) == (4, 4 * alone["report_runs"])
    assert whole["student_steps"] == 4 * alone["student_steps"]
    assert whole["teacher_steps"] == alone["teacher_steps"]
    assert whole["seconds"] == pytest.approx(sum(task["seconds"] for task in plan["plan"]))
    first, *others = plan["plan"]
    assert all(task["disk_bytes"] < first["disk_bytes"] for task in others)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--vary", "threads=1,2"), "--vary threads: cannot be an axis"),
        (("--vary", "student.layers=2,x"), "student.layers: input should be a valid integer"),
        (
            ("--vary", "search.space.kd_weight=[2],[0.5]"),
            "at kd_weight=[2]: search.space.kd_weight",
        ),
        (("--vary", "search.space.margin=[1],[2]"), "none of the methods has it"),
        (
            ("--student-layers", "2,1", "--repeat-search", "2"),
            "--vary (or several --student-layers) and --repeat-search: leave one of them out; repeats "
            "of one cell are a command with its values",
        ),
        (("--student-layers", "2,1", "--vary", "student.layers=2,1"), "is given twice"),
    ],
)
def test_what_cannot_be_an_axis_ends_with_code_2_before_anything_is_prepared(
    tiny_encoder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    expected: str,
) -> None:
    out = tmp_path / "runs"
    assert main(small(out, tiny_encoder, *words)) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert expected in error[0]
    assert not out.exists()


def test_a_manifest_without_axes_has_no_word_of_them(studies: Studies) -> None:
    ours = Ledger(storage_url(studies.separate_out, None))
    name = next(iter(studies.separate.values())).manifest.name
    stored = MANIFEST.dump_python(ours.manifest(name), mode="json")
    ours.close()
    assert "grid" not in stored
    assert list(stored["studies"]) == ["stsb"]


def test_a_run_of_a_cell_is_repeated_with_the_configuration_of_the_cell(
    studies: Studies, capsys: pytest.CaptureFixture[str]
) -> None:
    run = studies.printed["results"][-1]["runs"][0]
    assert main(["--replay", run, "--out", str(studies.out)]) == 0
    assert "the same" in capsys.readouterr().out


def test_a_method_that_one_cell_cannot_use_is_left_out_there_alone(
    tiny_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--student-layers", "1", "--task", "rte", "--method", "alp,dkd", "--trials", "4")
    found = answer(small(tmp_path, tiny_encoder, *words, *AXES[2:]), capsys)
    assert list(found["refused"]) == ["dkd on rte (weights=simplex)"]
    compared = [(c["cell"]["search.weights"], c["method"]) for c in found["comparisons"]]
    assert compared == [("convex", "alp"), ("convex", "dkd"), ("simplex", "alp")]
    assert [c["method"] for c in found["along_axes"]] == ["alp", "kd"]
