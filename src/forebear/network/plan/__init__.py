"""A table in a dialect, expanded layer by layer, without torch."""
