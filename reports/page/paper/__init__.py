"""What a paper takes from a report: a table and a methods paragraph in LaTeX, and BibTeX."""
