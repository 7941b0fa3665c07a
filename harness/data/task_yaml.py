"""The YAML of task files: no key twice, and no aliases that stand for very much."""

from __future__ import annotations

from typing import Any

import yaml

MOST_VALUES = 20_000
"""Values of a task's file, with aliases expanded."""


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """The number of values in a node. `sizes` has those of the nodes that were counted before."""
    if id(node) not in sizes:
        sizes[id(node)] = MOST_VALUES + 1  # for an alias inside its own value
        inner = node.value if isinstance(node, yaml.CollectionNode) else ()
        parts = [
            part for entry in inner for part in (entry if isinstance(entry, tuple) else (entry,))
        ]
        sizes[id(node)] = 1 + sum(_size(part, sizes) for part in parts)
    return sizes[id(node)]


class TaskLoader(yaml.SafeLoader):
    """A safe loader that refuses a key that stands twice, and aliases that stand for very much."""

    def get_single_node(self) -> yaml.Node | None:
        """The document's node. An alias of an alias of an alias makes a gigabyte of a kilobyte."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _size(node, {}) > MOST_VALUES:
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"more than {MOST_VALUES} values, with aliases expanded",
                node.start_mark,
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping of different keys."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        duplicates = [key for key in keys if keys.count(key) > 1]
        if duplicates:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key '{duplicates[0]}' stands twice", node.start_mark
            )
        return super().construct_mapping(node, deep)
