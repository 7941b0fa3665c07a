"""The report of what was looked at inside the students: records, numbers, figures, blocks."""
