"""From the ledger to comparisons. Never imports torch."""
