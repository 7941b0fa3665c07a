"""Inspections of runs, by the whole command and beside a bare training loop."""

import json
import math
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.analysis.compare import summarise
from harness.errors import UserError
from harness.evaluation import inspection
from harness.evaluation.inspection import COMPARED_EXAMPLES, _round, _spread
from harness.registry.discovery import registry
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.study import main
from tests.conftest import small_study
from tests.records import inspections

EPOCHS = 2
METHODS = "kd,alp,alp-np,uniform,rail,universal,ckd-no"


@pytest.fixture(scope="module")
def seen(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path
) -> dict[str, list[dict[str, Any]]]:
    """Everything recorded of the report runs of a study, by method."""
    out = tmp_path_factory.mktemp("inside")
    flags = ("--method", METHODS, "--trials", "1", "--seeds", "2", f"training.epochs={EPOCHS}")
    assert main(small_study(out, tiny_encoder, *flags)) == 0
    with closing(Ledger(storage_url(out, None))) as ledger:
        (ablation,) = ledger.ablations()
        results = summarise(ledger, ablation).results
        for result in results:
            for run in result.search:
                assert set(inspections(ledger, run.record.fingerprint)) <= {"targets"}
        found = {
            result.method: [inspections(ledger, run.record.fingerprint) for run in result.report]
            for result in results
        }
        one = results[0].report[0].record.fingerprint
        layers = {one: inspections(ledger, one)["layers"]}
        assert ledger.inspections_of([one, "nobody"], "layers") == layers
        assert ledger.inspections_of([one], "nothing") == {}
    return found


def test_every_report_run_says_how_alike_its_layers_are(
    seen: dict[str, list[dict[str, Any]]],
) -> None:
    starts: dict[str, list[Any]] = {"cls": [], "mean": []}
    for runs in seen.values():
        assert len(runs) == 2
        for found in runs:
            layers = found["layers"]
            assert layers["split"] == "validation"
            assert np.shape(layers["cka"]["before"]) == np.shape(layers["cosine"]["after"])
            students, teachers = np.shape(layers["cka"]["after"])
            assert np.shape(layers["angles"]["after"]) == (students, teachers, teachers)
            assert layers["cka"]["before"] != layers["cka"]["after"]
            starts[layers["pooling"]].append(layers["cka"]["before"])
    assert {pooling: len(own) for pooling, own in starts.items()} == {"cls": 12, "mean": 2}
    for own in starts.values():
        assert all(start == own[0] for start in own)  # all students begin as the same encoder


def test_attention_is_there_for_every_epoch_of_methods_that_have_it(
    seen: dict[str, list[dict[str, Any]]],
) -> None:
    attentive = {method for method, runs in seen.items() if "epochs" in runs[0]}
    assert attentive == {"alp", "alp-np", "uniform", "universal"}
    for method in attentive:
        for found in seen[method]:
            epochs = found["epochs"]
            assert epochs["epochs"] == list(range(EPOCHS + 1))
            assert np.sum(epochs["map"], axis=-1) == pytest.approx(1.0, abs=1e-3)
            assert np.shape(epochs["entropy"]) == np.shape(epochs["map"])[:2]
            # The final map, of all the split's examples, is near that of the first ones.
            assert (found["targets"]["examples"], epochs["examples"]) == (800, COMPARED_EXAMPLES)
            assert np.allclose(found["targets"]["map"], epochs["map"][-1], atol=0.02)
    assert seen["uniform"][0]["epochs"]["entropy"][0] == pytest.approx([1.0, 1.0])
    first, *_, last = seen["alp"][0]["epochs"]["map"]
    assert first != last


def test_points_are_drawn_of_states_and_of_targets_as_wide_as_they_are(
    seen: dict[str, list[dict[str, Any]]],
) -> None:
    for method, runs in seen.items():
        for found in runs:
            drawn = found["projection"]
            examples = len(drawn["labels"])
            students, teachers = np.shape(found["layers"]["cka"]["after"])
            assert drawn["joint"]
            assert np.shape(drawn["student"]) == (students, examples, 2)
            assert np.shape(drawn["teacher"]) == (teachers, examples, 2)
            fused = method in ("alp", "alp-np", "uniform")
            assert (drawn["fused"] is not None) == fused
            if fused:
                assert np.shape(drawn["fused"]) == (students, examples, 2)
            assert 0 < sum(drawn["explained"]["student"]) <= 1
    # A uniform mixture lies at the mean of the teacher's points, on any plane.
    drawn = seen["uniform"][0]["projection"]
    assert np.allclose(drawn["fused"], np.mean(drawn["teacher"], axis=0), atol=1e-3)


@pytest.mark.parametrize("engine", ["stacked", "reference"])
def test_looking_changes_nothing(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: Any, engine: str
) -> None:
    def scores(out: Path) -> Any:
        flags = ("--method", "alp", "--trials", "1", "--seeds", "2", f"training.epochs={EPOCHS}")
        used = f"training.engine={engine}"
        assert main(small_study(out, tiny_encoder, *flags, used)) == 0
        with closing(Ledger(storage_url(out, None))) as ledger:
            (ablation,) = ledger.ablations()
            report = [run for r in summarise(ledger, ablation).results for run in r.report]
            stored = [ledger.predictions(r.record.fingerprint, "validation") for r in report]
            assert all(predicted is not None for predicted in stored)
            return [
                (r.record.curves, p.logits.tolist())
                for r, p in zip(report, stored, strict=True)
                if p
            ]

    looked = scores(tmp_path / "looked")
    monkeypatch.setattr("harness.workers.trainer.Trainer._inspection_recorder", lambda *given: None)
    assert scores(tmp_path / "unseen") == looked


@pytest.mark.parametrize(("init", "starts"), [("skip", 1), ("random", 3)])
def test_one_model_shows_all_seeds_before_training(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, init: str, starts: int
) -> None:
    """All seeds of copied layers begin with equal states, which are compared once."""
    build, compare = inspection.build_classifier, inspection.Inspector.similarities
    calls = {"builds": 0, "comparisons": 0}

    def building(*given: Any) -> Any:
        calls["builds"] += 1
        return build(*given)

    def comparing(*given: Any) -> Any:
        calls["comparisons"] += 1
        return compare(*given)

    monkeypatch.setattr(inspection, "build_classifier", building)
    monkeypatch.setattr(inspection.Inspector, "similarities", comparing)
    flags = ("--trials", "1", "--seeds", "3", "--baseline", "none", f"student.init={init}")
    assert main(small_study(tmp_path, tiny_encoder, *flags)) == 0
    assert calls == {"builds": 1, "comparisons": starts + 3}


def test_a_method_that_cannot_be_inspected_midway_keeps_its_run(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alp = registry().resolve("alp")
    inspect, calls = alp.inspect, 0

    def failing(self: Any, *given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:  # after the search run's own, and that before training
            raise UserError("nothing there")
        return inspect(self, *given)

    monkeypatch.setattr(alp, "inspect", failing)
    flags = ("--trials", "1", "--seeds", "1", "--baseline", "none", "--json")
    assert main(small_study(tmp_path, tiny_encoder, *flags, f"training.epochs={EPOCHS}")) == 0
    found = capsys.readouterr()
    assert "warning: alp, seed 1: inspect failed after epoch 1: " in found.err
    assert [len(result["scores"]) for result in json.loads(found.out)["results"]] == [1]


@pytest.mark.parametrize("broken", ["scalar", "nan", "row"])
def test_targets_of_an_odd_shape_are_not_drawn_and_keep_their_run(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: str,
) -> None:
    alp = registry().resolve("alp")
    inspect = alp.inspect

    def odd(self: Any, *given: Any) -> Any:
        seen = inspect(self, *given)
        if broken == "scalar":
            return seen | {"target": seen["target"].mean()}
        return seen | {
            "target": seen["target"][:, 0] if broken == "row" else seen["target"] * math.nan
        }

    monkeypatch.setattr(alp, "inspect", odd)
    flags = ("--trials", "1", "--seeds", "1", "--baseline", "none")
    assert main(small_study(tmp_path, tiny_encoder, *flags)) == 0
    with closing(Ledger(storage_url(tmp_path, None))) as ledger:
        (ablation,) = ledger.ablations()
        (result,) = summarise(ledger, ablation).results
        (run,) = result.report
        assert run.record.status == "complete"
        assert inspections(ledger, run.record.fingerprint)["projection"]["fused"] is None
    told = "inspect failed before training: target has shape " in capsys.readouterr().err
    assert told == (broken != "nan")


def test_examples_are_spread_over_the_split() -> None:
    assert _spread(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert _spread(101, 3).tolist() == [0, 50, 100]
    assert _spread(1, 3).tolist() == [0]


def test_numbers_are_round_and_what_is_none_is_null() -> None:
    given = {"a": torch.tensor([[0.123456, math.nan]]), "b": [1e-9, 12345.6]}
    assert _round(given) == {"a": [[0.1235, None]], "b": [1e-9, 12350.0]}
