"""Methods as the harness sees them: discovery, cards, search spaces, identity, instances."""
