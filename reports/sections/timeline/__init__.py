"""The report of when which runs were trained, and on what."""
