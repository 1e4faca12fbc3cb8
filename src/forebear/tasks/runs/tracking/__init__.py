"""Sends the settings and metrics of a run to experiment trackers: one module per library."""
