"""The harness from Python: run a study, read ablations as DataFrames, load students."""
