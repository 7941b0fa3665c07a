"""Students: their initial weights, and classifiers on disk in Hugging Face's format."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from harness.config import StudentConfig
from harness.data.tasks import Task
from harness.errors import TeacherError, first_line
from harness.method import Method
from harness.models.attention import ATTENTION
from harness.models.checkpoints import read_config
from harness.models.families import family_of
from harness.models.student_shape import copied_layers, student_shape
from harness.runtime.randomness import generator, global_seed

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
)
NO_CLASSIFIER = (
    "has no classifier, as a fine-tuned teacher has; a pre-trained encoder, which is fine-tuned here, "
    "is given as teacher.pretrained"
)
OUTPUT_HINTS = (
    "function_to_apply",
    "task_specific_params",
    "finetuning_task",
    "sentence_transformers",
)
"""Keys of a config.json by which libraries read the outputs of a model for another task."""


def output_names(task: Task) -> dict[int, str]:
    """Names of a classifier's outputs by index: the task's labels, or `score`."""
    return dict(enumerate(task.labels or ("score",)))


def describe_outputs(config: PretrainedConfig, task: Task) -> None:
    """Let a configuration describe the outputs of a task, and of no other, in place.

    Libraries choose the function of the outputs (softmax, sigmoid or none) by these values.
    """
    config.id2label = output_names(task)
    config.label2id = {name: index for index, name in config.id2label.items()}
    config.problem_type = "regression" if task.regression else "single_label_classification"
    for name in OUTPUT_HINTS:
        if hasattr(config, name):
            delattr(config, name)


def classifier_config(folder: Path, task: Task) -> PretrainedConfig:
    """A checkpoint's configuration in fp32 with the task's outputs."""
    config = read_config(folder, dtype=torch.float32)
    describe_outputs(config, task)
    return config


class Blueprint:
    """The initial weights of students of one shape, which start from the model `start`.

    Students copy embeddings, layers and pooler from the model; with `init=random` a student's seed
    draws these parts. The seed always draws the head. With `mean_score`, for a regression, the head's
    output begins at the mean training score.

    Raises:
        MethodError: the students would be deeper than the model, or their sizes do not fit.
    """

    def __init__(
        self, start: PreTrainedModel, config: StudentConfig, mean_score: float | None = None
    ) -> None:
        self.config = student_shape(start.config, config)
        depths = int(self.config.num_hidden_layers), int(start.config.num_hidden_layers)
        self.mean_score = mean_score
        self.starts_at_random = config.init == "random"
        with global_seed("weights that are replaced"):
            self.skeleton = new_classifier(self.config)
        if not self.starts_at_random:
            _copy(start, self.skeleton, copied_layers(config.init, *depths))
        self.skeleton_weights = dict(self.skeleton.state_dict())

    def weights(self, seed: int) -> dict[str, Tensor]:
        """A student's weights on the CPU, by name. Students share the memory of equal weights."""
        weights = self.skeleton_weights
        if self.starts_at_random:
            with global_seed("student", seed):
                weights = dict(new_classifier(self.config).state_dict())
        head = {}
        for name, linear in head_of(self.skeleton):
            weight = torch.empty_like(linear.weight).normal_(
                std=self.config.initializer_range, generator=generator("student", seed, name)
            )
            head[f"{name}.weight"] = weight.detach()
            if linear.bias is not None:
                head[f"{name}.bias"] = torch.zeros_like(linear.bias)
        if self.mean_score is not None:
            head[f"{name}.bias"].fill_(self.mean_score)
        return {**weights, **head}


def new_classifier(config: PretrainedConfig) -> PreTrainedModel:
    """A classifier of Hugging Face's class, with weights from torch's global generator."""
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(
        copy.deepcopy(config), attn_implementation=ATTENTION
    )
    return model


def build_classifier(config: PretrainedConfig, weights: Mapping[str, Tensor]) -> PreTrainedModel:
    """A classifier of Hugging Face's class with these weights, on the CPU, in eval mode.

    Weights on the device "meta", which have shapes alone, give a classifier there.
    """
    device = "meta" if any(tensor.is_meta for tensor in weights.values()) else "cpu"
    with global_seed("weights that are replaced"), torch.device(device):
        model = new_classifier(config)
    model.load_state_dict(weights, assign=device == "meta")
    return model.eval()


def centre_head(model: PreTrainedModel, mean_score: float) -> None:
    """Let a regression's new head begin at the mean training score instead of near 0.

    From 0 a short training spends its steps on the mean, and many runs collapse to the mean.
    """
    with torch.no_grad():
        last_linear(model).bias.fill_(mean_score)


def head_of(model: PreTrainedModel) -> list[tuple[str, nn.Linear]]:
    """The linear layers of a classifier that each student's seed draws, by name, in order."""
    layers = []
    for name in family_of(model.config).head.random_layers():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        layers.append((name, layer))
    return layers


def last_linear(model: PreTrainedModel) -> nn.Linear:
    """The last layer of a classifier's head, which computes the outputs."""
    return head_of(model)[-1][1]


def _copy(teacher: PreTrainedModel, student: PreTrainedModel, layers: Sequence[int]) -> None:
    """Copy a teacher's encoder, with these 0-based `layers` of it, into a student's.

    Where all layers share their weights, the student gets these whole. The part that the class's first
    layer does not have is not copied there.
    """
    family = family_of(teacher.config)
    prefix = family.layers
    weights = teacher.base_model.state_dict()
    student_weights = student.base_model.state_dict()
    for name, value in weights.items():
        if (prefix is None or not name.startswith(f"{prefix}.")) and name in student_weights:
            student_weights[name] = value
    for target, source in enumerate(layers if prefix is not None else ()):
        layer = f"{prefix}.{source}."
        for name, value in weights.items():
            part = name.removeprefix(layer)
            if part == name or (target == 0 and part.split(".")[0] == family.first_lacks):
                continue
            student_weights[f"{prefix}.{target}.{part}"] = value
    student.base_model.load_state_dict(student_weights)


def save_student(
    model: PreTrainedModel, method: Method | None, tokenizer: Path, folder: Path
) -> None:
    """Write weights, label names, tokenizer and the method's projections into a folder."""
    model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    if family_of(model.config).types_on_request:
        _let_tokenizer_give_types(folder)
    state = {} if method is None else {k: v.contiguous() for k, v in method.state_dict().items()}
    if state:
        save_file(state, folder / "method.safetensors")


def _let_tokenizer_give_types(folder: Path) -> None:
    """Have a folder's tokenizer give token types by itself, as the student was trained with them."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")


def load_classifier(folder: Path, device: torch.device) -> PreTrainedModel:
    """A saved teacher or student in eval mode, on the device. Raises `TeacherError`."""
    return read_weights(folder, None).to(device).eval()


def read_weights(folder: Path, config: PretrainedConfig | None) -> PreTrainedModel:
    """A classifier with a checkpoint's weights in fp32.

    `config` replaces the checkpoint's configuration. Then the checkpoint may lack the head and the
    pooler, and torch's global generator draws the missing weights. Other weights may not be missing.

    Raises:
        TeacherError: the weights cannot be read, a weight is missing or has another size, or the
            checkpoint has more layers than the configuration.
    """
    model: PreTrainedModel
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config or read_config(folder),
            attn_implementation=ATTENTION,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=config is not None,  # a head for other labels is drawn anew
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise TeacherError(f"{folder}: its weights cannot be read ({first_line(error)})") from error
    family, encoder = family_of(model.config), f"{model.base_model_prefix}."
    mismatches = (name for name, *_ in report["mismatched_keys"])
    missing_names = sorted({*report["missing_keys"], *mismatches})
    if config is not None:
        head = family.head
        pooler = f"{encoder}{head.dense}."
        missing_names = [
            name
            for name in missing_names
            if name.startswith(encoder) and not (head.uses_pooler and name.startswith(pooler))
        ]
    if missing_names:
        if config is None and not any(name.startswith(encoder) for name in missing_names):
            raise TeacherError(f"{folder}: {NO_CLASSIFIER}={folder}")
        raise TeacherError(
            f"{folder}: {len(missing_names)} weights do not fit or are missing, "
            f"{missing_names[0]} first"
        )
    _check_surplus(folder, model, report["unexpected_keys"])
    return model


def _check_surplus(folder: Path, model: PreTrainedModel, names: Iterable[str]) -> None:
    """Refuse weights inside layers that the class does not have. Raises `TeacherError`."""
    layers = family_of(model.config).layers
    if layers is None:  # one layer, applied again and again
        return
    depth = int(model.config.num_hidden_layers)
    part = re.compile(rf"{re.escape(layers)}\.(\d+)\.")
    found = {name: int(match[1]) for name in sorted(names) if (match := part.search(name))}
    for name, layer in found.items():
        if layer >= depth:
            raise TeacherError(
                f"{folder}: its config.json has {depth} layers, its weights have more ({name})"
            )
        kind = "relative positions" if "distance_embedding" in name else "weights"
        raise TeacherError(
            f"{folder}: its layers have {kind} that transformers' class "
            f"{type(model).__name__} does not read ({name}): the model would be another one"
        )
