"""The parts of sections and pages: blocks, tables, drawings, colours."""
