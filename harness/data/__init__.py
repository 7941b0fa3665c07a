"""Tasks, their examples, metrics, tokens and batches."""
