"""Methods as a run makes them."""

from __future__ import annotations

from collections.abc import Mapping

from harness.method import Method, Shapes, Value
from harness.runtime.randomness import generator, global_seed


def make_method(
    kind: type[Method], shapes: Shapes, setting: Mapping[str, Value], seed: int
) -> Method:
    """A run's method, with initial weights and draws from the run's seed."""
    structure = {
        name: setting[name] for name, hyper in kind.space.items() if hyper.kind == "structural"
    }
    with global_seed("method", seed):
        return kind(shapes, structure, generator("method", seed))
