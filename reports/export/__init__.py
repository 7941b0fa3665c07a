"""Files for other programs: results.csv, disagreements.csv, and the official GLUE files."""
