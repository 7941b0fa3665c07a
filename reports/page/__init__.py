"""The pages: the report without its sections, the index, and the comparison of two ablations."""
