"""Trained members to predictions, metrics and what is seen inside."""
