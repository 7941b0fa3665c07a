"""What is kept: the ledger, claims, sealed folders."""
