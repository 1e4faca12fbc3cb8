"""Network definitions as data: rows, tables and dialects. Nothing here imports torch."""
