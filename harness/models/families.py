"""The families of encoders and the names of their parts. A new family is one row of `FAMILIES`.

The harness accepts only the families that its tests cover. transformers would load other families too,
but their layers, masks or heads have other names, and training would go wrong without an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig

from harness.errors import MethodError, TeacherError
from harness.method import Need
from harness.models.architectures import BERT, DISTILBERT, MODERNBERT, Architecture


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
    activation: Callable[[Tensor], Tensor] | str
    """The function between the two layers, or the configuration's key with the function's name. Only the
    stacked engine reads this field."""
    drops_input: bool
    """Whether dropout precedes the first layer too. Only the stacked engine reads this field."""

    def random_layers(self) -> tuple[str, ...]:
        """Names, in the classifier, of the layers that each student's seed draws, in order."""
        return (self.outputs,) if self.uses_pooler else (self.dense, self.outputs)


ON_POOLER = Head("pooler.dense", "classifier", True, torch.tanh, drops_input=False)
OF_TWO_LAYERS = Head("classifier.dense", "classifier.out_proj", False, torch.tanh, drops_input=True)
OF_DISTILBERT = Head("pre_classifier", "classifier", False, F.relu, drops_input=False)
OF_ALBERT = Head("pooler", "classifier", True, torch.tanh, drops_input=False)
OF_DEBERTA = Head("pooler.dense", "classifier", False, "pooler_hidden_act", drops_input=True)
OF_MODERNBERT = Head("head.dense", "classifier", False, "classifier_activation", drops_input=False)


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
    architecture: Architecture | None = None
    """What the stacked engine computes for the family. Without it the reference engine trains it."""
    layers: str | None = "encoder.layer"
    """The layers. None where all layers are one layer with the same weights (ALBERT)."""
    embeddings: str = "embeddings"
    words: str = "embeddings.word_embeddings"
    positions: str | None = "embeddings.position_embeddings"
    """The table of positions. None where the encoder has none, or not in every configuration. Then its
    configuration's `max_position_embeddings` is the limit."""
    first_lacks: str | None = None
    """The part that the class's first layer does not have. A layer that is copied there goes without."""
    required: Mapping[str, object] = field(default_factory=dict)
    """Keys of the configuration that must have these values."""
    types_on_request: bool = False
    """Whether the family's tokenizer gives token types only when asked for them."""

    def can_stack(self, config: PretrainedConfig) -> bool:
        """Whether the stacked engine can train classifiers of a configuration of this family."""
        return self.architecture is not None and self.architecture.can_stack(config)

    def check(self, config: PretrainedConfig) -> None:
        """Check a configuration of this family. Raises `TeacherError` if `required` forbids it."""
        for key, value in self.required.items():
            if (found := getattr(config, key)) != value:
                raise TeacherError(
                    f"'{self.model_type}' encoders must have {key}={value}; config.json has {found}"
                )

    def first_position(self, config: PretrainedConfig) -> int:
        """Row of the first token's position embedding."""
        return 0 if self.positions_from == "zero" else int(config.pad_token_id) + 1

    def model_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors (B, T) of a batch that the family's class takes."""
        exclusions = {"token_type_ids"} if self.types is None else set()
        return {name: values for name, values in batch.items() if name not in exclusions}


_BERT = Family("bert", ON_POOLER, "zero", True, TYPE_EMBEDDINGS, BERT)
_ROBERTA = Family("roberta", OF_TWO_LAYERS, "padding", True, TYPE_EMBEDDINGS, BERT)
_ELECTRA_HEAD = replace(OF_TWO_LAYERS, activation=F.gelu)
_ROWS = (
    _BERT,
    _ROBERTA,
    replace(_ROBERTA, model_type="xlm-roberta"),
    replace(_ROBERTA, model_type="camembert"),
    replace(_ROBERTA, model_type="data2vec-text"),
    replace(_ROBERTA, model_type="roberta-prelayernorm", architecture=None),
    Family("electra", _ELECTRA_HEAD, "zero", True, TYPE_EMBEDDINGS, BERT),
    replace(_BERT, model_type="ernie"),
    Family("megatron-bert", ON_POOLER, "zero", False, TYPE_EMBEDDINGS),
    Family(
        "distilbert",
        OF_DISTILBERT,
        "zero",
        attention=True,
        types=None,
        architecture=DISTILBERT,
        layers="transformer.layer",
    ),
    Family(
        "albert",
        OF_ALBERT,
        "zero",
        attention=True,
        types=TYPE_EMBEDDINGS,
        layers=None,
        # With more groups a student of another depth has other layers in each group.
        required={"num_hidden_groups": 1, "inner_group_num": 1},
        types_on_request=True,
    ),
    Family("mpnet", OF_TWO_LAYERS, "padding", attention=False, types=None),
    Family(
        "deberta-v2", OF_DEBERTA, "zero", attention=False, types=TYPE_EMBEDDINGS, positions=None
    ),
    Family(
        "modernbert",
        OF_MODERNBERT,
        "zero",
        attention=True,
        types=None,
        architecture=MODERNBERT,
        layers="layers",
        words="embeddings.tok_embeddings",
        positions=None,
        first_lacks="attn_norm",
    ),
)
FAMILIES: dict[str, Family] = {row.model_type: row for row in _ROWS}
"""The families by their model type."""
assert len(FAMILIES) == len(_ROWS), "two families have one model type"


def family_of(config: PretrainedConfig) -> Family:
    """The family of an encoder. Raises `TeacherError` for one that is not known to work."""
    if config.model_type not in FAMILIES:
        raise TeacherError(
            f"'{config.model_type}' is not an encoder of the BERT family that is known to work: "
            f"{', '.join(FAMILIES)}"
        )
    family = FAMILIES[config.model_type]
    family.check(config)
    return family


def can_stack(config: PretrainedConfig) -> bool:
    """Whether the stacked engine can train classifiers of this configuration.

    The reference engine trains other classifiers, one at a time.
    """
    return config.model_type in FAMILIES and FAMILIES[config.model_type].can_stack(config)


def computes_by_kernels(config: PretrainedConfig) -> bool:
    """Whether `harness.kernels` covers the layers of classifiers of this configuration."""
    architecture = family_of(config).architecture
    return architecture is not None and architecture.has_kernels and can_stack(config)


def set_depth(config: PretrainedConfig, sources: Sequence[int]) -> None:
    """Give a configuration as many layers as `sources`, in place.

    `sources` are 0-based layers of the configuration. Where it lists kinds of attention by layer, the
    new layers have the kinds of these layers. Layers beyond the last one begin again with the first's.
    """
    if (kinds := getattr(config, "layer_types", None)) is not None:
        config.layer_types = [kinds[layer % len(kinds)] for layer in sources]
    config.num_hidden_layers = len(sources)


def check_needs(config: PretrainedConfig, needs: frozenset[Need]) -> None:
    """Check that an encoder hands out the tensors that methods need.

    Raises:
        MethodError: a method needs the attention, and the encoder's class does not hand it out; or it
            needs scores, and the encoder has layers without scores between distant tokens.
        TeacherError: the family is unknown.
    """
    if needs - {"tokens", "words"} and not family_of(config).attention:
        raise MethodError(f"'{config.model_type}' encoders do not hand out their attention")
    if "scores" in needs and "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise MethodError(
            f"'{config.model_type}' encoders with local attention have no scores of distant tokens"
        )
