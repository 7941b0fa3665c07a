"""Students from a checkpoint: their tokens, shapes, losses and identities, without a whole study."""

import shutil
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from harness.compose import compose_config
from harness.config import StudentConfig, StudyConfig
from harness.data.tasks import load_task
from harness.errors import ConfigError
from harness.registry.discovery import registry
from harness.registry.space import any_setting, space_of
from harness.training.run import Run
from harness.workers.courier import task_files
from harness.workers.remote_files import RemoteFiles
from harness.workers.trainer import RunResult, Trainer
from harness.workers.workshop import Workshop, materials_key, portable
from tests.methods.oracles import TERM_ORACLES, Batch, Side
from tests.own_students import write_rte, write_student

EXAMPLES = 40


def configured(*words: str) -> StudyConfig:
    settings = {"methods": ["kd"], "tasks": ["rte"], "source.kind": "folder"}
    small = ("teacher.epochs=1", "training.epochs=1", f"training.batch_size={EXAMPLES}")
    others = ("teacher.allow_weak=true", "protocol.fraction=0.5", "protocol.least=8", "device=cpu")
    return compose_config(["preset=demo", *small, *others, *words], settings)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rte(tmp_path_factory.mktemp("data"), train=EXAMPLES, validation=10)


@pytest.fixture
def words(tmp_path: Path, tiny_encoder: Path, data: Path) -> tuple[str, ...]:
    folders = {"source.folder": data, "teacher.pretrained": tiny_encoder, "out": tmp_path / "out"}
    return tuple(f"{key}={folder}" for key, folder in folders.items())


def trainer(words: Sequence[str], *more: str) -> Trainer:
    return Workshop().trainer(configured(*words, *more), "rte")


def run_of(made: Trainer, name: str, seed: int = 1, **setting: Any) -> Run:
    method = registry().resolve(name)
    space = space_of(method, made.config.search, False)
    return made.prepared.run(method, "study", any_setting(space) | setting, 0, seed, "report")


def train(made: Trainer, *runs: Run) -> list[RunResult]:
    results = made.train(runs, lambda steps: None)
    assert [entry.result.record.status for entry in results] == ["complete"] * len(runs)
    return results


def side(layers: Any) -> Side:
    parts = {"logits": layers.logits, "states": layers.states}
    empty = np.zeros(0)
    return Side(
        **{f.name: np.asarray(parts[f.name]) if f.name in parts else empty for f in fields(Side)}
    )


def own_layers(folder: Path | None, model: Any, texts: Sequence[Sequence[str]]) -> Any:
    """Logits and first tokens' states of Hugging Face's class in float64, from its own tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    columns = [list(column) for column in zip(*texts, strict=True)]
    inputs = tokenizer(*columns, truncation=True, max_length=64, padding=True, return_tensors="pt")
    with torch.no_grad():
        outputs = model.double().eval()(**inputs, output_hidden_states=True)
    states = torch.stack([layer[:, 0] for layer in outputs.hidden_states[1:]], 1)
    return type("Layers", (), {"logits": outputs.logits.numpy(), "states": states.numpy()})


@pytest.mark.parametrize("own_tokens", [False, True], ids=["same tokens", "own tokens"])
def test_projected_losses_equal_plain_loops_over_hugging_faces_states(
    tmp_path: Path, words: tuple[str, ...], own_tokens: bool
) -> None:
    """One step of all examples, so the curve of an epoch is the loss at the initial weights."""
    student = write_student(tmp_path / "student", own_tokens=own_tokens, dropout=0.0)
    made = trainer(words, f"student.checkpoint={student}")
    assert made.prepared.outcome.shares_tokens is not own_tokens
    assert made.prepared.outcome.engine == "stacked"
    names = ["alp", "uniform", "ckd-no", "random-projection"]
    runs = [run_of(made, name) for name in names]
    results = train(made, *runs)
    texts = list(made.materials.data.train.texts)
    size = len(texts)
    assert made.prepared.outcome.steps == 1
    teacher_folder = made.materials.teacher.folder
    teacher = own_layers(
        teacher_folder, AutoModelForSequenceClassification.from_pretrained(teacher_folder), texts
    )
    model = AutoModelForSequenceClassification.from_pretrained(student, num_labels=2)
    model.load_state_dict(made.blueprint.weights(1))
    batch = Batch(side(own_layers(student, model, texts)), side(teacher), np.zeros(size), [], 0, {})
    for run, found in zip(runs, results, strict=True):
        assert run.method.name == found.run.method.name
        member = made.member(run)
        assert member.method is not None
        weights = {k: v.double().numpy() for k, v in member.method.state_dict().items()}
        expected = TERM_ORACLES[run.method.name](batch, weights, run.setting)
        curve = found.result.record.curves[0]
        assert curve["layer"] == pytest.approx(expected, rel=2e-3)  # states are cached in 16 bits
        assert expected > 0.01


@pytest.mark.parametrize("own_tokens", [False, True], ids=["same tokens", "own tokens"])
def test_both_engines_train_the_same_narrow_students(
    tmp_path: Path, words: tuple[str, ...], own_tokens: bool
) -> None:
    student = write_student(tmp_path / "student", own_tokens=own_tokens)
    more = (f"student.checkpoint={student}", "training.batch_size=16", "training.epochs=2")
    setting = {"learning_rate": 1e-2, "layer_weight": 10.0}
    stacked = trainer(words, *more)
    reference = Trainer(configured(*words, *more, "training.engine=reference"), stacked.materials)
    logits = {}
    for made in (stacked, reference):
        engine = made.prepared.outcome.engine
        runs = [run_of(made, name, seed, **setting) for name, seed in (("alp", 1), ("emd", 2))]
        groups = [runs] if engine == "stacked" else [[run] for run in runs]
        logits[engine] = {
            entry.run.method.name: entry.result.predictions["validation"].logits
            for group in groups
            for entry in train(made, *group)
        }
    for name, found in logits["stacked"].items():
        np.testing.assert_allclose(found, logits["reference"][name], atol=1e-3)
        assert np.ptp(found[:, 0]) > 0.1


def test_tokens_are_those_of_each_sides_tokenizer(tmp_path: Path, words: tuple[str, ...]) -> None:
    student = write_student(tmp_path / "student", own_tokens=True)
    made = trainer(words, f"student.checkpoint={student}").materials
    texts = list(made.data.train.texts)
    columns = [list(column) for column in zip(*texts, strict=True)]
    theirs = AutoTokenizer.from_pretrained(student)(*columns)["input_ids"]
    split = made.inputs["train"]
    ours = [split.ids[a:b].tolist() for a, b in zip(split.offsets, split.offsets[1:], strict=False)]
    assert ours == theirs
    of_teacher = AutoTokenizer.from_pretrained(made.teacher.folder)(*columns)["input_ids"]
    assert [len(ids) for ids in theirs] == [len(ids) + 1 for ids in of_teacher]
    assert made.splits["train"].unknown > 0
    plain = trainer(words).materials
    assert plain.splits["train"].unknown == 0
    assert plain.teacher.fingerprint == made.teacher.fingerprint
    assert torch.equal(
        plain.outputs["train"]["cls"].logits, made.outputs["train"]["cls"].logits
    )  # from the same folder


def test_a_checkpoint_is_in_a_runs_identity_by_its_content(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    student = write_student(tmp_path / "student")
    copied = shutil.copytree(student, tmp_path / "elsewhere" / "copy")
    other = write_student(tmp_path / "other", seed=2)
    found = {
        folder.name: run_of(trainer(words, f"student.checkpoint={folder}"), "alp")
        for folder in (student, copied, other)
    }
    assert found["student"].fingerprint == found["copy"].fingerprint
    assert found["student"].fingerprint != found["other"].fingerprint
    assert str(tmp_path) not in str(found["student"].inputs.plain())


def test_students_of_the_teachers_shape_have_the_identity_that_they_had(
    words: tuple[str, ...],
) -> None:
    plain = run_of(trainer(words), "alp").inputs.plain()
    assert plain["student"] == {"layers": 4, "init": "skip", "origin": "pretrained"}
    narrow = run_of(
        trainer(words, "student.init=random", "student.width=8", "student.heads=2"), "alp"
    )
    assert narrow.inputs.plain()["student"] == {
        **{"layers": 4, "init": "random", "origin": "pretrained"},
        **{"width": 8, "heads": 2},
    }


def test_materials_depend_on_the_checkpoint_and_teachers_do_not() -> None:
    configs = [configured("source.folder=d", *more) for more in ([], ["student.checkpoint=a"])]
    configs.append(configured("source.folder=d", "student.checkpoint=b"))
    assert len({materials_key(config, "rte") for config in configs}) == 3
    drawn = configured("source.folder=d", "student.checkpoint=a", "student.init=random")
    assert materials_key(drawn, "rte") == materials_key(configs[1], "rte")


def test_workers_get_the_files_of_a_checkpoint(tmp_path: Path, words: tuple[str, ...]) -> None:
    student = write_student(tmp_path / "student-rte")
    config = portable(
        configured(*words, f"student.checkpoint='{tmp_path}/student-{{task}}'"),
        load_task("rte", {}),
    )
    assert set(student.glob("*.json")) | set(student.glob("*.safetensors")) <= set(
        task_files(config, "rte")
    )
    moved = RemoteFiles(Path("/w"), "worker", print).relocated(config)
    assert moved.student.checkpoint == f"/w{tmp_path}/student-{{task}}"


def test_a_checkpoint_replaces_a_presets_student_and_not_what_was_asked_for() -> None:
    def student(*more: str) -> StudentConfig:
        return configured("source.folder=d", "student.checkpoint=a", *more).student

    assert student() == StudentConfig(layers=None, checkpoint="a")
    assert student("student.layers=1").layers == 1
    assert student("student={layers: 1, init: first}") == StudentConfig(
        layers=1, init="first", checkpoint="a"
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["student.checkpoint=a", "student.width=8"], "student.width is the checkpoint's own"),
        (["student.width=8"], "student.width needs student.init=random"),
        (["student.heads=8"], "student.heads needs student.init=random"),
        (
            ["student.checkpoint=a", "student.origin=pretrained"],
            "student.origin is not read with student.checkpoint",
        ),
        (["student.checkpoint=a", "student.init=first"], "student.init=first is skip"),
        (["student.width=0"], "student.width: input should be greater than or equal to 1"),
    ],
)
def test_students_that_contradict_themselves_are_refused(more: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        configured("source.folder=d", *more)
