"""One file or folder a section of the report: its words, numbers, tables and figures."""
