"""When each loss acts: factors of the losses' weights over a training, as `training.stages` names them.

A text is `constant`, `layers-first`, or one or two ramps such as `layers-fall` or
`layers-fall+logits-rise`. A number after a colon is the share of the training's steps that a stage or
ramp takes: `layers-first:0.3`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

Kind = Literal["label", "logits", "layers"]
KINDS: tuple[Kind, ...] = ("label", "logits", "layers")
"""The label loss; logit distillation and terms named `logits`; all other terms of a method."""
CONSTANT = "constant"
FIRST = "layers-first"
FIRST_SHARE = 0.5
"""The share of the steps in which layer terms act alone, unless the text says another one."""
FORMS = (
    "constant, layers-first, layers-fall, layers-rise, logits-fall, logits-rise, or a ramp of each kind "
    "joined by +; a share of the steps follows a colon, such as layers-first:0.3"
)
_PART = re.compile(r"(?:(layers-first)|(layers|logits)-(fall|rise))(?::(\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class Ramp:
    """A factor that falls from 1 to 0, or rises from 0 to 1, over the first `share` of the steps."""

    kind: Kind
    rises: bool
    share: float

    @property
    def text(self) -> str:
        """The ramp as `training.stages` has it."""
        return f"{self.kind}-{'rise' if self.rises else 'fall'}:{_digits(self.share)}"

    def at(self, step: int, steps: int) -> float:
        """The factor in a step (0-based) of a training: linear from the first step to the last."""
        last = max(round(self.share * steps) - 1, 1)
        position = min(step / last, 1.0)
        return position if self.rises else 1.0 - position


@dataclass(frozen=True)
class Stages:
    """The factors of all kinds of losses. Kinds that neither stage nor ramp concerns have the factor 1.

    `first_share` is the share of the steps in which layer terms act alone, before the other losses act
    alone; None without such stages.
    """

    first_share: float | None = None
    ramps: tuple[Ramp, ...] = ()

    @property
    def text(self) -> str:
        """The stages as `training.stages` has them, in one form."""
        if self.first_share is not None:
            return f"{FIRST}:{_digits(self.first_share)}"
        return "+".join(ramp.text for ramp in self.ramps) or CONSTANT

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of losses whose factors are not always 1."""
        if self.first_share is not None:
            return frozenset(KINDS)
        return frozenset(ramp.kind for ramp in self.ramps)

    def at(self, step: int, steps: int) -> tuple[float, ...]:
        """The factors in a step (0-based) of a training of `steps` steps, in the order of `KINDS`."""
        if self.first_share is not None:
            end = min(max(round(self.first_share * steps), 1), max(steps - 1, 1))
            return (0.0, 0.0, 1.0) if step < end else (1.0, 1.0, 0.0)
        ramps = {ramp.kind: ramp.at(step, steps) for ramp in self.ramps}
        return tuple(ramps.get(kind, 1.0) for kind in KINDS)

    def of(self, *, logits: bool, layers: bool) -> Stages:
        """The stages for a method that has terms of these kinds.

        A method without layer terms has no first stage: its losses act in every step.
        """
        if self.first_share is not None:
            return self if layers else Stages()
        has_terms = {"logits": logits, "layers": layers}
        return Stages(ramps=tuple(ramp for ramp in self.ramps if has_terms[ramp.kind]))


def read_stages(text: str) -> Stages:
    """The stages of a text. Raises `ValueError` with the forms of such texts."""
    if text == CONSTANT:
        return Stages()
    first_shares: list[float] = []
    ramps: list[Ramp] = []
    for part in text.split("+"):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"'{part[:80]}' is none of {FORMS}")
        first, kind, direction, number = match.groups()
        share = float(number) if number else (FIRST_SHARE if first else 1.0)
        if not 0 < share <= 1 or (first and share == 1):
            below = "below 1" if first else "at most 1"
            raise ValueError(f"the share of '{part[:80]}' must be above 0 and {below}")
        if first:
            first_shares.append(share)
        else:
            ramps.append(
                Ramp("layers" if kind == "layers" else "logits", direction == "rise", share)
            )
    if first_shares and text.count("+"):
        raise ValueError(f"{FIRST} stands alone: no ramp can be joined to it")
    kinds = [ramp.kind for ramp in ramps]
    if doubled := [kind for kind in KINDS if kinds.count(kind) > 1]:
        raise ValueError(f"two ramps of {doubled[0]}: one of each kind")
    ramps.sort(key=lambda ramp: KINDS.index(ramp.kind))
    return Stages(first_shares[0] if first_shares else None, tuple(ramps))


def _digits(share: float) -> str:
    """All digits of a share, without an exponent."""
    return f"{Decimal(repr(share)).normalize():f}"


def in_one_form(text: str) -> str:
    """The one text of equal stages. Raises `ValueError` as `read_stages` does."""
    return read_stages(text).text


def in_words(text: str) -> str:
    """A text of `training.stages` as a sentence's part; empty for `constant`."""
    stages = read_stages(text)
    if stages.first_share is not None:
        share = f"{100 * stages.first_share:g} %"
        return f"layer terms alone in the first {share} of the steps, then the other losses alone"
    return ", ".join(
        f"the weights of {'layer terms' if ramp.kind == 'layers' else 'logit distillation'} "
        f"{'rise from 0' if ramp.rises else 'fall to 0'} over "
        + ("the training" if ramp.share == 1 else f"the first {100 * ramp.share:g} % of the steps")
        for ramp in stages.ramps
    )
