"""What the networks are: rows, tables and dialects, without torch."""
