"""Trained members to predictions, metrics and inspections."""
