"""The stacked encoder against Hugging Face's class, member by member."""

import copy
import dataclasses
import inspect
import re
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    CamembertConfig,
    Data2VecTextConfig,
    DistilBertConfig,
    ElectraConfig,
    ErnieConfig,
    MegatronBertConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaPreLayerNormConfig,
    XLMRobertaConfig,
)
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from harness.errors import MethodError
from harness.method import Layers, Need, Pooling
from harness.models.architectures import IDLE_KEYS
from harness.models.attention import ATTENTION
from harness.models.families import FAMILIES, can_stack
from harness.models.flat_weights import WeightBlock
from harness.models.reference import ReferenceClassifier
from harness.models.stacked import StackedClassifier
from harness.pooling_table import POOLINGS
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import DropoutKey
from harness.training.recipe import engine_of
from tests.conftest import SIZES, VOCABULARY

TWO_TYPES = {**SIZES, "type_vocab_size": 2}
LOCAL = {
    **SIZES,
    **{"local_attention": 4, "bos_token_id": 1, "eos_token_id": 2},
    **{"cls_token_id": 1, "sep_token_id": 2},
}
"""A ModernBERT whose second and third layer see two tokens in each direction."""
CONFIGS = {
    "bert": BertConfig(**SIZES),
    "ernie": ErnieConfig(**SIZES),
    "roberta": RobertaConfig(**{**TWO_TYPES, "pad_token_id": 1}),
    "xlm-roberta": XLMRobertaConfig(**TWO_TYPES),
    "camembert": CamembertConfig(**TWO_TYPES),
    "data2vec-text": Data2VecTextConfig(**TWO_TYPES),
    "electra": ElectraConfig(**SIZES, embedding_size=16),
    "electra, projected": ElectraConfig(**SIZES, embedding_size=8),
    "other activation": BertConfig(**SIZES, hidden_act="relu", classifier_dropout=0.3),
    "distilbert": DistilBertConfig(**SIZES, hidden_dim=32),
    "modernbert": ModernBertConfig(**LOCAL),
    "modernbert, mean": ModernBertConfig(
        **{**LOCAL, "classifier_pooling": "mean", "classifier_activation": "relu"},
        **{"attention_dropout": 0.1, "mlp_dropout": 0.2, "embedding_dropout": 0.1},
        classifier_dropout=0.3,
    ),
    "modernbert, global": ModernBertConfig(**{**LOCAL, "layer_types": ["full_attention"] * 3}),
}
CPU = torch.device("cpu")
FP32 = Arithmetic(CPU, bf16=False)


def models_of(config: PreTrainedConfig, members: int, eager: bool = False) -> list[PreTrainedModel]:
    """Random classifiers, with biases and scales that are not all 0 and 1."""
    torch.manual_seed(0)
    made = [
        AutoModelForSequenceClassification.from_config(
            copy.deepcopy(config), attn_implementation="eager" if eager else ATTENTION
        ).eval()
        for _ in range(members)
    ]
    for model in made:
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def stacked(models: list[PreTrainedModel], **options: object) -> StackedClassifier:
    weights = [model.state_dict() for model in models]
    return StackedClassifier(models[0].config, weights, CPU, torch.float32, **options)


def batch_of(config: PreTrainedConfig, members: int, width: int = 11) -> dict[str, Tensor]:
    """Examples of each member's own, of different lengths."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(3, width + 1, (members, 6, 1))
    lengths[:, 0] = width
    mask = np.arange(width) < lengths
    ids = np.where(mask, rng.integers(5, VOCABULARY, mask.shape), config.pad_token_id)
    types = np.where(mask, rng.integers(0, 2, mask.shape), 0)
    arrays = {"input_ids": ids, "token_type_ids": types, "attention_mask": mask}
    return {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()}


def gradients(network: StackedClassifier, member: int) -> Iterator[tuple[str, Tensor]]:
    words = torch.zeros_like(network.words.start[member])
    assert network.words.vectors.grad is not None
    words[network.words.ids] = network.words.vectors.grad[member]
    yield network.word_name, words
    for block in network.blocks.values():
        assert block.values.grad is not None
        gradients = WeightBlock(block.pieces, block.has_decay, block.values.grad)
        yield from gradients.member_weights(member)


@pytest.mark.parametrize("members", [1, 3, 8])
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "modernbert, global"])
@pytest.mark.parametrize("dropout", [False, True], ids=["no dropout", "dropout"])
@pytest.mark.parametrize("compact", [False, True], ids=["all words", "used words"])
@pytest.mark.parametrize("pooling", [*POOLINGS, None])
def test_forward_and_gradients_equal_hugging_faces(
    name: str, members: int, dropout: bool, compact: bool, pooling: Pooling | None
) -> None:
    config = CONFIGS[name]
    models = models_of(config, members, eager=not dropout)
    batch = batch_of(config, members)
    batch["input_ids"][:, 0, 2:5:2] = int(config.pad_token_id)  # a text that spells out the padding
    network = stacked(models, vocabulary=batch["input_ids"].unique() if compact else None)
    key = None
    if dropout:
        key = DropoutKey(range(members))
        key.step = 7
    found = network.forward(batch, key, pooling)
    (found.logits.square().sum() + found.states.square().sum((2, 3)).mean(1).sum()).backward()
    for member, model in enumerate(models):
        own_key = None
        if dropout:
            own_key = DropoutKey([member])
            own_key.step = 7
        own = {part: values[member : member + 1] for part, values in batch.items()}
        expected = ReferenceClassifier(model, FP32).forward(own, own_key, pooling)
        torch.testing.assert_close(found.logits[member], expected.logits[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.states[member], expected.states[0], atol=1e-5, rtol=1e-5)
        (expected.logits.square().sum() + expected.states.square().sum((2, 3)).mean()).backward()
        ours = dict(gradients(network, member))
        assert set(ours) == {own_name for own_name, _ in model.named_parameters()}
        for own_name, parameter in model.named_parameters():
            torch.testing.assert_close(
                ours[own_name],
                parameter.grad,
                atol=1e-5,
                rtol=1e-4,
                msg=lambda text, name=own_name: f"{name}: {text}",
            )


@pytest.mark.parametrize("name", ["distilbert", "modernbert", "modernbert, mean"])
def test_forward_and_gradients_are_near_hugging_faces_in_float64(name: str) -> None:
    """ModernBERT's class turns queries and keys in fp32, whatever the dtype of its weights.

    No token is masked: a padded query without keys gives this class no number in float64.
    """
    models = models_of(CONFIGS[name], 2, eager=True)
    batch = batch_of(CONFIGS[name], 2)
    batch["attention_mask"][:] = 1
    network = stacked(models)
    logits = network.forward(batch, None, None).logits
    logits.square().sum().backward()
    for member, model in enumerate(models):
        exact = model.double()
        own = {part: values[member] for part, values in batch.items()}
        expected = exact(**FAMILIES[exact.config.model_type].model_inputs(own)).logits
        torch.testing.assert_close(logits[member].double(), expected, atol=2e-6, rtol=2e-6)
        expected.square().sum().backward()
        ours = dict(gradients(network, member))
        for part, parameter in exact.named_parameters():
            assert parameter.grad is not None
            error = (ours[part].double() - parameter.grad).norm()
            assert error <= 1e-5 * parameter.grad.norm() + 1e-8, part


EVERYTHING: frozenset[Need] = frozenset({"tokens", "scores", "qkv"})


def needs_of(config: PreTrainedConfig) -> frozenset[Need]:
    """All that an encoder hands out. With local attention it has no scores of distant tokens."""
    is_local = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    return EVERYTHING - {"scores"} if is_local else EVERYTHING


def note(held: dict[str, Tensor], part: str, module: object, given: object, output: Tensor) -> None:
    held[part] = output


def projections_of(model: PreTrainedModel, batch: dict[str, Tensor]) -> list[list[Tensor]]:
    """Queries, keys and values (B, heads, T, head width) of each layer, from the class's own layers."""
    family = FAMILIES[model.config.model_type]
    held: dict[str, Tensor] = {}
    assert family.architecture is not None or family.layers == "encoder.layer"
    names = (family.architecture or FAMILIES["bert"].architecture).products["attention"]
    for layer, module in enumerate(model.base_model.get_submodule(family.layers)):
        for name in names:
            module.get_submodule(name).register_forward_hook(partial(note, held, f"{layer} {name}"))
    model(**batch)
    found = []
    for layer in range(3):
        outputs = torch.cat([held[f"{layer} {name}"] for name in names], dim=-1)
        parts = [part.unflatten(-1, (2, -1)).transpose(1, 2) for part in outputs.chunk(3, dim=-1)]
        if model.config.model_type == "modernbert":
            kind, places = model.config.layer_types[layer], torch.arange(outputs.shape[1])[None]
            cosines, sines = model.model.rotary_emb(outputs, places, kind)
            parts[:2] = apply_rotary_pos_emb(*parts[:2], cosines, sines)
        found.append(parts)
    return found


def check_handed_out(
    layers: Layers, member: int, model: PreTrainedModel, batch: dict[str, Tensor]
) -> None:
    """The tensors that one member hands out, against Hugging Face's eager attention."""
    batch = FAMILIES[model.config.model_type].model_inputs(batch)
    expected = model(**batch, output_hidden_states=True, output_attentions=True)
    assert len(layers.tokens) == 4
    for found, states in zip(layers.tokens, expected.hidden_states, strict=True):
        torch.testing.assert_close(found[member], states, atol=1e-5, rtol=1e-5)
    padding = (batch["attention_mask"] == 0)[:, None, None]
    assert len(layers.scores) == (3 if "scores" in needs_of(model.config) else 0)
    for layer, handed in enumerate(layers.scores):
        scores = handed[member]
        assert torch.isfinite(scores).all()
        assert (scores.masked_select(padding) == 0).all()
        shares = scores.masked_fill(padding, -torch.inf).softmax(dim=-1)
        torch.testing.assert_close(shares, expected.attentions[layer], atol=1e-5, rtol=1e-5)
    for layer, parts in enumerate(projections_of(model, batch)):
        handed = (layers.queries, layers.keys, layers.values)
        for heads, held in zip(parts, handed, strict=True):
            torch.testing.assert_close(held[layer][member], heads, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("name", CONFIGS)
def test_layers_hand_out_states_scores_queries_keys_and_values(name: str, members: int) -> None:
    models = models_of(CONFIGS[name], members, eager=True)
    batch = batch_of(CONFIGS[name], members)
    layers = stacked(models).forward(batch, None, "cls", needs_of(CONFIGS[name]))
    for member, model in enumerate(models):
        own = {name: values[member] for name, values in batch.items()}
        check_handed_out(layers, member, model, own)


@pytest.mark.parametrize("name", [*CONFIGS, "roberta-prelayernorm"])
def test_the_reference_engine_hands_out_the_same(name: str) -> None:
    config = CONFIGS.get(name, RobertaPreLayerNormConfig(**TWO_TYPES))
    (model,) = models_of(config, 1)
    (eager,) = models_of(config, 1, eager=True)
    batch = batch_of(config, 1)
    layers = ReferenceClassifier(model, FP32).forward(batch, None, "cls", needs_of(config))
    check_handed_out(layers, 0, eager, {name: values[0] for name, values in batch.items()})


@pytest.mark.parametrize("need", ["scores", "qkv"])
def test_attention_that_cannot_be_seen_is_refused(need: Need) -> None:
    config = MegatronBertConfig(**SIZES)
    (model,) = models_of(config, 1)
    network = ReferenceClassifier(model, FP32)
    with pytest.raises(
        MethodError, match="'megatron-bert' encoders do not hand out their attention"
    ):
        network.forward(batch_of(config, 1), None, "cls", frozenset({need}))


@pytest.mark.parametrize("need", sorted(EVERYTHING))
def test_only_what_is_needed_is_handed_out(need: Need) -> None:
    config = CONFIGS["bert"]
    (model,) = models_of(config, 1)
    batch = batch_of(config, 1)
    parts = {"tokens": ["tokens"], "scores": ["scores"], "qkv": ["queries", "keys", "values"]}
    networks = [stacked([model]), ReferenceClassifier(model, FP32)]
    for layers in [network.forward(batch, None, "cls", frozenset({need})) for network in networks]:
        for name, fields in parts.items():
            assert all(bool(getattr(layers, field)) == (name == need) for field in fields)


@pytest.mark.parametrize("name", ["bert", "roberta", "electra", "distilbert", "modernbert, mean"])
def test_gradients_through_what_is_handed_out_equal_the_reference_engines(name: str) -> None:
    config = CONFIGS[name]
    models = models_of(config, 2)
    batch = batch_of(config, 2)
    network = stacked(models)
    key = DropoutKey([3, 4])
    mask = batch["attention_mask"]
    total(network.forward(batch, key, "cls", needs_of(config)), mask).backward()
    found = [dict(gradients(network, member)) for member in range(2)]
    for member, model in enumerate(models):
        own = {part: values[member : member + 1] for part, values in batch.items()}
        reference = ReferenceClassifier(model, FP32)
        layers = reference.forward(own, DropoutKey([3 + member]), "cls", needs_of(config))
        total(layers, own["attention_mask"]).backward()
        for part, parameter in model.named_parameters():
            torch.testing.assert_close(
                found[member][part],
                parameter.grad,
                atol=1e-4,
                rtol=1e-3,
                msg=lambda text, part=part: f"{part}: {text}",
            )


def total(layers: Layers, mask: Tensor) -> Tensor:
    """The sum over members of a number that depends on all that is handed out, but for padding."""
    heads = mask[:, :, None, :, None]
    handed = [own * mask[..., None] for own in layers.tokens]
    handed += [own * heads for own in (*layers.queries, *layers.keys, *layers.values)]
    handed += [own * heads for own in layers.scores]
    parts = [own.square().flatten(1).mean(1).sum() for own in handed]
    return sum(parts, layers.logits.square().sum())


@pytest.mark.parametrize("name", CONFIGS)
def test_in_bf16_the_residual_stream_is_fp32_alone_and_together(name: str) -> None:
    models = models_of(CONFIGS[name], 3)
    batch = batch_of(CONFIGS[name], 3)
    exact, rounded = (
        StackedClassifier(CONFIGS[name], [m.state_dict() for m in models], CPU, dtype)
        for dtype in (torch.float32, torch.bfloat16)
    )
    needs = needs_of(CONFIGS[name])
    together = rounded.forward(batch, None, "cls", needs)
    expected = exact.forward(batch, None, "cls", needs)
    for member in range(3):
        alone = StackedClassifier(CONFIGS[name], [models[member].state_dict()], CPU, torch.bfloat16)
        own = {part: values[member : member + 1] for part, values in batch.items()}
        found = alone.forward(own, None, "cls", needs)
        for layer in range(4):
            assert found.tokens[layer].dtype == together.tokens[layer].dtype == torch.float32
            torch.testing.assert_close(
                found.tokens[layer][0], together.tokens[layer][member], atol=1e-2, rtol=1e-2
            )
    for layer in range(4):
        error = (together.tokens[layer] - expected.tokens[layer]).norm()
        assert error < 0.01 * expected.tokens[layer].norm()
    assert together.logits.dtype == torch.float32


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_changes_nothing(pooling: Pooling) -> None:
    config = CONFIGS["bert"]
    network = stacked(models_of(config, 2))
    batch = batch_of(config, 2)
    wider = {
        name: torch.nn.functional.pad(values, (0, 9), value=0) for name, values in batch.items()
    }
    narrow, wide = (network.forward(own, None, pooling) for own in (batch, wider))
    torch.testing.assert_close(narrow.logits, wide.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(narrow.states, wide.states, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_go_in_and_come_out_as_they_were(name: str) -> None:
    models = models_of(CONFIGS[name], 2)
    network = stacked(models, vocabulary=torch.tensor([0, 1, 7]))
    for member, model in enumerate(models):
        weights = network.weights(member)
        assert list(model.load_state_dict(weights).missing_keys) == []
        for own_name, value in model.state_dict().items():
            assert torch.equal(weights[own_name], value), own_name


def test_words_that_do_not_occur_only_decay() -> None:
    models = models_of(CONFIGS["bert"], 2)
    tables = [model.bert.embeddings.word_embeddings.weight.detach().clone() for model in models]
    network = stacked(models, vocabulary=torch.tensor([0, 5, 7]))
    network.decay_unused([0.5, 1.0])
    network.decay_unused([0.5, 0.8])
    for member, factor in enumerate((0.25, 0.8)):
        words = network.weights(member)["bert.embeddings.word_embeddings.weight"]
        expected = tables[member] * factor
        expected[[0, 5, 7]] = tables[member][[0, 5, 7]]
        torch.testing.assert_close(words, expected)
        models[member].load_state_dict(network.weights(member))
    batch = batch_of(CONFIGS["bert"], 2)
    found = network.forward(batch, None, None).logits
    for member, model in enumerate(models):
        own = {name: values[member] for name, values in batch.items()}
        torch.testing.assert_close(found[member], model(**own).logits, atol=1e-5, rtol=1e-5)


def test_frozen_embeddings_are_no_leaves_and_stay() -> None:
    models = models_of(CONFIGS["bert"], 3)
    network = stacked(models, frozen_embeddings=True)
    network.decay_unused([0.5] * 3)
    batch = batch_of(CONFIGS["bert"], 3)
    network.forward(batch, DropoutKey([1, 2, 3]), None).logits.sum().backward()
    everything = sum(parameter.numel() for parameter in models[0].parameters())
    embeddings = sum(parameter.numel() for parameter in models[0].bert.embeddings.parameters())
    trained = network.leaves()
    assert sum(leaf.tensor[0].numel() for leaf in trained) == everything - embeddings
    assert all(leaf.tensor.grad is not None for leaf in trained)
    for name, value in models[1].bert.embeddings.state_dict().items():
        assert torch.equal(network.weights(1)[f"bert.embeddings.{name}"], value)


def test_members_that_stay_are_who_they_were() -> None:
    models = models_of(CONFIGS["bert"], 4)
    network = stacked(models, vocabulary=torch.tensor([0, 5, 7]))
    network.decay_unused([0.9, 0.8, 0.7, 0.6])
    before = [network.weights(member) for member in range(4)]
    network.keep([1, 3])
    assert network.members == 2
    for member, former in enumerate((1, 3)):
        after = network.weights(member)
        assert all(torch.equal(value, before[former][name]) for name, value in after.items())


def test_every_row_that_can_be_stacked_is_compared_with_hugging_face() -> None:
    assert {config.model_type for config in CONFIGS.values()} == {
        family.model_type for family in FAMILIES.values() if family.architecture is not None
    }


def test_what_cannot_be_stacked_is_known() -> None:
    assert all(can_stack(config) for config in CONFIGS.values())
    assert not can_stack(MegatronBertConfig(**SIZES))
    assert not can_stack(ErnieConfig(**SIZES, use_task_id=True))
    for key, value in (
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("is_encoder_decoder", True),
        ("chunk_size_feed_forward", 7),
        *((f"{part}_bias", True) for part in ("attention", "mlp", "norm", "classifier")),
    ):
        declaring = [c for c in CONFIGS.values() if key in {f.name for f in dataclasses.fields(c)}]
        assert declaring, key
        assert not any(can_stack(changed(config, key, value)) for config in declaring), key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("head_dim", 4),
        ("tie_last_hidden_states", False),
        ("layer_types", ["full_attention", "chunked_attention", "full_attention"]),
        ("layer_types", ["full_attention"]),
        ("rope_parameters", {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}),
        (
            "rope_parameters",
            {
                kind: {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}
                for kind in ("full_attention", "sliding_attention")
            },
        ),
    ],
)
def test_a_modernbert_that_computes_something_else_goes_to_the_reference_engine(
    key: str, value: object
) -> None:
    config = changed(CONFIGS["modernbert"], key, value)
    assert not can_stack(config)
    assert engine_of("auto", config) == "reference"


def changed(config: PreTrainedConfig, key: str, value: object) -> PreTrainedConfig:
    other = copy.deepcopy(config)
    setattr(other, key, value)
    return other


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_that_the_class_reads_is_known_or_declared(name: str) -> None:
    """A key that is neither would change Hugging Face's forward pass unseen."""
    config = CONFIGS[name]
    code = inspect.getsource(inspect.getmodule(models_of(config, 1)[0]))
    keys = {*re.findall(r"config\.(\w+)", code), *re.findall(r'config, "(\w+)"', code)}
    keys -= {"_attn_implementation", "num_labels"}  # the attention function; the length of id2label
    keys -= {"summary_first_dropout", "summary_proj_to_labels"}  # of multiple choice
    assert len(keys) > 15
    architecture = FAMILIES[config.model_type].architecture
    assert architecture is not None
    fields = {field.name for field in dataclasses.fields(config)}
    assert keys <= architecture.keys | IDLE_KEYS | fields


@pytest.mark.parametrize("key", sorted(IDLE_KEYS))
def test_idle_keys_change_no_output(key: str) -> None:
    names = ["bert", "electra, projected", "roberta", "distilbert", "modernbert, mean"]
    if key == "return_dict":  # without it these classes cannot run, and `read_config` sets it
        names = names[:3]
    for config in map(CONFIGS.get, names):
        if key not in OTHER_VALUES or not hasattr(config, key):
            continue
        (model,) = models_of(config, 1)
        other = AutoModelForSequenceClassification.from_config(
            changed(config, key, OTHER_VALUES[key]), attn_implementation=ATTENTION
        ).eval()
        other.load_state_dict(model.state_dict())
        own = {part: values[0] for part, values in batch_of(config, 1).items()}
        own = FAMILIES[config.model_type].model_inputs(own)
        torch.testing.assert_close(other(**own)[0], model(**own)[0], atol=0, rtol=0)


OTHER_VALUES: dict[str, object] = {
    **{"architectures": ["BertModel"], "transformers_version": "4.0.0", "use_cache": False},
    **{"problem_type": "multi_label_classification", "return_dict": False},
    **{"output_hidden_states": True, "initializer_range": 0.5, "tie_word_embeddings": False},
    **{"bos_token_id": 7, "eos_token_id": 8, "task_type_vocab_size": 5},
    **{"cls_token_id": 7, "sep_token_id": 8, "decoder_bias": False, "qa_dropout": 0.9},
    **{"sinusoidal_pos_embds": True, "initializer_cutoff_factor": 1.0},
    **{"deterministic_flash_attn": True, "sparse_prediction": True, "sparse_pred_ignore_index": 0},
    **{"summary_type": "mean", "summary_use_proj": False, "summary_activation": "relu"},
    **{
        "summary_last_dropout": 0.9,
        "label2id": {"yes": 1, "no": 0},
        "id2label": {0: "no", 1: "yes"},
    },
}


@pytest.mark.parametrize("name", ["bert", "roberta", "electra, projected"])
def test_a_decoder_is_causal_in_the_reference_engine(name: str) -> None:
    config = changed(CONFIGS[name], "is_decoder", True)
    assert engine_of("auto", config) == "reference"
    (model,), (eager,) = models_of(config, 1), models_of(config, 1, eager=True)
    for matrix in (p for m in (model, eager) for p in m.parameters() if p.ndim > 1):
        matrix.data *= 20  # weights of this size look at other tokens
    batch = batch_of(config, 1)
    found = ReferenceClassifier(model, FP32).forward(batch, None, "mean")
    inputs = {part: values[0] for part, values in batch.items()}
    expected = eager(**inputs, output_hidden_states=True)
    torch.testing.assert_close(found.logits[0], expected.logits, atol=1e-5, rtol=1e-5)
    # Causal: the first token's states do not depend on the others.
    inputs["input_ids"][:, 2:] = 5
    first = eager(**inputs, output_hidden_states=True).hidden_states[-1][:, 0]
    torch.testing.assert_close(first, expected.hidden_states[-1][:, 0], atol=1e-5, rtol=1e-5)
    bidirectional = stacked([model]).forward(batch, None, "mean").logits
    assert (bidirectional - found.logits).abs().max() > 0.5


def test_weights_that_members_share_are_copied_to_the_device_once() -> None:
    """The head is each member's own, as a student's seed draws it. The rest has the same memory."""
    shared, *others = models_of(CONFIGS["bert"], 3)
    rest = shared.state_dict()
    weights = [
        {**rest, **{n: v for n, v in model.state_dict().items() if n.startswith("classifier")}}
        for model in (shared, *others)
    ]
    copies = [{name: value.clone() for name, value in own.items()} for own in weights]
    moved: list[torch.Size] = []
    to = Tensor.to

    def counted(values: Tensor, *arguments: object, **options: object) -> Tensor:
        moved.append(values.shape)
        return to(values, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "to", counted)
        network = StackedClassifier(shared.config, weights, CPU, torch.float32)
        once = len(moved)
        apart = StackedClassifier(shared.config, copies, CPU, torch.float32)
    assert once - 5 == len(moved) - once  # five of the seven blocks have no weight of the head
    for name, block in network.blocks.items():
        assert torch.equal(block.values, apart.blocks[name].values)
    with torch.no_grad():
        network.blocks["products"].values[0] += 1
    assert torch.equal(network.blocks["products"].values[1], apart.blocks["products"].values[1])
    assert torch.equal(
        rest["bert.encoder.layer.0.output.dense.weight"],
        copies[1]["bert.encoder.layer.0.output.dense.weight"],
    )
