"""The families of encoders and the names of their parts. A new family is one row of `FAMILIES`.

The harness accepts only the families that its tests cover. transformers would load other families too,
but their layers, masks or heads have other names, and training would go wrong without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig

from harness.errors import MethodError, TeacherError
from harness.method import Need


@dataclass(frozen=True)
class Head:
    """The two linear layers between the first token's last state and the logits."""

    dense: str
    """Name of the first layer: in the encoder with `uses_pooler`, else in the classifier."""
    outputs: str
    """Name of the last layer, in the classifier."""
    uses_pooler: bool
    """Whether the first layer is the encoder's pooler, which students copy. Otherwise a student's seed
    draws the first layer."""
    activation: Callable[[Tensor], Tensor]
    """The function between the two layers. Only the stacked engine reads this field."""
    drops_input: bool
    """Whether dropout precedes the first layer too. Only the stacked engine reads this field."""

    def random_layers(self) -> tuple[str, ...]:
        """Names, in the classifier, of the layers that each student's seed draws, in order."""
        return (self.outputs,) if self.uses_pooler else (self.dense, self.outputs)


ON_POOLER = Head("pooler.dense", "classifier", True, torch.tanh, drops_input=False)
OF_TWO_LAYERS = Head("classifier.dense", "classifier.out_proj", False, torch.tanh, drops_input=True)


STACKED_KEYS = {
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    *("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id"),
    "embedding_size",
}
"""Keys of a configuration that the stacked engine reads, or that the shapes of the weights tell it."""
IDLE_KEYS = {
    *("transformers_version", "architectures", "dtype", "id2label", "label2id", "problem_type"),
    *("output_hidden_states", "return_dict", "use_cache", "initializer_range"),
    *("bos_token_id", "eos_token_id", "tie_word_embeddings", "task_type_vocab_size"),
    *("summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout"),
}
"""Keys of a configuration that change no output of a classifier of the families that are stacked."""
TYPE_EMBEDDINGS = "embeddings.token_type_embeddings"
"""The usual name of the embeddings of token types."""


@dataclass(frozen=True)
class Family:
    """One family of encoders, with the names of its parts in Hugging Face's classes.

    The names of the parts are relative to the encoder. `Head` gives the names of the head's layers.
    """

    model_type: str
    """The family's name in a config.json."""
    head: Head
    positions_from: Literal["zero", "padding"]
    """Row of the first token's position embedding: row 0 (`zero`), or the row after the padding id's row
    (`padding`). With `padding` all padding tokens have the padding id's row."""
    attention: bool
    """Whether the family's class takes the harness's attention function. That function hands out scores,
    queries, keys and values."""
    types: str | None
    """Embeddings of the token types. None where the family has no token types: then its class gets no
    `token_type_ids`."""
    computes_as_bert: bool = False
    """Whether the family computes the same function as BERT, with BERT's names. The stacked engine
    trains such families only."""
    layers: str = "encoder.layer"
    embeddings: str = "embeddings"
    words: str = "embeddings.word_embeddings"
    positions: str = "embeddings.position_embeddings"

    def __post_init__(self) -> None:
        if self.computes_as_bert and self.types is None:
            raise ValueError(
                f"{self.model_type}: the stacked engine adds embeddings of token types"
            )

    def can_stack(self, config: PretrainedConfig) -> bool:
        """Whether the stacked engine can train classifiers of a configuration of this family.

        The engine knows the keys in `STACKED_KEYS` and `IDLE_KEYS`. Another key of the family's class
        may change the forward pass, so it must have the class's default.
        """
        known_keys = STACKED_KEYS | IDLE_KEYS
        return self.computes_as_bert and all(
            getattr(config, key.name) == key.default
            for key in fields(config)
            if key.name not in known_keys
        )

    def first_position(self, config: PretrainedConfig) -> int:
        """Row of the first token's position embedding."""
        return 0 if self.positions_from == "zero" else int(config.pad_token_id) + 1

    def model_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors (B, T) of a batch that the family's class takes."""
        exclusions = {"token_type_ids"} if self.types is None else set()
        return {name: values for name, values in batch.items() if name not in exclusions}


_BERT = Family("bert", ON_POOLER, "zero", True, TYPE_EMBEDDINGS, computes_as_bert=True)
_ROBERTA = Family("roberta", OF_TWO_LAYERS, "padding", True, TYPE_EMBEDDINGS, computes_as_bert=True)
_ELECTRA_HEAD = replace(OF_TWO_LAYERS, activation=F.gelu)
_ROWS = (
    _BERT,
    _ROBERTA,
    replace(_ROBERTA, model_type="xlm-roberta"),
    replace(_ROBERTA, model_type="camembert"),
    replace(_ROBERTA, model_type="data2vec-text"),
    replace(_ROBERTA, model_type="roberta-prelayernorm", computes_as_bert=False),
    Family("electra", _ELECTRA_HEAD, "zero", True, TYPE_EMBEDDINGS, computes_as_bert=True),
    replace(_BERT, model_type="ernie"),
    Family("megatron-bert", ON_POOLER, "zero", False, TYPE_EMBEDDINGS),
)
FAMILIES: dict[str, Family] = {row.model_type: row for row in _ROWS}
"""The families by their model type."""
assert len(FAMILIES) == len(_ROWS), "two families have one model type"


def family_of(config: PretrainedConfig) -> Family:
    """The family of an encoder. Raises `TeacherError` for an unknown family."""
    if config.model_type not in FAMILIES:
        raise TeacherError(
            f"'{config.model_type}' is not an encoder of the BERT family that is known to work: "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[config.model_type]


def can_stack(config: PretrainedConfig) -> bool:
    """Whether the stacked engine can train classifiers of this configuration.

    The reference engine trains other classifiers, one at a time.
    """
    return config.model_type in FAMILIES and FAMILIES[config.model_type].can_stack(config)


def check_needs(config: PretrainedConfig, needs: frozenset[Need]) -> None:
    """Check that an encoder hands out the tensors that methods need.

    Raises:
        MethodError: a method needs the attention, and the encoder's class does not hand it out.
        TeacherError: the family is unknown.
    """
    if needs - {"tokens"} and not family_of(config).attention:
        raise MethodError(f"'{config.model_type}' encoders do not hand out their attention")
