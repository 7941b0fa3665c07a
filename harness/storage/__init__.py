"""Storage: the ledger, claims and sealed folders."""
