"""What the report writes for other programs: results.csv and GLUE's files."""
