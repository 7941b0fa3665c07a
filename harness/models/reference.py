"""The reference engine: Hugging Face's classes, with counter-based dropout and pooled layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.utils._pytree import tree_map
from transformers import PreTrainedModel

from harness.method import Layers, Need, Pooling
from harness.models.attention import add_attention_dropout, finite_scores, record_attention
from harness.models.families import check_needs, family_of
from harness.models.network import Leaf, pool
from harness.runtime.device import Arithmetic
from harness.runtime.randomness import CounterDropout, DropoutKey, key_dropout


class ReferenceClassifier:
    """One classifier of Hugging Face's class as a network. Training changes the model in place.

    With `frozen_embeddings` the embeddings have no gradients.
    """

    members = 1

    def __init__(
        self, model: PreTrainedModel, arithmetic: Arithmetic, frozen_embeddings: bool = False
    ) -> None:
        self.model = model
        self.arithmetic = arithmetic
        family = family_of(model.config)
        add_attention_dropout(model)
        key_dropout(model, DropoutKey([0], arithmetic.device), repeats=family.layers is None)
        self.dropouts = [m for m in model.modules() if isinstance(m, CounterDropout)]
        if frozen_embeddings:
            embeddings = model.base_model.get_submodule(family.embeddings)
            embeddings.requires_grad_(False)

    def leaves(self) -> list[Leaf]:
        """Every parameter in training. Biases and normalisations have no weight decay."""
        return [
            Leaf(parameter, parameter.ndim > 1, is_stacked=False)
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
        """The layers of the one member, as `Network.forward` describes them."""
        self.model.train(key is not None)
        if key is not None:
            for dropout in self.dropouts:
                dropout.key = key
                dropout.times = 0
        with self.arithmetic.autocast():
            member_batch = {name: values[0] for name, values in batch.items()}
            member_layers = layers_of(self.model, member_batch, pooling, needs)
        layers: Layers = tree_map(lambda values: values[None], member_layers)
        return layers

    def decay_unused(self, factors: Sequence[float]) -> None:
        """Do nothing: every step decays all weights."""

    def keep(self, rows: Sequence[int]) -> None:
        """Do nothing: the only member stays."""

    def weights(self, member: int) -> dict[str, Tensor]:
        """The model's weights on the CPU."""
        return {name: value.cpu().clone() for name, value in self.model.state_dict().items()}


def layers_of(
    model: PreTrainedModel,
    batch: Mapping[str, Tensor],
    pooling: Pooling | None,
    needs: frozenset[Need] = frozenset(),
) -> Layers:
    """Run a classifier on a batch of (B, T) inputs. Without pooling `states` has no layers.

    Returns:
        `Layers` with tensors (B, ...), which methods read.

    Raises:
        MethodError: a method needs the attention, and the classifier's class does not hand it out.
    """
    check_needs(model.config, needs)
    with record_attention(needs) as attention:
        needs_states = pooling is not None or "tokens" in needs
        inputs = family_of(model.config).model_inputs(batch)
        outputs = model(**inputs, output_hidden_states=needs_states)
    logits, mask = outputs.logits.float(), batch["attention_mask"]
    states = logits.new_zeros(len(logits), 0, 0)
    if pooling is not None:
        states = pool(outputs.hidden_states[1:], mask, pooling)
    tokens = outputs.hidden_states if "tokens" in needs else ()
    return Layers(
        logits,
        states,
        tuple(layer_states.float() for layer_states in tokens),
        finite_scores(attention.scores, mask),
        tuple(attention.queries),
        tuple(attention.keys),
        tuple(attention.values),
    )
