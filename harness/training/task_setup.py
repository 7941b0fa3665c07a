"""The set-up of a task, shared by all its runs: data, tokens, teacher and teacher outputs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from harness.config import StudyConfig
from harness.data.batches import LengthSchedule
from harness.data.facts import fact_warnings, refuse_unknown, split_facts, token_shares
from harness.data.splits import TaskData
from harness.data.tasks import Task
from harness.data.tokens import EncodedSplit, encoded_split
from harness.errors import TeacherError, first_line
from harness.method import Pooling, Shapes
from harness.models.checkpoints import (
    check_fits,
    checkpoint_fingerprint,
    locate,
    read_config,
    tokenizer_fingerprint,
    tokenizer_of,
)
from harness.models.teacher_outputs import OUTPUT_BATCH, TeacherOutputs, teacher_outputs
from harness.pooling_table import POOLINGS
from harness.registry.instantiate import shapes_of
from harness.registry.source import function_source
from harness.runtime.device import Arithmetic
from harness.runtime.memory import lacks_memory
from harness.runtime.progress import progress, say
from harness.storage.fingerprint import fingerprint
from harness.storage.folders import opened_folders
from harness.storage.manifest import SplitFacts, TeacherFacts
from harness.training.judgement import accepted_teacher
from harness.training.label_weights import student_labels
from harness.training.loop import RESULTS_VERSION
from harness.training.teacher import (
    Origin,
    Teacher,
    find_origin,
    prepare_teacher,
    pretrained_classifier,
)

TOKENS_VERSION = 2
"""The version of the folders of tokens. Another version tokenises anew."""
LEAST_VARIANCE = 0.01
"""Share of a layer's energy that varies between examples. A warning comes below this share."""


@dataclass(frozen=True)
class Materials:
    """One task, ready to train on.

    `inputs` and the teacher's `outputs`, by pooling, are by split. `labels` (examples,) are those of the
    training split, on the device. With unlabelled texts the inputs, outputs and labels of the training
    split go on with theirs; `label_weights` (examples,) are 0 there. Students copy their layers from the
    model `start`. `splits` are facts of the splits. `folders` are the sealed folders that hold all this.
    """

    data: TaskData
    inputs: dict[str, EncodedSplit]
    labels: Tensor
    teacher: Teacher
    facts: TeacherFacts
    outputs: dict[str, dict[Pooling, TeacherOutputs]]
    start: PreTrainedModel
    start_fingerprint: str
    arithmetic: Arithmetic
    splits: dict[str, SplitFacts]
    folders: tuple[Path, ...] = ()
    label_weights: Tensor | None = None

    def shapes(self, study: StudyConfig) -> Shapes:
        """Shapes for the study's students, as wide as the model that they start from."""
        return shapes_of(
            self.teacher.model.config, self.start.config, self.data.task.outputs, study
        )


@dataclass(frozen=True)
class TaskOutline:
    """One task before its teacher is made: encoders that fit the task, and the task's tokens by split.

    Students start from the encoder in `own_start`, or from the teacher where `own_start` is None.
    `splits` are facts of the tokenised splits.
    """

    origin: Origin
    own_start: Path | None
    inputs: dict[str, EncodedSplit]
    splits: dict[str, SplitFacts]

    @property
    def student_inputs(self) -> EncodedSplit:
        """The tokens of the training split, and after them those of unlabelled texts."""
        train = self.inputs["train"]
        return train.followed_by(self.inputs["transfer"]) if "transfer" in self.inputs else train

    @property
    def teacher_encoder(self) -> PretrainedConfig:
        """The configuration of the teacher's encoder."""
        return read_config(self.origin.folder)

    @property
    def start_encoder(self) -> PretrainedConfig:
        """The configuration of the encoder that students start from."""
        return read_config(self.own_start or self.origin.folder)


def outline_task(
    config: StudyConfig,
    data: TaskData,
    arithmetic: Arithmetic,
    cache: Path,
    *,
    pretrain: bool = True,
    splits: Collection[str] | None = None,
) -> TaskOutline:
    """Find the encoders of a task, tokenise its splits, and check that both fit.

    Tokens lie in a folder of `cache`. Without `pretrain` the demo's encoder has the right sizes and
    random weights. `splits` names the splits to tokenise; None takes all.

    Raises:
        TeacherError: an encoder cannot be found or does not fit, or its tokenizer knows too few tokens.
    """
    origin = find_origin(config, data, arithmetic.name, cache, outline=not pretrain)
    own_start = find_own_start(config, data.task, origin.folder, cache, outline=not pretrain)
    tokenizer = tokenizer_of(origin.folder)
    max_length, name = config.training.max_length, data.task.name
    identity = [TOKENS_VERSION, tokenizer_fingerprint(origin.folder), max_length]
    inputs = {
        split_name: encoded_split(
            cache / "tokens" / fingerprint([*identity, split.sha256])[:32],
            split,
            tokenizer,
            max_length,
        )
        for split_name, split in (data.splits | data.unlabelled | data.test).items()
        if splits is None or split_name in splits
    }
    for folder in {origin.folder, own_start or origin.folder}:
        check_fits(folder, inputs.values(), max_length)
    facts = split_facts(data, inputs)
    say(f"{name}: {token_shares(facts, max_length)}")
    for sentence in fact_warnings(name, facts, config.checks, max_length):
        say(f"warning: {sentence}")
    refuse_unknown(name, origin.folder, facts, config.checks)
    return TaskOutline(origin, own_start, inputs, facts)


def prepare(
    config: StudyConfig, data: TaskData, arithmetic: Arithmetic, runs_folder: Path
) -> Materials:
    """Outline the task, make or load the teacher, judge the teacher, and compute or open its outputs.

    Raises:
        TeacherError: the teacher cannot be used or is too weak.
    """
    with opened_folders() as folders, _memory_told(data.task.name):
        materials = _make(config, data, arithmetic, runs_folder)
    return replace(materials, folders=tuple(dict.fromkeys(folders)))


@contextmanager
def _memory_told(task: str) -> Iterator[None]:
    """Refuse a task for which there is too little memory. Raises `TeacherError`."""
    try:
        yield
    except Exception as error:
        if not lacks_memory(error):
            raise
        raise TeacherError(
            f"{task}: out of memory while the teacher was prepared, with one example at a time "
            f"({first_line(error)}); shorten training.max_length, or free the device's memory"
        ) from error


def _make(
    config: StudyConfig, data: TaskData, arithmetic: Arithmetic, runs_folder: Path
) -> Materials:
    outline = outline_task(config, data, arithmetic, runs_folder / "cache")
    inputs = outline.inputs

    def make(study: StudyConfig) -> tuple[Origin, Teacher]:
        origin = outline.origin
        if study is not config:
            origin = find_origin(study, data, arithmetic.name, runs_folder / "cache")
        steps = LengthSchedule(inputs["train"].lengths, study.teacher.batch_size).steps_per_epoch
        with progress(f"{data.task.name}: teacher", steps * study.teacher.epochs) as advance:
            return origin, prepare_teacher(
                origin, study, data, inputs, arithmetic, runs_folder, advance
            )

    teacher, scores = accepted_teacher(config, data, inputs, arithmetic, make)
    inputs = {**inputs, "train": outline.student_inputs}
    labels, weights = student_labels(data)
    outputs = _outputs(config, data, inputs, teacher, arithmetic, runs_folder)
    shares = outputs["train"][config.pooling].variance_shares()
    facts = replace(scores, variance_shares=tuple(shares))
    _warn_of_constants(facts, config.pooling)
    start, start_fingerprint = teacher.model, teacher.fingerprint
    if outline.own_start is not None:
        model = pretrained_classifier(outline.own_start, data.task, 0)
        start = model.to(arithmetic.device).eval()
        start_fingerprint = checkpoint_fingerprint(outline.own_start)
    return Materials(
        data=data,
        inputs=inputs,
        labels=labels.to(arithmetic.device),
        label_weights=None if weights is None else weights.to(arithmetic.device),
        teacher=teacher,
        facts=facts,
        outputs=outputs,
        start=start,
        start_fingerprint=start_fingerprint,
        arithmetic=arithmetic,
        splits=outline.splits,
    )


def find_own_start(
    config: StudyConfig, task: Task, teacher: Path, cache: Path, *, outline: bool = False
) -> Path | None:
    """The folder that students start from, or None where students start from the teacher.

    `outline` as in `locate`.

    Raises:
        TeacherError: students would read the teacher's token ids as other words.
    """
    if config.student.origin == "finetuned" or config.student.init == "random":
        return None
    start = locate(config.teacher.pretrained, task.name, cache, outline=outline)
    if start != teacher and tokenizer_of(start).get_vocab() != tokenizer_of(teacher).get_vocab():
        raise TeacherError(
            f"student.origin=pretrained: {start} has another vocabulary than the teacher {teacher}; "
            "name the teacher's own encoder with teacher.pretrained=, or use student.origin=finetuned"
        )
    return start


def _outputs(
    config: StudyConfig,
    data: TaskData,
    inputs: dict[str, EncodedSplit],
    teacher: Teacher,
    arithmetic: Arithmetic,
    runs_folder: Path,
) -> dict[str, dict[Pooling, TeacherOutputs]]:
    batches = sum(-(-len(inputs[name].lengths) // OUTPUT_BATCH) for name in data.splits)
    outputs = {}
    with progress(f"{data.task.name}: teacher outputs", batches) as advance:
        for name, split in data.splits.items():
            sha256: str | list[str] = split.sha256
            if name == "train" and data.transfer is not None:
                sha256 = [split.sha256, data.transfer.sha256]
            key = fingerprint(
                {
                    "teacher": teacher.fingerprint,
                    "split": sha256,
                    "max_length": config.training.max_length,
                    "precision": arithmetic.name,
                    "poolings": {
                        name: function_source(row.pool) for name, row in sorted(POOLINGS.items())
                    },
                    "results_version": RESULTS_VERSION,
                }
            )
            folder = runs_folder / "cache" / "teacher-outputs" / key[:32]
            outputs[name] = teacher_outputs(
                folder, teacher.model, inputs[name], arithmetic, advance
            )
    return outputs


def _warn_of_constants(facts: TeacherFacts, pooling: str) -> None:
    constant_layers = [
        i for i, share in enumerate(facts.variance_shares, 1) if share < LEAST_VARIANCE
    ]
    if constant_layers:
        layers = ", ".join(map(str, constant_layers))
        say(
            f"warning: {facts.task}: under 1 % of the {pooling} states' energy in teacher layer(s) "
            f"{layers} varies between examples: matching them teaches constants"
        )
