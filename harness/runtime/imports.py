"""Imports of large libraries without garbage collections."""

from __future__ import annotations

import gc
import sys
from importlib import import_module


def import_at_once(name: str) -> None:
    """Import a module and all that it imports, and leave their objects to no garbage collection.

    An import makes a million objects that stay, and little garbage. Collections during the import of
    torch and transformers, and later ones that walk through their objects again, took a tenth of a
    plan's time. Nothing happens where the module is imported already.
    """
    if name in sys.modules:
        return
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        import_module(name)
    finally:
        if is_enabled:
            gc.enable()
    gc.freeze()
