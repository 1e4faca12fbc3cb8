"""Readers of checkpoints that need no original framework and execute nothing from a file."""
