from dataclasses import replace

import pytest

from harness.storage.compression import Compression, ModelSize, Speed, Timing
from reports.evidence import Evidence, read_evidence
from reports.export.results import results_table
from reports.kit.palette import method_styles
from reports.sections.compression import SECTION, pareto_front, quality_frame, sizes_frame

TEACHER = ModelSize(3_000_000, 1_000_000, 12 * 2**20, 20, 8_000_000)
STUDENT = ModelSize(1_500_000, 1_000_000, 6 * 2**20, 21, 2_000_000)
TIMING = Timing("a processor", 1, 9, Speed(0.008, 400.0), Speed(0.002, 1600.0))


def with_sizes(evidence: Evidence, timing: Timing | None) -> Evidence:
    sizes = {"rte": Compression(TEACHER, STUDENT, timing)}
    manifest = replace(evidence.manifest, compression=sizes)
    return replace(evidence, result=replace(evidence.result, manifest=manifest))


def test_sizes_are_of_teacher_and_student(evidence: Evidence) -> None:
    found = sizes_frame(with_sizes(evidence, TIMING), "rte").set_index("model")
    assert found["body"].tolist() == [2_000_000, 500_000]
    assert found["mebibytes"].tolist() == [12.0, 6.0]
    assert found["mflops"].tolist() == [8.0, 2.0]
    assert found["latency"].tolist() == pytest.approx([8.0, 2.0])
    assert found["speed_up"].tolist() == pytest.approx([1.0, 4.0])
    assert set(found["device"]) == {"a processor, 1 thread(s)"}


@pytest.mark.parametrize(("timing", "cost"), [(TIMING, "latency"), (None, "mflops")])
def test_quality_is_drawn_against_latency_or_else_operations(
    evidence: Evidence, timing: Timing | None, cost: str
) -> None:
    given = with_sizes(evidence, timing)
    found = quality_frame(given, "rte").set_index("method")
    assert found[cost].to_dict() == pytest.approx({"teacher": 8.0, "alp": 2.0, "finetune": 2.0})
    assert found["points"].to_dict() == pytest.approx(
        {
            "teacher": given.teacher_score("rte"),
            **{result.method: 100 * result.mean for result in given.results("rte")},
        }
    )
    assert found["points"]["alp"] > found["points"]["finetune"]
    assert found["front"].to_dict() == {
        "teacher": bool(found["points"]["teacher"] > found["points"]["alp"]),
        "alp": True,
        "finetune": False,
    }
    (block,) = SECTION.blocks(given, method_styles(given.methods))
    assert len(block.panels) == len(block.tables) == 1
    assert "Not surpassed: " in block.panels[0].alt


def test_without_sizes_there_is_no_section(evidence: Evidence) -> None:
    assert not SECTION.blocks(evidence, method_styles(evidence.methods))


def test_the_front_has_what_no_other_model_surpasses() -> None:
    points = [90.0, 80.0, 80.0, 70.0, 95.0, 95.0]
    costs = [4.0, 2.0, 3.0, 2.0, 9.0, 9.0]
    assert pareto_front(points, costs) == [True, True, False, False, True, True]


def test_sizes_are_columns_of_every_run(scribe) -> None:
    scribe.finished()
    table = results_table(with_sizes(read_evidence(scribe.ledger, "alp-rte"), TIMING))
    for name, value in {
        "model.teacher_parameters": 3_000_000,
        "model.student_parameters_without_embeddings": 500_000,
        "model.student_flops": 2_000_000,
        "model.student_latency_seconds": 0.002,
        "model.student_examples_per_second": 1600.0,
        "model.speed_up": 4.0,
        "model.device": "a processor",
    }.items():
        assert set(table[name]) == {value}, name
