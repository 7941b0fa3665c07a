"""The card of a kept student: what it says, that the hub's own reader reads it, that its code runs."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import EvalResult, ModelCard

from harness.config import ProtocolConfig, SourceConfig, StudyConfig
from harness.data.sources import load_task_data
from harness.data.tasks import FolderLayout, Task, load_task
from harness.experiment.model_card import model_card
from harness.registry.discovery import registry
from harness.storage.database import storage_url
from harness.storage.ledger import Ledger
from harness.study import main
from harness.training.run import Run
from tests.conftest import small_study
from tests.prepared import demo_config, prepared_task
from tests.records import record, run_inputs

HOSTILE = "a | b </td><script>alert(1)</script>\n---\n# `x` *y* [z](w)"


def card_of(
    config: StudyConfig,
    task: Task | None = None,
    metrics: dict[str, float] | None = None,
    method: str = "alp",
    teacher: dict[str, dict[str, float]] | None = None,
    **facts: Any,
) -> str:
    """The card of seed 3 of a study, with a score of 0.875."""
    task = task or load_task("rte")
    if teacher is not None:
        facts["metrics"] = teacher
    prepared = prepared_task(config, task, **facts)
    setting = {"learning_rate": 2e-5, "scaled": True}
    inputs = run_inputs(
        setting=setting, seed=3, evaluation=[[name, "sha"] for name in task.evaluation]
    )
    kind = registry().methods[method]
    run = Run(kind, f"{config.source.kind}-rte-{method}-0123abcd", 1, 3, "report", setting, inputs)
    scores = metrics or {task.metrics[0]: 0.875}
    made = replace(record(run.fingerprint, metrics=scores, seconds=7.5), inputs=inputs)
    return model_card(run, made, prepared)


def head(text: str) -> dict[str, Any]:
    """The head as the hub's reader has it."""
    data: dict[str, Any] = ModelCard(text).data.to_dict()
    return data


def results(text: str) -> list[EvalResult]:
    found: list[EvalResult] = ModelCard(text).data.eval_results
    return found


def test_the_head_of_a_student_of_the_hubs_data() -> None:
    teacher = {"pretrained": "google-bert/bert-base-uncased"}
    text = card_of(demo_config(source={"kind": "hub"}, teacher=teacher))
    found = head(text)
    (index,) = found.pop("model-index")
    assert found == {
        "base_model": "google-bert/bert-base-uncased",
        "datasets": ["nyu-mll/glue"],
        "language": "en",
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["alp", "knowledge-distillation"],
        "metrics": ["accuracy"],
    }
    assert index == {
        "name": "hub-rte-alp-0123abcd-seed-3",
        "results": [
            {
                "task": {"type": "text-classification"},
                "dataset": {
                    "name": "RTE (textual entailment)",
                    "type": "nyu-mll/glue",
                    "config": "rte",
                    "split": "validation",
                },
                "metrics": [{"type": "accuracy", "value": 0.875, "name": "accuracy"}],
            }
        ],
    }
    assert "DEMO" not in text
    assert "The data set `nyu-mll/glue` of Hugging Face's hub, configuration `rte`." in text


def test_the_body_says_scores_data_teacher_and_setting() -> None:
    text = card_of(demo_config(source={"kind": "hub"}))
    assert text.count("# hub-rte-alp-0123abcd-seed-3\n") == 1
    assert "| validation | accuracy | 87.50 |" in text
    assert "Examples: train 90, selection 20, validation 10." in text
    assert "97.50 on selection, 95.00 on validation; a constant prediction has 50.00" in text
    assert (
        "An encoder of 4 layers for RTE (textual entailment), distilled from a teacher of 12"
        in text
    )
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.S)]
    assert blocks[0] == ["entailment", "not_entailment"]
    assert blocks[1]["setting"] == {"learning_rate": 2e-5, "scaled": True}
    assert blocks[1]["seed"] == 3
    assert blocks[1]["training"]["epochs"] == 3
    assert blocks[1]["training"]["precision"] == "fp32"
    assert "Not chosen: whoever publishes this student chooses one" in text
    assert "license" not in head(text)


def test_the_demo_cannot_be_overlooked() -> None:
    text = card_of(demo_config())
    found = head(text)
    assert "demo-data" in found["tags"]
    assert {"datasets", "base_model", "language"}.isdisjoint(found)
    (result,) = results(text)
    assert result.dataset_type == "demo"
    assert result.dataset_name.startswith("DEMO DATA")
    body = text.partition("\n---\n\n")[2].splitlines()
    assert body[0] == "# demo-rte-alp-0123abcd-seed-3"
    assert body[2].startswith("> **DEMO DATA: ")


def test_warnings_stand_at_the_top() -> None:
    paper = {"name": "paper", "unit": "settings"}
    config = demo_config(source={"kind": "folder", "folder": "glue"}, protocol=paper)
    assert "\n> **PROTOCOL paper: settings were selected on the split" in card_of(config, weak=True)
    assert "\n> **rte: the teacher is no better than a constant" in card_of(config, weak=True)
    outside = "\n> **rte: the teacher comes from outside and may have seen the selection data.**"
    assert outside in card_of(demo_config(), outside=True)
    assert outside not in card_of(config, outside=True)
    assert "\n>" not in card_of(demo_config(source={"kind": "folder", "folder": "glue"}))


def test_both_splits_of_mnli_are_told() -> None:
    scores = {"accuracy": 0.8, "accuracy (validation_mismatched)": 0.75}
    text = card_of(demo_config(source={"kind": "hub"}), load_task("mnli"), scores)
    found = [(r.dataset_split, r.metric_type, r.metric_value) for r in results(text)]
    assert found == [
        ("validation_matched", "accuracy", 0.8),
        ("validation_mismatched", "accuracy", 0.75),
    ]
    assert "| validation\\_mismatched | accuracy | 75.00 |" in text


def test_metrics_have_the_hubs_names() -> None:
    scores = {"pearson": 0.5, "spearman": 0.25}
    text = card_of(demo_config(), load_task("stsb"), scores, teacher={"validation": scores})
    assert head(text)["metrics"] == ["pearsonr", "spearmanr"]
    assert [r.metric_type for r in results(text)] == ["pearsonr", "spearmanr"]
    assert '[\n "score"\n]' in text


@pytest.mark.parametrize(
    ("teacher", "student", "expected"),
    [
        ({"pretrained": "minilm"}, {}, "sentence-transformers/all-MiniLM-L6-v2"),
        ({"pretrained": "a/b", "checkpoint": "c/d-{task}"}, {}, "c/d-rte"),
        ({"pretrained": "a/b", "checkpoint": "c/d"}, {"origin": "pretrained"}, "a/b"),
        ({"pretrained": "a/b"}, {"init": "random"}, None),
        ({"pretrained": "demo"}, {}, None),
        ({"pretrained": "{folder}"}, {}, None),
    ],
)
def test_the_base_model_is_what_the_student_starts_from(
    tmp_path: Path, teacher: dict[str, str], student: dict[str, str], expected: str | None
) -> None:
    teacher = {name: value.replace("{folder}", str(tmp_path)) for name, value in teacher.items()}
    text = card_of(demo_config(teacher=teacher, student=student), name=teacher["pretrained"])
    assert head(text).get("base_model") == expected
    assert str(tmp_path.parent) not in text


def test_a_method_that_reads_no_teacher_is_not_called_distillation() -> None:
    text = card_of(demo_config(), method="finetune")
    assert "trained without a teacher, by the method `finetune`: labels only" in text
    assert "knowledge-distillation" not in head(text)["tags"]


def test_hostile_names_stay_text() -> None:
    task = Task(
        name="own",
        title=HOSTILE + "\ud800",
        metrics=("accuracy",),
        labels=("```", HOSTILE),
        folder=FolderLayout(columns=("text",), label="label"),
        evaluation={HOSTILE: "dev.csv", "b": "b.csv"},
        custom=True,
    )
    config = demo_config(source={"kind": "folder", "folder": "data"})
    scores = {"accuracy": 0.5, "accuracy (b)": 0.25}
    text = card_of(config, task, scores, texts=1, name=HOSTILE)
    written = text.encode(errors="replace").decode()
    first, second = results(written)
    assert (first.dataset_split, first.metric_value) == (HOSTILE, 0.5)
    assert (second.dataset_split, second.metric_value) == ("b", 0.25)
    assert first.dataset_name.startswith(HOSTILE)
    assert "language" not in head(written)
    body = written.partition("\n---\n\n")[2]
    assert len([line for line in body.splitlines() if line.startswith("# ")]) == 1
    prose = re.sub(r"```json\n.*?\n```|`+ ?.*?`+", "", body, flags=re.S)
    assert "<script>" not in prose
    (row,) = [line for line in body.splitlines() if line.endswith("| accuracy | 50.00 |")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 4
    blocks = re.findall(r"^```json\n(.*?)\n```$", body, re.S | re.M)
    assert json.loads(blocks[0]) == ["```", HOSTILE]
    assert 'tokenizer("a first text", truncation=True' in body


@pytest.mark.slow
def test_every_kept_student_has_a_card_that_is_true(
    tmp_path: Path,
    tiny_encoder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cards = []
    for name in ("one", "two"):
        assert main(small_study(tmp_path / name, tiny_encoder, "--keep", "report")) == 0
        summary = json.loads(capsys.readouterr().out)
        places = (tmp_path / name / "students").glob("*/*")
        cards.append({place.name: place / "README.md" for place in places})
    first, second = cards
    assert len(first) == 4
    assert {k: p.read_bytes() for k, p in first.items()} == {
        k: p.read_bytes() for k, p in second.items()
    }
    ledger = Ledger(storage_url(tmp_path / "one", None))
    data = load_task_data(load_task("rte"), SourceConfig(), ProtocolConfig())
    for found in summary["results"]:
        for fingerprint, score in zip(found["runs"], found["scores"], strict=True):
            path = first[fingerprint[:16]]
            text = path.read_text()
            (result,) = results(text)
            assert result.metric_value == score
            assert f"| validation | accuracy | {100 * score:.2f} |" in text
            assert f"by the method `{found['method']}`" in text
            assert fingerprint in text
            assert "> **DEMO DATA" in text
            assert str(tmp_path) not in text
            assert str(tiny_encoder.parent) not in text
            (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
            for shown, own in zip(
                ('"a first text"', '"a second text"'),
                data.evaluation["validation"].texts[0],
                strict=True,
            ):
                assert code.count(shown) == 1
                code = code.replace(shown, repr(own))
            monkeypatch.chdir(path.parent)
            names: dict[str, Any] = {}
            exec(code, names)
            stored = ledger.predictions(fingerprint, "validation")
            assert stored is not None
            expected = torch.tensor(stored.logits[0])
            torch.testing.assert_close(names["outputs"].detach(), expected, atol=1e-5, rtol=1e-4)
    ledger.close()


def test_a_second_recipe_of_the_teacher_is_told() -> None:
    text = card_of(demo_config(), second_recipe="Fine-tuned with teacher.epochs=12.")
    assert "12 layers of width 64. Fine-tuned with teacher.epochs=12. accuracy, in points" in text
