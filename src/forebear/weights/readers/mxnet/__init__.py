"""Readers of MXNet's files."""
