"""The families of encoders: where their parts are. A new family is one row of `FAMILIES`.

Only families that are tested are let in. Others load without complaint, and keep their layers, masks or
heads elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PretrainedConfig

from harness.errors import MethodError, TeacherError
from harness.method import Need


@dataclass(frozen=True)
class Head:
    """The two linear layers that make logits of the first token's last state."""

    dense: str
    """Name of the first one: in the encoder with `pooled`, else in the classifier."""
    outputs: str
    """Name of the last one, in the classifier."""
    pooled: bool
    """Whether the first one is the encoder's pooler, which students copy; else their seed draws it."""
    activation: Callable[[Tensor], Tensor]
    """Between the two. Only the stacked engine reads it."""
    drops_input: bool
    """Whether there is dropout before the first one too. Only the stacked engine reads it."""

    def fresh(self) -> tuple[str, ...]:
        """Names in the classifier of the layers that are drawn for each student, in order."""
        return (self.outputs,) if self.pooled else (self.dense, self.outputs)


ON_POOLER = Head("pooler.dense", "classifier", True, torch.tanh, drops_input=False)
OF_TWO_LAYERS = Head("classifier.dense", "classifier.out_proj", False, torch.tanh, drops_input=True)


@dataclass(frozen=True)
class Family:
    """One family of encoders, by the names that Hugging Face's classes have for its parts.

    Names are those below the encoder, but for the head's.
    """

    model_type: str
    """Its name in a config.json."""
    head: Head
    positions_from: Literal["zero", "padding"]
    """Row of the first token's position. From `padding` it is the one after the padding id's; padding
    tokens have the padding id's row."""
    attention: bool = True
    """Whether its class takes an attention function of ours, and so hands out scores and Q/K/V."""
    stackable: bool = False
    """Whether it computes what BERT does, under BERT's names: then the stacked engine can train it."""
    unstackable_with: str | None = None
    """A flag of its configuration with which it computes something else."""
    layers: str = "encoder.layer"
    embeddings: str = "embeddings"
    words: str = "embeddings.word_embeddings"
    positions: str = "embeddings.position_embeddings"
    types: str | None = "embeddings.token_type_embeddings"
    """Embeddings of the token types. None where it has none; its class gets no `token_type_ids` then."""

    def __post_init__(self) -> None:
        if self.stackable and self.types is None:
            raise ValueError(
                f"{self.model_type}: the stacked engine adds embeddings of token types"
            )

    def stacks(self, config: PretrainedConfig) -> bool:
        """Whether classifiers of a configuration can be stacked."""
        flag = self.unstackable_with
        return self.stackable and not (flag is not None and getattr(config, flag, False))

    def first_position(self, config: PretrainedConfig) -> int:
        """Row of the position embeddings that the first token has."""
        return 0 if self.positions_from == "zero" else int(config.pad_token_id) + 1

    def model_inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The part of a batch that its class takes."""
        left_out = {"token_type_ids"} if self.types is None else set()
        return {name: values for name, values in batch.items() if name not in left_out}


_BERT = Family("bert", ON_POOLER, "zero", stackable=True)
_ROBERTA = Family("roberta", OF_TWO_LAYERS, "padding", stackable=True)
_ROWS = (
    _BERT,
    _ROBERTA,
    replace(_ROBERTA, model_type="xlm-roberta"),
    replace(_ROBERTA, model_type="camembert"),
    replace(_ROBERTA, model_type="data2vec-text"),
    replace(_ROBERTA, model_type="roberta-prelayernorm", stackable=False),
    Family("electra", replace(OF_TWO_LAYERS, activation=F.gelu), "zero", stackable=True),
    replace(_BERT, model_type="ernie", unstackable_with="use_task_id"),
    Family("megatron-bert", ON_POOLER, "zero", attention=False),
)
FAMILIES: dict[str, Family] = {row.model_type: row for row in _ROWS}
"""The families by their model type."""
assert len(FAMILIES) == len(_ROWS), "two families have one model type"


def family_of(config: PretrainedConfig) -> Family:
    """The family of an encoder. Raises `TeacherError` for an unknown one."""
    if config.model_type not in FAMILIES:
        raise TeacherError(
            f"'{config.model_type}' is not an encoder of the BERT family that is known to work: "
            f"{', '.join(FAMILIES)}"
        )
    return FAMILIES[config.model_type]


def stackable(config: PretrainedConfig) -> bool:
    """Whether a classifier of this configuration can be stacked; others train one at a time."""
    return config.model_type in FAMILIES and FAMILIES[config.model_type].stacks(config)


def check_needs(config: PretrainedConfig, needs: frozenset[Need]) -> None:
    """Refuse what an encoder cannot hand out. Raises `MethodError`, or `TeacherError` as `family_of`."""
    if needs - {"tokens"} and not family_of(config).attention:
        raise MethodError(f"'{config.model_type}' encoders do not hand out their attention")
