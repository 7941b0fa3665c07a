"""What sections and pages are built of: blocks, tables, drawings, colours."""
