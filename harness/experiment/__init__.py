"""A command's work: search, runs, records, manifests."""
