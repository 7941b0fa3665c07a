"""Checkpoints of encoders: the folders of their files, and fingerprints of the files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.metadata import version
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedModel

from harness.data.batches import WIDTH_STEP
from harness.data.tokens import EncodedSplit
from harness.errors import TeacherError, first_line, one_line
from harness.models.families import family_of
from harness.models.minilm import minilm_folder
from harness.runtime.progress import progress
from harness.storage.fingerprint import file_sha256, fingerprint
from harness.storage.folders import MANIFEST, build_once

IDENTITY_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
"""Weights (whole or in shards), configuration, tokenizer and vocabulary."""
IDLE_OPTIONS = {
    *(
        "name_or_path",
        "model_max_length",
        "vocab_file",
        "merges_file",
        "spm_file",
        "tokenizer_file",
    ),
    *("tokenizer_class", "backend", "files_loaded", "is_local", "local_files_only"),
}
"""Options of a tokenizer that change no token."""


def locate(name: str, task: str, cache: Path, *, outline: bool = False) -> Path:
    """The local folder of a task's encoder.

    `name` is `demo`, `minilm`, a folder, or a hub id, whose files are downloaded. `{task}` in a folder
    or hub id stands for the task. With `outline` the demo's encoder has its tokenizer and its sizes,
    but random weights, since no pre-training takes place.

    Raises:
        TeacherError: the encoder cannot be found or fetched, or its weights have another hash.
    """
    if name == "demo":
        return _demo(task, cache, outline)
    if name == "minilm":
        return minilm_folder()
    name = name.replace("{task}", task)
    folder = Path(name)
    if not folder.is_dir():
        folder = _hub(name)
    if not (folder / "config.json").is_file():
        raise TeacherError(f"{name}: no config.json, so no Hugging Face checkpoint")
    if not any(folder.glob("model*.safetensors")):
        raise TeacherError(
            f"{name}: no weights in safetensors format (load and save it once with transformers' "
            "save_pretrained)"
        )
    return folder


def checkpoint_fingerprint(folder: Path) -> str:
    """The fingerprint of a checkpoint: of its configuration, weights, tokenizer and vocabulary.

    Raises:
        TeacherError: one of the files cannot be read.
    """
    return fingerprint(_files(folder, IDENTITY_FILES))


def tokenizer_fingerprint(folder: Path) -> str:
    """The fingerprint of a checkpoint's tokenizer: of all files but the weights, and library versions.

    Raises:
        TeacherError: one of the files cannot be read.
    """
    files = _files(folder, [pattern for pattern in IDENTITY_FILES if "safetensors" not in pattern])
    libraries = [version(name) for name in ("transformers", "tokenizers")]
    return fingerprint([files, libraries])


def _files(folder: Path, patterns: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the files in a folder that match a pattern, by file name."""
    paths = [path for pattern in patterns for path in folder.glob(pattern)]
    try:
        return {path.name: file_sha256(path) for path in paths if path.name != MANIFEST}
    except OSError as error:
        raise TeacherError(f"{error.filename}: cannot be read ({error.strerror})") from error


def read_config(folder: Path, **changes: Any) -> PretrainedConfig:
    """A checkpoint's configuration, where `changes` replace values.

    `chunk_size_feed_forward` is 0: it saves memory, changes no output, and fits few lengths.
    `return_dict` is true: outputs are read by name.

    Raises:
        TeacherError: the configuration cannot be read, transformers does not know its model type, or the
            weights are quantized.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **changes)
    except Exception as error:  # a configuration's own checks raise anything
        raise TeacherError(f"{folder}: unusable config.json ({first_line(error)})") from error
    if getattr(config, "quantization_config", None) is not None:
        raise TeacherError(
            f"{folder}: its config.json has a quantization_config, and quantized weights cannot be "
            "trained; give the checkpoint that was quantized"
        )
    config.chunk_size_feed_forward = 0
    config.return_dict = True
    return config


def tokenizer_of(folder: Path) -> Any:
    """A checkpoint's tokenizer.

    Raises:
        TeacherError: the folder has no file with a vocabulary, the tokenizer cannot be read, or it has
            no padding token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the tokenizer's own parsers raise anything
        raise TeacherError(f"{folder}: no usable tokenizer ({first_line(error)})") from error
    # Without its files transformers makes a tokenizer that knows its special tokens alone.
    files = sorted({"tokenizer.json", *tokenizer.vocab_files_names.values()})
    if not any((folder / name).is_file() for name in files):
        raise TeacherError(
            f"{folder}: has no tokenizer ({' or '.join(files)}); copy the tokenizer of its encoder there"
        )
    if tokenizer.pad_token_id is None:
        raise TeacherError(f"{folder}: its tokenizer has no padding token")
    return tokenizer


def have_same_tokens(one: Path, other: Path) -> bool:
    """Whether the tokenizers of two checkpoints make the same tokens of every text.

    Tokenizers in Rust are compared with all their parts. Of others the vocabularies, special tokens and
    options are compared.

    Raises:
        TeacherError: a tokenizer cannot be used.
    """
    if one == other:
        return True
    return _tokenizer_parts(tokenizer_of(one)) == _tokenizer_parts(tokenizer_of(other))


def _tokenizer_parts(tokenizer: Any) -> list[Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    options = {k: str(v) for k, v in tokenizer.init_kwargs.items() if k not in IDLE_OPTIONS}
    parts = options if backend is None else _rust_parts(backend)
    return [
        tokenizer.get_vocab(),
        tokenizer.special_tokens_map,
        tokenizer.padding_side,
        tokenizer.truncation_side,
        type(tokenizer).__name__ if backend is None else "",
        parts,
    ]


def _rust_parts(backend: Any) -> dict[str, Any]:
    """The parts of a tokenizer in Rust. Padding and truncation are options of each call."""
    parts: dict[str, Any] = json.loads(backend.to_str())
    return {k: v for k, v in parts.items() if k not in ("version", "padding", "truncation")}


def check_fits(folder: Path, inputs: Iterable[EncodedSplit], max_length: int) -> None:
    """Check that an encoder's family is known, and that the encoder has embeddings for the inputs.

    Raises:
        TeacherError: the family is unknown, config.json is unusable, `max_length` exceeds the positions,
            or an id in the inputs exceeds the embeddings.
    """
    config = read_config(folder)
    try:
        family = family_of(config)
    except TeacherError as error:
        raise TeacherError(f"{folder}: {error}") from error
    try:
        with torch.device("meta"):
            encoder = AutoModel.from_config(config, trust_remote_code=False)
        first_position = family.first_position(config)
    except Exception as error:  # a model's own constructor raises anything
        raise TeacherError(
            f"{folder}: its config.json describes no '{config.model_type}' ({one_line(error)})"
        ) from error
    if family.layers is not None:
        _part(encoder, family.layers)  # students copy these layers
    words, positions, types = (
        None if name is None or (part := _part(encoder, name)) is None else part.num_embeddings
        for name in (family.words, family.positions, family.types)
    )
    if positions is None:
        positions = int(config.max_position_embeddings)
    length_limit = (positions - first_position) // WIDTH_STEP * WIDTH_STEP
    if max_length > length_limit:
        raise TeacherError(
            f"training.max_length={max_length}: {folder} has positions for {length_limit} tokens; "
            "set it lower"
        )
    for split in inputs:
        for values, embeddings, kind in (
            (split.ids, words, "tokens"),
            (split.types, types, "token types"),
        ):
            if embeddings is not None and values.max() >= embeddings:
                raise TeacherError(
                    f"{folder}: its tokenizer does not belong to it: {kind} up to {values.max()}, "
                    f"embeddings for {embeddings}"
                )


def _part(encoder: PreTrainedModel, name: str) -> Any:
    """The part of an encoder that its family's row names. None where a configuration leaves it out."""
    try:
        return attrgetter(name)(encoder)
    except AttributeError as error:
        raise TeacherError(
            f"the row of '{encoder.config.model_type}' in harness/models/families.py names '{name}', "
            f"which {type(encoder).__name__} does not have"
        ) from error


def _demo(task: str, cache: Path, outline: bool) -> Path:
    from harness.demo import encoder as demo_encoder
    from harness.demo import tasks as demo_tasks

    if task not in demo_tasks.TASKS:
        raise TeacherError(
            f"{task}: the demo's encoder knows the language of {', '.join(demo_tasks.TASKS)} only; "
            "name an encoder with teacher.pretrained="
        )

    def build(folder: Path) -> dict[str, Any]:
        if outline:
            demo_encoder.write_outline(folder)
            return {"kind": "outline of the demo encoder"}
        steps = sum(stage.steps for stage in demo_encoder.STAGES)
        with progress(f"{task}: pre-training the demo's encoder", steps) as advance:
            demo_encoder.write_encoder(folder, task, advance=advance)
        return {"kind": "demo encoder", "task": task}

    recipe = fingerprint({path.name: file_sha256(path) for path in demo_encoder.source_files()})
    folder = cache / "demo-encoders" / f"{'outline' if outline else task}-{recipe[:16]}"
    build_once(folder, build)
    return folder


def _hub(name: str) -> Path:
    from huggingface_hub import snapshot_download

    from harness.data.hub_errors import hub_reason

    try:
        files = list(IDENTITY_FILES)
        return Path(snapshot_download(name, allow_patterns=files, ignore_patterns="*/*"))
    except Exception as error:  # the hub client raises many unrelated types
        raise TeacherError(f"{name}: no folder, and from the hub: {hub_reason(error)}") from error
