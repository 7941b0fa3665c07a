"""Hydra YAML: the presets, protocols and tasks that a study is composed from."""
