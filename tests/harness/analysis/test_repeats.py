"""The whole repeated: another teacher, search and seeds each time, and verdicts over those."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis.compare import AblationResult, summarise
from harness.analysis.scales import task_scales
from harness.config import ProtocolConfig, StudyConfig
from harness.errors import TeacherError
from harness.experiment.repeats import joint_manifest, repeat_config
from harness.experiment.search_runs import SearchRuns
from harness.storage.ledger import Ledger
from harness.storage.manifest import Manifest
from harness.storage.record import Result, Role
from harness.training.run import report_seeds, search_seeds
from harness.workers import workshop
from tests.harness.analysis.test_compare import predictions
from tests.harness.test_study import Command, command, opened
from tests.manifests import STUDY, manifest
from tests.records import record

__all__ = ["command"]


def settings_config() -> StudyConfig:
    protocol = ProtocolConfig(unit="settings")
    return StudyConfig(
        preset="demo", methods=("alp", "kd"), tasks=("rte",), baseline="kd", protocol=protocol
    )


def test_repeats_have_seeds_of_their_own() -> None:
    of_each = [{*report_seeds(1000, r), *search_seeds(1000, r)} for r in range(3)]
    assert sum(map(len, of_each)) == len(set.union(*of_each)) == 6000
    assert report_seeds(3) == report_seeds(3, 0) == [1, 2, 3]


def test_a_repeat_is_a_study_with_another_teacher_seed() -> None:
    config = settings_config()
    assert repeat_config(config, 0) == config
    assert repeat_config(config, 2).teacher.seed == config.teacher.seed + 2


def test_two_repeats_from_teacher_to_report(command: Command, tmp_path: Path) -> None:
    once = command()
    both = command("--repeat-search", "2")
    assert both["ablation"] == f"{once['ablation']}-x2"
    ledger = opened(tmp_path / "runs")
    joint = ledger.manifest(both["ablation"])
    parts = [summarise(ledger, name) for name in joint.repeats if name is not None]
    # The first repeat has the runs of the study without repeats, but a manifest of its own: asking
    # that study for other seeds does not change it. The second shares nothing with it.
    assert joint.repeats[0] == f"{once['ablation']}-r0"
    assert [r["scores"] for r in once["results"]] == [list(r.scores) for r in parts[0].results]
    teachers = {part.manifest.teachers["rte"].fingerprint for part in parts}
    assert len(teachers) == 2
    runs = [
        {
            run.record.fingerprint
            for result in part.results
            for run in (*result.search, *result.report)
        }
        for part in parts
    ]
    assert runs[0].isdisjoint(runs[1])
    asked = [[run.record.inputs.setting for run in part.results[0].search] for part in parts]
    assert asked[0] != asked[1]
    for result in both["results"]:
        of_parts = [part.result("rte", result["method"]) for part in parts]
        assert result["seeds"] == [0, 1]
        assert result["scores"] == pytest.approx(
            [np.mean(found.scores) for found in of_parts if found]
        )
    (comparison,) = both["comparisons"]
    assert comparison["pairs"] == 2
    assert "2 paired repeats" in comparison["sentence"]
    assert "over new teachers, searches and seeds" in comparison["sentence"]
    for name in [*joint.repeats, both["ablation"]]:
        page = (tmp_path / "runs" / name / "report.html").read_text()
        assert "DEMO DATA" in page
    assert all(str(name) in page for name in joint.repeats)
    ledger.close()


SEEDS = (1, 2)


def joined(
    ledger: Ledger,
    repeats: Sequence[Mapping[str, Sequence[float | None]]],
    lost: bool = False,
    asked: int = 0,
) -> AblationResult:
    """The result of repeats, given as report scores by method; `lost`: one more could not be done."""
    parts: list[Manifest] = []
    for number, scores in enumerate(repeats):
        teacher = {
            "fingerprint": f"t{number}",
            "metrics": {"validation": {"accuracy": 0.9 - number}},
        }
        part = manifest(
            name=f"part{number}",
            studies={"rte": {method: f"{method}-{number}" for method in ("alp", "kd")}},
            trials=1,
            report_seeds=list(SEEDS),
            family=[["rte", "alp", "kd"]],
            teachers={"rte": teacher},
            banners=[f"of part {number}", "of all"],
        )
        ledger.write_ablation(part)
        parts.append(part)
        for method, found in scores.items():
            study = f"{method}-{number}"
            ledger.write_study(study, STUDY)
            runs: list[tuple[Role, int, float | None]] = [("search", 0, 0.5)]
            runs += [("report", seed, score) for seed, score in zip(SEEDS, found, strict=False)]
            for role, seed, score in runs:
                name = f"{study}-{role}-{seed}"
                stored = role == "report" and score is not None
                kept = {"validation": predictions(score or 0.0)} if stored else {}
                ledger.write_runs([Result(record(name, score), kept, {})])
                ledger.use_run(study, role, 0, seed, name)
    config = settings_config()
    names = [*(part.name for part in parts), *([None] if lost else [])]
    joint = joint_manifest(config, parts, "joint", names)
    ledger.write_ablation(replace(joint, report_seeds=tuple(range(asked or len(parts)))))
    assert joint.banners == (
        "of part 0",
        "of all",
        *[f"of part {n}" for n in range(1, len(parts))],
    )
    scores = [0.9 - number for number in range(len(parts))]
    mean_teacher = joint.teachers["rte"]
    assert mean_teacher.metrics["validation"]["accuracy"] == pytest.approx(np.mean(scores))
    return summarise(ledger, "joint")


def test_each_repeat_is_one_pair_of_means(ledger: Ledger) -> None:
    repeats = [{"alp": [0.8, 0.9], "kd": [0.5 + 0.01 * n, 0.6]} for n in range(6)]
    result = joined(ledger, repeats)
    (comparison,) = result.comparisons
    expected = [0.85 - (1.1 + 0.01 * n) / 2 for n in range(6)]
    assert comparison.difference.differences == pytest.approx(expected)
    assert comparison.difference.p_value == pytest.approx(2 / 2**6)
    assert comparison.over_examples is None
    assert comparison.verdict.outcome == "better"
    assert comparison.verdict.sentence.endswith(
        "on these examples, over new teachers, searches and seeds."
    )


def test_a_repeat_that_lost_a_run_is_left_out_and_keeps_its_method_from_winning(
    ledger: Ledger,
) -> None:
    repeats: list[dict[str, list[float | None]]] = [
        {"alp": [0.8, 0.9], "kd": [0.5 + 0.01 * n, 0.6]} for n in range(7)
    ]
    repeats[3]["alp"] = [0.8, None]
    result = joined(ledger, repeats)
    (comparison,) = result.comparisons
    assert comparison.seeds == (0, 1, 2, 4, 5, 6)
    alp = result.result("rte", "alp")
    assert alp is not None
    assert (alp.failed_seeds, len(alp.failures)) == (frozenset({3}), 1)
    assert alp.failures[0].startswith("repeat 3, report run, trial 0, seed 2: ")
    assert "1 repeat left out as alp's run failed" in comparison.verdict.sentence


def test_there_is_no_verdict_before_the_last_repeat_has_ended(ledger: Ledger) -> None:
    repeats: list[dict[str, list[float | None]]] = [
        {"alp": [0.8, 0.9], "kd": [0.5 + 0.01 * n, 0.6]} for n in range(7)
    ]
    repeats[5]["kd"] = [0.5]
    result = joined(ledger, repeats)
    assert result.comparisons == ()
    assert result.gaps == ("alp against kd on rte: 6 of 7 repeats have ended",)


def test_a_repeat_that_could_not_be_done_is_lost_and_one_to_come_is_awaited(ledger: Ledger) -> None:
    repeats = [{"alp": [0.8, 0.9], "kd": [0.5 + 0.01 * n, 0.6]} for n in range(6)]
    result = joined(ledger, repeats, lost=True, asked=8)
    assert [found.failed_seeds for found in result.results] == [{6}, {6}]
    assert result.gaps == ("alp against kd on rte: 7 of 8 repeats have ended",)
    assert result.comparisons == ()


def test_a_teacher_that_is_refused_in_one_repeat_stops_no_other(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = workshop.prepare

    def sometimes(config: StudyConfig, *rest: Any) -> Any:
        if config.teacher.seed == 1:
            raise TeacherError("rte: the teacher is no better than luck")
        return prepare(config, *rest)

    monkeypatch.setattr(workshop, "prepare", sometimes)
    found = command("--repeat-search", "3", code=3)
    assert found["refused"] == {"repeat 1": "rte: the teacher is no better than luck"}
    assert [r["seeds"] for r in found["results"]] == [[0, 2], [0, 2]]
    assert found["missing"] == []
    # A second command that is only at its first repeat does not shorten what is there.
    monkeypatch.setattr(SearchRuns, "flow", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command("--repeat-search", "3")
    ledger = opened(tmp_path / "runs")
    assert len(ledger.manifest(found["ablation"]).repeats) == 3
    ledger.close()


def test_repeats_have_the_scale_of_their_teachers(ledger: Ledger) -> None:
    """The teachers' scores on the split of the repeats' report runs: .9 and -.1, .4 on average."""
    result = joined(ledger, [{"alp": [0.8, 0.9], "kd": [0.5, 0.6]}] * 2)
    assert [method.split for method in result.results] == ["validation"] * 2
    assert task_scales(result).reasons == {
        "rte": "teacher 40.0 and constant prediction 50.0 points are less than 5 apart"
    }
