"""Teachers: fine-tuned once per task or given from outside, and checked before they teach."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel

from harness.artefacts import cached, file_sha256, fingerprint
from harness.checkpoints import checkpoint_fingerprint, locate
from harness.config import StudyConfig, TeacherConfig
from harness.errors import TeacherError
from harness.inputs import EncodedSplit
from harness.metrics import constant_score, evaluate
from harness.precision import Arithmetic
from harness.randomness import global_seed, key_dropout
from harness.schedule import WIDTH_STEP
from harness.sources import TaskData
from harness.student import (
    centre_head,
    classifier_config,
    load_classifier,
    read_weights,
    save_student,
)
from harness.tasks import Task
from harness.train import RESULTS_VERSION, Member, Recipe, predict, train_population


@dataclass(frozen=True)
class Origin:
    """Where a task's teacher comes from: the folder to start from or to use, and its identity.

    `recipe` names the fine-tuning that makes it; of a teacher from outside it names its files.
    """

    folder: Path
    outside: bool
    recipe: str


@dataclass(frozen=True)
class Teacher:
    """A frozen classifier in eval mode, its folder and fingerprint.

    The fingerprint covers the weights: two machines do not fine-tune the same ones to the last bit.
    """

    model: PreTrainedModel
    folder: Path
    fingerprint: str
    outside: bool
    seconds: float


def find_origin(config: StudyConfig, data: TaskData, precision: str, cache: Path) -> Origin:
    """Locate the encoder or checkpoint; the recipe covers all that fine-tuning depends on."""
    teacher, task = config.teacher, data.task
    if teacher.checkpoint is not None:
        folder = locate(teacher.checkpoint, task.name, cache)
        _check_labels(folder, task)
        return Origin(folder, True, checkpoint_fingerprint(folder))
    folder = locate(teacher.pretrained, task.name, cache)
    training = {
        name: getattr(config.training, name)
        for name in ("max_length", "weight_decay", "warmup", "clip_norm")
    }
    identity = {
        "results_version": RESULTS_VERSION,
        "pretrained": checkpoint_fingerprint(folder),
        "task": task.name,
        "train": data.train.sha256,
        "teacher": {
            name: getattr(teacher, name)
            for name in ("epochs", "batch_size", "learning_rate", "seed")
        },
        "training": {**training, "precision": precision},
    }
    return Origin(folder, False, fingerprint(identity))


def tokenizer_of(folder: Path) -> Any:
    """The tokenizer beside a checkpoint."""
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise TeacherError(f"{folder}: no usable tokenizer ({error})") from error


def _check_labels(folder: Path, task: Task) -> None:
    """Refuse a checkpoint whose labels are not the task's, in the task's order."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise TeacherError(f"{folder / 'config.json'}: not JSON ({error})") from error
    names = [str(name) for _, name in sorted(config.get("id2label", {}).items(), key=_index)]
    expected = list(task.labels) or ["score"]
    if len(names) != len(expected):
        raise TeacherError(
            f"--teacher {folder}: {len(names)} outputs, {task.name} needs {len(expected)}"
        )
    if not task.regression and [name.lower() for name in names] != expected:
        raise TeacherError(
            f"--teacher {folder}: labels {names}, {task.name} needs {expected} in this order"
        )


def _index(item: tuple[str, Any]) -> int:
    return int(item[0])


def prepare_teacher(
    origin: Origin,
    config: StudyConfig,
    data: TaskData,
    inputs: EncodedSplit,
    arithmetic: Arithmetic,
    out: Path,
    advance: Callable[[int], None],
) -> Teacher:
    """The teacher of a task; fine-tuned on the training split unless a sealed one is there."""
    if origin.outside:
        model = load_classifier(origin.folder, arithmetic.device)
        check_positions(model, config.training.max_length, origin.folder)
        return Teacher(model, origin.folder, origin.recipe, True, 0.0)
    folder = out / "teachers" / f"{data.task.name}-{origin.recipe[:16]}"

    def build(fresh: Path) -> dict[str, Any]:
        started = time.perf_counter()
        _fine_tune(origin, config, data, inputs, arithmetic, fresh, advance)
        weights = file_sha256(fresh / "model.safetensors")
        return {"seconds": time.perf_counter() - started, "weights": weights}

    facts = cached(folder, build)
    model = load_classifier(folder, arithmetic.device)
    identity = fingerprint([origin.recipe, facts["weights"]])
    return Teacher(model, folder, identity, False, float(facts["seconds"]))


def pretrained_classifier(folder: Path, task: Task, seed: int) -> PreTrainedModel:
    """A classifier on a pre-trained encoder, its head drawn from the seed."""
    with global_seed("teacher", seed):
        return read_weights(folder, classifier_config(folder, task))


def check_positions(model: PreTrainedModel, max_length: int, folder: Path) -> None:
    """Refuse a padded length that the encoder has no positions for. Raises `TeacherError`."""
    embedding = model.base_model.embeddings.position_embeddings
    # RoBERTa's first position comes after its padding index.
    first = 0 if embedding.padding_idx is None else embedding.padding_idx + 1
    most = (embedding.num_embeddings - first) // WIDTH_STEP * WIDTH_STEP
    if max_length > most:
        raise TeacherError(
            f"training.max_length={max_length}: {folder} has positions for {most} tokens; set it lower"
        )


def _fine_tune(
    origin: Origin,
    config: StudyConfig,
    data: TaskData,
    inputs: EncodedSplit,
    arithmetic: Arithmetic,
    folder: Path,
    advance: Callable[[int], None],
) -> None:
    teacher, task = config.teacher, data.task
    model = pretrained_classifier(origin.folder, task, teacher.seed).to(arithmetic.device)
    check_positions(model, config.training.max_length, origin.folder)
    if (mean_score := data.mean_score) is not None:
        centre_head(model, mean_score)
    training = replace(config.training, epochs=teacher.epochs, batch_size=teacher.batch_size)
    recipe = Recipe(
        inputs=inputs,
        labels=torch.from_numpy(data.train.labels).to(arithmetic.device),
        teacher=None,
        regression=task.regression,
        pooling=config.pooling,
        training=training,
        weights="convex",
        arithmetic=arithmetic,
    )
    setting = {"learning_rate": teacher.learning_rate}
    member = Member(model, key_dropout(model), None, setting, teacher.seed)
    for _, outcome in train_population([member], recipe, advance):
        if outcome.failure is not None:
            raise TeacherError(f"fine-tuning the teacher for {task.name}: {outcome.failure}")
    save_student(model, None, origin.folder, folder)


def judge_teacher(
    teacher: Teacher,
    config: TeacherConfig,
    data: TaskData,
    inputs: dict[str, EncodedSplit],
    arithmetic: Arithmetic,
) -> dict[str, Any]:
    """Scores on the held-out splits, beside the constant prediction's on the selection split.

    Raises:
        TeacherError: the teacher is no better than a constant, unless that is allowed.
    """
    task, metric = data.task, data.task.metrics[0]
    scores = {
        name: evaluate(
            task,
            split.labels,
            predict(teacher.model, inputs[name], arithmetic, None).logits.numpy(),
        )
        for name, split in data.splits.items()
        if name != "train"
    }
    constant = constant_score(task, data.train.labels, data.selection.labels)
    reached = scores["selection"][metric]
    if reached <= constant and not config.allow_weak:
        raise TeacherError(
            f"{task.name}: the teacher's {metric} on the selection split is {reached:.3f}, a constant "
            f"prediction's {constant:.3f}; train it longer, or pass --allow-weak-teacher"
        )
    return {
        "task": task.name,
        "name": config.checkpoint or config.pretrained,
        "origin": "from outside" if teacher.outside else "fine-tuned here",
        "metrics": scores,
        "constant": constant,
        "weak": reached <= constant,
        "layers": int(teacher.model.config.num_hidden_layers),
        "width": int(teacher.model.config.hidden_size),
        "seconds": teacher.seconds,
    }
