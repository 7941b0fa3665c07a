"""Encoders: teachers and students, stacked or one at a time."""
