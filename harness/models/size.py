"""The size of classifiers: parameters, bytes, and operations for one example."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from harness.models.families import family_of
from harness.storage.compression import ModelSize

_sizes: dict[tuple[str, int], ModelSize] = {}
"""The sizes that this process has counted, by configuration and length."""


def model_size(model: PreTrainedModel, length: int) -> ModelSize:
    """The size of a classifier, for examples of `length` tokens.

    The operations are counted in one forward pass without dropout. The model is as before afterwards.
    """
    key = model.config.to_json_string(use_diff=False), length
    if key not in _sizes:
        _sizes[key] = _count(model, length)
    return _sizes[key]


def _count(model: PreTrainedModel, length: int) -> ModelSize:
    was_training = model.training
    ids = torch.ones(1, length, dtype=torch.long, device=model.device)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        model.train(was_training)
    embeddings = model.base_model.get_submodule(family_of(model.config).embeddings)
    return ModelSize(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        embedding_parameters=sum(parameter.numel() for parameter in embeddings.parameters()),
        weight_bytes=sum(4 * value.numel() for value in model.state_dict().values()),
        length=length,
        flops=int(counter.get_total_flops()),
    )
