"""The reference engine: Hugging Face's own classes, with counter-based dropout and pooled layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.utils._pytree import tree_map
from transformers import PreTrainedModel

from harness.method import Layers, Need, Pooling
from harness.models.attention import finite_scores, holding
from harness.models.families import check_needs, family_of
from harness.models.network import Leaf, pool
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import DropoutKey, key_dropout


class ReferenceClassifier:
    """One classifier of Hugging Face's class as a network. The model is trained in place."""

    members = 1

    def __init__(
        self, model: PreTrainedModel, arithmetic: Arithmetic, frozen_embeddings: bool = False
    ) -> None:
        self.model = model
        self.arithmetic = arithmetic
        self.key = DropoutKey([0], arithmetic.device)
        key_dropout(model, self.key)
        if frozen_embeddings:
            embeddings = model.base_model.get_submodule(family_of(model.config).embeddings)
            embeddings.requires_grad_(False)

    def leaves(self) -> list[Leaf]:
        """Every parameter that is trained; no decay for biases and normalisations."""
        return [
            Leaf(parameter, parameter.ndim > 1, stacked=False)
            for parameter in self.model.parameters()
            if parameter.requires_grad
        ]

    def forward(
        self,
        batch: Mapping[str, Tensor],
        key: DropoutKey | None,
        pooling: Pooling | None,
        needs: frozenset[Need] = frozenset(),
    ) -> Layers:
        """As `Network.forward`, for one member."""
        self.model.train(key is not None)
        if key is not None:
            self.key.members, self.key.step = key.members, key.step
        with self.arithmetic.autocast():
            own = {name: values[0] for name, values in batch.items()}
            layers = layers_of(self.model, own, pooling, needs)
        one: Layers = tree_map(lambda values: values[None], layers)
        return one

    def decay_unused(self, factors: Sequence[float]) -> None:
        """Nothing: every step decays all weights."""

    def keep(self, positions: Sequence[int]) -> None:
        """Nothing: the only member stays."""

    def weights(self, member: int) -> dict[str, Tensor]:
        """The model's weights on the CPU."""
        return {name: value.cpu().clone() for name, value in self.model.state_dict().items()}


def layers_of(
    model: PreTrainedModel,
    batch: Mapping[str, Tensor],
    pooling: Pooling | None,
    needs: frozenset[Need] = frozenset(),
) -> Layers:
    """Run a classifier on a batch of (B, T) inputs; without pooling, `states` has no layers.

    Raises:
        MethodError: its attention is needed, and its class does not hand it out.
    """
    check_needs(model.config, needs)
    with holding(needs) as held:
        wanted = pooling is not None or "tokens" in needs
        inputs = family_of(model.config).model_inputs(batch)
        outputs = model(**inputs, output_hidden_states=wanted)
    logits, mask = outputs.logits.float(), batch["attention_mask"]
    states = logits.new_zeros(len(logits), 0, 0)
    if pooling is not None:
        states = pool(outputs.hidden_states[1:], mask, pooling)
    tokens = outputs.hidden_states if "tokens" in needs else ()
    return Layers(
        logits,
        states,
        tuple(own.float() for own in tokens),
        finite_scores(held.scores, mask),
        tuple(held.queries),
        tuple(held.keys),
        tuple(held.values),
    )
