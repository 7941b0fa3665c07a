"""The size of classifiers against a count by hand, and against what lies on disk."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PretrainedConfig

from harness.models.attention import ATTENTION
from harness.models.size import model_size
from tests.conftest import tiny_bert
from tests.harness.models.test_stacked import CONFIGS, models_of


def operations(config: PretrainedConfig, length: int) -> int:
    """Two for each multiplication and addition: projections, attention, feed-forward layers, head."""
    width, inner = int(config.hidden_size), int(config.intermediate_size)
    projections = 4 * length * width * width
    attention = 2 * length * length * width
    products = 3 if config.model_type == "modernbert" else 2  # of which one gates the other
    feed_forward = products * length * width * inner
    embeddings = 0
    if getattr(config, "embedding_size", width) != width:
        embeddings = length * int(config.embedding_size) * width
    head = width * width + width * int(config.num_labels)
    layers = int(config.num_hidden_layers) * (projections + attention + feed_forward)
    return 2 * (embeddings + layers + head)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("length", [5, 23])
def test_operations_equal_a_count_by_hand(name: str, length: int) -> None:
    (model,) = models_of(CONFIGS[name], 1)
    assert model_size(model, length).flops == operations(model.config, length)


def test_parameters_and_bytes_are_those_on_disk(tmp_path: Path) -> None:
    model = tiny_bert(3, width=16)
    found = model_size(model, 9)
    model.save_pretrained(tmp_path)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert found.weight_bytes <= size <= found.weight_bytes + 16384  # the file's head
    assert found.weight_bytes == 4 * found.parameters
    words, positions, types = 50 * 16, 64 * 16, 2 * 16
    assert found.embedding_parameters == words + positions + types + 2 * 16
    layer = 4 * (16 * 16 + 16) + (16 * 32 + 32) + (32 * 16 + 16) + 2 * 2 * 16
    head = (16 * 16 + 16) + (16 * 2 + 2)
    assert found.body_parameters == 3 * layer + head
    assert found.length == 9


@pytest.mark.parametrize("training", [True, False])
def test_counting_leaves_model_and_generator_as_they_were(training: bool) -> None:
    model = AutoModelForSequenceClassification.from_config(
        tiny_bert(2, width=24).config, attn_implementation=ATTENTION
    ).train(training)
    before = torch.get_rng_state()
    model_size(model, 31 + training)
    assert model.training is training
    assert torch.equal(before, torch.get_rng_state())
