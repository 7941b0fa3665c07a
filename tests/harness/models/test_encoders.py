"""Encoders with heads, layers and tokenizers of their own: from a checkpoint to a saved student."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AlbertModel,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from harness.config import StudentConfig
from harness.errors import MethodError, TeacherError
from harness.models.attention import ATTENTION
from harness.models.checkpoints import check_fits
from harness.models.families import FAMILIES, check_needs, set_depth
from harness.models.reference import ReferenceClassifier, layers_of
from harness.models.student import (
    Blueprint,
    build_classifier,
    copied_layers,
    new_classifier,
)
from harness.pooling_table import POOLINGS
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import DropoutKey
from tests.conftest import VOCABULARY
from tests.harness.models.makers import OWN, checkpoint, config_of

CPU = torch.device("cpu")
FP32 = Arithmetic(CPU, bf16=False)
CONFIGS: dict[str, PretrainedConfig] = {
    **{family: config_of(family) for family in OWN},
    "deberta-v2, with positions and a convolution": config_of(
        "deberta-v2",
        **{"position_biased_input": True, "type_vocab_size": 2, "conv_kernel_size": 3},
        **{"position_buckets": -1, "share_att_key": False, "pos_att_type": "p2c"},
    ),
    "modernbert, cls": config_of("modernbert", classifier_pooling="cls"),
}


def random_model(config: PretrainedConfig, attention: str = ATTENTION) -> PreTrainedModel:
    """A classifier in eval mode whose attention differs from token to token."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(
        copy.deepcopy(config), attn_implementation=attention
    ).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def batch_of(config: PretrainedConfig) -> dict[str, Tensor]:
    """Four examples (4, 20) of different lengths, padded."""
    torch.manual_seed(1)
    mask = torch.arange(20) < torch.tensor([[20], [13], [7], [4]])
    ids = torch.randint(5, VOCABULARY, (4, 20)).masked_fill(~mask, int(config.pad_token_id))
    types = ((torch.arange(20) > 5) & mask).long()
    if getattr(config, "type_vocab_size", 2) != 2:
        types = torch.zeros_like(types)
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": mask.long()}


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_and_gradients_equal_hugging_faces(name: str) -> None:
    config = CONFIGS[name]
    theirs, ours = random_model(config, "eager"), random_model(config)
    batch = batch_of(config)
    network = ReferenceClassifier(ours, FP32)
    expected = theirs(**FAMILIES[config.model_type].model_inputs(batch), output_hidden_states=True)
    (expected.logits.square().sum() + expected.hidden_states[2].square().mean()).backward()
    for pooling in POOLINGS:
        own = {part: values[None] for part, values in batch.items()}
        found = network.forward(own, None, pooling, frozenset({"tokens"}))
        torch.testing.assert_close(found.logits[0], expected.logits, atol=1e-5, rtol=1e-5)
        assert len(found.tokens) == 5
        for states, own_states in zip(expected.hidden_states, found.tokens, strict=True):
            torch.testing.assert_close(own_states[0], states, atol=1e-5, rtol=1e-5)
        share = batch["attention_mask"] / batch["attention_mask"].sum(1, keepdim=True)
        for layer, states in enumerate(expected.hidden_states[1:]):
            pooled = states[:, 0] if pooling == "cls" else (states * share[..., None]).sum(1)
            torch.testing.assert_close(found.states[0, :, layer], pooled, atol=1e-5, rtol=1e-5)
    (found.logits.square().sum() + found.tokens[2].square().mean()).backward()
    for (part, parameter), own in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        if parameter.grad is not None:
            torch.testing.assert_close(own.grad, parameter.grad, atol=1e-5, rtol=1e-4, msg=part)


@pytest.mark.parametrize("name", CONFIGS)
def test_bf16_is_near(name: str) -> None:
    model, batch = random_model(CONFIGS[name]), batch_of(CONFIGS[name])
    with Arithmetic(CPU, bf16=True).autocast():
        found = layers_of(model, batch, "mean").logits
    expected = layers_of(model, batch, "mean").logits
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("init", ["first", "skip"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_students_layers_are_its_teachers(name: str, init: Any) -> None:
    """The student's states are those of the teacher whose layers are exchanged for the copied ones."""
    teacher = random_model(CONFIGS[name])
    blueprint = Blueprint(teacher, StudentConfig(layers=2, init=init))
    weights = blueprint.weights(3)
    sources = copied_layers(init, 2, 4)
    assert sources == ([0, 1] if init == "first" else [1, 3])
    prefix, layers = f"{teacher.base_model_prefix}.", FAMILIES[teacher.config.model_type].layers
    theirs = teacher.state_dict()
    heads = ("classifier.", "pooler.", "head.", "pre_classifier.")
    assert int(blueprint.config.num_hidden_layers) == 2
    copied = set()
    for own_name, value in weights.items():
        if own_name.startswith(heads):
            continue
        source = own_name
        for target, layer in enumerate(sources if layers is not None else ()):
            part = f"{prefix}{layers}.{target}."
            if own_name.startswith(part):
                source = f"{prefix}{layers}.{layer}.{own_name.removeprefix(part)}"
        assert torch.equal(value, theirs[source]), own_name
        copied.add(source)
    missing = {
        source
        for source in theirs
        if not source.startswith(heads)
        and source not in copied
        and (layers is None or not source.startswith(f"{prefix}{layers}."))
    }
    assert not missing
    left = [f"{prefix}{layers}.{layer}." for layer in sources]
    left_out = {s for s in theirs if s.startswith(tuple(left)) and s not in copied}
    no_norm = {f"model.layers.{sources[0]}.attn_norm.weight"} & theirs.keys()
    assert left_out == (no_norm if teacher.config.model_type == "modernbert" else set())


def test_a_modernbert_student_keeps_the_kinds_of_attention_of_its_layers() -> None:
    teacher = random_model(CONFIGS["modernbert"])
    full, local = "full_attention", "sliding_attention"
    assert teacher.config.layer_types == [full, local, local, full]
    kinds = {
        init: Blueprint(teacher, StudentConfig(layers=2, init=init)).config.layer_types
        for init in ("first", "skip", "random")
    }
    assert kinds == {"first": [full, local], "skip": [local, full], "random": [full, local]}
    deeper = copy.deepcopy(teacher.config)
    set_depth(deeper, range(6))
    assert deeper.layer_types == [full, local, local, full, full, local]


def test_a_shallow_albert_applies_its_one_layer_fewer_times() -> None:
    teacher = random_model(CONFIGS["albert"])
    blueprint = Blueprint(teacher, StudentConfig(layers=2))
    student = build_classifier(blueprint.config, blueprint.weights(1))
    sizes = [sum(p.numel() for p in own.parameters()) for own in (teacher, student)]
    assert sizes[0] == sizes[1]
    batch = batch_of(teacher.config)
    shallow = copy.deepcopy(teacher.config)
    shallow.num_hidden_layers = 2
    theirs = AlbertModel(shallow).eval()
    theirs.load_state_dict(teacher.base_model.state_dict())
    expected = theirs(**batch, output_hidden_states=True).hidden_states
    layers = layers_of(student, batch, "cls", frozenset({"tokens"}))
    for found, states in zip(layers.tokens, expected, strict=True):
        torch.testing.assert_close(found, states, atol=1e-5, rtol=1e-5)
    deep = layers_of(teacher, batch, "cls", frozenset({"tokens"}))
    for found, states in zip(layers.tokens, deep.tokens, strict=False):
        torch.testing.assert_close(found, states, atol=1e-5, rtol=1e-5)


def test_each_time_that_a_shared_layer_is_applied_has_masks_of_its_own() -> None:
    config = config_of("albert", hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.0)
    network = ReferenceClassifier(random_model(config), FP32)
    (dropout,) = [d for d in network.dropouts if d is _output_dropout(network.model)]
    masks: list[Tensor] = []
    dropout.register_forward_hook(lambda module, given, output: masks.append(output == 0))
    own = {part: values[None] for part, values in batch_of(config).items()}
    key = DropoutKey([0])
    for _ in range(2):
        network.forward(own, key, None)
    assert len(masks) == 8
    assert all(torch.equal(one, other) for one, other in zip(masks[:4], masks[4:], strict=True))
    for layer in range(3):
        assert (masks[layer] != masks[layer + 1]).float().mean() > 0.3


def _output_dropout(model: PreTrainedModel) -> torch.nn.Module:
    group = model.base_model.encoder.albert_layer_groups[0]
    return group.albert_layers[0].attention.output_dropout


@pytest.mark.parametrize("groups", [{"num_hidden_groups": 2}, {"inner_group_num": 2}])
def test_an_albert_with_more_layers_of_its_own_is_refused(
    tmp_path: Path, groups: dict[str, int]
) -> None:
    folder = checkpoint(tmp_path / "encoder", "albert", **groups)
    with pytest.raises(TeacherError, match=rf"'albert' encoders must have {next(iter(groups))}=1"):
        check_fits(folder, [], 64)


def test_the_dropout_of_modernberts_attention_is_keyed() -> None:
    config = config_of("modernbert", attention_dropout=0.5)
    network = ReferenceClassifier(random_model(config), FP32)
    own = {part: values[None] for part, values in batch_of(config).items()}
    key = DropoutKey([0])
    first = network.forward(own, key, None).logits
    torch.manual_seed(9)
    assert torch.equal(network.forward(own, key, None).logits, first)
    shares = [m for n, m in network.model.named_modules() if n.endswith("attn.dropout")]
    assert len(shares) == 4
    for module in shares:
        module.levels = 0
    assert not torch.equal(network.forward(own, key, None).logits, first)
    with pytest.raises(RuntimeError, match="ModernBertAttention has no module for its dropout"):
        layers_of(new_classifier(config).train(), batch_of(config), None)


def test_what_an_encoder_cannot_hand_out_is_refused() -> None:
    qkv, scores = frozenset({"qkv"}), frozenset({"scores"})
    for family in ("mpnet", "deberta-v2"):
        for needs in (qkv, scores, frozenset({"last-qkv"})):
            with pytest.raises(MethodError, match=f"'{family}' encoders do not hand out their att"):
                check_needs(CONFIGS[family], needs)
        check_needs(CONFIGS[family], frozenset({"tokens"}))
    with pytest.raises(MethodError, match="with local attention have no scores of distant tokens"):
        check_needs(CONFIGS["modernbert"], scores)
    check_needs(CONFIGS["modernbert"], qkv)
    check_needs(config_of("modernbert", layer_types=["full_attention"] * 4), scores)
    for family in ("distilbert", "albert", "xlm-roberta"):
        check_needs(CONFIGS[family], qkv | scores)


def test_the_table_of_the_document_says_what_the_rows_say() -> None:
    lines = (Path(__file__).parents[3] / "docs" / "encoders.md").read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    assert [row[0] for row in cells[2:]] == [*FAMILIES]
    for kind, _, engine, attention, reads in cells[2:]:
        row = FAMILIES[kind]
        assert engine == ("reference" if row.architecture is None else "stacked")
        assert (attention == "nothing") == (not row.attention)
        assert ("by the pooler" in reads) == row.head.uses_pooler
