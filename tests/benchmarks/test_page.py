"""The made-up ledger is read as a real one is, and what is measured hangs together. Nothing is timed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import page
from benchmarks.made_up_results import STUDENT_LAYERS, TEACHER_LAYERS
from benchmarks.synthetic import Size, write_ledger
from harness.analysis.compare import summarise
from harness.registry.discovery import registry
from harness.storage.ledger import Ledger
from tests.records import inspections

SMALL = Size(methods=4, tasks=2, seeds=2, trials=2, epochs=3)
FLAGS = "--methods 2 --tasks 1 --seeds 2 --trials 1 --repeats 1 --json"


def read(folder: Path) -> Ledger:
    return Ledger(f"sqlite:///{folder / 'ledger.db'}")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    assert write_ledger(folder, SMALL) == "synthetic-2-tasks-4-methods"
    return folder


def test_every_comparison_of_the_ledger_is_complete(written: Path) -> None:
    ledger = read(written)
    result = summarise(ledger, "synthetic-2-tasks-4-methods")
    ledger.close()
    assert len(result.comparisons) == 2 * (4 - 1)
    assert not result.gaps
    assert all(c.seeds == (1, 2) and c.over_examples is not None for c in result.comparisons)
    assert all(len(found.search) == 2 and not found.failures for found in result.results)


def test_scores_are_those_of_the_predictions(written: Path) -> None:
    ledger = read(written)
    result = summarise(ledger, "synthetic-2-tasks-4-methods")
    mnli = result.result("mnli", "kd")
    assert mnli is not None
    assert mnli.metric == "accuracy"
    for run in mnli.report:
        for split, name in (
            ("validation_matched", "accuracy"),
            ("validation_mismatched", "accuracy (validation_mismatched)"),
        ):
            predicted = ledger.predictions(run.record.fingerprint, split)
            assert predicted is not None
            assert predicted.logits.shape == (len(predicted.ids), 3)
            right = np.mean(predicted.logits.argmax(axis=1) == predicted.labels)
            assert run.record.metrics[name] == pytest.approx(right)
    ledger.close()


def test_a_run_has_all_that_is_looked_at_inside(written: Path) -> None:
    ledger = read(written)
    result = summarise(ledger, "synthetic-2-tasks-4-methods")
    seen = {
        found.method: inspections(ledger, found.report[0].record.fingerprint)
        for found in result.results
    }
    ledger.close()
    assert seen["kd"].keys() == {"layers", "projection"}
    assert seen["kd"]["projection"]["fused"] is None
    assert seen["alp"].keys() == {"layers", "projection", "targets", "epochs"}
    weights = np.array(seen["alp"]["epochs"]["map"])
    assert weights.shape == (SMALL.epochs + 1, STUDENT_LAYERS, TEACHER_LAYERS)
    assert np.allclose(weights.sum(axis=-1), 1, atol=1e-3)
    assert np.array_equal(weights[-1], seen["alp"]["targets"]["map"])
    angles = np.array(seen["alp"]["layers"]["angles"]["after"])
    assert angles.shape == (STUDENT_LAYERS, TEACHER_LAYERS, TEACHER_LAYERS)
    assert np.array_equal(angles, angles.swapaxes(1, 2))
    assert not angles.diagonal(axis1=1, axis2=2).any()


def test_the_same_size_gives_the_same_ledger(written: Path, tmp_path: Path) -> None:
    write_ledger(tmp_path, SMALL)
    ledgers = read(written), read(tmp_path)
    first, second = (summarise(ledger, "synthetic-2-tasks-4-methods") for ledger in ledgers)
    assert [found.scores for found in first.results] == [found.scores for found in second.results]
    for ledger in ledgers:
        ledger.close()


def test_a_page_is_built_and_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("chromium") is None:
        pytest.skip("there is no chromium")
    assert page.main([*FLAGS.split(), "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["medians"].keys() == page.LABELS.keys()
    assert all(value > 0 for value in found["medians"].values())
    size = (tmp_path / "synthetic-1-tasks-2-methods" / "report.html").stat().st_size
    assert found["medians"]["page_megabytes"] == size / 1e6
    assert found["medians"]["peak_mebibytes"] > 100


def test_without_a_browser_the_build_alone_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert page.main([*FLAGS.removesuffix("--json").split(), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "chromium is not installed" in printed.err
    assert "build, processor s" in printed.out
    assert "opens" not in printed.out


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--methods 99", f"--methods: there are {len(registry().methods)}, not 99"),
        ("--seeds 0", "--seeds: 0 is below 1"),
    ],
)
def test_a_size_that_cannot_be_made_up_is_refused(
    flag: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert page.main([*flag.split(), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"{message}\n"
