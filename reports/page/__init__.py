"""The page and its parts that are no section: contents, verdicts, index, the diff of two ablations."""
