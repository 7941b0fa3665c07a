"""How methods are found, described, narrowed and made."""
