"""The reference engine against Hugging Face's own forward."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoModelForSequenceClassification,
    BertConfig,
    ElectraConfig,
    PreTrainedConfig,
    RobertaConfig,
)
from transformers.masking_utils import (
    AttentionMaskInterface,
    bidirectional_mask_function,
    eager_mask,
)

from harness.method import Pooling
from harness.models.attention import ATTENTION, explicit_mask
from harness.models.families import FAMILIES
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


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_without_padding_changes_no_output(
    monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """On the CPU a batch without padding has no mask, and on other devices it has one of zeros."""
    config = CONFIG_MAPPING[family](**SIZES)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation=ATTENTION)
    inputs = {name: values[:1] for name, values in batch().items()}
    length = int(inputs["attention_mask"].sum())
    inputs = {name: values[:, :length] for name, values in inputs.items()}
    masks = []

    def always(**options: Any) -> Tensor:
        masks.append(eager_mask(**{**options, "allow_is_bidirectional_skip": False}))
        return masks[-1]

    def outputs_and_gradients() -> list[Tensor]:
        layers = layers_of(model.eval(), inputs, "mean")
        gradients = torch.autograd.grad(
            layers.states.square().sum(), [*model.parameters()], allow_unused=True
        )
        return [layers.logits, layers.states, *(value for value in gradients if value is not None)]

    expected = outputs_and_gradients()
    monkeypatch.setitem(AttentionMaskInterface._global_mapping, ATTENTION, always)
    found = outputs_and_gradients()
    # DeBERTa's class makes its own mask, ModernBERT's has one for each kind of attention.
    assert len(masks) == {"deberta-v2": 0, "modernbert": 2}.get(family, 1)
    for mask in masks:
        assert mask.shape == (1, 1, length, length)
        assert not mask.any()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_a_batch_without_padding_has_no_mask_on_the_cpu_and_one_elsewhere() -> None:
    sizes = {"batch_size": 2, "q_length": 3, "kv_length": 3, "allow_is_bidirectional_skip": True}
    sizes["mask_function"] = bidirectional_mask_function
    full = torch.ones(2, 3, dtype=torch.bool)
    assert explicit_mask(full, **sizes) is None
    assert explicit_mask(None, **sizes) is None
    mask = explicit_mask(full.to("meta"), device="meta", **sizes)
    assert mask is not None
    assert mask.shape == (2, 1, 3, 3)
    full[1, 2] = False
    mask = explicit_mask(full, **sizes)
    assert mask is not None
    assert mask[0].eq(0).all()
    assert mask[1, 0].tolist() == [[0, 0, torch.finfo(torch.float32).min]] * 3


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
