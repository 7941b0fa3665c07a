"""The judgement of teachers before they teach: what a weak one lacks, and a second fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import confusion_matrix

from harness.config import StudyConfig
from harness.data.scores import evaluate
from harness.data.splits import TaskData
from harness.data.tokens import EncodedSplit
from harness.errors import TeacherError
from harness.metric_table import metric_of
from harness.runtime.device import Arithmetic
from harness.runtime.progress import say
from harness.storage.manifest import TeacherFacts
from harness.training.prediction import predict
from harness.training.teacher import Origin, Teacher, second_recipe
from harness.training.teacher_scores import constant_floor, scores_of

Inputs = Mapping[str, EncodedSplit]


def accepted_teacher(
    config: StudyConfig,
    data: TaskData,
    inputs: Inputs,
    arithmetic: Arithmetic,
    make: Callable[[StudyConfig], tuple[Origin, Teacher]],
) -> tuple[Teacher, TeacherFacts]:
    """The teacher that `make` makes for a study, and its facts.

    A fine-tuning that is no better than a constant is tried once more with the second recipe, unless
    the study allows weak teachers. The variance shares of the facts stay empty.

    Raises:
        TeacherError: the teacher is no better than a constant, and the study does not allow this; or its
            logits are not finite.
    """
    origin, teacher = make(config)
    facts = judge_teacher(teacher, config, data, inputs, arithmetic)
    if not facts.weak or config.teacher.allow_weak:
        return teacher, facts
    if teacher.from_outside:
        cause = weakness(origin, teacher, config, data, inputs, arithmetic)
        raise TeacherError(f"{_faint(facts, data)}; {cause}")
    second = second_recipe(config)
    words = f"teacher.epochs={second.teacher.epochs} teacher.seed={second.teacher.seed}"
    say(f"{_faint(facts, data)}; it is fine-tuned once more, with {words}")
    origin, teacher = make(second)
    better = judge_teacher(teacher, second, data, inputs, arithmetic)
    if better.weak:
        cause = weakness(origin, teacher, second, data, inputs, arithmetic)
        raise TeacherError(
            f"{_faint(better, data)}, also in a second fine-tuning ({words}); {cause}"
        )
    epochs, seed = config.teacher.epochs, config.teacher.seed
    sentence = (
        f"Fine-tuned with {words}, since the fine-tuning with teacher.epochs={epochs} "
        f"teacher.seed={seed} was no better than a constant."
    )
    return teacher, replace(better, second_recipe=sentence)


def judge_teacher(
    teacher: Teacher,
    config: StudyConfig,
    data: TaskData,
    inputs: Inputs,
    arithmetic: Arithmetic,
) -> TeacherFacts:
    """Facts about a teacher: scores on the held-out splits, a constant prediction's score, the shape.

    Raises:
        TeacherError: the teacher's logits are not finite.
    """
    task = data.task
    scores = {
        name: scores_of(teacher.model, data, name, inputs[name], arithmetic)
        for name in data.splits
        if name != "train"
    }
    floor = constant_floor(data)
    is_weak = not scores["selection"][task.metrics[0]] > floor  # true also for a NaN
    return TeacherFacts(
        fingerprint=teacher.fingerprint,
        task=task.name,
        name=config.teacher.checkpoint or config.teacher.pretrained,
        origin="from outside" if teacher.from_outside else "fine-tuned here",
        metrics=scores,
        constant=floor,
        weak=is_weak if teacher.weak is None else teacher.weak,
        layers=int(teacher.model.config.num_hidden_layers),
        width=int(teacher.model.config.hidden_size),
        seconds=teacher.seconds,
        variance_shares=(),
    )


def _faint(facts: TeacherFacts, data: TaskData) -> str:
    metric = data.task.metrics[0]
    score = facts.metrics["selection"][metric]
    return (
        f"{facts.task}: the teacher's {metric} on the selection split is {score:.3f}, a constant "
        f"prediction's {facts.constant:.3f}"
    )


def weakness(
    origin: Origin,
    teacher: Teacher,
    config: StudyConfig,
    data: TaskData,
    inputs: Inputs,
    arithmetic: Arithmetic,
) -> str:
    """What a teacher that is no better than a constant may lack, and what to do about it."""
    counts = inputs["selection"].counts
    unknown = counts.unknown / max(counts.words, 1)
    allowed = "pass --allow-weak-teacher to use it as it is"
    if unknown > config.checks.usual_unknown:
        return (
            f"its tokenizer does not know {100 * unknown:.1f} % of the tokens: give the teacher the "
            f"tokenizer of its encoder, or {allowed}"
        )
    if getattr(teacher.model.config, "is_decoder", False):
        return (
            "its config.json has is_decoder: true, so that no token sees the tokens after it: remove "
            f"the key if the encoder was trained without it, or {allowed}"
        )
    if teacher.from_outside:
        logits = predict(teacher.model, inputs["selection"], arithmetic, None).logits.numpy()
        order = other_order(origin, data, logits)
        return f"{order or 'it was trained for something else'}, or {allowed}"
    return (
        f"train it longer (teacher.epochs=, now {config.teacher.epochs}), at another rate "
        f"(teacher.learning_rate=, now {config.teacher.learning_rate:g}) or with another seed "
        f"(teacher.seed=), or {allowed}"
    )


def other_order(
    origin: Origin, data: TaskData, logits: np.ndarray[tuple[int, int], np.dtype[np.float32]]
) -> str:
    """How the teacher's outputs would be better than a constant; empty if in no way.

    `logits` (examples, outputs) are in the order of the task's labels.
    """
    task, labels = data.task, data.selection.labels
    metric = metric_of(task.metrics[0])
    if task.regression:
        falls = evaluate(task, labels, -logits)[metric.name] > constant_floor(data)
        return (
            "its scores fall where the labels rise: it was trained on reversed scores"
            if falls
            else ""
        )
    answers = logits.argmax(axis=1)
    counts = confusion_matrix(labels, answers, labels=range(task.outputs))
    meanings = linear_sum_assignment(-counts.T)[1]  # the label of each output
    score = metric.score(labels, meanings[answers])
    if not score > constant_floor(data):
        return ""
    names = [""] * task.outputs
    for output, meaning in zip(origin.outputs, meanings, strict=True):
        names[output] = task.labels[meaning]
    texts = ",".join(json.dumps(name, ensure_ascii=False) for name in names)
    return (
        f"with its outputs in another order it would be {score:.3f}, so its config.json names its "
        "labels wrongly: name them in the checkpoint's order with "
        f"'teacher.labels.{task.name}=[{texts}]'"
    )
