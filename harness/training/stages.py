"""The stages of a method's losses: what `training.stages` means for the terms that the method has."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from harness.loss_stages import KINDS, Kind, Stages, read_stages
from harness.method import Method

_LOGIT_WEIGHTS = {"kd_weight", "logits_weight"}


def stages_of(method: type[Method] | None, text: str) -> Stages:
    """The stages for a method, from `training.stages`; constant for a teacher, which has no method."""
    if method is None:
        return Stages()
    has_logits = bool(_LOGIT_WEIGHTS & set(method.space))
    return read_stages(text).of(logits=has_logits, layers=method.matches_layers())


def kind_of(term: str) -> Kind:
    """The kind of a loss term, by its name."""
    if term in ("kd", "logits"):
        return "logits"
    return "label" if term == "label" else "layers"


def staged(
    terms: Mapping[str, Tensor],
    scalars: Mapping[str, Tensor],
    factors: Tensor,
    kinds: Collection[Kind],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Terms and scalars of a step, for `harness.method.losses.objective`.

    The weights of terms are multiplied by their factors. So the label's weight is what these weights
    leave of it, times the label's own factor.

    Args:
        terms: unweighted terms by name, scalars.
        scalars: hyper-parameters by name, with the weight of each term `x` as `x_weight`.
        factors: the step's factors, in the order of `KINDS` (3,).
        kinds: the kinds whose weights are multiplied.
    """
    by_kind = {kind: factors[number] for number, kind in enumerate(KINDS) if kind in kinds}
    weights = {
        f"{name}_weight": scalars[f"{name}_weight"] * by_kind[kind_of(name)]
        for name in terms
        if name != "label" and kind_of(name) in by_kind
    }
    label = terms["label"] * by_kind["label"] if "label" in by_kind else terms["label"]
    return {**terms, "label": label}, {**scalars, **weights}
