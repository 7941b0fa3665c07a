"""Teachers: fine-tuned here for a task, or given from outside."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from harness.config import StudyConfig
from harness.data.splits import TaskData
from harness.data.tasks import Task
from harness.data.tokens import EncodedSplit
from harness.errors import TeacherError
from harness.method import View
from harness.models.checkpoints import checkpoint_fingerprint, locate, read_config
from harness.models.student import (
    NO_CLASSIFIER,
    build_classifier,
    centre_head,
    classifier_config,
    describe_outputs,
    last_linear,
    load_classifier,
    read_weights,
    save_student,
)
from harness.runtime.cpu import release_memory
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import global_seed
from harness.storage.fingerprint import file_sha256, fingerprint
from harness.storage.folders import build_once
from harness.training.loop import RESULTS_VERSION, train_population
from harness.training.recipe import Member, Recipe, engine_of
from harness.training.teacher_scores import constant_floor, scores_of

SECOND_EPOCHS = 3
"""The epochs of a second fine-tuning, as a multiple of the first's."""
SECOND_SEED = 1000
"""What is added to the seed of a second fine-tuning. Repeats add less."""


@dataclass(frozen=True)
class Origin:
    """The origin of a task's teacher: a folder and a fingerprint.

    A teacher that is fine-tuned here starts from the encoder in `folder`, and `recipe` is a fingerprint
    of the encoder, the data and the settings of fine-tuning. A teacher from outside lies in `folder`,
    `recipe` is a fingerprint of its files, and `outputs` are the indices of its outputs in the order of
    the task's labels. An outline has no recipe.
    """

    folder: Path
    from_outside: bool
    recipe: str
    outputs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Teacher:
    """A frozen classifier in eval mode, its folder, and a fingerprint that covers its weights.

    The fingerprint of the recipe would not identify the weights: two machines fine-tune weights that
    differ in the last bits. `seconds` is the time of the fine-tuning. `weak` says whether the teacher
    was no better than a constant when it was fine-tuned, so that all workers read the same answer. It is
    None for a teacher from outside.
    """

    model: PreTrainedModel
    folder: Path
    fingerprint: str
    from_outside: bool
    seconds: float
    weak: bool | None = None


def second_recipe(config: StudyConfig) -> StudyConfig:
    """The study with the recipe of a second fine-tuning: more epochs, and another seed."""
    teacher = config.teacher
    return replace(
        config,
        teacher=replace(
            teacher, epochs=SECOND_EPOCHS * teacher.epochs, seed=teacher.seed + SECOND_SEED
        ),
    )


def find_origin(
    config: StudyConfig, data: TaskData, precision: str, cache: Path, *, outline: bool = False
) -> Origin:
    """Locate the encoder or checkpoint. The recipe covers everything that fine-tuning depends on.

    `outline` as in `harness.models.checkpoints.locate`. An outline trains nothing and has no recipe, for
    which all weights would be read.
    """
    teacher, task = config.teacher, data.task
    if teacher.checkpoint is not None:
        folder = locate(teacher.checkpoint, task.name, cache)
        outputs = _match_labels(folder, task, teacher.labels.get(task.name))
        if outline:
            return Origin(folder, True, "", outputs)
        recipe = checkpoint_fingerprint(folder)
        if outputs != tuple(range(len(outputs))):
            recipe = fingerprint([recipe, outputs])
        return Origin(folder, True, recipe, outputs)
    folder = locate(teacher.pretrained, task.name, cache, outline=outline)
    if outline:
        return Origin(folder, False, "")
    training = {
        name: getattr(config.training, name)
        for name in ("max_length", "weight_decay", "warmup", "clip_norm")
    }
    identity = {
        "results_version": RESULTS_VERSION,
        "pretrained": checkpoint_fingerprint(folder),
        "task": task.identity,
        "train": data.train.sha256,
        "teacher": {
            name: getattr(teacher, name)
            for name in ("epochs", "batch_size", "learning_rate", "seed")
        },
        "training": {
            **training,
            "precision": precision,
            "engine": engine_of(config.training.engine, read_config(folder)),
        },
    }
    return Origin(folder, False, fingerprint(identity))


def _match_labels(folder: Path, task: Task, override: Sequence[str] | None) -> tuple[int, ...]:
    """Indices of a checkpoint's outputs in the order of the task's labels, matched by name.

    `override` are names of the outputs, in the checkpoint's order, instead of those in its files.

    Raises:
        TeacherError: outputs and labels cannot be matched.
    """
    config = _plain_config(folder / "config.json")
    names = _output_names(folder / "config.json", config)
    if len(names) != task.outputs:
        _refuse_encoder(folder, config)
        raise TeacherError(
            f"--teacher {folder}: {len(names)} outputs, {task.name} needs {task.outputs}"
        )
    if task.regression:
        if override is not None:
            raise TeacherError(f"teacher.labels.{task.name}: it has scores, and no labels")
        return (0,)
    labels, outputs = list(task.labels), list(override or names)
    if sorted(outputs) != sorted(labels):
        labels, outputs = [[_one_spelling(name) for name in side] for side in (labels, outputs)]
    if sorted(outputs) != sorted(labels) or len(set(labels)) < len(labels):
        if override is None:
            _refuse_encoder(folder, config)
        source = f"teacher.labels.{task.name}" if override else f"--teacher {folder}"
        label_list = ",".join(json.dumps(label, ensure_ascii=False) for label in task.labels)
        raise TeacherError(
            f"{source}: outputs {list(override or names)} cannot be matched by name with the labels of "
            f"{task.name}, {list(task.labels)}; name them in the checkpoint's order with "
            f"'teacher.labels.{task.name}=[{label_list}]'"
        )
    return tuple(outputs.index(label) for label in labels)


def _refuse_encoder(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of a class that classifies nothing. Raises `TeacherError`."""
    kinds = config.get("architectures")
    if isinstance(kinds, list) and kinds and "Classification" not in " ".join(map(str, kinds)):
        raise TeacherError(f"--teacher {folder}: {NO_CLASSIFIER}={folder}")


def _plain_config(path: Path) -> dict[str, Any]:
    """The values of a checkpoint's config.json."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TeacherError(f"{path}: not JSON ({error})") from error
    if not isinstance(config, dict):
        raise TeacherError(f"{path}: not an object")
    return config


def _output_names(path: Path, config: Mapping[str, Any]) -> list[str]:
    """The names of a checkpoint's outputs, in their order, from its config.json."""
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # transformers' default
    if not isinstance(names, dict) or set(names) != {str(index) for index in range(len(names))}:
        raise TeacherError(f"{path}: id2label does not name the outputs 0, 1, ...")
    return [str(names[str(index)]) for index in range(len(names))]


def _one_spelling(name: str) -> str:
    """A label's name in one spelling: NOT-ENTAILMENT and not_entailment are the same label."""
    return re.sub(r"[\W_]+", "_", name.casefold())


def _reorder_outputs(model: PreTrainedModel, task: Task, outputs: Sequence[int]) -> None:
    """Permute a classifier's outputs into the order of the task's labels, in place.

    Students inherit the configuration, which describes the task's outputs afterwards.
    """
    head = last_linear(model)
    with torch.no_grad():
        head.weight.copy_(head.weight[list(outputs)].clone())
        if head.bias is not None:
            head.bias.copy_(head.bias[list(outputs)].clone())
    describe_outputs(model.config, task)


def prepare_teacher(
    origin: Origin,
    config: StudyConfig,
    data: TaskData,
    inputs: Mapping[str, EncodedSplit],
    arithmetic: Arithmetic,
    runs_folder: Path,
    advance: Callable[[int], None],
) -> Teacher:
    """The teacher of a task, fine-tuned on the training split unless its folder is already sealed.

    `inputs` are by split.
    """
    if origin.from_outside:
        model = load_classifier(origin.folder, arithmetic.device)
        _reorder_outputs(model, data.task, origin.outputs)
        return Teacher(model, origin.folder, origin.recipe, True, 0.0)
    folder = runs_folder / "teachers" / f"{data.task.name}-{origin.recipe[:16]}"

    def build(new_folder: Path) -> dict[str, Any]:
        start = time.perf_counter()
        _fine_tune(origin, config, data, inputs["train"], arithmetic, new_folder, advance)
        release_memory()
        seconds = time.perf_counter() - start
        model = load_classifier(new_folder, arithmetic.device)
        scores = scores_of(model, data, "selection", inputs["selection"], arithmetic)
        return {
            "seconds": seconds,
            "weights": file_sha256(new_folder / "model.safetensors"),
            "weak": not scores[data.task.metrics[0]] > constant_floor(data),
        }

    facts = build_once(folder, build)
    model = load_classifier(folder, arithmetic.device)
    identity = fingerprint([origin.recipe, facts["weights"]])
    weak = facts.get("weak")  # folders of earlier versions do not say it
    return Teacher(model, folder, identity, False, float(facts["seconds"]), weak)


def pretrained_classifier(folder: Path, task: Task, seed: int) -> PreTrainedModel:
    """A classifier on a pre-trained encoder. A head that the checkpoint lacks is drawn from the seed."""
    with global_seed("teacher", seed):
        return read_weights(folder, classifier_config(folder, task))


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
    shape = classifier_config(origin.folder, task)
    training = replace(
        config.training, epochs=teacher.epochs, batch_size=teacher.batch_size, embeddings="trained"
    )
    recipe = Recipe(
        model=shape,
        inputs=inputs,
        labels=torch.from_numpy(data.train.labels).to(arithmetic.device),
        teacher=None,
        regression=task.regression,
        view=View(config.pooling),
        training=training,
        weights="convex",
        arithmetic=arithmetic,
    )

    def member() -> Member:
        """The teacher as a member. Nothing else refers to its weights, so the population frees them."""
        model = pretrained_classifier(origin.folder, task, teacher.seed)
        if (mean_score := data.mean_score) is not None:
            centre_head(model, mean_score)
        setting = {"learning_rate": teacher.learning_rate}
        return Member(dict(model.state_dict()), None, setting, teacher.seed)

    population, (outcome,) = train_population([member()], recipe, advance)
    if outcome.failure is not None:
        raise TeacherError(f"fine-tuning the teacher for {task.name}: {outcome.failure}")
    model = build_classifier(shape, population.network.weights(0))
    save_student(model, None, origin.folder, folder)
