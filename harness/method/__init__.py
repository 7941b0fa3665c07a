"""The contract of a method, and the parts that methods share: losses, layer maps, base classes."""

from harness.method.contract import (
    DISTILLATION,
    Context,
    Form,
    Hyper,
    Layers,
    Method,
    Need,
    Shapes,
    Value,
    View,
    learned_map,
    query_projection,
    require_depth,
    require_equal_widths,
    require_pair,
    weight,
)
from harness.pooling_table import Pooling

__all__ = [
    "DISTILLATION",
    "Context",
    "Form",
    "Hyper",
    "Layers",
    "Method",
    "Need",
    "Pooling",
    "Shapes",
    "Value",
    "View",
    "learned_map",
    "query_projection",
    "require_depth",
    "require_equal_widths",
    "require_pair",
    "weight",
]
