"""Reads the ledger and draws the report; never imports torch."""
