"""Populations of runs, from initial weights to outcomes."""
