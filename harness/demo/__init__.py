"""Procedural data sets and their encoder."""
