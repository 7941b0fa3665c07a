"""The architectures that the stacked engine computes: names of weights, and keys of configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Literal

from transformers import PretrainedConfig

IDLE_KEYS = {
    *("transformers_version", "architectures", "dtype", "id2label", "label2id", "problem_type"),
    *("output_hidden_states", "return_dict", "use_cache", "initializer_range"),
    *("bos_token_id", "eos_token_id", "tie_word_embeddings", "task_type_vocab_size"),
    *("summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout"),
    *("sinusoidal_pos_embds", "qa_dropout", "initializer_cutoff_factor"),
    *("cls_token_id", "sep_token_id", "decoder_bias", "deterministic_flash_attn"),
    *("sparse_prediction", "sparse_pred_ignore_index"),
}
"""Keys of a configuration that change no output of a classifier of the families that are stacked."""

Place = Literal["embedding", "attention", "mix", "outer", "head"]
"""A place of dropout: after the embeddings, on the shares of attention, after a layer's attention, in a
layer's feed-forward part, before the last linear layer."""

HeadReads = Literal["first", "mean"]
"""What a head reads of the last states: the first token's, or their mean over tokens."""


@dataclass(frozen=True)
class Facts:
    """What the stacked engine reads of a configuration."""

    eps: float
    """The normalisations' epsilon."""
    activation: str
    """The activation of a layer, by its name in transformers."""
    rates: Mapping[Place, float]
    """The rates of dropout."""
    sites: tuple[Place, ...] = ("attention", "mix", "outer")
    """The places of dropout in a layer, in the order of the class's modules."""
    head_reads: HeadReads = "first"


@dataclass(frozen=True)
class Architecture:
    """The weights of a layer by use, with their names in Hugging Face's class, and the known keys."""

    order: Literal["post-norm", "pre-norm"]
    """Where a layer normalises: `post-norm` is BERT's layer. `pre-norm` is ModernBERT's, with rotary
    positions, gated units and local attention, without biases."""
    products: Mapping[str, tuple[str, ...]]
    """The linear layers: `attention` (one name, or those of queries, keys and values), `mix`, `inner`
    and `outer`."""
    norms: Mapping[str, str]
    """The normalisations `mix` and `outer`: after these products; in `pre-norm` before their parts."""
    keys: frozenset[str]
    """Keys of a configuration that the engine reads, or that the shapes of the weights tell it."""
    read: Callable[[PretrainedConfig], Facts]
    fits: Callable[[PretrainedConfig], bool] = lambda config: True
    """Whether the engine knows the values of the keys that it reads."""
    embedding_norm: str = "LayerNorm"
    """The normalisation of the embeddings, relative to them."""
    last_norm: str | None = None
    """The normalisation of the last states, in the encoder."""
    head_norm: str | None = None
    """The normalisation between the head's activation and its last layer, in the classifier."""

    @property
    def has_kernels(self) -> bool:
        """Whether `harness.kernels` covers the layers. PyTorch's operations compute other layers."""
        return self.order == "post-norm"

    def can_stack(self, config: PretrainedConfig) -> bool:
        """Whether the engine computes what Hugging Face's class computes with a configuration.

        A key of the class that the engine does not know may change the forward pass, so it must have
        the class's default.
        """
        known_keys = self.keys | IDLE_KEYS
        return self.fits(config) and all(
            getattr(config, key.name) == key.default
            for key in fields(config)
            if key.name not in known_keys
        )


def _read_bert(config: PretrainedConfig) -> Facts:
    hidden = config.hidden_dropout_prob
    head_rate = getattr(config, "classifier_dropout", None)
    rates: dict[Place, float] = {
        "embedding": hidden,
        "attention": config.attention_probs_dropout_prob,
        "mix": hidden,
        "outer": hidden,
        "head": hidden if head_rate is None else head_rate,
    }
    return Facts(config.layer_norm_eps, config.hidden_act, rates)


def _read_distilbert(config: PretrainedConfig) -> Facts:
    rates: dict[Place, float] = {
        "embedding": config.dropout,
        "attention": config.attention_dropout,
        "outer": config.dropout,
        "head": config.seq_classif_dropout,
    }
    return Facts(1e-12, config.activation, rates, ("attention", "outer"))


def _read_modernbert(config: PretrainedConfig) -> Facts:
    rates: dict[Place, float] = {
        "embedding": config.embedding_dropout,
        "attention": config.attention_dropout,
        "mix": config.attention_dropout,
        "outer": config.mlp_dropout,
        "head": config.classifier_dropout,
    }
    # Without dropout of attention the class has no module for it.
    sites: tuple[Place, ...] = ("mix", "attention", "outer") if rates["attention"] else ("outer",)
    head_reads: HeadReads = "mean" if config.classifier_pooling == "mean" else "first"
    return Facts(config.norm_eps, config.hidden_activation, rates, sites, head_reads)


def _fits_modernbert(config: PretrainedConfig) -> bool:
    kinds = set(config.layer_types)
    ropes = [config.rope_parameters.get(kind) or {} for kind in kinds]
    return (
        len(config.layer_types) == config.num_hidden_layers
        and kinds <= {"full_attention", "sliding_attention"}
        and all(set(rope) == {"rope_type", "rope_theta"} for rope in ropes)
        and all(rope["rope_type"] == "default" for rope in ropes)
        and config.classifier_pooling in ("cls", "mean")
        # Hugging Face's code reads these two, and its configuration class does not declare them.
        and getattr(config, "head_dim", None) is None
        and getattr(config, "tie_last_hidden_states", None) in (None, True)
    )


_SIZES = {
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("max_position_embeddings", "pad_token_id"),
}
BERT = Architecture(
    "post-norm",
    products={
        "attention": ("attention.self.query", "attention.self.key", "attention.self.value"),
        "mix": ("attention.output.dense",),
        "inner": ("intermediate.dense",),
        "outer": ("output.dense",),
    },
    norms={"mix": "attention.output.LayerNorm", "outer": "output.LayerNorm"},
    keys=frozenset(_SIZES)
    | {"intermediate_size", "hidden_act", "type_vocab_size", "layer_norm_eps", "embedding_size"}
    | {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"},
    read=_read_bert,
)
"""BERT's layers. RoBERTa, ELECTRA and others have the same ones."""
DISTILBERT = Architecture(
    "post-norm",
    products={
        "attention": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "mix": ("attention.out_lin",),
        "inner": ("ffn.lin1",),
        "outer": ("ffn.lin2",),
    },
    norms={"mix": "sa_layer_norm", "outer": "output_layer_norm"},
    keys=frozenset(_SIZES)
    | {"dim", "n_heads", "n_layers", "hidden_dim", "activation"}
    | {"dropout", "attention_dropout", "seq_classif_dropout"},
    read=_read_distilbert,
)
"""BERT's layers under other names, without dropout after the attention."""
MODERNBERT = Architecture(
    "pre-norm",
    products={
        "attention": ("attn.Wqkv",),
        "mix": ("attn.Wo",),
        "inner": ("mlp.Wi",),
        "outer": ("mlp.Wo",),
    },
    norms={"mix": "attn_norm", "outer": "mlp_norm"},
    keys=frozenset(_SIZES)
    | {"intermediate_size", "hidden_activation", "norm_eps", "layer_types", "rope_parameters"}
    | {"local_attention", "sliding_window", "head_dim"}
    | {"embedding_dropout", "attention_dropout", "mlp_dropout", "classifier_dropout"}
    | {"classifier_pooling", "classifier_activation"},
    read=_read_modernbert,
    fits=_fits_modernbert,
    embedding_norm="norm",
    last_norm="final_norm",
    head_norm="head.norm",
)
"""ModernBERT's layers."""
