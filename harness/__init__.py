"""The core: command, configuration, tasks, teacher, student, training, ledger and statistics."""

__version__ = "0.1.0"
