"""The learning rates of a population's members in each step."""

from __future__ import annotations

from collections.abc import Sequence


class Rates:
    """Linear warm-up to each member's highest rate, and linear decay to 0."""

    def __init__(self, highest: Sequence[float], steps: int, warmup: float) -> None:
        """`steps` are those of the whole training, and `warmup` is a share of them."""
        self.highest = list(highest)
        self.warmup_steps = max(1, round(warmup * steps))
        self.steps = steps

    def at(self, step: int) -> list[float]:
        """Each member's rate in a step (0-based)."""
        decay_steps = max(1, self.steps - self.warmup_steps)
        factor = min((step + 1) / self.warmup_steps, (self.steps - step) / decay_steps, 1.0)
        return [rate * factor for rate in self.highest]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the members of some `rows`, in this order."""
        self.highest = [self.highest[row] for row in rows]
