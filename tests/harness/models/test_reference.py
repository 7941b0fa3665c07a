"""The reference engine against Hugging Face's own forward."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    ElectraConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from harness.method import Pooling
from harness.models.attention import ATTENTION
from harness.models.network import pool
from harness.models.reference import layers_of
from harness.pooling_table import POOLINGS
from harness.runtime.randomness import CounterDropout, DropoutKey, key_dropout
from tests.conftest import SIZES, tiny_batch, tiny_bert, tiny_inputs


def batch(rows: int = 6, width: int = 24) -> dict[str, torch.Tensor]:
    return tiny_batch(tiny_inputs(), range(rows), width)


@pytest.mark.parametrize(
    "config",
    [
        BertConfig(**SIZES),
        RobertaConfig(**SIZES, type_vocab_size=2),
        ElectraConfig(**SIZES, embedding_size=16),
    ],
    ids=["bert", "roberta", "electra"],
)
def test_forward_and_gradients_equal_hugging_faces_eager_attention(
    config: PreTrainedConfig,
) -> None:
    torch.manual_seed(0)
    theirs = AutoModelForSequenceClassification.from_config(
        config, attn_implementation="eager"
    ).eval()
    ours = AutoModelForSequenceClassification.from_config(
        copy.deepcopy(config), attn_implementation=ATTENTION
    ).eval()
    ours.load_state_dict(theirs.state_dict())
    key_dropout(ours, DropoutKey([0]))
    inputs = batch()
    expected = theirs(**inputs, output_hidden_states=True)
    found = layers_of(ours, inputs, "cls")
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
    for layer, states in enumerate(expected.hidden_states[1:]):
        torch.testing.assert_close(found.states[:, layer], states[:, 0], atol=1e-5, rtol=1e-5)
    found.logits.square().sum().backward()
    expected.logits.square().sum().backward()
    for (name, ours_p), theirs_p in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if theirs_p.grad is not None:
            torch.testing.assert_close(ours_p.grad, theirs_p.grad, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_changes_nothing(pooling: Pooling) -> None:
    model = tiny_bert().eval()
    narrow, wide = (layers_of(model, batch(width=width), pooling) for width in (24, 48))
    torch.testing.assert_close(narrow.logits, wide.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(narrow.states, wide.states, atol=1e-5, rtol=1e-5)


def test_mean_pooling_leaves_padding_out() -> None:
    states = torch.tensor([[[1.0], [3.0], [100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pool((states,), mask, "mean").item() == pytest.approx(2.0)
    assert pool((states,), mask, "cls").item() == pytest.approx(1.0)


def test_every_dropout_is_keyed_the_attentions_too() -> None:
    model = tiny_bert()
    key = DropoutKey([0])
    key_dropout(model, key)
    model.train()
    sites = [m for m in model.modules() if isinstance(m, CounterDropout)]
    assert len({site.site for site in sites}) == len(sites)
    assert not [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    first = layers_of(model, batch(), None).logits
    torch.manual_seed(123)
    assert torch.equal(first, layers_of(model, batch(), None).logits)
    for site in sites:
        if "self" in next(n for n, m in model.named_modules() if m is site):
            site.levels = 255
    assert not torch.equal(first, layers_of(model, batch(), None).logits)
    key.step += 1
    assert not torch.equal(first, layers_of(model, batch(), None).logits)
