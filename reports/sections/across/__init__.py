"""The report of several methods and tasks at once."""
