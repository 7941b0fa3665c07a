"""The whole line: one command, real parts, a tiny encoder."""

import dataclasses
import errno
import json
import shlex
import shutil
import sqlite3
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from harness.analysis.compare import summarise
from harness.cli import command as study_command
from harness.compose import compose_config
from harness.config import ProtocolConfig, SourceConfig, json_values
from harness.data.sources import load_task_data
from harness.data.tasks import load_task
from harness.data.tokens import encode
from harness.demo import examples as demo
from harness.errors import TeacherError
from harness.experiment import ablation, manifest, report_runs
from harness.experiment.flows import Flow, RunRequest
from harness.experiment.population_queue import PopulationQueue
from harness.method import (
    DISTILLATION,
    Context,
    Hyper,
    Layers,
    Method,
    Shapes,
    require_equal_widths,
    weight,
)
from harness.method.losses import mean_squared_error
from harness.models.checkpoints import tokenizer_of
from harness.registry import discovery as registry
from harness.registry.checks import check_at_start
from harness.runtime.device import Arithmetic
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.storage.record import Result
from harness.study import main
from harness.training.population import Population
from harness.training.prediction import predict
from harness.workers import trainer
from harness.workers.trainer import Trainer
from tests.conftest import small_pools, small_study
from tests.killing import contents

Command = Callable[..., dict[str, Any]]


class Dice(Exception):
    """Stands for a kill at a chosen moment."""


@pytest.fixture
def command(tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*more: str, out: str = "runs", code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        assert main(small_study(tmp_path / out, tiny_encoder, *more)) == code
        return dict(json.loads(capsys.readouterr().out))

    return run


def opened(folder: Path) -> Ledger:
    return Ledger(storage_url(folder, None))


def test_one_command_gives_records_a_verdict_and_a_report(command: Command, tmp_path: Path) -> None:
    summary = command()
    assert [(r["method"], len(r["scores"])) for r in summary["results"]] == [("alp", 2), ("kd", 2)]
    (comparison,) = summary["comparisons"]
    assert (comparison["method"], comparison["baseline"], comparison["pairs"]) == ("alp", "kd", 2)
    assert comparison["verdict"] == "not decided"
    scores = {r["method"]: r["scores"] for r in summary["results"]}
    assert comparison["difference"] == pytest.approx(np.mean(scores["alp"]) - np.mean(scores["kd"]))
    page = Path(summary["report"]).read_text()
    assert "DEMO DATA" in page
    assert summary["ablation"].startswith("demo-rte-alp+kd-")
    # 2 methods × (2 trials + 2 seeds), each exactly once.
    assert len(contents(tmp_path / "runs")["runs"]) == 8
    assert all(p.suffix == ".lock" for p in tmp_path.rglob("*") if p.name.startswith((".", "tmp")))


def test_report_runs_are_paired_and_search_runs_never_see_validation(
    command: Command, tmp_path: Path
) -> None:
    summary = command()
    ledger = opened(tmp_path / "runs")
    result = summarise(ledger, summary["ablation"])
    for found in result.results:
        assert found.seeds == (1, 2)
        assert {run.seed for run in found.search}.isdisjoint(found.seeds)
        for run in found.search:
            assert [name for name, _ in run.record.inputs.evaluation] == ["selection"]
            assert ledger.predictions(run.record.fingerprint, "validation") is None
        for run in found.report:
            assert run.record.inputs.setting == found.setting
            ((name, digest),) = run.record.inputs.evaluation
            assert name == "validation"
            told = ledger.texts(digest)
    assert told == dict(enumerate(demo.generate("rte")["validation"].texts))
    labels = ledger.manifest(summary["ablation"]).tasks["rte"].labels
    assert labels == ("entailment", "not_entailment")
    ledger.close()


def test_the_second_call_trains_nothing_and_more_seeds_only_the_new_ones(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = command()
    trained: list[tuple[str, int]] = []
    train = Trainer.train

    def counting(self: Trainer, runs: Any, *rest: Any, **options: Any) -> Any:
        trained.extend((run.role, run.seed) for run in runs)
        return train(self, runs, *rest, **options)

    monkeypatch.setattr(Trainer, "train", counting)
    again = command()
    assert trained == []
    assert (again["results"], again["comparisons"]) == (first["results"], first["comparisons"])
    assert "REPORT SEEDS" not in Path(again["report"]).read_text()
    more = command("--seeds", "3")
    assert "asked for 2, then 3, with results in between" in Path(more["report"]).read_text()
    assert trained == [("report", 3)] * 2
    assert [r["scores"][:2] for r in more["results"]] == [r["scores"] for r in first["results"]]


def test_seeds_are_added_until_the_comparison_is_decided(command: Command, tmp_path: Path) -> None:
    """Within a margin of 90 points any two methods are equivalent, as soon as 1 / 2^n may be spent."""
    auto = ("--seeds", "auto", "--max-seeds", "8")
    wide = command(*auto, "protocol.margins.accuracy=0.9")
    (comparison,) = wide["comparisons"]
    assert (comparison["verdict"], comparison["pairs"], comparison["most_pairs"]) == (
        "equivalent",
        6,
        8,
    )
    assert (comparison["adjusted_p"], comparison["equivalence_p"]) == (None, None)
    assert [len(r["seeds"]) for r in wide["results"]] == [6, 6]
    assert len(contents(tmp_path / "runs")["runs"]) == 2 * (2 + 6)
    page = Path(wide["report"]).read_text()
    assert "after 6 of at most 8 paired seeds" in page
    assert "there is no p value" in page
    # With three seeds nothing can be decided.
    (comparison,) = command("--seeds", "auto", "--max-seeds", "3")["comparisons"]
    assert (comparison["verdict"], comparison["pairs"]) == ("not decided", 3)
    # The runs behind a decision are there, and are neither used nor shown.
    again = command(*auto, "protocol.margins.accuracy=0.9")
    assert (again["results"], again["comparisons"]) == (wide["results"], wide["comparisons"])


def test_undecided_comparisons_get_seeds_look_by_look(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waves: list[int] = []
    open_request = PopulationQueue.open

    def watched(self: PopulationQueue, flow: Flow, request: RunRequest) -> Any:
        if "report seeds" in request.label:
            waves.append(len(request.runs))
        return open_request(self, flow, request)

    def undecided(runs: Any, records: Any, metric: str) -> dict[int, float]:
        ended = [run for run in runs if run.fingerprint in records]
        return {r.seed: 0.5 + 0.2 * (-1) ** r.seed * (r.method.name == "alp") for r in ended}

    monkeypatch.setattr(PopulationQueue, "open", watched)
    monkeypatch.setattr(report_runs, "_scores", undecided)
    command("--seeds", "auto", "--max-seeds", "9")
    assert waves == [2 * 6, 2 * 8, 2 * 9]
    assert len(contents(tmp_path / "runs")["runs"]) == 2 * (2 + 9)


@pytest.mark.parametrize("moment", [1, 2])
def test_a_study_cut_short_continues_to_the_same_end(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    expected = command(out="undisturbed")
    write, count = PopulationQueue.write, 0

    def dying(self: PopulationQueue, *parts: Any) -> None:
        nonlocal count
        count += 1
        if count == moment:
            raise Dice
        write(self, *parts)

    with monkeypatch.context() as patch:
        patch.setattr(PopulationQueue, "write", dying)
        with pytest.raises(Dice):
            command(out="cut")
    found = command(out="cut")
    assert found["results"] == expected["results"]
    assert contents(tmp_path / "cut") == contents(tmp_path / "undisturbed")


def test_a_kept_student_loads_in_hugging_face_and_repeats_its_predictions(
    command: Command, tmp_path: Path, tiny_encoder: Path, arithmetic: Arithmetic
) -> None:
    summary = command("--keep", "report")
    folder = tmp_path / "runs"
    ledger = opened(folder)
    result = summarise(ledger, summary["ablation"])
    data = load_task_data(load_task("rte"), SourceConfig(), ProtocolConfig())
    inputs = encode(data.evaluation["validation"].texts, tokenizer_of(tiny_encoder), 64)
    students = {p.name: p for p in (folder / "students").glob("*/*")}
    assert len(students) == 4
    for found in result.results:
        for run in found.report:
            stored = ledger.predictions(run.record.fingerprint, "validation")
            assert stored is not None
            student = AutoModelForSequenceClassification.from_pretrained(
                students[run.record.fingerprint[:16]]
            ).eval()
            assert student.config.id2label == {0: "entailment", 1: "not_entailment"}
            logits = predict(student, inputs, arithmetic, None).logits
            torch.testing.assert_close(logits, torch.tensor(stored.logits), atol=1e-5, rtol=1e-4)
    ledger.close()


@pytest.mark.parametrize(("keep", "expected"), [("best", 2), ("none", 0)])
def test_keep(command: Command, tmp_path: Path, keep: str, expected: int) -> None:
    command("--keep", keep)
    assert len(list((tmp_path / "runs" / "students").glob("*/*"))) == expected


def test_keeping_the_best_touches_only_the_runs_it_reports(
    command: Command, tmp_path: Path
) -> None:
    """More seeds of the same study, kept by another command, stay."""
    command("--baseline", "none", "--seeds", "4", "--keep", "report")
    students = tmp_path / "runs" / "students"
    assert len(list(students.glob("*/*"))) == 4
    command("--baseline", "none", "--seeds", "2", "--keep", "best")
    assert len(list(students.glob("*/*"))) == 3


def test_the_student_of_a_setting_that_is_no_longer_best_goes(
    command: Command, tmp_path: Path
) -> None:
    summary = command("--baseline", "none", "--seeds", "1")
    ledger = opened(tmp_path / "runs")
    (result,) = summarise(ledger, summary["ablation"]).results
    assert result.best_trial is not None
    former = dataclasses.replace(result.report[0].record, fingerprint="f" * 64)
    ledger.write_runs([Result(former, {}, {})])
    ledger.use_run(result.study, "report", 1 - result.best_trial, 1, former.fingerprint)
    ledger.close()
    (best,) = (tmp_path / "runs" / "students").glob("*/*")
    old = shutil.copytree(best, best.with_name("f" * 16))
    command("--baseline", "none", "--seeds", "1")
    assert best.is_dir()
    assert not old.exists()


def test_students_that_were_not_kept_are_named_missing(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_encoder: Path
) -> None:
    command("--baseline", "none")
    main(small_study(tmp_path / "runs", tiny_encoder, "--baseline", "none", "--keep", "report"))
    assert "1 of 2 students to keep are not there" in capsys.readouterr().err


def test_equal_settings_are_trained_once_and_counted_for_each_trial(
    command: Command, tmp_path: Path
) -> None:
    fixed = "search.space={learning_rate:[5e-5],temperature:[2.0],kd_weight:[0.5]}"
    command("--method", "kd", "--baseline", "none", "--trials", "4", "--seeds", "1", fixed)
    with sqlite3.connect(tmp_path / "runs" / "ledger.db") as database:
        uses = database.execute(
            "SELECT trial, fingerprint FROM harness_study_runs WHERE role = 'search' ORDER BY trial"
        ).fetchall()
    database.close()
    assert [trial for trial, _ in uses] == [0, 1, 2, 3]
    assert len({fingerprint for _, fingerprint in uses}) == 1
    assert len(contents(tmp_path / "runs")["runs"]) == 2


def test_dry_run_prints_the_plan_and_keeps_no_ledger(
    command: Command, tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plan,) = command("--dry-run")["plan"]
    assert (plan["search_runs"], plan["report_runs"]) == (4, 4)
    steps = -(-plan["train_examples"] // 64)
    assert plan["student_steps"] == 8 * steps
    assert plan["seconds"] > 0
    (most,) = command("--dry-run", "--seeds", "auto", "--max-seeds", "3")["plan"]
    assert (most["stopping"], most["report_runs"]) == ("sequential", 6)
    pools = small_pools(tmp_path / "pools", tiny_encoder, "--trials", "auto", "--max-trials", "30")
    assert main([*pools, "--dry-run"]) == 0
    (most,) = json.loads(capsys.readouterr().out)["plan"]
    assert (most["stopping"], most["search_runs"], most["report_runs"]) == ("sequential", 0, 60)
    assert not (tmp_path / "runs").exists()


def test_a_plan_counts_the_predictions_of_report_runs(command: Command, tmp_path: Path) -> None:
    disk = {}
    for seeds in ("1", "2"):
        (plan,) = command("--dry-run", "--seeds", seeds, "--keep", "none")["plan"]
        disk[seeds] = plan["disk_bytes"]
    command("--seeds", "1", "--trials", "1", "--baseline", "none")
    with sqlite3.connect(tmp_path / "runs" / "ledger.db") as database:
        columns = "length(logits) + length(labels) + length(ids)"
        (held,) = database.execute(f"SELECT sum({columns}) FROM harness_predictions").fetchone()
    database.close()
    assert disk["2"] - disk["1"] == 2 * held


def test_dry_run_pre_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr("harness.demo.encoder.write_encoder")
    out = tmp_path / "runs"
    assert main(f"--method alp --task rte --preset demo --out {out} --dry-run".split()) == 0
    assert ", 80 trials = " in capsys.readouterr().out
    assert not out.exists()


def test_all_methods_share_teacher_and_outputs(command: Command, tmp_path: Path) -> None:
    summary = command("--method", "all", "--trials", "1")
    names = set(registry.registry().methods)
    assert {r["method"] for r in summary["results"]} == names
    assert len(summary["comparisons"]) == len(names) - 1
    assert len(list((tmp_path / "runs" / "teachers").glob("rte-*"))) == 1
    assert len(list((tmp_path / "runs" / "cache" / "teacher-outputs").glob("[!.]*"))) == 3


@pytest.mark.parametrize("task", ["stsb", "mnli", "cola"])
def test_other_kinds_of_task(command: Command, task: str) -> None:
    summary = command("--task", task, "--trials", "1")
    assert [len(r["scores"]) for r in summary["results"]] == [2, 2]
    setting = summary["results"][0]["setting"]
    assert ("temperature" in setting) == (task != "stsb")


def test_paper_protocol_and_simplex_weights(command: Command) -> None:
    summary = command("--protocol", "paper", "search.weights=simplex")
    setting = summary["results"][0]["setting"]
    assert setting["kd_weight"] + setting["layer_weight"] <= 1.0
    assert "PROTOCOL paper" in Path(summary["report"]).read_text()


def test_simplex_weights_leave_out_a_method_with_another_weight(command: Command) -> None:
    summary = command("--method", "alp,dkd", "--trials", "1", "search.weights=simplex")
    assert {result["method"] for result in summary["results"]} == {"kd", "alp"}


def test_a_weak_teacher_is_refused_with_its_numbers(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = small_study(tmp_path / "runs", tiny_encoder, "teacher.learning_rate=1e-9")
    given.remove("--allow-weak-teacher")
    assert main(given) == 2
    error = capsys.readouterr().err
    assert "a constant prediction's 0.5" in error
    assert "--allow-weak-teacher" in error


def test_a_task_that_cannot_be_read_does_not_stop_the_others(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = ablation.load_task_data

    def failing(task: Any, *rest: Any) -> Any:
        if task.name == "cola":
            raise ablation.DataError("cola: no such file")
        return load(task, *rest)

    monkeypatch.setattr(ablation, "load_task_data", failing)
    summary = command("--task", "cola,rte", "--trials", "1", code=3)
    assert {r["task"] for r in summary["results"]} == {"rte"}
    assert summary["refused"] == {"cola": "cola: no such file"}


def test_a_task_that_cannot_be_planned_does_not_stop_the_others(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = study_command.plan_task

    def failing(config: Any, data: Any, *rest: Any, **more: Any) -> Any:
        if data.task.name == "cola":
            raise TeacherError("cola: no teacher")
        return plan(config, data, *rest, **more)

    monkeypatch.setattr(study_command, "plan_task", failing)
    answer = command("--task", "cola,rte", "--dry-run", code=3)
    assert [plan["task"] for plan in answer["plan"]] == ["rte"]
    assert answer["refused"] == {"cola": "cola: no teacher"}


class LastLayer(Method):
    """LAYER = MSE(s_m, t_n). Hyper-parameters: temperature, kd_weight, layer_weight."""

    name = "last-layer"
    summary = "the student's last layer matches the teacher's last"
    paper = "example"
    space: ClassVar[dict[str, Hyper]] = {
        **DISTILLATION,
        "layer_weight": weight(0.1, 100.0, "as for alp"),
    }

    def __init__(self, shapes: Shapes, *rest: Any) -> None:
        super().__init__(shapes, *rest)
        require_equal_widths(shapes, self.name, "alp")

    def terms(
        self, student: Layers, teacher: Layers, labels: torch.Tensor, context: Context
    ) -> dict[str, torch.Tensor]:
        return {"layer": mean_squared_error(student.states[:, -1:], teacher.states[:, -1:])}


class Exploding(LastLayer):
    """LAYER is not finite. Hyper-parameters: temperature, kd_weight, layer_weight."""

    name = "exploding"

    def terms(
        self, student: Layers, teacher: Layers, labels: torch.Tensor, context: Context
    ) -> dict[str, torch.Tensor]:
        return {"layer": student.states.mean() * float("inf")}


class Stumbling(LastLayer):
    """LAYER as above, but with one of the settings it raises. Hyper-parameters: as above."""

    name = "stumbling"
    supports_vmap = False
    runs: ClassVar[int] = 0
    weights: ClassVar[list[float]] = []

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        type(self).runs += 1

    def terms(
        self, student: Layers, teacher: Layers, labels: torch.Tensor, context: Context
    ) -> dict[str, torch.Tensor]:
        own = float(context.scalars["layer_weight"])
        if own not in self.weights:
            self.weights.append(own)
        if self.weights.index(own) == 1:
            raise ZeroDivisionError("an epoch\nof nothing")
        return super().terms(student, teacher, labels, context)


class Greedy(LastLayer):
    """LAYER needs more memory than there is. Hyper-parameters: as above."""

    name = "greedy"

    def terms(
        self, student: Layers, teacher: Layers, labels: torch.Tensor, context: Context
    ) -> dict[str, torch.Tensor]:
        return {"layer": torch.empty(2**60).mean()}


class Unbuildable(LastLayer):
    """It cannot be built. Hyper-parameters: as above."""

    name = "unbuildable"

    def __init__(self, *parts: Any) -> None:
        raise LookupError("no such table")


@pytest.fixture
def more_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    found = registry.registry()
    failing = (Exploding, Stumbling, Greedy, Unbuildable)
    added = {kind.name: kind for kind in (LastLayer, *failing)}
    extended = registry.Registry(dict(sorted({**found.methods, **added}.items())), {})
    monkeypatch.setattr(Stumbling, "runs", 0)
    monkeypatch.setattr(Stumbling, "weights", [])
    for module in (
        *("cli.choices", "cli.command", "cli.listing", "cli.replay"),
        *("experiment.manifest", "registry.discovery"),
    ):
        monkeypatch.setattr(f"harness.{module}.registry", lambda: extended)

    def check(kind: type[Method]) -> None:
        """Let those pass that stand for methods which fail in training alone."""
        if kind not in failing:
            check_at_start(kind)

    monkeypatch.setattr("harness.cli.arguments.check_at_start", check)


@pytest.mark.usefixtures("more_methods")
def test_a_new_method_is_listed_trained_and_reported(
    command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--list", "methods"]) == 0
    assert "last-layer" in capsys.readouterr().out
    summary = command("--method", "last-layer", "--trials", "1")
    assert summary["results"][0]["method"] == "last-layer"
    assert "last-layer" in Path(summary["report"]).read_text()


@pytest.mark.usefixtures("more_methods")
def test_a_method_whose_runs_fail_is_reported_and_does_not_stop_the_others(
    command: Command,
) -> None:
    summary = command("--method", "exploding", "--trials", "1", code=1)
    assert summary["failures"] == [
        "rte exploding: search run, trial 0, seed 1000000: the loss is not finite in epoch 1"
    ]
    assert [len(r["scores"]) for r in summary["results"]] == [0, 2]
    assert summary["missing"] == ["exploding against kd on rte: no pair of finished report runs"]
    assert "the loss is not finite" in Path(summary["report"]).read_text()


@pytest.mark.usefixtures("more_methods")
def test_a_run_that_raises_is_recorded_and_the_study_goes_on(
    command: Command, tmp_path: Path
) -> None:
    summary = command("--method", "stumbling", "--baseline", "none", "--trials", "4", code=1)
    (failure,) = summary["failures"]
    assert "ZeroDivisionError: an epoch (test_study.py, line " in failure
    assert len(summary["results"][0]["scores"]) == 2
    with sqlite3.connect(tmp_path / "runs" / "ledger.db") as database:
        states = database.execute("SELECT state, COUNT(*) FROM trials GROUP BY state").fetchall()
    database.close()
    assert sorted(states) == [("COMPLETE", 3), ("FAIL", 1)]
    assert "ZeroDivisionError" in Path(summary["report"]).read_text()
    trained = Stumbling.runs
    assert command("--method", "stumbling", "--baseline", "none", "--trials", "4", code=1)[
        "failures"
    ] == [failure]
    assert Stumbling.runs == trained  # nothing is trained again


@pytest.mark.usefixtures("more_methods")
def test_out_of_memory_is_a_failed_run(command: Command) -> None:
    summary = command("--method", "greedy", "--trials", "1", code=1)
    (failure,) = summary["failures"]
    assert "trial 0, seed 1000000: out of memory: " in failure
    assert [len(r["scores"]) for r in summary["results"]] == [0, 2]


@pytest.mark.usefixtures("more_methods")
def test_memory_that_lacked_beside_others_is_there_alone_and_in_another_command(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--method", "last-layer", "--baseline", "none", "--trials", "4", "--seeds", "1")
    train, sizes = trainer.train_population, []

    def crowded(members: Any, *rest: Any, most: int) -> Any:
        sizes.append(len(members))
        if len(members) > most:
            raise MemoryError("by 1 GiB")
        return train(members, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train_population", partial(crowded, most=1))
        expected = command(*asked)
    assert expected["failures"] == []
    assert sizes == [4, 2, 1, 1, 2, 1, 1, 1]
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train_population", partial(crowded, most=0))
        summary = command(*asked, out="small", code=1)
    assert len(summary["failures"]) == 4
    found = command(*asked, out="small")
    assert found["failures"] == []
    # Together or alone: the same but for the last digits.
    for one, other in zip(found["results"], expected["results"], strict=True):
        assert one["scores"] == pytest.approx(other["scores"])


@pytest.mark.usefixtures("more_methods")
def test_what_a_population_held_is_free_before_its_halves_are_trained(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Population]] = []
    left: list[list[int]] = []
    begin, step = Population.__init__, Population.train_batch

    def beginning(self: Population, *given: Any) -> None:
        left.append([len(held.members) for ref in alive if (held := ref()) is not None])
        begin(self, *given)
        alive.append(weakref.ref(self))

    def short(self: Population, *given: Any) -> None:
        if len(self.members) > 1:
            raise MemoryError("by 1 GiB")
        step(self, *given)

    monkeypatch.setattr(Population, "__init__", beginning)
    monkeypatch.setattr(Population, "train_batch", short)
    asked = ("--method", "last-layer", "--baseline", "none", "--trials", "4", "--seeds", "1")
    assert command(*asked)["failures"] == []
    assert len(left) > 6
    assert not any(left)


@pytest.mark.usefixtures("more_methods")
def test_a_lone_run_that_is_not_finite_says_so(command: Command) -> None:
    asked = ("--method", "exploding", "--baseline", "none", "--trials", "1")
    (failure,) = command(*asked, code=1)["failures"]
    assert failure.endswith("seed 1000000: the loss is not finite in epoch 1")


@pytest.mark.usefixtures("more_methods")
def test_a_run_that_raised_is_replayed(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command("--method", "stumbling", "--baseline", "none", "--trials", "4", code=1)
    ledger = opened(tmp_path / "runs")
    (study,) = ledger.manifest(ledger.ablations()[0]).studies["rte"].values()
    (failed,) = [r.record for r in ledger.study_runs(study) if r.record.status == "failed"]
    ledger.close()
    assert failed.provenance.population == (failed.fingerprint,)
    assert main(["--replay", failed.fingerprint, "--out", str(tmp_path / "runs")]) == 0
    assert "the same: both runs failed in the same way" in capsys.readouterr().out


@pytest.mark.usefixtures("more_methods")
def test_what_is_wrong_with_the_machine_is_no_runs_failure(
    command: Command, tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--method", "last-layer", "--baseline", "none", "--trials", "1")
    faults = {
        OSError(errno.EMFILE, "Too many open files"): "Too many open files",
        RuntimeError("CUDA error: an illegal memory access"): "the device failed: CUDA error",
    }
    for number, (fault, reason) in enumerate(faults.items()):
        out = tmp_path / str(number)
        with monkeypatch.context() as patch:
            patch.setattr(LastLayer, "terms", Mock(side_effect=fault))
            assert main(small_study(out, tiny_encoder, *asked)) == 2
        assert contents(out)["runs"] == []
        assert command(*asked, out=str(number))["failures"] == [], reason


@pytest.mark.usefixtures("more_methods")
def test_debug_shows_where_a_run_failed(command: Command, caplog: pytest.LogCaptureFixture) -> None:
    command("--method", "stumbling", "--baseline", "none", "--trials", "2", "--debug", code=1)
    assert "ZeroDivisionError: an epoch" in caplog.text
    assert "in terms" in caplog.text


@pytest.mark.usefixtures("more_methods")
def test_a_method_that_cannot_be_built_is_bad_input(
    tmp_path: Path, tiny_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(small_study(tmp_path, tiny_encoder, "--method", "unbuildable")) == 2
    assert "error: unbuildable: LookupError: no such table" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--method", "alpp"], "did you mean alp"),
        (["--task", "rtee"], "did you mean rte"),
        (["--preset", "huge"], "choose from auto, demo, minilm, paper"),
        (["--trials", "0"], "--trials: input should be greater than or equal to 1"),
        (["training.epoch=3", "seed=1"], "unknown key 'training.epoch'"),
        (["training.epochs=two"], "training.epochs: input should be a valid integer"),
        (["student.layers=9"], "--student-layers 9: the teacher has 4"),
        (["search.space.temprature=[1,2]"], "search.space.temprature: none of the methods has it"),
        (["baseline=finetune"], "'baseline=' is set by --baseline"),
        (["loose"], "'loose' is neither a flag nor KEY=VALUE"),
        (["--method", "pkd", "student.layers=1"], "needs at least 2"),
        (
            ["teacher.pretrained=/nowhere/at/all"],
            "/nowhere/at/all: no folder, and from the hub: it is not a valid name",
        ),
        (["storage=nonsense"], "storage: not a database URL"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    expected: str,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = small_study(tmp_path / "runs", tiny_encoder)
    for flag in more[::2]:
        if flag in given:
            position = given.index(flag)
            del given[position : position + 2]
    assert main([*given, *more]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert expected in errors[0]


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    for what, name in (("methods", "alp-np"), ("tasks", "stsb"), ("presets", "minilm")):
        assert main(["--list", what, "--json"]) == 0
        assert name in {entry["name"] for entry in json.loads(capsys.readouterr().out)}


def test_the_report_is_opened_when_that_is_asked_for(
    tmp_path: Path,
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.chdir(tmp_path)
    asked = small_study(Path("my runs"), tiny_encoder, "--method", "kd", "--baseline", "none")
    small = ("--trials", "1", "--seeds", "1")
    assert main([*asked, *small]) == 0
    assert opened == []
    capsys.readouterr()
    assert main([*asked, *small, "--open"]) == 0
    report = tmp_path / json.loads(capsys.readouterr().out)["report"]
    assert report.is_file()
    assert opened == [report.as_uri()]
    assert "my%20runs" in opened[0]


def test_where_things_lie_and_what_is_let_through_is_no_part_of_a_study(
    command: Command, tmp_path: Path, tiny_encoder: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(tiny_encoder, moved)
    first = command()
    again = command(f"teacher.pretrained={moved}", "threads=2", "keep=none")
    assert again["ablation"] == first["ablation"]
    assert len(contents(tmp_path / "runs")["runs"]) == 8


def test_the_start_of_students_is_part_of_a_run(command: Command, tmp_path: Path) -> None:
    command("student.origin=pretrained")
    command("student.origin=finetuned")
    command("student.init=first")
    assert len(contents(tmp_path / "runs")["runs"]) == 24


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("storage=postgresql://user:sesame@host/db", "storage=postgresql://user:***@host/db"),
        ("storage='postgresql://u:sesame@h/d?ssl=on'", "storage=postgresql://u:***@h/d?ssl=on"),
        ("storage=sesame", "storage=***"),
    ],
)
def test_a_storage_password_is_never_recorded(given: str, shown: str) -> None:
    assert (
        manifest.command_line(["--json", given])
        == f"python -m harness.study --json {shlex.quote(shown)}"
    )
    config = compose_config(["methods=[kd]", "tasks=[rte]", "storage='postgresql://u:sesame@h/d'"])
    assert "sesame" not in json.dumps(json_values(manifest.shown_config(config)))


def test_the_number_of_search_seeds_makes_another_study(command: Command, tmp_path: Path) -> None:
    first, second = command(), command("search.seeds=2")
    assert first["ablation"] != second["ablation"]


@pytest.mark.parametrize(("seeds", "warned"), [("5", True), ("6", False)])
def test_seeds_below_what_the_test_needs_are_warned_of(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    seeds: str,
    warned: bool,
) -> None:
    """The exact sign-flip test of n pairs gives at least 2/2^n."""
    assert main(small_study(tmp_path, tiny_encoder, "--seeds", seeds, "--dry-run")) == 0
    said = capsys.readouterr().err
    assert (f"warning: {seeds} report seeds cannot reach p < 0.05" in said) is warned
    assert ("at least 6 can" in said) is warned
