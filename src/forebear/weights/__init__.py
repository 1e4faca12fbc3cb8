"""Checkpoints of the original libraries, and forebear's own self-describing files."""
