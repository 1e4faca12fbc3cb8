"""The plan: all layers of a table in a dialect. Nothing here imports torch."""
